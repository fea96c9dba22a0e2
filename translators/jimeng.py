"""Jimeng (Volcengine's visual service): submit, poll, one picture per call; every call is signed.

    POST /?Action=CVSync2AsyncSubmitTask {"req_key", "prompt", …}  -> {"code": 10000, "data": {"task_id"}}
    POST /?Action=CVSync2AsyncGetResult {"req_key", "task_id", "req_json"}
        -> {"code", "data": {"status", "image_urls"}}
    POST /?Action=CVCancelTask {"req_key", "task_id"}
    POST /?Action=CVProcess, for the oldest models  -> the second's answer, at once

`req_key` is the model. A task that is `done` may have failed: the outer `code` says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from translators.base import (
    BY_STATUS,
    Blob,
    Call,
    Caps,
    Done,
    Fault,
    FaultKind,
    Free,
    Job,
    Media,
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
    body,
    by_status,
    prompted,
    retry_after,
)
from translators.base import no_events as event
from translators.shapes import nothing, unread
from translators.signing import sha256_of, volcengine_authorization

__all__ = ["MODELS", "PROVIDER", "base", "cancel", "caps", "check", "event", "sign", "start", "step"]

BASE = "https://visual.volcengineapi.com"
PROVIDER = Provider(
    title="Jimeng (Volcengine visual service)",
    env={
        "access_key": "VOLC_ACCESSKEY",
        "secret_key": "VOLC_SECRETKEY",
        "session_token": "VOLC_SESSION_TOKEN",
        "api_key": "JIMENG_API_KEY",  # both keys in one text, as gateways use to write them: id|secret
    },
    docs="https://www.volcengine.com/docs/85621",
    poll_seconds=2.0,
)
FIRST_POLL = 1.0

# ---- what the models can do

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
DRAWS: frozenset[Op] = frozenset({"generate"})
CHANGES: frozenset[Op] = frozenset({"edit", "variation"})
EDITS: frozenset[Op] = frozenset({"edit"})
MARKS = frozenset({"logo_info", "aigc_meta"})
WATERMARK = frozenset({"watermark"})
SEEDED = WATERMARK | {"seed"}
SIDES = frozenset({"top", "bottom", "left", "right"})
AREAS = {"1K": 1024 * 1024, "2K": 2048 * 2048, "4K": 4096 * 4096}


def yuan(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount, currency="CNY"),)


SEEDREAM_4 = Caps(
    ops=MAKES,
    prompt_chars=800,
    free=Free(pixels=(AREAS["1K"], AREAS["4K"]), ratio=3),
    resolutions=tuple(AREAS),
    max_images=10,
    inputs="url",  # base64 is documented for the older models only; where `inputs` is set to bytes, it is sent
    input_types=("image/png", "image/jpeg"),
    input_bytes=15_000_000,
    input_edge=(0, 4096),
    params=WATERMARK,
    options=MARKS | {"scale", "min_ratio", "max_ratio"},
    prices=yuan(0.22),
    note="The option scale, 0 to 1, is how much the text counts against the pictures.",
)
SEEDREAM_3 = Caps(
    ops=DRAWS,
    prompt_chars=800,
    free=Free(pixels=(512 * 512, 2048 * 2048), ratio=3),
    params=SEEDED,
    options=MARKS | {"use_pre_llm"},
    note="1328x1328 where no size is asked for. Rewrites the prompt, unless the option use_pre_llm is false.",
)
IMAGE_TO_IMAGE = Caps(
    ops=CHANGES,
    prompt_chars=800,
    free=Free(edge=(512, 2016)),
    max_images=1,
    input_types=SEEDREAM_4.input_types,
    input_bytes=4_700_000,
    input_edge=(0, 4096),
    params=SEEDED,
    options=MARKS | {"scale"},
    note="What is made has edges of 512 to 1536, in steps of 16, whatever is asked for.",
)
SEEDEDIT = replace(IMAGE_TO_IMAGE, free=None, note="SeedEdit 3.0, an older service. Keeps the picture's shape.")
EXTRACTION = replace(IMAGE_TO_IMAGE, ops=EDITS, free=Free(edge=(1024, 4096)), options=MARKS)
OLD = Caps(
    ops=DRAWS,
    prompt_chars=800,
    free=Free(edge=(256, 768)),
    params=SEEDED,
    options=frozenset({"logo_info", "use_pre_llm", "use_sr", "scale", "ddim_steps"}),
    note="An older service, 512x512 where no size is asked for.",
)

MODELS: Mapping[str, Caps] = {
    "jimeng_seedream46_cvtob": replace(
        SEEDREAM_4,
        max_images=14,
        note="Jimeng 4.6. The option scale, 1 to 100, is how much the text counts against the pictures.",
    ),
    "jimeng_t2i_v40": SEEDREAM_4,
    "jimeng_t2i_v31": SEEDREAM_3,
    "jimeng_t2i_v30": SEEDREAM_3,
    "jimeng_i2i_v30": IMAGE_TO_IMAGE,
    "jimeng_image2image_dream_inpaint": replace(
        IMAGE_TO_IMAGE,
        ops=EDITS,
        free=None,
        mask="white-edits",
        mask_required=True,
        options=MARKS,
        prices=yuan(0.20),
        note="Paints what the mask opens; the prompt 删除 erases it.",
    ),
    "jimeng_img2img_seed3_painting_edit": replace(
        IMAGE_TO_IMAGE,
        ops=EDITS,
        free=Free(),
        mask="white-edits",
        options=MARKS | SIDES,
        note="Outpainting: `size` is the new canvas, the picture in its middle; or the options top, bottom, left and "
        "right in parts of it; or the canvas as the picture, with a mask that opens what is to be filled.",
    ),
    "jimeng_i2i_seed3_tilesr_cvtob": replace(
        IMAGE_TO_IMAGE,
        ops=EDITS,
        prompt_chars=0,
        free=None,
        resolutions=("4k", "8k"),
        params=WATERMARK,
        prices=yuan(0.40),
        note="Makes a picture larger; takes no prompt. The option scale is 0 to 100.",
    ),
    "i2i_material_extraction": replace(
        EXTRACTION, options=MARKS | {"lora_weight"}, note="Extracts a pattern, a logo or a texture, to print it."
    ),
    "jimeng_i2i_extract_tiled_images": replace(
        EXTRACTION, prices=yuan(0.22), note="Extracts a product, on a plain background."
    ),
    "seededit_v3.0": SEEDEDIT,
    "high_aes_general_v30l_zt2i": replace(
        SEEDREAM_3, free=Free(edge=(512, 2048)), options=MARKS | {"use_pre_llm", "scale"},
        note="General 3.0, an older service.",
    ),
    "jimeng_high_aes_general_v21_L": OLD,
    "high_aes_general_v20_L": OLD,
}  # fmt: skip
AT_ONCE = frozenset({"jimeng_high_aes_general_v21_L", "high_aes_general_v20_L"})
SINGLE = frozenset({"jimeng_seedream46_cvtob", "jimeng_t2i_v40"})
"""Those that choose how many pictures they make, each of them paid, unless they are told."""
PROMPTS = {"i2i_material_extraction": "image_edit_prompt", "jimeng_i2i_extract_tiled_images": "edit_prompt"}


def base(site: Mapping[str, str]) -> str:
    return BASE


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


SUBMIT, POLL, PROCESS = "CVSync2AsyncSubmitTask", "CVSync2AsyncGetResult", "CVProcess"
CANCEL = "CVCancelTask"
VERSIONS = {CANCEL: "2024-06-06"}
SCOPE = ("cn-north-1", "cv")


def call_of(action: str, said: Mapping[str, Any]) -> Call:
    """A poll is a call like all others, but to be sent again as often as needed."""
    return Call(
        path="/", query={"Action": action, "Version": VERSIONS.get(action, "2022-08-31")}, json=said,
        repeatable=action in {POLL, CANCEL},
    )  # fmt: skip


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    key_id, _, key = secret.key.partition("|")
    headers = {
        **call.headers,
        "Content-Type": "application/json",
        "X-Date": stamp.now.strftime("%Y%m%dT%H%M%SZ"),
        "X-Content-Sha256": sha256_of(body(call)),
    }
    if token := secret.extra.get("session_token"):
        headers["X-Security-Token"] = token
    pair = (key_id or secret.extra["access_key"], key or secret.extra.get("secret_key", ""))
    signed = {**headers, "Host": urlsplit(call.path).netloc}
    headers["Authorization"] = volcengine_authorization(pair, SCOPE, call.query, signed)
    return replace(call, headers=headers)


# ---- what is sent


def start(job: Job) -> Step:
    marks = {name: value for name, value in job.options.items() if name in MARKS}
    fields: dict[str, Any] = {
        PROMPTS.get(job.model, "prompt"): prompted(job) or None,
        **pictures(job),
        **measures(job),
        "seed": job.seed,
        "force_single": True if job.model in SINGLE else None,
        **{name: value for name, value in job.options.items() if name not in marks},
    }
    if job.model in AT_ONCE:
        fields |= delivery(job)
    said = {name: value for name, value in fields.items() if value is not None}
    return call_of(PROCESS if job.model in AT_ONCE else SUBMIT, {"req_key": job.model, **said})


def pictures(job: Job) -> dict[str, Any]:
    """The pictures, then the mask, in one list: of addresses where all have one."""
    given: tuple[Media, ...] = (*job.images, job.mask) if job.mask else job.images
    if not given:
        return {}
    if all(media.url for media in given):
        return {"image_urls": [media.url for media in given]}
    return {"binary_data_base64": [base64(media) for media in given]}


def measures(job: Job) -> dict[str, Any]:
    """The members that tell the size. `size` is an area: the model chooses the shape."""
    if job.model == "jimeng_img2img_seed3_painting_edit":
        return margins(job)
    if job.size:
        return dict(zip(("width", "height"), job.size, strict=True))
    if job.resolution in AREAS:
        return {"size": AREAS[job.resolution]}
    return {"resolution": job.resolution}


def margins(job: Job) -> dict[str, float]:
    """How far each side moves out, in parts of the picture; with a mask, the picture is the canvas already."""
    if job.mask or not SIDES.isdisjoint(job.options):
        return {}
    old = job.images[0].width, job.images[0].height
    new = job.size or old
    wider, higher = new[0] / old[0] - 1, new[1] / old[1] - 1
    if min(wider, higher) < 0 or max(wider, higher) == 0:
        text = (
            f"Outpainting needs a size beyond the picture's own {old[0]}x{old[1]}, a mask, or provider_options with "
            "one of top, bottom, left, right."
        )
        raise Fault("invalid", text, code="invalid_value", param="size")
    sides = {"top": higher / 2, "bottom": higher / 2, "left": wider / 2, "right": wider / 2}
    return {side: round(part, 4) for side, part in sides.items()}


def delivery(job: Job) -> dict[str, Any]:
    """How the picture is handed over, and what marks it: of a task, this is told at the poll."""
    said: dict[str, Any] = {"return_url": True}
    logo = {"add_logo": True} if job.watermark else {}
    if logo or "logo_info" in job.options:
        said["logo_info"] = logo | dict(job.options.get("logo_info") or {})
    if "aigc_meta" in job.options:
        said["aigc_meta"] = job.options["aigc_meta"]
    return said


# ---- what comes back


class Data(msgspec.Struct, frozen=True):
    task_id: str | None = None
    status: str | None = None
    image_urls: tuple[str, ...] | None = None
    binary_data_base64: tuple[Blob, ...] | None = None


class Problem(msgspec.Struct, frozen=True, rename="pascal"):
    code: str = ""
    message: str = ""


class Metadata(msgspec.Struct, frozen=True, rename="pascal"):
    error: Problem | None = None


class Answer(msgspec.Struct, frozen=True):
    """The service's own envelope, or that of the gateway before it."""

    code: int | None = None
    message: str | None = None
    data: Data | None = None
    gateway: Metadata | None = msgspec.field(name="ResponseMetadata", default=None)


def step(job: Job, reply: Reply) -> Step:
    data = reply.read(Answer).data or Data()
    if reply.call.query["Action"] == SUBMIT:
        if not data.task_id:
            raise Fault("upstream", "The provider took the job without naming a task.", code="unreadable", final=True)
        wishes = msgspec.json.encode(delivery(job)).decode()  # JSON within JSON, as a text
        said = {"req_key": job.model, "task_id": data.task_id, "req_json": wishes}
        return Wait(call_of(POLL, said), FIRST_POLL)
    outputs = [Output(url=url) for url in data.image_urls or () if url]
    outputs = outputs or [Output(blob=blob) for blob in data.binary_data_base64 or () if blob.size]
    if outputs:
        return Done(outputs=tuple(outputs))
    if data.status == "done" or reply.call.query["Action"] == PROCESS:
        raise nothing()
    return Wait(reply.call, PROVIDER.poll_seconds, queued=data.status == "in_queue")


def cancel(job: Job, waiting: Call) -> Call:
    """The vendor lists the action for all of its tasks, and charges only for those that succeed."""
    return call_of(CANCEL, {name: waiting.json[name] for name in ("req_key", "task_id")})


# ---- what went wrong

KINDS: Mapping[int, FaultKind] = {
    50400: "permission",  # not switched on, not allowed, or in arrears: it does not say which
    50429: "rate",
    50430: "rate",  # at once
    50200: "invalid",
    50204: "missing",
    50215: "invalid",
    50218: "policy",
    50411: "policy",
    50412: "policy",
    50413: "policy",
    50511: "policy",
    50512: "policy",
    50518: "policy",
    50519: "policy",
    50520: "policy",
    50521: "policy",
    50522: "policy",
    50500: "upstream",
    50501: "upstream",
}
GATEWAY: tuple[tuple[re.Pattern[str], FaultKind], ...] = (
    (re.compile("Signature|Credential|AccessKey|Timestamp|Token|Unauthor"), "auth"),
    (re.compile("Denied|Forbidden|Permission"), "permission"),
    (re.compile("Limit|Throttl|TooMany"), "rate"),
    (re.compile("Action|Version|Param"), "invalid"),
)
"""By a word of it: how exactly the gateway spells its codes is not surely known."""
FINE = 10000


def check(reply: Reply) -> None:
    try:
        answer = reply.read(Answer)
    except Fault:
        by_status(reply, unread(reply))
        return
    if answer.gateway and answer.gateway.error:
        raise turned_away(answer.gateway.error, reply)
    if answer.code not in {None, FINE}:
        raise fault(answer, reply)
    by_status(reply, answer.message or unread(reply))
    match answer.data.status if answer.data else None:
        case "not_found":
            raise Fault("missing", "The provider does not know this task, or no longer.", code="task_not_found")
        case "expired":
            raise Fault("missing", "The provider's task has expired.", code="task_expired", final=True)


def turned_away(error: Problem, reply: Reply) -> Fault:
    """The gateway's refusal: the service itself has not seen the call."""
    kind = next((kind for pattern, kind in GATEWAY if pattern.search(error.code)), None)
    message = error.message or error.code or unread(reply)
    return Fault(kind or BY_STATUS.get(reply.status, "upstream"), message, code=error.code or None)


def fault(answer: Answer, reply: Reply) -> Fault:
    code, polled = answer.code or 0, reply.call.query.get("Action") == POLL
    message = answer.message or f"The provider answered with code {code}."
    kind = KINDS.get(code) or BY_STATUS.get(reply.status, "upstream")
    if kind == "policy":
        return Fault(kind, f"{message} ({code})", code="moderation_blocked", final=polled)
    if code == 50215 and polled:  # a stale task is told so, too
        return Fault("missing", f"The provider does not know this task: {message}", code="task_not_found")
    if kind == "missing":
        return Fault(kind, message, code="model_not_found", param="model")
    return Fault(kind, message, code=str(code), retry_after=retry_after(reply), final=polled and kind == "invalid")
