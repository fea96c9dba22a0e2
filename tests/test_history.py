"""The history on both databases: which tasks a page has, in what order, what is deleted, what sums are made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from proxy.state import ids, tables, terms
from proxy.state.budgets import Reservation
from proxy.state.database import Database
from proxy.state.history import Budget, Filters, History, Span, Sums, lost_statement, page_statement, same_statement
from proxy.state.records import Task
from tests.archive import ALICE, BOB, NOON, Archive, entry, made
from translators.base import Fault

SECOND = 1_000
DAY = 86_400 * SECOND


@pytest.fixture
def archive(database: Database, tmp_path: Path) -> Iterator[Archive]:
    found = Archive(database, tmp_path)
    yield found
    found.close()


@pytest.fixture
def history(archive: Archive) -> History:
    return archive.history


async def listed(history: History, key: str | None = ALICE, **filters: Any) -> list[Task]:
    page = await history.page(key, 100, filters=Filters(**filters))
    assert not page.more
    return list(page.tasks)


# --- rows


async def test_a_row_comes_back_as_it_was_written(archive: Archive) -> None:
    task = made(
        asked="dall-e-3", request={"prompt": "a “boat”\n", "n": 2, "loras": [{"model": "x", "weight": 0.5}]},
        metadata={"project": "x"}, result={"created": 1, "outputs": [{"id": "a"}]}, bytes=9_000_000_000,
        timings={"submit": 1.25}, cost=None, wasted=3, estimate=4, fingerprint="f", claim="c", cached="k",
        request_id="req_1", lost=True,
    )  # fmt: skip
    await archive.write(task)
    assert await archive.history.get(task.id) == task
    assert await archive.history.one(task.id, ALICE) == task


async def test_anothers_task_is_not_there(archive: Archive, history: History) -> None:
    task = made()
    await archive.write(task)
    assert await history.get(task.id, BOB) is None
    for id, key in ((task.id, BOB), ("task_0", ALICE), ("task_\0", ALICE)):
        with pytest.raises(Fault) as caught:
            await history.one(id, key)
        assert (caught.value.kind, caught.value.code) == ("missing", "task_not_found")


# --- pages


async def test_pages_are_whole_and_in_order(archive: Archive, history: History) -> None:
    mine = [made(NOON + at) for at in range(7)]
    await archive.write(*mine, made(NOON + 3, key=BOB))
    newest = [task.id for task in reversed(mine)]
    seen: list[str] = []
    more, after = True, None
    while more:
        page = await history.page(ALICE, 3, after=after)
        seen += [task.id for task in page.tasks]
        more, after = page.more, seen[-1]
    assert seen == newest
    page = await history.page(ALICE, 7, oldest_first=True)
    assert ([task.id for task in page.tasks], page.more) == (newest[::-1], False)
    page = await history.page(ALICE, 3, after=newest[3], oldest_first=True)
    assert [task.id for task in page.tasks] == newest[2::-1]
    assert len(await listed(history, None)) == 8


async def test_the_row_behind_a_cursor_may_be_gone(archive: Archive, history: History) -> None:
    first, second, third = (made(NOON + at) for at in range(3))
    await archive.write(first, second, third)
    await history.delete(second.id, ALICE)
    assert [task.id for task in (await history.page(ALICE, 9, after=second.id)).tasks] == [first.id]


async def test_each_filter_and_all_of_them(archive: Archive, history: History) -> None:
    one = made(NOON, op="edit", asked="dall-e-3", metadata={"project": "x", "source": "web"})
    two = made(NOON + DAY, asked="bfl/flux-2-pro", metadata={"project": "y", "source": "web"})
    three = made(NOON + 2 * DAY, status="failed", model=None, metadata={"x": "project"})
    await archive.write(one, two, three)
    assert await listed(history, status="failed") == [three]
    assert await listed(history, op="edit") == [one]
    assert await listed(history, model="dall-e-3") == [one]
    assert await listed(history, model="bfl/flux-2-pro") == [two, one]  # as asked, or as answered
    assert await listed(history, model="house-style") == [three]
    assert await listed(history, model="flux-2-pro") == []
    assert await listed(history, metadata={"source": "web"}) == [two, one]
    assert await listed(history, metadata={"source": "web", "project": "y"}) == [two]
    assert await listed(history, metadata={"project": "x", "source": "app"}) == []
    assert await listed(history, metadata={"model": "dall-e-3"}) == []
    assert await listed(history, since=NOON + 1) == [three, two]
    assert await listed(history, since=NOON, until=NOON + 2 * DAY) == [two, one]
    assert await listed(
        history, status="completed", op="edit", model="dall-e-3", metadata={"project": "x"}, since=NOON, until=NOON + 1
    ) == [one]  # fmt: skip
    assert await listed(history, BOB, status="failed") == []


async def test_an_id_is_made_a_little_before_or_after_its_row(archive: Archive, history: History) -> None:
    """The times in both are looked at, so that what a client sees as the time of creation decides."""
    early = made(NOON, id=f"task_{NOON - 30 * SECOND:012x}{'0' * 20}")
    late = made(NOON, id=f"task_{NOON + 30 * SECOND:012x}{'0' * 20}")
    await archive.write(early, late)
    assert await listed(history, since=NOON, until=NOON + 1) == [late, early]
    assert await listed(history, since=NOON + 1) == await listed(history, until=NOON) == []
    assert await listed(history, until=0) == []


async def test_those_that_are_named(archive: Archive, history: History) -> None:
    one, two, three, other = (made(NOON), made(NOON + 1), made(NOON + 2), made(NOON, key=BOB))
    await archive.write(one, two, three, other)
    assert await history.several([two.id, "task_0", other.id, one.id], ALICE) == (two, one)
    assert await history.several([other.id, three.id], None) == (other, three)


@pytest.mark.parametrize("key", [ALICE, None])
@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(status="queued"),
        Filters(model="x", op="edit"),
        Filters(metadata={"project": "x"}, status="failed"),
        Filters(since=NOON, until=NOON + DAY),
    ],
)
async def test_pages_are_found_in_an_index(tmp_path: Path, key: str | None, filters: Filters) -> None:
    """However rare what is looked for is, no row is read that is not answered."""
    database = Database(f"sqlite:///{tmp_path}/pictor.db")
    database.now(tables.metadata.create_all)
    statement = page_statement(key, 21, after=f"task_{NOON:012x}", oldest_first=False, filters=filters)

    def plan(connection: sa.Connection) -> list[str]:
        text = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]

    told = await database.read(plan)
    database.close()
    assert "SEARCH task USING COVERING INDEX" in told[1], told
    assert [line for line in told if "TEMP B-TREE" in line] == told[-1:], told  # of the page alone


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=16))
def test_terms_are_short_and_of_one_length(metadata: dict[str, str]) -> None:
    found = terms.of(("a" * 9_999, None), metadata).split(" ")
    assert found == [terms.model("a" * 9_999), *(terms.pair(*pair) for pair in metadata.items())]
    assert {len(each) for each in found} == {16}


# --- the same call again


async def test_the_call_that_has_a_claim(archive: Archive, history: History) -> None:
    task = made(claim="c")
    await archive.write(task)
    assert await history.claimed("c") == task
    assert await history.claimed("d") is None


async def test_calls_whose_answer_may_still_be_wanted(archive: Archive, history: History) -> None:
    answered = made(NOON + 3, fingerprint="f")
    left = made(NOON + 2, fingerprint="f", lost=True)
    waits = made(NOON + 1, fingerprint="f", ended=None, status="in_progress")
    await archive.write(answered, left)
    await archive.begin(waits)
    assert await history.lost("f", ALICE, NOON) == left
    assert await history.lost("f", BOB, NOON) is None
    assert await history.lost("f", ALICE, NOON + 3) is None
    await history.delete(left.id, ALICE)
    assert await history.lost("f", ALICE, NOON) == waits
    assert await history.lost("g", ALICE, NOON) is None


async def test_calls_that_made_the_same(archive: Archive, history: History) -> None:
    one = made(NOON, cached="f")
    two = made(NOON + 10, cached="f", status="failed")
    await archive.write(one, two)
    assert await history.same("f", NOON) == one
    assert await history.same("f", (one.ended or 0) + 1) is None


# --- deletion


async def test_what_is_deleted_stays_in_the_ledger(archive: Archive, history: History, database: Database) -> None:
    task = made()
    await archive.write(task)
    await history.delete(task.id, ALICE)
    assert await history.get(task.id) is None
    assert await database.read(lambda each: each.scalar(sa.select(tables.entry.c.cost))) == 40_000
    with pytest.raises(Fault, match="no task") as caught:
        await history.delete(task.id, ALICE)
    assert caught.value.code == "task_not_found"


async def test_neither_anothers_nor_a_running_task_is_deleted(archive: Archive, history: History) -> None:
    done, running = made(), made(ended=None, status="in_progress")
    await archive.write(done)
    await archive.begin(running)
    with pytest.raises(Fault) as caught:
        await history.delete(done.id, BOB)
    assert caught.value.code == "task_not_found"
    with pytest.raises(Fault, match="still in progress") as caught:
        await history.delete(running.id, ALICE)
    assert caught.value.code == "task_running"
    assert len(await listed(history)) == 2


# --- sums


SPAN = Span(first="2026-11-01", last="2026-11-30")


async def test_sums_by_everything_and_by_nothing(archive: Archive, history: History) -> None:
    await archive.write(
        made(NOON, cost=40_000),
        made(NOON, cost=None, wasted=500),  # no price is known
        made(NOON, status="failed", cost=0, wasted=7),
        made(NOON + DAY, op="edit", model="openai/gpt-image-2", cost=None),
        made(NOON, key=BOB, cost=1),
        made(NOON - 30 * DAY, cost=1_000_000),
    )
    assert await history.usage(SPAN, []) == (
        Sums(requests=5, failed=1, pictures=5, cost=40_001, wasted=507, unpriced=2),
    )
    assert await history.usage(SPAN, ["operation", "key"]) == (
        Sums(key=ALICE, operation="edit", requests=1, pictures=1, cost=None, unpriced=1),
        Sums(key=ALICE, operation="generate", requests=3, failed=1, pictures=3, cost=40_000, wasted=507, unpriced=1),
        Sums(key=BOB, operation="generate", requests=1, pictures=1, cost=1),
    )
    found = await history.usage(SPAN, ["model", "day", "provider"])
    assert [(each.day, each.provider, each.model, each.requests) for each in found] == [
        ("2026-11-20", "bfl", "flux-2-pro", 4),
        ("2026-11-21", "openai", "gpt-image-2", 1),
    ]
    assert len(await history.usage(SPAN, ["key"], 1)) == 1


@pytest.mark.parametrize(
    ("span", "requests"),
    [
        ({"first": "2026-11-21"}, 1),
        ({"last": "2026-11-20"}, 2),
        ({"key": BOB}, 1),
        ({"provider": "openai"}, 1),
        ({"model": "flux-2-pro"}, 2),
        ({"model": "bfl/flux-2-pro"}, 2),
        ({"model": "openai/flux-2-pro"}, 0),
        ({"operation": "edit"}, 1),
    ],
)
async def test_sums_of_some(archive: Archive, history: History, span: dict[str, str], requests: int) -> None:
    await archive.write(
        made(NOON), made(NOON, key=BOB), made(NOON + DAY, op="edit", model="openai/gpt-image-2")
    )  # fmt: skip
    (found,) = await history.usage(Span(**{"first": SPAN.first, "last": SPAN.last} | span), [])
    assert found.requests == requests


async def test_sums_beyond_what_32_bits_hold(archive: Archive, history: History) -> None:
    await archive.write(*(made(cost=3_000_000_000) for _ in range(3)))
    (found,) = await history.usage(SPAN, [])
    assert (found.cost, type(found.cost)) == (9_000_000_000, int)


async def test_sums_have_the_names_of_keys(archive: Archive, history: History, database: Database) -> None:
    row = {"id": "key_1", "name": "app", "digest": b"d", "prefix": "sk-", "overrides": {}, "metadata": {}, "created": 1}
    await database.write(lambda connection: connection.execute(sa.insert(tables.key), row).rowcount)
    await archive.write(made(key="key_1"), made())
    found = await history.usage(SPAN, ["key"])
    assert [(each.key, each.name) for each in found] == [(ALICE, None), ("key_1", "app")]


# --- accounts


async def test_what_a_key_has_used(archive: Archive, history: History) -> None:
    await archive.write(
        made(NOON, cost=40_000, wasted=2), made(NOON - DAY, cost=None), made(NOON - 20 * DAY), made(NOON, key=BOB)
    )  # fmt: skip
    found = await history.account(ALICE, NOON)
    assert found.today == Sums(requests=1, pictures=1, cost=40_000, wasted=2)
    assert found.month == Sums(requests=2, pictures=2, cost=40_000, wasted=2, unpriced=1)
    assert (found.day_budget, found.month_budget) == (Budget(40_002, 0), Budget(40_002, 0))
    nobody = await history.account("key_0", NOON)
    assert nobody.today == nobody.month == Sums()


async def test_budgets_are_asked_where_they_are_kept(archive: Archive, history: History) -> None:
    before = made(NOON - DAY, cost=10_000)
    await archive.write(before)
    running = made(NOON, estimate=50_000, ended=None, status="in_progress")
    await archive.reserve(
        Reservation(task=running.id, key=ALICE, at=NOON, amount=50_000, worker="w", per_day=1_000_000, per_month=None)
    )
    found = await history.account(ALICE, NOON)
    assert (found.day_budget, found.month_budget) == (Budget(0, 50_000), Budget(10_000, 50_000))
    await archive.write((running, entry(running, at=NOON, day=ids.day(NOON), cost=45_000)))
    found = await history.account(ALICE, NOON)
    assert (found.day_budget, found.month_budget) == (Budget(45_000, 0), Budget(55_000, 0))


@pytest.mark.parametrize(
    ("statement", "index"),
    [(lost_statement("f", NOON), "task_fingerprint"), (same_statement("f", NOON), "task_cached")],
)
async def test_the_same_call_is_found_by_an_index_over_few(tmp_path: Path, statement: Any, index: str) -> None:
    """Each holds some rows only; whoever asks must say so in its words, or all tasks are read."""
    database = Database(f"sqlite:///{tmp_path}/pictor.db")
    database.now(tables.metadata.create_all)

    def plan(connection: sa.Connection) -> list[str]:
        text = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]

    told = await database.read(plan)
    database.close()
    assert f"USING INDEX {index}" in told[0], told
