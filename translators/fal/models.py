"""What fal's image endpoints can do, and how each differs in naming the same things: data for `translators.fal`.

An id is an endpoint; where a vendor splits generation and edit into two, the generation's id also edits (`ROUTES`).
Read from fal's schemas and price pages in November 2026. Where fal documents no bounds of a size, `ANY` sets ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from translators.base import Caps, Free, Op, Price, Unit
from translators.google import AT_1K, AT_2_5, FOURTEEN, TEN, pixels


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoints behind one id; what begins with a slash is a part of the id itself. Empty: the id."""

    generate: str = ""
    edit: str = ""
    several: str = ""  # for more than one picture
    masked: str = ""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint names what a job holds. An empty name: it has no such field."""

    count: str = "num_images"
    image: str = "image_url"  # a name that ends in `urls` takes a list
    mask: str = "mask_url"
    format: str = "output_format"
    ratio: str = "aspect_ratio"
    quality: str = "quality"
    text_size: bool = False  # "1024x1024" instead of an object
    tiers: bool = False  # a resolution is a size: "auto_2K"
    styles: Mapping[str, str] = {}  # what DALL·E's words mean here


LISTED = Shape(image="image_urls")

# ---- building blocks

GENERATES: frozenset[Op] = frozenset({"generate"})
EDITS: frozenset[Op] = frozenset({"edit", "variation"})
PAINTS: frozenset[Op] = frozenset({"edit"})  # only with a mask
MAKES: frozenset[Op] = GENERATES | EDITS
REDUX: frozenset[Op] = frozenset({"generate", "variation"})

FORMATS = ("png", "jpeg")
THREE = ("png", "jpeg", "webp")
SEED = frozenset({"seed"})
TUNED = SEED | {"steps", "guidance"}
NEGATIVE = TUNED | {"negative_prompt"}
LORAS = frozenset({"loras"})
MODERATED = SEED | {"moderation"}

COMMON = frozenset({"sync_mode"})
OPEN = COMMON | {"enable_safety_checker", "acceleration"}
STRENGTH = OPEN | {"strength"}
CHECKED = COMMON | {"enable_safety_checker"}
TOLERANT = COMMON | {"safety_tolerance", "enhance_prompt"}
EXPANDED = CHECKED | {"enable_prompt_expansion"}
COLORS = COMMON | {"style_id", "colors", "background_color"}
GOOGLE = COMMON | {"safety_tolerance", "limit_generations", "enable_web_search", "thinking_level"}
IDEOGRAM = COMMON | {"expand_prompt", "style_preset", "style_codes", "color_palette", "image_urls"}

FLUX = ("21:9", "16:9", "4:3", "3:2", "1:1", "2:3", "3:4", "9:16", "9:21")
WIDE = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9")
FIVE = ("1:1", "16:9", "9:16", "4:3", "3:4")
KONTEXT_DEV = ("1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21")
SPEEDS = ("TURBO", "BALANCED", "QUALITY")
LEVELS = ("low", "medium", "high")
GPT_SIZES = ((1024, 1024), (1536, 1024), (1024, 1536))

ANY = Free(step=16, pixels=(0, 2048 * 2048), edge=(256, 2048))
FREE_2 = Free(step=16, edge=(512, 2048))
FREE_QWEN_2 = Free(pixels=(512 * 512, 2048 * 2048))
FREE_GPT = Free(step=16, pixels=(655_360, 8_294_400), edge=(1, 3840), ratio=3)


def each(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


def area(amount: float, op: Op | None = None) -> tuple[Price, ...]:
    return (Price(unit="megapixel", amount=amount, op=op),)


def first_and_more(first: float, more: float) -> tuple[Price, ...]:
    """Without pictures to begin with: what those cost, no list of 2026-11 says."""
    return (
        Price(unit="image", amount=first, op="generate"),
        Price(unit="megapixel", amount=more, free=1, op="generate"),
    )


def by_quality(**amounts: float) -> tuple[Price, ...]:
    """US dollars for a picture of 1024x1024; others are not listed."""
    return tuple(Price(unit="image", amount=a, quality=name, size="1024x1024") for name, a in amounts.items())


def by_speed(turbo: float, balanced: float, quality: float, per_pixel: bool = False) -> tuple[Price, ...]:
    """By `rendering_speed`. Where no quality is asked for, it is balanced."""
    unit: Unit = "megapixel" if per_pixel else "image"
    return tuple(
        Price(unit=unit, amount=amount, quality=name)
        for name, amount in zip(SPEEDS, (turbo, balanced, quality), strict=True)
    )  # fmt: skip


def by_tier(**amounts: float) -> tuple[Price, ...]:
    """By resolution: `k2` is 2K, `k05` is 0.5K."""
    names = {"k05": "0.5K", "k1": "1K", "k2": "2K", "k4": "4K"}
    return tuple(Price(unit="image", amount=amount, resolution=names[name]) for name, amount in amounts.items())


BASE = Caps(ops=GENERATES, max_n=4, free=ANY, formats=FORMATS, params=TUNED, options=OPEN)
FOLLOWS = replace(BASE, ops=EDITS, free=None, max_images=1, options=STRENGTH)
"""An edit whose size is that of its picture."""
PRO = replace(BASE, params=MODERATED, options=TOLERANT)
KONTEXT = replace(PRO, ops=MAKES, free=None, ratios=FLUX, max_images=4, params=MODERATED | {"guidance"})
FLUX_2 = replace(BASE, ops=MAKES, free=FREE_2, max_images=4, formats=THREE)
FLUX_2_PRO = replace(
    PRO, ops=MAKES, max_n=1, max_images=8, free=FREE_2, options=COMMON | {"safety_tolerance", "enable_safety_checker"}
)
QWEN = replace(BASE, params=NEGATIVE | LORAS)
QWEN_EDIT = replace(BASE, ops=EDITS, formats=THREE, params=NEGATIVE, max_images=10)
QWEN_2 = replace(
    BASE,
    ops=MAKES,
    free=FREE_QWEN_2,
    formats=THREE,
    params=SEED | {"negative_prompt"},
    options=EXPANDED,
    max_images=3,
    input_bytes=10_000_000,
    input_edge=(384, 5000),
    note="References in PNG must not be transparent.",
)
RECRAFT = replace(
    BASE, max_n=1, formats=(), params=frozenset({"style"}), options=COLORS, prices=each(0.04),
    note="Raster styles give WebP, vector styles SVG.",
)  # fmt: skip
RECRAFT_4 = replace(RECRAFT, params=frozenset(), note=None)
IDEOGRAM_3 = replace(
    BASE,
    max_n=8,
    formats=(),
    qualities=SPEEDS,
    params=SEED | {"negative_prompt", "style"},
    options=IDEOGRAM,
    prices=by_speed(0.03, 0.06, 0.09),
)
SEEDREAM = replace(
    BASE,
    ops=MAKES,
    formats=(),
    params=SEED,
    options=CHECKED,
    max_images=10,
    resolutions=("2K", "4K"),
    free=Free(pixels=(960 * 960, 4096 * 4096)),
)
SEEDREAM_5 = replace(
    SEEDREAM, params=frozenset(), resolutions=("2K", "3K"), free=Free(pixels=(2560 * 1440, 3072 * 3072))
)
BANANA = replace(
    BASE,
    ops=MAKES,
    free=None,
    ratios=TEN,
    pixels_of=AT_2_5,
    formats=THREE,
    params=MODERATED,
    options=GOOGLE,
    max_images=3,
    prices=each(0.039),
)
BANANA_PRO = replace(
    BANANA,
    resolutions=("1K", "2K", "4K"),
    pixels_of=pixels(AT_1K, TEN, ("1K", "2K", "4K")),
    max_images=14,
    prices=by_tier(k1=0.15, k2=0.15, k4=0.30),
)
BANANA_2 = replace(
    BANANA_PRO,
    ratios=FOURTEEN,
    resolutions=("0.5K", "1K", "2K", "4K"),
    pixels_of=pixels(AT_1K, FOURTEEN, ("1K", "2K", "4K")),
    prices=by_tier(k05=0.06, k1=0.08, k2=0.12, k4=0.16),
)
GPT_1 = replace(
    BASE,
    ops=MAKES,
    free=None,
    sizes=GPT_SIZES,
    formats=THREE,
    qualities=LEVELS,
    backgrounds=("transparent", "opaque", "auto"),
    params=frozenset({"fidelity"}),
    options=COMMON,
    max_images=10,
)
GPT_2 = replace(
    GPT_1,
    sizes=(),
    free=FREE_GPT,
    backgrounds=(),
    params=frozenset(),
    mask="white-edits",
    prices=by_quality(low=0.006, medium=0.053, high=0.211),
)
GPT_25 = replace(GPT_2, qualities=(*LEVELS, "xhigh", "max"), prices=())
IMAGEN = replace(
    BASE, free=None, ratios=FIVE, resolutions=("1K", "2K"), formats=THREE, params=MODERATED,
    options=COMMON | {"safety_tolerance"},
)  # fmt: skip
SD_35 = replace(BASE, params=NEGATIVE | LORAS)
SDXL = replace(
    BASE, ops=MAKES, mask="white-edits", max_images=1, params=NEGATIVE | LORAS, options=STRENGTH | {"expand_prompt"}
)
Z_IMAGE = replace(
    BASE, ops=MAKES, mask="white-edits", max_images=1, formats=THREE, params=SEED | {"steps"}, options=STRENGTH,
    prices=area(0.005),
)  # fmt: skip
WAN = replace(
    BASE, formats=(), max_n=5, params=SEED | {"negative_prompt"}, options=CHECKED | {"enable_prompt_expansion"}
)
WAN_EDIT = replace(
    WAN, ops=EDITS, max_n=4, max_images=3, free=Free(pixels=(768 * 768, 1280 * 1280)),
)  # fmt: skip
KLING = replace(
    BASE, ops=MAKES, free=None, ratios=WIDE, resolutions=("1K", "2K"), formats=THREE, params=frozenset(),
    options=COMMON, max_images=1,
)  # fmt: skip
PHOTON = replace(BASE, max_n=1, free=None, ratios=(*FIVE, "21:9", "9:21"), formats=(), params=frozenset(),
                 options=frozenset())  # fmt: skip
FILLS = replace(
    FOLLOWS, ops=PAINTS, mask="white-edits", mask_required=True, params=SEED | {"negative_prompt"}, options=COMMON,
    formats=(),
)  # fmt: skip
KLEINS = ("fal-ai/flux-2/klein/4b", "fal-ai/flux-2/klein/9b")

# ---- the endpoints

WHOLE: Mapping[str, Caps] = {
    "fal-ai/flux/schnell": replace(BASE, prices=area(0.003)),
    "fal-ai/flux/dev": replace(BASE, prices=area(0.025)),
    "fal-ai/flux/dev/image-to-image": FOLLOWS,
    "fal-ai/flux-pro/v1.1": replace(PRO, prices=each(0.04)),
    "fal-ai/flux-pro/v1.1-ultra": replace(
        PRO, ops=REDUX, free=None, ratios=FLUX, max_images=1,
        options=TOLERANT | {"raw", "image_prompt_strength"}, prices=each(0.06),
    ),
    "fal-ai/flux-pro/kontext": replace(KONTEXT, prices=each(0.04)),
    "fal-ai/flux-pro/kontext/max": replace(KONTEXT, prices=each(0.08)),
    "fal-ai/flux-pro/v1/fill": replace(
        FOLLOWS, ops=PAINTS, mask="white-edits", mask_required=True, params=MODERATED, options=TOLERANT,
        prices=area(0.05), note="Paints what a mask opens; the picture keeps its size.",
    ),
    "fal-ai/flux-kontext/dev": replace(FOLLOWS, ratios=KONTEXT_DEV, options=OPEN),
    "fal-ai/flux-lora": replace(BASE, ops=MAKES, max_images=1, params=TUNED | LORAS, options=STRENGTH),
    "fal-ai/flux-general/inpainting": replace(
        BASE, ops=PAINTS, mask="white-edits", mask_required=True, max_images=1, params=NEGATIVE | LORAS,
        options=STRENGTH | {"controlnets", "controlnet_unions", "ip_adapters"},
    ),
    "fal-ai/flux-2": replace(FLUX_2, prices=area(0.012, "generate")),
    "fal-ai/flux-2/turbo": replace(FLUX_2, params=SEED | {"guidance"}),
    "fal-ai/flux-2/flash": replace(FLUX_2, params=SEED | {"guidance"}),
    **dict.fromkeys(KLEINS, replace(FLUX_2, params=SEED | {"steps"})),
    **{f"{klein}/base": FLUX_2 for klein in KLEINS},
    **{f"{klein}/lora": replace(FLUX_2, ops=GENERATES, max_images=0, params=SEED | {"steps"} | LORAS)
       for klein in KLEINS},
    "fal-ai/flux-2-pro": replace(FLUX_2_PRO, prices=first_and_more(0.03, 0.015)),
    "fal-ai/flux-2-max": replace(FLUX_2_PRO, prices=first_and_more(0.07, 0.03)),
    "fal-ai/flux-2-flex": replace(FLUX_2_PRO, params=TUNED | {"moderation"}),
    "fal-ai/qwen-image": replace(QWEN, prices=area(0.02)),
    "fal-ai/qwen-image-2512": replace(BASE, formats=THREE, params=NEGATIVE),
    "fal-ai/qwen-image-edit": replace(
        QWEN_EDIT, formats=FORMATS, mask="white-edits", max_images=1, options=STRENGTH
    ),
    "fal-ai/qwen-image-edit-2509": QWEN_EDIT,
    "fal-ai/qwen-image-edit-2511": QWEN_EDIT,
    "fal-ai/qwen-image-edit-plus": QWEN_EDIT,
    "fal-ai/qwen-image-2/text-to-image": QWEN_2,
    "fal-ai/qwen-image-2/pro/text-to-image": QWEN_2,
    "fal-ai/qwen-image-max/text-to-image": QWEN_2,
    "alibaba/qwen-image-3/text-to-image": replace(QWEN_2, ops=GENERATES, max_images=0, note=None),  # its schema is new
    "fal-ai/recraft/v3/text-to-image": replace(
        RECRAFT, note="Raster styles give WebP, vector styles SVG and cost 0.08 USD."
    ),
    "fal-ai/recraft/v3/image-to-image": replace(
        RECRAFT, ops=EDITS, free=None, max_images=1, options=COLORS | {"strength"}
    ),
    "fal-ai/recraft/v4/text-to-image": RECRAFT_4,
    "fal-ai/recraft/v4/pro/text-to-image": replace(RECRAFT_4, prices=each(0.25)),
    "fal-ai/recraft/v4/text-to-vector": replace(RECRAFT_4, prices=each(0.08), note="Gives SVG."),
    "fal-ai/ideogram/v3": replace(IDEOGRAM_3, ops=MAKES, max_images=1, options=IDEOGRAM | {"strength"}),
    "fal-ai/ideogram/v3/edit": replace(
        IDEOGRAM_3, ops=PAINTS, free=None, max_images=1, mask="black-edits", mask_required=True,
        params=SEED | {"style"}, note="Paints what a mask opens; the picture keeps its size.",
    ),
    "fal-ai/ideogram/v3/reframe": replace(
        IDEOGRAM_3, ops=PAINTS, auto_size=False, max_images=1, prompt_chars=0, params=SEED | {"style"},
        note="Moves the picture's edges out to the size that is asked for; takes no prompt.",
    ),
    "fal-ai/ideogram/v3/replace-background": replace(
        IDEOGRAM_3, ops=PAINTS, free=None, max_images=1, params=SEED | {"style"}
    ),
    "ideogram/v4": replace(
        IDEOGRAM_3, max_n=4, params=SEED, options=EXPANDED | {"acceleration"},
        prices=by_speed(0.03, 0.06, 0.10, per_pixel=True), note="Prompt expansion costs 0.03 USD more.",
    ),
    "fal-ai/bytedance/seedream/v4/text-to-image": replace(
        SEEDREAM, options=CHECKED | {"enhance_prompt_mode"}, prices=each(0.03)
    ),
    "fal-ai/bytedance/seedream/v4.5/text-to-image": replace(
        SEEDREAM, free=Free(pixels=(2560 * 1440, 4096 * 4096)), prices=each(0.04)
    ),
    "fal-ai/bytedance/seedream/v5/lite/text-to-image": replace(SEEDREAM_5, prices=each(0.035)),
    "bytedance/seedream/v5/pro/text-to-image": replace(  # only its prices are known for sure
        SEEDREAM_5, ops=GENERATES, max_images=0, resolutions=(), free=Free(pixels=(960 * 960, 2048 * 2048)),
        prices=(Price(unit="image", amount=0.0675, pixels=(0, 1536 * 1536)),
                Price(unit="image", amount=0.135, pixels=(1536 * 1536, 0))),
    ),
    "fal-ai/bytedance/seedream/v3/text-to-image": replace(
        BASE, formats=(), params=SEED | {"guidance"}, options=CHECKED, prices=each(0.03)
    ),
    "fal-ai/bytedance/dreamina/v3.1/text-to-image": replace(
        BASE, formats=(), params=SEED, options=CHECKED | {"enhance_prompt"}, prices=each(0.03)
    ),
    "fal-ai/nano-banana": BANANA,
    "fal-ai/gemini-25-flash-image": BANANA,
    "fal-ai/nano-banana-pro": BANANA_PRO,
    "fal-ai/gemini-3-pro-image-preview": BANANA_PRO,
    "fal-ai/nano-banana-2": BANANA_2,
    "fal-ai/gemini-3.1-flash-image-preview": BANANA_2,
    "google/nano-banana-2.1": replace(BANANA_2, prices=()),  # taken to have the fields of nano-banana-2
    "google/nano-banana-2-lite": replace(BANANA_2, prices=()),
    "fal-ai/gpt-image-1/text-to-image": GPT_1,
    "fal-ai/gpt-image-1-mini": GPT_1,
    "fal-ai/gpt-image-1.5": replace(GPT_1, mask="white-edits"),
    "openai/gpt-image-2": GPT_2,
    "openai/gpt-image-2.5/flare/text-to-image": GPT_25,
    "openai/gpt-image-2.5/sunburst/text-to-image": GPT_25,
    "fal-ai/imagen4/preview": replace(IMAGEN, prices=each(0.04)),
    "fal-ai/imagen4/preview/fast": replace(IMAGEN, prices=each(0.02)),
    "fal-ai/imagen4/preview/ultra": replace(IMAGEN, prices=each(0.06)),
    "fal-ai/stable-diffusion-v35-large": replace(SD_35, prices=each(0.065)),
    "fal-ai/stable-diffusion-v35-medium": replace(SD_35, prices=each(0.04)),
    "fal-ai/fast-sdxl": SDXL,
    "fal-ai/z-image/turbo": Z_IMAGE,
    "fal-ai/z-image/turbo/lora": replace(
        Z_IMAGE, ops=GENERATES, mask="none", max_images=0, params=Z_IMAGE.params | LORAS, options=OPEN, prices=()
    ),
    "fal-ai/hunyuan-image/v3/text-to-image": replace(BASE, params=NEGATIVE, options=EXPANDED),
    "fal-ai/hidream-i1-full": QWEN,
    "fal-ai/hidream-i1-dev": QWEN,
    "fal-ai/hidream-i1-fast": QWEN,
    "wan/v2.6/text-to-image": WAN,
    "wan/v2.6/image-to-image": WAN_EDIT,
    "fal-ai/wan/v2.7/text-to-image": WAN,
    "fal-ai/wan/v2.7/edit": WAN_EDIT,
    "fal-ai/wan/v2.7/pro/text-to-image": WAN,
    "fal-ai/wan/v2.7/pro/edit": WAN_EDIT,
    "fal-ai/kling-image/v3/text-to-image": KLING,
    "fal-ai/minimax/image-01": replace(PHOTON, max_n=9, ratios=WIDE, options=frozenset({"prompt_optimizer"})),
    "fal-ai/luma-photon": PHOTON,
    "fal-ai/luma-photon/flash": PHOTON,
    "xai/grok-imagine-image": replace(
        BASE, free=None, ratios=WIDE[:7], formats=THREE, params=frozenset(), options=COMMON
    ),
    "xai/grok-imagine-image/edit": replace(
        BASE, ops=EDITS, free=None, resolutions=("1k", "2k"), max_images=3, formats=THREE, params=frozenset(),
        options=COMMON,
    ),
    "fal-ai/bria/genfill": replace(FILLS, prices=each(0.04)),
    "fal-ai/bria/eraser": replace(
        FILLS, max_n=1, params=frozenset(), prompt_chars=0, prices=each(0.04),
        note="Removes what the mask opens; takes no prompt.",
    ),
    "fal-ai/bria/background/remove": replace(
        FILLS, max_n=1, mask="none", mask_required=False, params=frozenset(), prompt_chars=0, prices=each(0.04),
        note="Cuts the subject out; takes no prompt.",
    ),
}  # fmt: skip

PAIR = Route(edit="/edit")
KONTEXTS = Route(generate="/text-to-image", several="/multi")
ROUTES: Mapping[str, Route] = {
    "fal-ai/flux-pro/kontext": KONTEXTS,
    "fal-ai/flux-pro/kontext/max": KONTEXTS,
    "fal-ai/flux-lora": Route(edit="/image-to-image"),
    "fal-ai/qwen-image-edit": Route(masked="/inpaint"),
    "fal-ai/ideogram/v3": Route(edit="/remix"),
    "fal-ai/gpt-image-1/text-to-image": Route(edit="fal-ai/gpt-image-1/edit-image"),
    "fal-ai/fast-sdxl": Route(edit="/image-to-image", masked="/inpainting"),
    "fal-ai/z-image/turbo": Route(edit="/image-to-image", masked="/inpaint"),
    "fal-ai/kling-image/v3/text-to-image": Route(edit="fal-ai/kling-image/v3/image-to-image"),
    **{
        name: Route(edit=name.removesuffix("text-to-image") + "edit") if name.endswith("text-to-image") else PAIR
        for name, caps in WHOLE.items()
        if "edit" in caps.ops and name.startswith((
            "fal-ai/flux-2", "fal-ai/qwen-image-2/", "fal-ai/qwen-image-max/", "fal-ai/bytedance/seedream/",
            "fal-ai/nano-banana", "fal-ai/gemini-", "google/", "fal-ai/gpt-image-1-mini", "fal-ai/gpt-image-1.5",
            "openai/",
        ))
    },
}  # fmt: skip


def parts() -> dict[str, Caps]:
    """The endpoints that stand behind another id, each by its own."""
    found: dict[str, Caps] = {}
    for name, route in ROUTES.items():
        caps = WHOLE[name]
        if route.generate:
            found[path(name, route.generate)] = replace(caps, ops=GENERATES, max_images=0)
        if route.edit:
            mask = "none" if route.masked else caps.mask
            found[path(name, route.edit)] = replace(caps, ops=EDITS, mask=mask)
        if route.several:
            found[path(name, route.several)] = replace(caps, ops=EDITS)
        if route.masked:
            found[path(name, route.masked)] = replace(caps, ops=PAINTS, mask_required=True)
    return found


def path(model: str, route: str) -> str:
    """The endpoint that `route` means."""
    return model + route if route.startswith("/") else route or model


MODELS: Mapping[str, Caps] = {**WHOLE, **parts()}

RECRAFT_STYLES = {"natural": "realistic_image", "vivid": "any"}
IDEOGRAM_STYLES = {"natural": "REALISTIC", "vivid": "GENERAL"}
SPEED = Shape(quality="rendering_speed", styles=IDEOGRAM_STYLES)
SHAPES: Mapping[str, Shape] = {
    "fal-ai/flux-kontext/dev": Shape(ratio="resolution_mode"),
    "fal-ai/recraft/v3/": Shape(styles=RECRAFT_STYLES),
    "fal-ai/ideogram/v3": SPEED,
    "ideogram/v4": SPEED,
    "fal-ai/flux-pro/kontext/multi": LISTED,
    "fal-ai/flux-pro/kontext/max/multi": LISTED,
    "fal-ai/qwen-image-edit-": LISTED,
    "fal-ai/bytedance/seedream/v4": Shape(image="image_urls", tiers=True),
    "fal-ai/bytedance/seedream/v5": Shape(image="image_urls", tiers=True),
    "fal-ai/gpt-image-1": Shape(image="image_urls", text_size=True, mask="mask_image_url"),
    "fal-ai/fast-sdxl": Shape(format="format"),
    "fal-ai/z-image/turbo/inpaint": Shape(mask="mask_image_url"),
    "wan/v2.6/text-to-image": Shape(count="max_images"),
    "wan/v2.6/image-to-image": LISTED,
    "fal-ai/wan/v2.7/text-to-image": Shape(count="max_images"),
    "fal-ai/wan/v2.7/pro/text-to-image": Shape(count="max_images"),
}
"""By the longest beginning of the endpoint that fits; the others by `shape`."""


def shape(endpoint: str) -> Shape:
    """How the endpoint names things. Of those that are not known, `edit` takes a list of pictures by custom."""
    known = [name for name in SHAPES if endpoint.startswith(name)]
    if known:
        return SHAPES[max(known, key=len)]
    return LISTED if endpoint.endswith(("/edit", "/multi")) else Shape()
