"""The demo's painter: from prompt and seed to shapes and colours, and from these to brush strokes on a canvas."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator
from hashlib import shake_256
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from translators.base import Job, Size

if TYPE_CHECKING:
    from PIL.Image import Image

RGB: TypeAlias = tuple[int, int, int]
RIDGES = {"low": 3, "medium": 4, "high": 6}  # by `complexity`
POINTS = 32  # of a ridge's outline


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be painted, in parts of the canvas' width and height."""

    key: str
    colors: tuple[RGB, ...]  # zenith, sky, horizon, accent, ground
    sun: tuple[float, float, float]  # x, y, radius
    ridges: tuple[tuple[float, ...], ...]  # outlines from left to right, the farthest first


def numbers(key: str) -> Iterator[float]:
    """Numbers from 0 to 1 without end, which the key alone decides: the same on every machine and version."""
    for block in count():
        data = shake_256(f"{block} {key}".encode()).digest(4096)
        for at in range(0, 4096, 2):
            yield int.from_bytes(data[at : at + 2], "big") / 65536


def scene(job: Job, seed: int) -> Scene:
    key = f"{seed} {job.negative_prompt or ''} {job.prompt}"
    draw = numbers(key)
    sun = (0.15 + 0.7 * next(draw), 0.16 + 0.26 * next(draw), 0.05 + 0.09 * next(draw))
    layers = RIDGES[job.complexity or "medium"]
    ridges = tuple(ridge(draw, 0.48 + 0.42 * layer / (layers - 1), 0.11) for layer in range(layers))
    return Scene(key=key, colors=palette(job, draw), sun=sun, ridges=ridges)


def ridge(draw: Iterator[float], height: float, swing: float) -> tuple[float, ...]:
    """One outline: three waves of random length on top of each other."""
    waves = [(1.3 * 2**octave + 2 * next(draw), math.tau * next(draw), swing / 2**octave) for octave in range(3)]
    return tuple(
        height + sum(size * math.sin(turns * math.pi * x / POINTS + phase) for turns, phase, size in waves)
        for x in range(POINTS + 1)
    )


def palette(job: Job, draw: Iterator[float]) -> tuple[RGB, ...]:
    """Five colours about one hue and its opposite; colours that the prompt names come first."""
    from PIL import ImageColor

    saturation = 0.42 if job.style == "natural" else 0.68
    if job.guidance is not None:
        saturation = min(max(job.guidance / 12, 0.15), 0.95)
    hue, turn = next(draw), 0.04 + 0.1 * next(draw)
    tones = [(hue, 0.40), (hue + turn, 0.62), (hue + 2 * turn, 0.80), (hue + 0.5, 0.66), (hue - turn, 0.20)]
    colors = [tone(hue, light, saturation) for hue, light in tones]
    words = [word.strip(".,;:!?\"'()") for word in job.prompt.lower().split()]
    named = [ImageColor.getrgb(word)[:3] for word in words if word in ImageColor.colormap]
    for place, color in zip((1, 3, 4, 2), dict.fromkeys(named), strict=False):
        colors[place] = (color[0], color[1], color[2])
    return tuple(colors)


def tone(hue: float, light: float, saturation: float) -> RGB:
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, light, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def mixed(one: RGB, other: RGB, part: float) -> RGB:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def landscape(plan: Scene, size: Size) -> Image:
    """Sky, sun and ridges."""
    from PIL import Image, ImageDraw

    zenith, sky, horizon, accent, ground = plan.colors
    draw = numbers(f"sky {plan.key}")
    rows = (zenith, sky, horizon, mixed(horizon, accent, 0.4))
    mesh = Image.new("RGB", (4, 4))
    mesh.putdata([mixed(row, accent, 0.3 * next(draw)) for row in rows for _ in range(4)])
    image = mesh.resize(size, Image.Resampling.BICUBIC)
    width, height = size
    x, y, radius = plan.sun[0] * width, plan.sun[1] * height, plan.sun[2] * min(size)
    light = mixed(accent, (255, 255, 255), 0.6)
    glow = Image.radial_gradient("L").point([max(0, 150 - level) for level in range(256)])
    reach = max(round(radius * 4), 1)
    image.paste(light, (round(x) - reach, round(y) - reach), glow.resize((2 * reach, 2 * reach)))
    brush = ImageDraw.Draw(image, "RGBA")
    brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*light, 235))
    for layer, outline in enumerate(plan.ridges):
        part = (layer + 0.6) / len(plan.ridges)
        points = [(at * width / POINTS, level * height) for at, level in enumerate(outline)]
        color = mixed(mixed(horizon, sky, part), ground, part)
        brush.polygon([*points, (width, height), (0, height)], fill=(*color, 225))
        brush.line(points, fill=(*mixed(color, light, 0.35), 160), width=max(2, width // 200))
    return image


def tinted(image: Image, plan: Scene) -> Image:
    """A given picture in the prompt's light."""
    from PIL import Image

    zenith, sky, horizon, accent, _ = plan.colors
    mesh = Image.new("RGB", (2, 2))
    mesh.putdata([zenith, accent, sky, horizon])
    return Image.blend(image, mesh.resize(image.size, Image.Resampling.BICUBIC), 0.3)


def brushed(image: Image, key: str, total: int, stages: int) -> Iterator[Image]:
    """Strokes in the colours that lie under them, along one flow; the canvas at each stage and at the end."""
    from PIL import ImageDraw

    draw = numbers(f"strokes {key}")
    width, height = image.size
    under = image.tobytes()
    brush = ImageDraw.Draw(image, "RGBA")
    waves = (2 + 4 * next(draw), 2 + 4 * next(draw), math.tau * next(draw))
    done = 0
    for stage in range(1, stages + 2):
        while done < total * stage // (stages + 1):
            x, y, fineness = next(draw), next(draw), 1.5 - done / total
            at = 3 * (int(y * height) * width + int(x * width))
            lift = round(64 * next(draw)) - 30
            color = (under[at] + lift, under[at + 1] + lift, under[at + 2] + lift, 50 + round(110 * next(draw)))
            length = (0.03 + 0.09 * next(draw)) * fineness
            thickness = (0.002 + 0.006 * next(draw)) * fineness
            outline = stroke(x, y, length, thickness, waves)
            brush.polygon([(u * width, v * height) for u, v in outline], fill=color)
            done += 1
        yield image.copy()


def stroke(
    x: float, y: float, length: float, thickness: float, waves: tuple[float, float, float]
) -> list[tuple[float, float]]:
    """The outline of one stroke, thin at both ends, that follows the flow from a point on."""
    one, other = [(x, y)], []
    for width in (0.7, 1.0, 1.0, 0.8, 0.5, 0.0):
        angle = 0.9 * math.sin(waves[0] * x + waves[2]) + 0.9 * math.cos(waves[1] * y)
        dx, dy = math.cos(angle), math.sin(angle)
        x, y = x + length / 6 * dx, y + length / 6 * dy
        side = thickness * width
        one.append((x - side * dy, y + side * dx))
        other.append((x + side * dy, y - side * dx))
    return one + other[::-1]
