"""Tencent's image models, on two ways that share nothing but the vendor.

TokenHub, with a key; small names:
    POST /v1/wand/…, /v1/api/image/lite  -> the pictures
    POST /v1/api/image/submit            -> {"id"}; POST /v1/api/image/query {"model", "id"} -> {"status", "data"}
Tencent Cloud's API, signed; names in capitals are its actions (`X-TC-Action`):
    POST /  -> {"Response": {"ResultImage"}}, or {"Response": {"JobId"}} that a Query… action is asked for

Both tell failures with status 200, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from translators import shapes
from translators.base import (
    BY_STATUS,
    Call,
    Caps,
    Done,
    Fault,
    FaultKind,
    Job,
    Output,
    Provider,
    Reply,
    Secret,
    Size,
    Stamp,
    Step,
    Usage,
    Wait,
    bearer,
    by_status,
    data_url,
    prompted,
    retry_after,
)
from translators.base import no_events as event
from translators.hunyuan import cloud
from translators.hunyuan.models import CLOUD, MODELS, TOKENHUB

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

BASES = {"cn": "https://tokenhub.tencentmaas.com", "intl": "https://tokenhub-intl.tencentcloudmaas.com"}
PROVIDER = Provider(
    title="Tencent Hunyuan",
    env={
        "api_key": "TOKENHUB_API_KEY",
        "secret_id": "TENCENTCLOUD_SECRET_ID",
        "secret_key": "TENCENTCLOUD_SECRET_KEY",
        "session_token": "TENCENTCLOUD_SESSION_TOKEN",
    },
    settings=frozenset({"cloud_region"}),
    regions=tuple(BASES),
    hosts=frozenset(cloud.HOSTS.values()),
    docs="https://cloud.tencent.com/document/product/1823",
    poll_seconds=cloud.POLL,
)


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url") or BASES[site.get("region") or PROVIDER.regions[0]]


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


# ---- credentials


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    """TokenHub's key, or the signature that the cloud's own API asks for. Neither stands in for the other."""
    if "X-TC-Version" not in call.headers:
        if not secret.key:
            raise lacks("api_key, TokenHub's key")
        return bearer(call, secret, stamp)
    pair = secret.extra.get("secret_id", ""), secret.extra.get("secret_key", "")
    if not all(pair):
        raise lacks("secret_id and secret_key of the cloud account")
    return cloud.sign(call, pair, secret.extra.get("session_token"), stamp)


def lacks(what: str) -> Fault:
    return Fault("permission", f"This model needs {what}, which the gateway does not have.", code="credential_missing")


# ---- what is sent

SEEDS = range(1, 1 << 32)


def start(job: Job) -> Step:
    if job.seed is not None and job.seed not in SEEDS:
        text = f"The seed must be from {SEEDS[0]} to {SEEDS[-1]}; leave it out for one at random."
        raise Fault("invalid", text, code="invalid_value", param="seed")
    if job.model in CLOUD or job.model[:1].isupper():
        return cloud.start(job, prompted(job))
    path, write = HUB.get(job.model) or HUB["hy-image-v3"]  # what the configuration alone knows is likely its heir
    said = {name: value for name, value in write(job).items() if value is not None}
    return Call(path=path, json={"model": job.model, **said, **job.options})


def across(size: Size | None, by: str) -> str | None:
    """TokenHub's own paths write 1024x1024, those that come from the cloud's API 1024:1024."""
    return f"{size[0]}{by}{size[1]}" if size else None


AREAS = {"1K": 1024 * 1024, "1.5K": 1536 * 1536, "2K": 2048 * 2048}


def conversed(job: Job) -> dict[str, Any]:
    """HY-Image 3.5: a conversation of one message. Areas end at 2K; 4K is told in pixels."""
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in job.images]
    parts.append({"type": "text", "text": prompted(job)})
    return {
        "messages": [{"role": "user", "content": parts}],
        "size": "4096x4096" if job.resolution == "4K" else across(job.size, "x"),
        "generate_max_pixels": AREAS.get(job.resolution or ""),
        "seed": job.seed,
    }


def wanded(job: Job) -> dict[str, Any]:
    """HY-Image 3.0. A seed has no effect while the prompt is rewritten."""
    return {
        "prompt": prompted(job),
        "images": [data_url(image) for image in job.images] or None,
        "size": across(job.size, "x"),
        "seed": job.seed,
        "revise": None if job.seed is None else False,
    }


def submitted(job: Job) -> dict[str, Any]:
    """The same as a job. Whether its size is written with `x` is not surely known; clients write a colon."""
    said = wanded(job)
    return {**said, "size": None, "resolution": across(job.size, ":"), "logo_add": int(job.watermark is True)}


def lite(job: Job) -> dict[str, Any]:
    return {
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "resolution": across(job.size, ":"),
        "seed": job.seed,
        "logo_add": int(job.watermark is True),
        "rsp_img_type": "url",
    }


def seedream(job: Job) -> dict[str, Any]:
    """A transparent background is refused as JPEG, which some of them give unasked."""
    return {
        "prompt": prompted(job),
        "size": across(job.size, "x") or job.resolution,
        "images": [data_url(image) for image in job.images] or None,
        "response_format": "b64_json",
        "output_format": job.format or ("png" if job.background == "transparent" else None),
        "background": job.background,
    }


LITE, SUBMIT, QUERY = "/v1/api/image/lite", "/v1/api/image/submit", "/v1/api/image/query"
CHAT = "/v1/wand/hunyuan-image/v35-generation"
HUB: Mapping[str, tuple[str, Callable[[Job], dict[str, Any]]]] = {
    "hy-image-v3.5-preview": (CHAT, conversed),
    "hy-image-v3": ("/v1/wand/hunyuan-image/v3-generation", wanded),
    "hy-image-v3.0": (SUBMIT, submitted),
    "hy-image-lite": (LITE, lite),
    **{model: ("/v1/wand/si-image/generation", seedream) for model in TOKENHUB if model.startswith("seedream-")},
}


# ---- what comes back


class Problem(msgspec.Struct, frozen=True):
    code: str | int | None = None
    message: str | None = None
    type: str | None = None


class Image(msgspec.Struct, frozen=True):
    url: str | None = None


class Delta(msgspec.Struct, frozen=True):
    image: Image | None = None


class Choice(msgspec.Struct, frozen=True):
    delta: Delta | None = None
    finish_reason: str | None = None
    error: Problem | None = None


class Answer(msgspec.Struct, frozen=True):
    """Any answer of either way. What only counts is `Any`: it must not cost a picture."""

    response: cloud.Result | None = msgspec.field(name="Response", default=None)
    error: Problem | str | None = None
    message: str | None = None
    choices: tuple[Choice, ...] | None = None
    id: str | None = None
    status: str | None = None
    usage: Any = None
    tokenhub_usage: Any = None


ENDED = frozenset({"completed", "success", "succeeded", "finished", "done"})
BROKEN = frozenset({"failed", "fail", "error", "cancelled", "expired"})


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    if reply.call.path == SUBMIT:
        query = {"model": job.model, "id": cloud.named(answer.id)}
        return Wait(Call(path=QUERY, json=query, repeatable=True), cloud.FIRST_POLL)
    if "X-TC-Action" in reply.call.headers:
        return cloud.step(job, reply, answer.response or cloud.Result())
    if reply.call.path == QUERY and (answer.status or "").lower() not in ENDED and not has_data(reply):
        return Wait(reply.call, cloud.POLL)
    if reply.call.path == CHAT:
        urls = [choice.delta.image.url for choice in answer.choices or () if choice.delta and choice.delta.image]
        outputs = tuple(Output(url=url) for url in urls if url)
        if not outputs:
            raise shapes.nothing()
        return Done(outputs=outputs, usage=counted(answer))
    return replace(shapes.step(job, reply), usage=counted(answer))


def has_data(reply: Reply) -> bool:
    """Whether pictures are there: the words for "finished" are not all documented."""
    return any(made.url or made.b64_json for made in reply.read(shapes.Answer).data or ())


def counted(answer: Answer) -> Usage:
    """The one count that TokenHub gives. It is of pictures: a prompt's length does not change it."""
    for said in (answer.usage, answer.tokenhub_usage):
        total = said.get("total_tokens") if isinstance(said, dict) else None
        if isinstance(total, int):
            return Usage(output_image=total)
    return Usage()


# ---- what went wrong

HUB_KINDS: Mapping[str, FaultKind] = {
    "content_filter": "policy",
    "400004": "missing",
    "invalid_request_error": "invalid",
    "authentication_error": "auth",
    "rate_limit_error": "rate",
}


def check(reply: Reply) -> None:
    try:
        answer = reply.read(Answer)
    except Fault:
        if reply.status == 422:
            raise Fault("policy", shapes.unread(reply), code="moderation_blocked") from None
        by_status(reply, shapes.unread(reply))
        return
    if answer.response:
        cloud.check(reply, answer.response)
    problem = next((choice.error for choice in answer.choices or () if choice.error), answer.error)
    ended = any(choice.finish_reason == "error" for choice in answer.choices or ())
    broken = (answer.status or "").lower() in BROKEN
    if problem or ended or broken or reply.status >= 400:
        said = Problem(message=problem) if isinstance(problem, str) else problem or Problem()
        raise hub_fault(reply, said, said.message or answer.message or "", task=broken)


def hub_fault(reply: Reply, problem: Problem, text: str, *, task: bool) -> Fault:
    """TokenHub's refusal. `task`: of the job itself, whatever becomes of the call that tells it."""
    code = str(problem.code) if problem.code not in {None, ""} else None
    kind = HUB_KINDS.get(code or "")
    if kind is None and reply.status < 400:
        kind = "policy" if cloud.RISK.search(text) else HUB_KINDS.get(problem.type or "", "upstream")
    elif kind is None:
        kind = (
            "policy"
            if reply.status == 422
            else BY_STATUS.get(reply.status, "invalid" if reply.status < 500 else "upstream")
        )
    message = text or ("The provider failed to make the picture." if reply.status < 400 else shapes.unread(reply))
    if kind == "policy":
        return Fault(kind, message, code="moderation_blocked", final=task)
    if kind == "missing":
        lost = reply.call.path == QUERY
        code, param = ("task_not_found", None) if lost else ("model_not_found", "model")
        return Fault(kind, message, code=code, param=param)
    return Fault(
        kind, message, code=code or ("task_failed" if task else None), retry_after=retry_after(reply), final=task
    )
