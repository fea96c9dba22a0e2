"""What is past its time goes, and nothing else: on both databases, in both kinds of store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from proxy import config
from proxy.config import Config, History
from proxy.state import tables
from proxy.state.database import Database, milliseconds
from proxy.state.files import Files
from proxy.state.sweep import SECONDS, Swept, sweep, turn
from proxy.state.uploads import Uploads
from tests.stores import S3
from translators.base import Fault, Secret, blob

DAY = 86_400
QUIET = Config(files=config.Files(retention=None), history=History(retention=None))


class Clock:
    """The store's, which may run ahead."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["local", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Files]:
    settings = config.Files()
    if request.param == "s3":
        place: S3 = request.getfixturevalue("s3")
        settings = config.Files(store=f"s3://{place.bucket}", options=place.secrets)
    made = Files(tmp_path, settings, now=clock)
    yield made
    made.close()


Sweep = Callable[[Config], Any]


@pytest.fixture
def swept(database: Database, files: Files) -> Sweep:
    async def once(settings: Config) -> Swept:
        return await sweep(database, files, Uploads(database, files), settings, pause=0)

    return once


def task(number: int, age: float = 0, **more: Any) -> dict[str, Any]:
    """A row that is `age` seconds old."""
    at = milliseconds() - int(age * 1000)
    return {
        "id": f"task_{at:012x}{number:020x}", "key": "key_1", "created": at, "ended": at, "status": "completed",
        "op": "generate", "asked": "m", "request": {}, "result": None, "bytes": 0, "wasted": 0, "claim": None,
        "worker": "w", "lost": False, "terms": "", **more,
    }  # fmt: skip


async def write(database: Database, *rows: dict[str, Any]) -> None:
    await database.write(lambda connection: connection.execute(sa.insert(tables.task), list(rows)))


async def read(database: Database, *columns: sa.Column[Any]) -> list[Any]:
    asked = sa.select(*columns).order_by(tables.task.c.id)
    found = await database.read(lambda connection: connection.execute(asked).all())
    return [row[0] if len(columns) == 1 else tuple(row) for row in found]


async def made(files: Files, number: int, age: float = 0, size: int = 100, **more: Any) -> dict[str, Any]:
    """A row with one stored file."""
    id = await files.save(blob(bytes(size)), "image/png")
    return task(number, age, result={"outputs": [{"id": id, "type": "image/png"}]}, bytes=size, **more)


def output(row: dict[str, Any]) -> str:
    id: str = row["result"]["outputs"][0]["id"]
    return id


async def there(files: Files, row: dict[str, Any]) -> bool:
    try:
        await files.open(output(row))
    except Fault as fault:
        assert fault.code == "output_not_found"
        return False
    return True


async def test_nothing_to_do(swept: Sweep) -> None:
    assert await swept(Config()) == Swept()
    assert await swept(QUIET) == Swept()


async def test_made_files_past_their_time(database: Database, files: Files, swept: Sweep, clock: Clock) -> None:
    row = await made(files, 1, age=3 * DAY)
    await files.keep_thumbnail(output(row), 256, blob(b"x"))
    await write(database, row, task(2))
    settings = replace(QUIET, files=config.Files(retention=2 * DAY))
    clock.ahead = DAY
    assert await swept(settings) == Swept()
    assert await there(files, row)
    clock.ahead = 3 * DAY
    assert await swept(settings) == Swept(outputs=2)
    assert not await there(files, row)
    assert await read(database, tables.task.c.bytes) == [0, 0]


async def test_the_oldest_go_where_there_are_too_many_bytes(database: Database, files: Files, swept: Sweep) -> None:
    rows = [await made(files, number, age=100 - number, size=1000) for number in range(5)]
    await write(database, *rows, task(9, bytes=500, status="in_progress", ended=None))

    def at_most(most: int) -> Config:
        return replace(QUIET, files=config.Files(retention=None, max_bytes=most))

    assert await swept(at_most(5500)) == Swept()
    assert await swept(at_most(3600)) == Swept(evicted=2)
    assert [await there(files, row) for row in rows] == [False, False, True, True, True]
    assert await read(database, tables.task.c.bytes) == [0, 0, 1000, 1000, 1000, 500]
    assert await swept(at_most(1)) == Swept(evicted=3)
    assert await read(database, tables.task.c.bytes) == [0, 0, 0, 0, 0, 500]  # what is still made is left alone


async def test_old_history_goes_with_its_files(database: Database, files: Files, swept: Sweep) -> None:
    old, young = await made(files, 1, age=3 * DAY), await made(files, 2, age=DAY)
    several = [task(10 + number, age=4 * DAY) for number in range(450)]
    await write(database, old, young, *several)
    entry = {
        "id": old["id"], "key": "key_1", "at": old["created"], "day": "2026-11-20", "op": "generate", "provider": "p",
        "model": "m", "status": "completed", "pictures": 1, "cost": 7, "wasted": 0,
    }  # fmt: skip
    await database.write(lambda connection: connection.execute(sa.insert(tables.entry), entry))
    settings = replace(QUIET, history=History(retention=2 * DAY))
    assert await swept(settings) == Swept(tasks=451)
    assert await read(database, tables.task.c.id) == [young["id"]]
    assert [await there(files, row) for row in (old, young)] == [False, True]
    kept = await database.read(lambda connection: connection.execute(sa.select(tables.entry.c.cost)).scalars().all())
    assert kept == [7]  # what it cost stays


async def test_idempotency_keys_are_free_after_a_day(database: Database, swept: Sweep) -> None:
    await write(database, task(1, 2 * DAY, claim="old"), task(2, DAY / 2, claim="young"), task(3, 2 * DAY))
    assert await swept(QUIET) == Swept(claims=1)
    assert await read(database, tables.task.c.claim) == [None, None, "young"]


async def test_expired_uploads(database: Database, files: Files, swept: Sweep) -> None:
    past = Uploads(database, files, now=lambda: milliseconds() - 2 * 3_600_000)
    for lifetime in (3600, 3 * 3600, None):
        await past.create("key_1", blob(b"x"), filename="a", purpose="vision", lifetime=lifetime)
    assert await swept(QUIET) == Swept(uploads=1)
    assert len((await past.page("key_1", 10)).uploads) == 2


async def test_a_result_without_files(database: Database, swept: Sweep) -> None:
    results: list[Any] = [
        None,
        {},
        {"outputs": []},
        {"outputs": [{"url": "https://elsewhere/x.png"}, {"id": "../../secret"}]},
    ]
    await write(database, *(task(number, 3 * DAY, result=result, bytes=5) for number, result in enumerate(results)))
    settings = Config(files=config.Files(retention=None, max_bytes=0), history=History(retention=2 * DAY))
    assert await swept(settings) == Swept(evicted=4, tasks=4)


async def test_two_at_once(database: Database, files: Files, swept: Sweep) -> None:
    rows = [await made(files, number, age=3 * DAY, claim=f"c{number}") for number in range(20)]
    await write(database, *rows, *(task(100 + number, age=3 * DAY) for number in range(400)), task(999))
    settings = Config(files=config.Files(retention=None, max_bytes=500), history=History(retention=DAY))
    await asyncio.gather(swept(settings), swept(settings))
    assert len(await read(database, tables.task.c.id)) == 1
    assert not any([await there(files, row) for row in rows])


async def test_a_step_that_fails_hinders_no_other(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config.Files(
        store="s3://bucket", options={"endpoint": Secret("http://127.0.0.1:1"), "region": Secret("x")}
    )
    away = Files(tmp_path, settings)
    await write(database, task(1, 2 * DAY, claim="old"), task(2, 3 * DAY))
    found = await sweep(database, away, Uploads(database, away), replace(QUIET, files=config.Files(retention=DAY)))
    assert found == Swept(claims=1)
    assert [vars(record)["step"] for record in caplog.records if "swept" in record.message] == ["outputs"]
    away.close()


async def test_requests_go_on_meanwhile(database: Database, swept: Sweep) -> None:
    """Writers of rows come between the steps: none of them waits for the whole."""
    await write(database, *(task(number, age=3 * DAY) for number in range(2000)))
    sweeping = asyncio.create_task(swept(replace(QUIET, history=History(retention=DAY))))
    written = 0
    while not sweeping.done():
        await write(database, task(10_000 + written))
        written += 1
    assert await sweeping == Swept(tasks=2000)
    assert written > 3
    assert len(await read(database, tables.task.c.id)) == written


async def test_one_of_many_processes_has_its_turn(database: Database) -> None:
    turns = await asyncio.gather(*(turn(database) for _ in range(8)))
    assert sum(turns) == 1
    assert not await turn(database)

    def later(connection: sa.Connection) -> None:
        past = tables.rate.c.free - int(SECONDS * 1_000_000)
        connection.execute(sa.update(tables.rate).where(tables.rate.c.id == "sweep").values(free=past))

    await database.write(later)
    assert await turn(database)
