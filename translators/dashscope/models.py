"""What DashScope's picture models can do, and which of its four wires each of them speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec.structs import replace

from translators.base import Caps, Free, Op, Price


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """How a family is asked. A task is submitted and polled; without one the answer holds the pictures."""

    path: str
    layout: Literal["prompt", "messages", "images", "function"]
    task: bool = True


SERVICES = "/services/aigc"
MESSAGES = Wire(path=f"{SERVICES}/multimodal-generation/generation", layout="messages", task=False)
MESSAGES_TASK = Wire(path=f"{SERVICES}/image-generation/generation", layout="messages")
PROMPT = Wire(path=f"{SERVICES}/text2image/image-synthesis", layout="prompt")
IMAGES = Wire(path=f"{SERVICES}/image2image/image-synthesis", layout="images")
FUNCTION = Wire(path=IMAGES.path, layout="function")

WIRES: Mapping[str, Wire] = {
    "": MESSAGES,  # Qwen-Image and Z-Image, most of which know no tasks
    "wan": MESSAGES_TASK,  # 2.6 and later know both; a task survives a restart
    "wan2.1": PROMPT,
    "wan2.2": PROMPT,
    "wan2.5-t2i": PROMPT,
    "wan2.5-i2i": IMAGES,
    "wanx": PROMPT,
    "wanx2.1-imageedit": FUNCTION,
}
"""By the longest beginning of the model's id that fits: a model that only the configuration knows finds its wire."""


def wire(model: str) -> Wire:
    return WIRES[max((family for family in WIRES if model.startswith(family)), key=len)]


# ---- prices: those of Beijing, the default region; Qwen-Image 3.0 is only known in dollars


def yuan(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount, currency="CNY"),)


def dollars(amount: float, pixels: tuple[int, int] = (0, 0)) -> Price:
    return Price(unit="image", amount=amount, pixels=pixels)


TIER_1K = 2_250_000
"""Up to so many pixels a picture of Qwen-Image 3.0 counts as 1K."""

# ---- families

DRAWS: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit", "variation"})
MAKES = DRAWS | EDITS
SEEDED = frozenset({"seed", "watermark"})
TUNED = SEEDED | {"negative_prompt"}
EXTEND = frozenset({"prompt_extend"})
TYPES = ("image/png", "image/jpeg", "image/webp", "image/bmp")
SQUARES_2K = Free(pixels=(512 * 512, 2048 * 2048), ratio=8)

QWEN = Caps(
    ops=MAKES,
    max_n=6,
    prompt_chars=5_200,  # 1,300 tokens; what is longer would be cut without a word
    free=SQUARES_2K,
    max_images=3,
    input_types=(*TYPES, "image/tiff", "image/gif"),
    input_bytes=10_000_000,
    params=TUNED,
    options=EXTEND,
)
QWEN_3 = replace(
    QWEN,
    prompt_chars=18_000,
    options=EXTEND | {"prompt_extend_mode", "enable_thinking"},
    note="Where no size is asked for, it is billed as 2K.",
)
QWEN_DRAWS = replace(
    QWEN,
    ops=DRAWS,
    max_n=1,
    prompt_chars=3_200,
    free=None,
    sizes=((1664, 928), (1472, 1104), (1328, 1328), (1104, 1472), (928, 1664)),
    max_images=0,
)
QWEN_EDITS = replace(QWEN, ops=EDITS, prompt_chars=3_200, free=Free(step=16, edge=(512, 2048)))
WAN_27 = Caps(
    ops=MAKES,
    max_n=4,
    prompt_chars=5_000,
    free=Free(pixels=(768 * 768, 2048 * 2048), ratio=8),
    resolutions=("1K", "2K"),
    max_images=9,
    input_types=TYPES,
    input_bytes=20_000_000,
    input_edge=(240, 8000),
    params=SEEDED,
    options=frozenset({"thinking_mode", "enable_sequential", "bbox_list", "color_palette"}),
    prices=yuan(0.2),
    note="A resolution alone gives a square, or the shape of the last picture. "
    "enable_sequential makes a set of up to n pictures, for n = 1 of up to 12.",
)
WAN_DRAWS = Caps(
    ops=DRAWS,
    max_n=4,
    prompt_chars=2_000,
    free=Free(pixels=(1280 * 1280, 1440 * 1440), ratio=4),
    params=TUNED,
    options=EXTEND,
    prices=yuan(0.2),
)
WAN_OLD = replace(WAN_DRAWS, prompt_chars=500, free=Free(edge=(512, 1440)))
WAN_FLASH = replace(WAN_OLD, prices=yuan(0.14))
ONLY_BEIJING = "Only in Beijing."

MODELS: Mapping[str, Caps] = {
    "qwen-image-3.0-pro": replace(
        QWEN_3,
        prices=(
            dollars(0.04, (0, TIER_1K)),
            dollars(0.075, (TIER_1K, 0)),
            Price(unit="input_image", amount=0.003),
        ),
    ),
    "qwen-image-3.0": replace(QWEN_3, prices=(dollars(0.03), Price(unit="input_image", amount=0.003))),
    # One client leaves the negative prompt out for this one, the vendor does not list it.
    "qwen-image-2.1-pro": replace(QWEN, max_images=10, params=SEEDED),
    "qwen-image-2.0-pro": replace(QWEN, prices=yuan(0.5)),
    "qwen-image-2.0": replace(QWEN, prices=yuan(0.2)),
    "qwen-image-max": replace(QWEN_DRAWS, prices=yuan(0.5)),
    "qwen-image-plus": replace(QWEN_DRAWS, prices=yuan(0.2)),
    "qwen-image": replace(QWEN_DRAWS, prices=yuan(0.25)),
    "qwen-image-edit-max": replace(QWEN_EDITS, prices=yuan(0.5)),
    "qwen-image-edit-plus": replace(QWEN_EDITS, prices=yuan(0.2)),
    "qwen-image-edit": replace(
        QWEN_EDITS, max_n=1, free=None, options=frozenset(), prices=yuan(0.3), note="It decides the size itself."
    ),
    "z-image-turbo": replace(
        QWEN,
        ops=DRAWS,
        max_n=1,
        prompt_chars=800,
        max_images=0,
        params=frozenset({"seed"}),
        prices=yuan(0.1),
        note="With prompt_extend it costs twice as much.",
    ),
    "wan2.7-image-pro": replace(
        WAN_27,
        free=Free(pixels=(768 * 768, 4096 * 4096), ratio=8),
        resolutions=("1K", "2K", "4K"),
        prices=yuan(0.5),
        note=f"{WAN_27.note} More than 2048x2048 pixels only from text, and not in a set.",
    ),
    "wan2.7-image": WAN_27,
    "wan2.6-image": replace(
        WAN_27,
        ops=EDITS,
        prompt_chars=2_000,
        free=Free(step=16, pixels=(768 * 768, 2048 * 2048), ratio=4),
        max_images=4,
        input_bytes=10_000_000,
        params=TUNED,
        options=EXTEND | {"enable_interleave", "max_images"},
        note="enable_interleave writes text between the pictures: from at most one picture, and with n = 1.",
    ),
    "wan2.6-t2i": replace(WAN_DRAWS, prompt_chars=2_100),
    "wan2.5-t2i-preview": WAN_DRAWS,
    "wan2.5-i2i-preview": replace(
        WAN_DRAWS,
        ops=EDITS,
        free=Free(pixels=(768 * 768, 1280 * 1280), ratio=4),
        max_images=3,
        input_types=TYPES,
        input_bytes=10_000_000,
        input_edge=(384, 5000),
    ),
    "wan2.2-t2i-plus": WAN_OLD,
    "wan2.2-t2i-flash": WAN_FLASH,
    "wanx2.1-t2i-plus": WAN_OLD,
    "wanx2.1-t2i-turbo": WAN_FLASH,
    "wan2.1-t2i-plus": replace(WAN_OLD, note="Singapore's name of wanx2.1-t2i-plus."),
    "wan2.1-t2i-turbo": replace(WAN_FLASH, note="Singapore's name of wanx2.1-t2i-turbo."),
    "wanx2.0-t2i-turbo": replace(WAN_OLD, prompt_chars=800, prices=yuan(0.04), note=ONLY_BEIJING),
    "wanx2.1-imageedit": Caps(
        ops=EDITS,
        max_n=4,
        prompt_chars=800,
        max_images=1,
        mask="white-edits",
        input_types=(*TYPES, "image/tiff"),
        input_bytes=10_000_000,
        input_edge=(512, 4096),
        params=SEEDED,
        options=frozenset(
            {
                "function", "strength", "top_scale", "bottom_scale", "left_scale", "right_scale", "upscale_factor",
                "is_sketch",
            }
        ),
        prices=yuan(0.14),
        note=f"{ONLY_BEIJING} Inpainting with a mask; with the option function also expand, super_resolution, "
        "colorization, remove_watermark, stylization_all, stylization_local, control_cartoon_feature, doodle.",
    ),
    "wanx-v1": replace(
        WAN_DRAWS,
        ops=MAKES,
        free=None,
        sizes=((1024, 1024), (720, 1280), (768, 1152), (1280, 720)),
        max_images=1,
        input_types=TYPES,
        input_bytes=10_000_000,
        params=frozenset({"seed", "negative_prompt"}),
        options=frozenset({"style", "ref_strength", "ref_mode"}),
        prices=yuan(0.16),
        note="Deprecated. The picture of an edit is a reference.",
    ),
}  # fmt: skip

SNAPSHOT = re.compile(r"-20\d\d-\d\d-\d\d$")


def caps(model: str) -> Caps | None:
    """A dated snapshot can do what the model does that it is one of."""
    return MODELS.get(model) or MODELS.get(SNAPSHOT.sub("", model))
