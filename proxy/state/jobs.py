"""What is made whatever becomes of the process that took it: its rows, who works on them, who wants their end.

A task with a row in `job` is durable: it can be made from the beginning by any process. A row in `submit` says that a
provider was sent something for it: as long as its `call` is null nobody knows whether the provider has it, and with a
`call` any process can go on asking. All here is one transaction's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from proxy.state import budgets, queues, tables
from proxy.state.database import insert, milliseconds

Verdict: TypeAlias = Literal["mine", "cancelled", "taken"]
"""Of a submit that is to be sent: do so; somebody wants the task's end; another process works on it."""


MOST = 1_000
"""Ids in one statement: a process that is gone may leave more than a statement can name."""


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `job`. Times in milliseconds since 1970."""

    task: str
    key: str
    queue: str
    priority: int = 0
    work: dict[str, Any] | None = None
    webhook: str | None = None
    started: int | None = None
    cancel: int | None = None
    progress: int | None = None
    adopted: int = 0


class SubmitRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `submit`."""

    task: str
    number: int
    target: str
    credential: str
    sent: int
    saved: dict[str, Any]
    call: dict[str, Any] | None = None


class Claimed(msgspec.Struct, frozen=True):
    """A submit that is about to be sent by this process."""

    row: SubmitRow
    worker: str


class Left(msgspec.Struct, frozen=True):
    """What a task that is taken over has come to."""

    job: JobRow | None
    submits: tuple[SubmitRow, ...]


_JOB, _SUBMIT, _TASK = tables.job, tables.submit, tables.task


def opened(connection: Connection, rows: Sequence[JobRow]) -> None:
    """Write them, with their tasks."""
    if rows:
        connection.execute(sa.insert(_JOB), [msgspec.structs.asdict(row) for row in rows])


def claim(connection: Connection, claimed: Claimed) -> Verdict:
    """Write that a submit is about to be sent: from then on nobody sends it again unasked."""
    row = claimed.row
    task = connection.execute(_STATE, {"id": row.task}).one_or_none()
    if task is None or task.worker != claimed.worker or task.ended is not None:
        return "taken"
    if task.cancel is not None:
        return "cancelled"
    save(connection, (row,))
    return "mine"


_STATE = (
    sa.select(_TASK.c.worker, _TASK.c.ended, _JOB.c.cancel)
    .join_from(_TASK, _JOB, _JOB.c.task == _TASK.c.id, isouter=True)
    .where(_TASK.c.id == sa.bindparam("id"))
)


def save(connection: Connection, rows: Iterable[SubmitRow]) -> None:
    """Write how a provider can be asked for what it was sent."""
    latest = {(row.task, row.number): row for row in rows}
    if not latest:
        return
    # In one order, so that no two processes wait for each other.
    rows = [latest[name] for name in sorted(latest)]
    connection.execute(_saving(connection.dialect.name), [msgspec.structs.asdict(row) for row in rows])


@cache
def _saving(dialect: str) -> sa.Insert:
    """Made once: that takes longer than to write a row with it."""
    row = (sqlite if dialect == "sqlite" else postgresql).insert(_SUBMIT)
    changed = {name: row.excluded[name] for name in ("target", "credential", "sent", "saved", "call")}
    statement: sa.Insert = row.on_conflict_do_update(index_elements=["task", "number"], set_=changed)
    return statement


def save_in_passing(connection: Connection, rows: Sequence[SubmitRow]) -> None:
    """`save` those whose tasks nobody has ended meanwhile, but without knowing what became of them: with the name that
    the provider gave them these can be resumed.
    """
    if rows:
        over = sa.or_(_TASK.c.status != "failed", _TASK.c.cost.is_not(None))
        asked = sa.and_(_TASK.c.id.in_({row.task for row in rows}), _TASK.c.ended.is_not(None), over)
        ended = {*connection.scalars(sa.select(_TASK.c.id).where(asked))}
        save(connection, [row for row in rows if row.task not in ended])


def save_late(rows: Sequence[SubmitRow], connection: Connection) -> None:
    """The same for rows of which much time has passed: of tasks that are still there."""
    named = sa.select(_TASK.c.id).where(_TASK.c.id.in_({row.task for row in rows}))
    known = {*connection.scalars(named)}
    save_in_passing(connection, [row for row in rows if row.task in known])


def begun(connection: Connection, tasks: Sequence[str]) -> None:
    """They have their places, and are worked on."""
    if tasks:
        waiting = sa.and_(_TASK.c.id.in_(tasks), _TASK.c.ended.is_(None))
        connection.execute(sa.update(_TASK).where(waiting).values(status="in_progress"))
        fresh = sa.and_(_JOB.c.task.in_(tasks), _JOB.c.started.is_(None))
        connection.execute(sa.update(_JOB).where(fresh).values(started=milliseconds()))


def closed(connection: Connection, tasks: Sequence[str], kept: Sequence[str] = ()) -> None:
    """They have ended. What was submitted for those in `kept` may still be asked for: see `reopened`."""
    if tasks:
        gone = [task for task in tasks if task not in kept]
        connection.execute(sa.delete(_JOB).where(_JOB.c.task.in_(gone)))
        connection.execute(sa.delete(_SUBMIT).where(_SUBMIT.c.task.in_(gone)))


_ASKABLE = sa.exists().where(_SUBMIT.c.task == _TASK.c.id, _SUBMIT.c.call.is_not(None))
DURABLE = sa.or_(
    _ASKABLE,
    sa.exists().where(_JOB.c.task == _TASK.c.id, _JOB.c.work.is_not(None)),
)
"""Of tasks that another process can go on with."""


def set_free(connection: Connection, workers: Sequence[str]) -> list[str]:
    """The durable tasks of these workers belong to nobody from now on; which ones they are."""
    return _set_free(connection, _TASK.c.worker.in_(workers))


def freed(connection: Connection, tasks: Sequence[str]) -> list[str]:
    """Those of these tasks that are durable belong to nobody from now on; which ones they are."""
    return _set_free(connection, _TASK.c.id.in_(tasks))


def _set_free(connection: Connection, which: sa.ColumnElement[bool]) -> list[str]:
    mine = sa.and_(which, _TASK.c.ended.is_(None), DURABLE)
    ids = list(connection.scalars(sa.update(_TASK).where(mine).values(worker="").returning(_TASK.c.id)))
    _hand_over(connection, ids, "")
    return ids


def adopted(worker: str, most: int, connection: Connection) -> list[str]:
    """At most so many tasks that belonged to nobody, and now to `worker`; the oldest first, but before them those that
    a provider works on, which have their places there.
    """
    waiting = ~sa.exists().where(_SUBMIT.c.task == _TASK.c.id)
    free = sa.select(_TASK.c.id).where(_TASK.c.worker == "", _TASK.c.ended.is_(None))
    free = free.order_by(waiting, _TASK.c.id).limit(most)
    if connection.dialect.name == "postgresql":
        free = free.with_for_update(skip_locked=True)
    mine = sa.update(_TASK).where(_TASK.c.id.in_(free.scalar_subquery())).values(worker=worker)
    ids = sorted(connection.scalars(mine.returning(_TASK.c.id)))
    _hand_over(connection, ids, worker)
    if ids:
        connection.execute(sa.update(_JOB).where(_JOB.c.task.in_(ids)).values(adopted=_JOB.c.adopted + 1))
    return ids


def taken(worker: str, tasks: Sequence[str], connection: Connection) -> list[str]:
    """Those of these tasks that another process works on, or has completed."""
    others = sa.and_(_TASK.c.id.in_(tasks), _TASK.c.worker.not_in((worker, "")))
    done = sa.or_(_TASK.c.ended.is_(None), _TASK.c.status == "completed")
    return list(connection.scalars(sa.select(_TASK.c.id).where(others, done)))


def _hand_over(connection: Connection, tasks: Sequence[str], worker: str) -> None:
    for at in range(0, len(tasks), MOST):
        some = tasks[at : at + MOST]
        for table in (tables.reservation, tables.slot):
            connection.execute(sa.update(table).where(table.c.task.in_(some)).values(worker=worker))
        queues.handed_over(connection, some, worker)


def left(tasks: Sequence[str], connection: Connection) -> dict[str, Left]:
    """What is known of each."""
    known = rows(tasks, connection)
    submits: dict[str, list[SubmitRow]] = {task: [] for task in tasks}
    for found in connection.execute(sa.select(_SUBMIT).where(_SUBMIT.c.task.in_(tasks)).order_by(_SUBMIT.c.number)):
        submits[found.task].append(SubmitRow(**found._mapping))
    return {task: Left(known.get(task), tuple(each)) for task, each in submits.items()}


def row(task: str, connection: Connection) -> JobRow | None:
    """Its row alone."""
    found = connection.execute(sa.select(_JOB).where(_JOB.c.task == task)).one_or_none()
    return None if found is None else JobRow(**found._mapping)


def rows(tasks: Sequence[str], connection: Connection) -> dict[str, JobRow]:
    """The rows of those that have one."""
    found = connection.execute(sa.select(_JOB).where(_JOB.c.task.in_(tasks)))
    return {each.task: JobRow(**each._mapping) for each in found}


def ask_for_end(task: str, connection: Connection) -> None:
    """Somebody wants the end of a task; the process that works on it looks for that."""
    known = connection.execute(sa.select(_TASK.c.key).where(_TASK.c.id == task, _TASK.c.ended.is_(None))).one_or_none()
    if known is None:
        return
    new = JobRow(task=task, key=known.key, queue="", cancel=milliseconds())
    wish = insert(_JOB, connection).values(msgspec.structs.asdict(new))
    first = sa.func.coalesce(_JOB.c.cancel, wish.excluded.cancel)
    connection.execute(wish.on_conflict_do_update(index_elements=["task"], set_={"cancel": first}))


def resumable(tasks: Sequence[str], connection: Connection) -> frozenset[str]:
    """Those of these tasks, which have failed, whose provider can still be asked for what it makes."""
    if not tasks:
        return frozenset()
    named = sa.select(_SUBMIT.c.task).where(_SUBMIT.c.task.in_(tasks), _SUBMIT.c.call.is_not(None))
    return frozenset(connection.scalars(named.distinct()))


def reopened(task: str, key: str | None, connection: Connection) -> bool:
    """Whether a task that has failed, `key`'s or anybody's, is under way once more: nobody's, so that any process goes
    on with it. What its failure cost is taken back: it is counted when it ends.
    """
    failed = sa.and_(_TASK.c.id == task, _TASK.c.status == "failed", _ASKABLE)
    if key is not None:
        failed = sa.and_(failed, _TASK.c.key == key)
    fresh = {"status": "in_progress", "ended": None, "error": None, "cost": None, "wasted": 0, "worker": ""}
    owner = connection.scalar(sa.update(_TASK).where(failed).values(fresh).returning(_TASK.c.key))
    if owner is None:
        return False
    first = connection.scalars(sa.select(_SUBMIT.c.target).where(_SUBMIT.c.task == task)).first() or ""
    renewed = {"started": milliseconds(), "cancel": None, "adopted": 0}
    new = JobRow(task=task, key=owner, queue=first.partition("/")[0])
    row = insert(_JOB, connection).values(msgspec.structs.asdict(new) | renewed)
    connection.execute(row.on_conflict_do_update(index_elements=["task"], set_=renewed))
    entry = tables.entry
    gone = sa.delete(entry).where(entry.c.id == task).returning(entry.c.day, entry.c.cost, entry.c.wasted)
    spent = [(owner, each.day, -((each.cost or 0) + each.wasted)) for each in connection.execute(gone)]
    budgets.settled(connection, budgets.spending(spent))
    return True


def unwanted(worker: str, connection: Connection) -> list[str]:
    """The tasks of this worker whose end somebody wants."""
    mine = sa.and_(_TASK.c.worker == worker, _TASK.c.ended.is_(None), _JOB.c.cancel.is_not(None))
    return list(
        connection.scalars(sa.select(_JOB.c.task).join_from(_JOB, _TASK, _JOB.c.task == _TASK.c.id).where(mine))
    )


def told(progress: dict[str, int], connection: Connection) -> None:
    """How far these have come."""
    changed = sa.update(_JOB).where(_JOB.c.task == sa.bindparam("id")).values(progress=sa.bindparam("per_cent"))
    connection.execute(changed, [{"id": task, "per_cent": each} for task, each in sorted(progress.items())])
