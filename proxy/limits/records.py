"""Limits in the database, for several processes that have no Redis.

The rows of a caller in `rate` are locked, in the order of their ids, before anything of its is counted: whoever comes
next waits for them and then sees all that was done before. The one for its jobs holds no number, it is that lock alone.

A row of `slot` is a job that runs; or one that began, where only so many may begin in a minute: that belongs to no
process, and stays until it counts no longer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.limits.backend import LEASE, Away, Slot, Wanted
from proxy.limits.rates import WINDOW, Admission, judge
from proxy.state.database import Database, insert
from proxy.state.tables import rate, slot
from translators.base import Fault

PATIENCE = 1.0  # seconds; the writer of SQLite may be busy with other rows


class Terms(msgspec.Struct, frozen=True):
    """Of the slots that one process takes."""

    worker: str
    lease: int  # milliseconds


class Records:
    """Limits in `database`, for the process whose id is `worker`."""

    name = "database"
    patience = PATIENCE

    def __init__(self, database: Database, worker: str, lease: float = LEASE) -> None:
        self.lease = lease
        self._database = database
        self._terms = Terms(worker, int(lease * 1000))

    async def run(self, ended: Sequence[Slot], wanted: Sequence[Wanted]) -> list[Admission]:
        """As `Store` has it."""
        try:
            return await self._database.write(partial(_run, self._terms, ended, wanted))
        except (Fault, sa.exc.SQLAlchemyError) as error:
            raise Away(str(error)) from error

    async def hold(self, slots: Sequence[Slot]) -> None:
        """As `Store` has it."""
        try:
            await self._database.write(partial(_hold, self._terms, slots))
        except (Fault, sa.exc.SQLAlchemyError) as error:
            raise Away(str(error)) from error

    async def aclose(self) -> None:
        """The database is not ours to close."""


def _run(terms: Terms, ended: Sequence[Slot], wanted: Sequence[Wanted], connection: Connection) -> list[Admission]:
    full, now = _lock({name for each in wanted for name in _names(each)}, connection)
    if ended:
        connection.execute(sa.delete(slot).where(slot.c.task.in_([task for _, task in ended])))
    running = _running({each.caller for each in wanted if each.rules.jobs is not None}, now, terms, connection)
    since = _begun({each.caller for each in wanted if each.rules.begun is not None}, now, connection)
    found = []
    changed: dict[str, int] = {}
    begun: list[Slot] = []
    for each in wanted:
        names = [f"{each.caller}:{one.dimension}" for one in each.rules.rates]
        # A clock that was put back must not leave anybody waiting for longer than a whole bucket.
        before = [min(full[name], now + one.capacity) for name, one in zip(names, each.rules.rates, strict=True)]
        times = since.get(each.caller, ())
        admission = judge(each.rules, each.n, before, running[each.caller], now, (len(times), min(times, default=0)))
        if admission.admitted:
            changed |= zip(names, admission.full, strict=True)
            full |= changed
            if each.rules.jobs is not None and each.task:
                begun.append((each.caller, each.task))
                running[each.caller] += 1
            if each.rules.begun is not None and each.task:
                since[each.caller] = (*times, now)
                connection.execute(sa.insert(slot), _beginning(each, now))
        found.append(admission)
    if changed:
        connection.execute(_CHANGE, [{"name": name, "later": later} for name, later in changed.items()])
    _write(terms, begun, now, connection)
    return found


def _names(wanted: Wanted) -> list[str]:
    dimensions = [one.dimension for one in wanted.rules.rates]
    counted = wanted.rules.jobs is not None or wanted.rules.begun is not None
    return [f"{wanted.caller}:{name}" for name in (*dimensions, *(["jobs"] if counted else []))]


def _lock(names: Iterable[str], connection: Connection) -> tuple[dict[str, int], int]:
    """The rates by their ids, which nobody else can read now, and the time in microseconds."""
    rows = [{"id": name, "free": 0} for name in sorted(names)]
    if not rows:
        return {}, 0
    locking = insert(rate, connection).on_conflict_do_update(index_elements=["id"], set_={"free": rate.c.free})
    found = connection.execute(locking.returning(rate.c.id, rate.c.free, _clock(connection)), rows).all()
    return {id: free for id, free, _ in found}, max(now for _, _, now in found)


def _clock(connection: Connection) -> sa.ColumnElement[int]:
    """Microseconds since 1970 by the one clock that all processes see: of the machine, or of the server."""
    if connection.dialect.name == "sqlite":
        return sa.literal(time.time_ns() // 1000, sa.BigInteger)
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger)


def _running(callers: set[str], now: int, terms: Terms, connection: Connection) -> Counter[str]:
    """How many jobs of each have a lease. One beyond what can be given is of a clock that was put back."""
    if not callers:
        return Counter()
    counting = sa.select(slot.c.key, sa.func.count()).group_by(slot.c.key)
    leased = slot.c.until.between(now // 1000, now // 1000 + terms.lease)
    rows = connection.execute(counting.where(slot.c.key.in_(callers), leased))
    return Counter({key: count for key, count in rows})  # noqa: C416  # a row is no pair to `dict`


def _begun(callers: set[str], now: int, connection: Connection) -> dict[str, tuple[int, ...]]:
    """When the jobs of each began that began within the last minute, in microseconds; a bit late, never too early."""
    if not callers:
        return {}
    keys = {f"{BEGUN}{caller}": caller for caller in callers}
    connection.execute(sa.delete(slot).where(slot.c.key.in_(keys), slot.c.until < now // 1000))
    found: dict[str, tuple[int, ...]] = {}
    counted = slot.c.until <= (now + WINDOW) // 1000 + 1  # else it is of a clock that was put back
    for key, until in connection.execute(sa.select(slot.c.key, slot.c.until).where(slot.c.key.in_(keys), counted)):
        caller = keys[key]
        found[caller] = (*found.get(caller, ()), until * 1000 - WINDOW)
    return found


BEGUN = "begun:"


def _beginning(wanted: Wanted, now: int) -> dict[str, str | int]:
    task = f"{wanted.task}:{now}"  # one that is begun again counts again
    return {"task": task, "key": f"{BEGUN}{wanted.caller}", "worker": "", "until": -(-(now + WINDOW) // 1000)}


_CHANGE = sa.update(rate).where(rate.c.id == sa.bindparam("name")).values(free=sa.bindparam("later"))


def _write(terms: Terms, slots: Iterable[Slot], now: int, connection: Connection) -> None:
    rows = [
        {"task": task, "key": caller, "worker": terms.worker, "until": now // 1000 + terms.lease}
        for caller, task in sorted(slots)
    ]  # fmt: skip
    if rows:
        adding = insert(slot, connection)
        connection.execute(
            adding.on_conflict_do_update(index_elements=["task"], set_={"until": adding.excluded.until}), rows
        )


def _hold(terms: Terms, slots: Sequence[Slot], connection: Connection) -> None:
    now: int = connection.execute(sa.select(_clock(connection))).scalar_one()
    _write(terms, slots, now, connection)
    connection.execute(sa.delete(slot).where(slot.c.until < now // 1000 - terms.lease))
