"""What a call cost, and what it may cost, by the price rules of its model. Pure. Unknown is `None`, never 0."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import overload

from msgspec.structs import replace

from translators.base import Caps, Fault, Job, Op, Price, Size, Unit, Usage

MEGAPIXEL = 1024 * 1024
"""As those who bill by it count: each picture by itself, rounded up."""

OUTPUT: frozenset[Unit] = frozenset(
    {"image", "megapixel", "token.text.out", "token.image.out", "second", "video", "character", "credit"}
)


# ---- what it cost


def cost(
    prices: Sequence[Price],
    op: Op,
    outputs: Sequence[Size],
    quality: str | None = None,
    usage: Usage | None = None,
    images_in: Sequence[Size] = (),
    *,
    calls: int = 1,
    counts: Mapping[Unit, float] = {},
) -> float | None:
    """US dollars for `outputs` (as delivered), which so many upstream calls made, each from `images_in`.

    `None` where it is not known. `quality` is the effective one; 0 x 0 is a picture that nobody measured. `usage`
    and `counts` (of seconds and characters) are those of all calls. What the provider itself says it charged wins
    over every rule.
    """
    usage = usage or Usage()
    if usage.cost_usd is not None:
        return usage.cost_usd
    fitting = charged([price for price in banded(prices) if price.op in {None, op}], usage)
    if any(by_size(price) for price in fitting) and not all(map(math.prod, outputs)):
        return None
    covered = [any(price.unit in OUTPUT and fits(price, made, quality) for price in fitting) for made in outputs]
    if not outputs or not all(covered):
        return None
    used = {**counted(usage), **counts}
    if not images_in and usage.input_image is None:
        used["token.image.in"] = 0
    total = 0.0
    for price in fitting:
        made = [each for each in outputs if fits(price, each, quality)]
        amount = units(price, made, images_in, calls, used)
        if amount is None or (amount and price.currency != "USD"):
            return None
        total += amount * price.amount / price.per
    return round(total, 9)  # cents of a token, not of a float


def charged(prices: Sequence[Price], usage: Usage) -> list[Price]:
    """The rules that count: those for credits instead of all others, where it is known how many were taken."""
    by_credit = [price for price in prices if price.unit == "credit"]
    if by_credit and usage.credits is not None:
        return by_credit
    return [price for price in prices if price.unit != "credit"]


def units(
    price: Price, made: Sequence[Size], images_in: Sequence[Size], calls: int, counts: Mapping[Unit, float | None]
) -> float | None:
    """How many units of a rule were used for those pictures that it fits; `None` where nobody counted."""
    if price.unit in BY_PICTURE:
        measure = BY_PICTURE[price.unit]
        return sum(max(measure(each) - price.free, 0) for each in made)
    if not made:
        return 0
    if price.unit in BY_INPUT:
        return calls * max(sum(map(BY_INPUT[price.unit], images_in)) - price.free, 0)
    count = counts.get(price.unit)
    return None if count is None else max(count - price.free, 0)


def counted(usage: Usage) -> dict[Unit, float | None]:
    """What the provider counted, by unit."""
    return {
        "token.text.in": usage.input_text,
        "token.image.in": usage.input_image,
        "token.text.out": usage.output_text,
        "token.image.out": usage.output_image,
        "second": usage.seconds,
        "credit": usage.credits,
    }


def wasted(prices: Sequence[Price], job: Job, fault: Fault) -> float | None:
    """US dollars for what nobody got: as the fault tells, or by what was counted or lost; `None` where that is unknown.

    A lost picture was never measured: it is taken to be as it was asked for.
    """
    if fault.cost_usd is not None:
        return fault.cost_usd
    usage = fault.usage or Usage()
    if fault.lost:
        pictures = [job.size or (0, 0)] * fault.lost
        beside = fault.usage is None  # others did arrive: what was sent is paid with them
        sent = [] if beside else [(media.width, media.height) for media in job.images]
        return cost(prices, job.op, pictures, job.quality, usage, sent)
    if usage.cost_usd is not None:
        return usage.cost_usd
    counts = counted(usage)
    paid = [
        None if price.currency != "USD" else count * price.amount / price.per
        for price in charged(prices, usage)
        if price.op in {None, job.op} and (count := counts.get(price.unit))
    ]
    known = [amount for amount in paid if amount is not None]
    return round(sum(known), 9) if known and len(known) == len(paid) else None


# ---- rules


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
    return banded(in_dollars(caps.prices, usd_per_cny), caps.resolutions, caps.pixels_of)


def in_dollars(prices: Sequence[Price], usd_per_cny: float | None) -> tuple[Price, ...]:
    """The rules, those in yuan in US dollars where there is a rate."""
    return tuple(
        replace(price, amount=price.amount * usd_per_cny, currency="USD")
        if price.currency == "CNY" and usd_per_cny is not None
        else price
        for price in prices
    )


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


# ---- money as whole numbers


@overload
def micros(usd: float) -> int: ...
@overload
def micros(usd: None) -> None: ...
@overload
def micros(usd: float | None) -> int | None: ...
def micros(usd: float | None) -> int | None:
    """Millionths of a dollar, the half rounded up."""
    if usd is None:
        return None
    return int((Decimal(repr(usd)) * 1_000_000).to_integral_value(ROUND_HALF_UP))


@overload
def dollars(amount: int) -> float: ...
@overload
def dollars(amount: None) -> None: ...
@overload
def dollars(amount: int | None) -> float | None: ...
def dollars(amount: int | None) -> float | None:
    """US dollars for that many millionths; `micros` gives the same number back."""
    return None if amount is None else amount / 1_000_000
