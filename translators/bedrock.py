"""Amazon Bedrock: Stability AI's models and services, one synchronous call each, signed or with an API key.

POST /model/<id>/invoke {"prompt", "image", "mask", …}  -> {"images": [base64], "seeds", "finish_reasons"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from msgspec.structs import replace

from translators.base import (
    Blob,
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
    Secret,
    Stamp,
    Step,
    base64,
    bearer,
    body,
    by_status,
    prompted,
    retry_after,
)
from translators.base import no_events as event
from translators.shapes import nothing, unread
from translators.signing import aws_authorization, sha256_of
from translators.stability import RATIOS, SIDES, STRENGTH, expanded, styled

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="Amazon Bedrock",
    env={
        "api_key": "AWS_BEARER_TOKEN_BEDROCK",
        "access_key_id": "AWS_ACCESS_KEY_ID",
        "secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "session_token": "AWS_SESSION_TOKEN",
    },
    # Not AWS_REGION: it says where other things run, and few regions have these models.
    settings=frozenset({"guardrail", "guardrail_version", "trace", "service_tier"}),
    docs="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-stability-diffusion.html",
)
REGION = "us-west-2"  # the only one with all of the models
HEADERS = {
    "guardrail": "X-Amzn-Bedrock-GuardrailIdentifier",
    "guardrail_version": "X-Amzn-Bedrock-GuardrailVersion",
    "trace": "X-Amzn-Bedrock-Trace",
    "service_tier": "X-Amzn-Bedrock-Service-Tier",
}

# ---- what the models can do

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
GENERATES: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit"})
SEED = frozenset({"seed"})
TOLD = SEED | {"negative_prompt"}
STYLED = TOLD | {"style"}
GROWN = frozenset({"grow_mask"})


def each(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


DRAWS = Caps(ops=GENERATES, prompt_chars=10_000, ratios=RATIOS, formats=("png", "jpeg"), params=SEED, prices=each(0.04))
"""Core. That it and Ultra take a `negative_prompt` is said, and was seen refused."""

REDRAWS = replace(
    DRAWS,
    ops=MAKES,
    max_images=1,
    input_bytes=14_000_000,  # a body may have 20 MB
    input_pixels=9_437_184,
    input_edge=(64, 0),
    options=frozenset({"strength"}),
    prices=each(0.14),
    note="An edit keeps the shape of its picture.",
)
SERVICE = replace(
    REDRAWS,
    ops=EDITS,
    ratios=(),
    formats=("png", "jpeg", "webp"),
    params=STYLED,
    options=frozenset(),
    prices=each(0.07),
    note=None,
)
SEARCH = replace(SERVICE, options=GROWN)
CONTROL = replace(SERVICE, options=frozenset({"control_strength"}))
UPSCALE = replace(SERVICE, params=TOLD, options=frozenset({"creativity"}))

MODELS: Mapping[str, Caps] = {
    "stability.stable-image-core-v1:1": DRAWS,
    "stability.sd3-5-large-v1:0": replace(REDRAWS, params=TOLD, prices=each(0.08)),
    "stability.stable-image-ultra-v1:1": REDRAWS,
    "us.stability.stable-image-inpaint-v1:0": replace(
        SERVICE, mask="white-edits", options=GROWN,
        note="Paints what a mask opens; without one, where the picture itself is transparent.",
    ),
    "us.stability.stable-image-erase-object-v1:0": replace(
        SERVICE, mask="white-edits", prompt_chars=0, params=SEED, options=GROWN,
        note="Removes what a mask opens, or where the picture itself is transparent; takes no prompt.",
    ),
    "us.stability.stable-image-search-replace-v1:0": replace(
        SEARCH, options=GROWN | {"search_prompt"},
        note="Replaces what option search_prompt names by what the prompt says.",
    ),
    "us.stability.stable-image-search-recolor-v1:0": replace(
        SEARCH, options=GROWN | {"select_prompt"}, note="Recolors what option select_prompt names as the prompt says."
    ),
    "us.stability.stable-image-remove-background-v1:0": replace(
        SERVICE, prompt_chars=0, formats=("png", "webp"), params=frozenset(), backgrounds=("transparent",),
        note="Leaves the subject on transparency; takes no prompt.",
    ),
    "us.stability.stable-image-control-sketch-v1:0": replace(CONTROL, note="Paints after the lines of a sketch."),
    "us.stability.stable-image-control-structure-v1:0": replace(
        CONTROL, note="Paints another content into the structure of a picture."
    ),
    "us.stability.stable-image-style-guide-v1:0": replace(
        SERVICE, ratios=RATIOS, options=frozenset({"fidelity"}), note="Paints in the style of a picture."
    ),
    "us.stability.stable-style-transfer-v1:0": replace(
        SERVICE, min_images=2, max_images=2, input_bytes=7_000_000, params=TOLD, prices=each(0.08),
        options=frozenset({"style_strength", "composition_fidelity", "change_strength"}),
        note="Paints the first picture in the style of the second.",
    ),
    "us.stability.stable-outpaint-v1:0": replace(
        SERVICE, free=Free(), params=SEED | {"style"}, options=frozenset(SIDES) | {"creativity"}, prices=each(0.06),
        note="`size` is the new canvas, the picture in its middle; or options left, right, up, down in pixels.",
    ),
    "us.stability.stable-fast-upscale-v1:0": replace(
        UPSCALE, prompt_chars=0, params=frozenset(), options=frozenset(), input_pixels=1_048_576,
        input_edge=(32, 1536), prices=each(0.03), note="Four times as wide and high; takes no prompt.",
    ),
    "us.stability.stable-conservative-upscale-v1:0": replace(UPSCALE, prices=each(0.4), note="To 4 megapixels."),
    "us.stability.stable-creative-upscale-v1:0": replace(
        UPSCALE, params=STYLED, input_pixels=1_048_576, prices=each(0.6),
        note="To 4 megapixels, with details made anew.",
    ),
}  # fmt: skip

RENAMED = {
    "stability.stable-image-core-v1:0": "stability.stable-image-core-v1:1",
    "stability.stable-image-ultra-v1:0": "stability.stable-image-ultra-v1:1",
    "stability.sd3-large-v1:0": "stability.sd3-5-large-v1:0",
}
"""Older versions, and those that took their place."""

ENDED = {"amazon.nova-canvas-v1:0": "2026-09-30", "amazon.titan-image-generator-v2:0": "2026-06-30"}
GONE = Caps(ops=MAKES, max_n=5, max_images=5, mask="black-edits", options=frozenset({"*"}))
"""Anything may be asked of a model that is no more: the answer is the day of its end, and nothing is planned before."""


def base(site: Mapping[str, str]) -> str:
    region = site.get("region") or REGION
    suffix = ".cn" if region.startswith("cn-") else ""
    return site.get("base_url", "").rstrip("/") or f"https://bedrock-runtime.{region}.amazonaws.com{suffix}"


def caps(model: str) -> Caps | None:
    name = meant(model)
    return replace(GONE, ends=ENDED[name]) if name in ENDED else MODELS.get(name)


def meant(model: str) -> str:
    """The id in `MODELS`: an inference profile's ARN ends in it, a service is only to be had by its profile."""
    name = model.rpartition("/")[2]
    name = RENAMED.get(name, name)
    return f"us.{name}" if f"us.{name}" in MODELS else name


# ---- what is sent

PAIR = ("init_image", "style_image")
NEEDS = {"search-replace": "search_prompt", "search-recolor": "select_prompt"}
MASKED = ("inpaint", "erase-object")


def start(job: Job) -> Step:
    name = meant(job.model)
    if name in ENDED:
        text = f"The model {job.model} reached its end of life at AWS on {ENDED[name]}. Name another one."
        raise Fault("missing", text, code="model_not_found", param="model")
    check_needs(job, name)
    said = {key: value for key, value in fields(job, name).items() if value is not None}
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    headers |= {header: job.site[key] for key, header in HEADERS.items() if job.site.get(key)}
    if "guardrail" in job.site:
        headers.setdefault(HEADERS["guardrail_version"], "DRAFT")  # the one cannot be without the other
    model = job.model if job.model.startswith("arn:") else name
    # A bare colon, which whoever sends it has no reason to write otherwise: the path is part of what is signed.
    return Call(path=f"/model/{quote(model, safe=':')}/invoke", headers=headers, json=said, state=region(job.site))


def region(site: Mapping[str, str]) -> str:
    """Where a signature holds. Of an address of one's own, such as FIPS or a VPC's, what it says itself."""
    found = re.search(r"\bbedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.", site.get("base_url", ""))
    return site.get("region") or (found[1] if found else REGION)


def check_needs(job: Job, name: str) -> None:
    """Refuse what the provider would only refuse after an upload."""
    needed = next((option for part, option in NEEDS.items() if part in name), None)
    if needed and not job.options.get(needed):
        param = f"provider_options.{needed}"
        text = f"The model {job.model} needs '{param}': what in the picture is meant."
        raise Fault("invalid", text, code="missing_required_parameter", param=param)
    if any(part in name for part in MASKED) and not job.mask and not job.images[0].alpha:
        text = f"The model {job.model} needs a mask, or a picture that is transparent where it may paint."
        raise Fault("invalid", text, code="missing_required_parameter", param="mask")


def fields(job: Job, name: str) -> dict[str, Any]:
    """Every member but those that are `None`."""
    names = PAIR if "style-transfer" in name else ("image",)
    redraws = bool(job.images) and "us." not in name
    return {
        "prompt": prompted(job) or None,
        **{member: base64(image) for member, image in zip(names, job.images, strict=False)},
        "mask": base64(job.mask) if job.mask else None,
        "mode": "image-to-image" if redraws and "sd3" in name else None,
        "strength": STRENGTH if redraws else None,  # required there, and OpenAI has no such field
        "aspect_ratio": None if redraws else job.ratio,
        **(expanded(job) if "outpaint" in name and job.options.keys().isdisjoint(SIDES) else {}),
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        "style_preset": styled(job),
        "output_format": job.format,
        **job.options,
    }


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    """An API key as it is; else Signature Version 4 with an access key, over every header that is of our making."""
    if secret.key:
        return bearer(call, secret, stamp)
    url = urlsplit(call.path)
    headers = {**call.headers, "X-Amz-Date": stamp.now.strftime("%Y%m%dT%H%M%SZ")}
    if token := secret.extra.get("session_token"):
        headers["X-Amz-Security-Token"] = token
    host = url.netloc.removesuffix(":443" if url.scheme == "https" else ":80")
    authorization = aws_authorization(
        (secret.extra["access_key_id"], secret.extra["secret_access_key"]),
        (call.state, "bedrock"),  # not bedrock-runtime, as the host would have it
        url.path,
        {"Host": host, **headers},
        sha256_of(body(call)),
    )
    return replace(call, headers={**headers, "Authorization": authorization})


# ---- what comes back


class Answer(msgspec.Struct, frozen=True):
    images: tuple[Blob, ...] = ()
    seeds: tuple[Any, ...] = ()


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    outputs = tuple(
        Output(blob=blob, extra={"seed": answer.seeds[index]} if index < len(answer.seeds) else {})
        for index, blob in enumerate(answer.images)
        if blob.size
    )
    if not outputs:
        raise nothing()
    return Done(outputs=outputs)


class Problem(msgspec.Struct, frozen=True):
    """An error, whose type stands in a header or here; or how each picture ended."""

    message: Any = None
    upper: Any = msgspec.field(default=None, name="Message")
    type: Any = msgspec.field(default=None, name="__type")
    finish_reasons: Any = None
    guardrail: Any = msgspec.field(default=None, name="amazon-bedrock-guardrailAction")


KINDS: Mapping[str, FaultKind] = {
    "UnrecognizedClientException": "auth",
    "InvalidSignatureException": "auth",
    "ExpiredTokenException": "auth",
    "MissingAuthenticationTokenException": "auth",
    "AccessDeniedException": "permission",
    "ServiceQuotaExceededException": "quota",
    "ThrottlingException": "rate",
    "ModelNotReadyException": "rate",
    "ValidationException": "invalid",
    "ResourceNotFoundException": "missing",
    "InternalServerException": "upstream",
    "ModelErrorException": "upstream",
    "ServiceUnavailableException": "overloaded",
    "ModelTimeoutException": "timeout",
}
BLOCKED = re.compile(r"content filters|guardrail", re.IGNORECASE)
UNKNOWN_KEY = re.compile(r"api key", re.IGNORECASE)
EXTRANEOUS = re.compile(r"extraneous key \[(\w+)\]")


def check(reply: Reply) -> None:
    """A refusal has status 200. Errors go by their type, which some gateways put into the body."""
    problem = told(reply)
    if reply.status < 400:
        finished(problem)
        return
    said = reply.headers.get("x-amzn-errortype") or (problem.type if isinstance(problem.type, str) else "")
    name = said.partition(":")[0].rpartition("#")[
        2
    ]  # "ValidationException:http://…", "com.amazon.x#ValidationException"
    message = next((text for text in (problem.message, problem.upper) if isinstance(text, str) and text), unread(reply))
    kind = KINDS.get(name)
    if kind in {"invalid", None} and reply.status == 400 and BLOCKED.search(message):
        raise Fault("policy", message, code="moderation_blocked")
    if kind in {"permission", None} and reply.status in {401, 403} and UNKNOWN_KEY.search(message):
        kind = "auth"  # how an unknown API key is told is not documented
    if kind is None:
        by_status(reply, message, code=name or None)
        return
    found = EXTRANEOUS.search(message) if kind == "invalid" else None
    raise Fault(kind, message, code=name or None, param=found[1] if found else None, retry_after=retry_after(reply))


def finished(problem: Problem) -> None:
    """Raise how it ended where there is no usable picture; what stands beside the reason may be a blurred one."""
    if problem.guardrail == "INTERVENED":
        raise Fault("policy", "The account's guardrail stopped the request.", code="moderation_blocked")
    reasons = problem.finish_reasons if isinstance(problem.finish_reasons, list) else []
    reason = next((reason for reason in reasons if isinstance(reason, str) and reason), None)
    if reason is None:
        return
    if reason.startswith("Filter reason"):
        text = f"The provider's safety system refused the request ({reason})."
        raise Fault("policy", text, code="moderation_blocked", final=True)
    raise Fault("upstream", f"The provider failed to make the picture: {reason}.", code="task_failed", final=True)


def told(reply: Reply) -> Problem:
    try:
        return reply.read(Problem)
    except Fault:
        return Problem()
