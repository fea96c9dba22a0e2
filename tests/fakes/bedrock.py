"""Bedrock's InvokeModel for Stability AI's models, strict: each takes exactly its own members, signed or with a key.

A signature is made anew from what arrived, with the path as it stood on the wire.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, picture
from tests.fakes.stability import Preset, Prompt, Ratio, Seed, Share, Side

ACCESS_KEY, SECRET_KEY = "AKIATEST", "test-secret"
Grow: TypeAlias = Annotated[int, Meta(ge=0, le=20)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    output_format: Literal["png", "jpeg", "webp"] = "png"


class Drawn(Body, kw_only=True):
    prompt: Prompt
    output_format: Literal["png", "jpeg"] = "png"
    aspect_ratio: Ratio = "1:1"
    seed: Seed = 0


class Ultra(Drawn, kw_only=True):
    image: str | None = None
    strength: Share | None = None


class Sd35(Ultra, kw_only=True):
    mode: Literal["text-to-image", "image-to-image"] = "text-to-image"
    negative_prompt: str | None = None


class Pictured(Body, kw_only=True):
    image: str


class Erase(Pictured, kw_only=True):
    mask: str | None = None
    grow_mask: Grow = 5
    seed: Seed = 0


class Told(Pictured, kw_only=True):
    prompt: Prompt
    negative_prompt: str | None = None
    seed: Seed = 0


class Styled(Told, kw_only=True):
    style_preset: Preset | None = None


class Inpaint(Styled, kw_only=True):
    mask: str | None = None
    grow_mask: Grow = 5


class Replace(Styled, kw_only=True):
    search_prompt: str
    grow_mask: Grow = 5


class Recolor(Styled, kw_only=True):
    select_prompt: str
    grow_mask: Grow = 5


class Control(Styled, kw_only=True):
    control_strength: Share = 0.7


class Guide(Styled, kw_only=True):
    aspect_ratio: Ratio = "1:1"
    fidelity: Share = 0.5


class Transfer(Body, kw_only=True):
    init_image: str
    style_image: str
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: Seed = 0
    style_strength: Share = 1
    composition_fidelity: Share = 0.9
    change_strength: Share = 0.9


class Outpaint(Pictured, kw_only=True):
    left: Side = 0
    right: Side = 0
    up: Side = 0
    down: Side = 0
    prompt: str | None = None
    creativity: Share = 0.5
    seed: Seed = 0
    style_preset: Preset | None = None


class Upscale(Told, kw_only=True):
    creativity: Share = 0.35


class Creative(Upscale, kw_only=True):
    style_preset: Preset | None = None


SERVICES: Mapping[str, type[Body]] = {
    "image-inpaint": Inpaint, "image-erase-object": Erase, "image-search-replace": Replace,
    "image-search-recolor": Recolor, "image-remove-background": Pictured, "image-control-sketch": Control,
    "image-control-structure": Control, "image-style-guide": Guide, "style-transfer": Transfer, "outpaint": Outpaint,
    "fast-upscale": Pictured, "conservative-upscale": Upscale, "creative-upscale": Creative,
}  # fmt: skip
BODIES: Mapping[str, type[Body]] = {
    "stability.stable-image-core-v1:1": Drawn,
    "stability.sd3-5-large-v1:0": Sd35,
    "stability.stable-image-ultra-v1:1": Ultra,
    **{f"us.stability.stable-{name}-v1:0": shape for name, shape in SERVICES.items()},
}


class Refused(Exception):
    """An answer with an error: status, type, message."""


@dataclass
class Bedrock(Fake):
    name: ClassVar[str] = "bedrock"
    generates: ClassVar[str] = "stability.stable-image-core-v1:1"
    edits: ClassVar[str | None] = "stability.sd3-5-large-v1:0"
    masks: ClassVar[str | None] = "us.stability.stable-image-inpaint-v1:0"
    fuses: ClassVar[str | None] = "us.stability.stable-style-transfer-v1:0"

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/model/{model}/invoke", self.invoke)]

    async def invoke(self, request: web.Request) -> web.Response:
        try:
            authorized(request, await request.read())
            shape = BODIES.get(request.match_info["model"])
            if shape is None:
                text = "with on-demand throughput isn't supported" if known(request) else "identifier is invalid"
                raise Refused(400, "ValidationException", f"The provided model {text}.")
            return answered(read(await request.read(), shape))
        except Refused as refused:
            status, kind, message = refused.args
            return web.json_response({"message": message}, status=status, headers={"x-amzn-ErrorType": kind})


def known(request: web.Request) -> bool:
    return f"us.{request.match_info['model']}" in BODIES


def authorized(request: web.Request, body: bytes) -> None:
    scheme, _, said = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer":
        if said != GOOD_KEY:
            raise Refused(
                403, "AccessDeniedException", "Authentication failed: Please make sure your API Key is valid."
            )
        return
    if scheme != "AWS4-HMAC-SHA256":
        raise Refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    parts = dict(part.split("=", 1) for part in said.split(", "))
    key, day, region, service, end = parts["Credential"].split("/")
    if key != ACCESS_KEY:
        raise Refused(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    names = parts["SignedHeaders"].split(";")
    moment = request.headers["X-Amz-Date"]
    if not {"host", "x-amz-date"} <= {*names} or (service, end, day) != ("bedrock", "aws4_request", moment[:8]):
        raise Refused(403, "InvalidSignatureException", "Credential should be scoped to correct service: 'bedrock'.")
    lines = "".join(f"{name}:{request.headers[name]}\n" for name in names)
    digest = hashlib.sha256(body).hexdigest()
    path = quote(request.raw_path.partition("?")[0], safe="/-_.~")
    canonical = f"POST\n{path}\n\n{lines}\n{parts['SignedHeaders']}\n{digest}"
    scope = f"{day}/{region}/{service}/{end}"
    text = f"{scheme}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    made = f"AWS4{SECRET_KEY}".encode()
    for each in (day, region, service, end, text):
        made = hmac.digest(made, each.encode(), "sha256")
    if made.hex() != parts["Signature"]:
        raise Refused(403, "InvalidSignatureException", "The request signature we calculated does not match.")


def read(data: bytes, shape: type[Body]) -> Body:
    try:
        body = msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        extra = re.search(r"unknown field `(\w+)`", str(error))
        reason = f"extraneous key [{extra[1]}] is not permitted" if extra else str(error)
        text = f"Malformed input request: {reason}, please reformat your input and try again."
        raise Refused(400, "ValidationException", text) from None
    if isinstance(body, Ultra) and body.image is not None:
        mode = body.mode if isinstance(body, Sd35) else "image-to-image"
        if body.strength is None or mode != "image-to-image":
            raise Refused(400, "ValidationException", "An image needs strength, and mode image-to-image.")
    return body


def answered(body: Body) -> web.Response:
    prompt = getattr(body, "prompt", None) or ""
    if "rate limit me" in prompt:
        raise Refused(429, "ThrottlingException", "Too many requests, please wait before trying again.")
    if "fail me" in prompt:
        raise Refused(500, "InternalServerException", "The system encountered an unexpected error.")
    size = measure(body)
    if "refuse me" in prompt:
        return web.json_response({"finish_reasons": ["Filter reason: prompt"]})
    made = [] if "empty please" in prompt else [base64.b64encode(picture(size, body.output_format.upper())).decode()]
    return web.json_response({"seeds": [2130420379], "finish_reasons": [None], "images": made})


def measure(body: Body) -> tuple[int, int]:
    """How large the picture becomes; each one that was sent is opened on the way."""
    sizes = {
        name: opened(name, text).size
        for name in ("image", "init_image", "style_image", "mask")
        if (text := getattr(body, name, None)) is not None
    }
    if sizes.get("mask", sizes.get("image")) != sizes.get("image"):
        raise Refused(400, "ValidationException", "The mask must have the size of the image.")
    if any(min(size) < 64 for size in sizes.values()):
        raise Refused(400, "ValidationException", "Each side must have at least 64 pixels.")
    if isinstance(body, Outpaint):
        width, height = sizes["image"]
        return width + body.left + body.right, height + body.up + body.down
    if sizes and not isinstance(body, Guide):
        return next(iter(sizes.values()))
    wide, high = map(int, getattr(body, "aspect_ratio", "1:1").split(":"))
    return round(1024 * (wide / high) ** 0.5), round(1024 * (high / wide) ** 0.5)


def opened(name: str, text: str) -> Image.Image:
    """A picture in bare base64, decoded to its last pixel."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        image.load()
    except (binascii.Error, UnidentifiedImageError, OSError):
        raise Refused(400, "ValidationException", f"{name}: invalid image data") from None
    if name == "mask" and "A" in image.getbands():
        raise Refused(400, "ValidationException", "mask: expected black and white")
    return image
