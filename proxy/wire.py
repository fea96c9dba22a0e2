"""A `Call` as an HTTP request, and a response as a `Reply`: the bytes of the provider's side."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import cast
from urllib.parse import urlencode

import httpx
from msgspec.structs import replace

from proxy import __version__
from proxy.forms import collected
from proxy.lift import LIFT, Events, Lifter
from translators.base import Blob, Call, Fault, Inline, Media, Part, Piece, Reply, body

AGENT = f"pictor/{__version__}"
BOUNDARY = "pictor-4f1a9c0d7e63b852"
"""The same for every form, so that what is sent can be compared byte by byte. A part that holds it is refused."""

REPLY_BYTES = 512 << 20  # of one reply: pictures of 4K in base64, several of them
VIDEO_BYTES = 2 << 30  # of one video
UNPACKED = 256 << 10  # bytes that one step of decompression makes at most
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp"}


class Pieces:
    """The bytes of a body, made while they are sent; can be walked again for another try."""

    def __init__(self, parts: Iterable[bytes | Inline | Blob]) -> None:
        self.parts = tuple(parts)
        self.size = sum(map(length, self.parts))

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            elif isinstance(part, Inline):
                yield from part.media.blob.base64()
            else:
                yield from part.decoded()


def length(part: bytes | Inline | Blob) -> int:
    """How many bytes the part becomes."""
    if isinstance(part, bytes):
        return len(part)
    if isinstance(part, Blob):
        return part.length
    return part.media.blob.base64_length


class Stream(httpx.AsyncByteStream):
    """`Pieces` as httpx sends them."""

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def request(call: Call, signed: Call, timeout: Mapping[str, float]) -> httpx.Request:
    """The request for `call`; headers, path and query are those of `signed`."""
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": AGENT, **signed.headers}
    stream, kind = payload(call)
    if kind:
        headers.setdefault("Content-Type", kind)
    if isinstance(stream, Stream):
        headers["Content-Length"] = str(stream.pieces.size)
    url = signed.path
    if signed.query:
        url += ("&" if "?" in url else "?") + urlencode(signed.query)
    return httpx.Request(
        signed.method, parsed(url), headers=headers, stream=stream, extensions={"timeout": timeout}
    )  # fmt: skip


@lru_cache(512)
def parsed(url: str) -> httpx.URL:
    """Parsing an address costs as much as sending a small request does; the same few come again and again."""
    return httpx.URL(url)


def payload(call: Call) -> tuple[httpx.AsyncByteStream, str]:
    """The body and its media type."""
    if call.form:
        return Stream(Pieces(form(call.form))), f"multipart/form-data; boundary={BOUNDARY}"
    if call.media is not None:
        return Stream(Pieces((call.media.blob,))), call.media.type
    if call.text is not None:
        return httpx.ByteStream(call.text.encode()), ""
    pieces: tuple[Piece, ...] = body(call)
    match pieces:
        case ():
            return httpx.ByteStream(b""), ""
        case (bytes() as text,):
            return httpx.ByteStream(text), "application/json"
        case _:
            return Stream(Pieces(pieces)), "application/json"


def form(parts: Iterable[Part]) -> Iterator[bytes | Blob]:
    """A multipart body. Names are the translator's, file names our own: nothing of the client's goes into a header."""
    for part in parts:
        if isinstance(part.value, Media):
            kind = part.value.type
            name = f"{part.name.strip('[]')}.{EXTENSIONS.get(kind, 'bin')}"
            yield (
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part.name}"; filename="{name}"\r\n'
                f"Content-Type: {kind}\r\n\r\n"
            ).encode()
            yield part.value.blob
            yield b"\r\n"
        else:
            if BOUNDARY in part.value:
                raise Fault("invalid", f"'{part.name}' holds text that cannot be sent.", param=part.name)
            yield (
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part.name}"\r\n\r\n{part.value}\r\n'
            ).encode()
    yield f"--{BOUNDARY}--\r\n".encode()


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Names in lower case; the last of several counts."""
    return {name.decode("ascii", "replace").lower(): value.decode("latin-1") for name, value in response.headers.raw}


async def read(call: Call, response: httpx.Response, *, spooled: bool = False) -> Reply:
    """The whole reply. Raises `Fault("upstream")` where it is larger than anything we would keep.

    `spooled`: a file that comes as the body waits on the local disk, and may be a video.
    """
    headers = headers_of(response)
    reply = Reply(call=call, status=response.status_code, headers=headers)
    if call.read == "bytes" and reply.status < 300 and "json" not in headers.get("content-type", ""):
        if spooled:
            return replace(reply, body=await collected(bounded(response, headers, VIDEO_BYTES)))
        body = [piece async for piece in bounded(response, headers)]
        return replace(reply, body=Blob(tuple(body), sum(map(len, body))))
    pieces: list[bytes] = []
    size = 0
    lifter = None
    async for piece in bounded(response, headers):
        if lifter:
            lifter.feed(piece)  # now, while it is in the processor's cache
            continue
        pieces.append(piece)
        size += len(piece)
        if size > LIFT:
            lifter = Lifter()
            for each in pieces:
                lifter.feed(each)
    if lifter is None:
        return replace(reply, data=b"".join(pieces))
    data, lifted = lifter.finish()
    return replace(reply, data=data, lifted=lifted)


async def events(call: Call, response: httpx.Response) -> AsyncIterator[Reply]:
    """The events of a stream, each as a reply of its own. `[DONE]` ends it."""
    headers = headers_of(response)
    parser = Events()
    async for piece in bounded(response, headers):
        for name, data, lifted in parser.feed(piece):
            if data.strip() == b"[DONE]":
                return
            yield Reply(call=call, status=200, headers=headers, data=data, lifted=lifted, event=name)
    for name, data, lifted in parser.finish():
        if data.strip() != b"[DONE]":
            yield Reply(call=call, status=200, headers=headers, data=data, lifted=lifted, event=name)


async def bounded(
    response: httpx.Response, headers: Mapping[str, str], most: int = REPLY_BYTES
) -> AsyncIterator[bytes]:
    """The body's pieces, decompressed where it came compressed although it was not asked to; at most `most` bytes."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large(most)
    packed = headers.get("content-encoding", "identity").lower()
    unpack = zlib.decompressobj(wbits=47) if packed in {"gzip", "deflate", "x-gzip"} else None
    if unpack is None and packed not in {"", "identity"}:
        text = f"The provider answered in an encoding that was not asked for: {packed}"
        raise Fault("upstream", text, code="unreadable")
    size = 0
    async for received in cast("httpx.AsyncByteStream", response.stream):
        for piece in unpacked(unpack, received) if unpack else (received,):
            size += len(piece)
            if size > most:
                raise too_large(most)
            if piece:
                yield piece
    if unpack and size and not unpack.eof:
        raise Fault("upstream", "The provider's answer ended in the middle.", code="truncated")


def unpacked(unpack: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
    """What `packed` becomes, a bounded piece at a time: a few kB may stand for a gigabyte."""
    while True:
        try:
            piece = unpack.decompress(packed, UNPACKED)
        except zlib.error as error:
            raise Fault("upstream", "The provider's answer is broken: bad compression.", code="unreadable") from error
        yield piece
        packed = unpack.unconsumed_tail
        if not packed and len(piece) < UNPACKED:
            return


def too_large(most: int) -> Fault:
    """More came than is kept."""
    return Fault("upstream", f"The provider's answer is larger than {most} bytes.", code="too_large")
