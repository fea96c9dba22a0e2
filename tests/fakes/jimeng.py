"""Volcengine's visual service, strict: each call's signature is checked against one of our own making, and every body
is read into its model's own struct. Pictures by address are fetched, as the service does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from urllib.parse import parse_qsl, urlencode

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, Seen, picture

SECRET = "dGVzdC1zZWNyZXQ="  # used as it is, although it looks like base64
TOKEN = "test-session"
VERSION = "2022-08-31"

Prompt: TypeAlias = Annotated[str, Meta(min_length=1, max_length=800)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Side: TypeAlias = Annotated[float, Meta(ge=0)]


class Logo(msgspec.Struct, forbid_unknown_fields=True):
    add_logo: bool = False
    position: Literal[0, 1, 2, 3] = 0
    language: Literal[0, 1] = 0
    opacity: Share = 1
    logo_text_content: str = ""


class Mark(msgspec.Struct, forbid_unknown_fields=True):
    producer_id: str
    content_producer: str = ""
    content_propagator: str = ""
    propagate_id: str = ""


class Wishes(msgspec.Struct, forbid_unknown_fields=True):
    """What `req_json` holds."""

    return_url: bool = False
    logo_info: Logo | None = None
    aigc_meta: Mark | None = None


class Named(msgspec.Struct, forbid_unknown_fields=True):
    req_key: str
    task_id: str


class Poll(Named, forbid_unknown_fields=True):
    req_json: str = "{}"


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    req_key: str


class Pictured(Body, kw_only=True):
    image_urls: list[str] = []
    binary_data_base64: list[str] = []


class Seedream4(Pictured, kw_only=True):
    prompt: Prompt
    size: Annotated[int, Meta(ge=1048576, le=16777216)] = 4194304
    width: int | None = None
    height: int | None = None
    scale: Share | None = None
    force_single: bool = False
    min_ratio: Annotated[float, Meta(ge=1 / 16, lt=16)] = 1 / 3
    max_ratio: Annotated[float, Meta(ge=1 / 16, lt=16)] = 3


class Seedream46(Seedream4, kw_only=True):
    scale: Annotated[int, Meta(ge=1, le=100)] | None = None  # an int here, a share there


class Seedream3(Body, kw_only=True):
    prompt: Prompt
    use_pre_llm: bool = True
    seed: Annotated[int, Meta(ge=-1)] = -1
    width: int = 1328
    height: int = 1328


class Image3(Pictured, kw_only=True):
    prompt: Prompt
    scale: Share = 0.5
    seed: Annotated[int, Meta(ge=-1)] = -1
    width: Annotated[int, Meta(ge=512, le=2016)] = 1328
    height: Annotated[int, Meta(ge=512, le=2016)] = 1328


class SeedEdit(Pictured, kw_only=True):
    prompt: Prompt
    scale: Share = 0.5
    seed: Annotated[int, Meta(ge=-1)] = -1


class Inpaint(Pictured, kw_only=True):
    prompt: Prompt
    seed: int = 101


class Outpaint(Pictured, kw_only=True):
    prompt: str = ""
    seed: int = -1
    top: Side = 0
    bottom: Side = 0
    left: Side = 0
    right: Side = 0


class Upscale(Pictured, kw_only=True):
    resolution: Literal["4k", "8k"] = "4k"
    scale: Annotated[int, Meta(ge=0, le=100)] = 50


class Material(Pictured, kw_only=True):
    image_edit_prompt: Prompt
    lora_weight: float = 1.0
    width: Annotated[int, Meta(ge=1024, le=4096)] = 2048
    height: Annotated[int, Meta(ge=1024, le=4096)] = 2048
    seed: int = -1


class Product(Pictured, kw_only=True):
    edit_prompt: Prompt
    width: Annotated[int, Meta(ge=1024, le=4096)] = 2048
    height: Annotated[int, Meta(ge=1024, le=4096)] = 2048
    seed: int = -1


class Old(Body, kw_only=True):
    prompt: Prompt
    width: Annotated[int, Meta(ge=256, le=768)] = 512
    height: Annotated[int, Meta(ge=256, le=768)] = 512
    use_pre_llm: bool = True
    use_sr: bool = False
    seed: int = -1
    scale: float = 3.5
    ddim_steps: int = 25
    return_url: bool = False
    logo_info: Logo | None = None


@dataclass(frozen=True)
class Model:
    shape: type[Body]
    images: tuple[int, int] = (0, 0)  # least and most
    format: str = "JPEG"


MODELS = {
    "jimeng_seedream46_cvtob": Model(Seedream46, (0, 14), "PNG"),
    "jimeng_t2i_v40": Model(Seedream4, (0, 10), "PNG"),
    "jimeng_t2i_v31": Model(Seedream3),
    "jimeng_t2i_v30": Model(Seedream3),
    "jimeng_i2i_v30": Model(Image3, (1, 1)),
    "jimeng_image2image_dream_inpaint": Model(Inpaint, (2, 2)),
    "jimeng_img2img_seed3_painting_edit": Model(Outpaint, (1, 2), "PNG"),
    "jimeng_i2i_seed3_tilesr_cvtob": Model(Upscale, (1, 1), "PNG"),
    "i2i_material_extraction": Model(Material, (1, 1)),
    "jimeng_i2i_extract_tiled_images": Model(Product, (1, 1)),
    "seededit_v3.0": Model(SeedEdit, (1, 1)),
}
AT_ONCE = {"jimeng_high_aes_general_v21_L": Model(Old), "high_aes_general_v20_L": Model(Old)}


class Refused(Exception):
    """A number is the service's own code, a word that of the gateway before it."""

    def __init__(self, status: int, code: int | str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Task:
    req_key: str
    prompt: str
    size: tuple[int, int]
    format: str
    count: int = 1
    polls: int = 0
    stopped: bool = False


@dataclass
class Jimeng(Fake):
    """One path for all. `patiently` in a prompt is seen at work once, `refuse it late` fails when it is done."""

    name: ClassVar[str] = "jimeng"
    generates: ClassVar[str] = "jimeng_t2i_v40"
    edits: ClassVar[str | None] = "jimeng_i2i_v30"
    masks: ClassVar[str | None] = "jimeng_image2image_dream_inpaint"
    fuses: ClassVar[str | None] = "jimeng_t2i_v40"

    tasks: dict[str, Task] = field(default_factory=dict)
    downloads: dict[str, bytes] = field(default_factory=dict)
    held: str | None = None  # as long as it is set, no task goes beyond this state
    stops: int = 0  # how often one was to be stopped

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": f"{key}|{SECRET}", "base_url": self.url}

    def pays(self, seen: Seen) -> bool:
        return seen.query.get("Action") in {"CVSync2AsyncSubmitTask", "CVProcess"}

    def at(self, address: str) -> bytes | None:
        return self.downloads.get(address)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/", self.answer), web.get("/files/{name}", self.file)]

    async def answer(self, request: web.Request) -> web.Response:
        """One of the actions, in the envelope."""
        try:
            authorized(request, await request.read())
            actions = {
                ("CVSync2AsyncSubmitTask", VERSION): self.submit, ("CVSync2AsyncGetResult", VERSION): self.poll,
                ("CVProcess", VERSION): self.process, ("CVCancelTask", "2024-06-06"): self.stop,
            }  # fmt: skip
            action = actions.get((request.query.get("Action", ""), request.query.get("Version", "")))
            if action is None:
                raise Refused(404, "InvalidActionOrVersion", "Could not find operation for the version")
            data = await action(await request.read())
        except Refused as refused:
            return refusal(request, refused)
        return web.json_response({"code": 10000, "data": data, "message": "Success", "status": 10000,
                                  "request_id": "20240720103939AF00", "time_elapsed": "104.8ms"})  # fmt: skip

    async def submit(self, raw: bytes) -> dict[str, Any]:
        body, model = read(raw, MODELS)
        inputs = await self.opened(body, model)
        prompt = prompted(body)
        name = str(7392616336519610409 + len(self.tasks))
        several = isinstance(body, Seedream4) and not body.force_single
        self.tasks[name] = Task(
            body.req_key, prompt, measured(body, inputs), model.format, 0 if "empty please" in prompt else 1 + several
        )
        return {"task_id": name}

    async def poll(self, raw: bytes) -> dict[str, Any]:
        asked = decoded(raw, Poll)
        wishes = decoded(asked.req_json.encode(), Wishes)
        task = self.tasks.get(asked.task_id)
        if task is None or task.stopped:
            return {"binary_data_base64": None, "image_urls": None, "status": "not_found"}
        if asked.req_key != task.req_key:
            raise Refused(400, 50215, "Input invalid for this service")
        if self.held:
            return {"binary_data_base64": None, "image_urls": None, "status": self.held}
        task.polls += 1
        if task.polls == 1 and "patiently" in task.prompt:
            return {"binary_data_base64": [], "image_urls": None, "status": "generating"}
        if "refuse it late" in task.prompt:
            raise Refused(400, 50511, "Post Img Risk Not Pass")
        return self.made(asked.task_id, task, wishes.return_url) | {"status": "done"}

    async def stop(self, raw: bytes) -> None:
        """What is stopped is not known any more: no document says what is told of it."""
        self.stops += 1
        asked = decoded(raw, Named)
        task = self.tasks.get(asked.task_id)
        if task is None or asked.req_key != task.req_key or task.polls:
            raise Refused(400, 50215, "Input invalid for this service")
        task.stopped = True

    async def process(self, raw: bytes) -> dict[str, Any]:
        body, _ = read(raw, AT_ONCE)
        assert isinstance(body, Old)
        prompt = prompted(body)
        name = str(len(self.tasks))
        scale = 2 if body.use_sr else 1
        size = body.width * scale, body.height * scale
        self.tasks[name] = task = Task(body.req_key, prompt, size, "JPEG", 0 if "empty please" in prompt else 1)
        return self.made(name, task, body.return_url)

    def made(self, name: str, task: Task, by_address: bool) -> dict[str, Any]:
        if by_address:
            urls = [f"{self.url}/files/{name}-{index}?sig=good" for index in range(task.count)]
            return {"binary_data_base64": [], "image_urls": urls}
        text = base64.b64encode(picture(task.size, task.format)).decode()
        return {"binary_data_base64": [text] * task.count, "image_urls": []}

    async def file(self, request: web.Request) -> web.Response:
        """A pre-signed address: whoever brings a credential has leaked it."""
        if request.query.get("sig") != "good" or {"Authorization", "X-Date"} & request.headers.keys():
            return web.Response(status=403, text="AccessDenied")
        task = self.tasks[request.match_info["name"].partition("-")[0]]
        return web.Response(body=picture(task.size, task.format), content_type=f"image/{task.format.lower()}")

    async def opened(self, body: Body, model: Model) -> list[Image.Image]:
        """The pictures of a body, each decoded to its last pixel."""
        if not isinstance(body, Pictured):
            return []
        if body.image_urls and body.binary_data_base64:
            raise Refused(400, 50200, "image_urls and binary_data_base64 exclude each other")
        images = [shown(await self.fetched(url)) for url in body.image_urls]
        images += [shown(unwrapped(text)) for text in body.binary_data_base64]
        least, most = model.images
        if not least <= len(images) <= most:
            raise Refused(400, 50200, f"expected {least} to {most} pictures, got {len(images)}")
        if isinstance(body, Inpaint | Outpaint) and len(images) == 2 and (
            images[1].mode != "L" or images[1].size != images[0].size or images[1].getextrema()[1] != 255
        ):  # fmt: skip
            raise Refused(400, 50215, "the mask must be grey, of the picture's size, and open something")
        return images

    async def fetched(self, url: str) -> bytes:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            if answer.status != 200:
                raise Refused(400, 50215, "the picture cannot be downloaded")
            self.downloads[url] = await answer.read()
            return self.downloads[url]


def refusal(request: web.Request, refused: Refused) -> web.Response:
    if isinstance(refused.code, str):
        error = {"Code": refused.code, "Message": str(refused)}
        metadata = {"RequestId": "2024", "Action": request.query.get("Action", ""), "Version": VERSION, "Service": "cv",
                    "Region": "cn-north-1", "Error": error}  # fmt: skip
        return web.json_response({"ResponseMetadata": metadata}, status=refused.status)
    body = {"code": refused.code, "data": None, "message": str(refused), "request_id": "2024", "status": refused.code,
            "time_elapsed": "1ms"}  # fmt: skip
    return web.json_response(body, status=refused.status)


def authorized(request: web.Request, body: bytes) -> None:
    """Sign the request as it came, and compare."""
    given = request.headers.get("Authorization", "")
    digest = hashlib.sha256(body).hexdigest()
    if not given.startswith("HMAC-SHA256 Credential="):
        raise Refused(401, "MissingSignature", "The request is not signed")
    parts = dict(part.split("=", 1) for part in given.removeprefix("HMAC-SHA256 ").split(", "))
    key_id, *scope = parts["Credential"].split("/")
    names = parts["SignedHeaders"].split(";")
    if key_id != GOOD_KEY:
        raise Refused(401, "InvalidAccessKey", "The access key does not exist")
    needed = {"content-type", "host"} | {name.lower() for name in request.headers if name.lower().startswith("x-")}
    if set(names) != needed or names != sorted(names) or request.headers.get("X-Content-Sha256") != digest:
        raise Refused(401, "SignatureDoesNotMatch", "The signed headers are not those that were sent")
    query = urlencode(sorted(parse_qsl(request.query_string)))
    lines = [request.method, request.path, query, *(f"{name}:{request.headers[name]}" for name in names), "",
             ";".join(names), digest]  # fmt: skip
    date = request.headers["X-Date"]
    if scope != [date[:8], "cn-north-1", "cv", "request"] or request.content_type != "application/json":
        raise Refused(401, "SignatureDoesNotMatch", "The scope is wrong")
    text = "\n".join(["HMAC-SHA256", date, "/".join(scope), hashlib.sha256("\n".join(lines).encode()).hexdigest()])
    key = SECRET.encode()
    for step in (*scope, text):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(key.hex(), parts["Signature"]):
        raise Refused(401, "SignatureDoesNotMatch", "The request signature we calculated does not match")
    if request.headers.get("X-Security-Token", TOKEN) != TOKEN:
        raise Refused(401, "InvalidCredential", "The security token is invalid")


def decoded(raw: bytes, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.DecodeError as error:
        raise Refused(400, 50200, f"Parameter error: {error}") from None


def read(raw: bytes, models: dict[str, Model]) -> tuple[Body, Model]:
    """The body, of exactly the members and types that its model knows."""
    model = models.get(msgspec.json.decode(raw).get("req_key"))
    if model is None:
        raise Refused(400, 50204, "Unsupported req_key")
    body = decoded(raw, model.shape)
    assert isinstance(body, Body)
    return body, model


def prompted(body: Body) -> str:
    """The prompt, once what the common words ask for has not happened."""
    names = ("prompt", "image_edit_prompt", "edit_prompt")
    prompt = next((text for name in names if (text := getattr(body, name, None))), "")
    if "refuse me" in prompt:
        raise Refused(400, 50412, "Text Risk Not Pass")
    if "rate limit me" in prompt:
        raise Refused(429, 50430, "Request Has Reached API Concurrent Limit, Please Try Later")
    if "fail me" in prompt:
        raise Refused(500, 50500, "Internal Error")
    return prompt


def unwrapped(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Refused(400, 50200, "binary_data_base64 must be base64, without data:") from None


def shown(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError):
        raise Refused(400, 50215, "the picture cannot be decoded") from None
    if image.format not in {"PNG", "JPEG"} or max(image.size) > 4096 or max(image.size) > 3 * min(image.size):
        raise Refused(400, 50215, "the picture must be PNG or JPEG, of 4096x4096 and a ratio of 3 at most")
    return image


def measured(body: Body, inputs: list[Image.Image]) -> tuple[int, int]:
    """How large the service makes the picture."""
    first = inputs[0].size if inputs else (1024, 1024)
    if isinstance(body, Outpaint):
        wide, high = 1 + body.left + body.right, 1 + body.top + body.bottom
        if (wide, high) == (1, 1) and len(inputs) == 1:
            raise Refused(400, 50200, "nothing is to be filled")
        return round(first[0] * wide), round(first[1] * high)
    if isinstance(body, Upscale):
        share = (4096 if body.resolution == "4k" else 8192) / max(first)
        return round(first[0] * share), round(first[1] * share)
    width, height = getattr(body, "width", None), getattr(body, "height", None)
    if isinstance(body, Seedream4 | Seedream3) and width and height:
        low, high = (1 << 20, 1 << 24) if isinstance(body, Seedream4) else (1 << 18, 1 << 22)
        if not low <= width * height <= high or not 1 / 3 <= width / height <= 3:
            raise Refused(400, 50200, "width and height are out of range")
    if isinstance(body, Image3) and width and height:
        return min(width, 1536) // 16 * 16, min(height, 1536) // 16 * 16
    if width and height:
        return width, height
    if isinstance(body, Seedream4):
        edge = round(body.size**0.5)
        return edge, edge
    return first
