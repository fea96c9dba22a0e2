"""DashScope, strict: each model takes its own wire, parameters, sizes and pictures; others are refused as it does.

Beyond the common words, `refuse one` in a prompt withholds the last of several pictures, and `patiently` lets a task
run for one poll.
"""

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

from tests.fakes.base import GOOD_KEY, Fake, Seen, picture
from tests.fakes.openai import form

Size: TypeAlias = tuple[int, int]
Scale: TypeAlias = Annotated[float, Meta(ge=1, le=2)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class Content(msgspec.Struct, forbid_unknown_fields=True):
    image: str | None = None
    text: str | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user"]
    content: list[Content]


class Messages(msgspec.Struct, forbid_unknown_fields=True):
    messages: Annotated[list[Message], Meta(min_length=1, max_length=1)]


class Prompt(msgspec.Struct, forbid_unknown_fields=True):
    prompt: Annotated[str, Meta(min_length=1)]
    negative_prompt: Annotated[str, Meta(max_length=500)] | None = None
    ref_img: str | None = None


class Images(msgspec.Struct, forbid_unknown_fields=True):
    prompt: Annotated[str, Meta(min_length=1)]
    images: list[str]
    negative_prompt: Annotated[str, Meta(max_length=500)] | None = None


class Function(msgspec.Struct, forbid_unknown_fields=True):
    function: Literal[
        "description_edit", "description_edit_with_mask", "stylization_all", "stylization_local", "remove_watermark",
        "colorization", "control_cartoon_feature", "expand", "super_resolution", "doodle",
    ]  # fmt: skip
    prompt: str
    base_image_url: str
    mask_image_url: str | None = None


Input: TypeAlias = Messages | Prompt | Images | Function


class Color(msgspec.Struct, forbid_unknown_fields=True):
    hex: Annotated[str, Meta(pattern="^#[0-9A-F]{6}$")]
    ratio: str


class Parameters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every parameter that some model takes. Without `n`, older models make four: always to be sent."""

    n: Annotated[int, Meta(ge=1, le=12)]
    size: str | None = None
    seed: Annotated[int, Meta(ge=0, le=2_147_483_647)] | None = None
    watermark: bool | None = None
    negative_prompt: Annotated[str, Meta(max_length=500)] | None = None
    prompt_extend: bool | None = None
    prompt_extend_mode: Literal["direct", "agent"] | None = None
    enable_thinking: bool | None = None
    thinking_mode: bool | None = None
    enable_sequential: bool | None = None
    bbox_list: list[list[list[int]]] | None = None
    color_palette: Annotated[list[Color], Meta(min_length=3, max_length=10)] | None = None
    enable_interleave: bool | None = None
    max_images: Annotated[int, Meta(ge=1, le=5)] | None = None
    style: str | None = None
    ref_strength: Share | None = None
    ref_mode: Literal["repaint", "refonly"] | None = None
    strength: Share | None = None
    top_scale: Scale | None = None
    bottom_scale: Scale | None = None
    left_scale: Scale | None = None
    right_scale: Scale | None = None
    upscale_factor: Annotated[int, Meta(ge=1, le=4)] | None = None
    is_sketch: bool | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    input: msgspec.Raw
    parameters: Parameters


TEXT2IMAGE, IMAGE2IMAGE, SYNC, ASYNC = (
    "text2image/image-synthesis", "image2image/image-synthesis", "multimodal-generation/generation",
    "image-generation/generation",
)  # fmt: skip
TASKS = frozenset({TEXT2IMAGE, IMAGE2IMAGE, ASYNC})


@dataclass(frozen=True)
class Model:
    """What one model takes."""

    paths: tuple[str, ...]
    shape: type[Messages | Prompt | Images | Function]
    params: str
    images: tuple[int, int] = (0, 0)  # least and most
    n: int = 1
    pixels: tuple[int, int] = (0, 0)
    edge: tuple[int, int] = (1, 1 << 16)
    sizes: tuple[Size, ...] = ()
    tiers: tuple[str, ...] = ()
    default: Size = (1024, 1024)


K = 1024
SQUARES = (512 * 512, 2048 * 2048)
QWEN = "size watermark negative_prompt prompt_extend"
WAN = "size watermark prompt_extend"
TALL = ((1664, 928), (1472, 1104), (1328, 1328), (1104, 1472), (928, 1664))
SIDES = "strength top_scale bottom_scale left_scale right_scale upscale_factor is_sketch"
SETS = "size watermark thinking_mode enable_sequential bbox_list color_palette"
MODELS: dict[str, Model] = {
    r"qwen-image-3\.0(-pro)?": Model(
        (SYNC, ASYNC), Messages, f"{QWEN} prompt_extend_mode enable_thinking", (0, 3), 6, SQUARES, default=(2048, 2048)
    ),
    r"qwen-image-2\.1-pro": Model((SYNC,), Messages, WAN, (0, 10), 6, SQUARES, default=(2048, 2048)),
    r"qwen-image-2\.0(-pro)?": Model((SYNC,), Messages, QWEN, (0, 3), 6, SQUARES, default=(2048, 2048)),
    r"qwen-image-max": Model((SYNC,), Messages, QWEN, sizes=TALL, default=TALL[0]),
    r"qwen-image(-plus)?": Model((SYNC,), Messages, QWEN, sizes=TALL, default=TALL[0]),
    r"qwen-image-edit-(max|plus)": Model((SYNC,), Messages, QWEN, (1, 3), 6, (1, SQUARES[1]), (512, 2048)),
    r"qwen-image-edit": Model((SYNC,), Messages, "watermark negative_prompt", (1, 3)),
    r"z-image-turbo": Model((SYNC,), Messages, "size prompt_extend", pixels=SQUARES, default=(1024, 1536)),
    r"wan2\.7-image-pro": Model(
        (SYNC, ASYNC), Messages, SETS, (0, 9), 12, (768 * 768, 4096 * 4096), tiers=("1K", "2K", "4K")
    ),
    r"wan2\.7-image": Model((SYNC, ASYNC), Messages, SETS, (0, 9), 12, (768 * 768, 2048 * 2048), tiers=("1K", "2K")),
    r"wan2\.6-image": Model(
        (SYNC, ASYNC), Messages, f"{QWEN} enable_interleave max_images", (1, 4), 4, (768 * 768, 2048 * 2048),
        tiers=("1K", "2K"), default=(1280, 1280),
    ),
    r"wan2\.6-t2i": Model((SYNC, ASYNC), Messages, QWEN, n=4, pixels=(1280**2, 1440**2), default=(1280, 1280)),
    r"wan2\.5-t2i-preview": Model((TEXT2IMAGE,), Prompt, WAN, n=4, pixels=(1280**2, 1440**2), default=(1280, 1280)),
    r"wan2\.5-i2i-preview": Model((IMAGE2IMAGE,), Images, WAN, (1, 3), 4, (768 * 768, 1280**2), default=(1280, 1280)),
    r"wan2\.2-t2i-(plus|flash)|wanx?2\.1-t2i-(plus|turbo)|wanx2\.0-t2i-turbo": Model(
        (TEXT2IMAGE,), Prompt, WAN, n=4, pixels=SQUARES, edge=(512, 1440)
    ),
    r"wanx2\.1-imageedit": Model((IMAGE2IMAGE,), Function, f"watermark {SIDES}", (1, 1), 4),
    r"wanx-v1": Model(
        (TEXT2IMAGE,), Prompt, "size style ref_strength ref_mode", (0, 1), 4,
        sizes=((1024, 1024), (720, 1280), (768, 1152), (1280, 720)),
    ),
}  # fmt: skip


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def invalid(message: str) -> Refused:
    return Refused("InvalidParameter", message)


@dataclass
class Task:
    """What a job will come to; of an answer at once, what it is made of."""

    prompt: str
    n: int
    size: Size
    shape: type
    polls: int = 0
    stopped: bool = False


@dataclass
class Dashscope(Fake):
    name: ClassVar[str] = "dashscope"
    generates: ClassVar[str] = "qwen-image-2.0-pro"
    edits: ClassVar[str | None] = "qwen-image-2.0-pro"
    masks: ClassVar[str | None] = "wanx2.1-imageedit"
    fuses: ClassVar[str | None] = "qwen-image-2.0-pro"
    photo: ClassVar[Size] = (640, 512)

    tasks: dict[str, Task] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    held: str | None = None  # as long as it is set, no task goes beyond this state
    stops: int = 0  # how often one was to be stopped

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/api/v1"}

    def pays(self, seen: Seen) -> bool:
        return seen.path.startswith("/api/v1/services/")

    def at(self, address: str) -> bytes | None:
        return self.stored.get(address.removeprefix("oss://"))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/services/aigc/{path:.+}", self.submit),
            web.get("/api/v1/tasks/{task}", self.poll),
            web.post("/api/v1/tasks/{task}/cancel", self.stop),
            web.get("/api/v1/uploads", self.policy),
            web.post("/storage", self.store),
            web.get("/files/{task}/{index}.png", self.file),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        name = str(uuid4())
        try:
            authorized(request)
            body, model = read(await request.read(), request.match_info["path"])
            spoken(request, model)
            task = self.checked(body, model, "X-DashScope-OssResourceResolve" in request.headers)
        except Refused as refused:
            return refusal(refused)
        self.tasks[name] = task
        if request.headers.get("X-DashScope-Async"):
            return answer(output={"task_status": "PENDING", "task_id": name})
        if "refuse me" in task.prompt:
            return refusal(Refused("DataInspectionFailed", "Input data may contain inappropriate content."))
        width, height = task.size
        return answer(output=self.made(name), usage={"width": width, "height": height, "image_count": task.n})

    def checked(self, body: Body, model: Model, resolves: bool) -> Task:
        """The task, once nothing in it is wrong."""
        try:
            given = msgspec.json.decode(body.input, type=model.shape)
        except msgspec.DecodeError as error:
            raise invalid(f"input: {error}") from error
        prompt, pictures = parts(given)
        images = [self.opened(picture, resolves) for picture in pictures]
        count = len(images) - (isinstance(given, Function) and given.mask_image_url is not None)
        if not model.images[0] <= count <= model.images[1]:
            raise invalid(f"num of images must be in {list(model.images)}")
        if isinstance(given, Function):
            masked(given, images)
        if body.parameters.n > model.n:
            raise invalid(f"num_images_per_prompt must be {model.n}")
        prompted(prompt)
        last = images[-1].size if images else None
        return Task(prompt, body.parameters.n, sized(body.parameters.size, model, last), model.shape)

    def opened(self, given: str, resolves: bool) -> Image.Image:
        """A picture of a request, decoded to its last pixel."""
        if given.startswith("oss://"):
            data = self.stored.get(given.removeprefix("oss://")) if resolves else None
            kind = given.rpartition(".")[2]
        else:
            found = re.fullmatch(r"data:image/(png|jpeg|webp|bmp|tiff|gif);base64,(.+)", given, re.DOTALL)
            if not found or len(given) > 10_485_760:
                raise Refused("InvalidURL", "The provided URL does not appear to be valid.")
            kind, data = found[1], pybase64.b64decode(found[2], validate=True)
        try:
            image = Image.open(io.BytesIO(data or b""))
            image.load()
        except (UnidentifiedImageError, OSError) as error:
            text = "Unable to process the media resource during data inspection."
            raise Refused("InvalidParameter.DataInspection", text) from error
        if (image.format or "").lower() != kind:
            raise Refused("InvalidImage.FileFormat", f"The picture is {image.format}, not {kind}.")
        return image

    async def poll(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
        except Refused as refused:
            return refusal(refused)
        name = request.match_info["task"]
        task = self.tasks.get(name)
        if task is None:
            return answer(output={"task_id": name, "task_status": "UNKNOWN"})
        if task.stopped or self.held:
            return answer(output={"task_id": name, "task_status": "CANCELED" if task.stopped else self.held})
        task.polls += 1
        if "patiently" in task.prompt and task.polls == 1:
            return answer(output={"task_id": name, "task_status": "RUNNING"})
        if "refuse me" in task.prompt:
            text = "Output data may contain inappropriate content."
            failed = {"task_id": name, "task_status": "FAILED", "code": "DataInspectionFailed", "message": text}
            return answer(output=failed)
        made = self.made(name)
        return answer(output={"task_id": name, "task_status": "SUCCEEDED", **made}, usage={"image_count": task.n})

    async def stop(self, request: web.Request) -> web.Response:
        """Only what is pending can be stopped."""
        self.stops += 1
        task = self.tasks.get(request.match_info["task"])
        try:
            authorized(request)
            if await request.read():
                raise invalid("No body is expected.")
            if task is None or task.polls or self.held not in {None, "PENDING"}:
                text = "Failed to cancel the task, please confirm if the task is in PENDING status."
                raise Refused("UnsupportedOperation", text)
        except Refused as refused:
            return refusal(refused)
        task.stopped = True
        return answer()

    def made(self, name: str) -> dict[str, Any]:
        """The pictures, in the shape of the wire."""
        task = self.tasks[name]
        count = 0 if "empty please" in task.prompt else task.n
        urls = [f"{self.url}/files/{name}/{index}.png?Expires=1790000000&Signature=good" for index in range(count)]
        if task.shape is Messages:
            message = {"role": "assistant", "content": [{"image": url} for url in urls]}
            return {"choices": [{"finish_reason": "stop", "message": message}] if urls else []}
        results: list[dict[str, Any]] = [{"orig_prompt": task.prompt, "url": url} for url in urls]
        if "refuse one" in task.prompt:
            text = "Output data may contain inappropriate content."
            results[-1] = {"code": "DataInspectionFailed", "message": text}
        return {"results": results}

    async def file(self, request: web.Request) -> web.Response:
        """A signed address: whoever brings a credential has leaked it."""
        if request.query.get("Signature") != "good" or "Authorization" in request.headers:
            return storage_refusal(403, "AccessDenied")
        task = self.tasks[request.match_info["task"]]
        return web.Response(body=picture(task.size), content_type="image/png")

    async def policy(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
        except Refused as refused:
            return refusal(refused)
        if request.query.get("action") != "getPolicy" or not known(request.query.get("model", "")):
            return refusal(invalid("The action or the model is wrong."))
        data = {
            "policy": "cG9saWN5", "signature": "sig=", "upload_dir": "dashscope-instant/a1/2026-11-20/b2",
            "upload_host": f"{self.url}/storage", "expire_in_seconds": 300, "max_file_size_mb": 100,
            "capacity_limit_mb": 999999999, "oss_access_key_id": "LTAI", "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
        }  # fmt: skip
        return answer(data=data)

    async def store(self, request: web.Request) -> web.Response:
        """The storage that a policy names."""
        if "Authorization" in request.headers:
            return storage_refusal(403, "AccessDenied")
        received = form(request.headers["Content-Type"], await request.read())
        fields = {part.name: part.data.decode() for part in received[:-1]}
        file = received[-1]
        expected = {
            "OSSAccessKeyId": "LTAI", "Signature": "sig=", "policy": "cG9saWN5", "x-oss-object-acl": "private",
            "x-oss-forbid-overwrite": "true", "success_action_status": "200",
        }  # fmt: skip
        key = fields.pop("key", "")
        typed = (file.type or "").startswith("image/") and "." in (file.filename or "")
        if fields != expected or file.name != "file" or not typed:
            return storage_refusal(400, "MalformedPOSTRequest")
        if not key.startswith("dashscope-instant/a1/2026-11-20/b2/"):
            return storage_refusal(403, "AccessDenied")
        if key in self.stored:
            return storage_refusal(409, "FileAlreadyExists")
        self.stored[key] = file.data
        return web.Response(status=200)


def answer(**members: Any) -> web.Response:
    return web.json_response({"request_id": str(uuid4()), **members})


def refusal(refused: Refused) -> web.Response:
    body = {"code": refused.code, "message": refused.message, "request_id": str(uuid4())}
    return web.json_response(body, status=refused.status)


def storage_refusal(status: int, code: str) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>No.</Message></Error>'
    return web.Response(status=status, text=text, content_type="application/xml")


def authorized(request: web.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
        raise Refused("InvalidApiKey", "Invalid API-key provided.", 401)


def known(model: str) -> Model | None:
    plain = re.sub(r"-20\d\d-\d\d-\d\d$", "", model)
    return next((found for name, found in MODELS.items() if re.fullmatch(name, plain)), None)


def read(data: bytes, path: str) -> tuple[Body, Model]:
    """The body, with no parameter that its model does not take, on a path that it answers to."""
    try:
        body = msgspec.json.decode(data, type=Body)
    except msgspec.DecodeError as error:
        raise invalid(str(error)) from error
    model = known(body.model)
    if model is None:
        raise Refused("ModelNotFound", f"Model not found ({body.model}).", 404)
    if path not in model.paths:
        raise invalid("url error, please check url！")
    allowed = {"n", "seed", *model.params.split()}
    for name in body.parameters.__struct_fields__:
        if name not in allowed and getattr(body.parameters, name) is not None:
            raise invalid(f"parameters.{name} is not supported by {body.model}")
    return body, model


def spoken(request: web.Request, model: Model) -> None:
    """Whether it is asked as a task, where it has to be, and only there."""
    tasked = request.headers.get("X-DashScope-Async") == "enable"
    if tasked != (request.match_info["path"] in TASKS):
        kind = "asynchronous" if tasked else "synchronous"
        raise Refused("AccessDenied", f"current user api does not support {kind} calls.", 403)


def parts(given: Input) -> tuple[str, list[str]]:
    """Prompt and pictures."""
    match given:
        case Messages():
            content = given.messages[0].content
            texts = [part.text for part in content if part.text is not None]
            if len(texts) != 1 or not texts[0]:
                raise invalid("exactly one text is required in messages.content")
            return texts[0], [part.image for part in content if part.image is not None]
        case Images():
            return given.prompt, given.images
        case Function():
            return given.prompt, [url for url in (given.base_image_url, given.mask_image_url) if url is not None]
        case _:
            return given.prompt, [given.ref_img] if given.ref_img else []


def masked(given: Function, images: list[Image.Image]) -> None:
    """White is edited, black is kept; nothing between, nothing transparent."""
    if (given.function == "description_edit_with_mask") != (given.mask_image_url is not None):
        raise invalid("input.mask_image_url belongs to description_edit_with_mask")
    if any(not 512 <= edge <= 4096 for image in images for edge in image.size):
        raise Refused("InvalidImageResolution", "The image resolution is invalid: 512 to 4096 pixels.")
    if len(images) == 2:
        base, mask = images
        if mask.size != base.size or "A" in mask.getbands():
            raise invalid("input.mask_image_url must be opaque and of the size of the base image")
        if set(mask.convert("L").tobytes()) - {0, 255}:
            raise invalid("input.mask_image_url must be black and white")


def prompted(prompt: str) -> None:
    if "rate limit me" in prompt:
        raise Refused("Throttling.RateQuota", "Requests rate limit exceeded, please try again later.", 429)
    if "fail me" in prompt:
        raise Refused("InternalError.Algo", "Inference error.", 500)


def sized(text: str | None, model: Model, last: Size | None) -> Size:
    """How large the pictures become."""
    if text is None:
        return last if last and not model.sizes else model.default
    if text in model.tiers:
        edge = int(text[0]) * K
        return edge, edge
    found = re.fullmatch(r"(\d+)\*(\d+)", text)
    if not found:
        raise invalid(f"parameters.size must be W*H, not {text}")
    size = int(found[1]), int(found[2])
    if model.sizes:
        if size not in model.sizes:
            raise invalid(f"parameters.size must be one of {model.sizes}")
        return size
    area, ratio = size[0] * size[1], max(size) / min(size)
    if not model.pixels[0] <= area <= model.pixels[1] or ratio > 8:
        raise invalid(f"parameters.size must have {model.pixels[0]} to {model.pixels[1]} pixels")
    if not all(model.edge[0] <= edge <= model.edge[1] for edge in size):
        raise invalid(f"parameters.size must have edges in {list(model.edge)}")
    return size
