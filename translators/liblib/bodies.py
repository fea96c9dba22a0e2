"""What LiblibAI is sent: each family's own `generateParams`, and numbers checked before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from translators.base import Call, Fault, Job, Media, prompted
from translators.liblib.models import MODELS, RANGES, SHAPES, USUAL, WAYS, WEIGHTS, Kind, split


def submit(job: Job, urls: list[str]) -> Call:
    family, given = split(job.model)
    kind: Kind = "mask" if job.mask else "edit" if urls else "generate"
    way = WAYS[family][kind]
    options = dict(job.options)
    template = way.template if family == "comfyui" else options.pop("templateUuid", way.template)
    if family == "comfyui":
        params = {**options, "workflowUuid": given}
    else:
        fields = {
            "prompt": prompted(job),
            "imgCount": job.n,
            **BUILDERS.get(family, customized)(job, urls),
        }
        params = {name: value for name, value in fields.items() if value is not None} | options
        if family == "sd" and (job.mask or "inpaintParam" in options):
            params["inpaintParam"] = inpainting(job, urls)
    return Call(path=way.path, json={"templateUuid": template, "generateParams": params})


def check_ranges(job: Job) -> None:
    """Refuse numbers that the model does not take, before anything is uploaded."""
    family, _ = split(job.model)
    for name, (low, high) in RANGES.get(family, {}).items():
        value = getattr(job, name)
        if value is not None and not low <= value <= high:
            raise refusal(name, f"expected a value from {low} to {high}, but got {value}")
    if len(job.loras) > 5 or any(not -4 <= lora.weight <= 4 for lora in job.loras):
        raise refusal("loras", "expected at most 5 LoRAs with weights from -4 to 4")
    if family.startswith("seedream") and job.n + len(job.images) > 15:
        raise refusal("n", f"with {len(job.images)} pictures at most {15 - len(job.images)} can be made")
    if family == "star-3-alpha" and job.images and job.steps is not None:
        raise refusal("steps", "'star-3-alpha' does not take it where a picture is edited", "unsupported_parameter")
    if family == "img1" and job.mask:
        if len(job.images) > 1:
            raise refusal("image", "with a mask 'img1' takes one picture")
        for param, media in (("image", job.images[0]), ("mask", job.mask)):
            if media.blob.length > 4_000_000:
                raise refusal(param, "with a mask 'img1' takes files of at most 4 MB")


def refusal(param: str, text: str, code: str = "invalid_value") -> Fault:
    return Fault("invalid", f"Invalid '{param}': {text}.", code=code, param=param)


def ultra(job: Job, urls: list[str]) -> dict[str, Any]:
    """star-3-alpha. An edit has no size."""
    if urls:
        return {"sourceImage": urls[0]}
    width, height = job.size or (1024, 1024)
    return {"imageSize": {"width": width, "height": height}, "steps": job.steps}


def customized(job: Job, urls: list[str]) -> dict[str, Any]:
    """A checkpoint with LoRAs."""
    family, given = split(job.model)
    width, height = job.size or (inside(job.images[0], 128, 2048, 8) if urls else (1024, 1024))
    told = {
        "checkPointId": given or WEIGHTS.get(family),
        "negativePrompt": job.negative_prompt,
        "steps": job.steps,
        "cfgScale": job.guidance,
        "seed": job.seed,
        "additionalNetwork": [{"modelId": lora.model, "weight": lora.weight} for lora in job.loras] or None,
    }
    fields = {**USUAL[family], **{name: value for name, value in told.items() if value is not None}}
    if not urls:
        return {**fields, "width": width, "height": height}
    return {
        **fields,
        "sourceImage": urls[0],
        "resizeMode": 0,
        "resizedWidth": width,
        "resizedHeight": height,
        "mode": 4 if job.mask else 0,
        "denoisingStrength": 0.75,
    }


INPAINTING = {"maskBlur": 4, "maskPadding": 32, "maskMode": 0, "inpaintArea": 0, "inpaintingFill": 1}
"""At the values of the vendor's example; all are required. `maskMode` 0 repaints what is white."""


def inpainting(job: Job, urls: list[str]) -> dict[str, Any]:
    given = job.options.get("inpaintParam") or {}
    if job.mask is None:
        raise refusal("provider_options.inpaintParam", "it needs a mask")
    if not isinstance(given, Mapping) or not given.keys() <= INPAINTING.keys() - {"maskMode"}:
        accepted = ", ".join(sorted(INPAINTING.keys() - {"maskMode"}))
        raise refusal("provider_options.inpaintParam", f"expected an object with some of {accepted}")
    return {"maskImage": urls[-1], **INPAINTING, **given}


def in_context(job: Job, urls: list[str]) -> dict[str, Any]:
    """F.1 Kontext. Without a ratio it would make a square of every picture."""
    ratio = job.ratio or (nearest(job.images[0], MODELS[job.model].ratios) if urls else None)
    return {
        "model": WEIGHTS[job.model],
        "aspectRatio": ratio,
        "guidance_scale": job.guidance,
        "image_list": urls or None,
    }


def img1(job: Job, urls: list[str]) -> dict[str, Any]:
    inputs = {"image": urls[0], "mask": urls[1]} if job.mask else {"image_list": urls or None}
    return {"aspectRatio": SHAPES[job.size] if job.size else "auto", "quality": job.quality, **inputs}


def libdream(job: Job, urls: list[str]) -> dict[str, Any]:
    return {**sized(job), "scale": job.guidance, "seed": job.seed}


def libedit(job: Job, urls: list[str]) -> dict[str, Any]:
    """The second edition would make a square of every picture."""
    if job.model == "libedit-v2":
        job = replace(job, size=job.size or inside(job.images[0], 512, 2016, 1))
    return {**sized(job), "seed": job.seed, "image_urls": urls}


def seedream(job: Job, urls: list[str]) -> dict[str, Any]:
    return {
        "model": WEIGHTS[job.model],
        **sized(job),
        "referenceImages": urls or None,
        "sequentialImageGeneration": "disabled",
    }


Build = Callable[[Job, list[str]], dict[str, Any]]
BUILDERS: Mapping[str, Build] = {
    "star-3-alpha": ultra,
    "kontext-pro": in_context,
    "kontext-max": in_context,
    "img1": img1,
    "libdream": libdream,
    "libedit": libedit,
    "libedit-v2": libedit,
    "seedream-4.0": seedream,
    "seedream-4.5": seedream,
}


def sized(job: Job) -> dict[str, int]:
    return {"width": job.size[0], "height": job.size[1]} if job.size else {}


def inside(media: Media, least: int, most: int, unit: int) -> tuple[int, int]:
    """The picture's own size, brought within the bounds as near to its shape as they let it be."""
    width, height = media.width or 1024, media.height or 1024
    scale = min(max(1.0, least / min(width, height)), most / max(width, height))

    def bound(edge: int) -> int:
        return min(max(round(edge * scale / unit) * unit, least), most)

    return bound(width), bound(height)


def nearest(media: Media, ratios: tuple[str, ...]) -> str | None:
    """The ratio that fits the picture best."""
    if not media.width or not media.height:
        return None
    share = media.width / media.height

    def miss(ratio: str) -> float:
        width, height = map(int, ratio.split(":"))
        return max(share * height / width, width / height / share)

    return min(ratios, key=miss)
