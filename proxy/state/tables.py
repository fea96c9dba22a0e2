"""The tables. Times are milliseconds since 1970, money is millionths of a US dollar; no picture is ever in one.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

# PostgreSQL's own names, also in SQLite, which has none: a migration can only change what has a name.
WANTED = "(lost OR ended IS NULL)"
"""Of tasks whose clients may still want their answers. Whoever asks for these says it in the same words."""


def where(condition: str) -> dict[str, Any]:
    """Of an index over some rows alone."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


metadata = sa.MetaData(naming_convention={"pk": "%(table_name)s_pkey", "uq": "%(table_name)s_%(column_0_name)s_key"})

Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

key = sa.Table(
    "key",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # key_…
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("email", sa.Text),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),  # HMAC-SHA256 of the key under our secret
    sa.Column("prefix", sa.Text, nullable=False),  # its first characters, to recognise it
    sa.Column("previous_digest", sa.LargeBinary, unique=True),  # of the key before its last rotation
    sa.Column("previous_until", sa.BigInteger),
    sa.Column("tier", sa.Text),
    sa.Column("admin", sa.Boolean, nullable=False, default=False),
    sa.Column("models", Json),  # patterns; null: what the tier allows
    sa.Column("overrides", Json, nullable=False),  # members of the tier that are different for this key
    sa.Column("metadata", Json, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("revoked", sa.BigInteger),
    sa.Column("webhook_url", sa.Text),  # where its tasks' ends are told, where a task names no address of its own
    sa.Column("webhook_version", sa.Integer, nullable=False, default=1),  # of the secret that signs for it
    sa.Column("webhook_rotated", sa.BigInteger),  # until a day later the version before signs too
)

task = sa.Table(
    "task",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # task_… by time, so that its order is the order of creation
    sa.Column("key", sa.Text, nullable=False),  # the id of the key that made it
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("status", sa.Text, nullable=False),  # queued, in_progress, completed, failed, cancelled
    sa.Column("op", sa.Text, nullable=False),
    sa.Column("asked", sa.Text, nullable=False),  # the model as the client named it
    sa.Column("model", sa.Text),  # provider/model that answered, or was tried last
    sa.Column("request", Json, nullable=False),  # what was asked for, without pictures
    sa.Column("metadata", Json),
    sa.Column("result", Json),  # what is needed to answer again: see `proxy.record`
    sa.Column("bytes", sa.BigInteger, nullable=False, default=0),  # of its stored outputs
    sa.Column("timings", Json),  # phase -> seconds
    sa.Column("error", Json),
    sa.Column("cost", sa.BigInteger),  # null: not known
    sa.Column("wasted", sa.BigInteger, nullable=False, default=0),  # paid for what nobody got; part of no other column
    sa.Column("estimate", sa.BigInteger),
    sa.Column("fingerprint", sa.Text),  # of key and request: the same call again has the same
    sa.Column("claim", sa.Text, unique=True),  # of key and Idempotency-Key
    sa.Column("worker", sa.Text, nullable=False),  # the process that works on it
    sa.Column("lost", sa.Boolean, nullable=False, default=False),  # its client left before it had the answer
    sa.Column("request_id", sa.Text),
    sa.Column("cached", sa.Text),  # of the request, where its alias keeps answers
    sa.Column("terms", sa.Text, nullable=False, default=""),  # digests that lists are filtered by: see `terms`
    # Any filter is judged within the index: the rows themselves are many times as long.
    sa.Index("task_key", "key", "id", "created", "status", "op", "terms"),
    sa.Index("task_all", "id", "created", "status", "op", "terms"),
    # Digests come in no order: an index over all of them would touch another page for each row.
    sa.Index("task_fingerprint", "fingerprint", **where(WANTED)),
    sa.Index("task_cached", "cached", **where("cached IS NOT NULL")),
    sa.Index("task_worker", "worker", **where("ended IS NULL")),
)

job = sa.Table(
    "job",  # calls that are made whatever becomes of the process that took them, until they have ended
    metadata,
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("queue", sa.Text, nullable=False),  # the provider whose places it waits for
    sa.Column("priority", sa.Integer, nullable=False),  # of its key's tier: higher goes first
    sa.Column("work", Json),  # to make it from the beginning; null: a client waits for it, or has left
    sa.Column("webhook", sa.Text),
    sa.Column("started", sa.BigInteger),  # null: it waits for a place
    sa.Column("cancel", sa.BigInteger),  # when somebody asked for its end
    sa.Column("progress", sa.Integer),  # per cent
    sa.Column("adopted", sa.Integer, nullable=False),  # how often another process has gone on with it
    sa.Index("job_waiting", "queue", "key", "task", **where("started IS NULL")),
    sa.Index("job_cancel", "task", **where("cancel IS NOT NULL")),
)

submit = sa.Table(
    "submit",  # what providers were sent, and under which name they have it: kept until nobody needs to ask them
    metadata,
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),  # of the upstream call within its task, from 0
    sa.Column("target", sa.Text, nullable=False),  # provider/model
    sa.Column("credential", sa.Text, nullable=False),  # its name
    sa.Column("sent", sa.BigInteger, nullable=False),
    sa.Column("saved", Json, nullable=False),  # what its answers are read with: see `proxy.trail`
    sa.Column("call", Json),  # the next poll, without credentials; null: its answer has not come
)

delivery = sa.Table(
    "delivery",  # what clients are told of their tasks' ends, and whether they have heard it
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # evt_… by time, so that its order is the order in which it is told
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),  # whose secret signs
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),  # task.completed, video.failed …
    sa.Column("body", sa.Text, nullable=False),  # as it is signed and sent: text, as JSON columns order members anew
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("due", sa.BigInteger, nullable=False),  # of the next try; ahead of it while a process makes one
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("status", sa.Text, nullable=False, default="pending"),  # pending, delivered, failed
    sa.Column("last", sa.Text),  # what came of the last try
    sa.Index("delivery_due", "due", **where("status = 'pending'")),
    sa.Index("delivery_task", "task"),
)

entry = sa.Table(
    "entry",  # the ledger: what each task cost, kept when its history is deleted
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # the task's
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("day", sa.Text, nullable=False),  # 2026-11-20, UTC
    sa.Column("op", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("pictures", sa.Integer, nullable=False),
    sa.Column("cost", sa.BigInteger),  # null: not known
    sa.Column("wasted", sa.BigInteger, nullable=False),
    sa.Index("entry_key", "key", "day", "pictures", "cost", "wasted"),  # all that an account tells
    sa.Index("entry_day", "day"),
)

budget = sa.Table(
    "budget",  # running totals of the keys that have a budget
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("period", sa.Text, primary_key=True),  # 2026-11-20 or 2026-11, UTC
    sa.Column("spent", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
)

reservation = sa.Table(
    "reservation",  # what running tasks may still cost
    metadata,
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("day", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
)

file = sa.Table(
    "file",  # uploads
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # file-… by time
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),  # by its first bytes
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # in the store
    sa.Index("file_key", "key", "id"),
    sa.Index("file_expires", "expires"),
)

worker = sa.Table(
    "worker",  # processes that serve
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
)

rate = sa.Table(
    "rate",  # limits shared by several processes that have no Redis; not logged on PostgreSQL
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("free", sa.BigInteger, nullable=False),  # microseconds since 1970: when nothing of it is used any more
)

slot = sa.Table(
    "slot",  # jobs that run now, where several processes without Redis share `concurrent_jobs`
    metadata,
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Index("slot_key", "key"),
)
