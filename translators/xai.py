"""xAI (Grok Imagine): one synchronous call, up to ten JPEGs.

    POST /images/generations, /images/edits {"model", "prompt", "n", "aspect_ratio", "resolution", "image" or "images"}
        -> {"data": [{"b64_json", "revised_prompt", "respect_moderation"}], "usage": {"cost_in_usd_ticks"}}

Near to OpenAI's wire, but edits are JSON, and a size is a ratio and a resolution: `size` itself is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from translators import shapes
from translators.base import (
    Call,
    Caps,
    Done,
    Fault,
    Job,
    Op,
    Output,
    Price,
    Provider,
    Reply,
    Step,
    Usage,
    data_url,
    prompted,
)
from translators.base import bearer as sign
from translators.base import no_events as event

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(title="xAI", env={"api_key": "XAI_API_KEY"}, docs="https://docs.x.ai/docs/guides/image-generations")

# ---- what the models can do

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
RATIOS = ("20:9", "19.5:9", "2:1", "16:9", "3:2", "4:3", "1:1", "3:4", "2:3", "9:16", "1:2", "9:19.5", "9:20")


def at(resolution: str, amount: float, quality: str | None = None) -> Price:
    return Price(unit="image", amount=amount, resolution=resolution, quality=quality)


IMAGINE = Caps(
    ops=MAKES,
    max_n=10,
    ratios=RATIOS,
    resolutions=("1k", "2k"),  # 1.5k is reported of the newest model, but not documented
    keeps=frozenset({"single"}),
    max_images=3,
    input_bytes=10 << 20,
    params=frozenset({"user"}),
    options=frozenset({"storage_options"}),
    # Pictures that are sent are billed too, at a price that no list of 2026-11 has: of an edit only the answer tells.
    prices=(Price(unit="image", amount=0.02, op="generate"),),
    note="Always JPEG. An edit of one picture keeps its shape.",
)
MODELS: Mapping[str, Caps] = {
    "grok-imagine-image-2.0": replace(
        IMAGINE,
        qualities=("low", "medium"),
        prices=(
            at("1k", 0.04, "low"),
            at("1k", 0.06, "medium"),
            at("2k", 0.06, "low"),
            at("2k", 0.08, "medium"),
            Price(unit="input_image", amount=0.01),
        ),
    ),
    "grok-imagine-image": IMAGINE,
    "grok-imagine-image-2026-03-02": IMAGINE,
}
GROK_2 = Caps(
    ops=frozenset({"generate"}),
    max_n=10,
    params=IMAGINE.params,
    prices=(Price(unit="image", amount=0.07),),
    note="Always JPEG, of the model's own size.",
)
LEGACY = frozenset({"grok-2-image", "grok-2-image-1212", "grok-2-image-latest"})
"""Not listed, for nobody says whether they are still there; who names one may try."""


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or "https://api.x.ai/v1"


def caps(model: str) -> Caps | None:
    return GROK_2 if model in LEGACY else MODELS.get(model)


# ---- what is sent


def start(job: Job) -> Step:
    pictures = [{"url": data_url(image), "type": "image_url"} for image in job.images]
    fields: dict[str, Any] = {
        "model": job.model,
        "prompt": prompted(job),
        "n": job.n,
        "response_format": "b64_json",
        # With one picture the ratio is the picture's own, and another is refused.
        "aspect_ratio": None if len(pictures) == 1 else job.ratio,
        "resolution": job.resolution,
        "quality": job.quality,
        "user": job.user,
        "image": pictures[0] if len(pictures) == 1 else None,
        "images": pictures if len(pictures) > 1 else None,
    }
    body = {name: value for name, value in fields.items() if value is not None}
    return Call(path="/images/edits" if pictures else "/images/generations", json={**body, **job.options})


# ---- what comes back


class Made(shapes.Made, frozen=True):
    """One of `data`. A blocked one may hold a placeholder."""

    respect_moderation: Any = None
    file_output: Any = None  # where `storage_options` put it


class Count(msgspec.Struct, frozen=True):
    cost_in_usd_ticks: float | None = None


class Answer(msgspec.Struct, frozen=True):
    data: tuple[Made, ...] | None = None
    usage: Any = None  # a `Count`


TICKS = 10_000_000_000
"""Of one US dollar."""


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    cost = charged(answer.usage)
    outputs: list[Output] = []
    faults: list[Fault] = []
    for made in answer.data or ():
        if made.respect_moderation is False:
            faults.append(withheld())
        elif output := pictured(reply, made):
            outputs.append(output)
        else:
            faults.append(shapes.nothing())
    if not outputs:
        fault = faults[0] if faults else shapes.nothing()
        fault.cost_usd = cost or None
        raise fault
    return Done(outputs=tuple(outputs), usage=Usage(cost_usd=cost), faults=tuple(faults), quality=usual(job))


def usual(job: Job) -> str | None:
    """The vendor's own quality, where none was asked for."""
    known = caps(job.model)
    return "medium" if known and known.qualities and job.quality is None else None


def pictured(reply: Reply, made: Made) -> Output | None:
    output = shapes.pictured(reply, made, {"file_output": made.file_output} if made.file_output else None)
    return replace(output, revised_prompt=made.revised_prompt or None) if output else None


def charged(usage: object) -> float | None:
    """What the call cost, whatever it made."""
    try:
        ticks = msgspec.convert(usage or {}, Count).cost_in_usd_ticks
    except msgspec.ValidationError:
        return None
    return None if ticks is None else ticks / TICKS


def withheld() -> Fault:
    text = "The made image was withheld: it does not respect the provider's moderation."
    return Fault("policy", text, code="moderation_blocked")


# ---- what went wrong

TEXTS: shapes.Texts = (
    (re.compile(r"(incorrect|invalid) api key|api key .*(disabled|blocked)", re.IGNORECASE), "auth", "invalid_api_key"),
    (re.compile(r"moderation|content policy|usage guidelines|safety", re.IGNORECASE), "policy", None),
    (re.compile(r"credits|spending limit|licen[cs]es", re.IGNORECASE), "quota", "insufficient_quota"),
    (re.compile(r"model .*(does not exist|not found)", re.IGNORECASE), "missing", "model_not_found"),
)
"""A wrong key is a 400, no money a 403 or a 429: only the text tells them."""


def check(reply: Reply) -> None:
    try:
        shapes.check(reply, {}, TEXTS)
    except Fault as fault:
        if fault.kind == "policy":
            fault.code = "moderation_blocked"
        elif fault.code and " " in fault.code:  # gRPC's words: "Client specified an invalid argument"
            fault.code = None
        raise
