"""The arithmetic of rates: the generic cell rate algorithm (GCRA, ITU-T I.371). Pure; times are whole microseconds.

A rate of 5 a minute is a bucket of 5 that fills evenly, one each 12 seconds. All its state is one number: when it will
be full again. So nobody gets more than 5 + 5·t/60 in any t seconds, and a bucket that is full needs no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec

MINUTE = 60_000_000
SECOND = 1_000_000
WINDOW = MINUTE + SECOND  # one begun at its end may be sent quicker than one at its start

Dimension: TypeAlias = Literal["requests", "images"]

HEADERS: dict[Dimension, tuple[str, ...]] = {"requests": ("requests",), "images": ("images", "input-images")}
"""The ends of the headers' names. OpenAI counts pictures as `input-images`, whichever way they go."""


class Rate(msgspec.Struct, frozen=True):
    """So many a minute."""

    dimension: Dimension
    limit: int
    interval: int  # in which one comes back
    capacity: int  # in which all come back


class Rules(msgspec.Struct, frozen=True):
    """What holds for one call: all of it, or the call is refused and takes nothing."""

    rates: tuple[Rate, ...]
    jobs: int | None  # at once
    begun: int | None = None  # jobs that begin within a minute, wherever that begins


class Standing(msgspec.Struct, frozen=True):
    """How one rate stands."""

    dimension: Dimension
    limit: int
    remaining: int
    reset: int  # until it is full again
    wait: int  # until what was asked for would be admitted


class Admission(msgspec.Struct, frozen=True):
    """Whether a call may be made, and what its caller has left."""

    rules: Rules
    n: int  # pictures that it asks for
    admitted: bool
    now: int
    full: tuple[int, ...]  # when each of the rates is full again
    running: int  # jobs of the same caller beside it
    begun: int = 0  # … that began within the last minute
    wait: int = 0  # until they are fewer, where they are too many

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How each rate stands after the call."""
        return tuple(
            standing(rate, full, self.now, 0 if self.admitted else cost(rate, self.n))
            for rate, full in zip(self.rules.rates, self.full, strict=True)
        )

    @property
    def headers(self) -> dict[str, str]:
        """`x-ratelimit-…` of the answer."""
        found = {}
        for each in self.standings:
            for name in HEADERS[each.dimension]:
                found[f"x-ratelimit-limit-{name}"] = str(each.limit)
                found[f"x-ratelimit-remaining-{name}"] = str(each.remaining)
                found[f"x-ratelimit-reset-{name}"] = duration(each.reset)
        return found


@lru_cache(1024)
def rules(requests: int | None, images: int | None, jobs: int | None) -> Rules:
    """Rates of a minute, and jobs at once; `None` is no bound."""
    given: Iterable[tuple[Dimension, int | None]] = (("requests", requests), ("images", images))
    return Rules(tuple(rate(dimension, limit) for dimension, limit in given if limit is not None), jobs)


@lru_cache(1024)
def share(whole: Rules, workers: int) -> Rules:
    """The part of one of so many processes: together no more than the whole, but each at least 1."""
    return Rules(
        tuple(rate(each.dimension, max(1, each.limit // workers)) for each in whole.rates),
        None if whole.jobs is None else max(1, whole.jobs // workers),
        None if whole.begun is None else max(1, whole.begun // workers),
    )


def rate(dimension: Dimension, limit: int) -> Rate:
    """A rate whose interval is rounded up: `limit` at once, and never more than `limit` a minute."""
    interval = -(-MINUTE // limit)
    return Rate(dimension, limit, interval, limit * interval)


def cost(rate: Rate, n: int) -> int:
    """What a call for `n` pictures takes of it; none is a mere look."""
    return n if rate.dimension == "images" else min(n, 1)


def judge(
    rules: Rules, n: int, full: Sequence[int], running: int, now: int, begun: tuple[int, int] = (0, 0)
) -> Admission:
    """Take all that a call for `n` pictures needs, or nothing. `begun`: how many jobs began within the last minute, and
    when the first of them did.

    What asks for more than the whole bucket is admitted when it is full, and takes from the minutes to come: only a
    process that is alone with its share lets that happen.
    """
    count, first = begun
    late = rules.begun is not None and count >= rules.begun
    admitted = not late and (rules.jobs is None or running < rules.jobs)
    after = []
    for rate, before in zip(rules.rates, full, strict=True):
        taken = rate.interval * cost(rate, n)
        used = taken + (before - now if before > now else 0)
        if used > rate.capacity and used > taken:
            admitted = False
        after.append(now + used)
    wait = max(1, first + WINDOW - now) if late else 0
    return Admission(rules, n, admitted, now, tuple(after if admitted else full), running, count, wait)


def standing(rate: Rate, full: int, now: int, asked: int) -> Standing:
    """How a rate stands that will be full again at `full`, for one who asks for so many."""
    used = max(0, full - now)
    taken = rate.interval * asked
    return Standing(
        rate.dimension,
        rate.limit,
        max(0, rate.capacity - used) // rate.interval,
        used,
        max(0, used + taken - max(rate.capacity, taken)),
    )


def duration(microseconds: int) -> str:
    """As Go writes it, rounded up to milliseconds: 12ms, 1.5s, 6m0s, 1h0m0s."""
    milliseconds = -(-microseconds // 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"
