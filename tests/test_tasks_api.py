"""The history over a real socket: what a task is told as, whose it is, pages, deletion; and the account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from litestar import Litestar
from msgspec.structs import replace
from openai import AsyncOpenAI, BaseModel
from openai._base_client import make_request_options
from openai.pagination import AsyncCursorPage

from proxy import config
from proxy.api import account, tasks, usage
from proxy.api.account import resets
from proxy.api.tasks import described
from proxy.state import jobs
from proxy.state.budgets import Reservation
from proxy.state.database import Database, milliseconds
from proxy.state.jobs import SubmitRow
from proxy.state.records import Task
from tests.archive import ALICE, BOB, CONFIG, NOON, Archive, Client, made, serving
from tests.pictures import data as picture
from translators.base import blob


@pytest.fixture
def archive(database: Database, tmp_path: Path) -> Iterator[Archive]:
    found = Archive(database, tmp_path)
    yield found
    found.close()


@pytest.fixture
async def clients(archive: Archive) -> AsyncIterator[tuple[Client, Client, Client]]:
    async with serving(archive) as found:
        yield found


@pytest.fixture
def alice(clients: tuple[Client, Client, Client]) -> Client:
    return clients[0]


@pytest.fixture
def bob(clients: tuple[Client, Client, Client]) -> Client:
    return clients[1]


RESULT: dict[str, Any] = {
    "created": NOON // 1000,
    "respond": "b64_json",
    "outputs": [
        {
            "id": "20261120-aaaaaaaaaaaaaaaaaaaaaa.png", "type": "image/png", "width": 1024, "height": 768,
            "bytes": 1_234, "revised_prompt": "a red boat", "provider": {"seed": 7},
        },
    ],
    "usage": {"input_text": 10, "output_image": 4_160},
    "notes": [{"param": "size", "action": "converted", "text": "size 1000x750 -> 1024x768"}],
    "faults": [{"kind": "policy", "code": "moderation_blocked", "message": "Not that.", "param": None}],
}  # fmt: skip


# --- one task


async def test_a_task_as_it_is_told(archive: Archive, alice: Client) -> None:
    task = made(
        result=RESULT, bytes=1_234, metadata={"project": "x"}, timings={"submit": 3.25}, cost=40_000, estimate=50_000,
        wasted=1, request_id="req_1",
    )  # fmt: skip
    await archive.write(task)
    told = await alice.get(f"/v1/tasks/{task.id}")
    (output,) = told.pop("outputs")
    assert told == {
        "id": task.id, "object": "task", "status": "completed", "operation": "generate", "model": "house-style",
        "served_by": "bfl/flux-2-pro", "created_at": 1_795_176_000, "completed_at": 1_795_176_004, "progress": 100,
        "cancelling": False, "queue_position": None, "queued_seconds": None, "resumable": False,
        "request": {"prompt": "a boat", "n": 1},
        "usage": {
            "input_tokens": 10, "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
            "output_tokens": 4_160, "output_tokens_details": {"text_tokens": 0, "image_tokens": 4_160},
            "total_tokens": 4_170,
        },
        "cost_usd": 0.04, "estimated_cost_usd": 0.05, "wasted_usd": 0.000001, "timings": {"submit": 3.25},
        "adjusted": ["size 1000x750 -> 1024x768"],
        "errors": [{"code": "moderation_blocked", "message": "Not that."}],
        "error": None, "metadata": {"project": "x"}, "request_id": "req_1",
    }  # fmt: skip
    url = output.pop("url")
    assert url.startswith(f"{alice.http.base_url}/v1/outputs/20261120-aaaaaaaaaaaaaaaaaaaaaa.png?expires=")
    assert output == {
        "id": "20261120-aaaaaaaaaaaaaaaaaaaaaa.png", "thumbnail_url": f"{url}&thumbnail=512", "type": "image/png",
        "width": 1024, "height": 768, "bytes": 1_234, "revised_prompt": "a red boat", "provider": {"seed": 7},
    }  # fmt: skip


async def test_a_task_that_failed_and_one_under_way(archive: Archive, alice: Client) -> None:
    error = {"kind": "quota", "code": "billing_hard_limit_reached", "message": "No money.", "param": None}
    failed = made(status="failed", cost=None, error=error, model=None)
    running = made(status="in_progress", ended=None, cost=None)
    await archive.write(failed)
    await archive.begin(running)
    told = await alice.get(f"/v1/tasks/{failed.id}")
    assert told["error"] == {
        "message": "No money.", "type": "insufficient_quota", "param": None, "code": "billing_hard_limit_reached",
    }  # fmt: skip
    expected = {"status": "failed", "progress": 0, "outputs": [], "served_by": None, "cost_usd": None, "usage": None}
    assert {name: told[name] for name in expected} == expected
    told = await alice.get(f"/v1/tasks/{running.id}")
    expected = {"status": "in_progress", "progress": 0, "completed_at": None, "error": None, "cost_usd": None}
    assert {name: told[name] for name in expected} == expected


async def test_links_open_and_die_with_their_files(archive: Archive, alice: Client) -> None:
    raw = picture("red.png")
    id = await archive.files.save(blob(raw), "image/png")
    result = RESULT | {"outputs": [{"id": id, "type": "image/png", "width": 2, "height": 2, "bytes": len(raw)}]}
    kept, swept = made(NOON, result=result, bytes=len(raw)), made(NOON + 1, result=result, bytes=0)
    await archive.write(kept, swept)
    (output,) = (await alice.get(f"/v1/tasks/{kept.id}"))["outputs"]
    assert (await alice.http.get(output["url"])).content == raw
    assert (await alice.http.get(output["thumbnail_url"])).headers["content-type"] == "image/webp"
    (output,) = (await alice.get(f"/v1/tasks/{swept.id}"))["outputs"]
    assert (output["id"], output["url"], output["thumbnail_url"]) == (id, None, None)


def test_outputs_that_are_not_stored() -> None:
    result = RESULT | {"outputs": [{"url": "https://pictures.example/1"}, {"type": "image/png", "bytes": 3}]}
    task = made(result=result)
    assert [each.url for each in described(task, str).outputs] == ["https://pictures.example/1", None]
    for type, thumbnail in (("video/mp4", "a&thumbnail=512"), ("audio/mpeg", None)):
        told = {"outputs": [{"id": "a", "type": type}]}
        (output,) = described(replace(task, result=RESULT | told, bytes=1), str).outputs
        assert (output.url, output.thumbnail_url) == ("a", thumbnail)


async def test_public_url_is_how_clients_reach_us(archive: Archive) -> None:
    archive.config = replace(CONFIG, server=config.Server(public_url="https://pictor.example/"))
    task = made(result=RESULT, bytes=1)
    await archive.write(task)
    async with serving(archive) as (alice, _, _):
        (output,) = (await alice.get(f"/v1/tasks/{task.id}"))["outputs"]
    assert output["url"].startswith("https://pictor.example/v1/outputs/2026")


async def test_a_task_that_is_not_there(alice: Client) -> None:
    for id in ("task_0", "%00", "%ff", "task_%00", "a b", "%F0%9F%98%80", "a" * 3_000):
        for method in ("GET", "DELETE"):
            answer = await alice.send(method, f"/v1/tasks/{id}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "task_not_found"), id


# --- lists


async def test_pages_of_the_callers_own(archive: Archive, alice: Client, bob: Client) -> None:
    mine = [made(NOON + at) for at in range(5)]
    await archive.write(*mine, made(NOON + 9, key=BOB))
    ids = [task.id for task in reversed(mine)]
    page = await alice.get("/v1/tasks?limit=3")
    assert [each["id"] for each in page.pop("data")] == ids[:3]
    assert page == {"object": "list", "first_id": ids[0], "last_id": ids[2], "has_more": True}
    page = await alice.get(f"/v1/tasks?limit=3&after={ids[2]}")
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (ids[3:], False)
    assert await alice.listed("/v1/tasks?order=asc") == ids[::-1]
    assert len(await bob.listed("/v1/tasks")) == 1
    assert await bob.listed(f"/v1/tasks?after={ids[-1]}") == []
    error = await bob.get(f"/v1/tasks/{ids[0]}", 404)
    assert error["code"] == "task_not_found"


async def test_filters_of_a_query(archive: Archive, alice: Client) -> None:
    one = made(NOON, op="edit", metadata={"project": "a b", "x[y]": "é"})
    two = made(NOON + 1_500, status="failed", asked="demo/painter")
    await archive.write(one, two)
    second = NOON // 1000
    for query, found in (
        ("status=failed", [two]),
        ("operation=edit", [one]),
        ("model=demo/painter", [two]),
        ("model=bfl%2Fflux-2-pro", [two, one]),
        ("metadata[project]=a+b", [one]),
        (f"{quote('metadata[x[y]]')}={quote('é')}&metadata%5Bproject%5D=a%20b", [one]),
        (f"created_after={second}", [two, one]),
        (f"created_after={second + 1}", [two]),
        (f"created_before={second + 1}", [one]),
        (f"created_before={second}", []),
        ("status=completed&model=demo/painter", []),
    ):
        assert await alice.listed(f"/v1/tasks?{query}") == [task.id for task in found], query


async def test_those_that_are_named_in_their_order(archive: Archive, alice: Client) -> None:
    one, two, other = made(NOON), made(NOON + 1), made(key=BOB)
    await archive.write(one, two, other)
    for query in (f"ids={two.id},task_0,{one.id},{other.id},{two.id}",
                  f"ids={two.id}&ids=task_0&ids={one.id}&ids={other.id}",
                  f"ids[]={two.id}&ids[]=task_0&ids[]={one.id}&ids[]={other.id}"):  # fmt: skip
        page = await alice.get(f"/v1/tasks?{query}")
        assert [each["id"] for each in page["data"]] == [two.id, one.id]
        assert (page["missing"], page["has_more"]) == (["task_0", other.id], False)


WRONG: list[tuple[str, str, str]] = [
    ("limit=0", "limit", "integer_below_min_value"),
    ("limit=101", "limit", "integer_above_max_value"),
    ("limit=ten", "limit", "invalid_type"),
    ("limit=", "limit", "invalid_type"),
    ("limit=" + "9" * 500, "limit", "integer_above_max_value"),
    ("order=up", "order", "invalid_value"),
    ("status=done", "status", "invalid_value"),
    ("operation=draw", "operation", "invalid_value"),
    ("created_after=-1", "created_after", "integer_below_min_value"),
    ("created_before=999999999999", "created_before", "integer_above_max_value"),
    ("created_before=yesterday", "created_before", "invalid_type"),
    ("after=file-1", "after", "invalid_value"),
    ("after=task_1%00", "after", "invalid_value"),
    ("page=2", "page", "unknown_parameter"),
    ("metadata=x", "metadata", "unknown_parameter"),
    ("metadata[]=x", "metadata[]", "unknown_parameter"),
    ("limit[a]=1", "limit[a]", "unknown_parameter"),
    ("ids[a]=task_1", "ids[a]", "unknown_parameter"),
    ("key=config:bob", "key", "unknown_parameter"),
    ("ids=", "ids", "empty_array"),
    ("ids=" + ",".join(f"task_{n}" for n in range(21)), "ids", "array_above_max_length"),
    ("ids=task_1&status=failed", "status", "invalid_value"),
]


async def test_queries_that_cannot_be(alice: Client) -> None:
    for query, param, code in WRONG:
        error = await alice.get(f"/v1/tasks?{query}", 400)
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code), query
        assert len(error["message"]) < 500
        if code == "unknown_parameter":
            assert "Supported parameters are: 'limit', 'after', 'order'" in error["message"]


class TaskOfSdk(BaseModel):
    """As a user of the SDK would write it."""

    id: str
    status: str


async def test_with_openais_sdk(archive: Archive, alice: Client) -> None:
    every = [made(NOON + at, metadata={"project": "x"}) for at in range(5)]
    await archive.write(*every, made(NOON + 9))
    async with AsyncOpenAI(api_key="alice-key", base_url=f"{alice.http.base_url}/v1") as client:

        async def listed(**query: Any) -> list[str]:
            options = make_request_options(query=query)
            pages = client.get_api_list("/tasks", model=TaskOfSdk, page=AsyncCursorPage[TaskOfSdk], options=options)
            return [each.id async for each in pages]

        newest = [task.id for task in reversed(every)]
        assert await listed(limit=2, metadata={"project": "x"}) == newest
        assert await listed(ids=[newest[3], newest[1]]) == [newest[3], newest[1]]
        one = await client.get(f"/tasks/{newest[0]}", cast_to=TaskOfSdk)
        assert (one.id, one.status) == (newest[0], "completed")


# --- deletion


async def test_row_and_files_are_deleted(archive: Archive, alice: Client, bob: Client) -> None:
    id = await archive.files.save(blob(picture("red.png")), "image/png")
    task = made(result=RESULT | {"outputs": [{"id": id, "type": "image/png"}, {"url": "https://x.example"}]}, bytes=9)
    await archive.write(task)
    assert (await bob.send("DELETE", f"/v1/tasks/{task.id}")).status_code == 404
    await archive.files.open(id)
    answer = await alice.send("DELETE", f"/v1/tasks/{task.id}")
    assert (answer.status_code, answer.json()) == (200, {"id": task.id, "object": "task", "deleted": True})
    assert (await alice.get(f"/v1/outputs/{id}?{archive.link(id).partition('?')[2]}", 404))[
        "code"
    ] == "output_not_found"
    assert (await alice.get(f"/v1/tasks/{task.id}", 404))["code"] == "task_not_found"
    assert (await alice.get("/v1/account"))["usage"]["month"] is not None


async def test_files_that_are_gone_already_hinder_nothing(archive: Archive, alice: Client) -> None:
    """A deletion that broke off between the files and the row is done again."""
    id = await archive.files.save(blob(picture("red.png")), "image/png")
    task = made(result=RESULT | {"outputs": [{"id": id}, {"id": "not-one-of-ours"}]}, bytes=9)
    await archive.write(task)
    await archive.files.delete([id])
    assert (await alice.send("DELETE", f"/v1/tasks/{task.id}")).status_code == 200


async def test_a_running_task_is_not_deleted(archive: Archive, alice: Client) -> None:
    task = made(status="in_progress", ended=None)
    await archive.begin(task)
    answer = await alice.send("DELETE", f"/v1/tasks/{task.id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "task_running")
    assert answer.headers["x-should-retry"] == "false"
    assert await alice.listed("/v1/tasks") == [task.id]


async def test_two_deletions_at_once(archive: Archive, alice: Client) -> None:
    task = made()
    await archive.write(task)
    answers = await asyncio.gather(*(alice.send("DELETE", f"/v1/tasks/{task.id}") for _ in range(8)))
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.status_code for answer in answers} == {200, 404}


# --- what failed, and is gone on with


def submitted(task: Task, call: dict[str, Any] | None) -> SubmitRow:
    return SubmitRow(
        task=task.id, number=0, target="bfl/flux-2-pro", credential="bfl", sent=1, saved={"job": {}}, call=call
    )


async def test_what_a_failure_cost_is_taken_back_once(archive: Archive, alice: Client) -> None:
    now = milliseconds()
    error = {"kind": "timeout", "code": "deadline_exceeded", "message": "Too late.", "param": None}
    failed = made(now, ended=now, status="failed", cost=None, wasted=20_000, error=error)
    lost, done = (made(now + at, ended=now, status=status) for at, status in ((1, "failed"), (2, "completed")))
    kept = Reservation(task="task_x", key=ALICE, at=now, amount=1, worker="w", per_day=10**6, per_month=10**7)
    await archive.reserve(kept)
    await archive.write(failed, lost, done)
    rows = [submitted(failed, {"path": "/poll"}), submitted(lost, None)]
    await archive.database.write(lambda connection: jobs.save(connection, rows))
    before = (await alice.get("/v1/account"))["budgets"]["day"]["spent_usd"]
    told = {each["id"]: each["resumable"] for each in (await alice.get("/v1/tasks"))["data"]}
    assert told == {failed.id: True, lost.id: False, done.id: False}
    for id, key, expected in (
        (failed.id, BOB, False), (lost.id, None, False), (done.id, None, False), (failed.id, ALICE, True),
        (failed.id, ALICE, False),
    ):  # fmt: skip
        assert await archive.database.write(partial(jobs.reopened, id, key)) is expected
    again = await alice.get(f"/v1/tasks/{failed.id}")
    expected_now = {"status": "in_progress", "error": None, "completed_at": None, "cost_usd": None, "wasted_usd": 0}
    assert {name: again[name] for name in expected_now} == expected_now
    account = await alice.get("/v1/account")
    assert account["budgets"]["day"]["spent_usd"] == pytest.approx(before - 0.02)
    assert account["usage"]["today"]["requests"] == 2
    adopted = await archive.database.write(partial(jobs.adopted, "worker-2", 10))
    assert adopted == [failed.id]
    job = await archive.database.read(partial(jobs.row, failed.id))
    assert job
    assert (job.started or 0) >= now
    assert (job.work, job.cancel, job.queue) == (None, None, "bfl")


async def test_a_deleted_task_leaves_no_rows_behind(archive: Archive, alice: Client) -> None:
    failed = made(status="failed", cost=None)
    await archive.write(failed)
    await archive.database.write(lambda connection: jobs.save(connection, [submitted(failed, {"path": "/poll"})]))
    assert (await alice.send("DELETE", f"/v1/tasks/{failed.id}")).status_code == 200
    left = await archive.database.read(partial(jobs.left, [failed.id]))
    assert not any(each.job or each.submits for each in left.values())


# --- who may


async def test_nothing_without_a_key(alice: Client) -> None:
    for path in ("/v1/tasks", "/v1/tasks/task_1", "/v1/account", "/v1/admin/usage", "/v1/admin/tasks"):
        answer = await alice.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key"), path


async def test_without_history(database: Database, tmp_path: Path) -> None:
    archive = Archive(database, tmp_path, replace(CONFIG, history=config.History(enabled=False)))
    async with serving(archive) as (alice, _, admin):
        for path in ("/v1/tasks", "/v1/tasks/task_1"):
            assert (await alice.get(path, 404))["code"] == "history_disabled"
        assert (await alice.send("DELETE", "/v1/tasks/task_1")).json()["error"]["code"] == "history_disabled"
        for path in ("/v1/admin/usage", "/v1/admin/tasks"):
            assert (await admin.get(path, 404))["code"] == "history_disabled"
        told = await alice.get("/v1/account")
        assert (told["tier"], told["budgets"], told["usage"]) == ("pro", None, None)
    archive.close()


def test_the_documentation_names_every_parameter() -> None:
    app = Litestar([tasks.tasks, tasks.task, tasks.forget, usage.usage, usage.tasks, account.account])
    paths = app.openapi_schema.to_schema()["paths"]
    found = {each["name"]: each for each in paths["/v1/tasks"]["get"]["parameters"]}
    assert tuple(found) == tasks.Query.__struct_fields__
    assert all(each["in"] == "query" and each["description"] and not each["required"] for each in found.values())
    assert found["metadata"]["style"] == "deepObject"
    assert found["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    names = [each["name"] for each in paths["/v1/admin/usage"]["get"]["parameters"]]
    assert tuple(names) == usage.UsageQuery.__struct_fields__
    assert [each["name"] for each in paths["/v1/tasks/{id}"]["get"]["parameters"]] == ["id"]


# --- the account


async def test_an_account(archive: Archive, alice: Client) -> None:
    now = milliseconds()
    day, month = resets(now)
    running = made(now, estimate=250_000, ended=None, status="in_progress")
    await archive.write(made(now, ended=now, cost=40_000, wasted=10_000), made(now, ended=now, cost=None))
    await archive.reserve(
        Reservation(
            task=running.id, key=ALICE, at=now, amount=250_000, worker="w", per_day=1_000_000, per_month=10_000_000
        )
    )
    used = {"requests": 2, "pictures": 2, "cost_usd": 0.04, "wasted_usd": 0.01, "unpriced": 1}
    assert await alice.get("/v1/account") == {
        "object": "account",
        "key": {"id": "config:alice", "name": "alice", "models": ["*"]},
        "tier": "pro",
        "limits": {
            "models": ["demo/*", "bfl/*"], "requests_per_minute": 60, "images_per_minute": 120, "concurrent_jobs": 8,
            "max_n": 4, "max_size": "2048x1024",
        },
        "budgets": {
            "day": {
                "limit_usd": 1.0, "spent_usd": 0.05, "reserved_usd": 0.25, "remaining_usd": 0.7, "resets_at": day,
            },
            "month": {
                "limit_usd": 10.0, "spent_usd": 0.05, "reserved_usd": 0.25, "remaining_usd": 9.7, "resets_at": month,
            },
        },
        "usage": {"today": used, "month": used},
        "webhook_url": None,
    }  # fmt: skip


async def test_an_account_without_bounds(archive: Archive, bob: Client) -> None:
    told = await bob.get("/v1/account")
    assert told["limits"].pop("models") == ["*"]
    assert set(told["limits"].values()) == {None}
    day = told["budgets"]["day"]
    assert (day["limit_usd"], day["spent_usd"], day["remaining_usd"]) == (None, 0, None)
    assert told["usage"]["today"] == {
        "requests": 0, "pictures": 0, "cost_usd": 0, "wasted_usd": 0, "unpriced": 0,
    }  # fmt: skip
    now = milliseconds()
    await archive.write(made(now, ended=now, key=BOB, cost=None))
    told = await bob.get("/v1/account")
    assert (told["usage"]["today"]["cost_usd"], told["usage"]["today"]["unpriced"]) == (None, 1)


def test_when_days_and_months_end() -> None:
    assert resets(NOON) == (1_795_219_200, 1_796_083_200)  # 2026-11-21, 2026-12-01
    assert resets(1_798_761_599_999) == (1_798_761_600, 1_798_761_600)  # the last millisecond of 2026
    assert resets(1_798_761_600_000) == (1_798_848_000, 1_801_440_000)  # 2027-01-02, 2027-02-01
