"""Recraft's image endpoints, strict: every JSON body is read into its path's own struct, each picture in it is opened.

Only JSON is played, of the two kinds of bodies that the service takes.
"""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, parsed_size, picture

Unit: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Side: TypeAlias = Annotated[int, Meta(ge=0, le=4096)]
Switch: TypeAlias = Literal["on", "off"]


def words(text: str) -> list[str]:
    return text.split()


RATIOS = words("1:1 2:1 1:2 3:2 2:3 4:3 3:4 5:4 4:5 6:10 14:10 10:14 16:9 9:16")
AT_1K = words(
    "1024x1024 1536x768 768x1536 1280x832 832x1280 1216x896 896x1216 1152x896 896x1152 832x1344 1280x896 896x1280 "
    "1344x768 768x1344"
)
AT_2K = words(
    "2048x2048 3072x1536 1536x3072 2560x1664 1664x2560 2432x1792 1792x2432 2304x1792 1792x2304 1664x2688 2560x1792 "
    "1792x2560 2688x1536 1536x2688"
)
OF_V3 = words(
    "1024x1024 2048x1024 1024x2048 1536x1024 1024x1536 1365x1024 1024x1365 1280x1024 1024x1280 1024x1707 1434x1024 "
    "1024x1434 1820x1024 1024x1820"
)
COSTS = {
    "recraftv4_1": 35, "recraftv4_1_vector": 80, "recraftv4_1_pro": 210, "recraftv4_1_flash": 7, "recraftv4": 40,
    "recraftv4_styles": 35, "recraftv4_explore": 35, "recraftv3": 40, "recraftv3_vector": 80, "recraftv2": 22,
}  # fmt: skip


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    response_format: Literal["url", "b64_json"] = "url"
    image_format: Literal["webp", "png"] = "webp"
    expire: bool | None = None


class Painted(Body, kw_only=True):
    model: str
    n: Annotated[int, Meta(ge=1, le=6)] = 1
    random_seed: Annotated[int, Meta(ge=0, lt=2**32)] | None = None
    block_nsfw: bool | None = None
    calculate_features: bool | None = None


class Prompted(Painted, kw_only=True):
    prompt: Annotated[str, Meta(min_length=1, max_length=10_000)]
    style: str | None = None
    substyle: str | None = None
    style_id: str | None = None
    style_match: Literal["regular", "precise", "flexible"] | None = None
    negative_prompt: str | None = None
    text_layout: list[dict[str, Any]] | None = None
    controls: dict[str, Any] | None = None
    creativity: Literal["simple", "standard", "eccentric"] | None = None


class Generations(Prompted, kw_only=True):
    size: str | None = None
    style_reference_urls: Annotated[list[str], Meta(max_length=10)] | None = None
    upscale: Literal["upscale4mp", "upscale16mp"] | None = None


class ImageToImage(Prompted, kw_only=True):
    image_url: str
    strength: Unit


class ReplaceBackground(Prompted, kw_only=True):
    image_url: str


class Masked(ReplaceBackground, kw_only=True):
    mask_url: str


class Outpaint(ReplaceBackground, kw_only=True):
    size: str | None = None
    expand_left: Side = 0
    expand_right: Side = 0
    expand_top: Side = 0
    expand_bottom: Side = 0
    zoom_out_percentage: Annotated[float, Meta(ge=0, lt=100)] | None = None


class Variate(Painted, kw_only=True):
    image_url: str
    size: str


class Process(Body, kw_only=True):
    image_url: str


class Erase(Process, kw_only=True):
    mask_url: str


class Vectorize(Process, kw_only=True):
    svg_compression: Switch = "off"
    limit_num_shapes: Switch = "off"
    max_num_shapes: int | None = None
    color_reduction: Switch = "off"
    small_shape_filter: Switch = "off"
    return_gradients: Switch = "off"
    shape_stacking: Literal["cut_out", "hierarchical"] = "cut_out"
    strict_color_palette: Switch = "off"


BODIES: dict[str, type[Body]] = {
    "generations": Generations, "imageToImage": ImageToImage, "inpaint": Masked, "generateBackground": Masked,
    "replaceBackground": ReplaceBackground, "outpaint": Outpaint, "variateImage": Variate, "vectorize": Vectorize,
    "removeBackground": Process, "crispUpscale": Process, "creativeUpscale": Process, "eraseRegion": Erase,
}  # fmt: skip
ONLY_V3 = frozenset({"inpaint", "generateBackground", "replaceBackground", "outpaint"})
UNITS = {"vectorize": 10, "removeBackground": 10, "crispUpscale": 4, "creativeUpscale": 250, "eraseRegion": 2}


class Refused(Exception):
    """What the service answers with 400."""


@dataclass
class Recraft(Fake):
    name: ClassVar[str] = "recraft"
    generates: ClassVar[str] = "recraftv4_1"
    edits: ClassVar[str | None] = "recraftv4_1"
    masks: ClassVar[str | None] = "recraftv3"
    fuses: ClassVar[str | None] = "recraftv4_styles"

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/images/{path}", self.make), web.get("/files/{name}", self.file)]

    async def make(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
            return web.Response(status=401, text="request unauthorized")
        path = request.match_info["path"]
        if path not in BODIES:
            return web.Response(status=404, text="404 page not found")
        try:
            if request.content_type != "application/json" or set(request.query) - {"billing"}:
                raise Refused("unsupported request")
            body = msgspec.json.decode(await request.read(), type=BODIES[path])
            size = measured(path, body)
        except (Refused, msgspec.DecodeError) as error:
            return web.json_response({"code": "invalid_request_parameter", "message": str(error)}, status=400)
        return self.answer(path, body, size)

    def answer(self, path: str, body: Body, size: tuple[int, int]) -> web.Response:
        prompt = getattr(body, "prompt", "")
        if "refuse me" in prompt:
            refusal = {"code": "invalid_request", "message": "Prompt was rejected by content moderation"}
            return web.json_response(refusal, status=400)
        if "rate limit me" in prompt:
            return web.Response(status=429, text="too many requests")
        if "fail me" in prompt:
            return web.Response(status=500, text="internal server error")
        drawn = path == "vectorize" or "_vector" in getattr(body, "model", "")
        kind = "svg" if drawn else body.image_format
        count = 0 if "empty please" in prompt else getattr(body, "n", 1)
        made = [self.shown(body, size, kind, index) for index in range(count)]
        units = UNITS.get(path) or COSTS.get(getattr(body, "model", ""), 40) * count
        pictures = {"image": made[0]} if path in UNITS else {"data": made}
        return web.json_response({"created": 1_790_000_000, "credits": units, **pictures})

    def shown(self, body: Body, size: tuple[int, int], kind: str, index: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"image_id": f"00000000-0000-4000-8000-00000000000{index}"}
        if body.response_format == "url":
            return entry | {"url": f"{self.url}/files/{size[0]}x{size[1]}.{kind}?sig=good"}
        return entry | {"b64_json": base64.b64encode(made_file(size, kind)).decode()}

    async def file(self, request: web.Request) -> web.Response:
        """A signed address: whoever brings the credential has leaked it."""
        if request.query.get("sig") != "good" or "Authorization" in request.headers:
            return web.Response(status=403, text="forbidden")
        size, _, kind = request.match_info["name"].partition(".")
        return web.Response(body=made_file(parsed_size(size), kind), content_type=f"image/{kind}")


@lru_cache(maxsize=64)
def made_file(size: tuple[int, int], kind: str) -> bytes:
    if kind == "svg":
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}"></svg>'.encode()
    return picture(size, kind.upper())


def measured(path: str, body: Body) -> tuple[int, int]:
    """How large the picture becomes, once all that was sent fits the model and together."""
    model = getattr(body, "model", "")
    if isinstance(body, Painted):
        if model not in COSTS:
            raise Refused(f"model {model} is unknown")
        if path in ONLY_V3 and not model.startswith("recraftv3"):
            raise Refused(f"model {model} is not supported by {path}")
    if isinstance(body, Prompted):
        styled(body)
    given = opened(getattr(body, "image_url", None))
    if (mask := opened(getattr(body, "mask_url", None), mask=True)) and mask != given:
        raise Refused("mask must have the size of the image")
    for url in getattr(body, "style_reference_urls", None) or ():
        opened(url)
    if isinstance(body, Outpaint):
        return expanded(body, given or (0, 0))
    size = getattr(body, "size", None)
    if size is not None:
        return sized(size, model)
    return given or (1024, 1024)


def styled(body: Prompted) -> None:
    """V4 refuses what only its elders, or its models of styles, take."""
    plain = body.model.startswith("recraftv4") and not body.model.startswith("recraftv4_styles")
    if plain and (body.style or body.style_id or body.negative_prompt or body.text_layout):
        raise Refused("style, style_id, negative_prompt and text_layout are not supported by this model")
    if body.style and body.style_id:
        raise Refused("style and style_id are exclusive")
    if body.style in {"vivid", "natural"}:
        raise Refused(f"unknown style {body.style}")
    if body.model.startswith("recraftv4_styles") and not (
        body.style or body.style_id or getattr(body, "style_reference_urls", None)
    ):
        raise Refused("a style is required")
    if not plain and len(body.prompt) > 1000 and not body.model.startswith("recraftv4"):
        raise Refused("prompt is too long")


def sized(size: str, model: str) -> tuple[int, int]:
    known = OF_V3 if model.startswith(("recraftv3", "recraftv2")) else AT_2K if "_pro" in model else AT_1K
    if size in RATIOS:
        return parsed_size(known[RATIOS.index(size)])
    if "_vector" in model or size not in known:
        raise Refused(f"size {size} is not supported by {model}")
    return parsed_size(size)


def expanded(body: Outpaint, given: tuple[int, int]) -> tuple[int, int]:
    if body.size:
        return parsed_size(body.size)
    across, along = body.expand_left + body.expand_right, body.expand_top + body.expand_bottom
    if not across and not along:
        raise Refused("either size or expand_* is required")
    return given[0] + across, given[1] + along


def opened(url: str | None, mask: bool = False) -> tuple[int, int] | None:
    """The size of a picture in a data URL, decoded to its last pixel."""
    if url is None:
        return None
    head, comma, text = url.partition(",")
    if not comma or head not in {f"data:image/{kind};base64" for kind in ("png", "jpeg", "webp")}:
        raise Refused("image_url must be a URL or a data URL of an image")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        image.load()
    except (binascii.Error, UnidentifiedImageError, OSError):
        raise Refused("image cannot be decoded") from None
    if min(image.size) < 256 or max(image.size) > 4096:
        raise Refused("image sides must be between 256 and 4096")
    if mask and (image.mode != "L" or set(image.tobytes()) - {0, 255}):
        raise Refused("mask must be grayscale, of black and white only")
    return image.size
