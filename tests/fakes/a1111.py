"""A web UI's API as strict as pydantic can be: unknown fields are refused, every picture is opened.

`refuse me` is stopped as an extension with a safety filter does it: nothing of the kind is built in. `rate limit me` is
answered as a proxy in front answers it.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, picture

CHECKPOINT = "sd_xl_base_1.0.safetensors"
SAMPLERS = frozenset({"Euler", "Euler a", "DPM++ 2M"})
USER = "artist"
LOGIN = "Basic " + base64.b64encode(f"{USER}:{GOOD_KEY}".encode()).decode()


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    sd_model_checkpoint: str | None = None
    return_grid: bool = True


class Text(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: str = ""
    negative_prompt: str = ""
    styles: list[str] | None = None
    seed: int = -1
    subseed: int = -1
    subseed_strength: float = 0
    sampler_name: str = "Euler"
    scheduler: str | None = None
    steps: Annotated[int, Meta(ge=1, le=150)] = 50
    cfg_scale: float = 7.0
    distilled_cfg_scale: float = 3.5
    width: Annotated[int, Meta(ge=64, le=2048, multiple_of=8)] = 512
    height: Annotated[int, Meta(ge=64, le=2048, multiple_of=8)] = 512
    batch_size: Annotated[int, Meta(ge=1, le=8)] = 1
    n_iter: Annotated[int, Meta(ge=1)] = 1
    restore_faces: bool | None = None
    tiling: bool | None = None
    denoising_strength: Annotated[float, Meta(ge=0, le=1)] | None = None
    override_settings: Settings = Settings()
    override_settings_restore_afterwards: bool = True
    alwayson_scripts: dict[str, Any] = {}


class FromText(Text, kw_only=True):
    enable_hr: bool = False
    hr_scale: float = 2.0
    hr_upscaler: str | None = None


class FromPicture(Text, kw_only=True):
    init_images: list[str] | None = None
    resize_mode: Annotated[int, Meta(ge=0, le=3)] = 0
    mask: str | None = None
    mask_blur: int = 4
    inpainting_fill: Annotated[int, Meta(ge=0, le=3)] = 0
    inpaint_full_res: bool = True
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: int = 0


class Refused(Exception):
    """An answer with an error: status and body."""


def problem(status: int, detail: str, kind: str = "HTTPException", errors: str = "") -> Refused:
    return Refused(status, {"error": kind, "detail": detail, "body": "", "errors": errors})


@dataclass
class A1111(Fake):
    name: ClassVar[str] = "a1111"
    generates: ClassVar[str] = CHECKPOINT
    edits: ClassVar[str | None] = "default"
    masks: ClassVar[str | None] = "default"

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/sdapi/v1/txt2img", self.from_text), web.post("/sdapi/v1/img2img", self.from_picture)]

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": f"{USER}:{key}", "base_url": self.url, "models": {CHECKPOINT: {}}}

    async def from_text(self, request: web.Request) -> web.Response:
        return await self.answer(request, FromText)

    async def from_picture(self, request: web.Request) -> web.Response:
        return await self.answer(request, FromPicture)

    async def answer(self, request: web.Request, shape: type[Text]) -> web.Response:
        try:
            if request.headers.get("Authorization") != LOGIN:
                raise problem(401, "Incorrect username or password")
            return made(read(await request.read(), shape))
        except Refused as refused:
            status, body = refused.args
            return web.json_response(body, status=status)


def read(data: bytes, shape: type[Text]) -> Text:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        found = re.search(r"field `(\w+)`|\$\.(\w+)", str(error))
        name = (found[1] or found[2]) if found else "body"
        raise Refused(422, {"detail": [{"loc": ["body", name], "msg": str(error), "type": "value_error"}]}) from None


def made(body: Text) -> web.Response:
    if "rate limit me" in body.prompt:
        return web.Response(status=429, text="<html><center>429 Too Many Requests</center></html>")
    if "refuse me" in body.prompt:
        raise problem(400, "The prompt was stopped by the safety filter.")
    if "fail me" in body.prompt:
        raise problem(500, "", "RuntimeError", "mat1 and mat2 shapes cannot be multiplied")
    if body.sampler_name not in SAMPLERS:
        raise Refused(404, {"detail": "Sampler not found"})
    if isinstance(body, FromPicture):
        check_pictures(body)
    count = 0 if "empty please" in body.prompt else body.batch_size * body.n_iter
    seed = body.seed if body.seed >= 0 else 7
    pictures = [picture((body.width, body.height), color=(40 + each, 120, 200)) for each in range(count)]
    name = (body.override_settings.sd_model_checkpoint or CHECKPOINT).removesuffix(".safetensors")
    info = {"seed": seed, "all_seeds": [seed + each for each in range(count)], "sd_model_name": name}
    texts = [base64.b64encode(each).decode() for each in pictures]
    return web.json_response({"images": texts, "parameters": msgspec.to_builtins(body), "info": json.dumps(info)})


def check_pictures(body: FromPicture) -> None:
    if not body.init_images:
        raise Refused(404, {"detail": "Init image not found"})
    sizes = [opened(text).size for text in body.init_images]
    if body.mask is not None:
        mask = opened(body.mask)
        if mask.size != sizes[0] or "A" in mask.getbands():
            raise problem(500, "", "ValueError", "the mask is black and white, and of the image's size")


def opened(text: str) -> Image.Image:
    """A picture in bare base64, decoded to its last pixel."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        image.load()
    except (binascii.Error, UnidentifiedImageError, OSError):
        raise problem(500, "Invalid encoded image") from None
    return image
