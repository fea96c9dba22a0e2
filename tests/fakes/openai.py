"""OpenAI's image endpoints, as strict as they are: what it does not know it refuses, in its own words.

Beyond the common words, `fail midway` in a prompt breaks a stream after its first event.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, parsed_size
from translators.base import MaskRule

CREATED = 1_790_000_000
TYPES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
THREE = ("1024x1024", "1024x1536", "1536x1024")
NEWEST, NEWER = ("gpt-image-2.6-",), ("gpt-image-2.6-", "gpt-image-2.5-")
SECOND = (*NEWER, "gpt-image-2")
MODELS = (
    "gpt-image-2.6-sunburst", "gpt-image-2.6-flare", "gpt-image-2.5-sunburst", "gpt-image-2.5-flare", "gpt-image-2",
    "gpt-image-1.5", "chatgpt-image-latest", "gpt-image-1-mini",
    "gpt-image-2.5-sunburst-2026-09-08", "gpt-image-2.5-flare-2026-09-08", "gpt-image-2-2026-04-21",
    "gpt-image-1.5-2025-12-16",
)  # fmt: skip
ONLY_NEWEST = ("complexity", "frame_count", "frame_duration_ms", "svg")

Level: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Reasoning(msgspec.Struct, forbid_unknown_fields=True):
    effort: Level | None = None


class Svg(msgspec.Struct, forbid_unknown_fields=True):
    model: str | None = None
    reasoning: Reasoning | None = None


class Generate(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields that every GPT image model, or the newest, takes."""

    prompt: Annotated[str, Meta(min_length=1, max_length=32_000)]
    model: str
    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    size: str | None = None
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max"] | None = None
    background: Literal["auto", "transparent", "opaque"] | None = None
    output_format: Literal["png", "jpeg", "webp", "gif", "svg"] | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    moderation: Literal["auto", "low"] | None = None  # documented for edits in JSON; forms take it in practice
    complexity: Literal["low", "medium", "high"] | None = None
    frame_count: Annotated[int, Meta(ge=2, le=16)] | None = None
    frame_duration_ms: Annotated[int, Meta(ge=20, le=655_350)] | None = None
    svg: Svg | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    safety_identifier: str | None = None
    user: str | None = None


class Edit(Generate, forbid_unknown_fields=True, kw_only=True):
    input_fidelity: Literal["high", "low"] | None = None


class Refused(Exception):
    """An answer with an error."""

    def __init__(
        self, message: str, *, code: str | None = "invalid_value", param: str | None = None, status: int = 400,
        kind: str = "invalid_request_error",
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message, self.code, self.param, self.status, self.kind = message, code, param, status, kind


def user_error(message: str, code: str = "invalid_value", param: str | None = None) -> Refused:
    return Refused(message, code=code, param=param, kind="image_generation_user_error")


@dataclass(frozen=True)
class Received:
    """One part of a form."""

    name: str
    filename: str | None
    type: str
    data: bytes


@dataclass
class OpenAI(Fake):
    name: ClassVar[str] = "openai"
    generates: ClassVar[str] = "gpt-image-2"
    edits: ClassVar[str | None] = "gpt-image-2"
    masks: ClassVar[str | None] = "gpt-image-2"
    fuses: ClassVar[str | None] = "gpt-image-2"
    streams: ClassVar[str | None] = "gpt-image-2"
    mask_rule: ClassVar[MaskRule] = "alpha"
    previews: ClassVar[int | None] = 2
    counts: ClassVar[bool] = True
    pause_ms: ClassVar[int | None] = 1000

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/v1"}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/images/generations", self.generate),
            web.post("/v1/images/edits", self.edit),
        ]

    async def generate(self, request: web.Request) -> web.StreamResponse:
        try:
            authorized(request)
            ask = typed(Generate, await read_json(request))
            fitting(ask, ask.model)
            return await answered(request, ask, 0)
        except Refused as refused:
            return refusal(refused)

    async def edit(self, request: web.Request) -> web.StreamResponse:
        try:
            authorized(request)
            texts, files = await read_form(request)
            ask = typed(Edit, texts, strict=False)
            fitting(ask, ask.model)
            return await answered(request, ask, pictures(ask.model, files))
        except Refused as refused:
            return refusal(refused)


def refusal(refused: Refused) -> web.Response:
    error = {"message": refused.message, "type": refused.kind, "param": refused.param, "code": refused.code}
    return web.json_response({"error": error}, status=refused.status, headers={"x-request-id": "req_" + "0" * 32})


def authorized(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise Refused("You didn't provide an API key.", code=None, status=401)
    if key != GOOD_KEY:
        shown = f"{key[:3]}***{key[-2:]}"
        raise Refused(f"Incorrect API key provided: {shown}.", code="invalid_api_key", status=401)


# ---- what came


async def read_json(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        text = f"Invalid Content-Type header ({request.content_type}), expected application/json."
        raise Refused(text, code="unsupported_content_type")
    try:
        read = msgspec.json.decode(await request.read(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refused("We could not parse the JSON body of your request.", code=None) from error
    return read


async def read_form(request: web.Request) -> tuple[dict[str, Any], list[Received]]:
    """The text parts, nested by their brackets, and the files."""
    if request.content_type != "multipart/form-data":
        raise Refused(f"Invalid Content-Type header ({request.content_type}).", code="unsupported_content_type")
    texts: dict[str, Any] = {}
    files: list[Received] = []
    for part in form(request.headers["Content-Type"], await request.read()):
        if part.filename is not None:
            files.append(part)
            continue
        *path, last = re.sub(r"\[(\w+)\]", r".\1", part.name).split(".")
        inner = texts
        for key in path:
            inner = inner.setdefault(key, {})
        if last in inner:
            raise Refused(f"Duplicate parameter: '{part.name}'.", code="duplicate_parameter", param=part.name)
        inner[last] = part.data.decode()
    for name in ("image", "image[]", "mask", "markup"):
        if name in texts:
            text = f"Invalid type for '{name}': expected one of an array of files or file, but got a string instead."
            raise Refused(text, code="invalid_type", param=name)
    return texts, files


def form(content_type: str, body: bytes) -> list[Received]:
    """The parts of a multipart body. Its end must be there."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    before, *sections, after = body.split(boundary)
    if before or after.strip() != b"--":
        raise Refused("Could not parse multipart form.", code=None)
    parts = []
    for section in sections:
        head, _, data = section.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        said = message_from_bytes(head)
        name = said.get_param("name", header="content-disposition")
        parts.append(Received(str(name), said.get_filename(), said.get_content_type(), data.removesuffix(b"\r\n")))
    return parts


Asked = TypeVar("Asked", bound=Generate)


def typed(shape: type[Asked], raw: Mapping[str, Any], *, strict: bool = True) -> Asked:
    try:
        return msgspec.convert(raw, shape, strict=strict)
    except msgspec.ValidationError as error:
        raise explained(str(error)) from error


def explained(text: str) -> Refused:
    """msgspec's words in OpenAI's."""
    what, _, where = text.partition(" - at `$")
    place = where.strip(".`")
    if found := re.search(r"(unknown|missing required) field `(\w+)`", what):
        param = ".".join(filter(None, (place, found[2])))
        if found[1] == "unknown":
            return Refused(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
        return Refused(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    codes = {
        "Invalid enum value": "invalid_value",
        "length <=": "string_above_max_length",
        "length >=": "empty_string",
        "<=": "integer_above_max_value",
        ">=": "integer_below_min_value",
    }
    code = next((code for words, code in codes.items() if words in what), "invalid_type")
    return Refused(f"Invalid '{place}': {what}", code=code, param=place)


def fitting(ask: Generate, model: str) -> None:
    """What is legal for this model, and together."""
    if model not in MODELS:
        raise user_error(f"The model '{model}' does not exist.", param="model")
    for name in ONLY_NEWEST:
        if getattr(ask, name) is not None and not model.startswith(NEWEST):
            raise Refused(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    if ask.quality in {"xhigh", "max"} and not model.startswith(NEWER):
        raise listed(ask.quality, ("low", "medium", "high", "auto"), "quality")
    if ask.output_format in {"gif", "svg"} and not model.startswith(NEWEST):
        raise listed(ask.output_format, ("png", "jpeg", "webp"), "output_format")
    sized(ask.size, model)
    together(ask)
    if isinstance(ask, Edit) and ask.input_fidelity:
        faithful(ask.input_fidelity, model)


def listed(value: str, values: tuple[str, ...], param: str) -> Refused:
    *most, last = (f"'{each}'" for each in values)
    return Refused(f"Invalid value: '{value}'. Supported values are: {', '.join(most)}, and {last}.", param=param)


def sized(size: str | None, model: str) -> None:
    if size in {None, "auto"}:
        return
    if not model.startswith(SECOND):
        if size not in THREE:
            raise listed(str(size), (*THREE, "auto"), "size")
        return
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", str(size)):
        raise user_error(f"Invalid size '{size}'. Expected WIDTHxHEIGHT or 'auto'.", param="size")
    width, height = parsed_size(size)
    rules = (
        (width % 16 or height % 16, "Width and height must both be divisible by 16."),
        (max(width, height) > 3840, "The longest edge must be less than or equal to 3840."),
        (max(width, height) > 3 * min(width, height), "The aspect ratio must not exceed 3:1."),
        (width * height < 655_360, "Requested resolution is below the current minimum pixel budget."),
        (width * height > 8_294_400, "Requested resolution is above the current maximum pixel budget."),
    )
    for broken, text in rules:
        if broken:
            raise user_error(f"Invalid size '{size}'. {text}", param="size")


def together(ask: Generate) -> None:
    drawn = ask.output_format in {"gif", "svg"}
    rules = (
        (ask.background == "transparent" and ask.output_format == "jpeg", "background",
         "Transparent background is not supported for JPEG output format"),
        (ask.output_compression is not None and ask.output_format not in {"jpeg", "webp"}, "output_compression",
         "Compression is only supported for JPEG and WebP output formats."),
        (bool(ask.partial_images) and not ask.stream, "partial_images", "Partial images need 'stream'."),
        (drawn and bool(ask.stream), "stream", "Streaming is not supported for this output format."),
        (ask.output_format == "svg" and ask.n not in {None, 1}, "n", "SVG output supports one image."),
        (ask.svg is not None and ask.output_format != "svg", "svg", "Only supported for SVG output."),
        (ask.frame_count is not None and ask.output_format != "gif", "frame_count", "Only supported for GIF output."),
        (ask.frame_duration_ms is not None and ask.output_format != "gif", "frame_duration_ms",
         "Only supported for GIF output."),
    )  # fmt: skip
    for broken, param, text in rules:
        if broken:
            raise user_error(text, param=param)


def faithful(fidelity: str, model: str) -> None:
    if model.startswith(SECOND) or (model == "gpt-image-1-mini" and fidelity != "low"):
        text = f"The model '{model}' does not support the 'input_fidelity' parameter."
        raise user_error(text, "invalid_input_fidelity_model", "input_fidelity")


# ---- the pictures that came


def pictures(model: str, files: list[Received], types: Mapping[str, str] = TYPES) -> int:
    """How many pictures to edit there are, all of them looked at."""
    given = [part for part in files if part.name in {"image", "image[]"}]
    names = {part.name for part in given}
    if not given:
        raise Refused("Missing required parameter: 'image'.", code="missing_required_parameter", param="image")
    if len(names) > 1 or (names == {"image"} and len(given) > 1):
        raise Refused("Duplicate parameter: 'image'.", code="duplicate_parameter", param="image")
    if len(given) > 16:
        raise Refused("Invalid 'image': array too long.", code="array_above_max_length", param="image")
    first, *_ = [
        opened(part, f"image[{index}]" if "image[]" in names else "image", types) for index, part in enumerate(given)
    ]
    others = [part for part in files if part not in given]
    if len({part.name for part in others}) != len(others) or len(others) > 1:
        raise Refused("Give a mask or a markup, once.", param=others[0].name)
    for part in others:
        if part.name != "mask" and not (part.name == "markup" and model.startswith(NEWER)):
            raise Refused(f"Unknown parameter: '{part.name}'.", code="unknown_parameter", param=part.name)
        over(opened(part, part.name, {"image/png": "PNG"}), first, part.name)
    return len(given)


def opened(part: Received, param: str, types: Mapping[str, str]) -> Image.Image:
    if part.type not in types:
        supported = ", ".join(f"'{each}'" for each in types)
        text = f"Invalid file '{param}': unsupported mimetype ('{part.type}'). Supported file formats are {supported}."
        raise Refused(text, code="unsupported_file_mimetype", param=param)
    if not re.fullmatch(r"[\w -]+\.(png|jpe?g|webp)", part.filename or ""):
        raise Refused(f"Invalid file '{param}': no usable file name.", code="invalid_file", param=param)
    try:
        with Image.open(io.BytesIO(part.data), formats=[types[part.type]]) as image:
            image.load()
            return image
    except (UnidentifiedImageError, OSError) as error:
        text = "Invalid image file or mode for image 1, please check your image file."
        raise user_error(text, "invalid_image_file") from error


def over(layer: Image.Image, first: Image.Image, name: str) -> None:
    """A mask or markup fits the first picture and has transparent pixels."""
    bad = f"Invalid {name} image format - "
    if layer.size != first.size:
        raise user_error(f"{bad}{name} size does not match image size", "invalid_mask_image_format")
    if "A" not in layer.getbands():
        raise user_error(f"{bad}{name} image missing alpha channel", "invalid_mask_image_format")
    if name == "markup" and layer.getchannel("A").getextrema()[0] == 255:
        raise user_error(f"{bad}markup has no transparent pixels", "invalid_mask_image_format")


# ---- what is answered


def spoken(prompt: str, contact: str = "help.openai.com") -> None:
    """The words that every fake understands."""
    if "refuse me" in prompt:
        text = (
            "Your request was rejected by the safety system. If you believe this is an error, contact us at "
            f"{contact} and include the request ID req_0123. safety_violations=[violence]."
        )
        raise user_error(text, "moderation_blocked")
    if "rate limit me" in prompt:
        text = (
            "Rate limit reached for gpt-image-2 (for limit gpt-image) in organization org-x on input-images per min: "
            "Limit 5, Used 5, Requested 1. Please try again in 1s."
        )
        raise Refused(text, code="rate_limit_exceeded", status=429, kind="input-images")
    if "fail me" in prompt:
        text = "An error occurred while processing your request."
        raise Refused(text, code=None, status=500, kind="server_error")


async def answered(request: web.Request, ask: Generate, given: int) -> web.StreamResponse:
    spoken(ask.prompt)
    size = ask.size if ask.size not in {None, "auto"} else "1024x1024"
    kind = ask.output_format or "png"
    said = {
        "background": ask.background if ask.background not in {None, "auto"} else "opaque",
        "output_format": kind,
        "quality": ask.quality if ask.quality not in {None, "auto"} else "high",
        "size": size,
    }
    count = 0 if "empty please" in ask.prompt else ask.n or 1
    made = [
        drawn(parsed_size(size), kind, said["background"] == "transparent", index, ask.frame_count or 9)
        for index in range(count)
    ]
    if ask.stream:
        return await streamed(request, ask, made, said, given)
    body: dict[str, Any] = {"created": CREATED, "data": [{"b64_json": each} for each in made], **said}
    body["usage"] = usage(ask, count, given) | {
        "output_tokens_details": {"image_tokens": 1000 * count, "text_tokens": 0},
    }
    if kind == "svg":
        body["svg_usage"] = {"model": "gpt-svg", "input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    return web.json_response(body, headers={"x-request-id": "req_" + "0" * 32})


def usage(ask: Generate, count: int, given: int) -> dict[str, Any]:
    text, image = len(ask.prompt.split()), 200 * given
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": 1000 * count,
        "total_tokens": text + image + 1000 * count,
    }


async def streamed(
    request: web.Request, ask: Generate, made: list[str], said: Mapping[str, Any], given: int
) -> web.StreamResponse:
    """Previews, then each picture; the connection's end is the stream's."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    name = "image_edit" if isinstance(ask, Edit) else "image_generation"

    async def send(kind: str, members: Mapping[str, Any]) -> None:
        data = json.dumps({"type": kind, **members})
        await response.write(f"event: {kind}\ndata: {data}\n\n".encode())

    for index in range(ask.partial_images or 0 if made else 0):
        preview = {"b64_json": made[0], "created_at": CREATED, "partial_image_index": index, **said}
        await send(f"{name}.partial_image", preview)
        if "fail midway" in ask.prompt:
            error = {
                "type": "server_error",
                "code": "server_error",
                "message": "The server had an error.",
                "param": None,
            }
            await send("error", {"error": error})
            return response
    for picture in made:
        await send(
            f"{name}.completed", {"b64_json": picture, "created_at": CREATED, **said, "usage": usage(ask, 1, given)}
        )
    return response


@lru_cache(maxsize=64)
def drawn(size: tuple[int, int], kind: str, clear: bool, index: int, frames: int) -> str:
    """Base64 of a picture in that format; `index` changes its colour."""
    color = (40, 40 + 20 * index, 200)
    if kind == "svg":
        rect = f'<rect width="{size[0]}" height="{size[1]}" fill="rgb{color}"/>'
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}">{rect}</svg>'
        return pybase64.b64encode_as_string(svg.encode())
    image = Image.new("RGBA", size, (*color, 0)) if clear else Image.new("RGB", size, color)
    out = io.BytesIO()
    if kind == "gif":
        more = [Image.new("RGB", size, (8 * frame, 40, 200)) for frame in range(1, frames)]
        image.save(out, "GIF", save_all=True, append_images=more, duration=200)
    else:
        image.save(out, kind.upper())
    return pybase64.b64encode_as_string(out.getvalue())
