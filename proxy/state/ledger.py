"""What is written of each call, in groups: while one transaction commits, the next one gathers. No timer.

`begin` never waits, and may be lost with the process. `claim` and `reserve` decide whether a call may be made. `end` is
what an answer waits for: it returns when the row, its cost and the budget are durable. Where the database is away by
then, they go to a journal on the local disk, and from there into the database once it is back.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.logs import log, warn
from proxy.state import ids, tables
from proxy.state.database import Database, insert, unavailable
from translators.base import Fault

PATIENCE = 5.0  # seconds that a call waits for the database before it is refused, or its end goes to the journal
PAUSES = (0.2, 0.5, 1.0, 2.0)  # between tries while the database is away
MOST = 500  # of one transaction
WAITING = 50_000  # rows kept for a database that is away


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `task`: one making call. Times in milliseconds since 1970, money in millionths of a dollar."""

    id: str
    key: str
    created: int
    op: str
    asked: str
    worker: str
    status: str = "in_progress"
    ended: int | None = None
    model: str | None = None
    request: dict[str, Any] = {}
    metadata: dict[str, str] | None = None
    result: dict[str, Any] | None = None
    bytes: int = 0
    timings: dict[str, float] | None = None
    error: dict[str, Any] | None = None
    cost: int | None = None
    wasted: int = 0
    estimate: int | None = None
    fingerprint: str | None = None
    claim: str | None = None
    request_id: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `entry`: what one task cost. `cost` is `None` where it is not known."""

    id: str
    key: str
    at: int
    day: str
    op: str
    provider: str
    model: str
    status: str
    pictures: int
    cost: int | None
    wasted: int = 0


class Ending(msgspec.Struct, frozen=True):
    """How a task ended. Without an entry where nothing was tried."""

    task: Task
    entry: Entry | None = None


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What a task may cost, to be kept free of the budgets of its key: millionths of a dollar, `None` is no bound."""

    task: str
    key: str
    at: int
    amount: int
    worker: str
    per_day: int | None = None
    per_month: int | None = None


Op = Callable[[Connection], Any]


class Ledger:
    """The writer of one process. `start` before the first call, `stop` after the last."""

    def __init__(self, database: Database, data: Path) -> None:
        self.database = database
        self._journal = data / "journal"
        self._begun: list[dict[str, Any]] = []
        self._endings: list[tuple[Ending, asyncio.Future[None]]] = []
        self._asked: list[tuple[Op, asyncio.Future[Any]]] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._loop: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many rows are not written yet."""
        return len(self._begun) + len(self._endings) + len(self._asked)

    def start(self) -> None:
        """Begin to write."""
        self._loop = asyncio.create_task(self._write())

    async def stop(self) -> None:
        """Write what waits; what cannot be written goes to the journal."""
        self._stopping = True
        self._wake.set()
        if self._loop is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._loop, PATIENCE)
        for ending, done in self._endings:
            if not done.done():
                await self._keep(ending)
                done.set_result(None)

    def check(self) -> None:
        """Raises `Fault("overloaded")` where the database is away: nothing is made then that must be written down."""
        if not self.database.up:
            raise unavailable()

    def begin(self, task: Task) -> None:
        """Write in passing that `task` is under way."""
        if len(self._begun) < WAITING:
            self._begun.append(_row(task))
            self._wake.set()

    async def claim(self, task: Task) -> bool:
        """Write that `task` is under way; False where another task has its claim. Raises as `check` does."""
        return bool(await self._ask(partial(_claim, _row(task))))

    async def reserve(self, wanted: Reservation) -> str | None:
        """Keep the amount free; else the budget that has not enough left: "day" or "month". Raises as `check` does."""
        found: str | None = await self._ask(partial(_reserve, wanted))
        return found

    async def end(self, ending: Ending) -> None:
        """Write how a task ended; returns when nothing can lose it any more."""
        done = self._done()
        self._endings.append((ending, done))
        self._wake.set()
        try:
            await asyncio.wait_for(asyncio.shield(done), PATIENCE)
        except TimeoutError:
            await self._keep(ending)

    async def release(self, task: str) -> None:
        """Give a reservation back whose task is not made after all."""
        with suppress(Fault):  # else the look for what no running task has gives it back
            await self._ask(partial(give_back, tasks=[task]))

    async def _ask(self, op: Op) -> Any:
        self.check()
        done = self._done()
        self._asked.append((op, done))
        self._wake.set()
        try:
            return await asyncio.wait_for(done, PATIENCE)
        except TimeoutError as error:
            raise unavailable() from error

    def _done(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    async def _write(self) -> None:
        failed = 0
        while True:
            if not self.waiting:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            begun, self._begun = self._begun[:MOST], self._begun[MOST:]
            endings, self._endings = self._endings[:MOST], self._endings[MOST:]
            asked, self._asked = self._asked[:MOST], self._asked[MOST:]
            try:
                await self._commit(begun, endings, asked, again=bool(failed))
            except Fault as fault:
                for _, done in asked:
                    if not done.done():
                        done.set_exception(fault)
                # A call that waits no longer has put its ending into the journal.
                self._endings = [each for each in endings if not each[1].cancelled()] + self._endings
                await asyncio.sleep(PAUSES[min(failed, len(PAUSES) - 1)])
                failed += 1
            else:
                failed = 0

    async def _commit(
        self,
        begun: list[dict[str, Any]],
        endings: Sequence[tuple[Ending, asyncio.Future[None]]],
        asked: Sequence[tuple[Op, asyncio.Future[Any]]],
        *,
        again: bool,
    ) -> None:
        alive = [(op, done) for op, done in asked if not done.done()]

        def work(connection: Connection) -> list[Any]:
            if begun:
                connection.execute(insert(tables.task, connection).on_conflict_do_nothing(), begun)
            if endings:
                write_endings(connection, [ending for ending, _ in endings], again=again)
            return [op(connection) for op, _ in alive]

        try:
            answers = await self.database.write(work)
        except Fault:
            raise
        except Exception as error:
            if len(begun) + len(endings) + len(alive) > 1:  # one of them cannot be written: find out which
                await self._one_by_one(begun, endings, alive)
                return
            log.error("a row cannot be written", exc_info=error)
            for done in [done for _, done in (*endings, *alive)]:
                if not done.done():
                    done.set_exception(error)
            return
        for (_, done), answer in zip(alive, answers, strict=True):
            if not done.done():
                done.set_result(answer)
        for _, done in endings:
            if not done.done():
                done.set_result(None)

    async def _one_by_one(
        self,
        begun: list[dict[str, Any]],
        endings: Sequence[tuple[Ending, asyncio.Future[None]]],
        asked: Sequence[tuple[Op, asyncio.Future[Any]]],
    ) -> None:
        for row in begun:
            await self._commit([row], (), (), again=True)
        for ending in endings:
            await self._commit([], (ending,), (), again=True)
        for each in asked:
            await self._commit([], (), (each,), again=True)

    async def _keep(self, ending: Ending) -> None:
        """Put it into the journal."""
        warn("the database is away: the end of a task goes to the journal", task=ending.task.id)
        try:
            await asyncio.to_thread(_journalled, self._journal, ending)
        except OSError as error:  # the picture is paid for: it is answered all the same
            log.error("the end of a task is in memory alone", exc_info=error, extra={"task": ending.task.id})

    async def replay(self) -> int:
        """Write what the journal holds; how many endings that were. Raises as `Database.write` does."""
        kept = await asyncio.to_thread(_journal, self._journal)
        if kept:
            await self.database.write(partial(write_endings, endings=[ending for _, ending in kept], again=True))
            for path, _ in kept:
                path.unlink(missing_ok=True)
        return len(kept)


def _row(task: Task) -> dict[str, Any]:
    return dict(zip(_COLUMNS, msgspec.structs.astuple(task), strict=True))


_COLUMNS = Task.__struct_fields__


def write_endings(connection: Connection, endings: Sequence[Ending], *, again: bool) -> None:
    """The rows, their costs, and the budgets. `again`: some may have been written before; they count once."""
    rows = insert(tables.task, connection)
    changed = {name: rows.excluded[name] for name in _COLUMNS if name != "id"}
    connection.execute(
        rows.on_conflict_do_update(index_elements=["id"], set_=changed), [_row(each.task) for each in endings]
    )
    entries = [each.entry for each in endings if each.entry is not None]
    if again:
        adding = insert(tables.entry, connection).on_conflict_do_nothing().returning(tables.entry.c.id)
        entries = [each for each in entries if connection.execute(adding, _plain(each)).first() is not None]
    elif entries:
        connection.execute(sa.insert(tables.entry), [_plain(each) for each in entries])
    spend(connection, entries)
    reserved = [each.task.id for each in endings if each.task.estimate is not None]
    if reserved:
        give_back(connection, reserved)


def _plain(entry: Entry) -> dict[str, Any]:
    return dict(zip(Entry.__struct_fields__, msgspec.structs.astuple(entry), strict=True))


def spend(connection: Connection, entries: Iterable[Entry]) -> None:
    """Count them in the budgets of their keys, where there are any."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for each in entries:
        if paid := (each.cost or 0) + each.wasted:
            for period in (each.day, each.day[:7]):
                sums[each.key, period] += paid
    if sums:
        connection.execute(_SPEND, [{"k": key, "p": period, "paid": paid} for (key, period), paid in sums.items()])


_SPEND = (
    sa.update(tables.budget)
    .where(tables.budget.c.key == sa.bindparam("k"), tables.budget.c.period == sa.bindparam("p"))
    .values(spent=tables.budget.c.spent + sa.bindparam("paid"))
)


def give_back(connection: Connection, tasks: Sequence[str]) -> None:
    """Take the reservations of these tasks out of the budgets."""
    table = tables.reservation
    gone = connection.execute(
        sa.delete(table).where(table.c.task.in_(tasks)).returning(table.c.key, table.c.day, table.c.amount)
    ).all()
    freed = [
        {"k": row.key, "p": period, "amount": row.amount} for row in gone for period in (row.day, row.day[:7])
    ]  # fmt: skip
    if freed:
        connection.execute(_FREE, freed)


_FREE = (
    sa.update(tables.budget)
    .where(tables.budget.c.key == sa.bindparam("k"), tables.budget.c.period == sa.bindparam("p"))
    .values(reserved=tables.budget.c.reserved - sa.bindparam("amount"))
)


def _claim(row: dict[str, Any], connection: Connection) -> bool:
    made = connection.execute(
        insert(tables.task, connection).on_conflict_do_nothing().returning(tables.task.c.id), row
    ).first()
    return made is not None


def _reserve(wanted: Reservation, connection: Connection) -> str | None:
    """In one transaction: the row of a budget is locked by its update, so no two tasks get the same money."""
    day = ids.day(wanted.at)
    taken: list[str] = []
    for name, period, most in (("day", day, wanted.per_day), ("month", day[:7], wanted.per_month)):
        # A budget without a bound is counted too, where there is one for the other period: it may get one later.
        if not _take(connection, wanted, period, most):
            for each in taken:
                connection.execute(_FREE, {"k": wanted.key, "p": each, "amount": wanted.amount})
            return name
        taken.append(period)
    connection.execute(
        sa.insert(tables.reservation),
        {"task": wanted.task, "key": wanted.key, "day": day, "amount": wanted.amount, "worker": wanted.worker},
    )
    return None


def _take(connection: Connection, wanted: Reservation, period: str, most: int | None) -> bool:
    table = tables.budget
    taking = (
        sa.update(table)
        .where(table.c.key == wanted.key, table.c.period == period)
        .values(reserved=table.c.reserved + wanted.amount)
    )
    if most is not None:
        taking = taking.where(table.c.spent + table.c.reserved + wanted.amount <= most)
    if connection.execute(taking).rowcount:
        return True
    known = sa.select(table.c.key).where(table.c.key == wanted.key, table.c.period == period)
    if connection.execute(known).first() is not None:
        return False
    entry = tables.entry
    before = sa.select(
        sa.literal(wanted.key), sa.literal(period),
        sa.func.coalesce(sa.func.sum(sa.func.coalesce(entry.c.cost, 0) + entry.c.wasted), 0), sa.literal(0),
    ).where(entry.c.key == wanted.key, entry.c.day.startswith(period, autoescape=True))  # fmt: skip
    opening = insert(table, connection).from_select(["key", "period", "spent", "reserved"], before)
    connection.execute(opening.on_conflict_do_nothing())
    return bool(connection.execute(taking).rowcount)


def _journalled(folder: Path, ending: Ending) -> None:
    """One file each, complete under its name or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{ending.task.id}.json"
    draft = path.with_suffix(".part")
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(ending))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _journal(folder: Path) -> list[tuple[Path, Ending]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(FileNotFoundError):  # another process writes them too
            found.append((path, msgspec.json.decode(path.read_bytes(), type=Ending)))
    return found
