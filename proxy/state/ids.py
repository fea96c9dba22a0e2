"""Ids that sort by the time of their making, and cannot be guessed."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime


def new(prefix: str) -> str:
    """`prefix`, the time in milliseconds, and 80 random bits: as UUIDv7 has them, in 32 hexadecimal digits."""
    return f"{prefix}{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def day(at: int) -> str:
    """The day of a time in milliseconds, UTC: 2026-11-20. Its first seven characters are the month."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")
