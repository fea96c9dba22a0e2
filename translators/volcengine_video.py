"""Seedance on Volcengine Ark and BytePlus ModelArk: videos of text, of frames, of references, or of another video.

    POST   /contents/generations/tasks {"model", "content": [text, frames …], "resolution", "ratio", …}  -> {"id"}
    GET    /contents/generations/tasks/{id}  -> {"status", "content": {"video_url", "last_frame_url"}, "usage"}
    DELETE /contents/generations/tasks/{id}  stops a task that nobody has begun

Source: volcenginesdkarkruntime 5.0.54 and https://www.volcengine.com/docs/82379/1520757, read 2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators import volcengine
from translators.base import (
    Call,
    Done,
    Fault,
    Inline,
    Media,
    Output,
    Price,
    Reply,
    Size,
    Step,
    Usage,
    Wait,
    by_status,
    data_url,
)
from translators.shapes import unread
from translators.video import Task, VideoCaps, VideoJob
from translators.volcengine import Problem

__all__ = ["VIDEOS", "cancel", "check", "start", "step", "video_caps"]

TASKS = "/contents/generations/tasks"
POLL = 10.0  # seconds; a video takes one to five minutes

# ---- what the models can do

RATIOS = ("16:9", "4:3", "1:1", "3:4", "9:16", "21:9")


def table(**tiers: str) -> dict[str, Size]:
    """What each tier's frames measure, one for each of `RATIOS`. `p720` is the tier 720p."""
    return {
        f"{ratio}@{tier[1:]}p": (int(width), int(height))
        for tier, sizes in tiers.items()
        for ratio, size in zip(RATIOS, sizes.split(), strict=True)
        for width, height in [size.split("x")]
    }


FRAMES_1_0 = table(
    p480="864x480 736x544 640x640 544x736 480x864 960x416",
    p720="1248x704 1120x832 960x960 832x1120 704x1248 1504x640",
    p1080="1920x1088 1664x1248 1440x1440 1248x1664 1088x1920 2176x928",
)
FRAMES = table(
    p480="864x496 752x560 640x640 560x752 496x864 992x432",
    p720="1280x720 1112x834 960x960 834x1112 720x1280 1470x630",
    p1080="1920x1080 1664x1248 1440x1440 1248x1664 1080x1920 2206x946",
)
FRAMES_2_0 = FRAMES | {"16:9@4k": (3840, 2160), "9:16@4k": (2160, 3840)}
FRAMES_2_5 = FRAMES | {"16:9@480p": (854, 480), "9:16@480p": (480, 854)}


MILLION = 1_000_000
FRAMES_PER_SECOND = 24.5  # at most: 24, and one more for all of a video, which has two seconds at least


def by_token(
    frames: Mapping[str, Size], yuan: Mapping[str, float], *, sound: bool | None = None, clip: bool | None = None
) -> tuple[Price, ...]:
    """The price of a million tokens, which an answer counts; and what a second costs by it, of the largest frames: a
    token for 1024 pixels. With `service_tier` "flex" it is half of that, which no rule can tell.
    """
    rules: list[Price] = []
    for tier, amount in yuan.items():
        rule = Price(
            unit="token.image.out", amount=amount, per=MILLION, currency="CNY", resolution=tier, sound=sound, clip=clip
        )
        area = max(width * height for name, (width, height) in frames.items() if name.endswith(f"@{tier}"))
        second = area / 1024 * FRAMES_PER_SECOND * amount / MILLION
        rules += (rule, replace(rule, unit="second", amount=round(second, 4), per=1))
    return tuple(rules)


def at_all(amount: float) -> dict[str, float]:
    """The same at each resolution."""
    return dict.fromkeys(("480p", "720p", "1080p"), amount)


EXPIRES = frozenset({"execution_expires_after"})
TIERS = EXPIRES | {"service_tier"}
PARAMS = frozenset({"seed", "watermark", "safety_identifier"})
EVERY: frozenset[Task] = frozenset({"create", "edit", "extend", "remix"})

SEEDANCE_1_0 = VideoCaps(
    seconds=tuple(range(2, 13)),
    usual_seconds=5,
    ratios=RATIOS,
    resolutions=("480p", "720p", "1080p"),
    usual_resolution="720p",  # it is always said
    pixels_of=FRAMES_1_0,
    first=True,
    last=True,
    prompt_chars=6_000,  # advised: 500 Chinese characters or 1000 English words
    input_types=tuple(f"image/{kind}" for kind in ("png", "jpeg", "webp", "bmp", "tiff", "gif")),
    input_bytes=30_000_000,
    input_edge=(300, 6000),
    params=PARAMS | {"camera"},
    options=TIERS,
    prices=by_token(FRAMES_1_0, at_all(15)),
    note="Silent. The only camera movement is `fixed`.",
)
LITE = replace(SEEDANCE_1_0, first=False, last=False, prices=by_token(FRAMES_1_0, at_all(10)))
SEEDANCE_1_5 = replace(
    SEEDANCE_1_0,
    seconds=tuple(range(4, 13)),
    pixels_of=FRAMES,
    sound="choice",
    prices=by_token(FRAMES, at_all(16), sound=True) + by_token(FRAMES, at_all(8), sound=False),
    note="Without sound it costs half. The only camera movement is `fixed`.",
)
SEEDANCE_2_0 = replace(
    SEEDANCE_1_5,
    tasks=EVERY,
    seconds=tuple(range(4, 16)),
    extra_seconds=tuple(range(4, 16)),
    clip_types=("video/mp4", "video/quicktime"),
    clip_inputs="url",
    clip_bytes=50_000_000,
    clip_seconds=(2, 15),
    resolutions=("480p", "720p", "1080p", "4k"),
    pixels_of=FRAMES_2_0,
    references=9,
    params=PARAMS,
    options=EXPIRES | {"tools"},
    prices=by_token(FRAMES_2_0, {**at_all(46), "1080p": 51, "4k": 26}, clip=False)
    + by_token(FRAMES_2_0, {**at_all(28), "1080p": 31}, clip=True),  # at 4k not found
    note="Pictures of real people are refused.",
)
SEEDANCE_2_5 = replace(
    SEEDANCE_2_0,
    seconds=tuple(range(4, 31)),
    extra_seconds=tuple(range(4, 31)),
    clip_seconds=(4, 30),
    resolutions=SEEDANCE_1_5.resolutions,
    pixels_of=FRAMES_2_5,
    frames_shape=True,
    references=30,
    prices=by_token(FRAMES_2_5, {**at_all(70), "1080p": 77}, clip=False),  # with a clip not found
)
FAST = ("480p", "720p")

CHINA: Mapping[str, VideoCaps] = {
    "doubao-seedance-2-5-260628": SEEDANCE_2_5,
    "doubao-seedance-2-0-260128": SEEDANCE_2_0,
    "doubao-seedance-2-0-fast-260128": replace(
        SEEDANCE_2_0,
        resolutions=FAST,
        pixels_of=FRAMES,
        prices=by_token(FRAMES, dict.fromkeys(FAST, 37), clip=False)
        + by_token(FRAMES, dict.fromkeys(FAST, 22), clip=True),
    ),
    "doubao-seedance-2-0-mini-260615": replace(
        SEEDANCE_2_0,
        resolutions=FAST,
        pixels_of=FRAMES,
        prices=by_token(FRAMES, dict.fromkeys(FAST, 23), clip=False),
    ),
    "doubao-seedance-1-5-pro-251215": SEEDANCE_1_5,
    "doubao-seedance-1-0-pro-250528": SEEDANCE_1_0,
    "doubao-seedance-1-0-pro-fast-251015": replace(SEEDANCE_1_0, last=False, prices=by_token(FRAMES_1_0, at_all(4.2))),
    "doubao-seedance-1-0-lite-t2v-250428": LITE,
    "doubao-seedance-1-0-lite-i2v-250428": replace(
        LITE, text=False, first=True, last=True, references=4, note="Silent. References do not go with 1080p."
    ),
}


def abroad(model: str) -> str:
    """What BytePlus calls that model."""
    bare = model.removeprefix("doubao-")
    return f"dreamina-{bare}" if bare.startswith("seedance-2") else bare


VIDEOS: Mapping[str, VideoCaps] = {**CHINA, **{abroad(name): replace(caps, prices=()) for name, caps in CHINA.items()}}
ENDPOINT = replace(
    SEEDANCE_2_0,
    seconds=tuple(range(4, 13)),
    extra_seconds=tuple(range(4, 13)),
    resolutions=SEEDANCE_1_0.resolutions,
    pixels_of=FRAMES,
    frames_shape=True,
    prices=(),
    note="Which model it leads to is not known: it has what all of them make, and what some of them take.",
)
DATE = re.compile(r"-\d{6}$")


def video_caps(model: str) -> VideoCaps | None:
    """An endpoint of one's own has a name of its own; a model of another date can do what its siblings can."""
    if model.startswith("ep-"):
        return ENDPOINT
    family = DATE.sub("", model)
    return VIDEOS.get(model) or next((caps for name, caps in VIDEOS.items() if DATE.sub("", name) == family), None)


# ---- what is sent


def start(job: VideoJob) -> Step:
    """The defaults of resolution differ from model to model, so that it is always said."""
    said: dict[str, Any] = {
        "model": job.model,
        "content": content(job),
        "resolution": resolution(job),
        "return_last_frame": True,  # costs nothing, and is the only picture of a video that there is
    }
    wishes = {
        "ratio": ratio(job),
        "duration": duration(job),
        "seed": job.seed,
        "watermark": job.watermark,
        "generate_audio": job.audio,
        "camera_fixed": fixed(job),
        "safety_identifier": job.safety_identifier,
        "omni_reference_task_type": TYPES.get(job.task) if newest(job) else None,
    }
    said |= {name: value for name, value in wishes.items() if value is not None} | dict(job.options)
    return Call(path=TASKS, json=said)


TYPES: Mapping[Task, str] = {"edit": "edit", "remix": "edit", "extend": "extend"}


def newest(job: VideoJob) -> bool:
    """Seedance 2.5, which is told what to do with a video, and takes no ratio beside one."""
    return "seedance-2-5" in job.model


FLAGS = re.compile(
    r"(\s+--(resolution|rs|ratio|rt|duration|dur|frames|framespersecond|fps|seed|camerafixed|cf|watermark|wm)\s+\S+)+\s*$"
)
"""What 1.x would obey at a prompt's end: another length than the one that is settled, and paid for."""


def content(job: VideoJob) -> list[dict[str, Any]]:
    """Words, then pictures and videos by their roles."""
    prompt = FLAGS.sub("", job.prompt)
    parts: list[dict[str, Any]] = [{"type": "text", "text": prompt}] if prompt else []
    roles = [("first_frame", job.first), ("last_frame", job.last)]
    roles += [("reference_image", picture) for picture in job.references]
    parts += [picture_in(picture, role) for role, picture in roles if picture]
    if job.task != "create":
        parts.append({"type": "video_url", "video_url": {"url": clip(job)}, "role": "reference_video"})
    return parts


def picture_in(picture: Media, role: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(picture)}, "role": role}


def clip(job: VideoJob) -> str | Inline:
    """The video to change: by its address where it has one, which is surely taken. An earlier result's lives a day."""
    if url := (job.clip and job.clip.url) or job.origin.get("url"):
        return url
    if job.clip:
        return data_url(job.clip)
    raise Fault("invalid", "There is no video to change.", code="missing_required_parameter", param="video")


def resolution(job: VideoJob) -> str:
    if job.references and job.resolution == "1080p" and "seedance-1-0-lite" in job.model:
        text = f"'{job.model}' makes no 1080p of references; 480p and 720p are possible."
        raise Fault("invalid", text, code="invalid_value", param="resolution")
    return job.resolution or "720p"


def ratio(job: VideoJob) -> str | None:
    return None if newest(job) and (job.first or job.task != "create") else job.ratio


def duration(job: VideoJob) -> int | None:
    """An edit is as long as its video: the model decides, as where nobody says by how much to extend."""
    if job.task in {"edit", "remix"}:
        return -1
    return job.seconds or (-1 if job.task == "extend" else None)


def fixed(job: VideoJob) -> bool | None:
    if job.camera is None:
        return None
    if job.camera == "fixed" and not job.references:
        return True
    text = f"Invalid value: '{job.camera}'. The only supported value is 'fixed', and none beside references."
    raise Fault("invalid", text, code="invalid_value", param="camera")


# ---- what comes back


class Content(msgspec.Struct, frozen=True):
    """What was made. Addresses live for a day."""

    video_url: str | None = None
    last_frame_url: Any = None


class Count(msgspec.Struct, frozen=True):
    """`usage`: what is billed."""

    completion_tokens: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """A task. What only describes a video must not cost it: it is `Any`."""

    id: str | None = None
    status: str | None = None
    content: Content | None = None
    usage: Any = None
    duration: Any = None


def step(job: VideoJob, reply: Reply) -> Step:
    task = reply.read(Answer)
    if reply.call.method == "POST":
        if not task.id:
            raise Fault("upstream", "The provider took the job without naming a task.", code="unreadable", final=True)
        return Wait(Call(method="GET", path=f"{TASKS}/{quote(task.id, safe='')}", repeatable=True), POLL)
    match task.status:
        case "succeeded":
            return finished(task)
        case "failed":
            raise Fault("upstream", "The provider failed to make the video.", code="task_failed", final=True)
        case "cancelled":
            raise Fault("upstream", "The task was cancelled at the provider.", code="task_canceled", final=True)
        case "expired":
            raise Fault("upstream", "The task was not done before it expired.", code="task_expired", final=True)
    return Wait(reply.call, POLL, queued=task.status == "queued")


def finished(task: Answer) -> Done:
    made = task.content or Content()
    if not made.video_url:
        raise Fault("empty", "The provider made no video.", code="no_video", final=True)
    told = {"seconds": task.duration, "last_frame": made.last_frame_url}
    extra = {name: value for name, value in told.items() if value}
    origin = {"id": task.id or "", "url": made.video_url}
    return Done(outputs=(Output(url=made.video_url, extra={"origin": origin, **extra}),), usage=counted(task.usage))


def counted(usage: object) -> Usage:
    try:
        return Usage(output_image=msgspec.convert(usage or {}, Count).completion_tokens)
    except msgspec.ValidationError:
        return Usage()


def cancel(job: VideoJob, waiting: Call) -> Call:
    """Stops the task while it is queued; one that runs is refused, and goes on."""
    return Call(method="DELETE", path=waiting.path, repeatable=True)


# ---- what went wrong

MODERATED = re.compile(r"(Input|Output)(Text|Image|Video|Audio)(SensitiveContentDetected|RiskDetection)")
FIELDS: Mapping[str, str] = {"duration": "seconds", "generate_audio": "audio", "camera_fixed": "camera"}
"""Fields of the wire by the names that the client gave them."""


class Failure(msgspec.Struct, frozen=True):
    """An answer that may be a failure, or tell of that of its task."""

    error: Problem | None = None


def check(reply: Reply) -> None:
    try:
        said = reply.read(Failure)
    except Fault:
        by_status(reply, unread(reply))
        raise
    if said.error:
        raise fault(said.error, reply)
    by_status(reply, unread(reply))


def fault(problem: Problem, reply: Reply) -> Fault:
    """As for pictures, with what only videos meet. In an answer without an error of its own, the task's."""
    found = volcengine.fault(problem, reply)
    code = problem.code or ""
    if MODERATED.match(code):
        message = problem.message or "The provider's safety system refused the request."
        found = Fault("policy", f"{message} ({code})", code="moderation_blocked")
    elif code == "QuotaExceeded" and "queue" in found.message.lower():  # too many tasks wait; else the money is gone
        found.kind = "rate"
    found.param = FIELDS.get(found.param or "", found.param)
    found.final = reply.status < 400
    return found
