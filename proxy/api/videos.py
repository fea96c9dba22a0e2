"""/v1/videos, as OpenAI has it: a video is a task under another name. Making, looking, lists, files, deletion."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from litestar import HttpMethod, Request, Response, delete, get, post, route
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter
from msgspec import Meta
from msgspec.structs import replace

from proxy import invalid, record
from proxy.answer import Answer
from proxy.api import query
from proxy.api.calling import calling
from proxy.api.making import making, said, wanted_of, watched
from proxy.api.preferring import preference
from proxy.api.schema import Envelope, film_documented
from proxy.api.serving import Served
from proxy.api.serving import answer as served_as
from proxy.api.tasks import delete_with_files, remembering
from proxy.gateway import Gateway
from proxy.standing import Standing, standings
from proxy.state.files import Stored
from proxy.state.history import RUNNING, Filters
from proxy.state.ledger import Task
from proxy.video import answer, stills
from proxy.video.answer import Video, VideoDeleted, VideoList
from proxy.video.ask import VideoAsk, from_form, from_json, no_characters
from proxy.video.movies import earlier
from proxy.video.stills import Still, still_of
from proxy.work import begin
from proxy.works import Work
from translators.base import Fault
from translators.video import Task as Doing

Order: TypeAlias = Literal["asc", "desc"]
Variant: TypeAlias = Literal["video", "thumbnail", "spritesheet"]
Id = Annotated[str, PathParameter(description="The video's id.")]

PATHS = ("/v1/videos", "/openai/v1/videos", "/openai/videos")
ONE = tuple(f"{path}/{{video_id:str}}" for path in PATHS)
PAGE = 20
LINK_SECONDS = 3600  # for which the store's own link to a file opens it
PACE = 5.0  # seconds between two polls of a client's, at least, where a provider is asked


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which videos."""

    limit: Annotated[int, Meta(ge=0, le=100, description=f"How many at most; 0 is the usual {PAGE}.")] = PAGE
    after: Annotated[str | None, Meta(description="The id of the last video of the page before.")] = None
    order: Annotated[Order, Meta(description="`desc`: the newest first.")] = "desc"


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a video."""

    variant: Annotated[Variant, Meta(description="`thumbnail` is a WebP, `spritesheet` a JPEG.")] = "video"


CHOICES = {"order": get_args(Order), "variant": get_args(Variant)}


# ---- making


async def made(request: Request[None, None, State], doing: Doing, origin: str | None = None) -> Answer:
    """Begin a video, and tell of it: it is written down by then."""
    gateway: Gateway = request.app.state.gateway
    caller = await making(request)
    remembering(gateway)
    ask = await said(request, partial(from_form, doing, origin=origin), partial(from_json, doing, origin=origin))
    ask = await settled(gateway, ask, caller.id)
    wish = preference(["respond-async", *request.headers.getall("prefer", [])])  # which goes without saying
    wanted = wanted_of(request, caller, ask, durable=True)
    told = request.scope["state"]["told"] = {"op": ask.op, "task_kind": doing, "asked": ask.model, "size": ask.size}
    if ask.metadata:
        told["metadata"] = ask.metadata
    try:
        work = await watched(begin(gateway, wanted), request)
    except Fault as fault:
        raise answer.of_video(fault) from fault.__cause__
    told["task"] = work.id
    applied = {}
    if wish.wait:
        told["waited"] = await watched(ended_within(gateway, work, wish.wait), request)
        applied = {"preference-applied": f"wait={wish.wait}"}
    task = await earlier(gateway, answer.video_id(work.id), caller.id)
    return await shown(gateway, task, {**work.headers, **applied})


async def settled(gateway: Gateway, ask: VideoAsk, owner: str) -> VideoAsk:
    """It, with the model that made the video that is to be changed, where it names none.

    As that was asked for, where that still leads there: what a key may use is told by such names.
    """
    if ask.origin is None or ask.model is not None:
        return ask
    task = await earlier(gateway, ask.origin, owner)
    with suppress(Fault):
        if any(target.id == task.model for target in gateway.catalog.route(task.asked, "video").targets):
            return replace(ask, model=task.asked)
    return replace(ask, model=task.model or task.asked)


async def ended_within(gateway: Gateway, work: Work, seconds: float) -> bool:
    """Whether it has ended in so many seconds, wherever it runs."""
    end = asyncio.get_running_loop().time() + seconds
    with suppress(TimeoutError):
        async with asyncio.timeout_at(end):
            if running := gateway.works.running.get(work.id):
                with suppress(Fault):
                    await running.wait()
            while True:
                task = await gateway.history.get(work.id)
                if task is None or task.ended is not None:
                    return True
                await asyncio.sleep(LOOK)
    return False


LOOK = 0.5  # seconds between two looks for the end of what another process makes


# ---- telling


async def shown(gateway: Gateway, task: Task, headers: Mapping[str, str]) -> Answer:
    """One video, and in the headers when to ask again while it is made."""
    known = await standings(gateway.database, gateway.works.running, [task])
    video = described(gateway, task, known[task.id])
    said = {"x-pictor-task": task.id}
    if video.served_by:
        said["x-pictor-model"] = video.served_by
    if video.adjusted:
        said["x-pictor-adjusted"] = "; ".join(video.adjusted)
    if task.ended is None:
        seconds = look_after(gateway, task, known[task.id])
        said |= {"openai-poll-after-ms": str(round(seconds * 1000)), "retry-after": str(math.ceil(seconds))}
    elif video.cost_usd is not None:
        said["x-pictor-cost-usd"] = f"{video.cost_usd:.6f}".rstrip("0").rstrip(".")
    return Answer(200, [msgspec.json.encode(video)], {**headers, **said})


def described(gateway: Gateway, task: Task, standing: Standing) -> Video:
    """The video of that row."""
    return answer.described(task, progress=standing.progress, retention=gateway.config.files.retention)


def look_after(gateway: Gateway, task: Task, standing: Standing) -> float:
    """In how many seconds it may be worth asking again. OpenAI's Python client keeps to what it hears first.

    A video takes a minute as a rule, and only one that is made here less.
    """
    pace = 0.0
    with suppress(Fault):
        upstream = gateway.catalog.route(task.model, "video").targets[0].upstream
        pace = min(PACE, upstream.poll_seconds) if upstream.base else 0.0
    return max(pace, standing.seconds)


def told(found: msgspec.Struct) -> Answer:
    """It as JSON."""
    return Answer(200, [msgspec.json.encode(found)], {})


async def owned(request: Request[Any, Any, State], video_id: str) -> tuple[Gateway, Task]:
    """The server's parts, and the row of a video of this key's. Raises `Fault("missing")`."""
    gateway: Gateway = request.app.state.gateway
    caller = await calling(request)
    remembering(gateway)
    return gateway, await earlier(gateway, video_id, caller.id)


def asked(request: Request[Any, Any, State], shape: type[query.T]) -> query.T:
    """The query, without what Azure's clients put there."""
    pairs = (pair for pair in request.query_params.multi_items() if pair[0] != "api-version")
    return query.read(pairs, shape, CHOICES)


# ---- the file


async def file_of(gateway: Gateway, task: Task, video_id: str) -> Stored:
    """What was made. Raises `Fault("missing")` where there is nothing (yet, or any more)."""
    if task.status in RUNNING:
        raise answer.not_ready(video_id)
    outputs = record.outputs(task.result)
    id = outputs[0].get("id") if outputs else None
    if task.status != "completed" or id is None:
        raise answer.nothing_made(video_id, task)
    try:
        return await gateway.files.open(id)
    except Fault as fault:
        if fault.kind != "missing":
            raise
        raise answer.no_file(video_id) from fault


async def pictured(request: Request[Any, Any, State], gateway: Gateway, stored: Stored, still: Still) -> Response[Any]:
    """A picture of it, made once and kept beside it."""
    picture = await still_of(gateway.files, gateway.works, stored, still)
    served = Served(
        tag=f"{stored.id}.{still.name}", type=still.type, size=picture.length, modified=stored.modified,
        name=f"{stored.id.rpartition('.')[0]}-{still.name}.{still.extension}", max_age=0,
    )  # fmt: skip

    async def bytes_of(start: int, stop: int) -> Any:
        yield picture.bytes()[start:stop]

    return served_as(request, served, bytes_of)


# ---- the routes


def responses(shape: type[msgspec.Struct] | None, what: str, *, making: bool = False) -> dict[int, ResponseSpec]:
    """What `/schema` tells of the answers."""
    wrong = {
        400: "What is wrong with the request.",
        401: "No key, or not a good one.",
        404: "No such video of this key.",
    } | ({413: "The body is too large.", 429: "A limit, or a budget."} if making else {})
    found = {} if shape is None else {200: ResponseSpec(shape, generate_examples=False, description=what)}
    return found | {
        status: ResponseSpec(Envelope, generate_examples=False, description=text) for status, text in wrong.items()
    }


MADE = responses(Video, "The video, which is being made.", making=True)


@post(list(PATHS), status_code=200, tags=["Videos"], responses=MADE, operation_class=film_documented("create"))
async def create(request: Request[None, None, State]) -> Answer:
    """Make a video from a prompt, frames, reference images."""
    return await made(request, "create")


@post(
    [f"{path}/edits" for path in PATHS], status_code=200, tags=["Videos"], responses=MADE,
    operation_class=film_documented("edit"),
)  # fmt: skip
async def edit(request: Request[None, None, State]) -> Answer:
    """Change a video: one of yours by its id, or a file."""
    return await made(request, "edit")


@post(
    [f"{path}/extensions" for path in PATHS], status_code=200, tags=["Videos"], responses=MADE,
    operation_class=film_documented("extend"),
)  # fmt: skip
async def extend(request: Request[None, None, State]) -> Answer:
    """Go on with a video: one of yours by its id, or a file."""
    return await made(request, "extend")


@post(
    [f"{path}/remix" for path in ONE], status_code=200, tags=["Videos"], responses=MADE,
    operation_class=film_documented("remix"),
)  # fmt: skip
async def remix(request: Request[None, None, State], video_id: Id) -> Answer:
    """Make one of your videos once more, by another prompt."""
    return await made(request, "remix", origin=video_id)


@get(
    list(PATHS), tags=["Videos"], responses=responses(VideoList, "A page of this key's videos."),
    operation_class=query.documented(Query),
)  # fmt: skip
async def page(request: Request[None, None, State]) -> Answer:
    """This key's videos."""
    gateway: Gateway = request.app.state.gateway
    caller = await calling(request)
    remembering(gateway)
    wanted = asked(request, Query)
    after = None if wanted.after is None else cursor(wanted.after)
    found = await gateway.history.page(
        caller.id, wanted.limit or PAGE, after=after, oldest_first=wanted.order == "asc", filters=Filters(op="video")
    )
    known = await standings(gateway.database, gateway.works.running, found.tasks)
    videos = [described(gateway, task, known[task.id]) for task in found.tasks]
    return told(answer.page(videos, more=found.more))


def cursor(video_id: str) -> str:
    """Where a page begins. It need not be there any more. Raises `Fault("invalid")` for what is no id."""
    try:
        return answer.task_id(video_id)
    except Fault as fault:
        text = f"Invalid 'after': '{invalid.clip(video_id)}' is no id of a video."
        raise invalid.invalid_value("after", text) from fault


@get(list(ONE), tags=["Videos"], responses=responses(Video, "The video."))
async def retrieve(request: Request[None, None, State], video_id: Id) -> Answer:
    """One video: how far it is."""
    gateway, task = await owned(request, video_id)
    return await shown(gateway, task, {})


@delete(list(ONE), status_code=200, tags=["Videos"], responses=responses(VideoDeleted, "It is gone."))
async def remove(request: Request[None, None, State], video_id: Id) -> Answer:
    """Delete a video that has been made, or has failed. What it cost stays counted."""
    gateway, task = await owned(request, video_id)
    if task.status in RUNNING:
        raise answer.still_made(video_id, task)
    await delete_with_files(gateway, task)
    return told(VideoDeleted(id=video_id))


@route(
    [f"{path}/content" for path in ONE], http_method=[HttpMethod.GET, HttpMethod.HEAD], tags=["Videos"],
    media_type="*/*", summary="A video's file", responses=responses(None, ""), operation_class=query.documented(Part),
)  # fmt: skip
async def content(request: Request[Any, Any, State], video_id: Id) -> Response[Any]:
    """The video, or a picture of it: its bytes, whole or one range of them."""
    gateway, task = await owned(request, video_id)
    variant = asked(request, Part).variant
    stored = await file_of(gateway, task, video_id)
    if variant != "video":
        return await pictured(request, gateway, stored, stills.STILLS[variant])
    if request.method == "GET" and (url := await gateway.files.presigned(stored.id, LINK_SECONDS)):
        return Response(b"", status_code=307, headers={"location": url, "cache-control": "no-store"})
    served = Served(
        tag=stored.id, type=stored.type, size=stored.size, modified=stored.modified,
        name=f"{video_id}.{stored.id.rpartition('.')[2]}", max_age=0,
    )  # fmt: skip
    return served_as(request, served, partial(gateway.files.read, stored.id))


@post([f"{path}/characters" for path in PATHS], tags=["Videos"], responses=responses(None, ""))
async def create_character(request: Request[None, None, State]) -> None:
    """No provider makes characters: the answer says what to do instead."""
    await calling(request)
    raise no_characters()


@get([f"{path}/characters/{{character_id:str}}" for path in PATHS], tags=["Videos"], responses=responses(None, ""))
async def character(request: Request[None, None, State]) -> None:
    """The same."""
    await calling(request)
    raise no_characters()


HANDLERS = [create, edit, extend, remix, page, retrieve, remove, content, create_character, character]
