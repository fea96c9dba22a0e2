"""Kling's videos over real sockets: both standards, both kinds of credential, and every operation's strict body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from msgspec.structs import replace

from tests.fakes.base import GOOD_KEY, running
from tests.fakes.kling import ACCESS_KEY, SECRET_KEY
from tests.fakes.kling_video import KlingVideo
from tests.pictures import data, media
from tests.test_video_wire import made
from translators import kling_video, load_video
from translators.base import Call, Fault, Reply, Secret, Wait
from translators.video import VideoJob

SIGNED = Secret("", extra={"access_key": ACCESS_KEY, "secret_key": SECRET_KEY})
CLIP = {"url": "https://videos.example/a.mp4"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[KlingVideo]:
    at_once = asyncio.sleep
    monkeypatch.setattr("proxy.run.asyncio.sleep", lambda _: at_once(0))
    upstream = KlingVideo()
    with running(upstream):
        yield upstream
    assert not upstream.broken, upstream.broken[0]


def job(model: str, **said: object) -> VideoJob:
    return replace(VideoJob(op="video", model=model, prompt="go"), **said)


async def test_the_legacy_standard_takes_what_a_secret_signed(fake: KlingVideo) -> None:
    done = await made(fake, job("kling-v3"), SIGNED)
    assert done.usage.credits == 2


async def test_the_new_standard_takes_the_key_alone(fake: KlingVideo) -> None:
    with pytest.raises(Fault) as caught:
        await made(fake, job("kling-3.0"), SIGNED)
    assert caught.value.kind == "auth"
    assert fake.tasks == 0


PICTURES = ("photo.png", "photo.jpg")
FIRST, SECOND = map(media, PICTURES)
JOBS = {
    "last": job("kling-2.6", first=FIRST, last=SECOND),
    "omni": job("kling-3.0-omni", first=FIRST, references=(SECOND,)),
    "o1": job("kling-o1", references=(FIRST, SECOND)),
    "legacy last": job("kling-v2-5-turbo", first=FIRST, last=SECOND),
    "legacy omni": job("kling-v3-omni", first=FIRST, references=(SECOND,)),
    "legacy several": job("kling-v1-6", references=(FIRST, SECOND)),
}


@pytest.mark.parametrize("ask", JOBS.values(), ids=JOBS)
async def test_every_picture_arrives_as_it_is(fake: KlingVideo, ask: VideoJob) -> None:
    await made(fake, ask)
    assert fake.received == [data(name) for name in PICTURES]


@pytest.mark.parametrize("model", ["kling-3.0-omni", "kling-o1", "kling-v3-omni"])
async def test_an_edit_names_an_address(fake: KlingVideo, model: str) -> None:
    done = await made(fake, job(model, task="edit", origin=CLIP))
    assert done.outputs[0].extra["seconds"] == 5.041


async def test_what_was_made_can_be_extended(fake: KlingVideo) -> None:
    first = await made(fake, job("kling-v1-6"))
    await made(fake, job("kling-v1-6", task="extend", origin=first.outputs[0].extra["origin"]))
    assert fake.tasks == 2


@pytest.mark.parametrize("model", ["kling-3.0", "kling-3.0-omni", "kling-v3", "kling-v3-omni", "kling-v1-6"])
async def test_a_task_is_found_by_our_name_for_it(fake: KlingVideo, model: str) -> None:
    """As where the answer to its submit was lost; a task of another name is none of ours."""
    asked = job(model, mark="task_1-1")
    submit = kling_video.start(asked)
    assert isinstance(submit, Call)
    await sent(fake, submit)
    call = kling_video.look(asked)
    assert call
    assert isinstance(kling_video.found(asked, await sent(fake, call)), Wait)
    other = replace(asked, mark="task_1-2")
    call = kling_video.look(other)
    assert call
    assert kling_video.found(other, await sent(fake, call)) is None


async def sent(fake: KlingVideo, call: Call) -> Reply:
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {GOOD_KEY}"}) as client:
        answer = await client.request(call.method, fake.url + call.path, params=dict(call.query), json=call.json)
    reply = Reply(call=call, status=answer.status_code, data=answer.content)
    kling_video.check(reply)
    return reply


@pytest.mark.parametrize("model", ["kling-3.0", "kling-v3"])
def test_a_name_of_the_clients_own_is_not_looked_for(model: str) -> None:
    """It may be that of another task; it is sent in place of ours."""
    asked = job(model, mark="task_1-1", options={"external_task_id": "mine"})
    call = kling_video.start(asked)
    assert isinstance(call, Call)
    assert "mine" in str(call.json)
    assert "task_1-1" not in str(call.json)
    assert kling_video.look(asked) is None
    assert kling_video.look(job(model)) is None


def test_a_job_without_its_pictures_is_looked_for_only_where_it_surely_went() -> None:
    def left(model: str) -> VideoJob:
        return job(model, mark="task_1-1", prompt="")

    assert kling_video.look(left("kling-v2-6")) is None
    for model in ("kling-3.0", "kling-v3-omni"):
        assert kling_video.look(left(model))


def test_a_picture_that_has_an_address_is_sent_by_it() -> None:
    frame = replace(media("photo.png"), url="https://pictures.example/a.png")
    call = kling_video.start(job("kling-3.0", first=frame))
    assert isinstance(call, Call)
    assert call.json["contents"][1] == {"type": "first_frame", "url": "https://pictures.example/a.png"}


def test_no_task_can_be_stopped() -> None:
    assert load_video("kling").cancel(job("kling-3.0"), Call(path="/tasks", method="GET")) is None
