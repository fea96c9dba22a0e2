"""Several real servers that serve as one, their provider, and clients that never give up."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import sqlalchemy as sa
import yaml

from tests.chaos_provider import Paid, Patient
from tests.fakes.base import running
from tests.server import CLEAN, KEY, ROOT, Server, free_port, stop, wait_ready

HEADERS = {"Authorization": f"Bearer {KEY}"}
GIVEN_UP = 90.0  # seconds in which tasks of a process that is gone find another
RETRY = 0.3  # seconds until a client tries another process
KINDS = ("picture", "film", "picture", "clip", "waited")
"""In turn: a picture and a video that nobody waits for; a video of the service that can be asked for our own name; a
picture whose client waits.
"""
MODELS = {"picture": "bfl/flux-2-pro", "waited": "bfl/flux-2-pro", "film": "bfl/flux-3-video",
          "clip": "kling/kling-3.0-turbo"}  # fmt: skip


def kind_of(prompt: str) -> str:
    """What is asked for under this name."""
    return KINDS[int(prompt.removeprefix("task ")) % len(KINDS)]


@dataclass
class Member:
    """One of the processes that serve, over all its lives."""

    name: str
    server: Server
    env: dict[str, str]
    up: bool = False
    lives: int = 0

    async def start(self) -> None:
        """Returns when it takes work."""
        await asyncio.to_thread(self._start)
        self.up, self.lives = True, self.lives + 1

    def _start(self) -> None:
        command = [sys.executable, "-m", "proxy", "serve", "--config",
                   str(self.server.config), "--port", self.server.address.rpartition(":")[2]]  # fmt: skip
        with self.server.log.open("ab") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env={**CLEAN, **self.env}, cwd=ROOT)
        self.server = Server(self.server.address, process, self.server.config, self.server.log)
        wait_ready(self.server, 60)

    async def end(self, number: signal.Signals) -> None:
        """Returns when it is gone."""
        self.up = False
        await asyncio.to_thread(stop, self.server.process, number)


@dataclass(frozen=True)
class Blow:
    """A process came to its end, or to a halt."""

    at: float
    how: str
    by: str  # its name at the provider
    open: tuple[Paid, ...]  # submits on the wire
    until: float | None = None  # of an outage


@dataclass
class Fleet:
    """Several processes that serve as one, their provider and their clients."""

    members: list[Member]
    provider: Patient
    database: str
    chance: random.Random
    asked: int = 0
    taken: dict[str, str] = field(default_factory=dict)  # prompt -> task, once a client has heard of it
    told: dict[str, str] = field(default_factory=dict)  # prompt -> how it ended, for the clients that wait
    moments: list[float] = field(default_factory=list)  # in which clients had their answers
    refused: Counter[str] = field(default_factory=Counter)
    blows: list[Blow] = field(default_factory=list)
    watches: list[asyncio.Task[None]] = field(default_factory=list)
    taken_over_in: list[tuple[int, float]] = field(default_factory=list)  # tasks of one blow, seconds

    def note(self, member: Member, how: str) -> None:
        """What it leaves behind, and how soon others go on with that."""
        provider, now = self.provider, time.monotonic()
        self.blows.append(Blow(now, how, member.name, (*provider.open(member.name),)))
        self.watches.append(asyncio.create_task(self.taken_over(member.server.process.pid, now)))

    async def taken_over(self, pid: int, since: float) -> None:
        """Note how long it takes until each of its tasks has ended, or belongs to another process."""
        found = await self.rows("SELECT id FROM worker WHERE pid = :pid", pid=pid)
        if not found:
            return
        mine = "SELECT id FROM task WHERE worker IN (:worker, '') AND ended IS NULL"
        left = {*await self.rows(mine.replace("''", ":worker"), worker=found[0])}
        number = len(left)
        while left and time.monotonic() - since < GIVEN_UP:
            await asyncio.sleep(0.2)
            left &= {*await self.rows(mine, worker=found[0])}
        self.taken_over_in.append((number, time.monotonic() - since))

    async def rows(self, statement: str, **values: Any) -> list[str]:
        """The first column; waits for a database that is away."""

        def read() -> list[str]:
            with self.engine.connect() as connection:
                return [*connection.scalars(sa.text(statement), values)]

        while True:
            with suppress(sa.exc.OperationalError):
                return await asyncio.to_thread(read)
            await asyncio.sleep(0.2)

    @cached_property
    def engine(self) -> sa.Engine:
        """To look into the database beside them."""
        url = sa.make_url(self.database)
        return sa.create_engine(
            url if url.host is None else url.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool
        )

    async def load(self, tasks: int, seconds: float) -> None:
        """So many clients, spread over that time; returns when all have their answer."""
        limits = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=90, connect=5)
        async with (
            aiohttp.ClientSession(connector=limits, headers=HEADERS, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(tasks):
                group.create_task(self.client(session, f"task {self.asked}"))
                self.asked += 1
                await asyncio.sleep(seconds / tasks * self.chance.uniform(0, 2))

    async def client(self, session: aiohttp.ClientSession, prompt: str) -> None:
        """Asks one process after the other, always for the same, until it is told something final."""
        kind = kind_of(prompt)
        path = "videos" if kind in {"film", "clip"} else "images/generations"
        body = {"model": MODELS[kind], "prompt": prompt}
        headers = {"Idempotency-Key": prompt} | ({"Prefer": "respond-async"} if kind == "picture" else {})
        while True:
            member = self.chance.choice(self.members)
            url = f"{member.server.base_url}/{path}"
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(url, json=body, headers=headers) as response:
                    told = await response.json()
                if response.status in {200, 202}:
                    id = response.headers.get("x-pictor-task") or told["id"]
                    self.taken[prompt] = f"task_{id.rpartition('_')[2]}"
                    self.moments.append(time.monotonic())
                    self.told[prompt] = "completed" if kind == "waited" else "accepted"
                    return
                code = told["error"]["code"]
                self.refused[code] += 1
                if response.headers.get("x-should-retry") == "false":
                    self.told[prompt] = code
                    return
            await asyncio.sleep(RETRY)


# ---- the processes


@contextmanager
def fleet(
    folder: Path, size: int, *, database: str | None = None, hosts: bool = False, seed: int = 0, **services: Any
) -> Iterator[Fleet]:
    """`size` processes, not started yet; with `hosts`, none can look whether another one's process still runs."""
    chance = random.Random(seed)
    provider = Patient(chance=random.Random(seed + 1), **services)
    with running(provider):
        members = [member(folder, f"server-{number}", provider, database, hosts) for number in range(size)]
        made = Fleet(members, provider, database or f"sqlite:///{folder}/data/pictor.db", chance)
        try:
            yield made
        finally:
            for each in members:
                with suppress(ProcessLookupError):
                    each.server.process.send_signal(signal.SIGCONT)
                each.server.process.kill()
                each.server.process.wait()


def member(folder: Path, name: str, provider: Patient, database: str | None, hosts: bool) -> Member:
    own = folder / name
    own.mkdir()
    port = free_port()
    service = {"api_key": name, "base_url": provider.url}
    document: dict[str, Any] = {
        "server": {"drain_seconds": 5},
        "auth": {"mode": "keys", "keys": [{"name": "tests", "key": KEY, "admin": True, "tier": "pro"}]},
        "tiers": {"pro": {"budget_usd_per_month": 100_000}},
        "data": str(folder / "data"),
        "secret": "a secret that all processes share",
        "providers": {"bfl": service, "kling": service},
        "log": {"format": "text"},
    }
    if database:
        document["database"] = database
    path = own / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    env: dict[str, str] = {}
    if hosts:
        (own / "sitecustomize.py").write_text(f"import socket\nsocket.gethostname = lambda: {name!r}\n")
        env = {"PYTHONPATH": str(own)}
    idle = subprocess.Popen(["true"])  # until it is started
    idle.wait()
    return Member(name, Server(f"http://127.0.0.1:{port}", idle, path, own / "server.log"), env)


def fetched(server: Server, path: str) -> httpx.Response:
    return httpx.get(
        path if "://" in path else f"{server.base_url}/{path}", headers=HEADERS, trust_env=False, timeout=30
    )


def every_task(server: Server) -> list[dict[str, Any]]:
    """All of them, as a client sees them."""
    found: list[dict[str, Any]] = []
    query = "limit=100"
    while True:
        page = fetched(server, f"tasks?{query}").json()
        found += page["data"]
        if not page["has_more"]:
            return found
        query = f"limit=100&after={page['last_id']}"


def ended(fleet: Fleet, seconds: float) -> Sequence[dict[str, Any]]:
    """Returns once every task has its end, or that time is over."""
    until = time.monotonic() + seconds
    server = fleet.members[-1].server
    while time.monotonic() < until:
        if all(fetched(server, f"tasks?status={each}").json()["data"] == [] for each in ("in_progress", "queued")):
            break
        time.sleep(0.3)
    return every_task(server)
