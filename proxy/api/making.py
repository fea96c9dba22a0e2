"""What every making call begins with: who asks, what for, and a watch on whether they are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from litestar import Request
from litestar.datastructures import State

from proxy import answer, invalid
from proxy.api.body import arriving, check_announced, too_large
from proxy.api.calling import calling
from proxy.craft import AnyAsk
from proxy.forms import Form, Limits, parse
from proxy.gateway import Gateway
from proxy.keys import Caller
from proxy.known import Wanted
from proxy.lift import LIFT, Lifter
from proxy.logs import request_id
from translators.base import Blob, Fault

T = TypeVar("T")
A = TypeVar("A", bound=AnyAsk)


async def making(request: Request[None, None, State]) -> Caller:
    """Who calls, while work is taken. Raises `Fault("auth")`, and `Fault("overloaded")` where the server stops."""
    gateway: Gateway = request.app.state.gateway
    caller = await calling(request)
    if gateway.draining:
        raise Fault("overloaded", "The server is stopping and takes no new work.", code="draining", retry_after=1)
    return caller


async def said(
    request: Request[None, None, State], of_form: Callable[[Form], A], of_json: Callable[[bytes, Mapping[str, Blob]], A]
) -> A:
    """What is asked for, from JSON or a form."""
    gateway: Gateway = request.app.state.gateway
    most = gateway.config.limits.body_bytes
    check_announced(request, most)
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        return of_form(await parse(arriving(request), kind, Limits(body_bytes=most)))
    return of_json(*await whole(request, most))


async def whole(request: Request[None, None, State], most: int) -> tuple[bytes, Mapping[str, Blob]]:
    """The body, at most `most` bytes of it; long `data:` URLs lifted out, so that no parser meets a picture."""
    pieces: list[bytes] = []
    size = 0
    lifter: Lifter | None = None
    try:
        async for piece in arriving(request):
            size += len(piece)
            if size > most:
                raise too_large(most)
            pieces.append(piece)
            if size > LIFT:
                lifter = lifter or Lifter(only=b"data:")
                for each in pieces:
                    lifter.feed(each)
                pieces.clear()
        return lifter.finish() if lifter else (b"".join(pieces), {})
    except Fault as fault:
        match fault.code:
            case "too_large":
                raise Fault("invalid", "The request holds too much text.", code="request_too_large") from fault
            case "truncated" | "unreadable":
                raise invalid.bad_json(fault) from fault
        raise


def wanted_of(request: Request[None, None, State], caller: Caller, ask: AnyAsk, *, durable: bool) -> Wanted:
    """The call, with what its headers say of it."""
    headers = request.headers
    return Wanted(
        caller=caller, ask=ask, request_id=request_id.get() or "",
        strict=strictly(headers.get("x-pictor-strict", "false")), idempotency_key=idempotency_key(headers),
        again=headers.get("x-stainless-retry-count", "0") != "0", durable=durable,
    )  # fmt: skip


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The client's name for this call. Raises `Fault("invalid")` where it is too long to be one."""
    key = headers.get("idempotency-key", "")
    if len(key) > KEY_CHARS:
        text = f"Invalid header 'Idempotency-Key': expected at most {KEY_CHARS} characters, but got {len(key)}."
        raise Fault("invalid", text, code="string_above_max_length", param="Idempotency-Key")
    return key or None


KEY_CHARS = 255


def strictly(said: str) -> bool:
    """Whether what would be left out is to be refused. Raises `Fault("invalid")` for words that say neither."""
    if said.lower() not in {"true", "1", "false", "0"}:
        text = f"Invalid value: '{said[:40]}'. Supported values for the header x-pictor-strict are: 'true' and 'false'."
        raise Fault("invalid", text, code="invalid_value", param="x-pictor-strict")
    return said.lower() in {"true", "1"}


async def watched(
    waiting: Awaitable[T], request: Request[None, None, State], lost: Callable[[], None] = lambda: None
) -> T:
    """What is waited for; or, where the client leaves, an end to the wait. What is paid for by then goes on.

    Only once the body is read: until then, what else reads would take it away.
    """
    task = asyncio.current_task()
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        await answer.left(request.receive)
        request.scope["state"]["gone"] = True
        lost()
        if task is not None:
            task.cancel()

    def start() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(UNWATCHED, start)
    try:
        return await waiting
    except asyncio.CancelledError:
        if request.scope["state"].get("gone"):
            raise Fault("cancelled", "The client closed the connection.") from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()


UNWATCHED = 0.25  # seconds before the client is watched: what is done sooner needs no task beside it
