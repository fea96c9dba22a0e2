"""Every `video_*.json` under wire/ is one conversation about a video; the real engine talks to every video fake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy import pixels
from proxy.catalog import Credential, Target, Upstream
from proxy.credentials import Credentials
from proxy.engine import Engine
from proxy.http import Allowed, Pools
from proxy.metrics import Metrics
from proxy.plan import Finish
from proxy.run import silent
from proxy.trail import UNWATCHED, Left, Saved, Watch
from tests import wire_case as wire
from tests.fakes.base import running
from tests.fakes.video import VideoFake
from tests.pictures import media
from translators import VIDEO_MAKERS, load_video
from translators.base import Call, Caps, Done, Fault, FaultKind, Job, Secret, Step, Wait
from translators.video import VideoCaps, VideoJob

CASES = sorted(path for path in wire.HERE.glob("*/video_*.json"))
KINDS = {"text", "refused", "rate", "auth", "failed", "lost"}
FRAMES = {"first"}
WIRED = tuple(name for name in VIDEO_MAKERS if name != "demo")  # which draws by itself


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_video_wire(path: Path) -> None:
    case = wire.load(path)
    translator = load_video(path.parent.name)
    job = wire.video_job(case["job"])
    pictures = wire.video_pictures(job, case["job"])
    assert case["source"]
    step: Step | None
    try:
        step = wire.looked(translator, job, case["look"], pictures) if "look" in case else translator.start(job)
        for turn in case["turns"]:
            if isinstance(step, Wait):
                step = wire.waited(step, turn)
                if "cancel" in turn:
                    wire.stopped(translator, job, step, turn["cancel"])
            else:
                assert not {"wait", "cancel"} & turn.keys()
            assert isinstance(step, Call)
            assert wire.shown_call(step, pictures) == turn["call"]
            reply = wire.reply(step, turn["reply"])
            translator.check(reply)
            step = translator.step(job, reply)
    except Fault as fault:
        assert str(fault), "a fault tells the client what happened"
        assert "fault" in case, f"unexpected fault: {wire.shown_fault(fault)} {fault}"
        assert wire.shown_fault(fault) == case["fault"]
    else:
        assert isinstance(step, Done | None)
        assert (wire.shown_done(step) if step else None) == case["done"]  # nothing was found: it may be sent again


@pytest.mark.parametrize("name", WIRED)
def test_the_usual_conversations_are_there(name: str) -> None:
    kinds = {wire.load(path).get("kind") for path in CASES if path.parent.name == name}
    stops = {bool(turn["cancel"]) for path in CASES if path.parent.name == name for turn in turns(path, "cancel")}
    assert stops, "whether a task can be stopped"
    takes_frames = any(caps.first for caps in videos(name).values())
    assert kinds >= KINDS | (FRAMES if takes_frames else set())


def turns(path: Path, member: str) -> list[dict[str, Any]]:
    return [turn for turn in wire.load(path)["turns"] if member in turn]


def videos(name: str) -> dict[str, VideoCaps]:
    return dict(load_video(name).VIDEOS)


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_what_is_said_of_models_makes_sense(name: str) -> None:
    for model, caps in videos(name).items():
        assert list(caps.seconds) == sorted(set(caps.seconds)), model
        assert caps.usual_seconds in {0, *caps.seconds}, model
        assert caps.text or caps.first or caps.references or caps.tasks - {"create"}, model
        assert caps.first or not caps.last, model
        assert caps.usual_resolution in {"", *caps.resolutions}, model
        assert caps.clip_types, model
        assert caps.clip_seconds[0] <= caps.clip_seconds[1], model
        assert load_video(name).video_caps(model) == caps
        assert all(rule.resolution is None or rule.resolution in caps.resolutions for rule in caps.prices), model
        assert caps.sizes or caps.ratios or caps.resolutions or caps.frames_shape, model


# ---- over real sockets


@pytest.fixture(params=WIRED)
def fake(request: pytest.FixtureRequest) -> Iterator[VideoFake]:
    name = request.param
    every = [
        value for value in vars(import_module(f"tests.fakes.{name}_video")).values()
        if isinstance(value, type) and issubclass(value, VideoFake) and value is not VideoFake
    ]  # fmt: skip
    (only,) = every
    made = only()
    with running(made):
        yield made
    assert not made.broken, made.broken[0]


async def made(fake: VideoFake, job: VideoJob, secret: Secret | None = None, watch: Watch = UNWATCHED) -> Done:
    """What the engine makes of it with this fake as upstream."""
    translator = load_video(fake.name)
    upstream = Upstream(
        name=fake.name, translator=translator, base=fake.url + fake.path, site=job.site, credentials=(), trusted=True
    )  # fmt: skip
    metrics, pools = Metrics(), Pools(Allowed(("127.0.0.1",)))
    engine = Engine(pools, Credentials(nowhere, lambda: 0.0), pixels.Pixels(1).aside, metrics, 64 << 20)
    credential = Credential(f"{fake.name}#1", secret or fake.secret)
    try:
        return await engine.run(
            job, Target(upstream, job.model, Caps(ops=frozenset())), credential, silent, watch=watch
        )
    finally:
        await pools.aclose()


async def nowhere(*_: Any) -> Any:
    raise AssertionError("no token is asked for here")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls come at once, so that a test takes no longer than its upstream."""
    at_once = asyncio.sleep
    monkeypatch.setattr("proxy.run.asyncio.sleep", lambda _: at_once(0))


async def test_a_video_of_text(fake: VideoFake) -> None:
    done = await made(fake, fake.job("a cat walks"))
    (output,) = done.outputs
    assert output.blob
    assert output.blob.bytes() == fake.video
    assert fake.tasks == 1


async def test_a_first_frame_arrives_as_it_is(fake: VideoFake) -> None:
    if fake.frames is None:
        return
    frame = media("photo.png")
    await made(fake, msgspec.structs.replace(fake.job("go"), model=fake.frames, first=frame))
    assert fake.received == [frame.blob.bytes()]


@pytest.mark.parametrize(
    ("prompt", "kinds"),
    [("refuse me", {"policy"}), ("rate limit me", {"rate", "overloaded"}), ("fail me", {"upstream", "overloaded"})],
)
async def test_what_goes_wrong(fake: VideoFake, prompt: str, kinds: set[FaultKind]) -> None:
    with pytest.raises(Fault) as caught:
        await made(fake, fake.job(prompt))
    assert caught.value.kind in kinds


async def test_a_wrong_credential(fake: VideoFake) -> None:
    with pytest.raises(Fault) as caught:
        await made(fake, fake.job("x"), fake.wrong)
    assert caught.value.kind == "auth"
    assert fake.tasks == 0


class Unwanted(Watch):
    """Of a video that nobody wants any more once it is submitted."""

    wait: Wait

    @property
    def stopped(self) -> bool:
        return True

    def waiting(self, job: Job, wait: Wait) -> None:
        self.wait = wait


class Again(Watch):
    """Of one that an earlier process has submitted."""

    def __init__(self, job: VideoJob, wait: Wait) -> None:
        self.left = Left(target="", credential="", saved=Saved(job=job, finish=Finish()), wait=wait)


async def test_a_task_that_nobody_wants_is_stopped_where_it_can_be(fake: VideoFake) -> None:
    """Then it is not made, as its polls tell."""
    stoppable = fake.stoppable()
    job = stoppable or fake.job("a cat walks")
    watch = Unwanted()
    with pytest.raises(Fault) as caught:
        await made(fake, job, watch=watch)
    assert caught.value.kind == "cancelled"
    assert fake.tasks == 1
    assert fake.stopped == (1 if stoppable else 0)
    if stoppable:
        with pytest.raises(Fault) as caught:
            await made(fake, job, watch=Again(job, watch.wait))
        assert caught.value.kind in {"upstream", "missing"}
    else:
        assert (await made(fake, job, watch=Again(job, watch.wait))).outputs
