"""Kling's videos, strict, in both standards: every body is read into its operation's own struct, pictures are opened.

The new standard takes the key alone, the legacy one also what the access key's secret signed.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY
from tests.fakes.kling import Marked, Refused, authorized
from tests.fakes.video import VideoFake

Ratio: TypeAlias = Literal["16:9", "9:16", "1:1"]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=3072)]
Words: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2500)]


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Refuses what it does not know."""


# ---- the new standard


class Settings(Strict, kw_only=True):
    resolution: Literal["720p", "1080p", "4k"] = "720p"
    aspect_ratio: Ratio | None = None
    duration: Annotated[int, Meta(ge=3, le=15)] = 5
    audio: Literal["native", "original", "off"] | None = None
    multi_shot: bool | None = None


class Options(Strict, kw_only=True):
    external_task_id: str | None = None
    callback_url: str | None = None
    watermark_info: Marked | None = None


class Entry(Strict, kw_only=True):
    type: Literal["prompt", "first_frame", "last_frame", "refer_image", "feature_video", "base_video", "element",
                  "voice"]  # fmt: skip
    text: Text | None = None
    url: str | None = None
    id: str | None = None
    element_id: str | None = None
    voice_id: str | None = None


class FromText(Strict, kw_only=True):
    prompt: Text
    settings: Settings = msgspec.field(default_factory=Settings)
    options: Options = msgspec.field(default_factory=Options)


class FromContents(Strict, kw_only=True):
    contents: Annotated[list[Entry], Meta(min_length=1)]
    settings: Settings = msgspec.field(default_factory=Settings)
    options: Options = msgspec.field(default_factory=Options)


SHARED = frozenset({"prompt", "first_frame"})
MODELS = {
    "text-to-video": dict.fromkeys(
        ("kling-3.0-turbo", "kling-3.0", "kling-2.6", "kling-2.5-turbo"), frozenset({"prompt"})
    ),
    "image-to-video": {
        "kling-3.0-turbo": SHARED,
        "kling-3.0": SHARED | {"last_frame", "element"},
        "kling-2.6": SHARED | {"last_frame", "voice"},
        "kling-2.5-turbo": SHARED | {"last_frame"},
    },
    "omni-video": dict.fromkeys(
        ("kling-3.0-omni", "kling-o1"),
        SHARED | {"last_frame", "refer_image", "feature_video", "base_video", "element"},
    ),
}
"""What `contents` may hold."""
SOUNDS = {"kling-3.0": {"native", "off"}, "kling-2.6": {"native", "off"}, "kling-o1": {"original", "off"},
          "kling-3.0-omni": {"native", "original", "off"}}  # fmt: skip

# ---- the legacy one


class Old(Strict, kw_only=True):
    model_name: str = "kling-v1"
    prompt: Words | None = None
    negative_prompt: Words | None = None
    mode: Literal["std", "pro", "4k"] = "std"
    duration: Literal["3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"] = "5"
    sound: Literal["on", "off"] = "off"
    cfg_scale: Annotated[float, Meta(ge=0, le=1)] | None = None
    external_task_id: str | None = None
    watermark_info: Marked | None = None


class Camera(Strict, kw_only=True):
    type: Literal["down_back", "forward_up", "right_turn_forward", "left_turn_forward"]


class OldText(Old, kw_only=True):
    prompt: Words
    aspect_ratio: Ratio = "16:9"
    camera_control: Camera | None = None


class OldImage(Old, kw_only=True):
    image: str
    image_tail: str | None = None


class Subject(Strict, kw_only=True):
    image: str


class OldMulti(Old, kw_only=True):
    model_name: Literal["kling-v1-6"]
    image_list: Annotated[list[Subject], Meta(min_length=1, max_length=4)]
    aspect_ratio: Ratio = "16:9"


class Pictured(Strict, kw_only=True):
    image_url: str
    type: Literal["first_frame", "end_frame"] | None = None


class Filmed(Strict, kw_only=True):
    video_url: str
    refer_type: Literal["feature", "base"] = "base"
    keep_original_sound: Literal["yes", "no"] = "yes"


class OldOmni(Old, kw_only=True):
    model_name: Literal["kling-video-o1", "kling-v3-omni"]
    prompt: Words
    image_list: Annotated[list[Pictured], Meta(max_length=7)] = []
    video_list: Annotated[list[Filmed], Meta(max_length=1)] = []
    aspect_ratio: Ratio | None = None


class OldExtend(Strict, kw_only=True):
    video_id: str
    prompt: Words | None = None
    negative_prompt: Words | None = None
    cfg_scale: float | None = None
    external_task_id: str | None = None


OLD: dict[str, type[msgspec.Struct]] = {
    "text2video": OldText,
    "image2video": OldImage,
    "multi-image2video": OldMulti,
    "omni-video": OldOmni,
    "video-extend": OldExtend,
}


@dataclass
class Task:
    kind: str
    prompt: str
    mark: str | None = None  # the client's own name for it
    polls: int = 0


@dataclass
class KlingVideo(VideoFake):
    name: ClassVar[str] = "kling"
    generates: ClassVar[str] = "kling-3.0-turbo"
    frames: ClassVar[str | None] = "kling-3.0"

    begun: dict[str, Task] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        new, old = "|".join(MODELS), "|".join(OLD)
        return [
            web.post(f"/{{kind:{new}}}/{{model}}", self.answer(self.submit)),
            web.get("/tasks", self.answer(self.found)),
            web.post(f"/v1/videos/{{kind:{old}}}", self.answer(self.submit_old)),
            web.get(f"/v1/videos/{{kind:{old}}}/{{task}}", self.answer(self.poll_old)),
            web.get("/files/{name}", self.file),
        ]

    def answer(self, handler: Any) -> Any:
        """`handler` behind the credential, its data in the envelope."""

        async def answered(request: web.Request) -> web.Response:
            try:
                header = request.headers.get("Authorization", "")
                authorized(header)
                if not request.path.startswith("/v1/") and header != f"Bearer {GOOD_KEY}":
                    raise Refused(401, 1002, "The current API does not support AK/SK")
                data = await handler(request)
            except Refused as refused:
                body = {"code": refused.code, "message": str(refused), "request_id": "r-0"}
                return web.json_response(body, status=refused.status)
            return web.json_response({"code": 0, "message": "SUCCEED", "request_id": "r-1", "data": data})

        return answered

    async def submit(self, request: web.Request) -> dict[str, Any]:
        kind, model = request.match_info["kind"], request.match_info["model"]
        if model not in MODELS[kind]:
            raise Refused(404, 1203, "model is not found")
        if kind == "text-to-video":
            text = read(await request.read(), FromText)
            fitting(model, text.settings, [])
            name = self.begin("new", text.prompt, text.options.external_task_id)
        else:
            body = read(await request.read(), FromContents)
            fitting(model, body.settings, body.contents)
            if unknown := {entry.type for entry in body.contents} - MODELS[kind][model]:
                raise Refused(400, 1201, f"contents.type {unknown.pop()} is not supported")
            pictures = [entry.url or "" for entry in body.contents if entry.type.endswith(("_frame", "_image"))]
            self.received += [opened(text) for text in pictures if not text.startswith("https://")]
            prompt = next((entry.text or "" for entry in body.contents if entry.type == "prompt"), "")
            name = self.begin("new", prompt, body.options.external_task_id)
        return {"id": name, "status": "submitted", "message": "", "create_time": 1783065388949}

    def begin(self, kind: str, prompt: str, mark: str | None) -> str:
        if "refuse me" in prompt:
            raise Refused(400, 1301, "Failure to pass the content safety system")
        if "rate limit me" in prompt:
            raise Refused(429, 1303, "parallel task over resource pack limit")
        self.tasks += 1
        name = str(901930004609634392 + self.tasks)
        self.begun[name] = Task(kind, prompt, mark)
        return name

    def turn(self, task: Task) -> str:
        task.polls += 1
        if task.polls < 3:
            return ("submitted", "processing")[task.polls - 1]
        if "fail me" in task.prompt:
            return "failed"
        return "succeeded" if task.kind == "new" else "succeed"

    async def found(self, request: web.Request) -> list[dict[str, Any]]:
        if set(request.query) not in ({"task_ids"}, {"external_task_ids"}):
            raise Refused(400, 1201, "task_ids or external_task_ids is required")
        ((by, asked),) = request.query.items()
        known = asked.split(",")
        return [
            self.shown(name, task)
            for name, task in self.begun.items()
            if task.kind == "new" and (name if by == "task_ids" else task.mark) in known
        ]

    def shown(self, name: str, task: Task) -> dict[str, Any]:
        status = self.turn(task)
        said: dict[str, Any] = {"id": name, "status": status, "message": "Internal error" if status == "failed" else ""}
        if status == "succeeded":
            said["outputs"] = [{"type": "video", **self.film(name)}]
            said["billing"] = [{"charge_type": "unit", "amount": "4", "package_type": "video"}]
        return said

    def film(self, name: str) -> dict[str, str]:
        return {"id": f"v{name}", "url": f"{self.url}/files/{name}.mp4?sig=good", "duration": "5.041"}

    async def submit_old(self, request: web.Request) -> dict[str, Any]:
        kind = request.match_info["kind"]
        body = read(await request.read(), OLD[kind])
        self.received += [opened(text) for text in given(body) if not text.startswith("https://")]
        name = self.begin(kind, getattr(body, "prompt", None) or "", getattr(body, "external_task_id", None))
        return {"task_id": name, "task_status": "submitted", "task_info": {}, "created_at": 1774805076166}

    async def poll_old(self, request: web.Request) -> dict[str, Any]:
        asked = request.match_info["task"]
        name = next((name for name, task in self.begun.items() if task.mark == asked), asked)
        task = self.begun.get(name)
        if task is None or task.kind != request.match_info["kind"]:
            raise Refused(400, 1201, "Task not found")
        status = self.turn(task)
        said: dict[str, Any] = {"task_id": name, "task_status": status, "task_status_msg": ""}
        if status == "failed":
            said["task_status_msg"] = "Internal error"
        if status == "succeed":
            said |= {"task_result": {"videos": [self.film(name)]}, "final_unit_deduction": "2"}
        return said

    async def file(self, request: web.Request) -> web.Response:
        """A pre-signed address: whoever brings a credential has leaked it."""
        if request.query.get("sig") != "good" or "Authorization" in request.headers:
            return web.Response(status=403, text="AccessDenied")
        return web.Response(body=self.video, content_type="video/mp4")


def read(data: bytes, shape: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        raise Refused(400, 1201, str(error)) from None
    except msgspec.DecodeError as error:
        raise Refused(400, 1200, str(error)) from None


def fitting(model: str, settings: Settings, contents: list[Entry]) -> None:
    """What no single member tells."""
    kinds = [entry.type for entry in contents]
    rules = (
        (settings.audio is not None and settings.audio not in SOUNDS.get(model, ()), "audio is not supported"),
        (settings.multi_shot is not None and not model.startswith("kling-3.0"), "multi_shot is not supported"),
        (settings.resolution == "4k" and model not in {"kling-3.0", "kling-3.0-omni"}, "4k is not supported"),
        (model in {"kling-2.6", "kling-2.5-turbo"} and settings.duration not in {5, 10}, "duration must be 5 or 10"),
        ("first_frame" in kinds and settings.aspect_ratio is not None, "aspect_ratio follows the first frame"),
        ("last_frame" in kinds and "first_frame" not in kinds, "last frame only is not supported"),
        ("base_video" in kinds and settings.multi_shot is not False and model != "kling-o1", "no multi_shot here"),
        (model.endswith(("-omni", "-o1")) and not {"first_frame", "base_video", "feature_video"} & {*kinds}
         and not settings.aspect_ratio, "aspect_ratio is required"),
    )  # fmt: skip
    for broken, text in rules:
        if broken:
            raise Refused(400, 1201, text)


def given(body: msgspec.Struct) -> Iterator[str]:
    """The pictures of a legacy body, in order."""
    for name in ("image", "image_tail"):
        if text := getattr(body, name, None):
            yield text
    for each in getattr(body, "image_list", ()):
        yield getattr(each, "image", None) or each.image_url


def opened(text: str) -> bytes:
    """A picture in bare base64, decoded to its last pixel."""
    if not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text):
        raise Refused(400, 1201, "File is not in a valid base64 format")
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            image.load()
    except (binascii.Error, UnidentifiedImageError, OSError):
        raise Refused(400, 1201, "Image format is invalid") from None
    return data
