"""A small H.264 encoder: constrained baseline, CAVLC, one slice for each frame, one NAL unit each.

A group is a key frame and frames that show it with something in front. Of these, what is not changed is a skipped
macroblock, a copy of the key frame's; none refers to another, so that each costs only what stands in front. A
macroblock that is told is smooth, then it is told by the means of its 4 x 4 blocks, exact to about one step; or it is
not, then its samples are told as they are. Nothing is smoothed across edges.

Colours are BT.709 in the narrow range, which is said; a chroma sample stands amid its four pixels.
Source: ITU-T H.264: 7.3 (syntax), 8.3.3 and 8.3.4 (prediction of means), 8.5.10 and 8.5.11 (their transforms), Annex E.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from translators.base import Size
from translators.demo.cavlc import chroma, luma, se, ue

if TYPE_CHECKING:
    from PIL.Image import Image

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""
Levels: TypeAlias = tuple[int, ...]

CELL = 16  # pixels of a macroblock's edge
QP = 16  # a mean is told in quarters of a step then, and a colour's in halves
ROUGH = (2, 4, 8, 16, 32, 64, 255)  # how far a smooth macroblock's samples are from their block's mean at most
MOST = 3_000  # macroblocks of a key frame that are told as they are, 384 bytes each, unless all can be
ORDER_BITS = 16
TO_YCC = (
    0.18258588, 0.61423059, 0.06200706, 16.0, -0.10064373, -0.33857195, 0.43921569, 128.0,
    0.43921569, -0.39894216, -0.04027352, 128.0,
)  # fmt: skip
ZIGZAG = (0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15)


class Cell(msgspec.Struct, frozen=True, gc=False):
    """One macroblock: its 384 samples where it is not smooth, else its 16 + 4 + 4 means."""

    samples: bytes = b""
    means: tuple[bytes, bytes, bytes] = (b"", b"", b"")


class Edges(msgspec.Struct, frozen=True, gc=False):
    """What the next macroblocks are foretold by: sums of the samples at the right and at the lower edge."""

    right: int
    below: int
    colors: tuple[tuple[int, int, int, int], ...]  # upper and lower half right, left and right half below
    near: int  # levels that a neighbour counts here


# ---- from pixels to macroblocks


def padded(size: Size) -> Size:
    """The whole macroblocks that hold it."""
    return -(-size[0] // CELL) * CELL, -(-size[1] // CELL) * CELL


def cells(image: Image, most: int) -> list[Cell]:
    """The macroblocks of an RGB picture whose edges are whole ones, row by row; at most `most` are not smooth."""
    planes = split(image)
    width, height = image.width // CELL, image.height // CELL
    rough = next(found for limit in ROUGH if (found := roughness(planes, limit)).count(b"\1") <= most or limit == 255)
    means = [plane.reduce(4) for plane in planes]
    made = []
    for number in range(width * height):
        y, x = divmod(number, width)
        if rough[number]:
            whole = [cut(plane, x, y, 8 if index else 16) for index, plane in enumerate(planes)]
            made.append(Cell(samples=b"".join(whole)))
        else:
            first, second, third = (cut(plane, x, y, 2 if index else 4) for index, plane in enumerate(means))
            made.append(Cell(means=(first, second, third)))
    return made


def split(image: Image) -> tuple[Image, Image, Image]:
    """Luma, and both colours at half the size."""
    light, blue, red = image.convert("RGB", TO_YCC).split()
    return light, blue.reduce(2), red.reduce(2)


def cut(plane: Image, x: int, y: int, edge: int) -> bytes:
    return plane.crop((x * edge, y * edge, x * edge + edge, y * edge + edge)).tobytes()


def roughness(planes: Sequence[Image], limit: int) -> bytes:
    """For each macroblock 1 where a sample differs from its 4 x 4 block's mean by more than `limit`, else 0."""
    from PIL import Image, ImageChops

    found = Image.new("L", (planes[0].width // CELL, planes[0].height // CELL))
    for plane, edge in zip(planes, (16, 8, 8), strict=True):
        flat = plane.reduce(4).resize(plane.size, Image.Resampling.NEAREST)
        over = ImageChops.difference(plane, flat).point([255 * (step > limit) for step in range(256)]).reduce(edge)
        found = ImageChops.lighter(found, over)
    return found.point([min(step, 1) for step in range(256)]).tobytes()


# ---- the frames


def key(image: Image, number: int, most: int = MOST) -> bytes:
    """A frame by itself, the first of group `number`. `image` is RGB and of whole macroblocks; at most `most` of them
    are told as they are.
    """
    # the slice: its first macroblock, I, picture set, frame number, group, order, no memory management, as usual QP
    head = ue(0) + ue(7) + ue(0) + "0000" + ue(number % 2) + "0" * ORDER_BITS + "00" + se(0) + ue(1)
    told = dict(enumerate(cells(image, most)))
    return b"\x65" + escaped(drawn(head, image.width // CELL, image.height // CELL, told, inter=False))


def over(image: Image, boxes: Iterable[Box], order: int) -> bytes:
    """The frame `order` of a group, which differs from the key frame in these boxes at most."""
    columns, rows = image.width // CELL, image.height // CELL
    told: dict[int, Cell] = {}
    for box in boxes:
        left, top = max(box[0] // CELL, 0), max(box[1] // CELL, 0)
        right, bottom = min(-(-box[2] // CELL), columns), min(-(-box[3] // CELL), rows)
        if right > left and bottom > top:
            found = cells(image.crop((left * CELL, top * CELL, right * CELL, bottom * CELL)), 1 << 30)
            places = chain.from_iterable(
                range(row * columns + left, row * columns + right) for row in range(top, bottom)
            )
            told.update(zip(places, found, strict=True))
    head = ue(0) + ue(5) + ue(0) + "0001" + f"{2 * order:0{ORDER_BITS}b}" + "00" + se(0) + ue(1)
    return b"\x01" + escaped(drawn(head, columns, rows, told, inter=True))


def drawn(head: str, columns: int, rows: int, told: Mapping[int, Cell], *, inter: bool) -> bytes:
    """A slice of all macroblocks; those that are not told are skipped."""
    out, bits, edges = bytearray(), [head], dict[int, Edges]()
    last = -1
    for number in sorted(told):
        cell = told[number]
        if inter:
            bits.append(ue(number - last - 1))
        last = number
        left = edges.get(number - 1) if number % columns else None
        above = edges.get(number - columns)
        if cell.samples:
            bits.append(ue(30 if inter else 25))
            out += packed("".join(bits))
            out += cell.samples
            bits.clear()
            edges[number] = edges_of(cell.samples)
        else:
            text, edges[number] = smooth(cell.means, left, above, inter=inter)
            bits.append(text)
    if inter and last < columns * rows - 1:
        bits.append(ue(columns * rows - 1 - last))
    return bytes(out) + packed("".join(bits) + "1")


def packed(bits: str) -> bytes:
    """Filled up with zeros to whole bytes."""
    count = -(-len(bits) // 8)
    return int(bits.ljust(count * 8, "0"), 2).to_bytes(count, "big")


def edges_of(samples: bytes) -> Edges:
    colors = []
    for start in (256, 320):
        right, below = samples[start + 7 : start + 64 : 8], samples[start + 56 : start + 64]
        colors.append((sum(right[:4]), sum(right[4:]), sum(below[:4]), sum(below[4:])))
    return Edges(sum(samples[15:256:16]), sum(samples[240:256]), tuple(colors), 16)


# ---- a smooth macroblock


def smooth(
    means: tuple[bytes, bytes, bytes], left: Edges | None, above: Edges | None, *, inter: bool
) -> tuple[str, Edges]:
    """Its bits, and what is foretold by it: what a decoder makes of them."""
    ahead = foretold(([left.right] if left else []) + ([above.below] if above else []), 4)
    levels = tuple(step + 2 >> 2 for step in turned([mean - ahead for mean in means[0]]))
    seen = [clipped(ahead + (step + 2 >> 2)) for step in turned(levels)]
    blue, blue_edges = tinted(means[1], left.colors[0] if left else None, above.colors[0] if above else None)
    red, red_edges = tinted(means[2], left.colors[1] if left else None, above.colors[1] if above else None)
    colored = any(blue) or any(red)
    near = [edge.near for edge in (left, above) if edge]
    bits = ue((8 if inter else 3) + 4 * colored) + "11"  # means in both, colours' means too, the same QP
    bits += luma([levels[place] for place in ZIGZAG], sum(near) + 1 >> 1 if len(near) == 2 else sum(near))
    if colored:
        bits += chroma(blue) + chroma(red)
    return bits, Edges(4 * sum(seen[3::4]), 4 * sum(seen[12:]), (blue_edges, red_edges), 0)


def tinted(
    means: bytes, left: tuple[int, int, int, int] | None, above: tuple[int, int, int, int] | None
) -> tuple[Levels, tuple[int, int, int, int]]:
    """The same of one colour: four levels, and its edges."""
    beside = left[:2] if left else None
    on_top = above[2:] if above else None
    ahead = []
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        sums = ([beside[y]] if beside else []) + ([on_top[x]] if on_top else [])
        if y != x and len(sums) == 2:  # off the diagonal by the nearer edge alone
            sums = [sums[y == 0]]
        ahead.append(foretold(sums, 2))
    a, b, c, d = (mean - guess for mean, guess in zip(means, ahead, strict=True))
    # the upper left block's difference is that of all, and so on
    levels = tuple(step >> 1 for step in (a + b + c + d + 1, a - b + c - d + 1, a + b - c - d + 1, a - b - c + d + 1))
    a, b, c, d = levels
    steps = (a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d)
    seen = [clipped(guess + (step + 1 >> 1)) for guess, step in zip(ahead, steps, strict=True)]
    return levels, (4 * seen[1], 4 * seen[3], 4 * seen[2], 4 * seen[3])


def foretold(sums: Sequence[int], bits: int) -> int:
    """The mean of the samples at the known edges, each of `1 << bits`; the middle where none is known."""
    if not sums:
        return 128
    bits += len(sums) - 1
    return sum(sums) + (1 << bits - 1) >> bits


def clipped(value: int) -> int:
    return 0 if value < 0 else min(value, 255)


def turned(values: Sequence[int]) -> list[int]:
    """The Hadamard transform of 4 x 4 values: of the rows, then of the columns."""
    rows: list[int] = []
    for at in (0, 4, 8, 12):
        a, b, c, d = values[at : at + 4]
        rows += (a + b + c + d, a + b - c - d, a - b - c + d, a - b + c - d)
    made = [0] * 16
    for at in range(4):
        a, b, c, d = rows[at::4]
        made[at::4] = (a + b + c + d, a + b - c - d, a - b - c + d, a - b + c - d)
    return made


# ---- what a decoder must know beforehand


def parameters(size: Size, fps: int) -> tuple[bytes, bytes]:
    """The sequence's and the pictures' parameters, as NAL units."""
    width, height = padded(size)
    level = 31 if width * height <= 3600 * CELL * CELL else 40
    bits = "".join((
        ue(0), ue(0), ue(0), ue(ORDER_BITS - 4), ue(1), "0",  # id, frame numbers, orders, one frame is referred to
        ue(width // CELL - 1), ue(height // CELL - 1), "11",  # whole frames
        "1", ue(0), ue((width - size[0]) // 2), ue(0), ue((height - size[1]) // 2),  # what is not shown
        "1", "1", f"{1:08b}", "0",  # square pixels
        "1", f"{5:03b}", "0", "1", f"{1:08b}" * 3,  # narrow range, BT.709
        "1", ue(1), ue(1),  # where chroma samples stand
        "1", f"{1:032b}", f"{2 * fps:032b}", "1", "00", "0",  # a tick is half a frame
        "1", "1", ue(0), ue(0), ue(10), ue(10), ue(0), ue(1),  # shown in the order in which they come
    ))  # fmt: skip
    sequence = bytes((0x67, 66, 0xC0, level)) + escaped(packed(bits + "1"))
    # id, sequence, CAVLC, no groups of slices, one reference, no weights, QP, no smoothing, means from told ones alone
    text = ue(0) + ue(0) + "00" + ue(0) + ue(0) + ue(0) + "000" + se(QP - 26) + se(0) + se(0) + "110"
    return sequence, b"\x68" + escaped(packed(text + "1"))


def escaped(data: bytes) -> bytes:
    """With what keeps a start code from appearing in it."""
    return re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)
