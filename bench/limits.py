"""What a call's admission costs, two rates and a slot: `python -m bench.limits [redis://…] [postgresql://…]`.

Each line: one caller after the other, then a hundred at once; microseconds of wall clock and of processor time for
one admission and release.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from proxy.config import Tier
from proxy.limits import Limits
from proxy.limits.backend import Backend
from proxy.limits.memory import Memory
from proxy.limits.records import Records
from proxy.limits.redis import Redis
from proxy.limits.shared import Shared
from proxy.state import tables
from proxy.state.database import Database, default_url

RATES = Tier(requests_per_minute=10**9, images_per_minute=10**9)
ALL = Tier(requests_per_minute=10**9, images_per_minute=10**9, concurrent_jobs=10**6)
AT_ONCE = 100


async def measured(calls: int, at_once: int, call: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
    """Microseconds of a call: on the wall clock, and of this process."""

    async def some(first: int) -> None:
        for each in range(first, calls, at_once):
            await call(each)

    await some(calls - 1)
    wall, cpu = time.perf_counter(), time.process_time()
    if at_once == 1:
        await some(0)
    else:
        await asyncio.gather(*(some(first) for first in range(at_once)))
    return (time.perf_counter() - wall) / calls * 1e6, (time.process_time() - cpu) / calls * 1e6


async def report(name: str, backend: Backend, calls: int) -> None:
    limits = Limits(backend)
    await limits.start()

    async def free(_each: int) -> None:
        await limits.admit("key_1", Tier(), "pro", 1, "task_1")

    async def rates(each: int) -> None:
        await limits.admit(f"key_{each % 50}", RATES, "pro", 1, "task_1")

    async def slots(each: int) -> None:
        caller, task = f"key_{each % 50}", f"task_{each}"
        await limits.admit(caller, ALL, "pro", 1, task)
        await limits.release(caller, task)

    for what, call in (("no limits", free), ("two rates", rates), ("two rates and a slot", slots)):
        for at_once in (1, AT_ONCE):
            wall, cpu = await measured(calls, at_once, call)
            print(f"{name:>10}  {what:<21} {at_once:>4} at once {wall:10.2f} µs {cpu:10.2f} µs of processor")
    assert not limits.degraded
    await limits.aclose()


async def main(urls: list[str]) -> None:
    await report("memory", Memory(), 50_000)
    with tempfile.TemporaryDirectory() as folder:
        for url in [default_url(Path(folder)), *urls]:
            if url.startswith("redis"):
                await report("redis", Shared(Redis(url), lambda: 1), 5_000)
                continue
            database = Database(url)
            database.now(lambda connection: tables.metadata.create_all(connection, [tables.rate, tables.slot]))
            await report(database.kind, Shared(Records(database, "bench"), lambda: 1), 2_000)
            database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
