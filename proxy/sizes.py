"""Which size that a model can make is nearest to the one wished for. Pure arithmetic over `Caps`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from translators.base import Caps, Free, Size

CLOSE = 0.03
"""Two ratios that differ by no more than this look the same."""
SQUARE: Size = (1024, 1024)
"""What is asked for where a model must be told a size and the client told none."""
TIER = 1.4
"""How much longer than its nominal edge a resolution still counts: 1792x1024 is 1K, and 3840x2160 is 4K."""

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_RATIO = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?):([0-9]{1,4}(?:\.[0-9]{1,3})?)")
_RESOLUTION = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?) ?(k|mp|p|sq)?", re.IGNORECASE)


class Wish(msgspec.Struct, frozen=True):
    """What the client said of the size; each member is legible, none is "auto"."""

    size: Size | None = None
    ratio: str | None = None
    resolution: str | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask of the model: a size, or a ratio and a resolution in its own spelling, or nothing."""

    size: Size | None = None
    ratio: str | None = None
    resolution: str | None = None


NO_WISH = Wish()
NOTHING = Choice()


@lru_cache(maxsize=4096)
def parse_size(text: str) -> Size | None:
    """`1536x1024` as width and height."""
    found = _SIZE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None


@lru_cache(maxsize=4096)
def parse_ratio(text: str) -> float | None:
    """`16:9` or `2.35:1` as width over height."""
    if not (found := _RATIO.fullmatch(text)):
        return None
    width, height = float(found[1]), float(found[2])
    return width / height if width and height else None


@lru_cache(maxsize=4096)
def parse_resolution(text: str) -> float | None:
    """The edge of a square of that resolution: 1K is 1024, 768 and 768sq are 768, 1 MP is 1024."""
    if not (found := _RESOLUTION.fullmatch(text)):
        return None
    number, unit = float(found[1]), (found[2] or "").lower()
    edge = {"k": number * 1024, "mp": math.sqrt(number) * 1024}.get(unit, number)
    return edge or None


def off(one: float, other: float) -> float:
    """By how much two ratios differ: 0 where they are the same."""
    return max(one / other, other / one) - 1


def shown(size: Size) -> str:
    """`1536x1024`."""
    return f"{size[0]}x{size[1]}"


def edge_of(size: Size) -> float:
    """The edge of the square with as many pixels."""
    return math.sqrt(size[0] * size[1])


def is_legal(size: Size, free: Free) -> bool:
    """Whether `size` is within every bound."""
    width, height = size
    short, long = min(size), max(size)
    pixels = width * height
    return (
        width % free.step == 0
        and height % free.step == 0
        and free.pixels[0] <= pixels
        and short >= max(free.edge[0], 1)
        and not (free.pixels[1] and pixels > free.pixels[1])
        and not (free.edge[1] and long > free.edge[1])
        and not (free.ratio and long > short * free.ratio)
    )


@lru_cache(maxsize=4096)
def fit(size: Size, free: Free) -> Size | None:
    """The legal size nearest to `size`, its ratio kept as far as the bounds let it; `None` where there is none near."""
    if is_legal(size, free):
        return size
    width, height = _inside(size, free)
    for reach in (1, 4, 16):
        near = [
            candidate
            for w in _multiples(width, free.step, reach)
            for h in _multiples(height, free.step, reach)
            if is_legal(candidate := (w, h), free)
        ]
        if near:
            return min(near, key=lambda candidate: _distance(candidate, width, height))
    return None


def _inside(size: Size, free: Free) -> tuple[float, float]:
    """`size` scaled into every bound but the step. The ratio gives way first, where no scale could satisfy it."""
    least, most = max(free.edge[0], 1), free.edge[1] or math.inf
    low, high = free.pixels[0], free.pixels[1] or math.inf
    ratio = max(size) / min(size)
    ratio = min(ratio, free.ratio or math.inf, most / least, high / least**2, most**2 / low if low else math.inf)
    ratio = max(ratio, 1)
    area = max(size[0] * size[1], low, least**2 * ratio)
    area = min(area, high, most**2 / ratio)
    long, short = math.sqrt(area * ratio), math.sqrt(area / ratio)
    return (long, short) if size[0] >= size[1] else (short, long)


def _multiples(edge: float, step: int, reach: int) -> range:
    below = math.floor(edge / step)
    return range(max(below - reach + 1, 1) * step, (below + reach + 1) * step, step)


def _distance(size: Size, width: float, height: float) -> float:
    edges = off(size[0], width) + off(size[1], height)
    return edges + off(size[0] / size[1], width / height)


def nearest_size(size: Size, sizes: Iterable[Size]) -> Size:
    """That of `sizes` whose shape fits best; of several that do, the one with the nearest number of pixels."""

    def distance(candidate: Size) -> tuple[float, float, float]:
        shape = off(candidate[0] / candidate[1], size[0] / size[1])
        return (shape if shape > CLOSE else 0), off(edge_of(candidate), edge_of(size)), shape

    return min(sizes, key=distance)


@lru_cache(maxsize=4096)
def nearest_ratio(ratio: float, ratios: tuple[str, ...]) -> str | None:
    """That of `ratios` nearest to width over height; `None` where none of them is one, as `auto` is not."""
    known = [(off(value, ratio), name) for name in ratios if (value := parse_ratio(name))]
    return min(known, key=lambda pair: pair[0])[1] if known else None


@lru_cache(maxsize=4096)
def nearest_resolution(edge: float, resolutions: tuple[str, ...], square: bool) -> str | None:
    """The smallest resolution that does not shrink a picture with that edge by much, else the largest."""
    known = [
        (value, name)
        for name in resolutions
        if (value := parse_resolution(name)) and (square or not name.endswith("sq"))
    ]
    for value, name in known:
        if value * TIER >= edge:
            return name
    return known[-1][1] if known else None


def choose(wish: Wish, caps: Caps) -> Choice:
    """What to ask of a model with those `caps` for that wish."""
    if wish == NO_WISH:
        return NOTHING if caps.auto_size else _default(caps)
    pixels = bool(caps.sizes) or caps.free is not None
    if pixels and (wish.size or not _has_words(wish, caps)):
        return Choice(size=_pixels(wish.size or _size_of(wish), caps))
    return _in_words(wish, caps)


def _default(caps: Caps) -> Choice:
    if caps.sizes or caps.free is not None:
        return Choice(size=_pixels(SQUARE, caps))
    return Choice(ratio=nearest_ratio(1, caps.ratios), resolution=_match("1K", caps.resolutions))


def _has_words(wish: Wish, caps: Caps) -> bool:
    """Whether the model itself understands a ratio and a resolution, where they are wished for."""
    return (not wish.ratio or bool(caps.ratios)) and (not wish.resolution or bool(caps.resolutions))


def _pixels(size: Size, caps: Caps) -> Size | None:
    if caps.free is not None:
        return fit(size, caps.free)
    return size if size in caps.sizes else nearest_size(size, caps.sizes)


def _size_of(wish: Wish) -> Size:
    """A ratio and a resolution in pixels: 1K is about a megapixel, whatever the shape."""
    ratio = (parse_ratio(wish.ratio) if wish.ratio else None) or 1
    edge = (parse_resolution(wish.resolution) if wish.resolution else None) or SQUARE[0]
    return max(round(edge * math.sqrt(ratio)), 1), max(round(edge / math.sqrt(ratio)), 1)


def _in_words(wish: Wish, caps: Caps) -> Choice:
    if wish.size:
        ratio: float | None = wish.size[0] / wish.size[1]
        name = nearest_ratio(wish.size[0] / wish.size[1], caps.ratios)
        square = wish.size[0] == wish.size[1]
        return Choice(ratio=name, resolution=nearest_resolution(edge_of(wish.size), caps.resolutions, square))
    ratio = parse_ratio(wish.ratio) if wish.ratio else None
    if wish.ratio in caps.ratios:
        name = wish.ratio
    elif ratio is not None or not caps.auto_size:
        name = nearest_ratio(ratio or 1, caps.ratios)
    else:
        name = None
    square = ratio is None or ratio == 1
    return Choice(ratio=name, resolution=_match(wish.resolution, caps.resolutions, square) if wish.resolution else None)


def _match(resolution: str, known: tuple[str, ...], square: bool = True) -> str | None:
    """`2K` in the model's spelling, or the nearest that it has."""
    for name in known:
        if name.casefold() == resolution.casefold():
            return name
    edge = parse_resolution(resolution)
    return nearest_resolution(edge, known, square) if edge else None


def pixels_of(choice: Choice, caps: Caps) -> Size | None:
    """The pixels that a choice leads to, where that is known."""
    if choice.size or not choice.ratio:
        return choice.size
    key = f"{choice.ratio}@{choice.resolution}" if choice.resolution else choice.ratio
    return caps.pixels_of.get(key)


def ratio_of(choice: Choice) -> float | None:
    """The shape that a choice asks for, where it asks for one."""
    if choice.size:
        return choice.size[0] / choice.size[1]
    return parse_ratio(choice.ratio) if choice.ratio else None
