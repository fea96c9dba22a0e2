"""How videos are made: what is different from other things on the way of a call. A `craft.Craft`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from proxy import inputs, movie, record
from proxy.answer import Picture
from proxy.catalog import Route, Target
from proxy.keeping import kept
from proxy.plan import Note, Plan
from proxy.providers import Makes
from proxy.route import Made
from proxy.sniff import Shape
from proxy.state.ledger import Task
from proxy.video import answer, plan
from proxy.video.ask import Inputs, VideoAsk, without_sources
from proxy.video.plan import expected, job_of, rehearsed
from proxy.video.prepare import as_clip, prepare
from proxy.video.prices import video_cost, video_estimate
from translators.base import Fault, Job, Media, Output
from translators.video import VideoCaps, VideoJob

if TYPE_CHECKING:
    from proxy.gateway import Gateway

MAKES: Makes = "video"
ASK = VideoAsk
INPUTS = Inputs


async def given(gateway: Gateway, route: Route[VideoCaps], ask: VideoAsk, owner: str) -> Inputs:
    """The client's pictures, and the clip that is to be changed."""
    plan.check_possible(ask, route.targets)
    frames = [each for each in (ask.first, ask.last) if each is not None]
    media = list(await inputs.pictures(gateway, [*frames, *ask.references], owner))
    first = media.pop(0) if ask.first is not None else None
    last = media.pop(0) if ask.last is not None else None
    found = Inputs(first=first, last=last, references=tuple(media))
    if ask.clip is not None:
        blob = await inputs.content(gateway, ask.clip, owner, gateway.config.limits.body_bytes)
        film = await asyncio.to_thread(movie.look_at, blob)
        return replace(found, clip=as_clip(blob), origin_seconds=film.seconds if film and film.seconds else None)
    return await with_origin(gateway, found, ask.origin, owner) if ask.origin is not None else found


async def with_origin(gateway: Gateway, found: Inputs, origin: str, owner: str) -> Inputs:
    """What is known of one of our videos: its file, and what its maker calls it."""
    task = await earlier(gateway, origin, owner)
    made = next(iter(record.outputs(task.result)), None)
    if task.status != "completed" or made is None:
        text = f"The video '{origin}' is not there: it is {task.status.replace('_', ' ')}."
        raise Fault("invalid", text, code="video_not_ready", param="video")
    clip = None
    if "id" in made and task.bytes:
        try:
            stored = await gateway.files.open(made["id"])
            clip = Media(blob=await gateway.files.fetched(stored), type=stored.type)
        except Fault as fault:
            if fault.kind != "missing":
                raise
    return replace(
        found, clip=clip, origin=made.get("origin", {}),
        maker=(task.model or "").partition("/")[0], origin_seconds=made.get("seconds"),
    )  # fmt: skip


async def earlier(gateway: Gateway, video: str, owner: str) -> Task:
    """The row of one of our videos, of that key. Raises `Fault("missing")`."""
    id = answer.task_id(video)
    task = await gateway.history.get(id, owner)
    if task is None or task.op != "video":
        raise answer.no_such_video(video)
    return task


def plans(
    ask: VideoAsk, given: Inputs, targets: Sequence[Target[VideoCaps]], strict: bool
) -> tuple[Plan[VideoCaps], ...]:
    """What to ask of which target; of the one that made the video first, which knows it best."""
    own = sorted(targets, key=lambda target: target.upstream.name != given.maker) if given.maker else targets
    made = []
    refused: Fault | None = None
    for each in plan.plans(ask, given, own, strict=strict):
        try:
            rehearsed(job_of(each), each.target)
        except Fault as fault:
            refused = refused or fault
        else:
            made.append(each)
    if refused is not None and not made:
        raise refused
    return tuple(made)


without_inputs = without_sources


def request(ask: VideoAsk, given: Inputs, plans: Sequence[Plan[VideoCaps]], /, *, prompts: bool) -> dict[str, Any]:
    """What its row says of the request."""
    first = plans[0]
    will_be = expected(job_of(first), given, first.target.caps)
    told = answer.request_of(ask, will_be, prompts=prompts, notes=first.notes)
    if images := sum(each is not None for each in (given.first, given.last, *given.references)):
        told["images"] = images
    return told


def most(planned: Plan[VideoCaps], given: Inputs, /) -> float | None:
    """The most US dollars that it may cost; `None` where nothing bounds it."""
    return video_estimate(planned.target.caps, job_of(planned), given.origin_seconds)


async def fit(gateway: Gateway, job: VideoJob, target: Target[VideoCaps]) -> tuple[Job, tuple[Note, ...]]:
    """The job with its pictures as the target takes them."""
    return await prepare(job, target.caps, gateway.pixels)


async def finish(
    gateway: Gateway,
    plan: Plan[VideoCaps],
    output: Output,
    *,
    keep: bool,  # noqa: ARG001  # they are always kept
) -> tuple[Picture, tuple[Note, ...]]:
    """One video, looked at and kept. Raises `Fault("upstream")` where it is none."""
    made = Picture(url=output.url, revised_prompt=output.revised_prompt, extra=output.extra)
    if output.blob is None:
        return made, ()
    try:
        film = await asyncio.to_thread(movie.look_at, output.blob)
    except ValueError:
        film = None
    if film is None:
        raise Fault("upstream", "The provider's answer is no video.", code="unreadable")
    shape = Shape(film.type, film.width, film.height)
    seen = replace(made, blob=output.blob, shape=shape, size=output.blob.length, seconds=film.seconds or None)
    return await kept(gateway, plan, seen, keep=True)


def cost(made: Made, pictures: Sequence[Picture]) -> float | None:
    """What it cost in US dollars; `None` where that is not known."""
    job = made.plan.jobs[0]
    if not isinstance(job, VideoJob) or not pictures:
        return None
    shape = pictures[0].shape
    size = (shape.width, shape.height) if shape and shape.width else None
    return video_cost(made.plan.target.caps.prices, job, pictures[0].seconds, size, made.usage)


def count(gateway: Gateway, made: Made, pictures: Sequence[Picture]) -> None:
    """It is made."""
    target = made.plan.target
    for each in pictures:
        if each.seconds:
            gateway.metrics.count("video_seconds_total", target.upstream.name, target.model, by=each.seconds)
