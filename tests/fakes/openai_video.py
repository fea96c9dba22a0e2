"""A server that still makes videos as OpenAI did, strict: a form with the fields of the last SDK, and no others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from tests.fakes.openai import TYPES, Received, Refused, authorized, explained, opened, read_form, refusal
from tests.fakes.video import VideoFake
from translators.video import VideoJob

CREATED = 1_763_600_000

Prompt: TypeAlias = Annotated[str, Meta(min_length=1, max_length=32_000)]


class Create(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: Prompt
    model: Literal["sora-2", "sora-2-pro"] = "sora-2"
    seconds: Literal["4", "8", "12"] = "4"
    size: Literal["720x1280", "1280x720", "1024x1792", "1792x1024"] = "720x1280"


class Earlier(msgspec.Struct, forbid_unknown_fields=True):
    id: str


class Change(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a remix, an edit, an extension; its video stands in the path, in it, or beside it as a file."""

    prompt: Prompt
    seconds: Literal["4", "8", "12", "16", "20"] | None = None
    video: Earlier | None = None


@dataclass
class Work:
    ask: Create
    polls: int = 0
    remixed: str | None = None


@dataclass
class OpenAIVideo(VideoFake):
    """What it makes is had with the credential, from its own address alone."""

    name: ClassVar[str] = "openai"
    path: ClassVar[str] = "/v1"
    generates: ClassVar[str] = "sora-2"
    frames: ClassVar[str | None] = "sora-2"

    works: dict[str, Work] = field(default_factory=dict)
    clips: list[bytes] = field(default_factory=list)

    def job(self, prompt: str) -> VideoJob:
        return replace(super().job(prompt), site={"base_url": f"{self.url}{self.path}"})

    def stoppable(self) -> VideoJob:
        """At a server that stops what it deletes."""
        job = self.job("a cat walks")
        return replace(job, site={**job.site, "dialect": "vllm-omni"})

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/videos", self.answer(self.create)),
            web.post("/v1/videos/{id}/remix", self.answer(self.remix)),
            web.post("/v1/videos/edits", self.answer(self.change)),
            web.post("/v1/videos/extensions", self.answer(self.change)),
            web.get("/v1/videos/{id}", self.answer(self.poll)),
            web.delete("/v1/videos/{id}", self.answer(self.delete)),
            web.get("/v1/videos/{id}/content", self.answer(self.content)),
        ]

    def answer(self, handler: Any) -> Any:
        async def answered(request: web.Request) -> web.Response:
            try:
                authorized(request)
                response: web.Response = await handler(request)
            except Refused as refused:
                return refusal(refused)
            return response

        return answered

    async def create(self, request: web.Request) -> web.Response:
        texts, files = await read_form(request)
        try:
            ask = msgspec.convert(texts, Create)
        except msgspec.ValidationError as error:
            raise explained(str(error)) from error
        frames = [framed(part) for part in files]
        if len(frames) > 1:
            raise Refused("Give one 'input_reference'.", param="input_reference")
        if "rate limit me" in ask.prompt:
            text = "Rate limit reached for sora-2. Please try again in 1s."
            raise Refused(text, code="rate_limit_exceeded", status=429, kind="requests")
        self.received += frames
        return self.begin(Work(ask))

    def begin(self, work: Work) -> web.Response:
        self.tasks += 1
        name = f"video_{self.tasks:032x}"
        self.works[name] = work
        return web.json_response(shown(name, work, "queued"))

    async def remix(self, request: web.Request) -> web.Response:
        earlier, work = self.work(request)
        asked = changing(await request.read())
        if asked.video or asked.seconds:
            raise Refused("Unknown parameter.", code="unknown_parameter")
        return self.begin(Work(replace(work.ask, prompt=asked.prompt), remixed=earlier))

    async def change(self, request: web.Request) -> web.Response:
        """An edit keeps the length; an extension says by how much it is to be longer."""
        extends = request.path.endswith("/extensions")
        if request.content_type == "application/json":
            asked = changing(await request.read())
        else:
            texts, files = await read_form(request)
            asked = changing(msgspec.json.encode(texts))
            if [part.name for part in files] != ["video"] or asked.video:
                raise Refused("Give one 'video'.", param="video")
            self.clips += [part.data for part in files]
        if asked.video and asked.video.id not in self.works:
            raise Refused(f"Video with id '{asked.video.id}' not found.", code=None, status=404)
        if asked.seconds and not extends:
            raise Refused("Unknown parameter: 'seconds'.", code="unknown_parameter", param="seconds")
        return self.begin(Work(Create(prompt=asked.prompt), remixed=asked.video.id if asked.video else None))

    def work(self, request: web.Request) -> tuple[str, Work]:
        name = request.match_info["id"]
        if name not in self.works:
            raise Refused(f"Video with id '{name}' not found.", code=None, status=404)
        return name, self.works[name]

    async def poll(self, request: web.Request) -> web.Response:
        name, work = self.work(request)
        work.polls += 1
        if work.polls < 3:
            return web.json_response(shown(name, work, ("queued", "in_progress")[work.polls - 1]))
        if "refuse me" in work.ask.prompt:
            error = {"code": "moderation_blocked", "message": "Your request was blocked by our moderation system."}
            return web.json_response(shown(name, work, "failed") | {"error": error})
        if "fail me" in work.ask.prompt:
            error = {"code": "internal_error", "message": "An internal error occurred."}
            return web.json_response(shown(name, work, "failed") | {"error": error})
        return web.json_response(shown(name, work, "completed"))

    async def delete(self, request: web.Request) -> web.Response:
        """Stops it, and forgets it."""
        name, work = self.work(request)
        if work.polls < 3:
            self.stopped += 1
        del self.works[name]
        return web.json_response({"id": name, "object": "video.deleted", "deleted": True})

    async def content(self, request: web.Request) -> web.Response:
        _, work = self.work(request)
        if work.polls < 3:
            raise Refused("Video is not ready yet, use GET /v1/videos/{video_id} to check status.", status=404)
        return web.Response(body=self.video, content_type="video/mp4")


def changing(body: bytes) -> Change:
    try:
        return msgspec.json.decode(body, type=Change)
    except msgspec.ValidationError as error:
        raise explained(str(error)) from error


def framed(part: Received) -> bytes:
    """The first frame, which was looked at."""
    if part.name != "input_reference":
        raise Refused(f"Unknown parameter: '{part.name}'.", code="unknown_parameter", param=part.name)
    opened(part, part.name, TYPES)
    return part.data


def shown(name: str, work: Work, status: str) -> dict[str, Any]:
    progress = {"queued": 0, "in_progress": 50}.get(status, 100)
    ended = CREATED + 90 if status == "completed" else None
    return {
        "id": name, "object": "video", "model": work.ask.model, "status": status, "progress": progress,
        "created_at": CREATED, "completed_at": ended, "expires_at": ended and ended + 86_400,
        "prompt": work.ask.prompt, "size": work.ask.size, "seconds": work.ask.seconds,
        "remixed_from_video_id": work.remixed, "error": None,
    }  # fmt: skip
