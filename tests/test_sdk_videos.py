"""The official clients against every provider that makes videos, each at its strict fake: one server has all of them.

Every call of the Python client is made before the first is judged, many at a time; one script makes all of Node's.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from openai.types import Video

from tests.fakes.base import GOOD_KEY, WRONG_KEY, Seen, running
from tests.fakes.kling import ACCESS_KEY, SECRET_KEY
from tests.fakes.vertex import Vertex
from tests.fakes.vertex_video import TOKEN, VertexVideo
from tests.fakes.video import VideoFake
from tests.server import KEY, Server, serving
from tests.stage import photo
from translators import VIDEO_MAKERS, load_video
from translators.video import Task as Doing
from translators.video import VideoJob

HERE = Path(__file__).parent / "node"
FRAME = photo(size=(1280, 720))
AT_ONCE = 16  # calls

# of the client itself, which says it of all videos
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@cache
def film() -> bytes:
    """A real video: four seconds of 1280 x 720."""
    job = VideoJob(op="video", model="animation", prompt="a hill", seconds=4, size=(1280, 720))
    done: Any = load_video("demo").start(job)
    made: bytes = done.outputs[0].blob.bytes()
    return made


class Account(Vertex):
    """The token server of a service account, which hands out the token that videos are made with."""

    async def token(self, request: web.Request) -> web.Response:
        answer = await super().token(request)
        if answer.status != 200:
            return answer
        return web.json_response({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})


@dataclass(frozen=True)
class Maker:
    """One configured provider: the models that are asked for, by what is done with them."""

    fake: str  # of that provider
    text: str
    first: str | None = None  # a model that takes a first frame
    changes: Mapping[Doing, str | None] = field(default_factory=dict)  # None: the one that made the video
    seconds: str = "4"
    credential: Mapping[str, Any] = field(default_factory=lambda: {"api_key": GOOD_KEY})
    bad: Mapping[str, Any] = field(default_factory=lambda: {"api_key": WRONG_KEY})
    wired: bool = True


PAIR = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
MAKERS: Mapping[str, Maker] = {
    "shaped": Maker(
        "openai", "sora-2", "sora-2", {"remix": None, "edit": None, "extend": None},
    ),
    "gemini": Maker(
        "gemini", "gemini-omni-1.2-flash", "gemini-omni-1.2-flash", {"remix": None, "edit": None, "extend": None}
    ),
    "vertex": Maker(
        "vertex", "veo-3.1-generate-001", "veo-3.1-lite-generate-001", {"edit": "gemini-omni-1.2-flash"},
    ),
    "bfl": Maker("bfl", "flux-3-video", "flux-3-video", {"extend": None, "edit": "flux-tools/video-edit-v1"}),
    "dashscope": Maker("dashscope", "wan2.7-t2v", "wan2.7-i2v", {"edit": "wan2.7-videoedit", "extend": "wan2.7-i2v"}),
    "kling": Maker("kling", "kling-3.0-turbo", "kling-3.0", {"edit": "kling-3.0-omni"}),
    "kling-pair": Maker(
        "kling", "kling-v1-6", "kling-v1-6", {"extend": None}, "5", {"keys": [PAIR]},
        {"keys": [{**PAIR, "secret_key": WRONG_KEY}]},
    ),
    "minimax": Maker("minimax", "MiniMax-H3", "MiniMax-Hailuo-2.3", seconds="6"),
    "volcengine": Maker(
        "volcengine", "doubao-seedance-2-5-260628", "doubao-seedance-2-5-260628",
        {"remix": None, "edit": None, "extend": None},
    ),
    "xai": Maker("xai", "grok-imagine-video-1.5", "grok-imagine-video-1.5", {"edit": None, "extend": None}),
    "demo": Maker("demo", "animation", "animation", {"remix": None, "extend": None}, wired=False),
}  # fmt: skip
WIRED = [name for name, maker in MAKERS.items() if maker.wired]
CHANGES = [(name, doing) for name, maker in MAKERS.items() for doing in maker.changes]


def fake_of(name: str) -> VideoFake:
    """That provider's."""
    every = vars(import_module(f"tests.fakes.{name}_video")).values()
    found = [each for each in every if isinstance(each, type) and issubclass(each, VideoFake) and each is not VideoFake]
    made: VideoFake = found[-1]()
    made.video = film()  # type: ignore[misc]  # of this one alone
    return made


def configured(maker: Maker, fake: VideoFake, credential: Mapping[str, Any]) -> dict[str, Any]:
    """Its entry in the configuration, at its fake, which answers at once."""
    entry = {"translator": maker.fake, "base_url": fake.url + fake.path, "timeouts": {"poll": 0.02, "video": 60}}
    if maker.fake == "openai":
        entry["models"] = {maker.text: {"type": "video"}}
    return entry | dict(credential)


@dataclass(frozen=True)
class Stage:
    """A running server and its upstreams."""

    server: Server
    fakes: Mapping[str, VideoFake]

    def submits(self, maker: str, word: str) -> list[Seen]:
        """What reached that upstream with that word in it."""
        return [seen for seen in self.fakes[maker].seen if seen.method == "POST" and word.encode() in seen.body]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("sdk_videos")
    with ExitStack() as stack:
        fakes = {name: fake_of(maker.fake) for name, maker in MAKERS.items() if maker.wired}
        for fake in fakes.values():
            stack.enter_context(running(fake))
        account = Account()
        stack.enter_context(running(account))
        providers: dict[str, Any] = {"demo": {}}
        for name, fake in fakes.items():
            maker = MAKERS[name]
            good, bad = maker.credential, maker.bad
            if isinstance(fake, VertexVideo):
                site = {"project": "demo-project"}
                good, bad = (
                    site | {"credentials": account.config(key)["credentials"]} for key in (GOOD_KEY, WRONG_KEY)
                )
            providers[name] = configured(maker, fake, good)
            providers[f"wrong-{name}"] = configured(maker, fake, bad)
        server = stack.enter_context(
            serving(
                folder, providers, public=True, models={"sora-2": ["shaped/sora-2"]}, files={"hosting": "passthrough"}
            )
        )
        yield Stage(server, fakes)
        assert not [trace for each in [*fakes.values(), account] for trace in each.broken]
        log = server.log.read_text()
        assert '"level":"error"' not in log, log
        assert KEY not in log


# ---- what is asked


@dataclass(frozen=True)
class Asking:
    """One provider, and the client that asks it. `word` stands in every prompt."""

    name: str
    word: str
    client: AsyncOpenAI

    @property
    def maker(self) -> Maker:
        return MAKERS[self.name]

    def said(self, prompt: str) -> dict[str, Any]:
        """What every video is asked for with."""
        return {"prompt": f"{prompt}, {self.word}", "size": "1280x720", "seconds": self.maker.seconds}

    async def made(self, model: str, prompt: str = "a cat walks", **more: Any) -> Video:
        """A video, to its end."""
        return await self.client.videos.create_and_poll(model=model, poll_interval_ms=50, **self.said(prompt), **more)


async def text(to: Asking) -> Any:
    video = await to.made(f"{to.name}/{to.maker.text}")
    content = await (await to.client.videos.download_content(video.id)).aread()
    listed = [each.id async for each in to.client.videos.list(limit=100)]
    gone = await to.client.videos.delete(video.id)
    try:
        await to.client.videos.retrieve(video.id)
    except openai.NotFoundError as missing:
        return video, content, listed, gone, missing
    raise AssertionError("it is there still")


async def first(to: Asking) -> Any:
    return await to.made(f"{to.name}/{to.maker.first}", "it moves", input_reference=("frame.png", FRAME, "image/png"))


async def refusal(to: Asking) -> Any:
    return await to.made(f"{to.name}/{to.maker.text}", "refuse me")


async def limit(to: Asking) -> Any:
    return await to.made(f"{to.name}/{to.maker.text}", "rate limit me")


async def failure(to: Asking) -> Any:
    return await to.made(f"{to.name}/{to.maker.text}", "fail me")


async def wrong_key(to: Asking) -> Any:
    return await to.made(f"wrong-{to.name}/{to.maker.text}")


async def change(to: Asking, doing: Doing) -> Any:
    """By the id of one that was made here."""
    video = await to.made(f"{to.name}/{to.maker.text}", "a hill")
    model = to.maker.changes[doing]
    named = {"model": f"{to.name}/{model}"} if model else {}
    body: dict[str, Any] = {"prompt": f"at night, {to.word}", **named}
    if doing == "remix":
        begun = await to.client.videos.remix(video.id, prompt=body["prompt"], extra_body=named)
    else:
        path = {"edit": "/videos/edits", "extend": "/videos/extensions"}[doing]
        begun = await to.client.post(path, cast_to=Video, body={**body, "video": {"id": video.id}})
    return video, begun, await to.client.videos.poll(begun.id, poll_interval_ms=50)


Ask = Callable[[Asking], Awaitable[Any]]
ASKS: Sequence[tuple[Ask, Sequence[str]]] = (
    (text, [*MAKERS]),
    (first, [*MAKERS]),
    (refusal, [*MAKERS]),
    *((ask, WIRED) for ask in (limit, failure, wrong_key)),
)


@dataclass
class Outcome:
    """The answer, or what was raised."""

    answer: Any = None
    fault: Exception | None = None

    def got(self) -> Any:
        """The answer; the fault is the test's where there is none."""
        if self.fault:
            raise self.fault
        return self.answer


Outcomes = Mapping[tuple[str, str], Outcome]


@pytest.fixture(scope="module")
def outcomes(stage: Stage) -> Outcomes:
    """Of everything that is asked."""
    return asyncio.run(asked(stage))


async def asked(stage: Stage) -> Outcomes:
    places = asyncio.Semaphore(AT_ONCE)
    found: dict[tuple[str, str], Outcome] = {}
    async with AsyncOpenAI(
        base_url=stage.server.base_url, api_key=KEY, max_retries=0, timeout=60,
        http_client=DefaultAsyncHttpxClient(trust_env=False),
    ) as client:  # fmt: skip

        async def one(name: str, word: str, ask: Ask) -> None:
            outcome = found[word, name] = Outcome()
            async with places:
                try:
                    outcome.answer = await ask(Asking(name, f"case-{word}", client))
                except Exception as fault:
                    outcome.fault = fault

        cases = [one(name, ask.__name__, ask) for ask, names in ASKS for name in names]
        cases += [one(name, doing, partial(change, doing=doing)) for name, doing in CHANGES]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            await asyncio.gather(*cases)
    return found


# ---- what came of it

every = pytest.mark.parametrize("name", MAKERS)
wired = pytest.mark.parametrize("name", WIRED)


def test_every_maker_is_there() -> None:
    assert {maker.fake for maker in MAKERS.values()} == {*VIDEO_MAKERS}


@every
def test_text(outcomes: Outcomes, stage: Stage, name: str) -> None:
    """Made, fetched, listed, deleted."""
    video, content, listed, gone, _ = outcomes["text", name].got()
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.model, video.size, video.seconds) == (f"{name}/{MAKERS[name].text}", "1280x720", "4")
    assert video.prompt == "a cat walks, case-text"
    assert video.completed_at >= video.created_at
    assert video.id in listed
    assert (gone.id, gone.deleted) == (video.id, True)
    if name in WIRED:
        assert content == film()
        assert len(stage.submits(name, "case-text")) == 1
    else:
        assert content[4:8] == b"ftyp"


@every
def test_first_frame(outcomes: Outcomes, stage: Stage, name: str) -> None:
    """It arrives as it was sent, whatever way that provider takes it."""
    video = outcomes["first", name].got()
    assert video.status == "completed", video.error
    if name in WIRED:
        assert stage.fakes[name].received == [FRAME]


@every
def test_refusal(outcomes: Outcomes, name: str) -> None:
    video = outcomes["refusal", name].got()
    assert video.status == "failed"
    assert video.error.type == "invalid_request_error"
    assert video.error.message


@wired
def test_rate_limit(outcomes: Outcomes, name: str) -> None:
    video = outcomes["limit", name].got()
    assert video.status == "failed"
    assert video.error.type in {"rate_limit_error", "requests", "service_unavailable_error"}


@wired
def test_failure(outcomes: Outcomes, name: str) -> None:
    video = outcomes["failure", name].got()
    assert video.status == "failed"
    assert video.error.type in {"server_error", "service_unavailable_error"}
    assert (video.completed_at, video.expires_at) == (None, None)


@wired
def test_wrong_key(outcomes: Outcomes, stage: Stage, name: str) -> None:
    video = outcomes["wrong_key", name].got()
    code = "invalid_grant" if name == "vertex" else "provider_auth_failed"  # its token server says it
    assert (video.status, video.error.code) == ("failed", code)
    assert WRONG_KEY not in video.error.message


@pytest.mark.parametrize(("name", "doing"), CHANGES)
def test_change(outcomes: Outcomes, stage: Stage, name: str, doing: Doing) -> None:
    """Of a video that was made here, by its id; by the model that made it, where none is named."""
    video, begun, changed = outcomes[doing, name].got()
    assert changed.status == "completed", changed.error
    assert changed.id == begun.id != video.id
    model = MAKERS[name].changes[doing]
    assert changed.model == (f"{name}/{model}" if model else video.model)
    assert changed.remixed_from_video_id == (None if doing == "extend" else video.id)
    if name in WIRED:
        assert len(stage.submits(name, f"at night, case-{doing}")) == 1


# ---- Node's client

NODE = {name: f"{name}/{MAKERS[name].text}" for name in ("shaped", "gemini", "bfl", "xai", "demo")}


@pytest.fixture(scope="module")
def lines(node: str, stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What one run of the script told, by its checks."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "frame.png").write_bytes(FRAME)
    told = {
        "BASE_URL": stage.server.base_url, "KEY": KEY, "FOLDER": str(folder), "MODELS": json.dumps(NODE),
        "PATH": os.environ["PATH"],
    }  # fmt: skip
    done = subprocess.run([node, "videos.mjs"], env=told, cwd=HERE, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return {line["check"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", NODE)
def test_node(lines: Mapping[str, Any], stage: Stage, name: str) -> None:
    """Made with a first frame, polled, fetched whole and in part, its thumbnail, deleted."""
    line = lines[f"make: {name}"]
    assert "error" not in line, line["error"]
    answer = line["answer"]
    assert answer["video"]["status"] == "completed", answer["video"]
    assert (answer["video"]["size"], answer["video"]["seconds"]) == ("1280x720", "4")
    assert answer["begun"]["status"] in {"queued", "in_progress"}
    assert answer["deleted"] == {"id": answer["video"]["id"], "object": "video.deleted", "deleted": True}
    assert answer["gone"] == 404
    assert answer["type"] == "video/mp4"
    assert answer["part"] == [206, 16]
    assert answer["thumbnail"] == "image/webp"
    if name in WIRED:
        assert answer["sum"] == hashlib.sha256(film()).hexdigest()
        (seen,) = stage.submits(name, f"check make: {name}")
        assert FRAME in stage.fakes[name].received
        assert seen.method == "POST"


@pytest.mark.parametrize("name", ["shaped", "gemini", "demo"])
def test_node_remix(lines: Mapping[str, Any], name: str) -> None:
    line = lines[f"remix: {name}"]
    assert "error" not in line, line["error"]
    first, second = line["answer"]["first"], line["answer"]["second"]
    assert (first["status"], second["status"]) == ("completed", "completed")
    assert second["remixed_from_video_id"] == first["id"]


def test_node_pages(lines: Mapping[str, Any]) -> None:
    """Two at a time, to the end: all that are there, each once, the newest first."""
    answer = lines["pages"]["answer"]
    assert len(answer["paged"]) > 4
    assert answer["paged"] == answer["whole"]
    assert len({*answer["paged"]}) == len(answer["paged"])


def test_node_fault(lines: Mapping[str, Any]) -> None:
    assert lines["fault"]["answer"] == {"status": 400, "code": "invalid_value", "param": "seconds", "sent": 1}
