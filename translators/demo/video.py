"""The built-in provider's videos: a day breaks over the landscape that prompt and seed paint, without key or wire.

The sun rises from behind the ridges, birds cross the sky, and a dial in the corner goes round once in four seconds, so
that a player can be seen to play. A given first frame stands instead of the landscape. It is silent. A remix keeps the
shapes of the earlier video and takes the new prompt's colours; an extension is all of the earlier one, and goes on in
the new prompt's colours. "refuse me" in a prompt is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec.structs import replace

from translators.base import Call, Done, Fault, Media, Output, Price, Reply, Size, Usage, blob
from translators.demo import flat, opened, signature
from translators.demo.h264 import Box, key, over, padded, parameters
from translators.demo.mp4 import mp4
from translators.demo.painter import POINTS, RGB, Scene, landscape, mixed, numbers, scene
from translators.video import VideoCaps, VideoJob

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["VIDEOS", "cancel", "start", "step"]

FPS = 10
LONGEST = 24  # seconds, of an extended one
PIXELS_OF: Mapping[str, Size] = {
    "16:9@360p": (640, 360), "9:16@360p": (360, 640), "1:1@360p": (480, 480),
    "16:9@720p": (1280, 720), "9:16@720p": (720, 1280), "1:1@720p": (960, 960),
}  # fmt: skip

VIDEOS: Mapping[str, VideoCaps] = {
    "animation": VideoCaps(
        tasks=frozenset({"create", "remix", "extend"}),
        seconds=(1, 2, 4, 8),
        usual_seconds=4,
        extra_seconds=(1, 2, 4, 8),
        clip_inputs="none",
        sizes=((1280, 720), (720, 1280), (1792, 1024), (1024, 1792), (960, 960), (640, 360), (360, 640), (480, 480)),
        ratios=("16:9", "9:16", "1:1"),
        resolutions=("360p", "720p"),
        usual_resolution="720p",
        pixels_of=PIXELS_OF,
        first=True,
        prompt_chars=4_000,
        params=frozenset({"seed", "negative_prompt", "user"}),
        prices=(Price(unit="second", amount=0),),
        note="Animates an abstract landscape offline; the prompt's colours and words steer it. Silent, free of charge.",
    )
}

TURN = 4  # seconds in which the dial goes round
RISE = 4.0  # … in which the sun gets two thirds of its way up
PHASES = 8  # of a bird's wings
FLAPS = 1.6  # a second
Placed: TypeAlias = tuple["Sprite", int, int]  # with its left and top


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """All that a video is made of, so that it can be made again with something else."""

    shapes: VideoJob  # whose words shape the landscape
    parts: tuple[tuple[VideoJob, int], ...]  # whose words colour it, and for how many seconds
    seed: int
    size: Size
    frame: Media | None = None  # that stands instead


class Sprite(msgspec.Struct, frozen=True, eq=False):
    """A shape in one colour."""

    color: RGB
    mask: Image  # L
    behind: bool = False  # seen in the sky alone


class Bird(msgspec.Struct, frozen=True):
    """One bird's way, in parts of the canvas' width and height."""

    start: float  # where it is at first: out of sight
    height: float
    speed: float  # widths a second
    phase: float


class Stage(msgspec.Struct, frozen=True, eq=False):
    """What stays while the rest moves, and the shapes that move."""

    back: Image
    plan: Scene
    sky: Image | None  # white where the sun is seen; none: there is no sun
    sun: Sprite
    birds: tuple[Bird, ...]
    wings: tuple[Sprite, ...]  # one for each phase
    dial: RGB


def start(job: VideoJob) -> Done:
    if "refuse me" in job.prompt.lower():
        raise Fault("policy", "The demo refuses prompts that say so.", code="moderation_blocked")
    script = scripted(job)
    frames: list[bytes] = []
    keys = [FPS * at for at in accumulate((seconds for _, seconds in script.parts[:-1]), initial=0)]
    for number, (part, seconds) in enumerate(script.parts):
        frames += filmed(staged(script, part), number, range(len(frames), len(frames) + FPS * seconds))
    total = len(frames) // FPS
    data = mp4(script.size, FPS, parameters(script.size, FPS), frames, keys)
    extra = {"seed": script.seed, "seconds": total, "origin": remembered(script)}
    return Done(outputs=(Output(blob=blob(data), extra=extra),), usage=Usage(cost_usd=0.0))


def step(job: VideoJob, reply: Reply) -> Done:
    return start(job)


def cancel(job: VideoJob, waiting: Call) -> Call | None:
    """It never waits."""
    return None


# ---- what is to be made


class Memory(msgspec.Struct, frozen=True):
    """A script as the origin of later ones: words alone."""

    shapes: tuple[str, str | None]  # a prompt, and what it is not to show
    parts: tuple[tuple[str, str | None, int], ...]
    seed: int
    size: Size
    framed: bool


def scripted(job: VideoJob) -> Script:
    seconds = job.seconds or VIDEOS["animation"].usual_seconds
    if job.task == "create":
        return Script(shapes=job, parts=((job, seconds),), seed=job.seed or 0, size=measure(job), frame=job.first)
    memory = recalled(job)
    earlier = again(memory, job.model)
    if job.task == "remix":
        lasts = job.seconds or sum(seconds for _, seconds in earlier.parts)
        return replace(earlier, parts=((job, lasts),), size=job.size or earlier.size)
    if memory.framed:
        text = "This video was made from a picture, which is not kept; the demo extends what it has painted itself."
        raise Fault("invalid", text, code="invalid_value", param="video")
    parts = (*earlier.parts, (job, seconds))
    if sum(seconds for _, seconds in parts) > LONGEST:
        text = f"The demo extends a video to {LONGEST} seconds at most; this one would have more."
        raise Fault("invalid", text, code="invalid_value", param="seconds")
    return replace(earlier, parts=parts)


def measure(job: VideoJob) -> Size:
    """As asked; else of the first frame's ratio."""
    if job.size:
        return job.size
    upright = job.first is not None and job.first.height > job.first.width
    return PIXELS_OF[f"{job.ratio or ('9:16' if upright else '16:9')}@{job.resolution or '720p'}"]


def remembered(script: Script) -> Mapping[str, str]:
    parts = tuple((part.prompt, part.negative_prompt, seconds) for part, seconds in script.parts)
    shapes = (script.shapes.prompt, script.shapes.negative_prompt)
    made = Memory(shapes, parts, script.seed, script.size, framed=script.frame is not None)
    return {"prompts": msgspec.json.encode(made).decode()}


def recalled(job: VideoJob) -> Memory:
    """What the earlier video was made of. Raises `Fault("invalid")` where it is none of the demo's."""
    try:
        return msgspec.json.decode(job.origin.get("prompts", ""), type=Memory)
    except msgspec.DecodeError as error:
        text = "The demo works only on videos that it has made itself."
        raise Fault("invalid", text, code="invalid_value", param="video") from error


def again(memory: Memory, model: str) -> Script:
    """Its script, without the picture that it may have begun with."""

    def words(prompt: str, negative: str | None) -> VideoJob:
        return VideoJob(op="video", model=model, prompt=prompt, negative_prompt=negative)

    parts = tuple((words(prompt, negative), seconds) for prompt, negative, seconds in memory.parts)
    return Script(shapes=words(*memory.shapes), parts=parts, seed=memory.seed, size=memory.size)


# ---- what stays


def staged(script: Script, part: VideoJob) -> Stage:
    """One part's landscape and moving shapes."""
    plan = replace(scene(script.shapes, script.seed), colors=scene(part, script.seed).colors)
    canvas = padded(script.size)
    back = framed(script.frame, script.size) if script.frame else landscape(replace(plan, sun=(-9, -9, 0)), canvas)
    shown = back.crop((0, 0, *script.size))
    signature(shown, part.prompt)
    back.paste(shown)
    draw = numbers(f"birds {plan.key}")
    birds = tuple(
        Bird(-0.04 - 0.12 * next(draw), 0.1 + 0.35 * next(draw), 0.09 + 0.09 * next(draw), PHASES * next(draw))
        for _ in range(3 + int(3 * next(draw)))
    )
    *_, accent, ground = plan.colors
    span = max(min(script.size) // 22, 12)
    wings = tuple(Sprite(mixed(ground, (0, 0, 0), 0.4), winged(span, phase)) for phase in range(PHASES))
    radius = round(min(plan.sun[2], 0.075) * min(script.size))
    sun = Sprite(mixed(accent, (255, 255, 255), 0.6), disc(2 * radius, 360), behind=True)
    sky = None if script.frame else above(plan, canvas)
    return Stage(back=back, plan=plan, sky=sky, sun=sun, birds=birds, wings=wings, dial=mixed(accent, ground, 0.3))


def framed(picture: Media, size: Size) -> Image:
    """The given picture, of whole macroblocks: its last row and column fill up what is not shown."""
    from PIL import Image, ImageOps

    shown = ImageOps.fit(flat(opened(picture, "input_reference")), size, Image.Resampling.LANCZOS)
    made = shown.resize(padded(size))
    made.paste(shown)
    return made


def above(plan: Scene, size: Size) -> Image:
    """White where no ridge is."""
    from PIL import Image, ImageDraw

    sky = Image.new("L", size, 255)
    brush = ImageDraw.Draw(sky)
    for outline in plan.ridges:
        points = [(at * size[0] / POINTS, level * size[1]) for at, level in enumerate(outline)]
        brush.polygon([*points, (size[0], size[1]), (0, size[1])], fill=0)
        brush.line(points, fill=0, width=max(2, size[0] // 200))
    return sky


def disc(edge: int, angle: float) -> Image:
    """A round of which `angle` degrees are filled, from the top on."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (4 * edge, 4 * edge))
    ImageDraw.Draw(mask).pieslice((0, 0, 4 * edge - 1, 4 * edge - 1), -90, angle - 90, fill=255)
    return mask.reduce(4)


def winged(span: int, phase: int) -> Image:
    """A bird from afar: two wings, up or down."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (4 * span, 4 * span))
    wide, lift = 4 * span, 1.1 * span * math.sin(math.tau * phase / PHASES)
    middle = wide / 2
    points = [(0, middle - lift), (wide / 4, middle - lift * 0.9 - span / 3), (middle, middle),
              (wide * 3 / 4, middle - lift * 0.9 - span / 3), (wide, middle - lift)]  # fmt: skip
    ImageDraw.Draw(mask).line(points, fill=255, width=max(span // 3, 5), joint="curve")
    return mask.reduce(4)


# ---- what moves


def filmed(stage: Stage, number: int, frames: range) -> Iterator[bytes]:
    """The frames of one part: its first one by itself, the others over it."""
    first, gone = composed(stage, frames[0])
    yield key(first, number)
    for order, frame in enumerate(frames[1:], 1):
        image, boxes = composed(stage, frame)
        yield over(image, [*gone, *boxes], order)


def composed(stage: Stage, frame: int) -> tuple[Image, list[Box]]:
    """A frame, and where it is not the landscape alone."""
    from PIL import ImageChops

    image = stage.back.copy()
    boxes = []
    for sprite, left, top in placed(stage, frame / FPS):
        mask = sprite.mask
        box = (left, top, left + mask.width, top + mask.height)
        if box[2] <= 0 or box[3] <= 0 or box[0] >= image.width or box[1] >= image.height:
            continue
        if sprite.behind and stage.sky:
            mask = ImageChops.multiply(mask, stage.sky.crop(box))
            if not mask.getbbox():
                continue
        image.paste(sprite.color, box[:2], mask)
        boxes.append(box)
    return image, boxes


def placed(stage: Stage, time: float) -> Iterator[Placed]:
    """What is to be seen at that second, the farthest first."""
    width, height = stage.back.size
    if stage.sky:
        radius = stage.sun.mask.width / 2
        across = stage.plan.sun[0] + (0.012 if stage.plan.sun[0] < 0.5 else -0.012) * time
        low = horizon(stage.plan, stage.plan.sun[0]) * height + radius + 4
        high = min(stage.plan.sun[1] * height, low - 3 * radius)
        at = low - (low - high) * (1 - math.exp(-time / RISE))
        yield stage.sun, round(across * width - radius), round(at - radius)
    for bird in stage.birds:
        wings = stage.wings[int(bird.phase + time * FLAPS * PHASES) % PHASES]
        x = bird.start + bird.speed * time
        y = bird.height + 0.03 * math.sin(2 * time + bird.phase)
        yield wings, round((x + 0.3) % 1.3 * width - 0.3 * width), round(y * height)
    edge = max(min(width, height) // 24 // 16, 1) * 16
    if angle := 360 * (time % TURN) / TURN:
        yield Sprite(stage.dial, disc(edge, angle)), (width // 16 - 1) * 16 - edge, 16


def horizon(plan: Scene, x: float) -> float:
    """The lower of the heights of the ridges near there, from the top: what rises from below it is hidden at first."""
    spot = round(x * POINTS)
    return max(min(outline[at] for outline in plan.ridges) for at in range(max(spot - 2, 0), min(spot + 3, POINTS + 1)))
