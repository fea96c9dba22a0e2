"""Kling (Kuaishou): submit, poll, up to nine pictures per call; the endpoint follows from the model and its inputs.

    POST /v1/images/{generations, omni-image, multi-image2image, editing/expand, kolors-virtual-try-on}
        -> {"code": 0, "data": {"task_id"}}
    GET the same path, /{task_id}  -> {"code": 0, "data": {"task_status", "task_result": {"images": [{"url"}]}}}

Pictures are bare base64. A `code` other than 0 is a failure, whatever the status says of it.
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
    Inline,
    Job,
    Op,
    Output,
    Price,
    Provider,
    Reply,
    Secret,
    Stamp,
    Step,
    Wait,
    base64,
    by_status,
    header,
    prompted,
    retry_after,
)
from translators.base import no_events as event
from translators.shapes import nothing, unread
from translators.signing import jwt_hs256

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "found", "look", "sign", "start", "step"]

BASES = {"global": "https://api-singapore.klingai.com", "cn": "https://api-beijing.klingai.com"}
PROVIDER = Provider(
    title="Kling AI",
    env={"api_key": "KLINGAI_API_KEY", "access_key": "KLINGAI_ACCESS_KEY", "secret_key": "KLINGAI_SECRET_KEY"},
    regions=tuple(BASES),  # a key belongs to one site
    docs="https://app.klingai.com/global/dev/document-api",
    poll_seconds=2.0,
)
FIRST_POLL = 1.0

# ---- what the models can do

GENERATIONS = "/v1/images/generations"
OMNI = "/v1/images/omni-image"
MULTI = "/v1/images/multi-image2image"
EXPAND = "/v1/images/editing/expand"
TRY_ON = "/v1/images/kolors-virtual-try-on"

RATIOS = ("21:9", "16:9", "3:2", "4:3", "1:1", "3:4", "2:3", "9:16")
MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
EDITS: frozenset[Op] = frozenset({"edit"})
WATERMARK = frozenset({"watermark"})
NAME = "external_task_id"
NAMED = frozenset({NAME})
SIDES = ("up_expansion_ratio", "down_expansion_ratio", "left_expansion_ratio", "right_expansion_ratio")


def per_picture(amount: float, op: Op | None = None, resolution: str | None = None) -> Price:
    return Price(unit="image", amount=amount, op=op, resolution=resolution)


V3 = Caps(
    ops=MAKES,
    max_n=9,
    prompt_chars=2500,
    ratios=RATIOS,
    resolutions=("1k", "2k"),
    max_images=1,
    input_types=("image/png", "image/jpeg"),
    input_bytes=10_000_000,
    input_edge=(300, 0),
    params=WATERMARK | {"negative_prompt"},
    options=NAMED | {"element_list"},
    note="1:1 where no size is asked for, with a picture the ratio nearest to its own. "
    "A negative prompt cannot go with a picture.",
)
OMNI_O1 = replace(
    V3,
    max_images=10,
    params=WATERMARK,
    options=NAMED,
    prices=(per_picture(0.028),),
    note="Edits by instruction; the prompt may name the pictures <<<image_1>>>, <<<image_2>>> …",
)
TRIES_ON = Caps(
    ops=EDITS,
    prompt_chars=0,
    min_images=2,
    max_images=2,
    input_types=V3.input_types,
    input_bytes=V3.input_bytes,
    input_edge=V3.input_edge,
    note="Virtual try-on: the first picture is the person, the second the garment.",
)
TRY_ONS = replace(TRIES_ON, prices=(per_picture(0.14),))  # a unit, about 0.14 (2026-10, told by resellers)

MODELS: Mapping[str, Caps] = {
    "kling-v3": V3,  # its price is told in two ways that do not agree
    "kling-v2-1": replace(
        V3,
        max_images=4,
        params=V3.params | {"fidelity"},
        options=NAMED | {"image_reference", "image_fidelity", "human_fidelity"},
        # An edit costs 0.028, with several pictures 0.056 each: no rule can tell the two.
        prices=(per_picture(0.014, "generate"), per_picture(0.028, "variation")),
        note="Several pictures are subjects to combine in one. A negative prompt cannot go with a picture.",
    ),
    "kling-image-o1": OMNI_O1,
    "kling-v3-omni": replace(
        OMNI_O1,
        resolutions=("1k", "2k", "4k"),
        options=NAMED | {"element_list", "result_type", "series_amount"},
        prices=(per_picture(0.028, resolution="1k"), per_picture(0.028, resolution="2k"),
                per_picture(0.056, resolution="4k")),
        note="As kling-image-o1; also makes a series of pictures, with the options result_type and series_amount.",
    ),
    "expand": replace(
        TRIES_ON,
        prompt_chars=2500,
        max_n=9,
        min_images=0,
        max_images=1,
        free=Free(),
        params=WATERMARK,
        options=NAMED | frozenset(SIDES),
        note="Outpainting: `size` is the new canvas, the picture in its middle; or options such as up_expansion_ratio.",
    ),
    "kolors-virtual-try-on-v1-5": TRY_ONS,
    "kolors-virtual-try-on-v1": TRY_ONS,
}  # fmt: skip


def base(site: Mapping[str, str]) -> str:
    return BASES[site.get("region") or PROVIDER.regions[0]]


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


LIFETIME, SKEW = 1800, 5


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    """An API key is the token itself; an access key and its secret make one that lives half an hour."""
    token = secret.key
    if not token:
        now = int(stamp.now.timestamp())
        claims = {"iss": secret.extra["access_key"], "exp": now + LIFETIME, "nbf": now - SKEW}
        token = jwt_hs256(claims, secret.extra["secret_key"])
    return header(call, "Authorization", f"Bearer {token}")


# ---- what is sent

FIDELITY = {"high": 0.9, "low": 0.5}


def start(job: Job) -> Step:
    """`n` is told to every endpoint that has it; a model's own default is never relied on."""
    path = endpoint(job)
    fields: dict[str, Any] = {
        "model_name": None if path == EXPAND else job.model,
        "prompt": None if path == TRY_ON else worded(job, path),
        "negative_prompt": job.negative_prompt,
        **pictures(job, path),
        "image_fidelity": FIDELITY.get(job.fidelity or ""),
        "aspect_ratio": shape(job, path),
        "resolution": None if path == MULTI else job.resolution,
        "n": None if path == TRY_ON else job.n,
        "watermark_info": {"enabled": True} if job.watermark else None,
    }
    if path == EXPAND:
        fields |= margins(job)
    fields[NAME] = job.mark if path in MARKING else None
    body = {name: value for name, value in fields.items() if value is not None}
    return Call(path=path, json={**body, **job.options})


MARKING = frozenset({GENERATIONS, OMNI, EXPAND})
"""Where a task may bear a name of ours."""
LOOKS = "look"
"""The state of a call that asks whether there is such a task."""


def look(job: Job) -> Call | None:
    """Our name may stand in place of the task's. One of the client's own may be that of another task. A job that is
    known without its pictures may not tell where it went.
    """
    path = endpoint(job)
    untold = job.op == "edit" and not job.images and path == GENERATIONS and MODELS[job.model].max_images > 1
    if not job.mark or path not in MARKING or NAME in job.options or untold:
        return None
    return Call(method="GET", path=f"{path}/{quote(job.mark, safe='')}", repeatable=True, state=LOOKS)


def endpoint(job: Job) -> str:
    """Where the job goes. Raises `Fault("invalid")` for what cannot be told there."""
    if job.images and job.negative_prompt:
        raise Fault("invalid", "A negative prompt cannot go together with a picture.", param="negative_prompt")
    if job.model == "expand":
        return EXPAND
    if job.model.startswith("kolors-"):
        return TRY_ON
    if job.model == "kling-image-o1" or job.model.endswith("-omni"):
        return OMNI
    if len(job.images) < 2:
        return GENERATIONS
    lacks = {
        "resolution": job.resolution not in {None, "1k"},
        "input_fidelity": job.fidelity,
        "watermark": job.watermark,
    }
    for param in (param for param, said in lacks.items() if said):
        text = f"'{job.model}' does not take '{param}' where several pictures are combined. Leave it out, or send one."
        raise Fault("invalid", text, code="unsupported_parameter", param=param)
    return MULTI


def worded(job: Job, path: str) -> str:
    """The prompt, which is required everywhere; several pictures are named in it, so that all of them are used."""
    prompt = prompted(job)
    if path != OMNI or len(job.images) < 2 or "<<<image_" in prompt:
        return prompt
    names = "".join(f"<<<image_{number}>>> " for number in range(1, len(job.images) + 1))
    return names + prompt if len(names) + len(prompt) <= V3.prompt_chars else prompt


def pictures(job: Job, path: str) -> dict[str, Any]:
    """The members that hold pictures."""
    sent: list[Inline] = [base64(image) for image in job.images]
    if not sent:
        return {}
    if path == OMNI:
        return {"image_list": [{"image": image} for image in sent]}
    if path == MULTI:
        return {"subject_image_list": [{"subject_image": image} for image in sent]}
    if path == TRY_ON:
        return dict(zip(("human_image", "cloth_image"), sent, strict=True))
    return {"image": sent[0]}


def shape(job: Job, path: str) -> str | None:
    """The ratio. Unsaid, the omni endpoint follows the picture; the others would make 16:9 of everything."""
    if job.ratio or path in {OMNI, EXPAND, TRY_ON}:
        return job.ratio
    first = job.images[0] if job.images else None
    if first is None or not first.width or not first.height:
        return "1:1"
    share = first.width / first.height

    def miss(ratio: str) -> float:
        width, height = map(int, ratio.split(":"))
        return max(share * height / width, width / height / share)

    return min(RATIOS, key=miss)


def margins(job: Job) -> dict[str, float]:
    """How far each side moves out, in parts of the picture, so that the canvas has the size that was asked for."""
    if not job.options.keys().isdisjoint(SIDES):
        return {}
    old = job.images[0].width, job.images[0].height
    new = job.size or old
    wider, higher = new[0] / old[0] - 1, new[1] / old[1] - 1
    if min(wider, higher) < 0 or max(wider, higher) == 0 or new[0] * new[1] > 3 * old[0] * old[1]:
        text = (
            f"Expanding needs a size beyond the picture's own {old[0]}x{old[1]} and of at most three times its area, "
            f"or provider_options with one of {', '.join(SIDES)}."
        )
        raise Fault("invalid", text, code="invalid_value", param="size")
    sides = (higher / 2, higher / 2, wider / 2, wider / 2)
    return {name: round(side, 4) for name, side in zip(SIDES, sides, strict=True)}


# ---- what comes back


class Made(msgspec.Struct, frozen=True):
    url: str | None = None
    watermark_url: str | None = None


class Result(msgspec.Struct, frozen=True):
    """`series_images` is documented for a series; a series was also seen in `images`."""

    images: tuple[Made, ...] | None = None
    series_images: tuple[Made, ...] | None = None


class Task(msgspec.Struct, frozen=True):
    """What was charged stands in two members whose shape is not surely known: they are handed on as they are."""

    task_id: str = ""
    task_status: str = ""
    task_status_msg: str | None = None
    task_result: Result | None = None
    final_unit_deduction: Any = None
    final_balance_deduction: Any = None


class Answer(msgspec.Struct, frozen=True):
    code: int = 0
    message: str | None = None
    data: Task | None = None


def step(job: Job, reply: Reply) -> Step:
    task = reply.read(Answer).data or Task()
    if reply.call.method == "POST":
        if not task.task_id:
            raise Fault("upstream", "The provider took the job without naming a task.", code="unreadable", final=True)
        poll = Call(method="GET", path=f"{reply.call.path}/{quote(task.task_id, safe='')}", repeatable=True)
        return Wait(poll, FIRST_POLL, queued=task.task_status == QUEUED)
    if task.task_status not in {"succeed", "succeeded"}:  # the older and the newer standard's word
        return Wait(reply.call, PROVIDER.poll_seconds, queued=task.task_status == QUEUED)
    result = task.task_result or Result()
    urls = [url_of(made, job) for made in result.series_images or result.images or ()]
    if not any(urls):
        raise nothing()
    charged = ("final_unit_deduction", "final_balance_deduction")
    extra = {name: value for name in charged if (value := getattr(task, name)) is not None}
    return Done(
        outputs=tuple(Output(url=url, extra=extra) for url in urls if url),
        faults=tuple(nothing() for url in urls if not url),
    )


QUEUED = "submitted"


def found(job: Job, reply: Reply) -> Step | None:
    """What became of the task that was looked for. It goes on by the same call: our name stands for its own."""
    task = reply.read(Answer).data
    known = replace(reply.call, state="")
    return step(job, replace(reply, call=known)) if task and task.task_id else None


def url_of(made: Made, job: Job) -> str | None:
    """The marked file comes beside the plain one."""
    return (made.watermark_url if job.watermark else None) or made.url


# ---- what went wrong

KINDS: Mapping[int, FaultKind] = {
    1000: "auth",
    1001: "auth",
    1002: "auth",
    1003: "auth",  # not yet valid: a clock is wrong
    1004: "auth",
    1100: "quota",  # these three come with status 429: waiting does not help
    1101: "quota",
    1102: "quota",
    1103: "permission",
    1200: "invalid",
    1201: "invalid",
    1202: "missing",
    1203: "missing",
    1300: "policy",
    1301: "policy",
    1302: "rate",
    1303: "rate",
    1304: "permission",  # our address is not in the account's whitelist: with status 429, too
    5000: "upstream",
    5001: "overloaded",
    5002: "timeout",
}
RISK = re.compile(r"risk|moderat|sensitive|safety|policy|审核|风控|敏感|违规", re.IGNORECASE)
"""How a failed task tells that its content is why: in words alone."""


def check(reply: Reply) -> None:
    try:
        answer = reply.read(Answer)
    except Fault:
        by_status(reply, unread(reply))
        return
    if answer.code or reply.status >= 400:
        if unknown(reply, answer.code):
            return
        raise fault(answer, reply)
    if answer.data and answer.data.task_status == "failed":
        reason = answer.data.task_status_msg or "no reason given"
        text = f"The provider failed to make the picture: {reason}"
        if RISK.search(reason):
            raise Fault("policy", text, code="moderation_blocked", final=True)
        raise Fault("upstream", text, code="task_failed", final=True)


def unknown(reply: Reply, code: int) -> bool:
    """Whether it says that there is no task by our name, in one of two ways: a poll has nothing else to be wrong."""
    return reply.call.state == LOOKS and code in {1201, 1203}


def fault(answer: Answer, reply: Reply) -> Fault:
    kind = KINDS.get(answer.code) or BY_STATUS.get(reply.status, "upstream")
    message = answer.message or unread(reply)
    if kind == "policy":
        return Fault(kind, f"{message} ({answer.code})", code="moderation_blocked")
    code, param = str(answer.code) if answer.code else None, None
    if kind == "missing":
        polled = reply.call.method == "GET"
        code, param = ("task_not_found", None) if polled else ("model_not_found", "model")
    passing = reply.call.method == "GET" and kind in {"rate", "overloaded", "timeout", "upstream"}
    return Fault(kind, message, code=code, param=param, retry_after=retry_after(reply), passing=passing)
