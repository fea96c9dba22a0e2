"""Where tasks are that have not ended, as far as this process or their rows can tell; and which can be gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from sqlalchemy.engine import Connection

from proxy.state import jobs, queues
from proxy.state.database import Database, milliseconds
from proxy.state.jobs import JobRow
from proxy.state.records import Task
from proxy.works import Work

POLL_SECONDS = 1.0  # between two looks of a client's, at first
MOST_SECONDS = 10.0
PATIENT = 30.0  # of a task that takes long, a client looks so many times as rarely as that takes


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a task beside its row of the history."""

    progress: int | None = None  # per cent
    cancelling: bool = False  # somebody wants its end
    queue_position: int | None = None  # from 1, among those that wait for a place at its provider
    queued_seconds: float | None = None  # for which it has waited for one, or did
    seconds: float = 0.0  # until it is worth looking again; 0: it has ended
    resumable: bool = False  # it has failed, and its provider can still be asked for it


ENDED = Standing()


async def standings(database: Database, running: Mapping[str, Work], tasks: Sequence[Task]) -> dict[str, Standing]:
    """Of each of these. Raises as `Database.read` does."""
    alive = [task.id for task in tasks if task.ended is None]
    failed = [task.id for task in tasks if task.status == "failed"]
    known = await database.read(partial(_read, alive, failed)) if alive or failed else _NOTHING
    return {task.id: standing(task, running.get(task.id), known) for task in tasks}


class _Known(msgspec.Struct, frozen=True):
    jobs: Mapping[str, JobRow]
    positions: Mapping[str, int]
    resumable: frozenset[str]


_NOTHING = _Known({}, {}, frozenset())


def _read(alive: Sequence[str], failed: Sequence[str], connection: Connection) -> _Known:
    rows = jobs.rows(alive, connection) if alive else {}
    waiting = [row.task for row in rows.values() if row.started is None and row.queue]
    positions = queues.positions(waiting, connection) if waiting else {}
    return _Known(rows, positions, jobs.resumable(failed, connection))


def standing(task: Task, work: Work | None, known: _Known = _NOTHING) -> Standing:
    """Of one: by its work where that is here, else by its row in `job`."""
    if task.ended is not None:
        return ENDED if task.id not in known.resumable else Standing(resumable=True)
    job = known.jobs.get(task.id)
    trail = work.trail if work else None
    here = trail.progress if trail else None
    return Standing(
        progress=here if here is not None or job is None else job.progress,
        cancelling=bool(trail and trail.cancelled) or bool(job and job.cancel),
        queue_position=known.positions.get(task.id),
        queued_seconds=queued(task, job) if job is not None and job.queue else None,
        seconds=pause(task, trail.seconds if trail else 0.0),
    )


def queued(task: Task, job: JobRow) -> float:
    """Seconds for which it has waited for a place, or did until it had one."""
    until = milliseconds() if job.started is None else job.started
    return max(0.0, round((until - task.created) / 1000, 1))


def pause(task: Task, wanted: float) -> float:
    """Seconds until it is worth looking again: as the provider wants its polls, or by how long it has taken so far."""
    so_far = (milliseconds() - task.created) / 1000
    return min(max(POLL_SECONDS, wanted, so_far / PATIENT), MOST_SECONDS)
