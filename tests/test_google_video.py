"""Google's videos over real sockets: every model in words that the strict service takes, and interactions stopped."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.fakes.base import running
from tests.fakes.gemini_video import GeminiVideo
from tests.fakes.vertex_video import VertexVideo
from tests.pictures import media
from tests.test_video_wire import made
from translators import load_video
from translators.base import Call
from translators.video import VideoCaps, VideoJob

GEMINI, VERTEX = load_video("gemini"), load_video("vertex")


@pytest.fixture
def gemini() -> Iterator[GeminiVideo]:
    fake = GeminiVideo()
    with running(fake):
        yield fake
    assert not fake.broken, fake.broken[0]


@pytest.fixture
def vertex() -> Iterator[VertexVideo]:
    fake = VertexVideo()
    with running(fake):
        yield fake
    assert not fake.broken, fake.broken[0]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gemini_video", "vertex_video"):
        monkeypatch.setattr(f"translators.{name}.LATER", 0.0)


def jobs(plain: VideoJob, caps: VideoCaps) -> Iterator[VideoJob]:
    """One of each kind that the model takes."""
    picture = media("photo.jpg")
    yield msgspec.structs.replace(
        plain, seconds=caps.seconds[0], ratio=caps.ratios[-1], resolution=caps.resolutions[-1], seed=7
    )
    if caps.first:
        yield msgspec.structs.replace(plain, first=picture)
    if caps.last:
        yield msgspec.structs.replace(plain, first=picture, last=picture)
    if caps.references:
        yield msgspec.structs.replace(plain, references=(picture,) * caps.references)
    if "edit" in caps.tasks:
        yield msgspec.structs.replace(plain, task="edit", clip=media("clip.mp4"))
    if "extend" in caps.tasks:
        yield msgspec.structs.replace(plain, task="extend", clip=media("clip.mp4"), seconds=caps.extra_seconds[0])


@pytest.mark.parametrize("model", GEMINI.VIDEOS)
async def test_every_model_of_gemini_is_asked_as_it_wants(gemini: GeminiVideo, model: str) -> None:
    for job in jobs(msgspec.structs.replace(gemini.job("a cat"), model=model), GEMINI.VIDEOS[model]):
        (output,) = (await made(gemini, job)).outputs
        assert output.blob
        assert output.blob.bytes() == gemini.video


@pytest.mark.parametrize("model", VERTEX.VIDEOS)
async def test_every_model_of_vertex_is_asked_as_it_wants(vertex: VertexVideo, model: str) -> None:
    for job in jobs(msgspec.structs.replace(vertex.job("a cat"), model=model), VERTEX.VIDEOS[model]):
        (output,) = (await made(vertex, job)).outputs
        assert output.blob
        assert output.blob.bytes() == vertex.video


async def test_an_earlier_result_is_worked_on_by_its_interaction(gemini: GeminiVideo) -> None:
    first = await made(gemini, gemini.job("a cat"))
    origin = first.outputs[0].extra["origin"]
    again = msgspec.structs.replace(gemini.job("a dog"), task="remix", origin=origin)
    second = await made(gemini, again)
    assert gemini.begun["v1_2"].body.previous_interaction_id == "v1_1"
    assert second.outputs[0].extra["origin"] == {"interaction": "v1_2"}


def test_an_interaction_is_stopped_at_its_own_address() -> None:
    waiting = Call(method="GET", path="/interactions/v1_1", query={"stream": "false"}, repeatable=True)
    stop = Call(path="/interactions/v1_1/cancel", repeatable=True)
    job = VideoJob(op="video", model="gemini-omni-1.2-flash")
    assert GEMINI.cancel(job, waiting) == stop
    assert VERTEX.cancel(job, waiting) == stop


def test_a_prediction_cannot_be_stopped() -> None:
    waiting = Call(path="/projects/p/…:fetchPredictOperation", json={"operationName": "x"}, repeatable=True)
    assert VERTEX.cancel(VideoJob(op="video", model="veo-3.1-generate-001"), waiting) is None


def test_another_edition_of_a_model_is_known() -> None:
    assert VERTEX.video_caps("veo-3.1-generate-002") == VERTEX.VIDEOS["veo-3.1-generate-001"]
    assert VERTEX.video_caps("veo-3.0-generate-001") is None
    for by in (GEMINI, VERTEX):
        assert by.video_caps("gemini-omni-1.2-flash-preview-11-2026") == by.VIDEOS["gemini-omni-1.2-flash"]
        assert by.video_caps("gemini-omni-flash-preview") is None
