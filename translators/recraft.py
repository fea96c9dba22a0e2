"""Recraft: raster pictures, true vectors, and tools for both.

    POST /images/<path> {"prompt", "model", …, "image_url", "mask_url"}  -> {"data": [picture], "credits"}
    tools that process one picture                                       -> {"image": picture, "credits"}

Everything is JSON: a picture stands in it as a data URL. The tools are models here, so that the edit call reaches them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

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
    Size,
    Step,
    Usage,
    by_status,
    data_url,
    prompted,
)
from translators.base import bearer as sign
from translators.base import no_events as event
from translators.canvas import margins, nearest_ratio
from translators.shapes import nothing, unread

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="Recraft",
    env={"api_key": "RECRAFT_API_KEY"},
    settings=frozenset({"billing"}),
    docs="https://www.recraft.ai/docs/api-reference/endpoints",
)

# ---- what the models can do

RATIOS = ("1:1", "2:1", "1:2", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "6:10", "14:10", "10:14", "16:9", "9:16")


def sizes(text: str) -> tuple[Size, ...]:
    """The vendor's list, one for each of `RATIOS`."""
    return tuple((int(width), int(height)) for width, height in (size.split("x") for size in text.split()))


AT_1K = sizes(
    "1024x1024 1536x768 768x1536 1280x832 832x1280 1216x896 896x1216 1152x896 896x1152 832x1344 1280x896 896x1280 "
    "1344x768 768x1344"
)
AT_2K = tuple((2 * width, 2 * height) for width, height in AT_1K)
OF_V3 = sizes(
    "1024x1024 2048x1024 1024x2048 1536x1024 1024x1536 1365x1024 1024x1365 1280x1024 1024x1280 1024x1707 1434x1024 "
    "1024x1434 1820x1024 1024x1820"
)

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
GENERATES: frozenset[Op] = frozenset({"generate"})
STYLED: frozenset[Op] = frozenset({"generate", "edit"})
EDITS: frozenset[Op] = frozenset({"edit"})
COMMON = frozenset({"controls", "block_nsfw", "calculate_features", "expire"})
V4_OPTIONS = COMMON | {"upscale", "creativity", "strength"}
V2_OPTIONS = COMMON | {"upscale", "style_id", "substyle"}
RASTER = ("png", "webp")
VARIATION = 0.04


def per_picture(amount: float, variation: float | None = None) -> tuple[Price, ...]:
    """US dollars; where a variation costs its own, whichever model makes it."""
    if variation is None:
        return (Price(unit="image", amount=amount),)
    ops: dict[Op, float] = {"generate": amount, "edit": amount, "variation": variation}
    return tuple(Price(unit="image", amount=each, op=op) for op, each in ops.items())


PLAIN = Caps(
    ops=EDITS,
    max_images=1,
    input_bytes=9_999_999,  # "less than 10 MB"
    input_pixels=16_000_000,
    input_edge=(256, 4096),
    formats=RASTER,
)
"""What all that take a picture have in common."""

V4 = replace(
    PLAIN,
    ops=MAKES,
    max_n=6,
    prompt_chars=10_000,
    sizes=AT_1K,
    ratios=RATIOS,
    pixels_of=dict(zip(RATIOS, AT_1K, strict=True)),
    params=frozenset({"seed", "fidelity"}),
    options=V4_OPTIONS,
    prices=per_picture(0.035, VARIATION),
    keeps=frozenset({"edit"}),
    note="An edit keeps the shape of its picture.",
)
FLASH = replace(
    V4,
    ops=GENERATES,
    max_images=0,
    params=frozenset({"seed"}),
    options=COMMON | {"upscale"},
    prices=per_picture(0.007),
    note=None,
)
STYLES = replace(
    V4,
    ops=STYLED,
    max_images=10,
    params=frozenset({"seed", "style"}),
    options=COMMON | {"upscale", "style_id", "style_match"},
    prices=per_picture(0.035),
    keeps=frozenset(),
    note="Needs a style: a `style` (name or id), or up to ten pictures that show it.",
)
V3 = replace(
    PLAIN,
    ops=MAKES,
    max_n=6,
    prompt_chars=1_000,
    sizes=OF_V3,
    ratios=RATIOS,
    pixels_of=dict(zip(RATIOS, OF_V3, strict=True)),
    mask="white-edits",
    params=frozenset({"seed", "fidelity", "style", "negative_prompt"}),
    options=V2_OPTIONS | {"text_layout", "strength"},
    prices=per_picture(0.04),
    keeps=frozenset({"edit"}),
    note="An edit keeps the shape of its picture.",
)
V2 = replace(
    V3,
    ops=GENERATES,
    max_images=0,
    mask="none",
    params=frozenset({"seed", "style", "negative_prompt"}),
    options=V2_OPTIONS,
    prices=per_picture(0.022),
    note="Older.",
)
EXPLORE = replace(
    FLASH,
    max_n=8,
    options=COMMON,
    prices=(),
    note="Drafts to choose from: one call makes about eight, and all of them are answered.",
)


def pro(of: Caps, amount: float) -> Caps:
    return replace(
        of,
        sizes=AT_2K,
        pixels_of=dict(zip(RATIOS, AT_2K, strict=True)),
        prices=per_picture(amount, VARIATION if "variation" in of.ops else None),
    )


def vector(of: Caps, amount: float = 0) -> Caps:
    """The twin that draws SVG, of which only the shape can be chosen."""
    shared = VARIATION if "variation" in of.ops and of.mask == "none" else None
    prices = per_picture(amount, shared) if amount else ()
    return replace(of, sizes=(), pixels_of={}, formats=("svg",), prices=prices)


ROOM = replace(PLAIN, max_n=6, prompt_chars=1_000, params=V3.params - {"fidelity"}, prices=per_picture(0.04))
"""What surrounds a subject, painted by V3."""
REPLACE = replace(
    ROOM, options=V2_OPTIONS - {"upscale"}, note="Paints another background; the subject is found by itself."
)
GROUND = replace(
    REPLACE, mask="white-edits", mask_required=True, note="Paints the background where the mask is transparent."
)
OUTPAINT = replace(
    REPLACE,
    free=Free(),
    options=REPLACE.options | {"expand_left", "expand_right", "expand_top", "expand_bottom", "zoom_out_percentage"},
    note="`size` is the new canvas, the picture in its middle; or options expand_left, expand_right, expand_top, "
    "expand_bottom in pixels.",
)
PROCESS = replace(PLAIN, prompt_chars=0, options=frozenset({"expire"}))

MODELS: Mapping[str, Caps] = {
    "recraftv4_1": V4,
    "recraftv4_1_vector": vector(V4, 0.08),
    "recraftv4_1_pro": pro(V4, 0.21),
    "recraftv4_1_pro_vector": vector(V4, 0.30),
    "recraftv4_1_utility": V4,
    "recraftv4_1_utility_vector": vector(V4, 0.08),
    "recraftv4_1_utility_pro": pro(V4, 0.21),
    "recraftv4_1_utility_pro_vector": vector(V4, 0.30),
    "recraftv4_1_flash": FLASH,
    "recraftv4_1_flash_v2": FLASH,
    "recraftv4": replace(V4, prices=per_picture(0.04, VARIATION)),
    "recraftv4_vector": vector(V4, 0.08),
    "recraftv4_pro": pro(V4, 0.25),
    "recraftv4_pro_vector": vector(V4, 0.30),
    "recraftv4_styles": STYLES,
    "recraftv4_styles_vector": vector(STYLES, 0.05),
    "recraftv4_styles_pro": pro(STYLES, 0.10),
    "recraftv4_styles_pro_vector": vector(STYLES),
    "recraftv4_explore": EXPLORE,
    "recraftv4_explore_vector": vector(EXPLORE),
    "recraftv3": V3,
    "recraftv3_vector": vector(V3, 0.08),
    "recraftv2": V2,
    "recraftv2_vector": vector(V2, 0.044),
    "replace-background": REPLACE,
    "replace-background-vector": vector(REPLACE, 0.08),
    "generate-background": GROUND,
    "generate-background-vector": vector(GROUND, 0.08),
    "outpaint": OUTPAINT,
    "outpaint-vector": vector(OUTPAINT, 0.08),
    "erase-region": replace(
        PROCESS, mask="white-edits", mask_required=True, prices=per_picture(0.002),
        note="Removes what the mask opens; takes no prompt.",
    ),
    "remove-background": replace(
        PROCESS, prices=per_picture(0.01), note="Leaves the subject on transparency; takes no prompt."
    ),
    "crisp-upscale": replace(
        PROCESS, input_edge=(32, 4096), prices=per_picture(0.004), note="Sharper and larger; takes no prompt."
    ),
    "creative-upscale": replace(
        PROCESS, prices=per_picture(0.25), note="Larger, with details made anew; takes no prompt."
    ),
    "vectorize": replace(
        PROCESS, formats=("svg",), prices=per_picture(0.01), note="Turns a picture into SVG; takes no prompt.",
        options=PROCESS.options | {
            "svg_compression", "limit_num_shapes", "max_num_shapes", "color_reduction", "small_shape_filter",
            "return_gradients", "shape_stacking", "strict_color_palette",
        },
    ),
    "explore-similar": replace(
        EXPLORE, prompt_chars=0, sizes=(), ratios=(), pixels_of={}, params=frozenset(),
        options=frozenset({"source_image_id", "similarity"}),
        note="More drafts like one of them: option source_image_id is its `image_id`, similarity goes from 1 to 5.",
    ),
}  # fmt: skip


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or "https://external.api.recraft.ai/v1"


def caps(model: str) -> Caps | None:
    """Every raster model has a longer name too; 20b and refm1 are V2 under the names of its time."""
    return V2 if model in {"recraft20b", "refm1"} else MODELS.get(model.removesuffix("_raster"))


# ---- what is sent


class Tool(msgspec.Struct, frozen=True):
    """A path that stands as a model of its own, and the model that works there."""

    path: str
    model: str | None = None


TOOLS: Mapping[str, Tool] = {
    "replace-background": Tool("replaceBackground", "recraftv3"),
    "replace-background-vector": Tool("replaceBackground", "recraftv3_vector"),
    "generate-background": Tool("generateBackground", "recraftv3"),
    "generate-background-vector": Tool("generateBackground", "recraftv3_vector"),
    "outpaint": Tool("outpaint", "recraftv3"),
    "outpaint-vector": Tool("outpaint", "recraftv3_vector"),
    "erase-region": Tool("eraseRegion"),
    "remove-background": Tool("removeBackground"),
    "crisp-upscale": Tool("crispUpscale"),
    "creative-upscale": Tool("creativeUpscale"),
    "vectorize": Tool("vectorize"),
    "explore-similar": Tool("explore/similar"),
}
CLOSE, USUAL, FAR = 0.2, 0.5, 0.7
"""How far an edit may go from its picture: `strength` is required there, and OpenAI has no such field."""
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
DALL_E = frozenset({"vivid", "natural"})


def start(job: Job) -> Step:
    tool = TOOLS.get(job.model) or Tool(making(job), job.model)
    drawn = (caps(job.model) or V4).formats == ("svg",)
    fields: dict[str, Any] = {
        "prompt": worded(job, tool),
        "model": tool.model,
        "n": job.n if tool.model and tool.path != "explore" else None,
        **measures(job, tool),
        **pictures(job, tool),
        **styled(job),
        "strength": strength(job) if tool.path == "imageToImage" else None,
        "negative_prompt": job.negative_prompt,
        "random_seed": job.seed,
        "response_format": "b64_json",
        "image_format": None if drawn or tool.path == "explore/similar" else job.format or "png",
        **job.options,
    }
    query = {"billing": job.site["billing"]} if job.site.get("billing") else {}
    body = {name: value for name, value in fields.items() if value is not None}
    return Call(path=f"/images/{tool.path}", query=query, json=body)


def making(job: Job) -> str:
    """Where the models that paint do what is asked of them."""
    if job.model.startswith("recraftv4_explore"):
        return "explore"
    if not job.images or job.model.startswith("recraftv4_styles"):
        return "generations"
    if job.op == "variation" and not job.model.startswith("recraftv3"):
        return "variateImage"
    return "inpaint" if job.mask else "imageToImage"


def worded(job: Job, tool: Tool) -> str | None:
    if tool.path == "variateImage":
        return None
    return prompted(job) or None


def measures(job: Job, tool: Tool) -> dict[str, Any]:
    """The members that tell the size. An edit has none: it keeps its picture's."""
    if tool.path == "outpaint":
        return expanded(job)
    if tool.path == "variateImage":  # required there
        return {"size": said(job) or nearest_ratio((job.images[0].width, job.images[0].height), RATIOS)}
    return {"size": said(job)} if tool.path in {"generations", "explore"} else {}


def said(job: Job) -> str | None:
    return "{}x{}".format(*job.size) if job.size else job.ratio


EXPANDS = ("expand_left", "expand_top", "expand_right", "expand_bottom")


def expanded(job: Job) -> dict[str, Any]:
    if not job.options.keys().isdisjoint(EXPANDS):
        return {}
    picture = (job.images[0].width, job.images[0].height)
    sides = margins(picture, job.size or picture, "provider_options with one of " + ", ".join(EXPANDS))
    return {side: pixels for side, pixels in zip(EXPANDS, sides, strict=True) if pixels}


def pictures(job: Job, tool: Tool) -> dict[str, Any]:
    if not job.images:
        return {}
    if tool.path == "generations":
        return {"style_reference_urls": [data_url(image) for image in job.images]}
    mask = {"mask_url": data_url(job.mask)} if job.mask else {}
    return {"image_url": data_url(job.images[0]), **mask}


def styled(job: Job) -> dict[str, Any]:
    """A style by its name or, where somebody made it, by its id. DALL·E's two words are none."""
    style = None if job.style in DALL_E else job.style
    if job.model.startswith("recraftv4_styles") and not (style or job.images or job.options.get("style_id")):
        text = f"The model {job.model} needs a style: 'style' (a name or an id), or pictures that show it."
        raise Fault("invalid", text, code="missing_required_parameter", param="style")
    if job.model == "explore-similar" and not job.options.get("source_image_id"):
        text = "'explore-similar' needs provider_options.source_image_id: the image_id of an earlier draft."
        raise Fault("invalid", text, code="missing_required_parameter", param="provider_options.source_image_id")
    if not style:
        return {}
    return {"style_id" if UUID.fullmatch(style) else "style": style}


def strength(job: Job) -> float:
    return {"high": CLOSE, "low": FAR}.get(job.fidelity or "", USUAL)


# ---- what comes back


class Made(msgspec.Struct, frozen=True):
    """A picture. What only describes it must not cost it: it is `Any`."""

    b64_json: Blob | None = None
    url: str | None = None
    image_id: Any = None
    revised_prompt: Any = None
    features: Any = None


class Answer(msgspec.Struct, frozen=True):
    """`data` of what was painted, `image` of what was processed."""

    data: tuple[Made, ...] | None = None
    image: Made | None = None
    credits: Any = None


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    made = answer.data or ((answer.image,) if answer.image else ())
    outputs = tuple(output for each in made if (output := pictured(each)))
    if not outputs:
        raise nothing()
    short = Fault("empty", f"The provider made {len(outputs)} of {job.n} pictures.", code="no_image")
    return Done(outputs=outputs, usage=Usage(cost_usd=cost(answer.credits)), faults=(short,) * (job.n - len(outputs)))


def pictured(made: Made) -> Output | None:
    if made.b64_json is None and not made.url:
        return None
    prompt = made.revised_prompt
    return Output(
        blob=made.b64_json,
        url=made.url if made.b64_json is None else None,
        revised_prompt=prompt if isinstance(prompt, str) and prompt else None,
        extra={name: value for name in ("image_id", "features") if (value := getattr(made, name)) is not None},
    )


def cost(credits: object) -> float | None:
    """A thousand units are a dollar."""
    return round(credits / 1000, 6) if isinstance(credits, int | float) else None


class Problem(msgspec.Struct, frozen=True):
    message: Any = None
    code: Any = None
    error: Any = None


MODERATED = re.compile(r"moderat|nsfw|safety|prohibited", re.IGNORECASE)
UNPAID = re.compile(r"credit|\bunits?\b", re.IGNORECASE)


def check(reply: Reply) -> None:
    """No list of codes is published: the status decides, and of a refusal the words."""
    if reply.status < 400:
        return
    problem = told(reply)
    texts = [text for text in (problem.message, problem.code, problem.error) if isinstance(text, str) and text]
    message = texts[0] if texts else unread(reply)
    code = problem.code if isinstance(problem.code, str) and problem.code else None
    if reply.status in {400, 403, 422}:
        words = " ".join([*texts, message])
        if MODERATED.search(words):
            raise Fault("policy", message, code="moderation_blocked")
        if UNPAID.search(words):
            raise Fault("quota", message, code=code)
    by_status(reply, message, code=code)


def told(reply: Reply) -> Problem:
    """A body of JSON; the others are plain text."""
    try:
        return reply.read(Problem)
    except Fault:
        return Problem()
