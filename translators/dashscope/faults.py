"""What DashScope says when it says no.

{"code", "message"}                                      of an HTTP error, and sometimes with status 200
{"error": {"code", "message"}}                           of its gateway
{"output": {"task_status": "FAILED", "code", "message"}} of a task
{"output": {"results": [{"url"}, {"code", "message"}]}}  of one picture among others
<Error><Code>…</Code></Error>                            of the storage that pictures are uploaded to
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from translators.base import BY_STATUS, Fault, FaultKind, Reply, by_status, retry_after
from translators.shapes import unread

KINDS: Mapping[str, FaultKind] = {
    "InvalidApiKey": "auth",
    "invalid_api_key": "auth",
    "NOT AUTHORIZED": "auth",
    "AccessDenied": "permission",
    "Model.AccessDenied": "permission",
    "Workspace.AccessDenied": "permission",
    "App.AccessDenied": "permission",
    "WorkSpaceNotFound": "permission",  # the configuration's, not the client's: no "missing", which blames the model
    "AccessDenied.Unpurchased": "quota",
    "AllocationQuota.FreeTierOnly": "quota",
    "Arrearage": "quota",
    "CommodityNotPurchased": "quota",
    "PrepaidBillOverdue": "quota",
    "PostpaidBillOverdue": "quota",
    "Throttling.AllocationQuota": "quota",
    "insufficient_quota": "quota",
    "Throttling": "rate",
    "Throttling.RateQuota": "rate",
    "LimitRequests": "rate",
    "limit_requests": "rate",
    "Throttling.BurstRate": "rate",
    "limit_burst_rate": "rate",
    "InvalidParameter": "invalid",
    "InvalidParameter.DataInspection": "invalid",  # the picture could not be opened to be inspected
    "BadRequest": "invalid",
    "InvalidURL": "invalid",
    "InvalidImage": "invalid",
    "InvalidImageResolution": "invalid",
    "InvalidImageFormat": "invalid",
    "UnsupportedOperation": "invalid",
    "DataInspectionFailed": "policy",
    "data_inspection_failed": "policy",
    "IPInfringementSuspect": "policy",
    "CustomRoleBlocked": "policy",
    "FaqRuleBlocked": "policy",
    "ModelNotFound": "missing",
    "model_not_found": "missing",
    "model_not_supported": "missing",
    "NotFound": "missing",
    "InternalError": "upstream",
    "InternalError.Timeout": "timeout",
    "SystemError": "upstream",
    "ModelServiceFailed": "upstream",
    "RewriteFailed": "upstream",
    "RequestTimeOut": "timeout",
    "ResponseTimeout": "timeout",
    "GatewayTimeout": "timeout",
    "ModelServingError": "overloaded",
    "ModelUnavailable": "overloaded",
    "ServiceUnavailable": "overloaded",
}
"""By the whole code, else by what stands before its first dot: `InvalidImage.FileFormat`."""

TEXTS: tuple[tuple[str, FaultKind], ...] = (
    ("green network verification", "policy"),
    ("Model not exist", "missing"),
)
"""What a message of `InvalidParameter` says that its code does not."""


class Problem(msgspec.Struct, frozen=True):
    """Why there is no picture, or no answer."""

    code: str | int | None = None
    message: str | None = None


class Outcome(Problem, frozen=True):
    """A task's, as far as it tells of failure."""

    task_status: str | None = None


class Failure(Problem, frozen=True):
    """An answer that may be a failure."""

    error: Problem | str | None = None
    output: Outcome | None = None


def check(reply: Reply) -> None:
    if reply.call.anonymous:
        check_upload(reply)
        return
    try:
        said = reply.read(Failure)
    except Fault:  # HTML from an edge, or nothing at all
        by_status(reply, unread(reply))
        raise
    if said.output and said.output.task_status:
        check_task(said.output, reply)
    if isinstance(said.error, Problem) and said.error != Problem():
        raise fault(said.error, reply)
    if reply.status >= 400 or (said.code and said.output is None):
        found = fault(said, reply)
        found.passing = reply.call.method == "GET" and found.kind in {"rate", "overloaded", "timeout", "upstream"}
        raise found


def check_task(task: Outcome, reply: Reply) -> None:
    """Raise what a task ended of. One that is still at work, or made something, says nothing here."""
    match task.task_status:
        case "FAILED":
            raise fault(task, reply, final=True)
        case "CANCELED":
            raise Fault("upstream", "The task was cancelled at the provider.", code="task_canceled", final=True)
        case "UNKNOWN":  # its number is wrong, older than a day, or another account's
            raise Fault("missing", "The provider does not know this task.", code="task_not_found")


CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")


def check_upload(reply: Reply) -> None:
    """The storage's answer. Names are made of contents: what is there already is the same picture."""
    if reply.status < 400:
        return
    found = CODE.search(reply.data[:4096].decode(errors="replace"))
    code = found[1] if found else f"status {reply.status}"
    if code == "FileAlreadyExists":
        return
    if code == "EntityTooLarge":
        raise Fault("invalid", "The picture is larger than the provider stores.", code="image_too_large", param="image")
    raise Fault("upstream", f"The provider's storage did not take the picture: {code}.", code="upload_failed")


def fault(problem: Problem, reply: Reply, *, final: bool = False) -> Fault:
    """What a code and its message mean. `final`: the task itself has failed."""
    code = "" if problem.code is None else str(problem.code)
    message = problem.message or code or unread(reply)
    kind = next((kind for text, kind in TEXTS if text in message), None)
    kind = kind or KINDS.get(code) or KINDS.get(code.partition(".")[0])
    if kind is None:
        kind = BY_STATUS.get(reply.status, "invalid" if 400 <= reply.status < 500 else "upstream")
    if kind == "policy":
        return Fault(kind, f"{message} ({code})", code="moderation_blocked", final=final)
    param = "model" if kind == "missing" else named(message)
    return Fault(kind, message, code=code or None, param=param, retry_after=retry_after(reply), final=final)


FIELDS: Mapping[str, str] = {
    "size": "size", "seed": "seed", "n": "n", "num_images_per_prompt": "n", "negative_prompt": "negative_prompt",
    "watermark": "watermark", "mask_image_url": "mask", "base_image_url": "image", "images": "image",
    "prompt": "prompt",
}  # fmt: skip
FIELD = re.compile(r"\b(?:parameters|input)\.(\w+)|^(num_images_per_prompt)\b")


def named(message: str) -> str | None:
    """The field that a message speaks of, by the name that the client gave it."""
    found = FIELD.search(message)
    return FIELDS.get(found[1] or found[2]) if found else None
