"""Ten thousand videos under way in one process, each asked for every ten seconds: what that takes, and who waits.

    python -m bench.tasks [--tasks 10000] [--database postgresql://…] [--quick]

One server on one core, over the life of its tasks: they are taken, they wait, the server is killed and started anew,
they are ready one after the other. A database that is given must be empty; else it is SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import msgspec
import sqlalchemy as sa
import yaml

from bench import processes
from bench.maker import Told
from bench.processes import GATEWAY, LOAD
from bench.upstream import Ports
from proxy.state import tables
from proxy.state.database import Database, default_url

MODEL = "volcengine/doubao-seedance-1-0-pro-250528"
INTERVAL = 10.0  # seconds between two polls of that provider's
PACE = 1 / 20  # seconds between two tasks that are taken steadily
READS = 500  # of single tasks, a second
ENDS = 83  # tasks that are ready each second: as many as end where each of 10,000 takes two minutes
CLIENTS = 64  # that send task after task as quickly as they are taken
STALL = 0.02  # seconds
BARS = {
    "memory with all tasks under way, MiB": 500,
    "share of a core for polls alone, %": 90,
    "accepted at 20/s, p50 ms": 15,
    "accepted at 20/s beside all tasks, p50 ms": 15,
    "started anew, until it serves, s": 1.5,
    "from ready to seen, p95 s": INTERVAL + 2,
}


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    what: str
    value: float


class Bench:
    """One run."""

    def __init__(self, root: Path, tasks: int, database: str | None, quick: bool) -> None:
        self.root = root
        self.tasks = tasks
        self.seconds = 10 if quick else 30  # of each steady measurement
        self.ends = ENDS * (4 if quick else 1)
        self.database = database or default_url(root / "data")
        self.ports = Ports()
        self.url = f"http://127.0.0.1:{self.ports.pictor}"
        self.ids: list[str] = []
        self.rows: list[Row] = []
        self.pid = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.config()

    def config(self) -> None:
        document: dict[str, Any] = {
            "server": {"port": self.ports.pictor, "drain_seconds": 1},
            "auth": {"mode": "open"},
            "data": str(self.root / "data"),
            "log": {"level": "warning"},
            "fetch": {"allow": ["127.0.0.1"]},
            "providers": {
                "volcengine": {"api_key": "none", "base_url": f"http://127.0.0.1:{self.ports.maker}"},
            },
        }  # fmt: skip
        if not self.database.startswith("sqlite"):
            document |= {"database": self.database, "secret": "bench-secret-of-thirty-two-characters"}
        (self.root / "config.yaml").write_text(yaml.safe_dump(document))

    def say(self, what: str, value: float) -> None:
        self.rows.append(Row(what, value))
        print(f"{what}: {value:,.2f}", file=sys.stderr, flush=True)

    # ---- the server

    async def start(self) -> float:
        """Start the server; the seconds until it serves."""
        command = [sys.executable, *SERVE, "serve", "--config", str(self.root / "config.yaml")]
        with (self.root / "server.out").open("ab") as out:
            began = time.perf_counter()
            self.process = self.spawn(command, out)
        self.pid = self.process.pid
        async with aiohttp.ClientSession() as session:
            while self.process.poll() is None:
                try:
                    async with session.get(self.url + "/ready") as response:
                        if response.status == 200:
                            return time.perf_counter() - began
                except aiohttp.ClientError:
                    await asyncio.sleep(0.005)
        raise SystemExit((self.root / "server.out").read_text()[-3000:])

    def spawn(self, command: Sequence[str], out: BinaryIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(processes.pinned(GATEWAY, command), stdout=out, stderr=out)

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def told(self, session: aiohttp.ClientSession) -> Told:
        """What the provider has seen so far."""
        async with session.get(f"http://127.0.0.1:{self.ports.maker}/told") as response:
            return msgspec.json.decode(await response.read(), type=Told)

    # ---- the clients

    async def take(self, session: aiohttp.ClientSession) -> float:
        """Begin one task; milliseconds until it was taken."""
        began = time.perf_counter()
        body = {"model": MODEL, "prompt": "A paper boat on a rain puddle", "seconds": "5"}
        async with session.post(f"{self.url}/v1/videos", json=body) as response:
            made = await response.json()
            if response.status != 200:
                raise SystemExit(f"{response.status} {made}")
        self.ids.append(made["id"].removeprefix("video_"))
        return (time.perf_counter() - began) * 1000

    async def look(self, session: aiohttp.ClientSession) -> float:
        """Read one task; milliseconds."""
        number = len(self.ids) * time.monotonic_ns() % 9_973 % len(self.ids)
        began = time.perf_counter()
        path = f"/v1/videos/video_{self.ids[number]}" if number % 2 else f"/v1/tasks/task_{self.ids[number]}"
        async with session.get(self.url + path) as response:
            await response.read()
            if response.status != 200:
                raise SystemExit(f"{path}: {response.status}")
        return (time.perf_counter() - began) * 1000

    async def fill(self, session: aiohttp.ClientSession) -> float:
        """Begin tasks until all are there; how many were taken each second."""
        before, began = len(self.ids), time.perf_counter()

        async def client() -> None:
            while len(self.ids) + CLIENTS <= self.tasks:
                await self.take(session)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return (len(self.ids) - before) / (time.perf_counter() - began)

    async def all_polled(self, session: aiohttp.ClientSession, since: float) -> float:
        """Wait until each task was asked for after `since`, which is of `time.time`; the time of the last."""
        while True:
            polled = (await self.told(session)).polled
            if len(polled) == len(self.ids) and min(polled.values()) >= since:
                return max(polled.values())
            await asyncio.sleep(0.2)

    # ---- what is measured

    async def run(self) -> None:
        self.say("started, until it serves, s", await self.start())
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await self.take(session)
            base = processes.memory_mib(self.pid, "VmRSS")
            p50, p95, _ = quantiles(await steady(lambda: self.take(session), PACE, self.seconds))
            self.say("accepted at 20/s, p50 ms", p50)
            self.say("accepted at 20/s, p95 ms", p95)
            self.say("accepted by all means, each second", await self.fill(session))
            await self.all_polled(session, 0.0)
            await asyncio.sleep(INTERVAL)
            await self.waits(session, base)
            p50, p95, _ = quantiles(await steady(lambda: self.take(session), PACE, self.seconds))
            self.say("accepted at 20/s beside all tasks, p50 ms", p50)
            self.say("accepted at 20/s beside all tasks, p95 ms", p95)
            p50, p95, _ = quantiles(await steady(lambda: self.look(session), 1 / READS, self.seconds))
            self.say("read at 500/s beside all tasks, p50 ms", p50)
            self.say("read at 500/s beside all tasks, p95 ms", p95)
            await self.again(session)
            await self.finish(session)

    async def waits(self, session: aiohttp.ClientSession, base: float) -> None:
        """All tasks are under way, and nothing else happens."""
        before, cpu, began = await self.told(session), processes.cpu_seconds(self.pid), time.perf_counter()
        async with watched(self.url) as late:
            await asyncio.sleep(self.seconds)
        took = time.perf_counter() - began
        spent = processes.cpu_seconds(self.pid) - cpu
        polls = (await self.told(session)).polls - before.polls
        memory = processes.memory_mib(self.pid, "VmRSS")
        self.say("tasks under way", len(self.ids))
        self.say("polls each second", polls / took)
        self.say("share of a core for polls alone, %", spent / took * 100)
        self.say("processor time of a poll, µs", spent / polls * 1e6)
        self.say("memory with all tasks under way, MiB", memory)
        self.say("memory of a task under way, KiB", (memory - base) * 1024 / len(self.ids))
        self.say("small answers meanwhile, p99 ms", quantiles(late)[2] * 1000)
        self.say("small answers meanwhile, longest, ms", max(late) * 1000)

    async def again(self, session: aiohttp.ClientSession) -> None:
        """The server is killed and started anew."""
        self.kill()
        killed = time.time()
        self.say("started anew, until it serves, s", await self.start())
        async with watched(self.url) as late:
            self.say("started anew, until all are asked for, s", await self.all_polled(session, killed) - killed)
        self.say("small answers meanwhile, p99 ms (anew)", quantiles(late)[2] * 1000)
        self.say("small answers meanwhile, longest, ms (anew)", max(late) * 1000)
        self.say("small answers that took longer than 20 ms (anew)", sum(each > STALL for each in late))
        self.say("memory after the start, MiB", processes.memory_mib(self.pid, "VmRSS"))

    async def finish(self, session: aiohttp.ClientSession) -> None:
        """Each becomes ready."""
        cpu, began = processes.cpu_seconds(self.pid), time.perf_counter()
        seconds = len(self.ids) / self.ends
        async with session.post(f"http://127.0.0.1:{self.ports.maker}/ready/{seconds}") as response:
            await response.read()
        await asyncio.sleep(seconds)
        self.say("share of a core while they end, %", (processes.cpu_seconds(self.pid) - cpu) / seconds * 100)
        while len((told := await self.told(session)).seen) < len(self.ids):
            if time.perf_counter() - began > seconds + 60:
                raise SystemExit(f"{len(self.ids) - len(told.seen)} tasks are never asked for again")
            await asyncio.sleep(0.5)
        await asyncio.sleep(3)
        seen = [told.seen[task] - ready for task, ready in told.ready.items()]
        self.say("from ready to seen, p95 s", quantiles(seen)[1])
        self.say("from ready to seen, longest, s", max(seen))
        ended = self.ended()
        if len(ended) != len(self.ids):
            raise SystemExit(f"{len(self.ids) - len(ended)} tasks have no video")
        whole = [ended[task] - ready for task, ready in told.ready.items()]
        self.say("from ready to written down, p95 s", quantiles(whole)[1])
        self.say("memory at the end, MiB", processes.memory_mib(self.pid, "VmRSS"))

    def ended(self) -> dict[str, float]:
        """The provider's tasks whose videos are there, and since when."""
        database = Database(self.database)
        statement = sa.select(tables.task.c.result, tables.task.c.ended).where(tables.task.c.status == "completed")
        try:
            found = database.now(lambda connection: list(connection.execute(statement)))
        finally:
            database.close()
        return {row.result["outputs"][0]["origin"]["id"]: row.ended / 1000 for row in found}


SERVE = ("-m", "proxy")


async def steady(one: Callable[[], Awaitable[float]], pace: float, seconds: float) -> list[float]:
    """What each `one` told, begun every `pace` seconds whatever became of the ones before."""
    told: list[float] = []

    async def noted() -> None:
        told.append(await one())

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds / pace)):
            await asyncio.sleep(max(0.0, began + number * pace - time.perf_counter()))
            group.create_task(noted())
    return told


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[list[float]]:
    """The seconds that each of many small answers takes within the block."""
    took: list[float] = []

    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                began = time.perf_counter()
                async with session.get(url + "/health") as response:
                    await response.read()
                took.append(time.perf_counter() - began)
                await asyncio.sleep(0.005)

    asking = asyncio.create_task(ask())
    try:
        yield took
    finally:
        asking.cancel()


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95, p99."""
    found = statistics.quantiles(values, n=100, method="inclusive")
    return found[49], found[94], found[98]


def film() -> bytes:
    """A small real video."""
    from translators import load_video
    from translators.base import Done
    from translators.video import VideoJob

    made = load_video("demo").start(VideoJob(op="video", model="animation", prompt="a sunrise", seconds=1))
    assert isinstance(made, Done)
    blob = made.outputs[0].blob
    assert blob
    return b"".join(blob.decoded())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--database", help="postgresql://…, an empty one")
    parser.add_argument("--quick", action="store_true", help="ten seconds instead of thirty, and they end sooner")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD})
    with tempfile.TemporaryDirectory(prefix="pictor-bench-") as made:
        root = Path(made)
        bench = Bench(root, options.tasks, options.database, options.quick)
        (root / "video.mp4").write_bytes(film())
        command = [sys.executable, "-m", "bench.maker", str(bench.ports.maker), str(root / "video.mp4")]
        with processes.running(LOAD, command, bench.ports.maker, root / "maker.out"):
            try:
                asyncio.run(bench.run())
            finally:
                if bench.process and bench.process.poll() is None:
                    bench.kill()
                print((root / "server.out").read_text()[-3000:], file=sys.stderr)
    print("| | measured | bar |")
    print("| --- | --- | --- |")
    for row in bench.rows:
        print(f"| {row.what} | {row.value:,.2f} | {BARS.get(row.what, '')} |")
    return int(any(row.value > BARS.get(row.what, row.value) for row in bench.rows))


if __name__ == "__main__":
    raise SystemExit(main())
