"""Tencent's two image services, strict: TokenHub behind a key, and the cloud's API behind signatures that are made here
once more and compared. Every body is read into its path's or its action's own struct, and each picture in it is opened.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import re
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aiohttp
import msgspec
from aiohttp import web
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, Seen, parsed_size, picture
from tests.fakes.hunyuan_bodies import (
    ACTIONS,
    HUB,
    SERVICES,
    Asked,
    Background,
    Body,
    Chat,
    Content,
    Erase,
    Given,
    HunyuanJob,
    Lite,
    Outpaint,
    Query,
    Rapid,
    Refine,
    Restyle,
    Seedream,
    Submit,
    Wand,
)
from translators.base import MaskRule

SECRET = "test-secret"
TOKEN = "test-session"


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Task:
    prompt: str
    size: tuple[int, int]
    count: int = 1
    action: str = ""
    format: str = "PNG"
    polls: int = 0

    def names(self, name: str) -> list[str]:
        return [f"{name}-{index}" for index in range(0 if "empty please" in self.prompt else self.count)]


@dataclass
class Hunyuan(Fake):
    """Jobs with `patiently` in their prompt are seen at work once; `refuse one` refuses the last picture of a job."""

    name: ClassVar[str] = "hunyuan"
    generates: ClassVar[str] = "hy-image-v3"
    edits: ClassVar[str | None] = "hy-image-v3"
    masks: ClassVar[str | None] = "ReplaceBackground"
    fuses: ClassVar[str | None] = "hy-image-v3"
    mask_rule: ClassVar[MaskRule] = "alpha"

    tasks: dict[str, Task] = field(default_factory=dict)
    downloads: dict[str, bytes] = field(default_factory=dict)

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "secret_id": key, "secret_key": SECRET, "base_url": self.url}

    def pays(self, seen: Seen) -> bool:
        query = seen.path.endswith("/query") or seen.headers.get("X-TC-Action", "").startswith("Query")
        return seen.method == "POST" and not query

    def at(self, address: str) -> bytes | None:
        return self.downloads.get(address)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/", self.cloud),
            web.get("/files/{name}", self.file),
            *(web.post(path, self.hub) for path in HUB),
        ]

    def keep(self, task: Task) -> str:
        name = f"1253534368-{len(self.tasks)}"
        self.tasks[name] = task
        return name

    def urls(self, name: str) -> list[str]:
        return [f"{self.url}/files/{each}.png?sign=good" for each in self.tasks[name].names(name)]

    async def file(self, request: web.Request) -> web.Response:
        """A pre-signed address: whoever brings a credential has leaked it."""
        if request.query.get("sign") != "good" or {"Authorization", "X-TC-Action"} & request.headers.keys():
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        task = self.tasks[request.match_info["name"].rpartition("-")[0]]
        return web.Response(body=picture(task.size, task.format), content_type=f"image/{task.format.lower()}")

    # ---- TokenHub

    async def hub(self, request: web.Request) -> web.Response:
        try:
            if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
                raise Refused(401, "invalid_api_key", "Authentication failed.")
            body = hub_body(await request.read(), HUB[request.path])
            return web.json_response({"request_id": "a1c00d07", "created": 1789720599, **self.hub_answer(body)})
        except Refused as refused:
            error = {"message": str(refused), "type": "invalid_request_error", "code": refused.code}
            return web.json_response({"error": error}, status=refused.status)

    def hub_answer(self, body: Body) -> dict[str, Any]:
        if isinstance(body, Query):
            return self.queried(body)
        inputs = [opened(unwrapped(url)).size for url in hub_pictures(body)]
        prompt = hub_prompt(body)
        if isinstance(body, Chat) and "refuse me" in prompt:
            error = {"type": "invalid_request_error", "code": "content_filter", "message": "input moderation rejected"}
            return {"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": error}]}
        troubled(prompt, (422, "content_filter"), (429, "429"), (500, "500"))
        task = Task(prompt, hub_size(body, inputs))
        name = self.keep(task)
        if isinstance(body, Submit):
            return {"id": name, "status": "queued"}
        if isinstance(body, Chat):
            choices = [
                {"index": 0, "finish_reason": None,
                 "delta": {"type": "image", "image": {"url": url, "width": task.size[0], "height": task.size[1]}}}
                for url in self.urls(name)
            ]  # fmt: skip
            return {"id": "13-WandImage", "object": "image.chat.completion.chunk", "choices": choices}
        if isinstance(body, Seedream):
            task.format = body.output_format.upper()
            if body.response_format == "b64_json":
                made = base64.b64encode(picture(task.size, task.format)).decode()
                return {"data": [{"b64_json": made} for _ in task.names(name)]}
        return {"data": [{"url": url} for url in self.urls(name)], "tokenhub_usage": {"total_tokens": 1024}}

    def queried(self, body: Query) -> dict[str, Any]:
        task = self.tasks.get(body.id)
        if task is None:
            raise Refused(404, "400005", "The task does not exist.")
        task.polls += 1
        if task.polls == 1 and "patiently" in task.prompt:
            return {"id": body.id, "status": "processing"}
        return {"id": body.id, "status": "completed", "data": [{"url": url} for url in self.urls(body.id)]}

    # ---- the cloud's API

    async def cloud(self, request: web.Request) -> web.Response:
        """Everything is answered with status 200."""
        try:
            authorized(request, await request.read())
            key = request.headers.get("X-TC-Version", ""), request.headers.get("X-TC-Action", "")
            if key not in ACTIONS:
                raise Refused(200, "InvalidAction", "The requested action does not exist")
            body = cloud_body(await request.read(), ACTIONS[key])
            answer = self.asked(body, key[1]) if isinstance(body, Asked) else await self.acted(body, key[1])
        except Refused as refused:
            answer = {"Error": {"Code": refused.code, "Message": str(refused)}}
        return web.json_response({"Response": {**answer, "RequestId": "r-1"}})

    async def acted(self, body: Body, action: str) -> dict[str, Any]:
        images = await cloud_pictures(body, self.downloads)
        prompt = getattr(body, "Prompt", None) or ""
        codes = ("OperationDenied.TextIllegalDetected", "RequestLimitExceeded.JobNumExceed", "InternalError")
        troubled(prompt, *((200, code) for code in codes))
        task = Task(prompt, cloud_size(body, images), getattr(body, "Num", 1), action)
        name = self.keep(task)
        if action.startswith("Submit"):
            return {"JobId": name}
        task.format = "JPEG"
        if getattr(body, "RspImgType", "") == "url":
            return {"ResultImage": next(iter(self.urls(name)), "")}
        made = base64.b64encode(picture(task.size, task.format)).decode()
        return {"ResultImage": made if task.names(name) else ""}

    def asked(self, body: Asked, action: str) -> dict[str, Any]:
        task = self.tasks.get(body.JobId)
        if task is None or task.action != action.replace("Query", "Submit"):
            raise Refused(200, "FailedOperation.JobNotExist", "The job does not exist")
        task.polls += 1
        state = {"JobErrorCode": "", "JobErrorMsg": "", "JobStatusMsg": ""}
        if task.polls == 1 and "patiently" in task.prompt:
            return state | {"JobStatusCode": "2"}
        urls = self.urls(body.JobId)
        details = ["Success"] * len(urls)
        if "refuse one" in task.prompt:
            urls.pop()
            details[-1] = "OperationDenied.ImageIllegalDetected"
        more = (
            {"ChatId": "chat-1", "History": []} if "Chat" in action else {"RevisedPrompt": [task.prompt] * len(details)}
        )
        return state | {"JobStatusCode": "5", "ResultImage": urls, "ResultDetails": details, **more}


def troubled(prompt: str, refused: tuple[int, str], limited: tuple[int, str], failed: tuple[int, str]) -> None:
    """What the common words ask for."""
    if "refuse me" in prompt:
        raise Refused(*refused, "The text contains illegal content")
    if "rate limit me" in prompt:
        raise Refused(*limited, "The number of concurrent requests exceeds the limit.")
    if "fail me" in prompt:
        raise Refused(*failed, "Internal error")


def authorized(request: web.Request, body: bytes) -> None:
    """Sign the request as it came, and compare."""
    given = request.headers.get("Authorization", "")
    found = re.fullmatch(
        r"TC3-HMAC-SHA256 Credential=([^/]+)/(\d{4}-\d\d-\d\d)/(\w+)/tc3_request, SignedHeaders=content-type;host, "
        r"Signature=([0-9a-f]{64})",
        given,
    )
    stamp = request.headers.get("X-TC-Timestamp", "")
    if not found or not stamp.isdigit():
        raise Refused(200, "AuthFailure.InvalidAuthorization", "The Authorization header is not valid")
    secret_id, date, service, signature = found.groups()
    if secret_id != GOOD_KEY:
        raise Refused(200, "AuthFailure.SecretIdNotFound", "The SecretId is not found")
    if abs(time.time() - int(stamp)) > 300:
        raise Refused(200, "AuthFailure.SignatureExpire", "The signature has expired")
    if request.headers.get("X-TC-Token", TOKEN) != TOKEN:
        raise Refused(200, "AuthFailure.TokenFailure", "The token is wrong")
    if request.headers.get("X-TC-Region") != "ap-guangzhou":
        raise Refused(200, "UnsupportedRegion", "The region is not supported")
    head = f"content-type:{request.headers['Content-Type']}\nhost:{request.headers['Host']}\n"
    canonical = "\n".join(["POST", "/", "", head, "content-type;host", hashlib.sha256(body).hexdigest()])
    scope = f"{date}/{service}/tc3_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = b"TC3" + SECRET.encode()
    for step in (date, service, "tc3_request", f"TC3-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    right = date == time.strftime("%Y-%m-%d", time.gmtime(int(stamp)))
    if not right or service != SERVICES.get(request.headers.get("X-TC-Version", "")) or key.hex() != signature:
        raise Refused(200, "AuthFailure.SignatureFailure", "The provided credentials could not be validated")


def hub_body(data: bytes, shape: type[Body]) -> Body:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        unknown = "`$.model`" in str(error)
        raise Refused(400, "400004" if unknown else "400001", f"Bad request: {error}") from None


def cloud_body(data: bytes, shape: type[Body]) -> Body:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        code = "UnknownParameter" if "unknown field" in str(error) else "InvalidParameterValue.ParameterValueError"
        raise Refused(200, code, str(error)) from None


def hub_prompt(body: Body) -> str:
    if not isinstance(body, Chat):
        return str(getattr(body, "prompt", ""))
    texts = [part.text for part in body.messages[-1].content if part.type == "text"]
    if body.messages[-1].role != "user" or not all(texts):
        raise Refused(400, "400001", "The last message must be the user's, and say something")
    return " ".join(filter(None, texts))


def hub_pictures(body: Body) -> list[str]:
    if not isinstance(body, Chat):
        return list(getattr(body, "images", ()))
    urls = [part.image_url.url for message in body.messages for part in message.content if part.image_url]
    if len(urls) > 20:
        raise Refused(400, "400001", "too many images")
    return urls


def unwrapped(url: str) -> str:
    found = re.fullmatch(r"data:image/(?:png|jpeg);base64,(.+)", url, re.DOTALL)
    if not found:
        raise Refused(400, "400001", "The image is not a data URL")
    return found[1]


def opened(text: str) -> Image.Image:
    """A picture in bare base64, decoded to its last pixel."""
    try:
        return shown(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise Refused(400, "FailedOperation.ImageDecodeFailed", "The image is not base64") from None


def shown(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError):
        raise Refused(400, "FailedOperation.ImageDecodeFailed", "The image cannot be decoded") from None
    return image


def hub_size(body: Body, inputs: list[tuple[int, int]]) -> tuple[int, int]:
    """How large TokenHub makes the picture."""
    if isinstance(body, Chat):
        edge = round(body.generate_max_pixels**0.5)
        width, height = parsed_size(body.size, (edge, edge))
        return min(max(width, 256), 8192), min(max(height, 256), 8192)  # silently
    if isinstance(body, Seedream):
        tier = float(body.size[:-1]) * 1024 if body.size.endswith("K") else 0
        return (round(tier), round(tier)) if tier else parsed_size(body.size)
    text = body.size if isinstance(body, Wand) else getattr(body, "resolution", "").replace(":", "x")
    width, height = parsed_size(text)
    if not isinstance(body, Lite) and not (
        min(width, height) >= 512 and max(width, height) <= 2048 and width * height <= 1 << 20
    ):
        raise Refused(400, "400001", "size: edges of 512 to 2048, and 1048576 pixels at most")
    return width, height


async def cloud_pictures(body: Body, downloads: dict[str, bytes]) -> list[Image.Image]:
    """The pictures of an action's body, by address or in base64; the mask is the last. Keeps what it downloads."""
    texts: list[str | None] = list(getattr(body, "Images", ()))
    urls: list[str | None] = [getattr(body, name, None) for name in ("ProductUrl", "InputUrl")]
    for holder in (getattr(body, "ContentImage", None), getattr(body, "Image", None)):
        if isinstance(holder, Content):
            texts.append(holder.ImageBase64)
            urls.append(holder.ImageUrl)
        if isinstance(holder, Given):
            texts.append(holder.Base64)
            urls.append(holder.Url)
    texts += [getattr(body, name, None) for name in ("InputImage", "Mask")]
    urls.append(getattr(body, "MaskUrl", None))
    images = [opened(text) for text in texts if text]
    async with aiohttp.ClientSession() as session:
        for url in filter(None, urls):
            async with session.get(url) as answer:
                downloads[url] = await answer.read()
                images.append(shown(downloads[url]))
    needed = {Erase: 2, Restyle: 1, Outpaint: 1, Background: 1, Refine: 1}.get(type(body), 0)
    if len(images) < needed:
        raise Refused(200, "InvalidParameterValue.ImageEmpty", "A picture is missing")
    if isinstance(body, Erase) and (images[1].mode != "L" or images[1].size != images[0].size):
        raise Refused(200, "InvalidParameterValue.ParameterValueError", "The mask must be grey and of the image's size")
    if isinstance(body, Background) and len(images) == 2 and not images[1].has_transparency_data:
        raise Refused(200, "InvalidParameterValue.ParameterValueError", "The mask's background must be transparent")
    return images


def cloud_size(body: Body, images: list[Image.Image]) -> tuple[int, int]:
    """How large the cloud makes the picture."""
    first = images[0].size if images else (1024, 1024)
    if isinstance(body, Outpaint):
        wide, high = map(int, body.Ratio.split(":"))
        if abs(first[0] / first[1] - wide / high) < 0.01:
            raise Refused(200, "InvalidParameterValue.ParameterValueError", "The ratio is the picture's own")
        return max(first[0], first[1] * wide // high), max(first[1], first[0] * high // wide)
    if isinstance(body, Restyle):
        text = body.ResultConfig.Resolution
        return first if text == "origin" else parsed_size(text.replace(":", "x"))
    if isinstance(body, Erase | Refine) or (isinstance(body, Rapid) and images):
        return first
    if isinstance(body, HunyuanJob) and images and body.Resolution in {"720:1280", "1280:720", "768:1280", "1280:768"}:
        raise Refused(200, "InvalidParameterValue.ParameterValueError", "Resolution is not supported with ContentImage")
    width, height = parsed_size(str(getattr(body, "Resolution", "1024:1024")).replace(":", "x"))
    scale = int((getattr(body, "Clarity", None) or "x1")[1:])
    return width * scale, height * scale
