"""Making pictures: generations, edits, variations, on OpenAI's paths and on Azure's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, TypeVar
from urllib.parse import unquote

from litestar import Request, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter
from msgspec.structs import replace

from proxy import answer, invalid
from proxy.alive import Alive
from proxy.answer import Answer, Preview, Result, Stream
from proxy.api.body import arriving, check_announced, too_large
from proxy.api.calling import address, calling
from proxy.api.preferring import Preference, accepted, keep_alive, not_streamed, preference
from proxy.api.schema import Envelope, ImagesResponse, documented
from proxy.ask import Ask, PictureOp, from_form, from_json
from proxy.forms import Limits, parse
from proxy.gateway import Gateway
from proxy.known import Wanted
from proxy.lift import LIFT, Lifter
from proxy.logs import request_id
from proxy.work import begin, left
from proxy.works import Work
from translators.base import Blob, Fault

T = TypeVar("T")

Deployment = Annotated[str, PathParameter(description="The model, as an Azure client names it.")]
RESPONSES = {
    200: ResponseSpec(ImagesResponse, generate_examples=False, description="The pictures."),
    400: ResponseSpec(Envelope, generate_examples=False, description="What is wrong with the request."),
    401: ResponseSpec(Envelope, generate_examples=False, description="No key, or not a good one."),
}


async def read(request: Request[None, None, State], op: PictureOp, gateway: Gateway) -> Ask:
    """The request as an `Ask`, from JSON or a form."""
    most = gateway.config.limits.body_bytes
    check_announced(request, most)
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        return from_form(op, await parse(arriving(request), kind, Limits(body_bytes=most)))
    return from_json(op, *await whole(request, most))


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


async def respond(request: Request[None, None, State], op: PictureOp, deployment: str = "") -> Answer | Stream | Alive:
    """Serve one making call."""
    gateway: Gateway = request.app.state.gateway
    wish = preference(request.headers.getall("prefer", []))
    alive = keep_alive(request.headers, gateway.config.server.keep_alive_seconds)
    work, previews = await begun(request, op, deployment, wish)
    state = request.scope["state"]
    state["told"]["task"] = work.id
    lost = partial(left, gateway, work)
    if previews is not None:

        async def drawn() -> Result:
            result = await work.wait()
            state["told"] |= told(result)
            return result

        return Stream(op, drawn, previews, state, work.headers, lost)
    if wish.later and wish.wait is None:
        return await accepted(request, work, wish)
    try:
        result = await watched(within(work, wish.wait or 0 if wish.later else alive), request, lost)
    except Fault as fault:
        fault.headers = {**fault.headers, "x-pictor-task": work.id}
        raise
    if result is None and wish.later:
        return await accepted(request, work, wish)

    def body(made: Result) -> list[bytes | Blob]:
        state["told"] |= told(made)
        return answer.body(made, address(request, gateway))

    if result is None:
        return Alive(asyncio.ensure_future(work.wait()), body, state, work.headers, lost)
    applied = wish.applied(later=False)
    headers = {**answer.headers(result), **work.headers, **({"preference-applied": applied} if applied else {})}
    return Answer(200, body(result), headers, lost=lost)


async def within(work: Work, seconds: float | None) -> Result | None:
    """The result, if it is there within that time; without a bound, once it is there."""
    if seconds is None:
        return await work.wait()
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work.wait()
    except TimeoutError:
        if not limit.expired():
            raise
        return None


async def begun(
    request: Request[None, None, State], op: PictureOp, deployment: str, wish: Preference
) -> tuple[Work, asyncio.Queue[Preview] | None]:
    """The work of this call, and its previews where it streams. What was sent is not held beyond that."""
    gateway: Gateway = request.app.state.gateway
    caller = await calling(request)
    if gateway.draining:
        raise Fault("overloaded", "The server is stopping and takes no new work.", code="draining", retry_after=1)
    headers = request.headers
    ask = await read(request, op, gateway)
    if deployment:
        ask = replace(ask, model=unquote(deployment))
    if wish.later and ask.stream:
        raise not_streamed()
    wanted = Wanted(
        caller=caller, ask=ask, request_id=request_id.get() or "",
        strict=strictly(headers.get("x-pictor-strict", "false")), idempotency_key=idempotency_key(headers),
        again=headers.get("x-stainless-retry-count", "0") != "0",
        durable=wish.later,
    )  # fmt: skip
    said = {"op": ask.op, "asked": ask.model, "n": ask.n, "size": ask.size, "stream": ask.stream}
    request.scope["state"]["told"] = said | ({"metadata": ask.metadata} if ask.metadata else {})
    previews: asyncio.Queue[Preview] | None = asyncio.Queue() if ask.stream else None
    return await watched(begin(gateway, wanted, previews), request), previews


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


def told(result: Result) -> dict[str, object]:
    """What the log says of a result."""
    sizes = [f"{each.shape.width}x{each.shape.height}" for each in result.pictures if each.shape]
    return {
        "model": result.model,
        "made": len(result.pictures),
        "sizes": sizes,
        "cost_usd": result.cost_usd,
        "adjusted": [note.text for note in result.notes],
        "faults": [fault.code or fault.kind for fault in result.faults],
    }


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


@post(
    [
        "/v1/images/generations",
        "/openai/v1/images/generations",
        "/openai/deployments/{deployment:str}/images/generations",
    ],
    status_code=200, responses=RESPONSES, operation_class=documented("generate"),
)  # fmt: skip
async def generations(request: Request[None, None, State], deployment: Deployment = "") -> Answer:
    """Make pictures from a prompt."""
    return await respond(request, "generate", deployment)  # type: ignore[return-value]  # either is an ASGI application


@post(
    ["/v1/images/edits", "/openai/deployments/{deployment:str}/images/edits", "/openai/v1/images/edits"],
    status_code=200, responses=RESPONSES, operation_class=documented("edit"),
)  # fmt: skip
async def edits(request: Request[None, None, State], deployment: Deployment = "") -> Answer:
    """Make pictures from a prompt and up to sixteen pictures, with a mask where the model takes one."""
    return await respond(request, "edit", deployment)  # type: ignore[return-value]  # either is an ASGI application


@post(
    ["/v1/images/variations", "/openai/v1/images/variations", "/openai/images/variations"],
    status_code=200, responses=RESPONSES, operation_class=documented("variation"),
)  # fmt: skip
async def variations(request: Request[None, None, State]) -> Answer:
    """Make variations of a picture."""
    return await respond(request, "variation")  # type: ignore[return-value]  # either is an ASGI application
