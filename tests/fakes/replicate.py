"""Replicate's predictions and files, with some of its models, each with the input that its schema knows.

A prediction is done within the time that the client waits for it; without `Prefer: wait`, or with `patiently` in its
prompt, it is polled.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal
from uuid import uuid4

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, Seen, picture
from tests.fakes.openai import form

Four = Annotated[int, Meta(ge=1, le=4)]
Quality = Annotated[int, Meta(ge=0, le=100)]
Tolerance = Annotated[int, Meta(ge=1, le=6)]
Flux = Literal["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"]
Three = Literal["webp", "jpg", "png"]
Ten = Literal["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9", "match_input_image"]
SDXL = "7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"


class Input(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: Annotated[str, Meta(min_length=1)]
    seed: Annotated[int, Meta(ge=0)] = 0


class Schnell(Input, kw_only=True):
    aspect_ratio: Flux = "1:1"
    num_outputs: Four = 1
    num_inference_steps: Annotated[int, Meta(ge=1, le=4)] = 4
    output_format: Three = "webp"
    output_quality: Quality = 80
    megapixels: Literal["1", "0.25"] = "1"
    go_fast: bool = True
    disable_safety_checker: bool = False


class Pro(Input, kw_only=True):
    image_prompt: str = ""
    aspect_ratio: Literal["custom", "1:1", "16:9", "3:2", "2:3", "4:5", "5:4", "9:16", "3:4", "4:3"] = "1:1"
    width: Annotated[int, Meta(ge=256, le=1440, multiple_of=32)] = 0
    height: Annotated[int, Meta(ge=256, le=1440, multiple_of=32)] = 0
    output_format: Three = "webp"
    output_quality: Quality = 80
    safety_tolerance: Tolerance = 2
    prompt_upsampling: bool = False


class FillPro(Input, kw_only=True):
    image: str
    mask: str = ""
    outpaint: str = ""
    steps: Annotated[int, Meta(ge=15, le=50)] = 50
    guidance: Annotated[float, Meta(ge=1.5, le=100)] = 60
    output_format: Literal["jpg", "png"] = "jpg"
    safety_tolerance: Tolerance = 2
    prompt_upsampling: bool = False


class Flux2(Input, kw_only=True):
    input_images: Annotated[list[str], Meta(max_length=8)] = []
    aspect_ratio: Literal[
        "match_input_image", "custom", "1:1", "16:9", "3:2", "2:3", "4:5", "5:4", "9:16", "3:4", "4:3"
    ] = "1:1"
    resolution: Literal["match_input_image", "0.5 MP", "1 MP", "2 MP", "4 MP"] = "1 MP"
    width: Annotated[int, Meta(ge=256, le=2048, multiple_of=16)] = 0
    height: Annotated[int, Meta(ge=256, le=2048, multiple_of=16)] = 0
    output_format: Three = "webp"
    output_quality: Quality = 80
    safety_tolerance: Annotated[int, Meta(ge=1, le=5)] = 2


class Banana(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: str
    image_input: list[str] = []
    aspect_ratio: Ten = "match_input_image"
    output_format: Literal["jpg", "png"] = "jpg"


class Seedream(Input, kw_only=True):
    image_input: Annotated[list[str], Meta(max_length=10)] = []
    size: Literal["1K", "2K", "4K", "custom"] = "2K"
    width: Annotated[int, Meta(ge=1024, le=4096)] = 2048
    height: Annotated[int, Meta(ge=1024, le=4096)] = 2048
    aspect_ratio: str = "match_input_image"
    sequential_image_generation: Literal["disabled", "auto"] = "disabled"
    max_images: Annotated[int, Meta(ge=1, le=15)] = 1
    enhance_prompt: bool = True


class Ideogram(Input, kw_only=True):
    aspect_ratio: str = "1:1"
    image: str = ""
    mask: str = ""
    style_type: Literal["None", "Auto", "General", "Realistic", "Design"] = "None"
    magic_prompt_option: Literal["Auto", "On", "Off"] = "Auto"


class Sdxl(Input, kw_only=True):
    negative_prompt: str = ""
    image: str = ""
    mask: str = ""
    width: int = 1024
    height: int = 1024
    num_outputs: Four = 1
    num_inference_steps: Annotated[int, Meta(ge=1, le=500)] = 50
    guidance_scale: Annotated[float, Meta(ge=1, le=50)] = 7.5
    prompt_strength: Annotated[float, Meta(ge=0, le=1)] = 0.8


INPUTS: dict[str, type[msgspec.Struct]] = {
    "black-forest-labs/flux-schnell": Schnell, "black-forest-labs/flux-1.1-pro": Pro,
    "black-forest-labs/flux-fill-pro": FillPro, "black-forest-labs/flux-2-pro": Flux2, "google/nano-banana": Banana,
    "bytedance/seedream-4": Seedream, "ideogram-ai/ideogram-v3-turbo": Ideogram,
}  # fmt: skip
VERSIONS = {SDXL: Sdxl}
LISTS = frozenset({"black-forest-labs/flux-schnell", "bytedance/seedream-4", SDXL})  # models that answer with a list
DATA = re.compile(r"data:image/(png|jpeg|webp);base64,(.+)", re.DOTALL)


class Created(msgspec.Struct, forbid_unknown_fields=True):
    """A prediction's body. The version is for the common route alone."""

    input: msgspec.Raw
    version: str | None = None
    webhook: str | None = None


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status: int, title: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"title": title, "detail": detail, "status": status, **more}


def missing() -> Refused:
    return Refused(404, "Not found", "The requested resource could not be found.")


def wrong(name: str, text: str) -> Refused:
    entry = {"type": "invalid", "field": f"input.{name}", "description": text}
    return Refused(422, "Input validation failed", f"- input.{name}: {text}", invalid_fields=[entry])


@dataclass
class Replicate(Fake):
    name: ClassVar[str] = "replicate"
    generates: ClassVar[str] = "black-forest-labs/flux-schnell"
    edits: ClassVar[str | None] = "black-forest-labs/flux-2-pro"
    masks: ClassVar[str | None] = "black-forest-labs/flux-fill-pro"
    fuses: ClassVar[str | None] = "google/nano-banana"

    predictions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    stored: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    held: str | None = None  # as long as it is set, no task goes beyond this state
    stops: int = 0  # how often one was to be stopped

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/v1"}

    def pays(self, seen: Seen) -> bool:
        return super().pays(seen) and not seen.path.endswith("/cancel")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/models/{owner}/{name}/predictions", self.official),
            web.post("/v1/predictions", self.versioned),
            web.get("/v1/predictions/{id}", self.poll),
            web.post("/v1/predictions/{id}/cancel", self.stop),
            web.post("/v1/files", self.store),
            web.get("/files/{name}", self.delivered),
        ]

    async def official(self, request: web.Request) -> web.Response:
        model = f"{request.match_info['owner']}/{request.match_info['name']}"
        return await self.create(request, model, INPUTS.get(model))

    async def versioned(self, request: web.Request) -> web.Response:
        return await self.create(request, None, None)

    async def create(self, request: web.Request, model: str | None, shape: type[msgspec.Struct] | None) -> web.Response:
        try:
            admit(request)
            body = created(await request.read())
            if model is None:
                model, shape = body.version or "", VERSIONS.get(body.version or "")
                if shape is None:
                    raise Refused(422, "Invalid version or not permitted", "The specified version does not exist")
            elif body.version is not None or shape is None:
                raise missing()
            states = self.run(read(bytes(body.input), shape), model)
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        held = re.fullmatch(r"wait(?:=\d+)?", request.headers.get("Prefer", ""))
        name = uuid4().hex
        states = states[-1:] if held and not self.held and b"patiently" not in bytes(body.input) else states
        url = f"{self.url}/v1/predictions/{name}"
        common = {"id": name, "model": model, "urls": {"get": url, "cancel": f"{url}/cancel"}, "data_removed": False}
        self.predictions[name] = [common | state for state in states]
        return web.json_response(self.current(name), status=201)

    def current(self, name: str) -> dict[str, Any]:
        states = self.predictions[name]
        if self.held and states[0]["status"] != "canceled":
            return self.at_work(states[0], self.held)
        return states.pop(0) if len(states) > 1 else states[0]

    def at_work(self, state: dict[str, Any], status: str) -> dict[str, Any]:
        begun = {"started_at": "2026-11-20T00:00:00.5Z"} if status != "starting" else {}
        return state | begun | {"status": status, "output": None}

    async def stop(self, request: web.Request) -> web.Response:
        """What has not ended is stopped; what has is told as it is."""
        self.stops += 1
        try:
            admit(request)
            states = self.predictions.get(request.match_info["id"])
            if states is None or await request.read():
                raise missing()
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        if self.held or len(states) > 1:
            states[:] = [self.at_work(states[0], self.held or "starting") | {"status": "canceled"}]
        return web.json_response(states[0])

    async def poll(self, request: web.Request) -> web.Response:
        try:
            admit(request)
            if request.match_info["id"] not in self.predictions:
                raise missing()
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        return web.json_response(self.current(request.match_info["id"]))

    def run(self, given: msgspec.Struct, model: str) -> list[dict[str, Any]]:
        """The states that a prediction goes through."""
        sizes = self.opened(given)
        prompt = getattr(given, "prompt", "")
        if "rate limit me" in prompt:
            raise Refused(429, "Too many requests", "Request was throttled.")
        last: dict[str, Any] = {"status": "succeeded", "error": None, "metrics": {"predict_time": 0.1}}
        if "refuse me" in prompt:
            text = "The input or output was flagged as sensitive. Please try again with different inputs. (E005)"
            last = {"status": "failed", "error": text, "output": None}
        elif "fail me" in prompt:
            last = {"status": "failed", "error": "Prediction failed: unknown error (E1000)", "output": None}
        else:
            kind = getattr(given, "output_format", "png").replace("jpg", "jpeg")
            count = 0 if "empty please" in prompt else getattr(given, "num_outputs", 1)
            urls = [self.delivery(measured(given, sizes), kind) for _ in range(count)]
            last["output"] = urls if model in LISTS else urls[0] if urls else None
        return [{"status": "starting", "output": None}, {"status": "processing", "output": None}, last]

    def delivery(self, size: tuple[int, int], kind: str) -> str:
        name = f"{uuid4()}.{kind}"
        self.stored[name] = picture(size, kind.upper()), f"image/{kind}"
        return f"{self.url}/files/{name}"

    async def delivered(self, request: web.Request) -> web.Response:
        """Public: a credential here has been leaked."""
        if "Authorization" in request.headers or request.match_info["name"] not in self.stored:
            return web.Response(status=403)
        data, kind = self.stored[request.match_info["name"]]
        return web.Response(body=data, content_type=kind)

    async def store(self, request: web.Request) -> web.Response:
        try:
            admit(request)
            parts = form(request.headers["Content-Type"], await request.read())
            if [part.name for part in parts] != ["content"] or "." not in (parts[0].filename or ""):
                raise Refused(400, "Bad request", "Missing content")
            if parts[0].type not in {"image/png", "image/jpeg", "image/webp"}:
                raise Refused(400, "Bad request", "The content type is not that of a picture")
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        name = uuid4().hex
        self.stored[name] = parts[0].data, parts[0].type or ""
        url = f"{self.url}/v1/files/{name}"
        return web.json_response({"id": name, "size": len(parts[0].data), "urls": {"get": url}}, status=201)

    def opened(self, given: msgspec.Struct) -> dict[str, tuple[int, int]]:
        """The sizes of the pictures in an input, each decoded to its last pixel."""
        sizes: dict[str, tuple[int, int]] = {}
        for name in ("image", "image_prompt", "input_images", "image_input", "mask"):
            said = getattr(given, name, None) or []
            for url in [said] if isinstance(said, str) else said:
                found = DATA.fullmatch(url)
                kept, kind = self.stored.get(url.removeprefix(f"{self.url}/v1/files/"), (b"", ""))
                try:
                    data = base64.b64decode(found[2], validate=True) if found else kept
                    image = Image.open(io.BytesIO(data))
                    image.load()
                except (binascii.Error, UnidentifiedImageError, OSError):
                    raise wrong(name, "Does not lead to a picture") from None
                if f"image/{(image.format or '').lower()}" != (f"image/{found[1]}" if found else kind):
                    raise wrong(name, "Is not what it says it is")
                if name == "mask" and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                    raise wrong(name, "Must be black and white")
                sizes.setdefault(name, image.size)
        if sizes.get("mask", (0, 0)) not in {(0, 0), sizes.get("image")}:
            raise wrong("mask", "Must have the size of the image")
        if isinstance(given, Ideogram) and ("mask" in sizes) != ("image" in sizes):
            raise wrong("mask", "You must also use a mask")
        return sizes


def admit(request: web.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
        raise Refused(401, "Unauthenticated", "You did not pass a valid authentication token")


def created(data: bytes) -> Created:
    try:
        return msgspec.json.decode(data, type=Created)
    except msgspec.DecodeError as error:
        raise Refused(422, "Input validation failed", f"- {error}") from None


def read(data: bytes, shape: type[msgspec.Struct]) -> msgspec.Struct:
    """The input, of exactly the members and types that the model knows."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        found = re.search(r"field `(\w+)`|\$\.(\w+)", str(error))
        raise wrong(found.group(1) or found.group(2) if found else "", str(error)) from None


def measured(given: msgspec.Struct, inputs: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """How large the model makes the picture."""
    first = next(iter(inputs.values()), (1024, 1024))
    if "mask" in inputs:
        return first
    ratio = getattr(given, "aspect_ratio", None)
    exact = getattr(given, "width", 0), getattr(given, "height", 0)
    if "custom" in {ratio, getattr(given, "size", None)} or isinstance(given, Sdxl):
        if not all(exact):
            raise wrong("width", "Required with a custom size")
        return exact
    if ratio in {None, "match_input_image"}:
        return first
    wide, high = map(int, str(ratio).split(":"))
    return round(1024 * (wide / high) ** 0.5), round(1024 * (high / wide) ** 0.5)
