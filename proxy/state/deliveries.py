"""What clients are told of the ends of their tasks: rows that are written with the end itself, and tried until heard.

A delivery belongs to whoever moved its `due` ahead: for that long no other process tries it, and if that one dies it
is simply due again. So it may be told twice, always with the same id and body, and is never lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.state import tables
from proxy.state.database import Database, milliseconds
from proxy.state.database import insert as inserting
from translators.base import Fault

if TYPE_CHECKING:
    from proxy.state.records import Task  # whose `Ending` holds what is told of it

Status: TypeAlias = Literal["pending", "delivered", "failed"]

LOOKED = 200  # rows of one look
LAST = 200  # characters of an outcome


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `delivery`: one event for one address. Times in milliseconds since 1970."""

    id: str
    task: str
    key: str  # the id of the key whose secret signs
    url: str
    type: str
    body: str  # as it is sent
    created: int
    due: int
    tries: int = 0
    status: str = "pending"
    last: str | None = None  # what came of the last try


class Due(msgspec.Struct, frozen=True):
    """A delivery that this process is to try now, and how its key's secret stands, where the key has a row."""

    delivery: Delivery
    version: int | None
    rotated: int | None


class Waiting(msgspec.Struct, frozen=True):
    """What may be tried now, as ids and their addresses, the longest due first; and when something else is due."""

    ready: Sequence[tuple[str, str]]
    next: int | None


class Outcome(msgspec.Struct, frozen=True):
    """What a try has come to. With `due` it is tried again then."""

    status: Status
    text: str
    due: int | None = None


# ---- what is told


def events(task: Task, url: str, at: int) -> tuple[Delivery, ...]:
    """What `url` is told of the end of `task` at a time in milliseconds: the same however often it is asked for."""
    video = task.op == "video"
    id = f"evt_{at:012x}{task.id[-20:]}"  # as `ids.new` makes them, but of the task's own chance
    type = f"video.{_VIDEO.get(task.status, 'failed')}" if video else f"task.{task.status}"
    data: dict[str, Any] = {"id": f"video_{task.id.removeprefix('task_')}"}
    if not video:
        data = {
            "id": task.id, "object": "task", "status": task.status, "model": task.asked,
            "metadata": task.metadata or {},
        }  # fmt: skip
    body = {"id": id, "object": "event", "created_at": at // 1000, "type": type, "data": data}
    text = msgspec.json.encode(body).decode()
    return (Delivery(id=id, task=task.id, key=task.key, url=url, type=type, body=text, created=at, due=at),)


# OpenAI has these two events of a video alone, and no status "cancelled" of one: who waits for an end must hear of it,
# in a word that a program written for OpenAI knows.
_VIDEO: Mapping[str, str] = {"completed": "completed"}


# ---- one transaction's part

_ROW = tables.delivery
# A partial index serves those alone who say its condition in the same words, not by a parameter.
_PENDING = _ROW.c.status == sa.literal_column("'pending'")


def insert(connection: Connection, rows: Sequence[Delivery]) -> None:
    """Write them, beside the end that they tell of; those that are there already stay as they are."""
    if rows:
        statement = inserting(_ROW, connection).on_conflict_do_nothing()
        connection.execute(statement, [msgspec.structs.asdict(row) for row in rows])


def look(now: int, full: Sequence[str], connection: Connection) -> Waiting:
    """What may be tried now at other addresses than those in `full`. What is told of one task goes in its order."""
    ready = _ready(now).where(_ROW.c.url.not_in(full)) if full else _ready(now)
    upcoming = sa.select(sa.func.min(_ROW.c.due)).where(_PENDING, _ROW.c.due > now)
    found = [(row.id, row.url) for row in connection.execute(ready.limit(LOOKED))]
    return Waiting(found, connection.scalar(upcoming))


def _ready(now: int) -> sa.Select[tuple[str, str]]:
    earlier = _ROW.alias()
    first = ~sa.exists().where(
        earlier.c.task == _ROW.c.task, earlier.c.status == sa.literal_column("'pending'"), earlier.c.id < _ROW.c.id
    )
    return sa.select(_ROW.c.id, _ROW.c.url).where(_PENDING, _ROW.c.due <= now, first).order_by(_ROW.c.due)


def claim(ids: Sequence[str], now: int, until: int, connection: Connection) -> list[Due]:
    """Those of them that nobody else has taken meanwhile: they are ours until then."""
    free = sa.select(_ROW.c.id).where(_ROW.c.id.in_(ids), _PENDING, _ROW.c.due <= now)
    if connection.dialect.name == "postgresql":
        free = free.with_for_update(skip_locked=True)
    mine = list(connection.scalars(free))
    taken = sa.update(_ROW).where(_ROW.c.id.in_(mine)).values(due=until, tries=_ROW.c.tries + 1)
    connection.execute(taken)
    key = tables.key.c
    rows = sa.select(*_ROW.c, key.webhook_version, key.webhook_rotated).where(_ROW.c.id.in_(mine)).order_by(_ROW.c.id)
    found = connection.execute(rows.join_from(_ROW, tables.key, key.id == _ROW.c.key, isouter=True))
    return [Due(_read(row._mapping), row.webhook_version, row.webhook_rotated) for row in found]


def settle(delivery: Delivery, outcome: Outcome, connection: Connection) -> None:
    """Write what the try has come to. A failure of a try that took too long is no news: another has begun since."""
    row = sa.update(_ROW).where(_ROW.c.id == delivery.id, _PENDING)
    if outcome.status != "delivered":
        row = row.where(_ROW.c.tries == delivery.tries)
    due = {} if outcome.due is None else {"due": outcome.due}
    connection.execute(row.values(status=outcome.status, last=outcome.text[:LAST], **due))


def _read(row: sa.RowMapping) -> Delivery:
    return msgspec.convert(row, Delivery)


# ---- what the operator sees


async def page(
    database: Database, limit: int, *, task: str | None = None, status: Status | None = None
) -> list[Delivery]:
    """The newest, at most so many. Raises `Fault("overloaded")` where the database is away, as all here do."""
    query = sa.select(_ROW).order_by(_ROW.c.id.desc()).limit(limit)
    if task is not None:
        query = query.where(_ROW.c.task == task)
    if status is not None:
        query = query.where(_ROW.c.status == status)
    return await database.read(lambda connection: [_read(row._mapping) for row in connection.execute(query)])


async def again(database: Database, id: str) -> Delivery:
    """Tell it once more, at once and with all tries. Raises `Fault("missing")`."""
    fresh = {"status": "pending", "due": milliseconds(), "tries": 0}
    row = await database.write(partial(_changed, sa.update(_ROW).where(_ROW.c.id == id).values(fresh)))
    if row is None:
        raise Fault("missing", f"There is no delivery '{id[:80]}'.", code="delivery_not_found", param="id")
    return row


def _changed(statement: sa.Update, connection: Connection) -> Delivery | None:
    row = connection.execute(statement.returning(*_ROW.c)).first()
    return None if row is None else _read(row._mapping)


def over(before: int) -> sa.Select[tuple[str]]:
    """The ids of those that were begun before that time and have come to an end."""
    return sa.select(_ROW.c.id).where(_ROW.c.id < f"evt_{max(0, before):012x}", ~_PENDING)


def forget(ids: Sequence[str], connection: Connection) -> None:
    """Delete them."""
    connection.execute(sa.delete(_ROW).where(_ROW.c.id.in_(ids)))
