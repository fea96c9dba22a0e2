"""What goes over the wire, byte by byte, and what is made of what comes back."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from proxy import wire
from proxy.http import Transport
from proxy.wire import BOUNDARY, Pieces
from tests.sockets import serving, speaking, whole_request
from translators import load
from translators.base import Blob, Call, Encoding, Fault, Inline, Job, Media, Part, blob, data_url
from translators.base import base64 as bare

ANY = Call(path="/")
TIMES = {"connect": 5.0, "read": 5.0}
PNG = bytes.fromhex("89504e470d0a1a0a") + b"pixels\r\n--" + b"\x00\xff" * 3


def picture(data: bytes, kind: str = "image/png", sizes: Iterable[int] = (), encoding: Encoding = "raw") -> Media:
    """A picture whose chunks have these sizes, and one with the rest."""
    coded = {"raw": data, "base64": base64.b64encode(data), "hex": data.hex().encode()}[encoding]
    chunks, at = [], 0
    for size in sizes:
        chunks.append(coded[at : at + size])
        at += size
    return Media(blob=Blob((*chunks, coded[at:]), len(coded), encoding), type=kind)


async def sent(call: Call) -> bytes:
    """The body of `call`, put together as httpx would."""
    stream, _ = wire.payload(call)
    return b"".join([piece async for piece in stream])


def read(response: httpx.Response, call: Call = ANY) -> Any:
    return asyncio.run(wire.read(call, response))


# Forms


EDIT = Call(
    path="/images/edits",
    form=(
        Part("model", "gpt-image-2"),
        Part("prompt", 'Ein "Bär"\r\nim Schnee 图'),
        Part("n", "1"),
        Part("image[]", picture(PNG, sizes=(1, 5))),
        Part("image[]", picture(b"\xff\xd8\xffjpeg", "image/jpeg", encoding="base64")),
        Part("mask", picture(b"RIFF", "image/webp")),
    ),
)
GOLDEN = (
    b"--pictor-4f1a9c0d7e63b852\r\n"
    b'Content-Disposition: form-data; name="model"\r\n\r\n'
    b"gpt-image-2\r\n"
    b"--pictor-4f1a9c0d7e63b852\r\n"
    b'Content-Disposition: form-data; name="prompt"\r\n\r\n'
    b'Ein "B\xc3\xa4r"\r\nim Schnee \xe5\x9b\xbe\r\n'
    b"--pictor-4f1a9c0d7e63b852\r\n"
    b'Content-Disposition: form-data; name="n"\r\n\r\n'
    b"1\r\n"
    b"--pictor-4f1a9c0d7e63b852\r\n"
    b'Content-Disposition: form-data; name="image[]"; filename="image.png"\r\n'
    b"Content-Type: image/png\r\n\r\n"
    b"\x89PNG\r\n\x1a\npixels\r\n--\x00\xff\x00\xff\x00\xff\r\n"
    b"--pictor-4f1a9c0d7e63b852\r\n"
    b'Content-Disposition: form-data; name="image[]"; filename="image.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n"
    b"\xff\xd8\xffjpeg\r\n"
    b"--pictor-4f1a9c0d7e63b852\r\n"
    b'Content-Disposition: form-data; name="mask"; filename="mask.webp"\r\n'
    b"Content-Type: image/webp\r\n\r\n"
    b"RIFF\r\n"
    b"--pictor-4f1a9c0d7e63b852--\r\n"
)


async def test_a_form_byte_by_byte() -> None:
    assert await sent(EDIT) == GOLDEN


async def test_a_form_on_the_socket() -> None:
    """Its length is told before it, nothing is chunked, and no header is there that we did not mean."""
    seen: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await whole_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()

    async with speaking(speak) as url:
        signed = Call(path=f"{url}/images/edits", headers={"Authorization": "Bearer key"}, query={"v": "1 2"})
        await exchanged(wire.request(EDIT, signed, TIMES))
    head, body = seen
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /images/edits?v=1+2 HTTP/1.1"
    assert sorted(line.lower() for line in lines[1:] if line) == sorted(
        [
            f"host: {url.removeprefix('http://')}",
            "accept: */*",
            "accept-encoding: identity",
            f"user-agent: {wire.AGENT}",
            "authorization: bearer key",
            f"content-type: multipart/form-data; boundary={BOUNDARY}",
            f"content-length: {len(GOLDEN)}",
        ]
    )
    assert body == GOLDEN


async def exchanged(request: httpx.Request) -> None:
    """Send `request` and read the answer."""
    transport = Transport()
    try:
        response = await transport.handle_async_request(request)
        assert b"".join([piece async for piece in response.stream]) == b"{}"  # type: ignore[union-attr]  # it is async
        await response.aclose()
    finally:
        await transport.aclose()


async def test_openais_edit_has_each_part_once() -> None:
    """The text form of an upload never goes beside its file."""
    given = (picture(PNG), picture(b"two", "image/webp"))
    job = Job(op="edit", model="gpt-image-2", prompt="x", images=given, mask=picture(b"mask"))
    call = load("openai").start(job)
    assert isinstance(call, Call)
    body = await sent(call)
    assert body.count(b'name="image[]"; filename="image.') == body.count(b'name="image[]"') == 2
    assert body.count(b'name="mask"; filename="mask.png"') == body.count(b'name="mask"') == 1
    assert body.count(PNG) == 1


async def test_a_text_that_would_end_its_part_is_refused() -> None:
    with pytest.raises(Fault) as caught:
        await sent(Call(path="/", form=(Part("prompt", f"--{BOUNDARY}--"),)))
    assert (caught.value.kind, caught.value.param) == ("invalid", "prompt")


# JSON with pictures in it


@given(st.binary(max_size=200), st.lists(st.integers(0, 7), max_size=40), st.sampled_from(["raw", "base64", "hex"]))
def test_base64_of_odd_chunks(data: bytes, sizes: list[int], encoding: Encoding) -> None:
    media = picture(data, sizes=sizes, encoding=encoding)
    call = Call(path="/", json={"a": "é", "image": bare(media), "list": [data_url(media)]})
    body = asyncio.run(sent(call))
    text = base64.b64encode(data).decode()
    assert json.loads(body) == {"a": "é", "image": text, "list": [f"data:image/png;base64,{text}"]}
    request = wire.request(call, Call(path="http://x/"), TIMES)
    assert request.headers["content-length"] == str(len(body))
    assert request.headers["content-type"] == "application/json"


async def test_json_byte_by_byte() -> None:
    call = Call(path="/", json={"image": Inline(picture(b"abcd"), 'q"\\\né'), "prompt": "a\0b"})
    assert await sent(call) == b'{"image":"q\\"\\\\\\n\xc3\xa9YWJjZA==","prompt":"a\\u0000b"}'


async def test_what_a_client_writes_is_no_picture() -> None:
    """A zero byte marks a picture's place while a body is encoded; one in a prompt marks nothing."""
    call = Call(path="/", json={"a": "\0", "image": bare(picture(b"abc")), "b": "\\0 \\u0000 \0"})
    assert json.loads(await sent(call)) == {"a": "\0", "image": "YWJj", "b": "\\0 \\u0000 \0"}


@pytest.mark.parametrize(
    ("call", "kind", "body"),
    [
        (Call(path="/", json={"a": 1}), "application/json", b'{"a":1}'),
        (Call(path="/", json={}), "application/json", b"{}"),
        (Call(path="/", method="GET"), None, b""),
        (Call(path="/", text="é", headers={"Content-Type": "text/plain"}), "text/plain", "é".encode()),
        (Call(path="/", media=picture(b"abc", "image/webp")), "image/webp", b"abc"),
    ],
)
async def test_other_bodies(call: Call, kind: str | None, body: bytes) -> None:
    request = wire.request(call, Call(path="http://x/", method=call.method, headers=call.headers), TIMES)
    assert request.headers.get("content-type") == kind
    assert await sent(call) == body


@pytest.mark.parametrize("call", [EDIT, Call(path="/", json={"image": data_url(picture(PNG, sizes=(3,)))})])
async def test_a_body_can_be_sent_twice(call: Call) -> None:
    stream, _ = wire.payload(call)
    first = [piece async for piece in stream]
    assert b"".join([piece async for piece in stream]) == b"".join(first)


async def test_a_body_is_never_joined() -> None:
    """What is sent are the very chunks that came."""
    chunk = bytes(100_002)
    pieces = list(Pieces((b"{", Inline(Media(blob=blob(b"QUJD" * 9, "base64"), type="image/png")), blob(chunk))))
    assert pieces[1:] == [b"QUJD" * 9, chunk]
    assert pieces[2] is chunk


# Replies


class Chunks(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> Any:
        for piece in self.pieces:
            yield piece


def packed(encoding: str, *pieces: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(
        200,
        headers={"content-encoding": encoding, "content-type": "application/json", **headers},
        stream=Chunks(*pieces),
    )


TEXT = json.dumps({"data": ["x" * 100_000], "seed": 7}).encode()


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZIP"])
@pytest.mark.parametrize("size", [1000, 100])
def test_an_answer_that_came_compressed(encoding: str, size: int) -> None:
    data = zlib.compress(TEXT) if encoding == "deflate" else gzip.compress(TEXT)
    reply = read(packed(encoding, *(data[i : i + size] for i in range(0, len(data), size))))
    (long,) = reply.lifted.values()
    assert b"".join(long.chunks) == b"x" * 100_000
    assert reply.read(dict)["seed"] == 7


def test_gzip_over_a_socket() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(TEXT), headers={"Content-Encoding": "gzip"})

    async def asked() -> Any:
        transport = Transport()
        async with serving(handler) as url:
            response = await transport.handle_async_request(httpx.Request("GET", url))
            reply = await wire.read(Call(path="/"), response)
            await response.aclose()
            await transport.aclose()
        return reply

    assert asyncio.run(asked()).read(dict)["seed"] == 7


def fault(response: httpx.Response, call: Call = ANY) -> tuple[str, str | None]:
    with pytest.raises(Fault) as caught:
        read(response, call)
    return caught.value.kind, caught.value.code


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """However well it is compressed, no more is unpacked than is kept."""
    unpacked = 0

    class Watched:
        def __init__(self) -> None:
            self.inner = zlib.decompressobj(wbits=47)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal unpacked
            piece = self.inner.decompress(data, most)
            unpacked += len(piece)
            self.unconsumed_tail = self.inner.unconsumed_tail
            return piece

    class Library:
        error = zlib.error

        @staticmethod
        def decompressobj(wbits: int) -> Watched:
            return Watched()

    bomb = gzip.compress(bytes(50 << 20))
    monkeypatch.setattr(wire, "zlib", Library)
    response = packed("gzip", *(bomb[i : i + 4096] for i in range(0, len(bomb), 4096)))

    async def bounded() -> list[bytes]:
        return [piece async for piece in wire.bounded(response, wire.headers_of(response), 1 << 20)]

    with pytest.raises(Fault) as caught:
        asyncio.run(bounded())
    assert (caught.value.kind, caught.value.code) == ("upstream", "too_large")
    assert unpacked <= (1 << 20) + wire.UNPACKED


@pytest.mark.parametrize(
    ("encoding", "data", "code"),
    [
        ("gzip", TEXT, "unreadable"),
        ("gzip", gzip.compress(TEXT)[:-30], "truncated"),
        ("br", TEXT, "unreadable"),
        ("zstd", TEXT, "unreadable"),
    ],
)
def test_an_answer_that_cannot_be_unpacked(encoding: str, data: bytes, code: str) -> None:
    assert fault(packed(encoding, data)) == ("upstream", code)


def test_a_compressed_picture_that_is_cut_off() -> None:
    response = packed("gzip", gzip.compress(PNG)[:-10], **{"content-type": "image/png"})
    assert fault(response, Call(path="/", read="bytes")) == ("upstream", "truncated")


def test_an_empty_answer_that_says_it_is_compressed() -> None:
    """As HEAD and 204 may."""
    assert read(packed("gzip")).data == b""


def test_the_size_is_bounded_by_what_is_announced_and_by_what_comes() -> None:
    announced = httpx.Response(200, headers={"content-length": str(wire.REPLY_BYTES + 1)}, stream=Chunks())
    assert fault(announced) == ("upstream", "too_large")

    async def bounded(*pieces: bytes) -> list[bytes]:
        response = httpx.Response(200, stream=Chunks(*pieces))
        return [piece async for piece in wire.bounded(response, wire.headers_of(response), 10)]

    assert asyncio.run(bounded(b"12345", b"", b"67890")) == [b"12345", b"67890"]
    with pytest.raises(Fault) as caught:
        asyncio.run(bounded(b"12345", b"678901"))
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("status", "kind", "kept"),
    [(200, "image/png", True), (200, "", True), (200, "application/json", False), (404, "image/png", False)],
)
def test_a_body_that_is_the_picture(status: int, kind: str, kept: bool) -> None:
    response = httpx.Response(status, headers={"content-type": kind}, stream=Chunks(b"ab", b"cd"))
    reply = read(response, Call(path="/", read="bytes"))
    assert (reply.body is not None) is kept
    assert (reply.data == b"abcd") is not kept
    if reply.body:
        assert reply.body.bytes() == b"abcd"


def test_headers_in_lower_case_and_the_last_of_several() -> None:
    response = httpx.Response(200, headers=[("X-A", "1"), ("x-a", "2"), ("Retry-After", "3")], stream=Chunks(b"{}"))
    assert read(response).headers == {"x-a": "2", "retry-after": "3"}
