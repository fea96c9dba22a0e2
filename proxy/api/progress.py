"""What can be done about a task while it is made: follow it, end it; and go on with one that has failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import Receive, Scope, Send

from proxy import durable
from proxy.answer import EVENTS, KEEP_ALIVE, Answer, left
from proxy.api.schema import Envelope
from proxy.api.tasks import WRONG, Id, TaskObject, described, linked, owned, shown
from proxy.gateway import Gateway
from proxy.standing import Standing, standing, standings
from proxy.state import jobs
from proxy.state.records import Task
from translators.base import Fault

CANCEL_SECONDS = 2.0  # that a cancelled task has to end before its state is answered
RESUME_SECONDS = 5.0  # in which the work that has just failed here is put away
LOOK = 0.2  # seconds between two looks at a row whose end is near
ROW_LOOK = 1.0  # … at one of which nobody knows
HERE_LOOK = 0.25  # … at what runs in this process
STREAMS = 100  # of one key at once, in one process

TASK = {200: ResponseSpec(TaskObject, generate_examples=False, description="The task."), **WRONG}


@post("/v1/tasks/{id:str}/cancel", status_code=200, tags=["Tasks"], responses=TASK)
async def cancel(request: Request[None, None, State], id: Id) -> Answer:
    """End a making call that is under way. One that has ended is answered as it is.

    So OpenAI does for responses: whether the wish or the end came first is chance, and a wish may be sent twice.
    """
    gateway, found = await owned(request, id)
    if found.ended is None:
        await durable.cancel(gateway, found)
        found = await ended(gateway, found, CANCEL_SECONDS)
    return await shown(request, found)


async def ended(gateway: Gateway, task: Task, seconds: float) -> Task:
    """The task once it has ended, wherever it runs; after so many seconds, as it is."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while task.ended is None and (rest := until - loop.time()) > 0:
        work = gateway.works.running.get(task.id)
        if work is not None and not work.result.done():
            await asyncio.wait({work.result}, timeout=rest)
        else:
            await asyncio.sleep(min(LOOK, rest))
        task = await gateway.history.get(task.id) or task
    return task


@post(
    "/v1/tasks/{id:str}/resume", status_code=202, tags=["Tasks"],
    responses={
        202: ResponseSpec(TaskObject, generate_examples=False, description="It is gone on with."), **TASK,
        409: ResponseSpec(Envelope, generate_examples=False, description="Its provider cannot be asked for it."),
    },
)  # fmt: skip
async def resume(request: Request[None, None, State], id: Id) -> Answer:
    """Go on asking for what a task's provider makes, although the task has failed. Nothing is sent a second time."""
    gateway, found = await owned(request, id)
    if (work := gateway.works.running.get(id)) is not None and found.ended is not None:
        await asyncio.wait({work.result}, timeout=RESUME_SECONDS)
    if await gateway.database.write(partial(jobs.reopened, id, found.key)):
        gateway.workers.look_now()
    found = await gateway.history.one(id, found.key)
    if found.ended is not None and found.status != "completed":
        raise not_resumable(found)
    headers = {"location": f"/v1/tasks/{id}"} if found.ended is None else {}
    return await shown(request, found, status=202 if found.ended is None else 200, headers=headers)


def not_resumable(task: Task) -> Fault:
    """Of a task that has ended for good."""
    text = f"The task '{task.id}' is {task.status}, and its provider has nothing of it that could be asked for."
    return Fault("invalid", text, code="task_not_resumable", param="id")


@get(
    "/v1/tasks/{id:str}/events", tags=["Tasks"],
    responses={
        200: ResponseSpec(None, generate_examples=False, media_type="text/event-stream", description="The changes."),
        **WRONG,
    },
)  # fmt: skip
async def events(request: Request[None, None, State], id: Id) -> Answer:
    """The state of a task, and each change of it until it has ended, as server-sent events."""
    gateway, found = await owned(request, id)
    return Events(request, gateway, found)  # type: ignore[return-value]  # either is an ASGI application


class Events:
    """The changes of one task, as an ASGI application."""

    def __init__(self, request: Request[None, None, State], gateway: Gateway, task: Task) -> None:
        self.gateway = gateway
        self.task = task
        self.link = linked(request)
        self.state = request.scope["state"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them. Raises `Fault("rate")` where the key follows too many tasks at once."""
        listening, key = self.gateway.listening, self.task.key
        if listening[key] >= STREAMS:
            text = f"This key follows {STREAMS} tasks at once, which is the most. End one of these streams first."
            raise Fault("rate", text, code="rate_limit_exceeded", retry_after=5)
        listening[key] += 1
        gone = asyncio.ensure_future(left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(EVENTS)})
            async for frame in self._frames(gone):
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            if gone.done():
                self.state["gone"] = True
            else:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            listening[key] -= 1
            if not listening[key]:
                del listening[key]

    async def _frames(self, gone: asyncio.Future[None]) -> AsyncIterator[bytes]:
        """An event for each change, and a comment where there has been none for a while."""
        loop = asyncio.get_running_loop()
        before: tuple[Any, ...] | None = None
        said = loop.time()
        while True:
            known = await self._known()
            if known is not None:
                now = (self.task.status, known.progress, known.cancelling, known.queue_position)
                if now != before:
                    before, said = now, loop.time()
                    yield self._event(known)
                if self.task.ended is not None:
                    return
            if loop.time() - said >= KEEP_ALIVE:
                said = loop.time()
                yield b": keep-alive\n\n"
            await self._change(gone)
            if gone.done() or self.gateway.draining or not await self._looked():
                return

    async def _known(self) -> Standing | None:
        """Where it is; `None` where the database, which would know, is away."""
        work = self.gateway.works.running.get(self.task.id)
        if work is not None and self.task.status == "in_progress":
            return standing(self.task, work)
        try:
            found = await standings(self.gateway.database, self.gateway.works.running, (self.task,))
        except Fault:
            return None
        return found[self.task.id]

    async def _change(self, gone: asyncio.Future[None]) -> None:
        """Wait until something may have changed."""
        work = self.gateway.works.running.get(self.task.id)
        every: set[asyncio.Future[Any]] = {gone} if work is None else {gone, work.result}
        if work is not None and work.result.done():
            every, work = {gone}, None
        seconds = HERE_LOOK if work is not None and self.task.status == "in_progress" else ROW_LOOK
        await asyncio.wait(every, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def _looked(self) -> bool:
        """Read its row, unless it is known to be as it was. False where it was deleted."""
        work = self.gateway.works.running.get(self.task.id)
        if work is not None and not work.result.done() and self.task.status == "in_progress":
            return True
        try:
            task = await self.gateway.history.get(self.task.id, self.task.key)
        except Fault:  # the database is away: it will be back
            return True
        self.task = task or self.task
        return task is not None

    def _event(self, known: Standing) -> bytes:
        data = msgspec.json.encode(described(self.task, self.link, known))
        return b"event: task.%s\ndata: %s\n\n" % (self.task.status.encode(), data)


HANDLERS = (cancel, resume, events)
