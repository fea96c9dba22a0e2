"""Whether the server lives, whether it takes work, and its numbers."""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

from litestar import Request, get
from litestar.datastructures import State

from proxy.answer import Answer
from proxy.api.calling import calling
from proxy.config import loopback
from proxy.gateway import Gateway
from translators.base import Fault

TEXT = b"text/plain; version=0.0.4; charset=utf-8"


@get("/health")
async def health() -> Answer:
    """The process answers."""
    return Answer(200, [b'{"status":"ok"}'], {})


@get("/ready")
async def ready(request: Request[None, None, State]) -> Answer:
    """Work is taken; 503 while the server drains, or its database is away."""
    gateway: Gateway = request.app.state.gateway
    if gateway.draining:
        return Answer(503, [b'{"status":"draining"}'], {"retry-after": "5"})
    if not gateway.database.up and gateway.config.history.enabled:
        return Answer(503, [b'{"status":"no database"}'], {"retry-after": "5"})
    return Answer(200, [b'{"status":"ready"}'], {})


@get("/metrics")
async def metrics(request: Request[None, None, State]) -> Answer:
    """Prometheus text. It tells what is spent: for the loopback, an admin key, or all where it is so configured."""
    gateway: Gateway = request.app.state.gateway
    if not gateway.config.metrics.open and not local(request) and not (await calling(request)).admin:
        raise Fault("permission", "/metrics needs an admin key.", code="admin_key_required")
    return Answer(200, [await asyncio.to_thread(gateway.metrics.text)], {}, TEXT)  # of several workers: their files


def local(request: Request[None, None, State]) -> bool:
    """Whether the request comes from this machine, and from no proxy on it."""
    client = request.scope.get("client")
    if client is None or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    if not loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or ""):
        return False  # a page whose name was bent to this address
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
