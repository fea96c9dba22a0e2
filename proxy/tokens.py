"""How many tokens a picture is, as its maker counts them: for estimates alone, since bills go by what was counted.

Never fewer than will be billed, as far as anybody knows. Sources: OpenAI's and Google's documents of 2026-11; for the
pictures sent to gpt-image-2 and later, counts that OpenAI's community took from bills (2026-06).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from translators.base import Size, Tokens

PREVIEW = 100
"""Of each preview of a streamed picture."""

WORDS = 4_096
"""What a model thinks and says beside a picture. It may be more; nobody has seen it."""

SIDES: Mapping[str, Mapping[str | None, int]] = {
    "gpt-image-2": {"low": 16, "medium": 48},
    "gpt-image-2.5": {"low": 48, "medium": 48},  # its low and medium are told of in hints alone: at most this
}
DENSEST = 96
"""Of any other quality: so many tokens along the longer edge, before the area is counted in."""

TILED: Mapping[str | None, Mapping[Size, int]] = {
    "low": {(1024, 1024): 272, (1024, 1536): 408, (1536, 1024): 400},
    "medium": {(1024, 1024): 1056, (1024, 1536): 1584, (1536, 1024): 1568},
    "high": {(1024, 1024): 4160, (1024, 1536): 6240, (1536, 1024): 6208},
}

TIERS = ((512 * 512, 747), (1024 * 1024, 1290), (2048 * 2048, 1680))
LARGEST_TIER = 2520
BEYOND = 1.25
"""How far a picture of another ratio goes beyond its tier's square."""


def made(rule: Tokens, size: Size, quality: str | None) -> int:
    """Of one picture that comes out."""
    width, height = size
    if rule in SIDES:
        longer, shorter = max(size), max(min(size), 1)
        edge = SIDES[rule].get(quality, DENSEST)
        other = (2 * edge * shorter + longer) // (2 * longer)
        return -(-edge * other * (2_000_000 + width * height) // 4_000_000)
    if rule == "gpt-image-1":
        known = TILED.get(quality, TILED["high"])
        return known.get(size, max(known.values()))
    if rule == "nano-banana":
        return next((count for area, count in TIERS if width * height <= area * BEYOND), LARGEST_TIER)
    return patches(size, 16)


def sent(rule: Tokens, size: Size) -> int:
    """Of one picture that goes in."""
    if rule in SIDES:
        return 1536
    if rule == "gpt-image-1":  # 65, 129 for each tile along the longer edge, and 6,240 for fidelity
        return 65 + 129 * math.ceil(max(size) / max(min(size), 1)) + 6240
    if rule == "nano-banana":
        return max(1120, 258 * patches(size, 768))
    return patches(size, 16)


def patches(size: Size, edge: int) -> int:
    """How many squares cover it."""
    return math.ceil(size[0] / edge) * math.ceil(size[1] / edge)
