"""Z.ai and Zhipu BigModel (GLM-Image, CogView): one picture per call, from text alone, answered as a link.

    POST /images/generations {"model", "prompt", "size", "quality"}  -> {"data": [{"url"}], "content_filter"}
    POST /async/images/generations, the same  -> {"id"};  GET /async-result/{id}  -> {"task_status", "image_result"}

GLM-Image takes the second way, so that a paid picture survives a lost connection; CogView knows only the first. Both
sites speak alike, but keys, accounts and prices are apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import quote

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
    Free,
    Job,
    Price,
    Provider,
    Reply,
    Step,
    Wait,
    retry_after,
)
from translators.base import bearer as sign
from translators.base import no_events as event

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

BASES = {"global": "https://api.z.ai/api/paas/v4", "cn": "https://open.bigmodel.cn/api/paas/v4"}
PROVIDER = Provider(
    title="Z.ai / Zhipu BigModel",
    env={"api_key": "ZAI_API_KEY"},
    regions=tuple(BASES),  # a key belongs to one site
    docs="https://docs.z.ai/guides/image/glm-image",
    poll_seconds=2.0,
)

# ---- what the models can do


def per_picture(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


COGVIEW_4 = Caps(
    ops=frozenset({"generate"}),
    prompt_chars=4000,
    free=Free(step=16, pixels=(0, 1 << 21), edge=(512, 2048)),
    qualities=("standard", "hd"),
    params=frozenset({"user", "watermark"}),
    # Not `request_id`: a repeated one is refused, and several pictures are several calls.
    options=frozenset({"sensitive_word_check"}),
    prices=per_picture(0.01),
    note="Marked as made by AI, unless the account has signed for pictures without a mark.",
)
GLM_IMAGE = replace(
    COGVIEW_4,
    # Its listed sizes go below 1024, which its rule for others does not allow.
    free=Free(step=32, pixels=(0, 1 << 22), edge=(1024, 2048)),
    qualities=("hd",),
    prices=per_picture(0.015),
)
MODELS: Mapping[str, Caps] = {
    "glm-image": GLM_IMAGE,
    "cogview-4-250304": COGVIEW_4,
    "cogview-4": COGVIEW_4,
    "cogview-3-flash": replace(COGVIEW_4, prompt_chars=32_000, qualities=(), prices=per_picture(0.0)),
}
COGVIEW_3 = replace(
    COGVIEW_4,
    free=None,
    sizes=((1024, 1024), (768, 1344), (864, 1152), (1344, 768), (1152, 864), (1440, 720), (720, 1440)),
    qualities=(),
    prices=(),
)
LEGACY = frozenset({"cogview-3", "cogview-3-plus"})
"""Not listed, for nobody says whether they are still there; who names one may try."""


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or BASES[site.get("region") or PROVIDER.regions[0]]


def caps(model: str) -> Caps | None:
    return COGVIEW_3 if model in LEGACY else MODELS.get(model)


# ---- what is sent

SYNC, ASYNC = "/images/generations", "/async/images/generations"
FIRST_POLL = 3.0
USER = (6, 128)
"""How many characters a user's id has."""


def start(job: Job) -> Step:
    fields: dict[str, Any] = {
        "model": job.model,
        "prompt": job.prompt,
        "size": "{}x{}".format(*job.size) if job.size else None,
        "quality": job.quality,
        "watermark_enabled": job.watermark,
        "user_id": named(job.user) if job.user else None,
    }
    body = {name: value for name, value in fields.items() if value is not None}
    return Call(path=ASYNC if job.model == "glm-image" else SYNC, json={**body, **job.options})


def named(user: str) -> str:
    """The same user always by the same id, also where the client's own is too short or too long."""
    return user if USER[0] <= len(user) <= USER[1] else sha256(user.encode()).hexdigest()


# ---- what comes back


class Filtered(msgspec.Struct, frozen=True):
    """What the filter saw in the prompt (`user`), the picture (`assistant`) or earlier turns; level 0 is the worst."""

    role: str | None = None
    level: int | str | None = None


class Problem(msgspec.Struct, frozen=True):
    code: str | int | None = None
    message: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """A picture, a task, or a failure. What only stands beside them is `Any`."""

    id: str | None = None
    data: tuple[shapes.Made, ...] | None = None
    task_status: str | None = None
    image_result: tuple[shapes.Made, ...] | None = None
    content_filter: Any = None
    contentFilter: Any = None  # noqa: N815 - beside an error it is also spelt so
    error: Problem | str | None = None


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    if reply.call.path == ASYNC:
        if not answer.id:
            raise Fault("upstream", "The provider took the job without naming a task.", code="unreadable", final=True)
        poll = Call(method="GET", path=f"/async-result/{quote(answer.id, safe='')}", repeatable=True)
        return Wait(poll, FIRST_POLL)
    if reply.call.method == "GET" and answer.task_status != "SUCCESS":
        return Wait(reply.call, PROVIDER.poll_seconds)
    seen = filtered(answer)
    extra = {"content_filter": msgspec.to_builtins(seen)} if seen else {}
    made = [shapes.pictured(reply, each, extra) for each in answer.image_result or answer.data or ()]
    if not any(made):
        raise shapes.nothing()
    return Done(outputs=tuple(output for output in made if output))


def filtered(answer: Answer) -> list[Filtered]:
    """What the filter says; a note beside a picture must not cost it."""
    try:
        return msgspec.convert(answer.content_filter or answer.contentFilter or [], list[Filtered])
    except msgspec.ValidationError:
        return []


# ---- what went wrong

KINDS: Mapping[str, FaultKind] = {
    "1000": "auth",
    "1001": "auth",
    "1002": "auth",
    "1003": "auth",
    "1004": "auth",
    "1100": "auth",
    "1110": "permission",
    "1111": "permission",
    "1112": "permission",  # the account is locked: with status 429, as all that follows about accounts
    "1113": "quota",
    "1120": "permission",
    "1121": "permission",
    "1200": "invalid",
    "1210": "invalid",
    "1211": "missing",
    "1212": "invalid",
    "1213": "invalid",
    "1214": "invalid",
    "1215": "invalid",
    "1220": "permission",
    "1221": "permission",
    "1222": "permission",
    "1230": "invalid",
    "1231": "invalid",
    "1234": "upstream",
    "1261": "invalid",
    "1300": "policy",
    "1301": "policy",
    "1302": "rate",
    "1303": "rate",
    "1304": "quota",  # of the day
    "1305": "rate",
    "1308": "quota",
    "1309": "quota",
    "1310": "quota",
    "1311": "permission",
    "1312": "overloaded",
    "1313": "quota",
    "500": "upstream",
}
STATUSES: Mapping[int, FaultKind] = {434: "permission", 435: "invalid"}
PARTS = {"user": "prompt", "assistant": "image", "history": "history"}


def check(reply: Reply) -> None:
    try:
        answer = reply.read(Answer)
    except Fault:
        if reply.status < 400:
            raise
        answer = Answer()
    failed = answer.task_status == "FAIL"
    if answer.error or failed or reply.status >= 400:
        raise fault(answer, reply, failed)


def fault(answer: Answer, reply: Reply, failed: bool) -> Fault:
    """Why a task failed is not documented: without a reason it is the provider's failure."""
    said = Problem(message=answer.error) if isinstance(answer.error, str) else answer.error or Problem()
    code = str(said.code) if said.code is not None else None
    kind = KINDS.get(code or "") or STATUSES.get(reply.status) or BY_STATUS.get(reply.status, "upstream")
    message = said.message or (failed and "The provider failed to make the picture.") or shapes.unread(reply)
    if kind == "policy":
        closed = ", ".join(f"{PARTS.get(each.role or '', each.role)} (level {each.level})" for each in filtered(answer))
        reasons = f"{code}; {closed}" if closed else code
        return Fault(kind, f"{message} ({reasons})", code="moderation_blocked", final=failed)
    if kind == "missing":
        polled = reply.call.method == "GET"
        param = None if polled else "model"
        return Fault(kind, message, code=code or "task_not_found" if polled else "model_not_found", param=param)
    code = code or ("task_failed" if failed else None)
    return Fault(kind, message, code=code, retry_after=retry_after(reply), final=failed)
