"""Videos as OpenAI tells of them, made of the rows of the history; and what such a row says of the request. Pure.

A video is the task that makes it, under another name: `video_…` for `task_…`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from proxy import record
from proxy.decide import Note
from proxy.errors import problem
from proxy.invalid import clip
from proxy.prices import dollars
from proxy.sizes import shown
from proxy.state.records import Task
from proxy.video.ask import VideoAsk
from proxy.video.plan import Expected
from translators.base import Fault, Size

Status: TypeAlias = Literal["queued", "in_progress", "completed", "failed"]

# ---- ids

_VIDEO = re.compile(r"video_([0-9a-z]{1,64})", re.ASCII)


def video_id(task_id: str) -> str:
    """What clients call the video that this task makes."""
    return f"video_{task_id.removeprefix('task_')}"


def task_id(video_id: str) -> str:
    """The task that makes this video. Raises `Fault("missing")` for what cannot be one."""
    if found := _VIDEO.fullmatch(video_id):
        return f"task_{found[1]}"
    raise no_such_video(video_id)


def no_such_video(video_id: str) -> Fault:
    """The fault of an id that leads nowhere."""
    return Fault("missing", f"Video with id '{clip(video_id)}' not found.")


def not_ready(video_id: str) -> Fault:
    """The fault of a download that comes too early."""
    text = f"Video is not ready yet, use GET /v1/videos/{video_id} to check status."
    return Fault("missing", text)


def nothing_made(video_id: str, task: Task) -> Fault:
    """The fault of a download of what has failed, or was stopped."""
    error = error_of(task)
    why = f"{status_of(task)}: {error.message}" if error else "not there"
    return Fault("missing", f"There is no content of the video '{clip(video_id)}'. It is {why}")


def no_file(video_id: str) -> Fault:
    """The fault of a download that comes too late."""
    return Fault("missing", f"The file of the video '{clip(video_id)}' is not kept any more.", code="output_not_found")


def still_made(video_id: str, task: Task) -> Fault:
    """The fault of a deletion that comes too early."""
    text = (
        f"The video '{clip(video_id)}' is still {task.status.replace('_', ' ')}; it can be deleted when it is "
        f"completed or has failed. POST /v1/tasks/{task.id}/cancel ends it."
    )
    return Fault("invalid", text, code="task_running", param="video_id")


def of_video(fault: Fault) -> Fault:
    """It, with OpenAI's type where that speaks of pictures."""
    if fault.kind in {"policy", "missing"}:
        fault.type = fault.type or "invalid_request_error"
    return fault


# ---- the row

ELSEWHERE = frozenset({"op", "model", "metadata", "webhook_url", "first", "last", "references", "clip"})
"""What has a column of its own, and pictures and clips, which no row holds."""

SAID = tuple(
    (field.name, field.default_factory() if field.default is msgspec.NODEFAULT else field.default)
    for field in msgspec.structs.fields(VideoAsk)
    if field.name not in ELSEWHERE
)


def request_of(ask: VideoAsk, told: Expected, *, prompts: bool, notes: Sequence[Note] = ()) -> dict[str, Any]:
    """What was said, and under `expected` how the video will be; the prompts only where they may be kept."""
    said = {name: value for name, usual in SAID if (value := getattr(ask, name)) != usual}
    if not prompts:
        for name in record.PROMPTS:
            said.pop(name, None)
    if images := sum(each is not None for each in (ask.first, ask.last, *ask.references)):
        said["images"] = images
    said["task"] = ask.task
    said["expected"] = {"seconds": told.seconds, "size": shown(told.size)}
    if notes:
        said["expected"]["adjusted"] = [note.text for note in notes]
    said["n"] = ask.n
    return said


# ---- the answer


class VideoError(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no video."""

    code: str
    message: str
    type: str | None = None
    param: str | None = None


class Video(msgspec.Struct, frozen=True, kw_only=True):
    """One video, being made or there: OpenAI's members, then ours. Times in seconds since 1970."""

    id: str
    object: Literal["video"] = "video"
    model: str  # as it was asked for
    status: Status
    progress: int  # per cent
    created_at: int
    completed_at: int | None
    expires_at: int | None  # when its file goes
    prompt: str | None
    size: str  # as delivered; until then as it will be, as far as anybody knows
    seconds: str
    remixed_from_video_id: str | None
    error: VideoError | None
    served_by: str | None = None  # provider/model
    cost_usd: float | None = None  # null: not known
    adjusted: list[str] = []  # in what it differs from the request
    metadata: dict[str, str] = {}


class VideoList(msgspec.Struct, frozen=True, kw_only=True):
    """A page. `after=<last_id>` is the next one."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool = True


def described(task: Task, *, progress: int | None = None, retention: float | None = None) -> Video:
    """The video of a row. `progress` is its job's, `retention` the seconds for which made files are kept."""
    ended = None if task.ended is None else task.ended // 1000
    done = task.status == "completed"
    request, made = task.request, next(iter(record.outputs(task.result)), {})
    expected = request.get("expected", {})
    shape = record.shape_of(made)
    size: Size | None = (shape.width, shape.height) if shape and shape.width and shape.height else None
    remix = request.get("task") in {"remix", "edit"}
    return Video(
        id=video_id(task.id),
        model=task.asked,
        status=status_of(task),
        progress=100 if done else min(max(progress or 0, 0), 99),
        created_at=task.created // 1000,
        completed_at=ended if done else None,
        expires_at=ended + int(retention) if done and ended is not None and retention is not None else None,
        prompt=request.get("prompt"),
        size=shown(size) if size else expected.get("size", UNKNOWN),
        seconds=counted(made.get("seconds") or expected.get("seconds") or request.get("seconds")),
        remixed_from_video_id=request.get("origin") if remix else None,
        error=error_of(task),
        served_by=task.model,
        cost_usd=dollars(task.cost),
        adjusted=[note.text for note in record.notes(task.result)] if done else expected.get("adjusted", []),
        metadata=task.metadata or {},
    )


UNKNOWN = "auto"


def counted(seconds: float | None) -> str:
    """A length as OpenAI writes it: a whole number, as text. A file may be some frames longer or shorter."""
    return UNKNOWN if seconds is None else str(max(round(seconds), 1))


def status_of(task: Task) -> Status:
    """Of OpenAI's four: a client that polls would wait for ever for any other to change."""
    match task.status:
        case "queued" | "in_progress" | "completed":
            return task.status
        case _:
            return "failed"


def error_of(task: Task) -> VideoError | None:
    """Why it has failed, or that somebody stopped it."""
    if task.status == "cancelled":
        return VideoError(code="cancelled", message="The video was cancelled before it was made.")
    if task.error is None:
        return None
    told = problem(of_video(record.fault_of(task.error))).body
    error: Mapping[str, Any] = msgspec.json.decode(told)["error"]
    return VideoError(
        code=error["code"] or task.error["kind"], message=error["message"], type=error["type"], param=error["param"]
    )


def page(videos: Sequence[Video], *, more: bool) -> VideoList:
    """One page of a list."""
    return VideoList(
        data=list(videos), first_id=videos[0].id if videos else None, last_id=videos[-1].id if videos else None,
        has_more=more,
    )  # fmt: skip
