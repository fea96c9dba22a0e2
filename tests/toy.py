"""A provider that exists for tests alone: a small translator, an upstream that answers by script, an engine on it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from aiohttp import web

from proxy import pixels
from proxy.ask import Ask, Inputs
from proxy.catalog import Credential, Route, Target, Upstream
from proxy.credentials import Credentials
from proxy.engine import Engine
from proxy.http import Allowed, Pools
from proxy.metrics import Metrics
from proxy.plan import plans
from proxy.route import Health, Made, make
from proxy.run import silent
from tests.fakes.base import picture
from tests.sockets import left, serving, until
from translators.base import (
    Blob,
    Call,
    Caps,
    Done,
    Event,
    Fault,
    FaultKind,
    Job,
    Output,
    Partial,
    Provider,
    Reply,
    Secret,
    Stamp,
    Step,
    Usage,
    Wait,
    bearer,
    by_status,
)

PNG = picture((8, 8))
TEXT = base64.b64encode(PNG).decode()
CAPS = Caps(ops=frozenset({"generate"}), max_n=1, streams=True, partials=3)


class Body(msgspec.Struct):
    """Every answer of the toy's wire."""

    pictures: list[Blob] = []
    urls: list[str] = []
    poll: str | None = None  # where to ask next
    running: bool = False


class Problem(msgspec.Struct):
    fault: FaultKind | None = None
    code: str | None = None
    final: bool = False
    cost: float | None = None


class Toy:
    """Its translator. `check` is lenient where a body cannot be read, as real ones are: `step` finds out."""

    PROVIDER = Provider(title="Toy", hosts=frozenset({"*.toy.example"}))
    MODELS: Mapping[str, Caps] = {}

    def base(self, site: Mapping[str, str], /) -> str:
        return ""

    def caps(self, model: str, /) -> Caps | None:
        return CAPS

    def start(self, job: Job, /) -> Step:
        read: Any = "events" if job.stream else "json"
        return Call(path="/make", json={"prompt": job.prompt, "model": job.model, "n": job.n}, read=read)

    def step(self, job: Job, reply: Reply, /) -> Step:
        body = reply.read(Body)
        if body.poll:
            return Wait(Call(method="GET", path=body.poll, repeatable=True), 0)
        if body.running:
            return Wait(reply.call, 0)
        outputs = (*(Output(blob=blob) for blob in body.pictures), *(Output(url=url) for url in body.urls))
        return Done(outputs=outputs, usage=Usage(cost_usd=0.01))

    def check(self, reply: Reply, /) -> None:
        try:
            problem = reply.read(Problem)
        except Fault:
            problem = Problem()
        if problem.fault:
            raise Fault(problem.fault, "No.", code=problem.code, final=problem.final, cost_usd=problem.cost)
        by_status(reply, f"Status {reply.status}.")

    def sign(self, call: Call, secret: Secret, stamp: Stamp, /) -> Call:
        return bearer(call, secret, stamp)

    def event(self, job: Job, reply: Reply, /) -> Iterator[Event]:
        body = reply.read(Body)
        for blob in body.pictures:
            yield Partial(0, Output(blob=blob)) if reply.event == "partial" else Output(blob=blob)


Answer: TypeAlias = "Mapping[str, Any] | int | tuple[int, Mapping[str, str]] | bytes | Callable[[web.Request], Awaitable[web.StreamResponse]]"  # noqa: E501
MADE: Answer = {"pictures": [TEXT]}


async def shown(answer: Answer, request: web.Request) -> web.StreamResponse:
    """`answer` as a response: JSON, a bare status, a status with headers, bytes, or what a function makes."""
    match answer:
        case int():
            return web.Response(status=answer)
        case tuple():
            return web.Response(status=answer[0], headers=answer[1])
        case bytes():
            return web.Response(body=answer, content_type="application/octet-stream")
        case Mapping():
            return web.json_response(answer)
    return await answer(request)


@dataclass
class Script:
    """Answers by path, in turn; the last of a path is given for ever."""

    answers: dict[str, list[Answer]]
    seen: list[web.BaseRequest] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.seen.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answers = self.answers[request.path]
            return await shown(answers.pop(0) if len(answers) > 1 else answers[0], request)
        finally:
            self.at_once -= 1

    def calls(self, path: str) -> list[web.BaseRequest]:
        """The requests for `path`."""
        return [request for request in self.seen if request.path == path]

    def keys(self, path: str) -> list[str]:
        """The credentials that they came with, in turn."""
        return [request.headers.get("Authorization", "").removeprefix("Bearer ") for request in self.calls(path)]


@dataclass
class Bench:
    """An engine, and the script that it talks to."""

    script: Script
    url: str
    engine: Engine
    health: Health
    targets: list[Target]
    partials: list[Partial] = field(default_factory=list)

    @property
    def metrics(self) -> Metrics:
        return self.engine.metrics

    async def run(self, job: Job | None = None) -> Done:
        """One job, one target, its first credential."""
        upstream = self.targets[0].upstream
        job = job or Job(op="generate", model="m", prompt="x")
        return await self.engine.run(job, self.targets[0], upstream.credentials[0], self.emit)

    async def emit(self, partial: Partial) -> None:
        self.partials.append(partial)

    async def make(self, n: int = 1, *, route: Route | None = None, targets: Sequence[Target] | None = None) -> Made:
        """One request, by the way that every request goes."""
        targets = self.targets if targets is None else targets
        route = route or Route("alias", tuple(targets), alias="alias")
        ask = Ask(op="generate", prompt="x", n=n)
        return await make(route, plans(ask, Inputs(), targets), self.engine, self.health, silent, settled)

    def count(self, name: str, **labels: str) -> float:
        """A metric's value; 0 where it was never touched."""
        return self.metrics.registry.get_sample_value(f"pictor_{name}", labels) or 0


async def settled(job: Job, target: Target) -> Job:
    return job


def target(url: str, name: str = "toy", keys: Sequence[str] = ("k1",), caps: Caps = CAPS, **upstream: Any) -> Target:
    """The toy's one model at an upstream."""
    credentials = tuple(Credential(f"{name}#{i}", Secret(key)) for i, key in enumerate(keys, 1))
    weight = upstream.pop("weight", 1.0)
    members = {"base": url, "site": {}, "trusted": True, **upstream}
    return Target(Upstream(name=name, translator=Toy(), credentials=credentials, **members), "m", caps, weight)


@asynccontextmanager
async def staged(
    *, make: Sequence[Answer] = (MADE,), poll: Sequence[Answer] = (MADE,), allow: Sequence[str] = (),
    output_bytes: int = 1 << 20, more: Mapping[str, Sequence[Answer]] | None = None, **target_of: Any
) -> AsyncIterator[Bench]:  # fmt: skip
    """An upstream whose `/make`, `/poll` and further paths answer by script, and an engine that knows it."""
    script = Script(
        {"/make": list(make), "/poll": list(poll)} | {path: list(given) for path, given in (more or {}).items()}
    )
    metrics, threads, pools = Metrics(), pixels.Pixels(1), Pools(Allowed(allow))

    async def no_tokens(*_: object) -> tuple[int, Mapping[str, str], bytes]:
        raise AssertionError("no credential here needs a token")

    async with serving(script.answer) as url:
        engine = Engine(pools, Credentials(no_tokens, lambda: 0.0), threads.aside, metrics, output_bytes)
        try:
            targets = [target(url, **target_of)]
            engine.places.bound(each.upstream for each in targets)
            yield Bench(script, url, engine, Health(metrics), targets)
        finally:
            await pools.aclose()
            threads.close()


def events(*frames: tuple[str, Mapping[str, Any]], broken: bool = False) -> Answer:
    """A stream of these events; cut off where it is `broken`."""

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for name, data in frames:
            await response.write(f"event: {name}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode())
        if broken:
            assert request.transport
            await asyncio.sleep(0)
            request.transport.abort()
        return response

    return stream


async def reset(request: web.Request) -> web.StreamResponse:
    """The whole request is read, then the connection breaks."""
    assert request.transport
    request.transport.abort()
    return web.Response()


async def silence(request: web.Request) -> web.StreamResponse:
    """No answer, until the one who asked has left."""
    await until(lambda: left(request))
    return web.Response()
