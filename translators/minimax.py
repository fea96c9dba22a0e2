"""MiniMax (Hailuo): two wires, both synchronous and both JSON.

image-01:  POST /v1/image_generation  -> {"data": {"image_base64": […]}, "metadata", "base_resp": {"status_code"}}
H3-Image:  POST /v1/images/generations, /v1/images/edits  -> {"data": [{"b64_json"} or {"error"}], "usage"}

The first answers 200 whatever happens: a `status_code` other than 0 is a failure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from translators import shapes
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
    Op,
    Output,
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

BASES = {"global": "https://api.minimax.io", "cn": "https://api.minimaxi.com"}
PROVIDER = Provider(
    title="MiniMax",
    env={"api_key": "MINIMAX_API_KEY", "base_url": "MINIMAX_API_HOST"},
    regions=tuple(BASES),  # a key belongs to one region
    docs="https://platform.minimax.io/docs/api-reference/image-generation-t2i",
)

# ---- what the models can do

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
PIXELS: Mapping[str, Size] = {
    "1:1": (1024, 1024), "16:9": (1280, 720), "4:3": (1152, 864), "3:2": (1248, 832),
    "2:3": (832, 1248), "3:4": (864, 1152), "9:16": (720, 1280), "21:9": (1344, 576),
}  # fmt: skip
NARROWER = tuple(ratio for ratio in PIXELS if ratio != "21:9")

IMAGE_01 = Caps(
    ops=MAKES,
    max_n=9,
    prompt_chars=1500,
    free=Free(step=8, edge=(512, 2048)),
    ratios=tuple(PIXELS),
    pixels_of=PIXELS,
    max_images=1,
    input_types=("image/jpeg", "image/png"),
    input_bytes=10_000_000,
    params=frozenset({"seed", "watermark"}),
    options=frozenset({"prompt_optimizer"}),
    prices=(Price(unit="image", amount=0.0035),),
    note="Always JPEG. A picture is a portrait whose face the new picture shows; nothing else of it is kept.",
)


def by_token(image_in: float, image_out: float) -> tuple[Price, ...]:
    return (
        Price(unit="token.text.in", amount=2.30, per=1_000_000),
        Price(unit="token.image.in", amount=image_in, per=1_000_000),
        Price(unit="token.image.out", amount=image_out, per=1_000_000),
    )


H3 = Caps(
    ops=MAKES,
    max_n=10,
    free=Free(pixels=(655_360, 20_000_000), ratio=3),
    ratios=(
        "3:1",
        "21:9",
        "2:1",
        "16:9",
        "3:2",
        "4:3",
        "5:4",
        "1:1",
        "4:5",
        "3:4",
        "2:3",
        "9:16",
        "1:2",
        "9:21",
        "1:3",
    ),
    resolutions=("1K", "2K", "4K"),
    max_images=16,
    input_edge=(128, 8192),
    formats=("png", "jpeg", "webp"),
    options=frozenset({"disable_prompt_enhanced"}),
    prices=by_token(1.50, 3.80),
    note="1K where no size is asked for: unasked, the provider would make 4K.",
)

MODELS: Mapping[str, Caps] = {
    "MiniMax-H3-Image": H3,
    "MiniMax-H3-Image-Highspeed": replace(H3, prices=by_token(3.00, 7.60)),
    "image-01": IMAGE_01,
    "image-01-live": replace(
        IMAGE_01,
        free=None,
        ratios=NARROWER,
        pixels_of={ratio: PIXELS[ratio] for ratio in NARROWER},
        params=IMAGE_01.params | {"style"},
        options=IMAGE_01.options | {"style"},
        prices=(),
        note="Drawn styles: 漫画, 元气, 中世纪, 水彩. Documented for China; abroad it may be refused.",
    ),
}


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or BASES[site.get("region") or PROVIDER.regions[0]]


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


# ---- what is sent

STYLES = ("漫画", "元气", "中世纪", "水彩")


def start(job: Job) -> Step:
    prompt = prompted(job)
    fields = {"model": job.model, "prompt": prompt, "n": job.n}
    if job.model.startswith("image-01"):
        path, more = "/v1/image_generation", of_image_01(job)
    else:
        path, more = f"/v1/images/{'edits' if job.images else 'generations'}", of_h3(job)
    said = {name: value for name, value in more.items() if value is not None}
    return Call(path=path, json={**fields, **said, **job.options})


def of_image_01(job: Job) -> dict[str, Any]:
    """A ratio would win over width and height: the planner gives one or the other."""
    return {
        "response_format": "base64",
        "aspect_ratio": job.ratio,
        "width": job.size[0] if job.size else None,
        "height": job.size[1] if job.size else None,
        "seed": job.seed,
        "aigc_watermark": job.watermark,
        "style": drawn(job.style),
        "subject_reference": [{"type": "character", "image_file": data_url(image)} for image in job.images] or None,
    }


def drawn(style: str | None) -> dict[str, str] | None:
    """DALL·E's two words are no styles here: its old clients send them."""
    if style in {None, "vivid", "natural"}:
        return None
    if style not in STYLES:
        text = f"Invalid value: '{style}'. Supported values are: {', '.join(map(repr, STYLES))}."
        raise Fault("invalid", text, code="invalid_value", param="style")
    return {"style_type": style}


def of_h3(job: Job) -> dict[str, Any]:
    """A size, or a ratio and an area, never both. The name of the compression is not sure, so it is not sent."""
    if job.options.get("disable_prompt_enhanced") and (job.images or not (job.size or job.ratio)):
        text = "'disable_prompt_enhanced' needs a fixed size or ratio, and cannot be used together with pictures."
        param = "provider_options.disable_prompt_enhanced"
        raise Fault("invalid", text, code="invalid_value", param=param)
    return {
        "size": "{}x{}".format(*job.size) if job.size else None,
        "aspect_ratio": None if job.size else job.ratio,
        "area": None if job.size else job.resolution or H3.resolutions[0],
        "images": [{"image_url": data_url(image)} for image in job.images] or None,
        "output_format": job.format or "png",
        "response_format": "b64_json",
    }


# ---- what comes back


class Pictures(msgspec.Struct, frozen=True):
    image_base64: tuple[Blob, ...] | None = None
    image_urls: tuple[str, ...] | None = None


class Counted(msgspec.Struct, frozen=True):
    """Numbers, or text that holds them."""

    success_count: int | str | None = None
    failed_count: int | str | None = None


class Made01(msgspec.Struct, frozen=True):
    data: Pictures | None = None
    metadata: Counted | None = None


class Problem(msgspec.Struct, frozen=True):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class Made(shapes.Made, frozen=True):
    """An entry of H3. One that failed holds no picture; what it holds instead is not surely named."""

    error: Problem | str | None = None


class MadeH3(msgspec.Struct, frozen=True):
    data: tuple[Made, ...] | None = None
    usage: Any = None


def step(job: Job, reply: Reply) -> Step:
    return of_flat(job, reply) if reply.call.path == "/v1/image_generation" else of_entries(reply)


def of_flat(job: Job, reply: Reply) -> Done:
    """image-01: what the safety check withheld is only counted."""
    answer = reply.read(Made01)
    made, count = answer.data or Pictures(), answer.metadata or Counted()
    outputs = [Output(blob=blob) for blob in made.image_base64 or () if blob.size]
    outputs += [Output(url=url) for url in made.image_urls or () if url]
    withheld = whole(count.failed_count) or 0
    if not outputs and (withheld or whole(count.success_count) == 0):
        raise unsafe()
    if not outputs:
        raise shapes.nothing()
    missing = max(job.n - len(outputs), 0)
    faults = [unsafe() if index < withheld else shapes.nothing() for index in range(missing)]
    return Done(outputs=tuple(outputs), faults=tuple(faults))


def of_entries(reply: Reply) -> Done:
    """H3: in OpenAI's shape, each entry a picture or why there is none."""
    answer = reply.read(MadeH3)
    outputs: list[Output] = []
    faults: list[Fault] = []
    for made in answer.data or ():
        if output := shapes.pictured(reply, made):
            outputs.append(output)
        else:
            faults.append(failed(made.error, reply) if made.error else shapes.nothing())
    usage = shapes.counted(answer.usage)
    if not outputs:
        fault = faults[0] if faults else shapes.nothing()
        fault.usage = usage
        raise fault
    return Done(outputs=tuple(outputs), usage=usage, faults=tuple(faults))


def whole(count: int | str | None) -> int | None:
    return int(str(count)) if str(count).isdigit() else None


def unsafe() -> Fault:
    return Fault("policy", "The provider's safety check withheld the image.", code="moderation_blocked")


# ---- what went wrong

KINDS: Mapping[str, FaultKind] = {
    "1000": "upstream",
    "1001": "timeout",
    "1002": "rate",
    "1004": "auth",
    "1008": "quota",
    "1013": "upstream",
    "1026": "policy",
    "1027": "policy",
    "1028": "quota",
    "1030": "quota",
    "1039": "rate",
    "2013": "invalid",
    "2038": "permission",  # the account's owner has to prove who he is
    "2049": "auth",  # also a key of the other region
    "2056": "quota",
    "2061": "permission",  # not in the account's plan
}
STATUSES: Mapping[int, FaultKind] = {403: "auth", 504: "timeout"}
SENSITIVE = re.compile(r"sensitive|\b102[67]\b", re.IGNORECASE)


class Base(msgspec.Struct, frozen=True):
    status_code: int | str | None = None
    status_msg: str | None = None


class Failure(msgspec.Struct, frozen=True):
    base_resp: Base | None = None
    error: Problem | str | None = None


def check(reply: Reply) -> None:
    try:
        found = reply.read(Failure)
    except Fault:
        if reply.status < 400:
            raise
        found = Failure()
    said = found.base_resp
    if said and str(said.status_code or 0) != "0":
        raise failed(Problem(message=said.status_msg, code=said.status_code), reply)
    if found.error:
        raise failed(found.error, reply)
    if reply.status >= 400:
        raise failed(Problem(), reply)


def failed(said: Problem | str, reply: Reply) -> Fault:
    """By the text where it says why, for the codes of "too fast" stand for refusals, too; else by code and status."""
    problem = Problem(message=said) if isinstance(said, str) else said
    code = str(problem.code) if problem.code is not None else None
    message = problem.message or shapes.unread(reply)
    kind = "policy" if SENSITIVE.search(problem.message or "") else KINDS.get(code or "")
    kind = kind or STATUSES.get(reply.status) or BY_STATUS.get(reply.status, "upstream")
    if kind == "policy":
        return Fault(kind, f"{message} ({code})" if code else message, code="moderation_blocked")
    return Fault(kind, message, code=code or problem.type, retry_after=retry_after(reply))
