"""The codes of H.264's CAVLC: numbers, and the levels of one block of coefficients, as texts of "0" and "1".

Only what blocks of mean values need: no block here has a neighbour with between 2 and 7 levels.
Source: ITU-T H.264, 9.1 and 9.2, tables 9-5 and 9-7 to 9-10.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

# Of (how many levels, how many ones at the end), where no neighbour has any
_NONE_NEAR = (
    "1",
    "000101 01",
    "00000111 000100 001",
    "000000111 00000110 0000101 00011",
    "0000000111 000000110 00000101 000011",
    "00000000111 0000000110 000000101 0000100",
    "0000000001111 00000000110 0000000101 00000100",
    "0000000001011 0000000001110 00000000101 000000100",
    "0000000001000 0000000001010 0000000001101 0000000100",
    "00000000001111 00000000001110 0000000001001 00000000100",
    "00000000001011 00000000001010 00000000001101 0000000001100",
    "000000000001111 000000000001110 00000000001001 00000000001100",
    "000000000001011 000000000001010 000000000001101 00000000001000",
    "0000000000001111 000000000000001 000000000001001 000000000001100",
    "0000000000001011 0000000000001110 0000000000001101 000000000001000",
    "0000000000000111 0000000000001010 0000000000001001 0000000000001100",
    "0000000000000100 0000000000000110 0000000000000101 0000000000001000",
)
_CHROMA = (
    "01",
    "000111 1",
    "000100 000110 001",
    "000011 0000011 0000010 000101",
    "000010 00000011 00000010 0000000",
)
# Of how many zeros lie below the last level; a row for each number of levels, from one on
_ZEROS = (
    "1 011 010 0011 0010 00011 00010 000011 000010 0000011 0000010 00000011 00000010 000000011 000000010 000000001",
    "111 110 101 100 011 0101 0100 0011 0010 00011 00010 000011 000010 000001 000000",
    "0101 111 110 101 0100 0011 100 011 0010 00011 00010 000001 00001 000000",
    "00011 111 0101 0100 110 101 100 0011 011 0010 00010 00001 00000",
    "0101 0100 0011 111 110 101 100 011 0010 00001 0001 00000",
    "000001 00001 111 110 101 100 011 010 0001 001 000000",
    "000001 00001 101 100 011 11 010 0001 001 000000",
    "000001 0001 00001 011 11 10 010 001 000000",
    "000001 000000 0001 11 10 001 01 00001",
    "00001 00000 001 11 10 01 0001",
    "0000 0001 001 010 1 011",
    "0000 0001 01 1 001",
    "000 001 1 01",
    "00 01 1",
    "0 1",
)
_CHROMA_ZEROS = ("1 01 001 000", "1 01 00", "1 0")
# Of how many zeros stand right before a level; a row for each number of zeros that are left, from one on
_RUNS = (
    "1 0",
    "1 01 00",
    "11 10 01 00",
    "11 10 01 001 000",
    "11 10 011 010 001 000",
    "11 000 001 011 010 101 100",
    "111 110 101 100 011 010 001 0001 00001 000001 0000001 00000001 000000001 0000000001 00000000001",
)

NONE_NEAR, CHROMA, ZEROS, CHROMA_ZEROS, RUNS = (
    tuple(tuple(row.split()) for row in table) for table in (_NONE_NEAR, _CHROMA, _ZEROS, _CHROMA_ZEROS, _RUNS)
)


def ue(value: int) -> str:
    """A number from 0 on: Exp-Golomb."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def se(value: int) -> str:
    """A number with a sign."""
    return ue(2 * value - 1 if value > 0 else -2 * value)


def luma(levels: Sequence[int], near: int) -> str:
    """The 16 levels of a macroblock's means, in the order of the scan; `near`: 0, or 8 and more, levels lie near."""
    total, ones = counted(levels)
    if near < 8:
        return NONE_NEAR[total][ones] + coded(levels, total, ones, ZEROS)
    return (f"{(total - 1) * 4 + ones:06b}" if total else "000011") + coded(levels, total, ones, ZEROS)


def chroma(levels: Sequence[int]) -> str:
    """The four levels of one colour's means."""
    total, ones = counted(levels)
    return CHROMA[total][ones] + coded(levels, total, ones, CHROMA_ZEROS)


def counted(levels: Sequence[int]) -> tuple[int, int]:
    """How many levels are not 0, and how many of the last ones, three at most, are 1 or -1."""
    some = [level for level in levels if level]
    ones = 0
    for level in reversed(some):
        if level not in {1, -1} or ones == 3:
            break
        ones += 1
    return len(some), ones


def coded(levels: Sequence[int], total: int, ones: int, zeros: Sequence[Sequence[str]]) -> str:
    """The levels, the last one first, and the zeros between them."""
    if not total:
        return ""
    places = [place for place, level in enumerate(levels) if level][::-1]
    bits = ["1" if levels[place] < 0 else "0" for place in places[:ones]]
    wide = 1 if total > 10 and ones < 3 else 0
    for number, place in enumerate(places[ones:]):
        size = abs(levels[place])
        shown = size - 1 if number == 0 and ones < 3 else size  # it cannot be a one, so that it is told smaller
        bits.append(level_bits(2 * shown - 2 + (levels[place] < 0), wide))
        wide = wide or 1
        if size > 3 << wide - 1 and wide < 6:
            wide += 1
    left = places[0] + 1 - total
    if total < len(levels):
        bits.append(zeros[total - 1][left])
    for place, below in pairwise(places):
        if not left:
            break
        run = place - below - 1
        bits.append(RUNS[min(left, 7) - 1][run])
        left -= run
    return "".join(bits)


def level_bits(code: int, wide: int) -> str:
    """One level's code: as many zeros as its upper part says, a one, and `wide` bits."""
    if not wide:
        if code < 14:
            return "0" * code + "1"
        return f"{1:015b}{code - 14:04b}" if code < 30 else f"{1:016b}{code - 30:012b}"
    if code < 15 << wide:
        return "0" * (code >> wide) + "1" + f"{code & (1 << wide) - 1:0{wide}b}"
    return f"{1:016b}{code - (15 << wide):012b}"
