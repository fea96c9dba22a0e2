"""Stability AI, strict: each path takes a form of exactly its own parts, and each picture in it is opened.

The legacy interface is played for text alone and for pictures. A task is ready when it is polled for the second time.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes import openai
from tests.fakes.base import GOOD_KEY, Fake, picture
from tests.fakes.openai import Received

Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Prompt: TypeAlias = Annotated[str, Meta(min_length=1, max_length=10_000)]
Ratio: TypeAlias = Literal["21:9", "16:9", "3:2", "5:4", "1:1", "4:5", "2:3", "9:16", "9:21"]
Side: TypeAlias = Annotated[int, Meta(ge=0, le=2000)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=4_294_967_294)]
Preset: TypeAlias = Literal[
    "enhance", "anime", "photographic", "digital-art", "comic-book", "fantasy-art", "line-art", "analog-film",
    "neon-punk", "isometric", "low-poly", "origami", "modeling-compound", "cinematic", "3d-model", "pixel-art",
    "tile-texture",
]  # fmt: skip


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    output_format: Literal["png", "jpeg", "webp"] = "png"


class Seeded(Body, kw_only=True):
    seed: Seed = 0


class Told(Seeded, kw_only=True):
    prompt: Prompt
    negative_prompt: str | None = None


class Styled(Told, kw_only=True):
    style_preset: Preset | None = None


class Core(Styled, kw_only=True):
    aspect_ratio: Ratio = "1:1"


class Ultra(Core, kw_only=True):
    strength: Share | None = None


class Sd3(Styled, kw_only=True):
    output_format: Literal["png", "jpeg"] = "png"
    model: Literal["sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium", "sd3.5-flash"] = "sd3.5-large"
    mode: Literal["text-to-image", "image-to-image"] = "text-to-image"
    aspect_ratio: Ratio | None = None
    strength: Share | None = None
    cfg_scale: Annotated[float, Meta(ge=1, le=10)] | None = None


class Inpaint(Styled, kw_only=True):
    grow_mask: Annotated[int, Meta(ge=0, le=100)] = 5


class Erase(Seeded, kw_only=True):
    grow_mask: Annotated[int, Meta(ge=0, le=20)] = 5


class Outpaint(Seeded, kw_only=True):
    prompt: Prompt | None = None
    style_preset: Preset | None = None
    left: Side = 0
    right: Side = 0
    up: Side = 0
    down: Side = 0
    creativity: Share = 0.5


class SearchAndReplace(Styled, kw_only=True):
    search_prompt: Prompt
    grow_mask: Annotated[int, Meta(ge=0, le=20)] = 3


class SearchAndRecolor(Styled, kw_only=True):
    select_prompt: Prompt
    grow_mask: Annotated[int, Meta(ge=0, le=20)] = 3


class RemoveBackground(Body, kw_only=True):
    output_format: Literal["png", "webp"] = "png"


class Relight(Seeded, kw_only=True):
    background_prompt: Prompt | None = None
    foreground_prompt: Prompt | None = None
    negative_prompt: str | None = None
    preserve_original_subject: Share = 0.6
    original_background_depth: Share = 0.5
    keep_original_background: Literal["true", "false"] = "false"
    light_source_direction: Literal["above", "below", "left", "right"] | None = None
    light_source_strength: Share = 0.3


class Control(Styled, kw_only=True):
    control_strength: Share = 0.7


class Style(Core, kw_only=True):
    fidelity: Share = 0.5


class Transfer(Seeded, kw_only=True):
    prompt: Prompt | None = None
    negative_prompt: str | None = None
    style_strength: Share = 1
    composition_fidelity: Share = 0.9
    change_strength: Annotated[float, Meta(ge=0.1, le=1)] = 0.9


class Conservative(Told, kw_only=True):
    creativity: Annotated[float, Meta(ge=0.2, le=0.5)] = 0.35


class Creative(Styled, kw_only=True):
    creativity: Annotated[float, Meta(ge=0.1, le=0.5)] = 0.3


class Text(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, Meta(min_length=1, max_length=2000)]
    weight: float = 1


class Legacy(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The first interface's members; a form holds its texts under their places."""

    text_prompts: Annotated[list[Text], Meta(min_length=1)]
    cfg_scale: Annotated[float, Meta(ge=0, le=35)] = 7
    width: int = 1024
    height: int = 1024
    samples: Annotated[int, Meta(ge=1, le=10)] = 1
    steps: Annotated[int, Meta(ge=10, le=50)] = 30
    seed: Annotated[int, Meta(ge=0, le=4_294_967_295)] = 0
    style_preset: Preset | None = None
    sampler: str | None = None
    clip_guidance_preset: str | None = None
    image_strength: Share | None = None
    init_image_mode: Literal["IMAGE_STRENGTH"] | None = None
    mask_source: Literal["MASK_IMAGE_WHITE", "MASK_IMAGE_BLACK", "INIT_IMAGE_ALPHA"] | None = None


NONE: frozenset[str] = frozenset()
IMAGE = frozenset({"image"})
PATHS: Mapping[str, tuple[type[Body], frozenset[str], frozenset[str]]] = {
    "generate/core": (Core, NONE, NONE),
    "generate/ultra": (Ultra, NONE, IMAGE),
    "generate/sd3": (Sd3, NONE, IMAGE),
    "edit/inpaint": (Inpaint, IMAGE, IMAGE | {"mask"}),
    "edit/erase": (Erase, IMAGE, IMAGE | {"mask"}),
    "edit/outpaint": (Outpaint, IMAGE, IMAGE),
    "edit/search-and-replace": (SearchAndReplace, IMAGE, IMAGE),
    "edit/search-and-recolor": (SearchAndRecolor, IMAGE, IMAGE),
    "edit/remove-background": (RemoveBackground, IMAGE, IMAGE),
    "edit/replace-background-and-relight": (
        Relight, frozenset({"subject_image"}), frozenset({"subject_image", "background_reference", "light_reference"}),
    ),
    "control/sketch": (Control, IMAGE, IMAGE),
    "control/structure": (Control, IMAGE, IMAGE),
    "control/style": (Style, IMAGE, IMAGE),
    "control/style-transfer": (
        Transfer, frozenset({"init_image", "style_image"}), frozenset({"init_image", "style_image"}),
    ),
    "upscale/fast": (Body, IMAGE, IMAGE),
    "upscale/conservative": (Conservative, IMAGE, IMAGE),
    "upscale/creative": (Creative, IMAGE, IMAGE),
}  # fmt: skip
"""Path: its texts, the files that it needs, the files that it takes."""
TASKS = frozenset({"upscale/creative", "edit/replace-background-and-relight"})
SDXL = {
    (1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216), (1344, 768), (768, 1344), (1536, 640), (640, 1536)
}  # fmt: skip
FLAGGED = "Your request was flagged by our content moderation system, as a result your request was denied."


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status, self.name = status, name


@dataclass
class Task:
    answer: dict[str, Any]
    polls: int = 0


@dataclass
class Stability(Fake):
    name: ClassVar[str] = "stability"
    generates: ClassVar[str] = "core"
    edits: ClassVar[str | None] = "ultra"
    masks: ClassVar[str | None] = "inpaint"
    fuses: ClassVar[str | None] = "control-style-transfer"

    tasks: dict[str, Task] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v2beta/stable-image/{path:.+}", self.make),
            web.get("/v2beta/results/{id}", self.result),
            web.post("/v1/generation/{engine}/{path:.+}", self.legacy),
        ]

    async def make(self, request: web.Request) -> web.Response:
        try:
            self.admit(request)
            path = request.match_info["path"]
            if path not in PATHS:
                raise Refused(404, "not_found", "The requested URL does not exist")
            if request.content_type != "multipart/form-data":
                raise Refused(400, "bad_request", "content-type: must be multipart/form-data")
            answer = made(path, await request.read(), request.headers["Content-Type"])
        except Refused as error:
            return refusal(error)
        if path not in TASKS:
            return web.json_response(answer)
        name = f"{len(self.tasks):064x}"
        self.tasks[name] = Task(answer)
        return web.json_response({"id": name})

    async def result(self, request: web.Request) -> web.Response:
        try:
            self.admit(request)
        except Refused as error:
            return refusal(error)
        name = request.match_info["id"]
        task = self.tasks.get(name)
        if task is None:
            return refusal(Refused(404, "generation_not_found", "The specified ID does not exist."))
        task.polls += 1
        if task.polls == 1:
            return web.json_response({"id": name, "status": "in-progress"}, status=202)
        return web.json_response(task.answer)

    async def legacy(self, request: web.Request) -> web.Response:
        try:
            self.admit(request)
            engine, path = request.match_info["engine"], request.match_info["path"]
            if engine not in {"stable-diffusion-xl-1024-v1-0", "stable-diffusion-v1-6"}:
                raise Refused(404, "not_found", f"The specified engine ({engine}) was not found.")
            ask, size = legacy_ask(path, await request.read(), request.headers["Content-Type"])
            if path == "text-to-image" and "xl" in engine and size not in SDXL:
                raise Refused(400, "bad_request", "for stable-diffusion-xl-1024-v1-0 the allowed dimensions are …")
            spoken(ask.text_prompts[0].text)
        except Refused as error:
            return web.json_response({"id": "0" * 32, "name": error.name, "message": str(error)}, status=error.status)
        count = 0 if "empty please" in ask.text_prompts[0].text else ask.samples
        entry = {"base64": drawn(size, "PNG"), "finishReason": "SUCCESS"}
        return web.json_response({"artifacts": [{**entry, "seed": seed} for seed in range(1, count + 1)]})

    def admit(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
            raise Refused(401, "unauthorized", "authorization: invalid or missing header value")
        if request.headers.get("Accept") != "application/json":
            raise Refused(400, "bad_request", "accept: this fake answers in JSON only")


def refusal(error: Refused) -> web.Response:
    return web.json_response({"id": "0" * 32, "name": error.name, "errors": [str(error)]}, status=error.status)


def spoken(prompt: str) -> None:
    """The words that every fake understands."""
    if "refuse me" in prompt:
        raise Refused(403, "content_moderation", FLAGGED)
    if "rate limit me" in prompt:
        raise Refused(429, "rate_limit_exceeded", "You have exceeded the rate limit of 150 requests within 10 seconds")
    if "fail me" in prompt:
        raise Refused(500, "internal_error", "An unexpected server error has occurred")


def parts(data: bytes, content_type: str) -> tuple[dict[str, str], dict[str, Image.Image]]:
    """The texts of a form, and its pictures, each decoded to its last pixel. No name comes twice."""
    try:
        received = openai.form(content_type, data)
    except openai.Refused as error:
        raise Refused(400, "bad_request", str(error)) from None
    if len({part.name for part in received}) != len(received):
        raise Refused(400, "bad_request", "a part comes twice")
    texts = {part.name: part.data.decode() for part in received if part.filename is None}
    return texts, {part.name: opened(part) for part in received if part.filename is not None}


def opened(part: Received) -> Image.Image:
    kinds = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
    if part.type not in kinds or not (part.filename or "").endswith((".png", ".jpg", ".webp")):
        raise Refused(400, "bad_request", f"{part.name}: must be an image in PNG, JPEG or WebP")
    try:
        image = Image.open(io.BytesIO(part.data), formats=[kinds[part.type]])
        image.load()
    except (UnidentifiedImageError, OSError):
        raise Refused(400, "bad_request", f"{part.name}: cannot be decoded") from None
    if min(image.size) < 32 or image.width * image.height > 9_437_184:
        raise Refused(400, "bad_request", f"{part.name}: has a wrong size")
    return image


def made(path: str, data: bytes, content_type: str) -> dict[str, Any]:
    shape, needed, known = PATHS[path]
    texts, files = parts(data, content_type)
    if not needed <= files.keys() <= known:
        raise Refused(400, "bad_request", f"image: expected the files {sorted(known)}, got {sorted(files)}")
    try:
        ask = msgspec.convert(texts, shape, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(400, "bad_request", str(error)) from None
    size = measured(path, ask, files)
    prompt = getattr(ask, "prompt", None) or getattr(ask, "background_prompt", None) or ""
    spoken(prompt)
    answer = {"finish_reason": "SUCCESS", "seed": 343940597}
    return answer if "empty please" in prompt else {"image": drawn(size, ask.output_format.upper()), **answer}


def measured(path: str, ask: Body, files: Mapping[str, Image.Image]) -> tuple[int, int]:
    """How large the picture becomes, once all that was sent goes together."""
    first = next(iter(files.values()), None)
    if path.startswith("generate/") and (first is None) != (getattr(ask, "strength", None) is None):
        raise Refused(400, "bad_request", "strength: goes together with image")
    if isinstance(ask, Sd3) and ((ask.mode == "text-to-image") != (first is None) or (first and ask.aspect_ratio)):
        raise Refused(400, "bad_request", "mode: does not fit the other parts")
    if path in {"edit/inpaint", "edit/erase"} and "mask" not in files and (first is None or first.mode != "RGBA"):
        raise Refused(400, "bad_request", "mask: is required when the image has no alpha")
    if "mask" in files and files["mask"].mode != "L":
        raise Refused(400, "bad_request", "mask: must be grayscale")
    if isinstance(ask, Outpaint) and first:
        if not any((ask.left, ask.right, ask.up, ask.down)):
            raise Refused(400, "bad_request", "left: at least one side must be greater than 0")
        return first.width + ask.left + ask.right, first.height + ask.up + ask.down
    if first and not isinstance(ask, Style):
        scale = 4 if path == "upscale/fast" else 1
        return first.width * scale, first.height * scale
    width, _, height = (getattr(ask, "aspect_ratio", None) or "1:1").partition(":")
    ratio = int(width) / int(height)
    return round(1024 * ratio**0.5), round(1024 / ratio**0.5)


def legacy_ask(path: str, data: bytes, content_type: str) -> tuple[Legacy, tuple[int, int]]:
    """The first interface's request, and the size that its pictures get."""
    if path == "text-to-image":
        raw, files = json.loads(data), dict[str, Image.Image]()
    else:
        texts, files = parts(data, content_type)
        prompts: dict[str, dict[str, str]] = {}
        raw = {}
        for name, value in texts.items():
            if name.startswith("text_prompts["):
                index, member = name.removeprefix("text_prompts[").removesuffix("]").split("][")
                prompts.setdefault(index, {})[member] = value
            else:
                raw[name] = value
        raw["text_prompts"] = list(prompts.values())
    needed = {"text-to-image": set(), "image-to-image": {"init_image"}}.get(path, {"init_image", "mask_image"})
    try:
        ask = msgspec.convert(raw, Legacy, strict=not files)
    except msgspec.ValidationError as error:
        raise Refused(400, "bad_request", str(error)) from None
    if files.keys() != needed or (ask.mask_source is not None) != ("mask_image" in files):
        raise Refused(400, "bad_request", f"expected the files {sorted(needed)}, got {sorted(files)}")
    return ask, files["init_image"].size if files else (ask.width, ask.height)


@lru_cache(maxsize=64)
def drawn(size: tuple[int, int], kind: str) -> str:
    return base64.b64encode(picture(size, kind)).decode()
