"""Tencent Cloud's own API for images: signed actions, which answer with a picture or with a job to ask about.

POST /  X-TC-Action: TextToImageLite {…}         -> {"Response": {"ResultImage": "https://…"}}
POST /  X-TC-Action: SubmitHunyuanImageJob {…}   -> {"Response": {"JobId"}}
POST /  X-TC-Action: QueryHunyuanImageJob {"JobId"}
    -> {"Response": {"JobStatusCode": "5", "ResultImage": [], "ResultDetails": []}}
failures: status 200, {"Response": {"Error": {"Code", "Message"}}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from translators.base import (
    Call,
    Done,
    Fault,
    FaultKind,
    Job,
    Media,
    Output,
    Reply,
    Stamp,
    Step,
    Wait,
    base64,
    body,
    retry_after,
)
from translators.hunyuan.models import CLOUD, KINDS, SQUARISH
from translators.shapes import nothing
from translators.signing import sha256_of, tc3_authorization

HOSTS = {
    "hunyuan": "hunyuan.tencentcloudapi.com",
    "aiart": "aiart.tencentcloudapi.com",
    "aiart-intl": "aiart.intl.tencentcloudapi.com",  # not surely known
}
VERSIONS = {"hunyuan": "2023-09-01", "aiart": "2022-12-29"}
SERVICES = {version: service for service, version in VERSIONS.items()}
JSON = "application/json"
FIRST_POLL, POLL = 1.0, 2.0  # seconds


def sign(call: Call, pair: tuple[str, str], token: str | None, stamp: Stamp) -> Call:
    """TC3: the body's very bytes, the host and the content type as they are sent."""
    now, host = int(stamp.now.timestamp()), urlsplit(call.path).netloc
    service = SERVICES[call.headers["X-TC-Version"]]
    signature = tc3_authorization(pair, service, host, JSON, sha256_of(body(call)), now)
    headers = {**call.headers, "Content-Type": JSON, "X-TC-Timestamp": str(now), "Authorization": signature}
    return replace(call, headers=headers | ({"X-TC-Token": token} if token else {}))


# ---- what is sent


def start(job: Job, prompt: str) -> Call:
    return action_of(job, job.model.removeprefix("aiart/"), acted(job, prompt))


def action_of(job: Job, action: str, said: Mapping[str, Any]) -> Call:
    """One action of the cloud's API; whoever configured an address of his own for it is not sent elsewhere."""
    service = "hunyuan" if "Hunyuan" in action or job.model == "TextToImageLite" else "aiart"
    abroad = f"{service}-intl" if job.site.get("region") == "intl" else service
    own = job.site.get("base_url", "")
    elsewhere = not own or urlsplit(own).netloc.endswith(("tencentmaas.com", "tencentcloudmaas.com"))
    return Call(
        path=f"https://{HOSTS.get(abroad) or HOSTS[service]}/" if elsewhere else "/",
        headers={
            "X-TC-Action": action,
            "X-TC-Version": VERSIONS[service],
            "X-TC-Region": job.site.get("cloud_region") or "ap-guangzhou",
            "X-TC-Language": "en-US",
        },
        json=said,
        repeatable=action.startswith("Query"),  # it only looks
    )


UNMARKED = frozenset({"RefineImage"})
"""Actions without a mark to switch off: all others draw one unless they are told not to."""
REVISING = frozenset({"SubmitHunyuanImageJob", "SubmitTextToImageJob"})
ANY_STYLE = "000"  # unsaid, TextToImageLite draws Japanese animation


def acted(job: Job, prompt: str) -> dict[str, Any]:
    """The body of an action, whatever it is: names are the same everywhere, but for the pictures."""
    fields: dict[str, Any] = {
        "Prompt": prompt or None,
        "NegativePrompt": job.negative_prompt,
        **pictured(job),
        **sized(job),
        "Num": job.n if job.model == "SubmitHunyuanImageJob" else None,
        "Revise": 0 if job.seed is not None and job.model in REVISING else None,  # rewritten, the seed has no effect
        "Seed": job.seed,
        "Style": ANY_STYLE if job.model == "TextToImageLite" else None,
        "LogoAdd": None if job.model in UNMARKED else int(job.watermark is True),
        "RspImgType": None if job.model.startswith("Submit") else "url",  # base64 is refused where a picture is large
    }
    return {name: value for name, value in fields.items() if value is not None} | dict(job.options)


def pictured(job: Job) -> dict[str, Any]:
    """The members that hold pictures: bare base64, but for the one action that takes addresses alone."""
    if not job.images:
        return {}
    first = job.images[0]
    match job.model:
        case "SubmitHunyuanImageJob":
            return {"ContentImage": {"ImageBase64": base64(first)}}
        case "SubmitTextToImageJob":
            return {"Images": [base64(image) for image in job.images]}
        case "TextToImageRapid":
            return {"Image": {"Base64": base64(first)}}
        case "ReplaceBackground":
            return {"ProductUrl": addressed(first), "MaskUrl": addressed(job.mask) if job.mask else None}
        case _:
            return {"InputImage": base64(first), "Mask": base64(job.mask) if job.mask else None}


def addressed(media: Media) -> str:
    if not media.url:
        raise Fault("invalid", "This model takes pictures by address only.", code="public_url_required", param="image")
    return media.url


def sized(job: Job) -> dict[str, Any]:
    """The size or the ratio. Raises `Fault("invalid")` for what a picture as input rules out."""
    if job.model == "ImageOutpainting":
        if not job.ratio:
            known = ", ".join(CLOUD[job.model].ratios)
            text = f"Outpainting needs the ratio to fill up to, one of {known}."
            raise Fault("invalid", text, code="invalid_value", param="aspect_ratio")
        return {"Ratio": job.ratio}
    if job.model == "SubmitHunyuanImageJob" and job.images and job.size not in {None, *SQUARISH}:
        known = ", ".join("{}x{}".format(*size) for size in SQUARISH)
        text = f"With a picture, the size must be one of {known}; leave it out to follow the picture."
        raise Fault("invalid", text, code="invalid_value", param="size")
    if job.model == "TextToImageRapid" and job.images:  # it keeps the picture's own
        return {}
    size = "{}:{}".format(*job.size) if job.size else None
    if job.model == "ImageToImage":
        return {"ResultConfig": {"Resolution": size} if size else None}
    return {"Resolution": size}


# ---- what comes back


class Failure(msgspec.Struct, frozen=True, rename="pascal"):
    """Why there is no result."""

    code: str = ""
    message: str = ""


class Result(msgspec.Struct, frozen=True, rename="pascal"):
    """`Response` of the cloud's API: of an action at once, of one that makes a job, and of a query."""

    error: Failure | None = None
    job_id: str | None = None
    job_status_code: str | None = None
    job_error_code: str | None = None
    job_error_msg: str | None = None
    result_image: str | tuple[str, ...] | None = None
    result_details: tuple[str, ...] | None = None
    revised_prompt: tuple[str, ...] | None = None
    chat_id: str | None = None
    seed: int | None = None


def named(task: str | None) -> str:
    """The task's id. Without one the job is paid and lost: nothing is to be tried again."""
    if not task:
        raise Fault("upstream", "The provider took the job without naming a task.", code="unreadable", final=True)
    return task


def step(job: Job, reply: Reply, result: Result) -> Step:
    action = reply.call.headers["X-TC-Action"]
    if action.startswith("Submit"):
        query = "Query" + action.removeprefix("Submit")
        return Wait(action_of(job, query, {"JobId": named(result.job_id)}), FIRST_POLL)
    if action.startswith("Query"):
        if result.error:
            return Wait(replace(reply.call, state=str(hiccups(reply.call) + 1)), POLL)
        return (
            finished(result, job.prompt) if result.job_status_code == "5" else Wait(replace(reply.call, state=""), POLL)
        )
    made = result.result_image
    if not isinstance(made, str) or not made:
        raise nothing()
    extra = {"seed": result.seed} if result.seed is not None else {}
    if made.startswith("http"):
        return Done(outputs=(Output(url=made, extra=extra),))
    return Done(outputs=(Output(blob=reply.blob(made), extra=extra),))


def finished(result: Result, prompt: str) -> Done:
    """The pictures of a job, and why others of them are missing. A prompt that was not revised comes back, too."""
    urls = result.result_image if isinstance(result.result_image, tuple) else ()
    details = result.result_details or ("Success",) * len(urls)
    good = [place for place, detail in enumerate(details) if detail == "Success"]
    places = good if len(urls) == len(good) else range(len(urls))  # a refused one may leave no gap
    revised = {place: text for place, text in enumerate(result.revised_prompt or ()) if text != prompt}
    extra = {"chat_id": result.chat_id} if result.chat_id else {}
    outputs = tuple(
        Output(url=url, revised_prompt=revised.get(place) or None, extra=extra)
        for place, url in zip(places, urls, strict=True)
        if url
    )
    faults = tuple(told(detail, detail) for detail in details if detail != "Success")
    if not outputs:
        raise faults[0] if faults else nothing()
    return Done(outputs=outputs, faults=faults)


# ---- what went wrong

RISK = re.compile(r"illegal|moderat|sensitive|censor|risk|违规|敏感|审核", re.IGNORECASE)
HICCUPS: frozenset[FaultKind] = frozenset({"rate", "overloaded", "timeout", "upstream"})
MOST_HICCUPS = 5  # polls of a job in a row


def hiccups(call: Call) -> int:
    """How many polls before this one have failed in a row."""
    return int(call.state or 0)


def check(reply: Reply, result: Result) -> None:
    if result.error:
        fault = told(result.error.code, result.error.message, final=False, wait=retry_after(reply))
        # All faults have status 200: that one poll failed says nothing of the job, which is asked about again.
        polled = reply.call.headers.get("X-TC-Action", "").startswith("Query")
        if polled and fault.kind in HICCUPS and hiccups(reply.call) < MOST_HICCUPS:
            return
        raise fault
    if result.job_status_code == "4":
        raise told(result.job_error_code or "", result.job_error_msg or "The provider failed to make the picture.")


def told(code: str, text: str, *, final: bool = True, wait: float | None = None) -> Fault:
    """What one of the cloud's codes means; of a finished job (`final`) also words without a code."""
    kind = KINDS.get(code) or KINDS.get(code.partition(".")[0]) or ("policy" if RISK.search(text) else "upstream")
    message = text or code
    if kind == "policy":
        return Fault(
            kind, f"{message} ({code})" if code != message else message, code="moderation_blocked", final=final
        )
    if code in {"InvalidAction", "ActionOffline"}:
        return Fault(kind, message, code="model_not_found", param="model")
    if kind == "missing":
        return Fault(kind, message, code="task_not_found", final=final)
    return Fault(kind, message, code=code or "task_failed", retry_after=wait, final=final)
