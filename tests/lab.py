"""An OpenAI-like upstream that does what the prompt says, and how tests ask the server in front of it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from struct import pack
from typing import Any, ClassVar

import httpx
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.base import Fake, picture
from tests.server import KEY, Server
from tests.sockets import left, until

PNG = picture((16, 16))
TEXT = base64.b64encode(PNG).decode()
MIB = 1 << 20
NOISE = base64.b64encode(PNG + bytes(range(256)) * 60).decode().rstrip("=")
"""Begins like a picture, and is longer than what is looked at to tell; `say` writes ten of it for `%NOISE%`."""


FAULTS: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "auth": (401, {"code": "invalid_api_key"}),
    "permission": (403, {"code": None}),
    "quota": (429, {"code": "insufficient_quota", "type": "insufficient_quota"}),
    "rate": (429, {"code": "rate_limit_exceeded"}),
    "invalid": (400, {"code": "invalid_value", "param": "size"}),
    "policy": (400, {"code": "moderation_blocked", "type": "image_generation_user_error"}),
    "missing": (404, {"code": "model_not_found", "param": "model"}),
    "overloaded": (503, {"code": None}),
    "upstream": (500, {"code": "server_error"}),
    "empty": (200, {}),
    "timeout": (504, {"code": None}),
}
"""What the upstream answers to `fault <kind>`: status, and members of its error."""


@dataclass
class Lab(Fake):
    """An OpenAI-like server that does what the prompt says; and files, for whoever fetches them."""

    name: ClassVar[str] = "lab"
    generates: ClassVar[str] = "painter"

    go: threading.Event = field(default_factory=threading.Event)  # lets the slow ones end
    gone: int = 0  # clients that left before their answer
    prompts: list[str] = field(default_factory=list)  # of the generations so far

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/images/{op}", self.make),
            web.get("/redirect", self.redirect),
            web.get("/{name:.*}", self.file),
        ]

    async def make(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if fault := re.search(rb"\bfault[- ](\w+)", body):  # in the prompt or, for variations, in the model
            return refused(fault[1].decode())
        found = re.search(rb'name="prompt"\r\n\r\n(.*?)\r\n', body) if body.startswith(b"--") else None
        prompt = found[1].decode() if found else str(json.loads(body)["prompt"])
        self.prompts.append(prompt)
        word, _, rest = prompt.partition(" ")
        match word:
            case "soon":
                await asyncio.sleep(0.05)
            case "slow":
                await until(lambda: self.go.is_set() or left(request))
                self.gone += left(request)
                if rest == "cut":
                    return await cut_off(request)
            case "cut":
                return await cut_off(request)
            case "say":
                return web.Response(text=rest.replace("%NOISE%", NOISE * 10), content_type="application/json")
            case "events":
                return web.Response(text=rest, content_type="text/event-stream")
            case "bomb":
                return made(base64.b64encode(bomb()).decode())
            case "packed":
                packed = zlib.compress(bytes(600 * MIB), 1)
                headers = {"Content-Encoding": "deflate"}
                return web.Response(body=packed, headers=headers, content_type="application/json")
        return made(TEXT)

    async def redirect(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    async def file(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/slow"):
            await until(lambda: self.go.is_set() or left(request))
            self.gone += left(request)
        return web.Response(body=PNG)

    @property
    def made(self) -> list[str]:
        """The paths of the making calls so far."""
        return [each.path for each in self.seen if each.method == "POST"]


def made(text: str) -> web.Response:
    return web.json_response({"created": 1, "data": [{"b64_json": text}]})


def refused(kind: str) -> web.Response:
    """A fault as OpenAI writes it. Whoever is asked to wait is asked to wait for long, so that nobody does."""
    status, members = FAULTS[kind]
    if status == 200:
        return web.json_response({"data": []})
    wait = {"Retry-After": "60"} if status in {429, 503} else {}
    problem = {"message": "The lab says no.", "type": "x", "param": None, **members}
    return web.json_response({"error": problem}, status=status, headers=wait)


async def cut_off(request: web.Request) -> web.StreamResponse:
    """Half of a 16 MB answer, then a crash."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(16 * MIB)})
    await response.prepare(request)
    await response.write(b'{"data":[{"b64_json":"' + TEXT.rstrip("=").encode())
    for _ in range(8):
        await response.write(b"A" * MIB)
    assert request.transport
    request.transport.abort()
    return response


@lru_cache(1)
def bomb(width: int = 20_000, height: int = 12_000) -> bytes:
    """A PNG of 240 megapixels in 233 kB."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + name + body + pack(">I", zlib.crc32(name + body))

    head = pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def lab(fake: Fake, **more: Any) -> dict[str, Any]:
    """The configuration of a provider at `fake`."""
    painter: dict[str, Any] = {"ops": ["generate", "edit", "variation"], "max_images": 16}
    models = {
        "hurried": {**painter, "timeouts": {"job": 1}},
        "streamer": {**painter, "streams": True, "partials": 3},
        "several": {**painter, "max_n": 4},
    }
    return {"translator": "openai", "base_url": f"{fake.url}/v1", "models": models, **more}


def post(server: Server, path: str = "images/generations", **how: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}", **how.pop("headers", {})}
    return httpx.post(f"{server.base_url}/{path}", headers=headers, timeout=30, trust_env=False, **how)


NAMES = count(1)


def fresh() -> str:
    """A model that no test has used: what breaks one breaks no other."""
    return f"lab/painter-{next(NAMES)}"


def generate(
    server: Server, prompt: str, model: str | None = None, *, headers: Mapping[str, str] | None = None, **more: Any
) -> httpx.Response:
    return post(server, json={"model": model or fresh(), "prompt": prompt, **more}, headers=headers or {})


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    """The envelope, which is whole whatever happened."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    found: dict[str, Any] = response.json()["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    assert found["message"]
    return found


def total(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric's values that bear these labels."""
    text = httpx.get(f"{server.address}/metrics", trust_env=False).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"pictor_{name}" and labels.items() <= sample.labels.items()
    )


def wait(true: Callable[[], object], seconds: float = 10) -> None:
    """Returns when `true` is so; fails where it does not become so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)
