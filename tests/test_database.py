"""One transaction: whole or not at all, bounded in time, and at home on both databases."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.state import database as module
from proxy.state import tables
from proxy.state.database import Database
from tests.stores import PostgresServer
from translators.base import Fault

T = TypeVar("T")


def put(name: str, free: int = 0) -> Callable[[Connection], None]:
    return lambda connection: void(connection.execute(sa.insert(tables.rate), {"id": name, "free": free}))


def void(_: object) -> None: ...


def names(connection: Connection) -> list[str]:
    return sorted(connection.scalars(sa.select(tables.rate.c.id)))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    made = Database(url)
    made.now(tables.metadata.create_all)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.close)


async def unavailable(work: Awaitable[object]) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(Fault) as caught:
            await work
    assert (caught.value.kind, caught.value.code) == ("overloaded", "database_unavailable")
    assert caught.value.retry_after


async def at_last(ask: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(30):
        while True:
            with suppress(Fault):
                return await ask()
            await asyncio.sleep(0.05)


async def test_what_is_written_is_read(database: Database) -> None:
    await database.write(put("a"))
    assert await database.read(names) == ["a"]
    assert database.now(names) == ["a"]


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def work(connection: Connection) -> None:
        put("a")(connection)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(work)
    assert await database.read(names) == []


async def test_what_is_refused_is_no_outage(database: Database) -> None:
    await database.write(put("a"))
    with pytest.raises(sa.exc.IntegrityError):
        await database.write(put("a"))
    with pytest.raises(sa.exc.DBAPIError):
        await database.read(lambda connection: connection.exec_driver_sql("SELECT nothing FROM nowhere"))
    assert database.up
    assert await database.read(names) == ["a"]


async def test_errors_do_not_tell_what_was_written(database: Database) -> None:
    await database.write(put("a secret lighthouse"))
    with pytest.raises(sa.exc.IntegrityError) as caught:
        await database.write(put("a secret lighthouse", 987_654))
    assert "987654" not in str(caught.value)


async def test_many_write_at_once(database: Database) -> None:
    await asyncio.gather(*(database.write(put(f"{n:03}")) for n in range(100)))
    assert len(await database.read(names)) == 100


async def test_a_caller_who_leaves_disturbs_nobody(database: Database) -> None:
    begun, gone = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        put("a")(connection)
        begun.set()
        assert gone.wait(10)

    writing = asyncio.create_task(database.write(work))
    assert await asyncio.to_thread(begun.wait, 10)
    writing.cancel()
    gone.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await database.write(put("b"))
    assert "b" in await database.read(names)


async def test_a_restarted_server_is_not_noticed(postgres_server: PostgresServer) -> None:
    async with opened(postgres_server.url) as database:
        await asyncio.gather(*(database.read(names) for _ in range(8)))  # fills the pool
        postgres_server.stop()
        postgres_server.start()
        await database.write(put("a"))
        assert await database.read(names) == ["a"]


async def test_a_stopped_server_is_an_outage_until_it_is_back(postgres_server: PostgresServer) -> None:
    async with opened(postgres_server.url) as database:
        await database.write(put("a"))
        postgres_server.kill()
        await unavailable(database.write(put("b")))
        assert not database.up
        await unavailable(database.read(names))
        postgres_server.start()
        assert await at_last(lambda: database.read(names)) == ["a"]
        assert database.up


async def test_a_server_that_hangs_is_an_outage(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    async with opened(postgres_server.url) as database:
        await database.write(put("a"))
        postgres_server.pause()
        await unavailable(database.write(put("b")))
        assert not database.up
        await unavailable(database.read(names))
        postgres_server.resume()
        assert "a" in await at_last(lambda: database.read(names))


async def test_a_server_that_is_slow_is_there(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATEMENT", 0.2)
    async with opened(postgres) as database:
        await unavailable(database.read(lambda connection: void(connection.exec_driver_sql("SELECT pg_sleep(20)"))))
        assert database.up
        assert await database.read(names) == []
        database.now(lambda connection: connection.exec_driver_sql("SELECT pg_sleep(0.4)"))  # a command has time


async def test_a_slow_query_of_sqlite_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    async with opened(f"sqlite:///{tmp_path}/pictor.db") as database:
        await unavailable(database.read(lambda connection: connection.exec_driver_sql(forever).scalar()))
        assert database.up
        assert await database.read(names) == []


async def test_a_sqlite_file_that_another_has_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    async with opened(f"sqlite:///{tmp_path}/pictor.db") as database:
        other = sqlite3.connect(tmp_path / "pictor.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await unavailable(database.write(put("a")))
        other.close()
        await at_last(lambda: database.write(put("b")))
        assert await database.read(names) == ["b"]


async def test_transactions_in_each_others_way_both_succeed(postgres: str) -> None:
    both_hold_one = threading.Barrier(2)
    tries: list[str] = []

    def locking(first: str, second: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            tries.append(first)
            connection.execute(sa.update(tables.rate).where(tables.rate.c.id == first).values(free=1))
            with suppress(threading.BrokenBarrierError):
                both_hold_one.wait(5 if len(tries) <= 2 else 0)
            connection.execute(sa.update(tables.rate).where(tables.rate.c.id == second).values(free=2))

        return work

    async with opened(postgres) as database:
        await database.write(put("a"))
        await database.write(put("b"))
        await asyncio.gather(database.write(locking("a", "b")), database.write(locking("b", "a")))
        assert len(tries) == 3
        assert database.up


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
async def test_how_an_address_of_postgresql_may_begin(postgres: str, scheme: str) -> None:
    async with opened(f"{scheme}:{postgres.partition(':')[2]}") as database:
        assert database.kind == "postgresql"
        assert await database.read(names) == []
