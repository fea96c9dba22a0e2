"""Making pictures: generations, edits, variations, on OpenAI's paths and on Azure's."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated
from urllib.parse import unquote

from litestar import Request, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter
from msgspec.structs import replace

from proxy import answer
from proxy.alive import Alive
from proxy.answer import Answer, Preview, Result, Stream
from proxy.api.calling import address
from proxy.api.making import making, said, wanted_of, watched
from proxy.api.preferring import Preference, accepted, keep_alive, not_streamed, preference
from proxy.api.schema import Envelope, ImagesResponse, documented
from proxy.ask import PictureOp, from_form, from_json
from proxy.gateway import Gateway
from proxy.work import begin, left
from proxy.works import Work
from translators.base import Blob, Fault

Deployment = Annotated[str, PathParameter(description="The model, as an Azure client names it.")]
RESPONSES = {
    200: ResponseSpec(ImagesResponse, generate_examples=False, description="The pictures."),
    400: ResponseSpec(Envelope, generate_examples=False, description="What is wrong with the request."),
    401: ResponseSpec(Envelope, generate_examples=False, description="No key, or not a good one."),
}


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
    caller = await making(request)
    ask = await said(request, partial(from_form, op), partial(from_json, op))
    if deployment:
        ask = replace(ask, model=unquote(deployment))
    if wish.later and ask.stream:
        raise not_streamed()
    wanted = wanted_of(request, caller, ask, durable=wish.later)
    named = {"op": ask.op, "asked": ask.model, "n": ask.n, "size": ask.size, "stream": ask.stream}
    request.scope["state"]["told"] = named | ({"metadata": ask.metadata} if ask.metadata else {})
    previews: asyncio.Queue[Preview] | None = asyncio.Queue() if ask.stream else None
    return await watched(begin(gateway, wanted, previews), request), previews


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
