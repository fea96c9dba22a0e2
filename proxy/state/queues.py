"""Who waits for a place at a provider, in which order, over all processes. All here is one transaction's part.

A row of `job` waits while it has no `started`: `queue` is its provider. That is every durable task, and every other
call that has waited for a while. When a key was served last stands in `rate`, which the processes share anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.state import tables
from proxy.state.database import insert, milliseconds
from proxy.turns import Group, Others

PROVIDER = "provider:"  # before its name, where a slot is a place of its, and not a job of a key

_JOB, _TASK, _RATE, _SLOT = tables.job, tables.task, tables.rate, tables.slot
_ALIVE = _TASK.c.ended.is_(None)


def _turn(queue: object, key: object) -> sa.ColumnElement[str]:
    """The id of the row that says when this key was served last at this provider."""
    return sa.literal("turn:") + queue + ":" + key


def served(connection: Connection, tasks: Sequence[str]) -> None:
    """These have their places: their keys had their turns."""
    if not tasks:
        return
    whose = sa.select(_JOB.c.queue, _JOB.c.key).where(_JOB.c.task.in_(tasks), _JOB.c.queue != "").distinct()
    names = sorted(f"turn:{queue}:{key}" for queue, key in connection.execute(whose))  # in one order, always
    if names:
        row = insert(_RATE, connection)
        upsert = row.on_conflict_do_update(index_elements=["id"], set_={"free": row.excluded.free})
        connection.execute(upsert, [{"id": name, "free": milliseconds()} for name in names])


def others(queue: str, worker: str, connection: Connection) -> Others:
    """What all processes but `worker` have in this queue. What belongs to nobody does not wait: nobody begins it."""
    mine = sa.and_(_JOB.c.queue == queue, _TASK.c.id == _JOB.c.task, _ALIVE, _TASK.c.worker != worker)
    waits = sa.and_(mine, _JOB.c.started.is_(None), _JOB.c.cancel.is_(None), _TASK.c.worker != "")
    groups = sa.select(_JOB.c.priority, _JOB.c.key, sa.func.count(), sa.func.min(_JOB.c.task)).where(waits)
    waiting = tuple(Group(*row) for row in connection.execute(groups.group_by(_JOB.c.priority, _JOB.c.key)))
    if not waiting:
        return Others()
    runs = sa.select(_JOB.c.key, sa.func.count()).where(mine, _JOB.c.started.is_not(None)).group_by(_JOB.c.key)
    prefix = f"turn:{queue}:"
    turns = sa.select(_RATE.c.id, _RATE.c.free).where(_RATE.c.id.startswith(prefix, autoescape=True))
    return Others(
        waiting,
        {key: count for key, count in connection.execute(runs)},  # noqa: C416  # a row is no pair to `dict`
        {id.removeprefix(prefix): at for id, at in connection.execute(turns)},
    )


def positions(tasks: Sequence[str], connection: Connection) -> dict[str, int]:
    """The places of those of these tasks that wait, in their queues: 1 is the next one. Of no other task anything."""
    waiting = sa.and_(_JOB.c.started.is_(None), _JOB.c.queue != "")
    which = sa.select(_JOB.c.queue).where(_JOB.c.task.in_(tasks), waiting).distinct()
    queues = list(connection.scalars(which))
    if not queues:
        return {}
    within = sa.func.row_number().over(partition_by=(_JOB.c.queue, _JOB.c.priority, _JOB.c.key), order_by=_JOB.c.task)
    line = (
        sa.select(_JOB.c.queue, _JOB.c.task, _JOB.c.key, _JOB.c.priority, within.label("nth"))
        .join_from(_JOB, _TASK, _TASK.c.id == _JOB.c.task)
        .where(waiting, _JOB.c.queue.in_(queues), _JOB.c.cancel.is_(None), _ALIVE)
        .subquery()
    )
    running = (
        sa.select(_JOB.c.queue, _JOB.c.key, sa.func.count().label("jobs"))
        .where(_JOB.c.started.is_not(None), _JOB.c.queue.in_(queues))
        .group_by(_JOB.c.queue, _JOB.c.key)
        .subquery()
    )
    turn = line.c.nth + sa.func.coalesce(running.c.jobs, 0)
    order = (line.c.priority.desc(), turn, sa.func.coalesce(_RATE.c.free, 0), line.c.task)
    ranked = (
        sa.select(line.c.task, sa.func.row_number().over(partition_by=line.c.queue, order_by=order).label("place"))
        .join_from(line, running, sa.and_(running.c.queue == line.c.queue, running.c.key == line.c.key), isouter=True)
        .join(_RATE, _RATE.c.id == _turn(line.c.queue, line.c.key), isouter=True)
        .subquery()
    )
    found = connection.execute(sa.select(ranked.c.task, ranked.c.place).where(ranked.c.task.in_(tasks)))
    return {task: place for task, place in found}  # noqa: C416  # a row is no pair to `dict`


def queued(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    """Calls that somebody waits for, and that wait for a place themselves: from now on the other processes see them."""
    if rows:
        connection.execute(insert(_JOB, connection).on_conflict_do_nothing(), rows)


def handed_over(connection: Connection, tasks: Sequence[str], worker: str) -> None:
    """The places of these tasks are `worker`'s, where the provider has the task: it is not given to another meanwhile.

    The name of a place begins with its task's, and all tasks' are of one length.
    """
    task = sa.func.substr(_SLOT.c.task, 1, len(tasks[0]))
    has = sa.exists().where(tables.submit.c.task == task, tables.submit.c.call.is_not(None))
    places = sa.and_(_SLOT.c.key.startswith(PROVIDER), task.in_(tasks), has)
    connection.execute(sa.update(_SLOT).where(places).values(worker=worker))
