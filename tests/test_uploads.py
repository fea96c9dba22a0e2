"""Uploads: OpenAI's own client against the routes, with a real database and a real store of either kind."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from aiohttp import web
from msgspec.structs import replace
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from openai.types import ImagesResponse

from proxy import config
from proxy.api import files as api
from proxy.ask import FileRef
from proxy.config import load
from proxy.gateway import Gateway
from proxy.state import tables
from proxy.state.database import Database
from proxy.state.files import Files
from proxy.state.uploads import NOBODY, UNFINISHED, Upload, Uploads, type_of
from tests.asgi import served
from tests.pictures import data as picture
from tests.server import serving as running
from tests.sockets import serving
from tests.stores import S3
from translators.base import Blob, Fault, Secret, blob

DAY = 86_400
RED = picture("red.png")


@pytest.fixture(params=["sqlite-local", "postgres-s3"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    keys = [{"name": name, "key": f"{name}-client-key"} for name in ("one", "two")]
    settings = load(None, {"PICTOR_DATA": str(tmp_path)}, {"auth": {"keys": keys}, "fetch": {"allow": ["127.0.0.1"]}})
    files = config.Files(upload_bytes=20_000_000, reference_bytes=1_000_000)
    if request.param == "postgres-s3":
        place: S3 = request.getfixturevalue("s3")
        files = replace(files, store=f"s3://{place.bucket}/data", options=place.secrets)
        settings = replace(settings, database=Secret(request.getfixturevalue("postgres")))
    made = Gateway(replace(settings, files=files))
    await made.start()
    yield made
    await made.aclose()


LOCAL = pytest.mark.parametrize("gateway", ["sqlite-local"], indirect=True)
"""For what neither the database nor the store has to do with."""


@pytest.fixture
async def address(gateway: Gateway) -> AsyncIterator[str]:
    async with served(api.HANDLERS, gateway) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key="one-client-key", max_retries=0) as client:
        yield client


@pytest.fixture
async def other(address: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key="two-client-key", max_retries=0) as client:
        yield client


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": "Bearer one-client-key"}
    async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False) as client:
        yield client


async def stored(gateway: Gateway) -> list[str]:
    """The paths of all uploads in the store."""
    store = gateway.files.store
    return sorted([each.path async for batch in store.listed("uploads") for each in batch])


def rows(connection: sa.Connection) -> list[Any]:
    return [row._asdict() for row in connection.execute(sa.select(tables.file)).all()]


# --- OpenAI's client


async def test_a_file_from_its_making_to_its_end(client: AsyncOpenAI, gateway: Gateway) -> None:
    made = await client.files.create(file=("red.png", RED), purpose="vision")
    assert made.id.startswith("file-")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", len(RED), "red.png", "vision")
    assert (made.status, made.expires_at) == ("processed", None)
    assert await client.files.retrieve(made.id) == made
    assert await client.files.wait_for_processing(made.id) == made
    content = await client.files.content(made.id)
    assert content.content == RED
    assert content.response.headers["content-type"] == "image/png"
    assert [each async for each in await client.files.list()] == [made]
    gone = await client.files.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "file", True)
    assert (await client.files.list()).data == []
    assert await stored(gateway) == []
    for call in (client.files.retrieve, client.files.delete, client.files.content):
        with pytest.raises(NotFoundError) as caught:
            await call(made.id)
        assert caught.value.body == {
            "message": f"No such File object: {made.id}", "type": "invalid_request_error", "param": "id", "code": None,
        }  # fmt: skip


async def test_each_key_has_its_own(client: AsyncOpenAI, other: AsyncOpenAI) -> None:
    mine = await client.files.create(file=RED, purpose="vision")
    assert (await other.files.list()).data == []
    for call in (other.files.retrieve, other.files.delete, other.files.content):
        with pytest.raises(NotFoundError):
            await call(mine.id)
    assert (await client.files.content(mine.id)).content == RED


async def test_pages(client: AsyncOpenAI) -> None:
    made = [
        (await client.files.create(file=RED, purpose="vision" if number % 2 else "user_data")).id for number in range(5)
    ]
    made.sort()
    for limit in (1, 2, 5, 10_000):
        assert [each.id async for each in client.files.list(limit=limit, order="asc")] == made
        assert [each.id async for each in client.files.list(limit=limit)] == made[::-1]
    page = await client.files.list(limit=2, order="asc", after=made[1])
    assert ([each.id for each in page.data], page.has_more) == (made[2:4], True)
    last = await client.files.list(limit=2, order="asc", after=made[2])
    assert ([each.id for each in last.data], last.has_more) == (made[3:], False)
    assert len((await client.files.list(limit=0)).data) == 5
    assert {each.purpose for each in (await client.files.list(purpose="vision")).data} == {"vision"}
    assert (await client.files.list(purpose="batch")).data == []


async def test_the_ends_of_a_page(http: httpx.AsyncClient, client: AsyncOpenAI) -> None:
    empty = (await http.get("/v1/files")).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    ids = sorted([(await client.files.create(file=RED, purpose="vision")).id for _ in range(3)])
    page = (await http.get("/v1/files", params={"limit": 2})).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[2], ids[1], True)


@pytest.mark.parametrize("path", ["/openai/v1/files", "/openai/files?api-version=2024-10-21"])
async def test_on_azures_paths(http: httpx.AsyncClient, path: str) -> None:
    made = (await http.post(path, files={"file": ("red.png", RED)}, data={"purpose": "vision"})).json()
    assert (await http.get(path)).json()["data"] == [made]
    one = path.replace("files", f"files/{made['id']}")
    assert (await http.get(one)).json() == made
    assert (await http.get(one.replace(made["id"], f"{made['id']}/content"))).content == RED
    assert (await http.delete(one)).json()["deleted"] is True


async def test_an_upload_that_expires(client: AsyncOpenAI, gateway: Gateway) -> None:
    made = await client.files.create(
        file=RED, purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    kept = await client.files.create(file=RED, purpose="user_data")
    late = Uploads(gateway.database, gateway.files, now=lambda: (made.created_at + 3601) * 1000)
    with pytest.raises(Fault, match="No such File object"):
        await late.get("config:one", made.id)
    with pytest.raises(Fault, match="No such File object"):
        await late.picture("config:one", FileRef(made.id, "images[0].file_id"), 1_000_000)
    assert [each.id for each in (await late.page("config:one", 10)).uploads] == [kept.id]
    assert await late.sweep() == 1
    assert await stored(gateway) == [f"uploads/{(await late.get('config:one', kept.id)).path.split('/')[1]}/{kept.id}"]
    assert await late.sweep() == 0


# --- the form


async def test_a_large_file_is_never_whole_in_memory(http: httpx.AsyncClient, gateway: Gateway) -> None:
    raw = os.urandom(1 << 20)

    async def form() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
        for _ in range(19):
            yield raw
        yield b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b--\r\n'

    tracemalloc.start()
    try:
        answer = await http.post(
            "/v1/files", content=form(), headers={"content-type": "multipart/form-data; boundary=b"}
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    made = answer.json()
    assert made["bytes"] == 19 << 20
    assert peak < 30_000_000  # of which 8 MB are the form's share, and three parts of 5 MiB the store's
    async with http.stream("GET", f"/v1/files/{made['id']}/content") as content:
        async for piece in content.aiter_bytes(1 << 20):
            assert piece == raw
    assert http.headers["authorization"]
    assert len(await stored(gateway)) == 1


@LOCAL
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.png", "a.png"), ("../../etc/passwd", "passwd"), ("C:\\pictures\\a.png", "a.png"), ("/", "upload"),
        ("été ☀.png", "été ☀.png"), ('a"b.png', 'a"b.png'), ("x" * 300 + ".png", "x" * 251 + ".png"),
    ],
)  # fmt: skip
async def test_the_name_of_a_file(client: AsyncOpenAI, given: str, kept: str) -> None:
    made = await client.files.create(file=(given, RED), purpose="vision")
    assert made.filename == kept
    told = (await client.files.content(made.id)).response.headers["content-disposition"]
    assert told.startswith("attachment; filename=")


@pytest.mark.parametrize("given", ["a\x00b\x1f.png", "\u202eab.png", " ab.png\n", "x/\udc80ab.png"])
def test_a_name_holds_nothing_that_is_not_seen(given: str) -> None:
    assert api.clean(given) == "ab.png"


@LOCAL
async def test_a_name_as_rfc_5987_writes_it(http: httpx.AsyncClient) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"; filename*=UTF-8\'\'%C3%A9.png\r\n\r\n'
        + RED
        + b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n--b--\r\n'
    )
    answer = await http.post("/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.json()["filename"] == "é.png"


def part(name: str, value: str) -> tuple[str, tuple[None, str]]:
    return name, (None, value)


FILE = ("file", ("a.png", RED))
VISION = part("purpose", "vision")


@LOCAL
@pytest.mark.parametrize(
    ("parts", "status", "code", "param"),
    [
        ([VISION], 400, "missing_required_parameter", "file"),
        ([FILE], 400, "missing_required_parameter", "purpose"),
        ([FILE, part("purpose", "batch")], 400, "invalid_value", "purpose"),
        ([FILE, part("purpose", "fine-tune")], 400, "invalid_value", "purpose"),
        ([part("file", "text"), VISION], 400, "invalid_type", "file"),
        ([FILE, FILE, VISION], 400, "invalid_type", "file"),
        ([("file", ("a.png", b"")), VISION], 400, "invalid_value", "file"),
        ([FILE, VISION, part("colour", "red")], 400, "unknown_parameter", "colour"),
        ([FILE, VISION, ("mask", ("a.png", RED))], 400, "unknown_parameter", "mask"),
        (
            [FILE, VISION, part("expires_after[seconds]", "3600")],
            400, "missing_required_parameter", "expires_after.anchor",
        ),
        (
            [FILE, VISION, part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", "60")],
            400, "integer_below_min_value", "expires_after.seconds",
        ),
        (
            [FILE, VISION, part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", "2592001")],
            400, "integer_above_max_value", "expires_after.seconds",
        ),
        (
            [FILE, VISION, part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", "soon")],
            400, "invalid_type", "expires_after.seconds",
        ),
        (
            [FILE, VISION, part("expires_after[anchor]", "last_used"), part("expires_after[seconds]", "3600")],
            400, "invalid_value", "expires_after.anchor",
        ),
        ([("file", ("a.bin", bytes(20_000_001))), VISION], 413, "request_too_large", "file"),
        ([("file", ("a.bin", bytes(22_000_000))), VISION], 413, "request_too_large", None),
    ],
)  # fmt: skip
async def test_a_form_that_is_refused(
    http: httpx.AsyncClient, gateway: Gateway, parts: list[Any], status: int, code: str, param: str | None
) -> None:
    answer = await http.post("/v1/files", files=parts)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param), error
    assert await gateway.database.read(rows) == []
    assert await stored(gateway) == []


@LOCAL
async def test_which_purposes_there_are(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/files", files=[FILE, part("purpose", "assistants")])
    assert answer.json()["error"]["message"] == (
        "Invalid value: 'assistants'. Supported values are: 'vision' and 'user_data'."
    )


@LOCAL
async def test_without_a_key(address: str) -> None:
    async with httpx.AsyncClient(base_url=address, trust_env=False) as nobody:
        for method, path in (
            ("GET", "/v1/files"), ("POST", "/v1/files"), ("GET", "/v1/files/file-1"), ("DELETE", "/v1/files/file-1"),
            ("GET", "/v1/files/file-1/content"),
        ):  # fmt: skip
            assert (await nobody.request(method, path)).status_code == 401


async def test_a_client_that_leaves_in_the_middle_of_its_upload(address: str, gateway: Gateway) -> None:
    host, port = address.removeprefix("http://").split(":")

    def leave() -> None:
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer one-client-key\r\n"
                b"Content-Length: 9000000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + bytes(1_000_000)
            )

    await asyncio.to_thread(leave)
    async with httpx.AsyncClient(base_url=address, trust_env=False) as after:
        assert (await after.get("/v1/files")).status_code == 401  # it goes on serving
    assert await gateway.database.read(rows) == []


@LOCAL
@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("limit=10001", "integer_above_max_value", "limit"), ("limit=-1", "integer_below_min_value", "limit"),
        ("limit=many", "invalid_type", "limit"), ("order=up", "invalid_value", "order"),
        ("colour=red", "unknown_parameter", "colour"),
    ],
)  # fmt: skip
async def test_a_page_that_is_refused(http: httpx.AsyncClient, query: str, code: str, param: str) -> None:
    answer = await http.get(f"/v1/files?{query}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param), error


# --- content


async def test_content_in_ranges(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.files.create(file=("red.png", RED), purpose="vision")
    url = f"/v1/files/{made.id}/content"
    whole = await http.get(url)
    assert whole.headers["content-disposition"] == 'attachment; filename="red.png"'
    assert whole.headers["x-content-type-options"] == "nosniff"
    some = await http.get(url, headers={"range": "bytes=1-3"})
    assert (some.status_code, some.content) == (206, RED[1:4])
    assert (await http.get(url, headers={"if-none-match": whole.headers["etag"]})).status_code == 304


@pytest.mark.parametrize(
    ("raw", "type"),
    [
        (RED, "image/png"), (picture("photo.jpg"), "image/jpeg"), (picture("photo.webp"), "image/webp"),
        (b"GIF89a" + bytes(20), "image/gif"), (b"%PDF-1.7", "application/pdf"),
        (b"\0\0\0\x18ftypmp42" + bytes(12), "video/mp4"),
        (b"\0\0\0\x18ftypavif" + bytes(12), "image/avif"), (b"\x1aE\xdf\xa3" + bytes(20), "video/webm"),
        (b"RIFF\0\0\0\0WAVEfmt " + bytes(20), "audio/wav"), (b"ID3\x04" + bytes(20), "audio/mpeg"),
        (b"OggS" + bytes(20), "audio/ogg"), (b"fLaC" + bytes(20), "audio/flac"),
        (b"<html><script>alert(1)</script>", "application/octet-stream"), (b"{}", "application/octet-stream"),
        (b"x", "application/octet-stream"), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
    ],
)  # fmt: skip
def test_the_type_by_the_first_bytes(raw: bytes, type: str) -> None:
    assert type_of(blob(raw)) == type


# --- by address


def answering(body: bytes, status: int = 200) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    return handler


async def test_a_file_by_its_address(http: httpx.AsyncClient) -> None:
    async with serving(answering(RED)) as there:
        made = (await http.post("/v1/files", json={"url": f"{there}/some/red%20one.png?x=1"})).json()
        assert (made["filename"], made["purpose"], made["bytes"]) == ("red one.png", "vision", len(RED))
        named = await http.post(
            "/v1/files",
            json={
                "url": there, "filename": "mine.png", "purpose": "user_data",
                "expires_after": {"anchor": "created_at", "seconds": 3600},
            },
        )  # fmt: skip
        assert (named.json()["filename"], named.json()["purpose"]) == ("mine.png", "user_data")
        assert named.json()["expires_at"] == named.json()["created_at"] + 3600
        bare = await http.post("/v1/files", json={"url": there})
        assert bare.json()["filename"] == "picture.png"
    assert (await http.get(f"/v1/files/{made['id']}/content")).content == RED


@LOCAL
@pytest.mark.parametrize(
    ("body", "status", "code", "told"),
    [
        (b"<html>", 200, "unsupported_file_mimetype", "'image/gif', and 'image/bmp'"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 200, "unsupported_file_mimetype", "image/svg"),
        (RED + bytes(1_000_000), 200, "invalid_value", "larger than 1000000 bytes"),
        (RED, 404, "invalid_value", "Upstream status code: 404"),
        (b"", 200, "unsupported_file_mimetype", "octet-stream"),
    ],
    ids=["page", "drawing", "large", "missing", "empty"],
)
async def test_an_address_that_leads_to_no_picture(
    http: httpx.AsyncClient, gateway: Gateway, body: bytes, status: int, code: str, told: str
) -> None:
    async with serving(answering(body, status)) as there:
        answer = await http.post("/v1/files", json={"url": f"{there}/a.png"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, "url"), error
    assert told in error["message"]
    assert await gateway.database.read(rows) == []


@LOCAL
async def test_a_private_address_is_not_fetched(http: httpx.AsyncClient, gateway: Gateway) -> None:
    answer = await http.post("/v1/files", json={"url": "http://169.254.169.254/latest/meta-data"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "url")
    assert b'pictor_fetch_refused_total{reason="address",source="client"} 1.0' in gateway.metrics.text()


@LOCAL
@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", None, None), (b"[]", "invalid_type", None), (b"{}", "missing_required_parameter", "url"),
        (b'{"url": 1}', "invalid_type", "url"), (b'{"url": "file:///etc/passwd"}', "invalid_value", "url"),
        (b'{"url": "data:image/png;base64,AAAA"}', "invalid_value", "url"),
        (b'{"url": "http://x", "purpose": "batch"}', "invalid_value", "purpose"),
        (b'{"url": "http://x", "colour": "red"}', "unknown_parameter", "colour"),
        (b'"' + b"x" * 70_000 + b'"', "request_too_large", None),
    ],
)  # fmt: skip
async def test_json_that_is_refused(http: httpx.AsyncClient, body: bytes, code: str | None, param: str | None) -> None:
    answer = await http.post("/v1/files", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param), error


# --- what requests refer to


@pytest.fixture
def uploads(database: Database, tmp_path: Path) -> Iterator[Uploads]:
    files = Files(tmp_path)
    yield Uploads(database, files)
    files.close()


async def kept(uploads: Uploads, raw: bytes = RED, key: str = "key_1") -> Upload:
    return await uploads.create(key, blob(raw), filename="a.png", purpose="vision")


async def test_a_picture_that_a_request_refers_to(uploads: Uploads) -> None:
    made = await kept(uploads)
    found = await uploads.picture("key_1", FileRef(made.id, "mask.file_id"), len(RED))
    await uploads.delete("key_1", made.id)
    assert found.bytes() == RED  # the request is served all the same


@pytest.mark.parametrize(("key", "known"), [("key_2", True), ("key_1", False), (NOBODY, True)])
async def test_a_reference_that_leads_nowhere(uploads: Uploads, key: str, known: bool) -> None:
    made = await kept(uploads)
    ref = FileRef(made.id if known else "file-abc", "images[1].file_id")
    with pytest.raises(Fault, match=f"No such File object: {ref.id}") as caught:
        await uploads.picture(key, ref, 1_000_000)
    assert (caught.value.kind, caught.value.code, caught.value.param) == ("invalid", "invalid_value", ref.param)


async def test_an_id_that_no_database_takes(http: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert (await http.request(method, f"/v1/files/file-%00{path}")).status_code == 404


async def test_a_reference_to_what_is_too_large(uploads: Uploads) -> None:
    made = await kept(uploads)
    with pytest.raises(Fault, match="larger than 10 bytes") as caught:
        await uploads.picture("key_1", FileRef(made.id, "mask.file_id"), 10)
    assert (caught.value.code, caught.value.param) == ("invalid_image_file", "mask.file_id")


# --- what breaks in between


class Torn:
    """A source that breaks in the middle."""

    def __iter__(self) -> Iterator[bytes]:
        yield bytes(6_000_000)
        raise OSError("torn")


async def test_an_upload_that_breaks_leaves_nothing(uploads: Uploads, database: Database, tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        await uploads.create("key_1", Blob(Torn(), 12_000_000), filename="a", purpose="vision")
    assert caught.value.code == "storage_unavailable"
    assert await database.read(rows) == []
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


async def test_an_upload_that_was_cut_is_swept(database: Database, tmp_path: Path) -> None:
    """What a killed process leaves: a row that is nobody's, and perhaps the bytes."""
    files, now = Files(tmp_path), 1_800_000_000_000
    uploads = Uploads(database, files, lambda: now)
    await kept(uploads)

    def cut(connection: sa.Connection) -> None:
        connection.execute(sa.update(tables.file).values(key=NOBODY, expires=now + UNFINISHED))

    await database.write(cut)
    assert (await uploads.page("key_1", 10)).uploads == ()
    assert await uploads.sweep() == 0
    now += UNFINISHED
    assert await uploads.sweep() == 1
    assert await database.read(rows) == []
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
    files.close()


async def test_many_expired_ones_go_at_once(database: Database, tmp_path: Path) -> None:
    files, now = Files(tmp_path), 1_800_000_000_000
    uploads = Uploads(database, files, lambda: now)
    made = await uploads.create("key_1", blob(b"x"), filename="a", purpose="vision", lifetime=3600)

    def copied(connection: sa.Connection) -> None:
        row = connection.execute(sa.select(tables.file)).one()._asdict()
        many = [row | {"id": f"file-{number}", "path": f"{made.path}-{number}"} for number in range(450)]
        connection.execute(sa.insert(tables.file), many)

    await database.write(copied)
    now += 3_600_001
    assert sum(await asyncio.gather(uploads.sweep(), uploads.sweep())) >= 451
    assert await database.read(rows) == []
    files.close()


async def test_a_file_of_no_name(client: AsyncOpenAI) -> None:
    made = await client.files.create(file=io.BytesIO(secrets.token_bytes(10)), purpose="user_data")
    assert made.filename == "upload"


# --- on the real server


async def test_an_edit_of_uploaded_pictures(tmp_path: Path) -> None:
    """The picture and its mask are named by their ids; another key's id is as good as none."""
    keys = [{"name": name, "key": f"{name}-client-key"} for name in ("one", "two")]
    with running(tmp_path, auth={"keys": keys}, limits={"image_bytes": 100_000}) as server:
        async with (
            AsyncOpenAI(base_url=server.base_url, api_key="one-client-key", max_retries=0) as client,
            AsyncOpenAI(base_url=server.base_url, api_key="two-client-key", max_retries=0) as other,
        ):
            image = await client.files.create(file=("red.png", RED), purpose="vision")
            mask = await client.files.create(file=("mask.png", picture("mask.png")), purpose="vision")
            large = await client.files.create(file=("large.png", RED + bytes(100_000)), purpose="vision")

            def edit(by: AsyncOpenAI, picture: str, **more: Any) -> Any:
                body = {"model": "demo/painter", "prompt": "a cat", "images": [{"file_id": picture}], **more}
                return by.post("/images/edits", body=body, cast_to=ImagesResponse)

            made = await edit(client, image.id)
            assert made.data[0].b64_json
            assert (await edit(client, image.id, mask={"file_id": mask.id})).data[0].b64_json
            for by, named, more, wrong in (
                (other, image.id, {}, "images[0].file_id"),
                (client, "file-abc", {}, "images[0].file_id"),
                (client, large.id, {}, "images[0].file_id"),
                (client, image.id, {"mask": {"file_id": "file-abc"}}, "mask.file_id"),
            ):
                with pytest.raises(BadRequestError) as caught:
                    await edit(by, named, **more)
                assert caught.value.param == wrong
            with pytest.raises(BadRequestError, match="mask image missing alpha channel"):  # it was looked at
                await edit(client, image.id, mask={"file_id": image.id})
            await client.files.delete(image.id)
            with pytest.raises(BadRequestError, match="No such File object"):
                await edit(client, image.id)
