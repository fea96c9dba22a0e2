"""What is written down of a call: its row in the history, its cost, and how they get into the tables.

All here is one transaction's part, and says what it did; `ledger` gathers the transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.state import budgets, deliveries, jobs, queues, tables, terms
from proxy.state.budgets import Decision, Reservation
from proxy.state.database import json_text
from proxy.state.deliveries import Delivery
from proxy.state.jobs import Claimed, JobRow, SubmitRow, Verdict


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
    lost: bool = False
    cached: str | None = None


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
    durable: bool = False  # it has rows in `job` or `submit`
    resumable: bool = False  # the provider may still be asked for what it makes
    told: tuple[Delivery, ...] = ()  # to whom


class Opening(msgspec.Struct, frozen=True):
    """A task that is under way from now on, if no other has its claim."""

    task: Task
    job: JobRow | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction writes."""

    begun: Sequence[Task] = ()
    endings: Sequence[Ending] = ()
    unclaimed: Sequence[str] = ()  # tasks that were not begun after all
    unreserved: Sequence[str] = ()
    lost: Sequence[str] = ()  # tasks whose clients left
    openings: Sequence[Opening] = ()
    reservations: Sequence[Reservation] = ()
    submits: Sequence[Claimed] = ()
    saved: Sequence[SubmitRow] = ()
    queued: Sequence[JobRow] = ()  # of calls that wait for a place, and are not durable
    placed: Sequence[str] = ()  # tasks that wait no longer for a place


class Answers(msgspec.Struct, frozen=True):
    """What a transaction says to those who asked, in their order."""

    openings: list[bool]
    reservations: list[Decision]
    submits: list[Verdict]


class Repeated(Exception):
    """An entry of several has been written before; one alone is left as it is."""


def write(batch: Batch, connection: Connection) -> Answers:
    """Write it. Every process locks in this order: tasks, entries, reservations, budgets; so none waits in a circle."""
    if batch.begun:
        _many(connection, _begin(connection.dialect.name), [_row(task) for task in batch.begun])
    if batch.unclaimed:
        table = tables.task
        connection.execute(sa.delete(table).where(table.c.id.in_(batch.unclaimed), table.c.ended.is_(None)))
        jobs.closed(connection, batch.unclaimed)
    claimed = {}
    for each in sorted(batch.openings, key=lambda each: each.task.claim or ""):
        claimed[each.task.id] = _many(connection, _begin(connection.dialect.name), [_row(each.task)]) == 1
    jobs.opened(connection, [each.job for each in batch.openings if each.job and claimed[each.task.id]])
    verdicts = [jobs.claim(connection, each) for each in batch.submits]
    jobs.save_in_passing(connection, batch.saved)
    queues.queued(connection, [msgspec.structs.asdict(row) for row in batch.queued])
    jobs.begun(connection, batch.placed)
    queues.served(connection, batch.placed)
    spent = write_endings(connection, batch.endings)
    if batch.lost:
        connection.execute(sa.update(tables.task).where(tables.task.c.id.in_(batch.lost)).values(lost=True))
    free = [*batch.unreserved, *(each.task.id for each in batch.endings if each.task.estimate is not None)]
    freed = budgets.given_back(connection, free) if free else {}
    decisions = budgets.settled(connection, budgets.merged(spent, freed), batch.reservations)
    return Answers([claimed[each.task.id] for each in batch.openings], decisions, verdicts)


def write_endings(connection: Connection, endings: Sequence[Ending]) -> dict[budgets.Name, budgets.Total]:
    """The rows and their entries; what they add to which budgets. Raises `Repeated`.

    An entry and its row are written in one transaction, so one that is there has its row, and has been counted.
    """
    if not endings:
        return {}
    dialect = connection.dialect.name
    entries = [each.entry for each in endings if each.entry is not None]
    if entries and (new := _many(connection, _enter(dialect), map(msgspec.structs.astuple, entries))) < len(entries):
        if new or len(endings) > 1:
            raise Repeated
        return {}
    _many(connection, _end(dialect), [_row(each.task) for each in endings])
    durable = [each.task.id for each in endings if each.durable]
    jobs.closed(connection, durable, kept=[each.task.id for each in endings if each.resumable])
    deliveries.insert(connection, [delivery for each in endings for delivery in each.told])
    return budgets.spending((each.key, each.day, (each.cost or 0) + each.wasted) for each in entries)


def _many(connection: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """How many rows were written. By the driver itself: for rows so small SQLAlchemy would take most of the time."""
    return connection.exec_driver_sql(statement, list(rows)).rowcount


def _row(task: Task) -> tuple[Any, ...]:
    found = terms.of((task.asked, task.model), task.metadata)
    return (*[json_text(value) if type(value) is dict else value for value in msgspec.structs.astuple(task)], found)


_COLUMNS = (*Task.__struct_fields__, "terms")


def _insert(table: str, columns: Sequence[str], dialect: str, otherwise: str) -> str:
    marks = ",".join(["?" if dialect == "sqlite" else "%s"] * len(columns))
    return f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks}) ON CONFLICT {otherwise}"  # noqa: S608  # our own names


@cache
def _begin(dialect: str) -> str:
    return _insert("task", _COLUMNS, dialect, "DO NOTHING")


@cache
def _end(dialect: str) -> str:
    changes = ",".join(f"{name}=excluded.{name}" for name in _COLUMNS if name != "id")
    return _insert("task", _COLUMNS, dialect, f"(id) DO UPDATE SET {changes}")


@cache
def _enter(dialect: str) -> str:
    return _insert("entry", Entry.__struct_fields__, dialect, "(id) DO NOTHING")
