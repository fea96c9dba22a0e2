"""What was made as OpenAI's answer: JSON whose pictures are written piece by piece, or an event stream.

A picture goes out as it came: base64 in the chunks in which it was received, with the skeleton before and behind it;
only what arrived as plain bytes is encoded, chunk by chunk, while it is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from litestar.types import Receive, Scope, Send

from proxy.errors import as_fault, problem
from proxy.plan import Finish, Note
from proxy.sniff import Shape
from translators.base import Blob, Fault, Op, Usage

KEEP_ALIVE = 15.0  # seconds between signs of life on a stream that has nothing to say yet
QUALITIES = frozenset({"low", "medium", "high", "xhigh", "max"})
JSON = b"application/json"
EVENTS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the events back
)


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A made picture, finished: in the format that was asked for, measured. Exactly one of `blob` and `url` is set."""

    blob: Blob | None = None
    url: str | None = None  # of a stored one, without our own address: each client has its own for us
    stored: str | None = None  # its id in the store, where it is kept
    size: int = 0  # bytes of the file
    shape: Shape | None = None  # None: it was not looked at, since only its address is handed on
    seconds: float | None = None  # of a video: how long it plays
    revised_prompt: str | None = None
    extra: Mapping[str, Any] = {}  # what the provider says of it beyond OpenAI's members; answered as `provider`


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an answer tells."""

    op: Op
    model: str  # who really answered: provider/model
    pictures: tuple[Picture, ...]
    created: int
    usage: Usage
    finish: Finish
    n: int = 1  # that were asked for
    notes: tuple[Note, ...] = ()
    faults: tuple[Fault, ...] = ()  # of those of `n` that are missing
    quality: str | None = None
    background: str | None = None
    cost_usd: float | None = None
    wasted_usd: float = 0.0  # paid beside it for what nobody got


Pieces = Iterable[bytes | Blob]


class Answer:
    """A whole answer, as an ASGI application."""

    def __init__(
        self,
        status: int,
        pieces: Sequence[bytes | Blob],
        headers: Mapping[str, str],
        kind: bytes = JSON,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self.status = status
        self.pieces = pieces
        self.headers = headers
        self.kind = kind
        self.lost = lost  # called where the client leaves while a long answer is sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        size = sum(len(piece) if isinstance(piece, bytes) else piece.base64_length for piece in self.pieces)
        headers = [(b"content-type", self.kind), (b"content-length", b"%d" % size), *wired(self.headers)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if len(self.pieces) == 1 and isinstance(self.pieces[0], bytes):
            await send({"type": "http.response.body", "body": self.pieces[0], "more_body": False})
            return
        for piece in chunks(self.pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.lost is not None and await gone(receive):
            self.lost()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Stream:
    """An event stream, as an ASGI application.

    `work` waits for the result, while its previews come through `previews`. A fault that comes before anything was
    sent is an ordinary error answer; later it is an `error` event, the one shape that raises in OpenAI's SDKs.
    """

    def __init__(
        self,
        op: Op,
        work: Callable[[], Awaitable[Result]],
        previews: asyncio.Queue[Preview],
        state: MutableMapping[str, Any],
        headers: Mapping[str, str],
        lost: Callable[[], None],
    ) -> None:
        self.op = op
        self.work = work
        self.previews = previews
        self.state = state  # the request's; a late fault is left there for the log
        self.headers = headers  # what is known before the result is
        self.lost = lost  # called where the client leaves

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; no longer wait for the work where the client leaves."""
        work = asyncio.ensure_future(self.work())
        gone = asyncio.ensure_future(left(receive))
        try:
            await self._send(send, work, gone)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await work

    async def _send(self, send: Send, work: asyncio.Future[Result], gone: asyncio.Future[None]) -> None:
        started = False

        async def start(more: Mapping[str, str]) -> None:
            nonlocal started
            if not started:
                started = True
                told = [*EVENTS, *wired({**self.headers, **more})]
                await send({"type": "http.response.start", "status": 200, "headers": told})

        async for preview in self._previews(work, gone):
            await start({})
            for piece in chunks([b": keep-alive\n\n"] if preview is None else preview.frame(self.op)):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if not work.done():
            self.state["gone"] = True
            self.lost()
            return
        try:
            result = work.result()
        except Exception as error:
            if not started:
                raise
            fault = self.state["fault"] = as_fault(error, "POST", "")
            data = {"type": "error", **msgspec.json.decode(problem(fault).body)}
            await send(
                {
                    "type": "http.response.body",
                    "body": b"event: error\ndata: " + msgspec.json.encode(data) + b"\n\n",
                    "more_body": False,
                }
            )
            return
        await start(headers(result))
        for piece in chunks(completed(result)):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if gone.done():
            self.lost()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _previews(
        self, work: asyncio.Future[Result], gone: asyncio.Future[None]
    ) -> AsyncIterator[Preview | None]:
        """Previews as they come, `None` where it is time for a sign of life; ends with the work or the client."""
        while True:
            while not self.previews.empty():
                yield self.previews.get_nowait()
            if work.done() or gone.done():
                return
            waiting = asyncio.ensure_future(self.previews.get())
            try:
                every: set[asyncio.Future[Any]] = {work, gone, waiting}
                done, _ = await asyncio.wait(every, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
                if waiting in done:
                    yield waiting.result()
                elif not done:
                    yield None
            finally:
                waiting.cancel()


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """One partial picture, measured."""

    index: int
    blob: Blob
    shape: Shape
    created: int
    quality: str
    background: str

    def frame(self, op: Op) -> Sequence[bytes | Blob]:
        """Its event."""
        members = {
            "created_at": self.created,
            "partial_image_index": self.index,
            **stream_members(self.shape, self.quality, self.background),
        }
        return event(op, "partial_image", self.blob, members)


def body(result: Result, address: str) -> list[bytes | Blob]:
    """`ImagesResponse` in pieces. Members that are not known are left out; none is echoed from the wish.

    `address` is ours, as this client sees it: https://pictor.example
    """
    pieces: list[bytes | Blob] = []
    text = b'{"created":%d,"data":[' % result.created
    for i, picture in enumerate(result.pictures):
        text += b"," if i else b""
        rest: dict[str, Any] = {}
        if picture.revised_prompt is not None:
            rest["revised_prompt"] = picture.revised_prompt
        if picture.extra:
            rest["provider"] = picture.extra
        if picture.blob is None:
            url = picture.url if picture.stored is None else f"{address}{picture.url}"
            text += msgspec.json.encode({"url": url, **rest})
            continue
        pieces += (text + b'{"b64_json":"', picture.blob)
        text = b'"' + (b"," + msgspec.json.encode(rest)[1:] if rest else b"}")
    tail = msgspec.json.encode(members(result))
    pieces.append(text + b"]" + (b"," + tail[1:] if len(tail) > 2 else b"}"))  # more than "{}"
    return pieces


def members(result: Result) -> dict[str, Any]:
    """What stands beside `data`."""
    told: dict[str, Any] = {}
    shape = result.pictures[0].shape if result.pictures else None
    if result.background in {"transparent", "opaque"}:
        told["background"] = result.background
    if shape is not None:
        told["output_format"] = shape.type.removeprefix("image/").removesuffix("+xml")
        if shape.width:
            told["size"] = f"{shape.width}x{shape.height}"
    if result.quality in QUALITIES:
        told["quality"] = result.quality
    if (counted := usage(result.usage)) is not None:
        told["usage"] = counted
    if result.faults:
        told["errors"] = [{"code": fault.code or fault.kind, "message": fault.message} for fault in result.faults]
    return told


def usage(counted: Usage) -> dict[str, Any] | None:
    """OpenAI's `usage`: whole or not at all."""
    if (counted.input_text is None and counted.input_image is None) or (
        counted.output_image is None and counted.output_text is None
    ):
        return None
    text_in, image_in = counted.input_text or 0, counted.input_image or 0
    text_out, image_out = counted.output_text or 0, counted.output_image or 0
    return {
        "input_tokens": text_in + image_in,
        "input_tokens_details": {"text_tokens": text_in, "image_tokens": image_in},
        "output_tokens": text_out + image_out,
        "output_tokens_details": {"text_tokens": text_out, "image_tokens": image_out},
        "total_tokens": text_in + image_in + text_out + image_out,
    }


def headers(result: Result) -> dict[str, str]:
    """Our own words on the answer."""
    told = {"x-pictor-model": result.model}
    adjusted = [note.text for note in result.notes]
    if len(result.pictures) < result.n:  # a provider may make fewer without a word
        first = next(iter(result.faults), None)
        why = f" ({first.code or first.kind})" if first else ""
        adjusted.append(f"n {result.n} -> {len(result.pictures)}{why}")
    if adjusted:
        told["x-pictor-adjusted"] = "; ".join(adjusted)
    if result.cost_usd is not None:
        told["x-pictor-cost-usd"] = f"{result.cost_usd:.6f}".rstrip("0").rstrip(".")
    return told


def completed(result: Result) -> list[bytes | Blob]:
    """One `completed` event for each picture."""
    counted = usage(result.usage)
    pieces: list[bytes | Blob] = []
    for picture in result.pictures:
        if picture.blob is None or picture.shape is None:
            continue
        rest = {
            "created_at": result.created,
            **stream_members(picture.shape, result.quality or "auto", result.background or "auto"),
        }
        if counted is not None:
            rest["usage"] = counted
        pieces += event(result.op, "completed", picture.blob, rest)
    return pieces


def stream_members(shape: Shape, quality: str, background: str) -> dict[str, Any]:
    """The members that each event of a stream has. `auto` is legal here, unlike in a whole answer."""
    return {
        "size": f"{shape.width}x{shape.height}" if shape.width else "auto",
        "quality": quality if quality in QUALITIES else "auto",
        "background": background if background in {"transparent", "opaque"} else "auto",
        "output_format": shape.type.removeprefix("image/").removesuffix("+xml"),
    }


def event(op: Op, name: str, blob: Blob, rest: Mapping[str, Any]) -> list[bytes | Blob]:
    """One event with a picture in it."""
    kind = f"{'image_generation' if op == 'generate' else 'image_edit'}.{name}".encode()
    head = b"event: " + kind + b'\ndata: {"type":"' + kind + b'","b64_json":"'
    return [head, blob, b'",' + msgspec.json.encode(rest)[1:] + b"\n\n"]


def chunks(pieces: Pieces) -> Iterable[bytes]:
    """The bytes to send, pictures as base64."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece.base64()


def wired(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI takes them; what no header may hold becomes a blank or a question mark."""
    return [
        (name.encode("ascii"), value.encode("latin-1", "replace").translate(BLANKED)) for name, value in headers.items()
    ]


BLANKED = bytes(0x20 if byte < 0x20 or byte == 0x7F else byte for byte in range(256))
"""A model's name is the client's: uvicorn would refuse the whole answer, whose pictures are paid for."""


async def gone(receive: Receive) -> bool:
    """Whether the client has gone by now."""
    leaving = asyncio.ensure_future(left(receive))
    try:
        await asyncio.sleep(0)
        return leaving.done()
    finally:
        leaving.cancel()


async def left(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def now() -> int:
    """Unix seconds."""
    return int(time.time())
