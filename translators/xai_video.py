"""xAI's videos (Grok Imagine): submit, poll, an address that needs no key and lasts a day.

    POST /videos/generations {"model", "prompt", "duration", "aspect_ratio", "resolution", "image", "last_frame", …}
    POST /videos/edits, /videos/extensions {"model", "prompt", "video": {"url"}}
        -> {"request_id"}
    GET /videos/{request_id}
        -> 202, often without a body, while it runs; then {"status", "video": {"url", "duration"}, "usage", "error"}

Source: @ai-sdk/xai 5.0.12 (recorded bodies) and xai-sdk 1.21.0 (limits), read 2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators import xai
from translators.base import Call, Done, Fault, Output, Price, Reply, Size, Step, Usage, Wait, data_url
from translators.video import VideoCaps, VideoJob

__all__ = ["VIDEOS", "cancel", "check", "start", "step", "video_caps"]

# ---- what the models can do

RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3")
SHORTER = {"480p": 480, "720p": 720, "1080p": 1080}
"""The lesser edge of a resolution, in pixels."""


def pixels(ratio: str, shorter: int) -> Size:
    """Nominal: the vendor names the resolution alone."""
    across, along = map(int, ratio.split(":"))
    longer = round(shorter * max(across, along) / min(across, along) / 2) * 2
    return (longer, shorter) if across > along else (shorter, longer)


def sized(*resolutions: str) -> dict[str, Size]:
    return {f"{ratio}@{name}": pixels(ratio, SHORTER[name]) for ratio in RATIOS for name in resolutions}


def per_second(amounts: Mapping[str, float]) -> tuple[Price, ...]:
    """By resolution."""
    return tuple(Price(unit="second", amount=amount, resolution=name) for name, amount in amounts.items())


def per_picture(amount: float) -> Price:
    """Of those that are sent."""
    return Price(unit="input_image", amount=amount)


IMAGINE = VideoCaps(
    tasks=frozenset({"create", "edit", "extend"}),
    seconds=tuple(range(1, 16)),
    usual_seconds=8,
    extra_seconds=tuple(range(1, 11)),
    clip_seconds=(0, 30),  # to extend, at least 2; to edit, at most 8.7
    ratios=RATIOS,
    resolutions=("480p", "720p"),
    usual_resolution="480p",
    pixels_of=sized("480p", "720p"),
    frames_shape=True,  # another ratio stretches the picture
    first=True,
    references=7,
    prompt_chars=32_000,
    input_bytes=10 << 20,
    sound="choice",
    params=frozenset({"user"}),
    options=frozenset({"reference_audios", "storage_options"}),
    prices=(*per_second({"480p": 0.05, "720p": 0.07}), per_picture(0.002)),
    note="480p where no size is asked for. Clips to edit last at most 8.7 seconds, to extend 2 to 30.",
)
IMAGINE_1_5 = replace(
    IMAGINE,
    resolutions=("480p", "720p", "1080p"),
    pixels_of=sized("480p", "720p", "1080p"),
    last=True,
    options=IMAGINE.options | {"keyframes"},
    prices=(*per_second({"480p": 0.08, "720p": 0.14, "1080p": 0.25}), per_picture(0.01)),
    note="480p where no size is asked for, and at most 720p with references. Clips to edit last at most 8.7 seconds, "
    "to extend 2 to 30.",
)
VIDEOS: Mapping[str, VideoCaps] = {
    "grok-imagine-video-1.5": IMAGINE_1_5,
    "grok-imagine-video-1.5-2026-05-30": IMAGINE_1_5,
    "grok-imagine-video-1.5-preview": IMAGINE_1_5,
    "grok-imagine-video-1.5-lite": replace(  # the price list alone has it: what it is sure to do
        IMAGINE_1_5,
        tasks=frozenset({"create"}),
        extra_seconds=(),
        clip_seconds=(0, 0),
        last=False,
        references=0,
        options=frozenset({"storage_options"}),
        prices=per_second({"480p": 0.02, "720p": 0.03, "1080p": 0.14}),
        note="480p where no size is asked for.",
    ),
    "grok-imagine-video": IMAGINE,
}

LATER = re.compile(r"-(20\d\d-\d\d-\d\d|latest|preview)$")


def video_caps(model: str) -> VideoCaps | None:
    """A dated model can do what the one can whose name it bears."""
    return VIDEOS.get(model) or VIDEOS.get(LATER.sub("", model))


# ---- what is sent


def start(job: VideoJob) -> Step:
    own: dict[str, Any]
    if job.references and job.task != "create":
        text = f"The model {job.model} takes no references beside a video."
        raise Fault("invalid", text, code="invalid_value", param="reference_images")
    if job.task == "edit":  # length, shape and resolution are the clip's
        path, own = "/videos/edits", {"video": clip(job), "user": job.user}
    elif job.task == "extend":
        path, own = "/videos/extensions", {"video": clip(job), "duration": job.seconds}
    else:
        path, own = "/videos/generations", scene(job)
    fields = {"model": job.model, "prompt": job.prompt, **own}
    body = {name: value for name, value in fields.items() if value is not None}
    return Call(path=path, json={**body, **job.options})


def scene(job: VideoJob) -> dict[str, Any]:
    """The members of a new video."""
    if job.references and job.resolution == "1080p":
        raise Fault(
            "invalid",
            f"The model {job.model} makes at most 720p from references.",
            code="invalid_value",
            param="resolution",
        )
    return {
        "duration": job.seconds,
        "aspect_ratio": job.ratio,
        "resolution": job.resolution,
        "image": {"url": data_url(job.first)} if job.first else None,
        "last_frame": {"url": data_url(job.last)} if job.last else None,
        "reference_images": [{"url": data_url(each)} for each in job.references] or None,
        "generate_audio": job.audio,
        "user": job.user,
    }


def clip(job: VideoJob) -> dict[str, Any]:
    """The video to change: its bytes where they are at hand, for the vendor's own address ends after a day."""
    return {"url": data_url(job.clip) if job.clip else job.origin["url"]}


def cancel(job: VideoJob, waiting: Call) -> Call | None:
    """Nothing stops a task here."""
    return None


# ---- what comes back

POLL_SECONDS = 5.0


class Begun(msgspec.Struct, frozen=True):
    request_id: str


class Made(msgspec.Struct, frozen=True):
    url: str | None = None
    duration: float | None = None  # seconds
    respect_moderation: Any = None
    file_output: Any = None  # where `storage_options` put it
    storage_error: Any = None


class Task(msgspec.Struct, frozen=True):
    """A poll's answer. Old ones had no `status`: the video alone said that it was done."""

    status: str | None = None
    progress: float | None = None  # 0-100
    video: Made | None = None
    usage: Any = None
    storage_error: Any = None


def step(job: VideoJob, reply: Reply) -> Step:
    if reply.call.method == "POST":
        path = f"/videos/{quote(reply.read(Begun).request_id, safe='')}"
        return Wait(Call(method="GET", path=path, repeatable=True), POLL_SECONDS)
    task = Task() if reply.status == 202 and not reply.data.strip() else reply.read(Task)
    if task.status == "failed":  # one that says why has not come past `check`
        raise Fault("upstream", "The provider failed to make the video.", code="task_failed", final=True)
    if task.status == "expired":
        raise Fault("upstream", "The provider did not make the video in its time.", code="task_expired", final=True)
    if task.status == "done" or (task.status is None and task.video):
        cost = xai.charged(task.usage)
        return Done(outputs=(output(task, cost),), usage=Usage(cost_usd=cost))
    queued = task.status == "pending" and not task.progress  # one word for both, which the progress tells apart
    return Wait(reply.call, POLL_SECONDS, percent(task.progress), queued)


def percent(progress: float | None) -> int | None:
    return None if progress is None else round(min(max(progress, 0.0), 100.0))


def output(task: Task, cost: float | None) -> Output:
    """The made video. Raises `Fault` where it was withheld, or is not there."""
    made = task.video or Made()
    if made.respect_moderation is False:
        text = "The made video was withheld: it does not respect the provider's moderation."
        raise Fault("policy", text, code="moderation_blocked", cost_usd=cost, final=True)
    if not made.url:
        raise Fault("empty", "The provider finished the job without a video.", cost_usd=cost, final=True)
    told = {
        "seconds": made.duration,
        "file_output": made.file_output,
        "storage_error": made.storage_error or task.storage_error,
    }
    return Output(
        url=made.url, extra={"origin": {"url": made.url}} | {name: value for name, value in told.items() if value}
    )


# ---- what went wrong


def check(reply: Reply) -> None:
    """As for pictures; besides, why a task failed stands in a 200, and an unknown one is a plain 404."""
    try:
        xai.check(reply)
    except Fault as fault:
        if fault.kind == "upstream" and fault.code == "invalid_argument":
            fault.kind = "invalid"
        elif fault.kind == "missing" and reply.call.method == "GET":
            fault.code = "task_not_found"
        raise
