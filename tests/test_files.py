"""Stored outputs: kept whole or not at all, opened by a signed link alone, served over a real socket."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pybase64
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, Request, Response

from proxy.api import outputs
from proxy.errors import problem
from proxy.state.files import CHUNK, DAY, EXTENSIONS, Files, secret
from tests.pictures import data as picture
from translators.base import Blob, Fault, blob

NOON = 1_800_000_000.0


class Clock:
    """Stands until it is told to move."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> Iterator[Files]:
    made = Files(tmp_path, now=clock)
    yield made
    made.close()


def kept(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "files").rglob("*") if path.is_file())


async def body(files: Files, id: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in files.read(id, start, stop)])


# --- keeping


async def test_kept_by_day_and_read_again(files: Files, tmp_path: Path) -> None:
    id = await files.save(blob(picture("red.png")), "image/png")
    assert kept(tmp_path) == [tmp_path / "files" / "2027-01-15" / id]
    stored = await files.open(id)
    assert (stored.id, stored.type, stored.size) == (id, "image/png", len(picture("red.png")))
    assert await body(files, id) == picture("red.png")
    assert files.blob(stored).bytes() == files.blob(stored).bytes() == picture("red.png")


async def test_base64_is_decoded_as_it_is_written(files: Files) -> None:
    raw = secrets.token_bytes(1_000_001)
    wire = pybase64.b64encode(raw)
    chunks = tuple(wire[at : at + 65_537] for at in range(0, len(wire), 65_537))
    id = await files.save(Blob(chunks, len(wire), "base64"), "image/jpeg")
    assert id.endswith(".jpg")
    assert await body(files, id) == raw
    assert await body(files, id, 5, 9) == raw[5:9]
    assert await body(files, id, CHUNK - 1, 2 * CHUNK + 1) == raw[CHUNK - 1 : 2 * CHUNK + 1]


@pytest.mark.parametrize("type", [*EXTENSIONS, "image/x-unheard"])
async def test_the_type_is_in_the_name(files: Files, type: str) -> None:
    stored = await files.open(await files.save(blob(b"x"), type))
    assert stored.type == (type if type in EXTENSIONS else "application/octet-stream")


async def test_ids_cannot_be_guessed(files: Files) -> None:
    ids = await asyncio.gather(*(files.save(blob(b"x"), "image/png") for _ in range(20)))
    assert len(set(ids)) == 20
    assert all(len(id.partition("-")[2]) == len("x" * 22 + ".png") for id in ids)


@pytest.mark.parametrize(
    "id", ["", "x", "../secret", "20270115-../../../../etc/passwd.png", "20270115-" + "a" * 22 + ".png\n", "a" * 9_999]
)
async def test_no_other_file_can_be_named(files: Files, id: str) -> None:
    with pytest.raises(Fault) as caught:
        await files.open(id)
    assert caught.value.kind == "missing"


async def test_an_output_that_is_gone(files: Files) -> None:
    with pytest.raises(Fault, match="no output") as caught:
        await files.open("20270115-" + "a" * 22 + ".png")
    assert (caught.value.kind, caught.value.code) == ("missing", "output_not_found")


async def test_a_broken_source_leaves_nothing(files: Files, tmp_path: Path) -> None:
    wire = b"AAAA" * 100_000 + b"!!!!"
    with pytest.raises(Fault) as caught:
        await files.save(Blob((wire[:300_000], wire[300_000:]), len(wire), "base64"), "image/png")
    assert (caught.value.kind, caught.value.code) == ("upstream", "unreadable")
    assert kept(tmp_path) == []


async def test_a_full_disk_leaves_nothing(files: Files, tmp_path: Path) -> None:
    """The kernel refuses to let files grow: the same way to fail as a full disk, for real."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        with pytest.raises(Fault) as caught:
            await files.save(blob(bytes(1_000_000)), "image/png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (caught.value.kind, caught.value.code) == ("overloaded", "storage_full")
    assert kept(tmp_path) == []
    assert len(await body(files, await files.save(blob(bytes(1_000_000)), "image/png"))) == 1_000_000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
async def test_a_device_without_room(files: Files, tmp_path: Path) -> None:
    class Full:
        """A source on whose way the disk is found full."""

        def __iter__(self) -> Iterator[bytes]:
            yield bytes(10)
            with open("/dev/full", "wb", buffering=0) as device:
                device.write(b"x")

    with pytest.raises(Fault) as caught:
        await files.save(Blob(Full(), 20), "image/png")
    assert caught.value.code == "storage_full"
    assert kept(tmp_path) == []


async def test_a_reader_that_leaves_early(files: Files) -> None:
    reading = files.read(await files.save(blob(bytes(3 * CHUNK)), "image/png"))
    assert len(await anext(reading)) == CHUNK
    await reading.aclose()


async def test_the_sweep(files: Files, clock: Clock, tmp_path: Path) -> None:
    old, young = [await files.save(blob(b"x"), "image/png") for _ in range(2)]
    folder = tmp_path / "files" / "2027-01-15"
    (folder / ".torn.part").write_bytes(b"half")
    for name, age in ((old, 100), (young, 10), (".torn.part", 100)):
        os.utime(folder / name, (NOON - age, NOON - age))
    assert await files.sweep(None) == 0
    assert await files.sweep(60) == 2
    assert kept(tmp_path) == [folder / young]
    clock.now += 3 * DAY
    assert await files.sweep(60) == 1
    assert list((tmp_path / "files").iterdir()) == []
    assert await files.sweep(60) == 0


# --- the secret and what it signs


def test_the_secret_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    made = secret(tmp_path / "data")
    assert len(made) == 32
    assert secret(tmp_path / "data") == made
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret"]


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    program = "import sys, pathlib, proxy.state.files as f; print(f.secret(pathlib.Path(sys.argv[1])).hex())"
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert len({process.communicate(timeout=60)[0] for process in running}) == 1
    assert [process.returncode for process in running] == [0, 0, 0]


def test_threads_that_start_at_once_agree(tmp_path: Path) -> None:
    gate, seen = threading.Barrier(16), set()

    def start() -> None:
        gate.wait()
        seen.add(secret(tmp_path))

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1


def test_an_emptied_secret_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(ValueError, match="holds no secret"):
        secret(tmp_path)


def query(files: Files, id: str, expires: int) -> tuple[str, str]:
    told = parse_qs(files.sign(id, expires))
    return told["expires"][0], told["signature"][0]


def test_a_link_works_until_it_ends(files: Files, clock: Clock) -> None:
    expires, signature = query(files, "a.png", int(NOON) + 60)
    assert files.verify("a.png", expires, signature) == 60
    clock.now += 60
    assert files.verify("a.png", expires, signature) == 0
    clock.now += 1
    with pytest.raises(Fault, match="expired") as caught:
        files.verify("a.png", expires, signature)
    assert (caught.value.kind, caught.value.code) == ("permission", "link_expired")


@pytest.mark.parametrize(
    ("id", "expires", "signature"),
    [
        ("b.png", None, None), ("a.png", "1800000061", None), ("a.png", "01800000060", None), ("a.png", "", None),
        ("a.png", None, ""), ("a.png", None, "x"), ("a.png", None, "é\udc80"), ("a.png", "never", None),
    ],
)  # fmt: skip
def test_an_altered_link_does_not(files: Files, id: str, expires: str | None, signature: str | None) -> None:
    true = query(files, "a.png", int(NOON) + 60)
    with pytest.raises(Fault) as caught:
        files.verify(id, true[0] if expires is None else expires, true[1] if signature is None else signature)
    assert (caught.value.kind, caught.value.code) == ("permission", "invalid_signature")


def test_another_installations_link_does_not(files: Files, clock: Clock, tmp_path: Path) -> None:
    other = Files(tmp_path / "other", now=clock)
    with pytest.raises(Fault, match="signature"):
        files.verify("a.png", *query(other, "a.png", int(NOON) + 60))
    shared = Files(tmp_path / "third", (tmp_path / "secret").read_bytes(), clock)
    assert files.verify("a.png", *query(shared, "a.png", int(NOON) + 60)) == 60
    other.close()
    shared.close()


# --- over a socket


def as_envelope(_: Request[Any, Any, Any], fault: Fault) -> Response[bytes]:
    shown = problem(fault)
    return Response(shown.body, status_code=shown.status, media_type="application/json")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Litestar, str]]:
    """The route behind a real socket, and its address."""
    app = Litestar([outputs.output], exception_handlers={Fault: as_envelope}, logging_config=None)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield app, f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
async def client(files: Files, served: tuple[Litestar, str]) -> AsyncIterator[httpx.AsyncClient]:
    app, address = served
    app.state.files = files
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        yield client


RAW = secrets.token_bytes(3 * CHUNK + 17)


async def link(files: Files, raw: bytes = RAW, type: str = "image/png", seconds: int = 600) -> str:
    id = await files.save(blob(raw), type)
    return f"/v1/outputs/{id}?{files.sign(id, int(NOON) + seconds)}"


async def test_the_whole_file(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files)
    id = url.split("/")[-1].split("?")[0]
    answer = await client.get(url)
    assert answer.status_code == 200
    assert answer.content == RAW
    told = dict(answer.headers)
    assert {name: told[name] for name in told if name not in {"date", "server", "last-modified"}} == {
        "content-type": "image/png",
        "content-length": str(len(RAW)),
        "etag": f'"{id}"',
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=600",
        "content-disposition": f'inline; filename="{id}"',
        "x-content-type-options": "nosniff",
    }
    head = await client.head(url, headers={"range": "bytes=0-1"})
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**told, "date": ""}


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1), ("bytes=0-", 0, None), ("bytes=5-9", 5, 10), ("Bytes=1-2", 1, 3),
        ("bytes=-1", -1, None), ("bytes=-99999999", 0, None), ("bytes=10-99999999", 10, None),
        (f"bytes={CHUNK - 1}-{CHUNK}", CHUNK - 1, CHUNK + 1),
    ],
)  # fmt: skip
async def test_one_range(files: Files, client: httpx.AsyncClient, asked: str, start: int, stop: int | None) -> None:
    answer = await client.get(await link(files), headers={"range": asked})
    wanted = RAW[start:stop]
    assert answer.status_code == 206
    assert answer.content == wanted
    first = range(len(RAW))[start:stop].start
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(RAW)}"


@pytest.mark.parametrize("asked", [f"bytes={len(RAW)}-", "bytes=99999999-999999999", "bytes=-0"])
async def test_a_range_behind_the_end(files: Files, client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get(await link(files), headers={"range": asked})
    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["content-range"] == f"bytes */{len(RAW)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-5", "bytes=-", "lines=1-2", "bytes", "bytes=a-b"])
async def test_what_is_no_single_range_gets_the_whole(files: Files, client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get(await link(files), headers={"range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(RAW))


async def test_a_client_that_has_it_already(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files)
    known = await client.get(url)
    tag, date = known.headers["etag"], known.headers["last-modified"]
    later, sooner = (formatdate(NOON + days * DAY, usegmt=True) for days in (3650, -36500 // 2))
    for headers, status in (
        ({"if-none-match": tag}, 304),
        ({"if-none-match": f'"x", W/{tag}'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-none-match": '"x"', "if-modified-since": date}, 200),
        ({"if-modified-since": date}, 304),
        ({"if-modified-since": later}, 304),
        ({"if-modified-since": sooner}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-none-match": tag, "range": "bytes=0-1"}, 304),
        ({"if-range": tag, "range": "bytes=0-1"}, 206),
        ({"if-range": date, "range": "bytes=0-1"}, 206),
        ({"if-range": f"W/{tag}", "range": "bytes=0-1"}, 200),
        ({"if-range": later, "range": "bytes=0-1"}, 200),
    ):
        answer = await client.get(url, headers=headers)
        assert answer.status_code == status, headers
        assert answer.headers["etag"] == tag
        assert (answer.content == b"") == (status == 304)


async def test_a_drawing_runs_no_script(files: Files, client: httpx.AsyncClient) -> None:
    answer = await client.get(await link(files, b"<svg/>", "image/svg+xml"))
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"].endswith("sandbox")


async def test_links_that_do_not_open(files: Files, client: httpx.AsyncClient, clock: Clock) -> None:
    url = await link(files, seconds=5)
    bare = url.partition("?")[0]
    for wrong in (bare, bare + "?expires=9999999999", url + "x", url.replace("expires=1", "expires=2")):
        for answer in (await client.get(wrong), await client.head(wrong)):
            assert answer.status_code == 403
        assert (await client.get(wrong)).json()["error"]["code"] == "invalid_signature"
    clock.now += 6
    assert (await client.get(url)).json()["error"]["code"] == "link_expired"


async def test_a_good_link_to_what_was_deleted(files: Files, client: httpx.AsyncClient, tmp_path: Path) -> None:
    url = await link(files)
    kept(tmp_path)[0].unlink()
    answer = await client.get(url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "output_not_found")


async def test_many_readers_at_once(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files)
    answers = await asyncio.gather(*(client.get(url) for _ in range(12)))
    assert all(answer.content == RAW for answer in answers)


async def test_a_client_that_hangs_up(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files, bytes(64 * CHUNK))
    async with client.stream("GET", url) as answer:
        async for _ in answer.aiter_raw():
            break
    assert (await client.get(await link(files))).content == RAW


@given(st.text(max_size=40), st.integers(0, 10**6))
def test_any_range_header_is_read(header: str, size: int) -> None:
    for asked in (header, f"bytes={header}"):
        found = outputs.span(asked, size)
        assert found is None or 0 <= found.start <= found.stop <= size
