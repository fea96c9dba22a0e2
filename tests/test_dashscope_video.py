"""DashScope's videos: that each listed model is asked in words that the strict service takes, and tasks are stopped."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.fakes.base import running
from tests.fakes.dashscope_video import DashscopeVideo
from tests.pictures import media
from tests.test_video_wire import made
from translators import load_video
from translators.base import Call, Fault, Reply
from translators.video import VideoCaps, VideoJob

DASHSCOPE = load_video("dashscope")
OSS = "https://dashscope-result-sh.oss-accelerate.aliyuncs.com/x.mp4"


@pytest.fixture(scope="module")
def fake() -> Iterator[DashscopeVideo]:
    made = DashscopeVideo()
    with running(made):
        yield made
    assert not made.broken, made.broken[0]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("translators.dashscope.video.LATER", 0.0)


def jobs(model: str, caps: VideoCaps) -> Iterator[VideoJob]:
    """One of each kind that the model takes."""
    picture = msgspec.structs.replace(media("photo.jpg"), url="https://x/a.png" if caps.inputs == "url" else None)
    plain = VideoJob(op="video", model=model, prompt="a cat", seconds=caps.seconds[-1])
    framed = msgspec.structs.replace(plain, first=picture)
    if "create" in caps.tasks:
        if caps.text:
            yield msgspec.structs.replace(plain, ratio=caps.ratios[0], resolution=caps.resolutions[0])
        if caps.first and (caps.text or not caps.references):
            yield framed
        if caps.last:
            yield msgspec.structs.replace(framed, last=picture)
        if caps.references:
            yield msgspec.structs.replace(plain, references=(picture,))
        if caps.references and caps.mixes:
            yield msgspec.structs.replace(framed, references=(picture,))
        if caps.sound == "choice" and caps.text:
            yield msgspec.structs.replace(plain, audio=False)
    origin = {"video": OSS, "seconds": "5"}
    if "edit" in caps.tasks:
        yield msgspec.structs.replace(plain, task="edit", seconds=None, origin=origin)
    if "extend" in caps.tasks:
        yield msgspec.structs.replace(plain, task="extend", seconds=10, origin=origin)


@pytest.mark.parametrize("model", DASHSCOPE.VIDEOS)
async def test_every_model_is_asked_as_it_wants(fake: DashscopeVideo, model: str) -> None:
    for job in jobs(model, DASHSCOPE.VIDEOS[model]):
        (output,) = (await made(fake, job)).outputs
        assert output.blob
        assert output.extra["seconds"] == 5


def test_a_task_is_stopped_at_its_own_address() -> None:
    waiting = Call(method="GET", path="/tasks/a%2Fb", repeatable=True)
    job = VideoJob(op="video", model="wan2.7-t2v")
    assert DASHSCOPE.cancel(job, waiting) == Call(path="/tasks/a%2Fb/cancel", repeatable=True)


def test_a_snapshot_is_asked_as_its_model() -> None:
    assert DASHSCOPE.video_caps("wan2.7-t2v-2026-06-12") == DASHSCOPE.VIDEOS["wan2.7-t2v"]
    assert DASHSCOPE.video_caps("wan9-t2v-2026-06-12") is None
    call = DASHSCOPE.start(VideoJob(op="video", model="wan2.2-t2v-plus-2026-04-25", prompt="x"))
    assert isinstance(call, Call)
    assert call.json["parameters"] == {"size": "1920*1080", "duration": 5}


@pytest.mark.parametrize(
    ("code", "passes"), [("Throttling.RateQuota", True), ("InternalError", True), ("Arrearage", False)]
)
def test_a_poll_that_is_turned_away_says_nothing_of_the_task(code: str, passes: bool) -> None:
    """Also where the status is 200."""
    poll = Call(method="GET", path="/tasks/1", repeatable=True)
    body = msgspec.json.encode({"request_id": "1", "code": code, "message": "no"})
    with pytest.raises(Fault) as caught:
        DASHSCOPE.check(Reply(call=poll, status=200, data=body))
    assert caught.value.passing is passes
    with pytest.raises(Fault) as caught:
        DASHSCOPE.check(Reply(call=Call(path="/x"), status=200, data=body))
    assert not caught.value.passing
