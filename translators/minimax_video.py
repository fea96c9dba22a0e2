"""MiniMax's videos: two generations of one idea, to submit a task and to poll it.

H3:      POST /v2/video_generation {"content": [text, frames …]}  -> {"task_id"}
         GET  /v2/query/video_generation/{id}                     -> {"task": {"status", "content": {"url"}}}
Hailuo:  POST /v1/video_generation {"prompt", "first_frame_image"}  -> {"task_id", "base_resp"}
         GET  /v1/query/video_generation?task_id=                   -> {"status", "file_id", "base_resp"}
         GET  /v1/files/retrieve?file_id=                           -> {"file": {"download_url"}, "base_resp"}

The older one answers 200 whatever happens: a `status_code` other than 0 is a failure.
Source: mmx-cli 1.0.27, @ai-sdk/minimax 3.0.45 and https://platform.minimax.io/docs, read 2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators import minimax
from translators.base import Call, Done, Fault, FaultKind, Media, Output, Price, Reply, Step, Usage, Wait, data_url
from translators.minimax import Problem
from translators.video import VideoCaps, VideoJob

__all__ = ["VIDEOS", "cancel", "check", "start", "step"]

POLL = 10.0  # seconds

# ---- what the models can do

WATERMARK = frozenset({"watermark"})


def per_second(images: Price, **dollars: float) -> tuple[Price, ...]:
    """`_768P` is the resolution 768P; `images` prices the pictures that are sent."""
    return (*(Price(unit="second", amount=amount, resolution=name[1:]) for name, amount in dollars.items()), images)


def whole(resolution: str, seconds: int, dollars: float) -> Price:
    """Of a video of that length."""
    return Price(unit="video", amount=dollars, resolution=resolution, seconds=seconds)


H3 = VideoCaps(
    seconds=tuple(range(4, 16)),
    usual_seconds=5,
    ratios=("21:9", "16:9", "4:3", "1:1", "3:4", "9:16"),
    resolutions=("768P", "2K"),
    usual_resolution="768P",  # it is always said
    frames_shape=True,
    first=True,
    last=True,
    references=9,
    prompt_chars=7_000,
    input_bytes=30_000_000,
    input_edge=(256, 5760),
    sound="always",
    params=WATERMARK,
    prices=per_second(Price(unit="input_image", amount=0.04, free=5), _768P=0.08, _2K=0.13),
)
HAILUO_02 = VideoCaps(
    seconds=(6, 10),
    usual_seconds=6,
    ratios=("16:9",),  # of text alone, and never said
    resolutions=("512P", "768P", "1080P"),
    usual_resolution="768P",
    pixels_of={"16:9@768P": (1366, 768), "16:9@1080P": (1920, 1080)},
    frames_shape=True,
    first=True,
    last=True,
    prompt_chars=2_000,
    input_edge=(301, 0),
    params=WATERMARK,
    options=frozenset({"prompt_optimizer", "fast_pretreatment"}),
    note="Silent. 1080P has 6 seconds at most, and 512P needs a first frame.",
)
HAILUO_2_3 = replace(
    HAILUO_02,
    resolutions=("768P", "1080P"),
    last=False,
    prices=(whole("768P", 6, 0.28), whole("768P", 10, 0.56), whole("1080P", 6, 0.49)),
    note="Silent. 1080P has 6 seconds at most.",
)
T2V_01 = replace(
    HAILUO_02,
    seconds=(6,),
    resolutions=("720P",),
    usual_resolution="720P",
    pixels_of={"16:9@720P": (1280, 720)},
    first=False,
    last=False,
    note="Silent, and of an older generation.",
)
I2V_01 = replace(T2V_01, text=False, first=True)
CAMERA = WATERMARK | {"camera"}

VIDEOS: Mapping[str, VideoCaps] = {
    "MiniMax-H3": H3,
    "MiniMax-H3-Max": replace(
        H3,
        seconds=tuple(range(5, 16)),
        resolutions=("480P", "768P"),
        references=0,
        prices=per_second(Price(unit="input_image", amount=0.074, free=2), _480P=0.05, _768P=0.08),
    ),
    "MiniMax-Hailuo-2.3": HAILUO_2_3,
    "MiniMax-Hailuo-2.3-Fast": replace(HAILUO_2_3, text=False, prices=()),
    "MiniMax-Hailuo-02": HAILUO_02,
    "T2V-01": T2V_01,
    "T2V-01-Director": replace(T2V_01, params=CAMERA),
    "I2V-01": I2V_01,
    "I2V-01-Director": replace(I2V_01, params=CAMERA),
    "I2V-01-live": I2V_01,
    "S2V-01": replace(T2V_01, text=False, references=1, note="Silent. The reference is a portrait of a person."),
}

# ---- what is sent

CREATE_1, CREATE_2 = "/v1/video_generation", "/v2/video_generation"
QUERY_1, QUERY_2 = "/v1/query/video_generation", "/v2/query/video_generation"
FILE = "/v1/files/retrieve"


def start(job: VideoJob) -> Step:
    newer = job.model.startswith("MiniMax-H3")
    said = {"model": job.model, **(of_h3(job) if newer else of_hailuo(job)), "aigc_watermark": job.watermark}
    body = {name: value for name, value in said.items() if value is not None}
    return Call(path=CREATE_2 if newer else CREATE_1, json={**body, **job.options})


def of_h3(job: VideoJob) -> dict[str, Any]:
    """Length and resolution have to be said, and without pictures the ratio; beside frames it is ignored."""
    roles = [("first_frame", job.first), ("last_frame", job.last)]
    roles += [("reference_image", picture) for picture in job.references]
    pictures = [picture_in(picture, role) for role, picture in roles if picture]
    return {
        "content": [{"type": "text", "text": job.prompt}, *pictures],
        "resolution": job.resolution or "768P",
        "duration": job.seconds or H3.usual_seconds,
        "ratio": None if job.first else job.ratio or (None if pictures else "16:9"),
    }


def picture_in(picture: Media, role: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(picture)}, "role": role}


def of_hailuo(job: VideoJob) -> dict[str, Any]:
    """The ratio is that of the first frame, else 16:9."""
    if job.resolution == "1080P" and (job.seconds or 0) > 6:
        raise Fault("invalid", "1080P has 6 seconds at most here.", code="invalid_value", param="seconds")
    if job.resolution == "512P" and not job.first:
        raise Fault("invalid", "512P needs a first frame here.", code="invalid_value", param="resolution")
    subjects = [{"type": "character", "image": [data_url(picture)]} for picture in job.references]
    return {
        "prompt": moved(job.prompt, job.camera) or None,
        "duration": job.seconds,
        "resolution": job.resolution,
        "first_frame_image": data_url(job.first) if job.first else None,
        "last_frame_image": data_url(job.last) if job.last else None,
        "subject_reference": subjects or None,
    }


def moved(prompt: str, camera: str | None) -> str:
    """The prompt with the camera's movement: a command in brackets, such as `[Pan left]`."""
    if camera is None:
        return prompt
    return f"{prompt} [{'Static shot' if camera == 'fixed' else camera.strip('[]')}]".strip()


# ---- what comes back

UNCOUNTED = Usage()


class Submitted(msgspec.Struct, frozen=True):
    """Of both generations."""

    task_id: str | None = None


class Content(msgspec.Struct, frozen=True):
    url: str | None = None


class Task2(msgspec.Struct, frozen=True):
    """A task of H3. What only describes a video must not cost it: it is `Any`."""

    id: str | None = None
    status: str | None = None
    content: Content | None = None
    error: Problem | str | None = None
    duration: Any = None
    usage: Any = None  # a `Count`


class Count(msgspec.Struct, frozen=True):
    """What is billed."""

    total_seconds: float | None = None


class Polled2(msgspec.Struct, frozen=True):
    task: Task2 | None = None


class Polled1(msgspec.Struct, frozen=True):
    """A task of Hailuo."""

    status: str | None = None
    file_id: str | int | None = None


class File(msgspec.Struct, frozen=True):
    download_url: str | None = None


class Found(msgspec.Struct, frozen=True):
    file: File | None = None


def step(job: VideoJob, reply: Reply) -> Step:
    call = reply.call
    if call.method == "POST":
        return submitted(call, reply.read(Submitted))
    if call.path == QUERY_1:
        return of_task_1(reply)
    if call.path == FILE:
        url = (reply.read(Found).file or File()).download_url
        return made(url, {"origin": {"id": call.state, "file": call.query["file_id"]}})
    return of_task_2(reply)


def submitted(call: Call, said: Submitted) -> Wait:
    if not said.task_id:
        raise Fault("upstream", "The provider took the job without naming a task.", code="unreadable", final=True)
    if call.path == CREATE_1:
        return Wait(Call(method="GET", path=QUERY_1, query={"task_id": said.task_id}, repeatable=True), POLL)
    return Wait(Call(method="GET", path=f"{QUERY_2}/{quote(said.task_id, safe='')}", repeatable=True), POLL)


def of_task_1(reply: Reply) -> Step:
    """Hailuo: the task names a file, and another call its address."""
    said = reply.read(Polled1)
    match said.status:
        case "Success" if said.file_id:
            asked = {"file_id": str(said.file_id)}
            return Call(method="GET", path=FILE, query=asked, repeatable=True, state=reply.call.query["task_id"])
        case "Success":
            raise nothing()
        case status if status in FAILED:
            fault = wrong(reply) or broken()
            fault.final = True
            raise fault
        case "Unknown":
            raise lost("The provider does not know this task.")
    return Wait(reply.call, POLL, queued=said.status in {"Preparing", "Queueing"})


def of_task_2(reply: Reply) -> Step:
    task = reply.read(Polled2).task or Task2()
    match task.status:
        case "succeeded":
            told = {"seconds": task.duration} if task.duration else {}
            extra = {"origin": {"id": task.id or ""}, **told}
            return made((task.content or Content()).url, extra, counted(task.usage))
        case "failed":
            fault = meant(minimax.failed(task.error, reply), reply) if task.error else broken()
            fault.final = True
            raise fault
        case "cancelled":
            raise Fault("upstream", "The task was cancelled at the provider.", code="task_canceled", final=True)
        case "expired":
            raise Fault("upstream", "The task was not done before it expired.", code="task_expired", final=True)
    return Wait(reply.call, POLL, queued=task.status == "queued")


def made(url: str | None, extra: Mapping[str, Any], usage: Usage = UNCOUNTED) -> Done:
    if not url:
        raise nothing()
    return Done(outputs=(Output(url=url, extra=extra),), usage=usage)


def counted(usage: object) -> Usage:
    try:
        return Usage(seconds=msgspec.convert(usage or {}, Count).total_seconds)
    except msgspec.ValidationError:
        return UNCOUNTED


def cancel(job: VideoJob, waiting: Call) -> Call | None:
    """Stops a task of H3 while it is queued; the older generation has no such call."""
    if not waiting.path.startswith(QUERY_2):
        return None
    return Call(method="DELETE", path=CREATE_2 + waiting.path.removeprefix(QUERY_2), repeatable=True)


# ---- what went wrong

CODE = re.compile(r"\((\d{4})\)")
FAILED = frozenset({"Fail", "Failed"})
TURNED_AWAY: frozenset[FaultKind] = frozenset({"rate", "overloaded", "timeout", "upstream"})


def nothing() -> Fault:
    return Fault("empty", "The provider made no video.", code="no_video", final=True)


def broken() -> Fault:
    return Fault("upstream", "The provider failed to make the video.", code="task_failed")


def lost(message: str) -> Fault:
    return Fault("missing", message, code="task_not_found")


def check(reply: Reply) -> None:
    """A poll of Hailuo is turned away with status 200, which says nothing of the task. One that tells that the task has
    failed is left to `step`.
    """
    found = wrong(reply)
    if found is None:
        return
    if polls(reply) and found.kind in TURNED_AWAY:
        if reply.read(Polled1).status in FAILED:
            return
        found.passing = True
    raise found


def polls(reply: Reply) -> bool:
    return reply.call.path == QUERY_1 and reply.status < 400


def wrong(reply: Reply) -> Fault | None:
    """What is wrong with an answer, as for pictures, with what only videos meet."""
    try:
        minimax.check(reply)
    except Fault as fault:
        return meant(fault, reply)
    return None


def meant(fault: Fault, reply: Reply) -> Fault:
    """The newer generation writes its codes into the text, and says 500 of a task that it does not know."""
    written = CODE.search(fault.message)
    code = written[1] if written else fault.code or ""
    asks = reply.call.method == "GET"
    if asks and ("record not found" in fault.message.lower() or (polls(reply) and code == "2013")):
        return lost(fault.message)
    if fault.kind != "policy":
        if code in minimax.KINDS:
            fault.kind, fault.code = minimax.KINDS[code], code
        elif reply.status == 403:
            fault.kind = "permission"
    fault.final = polls(reply) and fault.kind == "policy"
    return fault
