"""Ideogram, strict: each path takes exactly its own parts, and each picture in them is opened.

A task is completed when it is polled for the second time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes import openai
from tests.fakes.base import GOOD_KEY, Fake, parsed_size, picture
from tests.fakes.openai import Received
from translators.base import MaskRule

Count: TypeAlias = Annotated[int, Meta(ge=1, le=8)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=2_147_483_647)]
Prompt: TypeAlias = Annotated[str, Meta(min_length=1, max_length=10_000)]
Weight: TypeAlias = Annotated[int, Meta(ge=1, le=100)]
Ratio: TypeAlias = Literal[
    "1x3", "3x1", "1x2", "2x1", "9x16", "16x9", "10x16", "16x10", "2x3", "3x2", "3x4", "4x3", "4x5", "5x4", "1x1"
]
Speed: TypeAlias = Literal["turbo", "default", "quality"]
LoudSpeed: TypeAlias = Literal["TURBO", "DEFAULT", "QUALITY"]
Factor: TypeAlias = Literal["x2", "x4", "x8"]
Type: TypeAlias = Literal["AUTO", "GENERAL", "REALISTIC", "DESIGN", "FICTION", "STYLIZED", "CUSTOM"]


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SIZES_3 = words(
    "512x1536 576x1408 576x1472 576x1536 640x1344 640x1408 640x1472 640x1536 704x1152 704x1216 704x1280 704x1344 "
    "704x1408 704x1472 736x1312 768x1088 768x1216 768x1280 768x1344 800x1280 832x960 832x1024 832x1088 832x1152 "
    "832x1216 832x1248 864x1152 896x960 896x1024 896x1088 896x1120 896x1152 960x832 960x896 960x1024 960x1088 "
    "1024x832 1024x896 1024x960 1024x1024 1088x768 1088x832 1088x896 1088x960 1120x896 1152x704 1152x832 1152x864 "
    "1152x896 1216x704 1216x768 1216x832 1248x832 1280x704 1280x768 1280x800 1312x736 1344x640 1344x704 1344x768 "
    "1408x576 1408x640 1408x704 1472x576 1472x640 1472x704 1536x512 1536x576 1536x640"
)
SIZES_4 = words(
    "2048x2048 1440x2880 2880x1440 1664x2496 2496x1664 1792x2240 2240x1792 1440x2560 2560x1440 1600x2560 2560x1600 "
    "1728x2304 2304x1728 1296x3168 3168x1296 1152x2944 2944x1152 1248x3328 3328x1248 1280x3072 3072x1280 1024x3072 "
    "3072x1024"
)
PRESETS_45 = words("1024x1024 1280x720 720x1280") | {size for size in SIZES_4 if max(parsed_size(size)) <= 2880}


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    seed: Seed | None = None


class Counted(Body, kw_only=True):
    prompt: Prompt
    num_images: Count = 1


class Job(Counted, kw_only=True):
    """What v2 shares."""

    async_: bool = msgspec.field(default=False, name="async")
    private: bool = True
    enable_copyright_detection: bool = False


class Generate45(Job, kw_only=True):
    size: str = "auto"
    quality: Literal["very_low", "low", "medium", "high"] = "high"
    magic_prompt: Literal["auto", "on", "off"] = "auto"


class Precise(Job, kw_only=True):
    quality: Literal["very_low", "low", "medium", "high"] = "medium"
    context_window: str | None = None


class Generate4(Job, kw_only=True):
    resolution: str | None = None
    rendering_speed: Speed = "default"
    magic_prompt: Literal["auto", "on", "off"] = "auto"


class Remix4(Job, kw_only=True):
    resolution: str | None = None
    rendering_speed: Speed = "default"
    image_weight: Weight = 50


class Transparent4(Job, kw_only=True):
    aspect_ratio: Ratio = "1x1"
    output_resolution: Literal["1k", "2k", "4k", "8k"] = "1k"
    rendering_speed: Speed = "default"
    magic_prompt: Literal["auto", "on", "off"] = "auto"


class PImage(Job, kw_only=True):
    aspect_ratio: Ratio = "1x1"
    resolution: Literal["1k", "2k"] = "1k"


class Any3(Counted, kw_only=True):
    """What v1's paths of 3.0 share."""

    rendering_speed: LoudSpeed = "DEFAULT"
    magic_prompt: Literal["AUTO", "ON", "OFF"] = "AUTO"
    color_palette: str | None = None
    style_codes: list[Annotated[str, Meta(pattern="^[0-9A-Fa-f]{8}$")]] | None = None
    style_type: Type | None = None
    style_preset: str | None = None


class Generate3(Any3, kw_only=True):
    resolution: str | None = None
    aspect_ratio: Ratio | None = None
    negative_prompt: str | None = None
    custom_model_uri: str | None = None


class Remix3(Generate3, kw_only=True):
    image_weight: Weight = 50


class Reframe3(Any3, kw_only=True):
    prompt: Literal[""] = ""  # none is taken
    resolution: str


class Transparent3(Counted, kw_only=True):
    rendering_speed: LoudSpeed = "DEFAULT"
    magic_prompt: Literal["AUTO", "ON", "OFF"] = "AUTO"
    negative_prompt: str | None = None
    aspect_ratio: Ratio = "1x1"
    upscale_factor: Literal["X1", "X2", "X4"] = "X1"


class Layerize(Body, kw_only=True):
    prompt: str | None = None


class PromptEdit(Counted, kw_only=True):
    magic_prompt: str | None = None
    resolution: str | None = None
    aspect_ratio: Ratio | None = None
    transparent_background: bool = False


class Tool(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    async_: bool = msgspec.field(default=False, name="async")
    private: bool = True


class Upscale(Tool, kw_only=True):
    upscale_factor: Factor = "x2"


class Old(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: Prompt
    model: Literal["V_1", "V_1_TURBO", "V_2", "V_2_TURBO", "V_2A", "V_2A_TURBO"] = "V_2"
    aspect_ratio: str | None = None
    magic_prompt_option: Literal["AUTO", "ON", "OFF"] = "AUTO"
    negative_prompt: str | None = None
    num_images: Count = 1
    seed: Seed | None = None
    style_type: str | None = None


class OldBody(msgspec.Struct, forbid_unknown_fields=True):
    image_request: Old


Least: TypeAlias = Mapping[str, tuple[int, int]]
ONE: Least = {"image": (1, 1)}
MASKED: Least = {"image": (1, 1), "mask": (1, 1)}
REFERENCES: Least = {"character_reference_images": (0, 1), "style_reference_images": (0, 10)}
PATHS: Mapping[str, tuple[type[msgspec.Struct], Least]] = {
    "/v2/image/generate/ideogram-4-5": (Generate45, {"images": (0, 5), "mask": (0, 1)}),
    "/v2/image/precise-edit/ideogram-4-5": (Precise, {"image": (1, 1), "mask": (0, 1), "reference_images": (0, 4)}),
    "/v2/image/generate/ideogram-4": (Generate4, {}),
    "/v2/image/remix/ideogram-4": (Remix4, ONE),
    "/v2/image/generate/ideogram-4-transparent": (Transparent4, {}),
    "/v2/image/generate/p-image-ideogram": (PImage, {}),
    "/v1/ideogram-v3/generate": (Generate3, REFERENCES),
    "/v1/ideogram-v3/remix": (Remix3, ONE),
    "/v1/ideogram-v3/inpaint": (Any3, MASKED),
    "/v1/ideogram-v3/reframe": (Reframe3, ONE),
    "/v1/ideogram-v3/replace-background": (Any3, ONE),
    "/v1/ideogram-v3/generate-transparent": (Transparent3, {}),
    "/v1/ideogram-v3/layerize-text": (Layerize, ONE),
    "/v1/edit": (PromptEdit, {"images": (1, 10)}),
    "/v2/image/remove-background/ideogram-1": (Tool, ONE),
    "/v2/image/remove-object/ideogram-1": (Body, MASKED),
    "/v2/image/upscale/auto": (Upscale, ONE),
    "/generate": (OldBody, {}),
}
"""Path: its texts, and of each file how many at least and at most."""


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Task:
    answer: dict[str, Any]
    polls: int = 0


@dataclass
class Ideogram(Fake):
    name: ClassVar[str] = "ideogram"
    generates: ClassVar[str] = "ideogram-4-5"
    edits: ClassVar[str | None] = "ideogram-4-5"
    masks: ClassVar[str | None] = "ideogram-4-5"
    fuses: ClassVar[str | None] = "ideogram-4-5"
    mask_rule: ClassVar[MaskRule] = "black-edits"

    tasks: dict[str, Task] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v2/generations/{id}", self.generation),
            web.get("/files/{name}", self.file),
            web.post("/{path:.+}", self.make),
        ]

    async def make(self, request: web.Request) -> web.Response:
        if request.headers.get("Api-Key") != GOOD_KEY:
            return web.json_response({"message": "Access denied. Please verify your API Token is valid."}, status=401)
        try:
            if request.path not in PATHS:
                raise Refused(404, "Not found")
            ask, files = read(request.path, await request.read(), request.headers.get("Content-Type", ""))
            size = measured(request.path, ask, files)
            spoken(prompt_of(ask))
        except Refused as error:
            return web.json_response({"error": str(error)}, status=error.status)
        answer = self.answer(ask, size)
        if not getattr(ask, "async_", False) and "remove-object" not in request.path:
            return web.json_response(answer)
        name = f"g{len(self.tasks)}"
        self.tasks[name] = Task(answer)
        return web.json_response({"generation_id": name, "seed": 7})

    def answer(self, ask: msgspec.Struct, size: tuple[int, int]) -> dict[str, Any]:
        shown = f"{size[0]}x{size[1]}"
        url = f"{self.url}/files/{shown}.png?exp=1763700000&sig=good"
        created = {"created": "2026-11-20T12:00:00Z"}
        if isinstance(ask, Layerize):
            return {**created, "base_image_url": url, "original_image_url": url, "text_blocks": [], "seed": 7}
        inner = ask.image_request if isinstance(ask, OldBody) else ask
        count = 0 if "empty please" in prompt_of(ask) else getattr(inner, "num_images", 1)
        entry = {"url": url, "prompt": prompt_of(ask), "resolution": shown, "is_image_safe": True, "seed": 7}
        return {**created, "data": [entry] * count}

    async def generation(self, request: web.Request) -> web.Response:
        if request.headers.get("Api-Key") != GOOD_KEY:
            return web.json_response({"message": "Access denied."}, status=401)
        name = request.match_info["id"]
        task = self.tasks.get(name)
        if task is None:
            return web.json_response({"error": "Generation not found"}, status=404)
        task.polls += 1
        if task.polls == 1:
            return web.json_response({"generation_id": name, "status": "pending", "created": "2026-11-20T12:00:00Z"})
        answer = {"generation_id": name, "status": "completed", "usage_cost_usd_micros": 60000, **task.answer}
        return web.json_response(answer)

    async def file(self, request: web.Request) -> web.Response:
        """A signed address: whoever brings the credential has leaked it."""
        if request.query.get("sig") != "good" or "Api-Key" in request.headers:
            return web.Response(status=403, text="forbidden")
        size = parsed_size(request.match_info["name"].partition(".")[0])
        return web.Response(body=picture(size), content_type="image/png")


def prompt_of(ask: msgspec.Struct) -> str:
    inner = ask.image_request if isinstance(ask, OldBody) else ask
    return getattr(inner, "prompt", None) or ""


def spoken(prompt: str) -> None:
    """The words that every fake understands."""
    if "refuse me" in prompt:
        raise Refused(422, "Prompt provided failed safety check due to the inclusion of prohibited content.")
    if "rate limit me" in prompt:
        raise Refused(429, "Too many requests")
    if "fail me" in prompt:
        raise Refused(500, "Internal server error")


Files: TypeAlias = Mapping[str, list[Image.Image]]


def read(path: str, data: bytes, content_type: str) -> tuple[msgspec.Struct, Files]:
    """The body as its path's struct, and the pictures that came, as many as it takes."""
    shape, known = PATHS[path]
    texts, files = parts(path, data, content_type)
    for name in files.keys() - known.keys():
        raise Refused(400, f"{name} is not a file of this endpoint")
    for name, (least, most) in known.items():
        if not least <= len(files.get(name, ())) <= most:
            raise Refused(400, f"expected {least} to {most} files as {name}")
    try:
        return msgspec.convert(texts, shape, strict=content_type == "application/json"), files
    except msgspec.ValidationError as error:
        raise Refused(400, str(error)) from None


def parts(path: str, data: bytes, content_type: str) -> tuple[dict[str, Any], Files]:
    if content_type == "application/json":
        if "ideogram-4-5" not in path and path not in {"/v1/ideogram-v3/generate", "/generate"}:
            raise Refused(400, "multipart/form-data expected")
        return json.loads(data), {}
    if not content_type.startswith("multipart/form-data") or path == "/generate":
        raise Refused(400, "unsupported content type")
    try:
        received = openai.form(content_type, data)
    except openai.Refused as error:
        raise Refused(400, str(error)) from None
    texts: dict[str, Any] = {}
    files: dict[str, list[Image.Image]] = {}
    for part in received:
        if part.filename is not None:
            files.setdefault(part.name, []).append(opened(part))
        elif part.name == "style_codes":
            texts.setdefault(part.name, []).append(part.data.decode())
        elif part.name in texts:
            raise Refused(400, f"{part.name} comes twice")
        else:
            texts[part.name] = part.data.decode()
    return texts, files


def opened(part: Received) -> Image.Image:
    kinds = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
    if part.type not in kinds or not (part.filename or "").endswith((".png", ".jpg", ".webp")):
        raise Refused(400, f"{part.name} must be a JPEG, PNG, or WebP file")
    try:
        image = Image.open(io.BytesIO(part.data), formats=[kinds[part.type]])
        image.load()
    except (UnidentifiedImageError, OSError):
        raise Refused(400, f"{part.name} cannot be decoded") from None
    if max(image.size) > 6 * min(image.size):
        raise Refused(400, f"{part.name} must have a ratio between 1:6 and 6:1")
    return image


def measured(path: str, ask: msgspec.Struct, files: Files) -> tuple[int, int]:
    """How large the picture becomes, once all that was sent goes together."""
    given = next((images[0].size for name, images in files.items() if name != "mask"), None)
    if "mask" in files:
        check_mask(files)
        if isinstance(ask, Generate45) and ask.size != "auto":
            raise Refused(400, "size must not be sent with a mask")
        return given or (1024, 1024)
    if isinstance(ask, Generate45):
        return sized_45(ask, given)
    resolution, ratio = getattr(ask, "resolution", None), getattr(ask, "aspect_ratio", None)
    if isinstance(ask, Generate3 | PromptEdit) and resolution and ratio:
        raise Refused(400, "resolution and aspect_ratio are exclusive")
    if resolution and "x" in resolution:
        if resolution not in (SIZES_4 if isinstance(ask, Generate4 | Remix4) else SIZES_3):
            raise Refused(400, f"{resolution} is not a resolution")
        return parsed_size(resolution)
    if isinstance(ask, Upscale) and given:
        factor = int(ask.upscale_factor[1:])
        return given[0] * factor, given[1] * factor
    if isinstance(ask, Generate3 | PromptEdit) or not given:  # a remix is cropped to a square where nothing is said
        width, height = parsed_size((ratio or "1x1").removeprefix("ASPECT_").replace("_", "x"))
        return round(1024 * (width / height) ** 0.5), round(1024 / (width / height) ** 0.5)
    return given


def sized_45(ask: Generate45, given: tuple[int, int] | None) -> tuple[int, int]:
    if given is None:
        if ask.quality == "very_low":
            raise Refused(400, "very_low needs source images")
        if ask.size not in PRESETS_45 | {"auto"}:
            raise Refused(400, "size must be auto or a preset")
        return parsed_size(ask.size if ask.size != "auto" else "2048x2048")
    if ask.size in {"auto", "source"}:
        return given
    width, height = parsed_size(ask.size)
    if width % 32 or height % 32 or min(width, height) < 256 or width * height > 4_194_304:
        raise Refused(400, "size must be multiples of 32")
    return width, height


def check_mask(files: Files) -> None:
    """Black and white, both there, as large as the picture that it belongs to."""
    first, mask = (files.get("images") or files["image"])[0], files["mask"][0]
    if mask.size != first.size:
        raise Refused(400, "mask must have the size of the image")
    shades = mask.convert("L").histogram()
    if "A" in mask.getbands() or not any(shades[:128]) or not any(shades[128:]):
        raise Refused(400, "mask must have black and white pixels, and no transparent ones")
    if len(files.get("images", ())) > 4 or len(files.get("reference_images", ())) > 3:
        raise Refused(400, "at most 3 further images with a mask")
