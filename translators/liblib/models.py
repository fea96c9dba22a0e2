"""LiblibAI's models: what each can do, and under which path and template it does it.

The vendor has no model names: a path and a template choose the family, inside it a checkpoint may choose the weights.
The names are ours, near to what the vendor calls them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from translators.base import Caps, Free, Op, Price, Size

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
EDITS: frozenset[Op] = frozenset({"edit", "variation"})
GENERATES: frozenset[Op] = frozenset({"generate"})

POINTS = (Price(unit="credit", amount=0.01, currency="CNY"),)
"""A hundred points are a yuan; how many a picture takes is told only afterwards."""


def points(count: int) -> tuple[Price, ...]:
    """Where a picture's points are listed (2026-11)."""
    return (Price(unit="image", amount=count / 100, currency="CNY"), *POINTS)


PLAIN = Caps(
    ops=MAKES,
    max_n=4,
    prompt_chars=2000,
    max_images=1,
    inputs="url",
    input_types=("image/png", "image/jpeg"),
    input_bytes=10_000_000,
    prices=POINTS,
)
"""What all share."""

LORA_PARAMS = frozenset({"negative_prompt", "seed", "steps", "guidance", "loras"})
LORA_OPTIONS = frozenset({
    "templateUuid", "vaeId", "clipSkip", "sampler", "randnSource", "restoreFaces", "hiResFixInfo", "controlNet",
})  # fmt: skip
OF_EDITS = frozenset({"resizeMode", "denoisingStrength"})
CUSTOM = replace(
    PLAIN,
    free=Free(step=8, edge=(128, 1536)),
    params=LORA_PARAMS,
    options=LORA_OPTIONS | OF_EDITS,
    note="The checkpoint is named by its version's id after a slash, LoRAs by theirs; all must have the same base.",
)
KONTEXT = replace(
    PLAIN,
    ratios=("21:9", "16:9", "3:2", "4:3", "1:1", "3:4", "2:3", "9:16", "9:21"),
    params=frozenset({"guidance"}),
    prices=points(29),
    note="1:1 where no size is asked for, with a picture the ratio nearest to its own.",
)
SEEDREAM = replace(
    PLAIN,
    max_n=15,
    free=Free(pixels=(921_600, 4096 * 4096), edge=(1, 4096), ratio=16),
    max_images=10,
    options=frozenset({"promptMagic", "sequentialImageGeneration"}),
    note="2048x2048 where no size is asked for. Pictures sent and made are 15 at most together.",
)

MODELS: Mapping[str, Caps] = {
    "star-3-alpha": replace(
        PLAIN,
        free=Free(edge=(512, 2048)),
        params=frozenset({"steps"}),
        options=frozenset({"promptMagic", "controlnet"}),
        keeps=frozenset({"edit", "variation"}),
        note="English prompts are wanted. An edit keeps the picture's shape.",
    ),
    "f1": CUSTOM,
    "sd": replace(CUSTOM, mask="white-edits", options=CUSTOM.options | {"inpaintParam"}),
    "qwen-image": replace(
        CUSTOM, ops=GENERATES, max_images=0, free=Free(edge=(128, 2048)), options=LORA_OPTIONS - {"templateUuid"}
    ),
    "kontext-pro": KONTEXT,
    "kontext-max": replace(KONTEXT, max_images=4, prices=points(58)),
    "img1": replace(
        PLAIN,
        sizes=((1024, 1024), (1024, 1536), (1536, 1024)),
        max_images=8,
        mask="white-edits",
        qualities=("turbo", "normal", "masterpiece"),
        note="With a mask it takes one picture.",
    ),
    "libdream": replace(
        PLAIN,
        ops=GENERATES,
        max_images=0,
        free=Free(pixels=(0, 2048 * 2048), edge=(512, 3072)),
        params=frozenset({"seed", "guidance"}),
        options=frozenset({"usePreLlm"}),
        note="1328x1328 where no size is asked for.",
    ),
    "libedit": replace(
        PLAIN,
        ops=EDITS,
        params=frozenset({"seed"}),
        options=frozenset({"promptMagic", "scale"}),
        note="Keeps the picture's shape.",
    ),
    "libedit-v2": replace(
        PLAIN,
        ops=EDITS,
        free=Free(edge=(512, 2016)),
        params=frozenset({"seed"}),
        options=frozenset({"promptMagic", "scale"}),
        note="Keeps the picture's shape where no size is asked for.",
    ),
    "seedream-4.0": SEEDREAM,
    "seedream-4.5": replace(SEEDREAM, free=Free(pixels=(3_686_400, 16_777_216), ratio=16), max_images=14),
}
WORKFLOW = Caps(
    ops=GENERATES,
    prompt_chars=0,
    options=frozenset({"*"}),
    note="A ComfyUI workflow by its version's id; provider_options are its nodes.",
)
ID = re.compile(r"[0-9a-f]{32}")
NAMED = frozenset({"f1", "sd", "comfyui"})
"""Families in which an id after a slash names the weights, or the workflow."""


def split(model: str) -> tuple[str, str]:
    """Family and id: `sd/0ea388c7…`. The id is empty where the template's own weights are meant."""
    family, _, given = model.partition("/")
    return family, given


def caps(model: str) -> Caps | None:
    family, given = split(model)
    if given and not (family in NAMED and ID.fullmatch(given)):
        return None
    if family == "comfyui":
        return WORKFLOW if given else None
    return MODELS.get(family)


# ---- where they go

Kind: TypeAlias = Literal["generate", "edit", "mask"]
WEBUI = "/api/generate/webui/status"
OTHERS = "/api/generate/status"
COMFY = "/api/generate/comfy/status"


class Way(msgspec.Struct, frozen=True):
    """Where a job goes. A task is known under the status path of its family only."""

    path: str
    template: str
    status: str = WEBUI


TEXT, IMAGE = "/api/generate/webui/text2img", "/api/generate/webui/img2img"
IN_CONTEXT = {
    "generate": Way("/api/generate/kontext/text2img", "fe9928fde1b4491c9b360dd24aa2b115", OTHERS),
    "edit": Way("/api/generate/kontext/img2img", "1c0a9712b3d84e1b8a9f49514a46d88c", OTHERS),
}
IMG1 = Way("/api/generate/smart-img1/generate", "86c58ea26e9a45bd9f562c6306c17c0f", OTHERS)
OF_SEEDREAM = Way("/api/generate/seedreamV4", "0b6bad2fd350433ebb5abc7eb91f2ec9", OTHERS)
WAYS: Mapping[str, Mapping[str, Way]] = {
    "star-3-alpha": {
        "generate": Way(f"{TEXT}/ultra", "5d7e67009b344550bc1aa6ccbfa1d7f4"),
        "edit": Way(f"{IMAGE}/ultra", "07e00af4fc464c7ab55ff906f8acf1b7"),
    },
    "f1": {
        "generate": Way(TEXT, "6f7c4652458d4802969f8d089cf5b91f"),
        "edit": Way(IMAGE, "63b72710c9574457ba303d9d9b8df8bd"),
    },
    "sd": {
        "generate": Way(TEXT, "e10adc3949ba59abbe56e057f20f883e"),
        "edit": Way(IMAGE, "9c7d531dc75f476aa833b3d452b8f7ad"),
        "mask": Way(IMAGE, "74509e1b072a4c45a7f1843a963c8462"),
    },
    "qwen-image": {"generate": Way(TEXT, "bf085132c7134622895b783b520b39ff")},
    "kontext-pro": IN_CONTEXT,
    "kontext-max": IN_CONTEXT,
    "img1": {
        "generate": IMG1,
        "edit": IMG1,
        "mask": Way("/api/generate/smart-img1/inpaint", "0fb3ddb15a094e74b1241fbda5db3199", OTHERS),
    },
    "libdream": {"generate": Way("/api/generate/libDream", "aa835a39c1a14cfca47c6fc941137c51", OTHERS)},
    "libedit": {"edit": Way("/api/generate/libEdit", "cd3a6751086b4483ba5f0523aef53a79", OTHERS)},
    # The vendor's table repeats the template of libEdit; this one stands in its example.
    "libedit-v2": {"edit": Way("/api/generate/libEditV2", "c92f91c771db42e2b5dbff66e2e4f7a2", OTHERS)},
    "seedream-4.0": {"generate": OF_SEEDREAM, "edit": OF_SEEDREAM},
    "seedream-4.5": {"generate": OF_SEEDREAM, "edit": OF_SEEDREAM},
    "comfyui": {"generate": Way("/api/generate/comfyui/app", "4df2efa0f18d46dc9758803e478eb51c", COMFY)},
}

WEIGHTS: Mapping[str, str] = {
    "qwen-image": "75e0be0c93b34dd8baeec9c968013e0c",
    "seedream-4.0": "doubao-seedream-4-0-250828",
    "seedream-4.5": "doubao-seedream-4-5-251128",
    "kontext-pro": "pro",
    "kontext-max": "max",
}
"""What the wire calls the weights of a family with one choice only."""

USUAL: Mapping[str, Mapping[str, Any]] = {
    "f1": {"steps": 25, "seed": -1, "restoreFaces": 0},
    "sd": {"sampler": 15, "steps": 25, "cfgScale": 7, "randnSource": 0, "seed": -1, "restoreFaces": 0},
    "qwen-image": {"steps": 30, "cfgScale": 4, "seed": -1},
}
"""Fields that the full templates require, at the values of the vendor's examples."""

SEEDS = (-1, 9_999_999_999)
RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "f1": {"steps": (1, 60), "guidance": (1, 15), "seed": SEEDS},
    "sd": {"steps": (1, 60), "guidance": (1, 15), "seed": SEEDS},
    "qwen-image": {"steps": (1, 60), "guidance": (1, 15), "seed": SEEDS},
    "kontext-pro": {"guidance": (1, 20)},
    "kontext-max": {"guidance": (1, 20)},
    "libdream": {"guidance": (1, 10), "seed": SEEDS},
    "libedit": {"seed": SEEDS},
    "libedit-v2": {"seed": SEEDS},
}
"""What numbers a family takes; the wire's own refusal would not name the field."""

SHAPES: Mapping[Size, str] = {(1024, 1024): "square", (1024, 1536): "portrait", (1536, 1024): "landscape"}
