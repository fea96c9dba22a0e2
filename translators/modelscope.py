"""ModelScope API-Inference: community models behind one task; a model's id is its repository's.

POST /images/generations, X-ModelScope-Async-Mode  -> {"task_id"}
GET  /tasks/{id}, X-ModelScope-Task-Type           -> {"task_status", "output_images": [address]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators.base import (
    BY_STATUS,
    Call,
    Caps,
    Done,
    Fault,
    FaultKind,
    Free,
    Job,
    Op,
    Output,
    Price,
    Provider,
    Reply,
    Step,
    Wait,
    by_status,
    data_url,
    prompted,
    retry_after,
)
from translators.base import bearer as sign
from translators.base import no_events as event
from translators.shapes import nothing, unread

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

BASES = {
    "cn": "https://api-inference.modelscope.cn/v1",
    "intl": "https://api-inference.modelscope.ai/v1",  # the site exists, its documents do not name the host
}
PROVIDER = Provider(
    title="ModelScope API-Inference",
    env={"api_key": "MODELSCOPE_API_TOKEN"},
    regions=tuple(BASES),
    docs="https://www.modelscope.cn/docs/model-service/API-Inference/intro",
    poll_seconds=3.0,
)
FIRST_POLL = 1.0
ASYNC = {"X-ModelScope-Async-Mode": "true"}
TASK = {"X-ModelScope-Task-Type": "image_generation"}

# ---- what the models can do

DRAWS: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit", "variation"})

BLOCK = 16
"""Pipelines work in blocks of so many pixels; documented are only the bounds."""

ANY = Caps(
    ops=DRAWS,
    prompt_chars=1_999,
    free=Free(step=BLOCK, edge=(64, 2048)),
    params=frozenset({"negative_prompt", "seed", "steps", "guidance", "loras"}),
    prices=(Price(unit="image", amount=0),),  # free within daily quotas (vendor's text of 2025); beyond them refused
)
"""A checkpoint of the Stable Diffusion kind, and what is taken for one because nothing is known of it."""
ANY_EDIT = replace(
    ANY,
    ops=EDITS,
    max_images=1,
    input_bytes=5_000_000,  # no limit is documented; what is larger is slow
)
QWEN = replace(ANY, free=Free(step=BLOCK, edge=(64, 1664)))
QWEN_EDIT = replace(ANY_EDIT, free=QWEN.free)
QWEN_FUSE = replace(QWEN_EDIT, max_images=3)
FLUX = replace(ANY, free=Free(step=BLOCK, edge=(64, 1024)))
KONTEXT = replace(ANY_EDIT, free=FLUX.free)
Z_IMAGE = replace(ANY, free=Free(step=BLOCK, edge=(512, 2048)))

MODELS: Mapping[str, Caps] = {
    "Qwen/Qwen-Image": QWEN,
    "Qwen/Qwen-Image-2512": QWEN,
    "Qwen/Qwen-Image-Edit": QWEN_EDIT,
    "Qwen/Qwen-Image-Edit-2509": QWEN_FUSE,
    "Qwen/Qwen-Image-Edit-2511": QWEN_FUSE,
    "Tongyi-MAI/Z-Image-Turbo": Z_IMAGE,
    "Tongyi-MAI/Z-Image": Z_IMAGE,
    "black-forest-labs/FLUX.1-Krea-dev": FLUX,
    "MusePublic/489_ckpt_FLUX_1": FLUX,
    "MusePublic/flux-high-res": FLUX,
    "MAILAND/majicflus_v1": FLUX,
    "black-forest-labs/FLUX.1-Kontext-dev": KONTEXT,
    "MusePublic/FLUX.1-Kontext-Dev": KONTEXT,
}
"""Some of very many: the site lists those that are served today."""

FAMILIES: tuple[tuple[str, Caps], ...] = (
    ("qwen-image-edit-", QWEN_FUSE),
    ("qwen-image-edit", QWEN_EDIT),
    ("kontext", KONTEXT),
    ("edit", ANY_EDIT),
    ("qwen-image", QWEN),
    ("z-image", Z_IMAGE),
    ("flux", FLUX),
)
"""What a repository's name tells of it; the first that fits."""


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or BASES[site.get("region") or PROVIDER.regions[0]]


def caps(model: str) -> Caps | None:
    """Any repository may be served: `owner/name`."""
    owner, _, name = model.partition("/")
    if not owner or not name or "/" in name:
        return None
    return MODELS.get(model) or next((known for part, known in FAMILIES if part in name.lower()), ANY)


# ---- what is sent


def start(job: Job) -> Step:
    fields: dict[str, Any] = {
        "model": job.model,
        "prompt": prompted(job),
        "negative_prompt": job.negative_prompt,
        "size": "{}x{}".format(*job.size) if job.size else None,
        "seed": job.seed,
        "steps": job.steps,
        "guidance": job.guidance,
        "image_url": [data_url(image) for image in job.images] or None,  # the vendor's form for base64 is the list
        "loras": loras(job),
    }
    body = {name: value for name, value in fields.items() if value is not None}
    return Call(path="/images/generations", headers=ASYNC, json=body)


MOST_LORAS = 6


def loras(job: Job) -> str | dict[str, float] | None:
    """One by its name, several with weights that share one."""
    if not job.loras:
        return None
    weights = {lora.model: lora.weight for lora in job.loras}
    wrong = None
    if len(weights) < len(job.loras):
        wrong = "a LoRA is named twice"
    elif len(weights) > MOST_LORAS:
        wrong = f"at most {MOST_LORAS} are taken"
    elif abs(sum(weights.values()) - 1) > 0.001:
        wrong = f"their weights have to sum to 1, not to {sum(weights.values()):g}"
    if wrong:
        raise Fault("invalid", f"ModelScope does not take these LoRAs: {wrong}.", code="invalid_value", param="loras")
    return next(iter(weights)) if len(weights) == 1 else weights


# ---- what comes back


class Made(msgspec.Struct, frozen=True):
    """A picture of the older, synchronous answer."""

    url: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """A submit's answer, or a poll's. A submit says SUCCEED too, and means itself."""

    task_id: str | int | None = None
    task_status: str | None = None
    output_images: list[str] | None = None
    images: list[Made] | None = None
    data: list[Made] | None = None


SUCCESS = frozenset({"SUCCEED", "SUCCEEDED"})


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    if reply.call.method == "POST":
        if answer.task_id is None:  # some deployments do not know tasks, and have made it already
            return finished([made.url for made in answer.images or answer.data or () if made.url])
        path = f"/tasks/{quote(str(answer.task_id), safe='')}"
        return Wait(Call(method="GET", path=path, headers=TASK, repeatable=True), FIRST_POLL)
    if answer.task_status not in SUCCESS:
        return Wait(reply.call, PROVIDER.poll_seconds, queued=answer.task_status == "PENDING")
    return finished(answer.output_images or [])


def finished(urls: list[str]) -> Done:
    if not urls:
        raise nothing()
    return Done(outputs=tuple(Output(url=url) for url in urls))


# ---- what went wrong


class Problem(msgspec.Struct, frozen=True):
    """Why there is no picture. The code is most often a status once more."""

    message: str | None = None
    code: Any = None


class Failure(Problem, frozen=True):
    """An answer that may be a failure, in one of three shapes."""

    errors: Problem | None = None
    error: Problem | str | None = None
    task_status: str | None = None


TEXTS: tuple[tuple[re.Pattern[str], FaultKind], ...] = (
    (
        re.compile(r"sensitive|inappropriate|prohibited|moderation|content policy|nsfw|敏感|违规", re.IGNORECASE),
        "policy",
    ),
    (re.compile(r"task not found", re.IGNORECASE), "missing"),
    (re.compile(r"has no provider supported|model\b.* (?:is not supported|not found|does not exist)", re.I), "missing"),
    (re.compile(r"server is busy", re.IGNORECASE), "overloaded"),
)
"""Most failures are told by their text alone."""


def check(reply: Reply) -> None:
    try:
        said = reply.read(Failure)
    except Fault:  # HTML from an edge, or nothing at all
        if reply.status == 429:
            raise too_fast(reply, unread(reply)) from None
        by_status(reply, unread(reply))
        raise
    if reply.status < 400 and said.task_status != "FAILED" and not said.errors and not said.error:
        return
    inner = said.errors or (said.error if isinstance(said.error, Problem) else said)
    message = (said.error if isinstance(said.error, str) else inner.message) or unread(reply)
    if reply.status == 429:
        raise too_fast(reply, message)
    raise told(reply, message, inner.code)


def told(reply: Reply, message: str, code: Any) -> Fault:
    """What a text and a code mean. A task that failed says its own status in the code."""
    kind = next((kind for pattern, kind in TEXTS if pattern.search(message)), None)
    if kind is None:
        status = reply.status if reply.status >= 400 else code if isinstance(code, int) else 0
        kind = BY_STATUS.get(status, "invalid" if 400 <= status < 500 else "upstream")
    if kind == "policy":
        return Fault(kind, message, code="moderation_blocked", final=reply.status < 400)
    if kind == "missing" and reply.call.method == "GET":
        return Fault(kind, message, code="task_not_found")
    ended = reply.status < 400
    named = code if isinstance(code, str) and not code.isdigit() else "task_failed" if ended else None
    return Fault(kind, message, code=named or None, param=param(kind, message), final=ended)


RESTS = ("modelscope-ratelimit-requests-remaining", "modelscope-ratelimit-model-requests-remaining")


def too_fast(reply: Reply, message: str) -> Fault:
    """Today's allowance may be used up, the account's or the model's; or it was only a burst."""
    if any(reply.headers.get(name, "").strip() == "0" for name in RESTS):
        return Fault("quota", f"Today's allowance is used up: {message}", code="daily_quota")
    return Fault("rate", message, retry_after=retry_after(reply))


FIELDS = {"image_url": "image", "lora": "loras", "size": "size", "steps": "steps", "guidance": "guidance",
          "seed": "seed", "negative_prompt": "negative_prompt"}  # fmt: skip


def param(kind: FaultKind, message: str) -> str | None:
    """The field that a message speaks of, by the name that the client gave it."""
    if kind == "missing":
        return "model"
    return next((name for word, name in FIELDS.items() if word in message.lower()), None) if kind == "invalid" else None
