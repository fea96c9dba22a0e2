"""Black Forest Labs, strict: every body is read into its path's own struct, and each picture in it is opened."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from uuid import uuid4

import msgspec
from aiohttp import web
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, picture

Format: TypeAlias = Literal["jpeg", "png", "webp"]
Six: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=6)]
Five: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=5)]
Edge: TypeAlias = Annotated[int, msgspec.Meta(ge=256, le=1440, multiple_of=32)]
Edge2: TypeAlias = Annotated[int, msgspec.Meta(ge=64, multiple_of=16)]
Side: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2048)]
RATIO = re.compile(r"(\d+):(\d+)")


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    output_format: Format = "jpeg"
    user: str | None = None


class Flux1(Body, kw_only=True):
    prompt: str | None = None
    seed: int | None = None
    safety_tolerance: Six = 2
    prompt_upsampling: bool = False


class Pro11(Flux1, kw_only=True):
    image_prompt: str | None = None
    width: Edge = 1024
    height: Edge = 768


class Dev(Pro11, kw_only=True):
    steps: Annotated[int, msgspec.Meta(ge=1, le=50)] = 28
    guidance: Annotated[float, msgspec.Meta(ge=1.5, le=5)] = 3.0


class Ultra(Flux1, kw_only=True):
    aspect_ratio: str = "16:9"
    raw: bool = False
    image_prompt: str | None = None
    image_prompt_strength: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1


class UltraFinetuned(Ultra, kw_only=True):
    finetune_id: str
    finetune_strength: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1.2


class Kontext(Flux1, kw_only=True):
    prompt: str
    output_format: Format = "png"
    input_image: str | None = None
    input_image_2: str | None = None
    input_image_3: str | None = None
    input_image_4: str | None = None
    aspect_ratio: str | None = None


class Painted(Flux1, kw_only=True):
    image: str
    steps: Annotated[int, msgspec.Meta(ge=15, le=50)] = 50
    guidance: Annotated[float, msgspec.Meta(ge=1.5, le=100)] = 60.0


class Fill(Painted, kw_only=True):
    mask: str


class FillFinetuned(Fill, kw_only=True):
    finetune_id: str
    finetune_strength: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1.1


class Expand(Painted, kw_only=True):
    top: Side = 0
    bottom: Side = 0
    left: Side = 0
    right: Side = 0


class Klein(Body, kw_only=True):
    prompt: str
    seed: int | None = None
    safety_tolerance: Five = 2
    input_image: str | None = None
    input_image_2: str | None = None
    input_image_3: str | None = None
    input_image_4: str | None = None
    width: Edge2 | Literal[0] = 0
    height: Edge2 | Literal[0] = 0


class Eight(Klein, kw_only=True):
    input_image_5: str | None = None
    input_image_6: str | None = None
    input_image_7: str | None = None
    input_image_8: str | None = None


class Pro2(Eight, kw_only=True):
    disable_pup: bool = False


class Flex(Eight, kw_only=True):
    prompt_upsampling: bool = True
    guidance: Annotated[float, msgspec.Meta(ge=1.5, le=10)] = 5.0
    steps: Annotated[int, msgspec.Meta(ge=1, le=50)] = 50


class Flux3(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: str
    images: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=10)] | None = None
    aspect_ratio: Literal[
        "auto", "21:9", "2:1", "16:9", "3:2", "7:5", "4:3", "5:4", "1:1", "4:5", "3:4", "5:7", "2:3", "9:16", "1:2",
        "9:21",
    ] = "auto"  # fmt: skip
    resolution: Literal["768sq", "1k", "1.5k", "2k", "4k"] = "1k"
    grounding: bool = True
    safety_tolerance: Annotated[int, msgspec.Meta(ge=0, le=4)] = 2
    version: str = "latest"


class Tool(Body, kw_only=True):
    seed: int | None = None
    safety_tolerance: Five = 2


class Deblur(Tool, kw_only=True):
    image: str
    output_format: Format = "png"


class Erase(Deblur, kw_only=True):
    mask: str
    dilate_pixels: Annotated[int, msgspec.Meta(ge=0, le=25)] = 10


class Outpainting(Body, kw_only=True):
    input_image: str
    width: int
    height: int
    prompt: str | None = None
    auto_crop: bool = False
    reference_offset_x: int | None = None
    reference_offset_y: int | None = None
    mode: Literal["high", "fast"] = "high"
    disable_pup: bool = False
    safety_tolerance: Five = 2
    output_format: Format = "png"


class TryOn(Tool, kw_only=True):
    prompt: str
    person: str
    garment: str


BODIES: dict[str, type[msgspec.Struct]] = {
    "flux-3-image": Flux3, "flux-2-max": Pro2, "flux-2-pro": Pro2, "flux-2-pro-preview": Pro2, "flux-2-flex": Flex,
    "flux-2-klein-9b": Klein, "flux-2-klein-9b-preview": Klein, "flux-2-klein-4b": Klein,
    "flux-kontext-pro": Kontext, "flux-kontext-max": Kontext, "flux-pro-1.1": Pro11, "flux-dev": Dev,
    "flux-pro-1.1-ultra": Ultra, "flux-pro-1.1-ultra-finetuned": UltraFinetuned, "flux-pro-1.0-fill": Fill,
    "flux-pro-1.0-fill-finetuned": FillFinetuned, "flux-pro-1.0-expand": Expand, "flux-tools/erase-v1": Erase,
    "flux-tools/deblur-v1": Deblur, "flux-tools/outpainting-v1": Outpainting, "flux-tools/vto-v1": TryOn,
    "flux-tools/vto-v2": TryOn,
}  # fmt: skip
PICTURES = ("image", "input_image", *(f"input_image_{number}" for number in range(2, 9)), "image_prompt", "person",
            "garment", "images", "mask")  # fmt: skip
PIXELS = {"768sq": 768**2, "1k": 1 << 20, "1.5k": 1536**2, "2k": 1 << 22, "4k": 1 << 24}


class Invalid(Exception):
    """What the service answers with 422."""

    def __init__(self, name: str, message: str, kind: str = "value_error") -> None:
        super().__init__(message)
        self.entry = {"loc": ["body", name] if name else ["body"], "msg": message, "type": kind}


@dataclass
class Task:
    prompt: str
    size: tuple[int, int]
    format: str
    polls: int = 0


@dataclass
class Bfl(Fake):
    """`flux-2-pro`, fill, and all their kin."""

    name: ClassVar[str] = "bfl"
    generates: ClassVar[str] = "flux-2-pro"
    edits: ClassVar[str | None] = "flux-2-pro"
    masks: ClassVar[str | None] = "flux-pro-1.0-fill"
    fuses: ClassVar[str | None] = "flux-2-pro"

    tasks: dict[str, Task] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/get_result", self.poll),
            web.post("/v1/{model:.+}", self.submit),
            web.get("/files/{name}", self.file),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        if request.headers.get("x-key") != GOOD_KEY:
            return detail(403, "Not authenticated")
        shape = BODIES.get(request.match_info["model"])
        if shape is None:
            return detail(404, "Not Found")
        if request.content_type != "application/json":
            return detail(422, [{"loc": ["body"], "msg": "Input should be a valid dictionary", "type": "model_type"}])
        try:
            body = read(await request.read(), shape)
            size = measure(body, opened(body))
        except Invalid as error:
            return detail(422, [error.entry])
        prompt = getattr(body, "prompt", None) or ""
        if "rate limit me" in prompt:
            return detail(429, "Rate limit exceeded: 24 active tasks")
        if "fail me" in prompt:
            return detail(500, "Internal Server Error")
        name = str(uuid4())
        self.tasks[name] = Task(prompt, size, getattr(body, "output_format", "jpeg"))
        url = f"{self.url}/v1/get_result?id={name}"
        return web.json_response({"id": name, "polling_url": url, "cost": 3.0, "input_mp": 0.0, "output_mp": 1.0})

    async def poll(self, request: web.Request) -> web.Response:
        if request.headers.get("x-key") != GOOD_KEY:
            return detail(403, "Not authenticated")
        name = request.query.get("id", "")
        task = self.tasks.get(name)
        if task is None:
            return web.json_response({"id": name, "status": "Task not found", "result": None})
        task.polls += 1
        answer: dict[str, Any] = {"id": name, "result": None, "progress": None, "details": None, "preview": None}
        if task.polls == 1:
            return web.json_response(answer | {"status": "Pending", "progress": 0.5})
        if "refuse me" in task.prompt:
            reasons = {"Moderation Reasons": ["Derivative Works Filter"]}
            return web.json_response(answer | {"status": "Request Moderated", "details": reasons})
        sample = None if "empty please" in task.prompt else f"{self.url}/files/{name}.{task.format}?sig=good"
        result = {"sample": sample, "prompt": task.prompt, "seed": 7, "duration": 4.1}
        return web.json_response(answer | {"status": "Ready", "result": result, "progress": 1.0, "cost": 3.0})

    async def file(self, request: web.Request) -> web.Response:
        """A pre-signed address: whoever brings a credential has leaked it."""
        if request.query.get("sig") != "good" or {"x-key", "Authorization"} & request.headers.keys():
            return web.Response(status=403, text="<Error><Code>AuthenticationFailed</Code></Error>")
        name, _, kind = request.match_info["name"].partition(".")
        task = self.tasks[name]
        return web.Response(body=picture(task.size, kind.upper()), content_type=f"image/{kind}")


def detail(status: int, what: Any) -> web.Response:
    return web.json_response({"detail": what}, status=status)


def read(data: bytes, shape: type[msgspec.Struct]) -> msgspec.Struct:
    """The body, of exactly the members and types that its path knows."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        found = re.search(r"field `(\w+)`|\$\.(\w+)", str(error))
        kind = "extra_forbidden" if "unknown field" in str(error) else "value_error"
        raise Invalid(found.group(1) or found.group(2) if found else "", str(error), kind) from None


def opened(body: msgspec.Struct) -> dict[str, tuple[int, int]]:
    """The sizes of the pictures in a body, each decoded to its last pixel."""
    sizes: dict[str, tuple[int, int]] = {}
    for name in PICTURES:
        given = getattr(body, name, None)
        for text in [given] if isinstance(given, str) else given or ():
            try:
                image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
                image.load()
            except (binascii.Error, UnidentifiedImageError, OSError):
                raise Invalid(name, "Invalid image data") from None
            if name == "mask" and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise Invalid(name, "The mask must be black and white")
            if isinstance(body, Flux3) and min(image.size) < 256:
                raise Invalid(name, "Images must be at least 256x256")
            sizes.setdefault(name, image.size)
    if "mask" in sizes and sizes["mask"] != sizes["image"]:
        raise Invalid("mask", "The mask must have the size of the image")
    return sizes


def measure(body: msgspec.Struct, inputs: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """How large the service makes the picture."""
    first = next(iter(inputs.values()), (1024, 1024))
    if isinstance(body, Expand):
        return first[0] + body.left + body.right, first[1] + body.top + body.bottom
    width, height = int(getattr(body, "width", 0)), int(getattr(body, "height", 0))
    if width:
        if isinstance(body, Klein) and width * height > 4 << 20:
            raise Invalid("width", "The picture may have at most 4 megapixels")
        return width, height
    ratio = getattr(body, "aspect_ratio", None)
    if ratio in {None, "auto"}:
        return first
    parts = RATIO.fullmatch(ratio)
    share = int(parts[1]) / int(parts[2]) if parts else 0
    if not 9 / 21 <= share <= 21 / 9:
        raise Invalid("aspect_ratio", "Aspect ratio must be between 21:9 and 9:21")
    pixels = PIXELS.get(getattr(body, "resolution", ""), 1 << 22 if isinstance(body, Ultra) else 1 << 20)
    return round((pixels * share) ** 0.5), round((pixels / share) ** 0.5)
