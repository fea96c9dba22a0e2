"""ModelScope API-Inference, strict: repositories by family, each with its sizes; both custom headers on their calls.

`patiently` in a prompt lets a task run for one poll.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeAlias
from uuid import uuid4

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, picture

Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1999)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    prompt: Text
    negative_prompt: Text | None = None
    size: Annotated[str, Meta(pattern=r"^\d+x\d+$")] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    steps: Annotated[int, Meta(ge=1, le=100)] | None = None
    guidance: Annotated[float, Meta(ge=1.5, le=20)] | None = None
    image_url: str | list[str] | None = None
    loras: str | Annotated[dict[str, float], Meta(max_length=6)] | None = None


@dataclass(frozen=True)
class Family:
    """What repositories of that kind take."""

    edge: tuple[int, int]
    images: tuple[int, int] = (0, 0)  # least and most
    kind: str = "PNG"


FAMILIES = {
    r"Qwen/Qwen-Image(-2512)?": Family((64, 1664)),
    r"Qwen/Qwen-Image-Edit": Family((64, 1664), (1, 1)),
    r"Qwen/Qwen-Image-Edit-\d+": Family((64, 1664), (1, 3)),
    r"Tongyi-MAI/Z-Image(-Turbo)?": Family((512, 2048), kind="JPEG"),
    r".*/FLUX\.1-Kontext-[dD]ev": Family((64, 1024), (1, 1)),
    r".*/.*flu[xs].*": Family((64, 1024)),
    r"[^/]+/sd[^/]*": Family((64, 2048)),
}


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass
class Task:
    prompt: str
    size: tuple[int, int]
    kind: str
    polls: int = 0


@dataclass
class Modelscope(Fake):
    name: ClassVar[str] = "modelscope"
    generates: ClassVar[str] = "Qwen/Qwen-Image"
    edits: ClassVar[str | None] = "Qwen/Qwen-Image-Edit-2511"
    fuses: ClassVar[str | None] = "Qwen/Qwen-Image-Edit-2511"

    tasks: dict[str, Task] = field(default_factory=dict)

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/v1"}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/images/generations", self.submit),
            web.get("/v1/tasks/{task}", self.poll),
            web.get("/files/{task}", self.file),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        name = str(len(self.tasks) + 1)
        try:
            authorized(request)
            if request.headers.get("X-ModelScope-Async-Mode") != "true":
                raise Refused("Only tasks are played here.")
            self.tasks[name] = checked(await request.read())
        except Refused as refused:
            return refusal(refused)
        return answer({"task_status": "SUCCEED", "task_id": name})

    async def poll(self, request: web.Request) -> web.Response:
        try:
            authorized(request)
        except Refused as refused:
            return refusal(refused)
        task = self.tasks.get(request.match_info["task"])
        if task is None or request.headers.get("X-ModelScope-Task-Type") != "image_generation":
            return answer({"task_status": "FAILED", "errors": {"code": 500, "message": "task not found"}})
        task.polls += 1
        told = {"task_id": request.match_info["task"]}
        if "patiently" in task.prompt and task.polls == 1:
            return answer(told | {"task_status": "PROCESSING"})
        if "empty please" in task.prompt:
            return answer(told | {"task_status": "SUCCEED", "output_images": []})
        url = f"{self.url}/files/{request.match_info['task']}?sig=good"
        return answer(told | {"task_status": "SUCCEED", "output_images": [url]})

    async def file(self, request: web.Request) -> web.Response:
        """A signed address: whoever brings a credential has leaked it."""
        if request.query.get("sig") != "good" or "Authorization" in request.headers:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        task = self.tasks[request.match_info["task"]]
        return web.Response(body=picture(task.size, task.kind), content_type=f"image/{task.kind.lower()}")


def answer(body: dict[str, Any], status: int = 200) -> web.Response:
    left = {
        "modelscope-ratelimit-requests-limit": "2000", "modelscope-ratelimit-requests-remaining": "1987",
        "modelscope-ratelimit-model-requests-limit": "50", "modelscope-ratelimit-model-requests-remaining": "37",
    }  # fmt: skip
    return web.json_response(body | {"request_id": str(uuid4())}, status=status, headers=left)


def refusal(refused: Refused) -> web.Response:
    return answer({"errors": {"message": refused.message}}, refused.status)


def authorized(request: web.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
        raise Refused("Authentication failed, please make sure that a valid ModelScope token is supplied.", 401)


def checked(data: bytes) -> Task:
    """The task, once nothing in it is wrong."""
    try:
        body = msgspec.json.decode(data, type=Body)
    except msgspec.DecodeError as error:
        raise Refused(str(error)) from error
    family = next((found for name, found in FAMILIES.items() if re.fullmatch(name, body.model, re.IGNORECASE)), None)
    if family is None:
        raise Refused(f"Model id {body.model} has no provider supported")
    given = [body.image_url] if isinstance(body.image_url, str) else body.image_url or []
    if not family.images[0] <= len(given) <= family.images[1]:
        raise Refused(f"image_url: {body.model} takes {family.images[0]} to {family.images[1]} images")
    images = [opened(url) for url in given]
    if isinstance(body.loras, dict) and abs(sum(body.loras.values()) - 1) > 0.001:
        raise Refused("the sum of lora weights must be 1.0")
    prompted(body.prompt)
    size = images[-1].size if images else (1024, 1024)
    if body.size:
        size = tuple(map(int, body.size.split("x")))  # type: ignore[assignment]  # the pattern has two numbers
        if not all(family.edge[0] <= edge <= family.edge[1] for edge in size):
            raise Refused(f"size: edges of {body.model} must be in {list(family.edge)}")
    return Task(body.prompt, size, family.kind)


def opened(url: str) -> Image.Image:
    """A picture of a request, decoded to its last pixel."""
    found = re.fullmatch(r"data:image/(png|jpeg|webp);base64,(.+)", url, re.DOTALL)
    if not found:
        raise Refused("image_url: invalid url")
    try:
        image = Image.open(io.BytesIO(pybase64.b64decode(found[2], validate=True)))
        image.load()
    except (ValueError, UnidentifiedImageError, OSError) as error:
        raise Refused("image_url: the image cannot be decoded") from error
    if (image.format or "").lower() != found[1]:
        raise Refused(f"image_url: it is {image.format}, not {found[1]}")
    return image


def prompted(prompt: str) -> None:
    if "refuse me" in prompt:
        raise Refused("The input contains sensitive content.")
    if "rate limit me" in prompt:
        raise Refused("Request limit exceeded.", 429)
    if "fail me" in prompt:
        raise Refused("Internal server error.", 500)
