"""AUTOMATIC1111's web UI and its kin (Forge, reForge, SD.Next): a server of one's own, one synchronous call.

POST /sdapi/v1/txt2img, /sdapi/v1/img2img {"prompt", "width", "init_images", "mask", …}
    -> {"images": [base64], "info": JSON as text}

A model is a checkpoint's title; `default` is whatever the server has loaded. Progress is told only at another address
while the call waits, and of the server as a whole, not of one job.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from translators.base import (
    Blob,
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
    base64,
    bearer,
    by_status,
    header,
)
from translators.base import no_events as event
from translators.shapes import bare, nothing, unread

__all__ = ["DECLARED", "MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="AUTOMATIC1111 / Forge",
    env={"base_url": "A1111_BASE_URL"},
    docs="https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/API",
)

LEAST = 64  # pixels of an edge
MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
SAMPLING = {"sampler_name", "scheduler", "styles", "subseed", "subseed_strength", "restore_faces", "tiling", "eta",
            "distilled_cfg_scale", "alwayson_scripts", "denoising_strength"}  # fmt: skip
HIRES = {"enable_hr", "hr_scale", "hr_upscaler", "hr_second_pass_steps", "hr_resize_x", "hr_resize_y"}
FROM_PICTURE = {"resize_mode", "mask_blur", "inpainting_fill", "inpaint_full_res", "inpaint_full_res_padding",
                "inpainting_mask_invert"}  # fmt: skip

DECLARED = Caps(
    ops=MAKES,
    max_n=4,  # made at once, in the memory of one card
    free=Free(step=8, edge=(LEAST, 2048)),
    max_images=1,
    mask="white-edits",
    params=frozenset({"negative_prompt", "seed", "steps", "guidance", "loras"}),
    # Not `override_settings`, `save_images` and `script_name`: with them a client would rule the server.
    options=frozenset(SAMPLING | HIRES | FROM_PICTURE),
    prices=(Price(unit="image", amount=0),),  # a machine of one's own sends no bills
)
"""What any checkpoint is taken for."""

MODELS: Mapping[str, Caps] = {
    "default": msgspec.structs.replace(DECLARED, note="Whatever checkpoint the server has loaded.")
}


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/")


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    """What `--api-auth` was given, `user:password`; what has no colon is a proxy's token. Most servers ask for none."""
    if not secret.key:
        return call
    if ":" not in secret.key:
        return bearer(call, secret, stamp)
    return header(call, "Authorization", f"Basic {b64encode(secret.key.encode()).decode()}")


# ---- what is sent

STEPS = 25  # the server's own default, 50, is for samplers of the past
VARIED = 0.6  # how far a variation goes from its picture
AREA = 1024 * 1024  # most pixels of an edit that asks for no size: what the models know how to paint


def start(job: Job) -> Step:
    fields: dict[str, Any] = {
        "prompt": job.prompt + "".join(f" <lora:{lora.model}:{lora.weight:g}>" for lora in job.loras),
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        "steps": job.steps or STEPS,
        "cfg_scale": job.guidance,
        **dict(zip(("width", "height"), canvas(job) or (), strict=False)),
        "batch_size": job.n if job.n > 1 else None,
        **checkpoint(job.model),
        **pictures(job),
        **job.options,
    }
    check_options(job)
    said = {name: value for name, value in fields.items() if value is not None}
    return Call(path=f"/sdapi/v1/{'img2img' if job.images else 'txt2img'}", json=said)


def check_options(job: Job) -> None:
    """An option for the other of the two calls would do nothing, or be refused as unknown."""
    for names, needed, what in ((FROM_PICTURE, True, "an image"), (HIRES, False, "a generation")):
        if bool(job.images) != needed and (wrong := sorted(names & job.options.keys())):
            param = f"provider_options.{wrong[0]}"
            raise Fault("invalid", f"'{param}' is only for {what}.", code="invalid_value", param=param)


def canvas(job: Job) -> Size | None:
    """The size; of an edit that asks for none its picture's, as the server would squeeze it into 512x512."""
    if job.size or not job.images:
        return job.size
    width, height = job.images[0].width, job.images[0].height
    scale = max(min(1.0, (AREA / (width * height)) ** 0.5), LEAST / min(width, height))
    return round(width * scale / 8) * 8, round(height * scale / 8) * 8


def checkpoint(model: str) -> dict[str, Any]:
    """The checkpoint stays loaded: to bring the one before back after each call would move gigabytes."""
    if model == "default":
        return {}
    return {"override_settings": {"sd_model_checkpoint": model}, "override_settings_restore_afterwards": False}


def pictures(job: Job) -> dict[str, Any]:
    if not job.images:
        return {}
    fields: dict[str, Any] = {
        "init_images": [base64(image) for image in job.images],
        "resize_mode": 1 if job.size else None,  # cropped, not stretched
        "denoising_strength": VARIED if job.op == "variation" else None,
    }
    if job.mask:
        # The prompt tells the whole picture, not only what is painted anew in it, and what was there is painted over.
        fields |= {"mask": base64(job.mask), "inpainting_fill": 1, "inpaint_full_res": False}
    return fields


# ---- what comes back


class Answer(msgspec.Struct, frozen=True):
    images: tuple[Blob, ...] | None = None
    info: Any = None


class Info(msgspec.Struct, frozen=True):
    """What stands as text in `info`."""

    all_seeds: tuple[int, ...] = ()
    sd_model_name: str | None = None


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    blobs = [bare(blob) for blob in answer.images or () if blob.size][-job.n :]  # before them there may be a grid
    if not blobs:
        raise nothing()
    info = read_info(answer.info)
    outputs = tuple(Output(blob=blob, extra=extra(info, index)) for index, blob in enumerate(blobs))
    short = Fault("empty", f"The server made {len(outputs)} of {job.n} pictures.", code="no_image")
    return Done(outputs=outputs, faults=(short,) * (job.n - len(outputs)))


def read_info(text: object) -> Info:
    """Of no use to anybody if it cannot be read; the pictures are."""
    try:
        return msgspec.json.decode(text, type=Info) if isinstance(text, str) else Info()
    except msgspec.DecodeError:
        return Info()


def extra(info: Info, index: int) -> dict[str, Any]:
    """An unknown checkpoint is not refused there: the one that is loaded paints, and only this says so."""
    said: dict[str, Any] = {"seed": info.all_seeds[index]} if index < len(info.all_seeds) else {}
    return said | ({"checkpoint": info.sd_model_name} if info.sd_model_name else {})


class Flaw(msgspec.Struct, frozen=True):
    """One of pydantic's complaints."""

    loc: tuple[Any, ...] = ()
    msg: str = ""


class Problem(msgspec.Struct, frozen=True):
    error: Any = None
    detail: Any = None
    errors: Any = None


REFUSED = re.compile(r"content policy|moderat|safety (?:filter|checker|system)|nsfw", re.IGNORECASE)
MEMORY = re.compile(r"out of memory|OutOfMemoryError", re.IGNORECASE)
PARAMS = {"width": "size", "height": "size", "cfg_scale": "guidance", "init_images": "image", "batch_size": "n"}
SAID = {
    "Sampler not found": "provider_options.sampler_name",
    "Init image not found": "image",
    "Invalid encoded image": "image",
    "Invalid image url": "image",
}
"""What is wrong with the request, whatever the status says of it."""


def check(reply: Reply) -> None:
    if reply.status < 400:
        return
    problem = told(reply)
    if reply.status == 422 and (flaws := listed(problem.detail)):
        name = str(flaws[0].loc[-1]) if flaws[0].loc else ""
        text = "; ".join(f"{'.'.join(map(str, flaw.loc[1:]))}: {flaw.msg}" for flaw in flaws)
        param = f"provider_options.{name}" if name in DECLARED.options else PARAMS.get(name, name)
        raise Fault("invalid", text, param=param or None)
    texts = [text for text in (problem.detail, problem.errors, problem.error) if isinstance(text, str) and text]
    message = texts[0] if texts else unread(reply)
    if message in SAID:
        raise Fault("invalid", message, code="invalid_value", param=SAID[message])
    if reply.status == 404 and message == "Not Found":
        text = "The server has no such address: it was started without --api."
        raise Fault("upstream", text, code="api_off")
    if REFUSED.search(message):  # nothing of the kind is built in, but extensions and proxies bring it
        raise Fault("policy", message, code="moderation_blocked")
    if any(MEMORY.search(text) for text in texts):
        raise Fault("upstream", f"The server is out of memory: {message}", code="out_of_memory")
    by_status(reply, message)


def listed(detail: object) -> list[Flaw] | None:
    try:
        return msgspec.convert(detail, list[Flaw])
    except msgspec.ValidationError:
        return None


def told(reply: Reply) -> Problem:
    try:
        return reply.read(Problem)
    except Fault:
        return Problem()
