"""The database as this version needs it. Where it is so already, that costs one query, and Alembic is not imported."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.logs import say
from proxy.state.database import Database

HEAD = "0001"  # the newest of `migrations/versions`
SCRIPTS = Path(__file__).parent / "migrations"
LOCK = 0x7069_6374_6F72  # of PostgreSQL: "pictor"


class NewerDatabase(Exception):
    """The database has been changed by a later version of Pictor than this one."""


def migrate(database: Database) -> None:
    """Bring it up to date, in one transaction. Of several processes at once one does it, and the others wait.

    Raises `NewerDatabase`, and `Fault` as `Database.now` does.
    """
    database.now(_migrate)


async def migrated(database: Database) -> None:
    """`migrate`, beside the event loop."""
    await asyncio.to_thread(migrate, database)


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's writer is alone as it is
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    before = _version(connection)
    if before != HEAD:
        _upgrade(connection, before)
        say("the database was brought up to date", before=before, now=HEAD)


def _version(connection: Connection) -> str | None:
    """Which migration was the last; `None` in an empty database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection, before: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}
    if before is not None and before not in known:
        raise NewerDatabase(
            f"The database is at version {before}, and this version of Pictor knows it up to {HEAD}. "
            "Start a version at least as new as the one that was used last."
        )
    command.upgrade(config, HEAD)
