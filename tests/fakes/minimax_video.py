"""MiniMax's two generations of videos, strict: each model's own fields, lengths and resolutions, every picture opened.

The older one answers 200 whatever happens, the newer one with statuses. `hurry me` in a prompt for it turns the first
poll away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta

from tests.fakes.minimax import Refused, authorized, opened, prompted, read
from tests.fakes.video import VideoFake
from translators.video import VideoJob


class Url(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class Text(msgspec.Struct, forbid_unknown_fields=True, tag="text"):
    text: Annotated[str, Meta(min_length=1, max_length=7000)]


class Picture(msgspec.Struct, forbid_unknown_fields=True, tag="image_url"):
    image_url: Url
    role: Literal["first_frame", "last_frame", "reference_image"]


Part: TypeAlias = Text | Picture


class H3(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: Literal["MiniMax-H3", "MiniMax-H3-Max"]
    content: list[Part]
    resolution: Literal["480P", "768P", "2K"]
    duration: Annotated[int, Meta(ge=4, le=15)]
    ratio: Literal["21:9", "16:9", "4:3", "1:1", "3:4", "9:16", "adaptive"] | None = None
    aigc_watermark: bool = False


class Subject(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["character"]
    image: Annotated[list[str], Meta(min_length=1, max_length=1)]


class Hailuo(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    prompt: Annotated[str, Meta(max_length=2000)] = ""
    prompt_optimizer: bool = True
    fast_pretreatment: bool = False
    duration: Literal[6, 10] = 6
    resolution: Literal["512P", "720P", "768P", "1080P"] | None = None
    first_frame_image: str | None = None
    last_frame_image: str | None = None
    subject_reference: Annotated[list[Subject], Meta(min_length=1, max_length=1)] | None = None
    aigc_watermark: bool = False


@dataclass(frozen=True)
class Model:
    """What one of the older models takes. `takes`: text, first, last, subject."""

    takes: frozenset[str]
    resolutions: tuple[str, ...] = ("720P",)
    seconds: tuple[int, ...] = (6,)


FIRST = frozenset({"first"})
TEXT = frozenset({"text"})
MODELS = {
    "MiniMax-Hailuo-2.3": Model(TEXT | FIRST, ("768P", "1080P"), (6, 10)),
    "MiniMax-Hailuo-2.3-Fast": Model(FIRST, ("768P", "1080P"), (6, 10)),
    "MiniMax-Hailuo-02": Model(TEXT | FIRST | {"last"}, ("512P", "768P", "1080P"), (6, 10)),
    "T2V-01": Model(TEXT),
    "T2V-01-Director": Model(TEXT),
    "I2V-01": Model(FIRST),
    "I2V-01-Director": Model(FIRST),
    "I2V-01-live": Model(FIRST),
    "S2V-01": Model(frozenset({"subject"})),
}


@dataclass
class MinimaxVideo(VideoFake):
    name: ClassVar[str] = "minimax"
    generates: ClassVar[str] = "MiniMax-H3"
    frames: ClassVar[str | None] = "MiniMax-Hailuo-2.3"

    begun: dict[str, list[str]] = field(default_factory=dict)  # what a task's polls still say

    def stoppable(self) -> VideoJob:
        return self.job("a cat walks")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v2/video_generation", self.create_2),
            web.get("/v2/query/video_generation/{id}", self.query_2),
            web.delete("/v2/video_generation/{id}", self.delete_2),
            web.post("/v1/video_generation", self.create_1),
            web.get("/v1/query/video_generation", self.query_1),
            web.get("/v1/files/retrieve", self.file),
            web.get("/made.mp4", self.made),
        ]

    def begin(self, prompt: str, *words: str) -> str:
        """A new task, whose polls say those words, the last one for ever."""
        self.tasks += 1
        number = str(106_916_112_212_000 + self.tasks)
        *before, good, bad = words
        self.begun[number] = [*before, bad if "fail me" in prompt else good]
        return number

    def said(self, number: str) -> str:
        words = self.begun[number]
        return words.pop(0) if len(words) > 1 else words[0]

    # ---- H3

    async def create_2(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
            ask = read(await request.read(), H3)
            prompt, pictures = content(ask)
            prompted(prompt.replace("fail me", "fail"))
        except Refused as refused:
            return no(refused)
        self.received += pictures
        return web.json_response({"task_id": self.begin(prompt, "queued", "running", "succeeded", "failed")})

    async def query_2(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        try:
            authorized(request)
            if number not in self.begun:
                raise Refused(1000, "record not found", 500, "api_error")
        except Refused as refused:
            return no(refused)
        task: dict[str, Any] = {"id": number, "model": "MiniMax-H3", "status": self.said(number), "modality": "video"}
        if task["status"] == "succeeded":
            task |= {"content": {"url": f"{self.url}/made.mp4"}, "duration": 5, "usage": {"output_seconds": 5}}
        if task["status"] == "failed":
            task["error"] = {"code": "1000", "message": "unknown error"}
        return web.json_response({"task": task})

    async def delete_2(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        try:
            authorized(request)
            if self.begun.get(number, [""])[0] != "queued":
                raise Refused(2013, "invalid params, the task is not queued (2013)")
        except Refused as refused:
            return no(refused)
        self.begun[number] = ["cancelled"]
        self.stopped += 1
        return web.json_response({"task_id": number, "status": "cancelled"})

    # ---- Hailuo

    async def create_1(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
            ask = read(await request.read(), Hailuo)
            pictures = fitting(ask)
            if ask.prompt:
                prompted(ask.prompt.replace("fail me", "fail"))
        except Refused as refused:
            return flat({"task_id": ""}, refused)
        self.received += pictures
        words = ("Preparing", "Queueing", "Processing", "Success", "Fail")
        busy = ("",) if "hurry me" in ask.prompt else ()
        return flat({"task_id": self.begin(ask.prompt, *busy, *words)})

    async def query_1(self, request: web.Request) -> web.Response:
        number = request.query["task_id"]
        try:
            authorized(request)
            if number not in self.begun:
                raise Refused(2013, "invalid params, task_id")
            status = self.said(number)
            if not status:
                raise Refused(1002, "rate limit")
        except Refused as refused:
            return flat({}, refused)
        task: dict[str, Any] = {"task_id": number, "status": status, "file_id": ""}
        if task["status"] == "Success":
            task |= {"file_id": "205258526306433", "video_width": 1366, "video_height": 768}
        return flat(task)

    async def file(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
            if request.query["file_id"] != "205258526306433":
                raise Refused(2013, "invalid params, file_id")
        except Refused as refused:
            return flat({}, refused)
        return flat({"file": {"file_id": 205258526306433, "bytes": 0, "download_url": f"{self.url}/made.mp4"}})

    async def made(self, request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.Response(body=self.video, content_type="video/mp4")


def no(refused: Refused) -> web.Response:
    """The newer generation's refusal: the code stands in the text."""
    text = f"{refused} ({refused.code})"
    error = {"type": refused.kind, "message": text, "http_code": str(refused.status)}
    return web.json_response({"type": "error", "error": error, "request_id": "0462"}, status=refused.status)


def flat(data: dict[str, Any], refused: Refused | None = None) -> web.Response:
    said = {"status_code": refused.code if refused else 0, "status_msg": str(refused or "success")}
    return web.json_response({**data, "base_resp": said}, headers={"Trace-Id": "0462"})


def invalid(message: str) -> Refused:
    return Refused(2013, f"invalid params, {message}")


def loaded(url: str) -> bytes:
    """The bytes of a picture that can be opened."""
    opened(url, "jpeg|png|webp")
    return pybase64.b64decode(url.partition(",")[2])


def content(ask: H3) -> tuple[str, list[bytes]]:
    """The prompt and the pictures, which agree with each other and with the model."""
    texts = [part.text for part in ask.content if isinstance(part, Text)]
    pictures = [part for part in ask.content if isinstance(part, Picture)]
    roles = [part.role for part in pictures]
    if len(texts) != 1 or not texts[0].strip():
        raise invalid("content needs exactly one text")
    fast = ask.model == "MiniMax-H3-Max"
    if ask.resolution == ("2K" if fast else "480P") or (fast and ask.duration < 5):
        raise invalid("resolution or duration is not supported by the model")
    frames = roles in (["first_frame"], ["first_frame", "last_frame"])
    if roles and not frames and (set(roles) != {"reference_image"} or fast or len(roles) > 9):
        raise invalid("role")
    if not roles and ask.ratio in {None, "adaptive"}:
        raise invalid("ratio is required")
    return texts[0], [loaded(part.image_url.url) for part in pictures]


def fitting(ask: Hailuo) -> list[bytes]:
    """The pictures of a request whose members its model takes."""
    model = MODELS.get(ask.model)
    if model is None:
        raise invalid(f"model {ask.model}")
    subjects = [subject.image[0] for subject in ask.subject_reference or ()]
    given = {"first": ask.first_frame_image, "last": ask.last_frame_image, "subject": subjects}
    kinds = {name for name, value in given.items() if value}
    if not kinds <= model.takes or not (kinds or "text" in model.takes) or kinds == {"last"}:
        raise invalid("the model does not take these pictures")
    if not kinds and not ask.prompt.strip():
        raise invalid("prompt is empty")
    if (ask.resolution or model.resolutions[0]) not in model.resolutions or ask.duration not in model.seconds:
        raise invalid("resolution or duration is not supported by the model")
    if (ask.resolution == "1080P" and ask.duration == 10) or (ask.resolution == "512P" and not kinds):
        raise invalid("resolution does not go with duration or picture")
    return [loaded(url) for url in (ask.first_frame_image, ask.last_frame_image, *subjects) if url]
