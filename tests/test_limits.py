"""Limits: their arithmetic, their words, and that several processes together keep them exactly."""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis as Client

from proxy.config import Config, Server, Tier
from proxy.limits import Limits, build, check_request, check_size
from proxy.limits.backend import LEASE, Store
from proxy.limits.memory import LEAST, Memory
from proxy.limits.rates import MINUTE, SECOND, Admission, duration, judge, rate, rules, share, standing
from proxy.limits.records import Records
from proxy.limits.redis import Redis
from proxy.limits.shared import Shared
from proxy.state import tables
from proxy.state.database import Database, default_url
from tests.stores import PostgresServer, RedisServer
from translators.base import Fault, Secret

APP = "config:app"
DAWN = 1_795_176_000_000_000  # microseconds: a Friday in November 2026


# The arithmetic

limit_of = st.integers(1, 2_000) | st.integers(1, 1_000_000)


@given(limit_of, st.lists(st.tuples(st.integers(0, MINUTE // 4), st.integers(1, 12)), max_size=60))
def test_no_window_holds_more_than_the_limit_and_what_came_back(limit: int, calls: list[tuple[int, int]]) -> None:
    most = rules(None, limit, None)
    now, full = DAWN, 0
    admitted: list[tuple[int, int]] = []
    for pause, asked in calls:
        now += pause
        n = min(asked, limit)
        found = judge(most, n, (full,), 0, now)
        (full,) = found.full
        if found.admitted:
            admitted.append((now, n))
    for first, (since, _) in enumerate(admitted):
        sum_of = 0
        for until, n in admitted[first:]:
            sum_of += n
            assert sum_of * MINUTE <= limit * (MINUTE + until - since)


@given(limit_of, st.integers(0, 2 * MINUTE), st.integers(1, 3_000))
def test_the_wait_that_is_told_is_enough_and_needed(limit: int, used: int, n: int) -> None:
    most = rules(None, limit, None)
    full = DAWN + min(used, most.rates[0].capacity)
    n = min(n, limit)
    found = judge(most, n, (full,), 0, DAWN)
    (told,) = found.standings
    assert found.admitted == (judge(most, n, (full,), 0, DAWN).standings[0].wait == 0)
    if not found.admitted:
        assert found.full == (full,)
        assert judge(most, n, (full,), 0, DAWN + told.wait).admitted
        assert not judge(most, n, (full,), 0, DAWN + told.wait - 1).admitted


@given(limit_of, st.integers(0, 2 * MINUTE))
def test_what_remains_can_be_had_and_no_more(limit: int, used: int) -> None:
    most = rules(None, limit, None)
    full = DAWN + min(used, most.rates[0].capacity)
    told = standing(most.rates[0], full, DAWN, 0)
    assert judge(most, told.remaining, (full,), 0, DAWN).admitted
    if told.remaining < limit:
        assert not judge(most, told.remaining + 1, (full,), 0, DAWN).admitted
    assert standing(most.rates[0], full, DAWN + told.reset, 0).remaining == limit


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 64))
def test_shares_never_sum_to_more_than_the_whole(limit: int, jobs: int, workers: int) -> None:
    part = share(rules(limit, limit, jobs), workers)
    assert part.jobs is not None
    for whole, each in ((limit, part.rates[0].limit), (limit, part.rates[1].limit), (jobs, part.jobs)):
        assert each >= 1
        assert each * workers <= whole or whole < workers


@given(st.integers(2, 50), st.integers(1, 10))
def test_more_than_a_share_takes_from_the_minutes_to_come(n: int, limit: int) -> None:
    part = rules(None, limit, None)
    found = judge(part, n, (0,), 0, DAWN)
    assert found.admitted
    (full,) = found.full
    assert full == DAWN + n * part.rates[0].interval
    assert found.standings[0].remaining == max(0, limit - n)
    late = judge(part, 1, (full,), 0, DAWN)
    assert late.admitted == (limit > n)
    assert judge(part, 1, (full,), 0, DAWN + late.standings[0].wait).admitted


def test_all_rules_are_taken_or_none() -> None:
    both = rules(10, 4, 2)
    found = judge(both, 4, (0, 0), 0, DAWN)
    assert found.admitted
    for n, full, running in ((1, found.full, 1), (4, (found.full[0], 0), 2), (1, (0, found.full[1]), 0)):
        refused = judge(both, n, full, running, DAWN)
        assert not refused.admitted
        assert refused.full == full


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0s"), (1, "1ms"), (12_000, "12ms"), (999_001, "1s"), (1_500_000, "1.5s"), (12 * SECOND, "12s"),
        (59_999_000, "59.999s"), (59_999_001, "1m0s"), (6 * MINUTE, "6m0s"), (61_250_000, "1m1.25s"),
        (60 * MINUTE, "1h0m0s"), (125 * MINUTE + 1, "2h5m0.001s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_does(microseconds: int, text: str) -> None:
    assert duration(microseconds) == text


def test_a_limit_beyond_the_clock_holds_nearly() -> None:
    assert rate("requests", 7).capacity >= MINUTE
    assert rate("requests", 10**9).interval == 1


# One process


class Clock:
    """Microseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = DAWN

    def __call__(self) -> int:
        return self.now


def at_once(limits: Limits, tier: Tier, n: int = 1, task: str = "task_1", caller: str = APP) -> Admission:
    """Admit without an event loop: the memory never waits."""
    waiting = limits.admit(caller, tier, "pro", n, task)
    with pytest.raises(StopIteration) as done:
        waiting.send(None)
    found = done.value.value
    assert isinstance(found, Admission)
    return found


def refused(limits: Limits, tier: Tier, n: int = 1, task: str = "task_x", tier_name: str | None = "pro") -> Fault:
    with pytest.raises(Fault) as caught:
        limits.admit(APP, tier, tier_name, n, task).send(None)
    return caught.value


def test_pictures_are_counted_and_the_refusal_says_when() -> None:
    clock = Clock()
    limits, tier = Limits(Memory(clock)), Tier(images_per_minute=5)
    assert at_once(limits, tier, 4).headers["x-ratelimit-remaining-images"] == "1"
    clock.now += 3 * SECOND
    fault = refused(limits, tier, 2)
    assert (fault.kind, fault.code, fault.type, fault.param) == ("rate", "rate_limit_exceeded", "images", None)
    assert fault.retry_after == 9
    assert fault.message == (
        "Rate limit reached for this key (tier 'pro') on images per min: Limit 5, Used 4, Requested 2. "
        "Please try again in 9s."
    )
    assert fault.headers == {
        "x-ratelimit-limit-images": "5", "x-ratelimit-remaining-images": "1", "x-ratelimit-reset-images": "45s",
        "x-ratelimit-limit-input-images": "5", "x-ratelimit-remaining-input-images": "1",
        "x-ratelimit-reset-input-images": "45s",
    }  # fmt: skip
    clock.now += 9 * SECOND
    assert at_once(limits, tier, 2).headers["x-ratelimit-remaining-images"] == "0"


def test_requests_are_counted_and_the_longest_wait_is_told() -> None:
    limits, tier = Limits(Memory(Clock())), Tier(requests_per_minute=2, images_per_minute=6, concurrent_jobs=2)
    at_once(limits, tier, 5, "task_1")
    told = at_once(limits, tier, 1, "task_2")
    assert told.headers["x-ratelimit-remaining-requests"] == "0"
    assert told.headers["x-ratelimit-reset-requests"] == "1m0s"
    fault = refused(limits, tier, 1, tier_name=None)  # requests: 30 s; images: 10 s; jobs: nobody knows
    assert (fault.type, fault.retry_after) == ("requests", 30)
    assert fault.message == (
        "Rate limit reached for this key on requests per min: Limit 2, Used 2, Requested 1. Please try again in 30s."
    )
    fault = refused(limits, tier, 6)  # images: 60 s
    assert (fault.type, fault.retry_after) == ("images", 60)


async def test_jobs_at_once_are_bounded_and_given_back() -> None:
    limits, tier = Limits(Memory()), Tier(concurrent_jobs=2)
    at_once(limits, tier, task="task_1")
    assert at_once(limits, tier, task="task_2").headers == {}
    fault = refused(limits, tier)
    assert (fault.kind, fault.code, fault.type) == ("rate", "rate_limit_exceeded", "concurrent-jobs")
    assert fault.retry_after == 1
    assert fault.message == (
        "Rate limit reached for this key (tier 'pro') on concurrent jobs: Limit 2, Used 2, Requested 1. "
        "Please try again when one of them has ended."
    )
    await limits.release(APP, "task_unknown")
    await limits.release("config:other", "task_1")
    refused(limits, tier)
    await limits.release(APP, "task_1")
    await limits.release(APP, "task_1")
    at_once(limits, tier, task="task_3")
    refused(limits, tier)


def test_each_key_has_its_limits_for_itself() -> None:
    limits, tier = Limits(Memory()), Tier(requests_per_minute=1, concurrent_jobs=1)
    at_once(limits, tier)
    at_once(limits, tier, caller="config:other")
    refused(limits, tier)


def test_another_limit_holds_at_once_and_keeps_what_is_used() -> None:
    limits = Limits(Memory(Clock()))
    at_once(limits, Tier(images_per_minute=10), 5)
    assert at_once(limits, Tier(images_per_minute=100), 1).headers["x-ratelimit-remaining-images"] == "49"


async def test_a_tier_without_limits_costs_nothing() -> None:
    memory = Memory()
    limits = Limits(memory)
    assert at_once(limits, Tier(max_n=1, max_size=(1, 1)), 1).headers == {}
    await limits.release(APP, "task_1")
    assert len(memory) == 0
    assert await limits.standings(APP, Tier(concurrent_jobs=3)) == ()


async def test_a_look_takes_nothing() -> None:
    limits, tier = Limits(Memory(Clock())), Tier(requests_per_minute=6, images_per_minute=12, concurrent_jobs=1)
    at_once(limits, tier, 3)
    for _ in range(2):
        requests, images = await limits.standings(APP, tier)
        assert (requests.limit, requests.remaining, requests.reset) == (6, 5, 10 * SECOND)
        assert (images.limit, images.remaining, images.reset) == (12, 9, 15 * SECOND)


async def test_memory_holds_only_what_is_not_full() -> None:
    clock = Clock()
    memory = Memory(clock)
    limits, tier = Limits(memory), Tier(requests_per_minute=60, images_per_minute=60, concurrent_jobs=3)
    for each in range(20 * LEAST):
        clock.now += SECOND // 100
        at_once(limits, tier, caller=f"key_{each}", task=f"task_{each}")
        await limits.release(f"key_{each}", f"task_{each}")
        assert len(memory) <= LEAST + 1


def test_every_limit_of_what_is_asked_names_its_parameter() -> None:
    tier = Tier(max_n=4, max_size=(1024, 1024))
    check_request(tier, 4, "1024x1024")
    check_request(tier, 4, "2048x512")
    check_request(tier, 1, "auto")
    check_request(tier, 1, None)
    check_size(tier, 0, 0)
    check_request(Tier(), 10, "8192x8192")
    with pytest.raises(Fault) as n:
        check_request(tier, 5, None)
    assert (n.value.kind, n.value.code, n.value.param) == ("invalid", "integer_above_max_value", "n")
    assert n.value.message == "Invalid 'n': integer above maximum value. Expected a value <= 4, but got 5 instead."
    with pytest.raises(Fault):
        check_request(tier, 1, "1025x1024")
    with pytest.raises(Fault) as size:
        check_size(tier, 1025, 1024)
    assert (size.value.kind, size.value.code, size.value.param) == ("invalid", "invalid_value", "size")
    assert size.value.message == (
        "Invalid size '1025x1024'. Your tier allows no picture of more pixels than '1024x1024' has."
    )


def test_what_no_minute_can_hold_is_refused_for_good() -> None:
    tier = Tier(images_per_minute=3, max_n=8)
    memory = Memory()
    for refusing in (lambda: check_request(tier, 4, None), lambda: at_once(Limits(memory), tier, 4)):
        with pytest.raises(Fault) as caught:
            refusing()
        assert (caught.value.kind, caught.value.code) == ("invalid", "integer_above_max_value")
        assert "<= 3" in caught.value.message
    assert len(memory) == 0


# Several processes

Place: TypeAlias = tuple[str, str]
"""The kind of a store, and its address."""


@pytest.fixture(params=["redis", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each kind."""
    kind: str = request.param
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        yield kind, server.url
        return
    url = f"sqlite:///{tmp_path}/pictor.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    made = Database(url)
    made.now(lambda connection: tables.metadata.create_all(connection, [tables.rate, tables.slot]))
    made.close()
    yield kind, url


@contextmanager
def opened(place: Place, lease: float = LEASE) -> Iterator[Store]:
    kind, url = place
    if kind == "redis":
        yield Redis(url, lease)
        return
    database = Database(url)
    try:
        yield Records(database, "worker", lease)
    finally:
        database.close()


@asynccontextmanager
async def sharing(place: Place, lease: float = LEASE, workers: int = 1) -> AsyncIterator[Limits]:
    """As one process of several has them. Slow machines need patience."""
    with opened(place, lease) as store:
        store.patience = 30.0
        limits = Limits(Shared(store, lambda: workers))
        await limits.start()
        assert not limits.degraded
        try:
            yield limits
        finally:
            await limits.aclose()


async def admitted(limits: Limits, tier: Tier, n: int = 1, task: str = "task_1", caller: str = APP) -> bool:
    try:
        await limits.admit(caller, tier, None, n, task)
    except Fault as fault:
        assert fault.code == "rate_limit_exceeded"
        return False
    assert not limits.degraded
    return True


def storm(place: Place, tier: Tier, n: int, calls: int, name: str) -> tuple[int, float, float]:
    """What another process gets of so many calls at once, and from when to when it asked."""

    async def asked() -> tuple[int, float, float]:
        async with sharing(place) as limits:
            began = time.monotonic()
            got = await asyncio.gather(
                *(admitted(limits, tier, n, f"{name}_{each}", f"key_{n}") for each in range(calls))
            )
            return sum(got), began, time.monotonic()

    return asyncio.run(asked())


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        yield pool


def stormed(
    processes: ProcessPoolExecutor, place: Place, tier: Tier, n: int = 1
) -> tuple[int, float]:  # fmt: skip
    """How many of 200 calls of four processes are admitted, and in how many seconds."""
    done = [processes.submit(storm, place, tier, n, 50, f"task_{name}") for name in "abcd"]
    found = [each.result() for each in done]
    return sum(got for got, _, _ in found), max(end for _, _, end in found) - min(began for _, began, _ in found)


def test_processes_together_get_exactly_the_limit(place: Place, processes: ProcessPoolExecutor) -> None:
    got, seconds = stormed(processes, place, Tier(requests_per_minute=15))
    assert 15 <= got <= 15 + 15 * seconds / 60
    # what was refused has taken nothing: of nine pictures in twos there are four calls, of 200 that were asked
    got, seconds = stormed(processes, place, Tier(requests_per_minute=60, images_per_minute=9), 2)
    assert 4 <= got <= (9 + 9 * seconds / 60) / 2


def test_processes_together_run_exactly_so_many_jobs(place: Place) -> None:
    children = [Child(place, f"task_{name}", 100, 7) for name in "ab"]
    assert sum(child.got() for child in children) == 7
    for child in children:
        child.end()


class Child:
    """A process that asks for slots, and holds what it gets until it is told to end."""

    def __init__(self, place: Place, name: str, calls: int, jobs: int, lease: float = LEASE) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=hold, args=(place, name, calls, jobs, lease, other))
        self.process.start()
        other.close()

    def got(self) -> int:
        count: int = self.pipe.recv()
        return count

    def end(self) -> None:
        self.pipe.send(None)
        self.process.join()
        assert self.process.exitcode == 0
        self.pipe.close()

    def kill(self) -> None:
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.pipe.close()


def hold(place: Place, name: str, calls: int, jobs: int, lease: float, pipe: Connection) -> None:
    async def held() -> None:
        async with sharing(place, lease) as limits:
            tier = Tier(concurrent_jobs=jobs)
            got = await asyncio.gather(*(admitted(limits, tier, 1, f"{name}_{each}") for each in range(calls)))
            pipe.send(sum(got))
            await asyncio.to_thread(pipe.recv)

    asyncio.run(held())


async def test_a_refused_call_takes_nothing(place: Place) -> None:
    async with sharing(place) as limits:
        tier = Tier(requests_per_minute=5, images_per_minute=4, concurrent_jobs=2)
        assert await admitted(limits, tier, 3)
        assert not await admitted(limits, tier, 3, "task_2")  # the pictures
        assert not await admitted(limits, msgspec.structs.replace(tier, concurrent_jobs=1), 1, "task_2")
        requests, images = await limits.standings(APP, tier)
        assert (requests.remaining, images.remaining) == (4, 1)
        assert await admitted(limits, tier, 1, "task_2")
        await limits.release(APP, "task_2")
        assert not await admitted(limits, tier, 1, "task_3")
        requests, images = await limits.standings(APP, tier)
        assert (requests.remaining, images.remaining) == (3, 0)


async def test_slots_are_given_back_to_all_processes(place: Place) -> None:
    tier = Tier(concurrent_jobs=1)
    async with sharing(place) as one, sharing(place) as other:
        assert await admitted(one, tier)
        assert not await admitted(other, tier, 1, "task_2")
        await other.release(APP, "task_1")  # is not its own
        assert not await admitted(other, tier, 1, "task_2")
        await one.release(APP, "task_1")
        assert await admitted(other, tier, 1, "task_2")
        await other.release(APP, "task_2")
        assert await admitted(one, tier, 1, "task_3")


async def test_a_process_that_stops_gives_all_back(place: Place) -> None:
    tier = Tier(concurrent_jobs=2)
    async with sharing(place) as other:
        async with sharing(place) as one:
            assert await admitted(one, tier, 1, "task_1")
            assert await admitted(one, tier, 1, "task_2")
            assert not await admitted(other, tier, 1, "task_3")
        assert await admitted(other, tier, 1, "task_3")
        assert await admitted(other, tier, 1, "task_4")


async def test_a_dead_process_loses_its_slots(place: Place) -> None:
    tier = Tier(concurrent_jobs=2)
    child = Child(place, "dead", 3, 2, lease=2.0)
    assert await asyncio.to_thread(child.got) == 2
    async with sharing(place, lease=2.0) as limits:
        child.kill()
        assert not await admitted(limits, tier, 1, "task_1")
        while not await admitted(limits, tier, 1, "task_1"):  # noqa: ASYNC110  # only time ends a lease
            await asyncio.sleep(0.1)
        assert await admitted(limits, tier, 1, "task_2")
        assert not await admitted(limits, tier, 1, "task_3")


async def test_a_lease_is_renewed_while_its_job_runs(place: Place) -> None:
    tier = Tier(concurrent_jobs=1)
    async with sharing(place, lease=1.5) as one:
        assert await admitted(one, tier)
        first = await lease_of(place)
        while await lease_of(place) == first:  # noqa: ASYNC110  # only time renews it
            await asyncio.sleep(0.05)
        await one.release(APP, "task_1")
        assert await lease_of(place) is None


async def lease_of(place: Place) -> float | None:
    """When the lease of `task_1` ends, as the store has it."""
    kind, url = place
    if kind == "redis":
        async with Client.from_url(url) as client:
            found: float | None = await client.zscore(f"pictor:jobs:{APP}", "task_1")
            return found
    database = Database(url)
    until = await database.read(lambda connection: connection.execute(sa.select(tables.slot.c.until)).scalar())
    database.close()
    return until


async def test_a_clock_that_was_put_back_costs_nobody_more_than_a_minute(place: Place) -> None:
    tier = Tier(images_per_minute=6, concurrent_jobs=1)
    far = time.time_ns() // 1000 + 3600 * SECOND
    kind, url = place
    async with sharing(place) as limits:
        assert await admitted(limits, tier)
        if kind == "redis":
            async with Client.from_url(url) as client:
                await client.set(f"pictor:rate:{APP}:images", far)
                await client.zadd(f"pictor:jobs:{APP}", {"task_1": far})
        else:
            database = Database(url)
            await database.write(
                lambda connection: (
                    connection.execute(sa.update(tables.rate).values(free=far)),
                    connection.execute(sa.update(tables.slot).values(until=far // 1000)),
                )
            )
            database.close()
        with pytest.raises(Fault) as caught:
            await limits.admit(APP, tier, None, 1, "task_2")
        assert caught.value.type == "images"  # not the job, whose lease can be none of ours
        assert caught.value.retry_after == 10


async def test_a_call_that_is_given_up_holds_nothing(place: Place) -> None:
    tier = Tier(concurrent_jobs=1)
    async with sharing(place) as limits:
        for steps in range(30):
            asking = asyncio.create_task(limits.admit(APP, tier, None, 1, f"task_{steps}"))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            (found,) = await asyncio.gather(asking, return_exceptions=True)
            if isinstance(found, Admission):
                await limits.release(APP, f"task_{steps}")
            assert not isinstance(found, Fault)
            assert await settled(limits, tier)
            await limits.release(APP, "task_last")


async def settled(limits: Limits, tier: Tier) -> bool:
    """Whether a slot is free once all that is on its way has been given back."""
    for _ in range(3):
        if await admitted(limits, tier, 1, "task_last"):
            return True
    return False


async def test_many_callers_at_once(place: Place) -> None:
    tier = Tier(requests_per_minute=2, concurrent_jobs=2)
    async with sharing(place) as limits:
        every = [(f"key_{caller}", f"task_{caller}_{call}") for call in range(3) for caller in range(60)]
        asked = (limits.admit(caller, tier, None, 1, task) for caller, task in every)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(each, Admission) for each in found) == 120
        assert not limits.degraded


# Redis alone


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Client]:
    async with Client.from_url(redis_server.url, decode_responses=True) as client:
        yield client


class Heard(logging.Handler):
    """Waits for lines of the log that are of limits."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        if (line := record.getMessage()).startswith("limits"):
            self.lines.put_nowait(line)


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler = Heard()
    logger = logging.getLogger("pictor")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


ALONE = "limits are not shared: each process has its part of them"
AGAIN = "limits are shared again"


@asynccontextmanager
async def limited(store: Store, workers: Callable[[], int]) -> AsyncIterator[Limits]:
    limits = Limits(Shared(store, workers))
    await limits.start()
    try:
        yield limits
    finally:
        await limits.aclose()


async def test_what_redis_keeps_goes_by_itself(redis_server: RedisServer, client: Client) -> None:
    async with sharing(("redis", redis_server.url)) as limits:
        assert await admitted(limits, Tier(requests_per_minute=6, images_per_minute=60, concurrent_jobs=2), 3)
        await limits.admit("key_1", Tier(requests_per_minute=1_000_000), None, 1, "task_2")
        lives = {str(key): await client.pttl(key) for key in await client.keys()}
        most = {
            f"pictor:rate:{APP}:requests": 10_000, f"pictor:rate:{APP}:images": 3_000,
            f"pictor:jobs:{APP}": LEASE * 1000, "pictor:rate:key_1:requests": 1,
        }  # fmt: skip
        assert lives.keys() <= most.keys()
        for key, life in lives.items():
            assert life <= most[key]
            assert life != -1  # for ever


async def test_redis_may_forget_its_scripts_and_cut_idle_connections(redis_server: RedisServer, client: Client) -> None:
    async with sharing(("redis", redis_server.url)) as limits:
        tier = Tier(requests_per_minute=2)
        assert await admitted(limits, tier)
        await client.script_flush()
        await client.client_kill_filter(_type="normal", skipme=True)
        assert await admitted(limits, tier)
        assert not await admitted(limits, tier)
        assert not limits.degraded


async def test_without_redis_each_process_has_its_share(
    redis_server: RedisServer, client: Client, heard: Heard
) -> None:
    tier = Tier(requests_per_minute=12, concurrent_jobs=6)
    async with limited(Redis(redis_server.url), lambda: 3) as limits:
        await limits.admit(APP, tier, None, 1, "task_0")
        redis_server.stop()
        for each in range(1, 2):
            await limits.admit(APP, tier, None, 1, f"task_{each}")
        assert limits.degraded
        assert await heard.lines.get() == ALONE
        with pytest.raises(Fault) as jobs:  # two of six, and one runs from before
            await limits.admit(APP, tier, None, 1, "task_x")
        assert jobs.value.type == "concurrent-jobs"
        await limits.release(APP, "task_0")
        for each in range(2, 5):
            admission = await limits.admit(APP, tier, None, 1, f"task_{each}")
            assert admission.headers["x-ratelimit-limit-requests"] == "4"
            await limits.release(APP, f"task_{each}")
        with pytest.raises(Fault) as rate:  # four of twelve
            await limits.admit(APP, tier, None, 1, "task_x")
        assert rate.value.type == "requests"

        redis_server.start()
        assert await heard.lines.get() == AGAIN
        assert not limits.degraded
        assert await client.zrange(f"pictor:jobs:{APP}", 0, -1) == ["task_1"]
        admission = await limits.admit(APP, tier, None, 1, "task_5")
        assert admission.headers["x-ratelimit-limit-requests"] == "12"
        assert heard.lines.empty()  # each was said once


async def test_nobody_waits_for_a_redis_that_hangs(redis_server: RedisServer, client: Client, heard: Heard) -> None:
    tier = Tier(requests_per_minute=100, concurrent_jobs=4)
    async with limited(Redis(redis_server.url), lambda: 2) as limits:
        await limits.admit(APP, tier, None, 1, "task_0")
        await client.client_pause(60_000, all=False)  # what writes, so that it can be ended
        asked = (limits.admit(APP, tier, None, 1, f"task_{each}") for each in range(1, 5))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(each, Admission) for each in found] == [True, False, False, False]
        assert limits.degraded
        assert await heard.lines.get() == ALONE
        await limits.release(APP, "task_0")
        await client.client_unpause()
        assert await heard.lines.get() == AGAIN
        # what ended meanwhile is free, and what began meanwhile is counted
        async with sharing(("redis", redis_server.url)) as other:
            assert await settled(limits, Tier(concurrent_jobs=2))
            assert await client.zrange(f"pictor:jobs:{APP}", 0, -1) == ["task_1", "task_last"]
            assert not await admitted(other, Tier(concurrent_jobs=2), 1, "task_y")


async def test_calls_go_on_through_losses_and_leave_nothing_behind(
    redis_server: RedisServer, client: Client, heard: Heard
) -> None:
    tier = Tier(requests_per_minute=10**6, concurrent_jobs=20)
    tasks = (f"task_{number}" for number in itertools.count())
    shared: asyncio.Queue[None] = asyncio.Queue()
    over = asyncio.Event()
    async with limited(Redis(redis_server.url), lambda: 2) as limits:

        async def calling() -> None:
            while not over.is_set():
                task = next(tasks)
                with suppress(Fault):
                    await limits.admit(APP, tier, None, 1, task)
                    if not limits.degraded:
                        shared.put_nowait(None)
                await asyncio.sleep(0)
                await limits.release(APP, task)

        callers = [asyncio.create_task(calling()) for _ in range(30)]
        for _ in range(2):
            for _ in range(200):
                await shared.get()
            redis_server.stop()
            assert await heard.lines.get() == ALONE
            redis_server.start()
            assert await heard.lines.get() == AGAIN
        over.set()
        await asyncio.gather(*callers)
        assert await settled(limits, tier)
        assert await client.zrange(f"pictor:jobs:{APP}", 0, -1) == ["task_last"]


async def test_a_redis_that_is_not_there_is_told_at_the_start(
    redis_server: RedisServer, heard: Heard, tmp_path: Path
) -> None:
    redis_server.stop()
    config = Config(redis=Secret(redis_server.url))
    database = Database(default_url(tmp_path))
    said: list[bool] = []
    limits = build(config, database, lambda: 4, "worker_1", said.append)
    await limits.start()
    assert limits.degraded
    assert await heard.lines.get() == ALONE
    assert (await limits.admit(APP, Tier(), None, 1, "task_1")).headers == {}
    admission = await limits.admit(APP, Tier(images_per_minute=2), None, 2, "task_1")
    assert admission.headers["x-ratelimit-limit-images"] == "1"
    redis_server.start()
    assert await heard.lines.get() == AGAIN
    assert said == [True, False]
    await limits.aclose()
    database.close()


# The database


async def test_without_its_database_each_process_has_its_share(postgres_server: PostgresServer, heard: Heard) -> None:
    tier = Tier(requests_per_minute=20, concurrent_jobs=6)
    database = Database(postgres_server.url)
    database.now(lambda connection: tables.metadata.create_all(connection, [tables.rate, tables.slot]))
    async with limited(Records(database, "worker"), lambda: 2) as limits:
        await limits.admit(APP, tier, None, 1, "task_0")
        postgres_server.kill()
        admission = await limits.admit(APP, tier, None, 1, "task_1")
        assert admission.headers["x-ratelimit-limit-requests"] == "10"
        assert limits.degraded
        assert await heard.lines.get() == ALONE
        await limits.release(APP, "task_0")
        postgres_server.start()
        assert await heard.lines.get() == AGAIN
        assert await settled(limits, tier)
        held = await database.read(lambda connection: connection.execute(sa.select(tables.slot.c.task)).scalars().all())
        assert sorted(held) == ["task_1", "task_last"]
    database.close()


async def test_a_store_that_is_broken_takes_no_result_with_it(database: Database, heard: Heard) -> None:
    async with limited(Records(database, "worker"), lambda: 2) as limits:
        await limits.admit(APP, Tier(concurrent_jobs=6), None, 1, "task_0")
        await database.write(lambda connection: connection.execute(sa.text("DROP TABLE slot")))
        await limits.release(APP, "task_0")
        assert await heard.lines.get() == ALONE
        await limits.admit(APP, Tier(concurrent_jobs=6), None, 1, "task_1")


async def test_several_processes_share_through_the_database(database: Database) -> None:
    several = build(Config(server=Server(workers=2)), database, lambda: 2, "worker_1")
    await several.start()
    await several.admit(APP, Tier(requests_per_minute=3, concurrent_jobs=2), None, 1, "task_1")
    rates, slots = await database.read(
        lambda connection: (
            connection.execute(sa.select(tables.rate.c.id).order_by("id")).scalars().all(),
            connection.execute(sa.select(tables.slot.c.task, tables.slot.c.key, tables.slot.c.worker)).all(),
        )
    )
    assert rates == [f"{APP}:jobs", f"{APP}:requests"]
    assert slots == [("task_1", APP, "worker_1")]
    await several.aclose()
    alone = build(Config(), database, lambda: 1, "worker_1")
    await alone.admit("config:alone", Tier(requests_per_minute=3), None, 1, "task_1")
    rates = await database.read(lambda connection: connection.execute(sa.select(tables.rate.c.id)).scalars().all())
    assert ("config:alone:requests" in rates) == (database.kind == "postgresql")
    await alone.aclose()
