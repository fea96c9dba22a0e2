"""What Replicate's official models can do, and how each names the same things: data for `translators.replicate`.

Read from the models' own schemas in November 2026. A model whose row was not checked against its schema says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from translators.base import Caps, Free, Op, Price, Size
from translators.google import AT_1K, AT_2_5, FOURTEEN, TEN, pixels


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a model names what a job holds. An empty name: it has no such field."""

    count: str = ""
    images: tuple[str, ...] = ("image",)  # one name per picture, in their order; one ending in `[]` takes them all
    mask: str = "mask"
    size: Literal["plain", "custom", "text", "star"] = "plain"  # width and height; after a word; 1024x1024; 1024*1024
    custom: str = "aspect_ratio"  # the field that says "custom"
    tier: str = "resolution"
    kept: Mapping[str, Any] = {}  # what keeps an edit in its picture's shape, where the default would not
    jpg: bool = True  # writes `jpg`
    compression: str = "output_quality"
    steps: str = "num_inference_steps"
    guidance: str = "guidance_scale"
    lenient: Mapping[str, Any] = {}  # what `moderation: low` means
    styles: Mapping[str, str] = {}  # what DALL·E's words mean here
    style: str = "style"


# ---- building blocks

GENERATES: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit", "variation"})
PAINTS: frozenset[Op] = frozenset({"edit"})
VARIES: frozenset[Op] = frozenset({"variation"})
MAKES: frozenset[Op] = GENERATES | EDITS
REDUX: frozenset[Op] = GENERATES | VARIES

TWO = ("png", "jpeg")
THREE = ("png", "jpeg", "webp")
SEED = frozenset({"seed"})
STEPS = SEED | {"steps"}
TUNED = STEPS | {"guidance"}
NEGATIVE = TUNED | {"negative_prompt"}
LORAS = frozenset({"loras"})
MODERATED = SEED | {"moderation"}

FLUX = ("1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21")
NINE = ("1:1", "16:9", "3:2", "2:3", "4:5", "5:4", "9:16", "3:4", "4:3")
SEVEN = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3")
OF_SEEDREAM = (*SEVEN, "21:9")
OF_IMAGEN = ("1:1", "9:16", "16:9", "3:4", "4:3")
OF_IDEOGRAM_2 = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "16:10", "10:16", "3:1", "1:3")
OF_IDEOGRAM_3 = ("1:1", "1:3", "3:1", "1:2", "2:1", "9:16", "16:9", "10:16", "16:10", "2:3", "3:2", "3:4", "4:3", "4:5",
                 "5:4")  # fmt: skip
OF_RECRAFT_3: tuple[Size, ...] = (
    (1024, 1024), (1365, 1024), (1024, 1365), (1536, 1024), (1024, 1536), (1820, 1024), (1024, 1820), (1024, 2048),
    (2048, 1024), (1434, 1024), (1024, 1434), (1024, 1280), (1280, 1024), (1024, 1707), (1707, 1024),
)  # fmt: skip
OF_RECRAFT_4: tuple[Size, ...] = (
    (1024, 1024), (1536, 768), (768, 1536), (1280, 832), (832, 1280), (1216, 896), (896, 1216), (1152, 896),
    (896, 1152), (832, 1344), (1280, 896), (896, 1280), (1344, 768), (768, 1344),
)  # fmt: skip
OF_RECRAFT_4_PRO: tuple[Size, ...] = (
    (2048, 2048), (3072, 1536), (1536, 3072), (2560, 1664), (1664, 2560), (2432, 1792), (1792, 2432), (2304, 1792),
    (1792, 2304), (1664, 2688), (2560, 1792), (1792, 2560), (2688, 1536), (1536, 2688),
)  # fmt: skip
OF_GPT = {"1:1": (1024, 1024), "3:2": (1536, 1024), "2:3": (1024, 1536)}

UNCHECKED = frozenset({"disable_safety_checker"})
FAST = UNCHECKED | {"go_fast", "megapixels"}
STRENGTH = FAST | {"prompt_strength"}
TOLERANT = frozenset({"safety_tolerance", "prompt_upsampling"})
FILTERED = frozenset({"safety_filter_level"})
MAGIC = frozenset({"magic_prompt_option", "style_preset", "style_reference_images", "resolution"})
UNSURE = "Not checked against the model's own schema."
KEEPS = "An edit keeps the shape of its picture."


def each(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


def by_tier(**amounts: float) -> tuple[Price, ...]:
    """By resolution: `k2` is 2K."""
    return tuple(
        Price(unit="image", amount=amount, resolution=f"{name[1:]}K") for name, amount in amounts.items()
    )  # fmt: skip


OPEN = Caps(ops=GENERATES, max_n=4, ratios=FLUX, formats=THREE, compression=True, params=STEPS, options=FAST)
"""The open FLUX.1 models."""
DEV = replace(OPEN, ops=MAKES, max_images=1, params=TUNED, options=STRENGTH, prices=each(0.025), note=KEEPS)
PRO = replace(OPEN, max_n=1, params=MODERATED, options=TOLERANT)
KONTEXT = replace(PRO, ops=MAKES, max_images=1, formats=TWO, compression=False, params=SEED, prices=each(0.04))
FLUX_2 = replace(
    PRO,
    ops=MAKES,
    ratios=NINE,
    resolutions=("0.5 MP", "1 MP", "2 MP", "4 MP"),
    free=Free(step=16, edge=(256, 2048)),
    max_images=8,
    options=frozenset({"safety_tolerance"}),
)
BANANA = Caps(
    ops=MAKES, ratios=TEN, pixels_of=AT_2_5, formats=TWO, max_images=3, params=frozenset(), prices=each(0.039)
)
BANANA_PRO = replace(
    BANANA,
    resolutions=("1K", "2K", "4K"),
    pixels_of=pixels(AT_1K, TEN, ("1K", "2K", "4K")),
    max_images=14,
    params=frozenset({"moderation"}),
    options=FILTERED,
    prices=by_tier(k1=0.15, k2=0.15, k4=0.30),
)
IMAGEN = Caps(
    ops=GENERATES, ratios=OF_IMAGEN, resolutions=("1K", "2K"), formats=TWO, params=frozenset({"moderation"}),
    options=FILTERED,
)  # fmt: skip
SEEDREAM = Caps(
    ops=MAKES,
    ratios=OF_SEEDREAM,
    resolutions=("1K", "2K", "4K"),
    free=Free(edge=(1024, 4096)),
    max_images=10,
    options=frozenset({"enhance_prompt"}),
    prices=each(0.03),
)
SEEDREAM_5 = replace(SEEDREAM, free=None, formats=TWO, options=frozenset())
QWEN = replace(
    DEV, max_n=1, ratios=SEVEN, params=NEGATIVE | LORAS,
    options=frozenset({"image_size", "strength", "go_fast", "enhance_prompt", "disable_safety_checker"}),
    note=f"{UNSURE} {KEEPS}",
)  # fmt: skip
QWEN_EDIT = replace(
    QWEN, ops=EDITS, ratios=(), params=SEED, options=frozenset({"go_fast", "disable_safety_checker"}),
    prices=each(0.03), note=UNSURE,
)  # fmt: skip
GPT = Caps(
    ops=MAKES,
    max_n=10,
    ratios=tuple(OF_GPT),
    pixels_of=OF_GPT,
    max_images=10,
    formats=THREE,
    compression=True,
    qualities=("low", "medium", "high"),
    backgrounds=("transparent", "opaque", "auto"),
    params=frozenset({"moderation", "fidelity", "user"}),
    options=frozenset({"openai_api_key"}),
)
IDEOGRAM = Caps(
    ops=frozenset({"generate", "edit"}),
    ratios=OF_IDEOGRAM_3,
    max_images=1,
    mask="black-edits",
    mask_required=True,
    params=SEED | {"style"},
    options=MAGIC,
    note=KEEPS,
)
IDEOGRAM_2 = replace(
    IDEOGRAM, ratios=OF_IDEOGRAM_2, params=SEED | {"style", "negative_prompt"},
    options=frozenset({"magic_prompt_option", "resolution"}),
)  # fmt: skip
RECRAFT = Caps(ops=GENERATES, sizes=OF_RECRAFT_3, params=frozenset({"style"}), prices=each(0.04))
RECRAFT_4 = replace(RECRAFT, sizes=OF_RECRAFT_4, prompt_chars=10_000, params=frozenset())
SD_35 = replace(
    OPEN, ops=MAKES, max_n=1, max_images=1, params=NEGATIVE, options=frozenset({"prompt_strength"}), note=KEEPS
)
SDXL = Caps(
    ops=MAKES,
    max_n=4,
    free=Free(step=8, edge=(256, 1536)),
    max_images=1,
    mask="white-edits",
    params=NEGATIVE,
    options=frozenset({"prompt_strength", "scheduler", "refine", "high_noise_frac", "apply_watermark"}) | UNCHECKED,
    note=KEEPS,
)
LUMA = Caps(ops=GENERATES, ratios=(*OF_IMAGEN, "21:9", "9:21"), params=SEED, note=UNSURE)

BFL = "black-forest-labs/"
MODELS: Mapping[str, Caps] = {
    f"{BFL}flux-schnell": replace(OPEN, prices=each(0.003)),
    f"{BFL}flux-dev": DEV,
    f"{BFL}flux-krea-dev": DEV,
    f"{BFL}flux-dev-lora": replace(DEV, params=TUNED | LORAS, prices=()),
    f"{BFL}flux-schnell-lora": replace(OPEN, params=STEPS | LORAS),
    f"{BFL}flux-fill-dev": replace(
        DEV, ops=PAINTS, ratios=(), mask="white-edits", mask_required=True, options=FAST, prices=each(0.04),
        note="Paints what a mask opens; the picture keeps its size.",
    ),
    f"{BFL}flux-fill-pro": replace(
        PRO, ops=PAINTS, ratios=(), max_images=1, mask="white-edits", formats=TWO, compression=False,
        params=TUNED | {"moderation"}, options=TOLERANT | {"outpaint"}, prices=each(0.05),
        note="Needs a mask, or an outpaint in provider_options.",
    ),
    f"{BFL}flux-redux-dev": replace(
        OPEN, ops=VARIES, max_images=1, prompt_chars=0, params=TUNED, note="Varies a picture; takes no prompt."
    ),
    f"{BFL}flux-redux-schnell": replace(
        OPEN, ops=VARIES, max_images=1, prompt_chars=0, note="Varies a picture; takes no prompt."
    ),
    f"{BFL}flux-canny-dev": replace(
        OPEN, ops=PAINTS, ratios=(), max_images=1, params=TUNED, note="Paints along the edges of the picture."
    ),
    f"{BFL}flux-depth-dev": replace(
        OPEN, ops=PAINTS, ratios=(), max_images=1, params=TUNED, note="Paints along the depths of the picture."
    ),
    f"{BFL}flux-1.1-pro": replace(
        PRO, ops=REDUX, ratios=NINE, free=Free(step=32, edge=(256, 1440)), max_images=1, prices=each(0.04)
    ),
    f"{BFL}flux-1.1-pro-ultra": replace(
        PRO, ops=REDUX, max_images=1, formats=TWO, compression=False,
        options=frozenset({"safety_tolerance", "raw", "image_prompt_strength"}), prices=each(0.06),
    ),
    f"{BFL}flux-kontext-pro": KONTEXT,
    f"{BFL}flux-kontext-max": replace(KONTEXT, prices=each(0.08)),
    f"{BFL}flux-kontext-dev": replace(
        KONTEXT, formats=THREE, compression=True, params=TUNED, options=UNCHECKED | {"go_fast"}, prices=each(0.025)
    ),
    "flux-kontext-apps/multi-image-kontext-pro": replace(
        KONTEXT, ops=EDITS, min_images=2, max_images=2, options=frozenset({"safety_tolerance"}), note=UNSURE
    ),
    f"{BFL}flux-2-pro": FLUX_2,
    f"{BFL}flux-2-max": replace(FLUX_2, free=Free(step=32, edge=(256, 2048))),
    f"{BFL}flux-2-flex": replace(
        FLUX_2, free=Free(step=32, edge=(256, 2048)), max_images=10, params=TUNED | {"moderation"},
        options=TOLERANT,
    ),
    f"{BFL}flux-2-dev": replace(
        FLUX_2, resolutions=(), free=Free(step=32, edge=(256, 1440)), max_images=4, params=SEED,
        options=UNCHECKED | {"go_fast"},
    ),
    "google/nano-banana": BANANA,
    "google/nano-banana-pro": BANANA_PRO,
    "google/nano-banana-2": replace(
        BANANA_PRO, ratios=FOURTEEN, pixels_of=pixels(AT_1K, FOURTEEN, ("1K", "2K", "4K")), params=frozenset(),
        options=frozenset(), prices=(), note=UNSURE,
    ),
    "google/imagen-4": replace(IMAGEN, prices=each(0.04)),
    "google/imagen-4-fast": replace(IMAGEN, resolutions=(), prices=each(0.02)),
    "google/imagen-4-ultra": replace(IMAGEN, prices=each(0.06)),
    "bytedance/seedream-4": SEEDREAM,
    "bytedance/seedream-4.5": replace(
        SEEDREAM, resolutions=("2K", "4K"), max_images=14, options=frozenset(), prices=each(0.04)
    ),
    "bytedance/seedream-5-lite": replace(SEEDREAM_5, resolutions=("2K", "3K"), max_images=14, prices=each(0.035)),
    "bytedance/seedream-5-pro": replace(SEEDREAM_5, resolutions=("1K", "2K"), prices=by_tier(k2=0.09)),
    "qwen/qwen-image": QWEN,
    "qwen/qwen-image-edit": QWEN_EDIT,
    "qwen/qwen-image-edit-plus": replace(QWEN_EDIT, max_images=3),
    "qwen/qwen-image-edit-2511": replace(QWEN_EDIT, max_images=3),
    "qwen/qwen-image-2": Caps(ops=MAKES, ratios=SEVEN, max_images=1, params=SEED | {"negative_prompt"}),
    "qwen/qwen-image-2-pro": Caps(
        ops=MAKES, ratios=SEVEN, max_images=1, params=SEED | {"negative_prompt"}, prices=each(0.075)
    ),
    "wan-video/wan-2.7-image": Caps(
        ops=MAKES, max_n=4, resolutions=("1K", "2K"), free=Free(edge=(512, 2048)), max_images=9, params=SEED,
        prices=each(0.03),
    ),
    "wan-video/wan-2.7-image-pro": Caps(
        ops=MAKES, max_n=4, resolutions=("1K", "2K", "4K"), free=Free(edge=(512, 4096)), max_images=9, params=SEED
    ),
    "prunaai/z-image-turbo": Caps(
        ops=GENERATES, free=Free(step=16, edge=(256, 2048)), formats=THREE, compression=True, params=TUNED,
        options=frozenset({"go_fast"}),
    ),
    "prunaai/flux-2-fast": Caps(
        ops=MAKES, max_n=4, free=Free(step=16, edge=(256, 2048)), max_images=1, formats=THREE, compression=True,
        params=SEED,
    ),
    "openai/gpt-image-1": replace(GPT, note="Needs openai_api_key in provider_options."),
    "openai/gpt-image-1.5": GPT,
    "openai/gpt-image-2": replace(GPT, params=GPT.params - {"fidelity"}, backgrounds=("opaque", "auto")),
    "ideogram-ai/ideogram-v3-turbo": replace(IDEOGRAM, prices=each(0.03)),
    "ideogram-ai/ideogram-v3-balanced": replace(IDEOGRAM, prices=each(0.06)),
    "ideogram-ai/ideogram-v3-quality": replace(IDEOGRAM, prices=each(0.09)),
    "ideogram-ai/ideogram-v2": replace(IDEOGRAM_2, prices=each(0.08)),
    "ideogram-ai/ideogram-v2-turbo": replace(IDEOGRAM_2, prices=each(0.05)),
    "recraft-ai/recraft-v3": replace(RECRAFT, note="Gives WebP."),
    "recraft-ai/recraft-v3-svg": replace(RECRAFT, prices=each(0.08), note="Gives SVG."),
    "recraft-ai/recraft-v4": RECRAFT_4,
    "recraft-ai/recraft-v4-pro": replace(RECRAFT_4, sizes=OF_RECRAFT_4_PRO, prices=()),
    "recraft-ai/recraft-v4-svg": replace(RECRAFT_4, prices=(), note="Gives SVG."),
    "stability-ai/stable-diffusion-3.5-large": replace(SD_35, prices=each(0.065)),
    "stability-ai/stable-diffusion-3.5-large-turbo": replace(SD_35, prices=each(0.04)),
    "stability-ai/stable-diffusion-3.5-medium": replace(SD_35, prices=each(0.035)),
    "stability-ai/sdxl": SDXL,
    "bytedance/sdxl-lightning-4step": replace(
        SDXL, ops=GENERATES, free=Free(step=8, edge=(256, 1280)), max_images=0, mask="none",
        options=UNCHECKED | {"scheduler"}, note=None,
    ),
    "minimax/image-01": Caps(
        ops=GENERATES, max_n=9, ratios=OF_SEEDREAM, options=frozenset({"prompt_optimizer"}), prices=each(0.01),
        note=UNSURE,
    ),
    "luma/photon": replace(LUMA, prices=each(0.03)),
    "luma/photon-flash": replace(LUMA, prices=each(0.01)),
    "xai/grok-imagine-image": Caps(ops=MAKES, ratios=SEVEN, max_images=1, note=UNSURE),
}  # fmt: skip

VERSIONS: Mapping[str, str] = {
    "stability-ai/sdxl": "7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc",
    "bytedance/sdxl-lightning-4step": "6f7a773af6fc3e8de9d5a3c00be77c17308914bf67772726aff83496ba1e3bbe",
}
"""Models that are not official: by name alone they are not found. Another version may be named after a colon."""

OUTPUTS = Shape(count="num_outputs", guidance="guidance")
LENIENT_6 = {"safety_tolerance": 6}  # a number here
LENIENT_5 = {"safety_tolerance": 5}
PROMPTED = Shape(images=("image_prompt",), size="custom", lenient=LENIENT_6)
INPUT = Shape(images=("input_image",), guidance="guidance")
INPUTS = Shape(
    images=("input_images[]",), size="custom", kept={"aspect_ratio": "match_input_image"}, steps="steps",
    guidance="guidance", lenient=LENIENT_5,
)  # fmt: skip
OF_GOOGLE = Shape(images=("image_input[]",), lenient={"safety_filter_level": "block_only_high"})
OF_BYTEDANCE = Shape(images=("image_input[]",), size="custom", custom="size", tier="size")
OF_OPENAI = Shape(
    count="number_of_images", images=("input_images[]",), jpg=False, compression="output_compression",
    lenient={"moderation": "low"},
)  # fmt: skip
STYLED = Shape(style="style_type", styles={"natural": "Realistic", "vivid": "General"})

SHAPES: Mapping[str, Shape] = {
    f"{BFL}flux-": OUTPUTS,
    f"{BFL}flux-fill-pro": Shape(steps="steps", guidance="guidance", lenient=LENIENT_6),
    f"{BFL}flux-redux-": replace(OUTPUTS, images=("redux_image",)),
    f"{BFL}flux-canny-": replace(OUTPUTS, images=("control_image",)),
    f"{BFL}flux-depth-": replace(OUTPUTS, images=("control_image",)),
    f"{BFL}flux-1.1-pro": PROMPTED,
    f"{BFL}flux-kontext-": INPUT,
    "flux-kontext-apps/multi-image-": replace(INPUT, images=("input_image_1", "input_image_2")),
    f"{BFL}flux-2-": INPUTS,
    "google/": OF_GOOGLE,
    "google/imagen-4": replace(OF_GOOGLE, tier="image_size"),
    "bytedance/seedream-": OF_BYTEDANCE,
    "qwen/qwen-image": Shape(guidance="guidance"),
    "qwen/qwen-image-edit-plus": Shape(images=("image[]",)),
    "qwen/qwen-image-edit-2511": Shape(images=("image[]",)),
    "qwen/qwen-image-2": Shape(kept={"match_input_image": True}),
    "wan-video/": Shape(count="num_outputs", images=("images[]",), size="star", tier="size"),
    "prunaai/flux-2-fast": Shape(count="num_outputs"),
    "openai/": OF_OPENAI,
    "ideogram-ai/": STYLED,
    "recraft-ai/": Shape(size="text", styles={"natural": "realistic_image", "vivid": "any"}),
    "stability-ai/stable-diffusion-3.5-": Shape(steps="steps", guidance="cfg"),
    "stability-ai/sdxl": Shape(count="num_outputs"),
    "bytedance/sdxl-lightning-4step": Shape(count="num_outputs"),
    "minimax/": Shape(count="number_of_images"),
}
"""By the longest beginning of the model's id that fits."""


def shape(model: str) -> Shape:
    """How the model names things; one that is not known takes a picture as `image`, as most do."""
    known = [name for name in SHAPES if model.startswith(name)]
    return SHAPES[max(known, key=len)] if known else Shape()
