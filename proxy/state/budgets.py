"""The running totals of the keys that have a budget: what is spent in a day and a month, and what is kept free.

The rows of `budget` are locked in the order of their primary key, then read, reckoned with here, and written. So no two
calls get the same money, whichever processes they are in, and no two processes wait for each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.state import ids, tables
from proxy.state.database import insert

Name: TypeAlias = tuple[str, str]  # key and period: 2026-11-20 or 2026-11
Short: TypeAlias = Literal["day", "month"]  # the budget that has not enough left


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What a task may cost, to be kept free of the budgets of its key: millionths of a dollar, `None` is no bound."""

    task: str
    key: str
    at: int
    amount: int
    worker: str
    per_day: int | None = None
    per_month: int | None = None

    @property
    def day(self) -> str:
        """The day whose budget it is, and the month's with it."""
        return ids.day(self.at)

    @property
    def names(self) -> tuple[Name, Name]:
        """Both rows. A budget without a bound is counted too: it may get one later."""
        return (self.key, self.day), (self.key, self.day[:7])


class Total(msgspec.Struct, frozen=True):
    """A row of `budget`, or what is to be added to one."""

    spent: int = 0
    reserved: int = 0

    def __add__(self, other: Total) -> Total:
        return Total(self.spent + other.spent, self.reserved + other.reserved)

    def has(self, amount: int, bound: int | None) -> bool:
        """Whether `amount` more stays within `bound`."""
        return bound is None or self.spent + self.reserved + amount <= bound


class Decision(msgspec.Struct, frozen=True):
    """What became of a wish for a reservation."""

    short: Short | None = None
    unopened: bool = False  # the budgets have no rows yet: `opened` makes them


def settled(
    connection: Connection, changes: Mapping[Name, Total], wanted: Sequence[Reservation] = ()
) -> list[Decision]:
    """Count the changes, and then reserve what is wanted as long as there is enough left, in that order."""
    names = sorted({*changes, *(name for each in wanted for name in each.names)})
    if not names:
        return []
    before = _locked(connection, names)
    totals = {name: total + changes.get(name, Total()) for name, total in before.items()}
    decisions = []
    for each in wanted:
        decision = _decided(totals, each)
        decisions.append(decision)
        if decision == Decision():
            for name in each.names:
                totals[name] += Total(reserved=each.amount)
    if changed := [(name, total) for name, total in totals.items() if total != before[name]]:
        connection.execute(
            _CHANGE, [{"k": k, "p": p, "spent": total.spent, "reserved": total.reserved} for (k, p), total in changed]
        )
    if made := [each for each, decision in zip(wanted, decisions, strict=True) if decision == Decision()]:
        connection.execute(
            sa.insert(tables.reservation),
            [{"task": r.task, "key": r.key, "day": r.day, "amount": r.amount, "worker": r.worker} for r in made],
        )
    return decisions


def _decided(totals: Mapping[Name, Total], wanted: Reservation) -> Decision:
    day, month = wanted.names
    if day not in totals or month not in totals:
        return Decision(unopened=True)
    if not totals[day].has(wanted.amount, wanted.per_day):
        return Decision("day")
    return Decision(None if totals[month].has(wanted.amount, wanted.per_month) else "month")


def _locked(connection: Connection, names: Sequence[Name]) -> dict[Name, Total]:
    """The rows that there are; nobody else changes them before this transaction ends."""
    lite = connection.dialect.name == "sqlite"
    pairs = ",".join(["(?,?)" if lite else "(%s,%s)"] * len(names))
    rows = connection.exec_driver_sql(
        f"SELECT key, period, spent, reserved FROM budget WHERE (key, period) IN (VALUES {pairs}) ORDER BY key, period"  # noqa: S608  # marks alone
        + ("" if lite else " FOR UPDATE"),
        tuple(word for name in names for word in name),
    )
    return {(row.key, row.period): Total(row.spent, row.reserved) for row in rows}


_CHANGE = (
    sa.update(tables.budget)
    .where(tables.budget.c.key == sa.bindparam("k"), tables.budget.c.period == sa.bindparam("p"))
    .values(spent=sa.bindparam("spent"), reserved=sa.bindparam("reserved"))
)


def spending(paid: Iterable[tuple[str, str, int]]) -> dict[Name, Total]:
    """What is to be added to which rows. Each payment has a key, a day and an amount."""
    sums: defaultdict[Name, int] = defaultdict(int)
    for key, day, amount in paid:
        if amount:
            sums[key, day] += amount
            sums[key, day[:7]] += amount
    return {name: Total(spent=amount) for name, amount in sums.items()}


def given_back(connection: Connection, tasks: Sequence[str] = (), workers: Sequence[str] = ()) -> dict[Name, Total]:
    """Delete the reservations of these tasks, or all of these workers; what that adds to which rows."""
    table = tables.reservation
    which = table.c.task.in_(tasks) if tasks else table.c.worker.in_(workers)
    gone = connection.execute(sa.delete(table).where(which).returning(table.c.key, table.c.day, table.c.amount))
    freed: defaultdict[Name, Total] = defaultdict(Total)
    for row in gone:
        for period in (row.day, row.day[:7]):
            freed[row.key, period] += Total(reserved=-row.amount)
    return freed


def merged(one: Mapping[Name, Total], other: Mapping[Name, Total]) -> dict[Name, Total]:
    """Both changes together."""
    return {name: one.get(name, Total()) + other.get(name, Total()) for name in {*one, *other}}


def opened(wanted: Iterable[Reservation], connection: Connection) -> None:
    """Make the rows of budgets that have none, with what their keys have spent so far.

    In a transaction of its own: it must begin before anything is locked.
    """
    if connection.dialect.name == "postgresql":
        # What others have written but not committed would be in no sum, and would find no row to be counted in.
        connection.exec_driver_sql("LOCK TABLE entry IN SHARE MODE")
    entry = tables.entry
    for key, period in sorted({name for each in wanted for name in each.names}):
        spent = sa.func.coalesce(sa.func.sum(sa.func.coalesce(entry.c.cost, 0) + entry.c.wasted), 0)
        so_far = sa.select(sa.literal(key), sa.literal(period), spent, sa.literal(0)).where(
            entry.c.key == key, entry.c.day.between(f"{period}-01"[:10], f"{period}-31"[:10])
        )
        row = insert(tables.budget, connection).from_select(["key", "period", "spent", "reserved"], so_far)
        connection.execute(row.on_conflict_do_nothing())
