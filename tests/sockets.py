"""Small upstreams on real sockets, in the test's own loop: one that speaks HTTP, and one that writes bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """`handler` for every path, on a free port; the address without a slash at its end."""

    app = web.Application(client_max_size=256 << 20)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0).start()
        bound, port = runner.addresses[0][:2]
        yield f"http://{bound}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(speak: Speak) -> AsyncIterator[str]:
    """`speak` for every connection."""
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        running.add(task)
        try:
            await speak(reader, writer)
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def whole_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one request with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    return head, await reader.readexactly(size)


async def until(true: Callable[[], object]) -> None:
    """Returns when `true` is so; fails where it does not become so."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  # what is waited for sets no event
            await asyncio.sleep(0.002)


def left(request: web.BaseRequest) -> bool:
    """Whether the one who asked has closed the connection."""
    return request.transport is None or request.transport.is_closing()
