"""Ark's video tasks, strict: each model's own fields, lengths and roles, every picture opened, 2.5's rules."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.video import VideoFake
from tests.fakes.volcengine import Refused, authorized, invalid
from translators.video import VideoJob


class Url(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class Text(msgspec.Struct, forbid_unknown_fields=True, tag="text"):
    text: Annotated[str, Meta(min_length=1)]


class Picture(msgspec.Struct, forbid_unknown_fields=True, tag="image_url"):
    image_url: Url
    role: Literal["first_frame", "last_frame", "reference_image"] = "first_frame"


class Clip(msgspec.Struct, forbid_unknown_fields=True, tag="video_url"):
    video_url: Url
    role: Literal["reference_video"]


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["web_search"]


Part: TypeAlias = Text | Picture | Clip


class Ask(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every field that some model takes."""

    model: str
    content: Annotated[list[Part], Meta(min_length=1)]
    resolution: Literal["480p", "720p", "1080p", "4k"] | None = None
    ratio: Literal["16:9", "4:3", "1:1", "3:4", "9:16", "21:9", "adaptive"] | None = None
    duration: int | None = None
    seed: Annotated[int, Meta(ge=-1, le=(1 << 32) - 1)] | None = None
    camera_fixed: bool | None = None
    watermark: bool | None = None
    generate_audio: bool | None = None
    return_last_frame: bool | None = None
    service_tier: Literal["default", "flex"] | None = None
    execution_expires_after: Annotated[int, Meta(ge=3600, le=259_200)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=64)] | None = None
    tools: list[Tool] | None = None
    omni_reference_task_type: Literal["auto", "reference", "edit", "extend"] | None = None


@dataclass(frozen=True)
class Model:
    """What one model takes beyond `COMMON`."""

    fields: frozenset[str]
    seconds: tuple[int, int]
    resolutions: tuple[str, ...]
    auto: bool = True  # the length may be -1
    roles: frozenset[str] = frozenset()  # of pictures
    references: int = 0
    clips: int = 0
    text: bool = True


COMMON = frozenset(
    {"model", "content", "resolution", "ratio", "duration", "seed", "watermark", "return_last_frame",
     "execution_expires_after", "safety_identifier"}
)  # fmt: skip
OLD, SOUND, NEW = frozenset({"camera_fixed", "service_tier"}), frozenset({"generate_audio"}), frozenset({"tools"})
FIRST = frozenset({"first_frame"})
FRAMES = FIRST | {"last_frame"}
ALL = FRAMES | {"reference_image"}
TO_1080 = ("480p", "720p", "1080p")
NAME = r"(doubao-|dreamina-)?seedance-"
MODELS = {
    "2-5-260628": Model(SOUND | NEW | {"omni_reference_task_type"}, (4, 30), TO_1080, True, ALL, 30, 10),
    "2-0-260128": Model(SOUND | NEW, (4, 15), (*TO_1080, "4k"), True, ALL, 9, 3),
    "2-0-(fast-260128|mini-260615)": Model(SOUND | NEW, (4, 15), TO_1080[:2], True, ALL, 9, 3),
    "1-5-pro-251215": Model(SOUND | OLD, (4, 12), TO_1080, True, FRAMES),
    "1-0-pro-250528": Model(OLD, (2, 12), TO_1080, False, FRAMES),
    "1-0-pro-fast-251015": Model(OLD, (2, 12), TO_1080, False, FIRST),
    "1-0-lite-t2v-250428": Model(OLD, (2, 12), TO_1080, False),
    "1-0-lite-i2v-250428": Model(OLD, (2, 12), TO_1080, False, ALL, 4, text=False),
}


@dataclass
class Task:
    """One task on its way, and how it will end."""

    ask: Ask
    fails: bool
    status: str = "queued"


@dataclass
class VolcengineVideo(VideoFake):
    name: ClassVar[str] = "volcengine"
    generates: ClassVar[str] = "doubao-seedance-2-5-260628"
    frames: ClassVar[str | None] = "doubao-seedance-2-5-260628"
    path: ClassVar[str] = "/api/v3"

    begun: dict[str, Task] = field(default_factory=dict)

    def stoppable(self) -> VideoJob:
        return self.job("a cat walks")

    def routes(self) -> list[web.RouteDef]:
        tasks = f"{self.path}/contents/generations/tasks"
        return [
            web.post(tasks, self.create),
            web.get(f"{tasks}/{{id}}", self.query),
            web.delete(f"{tasks}/{{id}}", self.delete),
            web.get("/made.mp4", self.made),
        ]

    async def create(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
            ask, model = read(await request.read())
            pictures = content(ask, model)
            fitting(ask, model)
        except Refused as refused:
            return no(refused)
        self.received += pictures
        self.tasks += 1
        number = f"cgt-20261120100000-{self.tasks:05}"
        self.begun[number] = Task(ask, "fail me" in prompt(ask))
        return web.json_response({"id": number})

    async def query(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
            task = self.known(request)
        except Refused as refused:
            return no(refused)
        said: dict[str, Any] = {
            "id": request.match_info["id"], "model": task.ask.model, "status": task.status, "created_at": 1_763_600_000,
            "updated_at": 1_763_600_090, "service_tier": "default", "execution_expires_after": 172_800,
        }  # fmt: skip
        if task.status == "failed":
            said["error"] = {"code": "InternalServiceError", "message": "An internal error occurred. Request id: 0217"}
        if task.status == "succeeded":
            said["content"] = {"video_url": f"{self.url}/made.mp4"}
            if task.ask.return_last_frame:
                said["content"]["last_frame_url"] = f"{self.url}/last.png"
            said["usage"] = {"completion_tokens": 108_900, "total_tokens": 108_900}
            said["duration"] = max(task.ask.duration or 5, 5)
        ended = "failed" if task.fails else "succeeded"
        task.status = {"queued": "running", "running": ended}.get(task.status, task.status)
        return web.json_response(said)

    async def delete(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
            task = self.known(request)
            if task.status in {"running", "cancelled"}:
                raise Refused("InvalidAction", f"A task that is {task.status} cannot be deleted.", status=409)
        except Refused as refused:
            return no(refused)
        if task.status == "queued":
            task.status = "cancelled"
            self.stopped += 1
        else:
            del self.begun[request.match_info["id"]]
        return web.json_response({})

    async def made(self, request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.Response(body=self.video, content_type="video/mp4")

    def known(self, request: web.Request) -> Task:
        if task := self.begun.get(request.match_info["id"]):
            return task
        raise Refused("NotFound", "The specified task is not found. Request id: 0217", status=404)


def no(refused: Refused) -> web.Response:
    error = {"code": refused.code, "message": refused.message, "param": refused.param, "type": "BadRequest"}
    return web.json_response({"error": error}, status=refused.status)


def read(data: bytes) -> tuple[Ask, Model]:
    """The body, with no field that its model does not take."""
    try:
        ask = msgspec.json.decode(data, type=Ask)
    except msgspec.DecodeError as error:
        found = re.search(r"`\$?\.?(\w+)[^`]*`$", str(error)) or re.search(r"field `(\w+)`", str(error))
        raise invalid(found[1] if found else "", str(error)) from error
    model = next((model for name, model in MODELS.items() if re.fullmatch(NAME + name, ask.model)), None)
    if model is None:
        text = f"The model or endpoint {ask.model} does not exist or you do not have access to it. Request id: 0217"
        raise Refused("InvalidEndpointOrModel.NotFound", text, status=404)
    for name in ask.__struct_fields__:
        if name not in COMMON | model.fields and getattr(ask, name) is not None:
            raise invalid(name, "it is not supported by the current model")
    return ask, model


def prompt(ask: Ask) -> str:
    return " ".join(part.text for part in ask.content if isinstance(part, Text))


def content(ask: Ask, model: Model) -> list[bytes]:
    """The pictures, in their order; what the common words ask for."""
    said = prompt(ask)
    if "refuse me" in said:
        text = "The request failed because the input text may contain sensitive information. Request id: 0217"
        raise Refused("InputTextSensitiveContentDetected", text)
    if "rate limit me" in said:
        text = "The request has exceeded the requests per minute limit of the model. Request id: 0217"
        raise Refused("RateLimitExceeded.EndpointRPMExceeded", text, status=429)
    pictures = [part for part in ask.content if isinstance(part, Picture)]
    clips = [part for part in ask.content if isinstance(part, Clip)]
    roles = [part.role for part in pictures]
    if len(ask.content) - len(pictures) - len(clips) > 1:
        raise invalid("content", "more than one text")
    if not set(roles) <= model.roles or roles.count("reference_image") > model.references or len(clips) > model.clips:
        raise invalid("content", "these media are not supported by the current model")
    if roles not in ([], ["first_frame"], ["first_frame", "last_frame"]) and set(roles) != {"reference_image"}:
        raise invalid("content", "first/last frame content cannot be mixed with reference media content")
    if clips and FRAMES & set(roles):
        raise invalid("content", "first/last frame content cannot be mixed with reference media content")
    if not (said or pictures) or not (model.text or pictures):
        raise Refused("MissingParameter", "The request is missing `content`. Request id: 0217", param="content")
    if any(not re.match(r"https?://|asset://", part.video_url.url) for part in clips):
        raise invalid("content", "video_url must be a URL")
    return [opened(part.image_url.url) for part in pictures]


def opened(url: str) -> bytes:
    found = re.fullmatch(r"data:image/(jpeg|png|webp|bmp|tiff|gif);base64,(.+)", url, re.DOTALL)
    if not found:
        raise Refused("InvalidImageURL.InvalidFormat", "The image is not a data URL. Request id: 0217", param="content")
    data = pybase64.b64decode(found[2], validate=True)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (UnidentifiedImageError, OSError) as error:
        raise invalid("content", f"it cannot be decoded: {error}") from error
    if (image.format or "").lower() != found[1]:
        raise invalid("content", f"it is {image.format}, not {found[1]}")
    return data


def fitting(ask: Ask, model: Model) -> None:
    """Length, resolution and ratio, for this model and beside these media."""
    kinds = {part.role for part in ask.content if not isinstance(part, Text)}
    if ask.resolution and ask.resolution not in model.resolutions:
        raise invalid("resolution", "it is not supported by the current model")
    if ask.resolution == "1080p" and "lite" in ask.model and "reference_image" in kinds:
        raise invalid("resolution", "1080p is not supported with reference images")
    least, most = model.seconds
    if ask.duration is not None and not (least <= ask.duration <= most or (ask.duration == -1 and model.auto)):
        raise invalid("duration", f"must be in [{least}, {most}]")
    if "seedance-2-5" not in ask.model:
        return
    changes = ask.omni_reference_task_type in {"edit", "extend"}
    if changes and "reference_video" not in kinds:
        raise Refused("InvalidParameter.TaskTypeConstraint", "edit and extend need a reference video", param="content")
    if (changes or kinds & FRAMES) and ask.ratio not in {None, "adaptive"}:
        raise Refused("InvalidParameter.TaskTypeConstraint", "ratio must be adaptive", param="ratio")
    if ask.omni_reference_task_type == "edit" and ask.duration != -1:
        raise Refused("InvalidParameter.TaskTypeConstraint", "duration must be -1", param="duration")
