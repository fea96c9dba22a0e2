"""MiniMax's videos: that each listed model is asked in words that the strict service takes, and what is stopped."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from msgspec.structs import replace

from tests.fakes.base import GOOD_KEY, running
from tests.fakes.minimax_video import MinimaxVideo
from tests.pictures import media
from tests.test_video_wire import made
from translators import load_video
from translators.base import Call
from translators.video import VideoCaps, VideoJob

MINIMAX = load_video("minimax")


@pytest.fixture
def fake() -> Iterator[MinimaxVideo]:
    made = MinimaxVideo()
    with running(made):
        yield made
    assert not made.broken, made.broken[0]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("translators.minimax_video.POLL", 0.0)
    monkeypatch.setattr("proxy.run.backoff", lambda _: 0.0)


def jobs(model: str, caps: VideoCaps) -> Iterator[VideoJob]:
    """One of each kind that the model takes, at its least and its most."""
    picture = media("photo.jpg")
    least = VideoJob(op="video", model=model, prompt="a cat", watermark=True)
    most = replace(
        least, seconds=caps.seconds[0 if "1080P" in caps.resolutions else -1], resolution=caps.resolutions[-1]
    )
    if caps.text:
        yield from (least, replace(most, ratio=caps.ratios[0]))
    if caps.first:
        yield from (replace(least, first=picture), replace(most, first=picture))
    if caps.last:
        yield replace(most, first=picture, last=picture)
    if caps.references:
        yield replace(most, references=(picture,) * caps.references)


@pytest.mark.parametrize("model", MINIMAX.VIDEOS)
async def test_every_model_is_asked_as_it_wants(fake: MinimaxVideo, model: str) -> None:
    for job in jobs(model, MINIMAX.VIDEOS[model]):
        (output,) = (await made(fake, job)).outputs
        assert output.blob


async def test_a_poll_that_comes_too_fast_costs_no_video(fake: MinimaxVideo) -> None:
    job = VideoJob(op="video", model="MiniMax-Hailuo-2.3", prompt="hurry me")
    assert (await made(fake, job)).outputs
    assert fake.tasks == 1


def test_a_queued_task_of_h3_is_stopped(fake: MinimaxVideo) -> None:
    job = fake.job("a cat")
    headers = {"Authorization": f"Bearer {GOOD_KEY}"}
    call = MINIMAX.start(job)
    assert isinstance(call, Call)
    number = httpx.post(fake.url + call.path, headers=headers, json=call.json).json()["task_id"]
    poll = Call(method="GET", path=f"/v2/query/video_generation/{number}", repeatable=True)
    stop = MINIMAX.cancel(job, poll)
    assert stop == Call(method="DELETE", path=f"/v2/video_generation/{number}", repeatable=True)
    assert httpx.request(stop.method, fake.url + stop.path, headers=headers).json()["status"] == "cancelled"
    assert httpx.get(fake.url + poll.path, headers=headers).json()["task"]["status"] == "cancelled"


def test_a_task_of_hailuo_cannot_be_stopped() -> None:
    poll = Call(method="GET", path="/v1/query/video_generation", query={"task_id": "1"}, repeatable=True)
    assert MINIMAX.cancel(VideoJob(op="video", model="MiniMax-Hailuo-02"), poll) is None
