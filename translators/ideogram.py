"""Ideogram: a path for each thing that a model does.

    POST /v2/image/<action>/<model>       enums in lower case  -> {"data": [{"url", "is_image_safe"}]}, or a task's id
    POST /v1/ideogram-v3/<action>, /edit  enums in upper case  -> the same, at once
    GET  /v2/generations/<id>             -> {"status", "data"}

Bodies are forms; masks are black where the picture is to change, but for one path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators.base import (
    Call,
    Caps,
    Done,
    Fault,
    FaultKind,
    Job,
    Media,
    Op,
    Output,
    Part,
    Price,
    Provider,
    Reply,
    Secret,
    Size,
    Stamp,
    Step,
    Usage,
    Wait,
    by_status,
    header,
    prompted,
)
from translators.base import no_events as event
from translators.canvas import nearest_ratio
from translators.shapes import nothing, unread

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="Ideogram",
    env={"api_key": "IDEOGRAM_API_KEY"},
    docs="https://developer.ideogram.ai/api-reference",
    poll_seconds=2.0,
)

# ---- what the models can do


def sizes(text: str) -> tuple[Size, ...]:
    return tuple((int(width), int(height)) for width, height in (size.split("x") for size in text.split()))


RATIOS_3 = ("1:3", "3:1", "1:2", "2:1", "9:16", "16:9", "10:16", "16:10", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4",
            "1:1")  # fmt: skip
RATIOS_OLD = ("10:16", "16:10", "9:16", "16:9", "3:2", "2:3", "4:3", "3:4", "1:1", "1:3", "3:1")
SIZES_3 = sizes(
    "512x1536 576x1408 576x1472 576x1536 640x1344 640x1408 640x1472 640x1536 704x1152 704x1216 704x1280 704x1344 "
    "704x1408 704x1472 736x1312 768x1088 768x1216 768x1280 768x1344 800x1280 832x960 832x1024 832x1088 832x1152 "
    "832x1216 832x1248 864x1152 896x960 896x1024 896x1088 896x1120 896x1152 960x832 960x896 960x1024 960x1088 "
    "1024x832 1024x896 1024x960 1024x1024 1088x768 1088x832 1088x896 1088x960 1120x896 1152x704 1152x832 1152x864 "
    "1152x896 1216x704 1216x768 1216x832 1248x832 1280x704 1280x768 1280x800 1312x736 1344x640 1344x704 1344x768 "
    "1408x576 1408x640 1408x704 1472x576 1472x640 1472x704 1536x512 1536x576 1536x640"
)
SIZES_4 = sizes(
    "2048x2048 1440x2880 2880x1440 1664x2496 2496x1664 1792x2240 2240x1792 1440x2560 2560x1440 1600x2560 2560x1600 "
    "1728x2304 2304x1728 1296x3168 3168x1296 1152x2944 2944x1152 1248x3328 3328x1248 1280x3072 3072x1280 1024x3072 "
    "3072x1024"
)
SIZES_45 = sizes("1024x1024 1280x720 720x1280") + tuple(size for size in SIZES_4 if max(size) <= 2880)

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
GENERATES: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit"})
REDOES: frozenset[Op] = frozenset({"edit", "variation"})
SEED = frozenset({"seed"})
V2 = frozenset({"async", "private", "enable_copyright_detection"})
MAGIC = frozenset({"magic_prompt"})
STYLE = MAGIC | {"color_palette", "style_codes", "style_preset", "custom_model_uri"}


def per_picture(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


def by_quality(**amounts: float) -> tuple[Price, ...]:
    return tuple(Price(unit="image", amount=amount, quality=quality) for quality, amount in amounts.items())


SPEEDS = ("turbo", "default", "quality")
# Ideogram's own price list of 2026-11-16 (ideogram.ai/features/api-pricing, ideogram.ai/blog/ideogram-api-pricing).
SPEED_PRICES = by_quality(turbo=0.03, default=0.06, quality=0.09)
TIER_PRICES = by_quality(low=0.03, medium=0.06, high=0.10)

PLAIN = Caps(ops=EDITS, max_n=8, prompt_chars=10_000, max_images=1, input_bytes=10_000_000, params=SEED)
"""What all that take a picture have in common."""

V45 = replace(
    PLAIN,
    ops=MAKES,
    sizes=SIZES_45,
    max_images=5,
    mask="black-edits",
    input_bytes=25_000_000,
    qualities=("low", "medium", "high"),
    options=V2 | MAGIC,
    prices=TIER_PRICES,
    keeps=frozenset({"mask"}),
    note="An edit with a mask takes at most four pictures and keeps the first one's size.",
)
V4 = replace(
    PLAIN,
    ops=MAKES,
    sizes=SIZES_4,
    qualities=SPEEDS,
    options=MAGIC | {"async", "enable_copyright_detection", "image_weight"},
    prices=by_quality(turbo=0.03, default=0.06, quality=0.10),
    note="Edits ignore the seed.",
)
V3 = replace(
    PLAIN,
    ops=MAKES,
    sizes=SIZES_3,
    ratios=RATIOS_3,
    mask="black-edits",
    qualities=SPEEDS,
    params=SEED | {"style", "negative_prompt"},
    options=STYLE | {"image_weight"},
    prices=SPEED_PRICES,
    keeps=frozenset({"mask"}),
    note="An edit with a mask keeps the picture's size.",
)
V3_EDIT = replace(V3, ops=EDITS, mask="none", options=STYLE, note=None)
TOOL = replace(PLAIN, max_n=1, prompt_chars=0, input_bytes=25_000_000, params=frozenset())
OLD_PRICES = {
    "V_2A": 0.04, "V_2A_TURBO": 0.025, "V_2": 0.08, "V_2_TURBO": 0.05, "V_1": 0.06, "V_1_TURBO": 0.02,
}  # fmt: skip
OLD = Caps(
    ops=GENERATES,
    max_n=8,
    prompt_chars=10_000,
    ratios=RATIOS_OLD,
    params=SEED | {"negative_prompt"},
    options=frozenset({"magic_prompt_option", "style_type"}),
    note="Legacy.",
)

MODELS: Mapping[str, Caps] = {
    "ideogram-4-5": V45,
    "ideogram-4-5-precise-edit": replace(
        V45, ops=REDOES, sizes=(), qualities=("very_low", "low", "medium", "high"), options=V2 | {"context_window"},
        prices=by_quality(very_low=0.008, low=0.03, medium=0.06, high=0.22),
        note="Keeps the picture's size, and what it need not change; further pictures are references, at most three "
        "with a mask.",
    ),
    "ideogram-4": V4,
    "ideogram-4-transparent": replace(
        V4, ops=GENERATES, max_images=0, sizes=(), ratios=RATIOS_3, resolutions=("1k", "2k", "4k", "8k"),
        backgrounds=("transparent",), options=MAGIC | {"async"}, prices=(), note="Always on transparency.",
    ),
    "ideogram-3": V3,
    "ideogram-3-transparent": replace(
        V3, ops=GENERATES, max_images=0, mask="none", sizes=(), backgrounds=("transparent",),
        params=SEED | {"negative_prompt"}, options=MAGIC | {"upscale_factor"},
        prices=by_quality(turbo=0.04, default=0.07, quality=0.10),  # as it is; with an upscale factor it costs more
        note="Always on transparency.",
    ),
    "ideogram-3-reframe": replace(
        V3_EDIT, ratios=(), auto_size=False, prompt_chars=0, params=SEED | {"style"},
        note="Extends the picture to the asked size; takes no prompt.",
    ),
    "ideogram-3-replace-background": replace(
        V3_EDIT, sizes=(), ratios=(), params=SEED | {"style"},
        note="Paints another background; the subject is found by itself.",
    ),
    "ideogram-3-character": replace(
        V3_EDIT, prices=by_quality(turbo=0.10, default=0.15, quality=0.20),
        note="Paints the person of the picture into what the prompt says.",
    ),
    "ideogram-3-style": replace(
        V3_EDIT, max_images=10, input_bytes=1_000_000, params=SEED | {"negative_prompt"},
        options=STYLE - {"style_codes", "style_preset"}, note="Paints in the style of the pictures.",
    ),
    "ideogram-3-layerize-text": replace(
        PLAIN, max_n=1, prompt_chars=0, prices=per_picture(0.09),
        note="Lifts the text out of the picture; answers it without, and the text blocks beside it.",
    ),
    "edit": replace(
        PLAIN, ops=REDOES, sizes=SIZES_3, ratios=RATIOS_3, max_images=10, backgrounds=("transparent",), options=MAGIC,
        note="Edits by instruction.",
    ),
    "p-image-ideogram": replace(
        PLAIN, ops=GENERATES, max_images=0, ratios=RATIOS_3, resolutions=("1k", "2k"), options=frozenset({"async"}),
        prices=per_picture(0.01),
    ),
    "remove-background": replace(
        TOOL, options=frozenset({"async", "private"}), prices=per_picture(0.01),
        note="Leaves the subject on transparency; takes no prompt.",
    ),
    "remove-object": replace(
        TOOL, mask="white-edits", mask_required=True, params=SEED, prices=per_picture(0.03),
        note="Removes what the mask opens; takes no prompt.",
    ),
    "upscale": replace(
        TOOL, options=frozenset({"async", "upscale_factor"}),
        note="Twice as wide and high, or as option upscale_factor says: x2, x4, x8; takes no prompt.",
    ),
    **{name: replace(OLD, prices=per_picture(amount)) for name, amount in OLD_PRICES.items()},
}  # fmt: skip


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or "https://api.ideogram.ai"


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    return header(call, "Api-Key", secret.key)


# ---- what is sent


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A path, and what it calls what a job holds."""

    path: str
    image: str = "image"
    further: str = "reference_images"
    size: str | None = None  # the member that takes WIDTHxHEIGHT
    resolution: str = "resolution"
    quality: str | None = None
    usual: str = "default"  # the quality that is asked for where the client leaves it open
    loud: bool = False  # values of enums in upper case
    counts: bool = True
    seeds: bool = True
    keeps: bool = False  # unasked, it would cut the picture to a square
    json: bool = False  # where no file goes along


def v4(action: str, **more: Any) -> Route:
    return Route(path=f"/v2/image/{action}", quality="rendering_speed", **more)


def v3(action: str, **more: Any) -> Route:
    said = {"quality": "rendering_speed", "loud": True, **more}
    return Route(path=f"/v1/ideogram-v3/{action}", **said)


GENERATE_45 = Route(
    path="/v2/image/generate/ideogram-4-5", image="images", further="images", size="size", quality="quality",
    usual="medium", json=True,
)  # fmt: skip
ROUTES: Mapping[str, Mapping[str, Route]] = {
    "ideogram-4-5": {"generate": GENERATE_45, "edit": GENERATE_45, "mask": replace(GENERATE_45, size=None)},
    "ideogram-4-5-precise-edit": {
        "edit": Route(path="/v2/image/precise-edit/ideogram-4-5", quality="quality", usual="medium")
    },
    "ideogram-4": {
        "generate": v4("generate/ideogram-4", size="resolution"),
        "edit": v4("remix/ideogram-4", size="resolution", seeds=False),
    },
    "ideogram-4-transparent": {
        "generate": v4("generate/ideogram-4-transparent", resolution="output_resolution")
    },
    "ideogram-3": {
        "generate": v3("generate", size="resolution"),
        "edit": v3("remix", size="resolution", keeps=True),
        "mask": v3("inpaint"),
    },
    "ideogram-3-transparent": {"generate": v3("generate-transparent")},
    "ideogram-3-reframe": {"edit": v3("reframe", size="resolution")},
    "ideogram-3-replace-background": {"edit": v3("replace-background")},
    "ideogram-3-character": {"edit": v3("generate", image="character_reference_images", size="resolution")},
    "ideogram-3-style": {
        "edit": v3(
            "generate", image="style_reference_images", further="style_reference_images", size="resolution"
        )
    },
    "ideogram-3-layerize-text": {"edit": v3("layerize-text", quality=None, counts=False)},
    "edit": {"edit": Route(path="/v1/edit", image="images", further="images", size="resolution")},
    "p-image-ideogram": {"generate": Route(path="/v2/image/generate/p-image-ideogram")},
    "remove-background": {"edit": Route(path="/v2/image/remove-background/ideogram-1", counts=False)},
    "remove-object": {"edit": Route(path="/v2/image/remove-object/ideogram-1", counts=False)},
    "upscale": {"edit": Route(path="/v2/image/upscale/auto", counts=False)},
}  # fmt: skip
"""By model, and by what there is: nothing, a picture, or a mask as well."""

MOST_MASKED = 4


def start(job: Job) -> Step:
    if job.model not in ROUTES:
        return legacy(job)
    route = routed(job)
    said = {name: value for name, value in fields(job, route).items() if value is not None}
    if route.json and not job.images:
        return Call(path=route.path, json=said)
    return Call(path=route.path, form=tuple(form(said, files(job, route))))


def routed(job: Job) -> Route:
    known = ROUTES[job.model]
    if job.mask is None:
        return known["edit" if job.images else "generate"]
    if len(job.images) > MOST_MASKED:
        text = f"With a mask, the model {job.model} takes at most {MOST_MASKED} pictures."
        raise Fault("invalid", text, code="array_above_max_length", param="image")
    if job.negative_prompt:
        text = f"The model {job.model} takes no 'negative_prompt' with a mask."
        raise Fault("invalid", text, code="unsupported_parameter", param="negative_prompt")
    return known.get("mask") or known["edit"]


def fields(job: Job, route: Route) -> dict[str, Any]:
    return {
        "prompt": prompted(job) or None,
        **measures(job, route),
        **({route.quality: cased(asked(job, route) or "", route)} if route.quality else {}),
        **styled(job),
        "negative_prompt": job.negative_prompt,
        "num_images": job.n if route.counts else None,
        "seed": job.seed if route.seeds else None,
        "transparent_background": True if job.model == "edit" and job.background == "transparent" else None,
        "upscale_factor": "x2" if job.model == "upscale" else None,
        **job.options,
    }


def measures(job: Job, route: Route) -> dict[str, Any]:
    """A size, or a ratio with the letter x; both together are refused."""
    if job.size and route.size:
        width, height = job.size
        if route is GENERATE_45 and job.images:  # with sources, both sides are multiples of 32
            width, height = round(width / 32) * 32, round(height / 32) * 32
        return {route.size: f"{width}x{height}"}
    ratio = job.ratio
    if route.keeps and not ratio:
        ratio = nearest_ratio((job.images[0].width, job.images[0].height), RATIOS_3)
    # a path that takes no size keeps the picture's: the mask's, and those that only process
    taken = ratio if route.size or not job.images else None
    return {"aspect_ratio": taken.replace(":", "x") if taken else None, route.resolution: job.resolution}


def asked(job: Job, route: Route) -> str | None:
    """The quality that is sent: the vendor's default depends on what comes along."""
    return (job.quality or route.usual) if route.quality else None


def cased(value: str, route: Route) -> str:
    return value.upper() if route.loud else value


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TYPES = words("AUTO GENERAL REALISTIC DESIGN FICTION STYLIZED CUSTOM")
PRESETS = words(
    "80S_ILLUSTRATION 90S_NOSTALGIA ABSTRACT_ORGANIC ANALOG_NOSTALGIA ART_BRUT ART_DECO ART_POSTER AURA AVANT_GARDE "
    "BAUHAUS BLUEPRINT BLURRY_MOTION BRIGHT_ART C4D_CARTOON CHILDRENS_BOOK COLLAGE COLORING_BOOK_I COLORING_BOOK_II "
    "CUBISM DARK_AURA DOODLE DOUBLE_EXPOSURE DRAMATIC_CINEMA EDITORIAL EMOTIONAL_MINIMAL ETHEREAL_PARTY EXPIRED_FILM "
    "FLAT_ART FLAT_VECTOR FOREST_REVERIE GEO_MINIMALIST GLASS_PRISM GOLDEN_HOUR GRAFFITI_I GRAFFITI_II HALFTONE_PRINT "
    "HIGH_CONTRAST HIPPIE_ERA ICONIC JAPANDI_FUSION JAZZY LONG_EXPOSURE MAGAZINE_EDITORIAL MINIMAL_ILLUSTRATION "
    "MIXED_MEDIA MONOCHROME NIGHTLIFE OIL_PAINTING OLD_CARTOONS PAINT_GESTURE POP_ART RETRO_ETCHING RIVIERA_POP "
    "SPOTLIGHT_80S STYLIZED_RED SURREAL_COLLAGE TRAVEL_POSTER VINTAGE_GEO VINTAGE_POSTER WATERCOLOR WEIRD "
    "WOODBLOCK_PRINT"
)


def styled(job: Job) -> dict[str, str]:
    """A style of 3.0: a type, or a preset. Of DALL·E's two words one has a counterpart."""
    if job.style is None or job.style == "vivid":
        return {}
    style = "REALISTIC" if job.style == "natural" else job.style.upper()
    if style in TYPES:
        return {"style_type": style}
    if style in PRESETS:
        return {"style_preset": style}
    text = f"Invalid value: '{job.style}'. Supported values are: {', '.join(sorted(TYPES | PRESETS))}."
    raise Fault("invalid", text, code="invalid_value", param="style")


def files(job: Job, route: Route) -> Iterator[tuple[str, Media]]:
    for index, image in enumerate(job.images):
        yield (route.further if index else route.image), image
    if job.mask:
        yield "mask", job.mask


def form(said: Mapping[str, Any], pictures: Iterator[tuple[str, Media]]) -> Iterator[Part]:
    """Lists become repeated parts of one name, objects JSON text."""
    for name, value in said.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            text = each if isinstance(each, str) else msgspec.json.encode(each).decode()
            yield Part(name, text)
    for name, picture in pictures:
        yield Part(name, picture)


def legacy(job: Job) -> Call:
    """The models before 3.0 share one path, and enums that name what they are of."""
    said: dict[str, Any] = {
        "prompt": job.prompt,
        "model": job.model,
        "aspect_ratio": f"ASPECT_{job.ratio.replace(':', '_')}" if job.ratio else None,
        "negative_prompt": job.negative_prompt,
        "num_images": job.n,
        "seed": job.seed,
        **job.options,
    }
    return Call(path="/generate", json={"image_request": {k: v for k, v in said.items() if v is not None}})


# ---- what comes back


class Made(msgspec.Struct, frozen=True):
    """One of `data`. A blocked one has no address. What only describes a picture must not cost it: it is `Any`."""

    url: str | None = None
    is_image_safe: bool | None = None
    prompt: Any = None
    seed: Any = None


class Answer(msgspec.Struct, frozen=True):
    """Pictures, the task that will make them, or what is left of a picture without its text."""

    data: tuple[Made, ...] | None = None
    generation_id: str | None = None
    status: str | None = None
    usage_cost_usd_micros: Any = None
    base_image_url: str | None = None
    text_blocks: Any = None
    seed: Any = None


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    if answer.base_image_url:
        blocks = {} if answer.text_blocks is None else {"text_blocks": answer.text_blocks}
        return Done(outputs=(Output(url=answer.base_image_url, extra=blocks),))
    if answer.data:
        return done(job, answer, answer.data)
    if answer.generation_id and reply.call.method == "POST":
        path = f"/v2/generations/{quote(answer.generation_id, safe='')}"
        return Wait(Call(method="GET", path=path, repeatable=True), PROVIDER.poll_seconds)
    if reply.call.method == "GET" and answer.status != "completed":  # new words for "running" may come
        return Wait(reply.call, PROVIDER.poll_seconds)
    raise nothing()


def done(job: Job, answer: Answer, data: tuple[Made, ...]) -> Done:
    outputs = tuple(pictured(job, made) for made in data if made.url and made.is_image_safe is not False)
    faults = [unseen(made) for made in data if not made.url or made.is_image_safe is False]
    micros = answer.usage_cost_usd_micros
    cost = round(micros / 1_000_000, 6) if isinstance(micros, int | float) else None
    if not outputs:
        faults[0].cost_usd = cost
        raise faults[0]
    short = Fault("empty", f"The provider made {len(data)} of {job.n} pictures.", code="no_image")
    return Done(
        outputs=outputs,
        faults=(*faults, *(short,) * (job.n - len(data))),
        usage=Usage(cost_usd=cost),
        quality=asked(job, routed(job)) if job.model in ROUTES else None,
    )


def pictured(job: Job, made: Made) -> Output:
    rewritten = isinstance(made.prompt, str) and made.prompt and job.prompt and made.prompt != job.prompt
    return Output(
        url=made.url,
        revised_prompt=made.prompt if rewritten else None,
        extra={} if made.seed is None else {"seed": made.seed},
    )


def unseen(made: Made) -> Fault:
    if made.is_image_safe is False:
        text = "The provider's safety system withheld the picture it made (is_image_safe is false)."
        return Fault("policy", text, code="moderation_blocked", final=True)
    return nothing()


class Problem(msgspec.Struct, frozen=True):
    """What an answer may say of a failure; the shape is not promised."""

    error: Any = None
    detail: Any = None
    message: Any = None
    reject_reason: Any = None
    status: Any = None
    failure_reason: Any = None


UNPAID: Mapping[str, FaultKind] = {
    "insufficient_funds": "quota",
    "priority_credit_required": "quota",
    "subscription_required": "permission",
    "feature_limit": "permission",
    "daily_limit": "rate",
    "inflight_limit": "rate",
}
"""What `reject_reason` says of a 402."""
UNSAFE = re.compile(r"safety|prohibited|moderat|content.policy", re.IGNORECASE)
SAYS_KEY = re.compile(r"api.?key|api.?token|authenti", re.IGNORECASE)


def check(reply: Reply) -> None:
    problem = told(reply)
    if problem.status == "failed":
        raise failed(problem.failure_reason)
    if reply.status < 400:
        return
    texts = [worded(value) for value in (problem.error, problem.detail, problem.message)]
    message = next(filter(None, texts), "") or unread(reply)
    reason = problem.reject_reason if isinstance(problem.reject_reason, str) else None
    if reply.status == 402 and reason and reason in UNPAID:
        raise Fault(UNPAID[reason], message, code=reason)
    if reply.status in {400, 422} and UNSAFE.search(message):
        raise Fault("policy", message, code="moderation_blocked")
    unknown = SAYS_KEY.search(message) or any(word in reply.call.path for word in ("remix", "upscale"))
    if reply.status == 403 and unknown:  # these paths never answer 401
        raise Fault("auth", message, code=reason)
    by_status(reply, message, code=reason)


def failed(reason: object) -> Fault:
    """Why a task ended without pictures."""
    word = reason if isinstance(reason, str) else ""
    if word == "content_policy_violation" or UNSAFE.search(word):
        code = word if word == "content_policy_violation" else "moderation_blocked"
        return Fault("policy", f"The provider's safety system refused the request: {word}.", code=code, final=True)
    text = f"The provider failed to make the picture: {word or 'no reason given'}."
    return Fault("upstream", text, code="task_failed", final=True)


def worded(value: object) -> str:
    """A text, or any JSON, for a person to read."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()[:500]


def told(reply: Reply) -> Problem:
    try:
        return reply.read(Problem)
    except Fault:
        return Problem()
