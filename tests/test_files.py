"""Stored outputs: kept whole or not at all, on a disk and in a bucket, and what their links are signed with."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pybase64
import pytest

from proxy import config
from proxy.config import ConfigError
from proxy.state.files import EXTENSIONS, SIDES, Files, secret
from proxy.state.store import PART, PIECE, Store
from tests.pictures import data as picture
from tests.stores import S3
from translators.base import Blob, Fault, Secret, blob

DAY = 86_400
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


def bucket(place: S3) -> config.Files:
    return config.Files(store=f"s3://{place.bucket}/some/prefix", options=place.secrets)


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> Iterator[Files]:
    made = Files(tmp_path, now=clock)
    yield made
    made.close()


@pytest.fixture(params=["local", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Files]:
    """A store of either kind."""
    settings = config.Files() if request.param == "local" else bucket(request.getfixturevalue("s3"))
    made = Files(tmp_path, settings, now=clock)
    assert made.backend == request.param
    yield made
    made.close()


def kept(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "files").rglob("*") if path.is_file())


async def body(files: Files, id: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in files.read(id, start, stop)])


async def got(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url, headers=headers)


# --- keeping


async def test_kept_by_day_and_read_again(files: Files, tmp_path: Path) -> None:
    id = await files.save(blob(picture("red.png")), "image/png")
    assert kept(tmp_path) == [tmp_path / "files" / "2027-01-15" / id]
    assert await body(files, id) == picture("red.png")


async def test_kept_and_read_again(anywhere: Files) -> None:
    id = await anywhere.save(blob(picture("red.png")), "image/png")
    stored = await anywhere.open(id)
    assert (stored.id, stored.type, stored.size) == (id, "image/png", len(picture("red.png")))
    assert abs(stored.modified - time.time()) < 600
    assert await body(anywhere, id) == picture("red.png")
    lazy = anywhere.blob(stored)
    assert await asyncio.to_thread(lazy.bytes) == await asyncio.to_thread(lazy.bytes) == picture("red.png")
    assert (await anywhere.fetched(stored)).bytes() == picture("red.png")


async def test_a_fetched_file_outlives_its_deletion(anywhere: Files) -> None:
    raw = secrets.token_bytes(10_000_000)  # more than what stays in memory
    stored = await anywhere.open(await anywhere.save(blob(raw), "image/png"))
    fetched = await anywhere.fetched(stored)
    assert not isinstance(fetched.chunks, tuple)
    await anywhere.delete([stored.id])
    assert fetched.bytes() == raw


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 17])
async def test_files_of_any_size(anywhere: Files, size: int) -> None:
    raw = secrets.token_bytes(size)
    id = await anywhere.save(Blob(tuple(raw[at : at + 300_001] for at in range(0, size, 300_001)), size), "image/png")
    assert (await anywhere.open(id)).size == size
    assert await body(anywhere, id) == raw


async def test_base64_is_decoded_as_it_is_written(anywhere: Files) -> None:
    files, raw = anywhere, secrets.token_bytes(7_000_001)
    wire = pybase64.b64encode(raw)
    chunks = tuple(wire[at : at + 65_537] for at in range(0, len(wire), 65_537))
    id = await files.save(Blob(chunks, len(wire), "base64"), "image/jpeg")
    assert id.endswith(".jpg")
    assert await body(files, id) == raw
    assert await body(files, id, 5, 9) == raw[5:9]
    assert await body(files, id, PIECE - 1, 2 * PIECE + 1) == raw[PIECE - 1 : 2 * PIECE + 1]


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


@pytest.mark.parametrize("good", [300_000, 8_000_000, 16_000_000])
async def test_a_broken_source_leaves_nothing(anywhere: Files, tmp_path: Path, s3: S3, good: int) -> None:
    wire = b"A" * good + b"!!!!"
    chunks = tuple(wire[at : at + 400_000] for at in range(0, len(wire), 400_000))
    with pytest.raises(Fault) as caught:
        await anywhere.save(Blob(chunks, len(wire), "base64"), "image/png")
    assert (caught.value.kind, caught.value.code) == ("upstream", "unreadable")
    assert kept(tmp_path) == []
    if anywhere.backend == "s3":
        assert await anywhere.store.folders() == []
        unfinished = await got(f"{s3.endpoint}/{s3.bucket}?uploads")
        assert unfinished.status_code == 200
        assert b"<UploadId>" not in unfinished.content


async def test_a_full_disk_leaves_nothing(files: Files, tmp_path: Path) -> None:
    """The kernel refuses to let files grow: the same way to fail as a full disk, for real."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        for size in (1_000_000, 2 * PART):
            with pytest.raises(Fault) as caught:
                await files.save(blob(bytes(size)), "image/png")
            assert (caught.value.kind, caught.value.code) == ("overloaded", "storage_full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
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


async def test_a_reader_that_leaves_early(anywhere: Files) -> None:
    reading = anywhere.read(await anywhere.save(blob(bytes(3 * PIECE)), "image/png"))
    assert len(await anext(reading)) == PIECE
    await reading.aclose()


async def test_the_loop_is_free_while_large_files_are_written_and_read(anywhere: Files) -> None:
    """What is awaited gives way: other work goes on meanwhile, and no more than pieces are in memory."""
    wire = pybase64.b64encode(bytes(48 << 20))
    source = Blob(tuple(wire[at : at + 65_536] for at in range(0, len(wire), 65_536)), len(wire), "base64")
    turns, done = 0, False

    async def turning() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(turning())
    tracemalloc.start()
    try:
        async for piece in anywhere.read(await anywhere.save(source, "image/png")):
            assert len(piece) <= PIECE
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        done = True
        await other
    assert turns > 100
    assert peak < 4 * PART


async def test_deleted_with_its_thumbnails(anywhere: Files) -> None:
    ids = [await anywhere.save(blob(b"x"), "image/png") for _ in range(3)]
    for side in SIDES:
        assert await anywhere.thumbnail(ids[0], side) is None
    await anywhere.keep_thumbnail(ids[0], 512, blob(b"small"))
    found = await anywhere.thumbnail(ids[0], 512)
    assert found is not None
    assert found.bytes() == b"small"
    await anywhere.delete([*ids[:2], "no id", "20270115-" + "a" * 22 + ".png"])
    assert [each.path async for batch in anywhere.store.listed("2027-01-15") for each in batch] == [
        f"2027-01-15/{ids[2]}"
    ]
    for id in ids[:2]:
        with pytest.raises(Fault, match="no output"):
            await anywhere.open(id)


async def test_the_sweep(files: Files, clock: Clock, tmp_path: Path) -> None:
    old, young = [await files.save(blob(b"x"), "image/png") for _ in range(2)]
    folder = tmp_path / "files" / "2027-01-15"
    for name, age in ((old, 100), (young, 10)):
        os.utime(folder / name, (NOON - age, NOON - age))
    assert await files.sweep(None) == 0
    assert await files.sweep(60) == 1
    assert kept(tmp_path) == [folder / young]
    clock.now += 3 * DAY
    assert await files.sweep(60) == 1
    assert list((tmp_path / "files").iterdir()) == []
    assert await files.sweep(60) == 0


async def test_the_sweep_of_a_bucket(tmp_path: Path, clock: Clock, s3: S3) -> None:
    files = Files(tmp_path, bucket(s3), now=clock)
    clock.now = time.time()
    for _ in range(3):
        await files.save(blob(b"x"), "image/png")
    await files.store.put("uploads/2026-11/file-1", blob(b"x"), "image/png", "file-1")
    assert await files.sweep(60) == 0
    clock.now += 3 * DAY
    assert await files.sweep(60) == 3
    assert await files.store.folders() == ["uploads"]
    files.close()


async def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """It is killed in the middle of writing a large file, and what it has written stays under another name."""
    program = f"""
import asyncio, os, pathlib, signal, sys
from proxy.state.files import Files
from translators.base import Blob, Secret

class Endless:
    def __iter__(self):
        yield bytes({2 * PART})
        while not any(pathlib.Path(sys.argv[1]).glob("files/*/*#*")):
            yield bytes({PART})
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(Files(pathlib.Path(sys.argv[1])).save(Blob(Endless(), 1 << 30), "image/png"))
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = kept(tmp_path)
    whole = left.with_name("20270115-" + "a" * 22 + ".png")
    whole.write_bytes(b"x")
    old = time.time() - 2 * DAY
    os.utime(whole, (old, old))
    store = Store(tmp_path / "files", {})
    await store.tidy()
    assert kept(tmp_path) == sorted([left, whole])  # it may be another process's that still writes
    os.utime(left, (old, old))
    await store.tidy()
    assert kept(tmp_path) == [whole]
    store.close()


# --- a bucket


async def test_a_link_to_the_bucket_itself(tmp_path: Path, clock: Clock, s3: S3) -> None:
    settings = config.Files(store=f"s3://{s3.bucket}", options=s3.secrets, presign=True)
    files = Files(tmp_path, settings, now=clock)
    id = await files.save(blob(picture("red.png")), "image/png")
    url = await files.presigned(id, 60)
    assert url is not None
    answer = await got(url, range="bytes=0-7")
    assert (answer.status_code, answer.content) == (206, picture("red.png")[:8])
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == f'inline; filename="{id}"'
    files.close()
    plain = Files(tmp_path, bucket(s3), now=clock)
    assert await plain.presigned(id, 60) is None
    plain.close()


async def test_a_folder_has_no_links_of_its_own(tmp_path: Path) -> None:
    files = Files(tmp_path, config.Files(presign=True))
    assert await files.presigned(await files.save(blob(b"x"), "image/png"), 60) is None
    files.close()


def away(s3: S3) -> config.Files:
    return config.Files(store="s3://bucket", options={**s3.secrets, "endpoint": Secret("http://127.0.0.1:1")})


def nowhere(s3: S3) -> config.Files:
    return config.Files(store="s3://no-such-bucket", options=s3.secrets)


@pytest.mark.parametrize("settings", [away, nowhere])
async def test_a_store_that_cannot_be_used(tmp_path: Path, s3: S3, settings: Callable[[S3], config.Files]) -> None:
    files = Files(tmp_path, settings(s3))
    for size in (1, 2 * PART):
        with pytest.raises(Fault) as caught:
            await files.save(blob(bytes(size)), "image/png")
        assert (caught.value.kind, caught.value.code) == ("overloaded", "storage_unavailable")
        assert "127.0.0.1" not in caught.value.message
    with pytest.raises(Fault) as caught:
        await files.sweep(60)
    assert caught.value.code == "storage_unavailable"
    files.close()


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "2027-01-15").write_bytes(b"a file where a folder should be")
    files = Files(tmp_path, now=lambda: NOON)
    with pytest.raises(Fault) as caught:
        await files.save(blob(b"x"), "image/png")
    assert caught.value.code == "storage_unavailable"
    files.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (config.Files(store="ftp://x"), "files.store: expected s3://"),
        (config.Files(store="s3://bucket", options={"acces_key": Secret("x")}), "'acces_key' is not valid"),
        (config.Files(store="az://container"), "Account must be specified"),
    ],
)
def test_a_store_that_cannot_be_one(tmp_path: Path, settings: config.Files, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        Files(tmp_path, settings)
    assert "\n" not in str(caught.value)


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
    shared = Files(tmp_path / "third", key=(tmp_path / "secret").read_bytes(), now=clock)
    assert files.verify("a.png", *query(shared, "a.png", int(NOON) + 60)) == 60
    other.close()
    shared.close()
