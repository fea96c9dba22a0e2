"""fal's queue, its synchronous route and its storage, with a handful of endpoints.

Stricter than fal in one thing: unknown fields, which most endpoints ignore in silence, are refused. A request is done
when it is first polled; `patiently` in a prompt lets it wait in the queue, and work, once each.
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

Count = Annotated[int, Meta(ge=1, le=4)]
Edge = Annotated[int, Meta(ge=512, le=2048)]
Ratio = Literal["21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16", "9:21"]
Steps = Annotated[int, Meta(ge=1, le=50)]
Guidance = Annotated[float, Meta(ge=0, le=20)]
Tolerance = Literal["1", "2", "3", "4", "5", "6"]
Urls = Annotated[list[str], Meta(min_length=1)]
PRESETS = {
    "square_hd": (1024, 1024), "square": (512, 512), "portrait_4_3": (768, 1024), "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768), "landscape_16_9": (1024, 576),
}  # fmt: skip
Preset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]


class ImageSize(msgspec.Struct, forbid_unknown_fields=True):
    width: Edge
    height: Edge


Two = Literal["jpeg", "png"]
Three = Literal["jpeg", "png", "webp"]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: Annotated[str, Meta(min_length=1)]
    sync_mode: bool = False


class Tuned(Body, kw_only=True):
    num_images: Count = 1
    seed: int | None = None
    num_inference_steps: Steps = 28
    guidance_scale: Guidance = 3.5
    enable_safety_checker: bool = True
    acceleration: Literal["none", "regular", "high"] = "none"


class Flux(Tuned, kw_only=True):
    image_size: ImageSize | Preset = "landscape_4_3"
    output_format: Two = "jpeg"


class Flux2(Tuned, kw_only=True):
    image_size: ImageSize | Preset = "landscape_4_3"
    output_format: Three = "png"


class Flux2Edit(Tuned, kw_only=True):
    image_urls: Urls
    image_size: ImageSize | Preset | None = None
    output_format: Three = "png"


class Single(Body, kw_only=True):
    """One image a call: the word `num_images` is not known."""

    seed: int | None = None
    output_format: Two = "jpeg"
    safety_tolerance: Literal["1", "2", "3", "4", "5"] = "2"
    enable_safety_checker: bool = True


class Pro(Single, kw_only=True):
    image_size: ImageSize | Preset = "landscape_4_3"


class ProEdit(Single, kw_only=True):
    image_urls: Urls
    image_size: ImageSize | Preset | Literal["auto"] = "auto"


class Kontext(Body, kw_only=True):
    num_images: Count = 1
    aspect_ratio: Ratio | None = None
    seed: int | None = None
    guidance_scale: Guidance = 3.5
    output_format: Two = "jpeg"
    safety_tolerance: Tolerance = "2"
    enhance_prompt: bool = False


class KontextEdit(Kontext, kw_only=True):
    image_url: str


class KontextMulti(Kontext, kw_only=True):
    image_urls: Urls


class Fill(Body, kw_only=True):
    image_url: str
    mask_url: str
    num_images: Count = 1
    seed: int | None = None
    output_format: Two = "jpeg"
    safety_tolerance: Tolerance = "2"
    enhance_prompt: bool = False


class Banana(Body, kw_only=True):
    num_images: Count = 1
    aspect_ratio: Ratio | Literal["auto"] = "auto"
    resolution: Literal["1K", "2K", "4K"] = "1K"
    seed: int | None = None
    output_format: Three = "png"
    safety_tolerance: Tolerance = "4"
    limit_generations: bool = False
    enable_web_search: bool = False


class BananaEdit(Banana, kw_only=True):
    image_urls: Annotated[list[str], Meta(min_length=1, max_length=14)]


class IdeogramEdit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: str
    image_url: str
    mask_url: str
    num_images: Annotated[int, Meta(ge=1, le=8)] = 1
    rendering_speed: Literal["TURBO", "BALANCED", "QUALITY"] = "BALANCED"
    style: Literal["AUTO", "GENERAL", "REALISTIC", "DESIGN"] | None = None
    seed: int | None = None


class Removal(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    image_url: str
    sync_mode: bool = False


BODIES: dict[str, type[msgspec.Struct]] = {
    "fal-ai/flux/schnell": Flux, "fal-ai/flux/dev": Flux, "fal-ai/flux-2": Flux2, "fal-ai/flux-2/edit": Flux2Edit,
    "fal-ai/flux-2-pro": Pro, "fal-ai/flux-2-pro/edit": ProEdit, "fal-ai/flux-pro/kontext": KontextEdit,
    "fal-ai/flux-pro/kontext/multi": KontextMulti, "fal-ai/flux-pro/kontext/text-to-image": Kontext,
    "fal-ai/flux-pro/v1/fill": Fill, "fal-ai/nano-banana-pro": Banana, "fal-ai/nano-banana-pro/edit": BananaEdit,
    "fal-ai/ideogram/v3/edit": IdeogramEdit, "fal-ai/bria/background/remove": Removal,
}  # fmt: skip
DATA = re.compile(r"data:(image/(?:png|jpeg|webp));base64,(.+)", re.DOTALL)


class Refused(Exception):
    """An answer with an error: a list of entries is the endpoint's, a text the platform's."""

    def __init__(self, status: int, detail: Any, **more: Any) -> None:
        super().__init__(str(detail))
        self.status, self.body = status, {"detail": detail, **more}


def wrong(name: str, message: str, kind: str) -> Refused:
    entry = {"loc": ["body", name] if name else ["body"], "msg": message, "type": kind}
    return Refused(422, [entry])


@dataclass
class Task:
    output: dict[str, Any]
    fault: Refused | None
    left: list[str]  # the states before the last
    stopped: bool = False


@dataclass
class Fal(Fake):
    name: ClassVar[str] = "fal"
    generates: ClassVar[str] = "fal-ai/flux-2"
    edits: ClassVar[str | None] = "fal-ai/flux-2"
    masks: ClassVar[str | None] = "fal-ai/flux-pro/v1/fill"
    fuses: ClassVar[str | None] = "fal-ai/nano-banana-pro"

    tasks: dict[str, Task] = field(default_factory=dict)
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    held: str | None = None  # as long as it is set, no task goes beyond this state
    stops: int = 0  # how often one was to be stopped

    def pays(self, seen: Seen) -> bool:
        return seen.method == "POST" and not seen.path.startswith("/storage/")

    def at(self, address: str) -> bytes | None:
        return self.files.get(address.removeprefix(f"{self.url}/files/"), (None, ""))[0]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/files/{name}", self.file),
            web.post("/storage/upload/initiate", self.initiate),
            web.put("/upload/{name}", self.upload),
            web.post("/run/{model:.+}", self.run),  # the synchronous route, a host of its own
            web.get("/{owner}/{alias}/requests/{id}/status", self.status),
            web.get("/{owner}/{alias}/requests/{id}", self.result),
            web.put("/{owner}/{alias}/requests/{id}/cancel", self.stop),
            web.post("/{model:.+}", self.submit),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        """What is wrong with a request is told by its result; only an unknown endpoint is turned away."""
        model = request.match_info["model"]
        try:
            admit(request, model)
            body = await request.read()
            if b"rate limit me" in body:
                raise Refused(429, "Too many requests")
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        task = Task({}, None, ["IN_QUEUE", "IN_PROGRESS"] if b"patiently" in body else [])
        try:
            task.output = self.made(body, model)
        except Refused as refused:
            task.fault = refused
        name = str(uuid4())
        self.tasks[name] = task
        url = f"{self.url}/{'/'.join(model.split('/')[:2])}/requests/{name}"
        return web.json_response({
            "request_id": name, "response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel",
            "queue_position": 0,
        })  # fmt: skip

    async def run(self, request: web.Request) -> web.Response:
        try:
            admit(request, request.match_info["model"])
            return web.json_response(self.made(await request.read(), request.match_info["model"]))
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)

    async def status(self, request: web.Request) -> web.Response:
        try:
            admit(request)
            task = self.known(request)
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        said: dict[str, Any] = {"request_id": request.match_info["id"]}
        if self.held and not task.stopped:
            return web.json_response(said | {"status": self.held, "logs": None}, status=202)
        if task.left:
            return web.json_response(said | {"status": task.left.pop(0), "logs": None}, status=202)
        if task.fault:
            said |= {"error": str(task.fault), "error_type": task.fault.body.get("error_type")}
        return web.json_response(said | {"status": "COMPLETED", "metrics": {"inference_time": 0.1}})

    async def result(self, request: web.Request) -> web.Response:
        try:
            admit(request)
            task = self.known(request)
            if task.left or (self.held and not task.stopped):
                raise Refused(400, "Request is still in progress")
            if task.fault:
                raise task.fault
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        return web.json_response(task.output, headers={"x-fal-billable-units": "1"})

    async def stop(self, request: web.Request) -> web.Response:
        """What waits is taken from the queue; what runs is only asked to stop, and these models do not heed it."""
        self.stops += 1
        task = self.tasks.get(request.match_info["id"])
        try:
            admit(request)
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        if task is None or await request.read():
            return web.json_response({"status": "NOT_FOUND"}, status=404)
        if not (task.left or self.held):
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        if self.held == "IN_QUEUE" or task.left[:1] == ["IN_QUEUE"]:
            task.left, task.stopped = [], True
            task.fault = Refused(499, "Request cancelled by the client", error_type="client_cancelled")
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)

    def known(self, request: web.Request) -> Task:
        if task := self.tasks.get(request.match_info["id"]):
            return task
        raise Refused(404, "Request not found")

    def made(self, data: bytes, model: str) -> dict[str, Any]:
        body = read(data, BODIES[model])
        prompt = getattr(body, "prompt", "")
        sizes = self.opened(body)
        if "refuse me" in prompt:
            text = "The content could not be processed because it contained material flagged by a content checker."
            raise wrong("prompt", text, "content_policy_violation")
        if "rate limit me" in prompt:
            raise Refused(429, "Too many requests")
        if "fail me" in prompt:
            entry = {"loc": ["body"], "msg": "Internal server error", "type": "internal_server_error"}
            raise Refused(500, [entry])
        size = measured(body, sizes)
        kind = getattr(body, "output_format", "png")
        count = 0 if "empty please" in prompt else getattr(body, "num_images", 1)
        files = [self.painted(size, kind, getattr(body, "sync_mode", False)) for _ in range(count)]
        if isinstance(body, Removal):
            return {"image": files[0]}
        return {"images": files, "seed": 7, "has_nsfw_concepts": [False] * count, "prompt": prompt}

    def painted(self, size: tuple[int, int], kind: str, inline: bool) -> dict[str, Any]:
        name = f"{uuid4()}.{kind}"
        data = picture(size, kind.upper())
        self.files[name] = data, f"image/{kind}"
        url = f"{self.url}/files/{name}"
        if inline:
            url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        return {"url": url, "content_type": f"image/{kind}", "width": size[0], "height": size[1], "file_size": None}

    def opened(self, body: msgspec.Struct) -> dict[str, tuple[int, int]]:
        """The sizes of the pictures in a body, each decoded to its last pixel."""
        sizes: dict[str, tuple[int, int]] = {}
        for name in ("image_url", "image_urls", "mask_url"):
            given = getattr(body, name, None)
            for url in [given] if isinstance(given, str) else given or ():
                image = self.fetched(name, url)
                if name == "mask_url" and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                    raise wrong(name, "The mask must be black and white", "image_load_error")
                sizes.setdefault(name, image.size)
        if sizes.get("mask_url", (0, 0)) not in {(0, 0), sizes.get("image_url")}:
            raise wrong("mask_url", "The mask must have the size of the image", "image_load_error")
        return sizes

    def fetched(self, name: str, url: str) -> Image.Image:
        """A data URL, or a file that was uploaded here."""
        found = DATA.fullmatch(url)
        kept = self.files.get(url.removeprefix(f"{self.url}/files/"))
        try:
            data, kind = (base64.b64decode(found[2], validate=True), found[1]) if found else kept or (b"", "")
            image = Image.open(io.BytesIO(data))
            image.load()
        except (binascii.Error, UnidentifiedImageError, OSError):
            raise wrong(name, "Failed to load the image.", "image_load_error") from None
        if f"image/{(image.format or '').lower()}" != kind:
            raise wrong(name, "The image is not what it says it is.", "unsupported_image_format")
        return image

    async def initiate(self, request: web.Request) -> web.Response:
        try:
            admit(request)
            asked = read(await request.read(), Upload)
            if request.query.get("storage_type") != "gcs" or not re.fullmatch(r"[\w.-]+\.\w+", asked.file_name):
                raise Refused(400, "Bad request", error_type="bad_request")
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        name = f"{uuid4()}-{asked.file_name}"
        self.files[name] = b"", asked.content_type
        return web.json_response(
            {"upload_url": f"{self.url}/upload/{name}?sig=good", "file_url": f"{self.url}/files/{name}"}
        )

    async def upload(self, request: web.Request) -> web.Response:
        """A pre-signed address: whoever brings a credential has leaked it."""
        name = request.match_info["name"]
        _, kind = self.files.get(name, (b"", ""))
        if "Authorization" in request.headers or request.query.get("sig") != "good" or request.content_type != kind:
            return web.Response(status=403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")
        self.files[name] = await request.read(), kind
        return web.Response()

    async def file(self, request: web.Request) -> web.Response:
        """Public: a credential here has been leaked."""
        if "Authorization" in request.headers or request.match_info["name"] not in self.files:
            return web.Response(status=403)
        data, kind = self.files[request.match_info["name"]]
        return web.Response(body=data, content_type=kind)


class Upload(msgspec.Struct, forbid_unknown_fields=True):
    file_name: str
    content_type: Literal["image/png", "image/jpeg", "image/webp"]


def admit(request: web.Request, model: str | None = None) -> None:
    """Key and endpoint."""
    if request.headers.get("Authorization") != f"Key {GOOD_KEY}":
        raise Refused(401, "No user found for Key ID and Secret")
    if model is not None and model not in BODIES:
        raise Refused(404, f'Application "{model.split("/")[-1]}" not found')


def read(data: bytes, shape: Any) -> Any:
    """The body, of exactly the members and types that its endpoint knows."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        found = re.search(r"field `(\w+)`|\$\.(\w+)", str(error))
        kind = "extra_forbidden" if "unknown field" in str(error) else "value_error"
        raise wrong(found.group(1) or found.group(2) if found else "", str(error), kind) from None


def measured(body: msgspec.Struct, inputs: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """How large the endpoint makes the picture."""
    first = next(iter(inputs.values()), (1024, 1024))
    asked = getattr(body, "image_size", None)
    if isinstance(asked, ImageSize):
        return asked.width, asked.height
    if asked in PRESETS:
        return PRESETS[str(asked)]
    ratio = getattr(body, "aspect_ratio", None)
    if ratio in {None, "auto"}:
        return first
    wide, high = map(int, str(ratio).split(":"))
    edge = {"1K": 1024, "2K": 2048, "4K": 4096}[getattr(body, "resolution", "1K")]
    return round(edge * (wide / high) ** 0.5), round(edge * (high / wide) ** 0.5)
