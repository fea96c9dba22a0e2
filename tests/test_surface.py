"""What the server answers to plain HTTP: every fault in OpenAI's envelope, forms as strange as clients send them,
JSON edits, Azure's addresses, made files, and the description of all that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pybase64
import pytest
from aiohttp import web

from tests.fakes.base import Fake, running
from tests.fakes.openai import Received, form
from tests.server import KEY, Server, serving
from tests.stage import Stage, decoded, hole, measured, opened, photo, received, staged, sums

MODEL = "openai/gpt-image-2"
GENERATIONS, EDITS, VARIATIONS = "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"
GOOD = {"Authorization": f"Bearer {KEY}"}
ASK = {"model": MODEL, "prompt": "a cat"}
BOUNDARY = "pictor-test-boundary"
MOST = 3_000_000  # bytes of a body, as this server is configured


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("surface"), limits={"body_bytes": MOST}) as stage:
        yield stage


@pytest.fixture
def stage(whole: Stage) -> Stage:
    whole.clear()
    return whole


@pytest.fixture(scope="module")
def client(whole: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=whole.server.address, headers=GOOD, timeout=30, trust_env=False) as made:
        yield made


@pytest.fixture(scope="module")
def stranger(whole: Stage) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=whole.server.address, timeout=30, trust_env=False) as made:
        yield made


def fault(response: httpx.Response, status: int, code: str | None, param: str | None = None) -> Mapping[str, Any]:
    """The error in an answer that has exactly OpenAI's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert re.fullmatch(r"req_[0-9a-f]{32}", response.headers["x-request-id"])
    body = response.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert isinstance(error["message"], str)
    assert len(error["message"]) > 10
    return error


# ---- bodies that cannot be taken

BODIES: list[tuple[str, bytes, str | None, str | None]] = [
    ("nothing", b"", None, None),
    ("half", b'{"model": "openai/gpt-image-2", "prompt": "a c', None, None),
    ("words", b"draw a cat", None, None),
    ("not UTF-8", b'{"model": "openai/gpt-image-2", "prompt": "\xff\xfe"}', None, None),
    ("half a letter", b'{"model": "openai/gpt-image-2", "prompt": "\\ud800"}', None, None),
    ("deep", b"[" * 100_000, None, None),
    ("deep member", b'{"prompt": "x", "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, None),
    ("list", b"[]", "invalid_type", None),
    ("null", b"null", "invalid_type", None),
    ("text", b'"a cat"', "invalid_type", None),
    ("no prompt", b'{"model": "openai/gpt-image-2"}', "missing_required_parameter", "prompt"),
    ("null prompt", b'{"model": "openai/gpt-image-2", "prompt": null}', "invalid_type", "prompt"),
    ("number as prompt", b'{"model": "openai/gpt-image-2", "prompt": 5}', "invalid_type", "prompt"),
    ("number as model", b'{"model": 5, "prompt": "x"}', "invalid_type", "model"),
    ("text as n", b'{"model": "openai/gpt-image-2", "prompt": "x", "n": "2"}', "invalid_type", "n"),
    ("half an n", b'{"model": "openai/gpt-image-2", "prompt": "x", "n": 1.5}', "invalid_type", "n"),
    ("true as n", b'{"model": "openai/gpt-image-2", "prompt": "x", "n": true}', "invalid_type", "n"),
    ("large n", b'{"prompt": "x", "n": 1' + b"0" * 50 + b"}", "integer_above_max_value", "n"),
    ("huge n", b'{"model": "openai/gpt-image-2", "prompt": "x", "n": 1' + b"0" * 5000 + b"}", None, None),
    ("text as stream", b'{"model": "openai/gpt-image-2", "prompt": "x", "stream": "yes"}', "invalid_type", "stream"),
    ("number as size", b'{"model": "openai/gpt-image-2", "prompt": "x", "size": 1024}', "invalid_type", "size"),
    ("unknown member", b'{"model": "openai/gpt-image-2", "prompt": "x", "colour": 1}', "unknown_parameter", "colour"),
    (
        "unknown member inside", b'{"model": "openai/gpt-image-2", "prompt": "x", "svg": {"model": "m", "ink": 1}}',
        "unknown_parameter", "svg.ink",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "param"), [each[1:] for each in BODIES], ids=[each[0] for each in BODIES])
def test_a_body_that_cannot_be_taken(
    client: httpx.Client, stage: Stage, body: bytes, code: str | None, param: str | None
) -> None:
    response = client.post(GENERATIONS, content=body, headers={"Content-Type": "application/json"})
    error = fault(response, 400, code, param)
    assert error["type"] == "invalid_request_error"
    assert stage.silent()


@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
def test_a_body_of_another_type(client: httpx.Client, stage: Stage, path: str) -> None:
    fault(client.post(path, data=ASK), 400, None)
    assert stage.silent()


def test_a_variation_as_json(client: httpx.Client, stage: Stage) -> None:
    """OpenAI had the form alone."""
    given = photo()
    body = {"model": MODEL, "response_format": "b64_json", "images": [{"image_url": data_url(given)}]}
    assert client.post(VARIATIONS, json=body).status_code == 200
    assert sums(received(stage.submits("openai")[0])) == sums([given])


@pytest.mark.parametrize(
    ("images", "code", "param"),
    [
        (None, "missing_required_parameter", "images"),
        ([], "empty_array", "images"),
        ("data:,", "invalid_type", "images"),
        ([{}], "invalid_value", "images[0]"),
        ([{"image_url": "data:,x", "file_id": "file-1"}], "invalid_value", "images[0]"),
        ([{"file_id": "file-1"}], "invalid_value", "images[0].file_id"),
        ([{"image_url": "ftp://example.com/a.png"}], "invalid_value", "images[0].image_url"),
        ([{"image_url": "data:image/png;base64,%%%%"}], "invalid_value", "images[0].image_url"),
        ([{"image_url": "http://127.0.0.1:1/a.png"}], "invalid_value", "images[0].image_url"),
        ([{"image_url": "data:,x"}] * 17, "array_above_max_length", "images"),
        ([{"image_url": "data:,x", "detail": "high"}], "unknown_parameter", "images[0].detail"),
    ],
)
def test_a_json_edit_that_cannot_be(client: httpx.Client, stage: Stage, images: Any, code: str, param: str) -> None:
    body = ASK | ({"images": images} if images is not None else {})
    fault(client.post(EDITS, json=body), 400, code, param)
    assert stage.silent()


@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
def test_a_body_that_is_too_large(client: httpx.Client, stage: Stage, path: str) -> None:
    fault(client.post(path, json={**ASK, "prompt": "x" * MOST}), 413, "request_too_large")
    assert stage.silent()


def test_a_form_that_is_too_large(client: httpx.Client, stage: Stage) -> None:
    """Also where it comes in chunks, and no length was told beforehand."""
    fault(client.post(EDITS, data=ASK, files={"image": b"\0" * MOST}), 413, "request_too_large")
    body = written([("prompt", None, b"x"), ("image", "a.png", b"\0" * MOST)])
    chunked = iter([body[:100_000], body[100_000:]])
    fault(client.post(EDITS, content=chunked, headers=as_form()), 413, "request_too_large")
    assert stage.silent()


# ---- who asks, for what, and where


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"Authorization": ""}, "missing_api_key"),
        ({"Authorization": "Bearer"}, "missing_api_key"),
        ({"Authorization": f"Basic {KEY}"}, "missing_api_key"),
        ({"Authorization": "Bearer sk-nobody-0123456789"}, "invalid_api_key"),
        ({"Authorization": f"Bearer {KEY}x"}, "invalid_api_key"),
        ({"Authorization": f"Bearer {KEY.upper()}"}, "invalid_api_key"),
        ({"api-key": "nobody"}, "invalid_api_key"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", GENERATIONS), ("POST", EDITS), ("GET", "/v1/models")])
def test_who_may_not_ask(
    stranger: httpx.Client, stage: Stage, headers: Mapping[str, str], code: str, method: str, path: str
) -> None:
    response = stranger.request(method, path, headers=headers, content=b"{" if method == "POST" else None)
    error = fault(response, 401, code)
    assert error["type"] == "invalid_request_error"
    assert KEY not in error["message"]
    assert "openai-version" not in response.headers
    assert stage.silent()


@pytest.mark.parametrize("headers", [GOOD, {"Authorization": f"bearer {KEY}"}, {"api-key": KEY}])
def test_who_may(stranger: httpx.Client, stage: Stage, headers: Mapping[str, str]) -> None:
    response = stranger.post(GENERATIONS, json=ASK, headers=headers)
    assert response.status_code == 200
    assert response.headers["openai-version"] == "2020-10-01"


@pytest.mark.parametrize("name", ["nothing", "nobody/model", "openai/", "/", "x" * 400])
def test_an_unknown_model(client: httpx.Client, stage: Stage, name: str) -> None:
    error = fault(client.post(GENERATIONS, json={**ASK, "model": name}), 400, "invalid_value", "model")
    assert error["type"] == "image_generation_user_error"
    assert len(error["message"]) < 500
    assert stage.silent()


def test_no_model(client: httpx.Client, stage: Stage) -> None:
    fault(client.post(GENERATIONS, json={"prompt": "x"}), 400, "missing_required_parameter", "model")
    assert stage.silent()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/nothing"), ("POST", "/v1/nothing"), ("POST", "/v1/images"), ("POST", "/openai/deployments/x/y/z"),
     ("DELETE", "/v2/models"), ("GET", "/%ff%00")],
)  # fmt: skip
def test_an_unknown_path(client: httpx.Client, stage: Stage, method: str, path: str) -> None:
    fault(client.request(method, path), 404, "unknown_url")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", GENERATIONS), ("PUT", EDITS), ("DELETE", VARIATIONS), ("PATCH", "/health"), ("POST", "/v1/models")],
)
def test_a_wrong_method(client: httpx.Client, stage: Stage, method: str, path: str) -> None:
    response = client.request(method, path)
    fault(response, 405, "method_not_supported")
    assert response.headers["allow"]


def test_each_request_has_an_id_of_its_own(client: httpx.Client, stage: Stage) -> None:
    ids = {client.get("/v1/models").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


# ---- forms

Entry = tuple[str, str | None, bytes]  # name, file name as it is written, data


def as_form() -> dict[str, str]:
    return {**GOOD, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def written(entries: Sequence[Entry], kind: str | None = "application/octet-stream") -> bytes:
    """A form byte by byte, as no library would write it."""
    body = b""
    for name, filename, data in entries:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            body += f'; filename="{filename}"'.encode()
            body += f"\r\nContent-Type: {kind}".encode() if kind else b""
        body += b"\r\n\r\n" + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


TEXTS: list[Entry] = [("model", None, MODEL.encode()), ("prompt", None, b"a hat")]


def send(client: httpx.Client, entries: Sequence[Entry], path: str = EDITS, kind: str | None = None) -> httpx.Response:
    return client.post(path, content=written(entries, kind), headers=as_form())


def arrived(stage: Stage) -> list[Received]:
    """The parts that reached the upstream."""
    (seen,) = stage.submits("openai")
    return form(seen.headers["Content-Type"], seen.body)


NAMES = [
    ["image"],
    ["image[]"],
    ["image[0]"],
    ["image", "image"],
    ["image[]", "image[]", "image[]"],
    ["image[0]", "image[1]", "image[2]"],
    ["image", "image[]", "image[2]"],
    ["image[7]", "image", "image[]", "image[0]"],
]


@pytest.mark.parametrize("names", NAMES, ids=", ".join)
@pytest.mark.parametrize("kind", [None, "application/octet-stream", "image", "text/plain"])
def test_pictures_by_any_name_arrive_in_order(
    client: httpx.Client, stage: Stage, names: list[str], kind: str | None
) -> None:
    """By their first bytes, whatever type the client calls them."""
    given = [photo((40 * index, 90, 30), kind=("PNG", "JPEG", "WEBP")[index % 3]) for index in range(len(names))]
    files: list[Entry] = [(name, "a.bin", data) for name, data in zip(names, given, strict=True)]
    response = send(client, [*files[:1], *TEXTS, *files[1:]], kind=kind)
    assert response.status_code == 200, response.text
    parts = [part for part in arrived(stage) if part.filename is not None]
    assert sums(part.data for part in parts) == sums(given)
    assert {part.name for part in parts} == {"image" if len(names) == 1 else "image[]"}
    assert [part.type for part in parts] == [f"image/{(opened(data).format or '').lower()}" for data in given]


FILENAMES = {
    "plain": "a.png",
    "UTF-8": "图 é.png",
    "quote": 'a\\"b.png',
    "quote, percent-encoded": "a%22b.png",
    "backslash": "a\\b.png",
    "backslash at the end": "a\\\\",
    "300 bytes": "x" * 296 + ".png",
    "empty": "",
    "path": "../../etc/passwd",
    "another name": "x; name=prompt; filename=y.png",
    "lines": "a%0D%0Ab.png",
    "no ending": "blob",
}


@pytest.mark.parametrize("filename", FILENAMES.values(), ids=FILENAMES)
@pytest.mark.parametrize("names", [["image"], ["image[]", "image[]"]], ids=["one", "two"])
def test_pictures_of_any_file_name_arrive(client: httpx.Client, stage: Stage, filename: str, names: list[str]) -> None:
    """Upstream they go under names of our own."""
    given = [photo((40 * index, 90, 30)) for index in range(len(names))]
    files: list[Entry] = [(name, filename, data) for name, data in zip(names, given, strict=True)]
    response = send(client, [*files, *TEXTS, ("mask", filename, hole())])
    assert response.status_code == 200, response.text
    parts = [part for part in arrived(stage) if part.filename is not None]
    assert sums(part.data for part in parts) == sums([*given, hole()])
    assert all(re.fullmatch(r"[a-z0-9_-]+\.png", part.filename or "") for part in parts)


def test_a_form_in_crumbs(client: httpx.Client, stage: Stage) -> None:
    """Chunked, each part's head and data cut at any place."""
    given = photo()
    body = written([("image", "a.png", given), *TEXTS])
    response = client.post(EDITS, content=(body[at : at + 97] for at in range(0, len(body), 97)), headers=as_form())
    assert response.status_code == 200, response.text
    assert sums(received(stage.submits("openai")[0])) == sums([given])


def test_numbers_in_a_form(client: httpx.Client, stage: Stage) -> None:
    numbers: list[Entry] = [
        ("n", None, b"2"), ("output_compression", None, b"70"), ("output_format", None, b"jpeg"),
        ("stream", None, b"false"),
    ]  # fmt: skip
    response = send(client, [*TEXTS, ("image", "a.png", photo()), *numbers])
    assert response.status_code == 200, response.text
    assert len(response.json()["data"]) == 2
    told = {part.name: part.data for part in arrived(stage) if part.filename is None}
    assert (told["n"], told["output_compression"], told["output_format"]) == (b"2", b"70", b"jpeg")


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("n", "two", "invalid_type"), ("n", "1.5", "invalid_type"), ("n", "", "invalid_type"),
        ("n", " 2", "invalid_type"), ("n", "0x2", "invalid_type"), ("n", "1_0", "invalid_type"),
        ("n", "٢", "invalid_type"), ("n", "0", "integer_below_min_value"), ("n", "11", "integer_above_max_value"),
        ("n", "9" * 4000, "invalid_type"), ("output_compression", "high", "invalid_type"),
        ("output_compression", "101", "integer_above_max_value"), ("partial_images", "4", "integer_above_max_value"),
        ("partial_images", "-1", "integer_below_min_value"), ("stream", "yes", "invalid_type"),
        ("stream", "1", "invalid_type"), ("guidance", "NaN", "invalid_type"), ("guidance", "1e999", "invalid_type"),
        ("seed", "1e3", "invalid_type"), ("colour", "red", "unknown_parameter"),
        ("output_format", "bmp", "invalid_value"), ("size", "big", "invalid_value"),
    ],
)  # fmt: skip
def test_a_bad_value_in_a_form(client: httpx.Client, stage: Stage, name: str, text: str, code: str) -> None:
    response = send(client, [*TEXTS, ("image", "a.png", photo()), (name, None, text.encode())])
    fault(response, 400, code, name)
    assert stage.silent()


@pytest.mark.parametrize(
    ("entries", "code", "param"),
    [
        ([*TEXTS], "missing_required_parameter", "image"),
        ([*TEXTS, ("image", None, b"a.png")], "invalid_type", "image"),
        ([*TEXTS, ("image[]", None, b"a.png")], "invalid_type", "image"),
        ([*TEXTS, ("image", "a.png", b"")], "invalid_type", "image"),
        ([*TEXTS, ("image", "a.png", b"no picture")], "invalid_image_file", "image"),
        ([*TEXTS, ("image", "a.png", b"%PDF-1.7\n")], "invalid_image_file", "image"),
        ([*TEXTS, ("image", "a.png", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")], "unsupported_file_mimetype", "image"),
        (
            [*TEXTS, ("image", "a.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>')],
            "unsupported_file_mimetype",
            "image",
        ),
        ([*TEXTS, ("picture", "a.png", photo())], "unknown_parameter", "picture"),
        ([*TEXTS, ("prompt", None, b"twice"), ("image", "a.png", photo())], "duplicate_parameter", "prompt"),
        ([*TEXTS, ("image", "a.png", photo()), ("mask", None, b"x")], "invalid_type", "mask"),
        ([*TEXTS, ("image", "a.png", photo()), ("mask", "m.png", b"")], "invalid_type", "mask"),
        ([*TEXTS, ("image", "a.png", photo()), *[("mask", "m.png", hole())] * 2], "invalid_type", "mask"),
        ([("model", "m", b"x"), ("prompt", None, b"x"), ("image", "a.png", photo())], "invalid_type", "model"),
        ([*TEXTS, *[("image[]", "a.png", photo(size=(64, 64)))] * 17], "array_above_max_length", "image"),
        ([*TEXTS, *[("image[]", "a.png", b"x")] * 300], None, None),
        ([*TEXTS, *[(f"metadata[{each}]", None, b"x") for each in range(300)]], None, None),
        ([("model", None, b"\xff\xfe"), ("image", "a.png", photo())], "invalid_value", "model"),
        ([("a" + "[b]" * 300, None, b"x")], "unknown_parameter", ("a" + "[b]" * 300)[:64]),
    ],
    ids=lambda value: f"{len(value)} parts" if isinstance(value, list) else None,
)
def test_a_form_that_cannot_be_taken(
    client: httpx.Client, stage: Stage, entries: list[Entry], code: str | None, param: str | None
) -> None:
    response = send(client, entries)
    if param and param.startswith("a["):
        param = response.json()["error"]["param"]
        assert len(param or "") <= 64
    fault(response, 400, code, param)
    assert stage.silent()


def test_a_mask_of_another_size(client: httpx.Client, stage: Stage) -> None:
    response = send(client, [*TEXTS, ("image", "a.png", photo()), ("mask", "m.png", hole((64, 64)))])
    error = fault(response, 400, "invalid_mask_image_format", response.json()["error"]["param"])
    assert error["param"] in {None, "mask"}
    assert stage.silent()


WHOLE_FORM = written([*TEXTS, ("image", "a.png", photo())])


@pytest.mark.parametrize(
    "body",
    [WHOLE_FORM[:-4], WHOLE_FORM[:-200], WHOLE_FORM[:80], WHOLE_FORM[:20], b"", b"--", b"\r\n", WHOLE_FORM[1:],
     WHOLE_FORM.replace(b'name="model"', b"")],
    ids=["the end", "in a file", "in a text", "in a boundary", "nothing", "dashes", "a line", "no start", "no name"],
)  # fmt: skip
def test_a_broken_form(client: httpx.Client, stage: Stage, body: bytes) -> None:
    error = fault(client.post(EDITS, content=body, headers=as_form()), 400, None)
    assert "form" in error["message"]
    assert stage.silent()


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; charset=x"]
)
def test_a_form_without_a_boundary(client: httpx.Client, stage: Stage, kind: str) -> None:
    fault(client.post(EDITS, content=WHOLE_FORM, headers={**GOOD, "Content-Type": kind}), 400, None)
    assert stage.silent()


# ---- edits as JSON


class Shelf(Fake):
    """Some web server that has pictures."""

    name: ClassVar[str] = "shelf"
    generates: ClassVar[str] = ""
    pictures: ClassVar[dict[str, bytes]] = {"red": photo((200, 0, 0)), "blue": photo((0, 0, 200), kind="JPEG")}

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/{name}", self.get), web.get("/away/{name}", self.away)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        data = self.pictures.get(request.match_info["name"])
        return web.Response(body=data, content_type="text/plain") if data else web.Response(status=404)

    async def away(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"/{request.match_info['name']}")


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    with running(Shelf()) as fake:
        assert isinstance(fake, Shelf)
        yield fake


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{pybase64.b64encode_as_string(data)}"


def parts(stage: Stage) -> list[tuple[str, str | None, str, bytes]]:
    """The upstream's form without its boundary."""
    return sorted((part.name, part.filename, part.type, part.data) for part in arrived(stage))


def test_a_json_edit_is_the_same_call(client: httpx.Client, stage: Stage, shelf: Shelf) -> None:
    red, blue = shelf.pictures["red"], shelf.pictures["blue"]
    more = {"n": 2, "size": "1536x1024", "quality": "low", "output_format": "webp", "output_compression": 60}
    texts: list[Entry] = [(name, None, str(value).encode()) for name, value in more.items()]
    files: list[Entry] = [("image[]", "r", red), ("image[]", "b", blue), ("mask", "m", hole())]
    assert send(client, [*TEXTS, *texts, *files]).status_code == 200
    wanted = parts(stage)
    for first, second in [
        (data_url(red), data_url(blue, "application/octet-stream")),
        (f"{shelf.url}/red", f"{shelf.url}/away/blue"),
        (data_url(red).replace("data:image/png", "data:"), f"{shelf.url}/blue?x=1"),
    ]:
        stage.clear()
        images = [{"image_url": first}, {"image_url": second}]
        body = {"model": MODEL, "prompt": "a hat", **more, "images": images, "mask": {"image_url": data_url(hole())}}
        response = client.post(EDITS, json=body)
        assert response.status_code == 200, response.text
        assert parts(stage) == wanted
        assert len(response.json()["data"]) == 2


def test_a_json_edit_is_the_same_call_on_another_wire(client: httpx.Client, stage: Stage, shelf: Shelf) -> None:
    model = b"gemini/gemini-nano-banana-2.1"
    given = shelf.pictures["red"]
    entries: list[Entry] = [("model", None, model), ("prompt", None, b"a hat"), ("image", "r", given)]
    assert send(client, entries).status_code == 200
    for url in (data_url(given), f"{shelf.url}/red"):
        body = {"model": model.decode(), "prompt": "a hat", "images": [{"image_url": url}]}
        assert client.post(EDITS, json=body).status_code == 200
    generation = {"model": model.decode(), "prompt": "a hat", "image_urls": [f"{shelf.url}/red"]}
    assert client.post(GENERATIONS, json=generation).status_code == 200
    first, *others = [json.loads(seen.body) for seen in stage.submits("gemini")]
    assert others == [first] * 3


def test_a_streamed_json_edit(client: httpx.Client, stage: Stage, shelf: Shelf) -> None:
    body = {**ASK, "images": [{"image_url": f"{shelf.url}/red"}], "stream": True, "partial_images": 1}
    response = client.post(EDITS, json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = response.text.split("\n\n")
    assert frames.pop() == ""
    assert [frame.splitlines()[0] for frame in frames] == [
        "event: image_edit.partial_image",
        "event: image_edit.completed",
    ]
    told = json.loads(frames[1].splitlines()[1].removeprefix("data: "))
    assert measured(decoded(told["b64_json"])) == (told["size"], told["output_format"])


@pytest.mark.parametrize("path", ["/nothing", "/away/nothing"])
def test_a_picture_that_cannot_be_fetched(client: httpx.Client, stage: Stage, shelf: Shelf, path: str) -> None:
    body = {**ASK, "images": [{"image_url": f"{shelf.url}/red"}, {"image_url": f"{shelf.url}{path}"}]}
    error = fault(client.post(EDITS, json=body), 400, "invalid_value", "images[1].image_url")
    assert "404" in error["message"]
    assert stage.silent()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that fetches from public addresses only."""
    with serving(tmp_path_factory.mktemp("guarded"), {"demo": {}}, fetch={"allow": []}) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"])
def test_a_private_address_is_not_fetched(guarded: Server, shelf: Shelf, host: str) -> None:
    shelf.seen.clear()
    url = f"http://{host}:{shelf.url.rpartition(':')[2]}/red"
    body = {"model": "demo/painter", "prompt": "x", "images": [{"image_url": url}]}
    response = httpx.post(f"{guarded.address}{EDITS}", json=body, headers=GOOD, trust_env=False)
    fault(response, 400, "invalid_value", "images[0].image_url")
    assert not shelf.seen


def test_no_picture_is_fetched_for_a_model_that_takes_none(tmp_path: Path, shelf: Shelf) -> None:
    shelf.seen.clear()
    lab = {"translator": "openai", "base_url": "http://127.0.0.1:9/v1", "models": {"m": {"ops": ["generate"]}}}
    with serving(tmp_path, {"lab": lab}) as server:
        body = {"model": "lab/m", "prompt": "x", "images": [{"image_url": f"{shelf.url}/red"}]}
        response = httpx.post(f"{server.address}{EDITS}", json=body, headers=GOOD, trust_env=False)
    fault(response, 400, "invalid_value", "model")
    assert not shelf.seen


@pytest.mark.parametrize("said", ["on", "yes", "strict", ""])
def test_a_strictness_that_means_nothing(guarded: Server, said: str) -> None:
    body = {"model": "demo/painter", "prompt": "x"}
    headers = {**GOOD, "x-pictor-strict": said}
    response = httpx.post(f"{guarded.address}/v1/images/generations", json=body, headers=headers, trust_env=False)
    fault(response, 400, "invalid_value", "x-pictor-strict")


def test_metrics_are_not_for_pages_that_bend_a_name_to_this_machine(guarded: Server) -> None:
    assert httpx.get(f"{guarded.address}/metrics", trust_env=False).status_code == 200
    bent = httpx.get(f"{guarded.address}/metrics", headers={"Host": "evil.example"}, trust_env=False)
    fault(bent, 401, "missing_api_key", None)


# ---- Azure's addresses


@dataclass(frozen=True)
class Address:
    """One way to reach an operation, with the model in the path or in the body."""

    path: str
    named: bool  # whether the body must name the model


AZURE = {
    "dated": Address("/openai/deployments/openai%2Fgpt-image-2/images/{}?api-version=2025-04-01-preview", False),
    "dated, an alias": Address("/openai/deployments/dall-e-3/images/{}?api-version=2025-04-01-preview", False),
    "dated, with a space": Address("/openai/deployments/house%20style/images/{}?api-version=2024-02-01", False),
    "v1": Address("/openai/v1/images/{}?api-version=preview", True),
    "v1, no version": Address("/openai/v1/images/{}", True),
}


@pytest.mark.parametrize("address", AZURE.values(), ids=AZURE)
def test_azure_addresses(stranger: httpx.Client, stage: Stage, address: Address) -> None:
    key, given = {"api-key": KEY}, photo()
    body = {"prompt": "a cat", "response_format": "b64_json"} | ({"model": MODEL} if address.named else {})
    made = stranger.post(address.path.format("generations"), json=body, headers=key)
    texts = {name: str(value) for name, value in body.items()}
    changed = stranger.post(address.path.format("edits"), data=texts, files={"image": given}, headers=key)
    for response in (made, changed):
        assert response.status_code == 200, response.text
        told = response.json()
        assert measured(decoded(told["data"][0]["b64_json"])) == (told["size"], told["output_format"])
    upstream = "moody" if "house" in address.path else "openai"
    assert [sums(received(seen)) for seen in stage.submits(upstream)] == [[], sums([given])]


@pytest.mark.parametrize("address", AZURE.values(), ids=AZURE)
@pytest.mark.parametrize("operation", ["generations", "edits"])
def test_azure_addresses_need_a_key(stranger: httpx.Client, stage: Stage, address: Address, operation: str) -> None:
    fault(stranger.post(address.path.format(operation), json={"prompt": "x"}), 401, "missing_api_key")
    assert stage.silent()


def test_an_unknown_deployment(client: httpx.Client, stage: Stage) -> None:
    path = "/openai/deployments/nothing/images/generations?api-version=2024-02-01"
    fault(client.post(path, json={"prompt": "x"}), 400, "invalid_value", "model")


# ---- made files


@pytest.fixture(scope="module")
def link(client: httpx.Client) -> str:
    """The address of a made picture."""
    response = client.post(GENERATIONS, json={**ASK, "response_format": "url"})
    url: str = response.json()["data"][0]["url"]
    return url


def test_a_made_file(stranger: httpx.Client, whole: Stage, link: str) -> None:
    assert link.startswith(f"{whole.server.base_url}/outputs/")
    got, head = stranger.get(link), stranger.head(link)
    assert (got.status_code, head.status_code) == (200, 200)
    assert opened(got.content).format == "PNG"
    assert head.content == b""
    same = ("content-type", "content-length", "etag", "accept-ranges", "last-modified")
    assert {name: got.headers[name] for name in same} == {name: head.headers[name] for name in same}
    assert got.headers["content-length"] == str(len(got.content))
    assert got.headers["content-type"] == "image/png"
    assert got.headers["x-request-id"] != head.headers["x-request-id"]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=-7", -7, None), ("bytes=9-", 9, None)],
)
def test_a_part_of_a_made_file(stranger: httpx.Client, link: str, asked: str, start: int, stop: int | None) -> None:
    whole = stranger.get(link).content
    part = stranger.get(link, headers={"Range": asked})
    assert (part.status_code, part.content) == (206, whole[start:stop])
    assert part.headers["content-length"] == str(len(part.content))
    first = start % len(whole)
    assert part.headers["content-range"] == f"bytes {first}-{first + len(part.content) - 1}/{len(whole)}"


def test_a_part_beyond_the_end(stranger: httpx.Client, link: str) -> None:
    size = len(stranger.get(link).content)
    part = stranger.get(link, headers={"Range": f"bytes={size}-"})
    assert (part.status_code, part.headers["content-range"]) == (416, f"bytes */{size}")


def test_a_made_file_that_is_known_already(stranger: httpx.Client, link: str) -> None:
    tag = stranger.get(link).headers["etag"]
    again = stranger.get(link, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_a_link_that_was_changed(stranger: httpx.Client, link: str) -> None:
    url = httpx.URL(link)
    later = url.copy_set_param("expires", str(int(url.params["expires"]) + 1))
    for changed in (later, url.copy_remove_param("signature"), url.copy_set_param("signature", "x" * 43)):
        fault(stranger.get(changed), 403, "invalid_signature", "signature")


# ---- the description


@pytest.mark.parametrize("path", ["/schema", "/schema/swagger", "/schema/redoc"])
def test_the_description_for_people(stranger: httpx.Client, path: str) -> None:
    response = stranger.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "Pictor" in response.text


def test_the_description_for_machines(stranger: httpx.Client) -> None:
    response = stranger.get("/schema/openapi.json")
    assert response.status_code == 200
    assert "json" in response.headers["content-type"]
    told = response.json()
    assert told["openapi"].startswith("3.1")
    assert told["info"].keys() >= {"title", "version"}
    assert {GENERATIONS, EDITS, VARIATIONS, "/v1/models", "/v1/outputs/{id}", "/health"} <= told["paths"].keys()
    operations = [each for path in told["paths"].values() for each in path.values()]
    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids)
    assert all(each["responses"] for each in operations)
    for path, item in told["paths"].items():
        placed = set(re.findall(r"{(\w+)}", path))
        for operation in item.values():
            assert {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"} == placed, path
    for reference in references(told):
        inner: Any = told
        for step in reference.removeprefix("#/").split("/"):
            inner = inner[step.replace("~1", "/").replace("~0", "~")]
    body = told["paths"][EDITS]["post"]["requestBody"]["content"]
    assert body.keys() == {"multipart/form-data", "application/json"}
    assert {"image", "image[]", "mask", "prompt", "model"} <= body["multipart/form-data"]["schema"]["properties"].keys()
    assert {"images", "mask", "prompt", "model"} <= body["application/json"]["schema"]["properties"].keys()


def references(value: Any) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)
