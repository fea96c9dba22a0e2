"""xAI's two image calls, strict: JSON only, each model's own fields, every picture opened, JPEG in base64 back."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, picture

Ratio: TypeAlias = Literal[
    "1:1", "3:4", "4:3", "9:16", "16:9", "2:3", "3:2", "9:19.5", "19.5:9", "9:20", "20:9", "1:2", "2:1", "auto"
]
INVALID = "Client specified an invalid argument"
EDGES = {"1k": 1024, "2k": 2048}


class Shared(msgspec.Struct, forbid_unknown_fields=True):
    expires_after: Annotated[int, Meta(ge=3600, le=2_592_000)] | None = None


class Storage(msgspec.Struct, forbid_unknown_fields=True):
    filename: str | None = None
    expires_after: Annotated[int, Meta(le=2_592_000)] | None = None
    public_url: bool | Shared | None = None


class Generate(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    prompt: str
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    aspect_ratio: Ratio | None = None
    resolution: Literal["1k", "2k"] | None = None
    quality: str | None = None
    response_format: Literal["url", "b64_json"] = "url"
    user: str | None = None
    storage_options: Storage | None = None


class Given(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    type: Literal["image_url"]


class Edit(Generate, kw_only=True):
    image: Given | None = None
    images: Annotated[list[Given], Meta(min_length=1, max_length=3)] | None = None


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str = INVALID) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Xai(Fake):
    """`refuse one` in a prompt blocks the last picture of several."""

    name: ClassVar[str] = "xai"
    generates: ClassVar[str] = "grok-imagine-image"
    edits: ClassVar[str | None] = "grok-imagine-image-2.0"
    fuses: ClassVar[str | None] = "grok-imagine-image"

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/v1"}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/images/generations", self.generate), web.post("/v1/images/edits", self.edit)]

    async def generate(self, request: web.Request) -> web.Response:
        return await self.answer(request, Generate)

    async def edit(self, request: web.Request) -> web.Response:
        return await self.answer(request, Edit)

    async def answer(self, request: web.Request, shape: type[Generate]) -> web.Response:
        try:
            authorized(request)
            body = read(await request.read(), shape)
            fitting(body)
            data = made(body, pictures(body) if isinstance(body, Edit) else [])
        except Refused as refused:
            return web.json_response({"code": refused.code, "error": str(refused)}, status=refused.status)
        return web.json_response({"data": data, "usage": {"cost_in_usd_ticks": 200_000_000 * body.n}})


def authorized(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or key != GOOD_KEY:
        raise Refused(400, f"Incorrect API key provided: {key[:2]}***{key[-2:]}.")


def read(data: bytes, shape: type[Generate]) -> Generate:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        if unknown := re.search(r"unknown field `(\w+)`", str(error)):
            raise Refused(400, f"Argument not supported: {unknown[1]}") from None
        raise Refused(422, f"Failed to deserialize the JSON body into the target type: {error}") from None
    except msgspec.DecodeError as error:
        raise Refused(422, str(error)) from None


def fitting(body: Generate) -> None:
    """What no single member tells, and the common words."""
    if body.model not in {"grok-imagine-image-2.0", "grok-imagine-image", "grok-imagine-image-2026-03-02"}:
        raise Refused(404, f"The model {body.model} does not exist.", "Some requested entity was not found")
    if body.quality and (not body.model.endswith("2.0") or body.quality not in {"low", "medium"}):
        raise Refused(400, "Argument not supported: quality")
    if not body.prompt:
        raise Refused(400, "prompt is required")
    if "refuse me" in body.prompt:
        raise Refused(400, "The prompt was rejected by content moderation.")
    if "rate limit me" in body.prompt:
        raise Refused(429, "Too many requests.", "Some resource has been exhausted")
    if "fail me" in body.prompt:
        raise Refused(500, "Internal error.", "Internal error")


def pictures(body: Edit) -> list[Image.Image]:
    """The input pictures, decoded to their last pixel."""
    if (body.image is None) == (body.images is None):
        raise Refused(400, "Exactly one of image and images is required")
    if body.image and body.aspect_ratio:
        raise Refused(400, "aspect_ratio is not supported with a single image")
    return [opened(given.url) for given in ([body.image] if body.image else body.images or [])]


def opened(url: str) -> Image.Image:
    found = re.fullmatch(r"data:image/(jpeg|png|webp);base64,(.+)", url, re.DOTALL)
    if not found:
        raise Refused(400, "Invalid image URL")
    try:
        image = Image.open(io.BytesIO(pybase64.b64decode(found[2], validate=True)))
        image.load()
    except (ValueError, UnidentifiedImageError, OSError) as error:
        raise Refused(400, f"The image cannot be decoded: {error}") from None
    if (image.format or "").lower() != found[1]:
        raise Refused(400, f"The image is {image.format}, not {found[1]}")
    return image


def made(body: Generate, given: list[Image.Image]) -> list[dict[str, Any]]:
    """`data`."""
    if "empty please" in body.prompt:
        return []
    if body.response_format != "b64_json":
        raise Refused(400, "Only base64 is played here")
    drawn = pybase64.b64encode(picture(measured(body, given), "JPEG")).decode()
    data: list[dict[str, Any]] = [
        {"b64_json": drawn, "revised_prompt": "", "mime_type": "image/jpeg"} for _ in range(body.n)
    ]
    if "refuse one" in body.prompt:
        data[-1] = {"revised_prompt": "", "respect_moderation": False}
    return data


def measured(body: Generate, given: list[Image.Image]) -> tuple[int, int]:
    """As many pixels as the resolution says, in multiples of 16."""
    edge = EDGES[body.resolution or "1k"]
    if given and not body.aspect_ratio:
        width, height = map(float, given[0].size)
    else:
        width, height = map(float, (body.aspect_ratio or "1:1").replace("auto", "1:1").split(":"))
    share = (width / height) ** 0.5
    return round(edge * share / 16) * 16, round(edge / share / 16) * 16
