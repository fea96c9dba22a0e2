"""`Prefer: respond-async` (RFC 7240): a making call that is answered before it is made, with its task."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping

import msgspec
from litestar import Request
from litestar.datastructures import State

from proxy.answer import Answer
from proxy.api.tasks import shown
from proxy.gateway import Gateway
from proxy.state.records import Task
from proxy.works import Work
from translators.base import Fault

WAIT_MOST = 600  # seconds of `wait`
ROW_SECONDS = 5.0  # in which the row of a call that is joined is there

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_LISTED = re.compile(rf"(?:{_QUOTED}|[^,])+")
_PREFERENCE = re.compile(rf"\s*({_WORD})\s*(?:=\s*({_WORD}|{_QUOTED})?\s*)?(?:;.*)?", re.DOTALL)


class Preference(msgspec.Struct, frozen=True):
    """What a client prefers."""

    later: bool = False  # to be answered with the task
    wait: int | None = None  # seconds that it waits for the result itself, at first

    def applied(self, *, later: bool) -> str:
        """What is said of it on the answer."""
        wait = [f"wait={self.wait}"] if self.wait is not None else []
        return ", ".join([*(["respond-async"] if later else []), *wait])


def preference(headers: Iterable[str]) -> Preference:
    """What these `Prefer` headers say. What is malformed or not known is left out, as RFC 7240 wants it; of what is
    said twice, the first counts.
    """
    said: dict[str, str] = {}
    for each in _LISTED.findall(",".join(headers)):
        if found := _PREFERENCE.fullmatch(each):
            said.setdefault(found[1].lower(), word(found[2] or ""))
    wait = said.get("wait", "")
    if said.get("respond-async") != "":
        return Preference()
    return Preference(True, min(int(wait[:9]), WAIT_MOST) if wait.isascii() and wait.isdigit() else None)


def word(text: str) -> str:
    """A value without its quotes."""
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text.startswith('"') else text


def not_streamed() -> Fault:
    """Of a stream that is to be answered later: its events would have nowhere to go."""
    text = (
        "A stream cannot be combined with 'Prefer: respond-async'. Leave one of them out; "
        "GET /v1/tasks/{id}/events tells how far a task has come."
    )
    return Fault("invalid", text, code="invalid_value", param="stream")


async def accepted(request: Request[None, None, State], work: Work, wish: Preference) -> Answer:
    """The task, where it can be had, and when to look for it."""
    gateway: Gateway = request.app.state.gateway
    task = await row_of(gateway, work)
    headers = {
        **work.headers,
        "location": f"/v1/tasks/{task.id}",
        "preference-applied": wish.applied(later=True),
    }
    return await shown(request, task, status=202, headers=headers)


async def row_of(gateway: Gateway, work: Work) -> Task:
    """Its row. A call that is joined, and was not to be durable, may get it a moment later."""
    until = asyncio.get_running_loop().time() + ROW_SECONDS
    while (task := await gateway.history.get(work.id)) is None:
        if asyncio.get_running_loop().time() > until:
            text = "The same call has just begun, and cannot be told of yet."
            raise Fault("overloaded", text, code="server_is_overloaded", retry_after=1)
        await asyncio.sleep(0.1)
    return task


def keep_alive(headers: Mapping[str, str], usual: float | None) -> float | None:
    """After how many seconds without an answer a sign of life is sent; `None`: never. Raises `Fault("invalid")`."""
    said = headers.get("x-pictor-keep-alive")
    if said is None:
        return usual or None
    if not (said.isascii() and said.isdigit() and len(said) < 6):
        text = (
            f"Invalid value: '{said[:40]}'. The header x-pictor-keep-alive takes a whole number of seconds after which "
            "blanks are sent ahead of the answer; 0 is never."
        )
        raise Fault("invalid", text, code="invalid_value", param="x-pictor-keep-alive")
    return float(said) or None
