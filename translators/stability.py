"""Stability AI: each ability has a path of its own, and each is a model here, so that the edit call reaches it.

POST /v2beta/stable-image/<path>, a form  -> {"image": base64, "finish_reason", "seed"}, or {"id"} of a task
GET  /v2beta/results/<id>                 -> 202 while it runs, then the same picture
POST /v1/generation/<engine>/<path>       -> {"artifacts": [{"base64", "finishReason", "seed"}]}: the legacy models
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators.base import (
    VARY,
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
    Part,
    Price,
    Provider,
    Reply,
    Step,
    Wait,
    by_status,
    prompted,
    retry_after,
)
from translators.base import bearer as sign
from translators.base import no_events as event
from translators.canvas import margins
from translators.shapes import nothing, unread

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="Stability AI",
    env={"api_key": "STABILITY_API_KEY"},
    settings=frozenset({"client_id", "client_version", "organization"}),
    docs="https://platform.stability.ai/docs/api-reference",
    poll_seconds=10.0,  # polls that come quicker are refused
)
HEADERS = {
    "client_id": "stability-client-id",
    "client_version": "stability-client-version",
    "organization": "Organization",
}

# ---- what the models can do

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
GENERATES: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit"})
RATIOS = ("21:9", "16:9", "3:2", "5:4", "1:1", "4:5", "2:3", "9:16", "9:21")
ALL = ("png", "jpeg", "webp")
SEED = frozenset({"seed", "user"})
TOLD = SEED | {"negative_prompt"}
STYLED = TOLD | {"style"}


def credits(count: float) -> tuple[Price, ...]:
    """A credit is a cent."""
    return (Price(unit="image", amount=round(count / 100, 6)),)


PLAIN = Caps(
    ops=EDITS,
    prompt_chars=10_000,
    max_images=1,
    input_bytes=10_000_000,  # the whole request may have 10 MiB
    input_pixels=9_437_184,
    input_edge=(64, 0),
    formats=ALL,
    params=STYLED,
)
"""What all that take a picture have in common."""

CORE = replace(PLAIN, ops=GENERATES, max_images=0, ratios=RATIOS, prices=credits(3))
ULTRA = replace(PLAIN, ops=MAKES, ratios=RATIOS, options=frozenset({"strength"}), prices=credits(8))
SD3 = replace(
    ULTRA,
    formats=("png", "jpeg"),
    params=STYLED | {"guidance"},
    prices=credits(6.5),
    keeps=frozenset({"edit", "variation"}),
    note="An edit keeps the shape of its picture.",
)
TURBO = replace(SD3, params=SD3.params - {"negative_prompt"}, prices=credits(4))
EDIT = replace(PLAIN, prices=credits(5))
SEARCH = replace(EDIT, options=frozenset({"grow_mask"}))
CONTROL = replace(EDIT, options=frozenset({"control_strength"}))
SDXL = replace(
    PLAIN,
    ops=MAKES,
    max_n=10,
    prompt_chars=2_000,
    sizes=(
        (1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216), (1344, 768), (768, 1344), (1536, 640),
        (640, 1536),
    ),
    mask="white-edits",
    formats=(),
    params=STYLED | {"steps", "guidance"},
    options=frozenset({"sampler", "clip_guidance_preset", "image_strength"}),
    note="Legacy, and may be switched off. An edit keeps the shape of its picture.",
)  # fmt: skip

MODELS: Mapping[str, Caps] = {
    "ultra": ULTRA,
    "core": CORE,
    "sd3.5-large": SD3,
    "sd3.5-large-turbo": TURBO,
    "sd3.5-medium": replace(SD3, prices=credits(3.5)),
    "sd3.5-flash": replace(TURBO, prices=credits(2.5)),
    "inpaint": replace(
        EDIT, mask="white-edits", options=frozenset({"grow_mask"}),
        note="Paints what a mask opens; without one, where the picture itself is transparent.",
    ),
    "erase": replace(
        EDIT, mask="white-edits", options=frozenset({"grow_mask"}), prompt_chars=0, params=SEED,
        note="Removes what a mask opens, or where the picture itself is transparent; takes no prompt.",
    ),
    "outpaint": replace(
        EDIT, free=Free(), params=STYLED - {"negative_prompt"}, prices=credits(4),
        options=frozenset({"left", "right", "up", "down", "creativity"}),
        note="`size` is the new canvas, the picture in its middle; or options left, right, up, down in pixels.",
    ),
    "search-and-replace": replace(
        SEARCH, options=SEARCH.options | {"search_prompt"},
        note="Replaces what option search_prompt names by what the prompt says.",
    ),
    "search-and-recolor": replace(
        SEARCH, options=SEARCH.options | {"select_prompt"},
        note="Recolors what option select_prompt names as the prompt says.",
    ),
    "remove-background": replace(
        EDIT, prompt_chars=0, formats=("png", "webp"), params=frozenset({"user"}),
        note="Leaves the subject on transparency; takes no prompt.",
    ),
    "replace-background-and-relight": replace(
        EDIT, max_images=3, input_bytes=3_300_000, params=TOLD, prices=credits(8),
        options=frozenset({
            "foreground_prompt", "preserve_original_subject", "original_background_depth", "keep_original_background",
            "light_source_direction", "light_source_strength",
        }),
        note="The first picture is the subject, the second a background to go by, the third a light.",
    ),
    "control-sketch": replace(CONTROL, note="Paints after the lines of a sketch."),
    "control-structure": replace(CONTROL, note="Paints another content into the structure of a picture."),
    "control-style": replace(
        EDIT, ratios=RATIOS, options=frozenset({"fidelity"}), note="Paints in the style of a picture."
    ),
    "control-style-transfer": replace(
        EDIT, min_images=2, max_images=2, input_bytes=5_000_000, params=TOLD, prices=credits(8),
        options=frozenset({"style_strength", "composition_fidelity", "change_strength"}),
        note="Paints the first picture in the style of the second.",
    ),
    "upscale-fast": replace(
        EDIT, prompt_chars=0, input_pixels=1_048_576, input_edge=(32, 1536), params=frozenset({"user"}),
        prices=credits(2), note="Four times as wide and high; takes no prompt.",
    ),
    "upscale-conservative": replace(
        EDIT, params=TOLD, options=frozenset({"creativity"}), prices=credits(40), note="To 4 megapixels."
    ),
    "upscale-creative": replace(
        EDIT, input_pixels=1_048_576, options=frozenset({"creativity"}), prices=credits(60),
        note="To 4 megapixels, with details made anew; takes a minute or more.",
    ),
    "stable-diffusion-xl-1024-v1-0": SDXL,
    "stable-diffusion-v1-6": replace(SDXL, sizes=(), free=Free(step=64, edge=(320, 1536))),
}  # fmt: skip
REROUTED = {"sd3-large": "sd3.5-large", "sd3-large-turbo": "sd3.5-large-turbo", "sd3-medium": "sd3.5-medium"}


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or "https://api.stability.ai"


def caps(model: str) -> Caps | None:
    return MODELS.get(REROUTED.get(model, model))


# ---- what is sent


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a path calls its parts."""

    path: str
    images: tuple[str, ...] = ("image",)
    prompt: str = "prompt"
    needs: str | None = None  # an option without which it cannot be asked


ENDPOINTS: Mapping[str, Endpoint] = {
    "ultra": Endpoint(path="generate/ultra"),
    "core": Endpoint(path="generate/core"),
    "inpaint": Endpoint(path="edit/inpaint"),
    "erase": Endpoint(path="edit/erase"),
    "outpaint": Endpoint(path="edit/outpaint"),
    "search-and-replace": Endpoint(path="edit/search-and-replace", needs="search_prompt"),
    "search-and-recolor": Endpoint(path="edit/search-and-recolor", needs="select_prompt"),
    "remove-background": Endpoint(path="edit/remove-background"),
    "replace-background-and-relight": Endpoint(
        path="edit/replace-background-and-relight",
        images=("subject_image", "background_reference", "light_reference"),
        prompt="background_prompt",
    ),
    "control-sketch": Endpoint(path="control/sketch"),
    "control-structure": Endpoint(path="control/structure"),
    "control-style": Endpoint(path="control/style"),
    "control-style-transfer": Endpoint(path="control/style-transfer", images=("init_image", "style_image")),
    "upscale-fast": Endpoint(path="upscale/fast"),
    "upscale-conservative": Endpoint(path="upscale/conservative"),
    "upscale-creative": Endpoint(path="upscale/creative"),
}
SD3_ENDPOINT = Endpoint(path="generate/sd3")
PRESETS = (
    "enhance", "anime", "photographic", "digital-art", "comic-book", "fantasy-art", "line-art", "analog-film",
    "neon-punk", "isometric", "low-poly", "origami", "modeling-compound", "cinematic", "3d-model", "pixel-art",
    "tile-texture",
)  # fmt: skip
DALL_E = frozenset({"vivid", "natural"})
STRENGTH = 0.6
"""How far an edit may go from its picture: required there, and OpenAI has no such field."""
SIDES = ("left", "up", "right", "down")
MASKED = frozenset({"inpaint", "erase"})


def start(job: Job) -> Step:
    if job.model.startswith("stable-diffusion-"):
        return legacy(job)
    endpoint = ENDPOINTS.get(job.model, SD3_ENDPOINT)
    check_needs(job, endpoint)
    fields: dict[str, Any] = {
        endpoint.prompt: prompted(job) or None,
        **(versioned(job) if endpoint is SD3_ENDPOINT else {}),
        **measures(job, endpoint),
        "strength": STRENGTH if job.images and endpoint.path.startswith("generate/") else None,
        "negative_prompt": job.negative_prompt,
        "cfg_scale": job.guidance,
        "seed": job.seed,
        "style_preset": styled(job),
        "output_format": job.format or "png",
        **job.options,
    }
    files = [*zip(endpoint.images, job.images, strict=False), *([("mask", job.mask)] if job.mask else [])]
    return Call(path=f"/v2beta/stable-image/{endpoint.path}", headers=headers(job), form=form(fields, files))


def check_needs(job: Job, endpoint: Endpoint) -> None:
    """Refuse what the provider would only refuse after an upload."""
    if endpoint.needs and not job.options.get(endpoint.needs):
        param = f"provider_options.{endpoint.needs}"
        text = f"The model {job.model} needs '{param}': what in the picture is meant."
        raise Fault("invalid", text, code="missing_required_parameter", param=param)
    if job.model in MASKED and not job.mask and not job.images[0].alpha:
        text = f"The model {job.model} needs a mask, or a picture that is transparent where it may paint."
        raise Fault("invalid", text, code="missing_required_parameter", param="mask")


def versioned(job: Job) -> dict[str, str]:
    """One path makes all of SD 3."""
    return {"model": job.model, "mode": "image-to-image" if job.images else "text-to-image"}


def measures(job: Job, endpoint: Endpoint) -> dict[str, Any]:
    """The parts that tell the size. With a picture to begin from, SD 3 takes none."""
    if job.model == "outpaint":
        return {} if not job.options.keys().isdisjoint(SIDES) else expanded(job)
    return {} if endpoint is SD3_ENDPOINT and job.images else {"aspect_ratio": job.ratio}


def expanded(job: Job) -> dict[str, int]:
    picture = (job.images[0].width, job.images[0].height)
    sides = margins(picture, job.size or picture, "provider_options with one of " + ", ".join(SIDES))
    return {side: pixels for side, pixels in zip(SIDES, sides, strict=True) if pixels}


def styled(job: Job) -> str | None:
    """One of the presets. DALL·E's two words are none."""
    if job.style is None or job.style in DALL_E:
        return None
    if job.style not in PRESETS:
        text = f"Invalid value: '{job.style}'. Supported values are: {', '.join(PRESETS)}."
        raise Fault("invalid", text, code="invalid_value", param="style")
    return job.style


def headers(job: Job) -> dict[str, str]:
    """JSON must be asked for by name: else the bare picture comes."""
    said = {"Accept": "application/json"}
    said |= {name: job.site[key] for key, name in HEADERS.items() if job.site.get(key)}
    if job.user:
        if len(job.user) > 256 or not (job.user.isascii() and job.user.isprintable()):
            text = "Invalid 'user': expected at most 256 printable ASCII characters, as it travels in a header."
            raise Fault("invalid", text, code="invalid_value", param="user")
        said["stability-client-user-id"] = job.user
    return said


def form(fields: Mapping[str, Any], files: list[tuple[str, Media]]) -> tuple[Part, ...]:
    texts = (Part(name, worded(name, value)) for name, value in fields.items() if value is not None)
    return (*texts, *(Part(name, media) for name, media in files))


def worded(name: str, value: object) -> str:
    """A value as a form writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    text = f"'{name}' must be a string, a number, or a boolean."
    raise Fault("invalid", text, code="invalid_type", param=f"provider_options.{name}")


def legacy(job: Job) -> Call:
    """The first interface: JSON for text alone, a form of the same members with pictures."""
    prompts = [(job.prompt or VARY, 1), *([(job.negative_prompt, -1)] if job.negative_prompt else [])]
    fields: dict[str, Any] = {
        "cfg_scale": job.guidance,
        "samples": job.n,
        "steps": job.steps,
        "seed": job.seed,
        "style_preset": styled(job),
        **job.options,
    }
    engine = f"/v1/generation/{quote(job.model)}"
    if not job.images:
        fields |= dict(zip(("width", "height"), job.size or (), strict=False))
        said = {name: value for name, value in fields.items() if value is not None}
        texts = [{"text": text, "weight": weight} for text, weight in prompts]
        return Call(path=f"{engine}/text-to-image", headers=headers(job), json={"text_prompts": texts, **said})
    for index, (text, weight) in enumerate(prompts):
        fields |= {f"text_prompts[{index}][text]": text, f"text_prompts[{index}][weight]": weight}
    files = [("init_image", job.images[0])]
    if job.mask is None:
        return Call(path=f"{engine}/image-to-image", headers=headers(job), form=form(fields, files))
    fields["mask_source"] = "MASK_IMAGE_WHITE"
    files.append(("mask_image", job.mask))
    return Call(path=f"{engine}/image-to-image/masking", headers=headers(job), form=form(fields, files))


# ---- what comes back


class Artifact(msgspec.Struct, frozen=True):
    """A picture of the first interface."""

    base64: Blob | None = None
    finish_reason: Any = msgspec.field(default=None, name="finishReason")
    seed: Any = None


class Answer(msgspec.Struct, frozen=True):
    """A picture, the task that will make it, or the legacy list."""

    image: Blob | None = None
    seed: Any = None
    id: str | None = None
    artifacts: tuple[Artifact, ...] | None = None


def step(job: Job, reply: Reply) -> Step:
    if reply.status == 202 and reply.call.method == "GET":
        return Wait(reply.call, PROVIDER.poll_seconds)
    answer = reply.read(Answer)
    if answer.artifacts is not None:
        return listed(answer.artifacts)
    if answer.image is not None and answer.image.size:
        return Done(outputs=(output(answer.image, answer.seed),))
    if answer.id and reply.call.method == "POST":
        path = f"/v2beta/results/{quote(answer.id, safe='')}"
        poll = Call(method="GET", path=path, headers={"Accept": "application/json"}, repeatable=True)
        return Wait(poll, PROVIDER.poll_seconds)
    raise nothing()


def output(blob: Blob, seed: object) -> Output:
    return Output(blob=blob, extra={} if seed is None else {"seed": seed})


def listed(artifacts: tuple[Artifact, ...]) -> Done:
    outputs: list[Output] = []
    faults: list[Fault] = []
    for each in artifacts:
        if each.finish_reason in {"CONTENT_FILTERED", "ERROR"}:
            faults.append(unfinished(each.finish_reason))
        elif each.base64 is None or not each.base64.size:
            faults.append(nothing())
        else:
            outputs.append(output(each.base64, each.seed))
    if not outputs:
        raise faults[0] if faults else nothing()
    return Done(outputs=tuple(outputs), faults=tuple(faults))


def unfinished(reason: str) -> Fault:
    if reason == "CONTENT_FILTERED":  # it comes with a blurred picture, which is none
        text = "The provider's safety system withheld the picture it made (CONTENT_FILTERED)."
        return Fault("policy", text, code="moderation_blocked", final=True)
    return Fault("upstream", f"The provider failed to make the picture: {reason}.", code="task_failed", final=True)


class Problem(msgspec.Struct, frozen=True):
    """An error, `errors` there and `message` in the first interface; or how a picture ended."""

    name: Any = None
    errors: Any = None
    message: Any = None
    finish_reason: Any = None


NAMES: Mapping[str, FaultKind] = {
    "unauthorized": "auth",
    "payment_required": "quota",
    "insufficient_balance": "quota",  # the first interface's
    "permission_denied": "permission",
    "rate_limit_exceeded": "rate",
    "bad_request": "invalid",
    "payload_too_large": "invalid",
    "invalid_language": "invalid",
    "invalid_prompts": "policy",  # the first interface's
    "content_moderation": "policy",
    "public_figure": "policy",
    "not_found": "missing",
    "generation_not_found": "missing",
    "internal_error": "upstream",
}
LIKENESS = re.compile(r"public figure|likeness", re.IGNORECASE)
FIELD = re.compile(r"([a-z]\w*(?:-\w+)*): ")
PARAMS = {
    "style_preset": "style", "cfg_scale": "guidance", "init_image": "image", "subject_image": "image",
    "style_image": "image", "mask_image": "mask", "samples": "n", "background_prompt": "prompt",
    "text_prompts": "prompt", "width": "size", "height": "size",
}  # fmt: skip
NATIVE = frozenset(name for known in MODELS.values() for name in known.options)


def check(reply: Reply) -> None:
    """By the error's name, since a 403 may be one of several; then by the status."""
    problem = told(reply)
    if reply.status < 400:
        reason = problem.finish_reason
        if isinstance(reason, str) and reason and reason != "SUCCESS":
            raise unfinished(reason)
        return
    texts = [text for text in problem.errors if isinstance(text, str)] if isinstance(problem.errors, list) else []
    message = "; ".join(texts) or (problem.message if isinstance(problem.message, str) else "") or unread(reply)
    name = problem.name if isinstance(problem.name, str) and problem.name else None
    kind = NAMES.get(name or "")
    if reply.status == 422 and kind != "invalid" and LIKENESS.search(message):
        kind = "policy"
    if kind == "policy":
        raise Fault("policy", message, code="moderation_blocked")
    param = "prompt" if name == "invalid_language" else named(texts) if kind in {None, "invalid"} else None
    if name == "internal_error":  # says no more than the kind does, and is the gateway's own word for its own errors
        name = None
    if kind:
        raise Fault(kind, message, code=name, param=param, retry_after=retry_after(reply))
    by_status(reply, message, code=name, param=param)


def named(texts: list[str]) -> str | None:
    """The parameter that the first error speaks of: `style_preset: is unknown`."""
    found = FIELD.match(texts[0]) if texts else None
    if found is None:
        return None
    return f"provider_options.{found[1]}" if found[1] in NATIVE else PARAMS.get(found[1], found[1])


def told(reply: Reply) -> Problem:
    try:
        return reply.read(Problem)
    except Fault:
        return Problem()
