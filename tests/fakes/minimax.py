"""MiniMax's two image wires, strict: JSON only, each model's own fields, every picture opened.

The older wire answers 200 whatever happens, the newer one with statuses. `refuse one` in a prompt withholds the last
picture of several.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, parsed_size, picture

PIXELS = {
    "1:1": (1024, 1024), "16:9": (1280, 720), "4:3": (1152, 864), "3:2": (1248, 832),
    "2:3": (832, 1248), "3:4": (864, 1152), "9:16": (720, 1280), "21:9": (1344, 576),
}  # fmt: skip
EDGES = {"1K": 1024, "2K": 2048, "4K": 4096}
Edge: TypeAlias = Annotated[int, Meta(ge=512, le=2048, multiple_of=8)]


class Subject(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["character"]
    image_file: str


class Style(msgspec.Struct, forbid_unknown_fields=True):
    style_type: Literal["漫画", "元气", "中世纪", "水彩"]
    style_weight: Annotated[float, Meta(gt=0, le=1)] = 0.8


class Image01(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: Literal["image-01", "image-01-live"]
    prompt: Annotated[str, Meta(min_length=1, max_length=1500)]
    aspect_ratio: str | None = None
    width: Edge | None = None
    height: Edge | None = None
    response_format: Literal["url", "base64"] = "url"
    seed: int | None = None
    n: Annotated[int, Meta(ge=1, le=9)] = 1
    prompt_optimizer: bool = False
    aigc_watermark: bool = False
    style: Style | None = None
    subject_reference: Annotated[list[Subject], Meta(min_length=1, max_length=1)] | None = None


class H3(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: Literal["MiniMax-H3-Image", "MiniMax-H3-Image-Highspeed"]
    prompt: Annotated[str, Meta(max_length=32_000)]
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    size: str = "auto"
    aspect_ratio: str | None = None
    area: Literal["1K", "2K", "4K"] | None = None
    disable_prompt_enhanced: bool = False
    output_format: Literal["png", "jpeg", "jpg", "webp"] = "jpg"
    output_compression: Annotated[int, Meta(ge=0, le=100)] = 95
    response_format: Literal["url", "b64_json"]  # the default is not known: it has to be said


class Reference(msgspec.Struct, forbid_unknown_fields=True):
    image_url: str


class Edit(H3, kw_only=True):
    images: Annotated[list[Reference], Meta(min_length=1, max_length=16)]


class Refused(Exception):
    """`code` is the older wire's, `status` and `kind` are the newer one's."""

    def __init__(self, code: int, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.code, self.status, self.kind = code, status, kind


@dataclass
class Minimax(Fake):
    name: ClassVar[str] = "minimax"
    generates: ClassVar[str] = "image-01"
    edits: ClassVar[str | None] = "MiniMax-H3-Image"
    fuses: ClassVar[str | None] = "MiniMax-H3-Image"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/image_generation", self.flat),
            web.post("/v1/images/generations", self.generate),
            web.post("/v1/images/edits", self.edit),
        ]

    async def flat(self, request: web.Request) -> web.Response:
        """image-01: errors are 200 as well."""
        try:
            authorized(request)
            body = read(await request.read(), Image01)
            prompted(body.prompt)
            made = drawn(fitting(body), "JPEG")
        except Refused as refused:
            return flat({}, refused.code, str(refused))
        if "empty please" in body.prompt:
            return flat({})
        count = body.n - ("refuse one" in body.prompt)
        counts = {"success_count": str(count), "failed_count": str(body.n - count)}
        return flat({"image_base64": [made] * count}, metadata=counts)

    async def generate(self, request: web.Request) -> web.Response:
        return await self.answer(request, H3)

    async def edit(self, request: web.Request) -> web.Response:
        return await self.answer(request, Edit)

    async def answer(self, request: web.Request, shape: type[H3]) -> web.Response:
        try:
            authorized(request)
            body = read(await request.read(), shape)
            prompted(body.prompt)
            size = sized(body, [opened(each.image_url) for each in body.images] if isinstance(body, Edit) else [])
        except Refused as refused:
            error = {"type": refused.kind, "message": str(refused)}
            return web.json_response({"type": "error", "error": error}, status=refused.status)
        kind = body.output_format.upper().replace("JPG", "JPEG")
        entry = {"b64_json": drawn(size, kind)}
        data: list[dict[str, Any]] = [] if "empty please" in body.prompt else [entry] * body.n
        if "refuse one" in body.prompt:
            data[-1] = {"error": {"code": "1027", "message": "output new_sensitive"}}
        tokens = {"input_tokens": 20, "output_tokens": 4096, "total_tokens": 4116}
        return web.json_response({"created": 1_762_800_000, "data": data, "usage": tokens})


def flat(data: dict[str, Any], code: int = 0, message: str = "success", **more: Any) -> web.Response:
    body = {"id": "03ff", "data": data, **more, "base_resp": {"status_code": code, "status_msg": message}}
    return web.json_response(body, headers={"Trace-Id": "0462"})


def authorized(request: web.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
        raise Refused(2049, "invalid api key", 401, "authentication_error")


Shape = TypeVar("Shape")


def read(data: bytes, shape: type[Shape]) -> Shape:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise Refused(2013, f"invalid params, {error}") from None


def prompted(prompt: str) -> None:
    if not prompt.strip():
        raise Refused(2013, "invalid params, prompt is empty")
    if "refuse me" in prompt:
        raise Refused(1026, "input new_sensitive", 422, "unprocessable_entity_error")
    if "rate limit me" in prompt:
        raise Refused(1002, "rate limit exceeded", 429, "rate_limit_error")
    if "fail me" in prompt:
        raise Refused(1000, "unknown error", 500, "api_error")


def fitting(body: Image01) -> tuple[int, int]:
    """What the older wire's members are together; the size of what is made."""
    live = body.model == "image-01-live"
    if body.response_format != "base64":
        raise Refused(2013, "only base64 is played here")
    if body.style and not live:
        raise Refused(2013, "invalid params, style is not supported")
    if (body.width is None) != (body.height is None) or (live and body.width):
        raise Refused(2013, "invalid params, width and height")
    for subject in body.subject_reference or ():
        opened(subject.image_file, "jpeg|png")
    if body.aspect_ratio is None and body.width and body.height:
        return body.width, body.height
    ratio = body.aspect_ratio or "1:1"
    if ratio not in PIXELS or (live and ratio == "21:9"):
        raise Refused(2013, "invalid params, aspect_ratio")
    return PIXELS[ratio]


def sized(body: H3, given: list[Image.Image]) -> tuple[int, int]:
    """The size of what H3 makes; nothing is rounded."""
    if body.disable_prompt_enhanced and (given or (body.size == "auto" and body.aspect_ratio in {None, "auto"})):
        raise Refused(2013, "disable_prompt_enhanced needs a fixed size, and no images")
    if body.size != "auto":
        if body.aspect_ratio or body.area:
            raise Refused(2013, "size cannot be used with aspect_ratio or area")
        width, height = parsed_size(body.size)
        if not 655_360 <= width * height <= 20_000_000 or not 1 / 3 <= width / height <= 3:
            raise Refused(2013, f"size {body.size} is out of range")
        return width, height
    if body.aspect_ratio in {None, "auto"}:
        ratio = given[0].width / given[0].height if given else 1.0
    else:
        found = re.fullmatch(r"([1-9]\d{0,2}):([1-9]\d{0,2})", body.aspect_ratio or "")
        if not found or max(int(found[1]), int(found[2])) > 300:
            raise Refused(2013, f"aspect_ratio {body.aspect_ratio} is out of range")
        ratio = int(found[1]) / int(found[2])
    edge = EDGES[body.area or "4K"]
    return round(edge * math.sqrt(ratio)), round(edge / math.sqrt(ratio))


def opened(url: str, kinds: str = "jpeg|png|webp|heic|heif") -> Image.Image:
    found = re.fullmatch(rf"data:image/({kinds});base64,(.+)", url, re.DOTALL)
    if not found:
        raise Refused(2013, "invalid params, image is not a data URL of a known format")
    try:
        image = Image.open(io.BytesIO(pybase64.b64decode(found[2], validate=True)))
        image.load()
    except (ValueError, UnidentifiedImageError, OSError) as error:
        raise Refused(2013, f"invalid params, image cannot be decoded: {error}") from None
    if (image.format or "").lower() != found[1]:
        raise Refused(2013, f"invalid params, image is {image.format}, not {found[1]}")
    return image


def drawn(size: tuple[int, int], kind: str) -> str:
    return pybase64.b64encode(picture(size, kind)).decode()
