"""The history of a key: every making call is a task, in OpenAI's manner. Pages, single ones, deletion."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from litestar import Request, delete, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter
from msgspec import UNSET, Meta, UnsetType

from proxy import answer, invalid, record
from proxy.answer import Answer
from proxy.api import query
from proxy.api.calling import address, calling
from proxy.api.schema import Envelope, TokenUsage
from proxy.errors import problem
from proxy.gateway import Gateway
from proxy.prices import dollars
from proxy.standing import ENDED, Standing, standings
from proxy.state.history import Filters, check_ended
from proxy.state.records import Task
from translators.base import Fault, Op, Usage

THUMBNAIL = 512  # pixels of its longest edge
SHOWN = ("image/", "video/") if find_spec("av") else ("image/",)  # the types that thumbnails are made of here
NOTHING: Mapping[str, str] = {}
LATEST = 99_999_999_999  # seconds since 1970, in the year 5138

Order: TypeAlias = Literal["asc", "desc"]
Status: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
Seconds = Annotated[int, Meta(ge=0, le=LATEST)]
Ids = Annotated[tuple[str, ...], Meta(max_length=20)]
Id = Annotated[str, PathParameter(description="The task's id, from `x-pictor-task` or a list.")]


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks, as a client writes it."""

    limit: Annotated[int, Meta(ge=1, le=100, description="How many at most.")] = 20
    after: Annotated[str | None, Meta(description="The id of the last task of the page before.")] = None
    order: Annotated[Order, Meta(description="`desc`: the newest first.")] = "desc"
    status: Annotated[Status | None, Meta(description="Where the call is.")] = None
    model: Annotated[str | None, Meta(description="As it was asked for, or as it answered; the whole name.")] = None
    operation: Annotated[Op | None, Meta(description="What was to be done.")] = None
    created_after: Annotated[Seconds | None, Meta(description="Unix seconds; then or later.")] = None
    created_before: Annotated[Seconds | None, Meta(description="Unix seconds; earlier than that.")] = None
    metadata: Annotated[dict[str, str], Meta(description="`metadata[project]=x`: tasks that have this pair.")] = {}
    ids: Annotated[Ids | None, Meta(description="`ids=a,b`: these alone, in this order; at most 20.")] = None


CHOICES: Mapping[str, tuple[str, ...]] = {
    "order": get_args(Order), "status": get_args(Status), "operation": get_args(Op),
}  # fmt: skip


class AdminQuery(Query, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks of all keys."""

    key: Annotated[str | None, Meta(description="The id of the key that made them.")] = None


class TaskOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One made file. Its links are null where it is not kept, or kept no more."""

    id: str | None
    url: str | None
    thumbnail_url: str | None
    type: str | None
    width: int | None
    height: int | None
    bytes: int | None
    revised_prompt: str | None = None
    provider: dict[str, Any] | UnsetType = UNSET


class TaskError(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is nothing, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class TaskObject(msgspec.Struct, frozen=True, kw_only=True):
    """One making call. Times in seconds since 1970; a cost that is null is not known."""

    id: str
    object: Literal["task"] = "task"
    status: str
    operation: str
    model: str  # as it was asked for
    served_by: str | None  # provider/model
    key: str | UnsetType = UNSET  # for an admin alone
    created_at: int
    completed_at: int | None
    progress: int  # per cent
    cancelling: bool  # somebody wants its end, and it has not ended yet
    queue_position: int | None  # from 1; null: it waits for no place
    queued_seconds: float | None
    request: dict[str, Any]
    outputs: list[TaskOutput]
    usage: TokenUsage | None
    cost_usd: float | None
    estimated_cost_usd: float | None
    wasted_usd: float
    timings: dict[str, float]  # phase -> seconds
    adjusted: list[str]
    errors: list[dict[str, Any]]  # why there are fewer outputs than were asked for
    error: TaskError | None
    resumable: bool  # its provider can still be asked for it: POST /v1/tasks/{id}/resume
    metadata: dict[str, str]
    request_id: str | None


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """A page. `after=<last_id>` is the next one."""

    object: Literal["list"] = "list"
    data: list[TaskObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    missing: list[str] | UnsetType = UNSET  # of the ids that were asked for


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted."""

    id: str
    object: Literal["task"] = "task"
    deleted: bool = True


def described(
    task: Task, link: Callable[[str], str] | None, standing: Standing = ENDED, *, with_key: bool = False
) -> TaskObject:
    """The task as it is told. `link` says where a stored output is."""
    result = task.result or {}
    kept = link if task.bytes else None  # none are left of a task whose files were swept
    counted = answer.usage(Usage(**result.get("usage", {})))
    error = problem(record.fault_of(task.error)).body if task.error else None
    return TaskObject(
        id=task.id,
        status=task.status,
        operation=task.op,
        model=task.asked,
        served_by=task.model,
        key=task.key if with_key else UNSET,
        created_at=task.created // 1000,
        completed_at=None if task.ended is None else task.ended // 1000,
        progress=100 if task.status == "completed" else standing.progress or 0,
        cancelling=standing.cancelling,
        queue_position=standing.queue_position,
        queued_seconds=standing.queued_seconds,
        request=task.request,
        outputs=[output(each, kept) for each in record.outputs(task.result)],
        usage=None if counted is None else msgspec.convert(counted, TokenUsage),
        cost_usd=dollars(task.cost),
        estimated_cost_usd=dollars(task.estimate),
        wasted_usd=dollars(task.wasted),
        timings=task.timings or {},
        adjusted=[note.text for note in record.notes(task.result)],
        errors=[
            {"code": each["code"] or each["kind"], "message": each["message"]} for each in result.get("faults", ())
        ],
        error=None if error is None else msgspec.json.decode(error, type=dict[str, TaskError])["error"],
        resumable=standing.resumable,
        metadata=task.metadata or {},
        request_id=task.request_id,
    )


def output(told: Mapping[str, Any], link: Callable[[str], str] | None) -> TaskOutput:
    """One output of a row. What was not stored may have an address of the provider's."""
    id, type = told.get("id"), told.get("type")
    url = link(id) if id and link else None
    picture = url is not None and type is not None and type.startswith(SHOWN)
    return TaskOutput(
        id=id,
        url=url or told.get("url"),
        thumbnail_url=f"{url}&thumbnail={THUMBNAIL}" if picture else None,
        type=type,
        width=told.get("width"),
        height=told.get("height"),
        bytes=told.get("bytes"),
        revised_prompt=told.get("revised_prompt"),
        provider=told.get("provider", UNSET),
    )


def checked(wanted: Query) -> Query:
    """It, where its members go together. Raises `Fault("invalid")`."""
    if wanted.after is not None and not re.fullmatch(r"task_\w+", wanted.after, re.ASCII):
        raise invalid.invalid_value("after", f"Invalid 'after': '{invalid.clip(wanted.after)}' is no id of a task.")
    if wanted.ids is None:
        return wanted
    if not wanted.ids:
        raise invalid.too_few("ids", 1, 0)
    for name in wanted.__struct_fields__:
        if name not in {"ids", "key"} and getattr(wanted, name) != getattr(EVERYTHING, name):
            raise invalid.invalid_value(name, f"Invalid '{name}': it cannot be combined with 'ids'.")
    return wanted


EVERYTHING = Query()


def filters(wanted: Query) -> Filters:
    """What it asks of a task."""
    return Filters(
        status=wanted.status,
        op=wanted.operation,
        model=wanted.model,
        metadata=wanted.metadata,
        since=None if wanted.created_after is None else wanted.created_after * 1000,
        until=None if wanted.created_before is None else wanted.created_before * 1000,
    )


async def listed(request: Request[None, None, State], wanted: Query, key: str | None, *, with_key: bool) -> Answer:
    """The page that `wanted` asks for, of the tasks of `key`."""
    gateway: Gateway = request.app.state.gateway
    checked(wanted)
    missing: list[str] | UnsetType = UNSET
    more = False
    if wanted.ids is None:
        page = await gateway.history.page(
            key, wanted.limit, after=wanted.after, oldest_first=wanted.order == "asc", filters=filters(wanted)
        )
        tasks, more = page.tasks, page.more
    else:
        ids = tuple(dict.fromkeys(wanted.ids))
        tasks = await gateway.history.several(ids, key)
        found = {task.id for task in tasks}
        missing = [id for id in ids if id not in found]
    link = linked(request)
    known = await standings(gateway.database, gateway.works.running, tasks)
    told = TaskList(
        data=[described(task, link, known[task.id], with_key=with_key) for task in tasks],
        first_id=tasks[0].id if tasks else None,
        last_id=tasks[-1].id if tasks else None,
        has_more=more,
        missing=missing,
    )
    soonest = min((each.seconds for each in known.values() if each.seconds), default=0.0)
    return Answer(200, [msgspec.json.encode(told)], look_after(soonest) if wanted.ids is not None else {})


async def shown(
    request: Request[None, None, State], task: Task, *, status: int = 200, headers: Mapping[str, str] = NOTHING
) -> Answer:
    """One task, and when to look again where it has not ended."""
    gateway: Gateway = request.app.state.gateway
    known = (await standings(gateway.database, gateway.works.running, (task,)))[task.id]
    told = described(task, linked(request), known)
    return Answer(status, [msgspec.json.encode(told)], {**headers, **look_after(known.seconds)})


def look_after(seconds: float) -> dict[str, str]:
    """When it is worth looking again, for clients in general and for OpenAI's polling helpers."""
    if not seconds:
        return {}
    return {"retry-after": str(math.ceil(seconds)), "openai-poll-after-ms": str(math.ceil(seconds * 1000))}


def linked(request: Request[None, None, State]) -> Callable[[str], str]:
    """Where stored outputs are, as this client reaches us."""
    gateway: Gateway = request.app.state.gateway
    base = address(request, gateway)
    return lambda id: base + gateway.link(id)


def remembering(gateway: Gateway) -> None:
    """Raises `Fault("missing")` where nothing is remembered."""
    if not gateway.config.history.enabled:
        text = "This server keeps no history: it is switched off in its configuration (history.enabled)."
        raise Fault("missing", text, code="history_disabled")


async def owned(request: Request[None, None, State], id: str) -> tuple[Gateway, Task]:
    """The server's parts, and the row of a task of this key's. Raises `Fault("missing")`."""
    gateway: Gateway = request.app.state.gateway
    caller = await calling(request)
    remembering(gateway)
    return gateway, await gateway.history.one(id, caller.id)


async def delete_with_files(gateway: Gateway, task: Task) -> None:
    """Forget a task that has ended, and delete what it made."""
    # The files first: a row that is left behind by a crash can be deleted again, a file without a row by nobody.
    await gateway.files.delete([each["id"] for each in record.outputs(task.result) if "id" in each])
    await gateway.history.delete(task.id, task.key)


WRONG = {
    401: ResponseSpec(Envelope, generate_examples=False, description="No key, or not a good one."),
    404: ResponseSpec(Envelope, generate_examples=False, description="There is none, or it is another key's."),
}
WRONG_QUERY = {400: ResponseSpec(Envelope, generate_examples=False, description="What is wrong with the query.")}


@get(
    "/v1/tasks", operation_class=query.documented(Query), tags=["Tasks"],
    responses={200: ResponseSpec(TaskList, generate_examples=False, description="A page."), **WRONG_QUERY, **WRONG},
)  # fmt: skip
async def tasks(request: Request[None, None, State]) -> Answer:
    """The making calls of this key, the newest first."""
    caller = await calling(request)
    remembering(request.app.state.gateway)
    wanted = query.read(request.query_params.multi_items(), Query, CHOICES)
    return await listed(request, wanted, caller.id, with_key=False)


@get(
    "/v1/tasks/{id:str}", tags=["Tasks"],
    responses={200: ResponseSpec(TaskObject, generate_examples=False, description="The task."), **WRONG},
)  # fmt: skip
async def task(request: Request[None, None, State], id: Id) -> Answer:
    """One making call: its state, outputs, cost."""
    _, found = await owned(request, id)
    return await shown(request, found)


@delete(
    "/v1/tasks/{id:str}", tags=["Tasks"], status_code=200,
    responses={
        200: ResponseSpec(Deleted, generate_examples=False, description="It is gone."),
        409: ResponseSpec(Envelope, generate_examples=False, description="It has not ended yet."), **WRONG,
    },
)  # fmt: skip
async def forget(request: Request[None, None, State], id: Id) -> Answer:
    """Forget a making call, and delete its files. What it cost stays counted."""
    gateway, found = await owned(request, id)
    check_ended(found)
    await delete_with_files(gateway, found)
    return Answer(200, [msgspec.json.encode(Deleted(id=id))], {})
