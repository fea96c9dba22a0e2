"""LiblibAI: submit, poll, up to four pictures per call; every call is a signed POST.

    POST /api/generate/… {"templateUuid", "generateParams"}  -> {"code": 0, "data": {"generateUuid"}}
    POST /api/generate/{webui/, comfy/,}status {"generateUuid"}
        -> {"code": 0, "data": {"generateStatus", "images", "pointsCost"}}

Pictures are named by public addresses. One that has none is uploaded to the vendor's storage before:

    POST /api/generate/upload/signature  -> {"data": {"postUrl", "key", …}};  POST {postUrl}, a form, the file last

A `code` other than 0 is a failure, whatever the status says of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from translators.base import (
    BY_STATUS,
    Call,
    Done,
    Fault,
    FaultKind,
    Job,
    Media,
    Output,
    Part,
    Provider,
    Reply,
    Secret,
    Stamp,
    Step,
    Usage,
    Wait,
    by_status,
    retry_after,
)
from translators.base import no_events as event
from translators.liblib.bodies import check_ranges, submit
from translators.liblib.models import MODELS, WAYS, caps, split
from translators.shapes import nothing, unread
from translators.signing import liblib_signature

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="LiblibAI",
    env={
        "access_key": "LIBLIB_ACCESS_KEY",
        "secret_key": "LIBLIB_SECRET_KEY",
        "api_key": "LIBLIB_API_KEY",  # both keys in one text, as gateways use to write them: access|secret
    },
    docs="https://liblibai.feishu.cn/wiki/UAMVw67NcifQHukf8fpccgS5n6d",
    poll_seconds=2.0,
)
FIRST_POLL = 1.0


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or "https://openapi.liblibai.cloud"


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    """In the query, anew for each call: a signature lives five minutes, a nonce serves once."""
    access_key, _, secret_key = secret.key.partition("|")
    access_key, secret_key = access_key or secret.extra["access_key"], secret_key or secret.extra.get("secret_key", "")
    timestamp = str(int(stamp.now.timestamp() * 1000))
    made = liblib_signature(secret_key, urlsplit(call.path).path, timestamp, stamp.nonce)
    login = {
        "AccessKey": access_key,
        "Signature": made,
        "Timestamp": timestamp,
        "SignatureNonce": stamp.nonce,
    }
    return replace(call, query={**call.query, **login})


# ---- what is sent

UPLOAD = "/api/generate/upload/signature"
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg"}


def start(job: Job) -> Step:
    check_ranges(job)
    return onward(job, ())


def pictures(job: Job) -> tuple[Media, ...]:
    """All that need an address, the mask last."""
    return (*job.images, job.mask) if job.mask else job.images


def onward(job: Job, uploaded: tuple[str, ...]) -> Call:
    """The next upload, or the job itself once every picture has an address. `uploaded` are those that had none."""
    rest = [media for media in pictures(job) if media.url is None][len(uploaded) :]
    if rest:
        wish = {"name": "input", "extension": EXTENSIONS.get(rest[0].type, "png")}
        return Call(path=UPLOAD, json=wish, state=remembered(uploaded))
    mine = iter(uploaded)
    return submit(job, [media.url or next(mine) for media in pictures(job)])


def remembered(uploaded: tuple[str, ...]) -> str:
    return msgspec.json.encode(uploaded).decode() if uploaded else ""


def recalled(state: str) -> tuple[str, ...]:
    return msgspec.json.decode(state, type=tuple[str, ...]) if state else ()


# ---- what comes back


class Outcome(msgspec.Struct, frozen=True):
    """The envelope. What is in it depends on the call, and on whether it went well."""

    code: int | str | None = None
    msg: str | None = None
    data: Any = None


class Made(msgspec.Struct, frozen=True, rename="camel"):
    image_url: str | None = None
    audit_status: int | None = None
    seed: Any = None


class Task(msgspec.Struct, frozen=True, rename="camel"):
    """`percentCompleted` is not read: the vendor says that it means nothing. The account's balance is not told on."""

    generate_uuid: str | None = None
    generate_status: int | None = None
    generate_msg: str | None = None
    points_cost: Any = None
    images: tuple[Made, ...] | None = None


class Place(msgspec.Struct, frozen=True, rename="camel"):
    """Where a picture may be uploaded to."""

    post_url: str
    key: str
    policy: str
    x_oss_date: str
    x_oss_expires: int | str
    x_oss_signature: str
    x_oss_credential: str
    x_oss_signature_version: str


PASSED = 3  # of `auditStatus`
SUCCESS, FAILED, EXPIRED = 5, 6, 7  # of `generateStatus`; 3 is not final, although the picture is there


def step(job: Job, reply: Reply) -> Step:
    call = reply.call
    if call.anonymous:  # uploaded: the address stands in the state already
        return onward(job, recalled(call.state))
    data = reply.read(Outcome).data
    if call.path == UPLOAD:
        return upload(job, read(data, Place), recalled(call.state))
    task = read(data or {}, Task)
    if call.path.endswith("/status"):
        return made(job, task) if task.generate_status == SUCCESS else Wait(call, PROVIDER.poll_seconds)
    if not task.generate_uuid:
        raise Fault("upstream", "The provider took the job without naming a task.", code="unreadable", final=True)
    status = next(iter(WAYS[split(job.model)[0]].values())).status  # of a family, all ways share it
    return Wait(Call(path=status, json={"generateUuid": task.generate_uuid}, repeatable=True), FIRST_POLL)


T = TypeVar("T")


def read(data: object, shape: type[T]) -> T:
    try:
        return msgspec.convert(data, shape)
    except msgspec.ValidationError as error:
        raise Fault("upstream", f"The provider's answer cannot be read: {error}", code="unreadable") from error


def upload(job: Job, place: Place, uploaded: tuple[str, ...]) -> Call:
    """The storage reads nothing after the file, so it comes last."""
    media = [media for media in pictures(job) if media.url is None][len(uploaded)]
    form = (
        Part("key", place.key),
        Part("policy", place.policy),
        Part("x-oss-date", place.x_oss_date),
        Part("x-oss-expires", str(place.x_oss_expires)),
        Part("x-oss-signature", place.x_oss_signature),
        Part("x-oss-credential", place.x_oss_credential),
        Part("x-oss-signature-version", place.x_oss_signature_version),
        Part("file", media),
    )
    state = remembered((*uploaded, f"{place.post_url}/{place.key}"))
    return Call(path=place.post_url, form=form, anonymous=True, state=state)


def made(job: Job, task: Task) -> Done:
    """Only what passed moderation is listed: what is missing did not."""
    outputs: list[Output] = []
    faults: list[Fault] = []
    listed = task.images or ()
    for image in listed:
        told = {"seed": image.seed, "auditStatus": image.audit_status, "pointsCost": task.points_cost}
        if image.audit_status not in {None, PASSED}:
            faults.append(withheld())
        elif image.image_url:
            extra = {name: value for name, value in told.items() if value is not None}
            outputs.append(Output(url=image.image_url, extra=extra))
        else:
            faults.append(nothing())
    faults += [withheld() for _ in range(job.n - len(listed))]
    points = task.points_cost
    usage = Usage(credits=points if isinstance(points, int | float) else None)
    if not outputs:
        faults[0].usage = usage
        raise faults[0]
    return Done(outputs=tuple(outputs), usage=usage, faults=tuple(faults))


def withheld() -> Fault:
    return Fault("policy", "The provider's moderation withheld the made image.", code="moderation_blocked")


# ---- what went wrong

KINDS: Mapping[str, FaultKind] = {
    "401": "auth",
    "403": "permission",  # no plan for the interface, or its points are used up
    "429": "rate",
    "100000": "invalid",
    "100010": "auth",
    "100020": "auth",
    "100021": "quota",
    "100030": "invalid",
    "100031": "policy",
    "100032": "invalid",
    "100050": "invalid",
    "100051": "missing",
    "100052": "policy",
    "100053": "missing",
    "100054": "rate",  # as many tasks at work as the account may have
    "100055": "policy",
    "100120": "invalid",
    "200000": "upstream",
    "200001": "missing",
    "210000": "upstream",
}
PASSING: frozenset[FaultKind] = frozenset({"rate", "upstream"})
"""What a status call may fail of that says nothing of the task: it is asked again."""
SENSITIVE = re.compile(r"sensitive|moderat|audit|敏感|违规|审核", re.IGNORECASE)
"""How a failed task tells that its content is why: in words alone."""


def check(reply: Reply) -> None:
    if reply.call.anonymous:  # the storage: no envelope, and nothing to read where it went well
        by_status(reply, f"The provider's storage did not take the picture: status {reply.status}.", "upload_failed")
        return
    try:
        outcome = reply.read(Outcome)
    except Fault:
        by_status(reply, unread(reply))
        raise
    polled = reply.call.path.endswith("/status")
    if str(outcome.code or 0) != "0" or reply.status >= 400:
        found = fault(outcome, reply)
        if polled and reply.status < 400 and found.kind in PASSING:
            return
        raise found
    if polled:
        check_task(read(outcome.data or {}, Task))


def check_task(task: Task) -> None:
    if task.generate_status == EXPIRED:
        text = "The provider did not finish the task within 30 minutes; it gave the points back."
        raise Fault("timeout", text, code="task_timeout", final=True)
    if task.generate_status == FAILED:
        reason = task.generate_msg or "no reason given"
        text = f"The provider failed to make the picture: {reason}"
        if SENSITIVE.search(reason):
            raise Fault("policy", text, code="moderation_blocked", final=True)
        raise Fault("upstream", text, code="task_failed", final=True)


def fault(outcome: Outcome, reply: Reply) -> Fault:
    code = str(outcome.code) if outcome.code else None
    kind = KINDS.get(code or "") or BY_STATUS.get(reply.status, "upstream")
    message = outcome.msg or unread(reply)
    if kind == "policy":
        return Fault(kind, f"{message} ({code})", code="moderation_blocked")
    if kind == "missing":
        polled = code == "100051" or reply.call.path.endswith("/status")
        return Fault(kind, message, code="task_not_found" if polled else "model_not_found",
                     param=None if polled else "model")  # fmt: skip
    return Fault(kind, message, code=code, retry_after=retry_after(reply))
