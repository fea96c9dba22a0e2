"""What a picture is, by its first bytes alone: type, size, transparency. No pixel is decoded here.

Every answer is measured with this, so the common types cost microseconds. What a client or a provider says about a
picture decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct, unpack_from

import msgspec
import pybase64

from translators.base import Blob


class Shape(msgspec.Struct, frozen=True):
    """A picture as it is stored: `width` and `height` before an EXIF orientation is applied, 0 where not yet seen."""

    type: str
    width: int = 0
    height: int = 0
    alpha: bool = False  # whether it can be transparent
    orientation: int = 1  # EXIF's, 1-8; 0: it has one, but not where these bytes tell it
    animated: bool = False
    complete: bool = True  # more bytes would change nothing here

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as it is meant to be seen."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)


HEADS = (4096, 70_000, 1 << 20)
"""How far to read. Nearly every picture tells all in 4 kB; a JPEG's preview and profile stand before its size."""


def sniff(head: bytes) -> Shape | None:
    """The picture that begins with `head`; `None` where no picture does."""
    for magic, read in _READERS:
        if head.startswith(magic):
            return read(head)
    return _heif(head) if head[4:8] == b"ftyp" else _svg(head)


def look(blob: Blob) -> Shape | None:
    """`sniff`, reading on until the shape is complete or 1 MiB is read. Raises `ValueError` on broken base64."""
    shape = None
    for count in HEADS:
        head = first(blob, count)
        shape = sniff(head)
        if shape is None or shape.complete or len(head) < count:
            break
    return shape


def first(blob: Blob, count: int) -> bytes:
    """The first `count` bytes. A chunk may be the whole picture, so no more of it is decoded than needed."""
    need = {"raw": count, "hex": count * 2, "base64": -(-count // 3) * 4}[blob.encoding]
    got = b""
    for chunk in blob.chunks:
        got += chunk[: need - len(got)]
        if len(got) >= need:
            break
    if blob.encoding == "raw":
        return got
    whole = bytes.fromhex(got.decode("ascii")) if blob.encoding == "hex" else pybase64.b64decode(got, validate=True)
    return whole[:count]


_PNG_CHUNK = Struct(">I4s")


def _png(head: bytes) -> Shape:
    if len(head) < 26:
        return Shape("image/png", complete=False)
    _, width, height, _, colour = unpack_from(">I4xIIBB", head, 8)
    alpha = colour in (4, 6)
    orientation, animated, at = 1, False, 33
    while at + 8 <= len(head):
        length, name = _PNG_CHUNK.unpack_from(head, at)
        if name == b"IDAT":
            return Shape("image/png", width, height, alpha, orientation, animated)
        if name == b"tRNS":
            alpha = True
        elif name == b"acTL":
            animated = True
        elif name == b"eXIf":
            orientation = _orientation(head[at + 8 : at + 8 + length])
        at += 12 + length
    return Shape("image/png", width, height, alpha, orientation, animated, complete=False)


_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset(range(0xD0, 0xDA)) | {0x01}  # markers without a length


def _jpeg(head: bytes) -> Shape:
    orientation, at = 1, 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            break
        marker = head[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        length = head[at + 2] << 8 | head[at + 3]
        if marker in _SOF:
            height, width = unpack_from(">HH", head, at + 5)
            return Shape("image/jpeg", width, height, orientation=orientation)
        if marker == 0xE1 and head[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(head[at + 10 : at + 2 + length])
        at += 2 + length
    return Shape("image/jpeg", orientation=orientation, complete=False)


def _orientation(tiff: bytes) -> int:
    """The orientation in an EXIF block; 1 where it says none, or none that makes sense."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 10:
        return 1
    (start,) = unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = unpack_from(order + "H", tiff, start)
    for at in range(start + 2, min(start + 2 + count * 12, len(tiff) - 11), 12):
        tag, kind, _, value = unpack_from(order + "HHIH", tiff, at)
        if tag == 0x0112:
            return value if kind == 3 and 1 <= value <= 8 else 1
    return 1


def _webp(head: bytes) -> Shape | None:
    kind = head[12:16]
    if head[8:12] != b"WEBP":
        return None
    if len(head) < 30:
        return Shape("image/webp", complete=False)
    if kind == b"VP8X":
        flags = head[20]
        width = int.from_bytes(head[24:27], "little") + 1
        height = int.from_bytes(head[27:30], "little") + 1
        # EXIF data stands at the file's end
        return Shape("image/webp", width, height, bool(flags & 16), 0 if flags & 8 else 1, bool(flags & 2))
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return Shape("image/webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", head, 26)
        return Shape("image/webp", width & 0x3FFF, height & 0x3FFF)
    return None


def _gif(head: bytes) -> Shape:
    if len(head) < 13:
        return Shape("image/gif", complete=False)
    width, height = unpack_from("<HH", head, 6)
    at = 13 + (3 << (head[10] & 7) + 1 if head[10] & 0x80 else 0)
    alpha = animated = False
    while at + 14 <= len(head) and head[at] == 0x21:  # extensions, up to the first frame
        if head[at + 1] == 0xF9:
            alpha = bool(head[at + 3] & 1)
        elif head[at + 3 : at + 14] == b"NETSCAPE2.0":  # how often to repeat
            animated = True
        at += 2
        while at < len(head) and head[at]:
            at += 1 + head[at]
        at += 1
    complete = at < len(head) and head[at] == 0x2C
    return Shape("image/gif", width, height, alpha, animated=animated, complete=complete)


_HEIF = {b"avif": "image/avif", b"avis": "image/avif"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "image/heic"
)


def _heif(head: bytes) -> Shape | None:
    """AVIF and HEIC. The largest extent that is written is the picture's; others are thumbnails and tiles."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12]] + [head[at : at + 4] for at in range(16, min(size, len(head)), 4)]
    kinds = [_HEIF[brand] for brand in brands if brand in _HEIF]
    if brands[0] not in _HEIF:
        return None  # a video may list still brands as compatible
    starts = [found.end() + 4 for found in re.finditer(b"ispe", head)]
    extents = [unpack_from(">II", head, at) for at in starts if at + 8 <= len(head)]
    width, height = max(extents, key=lambda extent: extent[0] * extent[1], default=(0, 0))
    kind = "image/avif" if "image/avif" in kinds else "image/heic"
    turned = b"irot" in head or b"imir" in head  # tells the same as EXIF's orientation
    return Shape(
        kind, width, height, b"auxiliary:alpha" in head, 0 if turned else 1, brands[0] in (b"avis", b"msf1", b"hevc"),
        complete=b"mdat" in head,
    )  # fmt: skip


def _bmp(head: bytes) -> Shape | None:
    if any(head[6:10]):
        return None
    if len(head) < 70:
        return Shape("image/bmp", complete=False) if len(head) >= 18 else None
    (size,) = unpack_from("<I", head, 14)
    if size == 12:
        return Shape("image/bmp", *unpack_from("<HH", head, 18))
    if not 40 <= size <= 256:
        return None
    width, height, _, depth, compression = unpack_from("<iiHHI", head, 18)
    alpha = size >= 56 and depth == 32 and compression == 3 and any(head[66:70])
    return Shape("image/bmp", abs(width), abs(height), alpha)  # a negative height: the first row is the top one


# atomic and possessive: a hostile file cannot make it try again
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?(?>\s|<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\])?[^>]*>)*+<svg[\s>]", re.DOTALL
)
_LENGTH = re.compile(rb"""\s(width|height)\s*=\s*["']\s*([\d.]+)(?:px)?\s*["']""")
_VIEW_BOX = re.compile(rb"""\sviewBox\s*=\s*["']\s*[-\d.e]+[\s,]+[-\d.e]+[\s,]+([\d.]+)[\s,]+([\d.]+)\s*["']""")


def _svg(head: bytes) -> Shape | None:
    found = _SVG.match(head, 0, HEADS[0])
    if found is None:
        return None
    end = head.find(b">", found.end() - 1)
    tag = head[found.end() - 1 : end if end >= 0 else len(head)]
    lengths: dict[bytes, bytes] = dict(_LENGTH.findall(tag))
    box = _VIEW_BOX.search(tag)
    wide, high = box.groups() if box else (b"0", b"0")
    try:
        width, height = round(float(lengths.get(b"width", wide))), round(float(lengths.get(b"height", high)))
    except (ValueError, OverflowError):  # no number, or one of hundreds of digits
        width = height = 0
    return Shape("image/svg+xml", width, height, alpha=True, complete=end >= 0)


_READERS: tuple[tuple[bytes, Callable[[bytes], Shape | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"RIFF", _webp),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"II*\0", lambda _: Shape("image/tiff", complete=False)),  # its directory may stand anywhere
    (b"MM\0*", lambda _: Shape("image/tiff", complete=False)),
    (b"BM", _bmp),
)
