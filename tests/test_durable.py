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

from proxy import resume
from proxy.ask import Ask
from proxy.config import load
from proxy.gateway import Gateway
from proxy.keys import Caller
from proxy.known import Wanted
from proxy.state.ledger import Task
from proxy.video.ask import VideoAsk
from proxy.work import begin
from proxy.works import Work
from tests.chaos_provider import Patient, made
from tests.fakes.base import running
from tests.server import KEY

PICTURE, FILM, CLIP = "bfl/flux-2-pro", "bfl/flux-3-video", "kling/kling-3.0-turbo"


@pytest.fixture
def provider() -> Iterator[Patient]:
    fake = Patient(latency=(0, 0), seconds=(0, 0), chance=random.Random(1))  # noqa: S311
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
    """Its row, once this process has ended it."""
    await gateway.works.running[id].wait()
    row = await gateway.history.get(id)
    assert row is not None
    return row


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
        row = await adopted(other, work.id)
        assert (row.status, row.error) == ("completed", None)
        assert await kept(other, row) == made("task 1", video=model != PICTURE)
    assert provider.prompts == {"task 1": 1}


async def adopted(gateway: Gateway, id: str) -> Task:
    """Its row, once this process has gone on with it and ended it."""
    while id not in gateway.works.running:
        await asyncio.sleep(0.01)
    return await ended(gateway, id)
