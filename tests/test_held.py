"""What came with a task is held no longer than until its provider has it, and is there again where it is needed."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pybase64
import pytest
import yaml
from PIL import Image

from proxy import inputs
from proxy.ask import Ask, Inputs, Upload
from proxy.config import load
from proxy.gateway import Gateway
from proxy.keys import Caller
from proxy.known import Wanted
from proxy.work import begin
from proxy.works import Work
from tests.fakes.base import GOOD_KEY, running
from tests.fakes.bfl import Bfl
from tests.server import KEY
from translators.base import Blob, Fault, Media


class Pieces(list[bytes]):
    """Of a body; it can be told whether anybody holds them still."""


@pytest.fixture
def bfl() -> Iterator[Bfl]:
    fake = Bfl()
    with running(fake):
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, bfl: Bfl) -> AsyncIterator[Gateway]:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({
        "data": str(tmp_path / "data"), "auth": {"mode": "keys", "keys": [{"name": "tests", "key": KEY}]},
        "providers": {"bfl": {"api_key": GOOD_KEY, "base_url": bfl.url}},
    }))  # fmt: skip
    gateway = Gateway(load(path, {}), path)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.aclose()


def noise() -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (256, 256), os.urandom(256 * 256 * 3)).save(out, "PNG")
    return out.getvalue()


async def edited(gateway: Gateway, prompt: str, pieces: Pieces) -> Work:
    """A task that changes a picture."""
    caller: Caller = await gateway.keys.who({"authorization": f"Bearer {KEY}"}, "127.0.0.1")
    image = Upload(Blob(pieces, sum(map(len, pieces))), "image")
    ask = Ask(op="edit", model="bfl/flux-2-pro", prompt=prompt, images=(image,))
    return await begin(gateway, Wanted(caller=caller, ask=ask, request_id="", durable=True))


async def test_nobody_holds_what_the_provider_has(gateway: Gateway) -> None:
    pieces = Pieces([noise()])
    held = weakref.ref(pieces)
    work = await edited(gateway, "x", pieces)
    del pieces
    while not (work.trail and work.trail.submitted):  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)
    gc.collect()
    assert not work.result.done()
    assert held() is None
    assert (await work.wait()).pictures


async def test_what_is_sent_once_more_is_the_same(gateway: Gateway, bfl: Bfl) -> None:
    picture = noise()
    work = await edited(gateway, "empty please", Pieces([picture[:1000], picture[1000:]]))
    with pytest.raises(Fault) as failed:
        await work.wait()
    assert failed.value.kind == "empty"
    bodies = [json.loads(each.body) for each in bfl.seen if each.method == "POST"]
    assert [pybase64.b64decode(body["input_image"].rpartition(",")[2]) for body in bodies] == [picture] * 2


async def test_what_is_let_go_is_read_from_the_store(gateway: Gateway) -> None:
    first, second = noise(), noise()
    given = Inputs(
        images=(
            Media(blob=Blob((pybase64.b64encode(first),), len(pybase64.b64encode(first)), "base64"), type="image/png"),
            Media(blob=Blob((second,), len(second)), type="image/png"),
        )
    )
    kept: list[str] = []
    told = await inputs.keep(gateway, given, kept)
    inputs.let_go(gateway, given, told)
    assert [b"".join(each.blob.decoded()) for each in given.images] == [first, second]
    assert [each.blob.length for each in given.images] == [len(first), len(second)]
    await gateway.files.delete(kept)
    with pytest.raises(FileNotFoundError):
        b"".join(given.images[0].blob.decoded())
