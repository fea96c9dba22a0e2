"""What is made is kept: in the store, under an id that its row has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from proxy.answer import Picture
from proxy.logs import log
from proxy.plan import Note, Plan
from translators.base import Fault

if TYPE_CHECKING:
    from proxy.gateway import Gateway


async def kept(gateway: Gateway, plan: Plan[Any], made: Picture, *, keep: bool) -> tuple[Picture, tuple[Note, ...]]:
    """It as it is answered: in the store where an address is asked for, or where it is to be kept.

    It is paid for: where the store fails it is answered all the same, with a note where that is not as it was wished.
    """
    linked = plan.finish.respond == "url"
    if made.blob is None or made.shape is None or not (linked or keep):
        return made, ()
    try:
        with gateway.timed(plan.target.upstream, "store"):
            stored = await gateway.store(made.blob, made.shape.type)
    except Exception as error:
        log.error("what was made is answered, but not kept", exc_info=error)
        gateway.metrics.count("store_failures_total", gateway.files.backend)
        text = f"response_format url -> b64_json ({word(error)})"
        return made, (Note("response_format", "noted", text),) if linked else ()
    if linked:
        made = replace(made, blob=None, url=gateway.link(stored))
    return replace(made, stored=stored), ()


def word(error: Exception) -> str:
    """What went wrong, for a note. What is no fault is ours, and the log has it whole."""
    return error.code or error.kind if isinstance(error, Fault) else "internal_error"
