"""Black Forest Labs' videos (FLUX 3): the same submit and poll as for pictures, at other paths.

    POST /v1/flux-3-video {"mode": "t2v", "i2v", "v2v" or "draft_enhance", "prompt", "aspect_ratio", "resolution",
                           "duration", "generate_audio", "keyframes" or "start_video"}
    POST /v1/flux-tools/video-edit-v1 {"video", "prompt"}, /v1/flux-tools/video-upscale-v1 {"input_video", "prompt", …}
        -> {"id", "polling_url", "cost"}
    GET polling_url -> {"status", "progress", "result": {"sample", "draft_cache"}, "cost"}

Pictures and clips are bare base64; a member that is not known is refused.

Source: https://docs.bfl.ai (FLUX 3 video, FLUX tools) and @ai-sdk/black-forest-labs 2.0.41, read 2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from translators import bfl
from translators.base import Call, Done, Fault, Output, Price, Reply, Size, Step, Usage, Wait, base64
from translators.video import VideoCaps, VideoJob

__all__ = ["VIDEOS", "cancel", "check", "start", "step", "video_caps"]

# ---- what the models can do

RATIOS = ("21:9", "2:1", "16:9", "4:3", "1:1", "3:4", "9:16")
SHORTER = {"hd": 720, "fhd": 1080}
"""The lesser edge of a resolution, in pixels."""


def pixels(ratio: str, shorter: int) -> Size:
    """Nominal: the vendor names the resolution alone."""
    across, along = map(int, ratio.split(":"))
    longer = round(shorter * max(across, along) / min(across, along) / 2) * 2
    return (longer, shorter) if across > along else (shorter, longer)


EDIT = VideoCaps(
    tasks=frozenset({"edit"}),
    clip_bytes=15_000_000,
    clip_seconds=(0, 15),
    frames_shape=True,  # length, shape and sound are the clip's
    text=False,
    prompt_chars=32_000,
    sound="always",
    options=frozenset({"safety_tolerance"}),
    note="Changes a clip as the prompt says; at most 720p.",
)
VIDEOS: Mapping[str, VideoCaps] = {
    "flux-3-video": VideoCaps(
        tasks=frozenset({"create", "extend"}),
        seconds=tuple(range(5, 21)),
        extra_seconds=tuple(range(5, 16)),
        ratios=RATIOS,
        resolutions=tuple(SHORTER),
        pixels_of={f"{ratio}@{name}": pixels(ratio, edge) for ratio in RATIOS for name, edge in SHORTER.items()},
        first=True,
        last=True,
        prompt_chars=32_000,
        input_bytes=15_000_000,  # 20 MB once it is base64
        clip_bytes=15_000_000,
        input_edge=(256, 0),
        sound="choice",
        options=frozenset({"safety_tolerance", "version", "draft", "draft_cache", "keyframes", "user"}),
        # As several resellers list it; none of the vendor's own was found. An extension costs more. What was charged
        # stands in the answer.
        prices=(
            Price(unit="second", amount=0.17, resolution="hd", clip=False),
            Price(unit="second", amount=0.29, resolution="fhd", clip=False),
        ),
        note="The option draft makes a cheap preview of the model's own size; draft_cache, which comes with it, makes "
        "that same video in full, and nothing else is heeded then.",
    ),
    "flux-tools/video-edit-v1": EDIT,
    "flux-tools/video-upscale-v1": replace(
        EDIT,
        clip_seconds=(0, 20),
        options=EDIT.options | {"creativity", "upscale_factor"},
        note="Enlarges a clip, twice where upscale_factor (1.5 to 3) is not given; the prompt says what is in it.",
    ),
}


def video_caps(model: str) -> VideoCaps | None:
    """A later version of a tool can do what the first can."""
    return VIDEOS.get(model) or VIDEOS.get(VERSION.sub("-v1", model))


VERSION = re.compile(r"-v\d+$")

# ---- what is sent

CLIPS = {"flux-tools/video-edit": "video", "flux-tools/video-upscale": "input_video"}
"""What the tools call the clip, by the beginning of the model's id."""


def start(job: VideoJob) -> Step:
    name = next((name for family, name in CLIPS.items() if job.model.startswith(family)), None)
    fields = {name: clip(job), "prompt": job.prompt} if name else scene(job)
    body = {name: value for name, value in fields.items() if value is not None and value != ""}
    return Call(path=f"/v1/{job.model}", json={**body, **job.options})


def scene(job: VideoJob) -> dict[str, Any]:
    """What FLUX 3 takes: a new video, one that goes on from a clip, or a draft made in full."""
    if "draft_cache" in job.options:
        return {"mode": "draft_enhance"}
    untimed = [each for each in listed(job.options.get("keyframes")) if isinstance(each, str)]
    if len(untimed) > 2 and not job.seconds:
        message = "Three keyframes or more without a time each need the length of the video."
        raise Fault("invalid", message, code="missing_required_parameter", param="seconds")
    frames = [base64(frame) for frame in (job.first, job.last) if frame]
    if frames and "keyframes" in job.options:
        message = "A first frame and the option keyframes exclude each other: the first of the keyframes is that frame."
        raise Fault("invalid", message, param="keyframes")
    moving = "i2v" if frames or "keyframes" in job.options else "t2v"
    return {
        "mode": "v2v" if job.clip else moving,
        "prompt": job.prompt,
        "aspect_ratio": job.ratio,
        "duration": job.seconds,
        "resolution": None if job.options.get("draft") else job.resolution,  # reported: a draft with one is refused
        "generate_audio": job.audio,
        "keyframes": frames or None,  # one stands at the beginning, a second at the end
        "start_video": clip(job),
    }


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def clip(job: VideoJob) -> Any:
    return base64(job.clip) if job.clip else None


def cancel(job: VideoJob, waiting: Call) -> Call | None:
    """Nothing stops a task here."""
    return None


# ---- what comes back

POLL_SECONDS = 2.0


class Made(bfl.Result):
    draft_cache: str | None = None  # an address


class Task(bfl.Task):
    result: Made | None = None


def step(job: VideoJob, reply: Reply) -> Step:
    if reply.call.method == "POST":
        first = bfl.step(job, reply)
        return Wait(first.call, POLL_SECONDS) if isinstance(first, Wait) else first
    task = reply.read(Task)
    status = task.status or task.state
    if status != "Ready":  # Reasoning, Generating, and what may come
        queued = status == "Pending" and not task.progress
        return Wait(reply.call, POLL_SECONDS, bfl.percent(task.progress), queued)
    if task.result is None or not task.result.sample:
        raise Fault("empty", "The provider finished the job without a video.", final=True)
    return Done(outputs=(output(job, task.result),), usage=Usage(cost_usd=bfl.cost(task, reply.call)))


def output(job: VideoJob, made: Made) -> Output:
    plain = bfl.output(job, made)
    return replace(plain, extra={**plain.extra, "draft_cache": made.draft_cache}) if made.draft_cache else plain


# ---- what went wrong

PARAMS = {
    "duration": "seconds", "aspect_ratio": "size", "resolution": "size", "keyframes": "input_reference",
    "start_video": "video", "input_video": "video",
}  # fmt: skip


def check(reply: Reply) -> None:
    """As for pictures; but a refused task has ended even where a 503 says it, and parameters are those of a video."""
    try:
        bfl.check(reply)
    except Fault as fault:
        fault.final = fault.final or fault.kind == "policy"
        fault.param = PARAMS.get(fault.param, fault.param) if fault.param else None
        raise
