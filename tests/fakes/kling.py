"""Kling, strict: every body is read into its endpoint's own struct, and each picture in it is opened.

Both kinds of credential are known: the key itself, and tokens that the access key's secret signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, picture

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"

Ratio: TypeAlias = Literal["16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9"]
Prompt: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2500)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Margin: TypeAlias = Annotated[float, Meta(ge=0, le=2)]
EDGES = {"1k": 1024, "2k": 2048, "4k": 4096}


class Marked(msgspec.Struct, forbid_unknown_fields=True):
    enabled: bool


class Element(msgspec.Struct, forbid_unknown_fields=True):
    element_id: int | str


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    n: Annotated[int, Meta(ge=1, le=9)] = 1
    external_task_id: str | None = None
    callback_url: str | None = None


class Generate(Body, kw_only=True):
    prompt: Prompt
    model_name: Literal["kling-v3", "kling-v2-1"] = "kling-v3"
    negative_prompt: Annotated[str, Meta(max_length=2500)] | None = None
    image: str | None = None
    image_reference: Literal["subject", "face"] | None = None
    image_fidelity: Share | None = None
    human_fidelity: Share | None = None
    element_list: list[Element] | None = None
    resolution: Literal["1k", "2k"] = "1k"
    aspect_ratio: Ratio = "16:9"
    watermark_info: Marked | None = None


class Listed(msgspec.Struct, forbid_unknown_fields=True):
    image: str


class Omni(Body, kw_only=True):
    prompt: Prompt
    model_name: Literal["kling-image-o1", "kling-v3-omni"] = "kling-image-o1"
    image_list: Annotated[list[Listed], Meta(max_length=10)] = []
    element_list: list[Element] | None = None
    resolution: Literal["1k", "2k", "4k"] = "1k"
    aspect_ratio: Ratio | Literal["auto"] = "auto"
    result_type: Literal["single", "series"] | None = None
    series_amount: Annotated[int, Meta(ge=2, le=9)] | Literal["auto"] | None = None
    watermark_info: Marked | None = None


class Subject(msgspec.Struct, forbid_unknown_fields=True):
    subject_image: str


class Multi(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    n: Annotated[int, Meta(ge=1, le=9)] = 1
    callback_url: str | None = None
    prompt: Prompt
    model_name: Literal["kling-v2-1"]
    subject_image_list: Annotated[list[Subject], Meta(min_length=1, max_length=4)]
    scene_image: str | None = None
    style_image: str | None = None
    aspect_ratio: Ratio = "16:9"


class Expand(Body, kw_only=True):
    image: str
    prompt: Prompt | None = None
    up_expansion_ratio: Margin = 0
    down_expansion_ratio: Margin = 0
    left_expansion_ratio: Margin = 0
    right_expansion_ratio: Margin = 0
    watermark_info: Marked | None = None


class TryOn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model_name: Literal["kolors-virtual-try-on-v1", "kolors-virtual-try-on-v1-5"]
    human_image: str
    cloth_image: str
    callback_url: str | None = None


SHAPES: dict[str, type[msgspec.Struct]] = {
    "generations": Generate,
    "omni-image": Omni,
    "multi-image2image": Multi,
    "editing/expand": Expand,
    "kolors-virtual-try-on": TryOn,
}


class Refused(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Task:
    prompt: str
    size: tuple[int, int]
    count: int
    series: bool = False
    marked: bool = False
    mark: str | None = None  # the client's own name for it
    polls: int = 0


@dataclass
class Kling(Fake):
    """Image endpoints of the older standard; `patiently` in a prompt is seen at work once before it is done."""

    name: ClassVar[str] = "kling"
    generates: ClassVar[str] = "kling-v3"
    edits: ClassVar[str | None] = "kling-image-o1"
    fuses: ClassVar[str | None] = "kling-image-o1"

    tasks: dict[str, Task] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        paths = "|".join(SHAPES)
        return [
            web.post(f"/v1/images/{{kind:{paths}}}", self.answer(self.submit)),
            web.get(f"/v1/images/{{kind:{paths}}}/{{task}}", self.answer(self.poll)),
            web.get("/files/{name}", self.file),
            web.route("*", "/v1/{rest:.*}", self.answer(self.nowhere)),
        ]

    def answer(self, handler: Any) -> Any:
        """`handler` behind the credential, its data in the envelope."""

        async def answered(request: web.Request) -> web.Response:
            try:
                authorized(request.headers.get("Authorization", ""))
                data = await handler(request)
            except Refused as refused:
                body = {"code": refused.code, "message": str(refused), "request_id": "r-0"}
                return web.json_response(body, status=refused.status)
            return web.json_response({"code": 0, "message": "SUCCEED", "request_id": "r-1", "data": data})

        return answered

    async def nowhere(self, request: web.Request) -> Any:
        raise Refused(404, 1203, "Resource not found")

    async def submit(self, request: web.Request) -> dict[str, Any]:
        kind = request.match_info["kind"]
        body = read(await request.read(), SHAPES[kind])
        inputs = [opened(text) for text in given(body)]
        fitting(body, len(inputs))
        prompt = getattr(body, "prompt", None) or ""
        if "refuse me" in prompt:
            raise Refused(400, 1301, "Failure to pass the content safety system")
        if "rate limit me" in prompt:
            raise Refused(429, 1302, "Request too fast")
        if "fail me" in prompt:
            raise Refused(500, 5000, "Internal server error")
        name = str(831922345719271433 + len(self.tasks))
        series = getattr(body, "result_type", None) == "series"
        marked = getattr(body, "watermark_info", None)
        self.tasks[name] = Task(
            prompt, measured(body, inputs), getattr(body, "n", 1), series, bool(marked and marked.enabled),
            getattr(body, "external_task_id", None),
        )  # fmt: skip
        return {"task_id": name, "task_info": {}, "task_status": "submitted", "created_at": 1763600000000,
                "updated_at": 1763600000000}  # fmt: skip

    async def poll(self, request: web.Request) -> dict[str, Any]:
        asked = request.match_info["task"]
        name = next((name for name, task in self.tasks.items() if task.mark == asked), asked)
        task = self.tasks.get(name)
        if task is None:
            raise Refused(404, 1203, "The requested task does not exist")
        task.polls += 1
        data: dict[str, Any] = {"task_id": name, "task_info": {}, "created_at": 1763600000000}
        if task.polls == 1 and "patiently" in task.prompt:
            return data | {"task_status": "processing"}
        if "refuse it late" in task.prompt:
            return data | {"task_status": "failed", "task_status_msg": "Failure to pass the risk control system"}
        count = 0 if "empty please" in task.prompt else task.count
        images = [{"index": index, "url": f"{self.url}/files/{name}-{index}.png?sig=good"} for index in range(count)]
        if task.marked:
            images = [image | {"watermark_url": f"{image['url']}&marked"} for image in images]
        result = {"result_type": "series", "series_images": images} if task.series else {"images": images}
        return data | {"task_status": "succeed", "task_status_msg": "", "task_result": result,
                       "final_unit_deduction": str(4 * count)}  # fmt: skip

    async def file(self, request: web.Request) -> web.Response:
        """A pre-signed address: whoever brings a credential has leaked it."""
        if request.query.get("sig") != "good" or "Authorization" in request.headers:
            return web.Response(status=403, text="AccessDenied")
        task = self.tasks[request.match_info["name"].partition("-")[0]]
        return web.Response(body=picture(task.size), content_type="image/png")


def authorized(header: str) -> None:
    scheme, _, token = header.partition(" ")
    if scheme != "Bearer" or not token:
        raise Refused(401, 1001, "Authorization is empty")
    if token == GOOD_KEY:
        return
    try:
        head, claims, signature = token.split(".")
        made = hmac.new(SECRET_KEY.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
        said = json.loads(unpadded(claims))
        good = json.loads(unpadded(head)) == {"alg": "HS256", "typ": "JWT"} and said["iss"] == ACCESS_KEY
    except (ValueError, KeyError):
        raise Refused(401, 1000, "Authentication failed") from None
    if not good or not hmac.compare_digest(made, unpadded(signature)):
        raise Refused(401, 1002, "Authorization is invalid")
    if said["nbf"] > time.time():
        raise Refused(401, 1003, "Authorization is not yet valid")
    if not time.time() < said["exp"] <= time.time() + 1801:
        raise Refused(401, 1004, "Authorization has expired")


def unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def read(data: bytes, shape: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        if "model_name" in str(error):
            raise Refused(404, 1203, "model is not found") from None
        raise Refused(400, 1201, str(error)) from None
    except msgspec.DecodeError as error:
        raise Refused(400, 1200, str(error)) from None


def given(body: msgspec.Struct) -> Iterator[str]:
    """The pictures of a body, in order."""
    for name in ("image", "human_image", "cloth_image", "scene_image", "style_image"):
        if text := getattr(body, name, None):
            yield text
    for listed in getattr(body, "image_list", ()):
        yield listed.image
    for subject in getattr(body, "subject_image_list", ()):
        yield subject.subject_image


def opened(text: str) -> tuple[int, int]:
    """The size of a picture in bare base64, decoded to its last pixel."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        image.load()
    except (binascii.Error, UnidentifiedImageError, OSError):
        raise Refused(400, 1201, "File is not in a valid base64 format") from None
    if image.format not in {"PNG", "JPEG"}:
        raise Refused(400, 1201, "Image format must be jpg, jpeg or png")
    if min(image.size) < 300 or not 0.4 <= image.width / image.height <= 2.5:
        raise Refused(400, 1201, "Image must have 300 pixels at least and a ratio of 1:2.5 to 2.5:1")
    return image.size


def fitting(body: msgspec.Struct, count: int) -> None:
    """What no single member tells."""
    if isinstance(body, Generate):
        if body.image and body.negative_prompt:
            raise Refused(400, 1201, "negative_prompt is not supported with image")
        if body.model_name != "kling-v2-1" and (body.image_reference or body.image_fidelity or body.human_fidelity):
            raise Refused(400, 1201, "image_reference is not supported by this model")
    if isinstance(body, Omni):
        for number in re.findall(r"<<<image_(\d+)>>>", body.prompt):
            if not 1 <= int(number) <= count:
                raise Refused(400, 1201, f"There is no image_{number}")
        special = body.result_type or body.series_amount or body.element_list or body.resolution == "4k"
        if special and body.model_name != "kling-v3-omni":
            raise Refused(400, 1201, "not supported by this model")


def measured(body: msgspec.Struct, inputs: list[tuple[int, int]]) -> tuple[int, int]:
    """How large the service makes the picture."""
    if isinstance(body, Expand):
        width, height = inputs[0]
        wide = round(width * (1 + body.left_expansion_ratio + body.right_expansion_ratio))
        high = round(height * (1 + body.up_expansion_ratio + body.down_expansion_ratio))
        if not width * height < wide * high <= 3 * width * height + wide + high:
            raise Refused(400, 1201, "The new area must be at most three times the old one")
        return wide, high
    ratio = getattr(body, "aspect_ratio", "auto")
    if ratio == "auto":
        return inputs[0] if inputs else (1024, 1024)
    width, height = map(int, ratio.split(":"))
    edge = EDGES[getattr(body, "resolution", "1k")]
    return round(edge * (width / height) ** 0.5), round(edge * (height / width) ** 0.5)
