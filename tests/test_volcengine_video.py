"""Seedance: that each listed model is asked in words that the strict service takes; what a second costs."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from msgspec.structs import replace

from tests.fakes.base import GOOD_KEY, running
from tests.fakes.volcengine_video import VolcengineVideo
from tests.pictures import media
from tests.test_video_wire import made
from translators import load_video
from translators.base import Call, Wait
from translators.video import VideoCaps, VideoJob

ARK = load_video("volcengine")
TASKS = "/contents/generations/tasks"


@pytest.fixture
def fake() -> Iterator[VolcengineVideo]:
    made = VolcengineVideo()
    with running(made):
        yield made
    assert not made.broken, made.broken[0]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("translators.volcengine_video.POLL", 0.0)


def jobs(model: str, caps: VideoCaps) -> Iterator[VideoJob]:
    """One of each kind that the model takes, with all that it lists."""
    picture = media("photo.jpg")
    plain = VideoJob(
        op="video", model=model, prompt="a cat", seconds=caps.seconds[-1], ratio="16:9",
        resolution=caps.resolutions[-1], seed=7, watermark=True, safety_identifier="u1",
        audio=False if caps.sound == "choice" else None, camera="fixed" if "camera" in caps.params else None,
    )  # fmt: skip
    if caps.text:
        yield plain
    if caps.first:
        yield replace(plain, first=picture)
    if caps.last:
        yield replace(plain, first=picture, last=picture)
    if caps.references:
        yield replace(plain, references=(picture,) * caps.references, resolution="720p", camera=None)
    origin = {"id": "cgt-1", "url": "https://x.test/1.mp4"}
    for task in sorted(caps.tasks - {"create"}):
        seconds = caps.extra_seconds[0] if task == "extend" else None
        yield replace(plain, task=task, seconds=seconds, origin=origin)


@pytest.mark.parametrize("model", ARK.VIDEOS)
async def test_every_model_is_asked_as_it_wants(fake: VolcengineVideo, model: str) -> None:
    for job in jobs(model, ARK.VIDEOS[model]):
        (output,) = (await made(fake, job)).outputs
        assert output.blob
        assert output.extra["last_frame"] == f"{fake.url}/last.png"


def test_a_second_costs_what_its_tokens_cost() -> None:
    """A million tokens at 46 yuan; 1280 x 720 x 24 / 1024 tokens in a second."""
    prices = {rule.resolution: rule for rule in ARK.VIDEOS["doubao-seedance-2-0-260128"].prices}
    assert prices["720p"].amount == pytest.approx(46 * 21_600 / 1_000_000)
    assert {rule.currency for rule in prices.values()} == {"CNY"}
    assert not ARK.VIDEOS["dreamina-seedance-2-0-260128"].prices  # sold in dollars, at prices that nobody lists here


def test_a_queued_task_is_stopped(fake: VolcengineVideo) -> None:
    job = fake.job("a cat")
    headers = {"Authorization": f"Bearer {GOOD_KEY}"}
    call = ARK.start(job)
    assert isinstance(call, Call)
    begun = httpx.post(f"{fake.url}{fake.path}{call.path}", headers=headers, json=call.json).json()
    poll = Call(method="GET", path=f"{TASKS}/{begun['id']}", repeatable=True)
    stop = ARK.cancel(job, Wait(poll, 10.0).call)
    assert stop == Call(method="DELETE", path=poll.path, repeatable=True)
    assert httpx.request(stop.method, f"{fake.url}{fake.path}{stop.path}", headers=headers).json() == {}
    assert httpx.get(f"{fake.url}{fake.path}{poll.path}", headers=headers).json()["status"] == "cancelled"
