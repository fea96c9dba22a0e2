"""What is past its time goes: made files, uploads, history. In small steps, so that nobody who is served notices.

Rows are looked for without a lock and changed a few at a time. What breaks off is taken up by the next sweep, and two
sweeps at once do each other no harm; `turn` sees to it that there is one at a time all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from proxy.config import Config
from proxy.logs import log
from proxy.state import deliveries, jobs, tables
from proxy.state.database import Database, insert, milliseconds
from proxy.state.files import Files
from proxy.state.uploads import Uploads

SECONDS = 3600.0  # between two sweeps
CLAIMED = 86_400.0  # seconds for which an Idempotency-Key stands for its call
BATCH = 200  # rows of one transaction
PAUSE = 0.02  # seconds between two batches


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What has gone."""

    outputs: int = 0  # made files past their time, and their thumbnails
    uploads: int = 0  # past their expiry
    evicted: int = 0  # tasks whose made files went to keep `files.max_bytes`
    tasks: int = 0  # rows of the history
    claims: int = 0  # Idempotency-Keys that may be used again
    deliveries: int = 0  # of what clients were told


async def turn(database: Database, seconds: float = SECONDS) -> bool:
    """Whether it is for this process to sweep: of all that share the database, one may in so many seconds."""
    now = time.time_ns() // 1000
    until = now + int(seconds * 0.9 * 1_000_000)  # a little less than until the same process asks again

    def taken(connection: Connection) -> bool:
        row = insert(tables.rate, connection).values(id="sweep", free=until)
        mine = row.on_conflict_do_update(
            index_elements=["id"], set_={"free": row.excluded.free}, where=tables.rate.c.free <= now
        )
        return connection.execute(mine.returning(tables.rate.c.id)).first() is not None

    return await database.write(taken)


async def sweep(database: Database, files: Files, uploads: Uploads, config: Config, pause: float = PAUSE) -> Swept:
    """One round. What fails is logged, and hinders nothing else."""
    swept = _Sweep(database, files, pause)
    steps: Mapping[str, Callable[[], Awaitable[int]]] = {
        "outputs": partial(swept.outputs, config.files.retention),
        "uploads": partial(uploads.sweep, pause),
        "evicted": partial(swept.evicted, config.files.max_bytes),
        "tasks": partial(swept.tasks, config.history.retention),
        "claims": swept.claims,
        "deliveries": partial(swept.deliveries, config.history.retention),
    }
    counts: dict[str, int] = {}
    for name, step in steps.items():
        try:
            counts[name] = await step()
        except Exception as error:  # of a store or a database that is away; the next sweep comes
            log.error("what is past its time cannot be swept", exc_info=error, extra={"step": name})
    return Swept(**counts)


class _Sweep:
    """The parts that every step needs."""

    def __init__(self, database: Database, files: Files, pause: float) -> None:
        self.database = database
        self.files = files
        self.pause = pause

    async def outputs(self, retention: float | None) -> int:
        """Made files that are older than so many seconds; their tasks hold no bytes then."""
        await self.files.store.tidy()
        if retention is None:
            return 0
        gone = await self.files.sweep(retention, self.pause)
        old = sa.select(_TASK.c.id).where(_TASK.c.id < _older(retention), _TASK.c.bytes > 0)
        await self._each(old, partial(self._set, bytes=0))
        return gone

    async def evicted(self, most: int | None) -> int:
        """The files of the oldest tasks, as long as all of them have more than `most` bytes."""
        if most is None:
            return 0
        total = await self.database.read(lambda connection: connection.execute(_TOTAL).scalar_one())
        excess, gone = total - most, 0
        while excess > 0:
            oldest = [row for row in await self._rows(_OLDEST) if row.ended is not None]
            if not oldest:
                break
            taken: list[Row[Any]] = []
            while oldest and excess > 0:
                taken.append(oldest.pop(0))
                excess -= taken[-1].bytes
            await self.files.delete(outputs(taken))
            await self._set(taken, bytes=0)
            gone += len(taken)
            await asyncio.sleep(self.pause)
        return gone

    async def tasks(self, retention: float | None) -> int:
        """Rows of the history that are older than so many seconds, and their files."""
        if retention is None:
            return 0

        async def forget(rows: Sequence[Row[Any]]) -> None:
            await self.files.delete(outputs(rows))  # first: a row leads to its files
            gone = sa.delete(_TASK).where(_TASK.c.id.in_([row.id for row in rows]))
            ids = [row.id for row in rows]

            def forgotten(connection: Connection) -> None:
                connection.execute(gone)
                jobs.closed(connection, ids)

            await self.database.write(forgotten)

        old = sa.select(_TASK.c.id, _TASK.c.result).where(_TASK.c.id < _older(retention), _TASK.c.ended.is_not(None))
        return await self._each(old, forget)

    async def claims(self) -> int:
        """Idempotency-Keys that are a day old."""
        old = sa.select(_TASK.c.id).where(_TASK.c.claim.is_not(None), _TASK.c.id < _older(CLAIMED))
        return await self._each(old, partial(self._set, claim=None))

    async def deliveries(self, retention: float | None) -> int:
        """What clients were told, or could not be told, so many seconds ago."""
        if retention is None:
            return 0

        async def forget(rows: Sequence[Row[Any]]) -> None:
            await self.database.write(partial(deliveries.forget, [row.id for row in rows]))

        return await self._each(deliveries.over(milliseconds() - int(retention * 1000)), forget)

    async def _each(self, found: sa.Select[Any], change: Callable[[Sequence[Row[Any]]], Awaitable[None]]) -> int:
        """`change` what is found, a few at a time, until nothing is; how many rows that were."""
        count = 0
        while rows := await self._rows(found.limit(BATCH)):
            await change(rows)
            count += len(rows)
            await asyncio.sleep(self.pause)
        return count

    async def _rows(self, found: sa.Select[Any]) -> Sequence[Row[Any]]:
        return await self.database.read(lambda connection: connection.execute(found).all())

    async def _set(self, rows: Sequence[Row[Any]], **values: Any) -> None:
        changed = sa.update(_TASK).where(_TASK.c.id.in_([row.id for row in rows])).values(**values)
        await self.database.write(lambda connection: connection.execute(changed))


_TASK = tables.task
_TOTAL = sa.select(sa.cast(sa.func.coalesce(sa.func.sum(_TASK.c.bytes), 0), sa.BigInteger)).where(_TASK.c.bytes > 0)
_OLDEST = (
    sa.select(_TASK.c.id, _TASK.c.ended, _TASK.c.bytes, _TASK.c.result)
    .where(_TASK.c.bytes > 0)
    .order_by(_TASK.c.id)
    .limit(BATCH)
)


def outputs(rows: Iterable[Row[Any]]) -> list[str]:
    """The ids of the made files that these tasks name."""
    named = (each for row in rows for each in (row.result or {}).get("outputs", ()))
    return [each["id"] for each in named if "id" in each]


def _older(seconds: float) -> str:
    """The id that a task had which was made so long ago: ids begin with the time of their making."""
    return f"task_{max(0, milliseconds() - int(seconds * 1000)):012x}"
