"""Together AI's one route for pictures, strict: each model is refused what it does not take."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from uuid import uuid4

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, picture

DATA = re.compile(r"data:image/(png|jpeg|webp);base64,(.+)", re.DOTALL)


class Lora(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    scale: float


class Ask(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every field of the public schema; none may be null."""

    model: str
    prompt: Annotated[str, Meta(min_length=1)]
    width: Annotated[int, Meta(ge=64)] = 1024
    height: Annotated[int, Meta(ge=64)] = 1024
    steps: Annotated[int, Meta(ge=1, le=50)] = 20
    n: Annotated[int, Meta(ge=1, le=4)] = 1
    seed: int = 0
    guidance_scale: float = 3.5
    negative_prompt: str = ""
    image_url: str = ""
    reference_images: Annotated[list[str], Meta(max_length=14)] = []
    image_loras: list[Lora] = []
    response_format: Literal["base64", "url"] = "url"
    output_format: Literal["jpeg", "png"] = "jpeg"
    disable_safety_checker: bool = False


@dataclass(frozen=True)
class Model:
    n: int = 1
    step: int = 1
    single: bool = False  # takes `image_url`
    several: int = 0  # takes so many `reference_images`
    tuned: bool = False  # takes steps and guidance
    sizes: tuple[tuple[int, int], ...] = ()
    partner: bool = True  # hosted by its vendor, without the switch for the safety checker


LISTED = ((1024, 1024), (1344, 768), (768, 1344), (1248, 832), (832, 1248), (1184, 864), (864, 1184))
MODELS = {
    "black-forest-labs/FLUX.1.1-pro": Model(n=4, step=32, tuned=True, partner=False),
    "black-forest-labs/FLUX.1-kontext-pro": Model(step=16, single=True, tuned=True, partner=False),
    "black-forest-labs/FLUX.1-dev-lora": Model(n=4, step=16, tuned=True, partner=False),
    "black-forest-labs/FLUX.2-pro": Model(step=16, single=True, several=8),
    "black-forest-labs/FLUX.2-dev": Model(step=16, several=4, tuned=True),
    "google/flash-image-3.1": Model(several=14, sizes=LISTED),
    "openai/gpt-image-2": Model(step=16, single=True, several=10),
}


class Refused(Exception):
    """An answer with an error."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "param": param, "code": code}


@dataclass
class Together(Fake):
    name: ClassVar[str] = "together"
    generates: ClassVar[str] = "black-forest-labs/FLUX.1.1-pro"
    edits: ClassVar[str | None] = "black-forest-labs/FLUX.2-pro"
    fuses: ClassVar[str | None] = "google/flash-image-3.1"

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/v1"}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/images/generations", self.generate), web.get("/imgproxy/{size}.{kind}", self.file)]

    async def generate(self, request: web.Request) -> web.Response:
        try:
            ask = read(request, await request.read())
            fitting(ask, MODELS[ask.model])
            for name, urls in (("image_url", [ask.image_url] * bool(ask.image_url)),
                               ("reference_images", ask.reference_images)):  # fmt: skip
                for url in urls:
                    opened(name, url)
            prompted(ask.prompt)
        except Refused as refused:
            return web.json_response({"id": "oFxgQaT", "error": refused.error}, status=refused.status)
        count = 0 if "empty please" in ask.prompt else ask.n
        data = [{"index": index, **self.made(ask), "type": ask.response_format} for index in range(count)]
        return web.json_response({"id": f"o{uuid4()}", "model": ask.model, "object": "list", "data": data})

    def made(self, ask: Ask) -> dict[str, str]:
        if ask.response_format == "url":
            return {"url": f"{self.url}/imgproxy/{ask.width}x{ask.height}.{ask.output_format}"}
        return {"b64_json": base64.b64encode(picture((ask.width, ask.height), ask.output_format.upper())).decode()}

    async def file(self, request: web.Request) -> web.Response:
        """Public: a credential here has been leaked."""
        if "Authorization" in request.headers:
            return web.Response(status=403)
        width, height = map(int, request.match_info["size"].split("x"))
        kind = request.match_info["kind"]
        return web.Response(body=picture((width, height), kind.upper()), content_type=f"image/{kind}")


def read(request: web.Request, data: bytes) -> Ask:
    if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
        raise Refused(401, "Invalid API key provided.", code="invalid_api_key")
    try:
        ask = msgspec.json.decode(data, type=Ask)
    except msgspec.DecodeError as error:
        found = re.search(r"field `(\w+)`|\$\.(\w+)", str(error))
        raise Refused(400, str(error), found and (found.group(1) or found.group(2))) from None
    if ask.model not in MODELS:
        raise Refused(404, f"Unable to access model {ask.model}.", code="model_not_available")
    return ask


def fitting(ask: Ask, model: Model) -> None:
    """No field that the model does not take."""
    size = (ask.width, ask.height)
    wrong = {
        "n": ask.n > model.n,
        "width": ask.width % model.step != 0 or bool(model.sizes and size not in model.sizes),
        "height": ask.height % model.step != 0,
        "image_url": bool(ask.image_url and not model.single)
        or (model.single and not model.several and not ask.image_url),
        "reference_images": len(ask.reference_images) > model.several or bool(ask.image_url and ask.reference_images),
        "steps": ask.steps != 20 and not model.tuned,
        "guidance_scale": ask.guidance_scale != 3.5 and not model.tuned,
        "image_loras": bool(ask.image_loras) and "lora" not in ask.model,
        "disable_safety_checker": ask.disable_safety_checker and model.partner,
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise Refused(400, f"{name} is not valid for {ask.model}", name)


def opened(name: str, url: str) -> None:
    """A picture, decoded to its last pixel."""
    found = DATA.fullmatch(url)
    try:
        image = Image.open(io.BytesIO(base64.b64decode(found[2] if found else "", validate=True)))
        image.load()
    except (binascii.Error, UnidentifiedImageError, OSError):
        raise Refused(400, f"{name} could not be fetched or decoded", name) from None
    if found and (image.format or "").lower() != found[1]:
        raise Refused(400, f"{name} is not what it says it is", name)


def prompted(prompt: str) -> None:
    """What the common words ask for."""
    if "refuse me" in prompt:
        raise Refused(422, "NSFW content detected in the prompt. Please try again with a different prompt.")
    if "rate limit me" in prompt:
        raise Refused(429, "You have reached the rate limit specific to this model.", kind="rate_limit")
    if "fail me" in prompt:
        raise Refused(500, "Internal server error", kind="server_error")
