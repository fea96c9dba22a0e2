"""Z.ai and BigModel, strict: both ways to one picture from text, answered as a link that takes no credential."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from tests.fakes.base import GOOD_KEY, Fake, parsed_size, picture


class Check(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["ALL"]
    status: Literal["ENABLE", "DISABLE"]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    prompt: Annotated[str, Meta(min_length=1)]
    size: Annotated[str, Meta(pattern=r"^\d+x\d+$")] | None = None
    quality: Literal["hd", "standard"] | None = None
    watermark_enabled: bool = True
    user_id: Annotated[str, Meta(min_length=6, max_length=128)] | None = None
    request_id: str | None = None
    sensitive_word_check: Check | None = None


@dataclass(frozen=True)
class Model:
    """What one model takes. Edges, their step, the most pixels."""

    qualities: frozenset[str]
    edge: tuple[int, int] = (512, 2048)
    step: int = 16
    pixels: int = 1 << 21
    default: tuple[int, int] = (1024, 1024)
    prompt: int = 4000


COGVIEW = Model(frozenset({"hd", "standard"}))
MODELS = {
    "glm-image": Model(frozenset({"hd"}), (1024, 2048), 32, 1 << 22, (1280, 1280)),
    "cogview-4-250304": COGVIEW,
    "cogview-4": COGVIEW,
    "cogview-3-flash": Model(frozenset(), prompt=1_000_000),
}


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


@dataclass
class Zai(Fake):
    """`patiently` in a prompt keeps a task at work once, `refuse it late` fails it for its content."""

    name: ClassVar[str] = "zai"
    generates: ClassVar[str] = "cogview-4-250304"

    tasks: dict[str, tuple[Body, tuple[int, int]]] = field(default_factory=dict)
    polls: dict[str, int] = field(default_factory=dict)

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/api/paas/v4"}

    def routes(self) -> list[web.RouteDef]:
        root = "/api/paas/v4"
        return [
            web.post(f"{root}/images/generations", self.answer(self.generate)),
            web.post(f"{root}/async/images/generations", self.answer(self.submit)),
            web.get(f"{root}/async-result/{{task}}", self.answer(self.poll)),
            web.get("/files/{name}", self.file),
        ]

    def answer(self, handler: Any) -> Any:
        """`handler` behind the credential, its refusals in the envelope."""

        async def answered(request: web.Request) -> web.Response:
            try:
                authorized(request.headers.get("Authorization", ""))
                return web.json_response(await handler(request))
            except Refused as refused:
                error = {"code": refused.code, "message": str(refused)}
                return web.json_response({"error": error, **refused.more}, status=refused.status)

        return answered

    async def generate(self, request: web.Request) -> dict[str, Any]:
        name = self.kept(await request.read())
        pictures = self.links(name)
        return {"created": 1_760_335_349, "id": name, "request_id": name, "data": pictures,
                "content_filter": [{"role": "assistant", "level": 3}]}  # fmt: skip

    async def submit(self, request: web.Request) -> dict[str, Any]:
        name = self.kept(await request.read())
        body, _ = self.tasks[name]
        if body.model != "glm-image":
            raise Refused(400, "1211", "The model does not exist.")
        return {"id": name, "model": body.model, "request_id": name, "task_status": "PROCESSING"}

    async def poll(self, request: web.Request) -> dict[str, Any]:
        name = request.match_info["task"]
        if name not in self.tasks:
            raise Refused(404, "1200", "The task does not exist.")
        body, _ = self.tasks[name]
        self.polls[name] = self.polls.get(name, 0) + 1
        told = {"id": name, "model": body.model, "request_id": name}
        if self.polls[name] == 1 and "patiently" in body.prompt:
            return told | {"task_status": "PROCESSING"}
        if "refuse it late" in body.prompt:
            return told | {"task_status": "FAIL", "error": {"code": "1301", "message": "Unsafe content."}}
        return told | {"task_status": "SUCCESS", "image_result": self.links(name)}

    def kept(self, data: bytes) -> str:
        """The name under which a legal body is remembered."""
        body = read(data)
        size = fitting(body)
        prompted(body.prompt)
        name = f"20251013-{len(self.tasks)}"
        self.tasks[name] = body, size
        return name

    def links(self, name: str) -> list[dict[str, str]]:
        empty = "empty please" in self.tasks[name][0].prompt
        return [] if empty else [{"url": f"{self.url}/files/{name}.png?sig=good"}]

    async def file(self, request: web.Request) -> web.Response:
        """A pre-signed address: whoever brings a credential has leaked it."""
        if request.query.get("sig") != "good" or "Authorization" in request.headers:
            return web.Response(status=403, text="AccessDenied")
        _, size = self.tasks[request.match_info["name"].removesuffix(".png")]
        return web.Response(body=picture(size), content_type="image/png")


def authorized(header: str) -> None:
    if not header:
        raise Refused(401, "1001", "Authorization Token not found in the header.")
    if header != f"Bearer {GOOD_KEY}":
        raise Refused(401, "1002", "Authorization Token is invalid.")


def read(data: bytes) -> Body:
    try:
        return msgspec.json.decode(data, type=Body)
    except msgspec.ValidationError as error:
        raise Refused(400, "1214", str(error)) from None
    except msgspec.DecodeError as error:
        raise Refused(400, "1210", str(error)) from None


def fitting(body: Body) -> tuple[int, int]:
    """What its model takes; the size of what is made."""
    model = MODELS.get(body.model)
    if model is None:
        raise Refused(400, "1211", "The model does not exist.")
    if len(body.prompt) > model.prompt:
        raise Refused(400, "1261", "Prompt is too long.")
    if body.quality and body.quality not in model.qualities:
        raise Refused(400, "1214", "quality is invalid.")
    size = parsed_size(body.size, model.default)
    if any(edge % model.step or not model.edge[0] <= edge <= model.edge[1] for edge in size):
        raise Refused(400, "1214", f"size {body.size} is invalid.")
    if size[0] * size[1] > model.pixels:
        raise Refused(400, "1214", f"size {body.size} is too large.")
    return size


def prompted(prompt: str) -> None:
    if "refuse me" in prompt:
        seen = [{"role": "user", "level": 1}]
        raise Refused(400, "1301", "System detected potentially unsafe or sensitive content.", contentFilter=seen)
    if "rate limit me" in prompt:
        raise Refused(429, "1302", "Your API concurrency is too high.")
    if "fail me" in prompt:
        raise Refused(500, "500", "Internal error.")
