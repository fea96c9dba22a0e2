"""Ends of tasks are told to real receivers, which check the signatures with the libraries that clients have."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from aiohttp import web
from msgspec.structs import replace
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from proxy import config, webhook_secrets
from proxy.config import Auth, Config, ConfigError
from proxy.http import Allowed, Pools
from proxy.metrics import Metrics
from proxy.state import deliveries, ids, tables
from proxy.state.database import Database, milliseconds
from proxy.state.deliveries import Delivery, events
from proxy.state.files import Files
from proxy.state.keys import KeyStore, change
from proxy.state.records import Task
from proxy.state.sweep import sweep
from proxy.state.uploads import Uploads
from proxy.webhooks import DELAYS, EACH, LEASE, LONGEST, Parts, Webhooks, check_url
from tests.server import KEY, ROOT, Server, free_port
from tests.server import serving as server_of
from tests.sockets import serving, until
from tests.stores import PostgresServer
from tests.test_docs import blocks
from translators.base import Fault, Secret

SECRET = b"0123456789abcdef0123456789abcdef"
OPEN = ("127.0.0.1",)


class Clock:
    """Milliseconds since 1970, from `behind` seconds ago on; they pass when they are told to."""

    def __init__(self, behind: float = 0) -> None:
        self.at = milliseconds() - int(behind * 1000)

    def __call__(self) -> int:
        return self.at

    def skip(self, seconds: float) -> None:
        self.at += round(seconds * 1000)


class Receiver:
    """A client's server. `answers` are the statuses that it gives in turn, and then 200."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.paths: list[str] = []
        self.hangs = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        self.heard.append((dict(request.headers), await request.read()))
        if request.path == "/hangs":
            await self.hangs.wait()
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in self.heard]


class Teller:
    """The webhooks of one process."""

    def __init__(self, database: Database, clock: Callable[[], int], settings: Config, allow: Sequence[str]) -> None:
        self.metrics = Metrics()
        self.pools = Pools(Allowed(allow))
        self.webhooks = Webhooks(database, SECRET, lambda: Parts(settings, self.pools), self.metrics, clock)

    def counted(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("pictor_webhooks_total", {"result": result}) or 0.0

    async def until(self, result: str, count: int) -> None:
        """That many tries have come to this, which is written down."""
        self.webhooks.wake()
        await until(lambda: self.counted(result) == count and not self.webhooks.busy)


@asynccontextmanager
async def telling(
    database: Database, clock: Clock | None = None, settings: Config | None = None, allow: Sequence[str] = OPEN
) -> AsyncIterator[Teller]:
    made = Teller(database, clock or milliseconds, settings or Config(), allow)
    made.webhooks.start()
    try:
        yield made
    finally:
        await made.webhooks.aclose()
        await made.pools.aclose()


def ended(status: str = "completed", op: str = "generate", **more: Any) -> Task:
    at = milliseconds()
    usual: dict[str, Any] = {
        "id": ids.new("task_"), "key": "config:app", "created": at, "ended": at, "op": op, "status": status,
        "asked": "house-style", "model": "lab/flux", "worker": "w", "metadata": {"project": "ä"},
    }  # fmt: skip
    return Task(**usual | more)


async def write(database: Database, *rows: Delivery) -> None:
    await database.write(lambda connection: deliveries.insert(connection, rows))


async def rows(database: Database) -> list[Delivery]:
    return (await deliveries.page(database, 1000))[::-1]


async def states(database: Database) -> list[str]:
    return [row.status for row in await rows(database)]


async def until_all(database: Database, status: str) -> None:
    async with asyncio.timeout(20):
        while True:
            with suppress(Fault):  # it may be away
                if {*await states(database)} == {status}:
                    return
            await asyncio.sleep(0.005)


def verified(secret: str, headers: dict[str, str], body: bytes) -> Any:
    """What two libraries of others agree on."""
    found = Webhook(secret).verify(body, headers)
    event = OpenAI(api_key="unused", webhook_secret=secret).webhooks.unwrap(body, headers)
    assert event.to_dict() == found
    return found


# ---- what is told


def test_an_end_is_one_event() -> None:
    task = ended()
    (row,) = events(task, "https://app.example/hook", 1_790_000_009_123)
    assert row.id == f"evt_{1_790_000_009_123:012x}{task.id[-20:]}"
    assert (row.task, row.key, row.created, row.due, row.status) == (task.id, task.key, row.due, row.due, "pending")
    assert json.loads(row.body) == {
        "id": row.id, "object": "event", "created_at": 1_790_000_009, "type": "task.completed",
        "data": {
            "id": task.id, "object": "task", "status": "completed", "model": "house-style",
            "metadata": {"project": "ä"},
        },
    }  # fmt: skip
    assert (row,) == events(task, "https://app.example/hook", 1_790_000_009_123)
    assert msgspec.json.decode(msgspec.json.encode(row), type=Delivery) == row


@pytest.mark.parametrize(
    ("op", "status", "type"),
    [
        ("edit", "failed", "task.failed"),
        ("generate", "cancelled", "task.cancelled"),
        ("video", "completed", "video.completed"),
        ("video", "failed", "video.failed"),
        ("video", "cancelled", "video.failed"),
    ],
)
def test_types_of_events(op: str, status: str, type: str) -> None:
    task = ended(status, op)
    (row,) = events(task, "https://app.example/hook", milliseconds())
    body = json.loads(row.body)
    assert row.type == body["type"] == type
    if op == "video":
        assert body["data"] == {"id": task.id.replace("task_", "video_")}


async def test_an_event_is_written_once(database: Database) -> None:
    told = events(ended(), "https://app.example/hook", milliseconds())
    await write(database, *told)
    await write(database, *(replace(row, url="https://other.example") for row in told))
    await write(database)
    assert await rows(database) == list(told)


# ---- signatures


def test_the_signature_of_the_standard() -> None:
    body = b'{"id":"evt_1","object":"event","created_at":1790000000,"type":"video.completed","data":{"id":"video_123"}}'
    assert webhook_secrets.headers(["whsec_Z2F0ZXdheS10ZXN0LXNlY3JldA=="], "evt_1", 1_790_000_000, body) == {
        "webhook-id": "evt_1", "webhook-timestamp": "1790000000",
        "webhook-signature": "v1,+2qRQvUbrDkVensISmwHF1F39PtHt7U1BViNQ18dRuI=",
    }  # fmt: skip


def test_secrets_are_the_keys_own() -> None:
    found = {
        webhook_secrets.derived(each, key, version)
        for each in (SECRET, b"x" * 32)
        for key in "ab"
        for version in (1, 2)
    }
    assert len(found) == 8
    assert {len(base64.b64decode(each.removeprefix("whsec_"))) for each in found} == {32}


async def test_libraries_of_others_accept_it(database: Database) -> None:
    receiver = Receiver()
    async with serving(receiver.answer) as address, telling(database) as teller:
        await write(database, *events(ended(op="video"), f"{address}/hook?for=me", milliseconds()))
        teller.webhooks.wake()
        await until_all(database, "delivered")
    ((headers, body),) = receiver.heard
    (row,) = await rows(database)
    event = verified(webhook_secrets.derived(SECRET, "config:app", 1), headers, body)
    assert event == json.loads(row.body)
    assert (receiver.paths, row.tries, row.last) == (["/hook?for=me"], 1, "status 200")
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("pictor/")
    assert not {"Authorization", "Cookie", "api-key"} & {*headers}
    other = webhook_secrets.derived(SECRET, "config:other", 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body, headers)
    with pytest.raises(InvalidWebhookSignatureError):
        OpenAI(api_key="unused", webhook_secret=other).webhooks.unwrap(body, headers)
    assert teller.counted("delivered") == 1


async def test_both_secrets_sign_for_a_day_after_a_rotation(database: Database) -> None:
    store, receiver, clock = KeyStore(database, SECRET), Receiver(), Clock()
    key, _ = await store.create(change({"name": "app", "webhook_url": "https://app.example"}, Config()))
    old, new = (webhook_secrets.derived(SECRET, key.id, version) for version in (1, 2))
    async with serving(receiver.answer) as address, telling(database, clock) as teller:

        async def heard() -> tuple[list[bool], int]:
            await write(database, *events(ended(key=key.id), address, clock()))
            teller.webhooks.wake()
            await until_all(database, "delivered")
            (headers, body), marks = receiver.heard[-1], receiver.heard[-1][0]["webhook-signature"].split(" ")
            at = int(headers["webhook-timestamp"])
            own = [
                webhook_secrets.headers([each], headers["webhook-id"], at, body)["webhook-signature"]
                for each in (old, new)
            ]
            return [each in marks for each in own], len(marks)

        assert await heard() == ([True, False], 1)
        rotated = await store.rotate_webhook("app")
        assert (rotated.webhook_version, rotated.webhook_url) == (2, "https://app.example")
        assert await heard() == ([True, True], 2)
        headers, body = receiver.heard[-1]
        assert verified(old, headers, body) == verified(new, headers, body)
        clock.skip(86_401)
        assert await heard() == ([False, True], 1)


async def test_secrets_of_the_configuration(database: Database) -> None:
    own = [f"whsec_{base64.b64encode(mark * 24).decode()}" for mark in (b"a", b"b")]
    key = config.Key(name="app", key=Secret("k"), webhook=config.Webhook(secrets=tuple(map(Secret, own))))
    receiver = Receiver()
    async with (
        serving(receiver.answer) as address,
        telling(database, settings=Config(auth=Auth(keys=(key,)))) as teller,
    ):
        await write(database, *events(ended(), address, milliseconds()))
        teller.webhooks.wake()
        await until_all(database, "delivered")
    ((headers, body),) = receiver.heard
    assert verified(own[0], headers, body) == verified(own[1], headers, body)


@pytest.mark.parametrize(
    ("webhook", "flaw"),
    [
        ("{url: ftp://app.example}", "url: expected an address"),
        ("{url: https://me@app.example/x}", "url: expected an address"),
        ("{secrets: [whsec_not-base64]}", "secrets[0]: expected whsec_ and base64 behind it"),
        ("{secrets: [a plain text that is long]}", "secrets[0]: expected whsec_ and base64 behind it"),
        ("{secrets: [whsec_c2hvcnQ=]}", "secrets[0]: expected at least 16 bytes"),
    ],
)
def test_what_the_configuration_refuses(tmp_path: Path, webhook: str, flaw: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"auth: {{keys: [{{name: app, key: some-key, webhook: {webhook}}}]}}")
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    (said,) = caught.value.flaws
    assert said.startswith(f"auth.keys[0].webhook.{flaw}")


async def test_the_receiver_that_is_documented(database: Database) -> None:
    (text,) = blocks(ROOT / "docs/webhooks.md", "python")
    port = free_port()
    secret = webhook_secrets.derived(SECRET, "config:app", 1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text.replace("8001", str(port)), env={"PATH": "", "WEBHOOK_SECRET": secret},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout
    async with asyncio.timeout(20):
        while True:
            with suppress(OSError):
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            await asyncio.sleep(0.02)
    task = ended(op="video")
    async with telling(database) as teller:
        await write(database, *events(task, f"http://127.0.0.1:{port}/", milliseconds()))
        teller.webhooks.wake()
        await until_all(database, "delivered")
    process.terminate()
    assert await process.stdout.read() == f"video.completed {task.id.replace('task_', 'video_')}\n".encode()
    await process.wait()


# ---- tries


async def test_what_fails_is_told_again_and_is_the_same(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    receiver, clock = Receiver(503, 302), Clock()
    async with serving(receiver.answer) as address, telling(database, clock) as teller:
        await write(database, *events(ended(), f"{address}/hook?token=hidden", clock()))
        with caplog.at_level(logging.WARNING, "pictor"):
            for tries in (1, 2, 3):
                await teller.until(*(("retried", tries) if tries < 3 else ("delivered", 1)))
                if tries < 3:
                    (row,) = await rows(database)
                    wait = (row.due - clock()) / 1000
                    assert 0.9 * DELAYS[tries - 1] <= wait <= DELAYS[tries - 1]
                    assert (row.status, row.last) == ("pending", f"status {(503, 302)[tries - 1]}")
                    clock.skip(wait - 1)
                    teller.webhooks.wake()
                    await asyncio.sleep(0.05)
                    assert len(receiver.heard) == tries
                    clock.skip(1)
        await until_all(database, "delivered")
    assert receiver.paths == ["/hook?token=hidden"] * 3
    assert (
        len({body for _, body in receiver.heard}) == len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1
    )
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.heard}) == 3
    assert (teller.counted("retried"), teller.counted("delivered")) == (2, 1)
    lines = [record.__dict__["fields"] for record in caplog.records]
    assert [(line["why"], line["tries"], line["at"]) for line in lines] == [
        ("status 503", 1, address),
        ("status 302", 2, address),
    ]
    assert "hidden" not in caplog.text + repr(lines)


async def test_a_receiver_that_was_down_for_ten_minutes(database: Database) -> None:
    clock, receiver = Clock(behind=720), Receiver()
    began = clock()
    async with serving(receiver.answer) as address:
        port = int(address.rpartition(":")[2])
    async with telling(database, clock) as teller:
        await write(database, *events(ended(), f"http://127.0.0.1:{port}/", clock()))
        tries = 0
        while clock() - began < 600_000:
            tries += 1
            await teller.until("retried", tries)
            (row,) = await rows(database)
            assert row.last
            assert "cannot connect" in row.last
            clock.skip((row.due - clock()) / 1000)
        assert clock() - began < 720_000  # it hears within two minutes
        runner = web.AppRunner(_application(receiver))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        teller.webhooks.wake()
        await until_all(database, "delivered")
        await runner.cleanup()
    ((headers, body),) = receiver.heard
    assert verified(webhook_secrets.derived(SECRET, "config:app", 1), headers, body)["type"] == "task.completed"


def _application(receiver: Receiver) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    return app


async def test_after_a_day_it_is_given_up(database: Database) -> None:
    clock, receiver = Clock(), Receiver(*[500] * 99)
    began = clock()
    async with serving(receiver.answer) as address, telling(database, clock) as teller:
        await write(database, *events(ended(), address, clock()))
        for tries in range(1, len(DELAYS) + 2):
            await teller.until(*(("retried", tries) if tries <= len(DELAYS) else ("given_up", 1)))
            (row,) = await rows(database)
            if row.status == "pending":
                clock.skip((row.due - clock()) / 1000)
        assert (row.status, row.tries, row.last) == ("failed", len(DELAYS) + 1, "status 500")
        assert 0.85 * 86_400 < (clock() - began) / 1000 < 86_400
        assert (teller.counted("retried"), teller.counted("given_up")) == (len(DELAYS), 1)

        receiver.answers.clear()
        assert (await deliveries.again(database, row.id)).tries == 0
        clock.at = milliseconds() + 1
        teller.webhooks.wake()
        await until_all(database, "delivered")
    with pytest.raises(Fault, match="no delivery 'evt_x'"):
        await deliveries.again(database, "evt_x")


async def test_a_receiver_that_is_gone(database: Database) -> None:
    receiver = Receiver(410)
    async with serving(receiver.answer) as address, telling(database) as teller:
        await write(database, *events(ended(), address, milliseconds()))
        teller.webhooks.wake()
        await until_all(database, "failed")
    assert (len(receiver.heard), teller.counted("given_up")) == (1, 1)


async def test_what_is_told_of_one_task_goes_in_its_order(database: Database) -> None:
    receiver, clock = Receiver(500), Clock(behind=60)
    task, other = ended("failed"), ended()
    async with serving(receiver.answer) as address, telling(database, clock) as teller:
        (first,) = events(task, address, clock())
        (second,) = events(replace(task, status="completed"), address, clock() + 1)
        await write(database, second, first)
        clock.skip(1)
        await teller.until("retried", 1)
        await write(database, *events(other, address, clock()))
        await teller.until("delivered", 1)
        clock.skip(DELAYS[0])
        teller.webhooks.wake()
        await until_all(database, "delivered")
    assert [body["id"] for body in receiver.bodies[:2]] == [first.id, receiver.bodies[1]["id"]]
    assert receiver.bodies[1]["data"]["id"] == other.id
    assert [body["type"] for body in receiver.bodies[2:]] == ["task.failed", "task.completed"]


async def test_one_that_is_given_up_holds_up_nothing(database: Database) -> None:
    receiver, task = Receiver(410), ended("failed")
    async with serving(receiver.answer) as address, telling(database) as teller:
        now = milliseconds() - 10
        await write(database, *events(task, address, now), *events(replace(task, status="completed"), address, now + 1))
        await teller.until("delivered", 1)
    assert [body["type"] for body in receiver.bodies] == ["task.failed", "task.completed"]


async def test_processes_do_not_tell_twice(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(3)]
    databases[0].now(tables.metadata.create_all)
    receiver = Receiver()
    async with serving(receiver.answer) as address:
        now = milliseconds()
        told = [row for number in range(90) for row in events(ended(), f"{address}/{number % 10}", now)]
        await write(databases[0], *told)
        async with telling(databases[0]) as one, telling(databases[1]) as two, telling(databases[2]) as three:
            await until_all(databases[0], "delivered")
            counts = [each.counted("delivered") for each in (one, two, three)]
    for each in databases:
        each.close()
    assert sorted(body["id"] for body in receiver.bodies) == sorted(row.id for row in told)
    assert sum(counts) == 90


async def test_a_slow_receiver_holds_up_nobody(database: Database) -> None:
    receiver = Receiver()
    async with serving(receiver.answer) as address, telling(database) as teller:
        now = milliseconds() - 1000
        await write(database, *(row for _ in range(250) for row in events(ended(), f"{address}/hangs", now)))
        teller.webhooks.wake()
        await until(lambda: len(receiver.heard) == EACH)
        await write(database, *events(ended(), f"{address}/quick", now + 500))
        teller.webhooks.wake()
        await until(lambda: teller.counted("delivered") == 1)
        assert receiver.paths == ["/hangs"] * EACH + ["/quick"]
        receiver.hangs.set()
        await until(lambda: teller.counted("delivered") == 251)


async def test_a_process_that_stops_in_the_middle(database: Database) -> None:
    """It stops at once; what it was about is left alone until its lease is over, and told by another then."""
    receiver, clock = Receiver(), Clock()
    async with serving(receiver.answer) as address:
        async with telling(database, clock) as teller:
            await write(database, *events(ended(), f"{address}/hangs", clock()))
            teller.webhooks.wake()
            await until(lambda: receiver.heard)
            began = time.monotonic()
            await teller.webhooks.aclose()
            assert time.monotonic() - began < 1.0
        receiver.hangs.set()
        async with telling(database, clock) as teller:
            clock.skip(LEASE / 1000 - 1)
            teller.webhooks.wake()
            await asyncio.sleep(0.1)
            assert len(receiver.heard) == 1
            clock.skip(1)
            teller.webhooks.wake()
            await until_all(database, "delivered")
    assert len(receiver.heard) == 2


async def test_an_endless_answer_is_not_read(database: Database) -> None:
    async def endless(_: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(_)
        try:
            while True:
                await answer.write(bytes(65_536))
        except ConnectionError:
            return answer

    async with serving(endless) as address, telling(database) as teller:
        await write(database, *events(ended(), address, milliseconds()))
        teller.webhooks.wake()
        await until_all(database, "delivered")


async def test_the_database_goes_and_comes_back(postgres_server: PostgresServer) -> None:
    database, receiver = Database(postgres_server.url), Receiver()
    database.now(tables.metadata.create_all)
    async with serving(receiver.answer) as address, telling(database) as teller:
        await write(database, *events(ended(), f"{address}/hangs", milliseconds()))
        teller.webhooks.wake()
        await until(lambda: receiver.heard)
        postgres_server.stop()
        receiver.hangs.set()  # it has heard, and that cannot be written down
        await until(lambda: teller.counted("delivered") == 1 and not database.up)
        postgres_server.start()
        await until_all(database, "delivered")
        await write(database, *events(ended(), address, milliseconds()))
        await until_all(database, "delivered")  # nobody has woken it
    database.close()
    assert len(receiver.heard) == 2


# ---- where to


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001"])
async def test_private_addresses_hear_nothing(database: Database, host: str) -> None:
    receiver = Receiver()
    async with serving(receiver.answer) as address, telling(database, allow=()) as teller:
        port = address.rpartition(":")[2]
        await write(database, *events(ended(), f"http://{host}:{port}/", milliseconds()))
        teller.webhooks.wake()
        await until_all(database, "failed")
    assert not receiver.heard
    assert teller.counted("refused") == 1
    (row,) = await rows(database)
    assert row.last
    assert row.last.startswith("refused: ")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "empty_string"),
        ("app.example/hook", "invalid_value"),
        ("ftp://app.example/hook", "invalid_value"),
        ("https://", "invalid_value"),
        ("https://user:password@app.example/hook", "invalid_value"),
        ("https://app.example/\thook", "invalid_value"),
        ("http://[::1", "invalid_value"),
        ("http://127.0.0.1/hook", "invalid_value"),
        ("http://10.1.2.3/hook", "invalid_value"),
        ("http://169.254.169.254/latest/meta-data", "invalid_value"),
        ("http://[fd00::1]/hook", "invalid_value"),
        ("http://0x7f000001/hook", "invalid_value"),
        ("http://localhost:8000/hook", "invalid_value"),
        ("http://a.localhost./hook", "invalid_value"),
        (f"https://app.example/{'x' * LONGEST}", "string_above_max_length"),
    ],
)
def test_addresses_that_are_refused_at_once(url: str, code: str) -> None:
    with pytest.raises(Fault) as caught:
        check_url(url, "webhook_url", Allowed(("10.9.0.0/16",)))
    fault = caught.value
    assert (fault.kind, fault.code, fault.param) == ("invalid", code, "webhook_url")
    assert "password" not in fault.message


@pytest.mark.parametrize(
    "url",
    ["https://app.example/hook?a=b", "http://app.example:8080", "https://93.184.216.34/", "http://10.9.1.2/hook",
     "http://gpu-1/hook", "https://bücher.example/"],
)  # fmt: skip
def test_addresses_that_are_taken(url: str) -> None:
    assert check_url(url, "webhook_url", Allowed(("10.9.0.0/16",))) == url


# ---- what is past its time


async def test_what_was_told_goes_with_the_history(database: Database, tmp_path: Path) -> None:
    now, day = milliseconds(), 86_400_000
    old, new = now - 100 * day, now - 10 * day
    told = [row for at in (old, new) for _ in range(3) for row in events(ended(), "https://app.example", at)]
    marked = [replace(row, status=("pending", "delivered", "failed")[index % 3]) for index, row in enumerate(told)]
    await write(database, *marked)
    files = Files(tmp_path, key=SECRET)
    swept = await sweep(database, files, Uploads(database, files), Config(), pause=0)
    files.close()
    assert swept.deliveries == 2
    assert {row.id for row in await rows(database)} == {row.id for row in (marked[0], *marked[3:])}
    found = partial(deliveries.page, database, 10)
    assert [row.id for row in await found(task=marked[4].task)] == [marked[4].id]
    assert [row.id for row in await found(status="failed")] == [marked[5].id]


# ---- over HTTP and by command


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = [{"name": "tests", "key": KEY, "admin": True, "webhook": {"url": "https://ops.example/hook"}}]
    with server_of(tmp_path_factory.mktemp("webhooks"), auth={"mode": "keys", "keys": keys}) as running:
        yield running


def ask(server: Server, method: str, path: str, key: str = KEY, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    sent = body or None
    answer = httpx.request(method, f"{server.base_url}{path}", headers=headers, json=sent, trust_env=False)
    found = answer.json()
    return found if answer.status_code == 200 else (answer.status_code, found["error"]["code"], found["error"]["param"])


def pictor(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", *arguments, "--config", str(server.config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


async def test_a_server_tells(server: Server) -> None:
    """Also what another process has written, and with the secret that the key sees."""
    receiver = Receiver()
    database = Database(f"sqlite:///{server.config.parent}/data/pictor.db")
    async with serving(receiver.answer) as address:
        await write(database, *events(ended(key="config:tests"), address, milliseconds()))
        await until_all(database, "delivered")
    database.close()
    ((headers, body),) = receiver.heard
    (secret,) = ask(server, "GET", "/account/webhook")["secrets"]
    assert verified(secret, headers, body)["data"]["object"] == "task"


def test_a_key_sees_its_own_secret(server: Server) -> None:
    made = ask(server, "POST", "/admin/keys", name="app", webhook_url="https://app.example/hook")
    assert made["webhook_url"] == "https://app.example/hook"
    assert ask(server, "GET", "/account", made["key"])["webhook_url"] == "https://app.example/hook"
    seen = ask(server, "GET", "/account/webhook", made["key"])
    assert (seen["object"], seen["url"], len(seen["secrets"])) == ("webhook", "https://app.example/hook", 1)
    assert ask(server, "GET", "/admin/keys/app/webhook") == seen
    rotated = ask(server, "POST", "/account/webhook/rotate", made["key"])
    assert rotated["secrets"][1:] == seen["secrets"]
    again = ask(server, "POST", f"/admin/keys/{made['id']}/webhook/rotate")
    assert again["secrets"][1:] == rotated["secrets"][:1]
    assert ask(server, "GET", "/account/webhook", made["key"]) == again
    assert ask(server, "POST", "/admin/keys/app", webhook_url=None)["webhook_url"] is None
    assert ask(server, "GET", "/account/webhook", made["key"])["url"] is None
    assert ask(server, "POST", "/admin/keys/app", webhook_url="http://10.0.0.1") == (
        400,
        "invalid_value",
        "webhook_url",
    )
    assert ask(server, "GET", "/admin/keys/app/webhook", made["key"])[:2] == (403, "admin_key_required")
    assert ask(server, "GET", "/account/webhook", "sk-wrong")[:2] == (401, "invalid_api_key")


def test_a_key_of_the_configuration(server: Server) -> None:
    seen = ask(server, "GET", "/account/webhook")
    assert (seen["url"], len(seen["secrets"])) == ("https://ops.example/hook", 1)
    assert ask(server, "POST", "/account/webhook/rotate")[:2] == (400, "key_fixed")
    shown = pictor(server, "keys", "webhook", "tests")
    assert (shown.returncode, shown.stdout.split()) == (0, seen["secrets"])
    refused = pictor(server, "keys", "webhook", "tests", "--rotate")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "fixed in the configuration" in refused.stderr


def test_commands_for_keys(server: Server) -> None:
    assert pictor(server, "keys", "create", "--name", "shop", "--webhook", "https://shop.example/h").returncode == 0
    first = pictor(server, "keys", "webhook", "shop")
    assert "https://shop.example/h" in first.stderr
    both = json.loads(pictor(server, "keys", "webhook", "shop", "--rotate", "--json").stdout)
    assert (both["url"], both["secrets"][1:]) == ("https://shop.example/h", first.stdout.split())
    assert pictor(server, "keys", "webhook", "shop").stdout.split() == both["secrets"]
    changed = pictor(server, "keys", "set", "shop", "--webhook", "", "--json")
    assert json.loads(changed.stdout)["webhook_url"] is None
    wrong = pictor(server, "keys", "set", "shop", "--webhook", "http://192.168.0.1/")
    assert (wrong.returncode, "webhook_url" in wrong.stderr) == (1, True)


async def test_commands_for_what_was_told(server: Server) -> None:
    (row,) = events(ended("failed"), "https://app.example/hook?token=hidden", milliseconds())
    failed = replace(row, status="failed", tries=14, last="status 500")
    database = Database(f"sqlite:///{server.config.parent}/data/pictor.db")
    await write(database, failed)
    database.close()
    head, line = pictor(server, "webhooks", "list", "--failed").stdout.splitlines()
    assert head.split() == ["ID", "TASK", "TYPE", "TO", "STATE", "TRIES", "NEXT", "LAST"]
    told = f"{row.id} {row.task} task.failed https://app.example/hook failed 14 - status 500"
    assert line.split() == told.split()
    (shown,) = json.loads(pictor(server, "webhooks", "list", "--task", row.task, "--json").stdout)
    assert shown["url"] == row.url
    done = pictor(server, "webhooks", "deliver", row.id)
    assert (done.returncode, done.stdout) == (0, "")
    (due,) = json.loads(pictor(server, "webhooks", "list", "--task", row.task, "--json").stdout)
    assert (due["status"], due["tries"] < 2) == ("pending", True)  # the server may have tried by now
    missing = pictor(server, "webhooks", "deliver", "evt_none")
    assert (missing.returncode, missing.stderr) == (1, "pictor: There is no delivery 'evt_none'.\n")
