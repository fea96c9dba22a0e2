"""Two services in one process that outlives the servers: it knows what each of them has paid, and when.

It speaks as Black Forest Labs does, of whose tasks nobody can ask without the name that the answer to the submit
brought, and as Kling does, where our own name for a task finds it. Which server calls is told by its credential. A
submit is paid when it arrives, whether or not its answer does.
"""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from struct import pack
from typing import Any, ClassVar

from aiohttp import web
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.fakes.base import Fake
from tests.films import filmed


@dataclass
class Paid:
    """One task of the service."""

    name: str
    prompt: str
    by: str  # the credential of the server that sent it
    video: bool
    ends: float
    mark: str | None = None  # the server's own name for it
    arrived: float = field(default_factory=time.monotonic)
    answered: float | None = None  # and the connection still stood
    polls: list[tuple[float, str]] = field(default_factory=list)  # when, by whom
    fetched: int = 0

    @property
    def ready(self) -> bool:
        return time.monotonic() >= self.ends


@dataclass
class Patient(Fake):
    """The two services. What it makes holds the prompt, so that each result is known for its own."""

    name: ClassVar[str] = "patient"
    generates: ClassVar[str] = "flux-2-pro"

    latency: tuple[float, float] = (0.005, 0.2)  # seconds until a submit is answered
    job: tuple[float, float] = (0.5, 8.0)  # seconds of a task
    chance: random.Random = field(default_factory=random.Random)
    paid: dict[str, Paid] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)  # names that came again, which the service refuses

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/{model:flux-.+}", self.submit),
            web.get("/v1/get_result", self.poll),
            web.post("/text-to-video/{model}", self.film),
            web.get("/tasks", self.films),
            web.get("/files/{name}", self.file),
        ]

    @property
    def prompts(self) -> Counter[str]:
        """How often each was paid."""
        return Counter(each.prompt for each in self.paid.values())

    def by_prompt(self) -> dict[str, Paid]:
        return {each.prompt: each for each in self.paid.values()}

    def open(self, by: str) -> list[Paid]:
        """What this server has submitted and not heard of yet."""
        return [each for each in self.paid.values() if each.by == by and each.answered is None]

    async def take(self, request: web.Request, prompt: str, by: str, mark: str | None = None) -> Paid:
        """It is paid from now on; the answer takes its time, and may find nobody."""
        video = "video" in request.path
        ends = time.monotonic() + self.chance.uniform(*self.job)
        job = Paid(f"{by}-{len(self.paid)}", prompt, by, video, ends, mark)
        self.paid[job.name] = job
        await asyncio.sleep(self.chance.uniform(*self.latency))
        if request.transport is not None and not request.transport.is_closing():
            job.answered = time.monotonic()
        return job

    async def submit(self, request: web.Request) -> web.Response:
        job = await self.take(request, (await request.json())["prompt"], request.headers["x-key"])
        url = f"{self.url}/v1/get_result?id={job.name}"
        return web.json_response({"id": job.name, "polling_url": url, "cost": 3.0})

    async def poll(self, request: web.Request) -> web.Response:
        job = self.paid[request.query["id"]]
        job.polls.append((time.monotonic(), request.headers["x-key"]))
        if not job.ready:
            return web.json_response({"id": job.name, "status": "Pending", "result": None})
        result = {"sample": self.address(job), "prompt": job.prompt}
        return web.json_response({"id": job.name, "status": "Ready", "result": result, "cost": 3.0})

    async def film(self, request: web.Request) -> web.Response:
        body = await request.json()
        mark = body.get("options", {}).get("external_task_id")
        if mark is not None and any(each.mark == mark for each in self.paid.values()):
            self.twice.append(mark)
            return web.json_response({"code": 1201, "message": "external_task_id exists"}, status=400)
        job = await self.take(request, body["prompt"], bearer(request), mark)
        return web.json_response({"code": 0, "data": {"id": job.name, "status": "submitted"}})

    async def films(self, request: web.Request) -> web.Response:
        names, marks = (request.query.get(name) for name in ("task_ids", "external_task_ids"))
        found = [each for each in self.paid.values() if each.name == names or (marks and each.mark == marks)]
        if names:
            found[0].polls.append((time.monotonic(), bearer(request)))
        return web.json_response({"code": 0, "data": [self.shown(each) for each in found]})

    def shown(self, job: Paid) -> dict[str, Any]:
        if not job.ready:
            return {"id": job.name, "status": "processing"}
        film = {"type": "video", "id": f"v{job.name}", "url": self.address(job), "duration": "2.5"}
        return {"id": job.name, "status": "succeeded", "outputs": [film], "billing": []}

    def address(self, job: Paid) -> str:
        return f"{self.url}/files/{job.name}"

    async def file(self, request: web.Request) -> web.Response:
        job = self.paid[request.match_info["name"]]
        job.fetched += 1
        kind = "video/mp4" if job.video else "image/png"
        return web.Response(body=made(job.prompt, video=job.video), content_type=kind)


def bearer(request: web.Request) -> str:
    return request.headers["Authorization"].removeprefix("Bearer ")


def made(prompt: str, *, video: bool) -> bytes:
    """A picture or a video that says for which prompt it was made."""
    if video:
        text = prompt.encode()
        return filmed("mp4") + pack(">I4s", 8 + len(text), b"free") + text
    out, said = io.BytesIO(), PngInfo()
    said.add_text("prompt", prompt)
    Image.new("RGB", (64, 64), (40, 120, 200)).save(out, "PNG", pnginfo=said)
    return out.getvalue()
