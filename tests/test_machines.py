"""Several processes that serve as one: machines on PostgreSQL, S3 and Redis or without it, workers on one SQLite."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import sqlalchemy as sa

from tests.fakes.base import running
from tests.lab import PNG, TEXT, Lab, error, generate, lab, post, total, wait
from tests.server import CLEAN, KEY, ROOT, Server, serving
from tests.stores import empty_bucket, empty_database

PRICE = 0.25
MODEL = "lab/priced"
GENERATIONS = "/v1/images/generations"
PRICED = {"ops": ["generate", "edit"], "max_images": 4, "prices": [{"unit": "image", "amount": PRICE}]}
SECRET = "a secret that all machines share"
ADMIN = {"Authorization": f"Bearer {KEY}"}
TIERS = {
    "ten": {"budget_usd_per_month": 10 * PRICE},
    "images": {"images_per_minute": 5},
    "requests": {"requests_per_minute": 5},
    "jobs": {"concurrent_jobs": 3},
    "two jobs": {"concurrent_jobs": 2},
    "four": {"images_per_minute": 4},
    "busy": {"images_per_minute": 1_000_000, "concurrent_jobs": 100},
    "nothing": {"budget_usd_per_day": 0},
    "watched": {"concurrent_jobs": 50, "budget_usd_per_month": 1000},
}
NUMBERS = count(1)


class Place(NamedTuple):
    """Two processes that serve as one; workers have one address."""

    servers: tuple[Server, Server]
    database: str

    def found(self, statement: str, **values: str) -> list[Any]:
        """Rows of the database."""
        url = sa.make_url(self.database)
        engine = sa.create_engine(url if url.host is None else url.set(drivername="postgresql+psycopg"))
        try:
            with engine.connect() as connection:
                return list(connection.execute(sa.text(statement), values))
        finally:
            engine.dispose()

    def worker(self, task: str) -> str:
        """The process that worked on it."""
        ((worker,),) = self.found("SELECT worker FROM task WHERE id = :id", id=task)
        return str(worker)

    def sum(self, name: str, **labels: str) -> float:
        """Of a metric, over all that serve."""
        return sum(total(server, name, **labels) for server in {each.address: each for each in self.servers}.values())


@pytest.fixture(scope="module")
def upstream() -> Iterator[Lab]:
    fake = Lab()
    with running(fake):
        yield fake
        fake.go.set()


@pytest.fixture
def go(upstream: Lab) -> Iterator[threading.Event]:
    """Lets the slow calls end."""
    upstream.go.clear()
    yield upstream.go
    upstream.go.set()


def configured(fake: Lab) -> dict[str, Any]:
    provider = lab(fake)
    provider["models"]["priced"] = PRICED
    keys = [{"name": "tests", "key": KEY, "admin": True}]
    return {
        "providers": {"lab": provider}, "tiers": TIERS, "auth": {"mode": "keys", "keys": keys, "cache_seconds": 1},
    }  # fmt: skip


@contextmanager
def workers(folder: Path, fake: Lab) -> Iterator[Place]:
    """One machine, two processes."""
    with serving(folder, server={"workers": 2, "drain_seconds": 5}, **configured(fake)) as server:
        yield Place((server, server), f"sqlite:///{folder}/data/pictor.db")


@contextmanager
def machines(folder: Path, fake: Lab, **shared: Any) -> Iterator[Place]:
    """Two, each with a name and a folder of its own: neither can look whether a process of the other's still runs."""
    servers = []
    with ExitStack() as stack:
        for name in ("one", "two"):
            own = folder / name
            own.mkdir()
            (own / "sitecustomize.py").write_text(f"import socket\nsocket.gethostname = lambda: {name!r}\n")
            env = {"PYTHONPATH": str(own)}
            servers.append(
                stack.enter_context(serving(own, env=env, secret=SECRET, **configured(fake), **shared))
            )  # fmt: skip
        yield Place((servers[0], servers[1]), shared["database"])


@pytest.fixture(scope="module", params=["database", "workers", "redis"])
def place(request: pytest.FixtureRequest, upstream: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    if request.param == "workers":
        with workers(folder, upstream) as made:
            yield made
        return
    bucket = empty_bucket(request.getfixturevalue("s3_endpoint"))
    files = {"store": f"s3://{bucket.bucket}/made", "options": bucket.options, "presign": request.param == "database"}
    redis = {"redis": request.getfixturevalue("redis_url")} if request.param == "redis" else {}
    with (
        empty_database(request.getfixturevalue("postgres_url")) as database,
        machines(folder, upstream, database=database, files=files, **redis) as made,
    ):
        yield made


limits_aside = pytest.mark.parametrize("place", ["database", "workers"], indirect=True)
"""Redis keeps limits alone: what does not concern them need not be asked there again."""


def new_key(place: Place, tier: str | None = None) -> dict[str, str]:
    """The header of a client that nobody has seen."""
    made = post(place.servers[0], "admin/keys", json={"name": f"client {next(NUMBERS)}", "tier": tier})
    assert made.status_code == 200, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


def new_prompt(word: str) -> str:
    """One that nobody has said."""
    return f"{word} {next(NUMBERS)}"


def everywhere(place: Place, calls: int, ask: Callable[[Server, int], httpx.Response]) -> list[httpx.Response]:
    """The answers of so many calls at once, in turn to one process and the other."""
    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(lambda number: ask(place.servers[number % 2], number), range(calls)))


@contextmanager
def lines(place: Place, key: Mapping[str, str]) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A kept connection to each of the two processes."""
    found: dict[str, httpx.Client] = {}
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:

        def connected(server: Server) -> tuple[str, httpx.Client]:
            client = httpx.Client(base_url=server.address, headers=key, trust_env=False, timeout=60)
            stack.enter_context(client)
            made = client.post(GENERATIONS, json={"model": MODEL, "prompt": "soon"})
            return place.worker(made.headers["x-pictor-task"]), client

        for _ in range(25):  # who takes a connection is chance
            found |= pool.map(connected, place.servers * 2)
            if len(found) == 2:
                break
        one, other = found.values()
        yield one, other


def get(server: Server, path: str, key: Mapping[str, str], **query: Any) -> dict[str, Any]:
    found = httpx.get(f"{server.base_url}/{path}", params=query, headers=dict(key), trust_env=False, timeout=30)
    assert found.status_code == 200, found.text
    body: dict[str, Any] = found.json()
    return body


def tasks(place: Place, key: Mapping[str, str], **query: Any) -> list[dict[str, Any]]:
    """The newest first."""
    found: list[dict[str, Any]] = get(place.servers[0], "tasks", key, limit=100, **query)["data"]
    return found


# One call, wherever it is repeated


@limits_aside
def test_the_same_key_everywhere_at_once(place: Place, upstream: Lab) -> None:
    key, prompt = new_key(place), new_prompt("soon")
    headers = {**key, "Idempotency-Key": "a"}
    answers = everywhere(place, 12, lambda server, _: generate(server, prompt, MODEL, headers=headers))
    assert {each.status_code for each in answers} == {200}, [each.text for each in answers]
    (text,) = {each.text for each in answers}
    (task,) = {each.headers["x-pictor-task"] for each in answers}
    assert upstream.prompts.count(prompt) == 1
    for server in place.servers:
        assert [each["id"] for each in get(server, "tasks", key)["data"]] == [task]
    answers = everywhere(place, 4, lambda server, _: generate(server, prompt, MODEL, headers=headers))
    assert {(each.text, each.headers["x-pictor-task"]) for each in answers} == {(text, task)}
    answers = everywhere(place, 4, lambda server, _: generate(server, "another", MODEL, headers=headers))
    assert {error(each, 409)["code"] for each in answers} == {"idempotency_key_reused"}
    assert upstream.prompts.count(prompt) == 1
    assert "another" not in upstream.prompts


def test_who_waits_for_anothers_call_is_no_job(place: Place, upstream: Lab, go: threading.Event) -> None:
    """Of two calls with one key at once, the one that comes too late gives back what it took."""
    key, prompt = new_key(place, "two jobs"), new_prompt("slow")
    headers = {**key, "Idempotency-Key": "a"}
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(generate, server, prompt, MODEL, headers=headers) for server in place.servers]
        wait(lambda: place.sum("http_in_flight", route=GENERATIONS) == 2 and prompt in upstream.prompts)
        for server in place.servers:
            wait(lambda: generate(server, new_prompt("soon"), MODEL, headers=key).status_code == 200)  # noqa: B023  # at once
        go.set()
        assert {each.result().status_code for each in asked} == {200}
    assert upstream.prompts.count(prompt) == 1


@limits_aside
def test_a_key_whose_call_was_refused_is_free(place: Place) -> None:
    """Who waited for that call is told so, and never that something was deleted."""
    headers = {**new_key(place, "nothing"), "Idempotency-Key": "a"}
    answers = everywhere(place, 12, lambda server, _: generate(server, "soon", MODEL, headers=headers))
    codes = {each.status_code: error(each, each.status_code)["code"] for each in answers}
    assert codes.pop(429) == "insufficient_quota"
    assert codes in ({}, {503: "server_is_overloaded"})
    for server in place.servers:
        assert error(generate(server, "soon", MODEL, headers=headers), 429)["code"] == "insufficient_quota"


@limits_aside
@pytest.mark.parametrize("when", ["while it runs", "after its end"])
@pytest.mark.parametrize("how", ["key", "retry"])
def test_a_client_finds_its_result_at_another_process(
    place: Place, upstream: Lab, go: threading.Event, how: str, when: str
) -> None:
    key, body = new_key(place), {"model": MODEL, "prompt": new_prompt("slow")}
    first, again = (
        ({"Idempotency-Key": "a"},) * 2 if how == "key" else [{"x-stainless-retry-count": each} for each in "01"]
    )
    with lines(place, key) as (here, there), ThreadPoolExecutor(1) as pool:
        gone, recovered = place.sum("clients_gone_total"), place.sum("results_recovered_total", how=how)
        with pytest.raises(httpx.ReadTimeout):
            here.post(GENERATIONS, json=body, headers=first, timeout=0.5)
        wait(lambda: place.sum("clients_gone_total") > gone)
        if when == "after its end":
            go.set()
        wait(lambda: tasks(place, key)[0]["status"] == ("completed" if go.is_set() else "in_progress"))
        asked = pool.submit(there.post, GENERATIONS, json=body, headers=again)
        if when == "while it runs":
            wait(lambda: place.sum("http_in_flight", route=GENERATIONS) == 1)
            go.set()
        answer = asked.result()
        assert answer.json()["data"] == [{"b64_json": TEXT}]
        assert answer.headers["x-pictor-task"] == tasks(place, key)[0]["id"]
        assert place.sum("results_recovered_total", how=how) == recovered + 1
    assert upstream.prompts.count(body["prompt"]) == 1


# What is counted over all


@pytest.mark.parametrize("tier", ["images", "requests"])
def test_a_limit_holds_over_all(place: Place, upstream: Lab, tier: str) -> None:
    key, prompt = new_key(place, tier), new_prompt("soon")
    answers = everywhere(place, 30, lambda server, number: generate(server, f"{prompt} {number}", MODEL, headers=key))
    assert Counter(each.status_code for each in answers) == {200: 5, 429: 25}
    assert {error(each, 429)["code"] for each in answers if each.status_code == 429} == {"rate_limit_exceeded"}
    assert len([each for each in upstream.prompts if each.startswith(f"{prompt} ")]) == 5


def test_jobs_at_once_are_counted_over_all(place: Place, upstream: Lab, go: threading.Event) -> None:
    key = new_key(place, "jobs")
    with ThreadPoolExecutor(12) as pool:
        asked = [
            pool.submit(generate, place.servers[number % 2], new_prompt("slow"), MODEL, headers=key)
            for number in range(12)
        ]
        wait(lambda: sum(each.done() for each in asked) == 9)
        go.set()
        assert Counter(each.result().status_code for each in asked) == {200: 3, 429: 9}
    for server in place.servers:
        assert generate(server, new_prompt("soon"), MODEL, headers=key).status_code == 200


def test_fifty_at_once_on_a_budget_for_ten(place: Place, upstream: Lab) -> None:
    key, prompt = new_key(place, "ten"), new_prompt("soon")
    answers = everywhere(place, 50, lambda server, number: generate(server, f"{prompt} {number}", MODEL, headers=key))
    assert Counter(each.status_code for each in answers) == {200: 10, 429: 40}
    assert {error(each, 429)["code"] for each in answers if each.status_code == 429} == {"insufficient_quota"}
    assert len([each for each in upstream.prompts if each.startswith(f"{prompt} ")]) == 10
    for server in place.servers:
        month = get(server, "account", key)["budgets"]["month"]
        assert (month["spent_usd"], month["reserved_usd"]) == (10 * PRICE, 0)


@limits_aside
def test_the_numbers_of_all_add_up(place: Place, upstream: Lab) -> None:
    """Also of all that was made here before."""
    key = new_key(place)
    with lines(place, key) as both:
        made = [line.post(GENERATIONS, json={"model": MODEL, "prompt": "soon"}) for line in both * 3]
    listed = [each["id"] for each in tasks(place, key)]
    assert {each.headers["x-pictor-task"] for each in made} <= {*listed}
    assert len({place.worker(task) for task in listed}) == 2
    usage = get(place.servers[0], "admin/usage", ADMIN)["data"]
    assert place.sum("cost_usd_total") == pytest.approx(sum(each["cost_usd"] or 0 for each in usage))
    assert place.sum("pictures_total") == sum(each["pictures"] for each in usage)
    assert place.sum("wasted_usd_total") == 0


# What one has is there for the other


@limits_aside
def test_a_key_is_good_everywhere_until_it_is_revoked_anywhere(place: Place) -> None:
    name = f"client {next(NUMBERS)}"
    config = str(place.servers[0].config)
    made = subprocess.run(
        [sys.executable, "-m", "proxy", "keys", "create", "--name", name, "--config", config],
        env=CLEAN, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}

    def statuses() -> set[int]:
        answers = everywhere(
            place, 8, lambda server, _: httpx.get(f"{server.base_url}/models", headers=key, trust_env=False)
        )
        return {each.status_code for each in answers}

    assert statuses() == {200}
    revoking = httpx.delete(f"{place.servers[0].base_url}/admin/keys/{name}", headers=ADMIN, trust_env=False)
    assert revoking.status_code == 200
    wait(lambda: 200 not in statuses(), 5)  # `auth.cache_seconds` is 1
    assert statuses() == {401}


@limits_aside
def test_a_file_is_there_for_all(place: Place, upstream: Lab) -> None:
    one, other = place.servers
    sent = post(one, "files", data={"purpose": "vision"}, files={"file": ("a.png", PNG)})
    assert sent.status_code == 200, sent.text
    body: dict[str, Any] = {"model": MODEL, "prompt": new_prompt("soon"), "images": [{"file_id": sent.json()["id"]}]}
    made = post(other, "images/edits", json=body)
    assert made.status_code == 200, made.text
    assert PNG in next(each.body for each in upstream.seen if body["prompt"].encode() in each.body)


@limits_aside
def test_a_link_opens_everywhere(place: Place) -> None:
    one, other = place.servers
    made = generate(one, new_prompt("soon"), MODEL, response_format="url")
    url = made.json()["data"][0]["url"]
    assert url.startswith(one.address)
    for address in (url, url.replace(one.address, other.address)):
        got = httpx.get(address, trust_env=False, follow_redirects=True)
        assert (got.status_code, got.content) == (200, PNG)
        presigned = "presign: true" in one.config.read_text()
        assert [each.status_code for each in got.history] == ([307] if presigned else [])
    assert httpx.get(url.replace("signature=", "signature=x"), trust_env=False).status_code == 403


# One that is killed


def test_a_machine_that_is_killed(postgres: str, s3: Any, upstream: Lab, go: threading.Event, tmp_path: Path) -> None:
    files = {"store": f"s3://{s3.bucket}", "options": s3.options}
    with machines(tmp_path, upstream, database=postgres, files=files) as place:
        killed(place, upstream, go)


def test_a_worker_that_is_killed(upstream: Lab, go: threading.Event, tmp_path: Path) -> None:
    with workers(tmp_path, upstream) as place:
        killed(place, upstream, go)
        assert any("a worker died" in line for line in place.servers[0].lines())
        made = place.found("SELECT id FROM task WHERE status = 'completed'")
        assert place.sum("cost_usd_total") == PRICE * len(made)  # with what the dead one has counted


def killed(place: Place, upstream: Lab, go: threading.Event) -> None:
    """`kill -9` in the middle of calls: the other process ends them, and none of them is made again."""
    key = new_key(place, "watched")
    keyed = {"model": MODEL, "prompt": new_prompt("slow")}
    once = {"Idempotency-Key": "a"}
    with lines(place, key) as (here, there), ThreadPoolExecutor(20) as pool:
        before = len(tasks(place, key))
        asked: list[Future[httpx.Response]] = [pool.submit(here.post, GENERATIONS, json=keyed, headers=once)]
        for number in range(10):
            prompt = new_prompt("slow")
            asked.append(pool.submit(generate, place.servers[number % 2], prompt, MODEL, headers=key))
        wait(lambda: len(tasks(place, key, status="in_progress")) == 11)
        (task,) = [each for each in tasks(place, key) if each["request"]["prompt"] == keyed["prompt"]]
        victim = place.worker(task["id"])
        ((pid,),) = place.found("SELECT pid FROM worker WHERE id = :id", id=victim)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            asked[0].result()
        repeated = pool.submit(there.post, GENERATIONS, json=keyed, headers=once)
        go.set()
        refused = repeated.result()
        assert error(refused, 502)["code"] == "interrupted"
        assert refused.headers["x-should-retry"] == "false"
        answered = 0
        for each in asked[1:]:
            with suppress(httpx.TransportError):
                answered += each.result().status_code == 200
        refused = there.post(GENERATIONS, json=keyed, headers=once)
        assert error(refused, 502)["code"] == "interrupted"
        failed = there.get("/v1/tasks", params={"status": "failed"}).json()["data"]
        prompt = next(said for each in failed if (said := each["request"]["prompt"]) != keyed["prompt"])
        retried = {"model": MODEL, "prompt": prompt}
        refused = there.post(GENERATIONS, json=retried, headers={"x-stainless-retry-count": "1"})
        assert error(refused, 502)["code"] == "interrupted"
        account = there.get("/v1/account").json()["budgets"]["month"]
        of_key = there.get("/v1/tasks", params={"limit": 100}).json()["data"]
    assert {*Counter(each for each in upstream.prompts if each.startswith("slow")).values()} == {1}
    ended = {each["id"]: each for each in of_key}
    interrupted = place.found("SELECT id FROM task WHERE worker = :worker AND status = 'failed'", worker=victim)
    assert Counter(each["status"] for each in ended.values()) == {
        "completed": before + answered, "failed": len(interrupted),
    }  # fmt: skip
    assert len(interrupted) == 11 - answered
    assert {ended[id]["error"]["code"] for (id,) in interrupted} == {"interrupted"}
    assert (account["spent_usd"], account["reserved_usd"]) == (PRICE * (before + answered), 0)
    assert place.found("SELECT * FROM reservation") == []
    assert place.found("SELECT * FROM slot") == []
    assert place.found("SELECT * FROM worker WHERE id = :id", id=victim) == []
