"""SiliconFlow: other makers' models behind one synchronous call; the answer names addresses that live an hour.

POST /images/generations {"model", "prompt", "image_size", "image", …}  -> {"images": [{"url"}], "seed"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
    Job,
    Op,
    Output,
    Price,
    Provider,
    Reply,
    Step,
    data_url,
    prompted,
    retry_after,
)
from translators.base import bearer as sign
from translators.base import no_events as event
from translators.shapes import nothing, unread

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

BASES = {"cn": "https://api.siliconflow.cn/v1", "com": "https://api.siliconflow.com/v1"}
PROVIDER = Provider(
    title="SiliconFlow",
    env={"api_key": "SILICONFLOW_API_KEY"},
    regions=tuple(BASES),
    docs="https://docs.siliconflow.cn/api-reference/images/images-generations",
)

# ---- what the models can do


def per_picture(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


DRAWS: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit", "variation"})
SEED = frozenset({"seed"})
TUNED = SEED | {"negative_prompt", "steps", "guidance"}
FORMATS = ("png", "jpeg")
RATIOS = ("21:9", "16:9", "3:2", "4:3", "1:1", "3:4", "2:3", "9:16", "9:21")
EXTRAS = frozenset({"prompt_enhancement", "safety_tolerance"})
ABROAD = "Only on siliconflow.com."

QWEN_EDIT = Caps(
    ops=EDITS, max_images=1, input_bytes=10_000_000, params=TUNED, prices=per_picture(0.04),
    note="It decides the size itself. A negative prompt needs guidance.",
)  # fmt: skip
FLUX = Caps(
    ops=DRAWS,
    free=Free(step=16, pixels=(256 * 256, 2_359_296), edge=(256, 0)),
    auto_size=False,
    params=SEED,
    note=ABROAD,
)
KONTEXT = replace(
    FLUX, ops=EDITS, free=None, ratios=RATIOS, auto_size=True, max_images=1, input_bytes=10_000_000, formats=FORMATS,
    options=EXTRAS,
)  # fmt: skip
FLUX_2 = replace(
    # The table of models speaks of editing, the reference knows no field for a picture: one would be ignored.
    FLUX,
    free=None,
    sizes=((512, 512), (768, 1024), (1024, 768), (576, 1024), (1024, 576)),
    formats=FORMATS,
)

MODELS: Mapping[str, Caps] = {
    "Kwai-Kolors/Kolors": Caps(
        ops=DRAWS,
        max_n=4,
        # Those that the vendor recommends, and the same lying on their side.
        sizes=((1024, 1024), (960, 1280), (768, 1024), (720, 1440), (720, 1280),
               (1280, 960), (1024, 768), (1440, 720), (1280, 720)),
        auto_size=False,
        params=TUNED,
    ),
    "Qwen/Qwen-Image": Caps(
        ops=DRAWS,
        sizes=((1328, 1328), (1664, 928), (928, 1664), (1472, 1140), (1140, 1472), (1584, 1056), (1056, 1584)),
        auto_size=False,
        params=TUNED,
        prices=(Price(unit="image", amount=0.3, currency="CNY"),),
        note="A negative prompt needs guidance.",
    ),
    "Qwen/Qwen-Image-Edit": QWEN_EDIT,
    "Qwen/Qwen-Image-Edit-2509": replace(QWEN_EDIT, max_images=3),
    "black-forest-labs/FLUX.1-schnell": replace(FLUX, prices=per_picture(0.0014)),
    "black-forest-labs/FLUX.1-dev": replace(FLUX, params=SEED | {"steps"}, prices=per_picture(0.014)),
    "black-forest-labs/FLUX-1.1-pro": replace(
        FLUX, free=Free(step=32, edge=(256, 1440)), formats=FORMATS, options=EXTRAS, prices=per_picture(0.04)
    ),
    "black-forest-labs/FLUX-1.1-pro-Ultra": replace(
        FLUX, free=None, ratios=RATIOS, auto_size=True, formats=FORMATS, options=EXTRAS | {"raw"},
        prices=per_picture(0.06),
    ),
    "black-forest-labs/FLUX.1-Kontext-dev": replace(
        KONTEXT, free=FLUX.free, ratios=(), formats=(), options=frozenset(), prices=per_picture(0.015)
    ),
    "black-forest-labs/FLUX.1-Kontext-pro": replace(KONTEXT, prices=per_picture(0.04)),
    "black-forest-labs/FLUX.1-Kontext-max": replace(KONTEXT, prices=per_picture(0.08)),
    "black-forest-labs/FLUX.2-pro": FLUX_2,
    "black-forest-labs/FLUX.2-flex": FLUX_2,
    "Tongyi-MAI/Z-Image-Turbo": replace(FLUX, free=Free(step=16, pixels=(512 * 512, 2048 * 2048))),
}  # fmt: skip


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or BASES[site.get("region") or PROVIDER.regions[0]]


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


# ---- what is sent


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a family names what a job holds."""

    images: tuple[str, ...] = ("image", "image2", "image3")
    guidance: str = "guidance_scale"
    batch: bool = False


SHAPES: Mapping[str, Shape] = {
    "": Shape(),
    "Kwai-Kolors/": Shape(batch=True),
    "Qwen/": Shape(guidance="cfg"),
    "black-forest-labs/": Shape(images=("input_image",)),
}
"""By the longest beginning of the model's id that fits: a model that only the configuration knows finds its family."""


def start(job: Job) -> Step:
    shape = SHAPES[max((family for family in SHAPES if job.model.startswith(family)), key=len)]
    if len(job.images) > len(shape.images):
        raise Fault("invalid", f"The model {job.model} takes at most {len(shape.images)} pictures.", param="image")
    fields: dict[str, Any] = {
        "model": job.model,
        "prompt": prompted(job),
        "negative_prompt": job.negative_prompt,
        "image_size": "{}x{}".format(*job.size) if job.size else None,
        "aspect_ratio": job.ratio,
        "batch_size": job.n if shape.batch else None,
        "seed": job.seed,
        "num_inference_steps": job.steps,
        shape.guidance: job.guidance,
        "output_format": job.format,
        **dict(zip(shape.images, map(data_url, job.images), strict=False)),
    }
    body = {name: value for name, value in fields.items() if value is not None}
    return Call(path="/images/generations", json={**body, **job.options})


# ---- what comes back


class Made(msgspec.Struct, frozen=True):
    """One picture."""

    url: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. `data` repeats `images`, for clients of OpenAI."""

    images: list[Made] | None = None
    data: list[Made] | None = None
    seed: Any = None


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    extra = {"seed": answer.seed} if isinstance(answer.seed, int) else {}
    outputs = tuple(Output(url=made.url, extra=extra) for made in answer.images or answer.data or () if made.url)
    if not outputs:
        raise nothing()
    return Done(outputs=outputs)


# ---- what went wrong


class Problem(msgspec.Struct, frozen=True):
    """Why there is no picture."""

    code: int | str | None = None
    message: str | None = None
    images: Any = None


KINDS: Mapping[str, FaultKind] = {
    "20012": "missing",  # with 400: no such model, or not any more
    "20015": "invalid",
    "30001": "quota",
    "50505": "overloaded",
}
FINE = "20000"
POLICY = re.compile(r"sensitive|prohibited|inappropriate|moderation|敏感|违规", re.IGNORECASE)
PER_DAY = re.compile(r"\b[RTI]PD\b")
"""Limits of requests, tokens, images a day: no waiting that a client would do helps."""


def check(reply: Reply) -> None:
    said = problem(reply)
    code = str(said.code or "")
    if reply.status < 400 and (said.images is not None or code in {"", FINE}):
        return
    message = said.message or unread(reply)
    kind = kind_of(reply.status, code, message)
    if kind == "policy":
        raise Fault(kind, message, code="moderation_blocked")
    raise Fault(kind, message, code=code or None, param=param(kind, message), retry_after=retry_after(reply))


def problem(reply: Reply) -> Problem:
    """What the body says: an object, a bare JSON string, or plain text."""
    bare = reply.data.lstrip()[:1] == b'"'
    try:
        return Problem(message=reply.read(str)) if bare else reply.read(Problem)
    except Fault:
        return Problem()


def kind_of(status: int, code: str, message: str) -> FaultKind:
    if status == 451 or (status in {400, 403} and code not in KINDS and POLICY.search(message)):
        return "policy"
    if status == 429:
        return "quota" if PER_DAY.search(message) else "rate"
    return KINDS.get(code) or BY_STATUS.get(status, "invalid" if 400 <= status < 500 else "upstream")


FIELDS: Mapping[str, str] = {
    "image_size": "size", "aspect_ratio": "aspect_ratio", "batch_size": "n", "seed": "seed",
    "num_inference_steps": "steps", "guidance_scale": "guidance", "cfg": "guidance", "image": "image",
    "image2": "image", "image3": "image", "input_image": "image", "negative_prompt": "negative_prompt",
    "output_format": "output_format", "prompt": "prompt",
}  # fmt: skip
WORD = re.compile(r"\w+")


def param(kind: FaultKind, message: str) -> str | None:
    """The field that a message speaks of, by the name that the client gave it."""
    if kind == "missing":
        return "model"
    if kind != "invalid":
        return None
    return next((FIELDS[word] for word in WORD.findall(message) if word in FIELDS), None)
