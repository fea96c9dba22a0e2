"""The Interactions API, strict: exact fields, a video in the background, a file that wants the key and leads on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta

from tests.fakes.base import GOOD_KEY
from tests.fakes.gemini import Refused, body_of, decoded, require
from tests.fakes.video import VideoFake
from translators.video import VideoJob


class Exact(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Unknown fields are errors."""


class Text(Exact, tag="text"):
    text: Annotated[str, Meta(min_length=1)]


class Image(Exact, tag="image"):
    mime_type: Literal["image/png", "image/jpeg", "image/webp"]
    data: str


class Clip(Exact, tag="video"):
    mime_type: Literal["video/mp4"]
    data: str


class Input(Exact, tag="user_input"):
    content: Annotated[list[Text | Image | Clip], Meta(min_length=1)]


class Format(Exact, tag="video"):
    aspect_ratio: Literal["16:9", "9:16"] | None = None
    duration: Annotated[str, Meta(pattern=r"^\d+s$")] | None = None
    resolution: Literal["360p", "720p", "1080p", "4k"] | None = None
    delivery: Literal["inline", "uri"] = "inline"


Doing: TypeAlias = Literal["text_to_video", "image_to_video", "reference_to_video", "edit", "extend", "upscale"]


class Config(Exact):
    task: Doing


class Generation(Exact):
    video_config: Config
    seed: int | None = None
    thinking_level: Literal["minimal", "low", "medium", "high"] | None = None


class Create(Exact):
    model: str
    input: Annotated[list[Input], Meta(min_length=1, max_length=1)]
    response_format: Format
    generation_config: Generation
    background: Literal[True]
    store: Literal[True]
    previous_interaction_id: str | None = None
    safety_settings: list[dict[str, str]] | None = None
    service_tier: Literal["flex", "standard", "priority", "deferred"] | None = None
    labels: dict[str, str] | None = None


LONGEST = {"gemini-omni-1.2-flash": 15, "gemini-omni-1.1-flash": 10}


@dataclass
class Begun:
    """An interaction on its way."""

    body: Create
    prompt: str
    polls: int = 0
    cancelled: bool = False


@dataclass
class GeminiVideo(VideoFake):
    """`/interactions`, and the files that they name."""

    name: ClassVar[str] = "gemini"
    generates: ClassVar[str] = "gemini-omni-1.2-flash"
    frames: ClassVar[str | None] = "gemini-omni-1.2-flash"
    path: ClassVar[str] = "/v1beta"
    delivery: ClassVar[str] = "uri"

    begun: dict[str, Begun] = field(default_factory=dict)

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/v1beta"}

    def routes(self) -> list[web.RouteDef]:
        return [
            *self.interactions("/v1beta/interactions"),
            web.get("/v1beta/files/{name}:download", self.file),
            web.get("/signed/{name}.mp4", self.signed),
        ]

    def stoppable(self) -> VideoJob:
        return self.job("a cat walks")

    def interactions(self, at: str) -> list[web.RouteDef]:
        one = f"{at}/{{name}}"
        return [web.post(at, self.create), web.get(one, self.poll), web.post(f"{one}/cancel", self.stop)]

    def authorize(self, request: web.Request) -> None:
        if request.headers.get("x-goog-api-key") != GOOD_KEY or "Authorization" in request.headers:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            raise Refused(400, "API key not valid. Please pass a valid API key.", reason)

    async def create(self, request: web.Request) -> web.Response:
        try:
            self.authorize(request)
            return web.json_response(self.created(body_of(await request.read(), Create)))
        except Refused as refused:
            return refused.answer()

    def created(self, body: Create) -> dict[str, str]:
        """The interaction that was begun, once nothing in the body is wrong."""
        if body.model not in LONGEST:
            raise Refused(404, f"Model {body.model} was not found.")
        asked = body.response_format
        require(asked.delivery == self.delivery, "This delivery is not supported here.")
        require(asked.duration is None or 3 <= int(asked.duration[:-1]) <= LONGEST[body.model], "Bad duration.")
        pieces = body.input[0].content
        prompt = " ".join(piece.text for piece in pieces if isinstance(piece, Text))
        images = [piece for piece in pieces if isinstance(piece, Image)]
        clips = [piece for piece in pieces if isinstance(piece, Clip)]
        doing = body.generation_config.video_config.task
        require((doing in {"image_to_video", "reference_to_video"}) <= bool(images), f"{doing} needs an image.")
        earlier = body.previous_interaction_id
        require(earlier is None or earlier in self.begun, "The previous interaction was not found.")
        require((doing in {"edit", "extend"}) == (bool(clips) != (earlier is not None)), f"{doing} needs one video.")
        spoken(prompt)
        for one in images:
            decoded(one.data, one.mime_type)
        self.received += [pybase64.b64decode(one.data, validate=True) for one in images]
        self.tasks += 1
        name = f"v1_{self.tasks}"
        self.begun[name] = Begun(body, prompt)
        return {"id": name, "status": "queued", "model": body.model}

    async def poll(self, request: web.Request) -> web.Response:
        try:
            self.authorize(request)
            name, begun = self.found(request)
        except Refused as refused:
            return refused.answer()
        begun.polls += 1
        plain: dict[str, Any] = {"id": name, "model": begun.body.model}
        if begun.cancelled:
            return web.json_response(plain | {"status": "cancelled"})
        if begun.polls <= 2:
            return web.json_response(plain | {"status": ("queued", "in_progress")[begun.polls - 1]})
        if "fail me" in begun.prompt:
            errors = [{"code": "internal", "message": "An internal error has occurred."}]
            return web.json_response(plain | {"status": "failed", "errors": errors})
        content = [] if "refuse me" in begun.prompt else [{"type": "video", "mime_type": "video/mp4"} | self.made(name)]
        steps = [{"type": "thought"}, {"type": "model_output", "content": content}]
        usage = {"total_tokens": 46872, "total_input_tokens": 536, "total_output_tokens": 46336}
        return web.json_response(plain | {"status": "completed", "steps": steps, "usage": usage})

    def made(self, name: str) -> dict[str, str]:
        return {"uri": f"{self.url}/v1beta/files/{name}:download"}

    def found(self, request: web.Request) -> tuple[str, Begun]:
        name = request.match_info["name"]
        if name not in self.begun:
            raise Refused(404, f"Interaction {name} was not found.")
        return name, self.begun[name]

    async def stop(self, request: web.Request) -> web.Response:
        try:
            self.authorize(request)
            name, begun = self.found(request)
        except Refused as refused:
            return refused.answer()
        begun.cancelled = True
        self.stopped += 1
        return web.json_response({"id": name, "status": "cancelled"})

    async def file(self, request: web.Request) -> web.Response:
        """For the key alone; it leads on to an address that is signed."""
        try:
            self.authorize(request)
        except Refused as refused:
            return refused.answer()
        if request.query.get("alt") != "media":
            return web.json_response({"name": f"files/{request.match_info['name']}"})
        return web.Response(status=302, headers={"Location": f"/signed/{request.match_info['name']}.mp4"})

    async def signed(self, request: web.Request) -> web.Response:
        if "x-goog-api-key" in request.headers:
            return web.Response(status=403)
        return web.Response(body=self.video, content_type="video/mp4")


def spoken(prompt: str) -> None:
    """The words that are errors at once."""
    if "rate limit me" in prompt:
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.05s"}
        raise Refused(429, "You exceeded your current quota. Please retry in 0.05s.", retry)
