"""Google Vertex AI's videos: Veo by a long-running prediction, Omni by the Interactions API.

    POST …/models/{model}:predictLongRunning     {"instances", "parameters"}  -> {"name"}
    POST …/models/{model}:fetchPredictOperation  {"operationName"}            -> {"done", "response" or "error"}

The operation brings the whole video in base64. It cannot be stopped. From google-genai 3.3.0 and the vendor's
notebooks of 2026-08, read in November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from translators import gemini_video
from translators.base import Call, Done, Fault, FaultKind, Output, Price, Reply, Size, Step, Usage, Wait
from translators.gemini import chosen
from translators.google import STATUSES
from translators.google import Problem as Refusal
from translators.vertex import GLOBAL_HOST, INPUT_BYTES, INPUT_TYPES, inline, model_path
from translators.video import VideoCaps, VideoJob

__all__ = ["VIDEOS", "cancel", "check", "start", "step", "video_caps"]

LATER = 10.0
"""Seconds between polls, of the ten to fifteen that are advised."""

PIXELS: Mapping[str, Size] = {
    name: size for name, size in gemini_video.PIXELS.items() if not name.endswith("@360p")
}  # fmt: skip


RESOLUTIONS = ("720p", "1080p", "4k")


def priced(*amounts: float) -> tuple[Price, ...]:
    """Dollars per second at each resolution, as far as it goes."""
    each = zip(RESOLUTIONS, amounts, strict=False)
    return tuple(Price(unit="second", amount=amount, resolution=resolution) for resolution, amount in each)


VEO = VideoCaps(
    seconds=(4, 6, 8),
    usual_seconds=8,
    ratios=("16:9", "9:16"),
    resolutions=RESOLUTIONS,
    usual_resolution="720p",
    pixels_of=PIXELS,
    first=True,
    last=True,
    references=3,
    prompt_chars=4_000,  # documented as 1,024 tokens
    input_types=INPUT_TYPES,
    input_bytes=INPUT_BYTES,
    sound="choice",
    params=frozenset({"seed", "negative_prompt"}),
    options=frozenset({"personGeneration", "enhancePrompt", "compressionQuality", "resizeMode", "fps", "labels"}),
    prices=priced(0.4, 0.4, 0.6),
    note="With references always 8 seconds. Needs a project, and a region: us-central1 is taken where the location "
    "is global.",
)
FAST = replace(VEO, prices=priced(0.1, 0.12, 0.3))
PREVIEW: dict[str, Any] = {
    "tasks": frozenset({"create", "extend"}), "extra_seconds": (7,), "clip_seconds": (1, 30), "clip_bytes": INPUT_BYTES,
    "note": f"Extends at 720p. {VEO.note}",
}  # fmt: skip
VIDEOS: Mapping[str, VideoCaps] = {
    "veo-3.1-generate-001": VEO,
    # Its end is in a price table alone, so it is not in `ends`.
    "veo-3.1-fast-generate-001": replace(FAST, note=f"May be switched off since 2026-11-17. {VEO.note}"),
    "veo-3.1-lite-generate-001": replace(
        VEO,
        resolutions=RESOLUTIONS[:2],
        pixels_of={name: size for name, size in PIXELS.items() if not name.endswith("@4k")},
        last=False,
        references=0,
        prices=priced(0.05, 0.08),
        note=(VEO.note or "").removeprefix("With references always 8 seconds. "),
    ),
    "veo-3.1-generate-preview": replace(VEO, **PREVIEW),
    "veo-3.1-fast-generate-preview": replace(FAST, **PREVIEW),
    **gemini_video.VIDEOS,
}


EDITION = re.compile(r"^(veo-.+)-\d{3}$")


def video_caps(model: str) -> VideoCaps | None:
    """Another edition of a model can do what the first can."""
    return VIDEOS.get(model) or VIDEOS.get(EDITION.sub(r"\1-001", model)) or gemini_video.video_caps(model)


# ---- what is sent


def start(job: VideoJob) -> Call:
    if job.model.startswith("veo"):
        return Call(path=f"{model_path(job)}:predictLongRunning", json=body(job))
    return gemini_video.interaction(job, interactions(job), "inline")  # a uri would be one in a bucket


def interactions(job: VideoJob) -> str:
    """Where Omni is asked: at `global` alone, and in a version that only the provider's own address needs to name."""
    project = job.site.get("project")
    if not project:
        raise Fault("invalid", f"{job.model} is served to a project only: configure `project`.", param="model")
    home = "" if "base_url" in job.site else f"https://{GLOBAL_HOST}/v1beta1"
    return f"{home}/projects/{project}/locations/global/interactions"


def body(job: VideoJob) -> dict[str, Any]:
    """Veo's. Sound is always said: left out it is silence, or an error, by the model's version."""
    instance: dict[str, Any] = {"prompt": job.prompt} if job.prompt else {}
    if job.first:
        instance["image"] = inline(job.first)
    if job.last:
        instance["lastFrame"] = inline(job.last)
    if job.references:
        instance["referenceImages"] = [{"image": inline(one), "referenceType": "asset"} for one in job.references]
    if job.clip:
        instance["video"] = inline(job.clip)
    asked = {
        "sampleCount": 1,
        "durationSeconds": duration(job),
        "aspectRatio": job.ratio,
        "resolution": resolution(job),
        "generateAudio": job.audio is not False,
        "negativePrompt": job.negative_prompt,
        "seed": job.seed,
    }
    parameters = {name: value for name, value in asked.items() if value is not None}
    parameters |= chosen(job, ("personGeneration", "enhancePrompt", "compressionQuality", "resizeMode", "fps"))
    return {"instances": [instance], "parameters": parameters} | chosen(job, ("labels",))


def resolution(job: VideoJob) -> str | None:
    if job.task != "extend":
        return job.resolution
    if job.resolution in {None, VEO.usual_resolution}:
        return VEO.usual_resolution
    text = f"This model extends videos at {VEO.usual_resolution} only."
    raise Fault("invalid", text, code="invalid_value", param="resolution")


EXTENDS, USUAL = 7, 8  # seconds


def duration(job: VideoJob) -> int:
    if job.task == "extend":
        return EXTENDS
    if job.references and job.seconds not in {None, USUAL}:
        text = f"With references this model makes videos of {USUAL} seconds only."
        raise Fault("invalid", text, code="invalid_value", param="seconds")
    return job.seconds or USUAL


# ---- what comes back


class Video(msgspec.Struct, frozen=True, rename="camel"):
    """One that was made."""

    bytes_base64_encoded: str = ""


class Response(msgspec.Struct, frozen=True, rename="camel"):
    """What an operation came to. What was filtered is missing from `videos`."""

    videos: tuple[Video, ...] = ()
    rai_media_filtered_count: int = 0
    rai_media_filtered_reasons: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True):
    """One as it stands; the answer to a submit is its name alone."""

    name: str = ""
    done: bool = False
    response: Response = Response()
    error: Refusal | None = None


POLLED = ":fetchPredictOperation"


def step(job: VideoJob, reply: Reply) -> Step:
    if not job.model.startswith("veo"):
        return gemini_video.step(job, reply)
    found = reply.read(Operation)
    if found.error:
        raise ended(found.error)
    if found.done:
        done = finished(found.response, reply)
        return replace(done, usage=Usage(seconds=EXTENDS)) if job.task == "extend" else done
    call = reply.call
    if call.path.endswith(POLLED):
        return Wait(call, LATER)
    if not found.name:
        raise Fault("upstream", "Google took the job without naming an operation.", code="no_task")
    path = call.path.removesuffix(":predictLongRunning") + POLLED
    return Wait(Call(path=path, json={"operationName": found.name}, repeatable=True), LATER)


def finished(response: Response, reply: Reply) -> Done:
    for video in response.videos:
        if video.bytes_base64_encoded:
            return Done(outputs=(Output(blob=reply.blob(video.bytes_base64_encoded)),))
    if response.rai_media_filtered_count or response.rai_media_filtered_reasons:
        reasons = " ".join(response.rai_media_filtered_reasons) or "No reason is given."
        raise Fault("policy", f"Google filtered this video: {reasons}", code="moderation_blocked", final=True)
    raise Fault("empty", "Google's operation ended without a video.", code="no_video", final=True)


CODES: Mapping[int, str] = {
    1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 11: "OUT_OF_RANGE", 13: "INTERNAL", 14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}  # fmt: skip
"""Of `google.rpc`, which an operation tells as numbers."""


def ended(problem: Refusal) -> Fault:
    """Why an operation has failed. One that ran out of room was no request too many of this client's."""
    code = problem.status or CODES.get(problem.code)
    message = problem.message or f"Google's operation failed with the code {problem.code}."
    kind: FaultKind = STATUSES.get(code or "", "upstream")
    if kind == "invalid" and gemini_video.UNSAFE.search(message):
        return Fault("policy", message, code="moderation_blocked", final=True)
    return Fault("overloaded" if kind == "rate" else kind, message, code=code, final=True)


def check(reply: Reply) -> None:
    """Only the status tells here; how an operation or an interaction has ended is told by `step`."""
    call = reply.call
    location = call.path.partition("/locations/")[2].partition("/")[0]
    polled = call.method == "GET" or call.path.endswith(POLLED)
    text = f"Google may have retired it. It was asked for at the location {location}; not every model is at every one."
    if fault := gemini_video.refusal(reply, "" if polled else text):
        raise fault


def cancel(job: VideoJob, waiting: Call) -> Call | None:
    """No way to stop Veo is documented."""
    return None if job.model.startswith("veo") else gemini_video.cancel(job, waiting)
