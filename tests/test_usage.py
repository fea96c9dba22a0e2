"""What an operator sees over a real socket: sums in JSON and CSV, and everybody's tasks."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from proxy.api.usage import cell, stretches
from proxy.state import tables
from proxy.state.database import Database, milliseconds
from proxy.state.history import Span
from tests.archive import ALICE, BOB, NOON, Archive, Client, entry, made, serving

DAY = 86_400_000
NOVEMBER = "start=2026-11-01&end=2026-11-30"


@pytest.fixture
async def archive(database: Database, tmp_path: Path) -> AsyncIterator[Archive]:
    found = Archive(database, tmp_path)
    row = {
        "id": "key_1",
        "name": "=app",
        "digest": b"d",
        "prefix": "sk-",
        "overrides": {},
        "metadata": {},
        "created": 1,
    }
    await database.write(lambda connection: connection.execute(sa.insert(tables.key), row).rowcount)
    await found.write(
        made(NOON, cost=40_000),
        made(NOON, cost=None, wasted=500),
        made(NOON + DAY, key=BOB, status="failed", cost=None, model="openai/gpt-image-2", op="edit"),
        made(NOON + DAY, key="key_1", cost=123_456_789, model='demo/"a",\nb'),
        made(NOON + 2 * DAY, key="key_gone", model="cf/@cf/x", cost=0),
        made(NOON - 40 * DAY, cost=7),
    )
    yield found
    found.close()


@pytest.fixture
async def admin(archive: Archive) -> AsyncIterator[Client]:
    async with serving(archive) as (_, _, found):
        yield found


def sums(**members: Any) -> dict[str, Any]:
    """One group as it is told; what is not said is one picture of no known price."""
    usual = {"object": "usage", "requests": 1, "failed": 0, "pictures": 1, "cost_usd": None, "wasted_usd": 0}
    return {**usual, "unpriced": 0, **members}


# --- sums


async def test_the_sum_of_all(admin: Client) -> None:
    assert await admin.get(f"/v1/admin/usage?{NOVEMBER}") == {
        "object": "list", "start": "2026-11-01", "end": "2026-11-30", "group_by": [], "has_more": False,
        "data": [sums(requests=5, failed=1, pictures=5, cost_usd=123.496789, wasted_usd=0.0005, unpriced=2)],
    }  # fmt: skip


async def test_sums_by_key_in_their_order(admin: Client) -> None:
    told = await admin.get(f"/v1/admin/usage?{NOVEMBER}&group_by=key,day")
    assert told["group_by"] == ["day", "key"]
    assert told["data"] == [
        sums(day="2026-11-20", key=ALICE, key_name="alice", requests=2, pictures=2, cost_usd=0.04, wasted_usd=0.0005,
             unpriced=1),
        sums(day="2026-11-21", key=BOB, key_name="bob", failed=1, unpriced=1),
        sums(day="2026-11-21", key="key_1", key_name="=app", cost_usd=123.456789),
        sums(day="2026-11-22", key="key_gone", key_name=None, cost_usd=0),
    ]  # fmt: skip


async def test_sums_of_some(admin: Client) -> None:
    for query, requests in (
        ("key=config:alice", 2),
        ("provider=openai", 1),
        ("model=bfl/flux-2-pro", 2),
        ("model=flux-2-pro", 2),
        ("model=@cf/x", 1),
        ("operation=edit", 1),
        ("start=2026-11-21&end=2026-11-21", 2),
        ("start=2026-10-01&end=2026-10-31", 1),
        ("key=config:nobody", 0),
    ):
        told = await admin.get(f"/v1/admin/usage?{NOVEMBER if 'start' not in query else ''}&{query}".replace("?&", "?"))
        assert told["data"][0]["requests"] == requests, query
    told = await admin.get(f"/v1/admin/usage?{NOVEMBER}&group_by=operation&group_by[]=provider&key=config:alice")
    assert [(each["operation"], each["provider"]) for each in told["data"]] == [("generate", "bfl")]


async def test_this_month_where_no_days_are_said(archive: Archive, admin: Client) -> None:
    task = made(milliseconds())
    await archive.write((task, entry(task, at=task.created, day=datetime.now(UTC).strftime("%Y-%m-%d"), pictures=77)))
    told = await admin.get("/v1/admin/usage?group_by=key&key=config:alice")
    today = datetime.now(UTC).date()
    assert (told["start"], told["end"]) == (today.replace(day=1).isoformat(), today.isoformat())
    assert told["data"][0]["pictures"] >= 77
    told = await admin.get("/v1/admin/usage?end=2026-10-15")
    assert told["start"] == "2026-10-01"


async def test_queries_that_cannot_be(admin: Client) -> None:
    for query, param, code in (
        ("group_by=week", "group_by", "invalid_value"),
        ("group_by=day,op", "group_by", "invalid_value"),
        ("start=yesterday", "start", "invalid_value"),
        ("start=20261101", "start", "invalid_value"),
        ("end=2026-W45-1", "end", "invalid_value"),
        ("end=2026-02-30", "end", "invalid_value"),
        ("start=2026-11-02&end=2026-11-01", "end", "invalid_value"),
        ("operation=draw", "operation", "invalid_value"),
        ("format=xml", "format", "invalid_value"),
        ("key=%00", "key", "invalid_value"),
        ("tier=pro", "tier", "unknown_parameter"),
    ):
        error = await admin.get(f"/v1/admin/usage?{query}", 400)
        assert (error["param"], error["code"]) == (param, code), query


# --- CSV


async def test_a_table_for_spreadsheets(admin: Client) -> None:
    """Quoted by RFC 4180; no cell is a formula."""
    answer = await admin.send("GET", f"/v1/admin/usage?{NOVEMBER}&group_by=day,key,provider,model&format=csv")
    assert answer.headers["content-type"] == "text/csv; header=present; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage-2026-11-01-2026-11-30.csv"'
    assert answer.text == (
        "day,key,key_name,provider,model,requests,failed,pictures,cost_usd,wasted_usd,unpriced\r\n"
        "2026-11-20,config:alice,alice,bfl,flux-2-pro,2,0,2,0.040000,0.000500,1\r\n"
        "2026-11-21,config:bob,bob,openai,gpt-image-2,1,1,1,,0.000000,1\r\n"
        '2026-11-21,key_1,\'=app,demo,"""a"",\nb",1,0,1,123.456789,0.000000,0\r\n'
        "2026-11-22,key_gone,,cf,'@cf/x,1,0,1,0.000000,0.000000,0\r\n"
    )
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["model"] for row in rows] == ["flux-2-pro", "gpt-image-2", '"a",\nb', "'@cf/x"]


async def test_what_a_client_accepts(admin: Client) -> None:
    for accept, kind in (
        ("text/csv", "text/csv"),
        ("text/csv;q=0.9, */*;q=0.1", "text/csv"),
        ("application/json, text/csv", "application/json"),
        ("*/*", "application/json"),
    ):
        answer = await admin.send("GET", f"/v1/admin/usage?{NOVEMBER}", headers={"accept": accept})
        assert answer.headers["content-type"].startswith(kind), accept
    answer = await admin.send("GET", f"/v1/admin/usage?{NOVEMBER}&format=json", headers={"accept": "text/csv"})
    assert answer.headers["content-type"].startswith("application/json")


async def test_sums_that_cannot_be_read_are_no_empty_table(admin: Client, database: Database) -> None:
    await database.write(tables.entry.drop)
    for kind in ("json", "csv"):
        answer = await admin.send("GET", f"/v1/admin/usage?format={kind}")
        assert answer.status_code >= 500


async def test_years_come_a_month_at_a_time(admin: Client) -> None:
    answer = await admin.send("GET", "/v1/admin/usage?start=2024-01-01&end=2028-12-31&group_by=day&format=csv")
    days = [row["day"] for row in csv.DictReader(io.StringIO(answer.text))]
    assert days == ["2026-10-11", "2026-11-20", "2026-11-21", "2026-11-22"]


@pytest.mark.parametrize(("first", "last"), [("2026-11-01", "2026-11-01"), ("2024-02-01", "2026-11-30")])
def test_stretches_are_all_days_once(first: str, last: str) -> None:
    found = [
        (date.fromisoformat(each.first), date.fromisoformat(each.last))
        for each in stretches(Span(first=first, last=last))
    ]
    days = [day for start, end in found for day in range(start.toordinal(), end.toordinal() + 1)]
    assert days == list(range(date.fromisoformat(first).toordinal(), date.fromisoformat(last).toordinal() + 1))


def test_cells() -> None:
    assert [cell(value) for value in (None, 3, 0.1, "a", "", "-1", "+1", "=1", "@a", "\ta", "\ra", "a=1")] == [
        "", "3", "0.100000", "a", "", "'-1", "'+1", "'=1", "'@a", "'\ta", "'\ra", "a=1",
    ]  # fmt: skip


# --- everybody's tasks, and who may


async def test_everybodys_tasks(archive: Archive, admin: Client) -> None:
    page = await admin.get("/v1/admin/tasks?limit=1")
    assert ([each["key"] for each in page["data"]], page["has_more"]) == (["key_gone"], True)
    assert len(await admin.listed("/v1/admin/tasks")) == 6
    page = await admin.get("/v1/admin/tasks?key=config:bob")
    (bobs,) = page["data"]
    assert (bobs["key"], bobs["status"], page["has_more"]) == (BOB, "failed", False)
    page = await admin.get(f"/v1/admin/tasks?ids={bobs['id']},task_0")
    assert ([each["id"] for each in page["data"]], page["missing"]) == ([bobs["id"]], ["task_0"])
    assert (await admin.get(f"/v1/admin/tasks?ids={bobs['id']}&key=config:alice"))["missing"] == [bobs["id"]]
    assert len(await admin.listed("/v1/admin/tasks?status=completed&model=bfl/flux-2-pro")) == 3
    assert await admin.listed("/v1/tasks") == []
    assert (await admin.get("/v1/admin/tasks?limit=0", 400))["param"] == "limit"
    assert (await admin.get("/v1/admin/tasks?key=%00", 400))["param"] == "key"


async def test_others_are_no_admins(archive: Archive) -> None:
    async with serving(archive) as (alice, _, _):
        for path in ("/v1/admin/usage", "/v1/admin/usage?format=csv", "/v1/admin/tasks"):
            error = await alice.get(path, 403)
            assert error["code"] == "admin_key_required", path
