"""LiblibAI, strict: every call's signature is made again, every body is read into its family's own struct, and each
picture in it is fetched and opened.

Who fetches has no credential, and `fetched` keeps what came. `patiently` in a prompt is seen at work once before it is
done, `refuse one` withholds the last picture, `refuse it late` all of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aiohttp
import msgspec
from aiohttp import web
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, Seen, picture
from tests.fakes.liblib_bodies import (
    COMFY,
    FAMILIES,
    OTHERS,
    WEBUI,
    CustomImage,
    CustomMask,
    Img1,
    Img1Mask,
    Kontext,
    KontextImage,
    Seedream,
    Status,
    Submit,
    UltraText,
    Wish,
)
from tests.fakes.openai import form

SECRET_KEY = "test-secret"

WORDS = {"square": (1024, 1024), "portrait": (1024, 1536), "landscape": (1536, 1024)}


class Refused(Exception):
    def __init__(self, code: int, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass
class Task:
    prompt: str
    size: tuple[int, int]
    count: int
    status: str
    polls: int = 0


@dataclass
class Liblib(Fake):
    name: ClassVar[str] = "liblib"
    generates: ClassVar[str] = "star-3-alpha"
    edits: ClassVar[str | None] = "star-3-alpha"
    masks: ClassVar[str | None] = "sd"
    fuses: ClassVar[str | None] = "seedream-4.0"

    tasks: dict[str, Task] = field(default_factory=dict)
    nonces: set[str] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)
    fetched: dict[str, bytes] = field(default_factory=dict)

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"access_key": key, "secret_key": SECRET_KEY, "base_url": self.url}

    def pays(self, seen: Seen) -> bool:
        return seen.path.startswith("/api/") and not seen.path.endswith(("/status", "/signature"))

    def at(self, address: str) -> bytes | None:
        return self.fetched.get(address)

    def routes(self) -> list[web.RouteDef]:
        submits = "|".join(dict.fromkeys(path for path, _ in FAMILIES))
        return [
            web.post(f"/api/generate/{{kind:{submits}}}", self.answer(self.submit)),
            web.post(f"/api/generate/{{kind:{WEBUI}|{OTHERS}|{COMFY}}}", self.answer(self.poll)),
            web.post("/api/generate/upload/signature", self.answer(self.permit)),
            web.post("/oss", self.store),
            web.get("/oss/{key:.*}", self.read_stored),
            web.get("/files/{name}", self.file),
        ]

    def answer(self, handler: Any) -> Any:
        """`handler` behind the signature, its data in the envelope."""

        async def answered(request: web.Request) -> web.Response:
            try:
                self.authorize(request)
                data = await handler(request)
            except Refused as refused:
                body = {"code": refused.code, "msg": str(refused), "data": None}
                return web.json_response(body, status=refused.status)
            return web.json_response({"code": 0, "msg": "", "data": data})

        return answered

    def authorize(self, request: web.Request) -> None:
        query = request.query
        if (
            set(query) != {"AccessKey", "Signature", "Timestamp", "SignatureNonce"}
            or "Authorization" in request.headers
        ):
            raise Refused(401, "签名验证失败", 401)
        text = f"{request.path}&{query['Timestamp']}&{query['SignatureNonce']}"
        made = hmac.new(SECRET_KEY.encode(), text.encode(), hashlib.sha1).digest()
        good = base64.urlsafe_b64encode(made).decode().rstrip("=") == query["Signature"]
        fresh = (
            abs(time.time() * 1000 - int(query["Timestamp"])) < 300_000 and query["SignatureNonce"] not in self.nonces
        )
        if not good or not fresh or query["AccessKey"] != GOOD_KEY:
            raise Refused(401, "签名验证失败", 401)
        self.nonces.add(query["SignatureNonce"])

    async def submit(self, request: web.Request) -> dict[str, Any]:
        submit = read(await request.read(), Submit)
        found = FAMILIES.get((request.match_info["kind"], submit.template_uuid))
        if found is None:
            raise Refused(100120, "模板不存在")
        shape, status = found
        body = read(submit.generate_params, shape)
        inputs = [await self.opened(url) for url in given(body)]
        prompt = getattr(body, "prompt", "")
        if "refuse me" in prompt:
            raise Refused(100052, "提示词包含敏感内容")
        if "rate limit me" in prompt:
            raise Refused(100054, "任务数量超过限制")
        if "fail me" in prompt:
            raise Refused(200000, "内部错误")
        name = f"{len(self.tasks):032x}"
        self.tasks[name] = Task(prompt, measured(body, inputs), getattr(body, "img_count", 1), status)
        return {"generateUuid": name}

    async def opened(self, url: str) -> tuple[int, int]:
        """The size of a picture at a public address, decoded to its last pixel."""
        if not url.startswith(("http://", "https://")):
            raise Refused(100030, "图片地址无法访问")
        async with aiohttp.ClientSession() as stranger, stranger.get(url) as answer:
            if answer.status != 200:
                raise Refused(100032, "图片下载失败")
            data = await answer.read()
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
        except (UnidentifiedImageError, OSError):
            raise Refused(100032, "图片下载失败") from None
        if image.format not in {"PNG", "JPEG"} or len(data) > 10_000_000:
            raise Refused(100030, "图片格式不支持")
        self.fetched[url] = data
        return image.size

    async def poll(self, request: web.Request) -> dict[str, Any]:
        name = read(await request.read(), Status).generate_uuid
        task = self.tasks.get(name)
        if task is None or task.status != request.match_info["kind"]:
            raise Refused(100051, "任务不存在")
        task.polls += 1
        if task.polls == 1 and "patiently" in task.prompt:
            return told(name, 3, [])
        count = 0 if "refuse it late" in task.prompt else task.count - ("refuse one" in task.prompt)
        url = None if "empty please" in task.prompt else f"{self.url}/files/{name}"
        images = [
            {"imageUrl": url and f"{url}-{index}.png", "seed": 100 + index, "auditStatus": 3} for index in range(count)
        ]
        return told(name, 5, images)

    async def permit(self, request: web.Request) -> dict[str, Any]:
        wish = read(await request.read(), Wish)
        key = f"img/{len(self.stored)}/{wish.name}.{wish.extension}"
        self.stored[key] = b""
        return {"postUrl": f"{self.url}/oss", "key": key, "policy": "cG9saWN5", "xOssDate": "20261120T120000Z",
                "xOssExpires": 3600, "xOssSignature": "abc", "xOssCredential": "LTAI/20261120/cn/oss/aliyun_v4_request",
                "xOssSignatureVersion": "OSS4-HMAC-SHA256"}  # fmt: skip

    async def store(self, request: web.Request) -> web.Response:
        """The file comes last, after the permit as it was given; whoever brings a credential has leaked it."""
        if request.query or "Authorization" in request.headers:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        *fields, file = form(request.headers.get("Content-Type", ""), await request.read())
        key = fields[0].data.decode()
        kind = {"png": "image/png", "jpg": "image/jpeg"}.get(key.rpartition(".")[2])
        if [part.name for part in fields] != PARTS or self.stored.get(key) != b"":
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        if file.name != "file" or not file.filename or file.type != kind:
            return web.Response(status=400, text="<Error><Code>InvalidArgument</Code></Error>")
        self.stored[key] = file.data
        return web.Response(status=204)

    async def read_stored(self, request: web.Request) -> web.Response:
        return web.Response(body=self.stored[request.match_info["key"]])

    async def file(self, request: web.Request) -> web.Response:
        """Public addresses: whoever brings a credential has leaked it."""
        if request.query or "Authorization" in request.headers:
            return web.Response(status=403, text="AccessDenied")
        task = self.tasks[request.match_info["name"].partition("-")[0]]
        return web.Response(body=picture(task.size), content_type="image/png")


PARTS = ["key", "policy", "x-oss-date", "x-oss-expires", "x-oss-signature", "x-oss-credential",
         "x-oss-signature-version"]  # fmt: skip


def told(name: str, status: int, images: list[dict[str, Any]]) -> dict[str, Any]:
    return {"generateUuid": name, "generateStatus": status, "percentCompleted": 0.5, "generateMsg": "",
            "pointsCost": 10 * len(images), "accountBalance": 1356402, "images": images, "videos": []}  # fmt: skip


def read(data: bytes | msgspec.Raw, shape: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise Refused(100000, f"参数错误: {error}") from None


def given(body: msgspec.Struct) -> Iterator[str]:
    """The addresses of pictures in a body, in order."""
    for name in ("source_image", "image", "mask"):
        if url := getattr(body, name, None):
            yield url
    for name in ("image_list", "image_urls", "reference_images"):
        yield from getattr(body, name, ())
    if isinstance(body, CustomMask):
        yield body.inpaint_param.mask_image


def measured(body: msgspec.Struct, inputs: list[tuple[int, int]]) -> tuple[int, int]:
    """How large the service makes the picture, after what no single member tells."""
    if isinstance(body, UltraText):
        if body.image_size is None:
            raise Refused(100000, "imageSize or aspectRatio")
        return body.image_size.width, body.image_size.height
    if isinstance(body, Seedream):
        least = 3_686_400 if "4-5" in body.model else 921_600
        if not least <= body.width * body.height <= 16_777_216 or body.img_count + len(inputs) > 15:
            raise Refused(100000, "width, height or imgCount")
    if isinstance(body, KontextImage) and body.model == "pro" and len(inputs) > 1:
        raise Refused(100000, "pro takes one image")
    if isinstance(body, Kontext):
        width, height = map(int, body.aspect_ratio.split(":"))
        return round(1024 * (width / height) ** 0.5), round(1024 * (height / width) ** 0.5)
    if isinstance(body, CustomImage):
        return body.resized_width, body.resized_height
    if isinstance(body, Img1 | Img1Mask):
        return WORDS.get(body.aspect_ratio, (1024, 1024))
    size = getattr(body, "width", 0), getattr(body, "height", 0)
    return size if all(size) else (*inputs, (1024, 1024))[0]
