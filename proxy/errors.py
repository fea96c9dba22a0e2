"""Faults as OpenAI's error envelope.

    Fault                who failed             status  type                          retried by SDKs
    ├── invalid          the request            400     invalid_request_error         no
    ├── policy           its content            400     image_generation_user_error   no
    ├── missing          model, path, file      404     invalid_request_error         no
    ├── auth             gateway's credential   401     invalid_request_error         no
    ├── permission       what it may do         403     invalid_request_error         no
    ├── quota            its money              429     insufficient_quota            no (x-should-retry)
    ├── rate             its speed              429     rate_limit_error              yes
    ├── overloaded       the provider           503     service_unavailable_error     yes
    ├── upstream         the provider           502     server_error                  yes, unless it may have been paid
    ├── empty            the provider           502     server_error                  no (x-should-retry)
    ├── timeout          the provider           504     server_error                  no (x-should-retry)
    └── cancelled        nobody waits           499     invalid_request_error         no

The kind alone decides, but for the few codes in `STATUS_OF_CODE`.
"""

from __future__ import annotations

import math

import msgspec
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from translators.base import Fault, FaultKind

BY_KIND: dict[FaultKind, tuple[int, str, str | None]] = {
    "invalid": (400, "invalid_request_error", None),
    "policy": (400, "image_generation_user_error", "moderation_blocked"),
    "missing": (404, "invalid_request_error", None),
    "auth": (401, "invalid_request_error", "provider_auth_failed"),
    "permission": (403, "invalid_request_error", None),
    "quota": (429, "insufficient_quota", "insufficient_quota"),
    "rate": (429, "rate_limit_error", "rate_limit_exceeded"),
    "overloaded": (503, "service_unavailable_error", "server_is_overloaded"),
    "upstream": (502, "server_error", None),
    "empty": (502, "server_error", "no_image"),
    "timeout": (504, "server_error", "timeout"),
    "cancelled": (499, "invalid_request_error", "cancelled"),
}
"""Kind -> status, type, and the code where the fault has none of its own."""

STATUS_OF_CODE = {
    "invalid_value": 400,
    "invalid_api_key": 401,
    "idempotency_key_reused": 409,
    "task_running": 409,
    "task_not_resumable": 409,
    "method_not_supported": 405,
    "request_too_large": 413,
    "internal_error": 500,
}
NEVER_AGAIN: frozenset[FaultKind] = frozenset({"quota", "timeout", "empty"})
"""Kinds that an SDK would repeat by their status although that cannot help, or could pay twice."""

UNCERTAIN = frozenset(
    {
        "ambiguous",
        "deadline_exceeded",
        "unreadable",
        "truncated",
        "too_large",
        "download_failed",
        "foreign_host",
        "interrupted",
        "submit_uncertain",
    }
)
"""Codes of faults after which the provider may have made, and charged, the picture all the same."""


class Problem(msgspec.Struct, frozen=True):
    """An error answer, ready to be written."""

    status: int
    body: bytes
    headers: dict[str, str]


def uncertain(fault: Fault) -> bool:
    """Whether the picture may have been made and charged all the same: then nobody makes it again unasked."""
    return fault.passing or fault.code in UNCERTAIN


def retried(fault: Fault) -> bool:
    """Whether OpenAI's SDKs ask once more, unasked, where this is what they are answered."""
    shown = problem(fault)
    return (shown.status in {408, 409, 429} or shown.status >= 500) and "x-should-retry" not in shown.headers


def problem(fault: Fault) -> Problem:
    """The envelope of `fault`: message, type, param and code, all four always there."""
    status, kind, code = BY_KIND[fault.kind]
    code = fault.code or code
    status = STATUS_OF_CODE.get(code or "", status)
    if fault.kind == "missing" and code == "invalid_value":
        kind = "image_generation_user_error"  # OpenAI's type for a model that does not exist
    headers = dict(fault.headers)
    if fault.retry_after is not None and status in {429, 503}:
        headers["retry-after"] = str(max(1, math.ceil(fault.retry_after)))
        headers["retry-after-ms"] = str(math.ceil(fault.retry_after * 1000))
    if fault.kind in NEVER_AGAIN or status == 409 or uncertain(fault):
        headers["x-should-retry"] = "false"
    error = {"message": fault.message, "type": fault.type or kind, "param": fault.param, "code": code}
    return Problem(status, msgspec.json.encode({"error": error}), headers)


def as_fault(error: Exception, method: str, path: str) -> Fault:
    """Whatever reached the outermost layer as a fault. What nobody foresaw tells nothing of our insides."""
    match error:
        case Fault():
            return error
        case NotFoundException():
            return Fault("missing", f"Invalid URL ({method} {path})", code="unknown_url")
        case MethodNotAllowedException():
            return Fault(
                "invalid",
                f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)",
                code="method_not_supported",
            )
        case HTTPException(status_code=413):
            return Fault("invalid", "The request body is too large.", code="request_too_large")
        case HTTPException(status_code=code) if code < 500:
            return Fault("invalid", error.detail)
        case TimeoutError():
            return Fault("timeout", "The request took too long.")
        case _:
            return Fault(
                "upstream",
                "An error occurred while processing your request. It has been logged; "
                "please include the request id in your message if it persists.",
                code="internal_error",
            )
