"""A making call as its row has it, and back: what was asked, what came of it, which call is the same as another. Pure.

No picture is in a row: outputs are named by their ids in the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy import prices
from proxy.answer import Picture, Result
from proxy.ask import Ask, Link, Upload
from proxy.craft import AnyAsk
from proxy.errors import uncertain
from proxy.plan import Finish, Note
from proxy.sniff import Shape
from proxy.state import ids
from proxy.state.database import milliseconds
from proxy.state.ledger import Ending, Entry, Task
from translators.base import Blob, Fault, Usage

ELSEWHERE = frozenset({"images", "mask", "markup", "op", "model", "metadata", "webhook_url"})
"""Pictures, which no row holds, what has a column of its own, and addresses that may be secret."""

SAID = tuple(
    (field.name, field.default_factory() if field.default is msgspec.NODEFAULT else field.default)
    for field in msgspec.structs.fields(Ask)
    if not field.required and field.name not in ELSEWHERE
)
PROMPTS = ("prompt", "negative_prompt")


def request_of(ask: Ask, *, prompts: bool) -> dict[str, Any]:
    """What was said, without pictures; the prompts only where they may be kept."""
    said = {name: value for name, usual in SAID if (value := getattr(ask, name)) != usual}
    if not prompts:
        for name in PROMPTS:
            said.pop(name, None)
    if ask.loras:
        said["loras"] = msgspec.to_builtins(ask.loras)
    said["n"] = ask.n
    return said


def content(ask: AnyAsk) -> str:
    """A digest of a request. It reads every byte of an uploaded picture: for a thread, where there are many."""
    return hashlib.sha256(msgspec.json.encode(ask, enc_hook=_digested, order="deterministic")).hexdigest()


def mark(*words: str) -> str:
    """What stands for these words in a row. No other words have the same."""
    return hashlib.sha256(msgspec.json.encode(words)).hexdigest()


def _digested(value: Any) -> Any:
    if not isinstance(value, Blob):
        raise NotImplementedError(f"{type(value).__name__} is no part of an ask")
    digest = hashlib.sha256()
    for piece in value.decoded():
        digest.update(piece)
    return digest.hexdigest()


def weight(ask: AnyAsk) -> int:
    """How many bytes of pictures a digest has to read."""
    return sum(each.blob.size for each in ask.sources if isinstance(each, Upload | Link) and each.blob is not None)


def result_of(result: Result, *, prompts: bool) -> dict[str, Any]:
    """What is needed to give the answer again; the prompts as the provider revised them only where they may be kept."""
    told: dict[str, Any] = {
        "created": result.created,
        "respond": result.finish.respond,
        "outputs": [output_of(each, prompts=prompts) for each in result.pictures],
    }
    if usage := {name: value for name, value in _members(result.usage).items() if value is not None}:
        told["usage"] = usage
    for name in ("quality", "background"):
        if (value := getattr(result, name)) is not None:
            told[name] = value
    if result.notes:
        told["notes"] = [_members(note) for note in result.notes]
    if result.faults:
        told["faults"] = [error_of(fault) for fault in result.faults]
    return told


def output_of(picture: Picture, *, prompts: bool) -> dict[str, Any]:
    """One output, by its id in the store or the provider's own address."""
    told: dict[str, Any] = {}
    if picture.stored is not None:
        told["id"] = picture.stored
    elif picture.url is not None:
        told["url"] = picture.url
    if picture.shape is not None:
        told |= {"type": picture.shape.type, "width": picture.shape.width, "height": picture.shape.height}
    if picture.size:
        told["bytes"] = picture.size
    if picture.seconds is not None:
        told["seconds"] = picture.seconds
    if prompts and picture.revised_prompt is not None:
        told["revised_prompt"] = picture.revised_prompt
    extra = {name: value for name, value in picture.extra.items() if name != "origin"}
    origin: Mapping[str, str] = picture.extra.get("origin", {})
    if kept := {name: value for name, value in origin.items() if prompts or name != "prompts"}:
        told["origin"] = kept  # beside `provider`, which clients are shown: its addresses open the file to anybody
    if extra:
        told["provider"] = extra
    return told


def error_of(fault: Fault) -> dict[str, Any]:
    """A fault, so that it can be told again."""
    return {"kind": fault.kind, "code": fault.code, "message": fault.message[:2000], "param": fault.param}


def fault_of(error: Mapping[str, Any]) -> Fault:
    """What `error_of` wrote."""
    return Fault(error["kind"], error["message"], code=error.get("code"), param=error.get("param"))


def picture_from(output: Mapping[str, Any]) -> Picture:
    """What `output_of` wrote; its bytes are to be fetched."""
    return Picture(
        url=output.get("url"), stored=output.get("id"), size=output.get("bytes", 0), shape=shape_of(output),
        seconds=output.get("seconds"),
        revised_prompt=output.get("revised_prompt"), extra=output.get("provider", {}),
    )  # fmt: skip


def outputs(result: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """The outputs that a row names."""
    return result.get("outputs", ()) if result else ()


def notes(result: Mapping[str, Any] | None) -> tuple[Note, ...]:
    """What a row says of wishes that were not met."""
    return tuple(Note(**note) for note in result.get("notes", ())) if result else ()


def shape_of(output: Mapping[str, Any]) -> Shape | None:
    """What a row says of an output's bytes."""
    return Shape(output["type"], output["width"], output["height"]) if "type" in output else None


def result_from(
    told: Mapping[str, Any], ask: AnyAsk, model: str, pictures: Sequence[Picture], cost: int | None
) -> Result:
    """The result of a row, with its pictures as they are to be answered; `cost` in millionths of a dollar."""
    return Result(
        op=ask.op,
        model=model,
        pictures=tuple(pictures),
        created=told["created"],
        usage=Usage(**told.get("usage", {})),
        finish=Finish(respond=told["respond"]),
        n=ask.n,
        notes=notes(told),
        faults=tuple(fault_of(error) for error in told.get("faults", ())),
        quality=told.get("quality"),
        background=told.get("background"),
        cost_usd=None if cost is None else cost / 1_000_000,
    )


def _members(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def completed(task: Task, result: Result, timings: dict[str, float], *, prompts: bool, durable: bool = False) -> Ending:
    """The row and the cost of a call that made something."""
    done = replace(
        task, status="completed", ended=milliseconds(), model=result.model,
        result=result_of(result, prompts=prompts),
        bytes=sum(each.size for each in result.pictures if each.stored), timings=timings,
        cost=prices.micros(result.cost_usd), wasted=prices.micros(result.wasted_usd) or 0,
    )  # fmt: skip
    return Ending(done, entry_of(done, len(result.pictures)), durable)


def failed(
    task: Task, fault: Fault, timings: dict[str, float], tried: str | None, *, durable: bool = False,
    submitted: bool = False,
) -> Ending:  # fmt: skip
    """The row of a call that made nothing, and what it cost all the same.

    Where it may have been paid, its cost is not known and its Idempotency-Key stays taken; else it may be used again.
    Where a provider has it still (`submitted`), it can be asked for again.
    """
    doubtful = uncertain(fault)
    wasted = prices.micros(fault.cost_usd) or 0
    done = replace(
        task, status="cancelled" if fault.kind == "cancelled" else "failed", ended=milliseconds(),
        model=tried or task.model,
        error=error_of(fault), timings=timings, cost=None if doubtful else 0, wasted=wasted,
        claim=task.claim if doubtful or wasted else None,
    )  # fmt: skip
    resumable = submitted and doubtful and fault.kind != "cancelled"
    return Ending(done, entry_of(done, 0) if tried else None, durable, resumable)


def entry_of(task: Task, pictures: int) -> Entry:
    """What the ledger keeps of it."""
    at = task.ended or task.created
    provider, _, model = (task.model or "").partition("/")
    return Entry(
        id=task.id, key=task.key, at=at, day=ids.day(at), op=task.op, provider=provider, model=model,
        status=task.status, pictures=pictures, cost=task.cost, wasted=task.wasted,
    )  # fmt: skip
