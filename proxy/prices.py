"""What a job cost, by the price rules of its model. Pure. Unknown is `None`, never 0."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from msgspec.structs import replace

from translators.base import Caps, Op, Price, Size, Unit, Usage

MEGAPIXEL = 1024 * 1024
"""As those who bill by it count: each picture by itself, rounded up."""

OUTPUT: frozenset[Unit] = frozenset({"image", "megapixel", "token.text.out", "token.image.out", "second", "character"})


def cost(
    prices: Sequence[Price],
    op: Op,
    outputs: Sequence[Size],
    quality: str | None = None,
    usage: Usage | None = None,
    images_in: Sequence[Size] = (),
    *,
    seconds: float | None = None,
    characters: int | None = None,
) -> float | None:
    """US dollars for one upstream call that made `outputs` (as delivered) from `images_in`; `None` where unknown.

    `quality` is the effective one; 0 x 0 is a picture that nobody measured. What the provider itself says it charged
    wins over every rule.
    """
    usage = usage or Usage()
    if usage.cost_usd is not None:
        return usage.cost_usd
    fitting = [price for price in banded(prices) if price.op in {None, op}]
    if any(by_size(price) for price in fitting) and not all(map(math.prod, outputs)):
        return None
    covered = [any(price.unit in OUTPUT and fits(price, made, quality) for price in fitting) for made in outputs]
    if not outputs or not all(covered):
        return None
    counts: dict[Unit, float | None] = {
        "token.text.in": usage.input_text,
        "token.image.in": usage.input_image if images_in or usage.input_image is not None else 0,
        "token.text.out": usage.output_text,
        "token.image.out": usage.output_image,
        "second": seconds,
        "character": characters,
    }
    total = 0.0
    for price in fitting:
        amount = units(price, outputs, quality, images_in, counts)
        if amount is None or (amount and price.currency != "USD"):
            return None
        total += amount * price.amount / price.per
    return round(total, 9)  # cents of a token, not of a float


def units(
    price: Price,
    outputs: Sequence[Size],
    quality: str | None,
    images_in: Sequence[Size],
    counts: dict[Unit, float | None],
) -> float | None:
    """How many units of this rule were used; `None` where nobody counted."""
    if price.unit in BY_PICTURE:
        measure = BY_PICTURE[price.unit]
        return sum(max(measure(made) - price.free, 0) for made in outputs if fits(price, made, quality))
    if not any(fits(price, made, quality) for made in outputs):
        return 0
    if price.unit in BY_INPUT:
        return max(sum(map(BY_INPUT[price.unit], images_in)) - price.free, 0)
    count = counts[price.unit]
    return None if count is None else max(count - price.free, 0)


def by_size(price: Price) -> bool:
    """Whether it has to be known how large the picture is."""
    return price.unit == "megapixel" or price.size is not None or price.pixels != (0, 0)


def fits(price: Price, made: Size, quality: str | None) -> bool:
    """Whether the rule is for a picture of this size and quality."""
    width, height = made
    low, high = price.pixels
    return (
        price.quality in {None, quality}
        and price.size in {None, f"{width}x{height}"}
        and (not low or width * height > low)
        and (not high or width * height <= high)
    )


def settled(caps: Caps, usd_per_cny: float | None) -> tuple[Price, ...]:
    """A model's rules in US dollars where there is a rate, and with `resolution` told by the delivered pixels."""
    dollars = (
        replace(price, amount=price.amount * usd_per_cny, currency="USD")
        if price.currency == "CNY" and usd_per_cny is not None
        else price
        for price in caps.prices
    )
    return banded(tuple(dollars), caps.resolutions, caps.pixels_of)


def banded(
    prices: Sequence[Price], resolutions: Sequence[str] = (), pixels_of: Mapping[str, Size] | None = None
) -> tuple[Price, ...]:
    """The rules, those for a resolution bound to the pixels nearer to it than to the next one.

    A picture of "2K" has 2048 x 2048 pixels or, in another ratio, about as many; what was asked for does not matter.
    """
    if not any(price.resolution and price.pixels == (0, 0) for price in prices):
        return tuple(prices)
    named = {name.casefold(): name for name in (*resolutions, *(price.resolution or "" for price in prices)) if name}
    areas = {name: area for name in named if (area := area_of(name, pixels_of or {}))}
    ladder = sorted(areas, key=lambda name: areas[name])
    edges = [0, *(math.isqrt(areas[low][1] * areas[high][0]) for low, high in pairwise(ladder)), 0]
    bands = {name: (edges[index], edges[index + 1]) for index, name in enumerate(ladder)}
    return tuple(
        replace(price, pixels=bands.get(price.resolution.casefold(), NOWHERE))
        if price.resolution and price.pixels == (0, 0)
        else price
        for price in prices
    )


NOWHERE = (1 << 62, 0)
"""No picture is so large: a rule for a resolution that nobody can measure fits none."""


def area_of(resolution: str, pixels_of: Mapping[str, Size]) -> tuple[int, int] | None:
    """The least and the most pixels of a picture of that resolution: as documented, else by its name: 512, 2K, 1 MP."""
    known = [w * h for name, (w, h) in pixels_of.items() if name.rpartition("@")[2].casefold() == resolution]
    if known:
        return min(known), max(known)
    match = re.match(r"(\d+(?:\.\d+)?)\s*(mp|k)?", resolution)
    if not match:
        return None
    number = float(match[1])
    area = round(number * 1_000_000 if match[2] == "mp" else (number * (1024 if match[2] else 1)) ** 2)
    return area, area


def megapixels(size: Size) -> int:
    """At least one."""
    return max(math.ceil(size[0] * size[1] / MEGAPIXEL), 1)


def one(_: Size) -> int:
    """Whatever its size."""
    return 1


BY_PICTURE: dict[Unit, Callable[[Size], int]] = {"image": one, "megapixel": megapixels}
BY_INPUT: dict[Unit, Callable[[Size], int]] = {"input_image": one, "input_megapixel": megapixels}
