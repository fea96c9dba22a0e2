"""An application behind a real socket, in the test's own loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from litestar import Litestar, Request, Response
from litestar.datastructures import State

from proxy.errors import problem
from translators.base import Fault


def as_envelope(_: Request[Any, Any, Any], fault: Fault) -> Response[bytes]:
    shown = problem(fault)
    return Response(shown.body, status_code=shown.status, headers=shown.headers, media_type="application/json")


@asynccontextmanager
async def served(handlers: list[Any], gateway: object) -> AsyncIterator[str]:
    """These handlers over the parts in `gateway`; the address without a slash at its end."""
    app = Litestar(
        handlers, exception_handlers={Fault: as_envelope}, logging_config=None, state=State({"gateway": gateway}),
        request_max_body_size=None,
    )  # fmt: skip
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
