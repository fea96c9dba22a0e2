"""What a video cost, and what it may cost, by the price rules of its model. Pure. Unknown is `None`, never 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from proxy.prices import OUTPUT, by_size, charged, counted, fits
from proxy.video.lengths import lines
from translators.base import Fault, Price, Size, Unit, Usage
from translators.video import VideoCaps, VideoJob

NEAR = 0.5
"""Seconds by which a file may differ from the length that was asked for: vendors bill the latter."""

TIME: frozenset[Unit] = frozenset({"second", "video"})


def video_cost(
    prices: Sequence[Price], job: VideoJob, seconds: float | None, size: Size | None = None, usage: Usage | None = None
) -> float | None:
    """US dollars for a video of so many seconds and that size, as delivered; `None` where it is not known.

    Where the provider tells what it charged, or how much it counted, that is heeded first. Where the job names no
    resolution, it is the nearest to the size; where it says nothing of sound, only a price that is the same either way
    is known.
    """
    usage = usage or Usage()
    if usage.cost_usd is not None:
        return usage.cost_usd
    rules = told(prices, usage)
    counts = {**counted(usage), "second": billed(job, seconds, usage)}
    resolution = job.resolution or nearest(rules, size)
    sounds = (True, False) if job.audio is None else (job.audio,)
    found = {
        spent(rules, job, counts, each, sound, size or job.size)
        for each, sound in product([resolution] if resolution else named(rules), sounds)
    }
    return found.pop() if len(found) == 1 else None


def video_estimate(caps: VideoCaps, job: VideoJob, clip_seconds: float | None = None) -> float | None:
    """The most US dollars, in good faith, that a job may cost; `None` where no rule bounds it.

    `clip_seconds` is the length of the video that is worked on, where it is known: vendors bill it, too.
    """
    rules = told(caps.prices, Usage())
    counts: dict[Unit, float | None] = {"second": longest(caps, job, clip_seconds)}
    usual = job.resolution or caps.usual_resolution
    both = {"always": (True,), "none": (False,), "choice": (True, False)}[caps.sound]
    found = [
        spent(rules, job, counts, resolution, sound, size)
        for resolution, sound, size in product(
            [usual] if usual else caps.resolutions or (None,),
            both if job.audio is None else (job.audio,),
            [job.size] if job.size else caps.sizes or (None,),
        )
    ]
    known = [usd for usd in found if usd is not None]
    return max(known) if known and len(known) == len(found) else None


def video_wasted(prices: Sequence[Price], job: VideoJob, fault: Fault) -> float | None:
    """US dollars for a video that nobody got: as the fault tells, or by what was counted; a lost one is taken to be as
    it was asked for.
    """
    if fault.cost_usd is not None:
        return fault.cost_usd
    if fault.lost or (fault.usage and fault.usage != Usage()):
        return video_cost(prices, job, job.seconds if fault.lost else None, job.size, fault.usage)
    return None


# ---- how much


def billed(job: VideoJob, seconds: float | None, usage: Usage) -> float | None:
    """Seconds: as the provider counted them, else as they were asked for or delivered."""
    if usage.seconds is not None:
        return usage.seconds
    if job.seconds and job.task == "create" and (seconds is None or abs(seconds - job.seconds) <= NEAR):
        return job.seconds
    return seconds


def longest(caps: VideoCaps, job: VideoJob, clip_seconds: float | None) -> float | None:
    """The most seconds that can be billed: of what is made, and of the video that is worked on."""
    if job.task == "create":
        return job.seconds or caps.usual_seconds or max(caps.seconds, default=None)
    clip = clip_seconds or caps.clip_seconds[1] or None
    if job.task != "extend":
        made = job.seconds or clip
        return None if made is None or clip is None else made + clip
    more = job.seconds or max(caps.extra_seconds, default=None)
    return None if more is None or clip is None else 2 * clip + more  # it may be made, and billed, along with the rest


# ---- rules


def told(prices: Sequence[Price], usage: Usage) -> list[Price]:
    """The rules that count: those for credits, else those for tokens, instead of time where the provider tells them."""
    rules = charged([price for price in prices if price.op in {None, "video"}], usage)
    counts = counted(usage)
    tokens = [price for price in rules if price.unit.startswith("token.")]
    known = bool(tokens) and all(counts.get(price.unit) is not None for price in tokens)
    return [price for price in rules if (price.unit not in TIME if known else price not in tokens)]


def named(rules: Sequence[Price]) -> list[str | None]:
    """The resolutions of which they speak."""
    return list(dict.fromkeys(price.resolution for price in rules if price.resolution)) or [None]


def nearest(rules: Sequence[Price], size: Size | None) -> str | None:
    """The resolution among those of the rules whose frames have about as many pixels."""
    if not size or not math.prod(size):
        return None
    areas = {name: edge * edge * 16 / 9 for name in named(rules) if name and (edge := lines(name))}
    return min(areas, key=lambda name: abs(math.log(areas[name] / math.prod(size))), default=None)


def matching(
    rules: Sequence[Price], job: VideoJob, seconds: float | None, resolution: str | None, sound: bool, size: Size | None
) -> Iterator[Price]:
    """Those of the rules that are for such a video."""
    for price in rules:
        said = (
            price.resolution is None or (resolution or "").casefold() == price.resolution.casefold(),
            price.sound in {None, sound},
            price.clip in {None, job.task != "create"},
            price.seconds is None or (seconds is not None and round(seconds) == price.seconds),
            fits(price, size or (0, 0), job.quality),
        )
        if all(said):
            yield price


def spent(
    rules: Sequence[Price],
    job: VideoJob,
    counts: Mapping[Unit, float | None],
    resolution: str | None,
    sound: bool,
    size: Size | None,
) -> float | None:
    """US dollars for such a video; `None` where no rule is for it, or something was not counted."""
    if any(by_size(price) for price in rules) and not size:
        return None
    found = list(matching(rules, job, counts["second"], resolution, sound, size))
    if not any(price.unit in OUTPUT for price in found):
        return None
    pictures = len([each for each in (job.first, job.last) if each]) + len(job.references)
    used = {**counts, "video": 1, "input_image": pictures, "character": len(job.prompt)}
    total = 0.0
    for price in found:
        count = used.get(price.unit)
        amount = None if count is None else max(count - price.free, 0)
        if amount is None or (amount and price.currency != "USD"):
            return None
        total += amount * price.amount / price.per
    return round(total, 9)
