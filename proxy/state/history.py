"""What was made and what it cost: pages of tasks, sums of the ledger. Reads, and the deletion of a task.

Wherever a `key` is taken, `None` is all keys'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from proxy.state import ids, jobs, tables, terms
from proxy.state.database import Database
from proxy.state.records import Task
from translators.base import Fault

Group: TypeAlias = Literal["day", "key", "provider", "model", "operation"]

Statement: TypeAlias = sa.Select[*tuple[Any, ...]]

SLACK = 60_000  # milliseconds that at most lie between the making of a task's id and its `created`
RUNNING = ("queued", "in_progress")


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks; all that is said must hold."""

    status: str | None = None
    op: str | None = None
    model: str | None = None  # as it was asked for, or as it answered
    metadata: Mapping[str, str] = {}
    since: int | None = None  # milliseconds since 1970; created then or later
    until: int | None = None  # created before


ANY = Filters()


class Page(msgspec.Struct, frozen=True):
    """Some tasks in order, and whether there are others behind them."""

    tasks: tuple[Task, ...]
    more: bool


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries of the ledger, from the first to the last day, both included."""

    first: str  # 2026-11-20, UTC
    last: str
    key: str | None = None
    provider: str | None = None
    model: str | None = None  # with its provider, or without
    operation: str | None = None


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over entries; what they are not grouped by is `None`. Money in millionths of a dollar."""

    day: str | None = None
    key: str | None = None
    name: str | None = None  # the key's
    provider: str | None = None
    model: str | None = None
    operation: str | None = None
    requests: int = 0
    failed: int = 0  # of `requests`
    pictures: int = 0
    cost: int | None = None  # what is known; None: of none it is
    wasted: int = 0
    unpriced: int = 0  # of `requests`, those whose cost is not known


class Budget(msgspec.Struct, frozen=True):
    """What a key has used of one period's money, in millionths of a dollar."""

    spent: int
    reserved: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What a key has made and spent on a day, and in its month."""

    today: Sums
    month: Sums
    day_budget: Budget
    month_budget: Budget


class History:
    """The records of one installation, to be read. Everything raises as `Database.read` does."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def page(
        self, key: str | None, limit: int, *, after: str | None = None, oldest_first: bool = False,
        filters: Filters = ANY,
    ) -> Page:  # fmt: skip
        """At most `limit` tasks behind the one with the id `after`, the newest first unless it is said otherwise."""
        statement = page_statement(key, limit + 1, after=after, oldest_first=oldest_first, filters=filters)
        found = await self.database.read(partial(_tasks, statement))
        return Page(found[:limit], len(found) > limit)

    async def several(self, wanted: Sequence[str], key: str | None) -> tuple[Task, ...]:
        """Those with these ids, in this order; the others are left out."""
        found = await self.database.read(partial(_tasks, _owned(sa.select(_TASK).where(_TASK.c.id.in_(wanted)), key)))
        by_id = {task.id: task for task in found}
        return tuple(by_id[id] for id in wanted if id in by_id)

    async def get(self, id: str, key: str | None = None) -> Task | None:
        """One task, where it is there and the key's."""
        return await self._first(_owned(sa.select(_TASK).where(_TASK.c.id == id), key))

    async def one(self, id: str, key: str | None) -> Task:
        """One task. Raises `Fault("missing")` where there is none, or it is another key's."""
        found = None if "\0" in id else await self.get(id, key)  # which PostgreSQL takes in no text
        if found is None:
            text = f"There is no task '{id[:80]}'. It may have been deleted, or be older than history is kept."
            raise Fault("missing", text, code="task_not_found", param="id")
        return found

    async def claimed(self, claim: str) -> Task | None:
        """The task that has this claim."""
        return await self._first(sa.select(_TASK).where(_TASK.c.claim == claim))

    async def lost(self, fingerprint: str, key: str, since: int) -> Task | None:
        """The newest call of `key` like that, created since then, whose client may still want its answer: it left, or
        waits.
        """
        found = await self._first(lost_statement(fingerprint, since))
        return found if found and found.key == key else None  # asked for in SQL, it would lead to another index

    async def same(self, cached: str, since: int) -> Task | None:
        """The newest call whose answer is kept under that, which was completed since then."""
        return await self._first(same_statement(cached, since))

    async def delete(self, id: str, key: str | None) -> None:
        """Forget a task that has ended, and how its provider could be asked for it; what it cost stays. Its files are
        deleted before: a row leads to its files.

        Raises `Fault("missing")`, and `Fault("invalid")` with the code `task_running`.
        """
        ended = sa.delete(_TASK).where(_TASK.c.id == id, _TASK.c.status.not_in(RUNNING))
        forgetting = ended if key is None else ended.where(_TASK.c.key == key)

        def forgotten(connection: Connection) -> bool:
            gone = connection.execute(forgetting).rowcount > 0
            if gone:
                jobs.closed(connection, [id])
            return gone

        if not await self.database.write(forgotten):
            check_ended(await self.one(id, key))

    async def usage(self, span: Span, groups: Sequence[Group], most: int | None = None) -> tuple[Sums, ...]:
        """Sums for each group, in their order, of `most` groups at most."""
        return await self.database.read(partial(_sums, usage_statement(span, groups, most)))

    async def account(self, key: str, at: int) -> Account:
        """What `key` has used of the day and the month that hold `at`, in milliseconds since 1970."""
        return await self.database.read(partial(_account, key, ids.day(at)))

    async def _first(self, statement: Statement) -> Task | None:
        found = await self.database.read(partial(_tasks, statement))
        return found[0] if found else None


def check_ended(task: Task) -> None:
    """Raises `Fault("invalid")` where the task is still to be made."""
    if task.status in RUNNING:
        text = f"The task '{task.id}' is still {task.status.replace('_', ' ')}; it can be deleted when it has ended."
        raise Fault("invalid", text, code="task_running", param="id")


_TASK = tables.task
_ENTRY = tables.entry


class strpos(GenericFunction[int]):  # noqa: N801  # SQLAlchemy takes the name from it
    """Where in the first text the second begins, from 1; a quarter quicker than `LIKE`."""

    type = sa.Integer()
    inherit_cache = True


@compiles(strpos, "sqlite")
def _instr(element: strpos, compiler: SQLCompiler, **options: Any) -> str:
    return f"instr{compiler.function_argspec(element, **options)}"


def page_statement(
    key: str | None, limit: int, *, after: str | None, oldest_first: bool, filters: Filters
) -> Statement:
    """The tasks of a page. Its inner part is answered by an index alone, however rare they are."""
    id = _TASK.c.id
    order = id.asc() if oldest_first else id.desc()
    inner = _owned(sa.select(id).order_by(order).limit(limit), key)
    if after is not None:
        inner = inner.where(id > after if oldest_first else id < after)
    found = _filtered(inner, filters).subquery("found")
    return sa.select(_TASK).join(found, found.c.id == id).order_by(order)


def lost_statement(fingerprint: str, since: int) -> Statement:
    """The newest call like that whose client may still want its answer."""
    return _newest(_TASK.c.fingerprint == fingerprint, sa.text(tables.WANTED), _TASK.c.created >= since)


def same_statement(cached: str, since: int) -> Statement:
    """The newest call whose answer is kept under that."""
    return _newest(_TASK.c.cached == cached, _TASK.c.ended >= since, _TASK.c.status == "completed")


def _newest(*like: sa.ColumnElement[bool] | sa.TextClause) -> Statement:
    return sa.select(_TASK).where(*like).order_by(_TASK.c.id.desc()).limit(1)


def _owned(statement: Statement, key: str | None) -> Statement:
    return statement if key is None else statement.where(_TASK.c.key == key)


def _filtered(statement: Statement, filters: Filters) -> Statement:
    if filters.status is not None:
        statement = statement.where(_TASK.c.status == filters.status)
    if filters.op is not None:
        statement = statement.where(_TASK.c.op == filters.op)
    if filters.model is not None:
        statement = statement.where(strpos(_TASK.c.terms, terms.model(filters.model)) > 0)
    for name, value in filters.metadata.items():
        statement = statement.where(strpos(_TASK.c.terms, terms.pair(name, value)) > 0)
    # An id begins with the time of its making, so that a time is a place in the index.
    if filters.since is not None:
        statement = statement.where(_TASK.c.created >= filters.since, _TASK.c.id >= _at(filters.since - SLACK))
    if filters.until is not None:
        statement = statement.where(_TASK.c.created < filters.until, _TASK.c.id < _at(filters.until + SLACK))
    return statement


def _at(milliseconds: int) -> str:
    return f"task_{max(0, milliseconds):012x}"


def _tasks(statement: Statement, connection: Connection) -> tuple[Task, ...]:
    return tuple(msgspec.convert(row._mapping, Task) for row in connection.execute(statement))


_MONEY = sa.BigInteger()  # PostgreSQL's sums of them are of a type without bounds
_SUMMED = (
    sa.func.count().label("requests"),
    sa.func.count().filter(_ENTRY.c.status == "failed").label("failed"),
    sa.cast(sa.func.coalesce(sa.func.sum(_ENTRY.c.pictures), 0), _MONEY).label("pictures"),
    sa.cast(sa.func.sum(_ENTRY.c.cost), _MONEY).label("cost"),
    sa.cast(sa.func.coalesce(sa.func.sum(_ENTRY.c.wasted), 0), _MONEY).label("wasted"),
    sa.func.count().filter(_ENTRY.c.cost.is_(None)).label("unpriced"),
)


def usage_statement(span: Span, groups: Sequence[Group], most: int | None) -> Statement:
    """The sums of each group; of days first, so that later days come later."""
    columns = [column for name, column in _COLUMNS.items() if name in groups]
    summed = sa.select(*columns, *_SUMMED).where(_ENTRY.c.day.between(span.first, span.last)).group_by(*columns)
    for name in ("key", "provider", "operation"):
        if (wanted := getattr(span, name)) is not None:
            summed = summed.where(_COLUMNS[name] == wanted)
    if span.model is not None:
        full = _ENTRY.c.provider + "/" + _ENTRY.c.model
        summed = summed.where(sa.or_(_ENTRY.c.model == span.model, full == span.model))
    if "key" not in groups:
        return summed.order_by(*columns).limit(most)
    sums = summed.subquery("sums")
    named = sa.select(sums, tables.key.c.name).outerjoin(tables.key, tables.key.c.id == sums.c.key)
    return named.order_by(*(sums.c[column.name] for column in columns)).limit(most)


_COLUMNS: Mapping[str, sa.ColumnElement[str]] = {
    "day": _ENTRY.c.day,
    "key": _ENTRY.c.key,
    "provider": _ENTRY.c.provider,
    "model": _ENTRY.c.model,
    "operation": _ENTRY.c.op.label("operation"),
}


def _sums(statement: Statement, connection: Connection) -> tuple[Sums, ...]:
    return tuple(msgspec.convert(row._mapping, Sums) for row in connection.execute(statement))


def _account(key: str, day: str, connection: Connection) -> Account:
    month = day[:7]
    (this_month,) = _sums(_account_statement(key, f"{month}-01", f"{month}-31"), connection)
    (today,) = _sums(_account_statement(key, day, day), connection)
    kept = sa.select(tables.budget).where(tables.budget.c.key == key, tables.budget.c.period.in_([day, month]))
    budgets = {row.period: Budget(row.spent, row.reserved) for row in connection.execute(kept)}
    return Account(
        today=today,
        month=this_month,
        day_budget=budgets.get(day) or _counted(today),
        month_budget=budgets.get(month) or _counted(this_month),
    )


def _account_statement(key: str, first: str, last: str) -> Statement:
    summed = [each for each in _SUMMED if each.name != "failed"]  # it is in no index
    return sa.select(*summed).where(_ENTRY.c.key == key, _ENTRY.c.day.between(first, last))


def _counted(sums: Sums) -> Budget:
    """A budget that was not needed yet begins with what was spent before."""
    return Budget((sums.cost or 0) + sums.wasted, 0)
