"""OpenAI's answers about images, as OpenAI, Azure and the many servers that copy them write them.

    {"data": [{"b64_json" or "url"}, …], "usage": {…}, "quality": …, "background": …}
    SSE: *.partial_image, *.completed, error
    {"error": {"message", "type", "param", "code"}}, or one of the shapes that copies make of it

What only stands beside a picture is read leniently: the picture is paid for, and must not be lost over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from translators.base import (
    BY_STATUS,
    Blob,
    Done,
    Event,
    Fault,
    FaultKind,
    Job,
    Output,
    Partial,
    Reply,
    Usage,
    retry_after,
)


class Details(msgspec.Struct, frozen=True):
    """How a count of tokens divides."""

    text_tokens: int | None = None
    image_tokens: int | None = None


class Count(msgspec.Struct, frozen=True):
    """The `usage` of an answer. The output's details are optional, and copies leave out more."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None


class Made(msgspec.Struct, frozen=True):
    """One of `data`. Either member may hold the picture itself, so both are read as text."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None
    content_filter_results: Any = None  # Azure's


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. Its `size` and `output_format` are not read: the engine measures the picture."""

    data: list[Made] | None = None
    usage: Any = None  # a `Count`
    quality: Any = None
    background: Any = None
    svg_usage: Any = None


class Frame(msgspec.Struct, frozen=True):
    """One event of a stream."""

    type: str | None = None
    b64_json: str | None = None
    url: str | None = None
    partial_image_index: int = 0
    usage: Any = None  # a `Count`
    quality: Any = None
    background: Any = None


def step(job: Job, reply: Reply) -> Done:
    """The pictures of an answer."""
    answer = reply.read(Answer)
    extra = {"svg_usage": answer.svg_usage} if answer.svg_usage else {}
    outputs: list[Output] = []
    faults: list[Fault] = []
    for made in answer.data or ():
        if output := pictured(reply, made, extra):
            outputs.append(output)
        else:
            faults.append(withheld(made))
    if not outputs:
        raise faults[0] if faults else nothing()
    return Done(
        outputs=tuple(outputs),
        usage=counted(answer.usage),
        faults=tuple(faults),
        quality=legal(answer.quality, QUALITIES),
        background=legal(answer.background, BACKGROUNDS),
    )


def event(job: Job, reply: Reply) -> Iterator[Event]:
    """One event. Each finished picture is a `Done` of its own; of `n` there come as many. Other events say nothing."""
    if reply.data.strip() == b"[DONE]":
        return
    frame = reply.read(Frame)
    kind = frame.type or reply.event
    if not kind.endswith((".partial_image", ".completed")):
        return
    output = pictured(reply, Made(b64_json=frame.b64_json, url=frame.url))
    if output is None:
        raise nothing()
    if kind.endswith(".partial_image"):
        yield Partial(frame.partial_image_index, output)
        return
    yield Done(
        outputs=(output,),
        usage=counted(frame.usage),
        quality=legal(frame.quality, QUALITIES),
        background=legal(frame.background, BACKGROUNDS),
    )


QUALITIES = frozenset({"low", "medium", "high", "xhigh", "max"})
BACKGROUNDS = frozenset({"transparent", "opaque"})


def legal(value: object, values: frozenset[str]) -> str | None:
    """What an answer may say of itself: streams also say `auto`, copies say anything."""
    return value if isinstance(value, str) and value in values else None


def pictured(reply: Reply, made: Made, extra: Mapping[str, Any] | None = None) -> Output | None:
    """The picture of an entry. Copies send empty members beside the real one, and `data:` URLs in either."""
    said = made.b64_json or made.url
    if not said:
        return None
    if made.b64_json or said in reply.lifted or said.startswith("data:"):
        return Output(blob=bare(reply.blob(said)), revised_prompt=made.revised_prompt, extra=extra or {})
    return Output(url=said, revised_prompt=made.revised_prompt, extra=extra or {})


def bare(blob: Blob) -> Blob:
    """`blob` without the `data:image/png;base64,` that some copies write before it. Nothing is joined."""
    head = b""
    for piece in blob.chunks:
        head += piece[:64]
        if len(head) >= 64:
            break
    if not head.startswith(b"data:"):
        return blob
    cut = left = head.find(b",") + 1
    rest: list[bytes] = []
    for piece in blob.chunks:
        rest.append(piece[left:])
        left = max(0, left - len(piece))
    return Blob(tuple(filter(None, rest)), blob.size - cut, blob.encoding)


def counted(usage: object) -> Usage:
    """Tokens that are not divided are text where they came in, and picture where they went out."""
    try:
        count = msgspec.convert(usage or {}, Count)
    except msgspec.ValidationError:
        return Usage()
    given = count.input_tokens_details or Details(text_tokens=count.input_tokens)
    made = count.output_tokens_details or Details(image_tokens=count.output_tokens)
    return Usage(
        input_text=given.text_tokens,
        input_image=given.image_tokens,
        output_text=made.text_tokens,
        output_image=made.image_tokens,
    )


def nothing() -> Fault:
    return Fault("empty", "The provider answered without a picture.", code="no_image")


def withheld(made: Made) -> Fault:
    """Why an entry has no picture."""
    if reasons := filtered(made.content_filter_results):
        return Fault("policy", f"The made image was filtered: {reasons}.", code="content_policy_violation")
    return nothing()


def filtered(results: object) -> str:
    """The categories that Azure's filter closed on: `sexual (high), jailbreak`."""
    closed = {
        name: result.get("severity")
        for name, result in (results.items() if isinstance(results, dict) else ())
        if isinstance(result, dict) and result.get("filtered")
    }
    return ", ".join(f"{name} ({severity})" if severity else name for name, severity in closed.items())


class Inner(msgspec.Struct, frozen=True):
    """Azure's second opinion."""

    code: str | None = None
    content_filter_results: Any = None


class Problem(msgspec.Struct, frozen=True):
    """The `error` of an answer. Copies write numbers as code, and anything as param."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: Any = None
    inner_error: Any = None
    innererror: Any = None


class Failure(msgspec.Struct, frozen=True):
    """An answer that may be a failure: the envelope, or its members bare, or a framework's `detail`."""

    error: Problem | str | None = None
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    detail: Any = None


Codes: TypeAlias = Mapping[str, FaultKind]
Texts: TypeAlias = tuple[tuple[re.Pattern[str], FaultKind, str | None], ...]
"""What a message says that no code does: pattern, kind, and the code that it should have had."""

STREAM_TYPES: Codes = {
    "invalid_request_error": "invalid",
    "image_generation_user_error": "invalid",
    "service_unavailable_error": "overloaded",
    "overloaded_error": "overloaded",
    "authentication_error": "auth",
}
"""What a type alone tells where no status does: in a stream, and in an error with status 200."""

WAITS = re.compile(
    r"(?:try again in|retry after|retry in) ((?:\d+(?:\.\d+)?\s*(?:ms|[smhd])[a-z]*\s*)+)", re.IGNORECASE
)
SPANS = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|mil|[smhd])", re.IGNORECASE)
SECONDS = {"ms": 0.001, "mil": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def check(reply: Reply, codes: Codes, patterns: Texts) -> None:
    """Raise the fault in `reply`: by its message and codes, then by its status. `error` also fails a 200."""
    problem = failed(reply)
    if problem is None:
        return
    inner = second(problem)
    message = told(problem, inner) or unread(reply)
    code = str(problem.code) if problem.code not in {None, ""} else None
    kind, better = known(message, (code, inner.code, problem.type), codes, patterns)
    if kind is None:
        kind = kind_of(reply.status, problem.type)
    if kind == "policy":
        better = "moderation_blocked" if code == "moderation_blocked" else "content_policy_violation"
    code = better or (None if code and code.isdigit() else code)
    param = problem.param if isinstance(problem.param, str) else None
    wait = retry_after(reply)
    if wait is None and kind in {"rate", "overloaded"}:
        wait = waits(message)
    begun = reply.status < 400  # a stream that breaks was worked on, and may be paid
    raise Fault(kind, message, code=code, param=param or None, retry_after=wait, final=begun)


def failed(reply: Reply) -> Problem | None:
    """What the reply says is wrong; an empty problem where only its status says so."""
    try:
        found = reply.read(Failure)
    except Fault:  # HTML from an edge, nothing at all, or `[DONE]`
        return Problem() if reply.status >= 400 else None
    if isinstance(found.error, str) and found.error:
        return Problem(message=found.message or found.error, code=found.code, type=found.type)
    if isinstance(found.error, Problem) and found.error != Problem():
        return found.error
    if reply.status < 400 and "error" not in {reply.event, found.type}:
        return None
    detail = found.detail if isinstance(found.detail, str) else None
    return Problem(message=found.message or detail, code=found.code, type=found.type)


def second(problem: Problem) -> Inner:
    """Azure spells it in two ways; what does not read as one is none."""
    try:
        return msgspec.convert(problem.inner_error or problem.innererror or {}, Inner)
    except msgspec.ValidationError:
        return Inner()


def told(problem: Problem, inner: Inner) -> str:
    """The provider's text, and what its filter closed on where the text does not say it."""
    reasons = filtered(inner.content_filter_results)
    return f"{problem.message or ''} Filtered: {reasons}.".strip() if reasons else problem.message or ""


def unread(reply: Reply) -> str:
    """A text for an answer without one: its own where it is short and plain, else that there was none."""
    text = reply.data[:200].decode(errors="replace").strip()
    plain = text and len(reply.data) <= 200 and text[0] not in "<{["
    return text if plain else f"The provider answered with status {reply.status} and no reason."


def known(
    message: str, codes: tuple[str | None, ...], table: Codes, patterns: Texts
) -> tuple[FaultKind | None, str | None]:
    """The kind that the message or a code tells, and the code that goes with the message."""
    for pattern, kind, code in patterns:
        if pattern.search(message):
            return kind, code
    return next((table[code] for code in codes if code and code in table), None), None


def kind_of(status: int, kind: str | None) -> FaultKind:
    """What is left to judge by: the status, and where that is 200 the type."""
    if status < 400:
        return STREAM_TYPES.get(kind or "", "upstream")
    return BY_STATUS.get(status, "upstream" if status >= 500 else "invalid")


def waits(message: str) -> float | None:
    """Seconds from "try again in 1m12.5s", "… in 240ms", "retry after 20 seconds"."""
    found = WAITS.search(message)
    if found is None:
        return None
    return round(sum(float(count) * SECONDS[unit.lower()] for count, unit in SPANS.findall(found[1])), 3)
