"""Ids that sort by the time of their making, and cannot be guessed."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import lru_cache
from threading import Lock

CHUNK = 4096  # bytes of chance that are fetched at once: a system call for each id would be most of its cost
_chance = bytearray()
_lock = Lock()


def chance(count: int) -> str:
    """So many random bytes, in hexadecimal; none of them is given out twice."""
    with _lock:
        if len(_chance) < count:
            _chance.extend(os.urandom(CHUNK))
        taken = _chance[-count:].hex()
        del _chance[-count:]
    return taken


def new(prefix: str) -> str:
    """`prefix`, the time in milliseconds, and 80 random bits: as UUIDv7 has them, in 32 hexadecimal digits."""
    return f"{prefix}{time.time_ns() // 1_000_000:012x}{chance(10)}"


def day(at: int) -> str:
    """The day of a time in milliseconds, UTC: 2026-11-20. Its first seven characters are the month."""
    return _day(at // DAY)


DAY = 86_400_000


@lru_cache(8)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).strftime("%Y-%m-%d")
