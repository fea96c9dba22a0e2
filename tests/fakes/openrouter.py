"""OpenRouter's two picture routes, as strict as they are: a model is refused what it does not list.

On the chat route a prompt says where the picture is put: `in parts`, `in text`; else beside the content.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, parsed_size, picture

CREATED = 1_790_000_000
EDGES = {"512": 512, "768": 768, "1K": 1024, "1.5K": 1536, "2K": 2048, "4K": 4096}
GEMINI = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9", "1:4", "4:1", "1:8", "8:1")
GPT = ("1:1", "3:2", "2:3", "4:3", "3:4", "16:9", "9:16", "21:9")

Ratio = Literal[
    "1:1", "1:2", "1:4", "1:8", "2:1", "2:3", "2.35:1", "3:2", "3:4", "4:1", "4:3", "4:5", "5:2", "5:4", "5:7", "7:5",
    "8:1", "9:16", "16:9", "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "auto",
]  # fmt: skip


class Routing(msgspec.Struct, forbid_unknown_fields=True):
    only: list[str] | None = None
    order: list[str] | None = None
    ignore: list[str] | None = None
    allow_fallbacks: bool = True
    sort: Any = None
    options: dict[str, dict[str, Any]] | None = None


class Url(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class Linked(msgspec.Struct, forbid_unknown_fields=True, tag="image_url"):
    image_url: Url


class Text(msgspec.Struct, forbid_unknown_fields=True, tag="text"):
    text: str


class Ask(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The images route: every field that it knows."""

    model: str
    prompt: Annotated[str, Meta(min_length=1)]
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    size: str | None = None
    aspect_ratio: Ratio | None = None
    resolution: Literal["512", "768", "1K", "1.5K", "2K", "4K"] | None = None
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max"] | None = None
    output_format: Literal["png", "jpeg", "webp", "svg"] | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    background: Literal["auto", "transparent", "opaque"] | None = None
    seed: int | None = None
    input_references: Annotated[list[Linked], Meta(max_length=16)] = []
    stream: bool = False
    user: str | None = None
    session_id: Annotated[str, Meta(max_length=256)] | None = None
    trace: dict[str, Any] | None = None
    provider: Routing | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user"]
    content: str | list[Text | Linked]


class Chat(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The chat route."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    modalities: list[Literal["image", "text"]]
    image_config: dict[str, Any] = {}
    max_tokens: int | None = None
    seed: int | None = None
    user: str | None = None
    session_id: str | None = None
    trace: dict[str, Any] | None = None
    provider: Routing | None = None


@dataclass(frozen=True)
class Model:
    """What one model lists as its parameters."""

    ratios: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()
    n: int = 1
    images: int = 14
    sizes: bool = False
    seed: bool = False
    streams: bool = False
    formats: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    writes: bool = False  # text as well as pictures
    native: frozenset[str] = frozenset()
    kind: str = "png"


MODELS = {
    "openai/gpt-image-2": Model(
        GPT, n=10, images=16, sizes=True, streams=True, backgrounds=("auto", "opaque"), native=frozenset({"moderation"})
    ),
    "openai/gpt-image-2.5-flare": Model(
        GPT, n=10, images=16, sizes=True, streams=True, backgrounds=("auto", "opaque", "transparent")
    ),
    "google/gemini-3.1-flash-image": Model(GEMINI, ("512", "1K", "2K", "4K"), writes=True),
    "google/gemini-3-pro-image": Model(GEMINI[:10], ("1K", "2K", "4K"), writes=True, kind="jpeg"),
    "bytedance-seed/seedream-4.5": Model(
        (*GPT, "1:2", "2:1", "4:5", "5:4", "9:21"), ("1K", "2K", "4K"), n=10, seed=True, kind="jpeg"
    ),
    "black-forest-labs/flux.2-pro": Model(
        GPT, images=8, seed=True, formats=("png", "jpeg"), native=frozenset({"steps", "guidance", "safety_tolerance"})
    ),
}


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status: int, message: str, kind: str | None = None, **metadata: Any) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.metadata = metadata | ({"error_type": kind} if kind else {})


def invalid(message: str) -> Refused:
    return Refused(400, message, "invalid_request")


Body = TypeVar("Body", Ask, Chat)


@dataclass
class OpenRouter(Fake):
    name: ClassVar[str] = "openrouter"
    generates: ClassVar[str] = "openai/gpt-image-2"
    edits: ClassVar[str | None] = "openai/gpt-image-2"
    fuses: ClassVar[str | None] = "google/gemini-3.1-flash-image"
    streams: ClassVar[str | None] = "openai/gpt-image-2"
    counts: ClassVar[bool] = True

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/api/v1"}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/v1/images", self.images), web.post("/api/v1/chat/completions", self.chat)]

    async def images(self, request: web.Request) -> web.StreamResponse:
        try:
            ask, model = await read(request, Ask)
            listed(ask, model)
            references(ask.input_references, model)
            prompted(ask.prompt)
        except Refused as refused:
            return refusal(refused)
        kind = ask.output_format or model.kind
        made = drawn(sized(ask), kind, ask.background == "transparent")
        data = [{"b64_json": made, "media_type": f"image/{kind}"}] * (0 if "empty please" in ask.prompt else ask.n)
        if ask.stream and model.streams:
            return await streamed(request, data)
        return web.json_response({"created": CREATED, "data": data, "usage": usage(len(data))})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        try:
            ask, model = await read(request, Chat)
            if "text" in ask.modalities and not model.writes:
                raise Refused(404, "No endpoints found that support the requested output modalities: image, text")
            content = ask.messages[-1].content
            parts = [Text(content)] if isinstance(content, str) else content
            references([part for part in parts if isinstance(part, Linked)], model)
            prompt = " ".join(part.text for part in parts if isinstance(part, Text))
            prompted(prompt)
            configured(ask.image_config, model)
        except Refused as refused:
            return refusal(refused)
        config = ask.image_config
        made = drawn(shaped(config.get("aspect_ratio"), config.get("image_size")), model.kind, False)
        message = {"role": "assistant", **told(prompt, f"data:image/{model.kind};base64,{made}")}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = {"id": "gen-1", "object": "chat.completion", "created": CREATED, "model": ask.model, "choices": [choice]}
        return web.json_response(body | {"usage": usage(1)})


async def read(request: web.Request, kind: type[Body]) -> tuple[Body, Model]:
    if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
        raise Refused(401, "User not found.", "authentication")
    try:
        ask = msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise invalid(str(error)) from error
    if ask.model not in MODELS:
        raise Refused(404, f"No endpoints found for {ask.model}.", "not_found")
    model = MODELS[ask.model]
    native = (ask.provider and ask.provider.options) or {}
    for name in (name for given in native.values() for name in given):
        if name not in model.native:
            raise invalid(f"'{name}' is not an allowed passthrough parameter of {ask.model}")
    return ask, model


def refusal(refused: Refused) -> web.Response:
    error = {"code": refused.status, "message": refused.message, "metadata": refused.metadata or None}
    return web.json_response({"error": error, "user_id": "user_2abc"}, status=refused.status)


def listed(ask: Ask, model: Model) -> None:
    """No parameter that the model does not list."""
    wrong = {
        "n": ask.n > model.n,
        "size": ask.size is not None and not model.sizes,
        "aspect_ratio": ask.aspect_ratio is not None and ask.aspect_ratio not in model.ratios,
        "resolution": ask.resolution is not None and ask.resolution not in model.resolutions,
        "quality": ask.quality is not None and not model.sizes,
        "output_format": ask.output_format is not None and ask.output_format not in model.formats,
        "output_compression": ask.output_compression is not None,
        "background": ask.background is not None and ask.background not in model.backgrounds,
        "seed": ask.seed is not None and not model.seed,
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise invalid(f"{name}: not supported by {ask.model}")
    if ask.size and (ask.aspect_ratio or ask.resolution):
        raise invalid("size: conflicts with aspect_ratio or resolution")
    if ask.size and not re.fullmatch(r"\d+x\d+", ask.size):
        raise invalid("size: must be WIDTHxHEIGHT")


def configured(config: Mapping[str, Any], model: Model) -> None:
    if config.get("aspect_ratio", "1:1") not in (*model.ratios, "1:1"):
        raise invalid("image_config.aspect_ratio: not supported")
    if config.get("image_size", "1K") not in (*model.resolutions, "1K"):
        raise invalid("image_config.image_size: not supported")


def references(given: list[Linked], model: Model) -> None:
    if len(given) > model.images:
        raise invalid(f"input_references: at most {model.images}")
    for each in given:
        found = re.fullmatch(r"data:image/(png|jpeg|webp|gif);base64,(.+)", each.image_url.url, re.DOTALL)
        if not found:
            raise Refused(400, "The image is not a data URL.", "invalid_image")
        try:
            image = Image.open(io.BytesIO(pybase64.b64decode(found[2], validate=True)))
            image.load()
        except (ValueError, UnidentifiedImageError, OSError) as error:
            raise Refused(400, f"The image cannot be decoded: {error}", "invalid_image") from error
        if (image.format or "").lower() != found[1]:
            raise Refused(400, f"The image is {image.format}, not {found[1]}.", "unsupported_image_format")


def prompted(prompt: str) -> None:
    """What the common words ask for."""
    if "refuse me" in prompt:
        text = "The input was flagged by the provider's moderation."
        raise Refused(403, text, "content_policy_violation", reasons=["violence"], flagged_input=prompt[:50])
    if "rate limit me" in prompt:
        raise Refused(429, "Rate limit exceeded", "rate_limit_exceeded")
    if "fail me" in prompt:
        raise Refused(500, "Internal Server Error", "server")


def sized(ask: Ask) -> tuple[int, int]:
    return parsed_size(ask.size) if ask.size else shaped(ask.aspect_ratio, ask.resolution)


def shaped(ratio: str | None, resolution: str | None) -> tuple[int, int]:
    """As many pixels as the resolution's square has, in that ratio."""
    edge = EDGES[resolution or "1K"]
    if ratio in {None, "auto"}:
        return edge, edge
    wide, high = map(float, str(ratio).split(":"))
    scale = (wide / high) ** 0.5
    return round(edge * scale / 16) * 16, round(edge / scale / 16) * 16


@lru_cache(16)
def drawn(size: tuple[int, int], kind: str, clear: bool) -> str:
    if not clear:
        return pybase64.b64encode(picture(size, kind.upper())).decode()
    out = io.BytesIO()
    Image.new("RGBA", size, (40, 120, 200, 0)).save(out, "PNG")
    return pybase64.b64encode(out.getvalue()).decode()


def told(prompt: str, url: str) -> dict[str, Any]:
    """The picture where the prompt wants it."""
    linked = {"type": "image_url", "image_url": {"url": url}}
    if "empty please" in prompt:
        return {"content": ""}
    if "in parts" in prompt:
        return {"content": [{"type": "text", "text": "Here it is:"}, linked]}
    if "in text" in prompt:
        return {"content": f"Here it is:\n\n![the picture]({url})\n\nAnything else?"}
    return {"content": "", "images": [linked]}


def usage(count: int) -> dict[str, Any]:
    made = 1000 * count
    return {
        "prompt_tokens": 10, "completion_tokens": made, "total_tokens": 10 + made, "cost": 0.04 * count,
        "is_byok": False, "completion_tokens_details": {"image_tokens": made},
    }  # fmt: skip


async def streamed(request: web.Request, data: list[dict[str, Any]]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b": OPENROUTER PROCESSING\n\n")
    for event in events(data):
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


def events(data: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    preview = pybase64.b64encode(picture((64, 64))).decode()
    for made in data:
        yield {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": preview}
        yield {"type": "image_generation.completed", "created": CREATED, **made, "usage": usage(1)}
