"""The tables of the first release."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them all."""
    keys()
    tasks()
    durable()
    told()
    money()
    files()
    processes()


def keys() -> None:
    """Who may call."""
    op.create_table(
        "key",
        text("id"),
        text("name"),
        text("email", nullable=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        text("prefix"),
        sa.Column("previous_digest", sa.LargeBinary),
        number("previous_until", nullable=True),
        text("tier", nullable=True),
        sa.Column("admin", sa.Boolean, nullable=False),
        json("models", nullable=True),
        json("overrides"),
        json("metadata"),
        number("created"),
        number("expires", nullable=True),
        number("revoked", nullable=True),
        text("webhook_url", nullable=True),
        sa.Column("webhook_version", sa.Integer, nullable=False),
        number("webhook_rotated", nullable=True),
        sa.PrimaryKeyConstraint("id", name="key_pkey"),
        sa.UniqueConstraint("name", name="key_name_key"),
        sa.UniqueConstraint("digest", name="key_digest_key"),
        sa.UniqueConstraint("previous_digest", name="key_previous_digest_key"),
    )


def tasks() -> None:
    """What was asked for, and what came of it."""
    op.create_table(
        "task",
        text("id"),
        text("key"),
        number("created"),
        number("ended", nullable=True),
        text("status"),
        text("op"),
        text("asked"),
        text("model", nullable=True),
        json("request"),
        json("metadata", nullable=True),
        json("result", nullable=True),
        number("bytes"),
        json("timings", nullable=True),
        json("error", nullable=True),
        number("cost", nullable=True),
        number("wasted"),
        number("estimate", nullable=True),
        text("fingerprint", nullable=True),
        text("claim", nullable=True),
        text("worker"),
        sa.Column("lost", sa.Boolean, nullable=False),
        text("request_id", nullable=True),
        text("cached", nullable=True),
        text("terms"),
        sa.PrimaryKeyConstraint("id", name="task_pkey"),
        sa.UniqueConstraint("claim", name="task_claim_key"),
    )
    op.create_index("task_key", "task", ["key", "id", "created", "status", "op", "terms"])
    op.create_index("task_all", "task", ["id", "created", "status", "op", "terms"])
    some("task_fingerprint", "task", "(lost OR ended IS NULL)", "fingerprint")
    some("task_cached", "task", "cached IS NOT NULL", "cached")
    some("task_worker", "task", "ended IS NULL", "worker")


def some(name: str, table: str, condition: str, *columns: str) -> None:
    """An index over those rows alone."""
    where = sa.text(condition)
    op.create_index(name, table, [*columns], sqlite_where=where, postgresql_where=where)


def durable() -> None:
    """What is made whatever becomes of a process."""
    op.create_table(
        "job",
        text("task"),
        text("key"),
        text("queue"),
        sa.Column("priority", sa.Integer, nullable=False),
        json("work", nullable=True),
        text("webhook", nullable=True),
        number("started", nullable=True),
        number("cancel", nullable=True),
        sa.Column("progress", sa.Integer),
        sa.Column("adopted", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("task", name="job_pkey"),
    )
    some("job_waiting", "job", "started IS NULL", "queue", "key", "task")
    some("job_cancel", "job", "cancel IS NOT NULL", "task")
    op.create_table(
        "submit",
        text("task"),
        sa.Column("number", sa.Integer, nullable=False),
        text("target"),
        text("credential"),
        number("sent"),
        json("saved"),
        json("call", nullable=True),
        sa.PrimaryKeyConstraint("task", "number", name="submit_pkey"),
    )


def told() -> None:
    """What clients are told of the ends of their tasks."""
    op.create_table(
        "delivery",
        text("id"),
        text("task"),
        text("key"),
        text("url"),
        text("type"),
        text("body"),
        number("created"),
        number("due"),
        sa.Column("tries", sa.Integer, nullable=False),
        text("status"),
        text("last", nullable=True),
        sa.PrimaryKeyConstraint("id", name="delivery_pkey"),
    )
    some("delivery_due", "delivery", "status = 'pending'", "due")
    op.create_index("delivery_task", "delivery", ["task"])


def money() -> None:
    """What was spent, and what may be."""
    op.create_table(
        "entry",
        text("id"),
        text("key"),
        number("at"),
        text("day"),
        text("op"),
        text("provider"),
        text("model"),
        text("status"),
        sa.Column("pictures", sa.Integer, nullable=False),
        number("cost", nullable=True),
        number("wasted"),
        sa.PrimaryKeyConstraint("id", name="entry_pkey"),
    )
    op.create_index("entry_key", "entry", ["key", "day", "pictures", "cost", "wasted"])
    op.create_index("entry_day", "entry", ["day"])
    op.create_table(
        "budget",
        text("key"),
        text("period"),
        number("spent"),
        number("reserved"),
        sa.PrimaryKeyConstraint("key", "period", name="budget_pkey"),
    )
    op.create_table(
        "reservation",
        text("task"),
        text("key"),
        text("day"),
        number("amount"),
        text("worker"),
        sa.PrimaryKeyConstraint("task", name="reservation_pkey"),
    )


def files() -> None:
    """Uploads."""
    op.create_table(
        "file",
        text("id"),
        text("key"),
        number("created"),
        number("expires", nullable=True),
        text("filename"),
        text("purpose"),
        text("type"),
        number("bytes"),
        text("path"),
        sa.PrimaryKeyConstraint("id", name="file_pkey"),
    )
    op.create_index("file_key", "file", ["key", "id"])
    op.create_index("file_expires", "file", ["expires"])


def processes() -> None:
    """Who serves, and the limits that they share."""
    op.create_table(
        "worker",
        text("id"),
        text("host"),
        sa.Column("pid", sa.Integer, nullable=False),
        number("started"),
        number("seen"),
        sa.PrimaryKeyConstraint("id", name="worker_pkey"),
    )
    op.create_table("rate", text("id"), number("free"), sa.PrimaryKeyConstraint("id", name="rate_pkey"))
    op.create_table(
        "slot",
        text("task"),
        text("key"),
        text("worker"),
        number("until"),
        sa.PrimaryKeyConstraint("task", name="slot_pkey"),
    )
    op.create_index("slot_key", "slot", ["key"])
    if op.get_context().dialect.name == "postgresql":
        for table in ("rate", "slot"):  # limits begin anew after a crash, and cost less until then
            op.execute(f"ALTER TABLE {table} SET UNLOGGED")


def text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    """A column of text."""
    return sa.Column(name, sa.Text, nullable=nullable)


def number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    """A column of whole numbers: times, money, sizes."""
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    """A column of JSON; SQL's null is the only one."""
    kind = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    return sa.Column(name, kind, nullable=nullable)
