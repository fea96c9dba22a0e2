"""What a plan may cost, before anything is called: an upper bound in good faith. Pure; `prices` tells what it did."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from proxy import tokens
from proxy.plan import Plan
from proxy.prices import area_of, banded, by_size, cost
from translators.base import Caps, Job, Op, Price, Size, Tokens, Unit, Usage, prompted


def estimate(plans: Sequence[Plan]) -> float | None:
    """The most US dollars, in good faith, that the dearest of these plans may cost; no other is carried out with it.

    `None` where the price of one of them is not known: no budget could bound it.
    """
    found = [most_of(plan) for plan in plans]
    known = [usd for usd in found if usd is not None]
    return max(known) if known and len(known) == len(found) else None


def priced(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """Those of the plans whose price is known."""
    return tuple(plan for plan in plans if most_of(plan) is not None)


def most_of(plan: Plan) -> float | None:
    """The most that all calls of a plan may cost."""
    found = [most(plan.target.caps, job) for job in plan.jobs]
    known = [usd for usd in found if usd is not None]
    return round(sum(known), 9) if len(known) == len(found) else None


def most(caps: Caps, job: Job, *, counts: Mapping[Unit, float] = {}) -> float | None:
    """The most that one call may cost: of every size and quality that can come of it, the dearest."""
    if (each := flat(caps.prices, job.op)) is not None:
        return round(each * job.n, 9)
    rules = banded(caps.prices, caps.resolutions, caps.pixels_of)
    sent = [(media.width, media.height) for media in job.images]
    qualities = [job.quality] if job.quality is not None else [None, *dict.fromkeys(rule.quality for rule in rules)]
    found = (
        cost(
            rules, job.op, [size] * job.n, quality, expected(caps, job, size, quality), sent,
            counts={"character": len(job.prompt), **counts},
        )
        for size in sizes_of(caps, rules, job)
        for quality in qualities
    )  # fmt: skip
    return max((usd for usd in found if usd is not None), default=None)


def flat(rules: Sequence[Price], op: Op) -> float | None:
    """What each picture costs where that depends on nothing else, as with most models."""
    fitting = [rule for rule in rules if rule.op in {None, op}]
    plain = all(
        rule.unit == "image" and rule.currency == "USD" and not rule.free and rule.quality is None
        and not (rule.resolution or by_size(rule))
        for rule in fitting
    )  # fmt: skip
    return sum(rule.amount / rule.per for rule in fitting) if fitting and plain else None


def expected(caps: Caps, job: Job, size: Size, quality: str | None) -> Usage:
    """The most tokens that will be counted. No text has more tokens than bytes; each of `n` is billed as a call."""
    text = sum(len(words.encode(errors="replace")) for words in (prompted(job), job.negative_prompt or ""))
    given = [tokens.sent(caps.tokens, (media.width, media.height)) for media in job.images]
    return Usage(
        input_text=job.n * (text + SURROUNDS * (1 + len(given))),
        input_image=job.n * sum(given),
        output_text=job.n * tokens.WORDS,
        output_image=job.n * (tokens.made(caps.tokens, size, quality) + job.partials * tokens.PREVIEW),
    )


SURROUNDS = 64
"""Tokens that a provider puts around a prompt and around each picture."""

UNBOUNDED = (4096, 4096)
ITS_OWN = (2048, 2048)
"""The largest picture of a model that takes any size, and of one that says nothing of sizes."""


def sizes_of(caps: Caps, rules: Sequence[Price], job: Job) -> Iterable[Size]:
    """The sizes that may be delivered, of many between which no price tells the largest."""
    own = [(media.width, media.height) for media in job.images] if caps.keeps or job.size is None else []
    if job.size is not None:
        return [*own, job.size]
    if found := [*named(caps, job)] if job.ratio or job.resolution else []:
        return telling(caps, rules, [*own, *found])
    found = [*own, *largest(caps)] or [ITS_OWN]
    # A smaller picture may be the dearer one, or the only one with a price.
    limit = max(map(math.prod, found))
    edges = [math.isqrt(rule.pixels[1]) for rule in rules]
    found += [(side, side) for side in edges if 0 < side * side <= limit]
    return telling(caps, rules, found + [(int(width), int(height)) for width, height in only(rules)])


def only(rules: Sequence[Price]) -> Iterator[Sequence[str]]:
    """The sizes that have a price of their own."""
    return (rule.size.split("x") for rule in rules if rule.size is not None)


def telling(caps: Caps, rules: Sequence[Price], sizes: Sequence[Size]) -> Iterable[Size]:
    """Of the sizes that the same rules fit, the largest: it is nowhere the cheaper one, but where its shape counts."""
    if caps.tokens in SHAPED or any(rule.size for rule in rules):
        return dict.fromkeys(sizes)
    edges = sorted({edge for rule in rules for edge in rule.pixels})
    found: dict[int, Size] = {}
    for size in sizes:
        band = bisect_left(edges, math.prod(size))
        if band not in found or math.prod(found[band]) < math.prod(size):
            found[band] = size
    return found.values()


SHAPED: frozenset[Tokens] = frozenset({"gpt-image-1", "gpt-image-2", "gpt-image-2.5"})


def named(caps: Caps, job: Job) -> Iterator[Size]:
    """What a ratio or a resolution stands for: as documented, else the square of that resolution."""
    wanted = None if job.resolution is None else job.resolution.casefold()
    known = False
    for name, size in caps.pixels_of.items():
        ratio, _, tier = name.partition("@")
        if job.ratio in {None, ratio} and wanted in {None, tier.casefold()}:
            known = True
            yield size
    if not known:
        yield from squares([job.resolution] if job.resolution else caps.resolutions)


def largest(caps: Caps) -> Iterator[Size]:
    """Everything that it makes; of what can be of any size, the largest square."""
    yield from caps.sizes
    yield from caps.pixels_of.values()
    documented = {name.rpartition("@")[2] for name in caps.pixels_of}
    yield from squares([tier for tier in caps.resolutions if tier not in documented])
    if caps.free is not None:
        bounds = [pixels for pixels in (caps.free.pixels[1], caps.free.edge[1] ** 2) if pixels]
        yield square(min(bounds)) if bounds else UNBOUNDED


def squares(resolutions: Sequence[str]) -> Iterator[Size]:
    """By the names of the resolutions, where they say it."""
    for tier in resolutions:
        if area := area_of(tier.casefold(), {}):
            yield square(area[1])


def square(area: int) -> Size:
    """The smallest one of at least that area."""
    side = math.isqrt(area - 1) + 1
    return side, side
