"""The built-in provider: it draws without a key, a wire or a wait, so that every call can be tried offline.

Prompt and seed alone decide the picture: an abstract landscape in colours that the prompt names or brings to mind,
painted over with brush strokes, its first words in a corner so that nobody takes it for a model's work. Given
pictures are painted over; where there is a mask, only its hole. "refuse me" in a prompt is refused.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from translators.base import (
    Call,
    Caps,
    Done,
    Fault,
    Free,
    Job,
    Media,
    Output,
    Partial,
    Price,
    Provider,
    Reply,
    Secret,
    Size,
    Stamp,
    Usage,
    blob,
)
from translators.base import no_events as event
from translators.demo.painter import brushed, landscape, scene, tinted

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(title="Demo", credential="none")
EDGE = (64, 4096)
PIXELS = 16_800_000
RATIOS = ("21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16", "9:21")
RESOLUTIONS = {"1K": 1024, "2K": 2048, "4K": 4096}


def sized(ratio: float, resolution: str) -> Size:
    """About the resolution's square in pixels, in multiples of 16."""
    side = RESOLUTIONS[resolution]
    width = min(side * math.sqrt(ratio), EDGE[1], EDGE[1] * ratio)
    return max(round(width / 16), 4) * 16, max(round(width / ratio / 16), 4) * 16


def share(ratio: str) -> float:
    width, height = ratio.split(":")
    return int(width) / int(height)


MODELS: Mapping[str, Caps] = {
    "painter": Caps(
        ops=frozenset({"generate", "edit", "variation"}),
        max_n=10,
        free=Free(edge=EDGE, pixels=(0, PIXELS)),
        ratios=RATIOS,
        resolutions=tuple(RESOLUTIONS),
        pixels_of={f"{ratio}@{name}": sized(share(ratio), name) for ratio in RATIOS for name in RESOLUTIONS},
        max_images=16,
        mask="alpha",
        markup=True,
        formats=("png", "jpeg", "webp", "gif"),
        compression=True,
        qualities=("low", "medium", "high"),
        backgrounds=("transparent", "opaque"),
        streams=True,
        partials=3,
        params=frozenset({
            "style", "moderation", "fidelity", "complexity", "frame_count", "frame_duration_ms", "user",
            "safety_identifier", "negative_prompt", "seed", "steps", "guidance",
        }),
        prices=(Price(unit="image", amount=0),),
        note="Draws an abstract landscape offline; the prompt's colours and words steer it. Free of charge.",
    )
}  # fmt: skip

WORK_EDGE = {"low": 400, "medium": 720, "high": 1080}  # of the canvas that is painted on, then scaled
STROKES = {"low": 160, "medium": 420, "high": 1000}
OVER = {"high": 0.4, "low": 0.9}  # how much of a given picture the paint hides, by `input_fidelity`


class Given(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The client's pictures at the size of the answer."""

    original: Image  # RGBA
    under: Image  # RGB: what is painted over
    hole: Image | None  # white where the mask lets paint through


def base(site: Mapping[str, str]) -> str:
    return ""


def caps(model: str) -> Caps | None:
    return MODELS.get(model)


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    return call


def check(reply: Reply) -> None:
    """There is no wire, so nothing can come back from it."""


def step(job: Job, reply: Reply) -> Done:
    return start(job)


def start(job: Job) -> Done:
    if "refuse me" in job.prompt.lower():
        raise Fault("policy", "The demo refuses prompts that say so.", code="moderation_blocked")
    if job.background == "transparent" and job.format == "jpeg":
        raise Fault("invalid", "JPEG cannot be transparent: ask for png or webp, or an opaque background.",
                    param="background")  # fmt: skip
    outputs, previews, modes = [], [], set()
    for number in range(job.n):
        seed = (job.seed or 0) + number
        *early, last = painted(job, seed, stages(job) if number == 0 or job.format == "gif" else 0)
        modes.add(last.mode)
        if job.format == "gif":
            outputs.append(output(animated(job, [*early, last]), seed))
        else:
            previews += [Partial(index, output(encoded(job, image), seed)) for index, image in enumerate(early)]
            outputs.append(output(encoded(job, last), seed))
    return Done(
        outputs=tuple(outputs),
        partials=tuple(previews),
        usage=Usage(cost_usd=0.0),
        quality=job.quality or "medium",
        background="transparent" if "RGBA" in modes else "opaque",
    )


def stages(job: Job) -> int:
    """How many earlier states of the first picture are wanted: a GIF's frames, or previews."""
    if job.format == "gif":
        return (job.frame_count or 9) - 1
    return job.partials if job.stream else 0


def output(data: bytes, seed: int) -> Output:
    return Output(blob=blob(data), extra={"seed": seed})


# The canvas: from a job to images


def painted(job: Job, seed: int, states: int) -> list[Image]:
    """The picture in `states` states on the way, and finished."""
    given = received(job, seed) if job.images else None
    size = given.original.size if given else measure(job, None)
    plan = scene(job, seed)
    scale = WORK_EDGE[job.quality or "medium"] / max(size)
    work = (max(round(size[0] * scale), 16), max(round(size[1] * scale), 16))
    ground = tinted(given.under.resize(work), plan) if given and not given.hole else landscape(plan, work)
    total = job.steps * 8 if job.steps is not None else STROKES[job.quality or "medium"]
    return [finished(job, image, size, given) for image in brushed(ground, plan.key, min(total, 2000), states)]


def measure(job: Job, first: Size | None) -> Size:
    """The answer's size: as asked, else the given picture's own, within what can be painted."""
    if job.size:
        return job.size
    if job.ratio or job.resolution or first is None:
        ratio = share(job.ratio) if job.ratio else first[0] / first[1] if first else 1.0
        return sized(ratio, job.resolution or "1K")
    scale = min(1.0, EDGE[1] / max(first))
    return max(int(first[0] * scale), 1), max(int(first[1] * scale), 1)


def received(job: Job, seed: int) -> Given:
    from PIL import Image, ImageOps

    images = [opened(media) for media in job.images]
    first = images[0]
    if job.markup:
        first.alpha_composite(opened(job.markup, "markup").resize(first.size))
    size = measure(job, first.size)
    original = first if first.size == size else ImageOps.fit(first, size)
    hole = None
    if job.mask:
        alpha = opened(job.mask, "mask").getchannel("A")
        hole = ImageOps.invert(alpha if alpha.size == size else ImageOps.fit(alpha, size, Image.Resampling.NEAREST))
    under = flat(original) if len(images) == 1 else collage(images, size)
    if job.op == "variation":
        under = ImageOps.mirror(turned(under, 24 + (seed * 53) % 208))
    return Given(original=original, under=under, hole=hole)


def opened(media: Media, param: str = "image") -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(media.blob.bytes())).convert("RGBA")
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise Fault("invalid", f"A picture cannot be read: {error}", param=param) from error


def collage(images: list[Image], size: Size) -> Image:
    """All pictures in rows, each cut to its place."""
    from PIL import Image, ImageOps

    made, flats = Image.new("RGB", size), [flat(image) for image in images]
    rows = round(math.sqrt(len(images)))
    for row in range(rows):
        line = flats[len(images) * row // rows : len(images) * (row + 1) // rows]
        top, bottom = size[1] * row // rows, size[1] * (row + 1) // rows
        for column, image in enumerate(line):
            left, right = size[0] * column // len(line), size[0] * (column + 1) // len(line)
            if right > left and bottom > top:
                made.paste(ImageOps.fit(image, (right - left, bottom - top)), (left, top))
    return made


def turned(image: Image, hue: int) -> Image:
    """The same picture in other hues."""
    from PIL import Image

    hues, saturation, value = image.convert("HSV").split()
    hues = hues.point([(level + hue) % 256 for level in range(256)])
    return Image.merge("HSV", (hues, saturation, value)).convert("RGB")


def finished(job: Job, image: Image, size: Size, given: Given | None) -> Image:
    """From the work canvas to the answer: scaled, signed, cut out, and only where it may be."""
    from PIL import Image

    image = image.resize(size, Image.Resampling.BICUBIC)
    if given and not given.hole:
        image = Image.blend(given.under, image, OVER.get(job.fidelity or "", 0.65))
    if alpha := outline(job, size, given):
        image.putalpha(alpha)
    signature(image, job.prompt or job.op)
    if given and given.hole:
        image = Image.composite(image.convert("RGBA"), given.original, given.hole)
    if image.mode == "RGBA" and (job.background == "opaque" or job.format == "jpeg" or solid(image)):
        return flat(image)
    return image


def outline(job: Job, size: Size, given: Given | None) -> Image | None:
    """Where the picture is to be transparent: where it was, or all around where that is asked for."""
    from PIL import ImageChops

    round_off = vignette(size) if job.background == "transparent" else None
    if given is None or given.hole or job.op == "variation" or len(job.images) > 1 or solid(given.original):
        return round_off
    kept = given.original.getchannel("A")
    return ImageChops.multiply(kept, round_off) if round_off else kept


def solid(image: Image) -> bool:
    return image.getchannel("A").getextrema() == (255, 255)


def flat(image: Image) -> Image:
    """Without transparency, on white; what is opaque stays as it is."""
    from PIL import Image

    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return ground.convert("RGB")


def vignette(size: Size) -> Image:
    """A soft oval: what stays where the background is to be transparent."""
    from PIL import Image

    disc = Image.radial_gradient("L").point([max(0, min(255, (174 - level) * 16)) for level in range(256)])
    return disc.resize(size, Image.Resampling.BICUBIC)


def signature(image: Image, prompt: str) -> None:
    """The first words, small in a corner: evidently a demo. The font knows Latin letters only."""
    from PIL import ImageDraw, ImageFont

    latin = "".join(letter if letter.isprintable() and ord(letter) < 256 else " " for letter in prompt)
    words = "demo: " + " ".join(latin.split()[:6])[:48]
    height = max(9, min(image.size) // 40)
    draw = ImageDraw.Draw(image, "RGBA")
    place = (height, image.height - 2 * height)
    font = ImageFont.load_default(height)
    draw.text((place[0] + 1, place[1] + 1), words, fill=(0, 0, 0, 140), font=font)
    draw.text(place, words, fill=(255, 255, 255, 220), font=font)


def encoded(job: Job, image: Image) -> bytes:
    out = io.BytesIO()
    quality = 90 if job.compression is None else job.compression
    options: dict[str, Any] = {"quality": quality, "method": 0} if job.format == "webp" else {"quality": quality}
    if job.format in {"jpeg", "webp"}:
        image.save(out, job.format.upper(), **options)
    else:
        image.save(out, "PNG", compress_level=1)  # a third of the time of the default, a quarter more bytes
    return out.getvalue()


def animated(job: Job, frames: list[Image]) -> bytes:
    """A GIF of the picture coming to be."""
    out = io.BytesIO()
    first, *rest = [frame.quantize(128) if frame.mode == "RGB" else frame for frame in frames]
    first.save(out, "GIF", save_all=True, append_images=rest, duration=job.frame_duration_ms or 200, loop=0, disposal=2)
    return out.getvalue()
