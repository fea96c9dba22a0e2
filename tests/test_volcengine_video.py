"""Seedance: that each listed model is asked in words that the strict service takes; what a second costs."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from msgspec.structs import replace

from proxy.video.prices import video_cost, video_estimate
from tests.fakes.base import GOOD_KEY, running
from tests.fakes.volcengine_video import VolcengineVideo
from tests.pictures import media
from tests.test_video_wire import made
from translators import load_video
from translators.base import Call, Usage, Wait
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


@pytest.mark.parametrize(
    ("model", "said", "tokens", "yuan"),
    [
        ("doubao-seedance-2-0-260128", {}, 108_900, 5.0094),  # 46 a million
        ("doubao-seedance-2-0-260128", {"resolution": "1080p"}, 245_025, 12.496275),
        ("doubao-seedance-2-0-260128", {"task": "edit"}, 200_000, 5.6),
        ("doubao-seedance-1-5-pro-251215", {"audio": True}, 108_900, 1.7424),
        ("doubao-seedance-1-5-pro-251215", {"audio": False}, 108_900, 0.8712),
        ("doubao-seedance-2-5-260628", {"task": "edit"}, 108_900, None),
    ],
)
def test_a_video_costs_what_its_tokens_cost(model: str, said: dict[str, str], tokens: int, yuan: float | None) -> None:
    caps = ARK.VIDEOS[model]
    assert {rule.currency for rule in caps.prices} == {"CNY"}
    rules = tuple(replace(rule, currency="USD") for rule in caps.prices)
    job = replace(VideoJob(op="video", model=model, seconds=5, resolution="720p"), **said)
    found = video_cost(rules, job, 5, None, Usage(output_image=tokens))
    assert found == (None if yuan is None else pytest.approx(yuan))
    bound = video_estimate(replace(caps, prices=rules), job, 5)
    assert bound is None if yuan is None else bound and bound >= yuan


def test_dollars_of_abroad_are_listed_by_nobody() -> None:
    assert not ARK.VIDEOS["dreamina-seedance-2-0-260128"].prices


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


def test_an_endpoint_of_ones_own_and_another_date() -> None:
    endpoint = ARK.video_caps("ep-20261120100000-abcde")
    assert endpoint
    assert not endpoint.prices
    assert ARK.video_caps("doubao-seedance-2-5-261231") == ARK.VIDEOS["doubao-seedance-2-5-260628"]
    assert ARK.video_caps("doubao-seedance-9-0-261231") is None
