"""Who calls, and how we look from there: what every route with a key begins with."""

from __future__ import annotations

from litestar import Request
from litestar.datastructures import State

from proxy.gateway import Gateway
from proxy.keys import Caller


async def calling(request: Request[None, None, State]) -> Caller:
    """The caller of this request, who is also named in its log line. Raises `Fault("auth")`."""
    gateway: Gateway = request.app.state.gateway
    client = request.scope.get("client")
    caller = await gateway.keys.who(request.headers, client[0] if client else "")
    request.scope["state"]["key"] = caller
    return caller


def address(request: Request[None, None, State], gateway: Gateway) -> str:
    """Our own address as this client sees it."""
    if gateway.config.server.public_url:
        return gateway.config.server.public_url.rstrip("/")
    return f"{request.scope['scheme']}://{request.headers.get('host', '127.0.0.1')}"
