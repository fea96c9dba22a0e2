"""xAI's video calls, strict: JSON only, each call's own fields, every picture opened, the task told by its status."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar
from uuid import uuid4

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta

from tests.fakes.video import VideoFake
from tests.fakes.xai import Refused, Storage, authorized, opened

Ratio: TypeAlias = Literal["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3"]
NEWER = {"grok-imagine-video-1.5", "grok-imagine-video-1.5-2026-05-30", "grok-imagine-video-1.5-preview"}
LITE = "grok-imagine-video-1.5-lite"
ALL = NEWER | {LITE, "grok-imagine-video"}
NOT_FOUND = "Some requested entity was not found"


class Given(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class Keyframe(msgspec.Struct, forbid_unknown_fields=True):
    image: Given
    timestamp_s: Annotated[float, Meta(gt=0, lt=15)]


class Voice(msgspec.Struct, forbid_unknown_fields=True):
    voice_id: str


class Asked(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    prompt: Annotated[str, Meta(min_length=1)]


class Generate(Asked, kw_only=True):
    duration: Annotated[int, Meta(ge=1, le=15)] = 8
    aspect_ratio: Ratio = "16:9"
    resolution: Literal["480p", "720p", "1080p"] = "480p"
    image: Given | None = None
    last_frame: Given | None = None
    keyframes: Annotated[list[Keyframe], Meta(max_length=4)] | None = None
    reference_images: Annotated[list[Given], Meta(min_length=1, max_length=7)] | None = None
    reference_audios: Annotated[list[Voice], Meta(max_length=3)] | None = None
    generate_audio: bool = True
    storage_options: Storage | None = None
    user: str | None = None


class Edit(Asked, kw_only=True):
    video: Given
    user: str | None = None


class Extend(Asked, kw_only=True):
    video: Given
    duration: Annotated[int, Meta(ge=1, le=10)] = 6


Body = TypeVar("Body", bound=Asked)


@dataclass
class Task:
    prompt: str
    seconds: int
    polls: int = 0


@dataclass
class XaiVideo(VideoFake):
    """A first poll finds nothing to say, a second one a share."""

    name: ClassVar[str] = "xai"
    generates: ClassVar[str] = "grok-imagine-video-1.5"
    frames: ClassVar[str | None] = "grok-imagine-video-1.5"
    path: ClassVar[str] = "/v1"

    begun: dict[str, Task] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/videos/generations", self.generate),
            web.post("/v1/videos/edits", self.edit),
            web.post("/v1/videos/extensions", self.extend),
            web.get("/v1/videos/{name}", self.poll),
            web.get("/files/{name}", self.file),
        ]

    async def generate(self, request: web.Request) -> web.Response:
        try:
            body = await asked(request, Generate)
            fitting(body)
            self.received += [picture(given) for given in pictures(body)]
        except Refused as refused:
            return said(refused)
        return self.begin(body.prompt, body.duration)

    async def edit(self, request: web.Request) -> web.Response:
        try:
            body = await asked(request, Edit)
            clip(body.video)
        except Refused as refused:
            return said(refused)
        return self.begin(body.prompt, 5)

    async def extend(self, request: web.Request) -> web.Response:
        try:
            body = await asked(request, Extend)
            clip(body.video)
        except Refused as refused:
            return said(refused)
        return self.begin(body.prompt, 5 + body.duration)

    def begin(self, prompt: str, seconds: int) -> web.Response:
        name = str(uuid4())
        self.begun[name] = Task(prompt, seconds)
        self.tasks += 1
        return web.json_response({"request_id": name})

    async def poll(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
            name = request.match_info["name"]
            if name not in self.begun:
                raise Refused(404, f"No video request {name}.", NOT_FOUND)
        except Refused as refused:
            return said(refused)
        task = self.begun[name]
        task.polls += 1
        if task.polls == 1:
            return web.Response(status=202)
        if task.polls == 2:
            return web.json_response({"status": "pending", "progress": 40}, status=202)
        if "fail me" in task.prompt:
            error = {"code": "internal_error", "message": "The video could not be generated."}
            return web.json_response({"status": "failed", "error": error})
        video: dict[str, Any] = {
            "url": f"{self.url}/files/{name}.mp4",
            "duration": task.seconds,
            "respect_moderation": True,
        }
        if "refuse me" in task.prompt:
            video = {"respect_moderation": False}
        usage = {"cost_in_usd_ticks": 800_000_000 * task.seconds}
        return web.json_response({"status": "done", "progress": 100, "video": video, "usage": usage})

    async def file(self, request: web.Request) -> web.Response:
        """Open to everybody: whoever brings a credential has leaked it."""
        if "Authorization" in request.headers or request.match_info["name"].removesuffix(".mp4") not in self.begun:
            return web.Response(status=403)
        return web.Response(body=self.video, content_type="video/mp4")


def said(refused: Refused) -> web.Response:
    return web.json_response({"code": refused.code, "error": str(refused)}, status=refused.status)


async def asked(request: web.Request, shape: type[Body]) -> Body:
    """The body of a submit, its credential, its model and the common words."""
    authorized(request)
    try:
        body = msgspec.json.decode(await request.read(), type=shape)
    except msgspec.ValidationError as error:
        if unknown := re.search(r"unknown field `(\w+)`", str(error)):
            raise Refused(400, f"Argument not supported: {unknown[1]}") from None
        raise Refused(422, f"Failed to deserialize the JSON body into the target type: {error}") from None
    if body.model not in ALL:
        raise Refused(404, f"The model {body.model} does not exist.", NOT_FOUND)
    if "rate limit me" in body.prompt:
        raise Refused(429, "Too many requests.", "Some resource has been exhausted")
    return body


def fitting(body: Generate) -> None:
    """What no single member tells."""
    if body.resolution == "1080p" and (body.model == "grok-imagine-video" or body.reference_images):
        raise Refused(400, "1080p is not supported")
    if body.model not in NEWER and (body.last_frame or body.keyframes):
        raise Refused(400, f"The model {body.model} takes no last frame and no keyframes")
    if body.model == LITE and body.reference_images:
        raise Refused(400, f"The model {body.model} takes no reference images")


def pictures(body: Generate) -> list[Given]:
    frames = [frame for frame in (body.image, body.last_frame) if frame]
    return [*frames, *(body.reference_images or ())]


def picture(given: Given) -> bytes:
    """One that came in the body, decoded to its last pixel."""
    opened(given.url)
    return pybase64.b64decode(given.url.partition(",")[2], validate=True)


def clip(given: Given) -> None:
    """An address, or the clip itself."""
    head, comma, rest = given.url.partition(",")
    if given.url.startswith(("http://", "https://")):
        return
    if head != "data:video/mp4;base64" or not comma or pybase64.b64decode(rest, validate=True)[4:8] != b"ftyp":
        raise Refused(400, "Invalid video URL")
