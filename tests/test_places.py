"""Places at providers: never more than there are, over all processes, and given in turn."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import httpx
import msgspec
import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from proxy.limits import Limits
from proxy.limits.memory import Memory
from proxy.limits.rates import MINUTE, SECOND, WINDOW, Rules, judge, share
from proxy.limits.records import Records
from proxy.limits.redis import Redis
from proxy.limits.shared import Shared
from proxy.metrics import Metrics
from proxy.places import Asking, Places, asking
from proxy.run import silent
from proxy.state import jobs, queues, tables
from proxy.state.database import Database
from proxy.state.jobs import JobRow
from proxy.state.ledger import Task
from proxy.trail import UNWATCHED, Watch
from proxy.turns import Group, Line, Others, Standing, ahead
from tests.fakes.base import GOOD_KEY, running
from tests.lab import Lab, lab, total, wait
from tests.server import KEY, Server, serving, stop
from tests.sockets import until
from tests.stores import RedisServer
from tests.test_async import POLLED, Slow
from tests.toy import MADE, silence, staged
from translators.base import Fault, Job

# ---- whose turn it is


class Waits(msgspec.Struct, eq=False):
    priority: int
    key: str
    task: str
    gone: bool = False


KEYS = ("a", "b", "c")
ACTS = st.lists(st.tuples(st.sampled_from(["add", "serve", "drop", "end"]), st.sampled_from(KEYS), st.integers(0, 2)))
COUNTS = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 3))


@given(ACTS, COUNTS, COUNTS)
def test_the_next_one_is_the_one_that_the_rule_names(
    acts: list[tuple[str, str, int]], running_elsewhere: dict[str, int], served_elsewhere: dict[str, int]
) -> None:
    line: Line[Waits] = Line()
    others = Others((), running_elsewhere, served_elsewhere)
    waiting: list[Waits] = []
    runs, served = Counter(running_elsewhere), dict(served_elsewhere)
    ours: Counter[str] = Counter()
    for number, (act, key, priority) in enumerate(acts, 10):

        def place(each: Waits) -> tuple[int, int, int, str]:
            return -each.priority, runs[each.key], served.get(each.key, 0), each.task

        if act == "add":
            waiting.append(Waits(priority, key, f"task_{number:04}"))
            line.add(waiting[-1])
        elif act == "drop" and waiting:
            line.drop(waiting.pop(priority % len(waiting)))
        elif act == "serve" and waiting:
            best = line.best(others)
            assert best is min(waiting, key=place)
            line.drop(best)
            line.began(best.key, number)
            waiting.remove(best)
            runs[best.key] += 1
            ours[best.key] += 1
            served[best.key] = number
        elif act == "end" and ours[key]:
            line.ended(key)
            runs[key] -= 1
            ours[key] -= 1
        assert len(line) == len(waiting)
        assert sum(group.count for group in line.groups()) == len(waiting)
        assert (line.best(others) is None) == (not waiting)


def drained(line: Line[Waits], places: int) -> list[str]:
    """The tasks in the order in which they begin, where each ends when all places are taken: the oldest of them."""
    order: list[str] = []
    under_way: list[str] = []
    for now in itertools.count(1):
        best = line.best()
        if best is None:
            return order
        if len(under_way) == places:
            line.ended(under_way.pop(0))
            continue
        line.drop(best)
        line.began(best.key, now)
        under_way.append(best.key)
        order.append(best.task)
    raise AssertionError("unreachable: the line comes to its end")


@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12))
def test_keys_take_turns_however_many_jobs_each_has(places: int, many: int, few: int) -> None:
    line: Line[Waits] = Line()
    for number in range(many):
        line.add(Waits(0, "a", f"task_1{number:02}"))
    for number in range(few):
        line.add(Waits(0, "b", f"task_2{number:02}"))
    order = [task[5] for task in drained(line, places)]
    both = 2 * min(many, few)
    for end in range(both + 1):
        served = Counter(order[:end])
        assert abs(served["1"] - served["2"]) <= 1
    assert len(order) == many + few


@given(st.lists(st.tuples(st.integers(-2, 2), st.sampled_from(KEYS)), min_size=1, max_size=20), st.integers(1, 3))
def test_a_higher_priority_goes_first(jobs: list[tuple[int, str]], places: int) -> None:
    line: Line[Waits] = Line()
    for number, (priority, key) in enumerate(jobs):
        line.add(Waits(priority, key, f"task_{number:02}"))
    order = [jobs[int(task[5:])][0] for task in drained(line, places)]
    assert order == sorted(order, reverse=True)


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(KEYS)), min_size=2, max_size=20), COUNTS)
def test_who_is_told_that_nobody_is_ahead_is_the_next(jobs: list[tuple[int, str]], running: dict[str, int]) -> None:
    line: Line[Waits] = Line()
    for number, (priority, key) in enumerate(jobs):
        line.add(Waits(priority, key, f"task_{number:02}"))
    others = Others((), running)
    groups = list(line.groups())
    first = [
        mine for mine in groups
        if not ahead(Standing(line, others), mine, (each for each in groups if each is not mine))
    ]  # fmt: skip
    best = line.best(others)
    assert best is not None
    assert [(each.priority, each.first) for each in first] == [(best.priority, best.task)]


# ---- how many may begin


@given(st.integers(1, 6), st.lists(st.integers(0, MINUTE // 3), max_size=60))
def test_no_minute_holds_more_than_may_begin(limit: int, pauses: list[int]) -> None:
    now = 1
    rules = Rules((), None, limit)
    begun: list[int] = []
    for pause in pauses:
        now += pause
        counted = [at for at in begun if at > now - WINDOW]
        found = judge(rules, 1, (), 0, now, (len(counted), min(counted, default=0)))
        if found.admitted:
            begun.append(now)
            assert sum(at > now - MINUTE for at in begun) <= limit
        else:
            assert sum(at > now + found.wait - WINDOW for at in begun) < limit
    assert all(share(rules, workers).begun == max(1, limit // workers) for workers in (1, 2, 9))


Store: TypeAlias = Memory | Shared


@pytest.fixture(params=["memory", "redis", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """What makes the limits of one more process; those of one alone are always the same."""
    kind: str = request.param
    if kind == "memory":
        memory = Memory()
        yield lambda: memory
        return
    if kind == "redis":
        server = request.getfixturevalue("redis_server").url
        yield lambda: Shared(Redis(server), lambda: 2)
        return
    url = f"sqlite:///{tmp_path}/pictor.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    database = Database(url)
    database.now(lambda connection: tables.metadata.create_all(connection, [tables.rate, tables.slot]))
    names = itertools.count()
    yield lambda: Shared(Records(database, f"worker {next(names)}"), lambda: 2)
    database.close()


async def test_places_of_two_processes(store: Callable[[], Store]) -> None:
    one, two = Limits(store()), Limits(store())
    await one.start()
    both = Rules((), 2, 4)
    assert (await one.place("x", both, "task_1.0")).admitted
    assert (await two.place("x", both, "task_2.0")).admitted
    assert (await two.place("y", both, "task_3.0")).admitted
    seen = await one.look("x", both)
    assert (seen.running, seen.begun) == (2, 2)
    full = await one.place("x", both, "task_4.0")
    assert (full.admitted, full.running, full.wait) == (False, 2, 0)
    assert (await two.look("x", both)).running == 2  # neither the look nor the refusal took one
    await one.vacate("x", "task_1.0")
    assert (await two.place("x", both, "task_4.0")).admitted
    await one.seize("x", "task_5.0")  # its job runs, whatever is said
    assert (await two.look("x", both)).running == 3
    await two.vacate("x", "task_4.0")
    await two.vacate("x", "task_2.0")
    assert (await two.place("x", both, "task_6.0")).admitted
    await two.vacate("x", "task_6.0")
    late = await one.place("x", both, "task_7.0")
    assert (late.admitted, late.running, late.begun) == (False, 1, 4)
    assert MINUTE - 30 * SECOND < late.wait <= WINDOW
    one.leave("x", "task_5.0")
    await one.vacate("x", "task_5.0")
    if one.shared:  # it is another's now
        assert (await two.look("x", both)).running == 1
    for limits in (one, two):
        await limits.aclose()


# ---- one process


async def test_what_waits_longest_is_told_and_forgotten() -> None:
    async with staged(make=[silence], concurrency=1) as bench:
        asking.set(Asking("task_1", "a", 0, 1))
        first, second = (asyncio.create_task(bench.run()) for _ in range(2))
        await until(lambda: bench.count("jobs_queued", provider="toy"))
        bench.engine.places.measure()
        assert bench.count("queue_oldest_seconds", provider="toy") > 1e6
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        bench.engine.places.measure()
        assert bench.count("queue_oldest_seconds", provider="toy") == 0
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


class Has(Watch):
    """Of a call that its provider has already."""

    mark = "task_9.0"
    left: Any = object()


async def test_other_bounds_hold_for_who_waits() -> None:
    limits = Limits(Memory())
    places = Places(limits, Metrics())
    async with staged(concurrency=1) as bench:
        upstream = bench.targets[0].upstream
    places.bound([upstream])
    queue = places.at("toy")
    assert queue
    first = await queue.take(UNWATCHED)
    waiting = [asyncio.create_task(queue.take(UNWATCHED)) for _ in range(4)]
    await asyncio.sleep(0.01)
    assert not any(each.done() for each in waiting)
    places.bound([msgspec.structs.replace(upstream, concurrency=3)])
    await asyncio.wait(waiting[:2])
    await asyncio.sleep(0.01)
    assert [each.done() for each in waiting] == [True, True, False, False]
    held = await queue.take(Has())  # beyond the bound, as its provider has it
    first.vacate()
    first.vacate()  # said again, it gives nothing twice
    await asyncio.sleep(0.01)
    assert [each.done() for each in waiting] == [True, True, False, False]
    held.vacate()
    await asyncio.wait(waiting[2:3])
    places.bound([])
    assert places.at("toy") is None
    await asyncio.wait(waiting)
    for each in waiting:
        (await each).vacate()
    await places.aclose()
    assert (await limits.look("toy", Rules((), 3))).running == 0


async def test_a_full_queue_says_nothing_of_the_provider() -> None:
    async with staged(make=[silence, MADE], concurrency=1, job_seconds=0.05) as bench:
        holding = asyncio.create_task(bench.engine.places.at("toy").take(UNWATCHED))  # type: ignore[union-attr]  # it has a bound
        place = await holding
        for _ in range(6):  # more than a breaker bears
            with pytest.raises(Fault) as caught:
                await bench.make()
            assert caught.value.code == "queue_full"
        place.vacate()
    assert bench.script.seen == []


# ---- the rows of several processes


def row(task: str, key: str, worker: str, priority: int = 0, started: int | None = None) -> tuple[Task, JobRow]:
    made = Task(id=task, key=key, created=1, op="generate", asked="m", worker=worker, status="queued")
    return made, JobRow(task=task, key=key, queue="lab", priority=priority, started=started, work={})


def test_what_other_processes_have(database: Database) -> None:
    rows = [
        row("task_10", "a", "me"), row("task_11", "a", "you"), row("task_12", "a", "you"), row("task_13", "b", "you"),
        row("task_14", "b", "", 5), row("task_15", "c", "you", 7), row("task_16", "a", "you", started=1),
        row("task_17", "b", "me", started=1),
    ]  # fmt: skip
    insert = tables.task.insert().values

    def written(connection: Any) -> None:
        for task, _ in rows:
            connection.execute(insert(msgspec.structs.asdict(task)))
        jobs.opened(connection, [job for _, job in rows])
        jobs.begun(connection, ["task_16"])
        queues.served(connection, ["task_16"])

    database.now(written)
    found = database.now(lambda connection: queues.others("lab", "me", connection))
    assert set(found.waiting) == {
        Group(0, "a", 2, "task_11"), Group(0, "b", 1, "task_13"), Group(7, "c", 1, "task_15"),
    }  # fmt: skip
    assert found.running == {"a": 1}
    assert found.served.keys() == {"a"}
    names = [task.id for task, _ in rows]
    places = database.now(lambda connection: queues.positions(names, connection))
    # by priority; then a and b have one under way each, and b was never served
    assert places == {"task_15": 1, "task_14": 2, "task_13": 3, "task_10": 4, "task_11": 5, "task_12": 6}
    assert database.now(lambda connection: queues.positions(["task_12", "task_16"], connection)) == {"task_12": 6}
    assert database.now(lambda connection: queues.positions(["task_16"], connection)) == {}


# ---- servers

OTHER = "another-client-key"
FIRST = "a-client-that-goes-first"
HEADERS = {"Authorization": f"Bearer {KEY}"}
LATER = {"Prefer": "respond-async"}


@dataclass
class Counting(Lab):
    """Knows how many it makes at once, and in which order they came."""

    name: ClassVar[str] = "counting"

    at_once: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def make(self, request: web.Request) -> web.StreamResponse:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        try:
            return await super().make(request)
        finally:
            with self.lock:
                self.at_once -= 1


@pytest.fixture
def upstream() -> Iterator[Counting]:
    fake = Counting()
    with running(fake):
        yield fake
        fake.go.set()


def configured(upstream: Counting, **bounds: Any) -> dict[str, Any]:
    return {
        "providers": {"lab": lab(upstream, **bounds)},
        "auth": {
            "mode": "keys",
            "keys": [
                {"name": "tests", "key": KEY, "admin": True},
                {"name": "other", "key": OTHER},
                {"name": "first", "key": FIRST, "tier": "first"},
            ],
        },
        "tiers": {"first": {"priority": 10}},
    }


def ask(server: Server, prompt: str, key: str = KEY, *, later: bool = True) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", **(LATER if later else {})}
    body = {"model": "lab/hurried" if prompt.startswith("hurried") else "lab/several", "prompt": prompt}
    return httpx.post(
        f"{server.base_url}/images/generations", json=body, headers=headers, timeout=60, trust_env=False
    )  # fmt: skip


def task_of(server: Server, id: str, key: str = KEY) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    found = httpx.get(f"{server.base_url}/tasks/{id}", headers=headers, timeout=30, trust_env=False)
    told: dict[str, Any] = found.json()
    return told


def queued(server: Server, prompt: str, key: str = KEY) -> str:
    """The id of a task that is taken."""
    answer = ask(server, prompt, key)
    assert answer.status_code == 202, answer.text
    return answer.headers["x-pictor-task"]


def ended(server: Server, ids: list[str], seconds: float = 60) -> None:
    """Returns when all of these are made."""
    wait(lambda: all(task_of(server, id)["status"] == "completed" for id in ids), seconds)


@contextmanager
def fleet(
    kind: str, request: pytest.FixtureRequest, folder: Path, upstream: Counting, **bounds: Any
) -> Iterator[list[Server]]:
    """Two processes that share their places: two workers on SQLite, or two servers on PostgreSQL, and Redis."""
    more = configured(upstream, **bounds)
    if kind == "sqlite":
        with serving(folder, server={"workers": 2, "drain_seconds": 5}, **more) as server:
            yield [server]
        return
    more |= {"database": request.getfixturevalue("postgres"), "secret": "a secret that both servers share"}
    if kind == "redis":
        more["redis"] = request.getfixturevalue("redis_server").url
    with ExitStack() as stack:
        servers = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            servers.append(stack.enter_context(serving(folder / name, data=str(folder / "data"), **more)))
        yield servers


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
def test_no_more_at_once_than_there_are_places(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, upstream: Counting
) -> None:
    with fleet(kind, request, tmp_path, upstream, concurrency=3) as servers, ThreadPoolExecutor(16) as pool:
        turns = itertools.cycle(servers)
        later = [queued(next(turns), f"soon later-{number}") for number in range(24)]
        answers = list(
            pool.map(lambda number: ask(servers[number % len(servers)], f"soon now-{number}", later=False), range(24))
        )
        assert [answer.status_code for answer in answers] == [200] * 24
        ended(servers[0], later)
        assert upstream.most == 3
        assert set(Counter(upstream.prompts).values()) == {1}
        assert len(upstream.prompts) == 48
        for server in servers:
            assert total(server, "jobs_queued") == total(server, "jobs_running") == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
def test_no_more_begin_in_a_minute_than_may(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, upstream: Counting
) -> None:
    with fleet(kind, request, tmp_path, upstream, per_minute=7) as servers:
        turns = itertools.cycle(servers)
        ids = [queued(next(turns), f"soon {number}") for number in range(12)]
        wait(lambda: sum(task_of(servers[0], id)["status"] == "completed" for id in ids) == 7)
        time.sleep(1.5)  # several looks for a place later it is as before
        states = Counter(task_of(servers[0], id)["status"] for id in ids)
        assert states == {"completed": 7, "queued": 5}
        assert len(upstream.prompts) == 7


TURNS = ("c0", "c1", "b0", "a0", "b1", "a1", "a2", "a3")


def test_turns_and_priorities(tmp_path: Path, upstream: Counting) -> None:
    with serving(tmp_path, **configured(upstream, concurrency=1)) as server:
        first = queued(server, "slow")
        wait(lambda: upstream.prompts)
        assert task_of(server, first)["status"] == "in_progress"
        ids = [queued(server, f"soon a{number}") for number in range(4)]
        others = [queued(server, f"soon b{number}", OTHER) for number in range(2)]
        soon = [queued(server, f"soon c{number}", FIRST) for number in range(2)]
        assert {task_of(server, id)["status"] for id in ids} == {"queued"}
        assert total(server, "jobs_queued", provider="lab") == 8
        upstream.go.set()
        ended(server, ids)
        assert upstream.prompts == ["slow", *(f"soon {name}" for name in TURNS)]
        assert task_of(server, soon[0], FIRST)["status"] == task_of(server, others[0], OTHER)["status"] == "completed"


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_keys_at_different_servers_take_turns(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, upstream: Counting
) -> None:
    with fleet(kind, request, tmp_path, upstream, concurrency=1) as (one, two):
        queued(one, "slow")
        wait(lambda: upstream.prompts)
        many = [queued(one, f"soon a{number}") for number in range(12)]
        few = [queued(two, f"soon b{number}", OTHER) for number in range(3)]
        before = queued(two, "soon c", FIRST)
        time.sleep(0.5)  # what others have is looked at so often
        upstream.go.set()
        ended(one, many)
        order = [prompt.split()[1] for prompt in upstream.prompts[1:]]
        assert order[0] == "c"
        assert max(order.index(f"b{number}") for number in range(3)) <= 7  # a turn each, and one that was missed
        assert task_of(two, few[0], OTHER)["status"] == task_of(two, before, FIRST)["status"] == "completed"


def test_a_call_that_somebody_waits_for_has_its_turn_beside_tasks_elsewhere(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: Counting
) -> None:
    with fleet("postgres", request, tmp_path, upstream, concurrency=1) as (one, two), ThreadPoolExecutor(1) as pool:
        queued(one, "slow")
        wait(lambda: upstream.prompts)
        many = [queued(one, f"soon a{number}") for number in range(20)]
        waiting = pool.submit(ask, two, "soon now", OTHER, later=False)
        wait(lambda: total(two, "jobs_queued"))
        time.sleep(1)  # it is seen after a moment
        upstream.go.set()
        assert waiting.result().status_code == 200
        ended(one, many)
        assert upstream.prompts.index("soon now") <= 3


def test_a_task_that_waits_is_cancelled_at_once_and_costs_nothing(tmp_path: Path, upstream: Counting) -> None:
    with serving(tmp_path, **configured(upstream, concurrency=1)) as server:
        first, second, third = (queued(server, f"slow {number}") for number in range(3))
        wait(lambda: upstream.prompts)
        answer = httpx.post(f"{server.base_url}/tasks/{second}/cancel", headers=HEADERS, trust_env=False)
        assert answer.status_code == 200, answer.text
        wait(lambda: task_of(server, second)["status"] == "cancelled", 3)
        assert task_of(server, second)["cost_usd"] == 0
        assert task_of(server, first)["status"] == "in_progress"
        upstream.go.set()
        ended(server, [first, third])
        assert sorted(upstream.prompts) == ["slow 0", "slow 2"]


def test_the_time_of_a_task_begins_with_its_place(tmp_path: Path, upstream: Counting) -> None:
    """A call that somebody waits for has its time in any case."""
    with serving(tmp_path, **configured(upstream, concurrency=1)) as server, ThreadPoolExecutor(1) as pool:
        first = queued(server, "slow")
        wait(lambda: upstream.prompts)
        waiting = queued(server, "hurried")
        hurried = pool.submit(ask, server, "hurried now", OTHER, later=False)
        refused = hurried.result()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
        assert task_of(server, waiting)["status"] == "queued"
        upstream.go.set()
        ended(server, [first, waiting])
        said = [line for line in server.lines() if "a job begins after it has waited" in line]
        assert len(said) == 1
        assert waiting in said[0]


def test_tasks_that_wait_outlive_their_server_and_are_made_once(tmp_path: Path, upstream: Counting) -> None:
    with serving(tmp_path, **configured(upstream, concurrency=2)) as server:
        first = [queued(server, f"slow {number}") for number in range(2)]
        wait(lambda: len(upstream.prompts) == 2)
        waiting = [queued(server, f"soon {number}") for number in range(6)]
        server.process.send_signal(signal.SIGTERM)
        wait(lambda: "drain" in str(httpx.get(f"{server.address}/ready", trust_env=False).text))
        time.sleep(0.3)
        assert len(upstream.prompts) == 2  # nothing is begun any more
        upstream.go.set()  # what runs, ends
        assert server.process.wait(20) == 0
    assert len(upstream.prompts) == 2
    with serving(tmp_path, **configured(upstream, concurrency=2)) as server:
        ended(server, [*first, *waiting])
        assert upstream.most == 2
        assert set(Counter(upstream.prompts).values()) == {1}


def test_places_of_a_dead_process_come_back(request: pytest.FixtureRequest, tmp_path: Path, upstream: Counting) -> None:
    with fleet("postgres", request, tmp_path, upstream, concurrency=2) as (one, two):
        for number in range(2):
            queued(one, f"slow {number}")
        wait(lambda: len(upstream.prompts) == 2)
        elsewhere = [queued(one, f"soon one-{number}") for number in range(3)]
        here = [queued(two, f"soon two-{number}", OTHER) for number in range(3)]
        stop(one.process, signal.SIGKILL)
        for id in here:
            wait(lambda id=id: task_of(two, id, OTHER)["status"] == "completed", 40)  # type: ignore[misc]
        ended(two, elsewhere)
        assert all(count == 1 for prompt, count in Counter(upstream.prompts).items() if prompt.startswith("soon"))


def test_a_reload_changes_what_holds_for_who_waits(tmp_path: Path, upstream: Counting) -> None:
    with serving(tmp_path, **configured(upstream, concurrency=1)) as server:
        ids = [queued(server, f"slow {number}") for number in range(5)]
        wait(lambda: len(upstream.prompts) == 1)
        document = yaml.safe_load(server.config.read_text())
        document["providers"]["lab"]["concurrency"] = 3
        server.config.write_text(yaml.safe_dump(document))
        server.process.send_signal(signal.SIGHUP)
        wait(lambda: len(upstream.prompts) == 3)
        assert total(server, "jobs_queued") == 2
        upstream.go.set()
        ended(server, ids)
        assert upstream.most == 3


async def test_a_job_without_a_bound_is_not_written_twice(tmp_path: Path) -> None:
    async with staged() as bench:
        assert bench.engine.places.at("toy") is None
        job, at = Job(op="generate", model="m", prompt="x"), bench.targets[0]
        assert (await bench.engine.run(job, at, at.upstream.credentials[0], silent)).outputs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["memory", "postgres", "redis"])
def test_what_the_provider_works_on_keeps_its_place_from_process_to_process(
    kind: str, number: signal.Signals, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    slow = Slow()
    with running(slow), ExitStack() as stack:
        entry = {"translator": "bfl", "api_key": GOOD_KEY, "base_url": slow.url, "concurrency": 1}
        more: dict[str, Any] = {"providers": {"slow": entry}}
        if kind != "memory":
            more |= {"database": request.getfixturevalue("postgres"), "secret": "a secret that both servers share"}
        if kind == "redis":
            more["redis"] = request.getfixturevalue("redis_server").url

        def server(name: str) -> Server:
            (tmp_path / name).mkdir()
            return stack.enter_context(serving(tmp_path / name, data=str(tmp_path / "data"), **more))

        def later(server: Server) -> str:
            body = {"model": POLLED, "prompt": "x"}
            answer = httpx.post(
                f"{server.base_url}/images/generations", json=body, headers=HEADERS | LATER, trust_env=False
            )
            assert answer.status_code == 202, answer.text
            return answer.headers["x-pictor-task"]

        one = server("one")
        two = server("two") if kind != "memory" else one
        first = later(one)
        wait(lambda: slow.submits == 1)
        wait(lambda: any(each.method == "GET" for each in slow.seen))
        time.sleep(0.3)  # it is written under which name the provider has it
        waiting = [later(server) for server in (one, two, one)]
        stop(one.process, number)
        if kind == "memory":
            two = server("two")
        polls = len(slow.seen)
        wait(lambda: len(slow.seen) > polls, 40)  # another process asks for it
        time.sleep(1.5)
        assert slow.submits == 1  # the others wait for what it has
        assert task_of(two, first)["status"] == "in_progress"
        assert {task_of(two, id)["status"] for id in waiting} == {"queued"}
        assert sorted(task_of(two, id)["queue_position"] for id in waiting) == [1, 2, 3]
        slow.go.set()
        ended(two, [first, *waiting])
        assert slow.submits == 4


async def test_while_the_store_is_away_each_process_has_its_part(redis_server: RedisServer) -> None:
    limits = Limits(Shared(Redis(redis_server.url), lambda: 2))
    await limits.start()
    assert (await limits.place("x", Rules((), 4, 6), "task_0.0")).admitted
    redis_server.stop()
    found = [(await limits.place("x", Rules((), 4, 6), f"task_{number}.0")).admitted for number in range(1, 5)]
    assert found == [True, False, False, False]
    await limits.vacate("x", "task_0.0")
    await limits.vacate("x", "task_1.0")
    assert (await limits.place("x", Rules((), 4, 6), "task_5.0")).admitted
    late = await limits.place("x", Rules((), 4, 6), "task_6.0")
    assert (late.admitted, late.begun) == (False, 3)
    assert late.wait > 0
    await limits.aclose()
