"""DashScope's videos, strict: each model takes its own path, fields, sizes and lengths, in one of three layouts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from uuid import uuid4

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta

from tests.fakes.base import GOOD_KEY
from tests.fakes.dashscope import Refused, answer, authorized, invalid, refusal
from tests.fakes.openai import form
from tests.fakes.video import VideoFake
from translators.video import VideoJob

MAIN, FRAMES = "video-generation/video-synthesis", "image2video/video-synthesis"
Text: TypeAlias = Annotated[str, Meta(min_length=1)]
Negative: TypeAlias = Annotated[str, Meta(max_length=500)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=2_147_483_647)]


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A field that the model does not take is an error."""


class Silent(Strict):
    """Wan up to 2.6, of text."""

    prompt: Text
    negative_prompt: Negative | None = None
    audio_url: str | None = None


class Framed(Strict):
    """… of a first frame."""

    img_url: str
    prompt: str | None = None
    negative_prompt: Negative | None = None
    audio_url: str | None = None
    template: str | None = None


class Keyed(Strict):
    """… of two."""

    first_frame_url: str
    last_frame_url: str | None = None
    prompt: str | None = None
    negative_prompt: Negative | None = None
    template: str | None = None


class Referring(Strict):
    """… of references."""

    prompt: Text
    reference_urls: Annotated[list[str], Meta(min_length=1, max_length=5)]
    negative_prompt: Negative | None = None


class Medium(Strict):
    type: str
    url: str
    keep_original_sound: Literal["yes", "no"] | None = None


class Listing(Strict):
    """Wan 2.7 and 3.0."""

    prompt: str | None = None
    negative_prompt: Negative | None = None
    audio_url: str | None = None
    media: list[Medium] = []


class Plain(Strict):
    """HappyHorse."""

    prompt: str | None = None
    media: list[Medium] = []


class Shots(Strict):
    """Kling."""

    prompt: str | None = None
    media: list[Medium] = []
    multi_shot: bool | None = None
    shot_type: Literal["intelligence", "customize"] | None = None
    multi_prompt: list[dict[str, Any]] | None = None
    element_list: list[dict[str, Any]] | None = None


Input: TypeAlias = Silent | Framed | Keyed | Referring | Listing | Plain | Shots


class Parameters(Strict):
    """Every parameter that some model takes. What decides the price is always to be sent here."""

    size: Annotated[str, Meta(pattern=r"^\d+\*\d+$")] | None = None
    resolution: Literal["480P", "720P", "1080P"] | None = None
    ratio: Literal["adaptive", "16:9", "9:16", "1:1", "4:3", "3:4", "4:5", "5:4", "9:21", "21:9"] | None = None
    mode: Literal["std", "pro"] | None = None
    aspect_ratio: Literal["16:9", "9:16", "1:1"] | None = None
    duration: int | None = None
    prompt_extend: bool | None = None
    shot_type: Literal["single", "multi"] | None = None
    audio: bool | None = None
    audio_setting: Literal["auto", "origin"] | None = None
    enable_thinking: bool | None = None
    watermark: bool | None = None
    seed: Seed | None = None


class Body(Strict):
    model: str
    input: msgspec.Raw
    parameters: Parameters


@dataclass(frozen=True)
class Model:
    """What one model takes."""

    shape: type[Input]
    params: str
    seconds: range | tuple[int, ...]
    media: str = ""  # roles, each with its most: "first_frame:1 last_frame:1"
    needs: str = ""  # the role without which nothing is made
    path: str = MAIN


OLD = "watermark seed duration prompt_extend"
NEW = f"{OLD} resolution"
MODELS: dict[str, Model] = {
    r"wanx?2\.[12]-t2v-\w+|wan2\.5-t2v-preview": Model(Silent, f"{OLD} size", (5, 10)),
    r"wan2\.6-t2v(-us)?": Model(Silent, f"{OLD} size shot_type", range(2, 16)),
    r"wanx?2\.[12]-i2v-\w+|wan2\.5-i2v-preview": Model(Framed, NEW, (3, 4, 5, 10)),
    r"wan2\.6-i2v(-us)?": Model(Framed, f"{NEW} shot_type", range(2, 16)),
    r"wan2\.6-i2v-flash": Model(Framed, f"{NEW} shot_type audio", range(2, 16)),
    r"wan2\.6-r2v": Model(Referring, f"{OLD} size shot_type", range(2, 11)),
    r"wan2\.6-r2v-flash": Model(Referring, f"{OLD} size shot_type audio", range(2, 11)),
    r"wanx?2\.[12]-kf2v-\w+": Model(Keyed, NEW, (5,), path=FRAMES),
    r"wan2\.7-t2v": Model(Listing, f"{NEW} ratio", range(2, 16)),
    r"wan2\.7-i2v": Model(
        Listing, NEW, range(2, 16), "first_frame:1 last_frame:1 driving_audio:1 first_clip:1", "first_"
    ),
    r"wan2\.7-r2v": Model(
        Listing, f"{NEW} ratio", range(2, 16), "first_frame:1 reference_image:5 reference_video:5", "reference_"
    ),
    r"wan2\.7-videoedit": Model(
        Listing, f"{NEW} ratio audio_setting", range(11), "video:1 reference_image:4", "video"
    ),
    r"wan3\.0-video(-prime)?": Model(
        Listing, f"{NEW} ratio audio enable_thinking", range(2, 31),
        "first_frame:1 last_frame:1 reference_image:10 reference_video:5",
    ),
    r"happyhorse-1\.[01]-t2v": Model(Plain, "resolution ratio duration watermark seed", range(3, 16)),
    r"happyhorse-1\.[01]-i2v": Model(
        Plain, "resolution duration watermark seed", range(3, 16), "first_frame:1", "first_frame"
    ),
    r"happyhorse-1\.[01]-r2v": Model(
        Plain, "resolution ratio duration watermark seed", range(3, 16), "reference_image:9", "reference_image"
    ),
    r"happyhorse-1\.0-video-edit": Model(
        Plain, "resolution ratio duration watermark seed audio_setting", range(3, 16), "video:1 reference_image:5",
        "video",
    ),
    r"kling/kling-v3(-omni)?-video-generation": Model(
        Shots, "mode aspect_ratio duration audio watermark", range(3, 16),
        "first_frame:1 last_frame:1 refer:7 base:1 feature:1",
    ),
}  # fmt: skip


STOPPED = -1
FOLDER = "dashscope-instant/a1/2026-11-20/b2"


@dataclass
class DashscopeVideo(VideoFake):
    name: ClassVar[str] = "dashscope"
    generates: ClassVar[str] = "wan2.7-t2v"
    frames: ClassVar[str | None] = "wan2.7-i2v"
    path: ClassVar[str] = "/api/v1"

    polls: dict[str, int] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)  # what was uploaded
    prompts: dict[str, str] = field(default_factory=dict)

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}{self.path}"}

    def stoppable(self) -> VideoJob:
        return self.job("a cat walks")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/services/aigc/{path:.+}", self.submit),
            web.get("/api/v1/tasks/{task}", self.poll),
            web.post("/api/v1/tasks/{task}/cancel", self.stop),
            web.get("/files/{task}.mp4", self.file),
            web.get("/api/v1/uploads", self.policy),
            web.post("/storage", self.store),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
            if request.headers.get("X-DashScope-Async") != "enable":
                raise Refused("AccessDenied", "current user api does not support synchronous calls.", 403)
            body, model = read(await request.read(), request.match_info["path"])
            given = input_of(body, model)
            prompt = given.prompt or ""
            if "rate limit me" in prompt:
                raise Refused("Throttling.RateQuota", "Requests rate limit exceeded, please try again later.", 429)
            self.received += [opened(url) for url in addresses(given) if url.startswith("data:")]
            stored = [url.removeprefix("oss://") for url in addresses(given) if url.startswith("oss://")]
            if (stored and "X-DashScope-OssResourceResolve" not in request.headers) or {*stored} - self.stored.keys():
                raise Refused("InvalidURL", "The provided URL does not appear to be valid.")
            self.received += [self.stored[key] for key in stored if not key.endswith(".mp4")]
        except Refused as refused:
            return refusal(refused)
        name = str(uuid4())
        self.tasks += 1
        self.polls[name], self.prompts[name] = 0, prompt
        return answer(output={"task_status": "PENDING", "task_id": name})

    async def policy(self, request: web.Request) -> web.Response:
        """Leave to upload, of the shape that it has for pictures."""
        try:
            authorized(request)
        except Refused as refused:
            return refusal(refused)
        if request.query.get("action") != "getPolicy" or not request.query.get("model"):
            return refusal(invalid("The action or the model is wrong."))
        data = {
            "policy": "cG9saWN5", "signature": "sig=", "upload_dir": FOLDER, "upload_host": f"{self.url}/storage",
            "expire_in_seconds": 300, "max_file_size_mb": 100, "capacity_limit_mb": 999999999,
            "oss_access_key_id": "LTAI", "x_oss_object_acl": "private", "x_oss_forbid_overwrite": "true",
        }  # fmt: skip
        return answer(data=data)

    async def store(self, request: web.Request) -> web.Response:
        """The storage that a policy names; the file comes last, and the credential not at all."""
        *fields, file = form(request.headers["Content-Type"], await request.read())
        key = next((part.data.decode() for part in fields if part.name == "key"), "")
        if "Authorization" in request.headers or file.name != "file" or not key.startswith(f"{FOLDER}/"):
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code><Message>No.</Message></Error>")
        self.stored[key] = file.data
        return web.Response(status=200)

    async def poll(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
        except Refused as refused:
            return refusal(refused)
        name = request.match_info["task"]
        if name not in self.polls:
            return answer(output={"task_id": name, "task_status": "UNKNOWN"})
        if self.polls[name] == STOPPED:
            return answer(output={"task_id": name, "task_status": "CANCELED"})
        self.polls[name] += 1
        if self.polls[name] <= 2:
            return answer(output={"task_id": name, "task_status": ("PENDING", "RUNNING")[self.polls[name] - 1]})
        prompt = self.prompts[name]
        if "refuse me" in prompt:
            return answer(output=failed(name, "DataInspectionFailed", "Output data may contain inappropriate content."))
        if "fail me" in prompt:
            return answer(output=failed(name, "InternalError.Algo", "Inference error."))
        url = f"{self.url}/files/{name}.mp4?Expires=1790000000&Signature=good"
        ended = {"task_id": name, "task_status": "SUCCEEDED", "orig_prompt": prompt, "video_url": url}
        usage = {"duration": 5, "input_video_duration": 0, "output_video_duration": 5, "video_count": 1, "SR": 720}
        return answer(output=ended, usage=usage)

    async def stop(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
        except Refused as refused:
            return refusal(refused)
        name = request.match_info["task"]
        if self.polls.get(name) not in {0, 1}:
            text = "Failed to cancel the task, please confirm if the task is in PENDING status."
            return refusal(Refused("UnsupportedOperation", text))
        self.polls[name] = STOPPED
        self.stopped += 1
        return answer()

    async def file(self, request: web.Request) -> web.Response:
        """A signed address: whoever brings a credential has leaked it."""
        if request.query.get("Signature") != "good" or "Authorization" in request.headers:
            return web.Response(status=403)
        return web.Response(body=self.video, content_type="video/mp4")


def failed(name: str, code: str, message: str) -> dict[str, str]:
    return {"task_id": name, "task_status": "FAILED", "code": code, "message": message}


def read(data: bytes, path: str) -> tuple[Body, Model]:
    """The body, with no parameter that its model does not take, on the path that it answers to."""
    try:
        body = msgspec.json.decode(data, type=Body)
    except msgspec.DecodeError as error:
        raise invalid(str(error)) from error
    plain = re.sub(r"-20\d\d-\d\d-\d\d$", "", body.model)
    model = next((found for name, found in MODELS.items() if re.fullmatch(name, plain)), None)
    if model is None:
        raise Refused("ModelNotFound", f"Model not found ({body.model}).", 404)
    if path != model.path:
        raise invalid("url error, please check url！")
    given = {name for name in body.parameters.__struct_fields__ if getattr(body.parameters, name) is not None}
    if wrong := given - set(model.params.split()):
        raise invalid(f"parameters.{min(wrong)} is not supported by {body.model}")
    if not given & {"size", "resolution", "mode"}:
        raise invalid("how large it is to be has to be said, as it decides the price")
    if body.parameters.duration is not None and body.parameters.duration not in model.seconds:
        raise invalid(f"duration must be in {list(model.seconds)}")
    return body, model


def input_of(body: Body, model: Model) -> Input:
    """The input of that model's shape, with media that it takes."""
    try:
        given: Input = msgspec.json.decode(body.input, type=model.shape)
    except msgspec.DecodeError as error:
        raise invalid(f"input: {error}") from error
    if isinstance(given, Listing | Plain | Shots):
        roles = [medium.type for medium in given.media]
        most = {role: int(count) for role, _, count in (each.partition(":") for each in model.media.split())}
        if any(roles.count(role) > most.get(role, 0) for role in roles):
            raise invalid(f"input.media may hold {model.media}")
        if model.needs and not any(role.startswith(model.needs) for role in roles):
            raise invalid(f"input.media must hold {model.needs}")
        framed = body.parameters.ratio not in {None, "adaptive"} and "first_frame" in roles
        if framed:
            raise invalid("parameters.ratio is not supported with first_frame")
    return given


def addresses(given: Input) -> list[str]:
    """Where its pictures are, in their order."""
    match given:
        case Framed():
            return [given.img_url]
        case Keyed():
            return [given.first_frame_url, *([given.last_frame_url] if given.last_frame_url else [])]
        case Referring():
            return given.reference_urls
        case Listing() | Plain() | Shots():
            return [medium.url for medium in given.media]
        case _:
            return []


def opened(url: str) -> bytes:
    """A picture of a request. Clips and sounds are never taken so."""
    found = re.fullmatch(r"data:image/(png|jpeg|webp|bmp);base64,(.+)", url, re.DOTALL)
    if not found or len(url) > 10_485_760:
        raise Refused("InvalidURL", "The provided URL does not appear to be valid.")
    return pybase64.b64decode(found[2], validate=True)
