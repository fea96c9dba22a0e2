"""OpenAI's videos, as every server that copies them speaks: a form, a job to poll, a file behind the credential.

    POST /videos                  {prompt, model, seconds, size, input_reference}  -> {"id", "status", "progress"}
    POST /videos/{id}/remix, /videos/edits, /videos/extensions  -> the same
    GET  /videos/{id}             -> the same, at last with {"error"}, or with the file's address at some servers
    GET  /videos/{id}/content     -> the file, or where it is

OpenAI itself shut this API down on 2026-09-24 without a successor: `VIDEOS` is empty, and a model needs the `base_url`
of a server that still has it. It is taken for what `declared` tells. The wire is that of OpenAI's SDKs of 2026-11 and,
by the setting `dialect`, vLLM-Omni's and SGLang's, as documented on 2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, urljoin

import msgspec
from msgspec import json
from msgspec.structs import replace

from translators import shapes
from translators.base import Call, Done, Fault, Media, Output, Part, Reply, Step, Wait
from translators.openai import CODES, TEXTS, base, fields
from translators.video import VideoCaps, VideoJob

__all__ = ["VIDEOS", "cancel", "check", "declared", "start", "step"]

POLL = 10.0  # seconds, where the server names none
LONGEST_POLL = 60.0

# ---- what a server can do

VIDEOS: Mapping[str, VideoCaps] = {}

SORA = VideoCaps(
    tasks=frozenset({"create", "edit", "extend", "remix"}),
    seconds=(4, 8, 12),
    usual_seconds=4,
    extra_seconds=(4, 8, 12, 16, 20),
    sizes=((720, 1280), (1280, 720)),
    first=True,
    prompt_chars=32_000,
    sound="always",
    options=frozenset({"*"}),
    note="A first frame must have the size of the video.",
)
"""What `sora-2` could do, and what resellers that speak as OpenAI did make of other models. Prices are their own."""

OWN_SERVER = replace(
    SORA,
    tasks=frozenset({"create"}),
    seconds=tuple(range(1, 16)),
    usual_seconds=0,
    extra_seconds=(),
    sizes=((480, 832), (832, 480), *SORA.sizes),
    sound="none",
    params=frozenset({"seed", "negative_prompt", "steps", "guidance"}),
    note=None,
)
VLLM_OMNI = "vllm-omni"
TEMPLATES: Mapping[str, VideoCaps] = {
    VLLM_OMNI: replace(OWN_SERVER, sound="choice", params=OWN_SERVER.params | {"user"}),
    "sglang": OWN_SERVER,
}
"""By dialect."""


def declared(site: Mapping[str, str]) -> VideoCaps:
    """What a model of the configuration is taken for."""
    return TEMPLATES.get(site.get("dialect", ""), SORA)


# ---- what is sent

SETTLED = frozenset({"seconds", "input_reference", "video", "width", "height"})
"""What `provider_options` may not say beside what they may not say for a picture."""


def start(job: VideoJob) -> Step:
    """All is sent as a form, which every server takes; what names an earlier video is JSON."""
    if not job.site.get("base_url"):
        text = (
            f"OpenAI has shut down its Videos API: '{job.model}' needs another provider, or the base_url of a server."
        )
        raise Fault("missing", text, code="model_not_found", param="model")
    said = members(job)
    if job.task == "create":
        return Call(path="/videos", form=tuple(parts(said, "input_reference", job.first)))
    del said["model"]  # the earlier video's
    said.pop("size", None)
    if job.task == "remix":
        return Call(path=f"/videos/{quote(earlier(job), safe='')}/remix", json=said)
    path = "/videos/edits" if job.task == "edit" else "/videos/extensions"
    if job.clip:
        return Call(path=path, form=tuple(parts(said, "video", job.clip)))
    return Call(path=path, json={**said, "video": {"id": earlier(job)}})


def members(job: VideoJob) -> dict[str, Any]:
    """Everything of `job` but pictures and videos. Raises `Fault("invalid")` for options that would contradict it."""
    if taken := sorted(name for name in job.options if re.split(r"[\[.]", name)[0] in SETTLED):
        text = f"'provider_options' may not hold '{taken[0]}': the request has a field of its own for it."
        raise Fault("invalid", text, code="invalid_value", param=f"provider_options.{taken[0]}")
    said = fields(job)
    del said["n"]
    if job.seconds:
        said["seconds"] = str(job.seconds)
    if job.audio is not None:
        said["generate_sound"] = job.audio
    return said


def parts(said: Mapping[str, Any], name: str, file: Media | None) -> Iterator[Part]:
    """A form, in which all is text: switches as `true` and `false`, objects and arrays as JSON."""
    for key, value in said.items():
        if value is not None:
            yield Part(key, value if isinstance(value, str) else json.encode(value).decode())
    if file:
        yield Part(name, file)


def earlier(job: VideoJob) -> str:
    """The server's own id of the video that is meant."""
    if name := job.origin.get("id"):
        return name
    raise Fault("invalid", "The provider did not make that video.", code="invalid_value", param="video")


def cancel(job: VideoJob, waiting: Call) -> Call | None:
    """Only vLLM-Omni stops what it deletes; elsewhere what is at work cannot be deleted."""
    if job.site.get("dialect") != VLLM_OMNI or waiting.read == "bytes":
        return None
    return Call(method="DELETE", path=waiting.path, repeatable=True)


# ---- what comes back

State: TypeAlias = Literal["works", "done", "failed", "stopped"]
STATES: Mapping[str, State] = {
    "queued": "works", "pending": "works", "submitted": "works", "in_progress": "works", "processing": "works",
    "running": "works",
    "completed": "done", "succeeded": "done", "succeed": "done", "success": "done",
    "failed": "failed", "failure": "failed", "error": "failed", "expired": "failed",
    "cancelled": "stopped", "canceled": "stopped",
}  # fmt: skip
"""OpenAI has four; copies have more."""
QUEUED = frozenset({"queued", "pending", "submitted"})


class Video(msgspec.Struct, frozen=True):
    """A job. Copies write numbers as text and the other way round, and the file's address in one of three places."""

    id: str = ""
    status: str = ""
    progress: Any = None
    seconds: Any = None
    url: Any = None
    video_url: Any = None
    metadata: Any = None

    @property
    def state(self) -> State | None:
        return STATES.get(self.status.lower())

    @property
    def address(self) -> str:
        """Where the file is, if it is said."""
        inner = self.metadata.get("url") if isinstance(self.metadata, dict) else None
        return next((each for each in (self.url, self.video_url, inner) if each and isinstance(each, str)), "")


def step(job: VideoJob, reply: Reply) -> Step:
    if reply.call.read == "bytes":
        return downloaded(job, reply)
    video = reply.read(Video)
    polled = reply.call.method == "GET"
    if not polled and not video.id:
        raise Fault("upstream", "The provider took the job without naming it.", code="unreadable", final=True)
    path = reply.call.path if polled else f"/videos/{quote(video.id, safe='')}"
    if video.state == "done":
        return fetched(job, video, path)
    queued = video.status.lower() in QUEUED
    return Wait(Call(method="GET", path=path, repeatable=True), pause(reply), percent(video.progress), queued)


def pause(reply: Reply) -> float:
    """Seconds to the next poll, as the server wishes within bounds."""
    seconds = (number(reply.headers.get("openai-poll-after-ms")) or 0) / 1000
    return min(seconds, LONGEST_POLL) if seconds > 0 else POLL


def percent(progress: object) -> int | None:
    found = number(progress.removesuffix("%") if isinstance(progress, str) else progress)
    return None if found is None else round(min(max(found, 0), 100))


def number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def fetched(job: VideoJob, video: Video, path: str) -> Step:
    """The way to the file. At the server itself it wants the credential; any other address is open.

    A poll and no plain call: the video is paid for, and some servers need a moment until its file is there.
    """
    extra: dict[str, Any] = {"origin": {"id": video.id or path.rpartition("/")[2]}}
    if seconds := number(video.seconds):
        extra["seconds"] = seconds
    home = base(job.site)
    address = urljoin(f"{home}/", video.address) if video.address else f"{path}/content"
    if video.address and not address.startswith(f"{home}/"):
        return Done(outputs=(Output(url=address, extra=extra),))
    call = Call(method="GET", path=address, read="bytes", repeatable=True, state=json.encode(extra).decode())
    return Wait(call, 0.0)


def downloaded(job: VideoJob, reply: Reply) -> Done:
    extra = json.decode(reply.call.state)
    if reply.body is not None and reply.body.size:
        return Done(outputs=(Output(blob=reply.body, extra=extra),))
    if 300 <= reply.status < 400 and (link := reply.headers.get("location")):
        return Done(outputs=(Output(url=urljoin(f"{base(job.site)}/", link), extra=extra),))
    raise Fault("empty", "The provider finished the job without a video.", code="no_video", final=True)


# ---- what went wrong


def check(reply: Reply) -> None:
    """A job that goes on or is done says nothing by an `error` beside it, which copies leave empty or half filled."""
    if reply.body is not None or 300 <= reply.status < 400:
        return
    state = told(reply)
    if state in {"works", "done"}:
        return
    try:
        shapes.check(reply, CODES, TEXTS)
    except Fault as fault:
        if fault.kind == "missing" and reply.call.method == "GET":
            fault.code, fault.param = "task_not_found", None
        raise
    if state == "failed":
        raise Fault("upstream", "The provider failed to make the video.", code="task_failed", final=True)
    if state == "stopped":
        raise Fault("upstream", "The task was cancelled at the provider.", code="task_canceled", final=True)


def told(reply: Reply) -> State | None:
    """The state of the job in a reply, where it holds one."""
    if reply.status >= 400:
        return None
    try:
        return reply.read(Video).state
    except Fault:
        return None
