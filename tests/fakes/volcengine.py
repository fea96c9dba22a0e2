"""Volcengine Ark's one image call, as strict as it is: each model takes its own fields and sizes, others are refused.

Beyond the common words, `refuse one` in a prompt fails the last picture of a group.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, parsed_size
from tests.fakes.base import picture as plain

CREATED = 1_790_000_000
OPAQUE = (40, 120, 200)


class Group(msgspec.Struct, forbid_unknown_fields=True):
    max_images: Annotated[int, Meta(ge=1, le=15)] = 15


class Optimize(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["standard", "fast"] = "standard"


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["web_search"]


class Ask(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every field that some model takes. `response_format` is always asked for: the default, links, is not played."""

    model: str
    prompt: str
    response_format: Literal["b64_json"]
    image: str | list[str] | None = None
    size: str | None = None
    seed: Annotated[int, Meta(ge=-1, le=2_147_483_647)] | None = None
    guidance_scale: Annotated[float, Meta(ge=1, le=10)] | None = None
    output_format: Literal["png", "jpeg"] | None = None
    watermark: bool = True
    sequential_image_generation: Literal["auto", "disabled"] | None = None
    sequential_image_generation_options: Group | None = None
    stream: bool | None = None
    optimize_prompt_options: Optimize | None = None
    tools: list[Tool] | None = None
    background: Literal["auto", "transparent", "opaque"] | None = None
    layer_decomposition: bool | None = None


@dataclass(frozen=True)
class Model:
    """What one model takes beyond `COMMON`."""

    fields: frozenset[str]
    tiers: tuple[str, ...] = ()
    pixels: tuple[int, int] = (0, 0)
    edge: tuple[int, int] = (1, 1 << 16)
    images: tuple[int, int] = (0, 10)  # least and most
    default: tuple[int, int] = (2048, 2048)
    format: str = "jpeg"


COMMON = frozenset({"model", "prompt", "response_format", "size", "watermark"})
GROUP = frozenset(
    {"image", "optimize_prompt_options", "sequential_image_generation", "sequential_image_generation_options", "stream"}
)
LAYER = frozenset({"image", "optimize_prompt_options", "output_format", "background", "layer_decomposition"})
TUNED = frozenset({"seed", "guidance_scale"})
TIERS = {"1K": (1024, 1024), "1.5K": (1536, 1536), "2K": (2048, 2048), "3K": (3072, 3072), "4K": (4096, 4096)}
SMALL, LARGE = (921_600, 4_624_220), 16_777_216
MODELS = {
    r"(doubao|dola)-seedream-5-5-261028": Model(LAYER, ("1K", "1.5K", "2K"), SMALL, format="png"),
    r"(doubao|dola)-seedream-5-0-(pro-260628|flash-260915)": Model(LAYER, ("1K", "1.5K", "2K"), SMALL),
    r"(doubao-)?seedream-5-0-(lite-)?260128": Model(
        GROUP | {"output_format", "tools"}, ("2K", "3K", "4K"), (3_686_400, LARGE), images=(0, 14)
    ),
    r"(doubao-)?seedream-4-5-251128": Model(GROUP, ("2K", "4K"), (3_686_400, LARGE), images=(0, 14)),
    r"(doubao-)?seedream-4-0-250828": Model(GROUP, ("1K", "2K", "4K"), (921_600, LARGE), images=(0, 14)),
    r"(doubao-)?seedream-3-0-t2i-250415": Model(
        TUNED, pixels=(512 * 512, 2048 * 2048), edge=(512, 2048), default=(1024, 1024)
    ),
    r"doubao-seededit-3-0-i2i-250628": Model(TUNED | {"image"}, ("adaptive",), images=(1, 1), default=(1024, 1024)),
}


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, code: str, message: str, *, status: int = 400, param: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.param = code, message, status, param


def invalid(param: str, message: str) -> Refused:
    return Refused(
        "InvalidParameter", f"The parameter `{param}` is not valid: {message}. Request id: 0217", param=param
    )


@dataclass
class Volcengine(Fake):
    name: ClassVar[str] = "volcengine"
    generates: ClassVar[str] = "doubao-seedream-4-0-250828"
    edits: ClassVar[str | None] = "doubao-seedream-4-0-250828"
    fuses: ClassVar[str | None] = "doubao-seedream-4-0-250828"
    streams: ClassVar[str | None] = "doubao-seedream-4-0-250828"

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/api/v3"}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/v3/images/generations", self.generate)]

    async def generate(self, request: web.Request) -> web.StreamResponse:
        try:
            authorized(request)
            ask, model = await read(request)
            images = pictures(ask, model)
            size = sized(ask, model)
            prompted(ask)
        except Refused as refused:
            error = {"code": refused.code, "message": refused.message, "param": refused.param, "type": "BadRequest"}
            return web.json_response({"error": error}, status=refused.status, headers={"x-error-code": refused.code})
        made = results(ask, model, size, len(images))
        good = sum("error" not in each for each in made)
        tokens = round(good * size[0] * size[1] / 256)
        usage = {"generated_images": good, "output_tokens": tokens, "total_tokens": tokens}
        if ask.stream:
            return await streamed(request, ask.model, made, usage)
        return web.json_response({"model": ask.model, "created": CREATED, "data": made, "usage": usage})


def authorized(request: web.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
        text = "the API key or AK/SK in the request is missing or invalid. request id: 0217"
        raise Refused("AuthenticationError", text, status=401)


async def read(request: web.Request) -> tuple[Ask, Model]:
    """The body, with no field that its model does not take."""
    try:
        ask = msgspec.json.decode(await request.read(), type=Ask)
    except msgspec.DecodeError as error:
        found = re.search(r"`\$?\.?(\w+)[^`]*`$", str(error)) or re.search(r"field `(\w+)`", str(error))
        raise invalid(found[1] if found else "", str(error)) from error
    model = next((model for name, model in MODELS.items() if re.fullmatch(name, ask.model)), None)
    if model is None:
        text = f"The model or endpoint {ask.model} does not exist or you do not have access to it. Request id: 0217"
        raise Refused("InvalidEndpointOrModel.NotFound", text, status=404)
    for name in ask.__struct_fields__:
        if name not in COMMON | model.fields and getattr(ask, name) is not None:
            raise invalid(name, "it is not supported by the current model")
    return ask, model


def pictures(ask: Ask, model: Model) -> list[Image.Image]:
    """The input images, each a data URL of what it says it is."""
    given = [ask.image] if isinstance(ask.image, str) else ask.image or []
    least, most = model.images
    if not least <= len(given) <= most:
        raise invalid("image", f"number of reference images cannot exceed {most}" if given else "it is missing")
    images: list[Image.Image] = []
    for url in given:
        found = re.fullmatch(r"data:image/(jpeg|png|webp|bmp|tiff|gif|heic|heif);base64,(.+)", url, re.DOTALL)
        if not found:
            raise Refused(
                "InvalidImageURL.InvalidFormat", "The image is not a data URL. Request id: 0217", param="image"
            )
        try:
            image = Image.open(io.BytesIO(pybase64.b64decode(found[2], validate=True)))
            image.load()
        except (ValueError, UnidentifiedImageError, OSError) as error:
            raise invalid("image", f"it cannot be decoded: {error}") from error
        if (image.format or "").lower() != found[1]:
            raise invalid("image", f"it is {image.format}, not {found[1]}")
        images.append(image)
    if ask.background == "transparent":
        transparent(ask, model, images)
    if ask.layer_decomposition and (len(images) != 1 or ask.background):
        raise invalid("layer_decomposition", "it requires exactly one input image and no background")
    return images


def transparent(ask: Ask, model: Model, images: list[Image.Image]) -> None:
    if (ask.output_format or model.format) != "png":
        raise invalid("output_format", "must be png when background is transparent")
    if model.format == "png":  # 5.5 asks for no input
        return
    if len(images) != 1:
        raise invalid("background", "transparent background requires exactly one input image")
    if images[0].format != "PNG" or min(images[0].convert("RGBA").getchannel("A").tobytes()) == 255:
        raise invalid("background", "requires a PNG input with at least one transparent pixel")


def sized(ask: Ask, model: Model) -> tuple[int, int]:
    """Width and height of what is made."""
    if ask.size is None:
        return model.default
    if ask.size in model.tiers or (ask.size == "auto" and ask.layer_decomposition):
        return TIERS.get(ask.size, model.default)
    if not re.fullmatch(r"\d+x\d+", ask.size) or not model.pixels[1]:
        raise invalid("size", f"'{ask.size}' is none of {', '.join(model.tiers)} and no WIDTHxHEIGHT")
    width, height = parsed_size(ask.size)
    least, most = model.pixels
    if not least <= width * height <= most:
        raise invalid("size", f"image size must be at least {least} and at most {most} pixels")
    if not 1 / 16 <= width / height <= 16 or not all(
        model.edge[0] <= each <= model.edge[1] for each in (width, height)
    ):
        raise invalid("size", f"{ask.size} is out of shape")
    return width, height


def prompted(ask: Ask) -> None:
    """What the common words ask for."""
    if not ask.prompt and not ask.layer_decomposition:
        raise Refused("MissingParameter.prompt", "The request is missing `prompt`. Request id: 0217", param="prompt")
    if "refuse me" in ask.prompt:
        text = "The request failed because the input text may contain sensitive information. Request id: 0217"
        raise Refused("InputTextSensitiveContentDetected", text)
    if "rate limit me" in ask.prompt:
        text = "The request has exceeded the images per minute limit of the model. Request id: 0217"
        raise Refused("ModelAccountIpmRateLimitExceeded", text, status=429)
    if "fail me" in ask.prompt:
        text = "The service encountered an unexpected internal error. Request id: 0217"
        raise Refused("InternalServiceError", text, status=500)


def results(ask: Ask, model: Model, size: tuple[int, int], given: int) -> list[dict[str, Any]]:
    """`data`: one picture, or as many as a group may have."""
    if "empty please" in ask.prompt:
        return []
    count = 1
    if ask.sequential_image_generation == "auto":
        count = min((ask.sequential_image_generation_options or Group()).max_images, 15 - given)
    kind = ask.output_format or model.format
    made: dict[str, Any] = {
        "b64_json": drawn(size, kind, ask.background == "transparent"),
        "size": "{}x{}".format(*size),
    }
    if "output_format" in model.fields:
        made["output_format"] = kind
    data = [made] * count
    if "refuse one" in ask.prompt:
        text = "The request failed because the output image may contain sensitive information. Request id: 0217"
        data[-1] = {"error": {"code": "OutputImageSensitiveContentDetected", "message": text}}
    return data


@lru_cache(16)
def drawn(size: tuple[int, int], kind: str, clear: bool) -> str:
    if not clear:
        return pybase64.b64encode(plain(size, kind.upper(), OPAQUE)).decode()
    out = io.BytesIO()
    Image.new("RGBA", size, (*OPAQUE, 0)).save(out, "PNG")
    return pybase64.b64encode(out.getvalue()).decode()


async def streamed(
    request: web.Request, model: str, made: list[dict[str, Any]], usage: Mapping[str, int]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)

    async def send(kind: str, **more: Any) -> None:
        data = {"type": f"image_generation.{kind}", "model": model, "created": CREATED, **more}
        await response.write(f"event: image_generation.{kind}\ndata: {json.dumps(data)}\n\n".encode())

    for index, each in enumerate(made):
        await send("partial_failed" if "error" in each else "partial_succeeded", image_index=index, **each)
    await send("completed", usage=usage)
    await response.write(b"data: [DONE]\n\n")
    return response
