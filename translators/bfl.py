"""Black Forest Labs (FLUX): submit, poll, one picture per call.

The model's id is the path. The families differ only in how they name the same things: `SHAPES` says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
from msgspec.structs import replace

from translators.base import (
    VARY,
    Call,
    Caps,
    Done,
    Fault,
    Free,
    Job,
    Op,
    Output,
    Price,
    Provider,
    Reply,
    Secret,
    Size,
    Stamp,
    Step,
    Usage,
    Wait,
    base64,
    by_status,
    header,
    retry_after,
)
from translators.base import no_events as event

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

BASES = {"global": "https://api.bfl.ai", "eu": "https://api.eu.bfl.ai", "us": "https://api.us.bfl.ai"}
PROVIDER = Provider(
    title="Black Forest Labs",
    env={"api_key": "BFL_API_KEY"},
    regions=tuple(BASES),
    hosts=frozenset({"*.bfl.ai"}),  # a task lives on one cluster, and its poll address names that one
    docs="https://docs.bfl.ai",
    poll_seconds=1.0,
)
FIRST_POLL = 0.5

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
REDUX: frozenset[Op] = frozenset({"generate", "variation"})
EDITS: frozenset[Op] = frozenset({"edit"})
FORMATS = ("png", "jpeg", "webp")
RATIOS = ("21:9", "2:1", "16:9", "3:2", "7:5", "4:3", "5:4", "1:1",
          "4:5", "3:4", "5:7", "2:3", "9:16", "1:2", "9:21")  # fmt: skip
COMMON = frozenset({"seed", "moderation", "user"})
TUNED = COMMON | {"steps", "guidance"}
TOLERANCE = frozenset({"safety_tolerance"})
FLUX_1 = TOLERANCE | {"prompt_upsampling"}
FINETUNE = frozenset({"finetune_id", "finetune_strength"})
SIDES = frozenset({"top", "bottom", "left", "right"})


def per_picture(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


def per_megapixel(first: float, more: float) -> tuple[Price, ...]:
    """FLUX.2: the first megapixel made, then each further one, and each one sent."""
    return (
        Price(unit="image", amount=first),
        Price(unit="megapixel", amount=more, free=1),
        Price(unit="input_megapixel", amount=more),
    )


PLAIN = Caps(ops=EDITS, max_images=1, input_bytes=20_000_000, input_pixels=20_000_000, formats=FORMATS, params=COMMON)
"""What all but FLUX 3 share."""

FLUX_2 = replace(
    PLAIN,
    ops=MAKES,
    max_images=8,
    free=Free(step=16, pixels=(64 * 64, 2048 * 2048), edge=(64, 0)),
    options=TOLERANCE,
)
PRO_2 = replace(FLUX_2, options=TOLERANCE | {"disable_pup"}, prices=per_megapixel(0.03, 0.015))
KLEIN_9B = replace(FLUX_2, max_images=4, prices=per_megapixel(0.015, 0.002))
KONTEXT = replace(
    PLAIN,
    ops=MAKES,
    max_images=4,
    ratios=RATIOS,
    options=FLUX_1,
    note="Previous generation, about 1 megapixel. The second to fourth picture are experimental.",
)
PRO_1 = replace(
    PLAIN,
    ops=REDUX,
    free=Free(step=32, pixels=(256 * 256, 1440 * 1440), edge=(256, 1440)),
    options=FLUX_1,
    prices=per_picture(0.04),
    note="Previous generation; 1024x768 where no size is asked for.",
)
ULTRA = replace(
    PLAIN,
    ops=REDUX,
    ratios=RATIOS,
    params=COMMON | {"style"},
    options=FLUX_1 | {"raw", "image_prompt_strength"},
    prices=per_picture(0.06),
    note="Previous generation, about 4 megapixels; 16:9 where no size is asked for.",
)
FILL = replace(
    PLAIN,
    mask="white-edits",
    mask_required=True,
    params=TUNED,
    options=FLUX_1,
    prices=per_picture(0.05),
    note="Paints what a mask opens; the picture keeps its size.",
)
TRY_ON = replace(
    PLAIN,
    min_images=2,
    max_images=2,
    options=TOLERANCE,
    note="Virtual try-on: the first picture is the person, the second the garment.",
)

MODELS: Mapping[str, Caps] = {
    "flux-3-image": Caps(
        ops=MAKES,
        ratios=RATIOS,
        resolutions=("768sq", "1k", "1.5k", "2k", "4k"),
        pixels_of={"1:1@768sq": (768, 768)},
        max_images=10,
        input_bytes=15_000_000,  # 20 MB once it is base64
        input_pixels=16_000_000,
        input_edge=(256, 0),
        params=frozenset({"moderation"}),  # unknown fields are refused, and `user` is not surely known: only on demand
        options=TOLERANCE | {"grounding", "version", "user"},
        prices=tuple(
            Price(unit="image", amount=amount, resolution=resolution)
            for resolution, amount in (("768sq", 0.041), ("1k", 0.048), ("2k", 0.10), ("4k", 0.607))
        ),
        note="Reasons, and may search the web, before it paints; the service chooses the file format.",
    ),
    "flux-2-max": replace(PRO_2, prices=per_megapixel(0.07, 0.03)),
    "flux-2-pro": PRO_2,
    "flux-2-pro-preview": PRO_2,
    "flux-2-flex": replace(
        FLUX_2,
        params=TUNED,
        options=TOLERANCE | {"prompt_upsampling"},
        prices=(Price(unit="megapixel", amount=0.05), Price(unit="input_megapixel", amount=0.05)),
    ),
    "flux-2-klein-9b": KLEIN_9B,
    "flux-2-klein-9b-preview": KLEIN_9B,
    "flux-2-klein-4b": replace(KLEIN_9B, prices=per_megapixel(0.014, 0.001)),
    "flux-kontext-pro": replace(KONTEXT, prices=per_picture(0.04)),
    "flux-kontext-max": replace(KONTEXT, prices=per_picture(0.08)),
    "flux-pro-1.1": PRO_1,
    "flux-pro-1.1-ultra": ULTRA,
    "flux-pro-1.1-ultra-finetuned": replace(
        ULTRA, params=ULTRA.params | {"loras"}, options=ULTRA.options | FINETUNE, prices=(), note="Needs one LoRA."
    ),
    "flux-dev": replace(PRO_1, params=TUNED, prices=per_picture(0.025)),
    "flux-pro-1.0-fill": FILL,
    "flux-pro-1.0-fill-finetuned": replace(
        FILL, params=TUNED | {"loras"}, options=FLUX_1 | FINETUNE, prices=(), note="Needs a mask and one LoRA."
    ),
    "flux-pro-1.0-expand": replace(
        PLAIN,
        free=Free(),
        params=TUNED,
        options=FLUX_1 | SIDES,
        prices=per_picture(0.05),
        note="Outpainting: `size` is the new canvas, the picture in its middle; or options top, bottom, left, right.",
    ),
    "flux-tools/erase-v1": replace(
        PLAIN,
        mask="white-edits",
        mask_required=True,
        options=TOLERANCE | {"dilate_pixels"},
        prompt_chars=0,
        note="Removes what the mask opens; takes no prompt.",
    ),
    "flux-tools/outpainting-v1": replace(
        PLAIN,
        free=Free(),  # no canvas is guessed: without one, `measures` refuses
        params=frozenset({"moderation", "user"}),
        options=TOLERANCE
        | {"width", "height", "auto_crop", "reference_offset_x", "reference_offset_y", "mode", "disable_pup"},
        note="Outpainting: `size` is the new canvas.",
    ),
    "flux-tools/deblur-v1": replace(
        PLAIN, options=TOLERANCE, prompt_chars=0, note="Sharpens a picture; takes no prompt."
    ),
    "flux-tools/vto-v1": TRY_ON,
    "flux-tools/vto-v2": TRY_ON,
}


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a family names what a job holds."""

    images: tuple[str, ...]  # one member per picture, in their order
    many: bool = False  # the one member of `images` takes them all, as a list
    prompt: bool = True
    unprompted: str = ""  # what stands for the prompt where pictures came without one
    lenient: int = 5  # the `safety_tolerance` that `moderation: low` means
    format: bool = True


NUMBERED = ("input_image", *(f"input_image_{number}" for number in range(2, 9)))
WEAR = "The person of image 1, maintaining exactly their face and pose, wearing the garments of image 2."

SHAPES: Mapping[str, Shape] = {
    "": Shape(images=("image_prompt",), lenient=6),
    "flux-kontext": Shape(images=NUMBERED[:4], unprompted=VARY, lenient=6),
    "flux-2": Shape(images=NUMBERED, unprompted=VARY),
    "flux-3": Shape(images=("images",), many=True, unprompted=VARY, lenient=4, format=False),
    "flux-pro-1.0": Shape(images=("image",), lenient=6),
    "flux-tools/erase": Shape(images=("image",), prompt=False),
    "flux-tools/deblur": Shape(images=("image",), prompt=False),
    "flux-tools/outpainting": Shape(images=("input_image",)),
    "flux-tools/vto": Shape(images=("person", "garment"), unprompted=WEAR),
}
"""By the longest beginning of the model's id that fits: a model that only the configuration knows finds its family."""


class Submitted(msgspec.Struct):
    id: str
    polling_url: str
    cost: float | None = None


class Result(msgspec.Struct):
    sample: str | None = None
    prompt: str | None = None
    seed: int | None = None


class Task(msgspec.Struct):
    """A poll's answer. Older clients were also sent `state` for `status`."""

    status: str | None = None
    state: str | None = None
    result: Result | None = None
    cost: float | None = None
    progress: float | None = None


class Problem(msgspec.Struct):
    """What an answer may say of a failure; the members' types differ from case to case."""

    status: Any = None
    state: Any = None
    detail: Any = None
    details: Any = None
    message: Any = None
    error: Any = None
    retry_after: Any = None


def base(site: Mapping[str, str]) -> str:
    return BASES[site.get("region") or "global"]


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    return header(call, "x-key", secret.key)


def start(job: Job) -> Step:
    shape = SHAPES[max((family for family in SHAPES if job.model.startswith(family)), key=len)]
    fields: dict[str, Any] = {
        "prompt": (job.prompt or (shape.unprompted if job.images else "")) if shape.prompt else "",
        **pictures(job, shape),
        **measures(job),
        **finetune(job),
        "seed": job.seed,
        "steps": job.steps,
        "guidance": job.guidance,
        "raw": True if job.style == "natural" else None,
        "safety_tolerance": shape.lenient if job.moderation == "low" else None,
        "user": job.user,
        "output_format": (job.format or "png") if shape.format else None,
    }
    body = {name: value for name, value in fields.items() if value is not None and value != ""}
    return Call(path=f"/v1/{job.model}", json={**body, **job.options})


def pictures(job: Job, shape: Shape) -> dict[str, Any]:
    """The members that hold pictures, and how strongly one is to be followed."""
    sent = [base64(image) for image in job.images]
    if shape.many:
        return {shape.images[0]: sent} if sent else {}
    if len(sent) > len(shape.images):
        raise Fault("invalid", f"The model {job.model} takes at most {len(shape.images)} pictures.", param="image")
    fields: dict[str, Any] = dict(zip(shape.images, sent, strict=False))
    if job.mask:
        fields["mask"] = base64(job.mask)
    if "image_prompt" in fields and "ultra" in job.model and not job.prompt:
        fields["image_prompt_strength"] = 1.0  # at the vendor's 0.1 nothing of the picture would be left
    return fields


def measures(job: Job) -> dict[str, Any]:
    """The members that tell the size."""
    if job.model.startswith("flux-pro-1.0-expand"):
        return {} if SIDES & job.options.keys() else margins(job)
    if job.size:
        return dict(zip(("width", "height"), job.size, strict=True))
    if job.model.startswith("flux-tools/outpainting") and not {"width", "height"} <= job.options.keys():
        raise Fault("invalid", "Outpainting needs the size of the new canvas, such as 1536x1024.", param="size")
    return {"aspect_ratio": job.ratio, "resolution": job.resolution}


def margins(job: Job) -> dict[str, int]:
    """How far each side moves out so that the canvas has the size that was asked for."""
    picture = (job.images[0].width, job.images[0].height)
    wider, higher = (new - old for new, old in zip(job.size or picture, picture, strict=True))
    if min(wider, higher) < 0 or max(wider, higher) == 0:
        raise Fault(
            "invalid",
            f"Expanding needs a size beyond the picture's own {shown(picture)}, or provider_options with one of "
            "top, bottom, left, right in pixels.",
            param="size",
        )
    left, top = wider // 2, higher // 2
    sides = {"top": top, "bottom": higher - top, "left": left, "right": wider - left}
    return {side: pixels for side, pixels in sides.items() if pixels}


def shown(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def finetune(job: Job) -> dict[str, Any]:
    """The one LoRA that a finetuned model is."""
    if not job.model.endswith("-finetuned") or "finetune_id" in job.options:
        return {}
    if len(job.loras) != 1:
        raise Fault("invalid", f"The model {job.model} takes exactly one LoRA: its finetune id.", param="loras")
    return {"finetune_id": job.loras[0].model, "finetune_strength": job.loras[0].weight}


def step(job: Job, reply: Reply) -> Step:
    if reply.call.method == "POST":
        made = reply.read(Submitted)
        state = "" if made.cost is None else str(made.cost)
        poll = Call(method="GET", path=poll_url(made), repeatable=True, state=state)
        return Wait(poll, FIRST_POLL)
    task = reply.read(Task)
    if (task.status or task.state) != "Ready":  # new names for "running" come with new models
        return Wait(reply.call, PROVIDER.poll_seconds, percent(task.progress))
    if task.result is None or not task.result.sample:
        raise Fault("empty", "The provider finished the job without a picture.")
    return Done(outputs=(output(job, task.result),), usage=Usage(cost_usd=cost(task, reply.call)))


def poll_url(made: Submitted) -> str:
    """The address as it was given: another cluster would not know the task."""
    if "id" in parse_qs(urlsplit(made.polling_url).query):
        return made.polling_url
    return f"{made.polling_url}{'&' if '?' in made.polling_url else '?'}id={quote(made.id)}"


def percent(progress: float | None) -> int | None:
    return None if progress is None else round(min(max(progress, 0.0), 1.0) * 100)


def output(job: Job, result: Result) -> Output:
    return Output(
        url=result.sample,
        revised_prompt=(result.prompt or None) if job.prompt and result.prompt != job.prompt else None,
        extra={} if result.seed is None else {"seed": result.seed},
    )


def cost(task: Task, call: Call) -> float | None:
    """What was charged, from credits of one cent; the submit's figure is an estimate that the poll's corrects."""
    credits = task.cost if task.cost is not None else float(call.state) if call.state else None
    return None if credits is None else round(credits / 100, 6)


REFUSED = {
    "Request Moderated": "The provider's safety system refused the request",
    "Content Moderated": "The provider's safety system withheld what it made",
}
FAILED = frozenset({"Error", "Failed"})
PARAMS = {
    "width": "size", "height": "size", "images": "image", "input_image": "image", "image_prompt": "image",
    "person": "image", "garment": "image", "safety_tolerance": "moderation", "finetune_id": "loras",
}  # fmt: skip


def check(reply: Reply) -> None:
    said = problem(reply)
    status = said.status or said.state
    reason = text(said.details) or text(said.detail)
    if status in REFUSED:
        message = f"{REFUSED[status]}: {reason or status}."
        raise Fault("policy", message, code="moderation_blocked", final=True)
    if status == "Task not found":
        raise Fault("missing", "The provider does not know this task.", code="task_not_found")
    if status in FAILED or (reply.status == 503 and status):  # a 503 that names a status is an end, not a hiccup
        message = f"The provider failed to make the picture: {reason or status}."
        raise Fault("upstream", message, code="task_failed", final=True)
    if reply.status >= 400:
        refuse(reply, said)


def problem(reply: Reply) -> Problem:
    """What the body says of a failure; nothing where it is no JSON object."""
    try:
        return reply.read(Problem)
    except Fault:
        return Problem()


def refuse(reply: Reply, said: Problem) -> None:
    """Raise what an HTTP error means."""
    message = text(said.detail) or text(said.message) or text(said.error) or f"The provider answered {reply.status}."
    if reply.status == 403:  # the provider never answers 401
        raise Fault("auth" if "authenticat" in message.lower() else "permission", message)
    if reply.status == 429:
        told = said.retry_after if isinstance(said.retry_after, int | float) else None
        raise Fault("rate", message, retry_after=retry_after(reply) if told is None else float(told))
    if reply.status == 404 and reply.call.method == "POST":
        raise Fault("missing", f"The provider has no such model: {message}", code="model_not_found", param="model")
    code, param = named(said.detail)
    by_status(reply, message, code=code, param=param)


def named(detail: Any) -> tuple[str | None, str | None]:
    """Code and parameter of the first entry of a validation error."""
    first = detail[0] if isinstance(detail, list) and detail else None
    if not isinstance(first, dict):
        return None, None
    code, field = first.get("type"), place(first)
    if field.startswith("input_image"):
        field = "input_image"
    return code if isinstance(code, str) else None, PARAMS.get(field, field) or None


def place(entry: Mapping[str, Any]) -> str:
    """The body's member that a validation error speaks of."""
    loc = entry.get("loc")
    names = [name for name in loc if isinstance(name, str) and name != "body"] if isinstance(loc, list) else []
    return names[0] if names else ""


def text(value: Any) -> str:
    """Whatever stands in `detail` or `details`, for a person to read."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(text, value)))
    if isinstance(value, dict):
        if isinstance(value.get("msg"), str):
            return ": ".join(filter(None, (place(value), value["msg"])))
        return "; ".join(filter(None, map(text, value.values())))
    return ""
