"""Google's videos by the Interactions API: the Omni models, which also work on from an earlier interaction.

    POST /interactions              {"model", "input", "response_format", "background": true}  -> {"id", "status"}
    GET  /interactions/{id}         -> {"status", "steps": [{"content": [{"type": "video", "uri" or "data"}]}], "usage"}
    POST /interactions/{id}/cancel

A uri needs the credential, and may lead on to another address. From google-genai 3.3.0 and the vendor's notebooks of
2026-08, read in November 2026. Veo is no longer served here, only at Vertex AI.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote, urljoin

import msgspec
from msgspec.structs import replace

from translators.base import Call, Done, Fault, FaultKind, Media, Output, Price, Reply, Size, Step, Usage, Wait, base64
from translators.google import STATUSES, fault_in, worded
from translators.video import VideoCaps, VideoJob

__all__ = ["VIDEOS", "cancel", "check", "start", "step", "video_caps"]

LATER = 5.0
"""Seconds between polls, of the five to ten that are advised."""

PIXELS: Mapping[str, Size] = {
    "16:9@360p": (640, 360), "9:16@360p": (360, 640), "16:9@720p": (1280, 720), "9:16@720p": (720, 1280),
    "16:9@1080p": (1920, 1080), "9:16@1080p": (1080, 1920), "16:9@4k": (3840, 2160), "9:16@4k": (2160, 3840),
}  # fmt: skip
OMNI = VideoCaps(
    tasks=frozenset({"create", "edit", "extend", "remix"}),
    seconds=tuple(range(3, 11)),
    extra_seconds=tuple(range(3, 11)),
    ratios=("16:9", "9:16"),
    resolutions=("360p", "720p", "1080p", "4k"),
    pixels_of=PIXELS,
    first=True,
    references=3,
    prompt_chars=10_000,
    sound="always",
    params=frozenset({"seed"}),
    options=frozenset({"thinking_level", "safety_settings", "service_tier", "labels"}),
    usual_resolution="720p",
    clip_bytes=14_000_000,  # 20 MB of request in all, once it is base64
    prices=(
        Price(unit="token.text.in", amount=1.5, per=1_000_000),
        Price(unit="token.image.out", amount=17.5, per=1_000_000),
        Price(unit="second", amount=0.1014, resolution="720p"),  # about 5,792 tokens; of the others it is not told
    ),
    note="Billed by tokens: a second of 720p has about 5,792. The prompt names references <IMAGE_REF_0> and so on.",
)

VIDEOS: Mapping[str, VideoCaps] = {
    "gemini-omni-1.2-flash": replace(OMNI, seconds=tuple(range(3, 16))),
    "gemini-omni-1.1-flash": OMNI,
}


EDITION = re.compile(r"-(\d{3}|preview(-[\d-]+)?)$")


def video_caps(model: str) -> VideoCaps | None:
    """An edition of a model can do what the model can."""
    return VIDEOS.get(model) or VIDEOS.get(EDITION.sub("", model))


# ---- what is sent


def start(job: VideoJob) -> Call:
    return interaction(job, "/interactions", "uri")  # what is inline may only be small


def interaction(job: VideoJob, path: str, delivery: Literal["inline", "uri"]) -> Call:
    """The call that begins one in the background; `path` is where interactions are made."""
    options = dict(job.options)
    config: dict[str, Any] = {"video_config": {"task": task(job)}}
    if job.seed is not None:
        config["seed"] = job.seed
    if "thinking_level" in options:
        config["thinking_level"] = options.pop("thinking_level")
    wanted = {
        "type": "video",
        "aspect_ratio": job.ratio,
        "duration": f"{job.seconds}s" if job.seconds else None,
        "resolution": job.resolution,
        "delivery": delivery,
    }
    body: dict[str, Any] = {
        "model": job.model,
        "input": [{"type": "user_input", "content": content(job)}],
        "background": True,
        "store": True,
        "generation_config": config,
        "response_format": {name: value for name, value in wanted.items() if value is not None},
    }
    if earlier := job.origin.get("interaction"):
        body["previous_interaction_id"] = earlier
    return Call(path=path, json=body | options)


def task(job: VideoJob) -> str:
    """What is to be done, which would else be guessed from the input."""
    if job.task == "extend":
        return "extend"
    if job.task != "create":
        return "edit"
    if job.first:
        return "image_to_video"
    return "reference_to_video" if job.references else "text_to_video"


def content(job: VideoJob) -> list[dict[str, Any]]:
    """Clip and pictures, then the prompt. An earlier interaction holds its video itself."""
    clip = None if "interaction" in job.origin else job.clip
    pictures = [job.first] if job.first else list(job.references)
    media = [block("video", clip)] if clip else []
    media += [block("image", picture) for picture in pictures]
    return [*media, {"type": "text", "text": job.prompt}] if job.prompt else media


def block(kind: str, media: Media) -> dict[str, Any]:
    return {"type": kind, "data": base64(media), "mime_type": media.type}


# ---- what comes back


class Problem(msgspec.Struct, frozen=True):
    """Why it has failed."""

    code: int | str | None = None
    message: str | None = None


class Block(msgspec.Struct, frozen=True):
    """A piece of what was made."""

    type: str = ""
    uri: str | None = None
    data: str | None = None
    text: str | None = None


class Turn(msgspec.Struct, frozen=True):
    """One step of an interaction: a thought, or what was made."""

    type: str = ""
    content: tuple[Block, ...] | None = None
    error: Problem | None = None


class Counted(msgspec.Struct, frozen=True):
    """Tokens."""

    total_input_tokens: int | None = None
    total_output_tokens: int | None = None


class Interaction(msgspec.Struct, frozen=True):
    """One as it stands."""

    id: str = ""
    status: str = ""
    steps: tuple[Turn, ...] = ()
    errors: tuple[Problem, ...] = ()
    usage: Counted | None = None

    @property
    def blocks(self) -> list[Block]:
        """What the model gave out, without its thoughts."""
        return [block for turn in self.steps if turn.type != "thought" for block in turn.content or ()]


class Made(msgspec.Struct, frozen=True):
    """What is to be told of a video while it is fetched."""

    id: str
    usage: Counted


def step(job: VideoJob, reply: Reply) -> Step:
    call = reply.call
    if call.read == "bytes":
        return fetched(reply)
    found = reply.read(Interaction)
    if found.status in {"queued", "in_progress"}:
        queued = found.status == "queued"
        if call.method == "GET":
            return Wait(call, LATER, queued=queued)
        if not found.id:
            raise Fault("upstream", "Google took the job without naming an interaction.", code="no_task")
        path = f"{call.path}/{quote(found.id, safe='')}"
        return Wait(Call(method="GET", path=path, query={"stream": "false"}, repeatable=True), LATER, queued=queued)
    if found.status != "completed":
        raise failed(found)
    made = Made(found.id, found.usage or Counted())
    for block in found.blocks:
        if block.type == "video" and block.data:
            return done(made, Output(blob=reply.blob(block.data)))
        if block.type == "video" and block.uri:
            return fetching(block.uri, msgspec.json.encode(made).decode())
    raise withheld(found)


def fetching(uri: str, state: str) -> Call:
    """The call for the video itself."""
    media = "" if re.search(r"[?&]alt=media\b", uri) else "&alt=media" if "?" in uri else "?alt=media"
    return Call(method="GET", path=uri + media, read="bytes", repeatable=True, state=state)


def fetched(reply: Reply) -> Done:
    """The video, or the address to which its uri leads: one that is signed, and wants no credential."""
    made = msgspec.json.decode(reply.call.state, type=Made)
    if reply.body is not None:
        return done(made, Output(blob=reply.body))
    if location := reply.headers.get("location"):
        return done(made, Output(url=urljoin(reply.call.path, location)))
    raise Fault("upstream", "Google's file cannot be read.", code="unreadable")


def done(made: Made, output: Output) -> Done:
    usage = Usage(input_text=made.usage.total_input_tokens, output_image=made.usage.total_output_tokens)
    extra = {"origin": {"interaction": made.id}} if made.id else {}
    return Done(outputs=(replace(output, extra=extra),), usage=usage)


ENDS: Mapping[str, FaultKind] = {"budget_exceeded": "quota"}  # every other one: the provider failed
UNSAFE = re.compile(r"safety|usage guidelines|prohibited|support codes|polic(?:y|ies)\b", re.IGNORECASE)


def failed(found: Interaction) -> Fault:
    """Why there is no video, by the status, the errors and their words."""
    if found.status == "cancelled":
        return Fault("upstream", "The task was cancelled at the provider.", code="task_canceled", final=True)
    problems = [*found.errors, *(turn.error for turn in found.steps if turn.error)]
    problem = next(iter(problems), Problem())
    code = str(problem.code or "") or None
    message = problem.message or f"Google's interaction has ended: {found.status or 'no status'}."
    if UNSAFE.search(f"{code} {message}"):
        return Fault("policy", message, code="moderation_blocked", final=True)
    kind = ENDS.get(found.status) or STATUSES.get((code or "").upper(), "upstream")
    return Fault(kind, message, code=code or found.status or None, final=True)


def withheld(found: Interaction) -> Fault:
    """It was completed without a video: that is how the safety system refuses one."""
    words = " ".join(block.text for block in found.blocks if block.text)[:500]
    text = f"Google made no video, as a rule for its content. {words}".strip()
    return Fault("policy", text, code="moderation_blocked", final=True)


def check(reply: Reply) -> None:
    """Only the status tells here; how an interaction has ended is told by `step`."""
    if fault := refusal(reply, "Google may have retired it." if reply.call.method == "POST" else ""):
        raise fault


def refusal(reply: Reply, missed: str) -> Fault | None:
    """What an error's status and body mean; `missed` is added where nothing is at that address."""
    fault = fault_in(reply) if reply.status >= 400 else None
    return worded(fault, missed) if fault and fault.kind == "missing" else fault


def cancel(job: VideoJob, waiting: Call) -> Call | None:
    return Call(path=f"{waiting.path}/cancel", repeatable=True)
