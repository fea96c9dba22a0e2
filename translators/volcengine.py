"""Volcengine Ark (Doubao Seedream) and its international twin, BytePlus ModelArk: one call for everything.

    POST /images/generations {"model", "prompt", "image", "size", …}  -> {"data": [picture or error], "usage"}
    with `stream`: SSE, an event for each finished picture

The twins differ in base address and in their models' names only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from translators.base import (
    BY_STATUS,
    Call,
    Caps,
    Done,
    Event,
    Fault,
    FaultKind,
    Free,
    Job,
    Op,
    Output,
    Partial,
    Price,
    Provider,
    Reply,
    Size,
    Step,
    Usage,
    by_status,
    data_url,
    prompted,
    retry_after,
)
from translators.base import bearer as sign
from translators.shapes import nothing, unread

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

BASES = {
    "cn-beijing": "https://ark.cn-beijing.volces.com/api/v3",
    "plan": "https://ark.cn-beijing.volces.com/api/plan/v3",  # the subscription, with a key of its own
    "ap-southeast": "https://ark.ap-southeast.bytepluses.com/api/v3",
    "eu-west": "https://ark.eu-west.bytepluses.com/api/v3",
}
PROVIDER = Provider(
    title="Volcengine Ark / BytePlus ModelArk",
    env={"api_key": "ARK_API_KEY"},
    regions=tuple(BASES),
    docs="https://www.volcengine.com/docs/82379/1541523",
)

# ---- what the models can do

RATIOS = ("1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3", "21:9")


def table(**tiers: str) -> dict[str, Size]:
    """The vendor's recommended sizes, one for each of `RATIOS`. `k1_5` is the tier 1.5K."""
    return {
        f"{ratio}@{tier[1:].replace('_', '.')}K": (int(width), int(height))
        for tier, sizes in tiers.items()
        for ratio, size in zip(RATIOS, sizes.split(), strict=True)
        for width, height in [size.split("x")]
    }


K1 = "1024x1024 1152x864 864x1152 1424x800 800x1424 1248x832 832x1248 1568x672"
K1_OF_4 = "1024x1024 1152x864 864x1152 1280x720 720x1280 1248x832 832x1248 1512x648"
K1_5 = "1536x1536 1792x1344 1344x1792 2048x1152 1152x2048 1872x1248 1248x1872 2352x1008"
K2_OF_5 = "2048x2048 2368x1776 1776x2368 2816x1584 1584x2816 2496x1664 1664x2496 3136x1344"
K2 = "2048x2048 2304x1728 1728x2304 2848x1600 1600x2848 2496x1664 1664x2496 3136x1344"
K3 = "3072x3072 3456x2592 2592x3456 4096x2304 2304x4096 3744x2496 2496x3744 4704x2016"
K4 = "4096x4096 4704x3520 3520x4704 5504x3040 3040x5504 4992x3328 3328x4992 6240x2656"


def bounded(least: int, most: int) -> Free:
    """Any width and height of so many pixels; the ratio is 1:16 to 16:1 for all."""
    return Free(pixels=(least, most), ratio=16)


def per_picture(amount: float, pixels: tuple[int, int] = (0, 0)) -> Price:
    return Price(unit="image", amount=amount, pixels=pixels)


MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
WATERMARK = frozenset({"watermark"})
TUNED = WATERMARK | {"seed", "guidance"}
OPTIMIZE = frozenset({"optimize_prompt_options"})
LAYERS = OPTIMIZE | {"layer_decomposition"}
GROUPS = OPTIMIZE | {"sequential_image_generation", "sequential_image_generation_options"}
BACKGROUNDS = ("transparent", "opaque", "auto")

ANY = Caps(
    ops=MAKES,
    free=bounded(3_686_400, 4_624_220),
    ratios=RATIOS,
    resolutions=("2K",),
    pixels_of=table(k2=K2),
    max_images=10,
    input_types=tuple(f"image/{kind}" for kind in ("png", "jpeg", "webp", "bmp", "tiff", "gif", "heic", "heif")),
    input_bytes=30_000_000,
    input_pixels=36_000_000,
    input_edge=(15, 0),
    params=WATERMARK,
    options=LAYERS | GROUPS | {"tools"},
    note="An inference endpoint: asked only for what every current Seedream can do.",
)
"""What an endpoint (`ep-…`) is taken for, behind which any model may stand."""

SEEDREAM_5_PRO = replace(
    ANY,
    free=bounded(921_600, 4_624_220),
    resolutions=("1K", "1.5K", "2K"),
    pixels_of=table(k1=K1, k1_5=K1_5, k2=K2_OF_5),
    formats=("jpeg", "png"),
    backgrounds=BACKGROUNDS,
    options=LAYERS,
    prices=(
        per_picture(0.045, (0, 2_610_000)),
        per_picture(0.09, (2_610_000, 0)),
        Price(unit="input_image", amount=0.003, free=1),
    ),
    note="A transparent background needs exactly one PNG with transparency as input. Layers are priced apart.",
)
SEEDREAM_5_FLASH = replace(
    SEEDREAM_5_PRO,
    prices=(per_picture(0.018),),
    note="A transparent background needs exactly one PNG with transparency as input.",
)
SEEDREAM_5_5 = replace(
    SEEDREAM_5_PRO,
    # Its upper bound is not documented; that of 5.0 pro is what its largest tier needs.
    formats=("png", "jpeg"),
    prices=(
        per_picture(0.02, (0, 2_601_124)),
        per_picture(0.035, (2_601_124, 0)),
        Price(unit="input_image", amount=0.008),
    ),
    note="A transparent background needs PNG.",
)
SEEDREAM_5_LITE = replace(
    ANY,
    free=bounded(3_686_400, 16_777_216),
    resolutions=("2K", "3K", "4K"),
    pixels_of=table(k2=K2, k3=K3, k4=K4),
    max_images=14,
    formats=("jpeg", "png"),
    streams=True,
    options=GROUPS | {"tools"},
    prices=(per_picture(0.035),),
    note=None,
)
SEEDREAM_4_5 = replace(
    SEEDREAM_5_LITE,
    resolutions=("2K", "4K"),
    pixels_of=table(k2=K2, k4=K4),
    formats=(),
    options=GROUPS,
    prices=(per_picture(0.04),),
)
SEEDREAM_4 = replace(
    SEEDREAM_4_5,
    free=bounded(921_600, 16_777_216),
    resolutions=("1K", "2K", "4K"),
    pixels_of=table(k1=K1_OF_4, k2=K2, k4=K4),
    prices=(per_picture(0.03),),
)
SEEDREAM_3 = Caps(
    ops=frozenset({"generate"}),
    free=Free(pixels=(512 * 512, 2048 * 2048), edge=(512, 2048)),
    params=TUNED,
    note="Being retired.",
)
SEEDEDIT_3 = Caps(
    ops=frozenset({"edit", "variation"}),
    max_images=1,
    input_types=("image/png", "image/jpeg"),
    input_bytes=10_000_000,
    input_pixels=36_000_000,
    input_edge=(15, 0),
    params=TUNED,
    note="Keeps the input's shape. Shut down on BytePlus in October 2026, and may be here.",
)

MODELS: Mapping[str, Caps] = {
    "doubao-seedream-5-5-261028": SEEDREAM_5_5,
    "dola-seedream-5-5-261028": SEEDREAM_5_5,
    "doubao-seedream-5-0-pro-260628": SEEDREAM_5_PRO,
    "dola-seedream-5-0-pro-260628": SEEDREAM_5_PRO,
    "doubao-seedream-5-0-flash-260915": SEEDREAM_5_FLASH,
    "dola-seedream-5-0-flash-260915": SEEDREAM_5_FLASH,
    "doubao-seedream-5-0-260128": SEEDREAM_5_LITE,
    "doubao-seedream-5-0-lite-260128": SEEDREAM_5_LITE,
    "seedream-5-0-260128": SEEDREAM_5_LITE,
    "seedream-5-0-lite-260128": SEEDREAM_5_LITE,
    "doubao-seedream-4-5-251128": SEEDREAM_4_5,
    "seedream-4-5-251128": SEEDREAM_4_5,
    "doubao-seedream-4-0-250828": SEEDREAM_4,
    "seedream-4-0-250828": SEEDREAM_4,
    "doubao-seedream-3-0-t2i-250415": SEEDREAM_3,
    "seedream-3-0-t2i-250415": SEEDREAM_3,
    "doubao-seededit-3-0-i2i-250628": SEEDEDIT_3,
}


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or BASES[site.get("region") or PROVIDER.regions[0]]


def caps(model: str) -> Caps | None:
    return MODELS.get(model) or (ANY if model.startswith("ep-") else None)


# ---- what is sent


def start(job: Job) -> Step:
    said: dict[str, Any] = {
        "model": job.model,
        "prompt": prompted(job),
        "response_format": "b64_json",  # one reply holds it all; links would have to be fetched within a day
        "watermark": job.watermark is True,  # left out, a visible mark is drawn
    }
    pictures = [data_url(image) for image in job.images]
    if pictures:
        said["image"] = pictures[0] if len(pictures) == 1 else pictures
    # A transparent background is refused as JPEG, which is what 5.0 gives unasked.
    form = job.format or ("png" if job.background == "transparent" else None)
    wishes = {
        "size": sized(job),
        "output_format": form,
        "background": job.background,
        "seed": job.seed,
        "guidance_scale": job.guidance,
        "stream": job.stream or None,  # models that do not stream refuse even `false`
    }
    said |= {name: value for name, value in wishes.items() if value is not None} | dict(job.options)
    return Call(path="/images/generations", json=said, read="events" if job.stream else "json")


def sized(job: Job) -> str | None:
    """`size` is pixels or a tier. A ratio can only be had by pixels: the recommended ones for it."""
    if "seededit" in job.model:
        return "adaptive"
    size = job.size
    if size is None and job.ratio:
        size = (caps(job.model) or ANY).pixels_of.get(f"{job.ratio}@{job.resolution or '2K'}")
        if size is None:
            raise Fault(
                "invalid",
                f"'{job.model}' has no size for {job.ratio} at {job.resolution or '2K'}; ask for pixels with 'size'.",
                code="invalid_value",
                param="aspect_ratio",
            )
    return "{}x{}".format(*size) if size else job.resolution


# ---- what comes back


class Problem(msgspec.Struct, frozen=True):
    """Why there is no picture, or no answer."""

    code: str | None = None
    message: str | None = None
    param: str | None = None


class Made(msgspec.Struct, frozen=True):
    """One of `data`. Layers say where they belong. What only describes a picture must not cost it: it is `Any`."""

    b64_json: str | None = None
    url: str | None = None
    error: Problem | None = None
    background: Any = None
    z_index: Any = None
    name: Any = None
    description: Any = None
    bounding_box: Any = None


class Count(msgspec.Struct, frozen=True):
    """`usage`. What goes in is not counted in tokens."""

    output_tokens: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. `error` stands beside `data` where no picture came out."""

    data: tuple[Made, ...] | None = None
    usage: Any = None
    error: Problem | None = None
    type: str | None = None  # an event's


class Frame(msgspec.Struct, frozen=True):
    """One event of a stream."""

    type: str | None = None
    b64_json: str | None = None
    url: str | None = None
    partial_image_index: int = 0
    error: Problem | None = None
    usage: Any = None


PLACE = ("z_index", "name", "description", "bounding_box")
FAILED = "image_generation.partial_failed"


def pictured(made: Made, reply: Reply) -> Output | None:
    """The picture of an entry, if it is one."""
    extra = {name: value for name in PLACE if (value := getattr(made, name)) is not None}
    if made.b64_json:
        return Output(blob=reply.blob(made.b64_json), extra=extra)
    return Output(url=made.url, extra=extra) if made.url else None


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    outputs: list[Output] = []
    faults: list[Fault] = []
    for made in answer.data or ():
        if output := pictured(made, reply):
            outputs.append(output)
        else:
            faults.append(fault(made.error, reply) if made.error else nothing())
    if not outputs:
        raise faults[0] if faults else nothing()
    if answer.error:  # what stopped a group in its middle
        faults.append(fault(answer.error, reply))
    background = next((made.background for made in answer.data or () if made.background), None)
    return Done(
        outputs=tuple(outputs),
        usage=counted(answer.usage),
        faults=tuple(faults),
        background=background if background in ("transparent", "opaque") else None,
    )


def event(job: Job, reply: Reply) -> Iterator[Event]:
    """One event. Names that are not known say nothing of a picture."""
    if reply.data.strip() == b"[DONE]":
        return
    frame = reply.read(Frame)
    output = pictured(Made(b64_json=frame.b64_json, url=frame.url), reply)
    match frame.type or reply.event:
        case "image_generation.partial_succeeded" if output:  # a finished picture, whatever its name says
            yield output
        case "image_generation.partial_image" if output:
            yield Partial(frame.partial_image_index, output)
        case "image_generation.partial_failed":  # the others of the group live on
            yield Done(outputs=(), faults=(fault(frame.error or Problem(), reply),))
        case "image_generation.completed":
            yield counted(frame.usage)


def counted(usage: object) -> Usage:
    try:
        return Usage(output_image=msgspec.convert(usage or {}, Count).output_tokens)
    except msgspec.ValidationError:
        return Usage()


# ---- what went wrong

KINDS: Mapping[str, FaultKind] = {
    "AuthenticationError": "auth",
    "InvalidAccountStatus": "auth",
    "AccessDenied": "permission",
    "OperationDenied": "permission",
    "AccountOverdueError": "quota",
    "OperationDenied.ServiceOverdue": "quota",
    "OperationDenied.FileQuotaExceeded": "quota",
    "InvalidSubscription": "quota",
    "QuotaExceeded": "quota",
    "SetLimitExceeded": "quota",
    "RateLimitExceeded": "rate",
    "ModelAccountRpmRateLimitExceeded": "rate",
    "ModelAccountTpmRateLimitExceeded": "rate",
    "ModelAccountIpmRateLimitExceeded": "rate",
    "APIAccountRpmRateLimitExceeded": "rate",
    "AccountRateLimitExceeded": "rate",
    "RequestBurstTooFast": "rate",
    "InflightBatchsizeExceeded": "rate",
    "MissingParameter": "invalid",
    "InvalidParameter": "invalid",
    "InvalidImageURL": "invalid",
    "OutofContextError": "invalid",
    "SensitiveContentDetected": "policy",
    "InputTextSensitiveContentDetected": "policy",
    "InputImageSensitiveContentDetected": "policy",
    "OutputTextSensitiveContentDetected": "policy",
    "OutputImageSensitiveContentDetected": "policy",
    "InputTextRiskDetection": "policy",
    "InputImageRiskDetection": "policy",
    "OutputTextRiskDetection": "policy",
    "OutputImageRiskDetection": "policy",
    "ContentSecurityDetectionError": "policy",
    "InvalidEndpoint": "missing",  # closed: another target may have the model
    "InvalidEndpointOrModel": "missing",
    "ModelNotOpen": "missing",
    "UnsupportedModel": "missing",
    "NotFound": "missing",
    "ServerOverloaded": "overloaded",
    "InternalServiceError": "upstream",
}
"""By the whole code, else by what stands before its first dot: `InvalidParameter.size`."""


def check(reply: Reply) -> None:
    """One refused picture does not fail an answer: `step` and `event` find it among the others."""
    try:
        answer = reply.read(Answer)
    except Fault:
        by_status(reply, unread(reply))
        if reply.data.strip() == b"[DONE]":
            return
        raise
    made = any(pictured(made, reply) for made in answer.data or ())
    if answer.error and not made and (answer.type or reply.event) != FAILED:
        raise fault(answer.error, reply)
    by_status(reply, unread(reply))


def fault(problem: Problem, reply: Reply) -> Fault:
    code = problem.code or ""
    family, _, rest = code.partition(".")
    message = problem.message or code or unread(reply)
    kind = KINDS.get(code) or KINDS.get(family)
    if kind is None:
        kind = BY_STATUS.get(reply.status, "invalid" if 400 <= reply.status < 500 else "upstream")
    begun = reply.status < 400  # it may be paid: not to be tried again
    # Some name the field in the code: MissingParameter.prompt.
    param = named(problem.param or (rest if family.endswith("Parameter") and rest.islower() else ""))
    if kind == "policy":
        return Fault(kind, f"{message} ({code})", code="moderation_blocked", param=param)
    return Fault(kind, message, code=code or None, param=param, retry_after=retry_after(reply), final=begun)


def named(field: str) -> str | None:
    """A field of the wire by the name that the client gave it."""
    if field.partition(".")[0].partition("[")[0] in ANY.options:
        return f"provider_options.{field}"
    return "guidance" if field == "guidance_scale" else field or None
