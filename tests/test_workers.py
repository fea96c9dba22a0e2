"""A process that is gone leaves nothing behind, and one that is only slow loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.engine import Connection

from proxy.state import budgets, journal, tables
from proxy.state import workers as module
from proxy.state.database import Database, milliseconds
from proxy.state.journal import Kept
from proxy.state.ledger import Ledger
from proxy.state.workers import Workers
from tests.stores import PostgresServer
from tests.test_ledger import COST, ended, reservation, rows, spent, task
from translators.base import Fault


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats follow each other at once, and who is silent for a second is gone."""
    for name, seconds in (("LOOK", 0.02), ("BEAT", 0.05), ("SILENT", 1.0)):
        monkeypatch.setattr(module, name, seconds)


@asynccontextmanager
async def serving(url: str, data: Path, *running: str) -> AsyncIterator[tuple[Workers, Ledger]]:
    """What one process has of this."""
    database = Database(url)
    ledger = Ledger(database, data)
    workers = Workers(database, ledger, lambda: running)
    ledger.start()
    try:
        await workers.start()
        yield workers, ledger
    finally:
        await ledger.stop()
        await workers.stop()
        await asyncio.to_thread(database.close)


@pytest.fixture
def made(database_url: str) -> str:
    database = Database(database_url)
    database.now(tables.metadata.create_all)
    database.close()
    return database_url


async def at_last(database: Database, true: Callable[[Connection], object]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if await database.read(true):
                    return
            except Fault:
                pass
            await asyncio.sleep(0.02)


def ids_of(table: sa.Table) -> Callable[[Connection], set[str]]:
    return lambda connection: {row[0] for row in connection.execute(sa.select(table))}


def only(*workers: Workers) -> Callable[[Connection], bool]:
    return lambda connection: ids_of(tables.worker)(connection) == {each.id for each in workers}


def slot(task_id: str, worker: str) -> Callable[[Connection], object]:
    values = {"task": task_id, "key": "key_a", "worker": worker, "until": milliseconds() + 60_000}
    return lambda connection: connection.execute(sa.insert(tables.slot), values)


async def test_processes_see_each_other(made: str, tmp_path: Path, hurried: None) -> None:
    async with serving(made, tmp_path) as (one, ledger), serving(made, tmp_path) as (two, _):
        assert one.id != two.id
        await until_alive(one, 2)
        await until_alive(two, 2)
        (row, _) = await ledger.database.read(rows(tables.worker))
        assert (row.pid, row.host) == (os.getpid(), module._host())
    async with serving(made, tmp_path) as (three, ledger):
        assert three.alive == 1
        assert await ledger.database.read(only(three))


async def until_alive(workers: Workers, count: int) -> None:
    async with asyncio.timeout(30):
        while workers.alive != count:  # noqa: ASYNC110  # a beat sets no event
            await asyncio.sleep(0.01)


async def test_who_leaves_ends_its_tasks(made: str, tmp_path: Path) -> None:
    async with serving(made, tmp_path) as (other, watching):
        async with serving(made, tmp_path, "task_x") as (workers, ledger):
            await under_way(workers, ledger)
        await interrupted(watching.database)
        assert await watching.database.read(only(other))


async def under_way(workers: Workers, ledger: Ledger) -> str:
    """One task, with all that may be held for one; its id."""
    begun = replace(task(claim="c", estimate=COST), worker=workers.id)
    assert await ledger.open(begun)
    assert await ledger.reserve(replace(reservation(begun), worker=workers.id)) is None
    await ledger.database.write(slot(begun.id, workers.id))
    return begun.id


async def interrupted(database: Database) -> None:
    """That task has failed, and nothing is held for it."""
    (row,) = await database.read(rows(tables.task))
    assert (row.status, row.error["code"], row.error["kind"]) == ("failed", "interrupted", "upstream")
    assert row.ended
    assert (row.claim, row.lost) == ("c", True)  # the same call again must not be made, and paid, in silence
    assert await database.read(rows(tables.reservation)) == []
    assert await database.read(rows(tables.slot)) == []
    assert await spent(database) == budgets.Total()


@contextmanager
def child(url: str, data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has begun a task. Each line that it is told ends it, and is answered."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, url, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        with process:
            assert process.stdout.readline() == "under way\n"
            yield process
    finally:
        process.kill()


async def serve(url: str, data: str) -> None:
    async with serving(url, Path(data), "task_x") as (workers, ledger):
        id = await under_way(workers, ledger)
        print("under way", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await ledger.end(ended(replace(task(estimate=COST), id=id)))
        print("ended", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


async def test_one_of_the_survivors_ends_what_a_killed_process_left(made: str, tmp_path: Path, hurried: None) -> None:
    with child(made, tmp_path / "child") as process:
        async with (
            serving(made, tmp_path) as (one, ledger),
            serving(made, tmp_path) as (two, _),
            serving(made, tmp_path) as (three, _),
        ):
            process.send_signal(signal.SIGKILL)
            process.wait()
            await at_last(ledger.database, only(one, two, three))
            await interrupted(ledger.database)


async def test_who_starts_ends_what_a_killed_process_left(made: str, tmp_path: Path) -> None:
    with child(made, tmp_path / "child") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        async with serving(made, tmp_path) as (workers, ledger):
            assert workers.alive == 1
            await interrupted(ledger.database)


async def test_a_process_on_another_host_is_gone_when_it_is_silent(
    made: str, tmp_path: Path, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with child(made, tmp_path / "child") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        monkeypatch.setattr(module, "_host", lambda: "another")
        async with serving(made, tmp_path) as (workers, ledger):
            assert workers.alive == 2  # for all that can be known
            await at_last(ledger.database, only(workers))
            await interrupted(ledger.database)
            await until_alive(workers, 1)


async def test_a_process_that_was_only_stopped_has_the_last_word(made: str, tmp_path: Path, hurried: None) -> None:
    async with serving(made, tmp_path) as (workers, ledger):
        with child(made, tmp_path / "child") as process:
            assert process.stdin
            assert process.stdout
            process.send_signal(signal.SIGSTOP)
            await at_last(ledger.database, only(workers))
            await interrupted(ledger.database)
            process.send_signal(signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.flush()
            assert await asyncio.to_thread(process.stdout.readline) == "ended\n"
            (row,) = await ledger.database.read(rows(tables.task))
            assert (row.status, row.cost) == ("completed", COST)
            assert await spent(ledger.database) == budgets.Total(COST)
            await until_alive(workers, 2)  # it has joined again


async def test_nobody_is_gone_because_the_server_was(
    postgres_server: PostgresServer, tmp_path: Path, hurried: None, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(postgres_server.url)
    database.now(tables.metadata.create_all)
    database.close()
    url = postgres_server.url
    async with serving(url, tmp_path) as (one, ledger), serving(url, tmp_path / "two") as (two, _):
        await until_alive(one, 2)
        await asyncio.to_thread(postgres_server.kill)
        await ledger.end(kept := ended(task()))
        assert not ledger.database.up
        assert journal.some(tmp_path / "journal", 1)
        await asyncio.sleep(module.SILENT)  # for longer than anybody may be silent
        await asyncio.to_thread(postgres_server.start)
        await at_last(ledger.database, lambda connection: kept.task.id in ids_of(tables.entry)(connection))
        assert await ledger.database.read(only(one, two))
        assert ledger.database.up
    assert "a process is gone" not in caplog.text


async def test_the_next_process_writes_what_the_journal_holds(made: str, tmp_path: Path) -> None:
    kept = ended(task())
    journal.keep(tmp_path / "journal", Kept((kept,)))
    async with serving(made, tmp_path) as (_, ledger):
        assert await ledger.database.read(ids_of(tables.entry)) == {kept.task.id}


async def test_what_is_held_for_no_task_is_let_go(
    made: str, tmp_path: Path, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASTRAY", 0.1)
    async with serving(made, tmp_path, "runs") as (workers, ledger):
        await under_way(workers, ledger)
        await ledger.database.write(slot("runs", workers.id))
        await ledger.database.write(slot("elsewhere", "another"))
        await at_last(ledger.database, lambda connection: ids_of(tables.slot)(connection) == {"runs", "elsewhere"})
        assert await ledger.database.read(rows(tables.reservation)) == []
        assert await spent(ledger.database) == budgets.Total()
        (row,) = await ledger.database.read(rows(tables.task))
        assert row.error["code"] == "interrupted"


async def test_a_process_that_cannot_join_says_so(postgres_server: PostgresServer, tmp_path: Path) -> None:
    postgres_server.stop()
    with pytest.raises(Fault, match="cannot be reached"):
        async with serving(postgres_server.url, tmp_path):
            pass


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
