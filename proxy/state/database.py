"""Where records are kept: SQLite in the data folder, or PostgreSQL. The same statements for both.

SQLAlchemy's synchronous Core in a few threads of our own: a transaction is one hop off the event loop, where an async
driver makes one for each statement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from translators.base import Fault

T = TypeVar("T")

READERS = 4  # threads
WRITERS = 4  # of PostgreSQL; SQLite has one writer at a time anyway
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
RETRY_AFTER = 5.0  # seconds after which a client may try again
GONE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)


class Database:
    """The records of one installation. `up` says whether the last statement reached it."""

    def __init__(self, url: str) -> None:
        self.url = sa.engine.make_url(url)
        self.kind = self.url.get_backend_name()  # sqlite, postgresql
        self.up = True
        lite = self.kind == "sqlite"
        self._writing = _lite(self.url, writing=True) if lite else _postgres(self.url, READERS + WRITERS)
        self._reading = _lite(self.url, writing=False) if lite else self._writing
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._writers = ThreadPoolExecutor(1 if lite else WRITERS, "write")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds. Raises `Fault("overloaded")` with the code `database_unavailable`."""
        return await self._run(self._readers, self._reading, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; it is durable when this returns. Raises as `read` does.

        A connection that breaks during the commit leaves open whether it happened: `work` must bear being repeated.
        """
        return await self._run(self._writers, self._writing, work)

    async def _run(self, pool: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with engine.begin() as connection:
                return work(connection)

        try:
            done = await asyncio.wrap_future(pool.submit(transaction))
        except GONE as error:
            self.up = False
            raise unavailable() from error
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self.up = False
            raise unavailable() from error
        self.up = True
        return done

    def now(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction in this thread: for commands, and before the server starts."""
        with self._writing.begin() as connection:
            return work(connection)

    def close(self) -> None:
        """Let what is under way end, and close the connections."""
        for pool in (self._readers, self._writers):
            pool.shutdown(wait=True)
        self._reading.dispose()
        self._writing.dispose()


def unavailable() -> Fault:
    """What a request is told that cannot be served without records."""
    return Fault(
        "overloaded", "The server's database cannot be reached.", code="database_unavailable", retry_after=RETRY_AFTER
    )


def insert(table: sa.Table, connection: Connection) -> Any:
    """An `INSERT` that knows `on_conflict_do_nothing` and `on_conflict_do_update`: the same words in both dialects."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def default_url(data: Path) -> str:
    """The embedded database."""
    return f"sqlite:///{data.absolute() / 'pictor.db'}"


def milliseconds() -> int:
    """Now, as the tables have it."""
    return time.time_ns() // 1_000_000


def _lite(url: sa.URL, *, writing: bool) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url, pool_size=1 if writing else READERS, max_overflow=1, connect_args={"timeout": STATEMENT_SECONDS},
        **_JSON,
    )  # fmt: skip

    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin as we say
        # busy_timeout first: the change to WAL may find the file locked
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        # A transaction that reads before it writes would fail where another writes meanwhile.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgres(url: sa.URL, connections: int) -> Engine:
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"), pool_size=connections, max_overflow=0, pool_pre_ping=False,
        pool_timeout=CONNECT_SECONDS,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c statement_timeout={STATEMENT_SECONDS * 1000}",
            "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
            "tcp_user_timeout": STATEMENT_SECONDS * 1000, "application_name": "pictor",
        }, **_JSON,
    )  # fmt: skip


_JSON: dict[str, Any] = {
    "json_serializer": lambda value: msgspec.json.encode(value).decode(),
    "json_deserializer": msgspec.json.decode,
}
