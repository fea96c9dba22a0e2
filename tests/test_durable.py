"""Tasks that one process takes and another one ends, each in turn in this process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
import yaml

from proxy import gateway as gateway_module
from proxy import resume, route
from proxy.ask import Ask
from proxy.config import load
from proxy.gateway import Gateway
from proxy.keys import Caller
from proxy.known import Wanted
from proxy.route import TRIPS
from proxy.state import jobs, workers
from proxy.state.ledger import SubmitRow, Task
from proxy.video.ask import VideoAsk
from proxy.work import begin
from proxy.works import Work
from tests.chaos_provider import Patient, made
from tests.fakes.base import running
from tests.server import KEY
from translators.base import Fault

PICTURE, FILM, CLIP = "bfl/flux-2-pro", "bfl/flux-3-video", "kling/kling-3.0-turbo"


@pytest.fixture
def provider() -> Iterator[Patient]:
    fake = Patient(latency=(0, 0), job=(0, 0), chance=random.Random(1))
    with running(fake):
        yield fake


@asynccontextmanager
async def process(folder: Path, provider: Patient) -> AsyncIterator[Gateway]:
    """One of those that serve from this folder, without its HTTP."""
    service = {"api_key": "one", "base_url": provider.url}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({
        "data": str(folder / "data"), "auth": {"mode": "keys", "keys": [{"name": "tests", "key": KEY}]},
        "providers": {"bfl": service, "kling": service},
    }))  # fmt: skip
    gateway = Gateway(load(path, {}), path)
    gateway.workers.adopted = partial(resume.adopt, gateway)
    gateway.workers.taken = gateway.works.let_go
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.aclose()


async def taken(gateway: Gateway, model: str, prompt: str) -> Work:
    """A task that nobody waits for."""
    caller: Caller = await gateway.keys.who({"authorization": f"Bearer {KEY}"}, "127.0.0.1")
    video = model in {FILM, CLIP}
    ask = VideoAsk(model=model, prompt=prompt) if video else Ask(op="generate", model=model, prompt=prompt)
    return await begin(gateway, Wanted(caller=caller, ask=ask, request_id="", durable=True))


async def ended(gateway: Gateway, id: str) -> Task:
    """Its row, once it has ended, wherever that was."""
    while True:
        row = await gateway.history.get(id)
        if row is not None and row.ended is not None:
            return row
        await asyncio.sleep(0.02)


async def kept(gateway: Gateway, row: Task) -> bytes:
    assert row.result is not None
    return b"".join([piece async for piece in gateway.files.read(row.result["outputs"][0]["id"])])


@pytest.mark.parametrize("ask", [
    Ask(op="generate", prompt="x", metadata={"a": "b"}, provider_options={"c": [1]}), VideoAsk(prompt="x", seconds=5),
])  # fmt: skip
def test_what_was_asked_is_read_as_it_was_written(ask: Ask | VideoAsk) -> None:
    assert msgspec.convert(msgspec.to_builtins(ask), type(ask)) == ask


@pytest.mark.parametrize("model", [PICTURE, FILM, CLIP])
async def test_what_one_process_only_took_another_one_makes(tmp_path: Path, provider: Patient, model: str) -> None:
    async with process(tmp_path, provider) as one:
        work = await taken(one, model, "task 1")
        one.works.release()  # before anything is sent
    assert not provider.paid
    async with process(tmp_path, provider) as other:
        row = await ended(other, work.id)
        assert (row.status, row.error) == ("completed", None)
        assert await kept(other, row) == made("task 1", video=model != PICTURE)
    assert provider.prompts == {"task 1": 1}


async def test_a_process_that_stops_slowly_gives_its_tasks_away_and_takes_none(
    tmp_path: Path, provider: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK", 0.02), ("BEAT", 0.05), ("LEFT", 0.1)):
        monkeypatch.setattr(workers, name, seconds)
    async with process(tmp_path, provider) as one:
        first = await taken(one, PICTURE, "task 1")
        while not (first.trail and first.trail.submitted):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
        one.works.release()
        one.workers.leave()
        async with process(tmp_path, provider) as other:
            row = await ended(other, first.id)
            assert row.status == "completed"
            second = await taken(other, PICTURE, "task 2")
            other.works.release()
        await asyncio.sleep(0.3)  # nobody has it: who stops has looked a few times
        assert not one.works.running
    async with process(tmp_path, provider) as third:
        assert (await ended(third, second.id)).status == "completed"
    assert provider.prompts == {"task 1": 1, "task 2": 1}


async def test_a_task_waits_for_a_provider_that_fails_at_present(
    tmp_path: Path, provider: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "BREAKER_LOOK_SECONDS", 0.02)
    async with process(tmp_path, provider) as one:
        clock = one.health.clock()
        monkeypatch.setattr(one.health, "clock", lambda: clock)
        target = one.catalog.route(PICTURE).targets[0]
        for _ in range(route.TRIPS):
            one.health.failed(target, "upstream")
        work, unwanted = await taken(one, PICTURE, "task 1"), await taken(one, PICTURE, "task 2")
        await asyncio.sleep(0.2)
        assert work.id in one.works.running
        assert not provider.paid
        assert unwanted.trail
        unwanted.trail.cancel()
        assert (await ended(one, unwanted.id)).status == "cancelled"
        clock += route.OPEN_SECONDS
        assert (await ended(one, work.id)).status == "completed"
    assert provider.prompts == {"task 1": 1}


async def test_who_was_taken_for_gone_leaves_its_tasks_to_others(tmp_path: Path, provider: Patient) -> None:
    async with process(tmp_path, provider) as one, process(tmp_path, provider) as other:
        first = await taken(one, FILM, "task 1")
        while not (first.trail and first.trail.submitted):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
        await other.database.write(partial(workers._take_over, {one.worker: None}))
        other.workers.look_now()
        while first.id not in other.works.running:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
        one.workers.look_now()
        with pytest.raises(Fault, match="the task goes on"):
            await first.wait()
        row = await ended(other, first.id)
        assert (row.status, row.worker) == ("completed", other.worker)
    (job,) = provider.paid.values()
    assert job.fetched == 1


async def test_what_nobody_knows_after_a_crash_is_not_the_providers_fault(
    tmp_path: Path, provider: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "REST_SECONDS", 0.0)
    provider.latency = (2, 2)
    async with process(tmp_path, provider) as one:
        works = [await taken(one, PICTURE, f"task {number}") for number in range(2 * TRIPS)]
        while len(provider.paid) < len(works):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
    provider.latency = (0, 0)
    async with process(tmp_path, provider) as other:
        rows = [await ended(other, work.id) for work in works]
        assert {row.error["code"] for row in rows if row.error} == {"submit_uncertain"}
        new = await taken(other, PICTURE, "task 99")
        assert (await ended(other, new.id)).status == "completed"
        # a process that only stood still has heard the names of two, too late
        for id in (works[0].id, new.id):
            other.ledger.save(
                SubmitRow(task=id, number=0, target=PICTURE, credential="bfl", sent=0, saved={}, call={"path": "/poll"})
            )  # fmt: skip
    async with process(tmp_path, provider) as third:
        ids = [works[0].id, new.id]
        assert await third.database.read(partial(jobs.resumable, ids)) == {works[0].id}
        assert not (await third.database.read(partial(jobs.left, [new.id])))[new.id].submits
    assert set(provider.prompts.values()) == {1}
    await asyncio.sleep(1.5)  # the provider still sleeps over its answers
