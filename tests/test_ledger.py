"""What is acknowledged is there, once, whatever dies; and no budget is overdrawn, whoever draws on it."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.state import database as database_module
from proxy.state import ids, journal, tables
from proxy.state.budgets import Total
from proxy.state.database import Database
from proxy.state.jobs import SubmitRow
from proxy.state.journal import Kept
from proxy.state.ledger import Ending, Entry, Ledger, Reservation, Task
from tests.sockets import Speak, speaking, until
from tests.stores import PostgresServer
from translators.base import Fault

AT = 1_790_000_000_000
DAY, MONTH = ids.day(AT), ids.day(AT)[:7]
COST = 40_000


def task(key: str = "key_a", **members: Any) -> Task:
    return Task(
        id=ids.new("task_"), key=key, created=AT, op="generate", asked="dall-e-3", worker="w",
        request={"prompt": "A lighthouse"}, **members,
    )  # fmt: skip


def ended(task: Task, cost: int | None = COST, wasted: int = 0, **members: Any) -> Ending:
    done = msgspec.structs.replace(
        task, status="completed", ended=AT + 9000, model="demo/lighthouse", cost=cost, wasted=wasted,
        result={"created": AT // 1000, "outputs": [{"id": "x.png"}]}, timings={"submit": 0.5}, **members,
    )  # fmt: skip
    entry = Entry(
        id=task.id, key=task.key, at=AT, day=DAY, op=task.op, provider="demo", model="demo/lighthouse",
        status="completed", pictures=1, cost=cost, wasted=wasted,
    )  # fmt: skip
    return Ending(done, entry)


def reservation(task: Task, per_day: int | None = None, per_month: int | None = None) -> Reservation:
    return Reservation(
        task=task.id, key=task.key, at=AT, amount=COST, worker="w", per_day=per_day, per_month=per_month
    )  # fmt: skip


@asynccontextmanager
async def writing(database: Database, data: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger(database, data)
    ledger.start()
    try:
        yield ledger
    finally:
        await ledger.stop()


@pytest.fixture
async def ledger(database: Database, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with writing(database, tmp_path) as made:
        yield made


def rows(table: sa.Table) -> Callable[[Connection], list[Any]]:
    return lambda connection: list(connection.execute(sa.select(table)))


async def spent(database: Database, key: str = "key_a", period: str = DAY) -> Total | None:
    row = sa.select(tables.budget).where(tables.budget.c.key == key, tables.budget.c.period == period)
    found = await database.read(lambda connection: connection.execute(row).first())
    return None if found is None else Total(found.spent, found.reserved)


async def entries(database: Database) -> set[str]:
    return {row.id for row in await database.read(rows(tables.entry))}


async def test_a_call_is_written_when_it_begins_and_when_it_ends(ledger: Ledger) -> None:
    made = task(metadata={"project": "a"})
    ledger.begin(made)
    await ledger.open(task(claim="next"))  # written together with it, or after it
    read = rows(tables.task)
    first = (await ledger.database.read(read))[0]
    assert (first.id, first.status, first.ended, first.result) == (made.id, "in_progress", None, None)
    await ledger.end(ended(made))
    row = next(row for row in await ledger.database.read(read) if row.id == made.id)
    assert (row.status, row.cost, row.lost) == ("completed", COST, False)
    assert row.request == {"prompt": "A lighthouse"}
    assert row.metadata == {"project": "a"}
    assert row.timings == {"submit": 0.5}
    assert row.error is None
    (entry,) = await ledger.database.read(rows(tables.entry))
    assert (entry.id, entry.cost, entry.day) == (made.id, COST, DAY)


async def test_what_has_ended_does_not_begin_again(ledger: Ledger) -> None:
    made = task()
    await ledger.end(ended(made))
    ledger.begin(made)
    await ledger.end(ended(task()))
    assert {row.status for row in await ledger.database.read(rows(tables.task))} == {"completed"}


async def test_a_failed_call_has_no_entry(ledger: Ledger) -> None:
    error = {"kind": "policy", "code": "moderation_blocked", "message": "No.", "param": None}
    await ledger.end(Ending(task(status="failed", ended=AT, error=error)))
    (row,) = await ledger.database.read(rows(tables.task))
    assert row.error == error
    assert await entries(ledger.database) == set()


async def test_calls_that_end_together_are_written_together(ledger: Ledger) -> None:
    commits: list[Connection] = []
    sa.event.listen(ledger.database._writing, "commit", commits.append)
    await asyncio.gather(*(ledger.end(ended(task())) for _ in range(200)))
    assert len(await entries(ledger.database)) == 200
    assert len(commits) <= 2


async def test_an_end_that_comes_twice_counts_once(ledger: Ledger) -> None:
    first = task(estimate=COST)
    assert await ledger.reserve(reservation(first)) is None
    same = ended(first)
    await asyncio.gather(ledger.end(same), ledger.end(same), ledger.end(ended(task())))
    await ledger.end(same)
    assert len(await entries(ledger.database)) == 2
    assert await spent(ledger.database) == Total(spent=2 * COST)


async def test_a_row_that_cannot_be_written_fails_alone(ledger: Ledger) -> None:
    bad = ended(task(), cost=2**70)
    good = [ended(task()) for _ in range(50)]
    ends = asyncio.gather(*(ledger.end(each) for each in [*good[:20], bad, *good[20:]]), return_exceptions=True)
    ledger.begin(begun := task())
    asked = await ledger.open(task(claim="a")), await ledger.reserve(reservation(task()))
    found = await ends
    assert [index for index, each in enumerate(found) if each is not None] == [20]
    assert asked == (True, None)
    assert await entries(ledger.database) == {each.task.id for each in good}
    assert begun.id in {row.id for row in await ledger.database.read(rows(tables.task))}
    assert ledger.database.up


async def test_a_text_with_a_nul_is_written(ledger: Ledger) -> None:
    made = msgspec.structs.replace(task(), request={"prompt": "a\0b \\u0000", "texts": ["\0"]}, metadata={"a": "\0"})
    await ledger.end(ended(made))
    (row,) = await ledger.database.read(rows(tables.task))
    assert row.request == {"prompt": "ab \\u0000", "texts": [""]}


async def test_one_of_many_gets_a_claim(database: Database, tmp_path: Path) -> None:
    async with writing(database, tmp_path) as one, writing(database, tmp_path) as other:
        asked = await asyncio.gather(*(each.open(task(claim="c")) for each in [one, other] * 10))
        assert sum(asked) == 1
        orders = [f"c{n}" for n in range(20)]
        both = [*((one, claim) for claim in orders), *((other, claim) for claim in reversed(orders))]
        assert sum(await asyncio.gather(*(each.open(task(claim=claim)) for each, claim in both))) == 20


async def test_a_budget_for_ten_makes_ten(ledger: Ledger) -> None:
    asked = await asyncio.gather(*(ledger.reserve(reservation(task(), per_day=10 * COST)) for _ in range(50)))
    assert sorted(asked, key=str) == [None] * 10 + ["day"] * 40
    assert await spent(ledger.database) == Total(reserved=10 * COST)
    assert await spent(ledger.database, period=MONTH) == Total(reserved=10 * COST)


async def test_a_month_has_its_own_budget(ledger: Ledger) -> None:
    asked = await asyncio.gather(
        *(ledger.reserve(reservation(task(), per_day=10 * COST, per_month=3 * COST)) for _ in range(5))
    )
    assert sorted(asked, key=str) == [None] * 3 + ["month"] * 2
    assert await spent(ledger.database) == Total(reserved=3 * COST)


async def test_keys_have_their_budgets_for_themselves(ledger: Ledger) -> None:
    asked = [ledger.reserve(reservation(task(f"key_{n % 5}"), per_day=2 * COST)) for n in range(25)]
    assert (await asyncio.gather(*asked)).count(None) == 10


async def test_a_new_budget_knows_what_was_spent(ledger: Ledger) -> None:
    await ledger.end(ended(task(), wasted=1))
    await ledger.end(ended(task(), cost=None, wasted=COST - 1))
    await ledger.end(ended(task("key_b")))
    assert await spent(ledger.database) is None
    asked = [await ledger.reserve(reservation(task(), per_day=3 * COST)) for _ in range(2)]
    assert asked == [None, "day"]
    assert await spent(ledger.database) == Total(2 * COST, COST)
    assert await spent(ledger.database, period=MONTH) == Total(2 * COST, COST)


async def test_the_end_settles_what_was_reserved(ledger: Ledger) -> None:
    dear, cheap, failed = (task(estimate=COST) for _ in range(3))
    for each in (dear, cheap, failed):
        assert await ledger.reserve(reservation(each)) is None
    error = {"kind": "upstream", "code": None, "message": "", "param": None}
    await asyncio.gather(
        ledger.end(ended(dear, cost=3 * COST, wasted=7)), ledger.end(ended(cheap, cost=5)),
        ledger.end(Ending(msgspec.structs.replace(failed, status="failed", ended=AT, error=error))),
    )  # fmt: skip
    assert await spent(ledger.database) == Total(3 * COST + 7 + 5)
    assert await spent(ledger.database, period=MONTH) == Total(3 * COST + 7 + 5)
    assert await ledger.database.read(rows(tables.reservation)) == []


async def test_who_asks_and_leaves_holds_nothing(ledger: Ledger) -> None:
    for turns in range(6):  # gone before, while and after it is written
        asked = [asyncio.create_task(ledger.reserve(reservation(task()))) for _ in range(3)]
        asked += [asyncio.create_task(ledger.open(task(claim=f"c{turns}"))) for _ in range(2)]  # type: ignore[arg-type]
        for _ in range(turns):
            await asyncio.sleep(0)
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    await until(lambda: not ledger.waiting)
    await ledger.end(ended(task()))  # all that came before has been written
    assert await ledger.database.read(rows(tables.reservation)) == []
    assert (await spent(ledger.database) or Total()).reserved == 0
    assert [row.claim for row in await ledger.database.read(rows(tables.task))] == [None]


async def test_who_leaves_as_the_answer_comes_holds_nothing(ledger: Ledger) -> None:
    """Two are written together: what one does with its answer is done before the other has its own."""
    await ledger.reserve(reservation(task("key_b")))
    late: list[asyncio.Task[Any]] = []

    async def quick() -> None:
        await ledger.reserve(reservation(task("key_b")))
        for each in late:
            each.cancel()

    async def claiming() -> None:
        await ledger.open(task(claim="a"))
        late[1].cancel()

    first, other = asyncio.create_task(quick()), asyncio.create_task(claiming())
    late.append(asyncio.create_task(ledger.reserve(reservation(task("key_b")))))
    late.append(asyncio.create_task(ledger.open(task(claim="b"))))
    await asyncio.gather(first, other, *late, return_exceptions=True)
    assert [each.cancelled() for each in late] == [True, True]
    await ledger.end(ended(task()))  # all that came before has been written
    assert await spent(ledger.database, "key_b") == Total(reserved=2 * COST)
    assert sorted(row.claim or "" for row in await ledger.database.read(rows(tables.task))) == ["", "a"]


async def test_an_end_is_written_though_nobody_waits(ledger: Ledger) -> None:
    made = ended(task())
    waiting = asyncio.create_task(ledger.end(made))
    await asyncio.sleep(0)
    waiting.cancel()
    await ledger.end(ended(task()))
    assert made.task.id in await entries(ledger.database)


async def test_what_waits_is_written_at_the_end(database: Database, tmp_path: Path) -> None:
    async with writing(database, tmp_path) as ledger:
        begun = [task() for _ in range(1200)]
        for each in begun:
            ledger.begin(each)
    assert {row.id for row in await database.read(rows(tables.task))} == {each.id for each in begun}


async def test_an_end_that_comes_after_all_is_in_the_journal(database: Database, tmp_path: Path) -> None:
    async with writing(database, tmp_path) as ledger:
        pass
    made = ended(task())
    await ledger.end(made)
    with pytest.raises(Fault, match="cannot be reached"):
        await ledger.reserve(reservation(task()))
    assert await entries(database) == set()
    async with writing(database, tmp_path) as ledger:
        assert await ledger.replay() == 1
    assert await entries(database) == {made.task.id}


async def test_what_is_taken_back_or_lost_is_so(ledger: Ledger) -> None:
    gone, left = task(claim="a"), task(claim="b")
    assert await ledger.open(gone)
    assert await ledger.open(left)
    ledger.withdraw(gone.id)
    assert await ledger.open(again := task(claim="a"))
    ledger.lost(left.id)
    await ledger.end(ended(left))
    found = {row.id: row.lost for row in await ledger.database.read(rows(tables.task))}
    assert found == {left.id: True, again.id: False}


async def test_nothing_is_lost_while_the_server_is_away(postgres_server: PostgresServer, tmp_path: Path) -> None:
    database = Database(postgres_server.url)
    database.now(tables.metadata.create_all)
    acknowledged: list[str] = []
    refused: list[Fault] = []
    stopped = asyncio.Event()

    async def client(ledger: Ledger) -> None:
        while not stopped.is_set():
            made = task(estimate=COST)
            try:
                await ledger.reserve(reservation(made))
            except Fault as fault:
                refused.append(fault)
            ledger.begin(made)
            await ledger.end(ended(made))
            acknowledged.append(made.id)

    async with writing(database, tmp_path) as ledger:
        clients = [asyncio.create_task(client(ledger)) for _ in range(20)]
        await until(lambda: len(acknowledged) > 200)
        await asyncio.to_thread(postgres_server.kill)
        await until(lambda: refused)
        before = len(acknowledged)
        await until(lambda: len(acknowledged) > before + 200)  # by way of the journal
        with pytest.raises(Fault, match="cannot be reached"):
            ledger.check()
        with pytest.raises(Fault, match="cannot be reached"):
            await ledger.open(task(claim="c"))
        stopped.set()
        await asyncio.gather(*clients)
        await asyncio.to_thread(postgres_server.start)
        await until_up(database)
        ledger.check()
        assert await ledger.replay() > 200
        assert await entries(database) == set(acknowledged)
        await ledger.end(ended(task()))
        assert await spent(database) == Total((len(acknowledged) + 1) * COST)
        assert await database.read(rows(tables.reservation)) == []
        assert not [*(tmp_path / "journal").iterdir()]
        assert await ledger.replay() == 0
    database.close()


async def until_up(database: Database) -> None:
    async with asyncio.timeout(30):
        while not database.up:
            await asyncio.gather(database.read(rows(tables.worker)), return_exceptions=True)
            await asyncio.sleep(0.05)


async def test_an_end_does_not_wait_for_a_server_that_hangs(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres_server.url)
    database.now(tables.metadata.create_all)
    monkeypatch.setattr(database_module, "PATIENCE", 0.3)
    async with writing(database, tmp_path) as ledger:
        await ledger.end(ended(task()))
        postgres_server.pause()
        waits = [ended(task()) for _ in range(3)]
        async with asyncio.timeout(30):
            with pytest.raises(Fault):
                await ledger.reserve(reservation(task()))
            await asyncio.gather(*map(ledger.end, waits))
        assert sum(map(len, journal.some(tmp_path / "journal", 10).values())) == 3
        postgres_server.resume()
        await until_up(database)
        await ledger.replay()
        assert len(await entries(database)) == 4
        await ledger.end(ended(task()))
        assert await database.read(rows(tables.reservation)) == []
    database.close()


async def test_what_a_provider_calls_a_task_is_not_lost_with_the_process(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    database = Database(postgres_server.url)
    database.now(tables.metadata.create_all)
    running, over = task(), task()
    async with writing(database, tmp_path) as ledger:
        assert await ledger.open(running)
        await ledger.end(ended(over))
        postgres_server.stop()
        for each in (running, over):
            ledger.save(
                SubmitRow(
                    task=each.id, number=0, target="a/b", credential="a#1", sent=AT, saved={}, call={"path": "/1"}
                )
            )
        await until(lambda: bool([*(tmp_path / "journal").glob("*.json")]))
    postgres_server.start()
    await until_up(database)
    async with writing(database, tmp_path) as ledger:  # another process, as it were
        await ledger.replay()
        assert [row.task for row in await database.read(rows(tables.submit))] == [running.id]
        assert ledger.waiting == 0
    database.close()


async def test_a_commit_whose_answer_is_lost(postgres: str, tmp_path: Path) -> None:
    plain = Database(postgres)
    plain.now(tables.metadata.create_all)
    port = sa.engine.make_url(postgres).port or 5432
    losing = asyncio.Event()
    async with speaking(wire(port, losing)) as address:
        database = Database(postgres.replace(f":{port}/", f":{address.rpartition(':')[2]}/"))
        async with writing(database, tmp_path) as ledger:
            made = task(estimate=COST)
            assert await ledger.reserve(reservation(made)) is None
            losing.set()
            with pytest.raises(Fault):
                await ledger.reserve(reservation(task()))
            assert len(await plain.read(rows(tables.reservation))) == 2  # it was made, though nobody knows
            await until_up(database)
            with pytest.raises(Fault):
                await ledger.open(task(claim="c"))
            await until_up(database)
            await ledger.end(ended(made))
            assert await entries(plain) == {made.id}  # it was written, and yet it is in the journal
            assert [*(tmp_path / "journal").glob("*.json")]
            assert ledger.waiting >= 1
            losing.clear()
            await until_up(database)
            assert await ledger.replay() == 1
            await until(lambda: not ledger.waiting)
            await ledger.end(ended(task(claim="c")))
        await asyncio.to_thread(database.close)
    assert await spent(plain) == Total(2 * COST)
    assert await plain.read(rows(tables.reservation)) == []
    assert len(await plain.read(rows(tables.task))) == 2
    plain.close()


def wire(port: int, losing: asyncio.Event) -> Speak:
    """A wire to PostgreSQL. While it is losing, it breaks at each commit of what was written, before its answer."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        broken = wrote = False

        async def answers() -> None:
            while (data := await theirs.read(65536)) and not broken:
                writer.write(data)
            writer.close()

        answering = asyncio.create_task(answers())
        try:
            while data := await reader.read(65536):
                wrote = losing.is_set() and (wrote or any(word in data for word in (b"INSERT", b"UPDATE ", b"DELETE")))
                broken = broken or (wrote and b"COMMIT" in data)
                ours.write(data)
        finally:
            ours.close()
            await answering

    return speak


async def test_the_journal_is_read_by_who_comes_next(database: Database, tmp_path: Path) -> None:
    made = [ended(task()) for _ in range(5)]
    journal.keep(tmp_path / "journal", Kept(tuple(made[:2])))
    journal.keep(tmp_path / "journal", Kept(tuple(made[1:])))
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0  # it holds prompts
    (tmp_path / "journal" / "0.part").write_bytes(b"[{")  # died while it wrote
    async with writing(database, tmp_path) as one, writing(database, tmp_path) as other:
        await asyncio.gather(one.replay(), other.replay())
    assert await entries(database) == {each.task.id for each in made}
    assert not [*(tmp_path / "journal").glob("*.json")]


async def test_what_cannot_be_replayed_is_laid_aside(ledger: Ledger, tmp_path: Path) -> None:
    good, bad = ended(task()), ended(task(), cost=2**70)
    journal.keep(tmp_path / "journal", Kept((good, bad)))
    (tmp_path / "journal" / "broken.json").write_bytes(b"[{}]")
    await ledger.replay()
    assert await entries(ledger.database) == {good.task.id}
    assert [path.suffix for path in (tmp_path / "journal").iterdir()] == [".refused", ".refused"]
    assert await ledger.replay() == 0


async def test_what_neither_takes_is_kept_in_memory(postgres_server: PostgresServer, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("no folder can be made here")
    database = Database(postgres_server.url)
    database.now(tables.metadata.create_all)
    async with writing(database, tmp_path) as ledger:
        postgres_server.kill()
        made = ended(task())
        await ledger.end(made)
        assert ledger.waiting == 1
        postgres_server.start()
        await until_up(database)
        assert await ledger.replay() == 1
        assert await entries(database) == {made.task.id}
    database.close()


async def test_an_acknowledged_call_survives_its_process(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    database.now(tables.metadata.create_all)
    with child("serve", database_url, tmp_path) as process:
        assert process.stdout
        acknowledged = {process.stdout.readline().strip() for _ in range(300)}
        process.send_signal(signal.SIGKILL)
        acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
        process.wait()
    async with writing(database, tmp_path) as ledger:
        await ledger.replay()
        await ledger.end(ended(task()))
    found = await entries(database)
    assert acknowledged <= found
    done = {row.id for row in await database.read(rows(tables.task)) if row.status == "completed"}
    assert found == done
    assert (await spent(database) or Total()).spent == len(found) * COST
    database.close()


async def test_processes_share_a_budget_exactly(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    database.now(tables.metadata.create_all)
    commands = [child("draw", database_url, tmp_path / str(n)) for n in range(3)]
    with commands[0] as one, commands[1] as two, commands[2] as three:
        got = [process.communicate(timeout=60)[0].split() for process in (one, two, three)]
        assert [process.returncode for process in (one, two, three)] == [0, 0, 0]
    assert sum(map(len, got)) == 10 * KEYS
    for key in range(KEYS):
        assert await spent(database, f"key_{key}") == Total(10 * COST)
        assert await spent(database, f"key_{key}", MONTH) == Total(10 * COST)
    assert len(await entries(database)) == 10 * KEYS
    if database.kind == "postgresql":
        jams = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert database.now(lambda connection: connection.exec_driver_sql(jams).scalar()) == 0
    database.close()


KEYS = 4


@contextmanager
def child(part: str, url: str, data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which does its part on the same database."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, part, url, str(data)], stdout=subprocess.PIPE, text=True
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


async def serve(ledger: Ledger) -> None:
    """Acknowledge calls, each by a line, until it is killed."""

    async def client() -> None:
        while True:
            made = task(estimate=COST)
            ledger.begin(made)
            assert await ledger.reserve(reservation(made)) is None
            await ledger.end(ended(made))
            print(made.id, flush=True)

    await asyncio.gather(*(client() for _ in range(20)))


async def draw(ledger: Ledger) -> None:
    """Spend what can be had of several budgets for ten, all at once, and in no order."""
    keys = [f"key_{n % KEYS}" for n in range(30 * KEYS)]
    random.shuffle(keys)

    async def client(key: str) -> None:
        made = task(key, estimate=COST)
        if await ledger.reserve(reservation(made, per_day=10 * COST)) is None:
            await ledger.end(ended(made))
            print(made.id, flush=True)

    await asyncio.gather(*map(client, keys))


async def part(name: str, url: str, data: str) -> None:
    database = Database(url)
    async with writing(database, Path(data)) as ledger:
        await {"serve": serve, "draw": draw}[name](ledger)
    database.close()


if __name__ == "__main__":
    asyncio.run(part(*sys.argv[1:]))
