"""Together AI: OpenAI's generations with the size as two numbers; an edit is a generation with pictures.

POST /images/generations {"model", "prompt", "width", "height", …}  -> {"data": [{"b64_json"}]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from translators import shapes
from translators.base import (
    Call,
    Caps,
    Done,
    Fault,
    Free,
    Job,
    Op,
    Price,
    Provider,
    Reply,
    Size,
    Step,
    data_url,
    prompted,
    retry_after,
)
from translators.base import bearer as sign
from translators.base import no_events as event

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(title="Together AI", env={"api_key": "TOGETHER_API_KEY"}, docs="https://docs.together.ai")

# ---- what the models can do: the serverless list of October 2026. Most are their vendors' own, hosted by them:
# these answer 403 until the organisation allows its data to be shared. The catalogue changes often.

GENERATES: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit", "variation"})
MAKES: frozenset[Op] = GENERATES | EDITS
SEED = frozenset({"seed"})
TUNED = SEED | {"steps", "guidance"}
UNCHECKED = frozenset({"disable_safety_checker"})

LISTED: tuple[Size, ...] = (
    (1024, 1024), (1344, 768), (768, 1344), (1248, 832), (832, 1248), (1184, 864), (864, 1184),
)  # fmt: skip
OF_GEMINI_3: tuple[Size, ...] = (
    *LISTED, (896, 1152), (1152, 896), (1536, 672),
    (2048, 2048), (2496, 1664), (1664, 2496), (2368, 1728), (1728, 2368), (1792, 2304), (2304, 1792), (1536, 2688),
    (2688, 1536), (3072, 1344),
    (4096, 4096), (4992, 3328), (3328, 4992), (4736, 3456), (3456, 4736), (3584, 4608), (4608, 3584), (3072, 5376),
    (5376, 3072), (6144, 2688),
)  # fmt: skip


def each(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


def area(amount: float) -> tuple[Price, ...]:
    return (Price(unit="megapixel", amount=amount),)


DECLARED = Caps(
    ops=MAKES,
    free=Free(step=16, edge=(64, 1792)),
    max_images=1,
    formats=("png", "jpeg"),
    params=TUNED | {"negative_prompt", "loras"},
    options=UNCHECKED,
    note="Not among the models that this release knows: asked for what the interface documents.",
)
"""What any other `owner/name` is taken for: older models, and those on dedicated machines."""

OWN = replace(DECLARED, ops=GENERATES, max_n=4, max_images=0, params=TUNED | {"negative_prompt"}, note=None)
PARTNER = replace(OWN, max_n=1, free=None, sizes=LISTED, params=SEED, options=frozenset())
PIXELS = replace(PARTNER, sizes=(), free=Free(step=16, edge=(256, 2048)))
FLUX_2 = replace(
    PARTNER, ops=MAKES, sizes=(), free=Free(step=16, pixels=(64 * 64, 9_000_000), edge=(64, 0)), max_images=8
)
FLUX_2_OPEN = replace(FLUX_2, free=Free(step=16, pixels=(64 * 64, 2048 * 2048), edge=(64, 0)), params=TUNED)
KONTEXT = replace(
    OWN, ops=EDITS, max_n=1, max_images=1, free=Free(step=16, edge=(256, 1792)), params=TUNED, prices=area(0.04)
)
GEMINI = replace(PARTNER, ops=MAKES, max_images=14)
GPT = replace(PARTNER, ops=MAKES, max_images=10, params=frozenset())

MODELS: Mapping[str, Caps] = {
    "openai/gpt-image-2": replace(
        GPT, sizes=(), free=Free(step=16, pixels=(655_360, 8_294_400), edge=(1, 3840), ratio=3)
    ),
    "openai/gpt-image-1.5": replace(GPT, sizes=((1024, 1024), (1536, 1024), (1024, 1536))),
    "google/flash-image-3.1": GEMINI,
    "google/flash-image-3.1-lite": GEMINI,
    "google/flash-image-2.5": replace(GEMINI, max_images=3, prices=each(0.039)),
    "google/gemini-3-pro-image": replace(
        GEMINI,
        sizes=OF_GEMINI_3,
        prices=(  # the vendor's charge, 2026-11: 1K and 2K alike, 4K more
            Price(unit="image", amount=0.134, pixels=(0, 8_388_608)),
            Price(unit="image", amount=0.24, pixels=(8_388_608, 0)),
        ),
    ),
    "ByteDance/Seedream-5.0-lite": replace(
        PARTNER, ops=MAKES, sizes=(), free=Free(pixels=(2560 * 1440, 3072 * 3072)), max_images=10, prices=each(0.035)
    ),
    "ByteDance-Seed/Seedream-4.0": replace(
        PARTNER, ops=MAKES, sizes=(), free=Free(pixels=(960 * 960, 4096 * 4096)), max_images=10, prices=each(0.03)
    ),
    "ByteDance-Seed/Seedream-3.0": replace(
        PARTNER, sizes=(), free=Free(edge=(512, 2048)), params=SEED | {"guidance"}, prices=each(0.018)
    ),
    "Wan-AI/Wan2.6-image": PARTNER,
    "ideogram/ideogram-4.0": PARTNER,
    "ideogram/ideogram-3.0": replace(PARTNER, prices=each(0.06)),
    "prunaai/p-image-ideogram": PARTNER,
    "black-forest-labs/FLUX.2-pro": FLUX_2,
    "black-forest-labs/FLUX.2-flex": FLUX_2_OPEN,
    "black-forest-labs/FLUX.2-dev": replace(FLUX_2_OPEN, max_images=4),
    "black-forest-labs/FLUX.2-max": replace(FLUX_2, ops=GENERATES, max_images=0),
    "black-forest-labs/FLUX.1.1-pro": replace(
        OWN, free=Free(step=32, edge=(256, 1440)), params=SEED | {"steps"}, prices=area(0.04)
    ),
    "black-forest-labs/FLUX.1-kontext-pro": KONTEXT,
    "black-forest-labs/FLUX.1-kontext-max": replace(KONTEXT, prices=area(0.08)),
    "Qwen/Qwen-Image": replace(PIXELS, params=SEED | {"negative_prompt"}, prices=area(0.0058)),
    "Qwen/Qwen-Image-2.0": replace(PIXELS, params=SEED | {"negative_prompt"}),
    "Qwen/Qwen-Image-2.0-Pro": replace(PIXELS, params=SEED | {"negative_prompt"}),
    "stabilityai/stable-diffusion-xl-base-1.0": OWN,
    "RunDiffusion/Juggernaut-pro-flux": OWN,
    "Rundiffusion/Juggernaut-Lightning-Flux": OWN,
}


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or "https://api.together.ai/v1"


def caps(model: str) -> Caps | None:
    return MODELS.get(model) or (DECLARED if re.fullmatch(r"[\w.-]+/[\w.:-]+(?:/[\w.:-]+)*", model) else None)


# ---- what is sent


def start(job: Job) -> Step:
    width, height = job.size or (None, None)
    fields: dict[str, Any] = {
        "model": job.model,
        "prompt": prompted(job),
        "width": width,
        "height": height,
        "n": job.n if job.n > 1 else None,
        **pictures(job),
        "seed": job.seed,
        "steps": job.steps,
        "guidance_scale": job.guidance,
        "negative_prompt": job.negative_prompt,
        "image_loras": [{"path": lora.model, "scale": lora.weight} for lora in job.loras] or None,
        "output_format": job.format or "png",  # the vendor's own default is JPEG
        "response_format": "base64",  # an address would redirect, and expire at a time that nobody names
    }
    said = {name: value for name, value in fields.items() if value is not None}
    return Call(path="/images/generations", json=said | dict(job.options))


def pictures(job: Job) -> dict[str, Any]:
    """One picture or several: of both fields a model reads one, and loses what is in the other without a word."""
    sent = [data_url(image) for image in job.images]
    if len(sent) == 1 and not job.model.startswith(LISTING):
        return {"image_url": sent[0]}
    return {"reference_images": sent} if sent else {}


LISTING = ("black-forest-labs/FLUX.2-", "google/")
"""Models that take a list also for one."""


# ---- what comes back


def step(job: Job, reply: Reply) -> Done:
    done = shapes.step(job, reply)
    missing = job.n - len(done.outputs) - len(done.faults)
    if missing <= 0:
        return done
    short = Fault("empty", f"The provider made {len(done.outputs)} of {job.n} pictures.", code="no_image")
    return replace(done, faults=(*done.faults, *(short,) * missing))


CODES: shapes.Codes = {
    "invalid_api_key": "auth",
    "third_party_data_sharing_blocked": "permission",
    "rate_limit": "rate",
    "rate_limit_exceeded": "rate",
    "model_not_available": "missing",
    "service_unavailable": "overloaded",
    "content_policy_violation": "policy",
}
TEXTS: shapes.Texts = (
    (
        re.compile(r"\bnsfw\b|(?<!disable_)safety(?!_checker)|moderation|content polic", re.IGNORECASE),
        "policy",
        "moderation_blocked",
    ),
)
SAID = frozenset({200, 400, 422})
"""Statuses with which a refusal comes; it has no code of its own."""
PARAMS = {
    "width": "size", "height": "size", "image_url": "image", "reference_images": "image", "image_loras": "loras",
    "guidance_scale": "guidance",
}  # fmt: skip


def check(reply: Reply) -> None:
    problem = shapes.failed(reply)
    if problem is None:
        return
    message = problem.message or shapes.unread(reply)
    code = str(problem.code) if problem.code not in {None, ""} else None
    kind, better = shapes.known(message, (code, problem.type), CODES, TEXTS if reply.status in SAID else ())
    kind = kind or shapes.kind_of(reply.status, problem.type)
    if kind == "policy":
        code = "content_policy_violation" if code == "content_policy_violation" else "moderation_blocked"
    param = PARAMS.get(problem.param, problem.param) if isinstance(problem.param, str) else None
    wait = retry_after(reply)
    raise Fault(
        kind,
        message,
        code=better or code or (problem.type if problem.type in CODES else None),
        param="model" if kind == "missing" else param or None,
        retry_after=shapes.waits(message) if wait is None and kind == "rate" else wait,
    )
