"""An answer in JSON that is kept alive: its head leaves before it is known, and blanks until it is.

What stands between may cut a connection on which nothing comes for a while (100 seconds at some). JSON may begin with
blanks, so they hurt no client; but the status has left with them, so a late failure is an error's body under 200.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

from litestar.types import Receive, Scope, Send

from proxy.answer import JSON, KEEP_ALIVE, Result, chunks, left, wired
from proxy.errors import as_fault, problem
from translators.base import Blob


class Alive:
    """Such an answer, as an ASGI application."""

    def __init__(
        self,
        waiting: asyncio.Future[Result],
        body: Callable[[Result], Sequence[bytes | Blob]],
        state: MutableMapping[str, Any],
        headers: Mapping[str, str],
        lost: Callable[[], None],
    ) -> None:
        self.waiting = waiting
        self.body = body
        self.state = state  # the request's; a late fault and its status are left there for the log and the metrics
        self.headers = headers
        self.lost = lost  # called where the client leaves

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; no longer wait where the client leaves."""
        gone = asyncio.ensure_future(left(receive))
        try:
            await self._send(send, gone)
        finally:
            gone.cancel()
            if not self.waiting.done():
                self.waiting.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await self.waiting

    async def _send(self, send: Send, gone: asyncio.Future[None]) -> None:
        head = [(b"content-type", JSON), (b"x-accel-buffering", b"no"), *wired(self.headers)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        done: set[asyncio.Future[Any]] = set()
        while not done:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            every: set[asyncio.Future[Any]] = {self.waiting, gone}
            done, _ = await asyncio.wait(every, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
        if not self.waiting.done():
            self.state["gone"] = True
            self.lost()
            return
        try:
            pieces = self.body(self.waiting.result())
        except Exception as error:
            fault = self.state["fault"] = as_fault(error, "POST", "")
            shown = problem(fault)
            self.state["status"] = shown.status
            pieces = [shown.body]
        for piece in chunks(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if gone.done():
            self.lost()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
