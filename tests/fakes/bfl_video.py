"""Black Forest Labs' videos, strict: each mode's own members, every picture opened, no resolution for a draft."""

from __future__ import annotations

import binascii
import io
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from uuid import uuid4

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY
from tests.fakes.bfl import Invalid, detail, read
from tests.fakes.video import VideoFake

Four: TypeAlias = Annotated[int, Meta(ge=0, le=4)]


class Scene(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    mode: Literal["t2v", "i2v", "v2v"]
    prompt: str
    aspect_ratio: Literal["auto", "21:9", "2:1", "16:9", "4:3", "1:1", "3:4", "9:16"] = "auto"
    duration: Annotated[int, Meta(ge=5, le=20)] | None = None
    resolution: Literal["hd", "fhd"] | None = None
    generate_audio: bool = True
    safety_tolerance: Four = 2
    draft: bool = False
    keyframes: Annotated[list[str | tuple[float, str]], Meta(min_length=1, max_length=10)] | None = None
    start_video: str | None = None
    version: str = "latest"


class Enhance(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    mode: Literal["draft_enhance"]
    draft_cache: str
    safety_tolerance: Four = 2


class Edit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    video: str
    prompt: str
    safety_tolerance: Four = 2


class Upscale(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    input_video: str
    prompt: str = ""
    creativity: Annotated[int, Meta(ge=0, le=1)] = 1
    upscale_factor: Annotated[float, Meta(ge=1.5, le=3)] = 2
    safety_tolerance: Four = 2


TOOLS: dict[str, type[msgspec.Struct]] = {"video-edit-v1": Edit, "video-upscale-v1": Upscale}


class Mode(msgspec.Struct):
    mode: str | None = None


@dataclass
class Task:
    prompt: str
    draft: bool
    polls: int = 0


@dataclass
class BflVideo(VideoFake):
    """`flux-3-video` and the tools. A refusal is told with status 503, as FLUX 3 does."""

    name: ClassVar[str] = "bfl"
    generates: ClassVar[str] = "flux-3-video"
    frames: ClassVar[str | None] = "flux-3-video"

    begun: dict[str, Task] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/flux-3-video", self.scene),
            web.post("/v1/flux-tools/{tool}", self.tool),
            web.get("/v1/get_result", self.poll),
            web.get("/files/{name}", self.file),
        ]

    async def scene(self, request: web.Request) -> web.Response:
        mode = msgspec.json.decode(await request.read(), type=Mode).mode
        return await self.submit(request, Enhance if mode == "draft_enhance" else Scene)

    async def tool(self, request: web.Request) -> web.Response:
        shape = TOOLS.get(request.match_info["tool"])
        return await self.submit(request, shape) if shape else detail(404, "Not Found")

    async def submit(self, request: web.Request, shape: type[msgspec.Struct]) -> web.Response:
        if request.headers.get("x-key") != GOOD_KEY:
            return detail(403, "Not authenticated")
        try:
            body = read(await request.read(), shape)
            if isinstance(body, Scene):
                fitting(body)
                self.received += [picture(frame) for frame in body.keyframes or ()]
            clip(body)
        except Invalid as error:
            return detail(422, [error.entry])
        prompt = str(getattr(body, "prompt", ""))
        if "rate limit me" in prompt:
            return detail(429, "Rate limit exceeded: 24 active tasks")
        name = str(uuid4())
        self.begun[name] = Task(prompt, bool(getattr(body, "draft", False)))
        self.tasks += 1
        url = f"{self.url}/v1/get_result?id={name}"
        return web.json_response({"id": name, "polling_url": url, "cost": 85.0, "input_mp": 0.0, "output_mp": 0.0})

    async def poll(self, request: web.Request) -> web.Response:
        if request.headers.get("x-key") != GOOD_KEY:
            return detail(403, "Not authenticated")
        name = request.query.get("id", "")
        task = self.begun.get(name)
        if task is None:
            return web.json_response({"id": name, "status": "Task not found", "result": None})
        task.polls += 1
        answer: dict[str, Any] = {"id": name, "result": None, "progress": None, "details": None, "preview": None}
        if task.polls == 1:
            return web.json_response(answer | {"status": "Pending"})
        if task.polls == 2:
            return web.json_response(answer | {"status": "Generating", "progress": 0.4})
        if "refuse me" in task.prompt:
            reasons = {"Moderation Reasons": ["Violence"]}
            return web.json_response(answer | {"status": "Request Moderated", "details": reasons}, status=503)
        if "fail me" in task.prompt:
            return web.json_response(answer | {"status": "Error", "details": "out of memory"})
        result = {"sample": f"{self.url}/files/{name}.mp4?sig=good", "prompt": task.prompt}
        if task.draft:
            result["draft_cache"] = f"{self.url}/files/{name}.bin?sig=good"
        return web.json_response(answer | {"status": "Ready", "result": result, "progress": 1.0, "cost": 85.0})

    async def file(self, request: web.Request) -> web.Response:
        """A pre-signed address: whoever brings a credential has leaked it."""
        if request.query.get("sig") != "good" or {"x-key", "Authorization"} & request.headers.keys():
            return web.Response(status=403, text="<Error><Code>AuthenticationFailed</Code></Error>")
        return web.Response(body=self.video, content_type="video/mp4")


def fitting(body: Scene) -> None:
    """What belongs to a mode, and what excludes each other."""
    if (body.mode == "i2v") != (body.keyframes is not None):
        raise Invalid("keyframes", "Keyframes belong to i2v, which needs them")
    if (body.mode == "v2v") != (body.start_video is not None):
        raise Invalid("start_video", "A start video belongs to v2v, which needs one")
    if body.mode == "v2v" and (body.duration or 0) > 15:
        raise Invalid("duration", "Input should be less than or equal to 15", "less_than_equal")
    if body.draft and body.resolution:
        raise Invalid("resolution", "A draft takes no resolution")
    untimed = [frame for frame in body.keyframes or () if isinstance(frame, str)]
    if len(untimed) > 2 and body.duration is None:
        raise Invalid("duration", "Three keyframes without times need a duration")


def picture(frame: str | tuple[float, str]) -> bytes:
    """A keyframe that came in the body, decoded to its last pixel."""
    text = frame if isinstance(frame, str) else frame[1]
    try:
        data = pybase64.b64decode(text, validate=True)
        Image.open(io.BytesIO(data)).load()
    except (binascii.Error, UnidentifiedImageError, OSError):
        raise Invalid("keyframes", "Invalid image data") from None
    return data


def clip(body: msgspec.Struct) -> None:
    """The clip of a body that has one: an address, or bare base64 of an MP4."""
    for name in ("start_video", "video", "input_video"):
        text = getattr(body, name, None)
        if text is None or text.startswith("https://"):
            continue
        try:
            data = pybase64.b64decode(text, validate=True)
        except binascii.Error:
            raise Invalid(name, "Invalid video data") from None
        if data[4:8] != b"ftyp":
            raise Invalid(name, "Invalid video data")
