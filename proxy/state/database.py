"""Where records are kept: SQLite in the data folder, or PostgreSQL. The same statements for both.

SQLAlchemy's synchronous Core in a few threads of our own: a transaction is one hop off the event loop, where an async
driver makes one for each statement. No transaction of a request lasts longer than `PATIENCE`, even where the server
hangs and says nothing.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from os import dup
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from proxy.logs import say, warn
from translators.base import Fault

T = TypeVar("T")

READERS = 4  # threads
WRITERS = 4  # of PostgreSQL; SQLite has one writer at a time anyway
PATIENCE = 5.0  # seconds of one transaction, with all its waits for a connection and for locks
STATEMENT = 4.0  # seconds of one statement of PostgreSQL, so that a slow one is told from a server that hangs
CONNECT = 3  # seconds
UNHURRIED = 600.0  # seconds that a command waits for other processes
PAUSE = 1.0  # seconds between two tries while the database is away
RETRY_AFTER = 5.0  # seconds after which a client may try again
TRIES = 3  # of a transaction that has changed nothing when it fails


class Database:
    """The records of one installation. `up` says whether the last transaction reached it."""

    def __init__(self, url: str) -> None:
        self.url = sa.engine.make_url(url)
        self.kind = "sqlite" if self.url.get_backend_name() == "sqlite" else "postgresql"
        self.up = True
        self._next_try = 0.0
        lite = self.kind == "sqlite"
        self._writing = _lite(self.url, writing=True) if lite else _postgres(self.url)
        self._reading = _lite(self.url, writing=False) if lite else self._writing
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._writers = ThreadPoolExecutor(1 if lite else WRITERS, "write")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds. Raises `Fault("overloaded")` with the code `database_unavailable`.

        While the database is away, one call each second tries it, and all others fail at once. SQLite is always read:
        that can be done on a full disk too, and does not show that there is room again.
        """
        return await self._run(self._readers, self._reading, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; it is durable when this returns. Raises as `read` does.

        `work` may run several times, but what it did before is undone then. One thing nobody can know: where the
        connection breaks during the commit this raises, although all may have been written.
        """
        return await self._run(self._writers, self._writing, work)

    async def _run(self, pool: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], T]) -> T:
        tells = engine is self._writing  # whether the database is there
        if tells and not self.up:
            if time.monotonic() < self._next_try:
                raise unavailable()
            self._next_try = time.monotonic() + PAUSE
        turn = _Turn(engine, work)
        running = pool.submit(turn.run)
        cut = asyncio.get_running_loop().call_later(PATIENCE, turn.cut)
        try:
            done = await asyncio.wrap_future(running)
        except Exception as error:
            self._judge(error)
            raise
        finally:
            if running.done():  # else nobody waits for it any more, but it must still come to an end
                cut.cancel()
        if tells:
            self._reached()
        return done

    def now(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction in this thread, for as long as it takes: for commands, and before serving.

        Raises as `read` does.
        """
        try:
            with self._writing.connect() as connection:
                lite = self.kind == "sqlite"
                if lite:
                    _wait_for_locks(connection, UNHURRIED)
                try:
                    with connection.begin():
                        if not lite:
                            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                        done = work(connection)
                finally:
                    if lite:
                        _wait_for_locks(connection, PATIENCE)
        except Exception as error:
            self._judge(error)
            raise
        self._reached()
        return done

    def _judge(self, error: Exception) -> None:
        """Raises the fault for `error` where the database could not do at all what was asked of it."""
        why = _why(error)
        if why == "away":
            if self.up:
                warn("the database is away", error=error)
            self.up = False
            self._next_try = time.monotonic() + PAUSE
        if why != "refused":
            raise unavailable() from error

    def _reached(self) -> None:
        if not self.up:
            say("the database is back")
            self.up = True

    def close(self) -> None:
        """Let what is under way end, and close the connections."""
        for pool in (self._readers, self._writers):
            pool.shutdown(wait=True)
        self._reading.dispose()
        self._writing.dispose()


class _Turn(Generic[T]):
    """One transaction, run in a thread, which the event loop may cut off."""

    def __init__(self, engine: Engine, work: Callable[[Connection], T]) -> None:
        self._engine = engine
        self._work = work
        self._lock = threading.Lock()
        self._driver: Any = None  # its connection, while it may be cut
        self._late = False
        self._committing = False

    def run(self) -> T:
        for _ in range(TRIES - 1):
            try:
                return self._once()
            except sa.exc.DBAPIError as error:
                # A connection of the pool is dead where the server was started anew meanwhile: another one works.
                if self._committing or self._late or not (error.connection_invalidated or _in_the_way(error)):
                    raise
        return self._once()

    def _once(self) -> T:
        with self._engine.connect() as connection:
            self._hold(connection.connection.dbapi_connection)
            try:
                with connection.begin():
                    done = self._work(connection)
                    self._committing = True
                return done
            finally:
                self._hold(None)

    def _hold(self, driver: Any) -> None:
        with self._lock:
            self._driver = driver
            if self._late and driver is not None:
                raise unavailable()

    def cut(self) -> None:
        """Let it fail now, whatever it waits for."""
        with self._lock:
            self._late = True
            if isinstance(self._driver, sqlite3.Connection):
                self._driver.interrupt()
            elif self._driver is not None:
                from psycopg import Error  # which is loaded by now; SQLite does without its 9 MB

                with suppress(OSError, Error), socket.socket(fileno=dup(self._driver.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)


def _why(error: Exception) -> Literal["away", "slow", "refused"]:
    """What has failed. The database is "away", too "slow", or has "refused" what it was given."""
    if isinstance(error, sa.exc.TimeoutError):
        return "away"
    if not isinstance(error, sa.exc.DBAPIError):
        return "refused"
    if error.connection_invalidated:
        return "away"
    if isinstance(error.orig, sqlite3.Error):
        # The driver's own errors have no code.
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return "slow" if code == sqlite3.SQLITE_INTERRUPT else "refused" if code in _REFUSED_LITE else "away"
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return "away" if isinstance(error, sa.exc.OperationalError) else "refused"
    return "slow" if state == "57014" else "refused" if state[:2] in _REFUSED_POSTGRES else "away"


_REFUSED_LITE = frozenset(
    {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH,
     sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE}
)  # fmt: skip
_REFUSED_POSTGRES = frozenset({"0A", "21", "22", "23", "26", "42", "54"})  # classes of SQLSTATE


def _in_the_way(error: sa.exc.DBAPIError) -> bool:
    """Whether another transaction was the reason: a deadlock, or an order that cannot be kept."""
    return (getattr(error.orig, "sqlstate", None) or "").startswith("40")


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


def json_text(value: Any) -> str:
    """The value as JSON that both databases take."""
    text = msgspec.json.encode(value).decode()
    # PostgreSQL has no such character. It is of no use, so it is not kept anywhere.
    return text if "\\u0000" not in text else msgspec.json.encode(_without_nul(value)).decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(each) for name, each in value.items()}
    return [_without_nul(each) for each in value] if isinstance(value, list) else value


def milliseconds() -> int:
    """Now, as the tables have it."""
    return time.time_ns() // 1_000_000


def _lite(url: sa.URL, *, writing: bool) -> Engine:
    if url.database:
        path = Path(url.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)  # it holds prompts; what SQLite puts beside it gets the same permissions
    engine = sa.create_engine(
        url, pool_size=1 if writing else READERS, max_overflow=1, pool_timeout=PATIENCE,
        connect_args={"timeout": PATIENCE}, **_COMMON,
    )  # fmt: skip

    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin as we say
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        # A transaction that reads before it writes would fail where another writes meanwhile.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _wait_for_locks(connection: Connection, seconds: float) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")


def _postgres(url: sa.URL) -> Engine:
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"), pool_size=READERS + WRITERS, max_overflow=1,
        pool_timeout=PATIENCE,
        connect_args={
            "connect_timeout": CONNECT, "options": f"-c statement_timeout={STATEMENT * 1000:.0f}",
            "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "application_name": "pictor",
        }, **_COMMON,
    )  # fmt: skip


_COMMON: dict[str, Any] = {
    "hide_parameters": True,  # no prompt gets into a log with the error of its statement
    "json_serializer": json_text,
    "json_deserializer": msgspec.json.decode,
}
