"""SiliconFlow, strict: every body is read into its model's own struct, and each picture in it is opened."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from uuid import uuid4

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, picture

Size: TypeAlias = tuple[int, int]
Wide: TypeAlias = Annotated[str, Meta(pattern=r"^\d+x\d+$")]
Prompt: TypeAlias = Annotated[str, Meta(min_length=1)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    prompt: Prompt
    seed: Annotated[int, Meta(ge=0, le=9_999_999_999)] | None = None


class Tuned(Body, kw_only=True):
    negative_prompt: str | None = None
    num_inference_steps: Annotated[int, Meta(ge=1, le=100)] = 20


class Kolors(Tuned, kw_only=True):
    image_size: Wide
    batch_size: Annotated[int, Meta(ge=1, le=4)] = 1
    guidance_scale: Annotated[float, Meta(ge=0, le=20)] = 7.5


class Qwen(Tuned, kw_only=True):
    image_size: Literal["1328x1328", "1664x928", "928x1664", "1472x1140", "1140x1472", "1584x1056", "1056x1584"]
    cfg: Annotated[float, Meta(ge=0.1, le=20)] | None = None


class QwenEdit(Tuned, kw_only=True):
    image: str
    cfg: Annotated[float, Meta(ge=0.1, le=20)] | None = None


class QwenEdit2509(QwenEdit, kw_only=True):
    image2: str | None = None
    image3: str | None = None


class Schnell(Body, kw_only=True):
    image_size: Wide


class Dev(Schnell, kw_only=True):
    num_inference_steps: Annotated[int, Meta(ge=1, le=30)] = 20


class Pro(Body, kw_only=True):
    output_format: Literal["png", "jpeg"] = "png"
    prompt_enhancement: bool = False
    safety_tolerance: Annotated[int, Meta(ge=0, le=6)] = 2


class Pro11(Pro, kw_only=True):
    image_size: Wide


class Ultra(Pro, kw_only=True):
    aspect_ratio: str = "16:9"
    raw: bool = False


class KontextDev(Body, kw_only=True):
    input_image: str
    image_size: Wide | None = None


class Kontext(Pro, kw_only=True):
    input_image: str
    aspect_ratio: str | None = None


class Flux2(Body, kw_only=True):
    image_size: Literal["512x512", "768x1024", "1024x768", "576x1024", "1024x576"] = "512x512"
    output_format: Literal["png", "jpeg"] = "png"


FLUX = "black-forest-labs/FLUX"
BODIES: dict[str, type[Body]] = {
    "Kwai-Kolors/Kolors": Kolors, "Qwen/Qwen-Image": Qwen, "Qwen/Qwen-Image-Edit": QwenEdit,
    "Qwen/Qwen-Image-Edit-2509": QwenEdit2509, f"{FLUX}.1-schnell": Schnell, f"{FLUX}.1-dev": Dev,
    f"{FLUX}-1.1-pro": Pro11, f"{FLUX}-1.1-pro-Ultra": Ultra, f"{FLUX}.1-Kontext-dev": KontextDev,
    f"{FLUX}.1-Kontext-pro": Kontext, f"{FLUX}.1-Kontext-max": Kontext, f"{FLUX}.2-pro": Flux2,
    f"{FLUX}.2-flex": Flux2, "Tongyi-MAI/Z-Image-Turbo": Schnell,
}  # fmt: skip
PICTURES = ("image", "image2", "image3", "input_image")


class Refused(Exception):
    """An answer with an error: `code` 0 is one with a bare string."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Model(msgspec.Struct):
    model: str


@dataclass
class Siliconflow(Fake):
    name: ClassVar[str] = "siliconflow"
    generates: ClassVar[str] = "Kwai-Kolors/Kolors"
    edits: ClassVar[str | None] = "Qwen/Qwen-Image-Edit-2509"
    fuses: ClassVar[str | None] = "Qwen/Qwen-Image-Edit-2509"

    made: dict[str, tuple[Size, str]] = field(default_factory=dict)

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/v1"}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/images/generations", self.generate), web.get("/files/{name}", self.file)]

    async def generate(self, request: web.Request) -> web.Response:
        try:
            if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
                raise Refused(0, "Invalid token", 401)
            body = read(await request.read())
            size = measured(body, opened(body))
            prompted(body.prompt)
        except Refused as refused:
            plain: Any = {"code": refused.code, "message": refused.message, "data": None}
            return web.json_response(plain if refused.code else refused.message, status=refused.status)
        count = 0 if "empty please" in body.prompt else getattr(body, "batch_size", 1)
        kind = getattr(body, "output_format", "png")
        urls = [{"url": self.keep(size, kind)} for _ in range(count)]
        answer = {"images": urls, "timings": {"inference": 2.118}, "seed": body.seed or 42, "created": 1_763_600_000}
        headers = {"x-siliconcloud-trace-id": str(uuid4())}
        return web.json_response({**answer, "data": urls}, headers=headers)

    def keep(self, size: Size, kind: str) -> str:
        name = f"{uuid4()}.{kind}"
        self.made[name] = size, kind
        return f"{self.url}/files/{name}?Signature=good"

    async def file(self, request: web.Request) -> web.Response:
        """A signed address: whoever brings a credential has leaked it."""
        if request.query.get("Signature") != "good" or "Authorization" in request.headers:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        size, kind = self.made[request.match_info["name"]]
        return web.Response(body=picture(size, kind.upper()), content_type=f"image/{kind}")


def read(data: bytes) -> Body:
    """The body, of exactly the members and types that its model knows."""
    try:
        shape = BODIES.get(msgspec.json.decode(data, type=Model).model)
        if shape is None:
            raise Refused(20012, "Model does not exist. Please check it carefully.")
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise Refused(20015, f"The parameter is invalid. Please check it again. {error}") from error


def opened(body: Body) -> list[Image.Image]:
    """The pictures in a body, each decoded to its last pixel."""
    images: list[Image.Image] = []
    for name in PICTURES:
        url = getattr(body, name, None)
        if url is None:
            continue
        found = re.fullmatch(r"data:image/(png|jpeg|webp);base64,(.+)", url, re.DOTALL)
        try:
            image = Image.open(io.BytesIO(pybase64.b64decode(found[2] if found else "", validate=True)))
            image.load()
        except (ValueError, UnidentifiedImageError, OSError) as error:
            raise Refused(20015, f"The parameter is invalid: {name} is no picture.") from error
        if found and (image.format or "").lower() != found[1]:
            raise Refused(20015, f"The parameter is invalid: {name} is {image.format}.")
        images.append(image)
    return images


def measured(body: Body, images: list[Image.Image]) -> Size:
    """How large the pictures become."""
    text = getattr(body, "image_size", None)
    if text is None:
        return images[0].size if images else (1024, 1024)
    width, height = map(int, text.split("x"))
    if isinstance(body, Pro11) and any(edge % 32 or not 256 <= edge <= 1440 for edge in (width, height)):
        raise Refused(20015, "The parameter is invalid: image_size must be 256 to 1440, in steps of 32.")
    if isinstance(body, Schnell) and width * height > 4_194_304:
        raise Refused(20015, "The parameter is invalid: image_size is too large.")
    return width, height


def prompted(prompt: str) -> None:
    if "refuse me" in prompt:
        raise Refused(20015, "The prompt contains sensitive content.", 451)
    if "rate limit me" in prompt:
        text = "Request was rejected due to rate limiting. Details: IPM limit reached."
        raise Refused(50604, text, 429)
    if "fail me" in prompt:
        raise Refused(50500, "Internal server error.", 500)
