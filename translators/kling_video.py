"""Kling's videos: submit, poll, in two standards side by side; the model's id says which is spoken.

    new     POST /{text-to-video, image-to-video, omni-video}/{model}   {"prompt" or "contents", "settings", "options"}
            GET  /tasks?task_ids={id}  -> {"data": [{"status", "outputs": [{"url", "duration"}], "billing"}]}
    legacy  POST /v1/videos/{text2video, image2video, multi-image2video, omni-video, video-extend}  {"model_name", …}
            GET  the same path, /{task_id}  -> {"data": {"task_status", "task_result": {"videos": [{"url"}]}}}

Ids that begin with `kling-v` are the legacy standard's, and the only ones for an access key with its secret. Pictures
are bare base64 or an address, videos an address. A `code` other than 0 is a failure, whatever the status says of it.
As documented at kling.ai/document-api, 2026-09; the legacy standard as its clients spoke it in 2026-08.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators import kling
from translators.base import (
    Call,
    Done,
    Fault,
    Inline,
    Media,
    Output,
    Price,
    Reply,
    Step,
    Usage,
    Wait,
    base64,
    by_status,
)
from translators.shapes import unread
from translators.video import VideoCaps, VideoJob

__all__ = ["VIDEOS", "cancel", "check", "found", "look", "start", "step"]

POLL = 5.0  # seconds; a video takes one to five minutes

# ---- what the models can do

LEGACY = "kling-v"
MODES = {"720p": "std", "1080p": "pro", "4k": "4k"}  # as the legacy standard calls them
CAMERAS = ("down_back", "forward_up", "right_turn_forward", "left_turn_forward")
UNIT = 0.14  # US dollars of one unit of a resource package; the list gives units for a second
MARKED = frozenset({"watermark"})
OLD = MARKED | {"negative_prompt"}
NAMED = kling.NAMED
TOLD = (Price(unit="credit", amount=UNIT),)


def per_second(*units: float, sound: bool | None = None, clip: bool | None = None) -> tuple[Price, ...]:
    """Units for a second at each resolution, as far as they go."""
    return tuple(
        Price(unit="second", amount=round(amount * UNIT, 4), resolution=resolution, sound=sound, clip=clip)
        for resolution, amount in zip(MODES, units, strict=False)
    )


SILENT = VideoCaps(
    seconds=(5, 10),
    usual_seconds=5,
    ratios=("16:9", "9:16", "1:1"),
    resolutions=("720p", "1080p"),
    usual_resolution="720p",
    pixels_of={
        "16:9@720p": (1280, 720), "9:16@720p": (720, 1280), "1:1@720p": (960, 960),
        "16:9@1080p": (1920, 1080), "9:16@1080p": (1080, 1920), "1:1@1080p": (1440, 1440),
        "16:9@4k": (3840, 2160), "9:16@4k": (2160, 3840),
    },
    frames_shape=True,
    first=True,
    last=True,
    input_types=("image/png", "image/jpeg"),
    input_bytes=10_000_000,
    input_edge=(300, 0),
    params=MARKED,
    options=NAMED,
    prices=TOLD,
    note="With a last frame only at 1080p.",
)  # fmt: skip
TURBO = replace(
    SILENT,
    seconds=tuple(range(3, 16)),
    last=False,
    prompt_chars=3072,
    sound="always",
    prices=TOLD + per_second(0.8, 1.0),
    note="Several shots by the prompt: shot 1, 3, words; shot 2, 2, words;",
)
V3 = replace(
    TURBO,
    resolutions=("720p", "1080p", "4k"),
    last=True,
    sound="choice",
    options=NAMED | {"multi_shot", "element_list"},
    prices=TOLD + per_second(0.6, 0.8, 3.0, sound=False) + per_second(0.9, 1.2, 3.0, sound=True),
)
OMNI = replace(
    V3,
    tasks=frozenset({"create", "edit"}),
    clip_inputs="url",
    clip_types=("video/mp4", "video/quicktime"),
    clip_bytes=200_000_000,
    clip_seconds=(3, 15.5),
    references=7,
    mixes=True,
    prices=TOLD
    + per_second(0.6, 0.8, 3.0, sound=False, clip=False)
    + per_second(0.8, 1.0, 3.0, sound=True, clip=False)
    + per_second(0.9, 1.2, 3.0, clip=True),
    note="The prompt may name the references @image_1, @image_2 … Edits a video by instruction, with four of them.",
)
O1 = replace(
    OMNI,
    seconds=tuple(range(3, 11)),
    resolutions=("720p", "1080p"),
    clip_seconds=(3, 10),
    prompt_chars=2500,
    sound="none",
    options=NAMED | {"element_list"},
    prices=TOLD,
    note=f"{OMNI.note} With a first frame alone 5 or 10 seconds.",
)
V26 = replace(
    SILENT, sound="choice", options=NAMED | {"voice_list"}, note="With sound or with a last frame only at 1080p."
)
SHOTS = frozenset({"multi_shot", "shot_type", "multi_prompt"})
NAMES = "The prompt may name the references <<<image_1>>>, <<<image_2>>> …"
V21_MASTER = replace(SILENT, last=False, params=OLD, note=None)
V16 = replace(
    SILENT,
    tasks=frozenset({"create", "extend"}),
    extra_seconds=(5,),
    clip_inputs="none",
    references=4,
    params=OLD,
    options=NAMED | {"cfg_scale"},
    note="References are subjects to combine. With a last frame only at 1080p.",
)

VIDEOS: Mapping[str, VideoCaps] = {
    "kling-3.0-turbo": TURBO,
    "kling-3.0": V3,
    "kling-3.0-omni": OMNI,
    "kling-o1": O1,
    "kling-2.6": V26,
    "kling-2.5-turbo": SILENT,
    "kling-v3": replace(V3, prompt_chars=2500, params=OLD, options=NAMED | SHOTS | {"element_list"}, note=None),
    "kling-v3-omni": replace(
        OMNI, clip_seconds=(3, 10), prompt_chars=2500, options=NAMED | SHOTS | {"element_list"}, note=NAMES
    ),
    "kling-video-o1": replace(O1, note=f"{NAMES} With a first frame alone 5 or 10 seconds."),
    "kling-v2-6": replace(V26, params=OLD),
    "kling-v2-5-turbo": replace(SILENT, params=OLD),
    "kling-v2-1": replace(SILENT, text=False, params=OLD),
    "kling-v2-1-master": V21_MASTER,
    "kling-v2-master": V21_MASTER,
    "kling-v1-6": V16,
    "kling-v1-5": replace(
        V16, text=False, references=0, options=V16.options | {"static_mask", "dynamic_masks"}, note=SILENT.note
    ),
    "kling-v1": replace(
        V16,
        references=0,
        params=OLD | {"camera"},
        options=V16.options | {"camera_control", "static_mask", "dynamic_masks"},
        note=f"Movements of the camera: {', '.join(CAMERAS)}.",
    ),
}
ONLY_1080P = frozenset({"kling-2.6", "kling-2.5-turbo", "kling-v2-6", "kling-v2-5-turbo", "kling-v2-1", "kling-v1-6",
                        "kling-v1-5"})  # fmt: skip
"""Those that take a last frame, and make sound, at 1080p alone."""

# ---- what is sent


def start(job: VideoJob) -> Step:
    """What is not asked for is left to the vendor, but the sound of a clip: an edit keeps it."""
    allowed(job)
    return legacy(job) if job.model.startswith(LEGACY) else modern(job)


def allowed(job: VideoJob) -> None:
    """Raise `Fault("invalid")` for what no table of a model's abilities tells."""
    alone = job.first and not (job.last or job.references)
    if job.model.endswith("o1") and job.task == "create" and alone and job.seconds not in {None, 5, 10}:
        raise refused(f"'{job.model}' makes 5 or 10 seconds of a first frame alone.", "seconds")
    if job.model.endswith("o1") and job.last and job.references:
        raise refused(f"'{job.model}' takes no references beside a last frame.", "references")
    if job.task == "edit" and len(job.references) > 4:
        raise refused("An edit takes at most four references.", "references")
    if job.camera and job.camera not in CAMERAS:
        raise refused(f"'camera' must be one of {', '.join(CAMERAS)}.", "camera")


def refused(text: str, param: str) -> Fault:
    return Fault("invalid", text, code="invalid_value", param=param)


def modern(job: VideoJob) -> Call:
    """The call of the new standard, which has the model in its path."""
    omni = is_omni(job.model)
    operation = "omni-video" if omni else "image-to-video" if job.first else "text-to-video"
    edits = job.task == "edit"
    settings = {
        # An edit has one shot, and the vendor's default is several; O1 has no such member.
        "multi_shot": False if edits and job.model != "kling-o1" else job.options.get("multi_shot"),
        "audio": audio(job),
        "resolution": resolution(job),
        "aspect_ratio": ratio(job),
        "duration": None if edits else job.seconds,
    }
    options = {kling.NAME: job.options.get(kling.NAME, job.mark), "watermark_info": watermark(job)}
    contents = list(entries(job))
    said: dict[str, Any] = {
        "contents": contents if operation != "text-to-video" else None,
        "prompt": spoken(job, contents) if operation == "text-to-video" else None,
        "settings": given(settings) or None,
        "options": given(options) or None,
    }
    return Call(path=f"/{operation}/{quote(job.model, safe='')}", json=given(said))


def is_omni(model: str) -> bool:
    return model.endswith(("-omni", "o1"))


def given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def spoken(job: VideoJob, contents: list[dict[str, Any]]) -> str:
    """The prompt, where nothing can stand beside it. Raises `Fault("invalid")` for what needs a frame."""
    if beside := next((entry["type"] for entry in contents if entry["type"] != "prompt"), None):
        raise refused(f"'{job.model}' takes an '{beside}' only beside a first frame.", "provider_options")
    return job.prompt


def audio(job: VideoJob) -> str | None:
    if job.task == "edit":
        return "off" if job.audio is False else "original"
    return None if job.audio is None else "native" if job.audio else "off"


def resolution(job: VideoJob) -> str | None:
    if job.model not in ONLY_1080P or not (job.last or job.audio):
        return job.resolution
    if job.resolution == "720p":
        param = "audio" if job.audio else "last_frame"
        raise refused(f"'{job.model}' takes '{param}' only at a resolution of 1080p.", "resolution")
    return "1080p"


def ratio(job: VideoJob) -> str | None:
    """A frame and a clip decide it themselves; the omni endpoint wants to be told otherwise."""
    if job.first or job.task != "create":
        return None
    return job.ratio or ("16:9" if is_omni(job.model) else None)


def watermark(job: VideoJob) -> dict[str, bool] | None:
    return {"enabled": True} if job.watermark else None


def entries(job: VideoJob) -> Iterator[dict[str, Any]]:
    """The new standard's `contents`. Elements and voices are named as in the legacy standard, with an `id` beside."""
    if prompt := named(job, "@image_{}"):
        yield {"type": "prompt", "text": prompt}
    if job.first:
        yield {"type": "first_frame", "url": sent(job.first)}
    if job.last:
        yield {"type": "last_frame", "url": sent(job.last)}
    for number, picture in enumerate(job.references, 1):
        yield {"type": "refer_image", "url": sent(picture), "id": f"image_{number}"}
    if job.task == "edit":
        yield {"type": "base_video", "url": clip(job)}
    for kind in ("element", "voice"):
        for each in listed(job, f"{kind}_list"):
            yield {**each, "type": kind}


def named(job: VideoJob, mark: str) -> str:
    """The prompt; several references are named in it, so that all of them are used."""
    if len(job.references) < 2 or mark.partition("{}")[0] in job.prompt:
        return job.prompt
    names = "".join(f"{mark.format(number)} " for number in range(1, len(job.references) + 1))
    return names + job.prompt if len(names) + len(job.prompt) <= VIDEOS["kling-o1"].prompt_chars else job.prompt


def sent(picture: Media) -> Inline | str:
    return picture.url or base64(picture)


def clip(job: VideoJob) -> str:
    """The address of the video to edit: the provider takes no other form."""
    url = job.clip.url if job.clip else job.origin.get("url")
    if not url:
        raise refused("The provider fetches the video itself: it needs a public address.", "video")
    return url


def listed(job: VideoJob, name: str) -> Iterable[Mapping[str, Any]]:
    found = job.options.get(name, ())
    if not isinstance(found, list | tuple) or not all(isinstance(each, Mapping) for each in found):
        text = f"'provider_options.{name}' must be an array of objects."
        raise Fault("invalid", text, code="invalid_type", param=f"provider_options.{name}")
    return found


def legacy(job: VideoJob) -> Call:
    """The call of the legacy standard. An extension takes the model of what it extends."""
    operation = endpoint(job)
    extends = job.task == "extend"
    plain = job.task == "create"
    said: dict[str, Any] = {
        "model_name": None if extends else job.model,  # without it, `kling-v1` would be charged
        "video_id": source(job) if extends else None,
        "prompt": (named(job, "<<<image_{}>>>") if is_omni(job.model) else job.prompt) or None,
        "negative_prompt": job.negative_prompt,
        **media(job, operation),
        "mode": None if extends else MODES.get(resolution(job) or ""),
        "aspect_ratio": ratio(job),
        "duration": str(job.seconds) if plain and job.seconds else None,
        "sound": None if job.audio is None or not plain else "on" if job.audio else "off",
        "camera_control": {"type": job.camera} if job.camera and plain else None,
        "watermark_info": watermark(job),
        kling.NAME: job.mark,
    }
    return Call(path=f"/v1/videos/{operation}", json=given(said) | dict(job.options))


def endpoint(job: VideoJob) -> str:
    if job.task == "extend":
        return "video-extend"
    if is_omni(job.model):
        return "omni-video"
    if job.references:
        return "multi-image2video"
    return "image2video" if job.first else "text2video"


def source(job: VideoJob) -> str:
    """The provider's number of the video to extend."""
    if not (name := job.origin.get("video")):
        raise refused("The provider extends only videos that it has made.", "video")
    return name


def media(job: VideoJob, operation: str) -> dict[str, Any]:
    """The legacy members that hold pictures and videos."""
    frames = {"first_frame": job.first, "end_frame": job.last}
    if operation == "image2video":
        return {
            name: sent(frame) for name, frame in zip(("image", "image_tail"), frames.values(), strict=True) if frame
        }
    if operation == "multi-image2video":
        return {"image_list": [{"image": sent(picture)} for picture in job.references]}
    if operation != "omni-video":
        return {}
    pictures: list[dict[str, Any]] = [
        {"image_url": sent(frame), "type": name} for name, frame in frames.items() if frame
    ]
    pictures += [{"image_url": sent(picture)} for picture in job.references]
    found: dict[str, Any] = {"image_list": pictures} if pictures else {}
    if job.task == "edit":
        keeps = "no" if job.audio is False else "yes"
        found["video_list"] = [{"video_url": clip(job), "refer_type": "base", "keep_original_sound": keeps}]
    return found


def look(job: VideoJob) -> Call | None:
    """Where a task of ours is asked for by our name; one of the client's own may be that of another task. A job that is
    known without its words and pictures may not tell where it went.
    """
    if not job.mark or kling.NAME in job.options:
        return None
    if job.model.startswith(LEGACY):
        if endpoint(job) == "text2video" and not job.prompt:
            return None
        path = f"/v1/videos/{endpoint(job)}/{quote(job.mark, safe='')}"
        return Call(method="GET", path=path, repeatable=True, state=kling.LOOKS)
    return Call(method="GET", path="/tasks", query={"external_task_ids": job.mark}, repeatable=True, state=kling.LOOKS)


def cancel(job: VideoJob, waiting: Call) -> Call | None:
    """No task can be stopped."""
    return None


# ---- what comes back


class Made(kling.Made, frozen=True):
    id: Any = None
    duration: Any = None  # seconds, as text


class Result(msgspec.Struct, frozen=True):
    videos: tuple[Made, ...] | None = None


class Charge(msgspec.Struct, frozen=True):
    """What was taken: units of a package, or money of the account."""

    charge_type: str = ""
    amount: Any = None
    currency: str | None = None


class Task(msgspec.Struct, frozen=True):
    """A task in the words of either standard. What was charged is read leniently: the video is paid for."""

    id: str = ""
    status: str = ""
    message: str | None = None
    outputs: tuple[Made, ...] | None = None
    billing: Any = None
    task_id: str = ""
    task_status: str = ""
    task_status_msg: str | None = None
    task_result: Result | None = None
    final_unit_deduction: Any = None

    @property
    def word(self) -> str:
        return self.status or self.task_status


class Answer(msgspec.Struct, frozen=True):
    """`data` is an object, in the new standard's polls an array of those tasks that were found."""

    code: int = 0
    message: str | None = None
    data: Task | tuple[Task, ...] | None = None

    @property
    def task(self) -> Task:
        return (self.data[0] if self.data else Task()) if isinstance(self.data, tuple) else self.data or Task()


def step(job: VideoJob, reply: Reply) -> Step:
    task = reply.read(Answer).task
    queued = task.word == kling.QUEUED
    if reply.call.method == "POST":
        return Wait(poll(reply.call.path, task.id or task.task_id), POLL, queued=queued)
    if task.word not in {"succeeded", "succeed"}:
        return Wait(reply.call, POLL, queued=queued)
    made = next(iter(task.outputs or (task.task_result and task.task_result.videos) or ()), Made())
    url = kling.url_of(made, job)
    if not url:
        raise Fault("empty", "The provider finished the task without a video.", code="no_video", final=True)
    origin = {"task": task.id or task.task_id, "video": str(made.id or ""), "url": url}
    extra: dict[str, Any] = {"origin": {name: value for name, value in origin.items() if value}}
    if seconds := number(made.duration):
        extra["seconds"] = seconds
    return Done(outputs=(Output(url=url, extra=extra),), usage=usage(task))


def found(job: VideoJob, reply: Reply) -> Step | None:
    """What became of the task that was looked for."""
    task = reply.read(Answer).task
    name = task.id or task.task_id
    return step(job, replace(reply, call=poll(reply.call.path.rpartition("/")[0], name))) if name else None


def poll(path: str, task: str) -> Call:
    if not task:
        raise Fault("upstream", "The provider took the job without naming a task.", code="unreadable", final=True)
    if path.startswith("/v1/"):
        return Call(method="GET", path=f"{path}/{quote(task, safe='')}", repeatable=True)
    return Call(method="GET", path="/tasks", query={"task_ids": task}, repeatable=True)


def number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def usage(task: Task) -> Usage:
    """Units are told in two ways; what was taken from a balance in yuan is no count of anything here."""
    try:
        charges = msgspec.convert(task.billing or (), tuple[Charge, ...])
    except msgspec.ValidationError:
        charges = ()
    units = [number(charge.amount) for charge in charges if charge.charge_type == "unit"]
    dollars = [number(charge.amount) for charge in charges if (charge.charge_type, charge.currency) == ("cash", "USD")]
    return Usage(
        credits=summed(units) if units else number(task.final_unit_deduction),
        cost_usd=summed(dollars) if dollars and len(dollars) == len(charges) else None,
    )


def summed(amounts: Iterable[float | None]) -> float:
    return round(sum(filter(None, amounts)), 6)


# ---- what went wrong


def check(reply: Reply) -> None:
    try:
        answer = reply.read(Answer)
    except Fault:
        by_status(reply, unread(reply))
        return
    polled = reply.call.method == "GET"
    if answer.code or reply.status >= 400:
        if kling.unknown(reply, answer.code):
            return
        fault = kling.fault(kling.Answer(code=answer.code, message=answer.message), reply)
        if polled and answer.code == 1201:  # a legacy poll has nothing else that could be wrong
            raise Fault("missing", fault.message, code="task_not_found")
        raise fault
    if polled and not answer.data and reply.call.state != kling.LOOKS:
        raise Fault("missing", "The provider does not know this task.", code="task_not_found")
    if answer.task.word == "failed":
        reason = answer.task.message or answer.task.task_status_msg or "no reason given"
        text = f"The provider failed to make the video: {reason}"
        if kling.RISK.search(reason):
            raise Fault("policy", text, code="moderation_blocked", final=True)
        raise Fault("upstream", text, code="task_failed", final=True)
