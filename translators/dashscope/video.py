"""DashScope's videos: Wan from 2.1 on, HappyHorse, and Kling as it is hosted there.

    POST /services/aigc/video-generation/video-synthesis, of -kf2v- models …/image2video/video-synthesis
         {"model", "input", "parameters"} with `X-DashScope-Async`  -> {"output": {"task_id", "task_status"}}
    GET  /tasks/{id}         -> {"output": {"task_status", "video_url"}, "usage"}; both live for a day
    POST /tasks/{id}/cancel  while the task is pending

One path, three layouts, by the model: up to Wan 2.6 each picture has a field of its own and sizes are `1280*720`
("fields"); later ones list `media` with a resolution and a ratio ("media"); Kling has a mode in place of the
resolution ("modes"). Clips are never sent in a request: they go through the temporary storage, as large pictures do.
From the vendor's pages as of 2026-05, its SDK 2.0.2 (November 2026), and for Wan 3.0 copies of its page of 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators.base import Call, Done, Fault, Inline, Media, Output, Price, Reply, Size, Step, Usage, Wait, data_url
from translators.dashscope import uploads
from translators.dashscope.images import ASYNC, cancel, check_job
from translators.dashscope.models import SERVICES, SNAPSHOT
from translators.video import Task, VideoCaps, VideoJob

__all__ = ["VIDEOS", "cancel", "start", "step", "video_caps"]

LATER = 15.0
"""Seconds between polls, as the vendor advises: a video takes one to five minutes."""

# ---- how models are asked

PATH = f"{SERVICES}/video-generation/video-synthesis"
PATH_OF_FRAMES = f"{SERVICES}/image2video/video-synthesis"


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """How a family is asked, and what it calls a reference and a clip to edit."""

    layout: Literal["fields", "media", "modes"]
    reference: str = "reference_image"
    clip: str = "video"
    watermark: bool | None = None  # sent where nothing is asked for


FIELDS = Wire(layout="fields")
MEDIA = Wire(layout="media")
WIRES: Mapping[str, Wire] = {
    "": MEDIA,
    "wan2.1": FIELDS,
    "wan2.2": FIELDS,
    "wan2.5": FIELDS,
    "wan2.6": FIELDS,
    "wanx": FIELDS,
    "wan3": replace(MEDIA, clip="reference_video"),
    "happyhorse": replace(MEDIA, watermark=False),  # it marks what nobody says anything of
    "kling/": Wire(layout="modes", reference="refer", clip="base"),
}
"""By the longest beginning of the model's id that fits."""


def wire(model: str) -> Wire:
    return WIRES[max((family for family in WIRES if model.startswith(family)), key=len)]


# ---- sizes and prices

WAN_2: Mapping[str, Size] = {
    "16:9@480P": (832, 480), "9:16@480P": (480, 832), "1:1@480P": (624, 624),
    "16:9@720P": (1280, 720), "9:16@720P": (720, 1280), "1:1@720P": (960, 960), "4:3@720P": (1088, 832),
    "3:4@720P": (832, 1088),
    "16:9@1080P": (1920, 1080), "9:16@1080P": (1080, 1920), "1:1@1080P": (1440, 1440), "4:3@1080P": (1632, 1248),
    "3:4@1080P": (1248, 1632),
}  # fmt: skip
"""Up to 2.6, where they are sent."""
WAN_27: Mapping[str, Size] = {
    **WAN_2, "4:3@720P": (1104, 832), "3:4@720P": (832, 1104), "4:3@1080P": (1648, 1248), "3:4@1080P": (1248, 1648),
}  # fmt: skip
WIDE: Mapping[str, Size] = {name: size for name, size in WAN_2.items() if name.startswith(("16:9", "9:16"))}
HD, FULL = "720P", "1080P"
FIVE_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4")
NINE_RATIOS = (*FIVE_RATIOS, "4:5", "5:4", "9:21", "21:9")


def yuan(**amounts: float) -> dict[str, Any]:
    """Resolutions and their prices per second, as Beijing's list has them."""
    return priced("CNY", amounts)


def dollars(**amounts: float) -> dict[str, Any]:
    """The same where only a list in dollars is known."""
    return priced("USD", amounts)


def priced(currency: Literal["USD", "CNY"], amounts: Mapping[str, float]) -> dict[str, Any]:
    resolutions = tuple(name.removeprefix("p") + "P" for name in amounts)
    prices = tuple(
        Price(unit="second", amount=amount, currency=currency, resolution=resolution)
        for resolution, amount in zip(resolutions, amounts.values(), strict=True)
    )
    return {"resolutions": resolutions, "prices": prices}


# ---- models

TYPES = ("image/jpeg", "image/png", "image/bmp", "image/webp")
CLIPS = ("video/mp4", "video/quicktime")
SEEDED = frozenset({"seed", "watermark"})
TUNED = SEEDED | {"negative_prompt"}
EXTEND = frozenset({"prompt_extend"})
EFFECT = frozenset({"template"})  # an effect, beside which the prompt is not heeded
SHOTS = EXTEND | {"shot_type"}
EDITS: frozenset[Task] = frozenset({"edit"})
FROM_FRAME = {"text": False, "first": True, "frames_shape": True, "ratios": (), "pixels_of": {}}
SHAPED_2 = {"ratios": FIVE_RATIOS, "pixels_of": WAN_2}

OLD = VideoCaps(
    seconds=(5,),
    usual_seconds=5,
    clip_types=CLIPS,
    prompt_chars=800,
    input_types=TYPES,
    input_bytes=10_000_000,
    input_edge=(240, 8000),
    params=TUNED,
    options=EXTEND,
)
WAN_25 = replace(
    OLD,
    seconds=(5, 10),
    prompt_chars=1_500,
    input_bytes=20_000_000,
    sound="always",
    options=EXTEND | {"audio_url"},
    **yuan(p480=0.3, p720=0.6, p1080=1.0),
)
WAN_26 = replace(
    WAN_25,
    seconds=tuple(range(2, 16)),
    options=SHOTS | {"audio_url"},
    **yuan(p720=0.6, p1080=1.0),
)
FLASH_26 = {
    "sound": "choice",
    "prices": tuple(
        replace(price, amount=price.amount * share, sound=sound)
        for sound, share in ((True, 1), (False, 0.5))
        for price in yuan(p720=0.3, p1080=0.5)["prices"]
    ),
    "note": "Without sound it costs half as much.",
}
R2V_26 = replace(
    WAN_26,
    text=False,
    references=5,
    seconds=tuple(range(2, 11)),
    options=SHOTS,
    **SHAPED_2,
    note="The prompt names the references character1, character2 and so on.",
)
US_26 = {"seconds": (5, 10), "prices": (), "note": "In Virginia alone."}
KEYS_22 = {"last": True, **FROM_FRAME}

WAN_27_BASE = replace(
    WAN_25,
    seconds=tuple(range(2, 16)),
    prompt_chars=5_000,
    ratios=FIVE_RATIOS,
    pixels_of=WAN_27,
    options=EXTEND,
    **yuan(p720=0.6, p1080=1.0),
)
WAN_3 = replace(
    WAN_27_BASE,
    tasks=frozenset({"create", "edit"}),
    seconds=tuple(range(2, 31)),
    clip_seconds=(2, 15),
    frames_shape=True,
    first=True,
    last=True,
    references=10,
    sound="choice",
    options=EXTEND | {"enable_thinking"},
)
HORSE = VideoCaps(
    clip_types=CLIPS,
    seconds=tuple(range(3, 16)),
    usual_seconds=5,
    ratios=NINE_RATIOS,
    prompt_chars=5_000,
    input_types=TYPES,
    input_bytes=20_000_000,
    sound="always",
    params=SEEDED,
)
HORSE_10 = replace(HORSE, pixels_of=WIDE, **yuan(p720=0.9, p1080=1.6))
HORSE_11 = replace(HORSE, pixels_of=WIDE, **dollars(p480=0.062, p720=0.124, p1080=0.165))
HORSE_REFERENCES = {
    "text": False, "references": 9, "note": "The prompt names the references [Image 1], [Image 2] and so on.",
}  # fmt: skip
KLING = VideoCaps(
    seconds=tuple(range(3, 16)),
    usual_seconds=5,
    ratios=("16:9", "9:16", "1:1"),
    resolutions=(HD, FULL),
    pixels_of=WIDE,
    frames_shape=True,
    first=True,
    last=True,
    inputs="url",
    clip_inputs="url",
    clip_types=CLIPS,
    clip_bytes=200_000_000,
    sound="choice",
    params=frozenset({"watermark"}),
    options=frozenset({"multi_shot", "shot_type", "multi_prompt", "element_list"}),
    note="In Beijing alone, and only once it is activated in the console.",
)


def with_effects(caps: VideoCaps, **changes: Any) -> VideoCaps:
    """A model of frames, which has effects by the name of a template, too."""
    return replace(caps, options=caps.options | EFFECT, **changes)


LISTED: Mapping[str, VideoCaps] = {
    "wan3.0-video": replace(WAN_3, **dollars(p480=0.041, p720=0.083, p1080=0.165)),
    "wan3.0-video-prime": replace(WAN_3, **dollars(p480=0.064, p720=0.127, p1080=0.254)),
    "wan2.7-t2v": replace(WAN_27_BASE, options=EXTEND | {"audio_url"}),
    "wan2.7-i2v": replace(
        WAN_27_BASE,
        **FROM_FRAME,
        last=True,
        tasks=frozenset({"create", "extend"}),
        extra_seconds=tuple(range(1, 14)),
        clip_seconds=(2, 10),
        options=EXTEND | {"driving_audio"},
        note="Clip and extension together have at most 15 seconds.",
    ),
    "wan2.7-r2v": replace(
        WAN_27_BASE,
        text=False,
        first=True,
        mixes=True,
        frames_shape=True,
        references=5,
        note="The prompt names the references Image 1, Image 2 and so on.",
    ),
    "wan2.7-videoedit": replace(
        WAN_27_BASE,
        tasks=EDITS,
        text=False,
        seconds=tuple(range(2, 11)),
        usual_seconds=0,
        clip_seconds=(2, 10),
        references=4,
        options=EXTEND | {"audio_setting"},
    ),
    "happyhorse-1.1-t2v": HORSE_11,
    "happyhorse-1.1-i2v": replace(HORSE_11, **FROM_FRAME),
    "happyhorse-1.1-r2v": replace(HORSE_11, **HORSE_REFERENCES),
    "happyhorse-1.0-t2v": HORSE_10,
    "happyhorse-1.0-i2v": replace(HORSE_10, **FROM_FRAME),
    "happyhorse-1.0-r2v": replace(HORSE_10, **HORSE_REFERENCES),
    "happyhorse-1.0-video-edit": replace(
        HORSE_10,
        tasks=EDITS,
        text=False,
        usual_seconds=0,
        references=5,
        options=frozenset({"audio_setting"}),
    ),
    "wan2.6-t2v": replace(WAN_26, **SHAPED_2),
    "wan2.6-i2v": with_effects(WAN_26, **FROM_FRAME),
    "wan2.6-i2v-flash": with_effects(WAN_26, **FROM_FRAME, **FLASH_26),
    "wan2.6-r2v": R2V_26,
    "wan2.6-r2v-flash": replace(R2V_26, **FLASH_26 | {"note": f"{R2V_26.note} {FLASH_26['note']}"}),
    "wan2.6-t2v-us": replace(WAN_26, **SHAPED_2, **US_26),
    "wan2.6-i2v-us": replace(WAN_26, **FROM_FRAME, **US_26 | {"seconds": (5, 10, 15)}),
    "wan2.5-t2v-preview": replace(WAN_25, **SHAPED_2),
    "wan2.5-i2v-preview": with_effects(WAN_25, **FROM_FRAME),
    "wan2.2-t2v-plus": replace(OLD, **SHAPED_2, **yuan(p480=0.14, p1080=0.7)),
    "wan2.2-i2v-plus": with_effects(OLD, **FROM_FRAME, **yuan(p480=0.14, p1080=0.7)),
    "wan2.2-i2v-flash": with_effects(OLD, **FROM_FRAME, **yuan(p480=0.1, p720=0.2, p1080=0.48)),
    "wan2.2-kf2v-flash": with_effects(OLD, **KEYS_22, **yuan(p480=0.1, p720=0.2, p1080=0.48)),
    "wanx2.1-t2v-turbo": replace(OLD, **SHAPED_2, **yuan(p480=0.24, p720=0.24)),
    "wanx2.1-t2v-plus": replace(OLD, **SHAPED_2, **yuan(p720=0.7)),
    "wanx2.1-i2v-turbo": with_effects(OLD, **FROM_FRAME, seconds=(3, 4, 5), **yuan(p480=0.24, p720=0.24)),
    "wanx2.1-i2v-plus": with_effects(OLD, **FROM_FRAME, **yuan(p720=0.7)),
    "wanx2.1-kf2v-plus": with_effects(OLD, **KEYS_22, **yuan(p720=0.7)),
    "kling/kling-v3-video-generation": KLING,
    "kling/kling-v3-omni-video-generation": replace(
        KLING,
        tasks=frozenset({"create", "edit"}),
        clip_seconds=(3, 10),
        references=4,
        mixes=True,
        options=KLING.options | {"keep_original_sound"},
    ),
}


def fitting(caps: VideoCaps) -> VideoCaps:
    """`caps` with the pixels of its own resolutions alone, and the one that is said where none is asked for."""
    own = {name: size for name, size in caps.pixels_of.items() if name.partition("@")[2] in caps.resolutions}
    return replace(caps, pixels_of=own, usual_resolution=HD if HD in caps.resolutions else caps.resolutions[-1])


VIDEOS: Mapping[str, VideoCaps] = {model: fitting(caps) for model, caps in LISTED.items()}


def video_caps(model: str) -> VideoCaps | None:
    """A dated snapshot can do what the model does that it is one of."""
    return VIDEOS.get(model) or VIDEOS.get(SNAPSHOT.sub("", model))


# ---- what is sent


def start(job: VideoJob) -> Step:
    check_job(job)
    if not stored_first(job):
        return submit(job)
    if job.clip in stored_first(job) and (job.site.get("region") or uploads.REGION) != uploads.REGION:
        text = f"DashScope takes a clip through its storage, which is in {uploads.REGION} alone."
        raise Fault("invalid", text, code="unsupported_value", param="video")
    return uploads.ask(job)


def shown(job: VideoJob) -> list[tuple[str, Media | str]]:
    """What is to be seen, each with its role in the order of the request: media, or the address of an earlier video."""
    by = wire(job.model)
    clip = job.clip or job.origin.get("video")
    roles: list[tuple[str, Media | str | None]] = [
        ("first_clip" if job.task == "extend" else by.clip, clip if job.task != "create" else None),
        ("first_frame", job.first),
        ("last_frame", job.last),
        *((by.reference, picture) for picture in job.references),
    ]
    return [(role, media) for role, media in roles if media]


def stored_first(job: VideoJob) -> list[Media]:
    """What goes through the storage: clips, and pictures too large for a request."""
    media = [each for _, each in shown(job) if isinstance(each, Media) and not each.url]
    return [each for each in media if each is job.clip or uploads.large((each,))]


def submit(job: VideoJob, stored: Sequence[str] = ()) -> Call:
    """The request for the video; `stored` are the addresses of what was uploaded, in its order."""
    by = wire(job.model)
    addresses = iter(stored)
    media = [(role, addressed(job, each, addresses)) for role, each in shown(job)]
    options = dict(job.options)
    given: dict[str, Any] = {"prompt": job.prompt or None, "negative_prompt": job.negative_prompt}
    if by.layout == "fields":
        given |= fielded(job, media)
    else:
        given["media"] = listed(media, options) or None
    names = IN_INPUT | {"shot_type"} if by.layout == "modes" else IN_INPUT
    given |= {name: options.pop(name) for name in sorted(names & options.keys())}
    parameters = shaped(job, by) | {
        "duration": duration(job),
        "audio": job.audio,
        "watermark": by.watermark if job.watermark is None else job.watermark,
        "seed": job.seed,
    }
    return Call(
        path=PATH_OF_FRAMES if "-kf2v-" in job.model else PATH,
        headers=ASYNC | (uploads.RESOLVE if stored else {}),
        json={"model": job.model, "input": said(given), "parameters": said(parameters) | options},
    )


IN_INPUT = frozenset({"audio_url", "template", "multi_shot", "multi_prompt", "element_list"})
"""Those of `provider_options` that stand beside the prompt."""


def said(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def addressed(job: VideoJob, media: Media | str, stored: Iterator[str]) -> str | Inline:
    """How a request names it: by an address that it has or was given, or itself."""
    if isinstance(media, str) or media.url:
        return media if isinstance(media, str) else media.url or ""
    return next(stored) if media is job.clip or uploads.large((media,)) else data_url(media)


def fielded(job: VideoJob, media: Sequence[tuple[str, str | Inline]]) -> dict[str, Any]:
    """Pictures in fields of their own, up to Wan 2.6."""
    frames = {f"{role}_url": address for role, address in media if role.endswith("_frame")}
    if "-kf2v-" not in job.model and frames:
        frames = {"img_url": frames["first_frame_url"]}
    references = [address for role, address in media if role == FIELDS.reference]
    return frames | ({"reference_urls": references} if references else {})


def listed(media: Sequence[tuple[str, str | Inline]], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Pictures, clips and sounds in one list. Takes out of `options` what belongs there."""
    made: list[dict[str, Any]] = [{"type": role, "url": address} for role, address in media]
    if audio := options.pop("driving_audio", None):
        made.append({"type": "driving_audio", "url": audio})
    if keep := options.pop("keep_original_sound", None):
        made = [each | {"keep_original_sound": keep} if each["type"] == "base" else each for each in made]
    return made


MODES = {HD: "std", FULL: "pro"}


def shaped(job: VideoJob, by: Wire) -> dict[str, Any]:
    """How large it becomes, in the layout's words. A resolution is always sent: unsaid it is 1080P, the dearest."""
    caps = video_caps(job.model)
    resolution = job.resolution or (caps.usual_resolution if caps else HD)
    if by.layout == "modes":
        return {"mode": MODES[resolution], "aspect_ratio": job.ratio}
    if by.layout == "media" or job.first:
        return {"resolution": resolution, "ratio": job.ratio}
    size = WAN_2.get(f"{job.ratio or '16:9'}@{resolution}")
    if size is None:
        text = f"This model makes no {job.ratio} at {resolution}."
        raise Fault("invalid", text, code="unsupported_value", param="aspect_ratio")
    return {"size": "{}*{}".format(*size)}


LONGEST = 15
"""Seconds of a clip and its extension together."""


def duration(job: VideoJob) -> int | None:
    """How long all of it becomes. Of an extension that counts the clip, whose length an earlier result tells."""
    if job.task != "extend":
        caps = video_caps(job.model) if job.task == "create" else None
        return job.seconds or (caps.usual_seconds or None if caps else None)
    if not (clip := job.origin.get("seconds")):
        text = "This model extends videos that were made here; of another clip it has to know the length."
        raise Fault("invalid", text, code="unsupported_value", param="video")
    total = round(float(clip)) + (job.seconds or 5)
    if total > LONGEST:
        text = f"The video and its extension may have {LONGEST} seconds together, not {total}."
        raise Fault("invalid", text, code="invalid_value", param="seconds")
    return total


# ---- what comes back


class Ended(msgspec.Struct, frozen=True):
    """A task as it stands."""

    task_id: str | None = None
    task_status: str | None = None
    video_url: str | None = None
    actual_prompt: str | None = None  # rewritten


class Counted(msgspec.Struct, frozen=True):
    """Seconds. Older models tell `video_duration`; `duration` counts a clip that was sent, too, as it is billed."""

    output_video_duration: float | None = None
    video_duration: float | None = None
    duration: float | None = None


class Answer(msgspec.Struct, frozen=True):
    """Of a submit or a poll."""

    output: Ended | None = None
    usage: Counted | None = None


def step(job: VideoJob, reply: Reply) -> Step:
    call = reply.call
    if uploads.is_asking(call):
        return uploads.post(stored_first(job)[0], uploads.granted(reply))
    if call.anonymous:
        state = uploads.resumed(call)
        left = stored_first(job)[len(state.stored) :]
        return uploads.post(left[0], state) if left else submit(job, state.stored)
    answer = reply.read(Answer)
    output = answer.output or Ended()
    queued = output.task_status in QUEUED
    if call.method == "GET":
        done = output.task_status == "SUCCEEDED"
        return finished(job, output, answer.usage) if done else Wait(call, LATER, queued=queued)
    if not output.task_id:
        raise Fault("upstream", "The provider took the job without naming a task.", code="no_task")
    poll = Call(method="GET", path=f"/tasks/{quote(output.task_id, safe='')}", repeatable=True)
    return Wait(poll, LATER, queued=queued)


QUEUED = frozenset({"PENDING", "SUSPENDED"})
PLAIN = re.compile(r"^http://(?=[^/]+\.aliyuncs\.com/)")


def finished(job: VideoJob, output: Ended, usage: Counted | None) -> Done:
    """The video. Its address is what an edit or an extension of it starts from, within a day."""
    if not output.video_url:
        raise Fault("empty", "The provider's task ended without a video.", code="no_video")
    url = PLAIN.sub("https://", output.video_url)
    origin = {"video": url}
    extra: dict[str, Any] = {"origin": origin}
    counted = usage or Counted()
    if seconds := counted.output_video_duration or counted.video_duration or counted.duration:
        extra["seconds"] = seconds
        origin["seconds"] = f"{seconds:g}"
    revised = output.actual_prompt if output.actual_prompt != job.prompt else None
    billed = Usage(seconds=counted.duration or counted.video_duration)
    return Done(outputs=(Output(url=url, revised_prompt=revised or None, extra=extra),), usage=billed)
