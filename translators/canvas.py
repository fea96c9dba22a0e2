"""Shapes of pictures that are sent: which ratio is theirs, how one grows into a larger canvas."""

from __future__ import annotations

from collections.abc import Iterable

from translators.base import Fault, Size


def margins(picture: Size, canvas: Size, instead: str) -> tuple[int, int, int, int]:
    """How far left, top, right and bottom move out so that the picture stands in the middle of `canvas`.

    `instead` says what else could be given, for whoever asks for a canvas that does not hold the picture.
    """
    wider, higher = (new - old for new, old in zip(canvas, picture, strict=True))
    if min(wider, higher) < 0 or max(wider, higher) == 0:
        shown = "{}x{}".format(*picture)
        raise Fault("invalid", f"The size must be larger than the picture's own {shown}; or give {instead}.",
                    code="invalid_value", param="size")  # fmt: skip
    return wider // 2, higher // 2, wider - wider // 2, higher - higher // 2


def nearest_ratio(picture: Size, ratios: Iterable[str]) -> str:
    """That of `ratios` which cuts least off the picture."""
    wanted = picture[0] / picture[1]

    def off(ratio: str) -> float:
        across, along = map(int, ratio.split(":"))
        return max(wanted * along / across, across / along / wanted)

    return min(ratios, key=off)
