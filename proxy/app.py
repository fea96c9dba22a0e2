"""The ASGI application: routes, the layer around all of them, start and end."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import RedocRenderPlugin, SwaggerRenderPlugin
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from proxy import __version__, durable, resume
from proxy.api import account, admin, files, health, images, models, outputs, progress, tasks, usage, videos, webhooks
from proxy.errors import as_fault, problem
from proxy.gateway import Gateway
from proxy.logs import request_id, say
from proxy.state import ids, sweep
from translators.base import Fault

log = logging.getLogger("pictor")
METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"})


def trouble(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception as OpenAI's envelope. What nobody foresaw goes to the log whole."""
    fault = as_fault(error, request.method, request.scope["path"])
    if fault.code == "internal_error" and fault is not error:
        log.error("unforeseen error", exc_info=error)
    request.scope["state"]["fault"] = fault
    shown = problem(fault)
    allow = error.headers if isinstance(error, MethodNotAllowedException) and error.headers else {}
    return Response(
        shown.body, status_code=shown.status, headers={**shown.headers, **allow}, media_type="application/json"
    )


async def entered(request: Request[Any, Any, State]) -> None:
    """Count a request that has found its route; `Door` counts it out again."""
    gateway: Gateway = request.app.state.gateway
    route = request.scope["state"]["route"] = request.scope["path_template"]
    gateway.metrics.count("http_in_flight", route)


class Door:
    """Around everything: the request id, OpenAI's headers, the numbers, one log line."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self.app = app
        self.gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        passage = Passage(scope, receive, send)
        if scope["path"].startswith("/openai/deployments/"):
            # A deployment may hold an encoded slash: it is one segment only before it is decoded.
            scope["path"] = scope["raw_path"].decode("ascii", "replace").partition("?")[0]
        token = request_id.set(passage.id)
        try:
            await self.app(scope, passage.receive, passage.send)
        finally:
            request_id.reset(token)
            self._count(passage)

    def _count(self, passage: Passage) -> None:
        metrics, scope = self.gateway.metrics, passage.scope
        if "route" in scope["state"]:
            metrics.count("http_in_flight", scope["state"]["route"], by=-1)
        route = scope.get("path_template") or "other"
        took = time.monotonic() - passage.began
        method = scope["method"] if scope["method"] in METHODS else "other"
        late = scope["state"].get("status")  # of a failure that came when the head had left with another
        status = late or passage.status or (499 if scope["state"].get("gone") else 500)
        metrics.count("http_requests_total", route, method, str(status))
        metrics.observe("http_request_seconds", route, value=took)
        metrics.observe("http_request_bytes", route, value=passage.bytes_in)
        metrics.observe("http_response_bytes", route, value=passage.bytes_out)
        if scope["state"].get("gone"):
            metrics.count("clients_gone_total", route)
        fault = scope["state"].get("fault")
        if fault is not None and passage.status == 401:
            metrics.count("auth_failures_total", fault.code if fault.code in AUTH_CODES else "provider")
        if log.isEnabledFor(logging.INFO):
            key = scope["state"].get("key")
            fields = {
                "request_id": passage.id, "method": method, "path": scope["path"], "status": status,
                "ms": round(took * 1000, 1), "bytes_in": passage.bytes_in, "bytes_out": passage.bytes_out,
                "key": key.name if key else None, **scope["state"].get("told", {}),
            }  # fmt: skip
            if fault is not None:
                fields |= {"fault": fault.kind, "code": fault.code, "error": fault.message[:500]}
            log.info("request", extra=fields)


AUTH_CODES = frozenset({"missing_api_key", "invalid_api_key"})


class Passage:
    """One request on its way through the door."""

    __slots__ = ("_receive", "_send", "began", "bytes_in", "bytes_out", "id", "scope", "status")

    def __init__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.id = f"req_{ids.chance(16)}"
        self.began = time.monotonic()
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        scope.setdefault("state", {})

    async def receive(self) -> Any:
        """The next message, its bytes counted."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Send it on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self.id.encode())]
            if "key" in self.scope["state"]:
                spent = int((time.monotonic() - self.began) * 1000)
                headers += [(b"openai-version", b"2020-10-01"), (b"openai-processing-ms", b"%d" % spent)]
            message["headers"] = headers
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message["body"])
        await self._send(message)


def create(gateway: Gateway) -> Door:
    """The application of `gateway`."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        gateway.metrics.set("build_info", __version__, platform.python_version(), to=1)
        gateway.workers.adopted = partial(resume.adopt, gateway)
        gateway.workers.taken = gateway.works.let_go
        await gateway.start()
        beside = [asyncio.create_task(swept(gateway)), asyncio.create_task(durable.tend(gateway))]
        try:
            yield
        finally:
            for each in beside:
                each.cancel()
            await gateway.aclose()

    app = Litestar(
        route_handlers=[
            images.generations, images.edits, images.variations, models.models, models.model, health.health,
            health.ready, health.metrics, outputs.output, *files.HANDLERS, tasks.tasks, tasks.task, tasks.forget,
            *progress.HANDLERS, account.account, admin.listed, admin.created, admin.shown, admin.changed,
            admin.rotated, admin.revoked,
            usage.tasks, usage.usage, *webhooks.HANDLERS, *videos.HANDLERS,
        ],
        before_request=entered,
        exception_handlers={Exception: trouble},
        lifespan=[lifespan],
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Pictor", version=__version__, path="/schema",
            render_plugins=[SwaggerRenderPlugin(), RedocRenderPlugin()],
        ),
        request_max_body_size=None,  # the bound is the configuration's, kept while a body is read
        state=State({"gateway": gateway}),
    )  # fmt: skip
    return Door(app, gateway)


async def swept(gateway: Gateway) -> None:
    """Drop what is past its time, now and every hour; of several processes, one does."""
    while True:
        try:
            if await sweep.turn(gateway.database):
                swept = await sweep.sweep(gateway.database, gateway.files, gateway.uploads, gateway.config)
                gone = msgspec.structs.asdict(swept)
                for what, count in gone.items():
                    gateway.metrics.count("swept_total", what, by=count)
                say("swept", **gone)
        except Fault:  # the database is away: the next one comes
            pass
        except Exception as error:
            log.error("unforeseen error of the sweep", exc_info=error)
        await asyncio.sleep(sweep.SECONDS)
