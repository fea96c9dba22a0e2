"""What the running server leans on goes away under load, and comes back: nothing paid is lost, and nobody restarts."""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest

from tests.fakes.base import running
from tests.lab import PNG, TEXT, Lab, error, generate, lab, post, total, wait
from tests.server import KEY, Server, free_port, serving
from tests.stores import S3, PostgresServer, RedisServer
from tests.test_machines import MODEL, PRICE, PRICED, SECRET, everywhere, get, machines

CLIENTS = 20
FIXED = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def upstream() -> Iterator[Lab]:
    fake = Lab()
    with running(fake):
        yield fake
        fake.go.set()


def configured(fake: Lab, **more: Any) -> dict[str, Any]:
    provider = lab(fake)
    provider["models"]["priced"] = PRICED
    keys = [{"name": "tests", "key": KEY, "admin": True}]
    return {
        "providers": {"lab": provider},
        "tiers": {"bounded": {"budget_usd_per_month": 100_000}},
        "auth": {"mode": "keys", "keys": keys, "cache_seconds": 1},
        **more,
    }


class Refused(NamedTuple):
    """An answer that is no picture."""

    prompt: str
    status: int
    code: str
    retry_after: str | None
    seconds: float


class Load:
    """Twenty clients, in a thread of their own, that each ask again as soon as they are answered."""

    def __init__(self, servers: tuple[Server, ...], *keys: Mapping[str, str]) -> None:
        self.servers = servers
        self.keys = keys
        self.answered: dict[str, str] = {}  # task -> prompt
        self.refused: list[Refused] = []
        self.asked = 0
        self._over = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """At the end each client has its last answer."""
        with ThreadPoolExecutor(1) as pool:
            whole = pool.submit(asyncio.run, self._run())
            try:
                yield
            finally:
                self._over = True
                whole.result(60)

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
            await asyncio.gather(*(self._client(session, number) for number in range(CLIENTS)))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        server, key = self.servers[number % len(self.servers)], self.keys[number % len(self.keys)]
        while not self._over:
            self.asked += 1
            prompt = f"soon load-{self.asked}"
            body, began = {"model": MODEL, "prompt": prompt}, time.monotonic()
            async with session.post(f"{server.base_url}/images/generations", json=body, headers=key) as response:
                told = await response.json()
                if response.status == 200:
                    self.answered[response.headers["x-pictor-task"]] = prompt
                    continue
                after = response.headers.get("retry-after")
            spent = time.monotonic() - began
            self.refused.append(Refused(prompt, response.status, told["error"]["code"], after, spent))
            await asyncio.sleep(0.05)

    def more(self, calls: int) -> None:
        """Returns when so many more are answered with a picture."""
        enough = len(self.answered) + calls
        wait(lambda: len(self.answered) >= enough, 30)


def status(server: Server, path: str, key: Mapping[str, str] | None = None) -> int:
    return httpx.get(f"{server.address}{path}", headers=dict(key or {}), trust_env=False, timeout=10).status_code


def history(server: Server) -> list[dict[str, Any]]:
    """Of all keys."""
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 100}
    while True:
        page = get(server, "admin/tasks", FIXED, **query)
        found += page["data"]
        if not page["has_more"]:
            return found
        query["after"] = page["last_id"]


def new_key(server: Server, tier: str | None) -> dict[str, str]:
    made = post(server, "admin/keys", json={"name": f"client of {tier}", "tier": tier})
    assert made.status_code == 200, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


# The database


def test_postgresql_is_away_for_a_while(postgres_server: PostgresServer, upstream: Lab, tmp_path: Path) -> None:
    """Under the load of clients with a budget, clients without, and keys that the database knows."""
    more = {"database": postgres_server.url, "secret": SECRET}
    with serving(tmp_path, **configured(upstream, **more)) as server:
        keys = FIXED, new_key(server, None), new_key(server, "bounded")
        made = generate(server, "before", MODEL, response_format="url")
        link = urlsplit(made.json()["data"][0]["url"])
        load = Load((server,), *keys)
        with load.running():
            load.more(100)
            postgres_server.stop()
            wait(lambda: load.refused)
            wait(lambda: total(server, "database_up") == 0, 15)
            assert status(server, "/ready") == 503
            assert status(server, "/health") == 200
            assert {status(server, "/v1/models", key) for key in keys} == {200}
            assert status(server, f"{link.path}?{link.query}") == 200
            assert total(server, "cost_usd_total") >= 100 * PRICE
            begun = len(load.refused)
            wait(lambda: len(load.refused) > begun + 50)
            postgres_server.start()
            wait(lambda: status(server, "/ready") == 200)
            load.more(100)
        assert {(each.status, each.code) for each in load.refused} == {(503, "database_unavailable")}
        assert {each.retry_after for each in load.refused} == {"5"}
        wait(lambda: not [*(tmp_path / "data" / "journal").glob("*")])
        nothing_is_lost(server, upstream, load)
        for key in keys:
            month = get(server, "account", key)["budgets"]["month"]
            assert month["reserved_usd"] == 0
        assert [line for line in server.lines() if '"level":"error"' in line] == []


def nothing_is_lost(server: Server, upstream: Lab, load: Load) -> None:
    """What was answered is there, once, with its cost and its file; what was refused was not made."""
    tasks = history(server)
    by_id = {each["id"]: each for each in tasks}
    assert len(by_id) == len(tasks)
    assert Counter(upstream.prompts).most_common(1)[0][1] == 1
    for id, prompt in load.answered.items():
        task = by_id[id]
        assert (task["status"], task["cost_usd"], task["request"]["prompt"]) == ("completed", PRICE, prompt)
        assert task["outputs"][0]["id"]
    for id in [*load.answered][::10]:
        assert httpx.get(by_id[id]["outputs"][0]["url"], trust_env=False).content == PNG
    assert {each for each in upstream.prompts if each.startswith("soon load")} == {*load.answered.values()}
    assert {each["status"] for each in tasks} == {"completed"}
    usage = get(server, "admin/usage", FIXED)["data"]
    paid = sum(each["cost_usd"] for each in tasks)
    assert sum(each["cost_usd"] for each in usage) == pytest.approx(paid)
    assert total(server, "cost_usd_total") == pytest.approx(paid)


def test_a_server_that_starts_before_its_database(
    postgres_server: PostgresServer, upstream: Lab, tmp_path: Path
) -> None:
    """It stays up, refuses, and serves once the database comes; in between it says nothing else."""
    postgres_server.stop()
    more = {"database": postgres_server.url, "secret": SECRET}
    with serving(tmp_path, takes_work=False, **configured(upstream, **more)) as server:

        def answers() -> bool:
            with suppress(httpx.TransportError):
                return status(server, "/health") == 200
            return False

        wait(answers, 20)
        assert status(server, "/ready") == 503
        unknown = {"Authorization": "Bearer sk-pictor-unknown"}
        assert status(server, "/v1/models", unknown) == 503
        load = Load((server,), FIXED)
        with load.running():
            wait(lambda: len(load.refused) > CLIENTS)
            assert upstream.prompts == []
            postgres_server.start()
            seen = set()
            while status(server, "/ready") != 200:
                seen.add(status(server, "/v1/models", unknown))
            assert seen <= {503, 401}
            load.more(CLIENTS)
        assert {(each.status, each.code) for each in load.refused} == {(503, "database_unavailable")}
        assert status(server, "/v1/models", unknown) == 401
        nothing_is_lost(server, upstream, load)


def test_a_disk_that_is_full(upstream: Lab, tmp_path: Path) -> None:
    """Of SQLite: its log cannot grow. What is paid by then is answered, and written later."""
    with serving(tmp_path, **configured(upstream)) as server, ThreadPoolExecutor(1) as pool:
        paid = pool.submit(generate, server, "slow", MODEL)
        wait(lambda: get(server, "tasks", FIXED, status="in_progress")["data"])
        before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        full = (tmp_path / "data" / "pictor.db-wal").stat().st_size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (full, before[1]))
        upstream.go.set()
        assert paid.result().json()["data"] == [{"b64_json": TEXT}]
        refused = generate(server, "refused", MODEL)
        assert error(refused, 503)["code"] == "database_unavailable"
        assert status(server, "/ready") == 503
        assert status(server, "/v1/tasks", FIXED) == 200  # what can be read is, but that opens nothing
        assert status(server, "/ready") == 503
        assert error(generate(server, "refused", MODEL), 503)["code"] == "database_unavailable"
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
        wait(lambda: status(server, "/ready") == 200)
        wait(lambda: get(server, "tasks", FIXED)["data"][0]["status"] == "completed")
        assert generate(server, "after", MODEL).status_code == 200
        tasks = history(server)
        assert [each["cost_usd"] for each in tasks] == [PRICE, PRICE]
        assert paid.result().headers["x-pictor-task"] == tasks[-1]["id"]
    assert upstream.prompts == ["slow", "after"]


# What limits are shared through


def test_redis_is_away_for_a_while(postgres: str, redis_server: RedisServer, upstream: Lab, tmp_path: Path) -> None:
    """Calls go on; each of two machines has half of every limit."""
    with machines(tmp_path, upstream, database=postgres, redis=redis_server.url) as place:
        key, halved, whole = (new_key(place.servers[0], tier) for tier in ("busy", "four", "images"))
        now = str(time.time_ns() // 1_000_000)
        heard = "SELECT id FROM worker WHERE seen > CAST(:now AS bigint)"
        load = Load(place.servers, key)
        with load.running():
            load.more(100)
            wait(lambda: len(place.found(heard, now=now)) == 2)  # each knows that there are two
            redis_server.stop()
            wait(lambda: place.sum("limits_degraded") == 2)
            load.more(100)
            answers = everywhere(
                place, 20, lambda server, number: generate(server, f"soon halved {number}", MODEL, headers=halved)
            )
            assert Counter(each.status_code for each in answers) == {200: 4, 429: 16}
            redis_server.start()
            wait(lambda: place.sum("limits_degraded") == 0)
            load.more(100)
            answers = everywhere(
                place, 20, lambda server, number: generate(server, f"soon whole {number}", MODEL, headers=whole)
            )
            assert Counter(each.status_code for each in answers) == {200: 5, 429: 15}
        assert load.refused == []
        for server in place.servers:
            told = [line for line in server.lines() if "limits are" in line]
            assert ["not shared" in line for line in told] == [True, False]
            assert '"of": 2' in told[0] or '"of":2' in told[0]


# Where files are kept


class Gate:
    """A way to a server, which can be shut, or hang: what is under way breaks, and nobody is let in, or answered."""

    def __init__(self, endpoint: str) -> None:
        self._port = free_port()
        self._to = urlsplit(endpoint)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._through = asyncio.Event()
        self._passing: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        self._do(self._open())

    def shut(self) -> None:
        self._do(self._shut())

    def hang(self) -> None:
        self._do(self._hang())

    def end(self) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        self._through.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._passed, "127.0.0.1", self._port)

    async def _hang(self) -> None:
        self._through.clear()
        self._cut()

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut()

    def _cut(self) -> None:
        for writer in [*self._passing]:
            writer.transport.abort()

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._through.wait()
        there = await asyncio.open_connection(self._to.hostname, self._to.port)
        await asyncio.gather(self._copied(reader, there[1]), self._copied(there[0], writer))

    async def _copied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.add(writer)
        with suppress(OSError):
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        writer.close()
        self._passing.discard(writer)


@pytest.fixture
def gate(s3: S3) -> Iterator[Gate]:
    made = Gate(s3.endpoint)
    made.open()
    yield made
    made.end()


def test_s3_is_away_for_a_while(s3: S3, gate: Gate, upstream: Lab, tmp_path: Path) -> None:
    """What is made is paid for, so it is answered, also where it cannot be kept."""
    files = {"store": f"s3://{s3.bucket}", "options": {**s3.options, "endpoint": gate.endpoint}}
    with serving(tmp_path, **configured(upstream, files=files)) as server:
        before = generate(server, "before", MODEL, response_format="url").json()["data"][0]["url"]
        gate.shut()
        plain = generate(server, "plain", MODEL, headers={"Idempotency-Key": "a"})
        linked = generate(server, "linked", MODEL, response_format="url")
        for answer in (plain, linked):
            assert answer.status_code == 200, answer.text
            assert answer.json()["data"] == [{"b64_json": TEXT}]
            assert answer.headers["x-pictor-cost-usd"] == str(PRICE)
        assert "x-pictor-adjusted" not in plain.headers
        assert "response_format url -> b64_json (storage_unavailable)" in linked.headers["x-pictor-adjusted"]
        assert total(server, "store_failures_total", backend="s3") == 2
        assert len([line for line in server.lines() if "answered, but not kept" in line]) == 2
        lost = httpx.get(before, trust_env=False, timeout=30)
        assert error(lost, 503)["code"] == "storage_unavailable"
        assert "retry-after" in lost.headers
        tasks = history(server)
        assert [(each["status"], each["cost_usd"]) for each in tasks] == [("completed", PRICE)] * 3
        assert [each["outputs"][0]["id"] is None for each in tasks] == [True, True, False]
        gate.open()
        assert httpx.get(before, trust_env=False).content == PNG
        after = generate(server, "after", MODEL, response_format="url").json()["data"][0]["url"]
        assert httpx.get(after, trust_env=False).content == PNG
        again = generate(server, "plain", MODEL, headers={"Idempotency-Key": "a"})
        assert error(again, 404)["code"] == "output_not_found"  # and it is not made, and paid, again
        assert status(server, "/ready") == 200
    assert upstream.prompts == ["before", "plain", "linked", "after"]


def test_s3_hangs_for_a_while(s3: S3, gate: Gate, upstream: Lab, tmp_path: Path) -> None:
    """Of those that come at once each waits for it; those that come later do not."""
    files = {"store": f"s3://{s3.bucket}", "options": {**s3.options, "endpoint": gate.endpoint}}
    with serving(tmp_path, **configured(upstream, files=files)) as server:
        load = Load((server,), FIXED)
        with load.running():
            load.more(CLIENTS)
            gate.hang()
            load.more(10 * CLIENTS)
            gate.open()
            wait(lambda: "url" in generate(server, "soon", MODEL, response_format="url").json()["data"][0], 30)
            load.more(CLIENTS)
        assert load.refused == []
