"""Which length, and which size, that a model can make is nearest to the one wished for. Pure arithmetic."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from proxy import sizes
from proxy.sizes import Choice, Wish
from translators.base import Size
from translators.video import VideoCaps

_LINES = re.compile(r"([1-9][0-9]{2,3})p?")
WORDS = {
    "sd": 480, "hd": 720, "1k": 720, "fhd": 1080, "2k": 1440, "qhd": 1440, "4k": 2160, "uhd": 2160, "8k": 4320,
}  # fmt: skip
"""1K, 2K and 4K as of pictures: by about as many pixels."""


@lru_cache(maxsize=4096)
def lines(text: str) -> int | None:
    """The shorter edge of a video of that resolution: `720p`, `768P`, `1080`, `hd`, `4K`."""
    text = text.casefold()
    found = _LINES.fullmatch(text)
    return int(found[1]) if found else WORDS.get(text)


def nearest_length(wanted: int, lengths: Iterable[int]) -> int:
    """That of `lengths` nearest to so many seconds; of two, the longer one."""
    return min(lengths, key=lambda length: (abs(length - wanted), -length))


def choose(wish: Wish, caps: VideoCaps) -> Choice:
    """What to ask of the model: the nearest shape first, then the nearest number of pixels. A ratio or a resolution
    that is named wins over the size."""
    if wish == sizes.NO_WISH:
        return sizes.NOTHING
    if caps.sizes:
        wanted = size_of(wish, caps.sizes[0])
        return Choice(size=wanted if wanted in caps.sizes else sizes.nearest_size(wanted, caps.sizes))
    shape = shape_of(wish)
    ratio = wish.ratio if wish.ratio in caps.ratios else sizes.nearest_ratio(shape, caps.ratios) if shape else None
    return Choice(ratio=ratio, resolution=nearest_resolution(wish, ratio, caps))


def shape_of(wish: Wish) -> float | None:
    """Width over height, where the wish says it."""
    if wish.ratio:
        return sizes.parse_ratio(wish.ratio)
    return wish.size[0] / wish.size[1] if wish.size else None


def size_of(wish: Wish, usual: Size) -> Size:
    """A wish in pixels; what it does not say is as of the `usual` size."""
    if wish.size and not wish.ratio and not wish.resolution:
        return wish.size
    shape = shape_of(wish) or usual[0] / usual[1]
    short = (lines(wish.resolution) if wish.resolution else None) or min(wish.size or usual)
    return scaled(shape, short)


def scaled(shape: float, short: int) -> Size:
    """A size of that shape whose shorter edge is `short`; even, as codecs want it."""
    long = round(short * max(shape, 1 / shape) / 2) * 2
    return (long, short) if shape >= 1 else (short, long)


def nearest_resolution(wish: Wish, ratio: str | None, caps: VideoCaps) -> str | None:
    """By its name where it is wished for, else by the pixels that it leads to; of two as near, the larger."""
    if not caps.resolutions or not (wish.resolution or wish.size):
        return None
    named = wish.resolution or ""
    for name in caps.resolutions:
        if name.casefold() == named.casefold():
            return name
    short = lines(named) if named else None

    def distance(name: str) -> float:
        made = caps.pixels_of.get(f"{ratio}@{name}")
        if short or wish.size is None or made is None:
            wanted = short or min(wish.size or (1, 1))
            return sizes.off(lines(name) or min(made or (1, 1)), wanted)
        return sizes.off(sizes.edge_of(made), sizes.edge_of(wish.size))

    return min(reversed(caps.resolutions), key=distance)


def pixels_of(choice: Choice, caps: VideoCaps) -> Size | None:
    """The pixels that a choice leads to, where that is known."""
    if choice.size or not choice.ratio:
        return choice.size
    return caps.pixels_of.get(f"{choice.ratio}@{choice.resolution}" if choice.resolution else choice.ratio)
