"""What a video is, by its boxes alone: type, size, length, whether it sounds. No picture is decoded.

Read are MP4 and QuickTime, whole or in fragments, with the index anywhere; WebM and Matroska, also as they are
recorded, without a length. However it is made, no more than `STEPS` small pieces of it are looked at: what is not found
by then is told as 0.

Source: ISO/IEC 14496-12 (boxes), RFC 8794 and RFC 9559 (EBML, Matroska).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from struct import unpack
from typing import TypeAlias

import msgspec

from translators.base import Blob

Read: TypeAlias = Callable[[int, int], bytes]
"""The bytes from a start to before a stop, fewer only where the file ends."""

STEPS = 20_000
PIECE = 1 << 16  # bytes of one piece at most
LONGEST = 1e6  # seconds; what claims more says nothing


class Movie(msgspec.Struct, frozen=True):
    """A video as it is seen: a rotation that the file asks for is done. Sizes and length are 0 where it tells none."""

    type: str  # video/mp4, video/quicktime, video/webm, video/x-matroska
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    has_sound: bool = False


def kind(head: bytes) -> str | None:
    """The type of the video that begins with `head`, 64 bytes or more; `None` where none does."""
    if head.startswith(b"\x1aE\xdf\xa3"):
        name = head[: head.find(b"\x18S\x80g")] if b"\x18S\x80g" in head else head
        if b"\x42\x82" in name:
            return "video/webm" if b"webm" in name else "video/x-matroska" if b"matroska" in name else None
        return None
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return None if brand in _OTHERS else "video/quicktime" if brand == b"qt  " else "video/mp4"
    return "video/quicktime" if head[4:8] in {b"moov", b"mdat", b"wide"} else None


_OTHERS = frozenset({
    b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"crx ", b"jp2 ",
    b"M4A ", b"M4B ", b"M4P ",
})  # fmt: skip
"""Pictures and sound in the same boxes."""


def look(read: Read, size: int) -> Movie | None:
    """What the file of `size` bytes is; `None` where it is no video. Raises what `read` raises, and nothing else."""
    type = kind(read(0, min(64, size)))
    if type is None:
        return None
    source = Source(read, size)
    return of_matroska(source, type) if type in {"video/webm", "video/x-matroska"} else of_boxes(source, type)


def look_at(blob: Blob) -> Movie | None:
    """`look` at received bytes. It is walked once, up to where all is known. Raises `ValueError` on broken base64."""
    return look(Walk(blob).read, blob.length)


class Walk:
    """Reads a blob piece by piece as it is asked for more; from the start again where it is asked for what is past."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._again()

    def _again(self) -> None:
        self._pieces = self._blob.decoded()
        self._piece, self._at = b"", 0  # where the piece begins

    def read(self, start: int, stop: int) -> bytes:
        """See `Read`."""
        if start < self._at:
            self._again()
        got = bytearray()
        while start < stop:
            got += self._piece[start - self._at : stop - self._at] if start < self._at + len(self._piece) else b""
            start = max(start, min(stop, self._at + len(self._piece)))
            if start < stop:
                self._at += len(self._piece)
                piece = next(self._pieces, None)
                self._piece = piece or b""
                if piece is None:
                    break
        return bytes(got)


class Source:
    """The file, of which only so much is read."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self.size = size
        self.steps = STEPS

    def take(self, start: int, count: int) -> bytes:
        """Up to `count` bytes; none beyond the end, or once enough has been read."""
        if self.steps <= 0 or not 0 <= start < self.size:
            return b""
        self.steps -= 1
        return self._read(start, min(start + min(count, PIECE), self.size))


def number(data: bytes, at: int, count: int) -> int:
    """The number in these bytes; of what is cut off, less."""
    return int.from_bytes(data[at : at + count], "big")


def sane(seconds: float) -> float:
    """A length that can be."""
    return seconds if isfinite(seconds) and 0 < seconds <= LONGEST else 0.0


# ---- MP4 and QuickTime


@dataclass
class Track:
    """One track, as far as it has been read."""

    id: int = 0
    handler: bytes = b""
    scale: int = 0
    lasts: int = 0  # in its own scale
    size: tuple[int, int] = (0, 0)  # as shown
    coded: tuple[int, int] = (0, 0)
    turned: bool = False


@dataclass
class Film:
    """The index, as far as it has been read."""

    scale: int = 0
    lasts: int = 0  # in that scale
    whole: bool = True  # fragments, if there are any, are counted in
    tracks: list[Track] = field(default_factory=list)
    usual: dict[int, int] = field(default_factory=dict)  # a sample's length by the track's id, in the track's scale
    begins: dict[int, int] = field(default_factory=dict)  # of what fragments hold, in the track's scale
    ends: dict[int, int] = field(default_factory=dict)
    indexed: float = 0.0  # seconds of all segments


Found: TypeAlias = tuple[bytes, int, int]
"""A box: its name, where its body begins, where it ends."""


def boxes(source: Source, start: int, end: int) -> Iterator[Found]:
    """The boxes between these bytes, up to one that cannot be."""
    while start + 8 <= end:
        head = source.take(start, 16)
        size, name, body = number(head, 0, 4), head[4:8], start + 8
        if size == 1:
            size, body = number(head, 8, 8), start + 16
        elif size == 0:
            size = end - start
        if len(head) < body - start or size < body - start:
            return
        yield name, body, min(start + size, end)
        start += size


def of_boxes(source: Source, type: str) -> Movie | None:
    """Goes from box to box up to the index; through the fragments where that has no length."""
    film = Film()
    for name, body, end in boxes(source, 0, source.size):
        if name == b"moov":
            read_index(source, film, body, end)
            if film.whole:
                break
        elif name == b"moof":
            read_fragment(source, film, body, end)
        elif name == b"sidx":
            film.indexed += indexed(source, body, end)
    seen = next((track for track in film.tracks if track.handler == b"vide"), None if film.tracks else Track())
    if seen is None:
        return None  # sound alone
    width, height = seen.coded if all(seen.coded) else seen.size
    if seen.turned:
        width, height = height, width
    sounds = any(track.handler == b"soun" for track in film.tracks)
    return Movie(type, width, height, sane(length(film)), sounds)


def length(film: Film) -> float:
    """As the index says, and not less than its fragments; else as its longest track; else as segments are announced."""
    scales = {track.id: track.scale for track in film.tracks if track.scale}
    pieces = [(end - film.begins[id]) / scales[id] for id, end in film.ends.items() if id in scales]
    told = film.lasts / film.scale if film.scale else 0.0
    tracks = [track.lasts / track.scale for track in film.tracks if track.scale]
    return max([told, *pieces]) or max(tracks, default=0.0) or film.indexed


def read_index(source: Source, film: Film, start: int, end: int) -> None:
    """`moov`."""
    for name, body, stop in boxes(source, start, end):
        if name == b"mvhd":
            film.scale, film.lasts = clock(source.take(body, 32))
        elif name == b"trak":
            track = Track()
            read_track(source, track, body, stop)
            film.tracks.append(track)
        elif name == b"mvex":
            film.whole = False
            for inner, at, _ in boxes(source, body, stop):
                data = source.take(at, 16)
                if inner == b"mehd":
                    lasts = number(data, 4, 8 if data[:1] == b"\1" else 4)
                    film.lasts, film.whole = max(film.lasts, lasts), lasts > 0
                elif inner == b"trex":
                    film.usual[number(data, 4, 4)] = number(data, 12, 4)


def clock(data: bytes) -> tuple[int, int]:
    """Ticks a second, and the length in ticks, of `mvhd` and `mdhd`; 0 where it is not known."""
    long = data[:1] == b"\1"
    wide = 8 if long else 4
    lasts = number(data, 24 if long else 16, wide)
    return number(data, 20 if long else 12, 4), 0 if lasts == (1 << 8 * wide) - 1 else lasts


def read_track(source: Source, track: Track, start: int, end: int) -> None:
    """`trak`, and what of it lies deeper."""
    for name, body, stop in boxes(source, start, end):
        if name in {b"mdia", b"minf", b"stbl"}:
            read_track(source, track, body, stop)
        elif name == b"tkhd":
            data = source.take(body, 96)
            later = 12 if data[:1] == b"\1" else 0
            track.id = number(data, 12 + later - (later and 4), 4)
            a, b, c, d = (number(data, 40 + later + at, 4) for at in (0, 4, 12, 16))
            track.turned = not (a or d) and bool(b and c)
            track.size = number(data, 76 + later, 2), number(data, 80 + later, 2)
        elif name == b"mdhd":
            track.scale, track.lasts = clock(source.take(body, 32))
        elif name == b"hdlr" and not track.handler:  # QuickTime has another one, for where the data is
            track.handler = source.take(body, 12)[8:12]
        elif name == b"stsd":
            data = source.take(body, 44)
            track.coded = number(data, 40, 2), number(data, 42, 2)


def read_fragment(source: Source, film: Film, start: int, end: int) -> None:
    """`moof`: where each of its tracks has got to."""
    for name, body, stop in boxes(source, start, end):
        if name != b"traf":
            continue
        track = usual = lasts = 0
        at: int | None = None
        for inner, inside, last in boxes(source, body, stop):
            if inner == b"tfhd":
                data = source.take(inside, 28)
                flags, track = number(data, 1, 3), number(data, 4, 4)
                place = 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
                usual = number(data, place, 4) if flags & 8 else film.usual.get(track, 0)
            elif inner == b"tfdt":
                data = source.take(inside, 12)
                at = number(data, 4, 8 if data[:1] == b"\1" else 4)
            elif inner == b"trun":
                lasts += run(source, inside, last, usual)
        at = film.ends.get(track, 0) if at is None else at
        film.begins[track] = min(film.begins.get(track, at), at)
        film.ends[track] = max(film.ends.get(track, 0), at + lasts)


def run(source: Source, start: int, end: int, usual: int) -> int:
    """The length of the samples of one `trun`."""
    head = source.take(start, 8)
    flags, count = number(head, 1, 3), number(head, 4, 4)
    if not flags & 0x100:
        return count * usual
    place = start + 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    each = 4 * sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    total = 0
    stop = min(place + count * each, end)
    while place < stop:
        data = source.take(place, min(PIECE // each * each, stop - place))
        if not data:
            break
        total += sum(number(data, at, 4) for at in range(0, len(data), each))
        place += len(data)
    return total


def indexed(source: Source, start: int, end: int) -> float:
    """The seconds that a `sidx` announces."""
    head = source.take(start, 32)
    later = 8 if head[:1] == b"\1" else 0
    scale, count = number(head, 8, 4), number(head, 22 + later, 2)
    data = source.take(start + 24 + later, min(12 * count, max(end - start - 24 - later, 0)))
    ticks = sum(number(data, at + 4, 4) for at in range(0, len(data), 12))
    return ticks / scale if scale else 0.0


# ---- WebM and Matroska

SEGMENT, CLUSTER, GROUP = 0x18538067, 0x1F43B675, 0xA0
INFO, SCALE, DURATION = 0x1549A966, 0x2AD7B1, 0x4489
TRACKS, ENTRY, KIND, VIDEO, WIDTH, HEIGHT = 0x1654AE6B, 0xAE, 0x83, 0xE0, 0xB0, 0xBA
PROJECTION, ROLL = 0x7670, 0x7675
STAMP, SIMPLE, BLOCK = 0xE7, 0xA3, 0xA1
OPENED = frozenset({SEGMENT, CLUSTER, GROUP, INFO, TRACKS, ENTRY, VIDEO, PROJECTION})
"""What is gone into, not around: also the right thing where it does not say how long it is."""


@dataclass
class Reel:
    """What elements have told so far."""

    scale: int = 1_000_000  # nanoseconds of a tick
    duration: float = 0.0  # ticks
    kinds: list[int] = field(default_factory=list)  # of tracks
    width: int = 0
    height: int = 0
    turned: bool = False
    cluster: int = 0  # ticks
    last: int = 0
    gap: int = 0  # from one block to the next


def of_matroska(source: Source, type: str) -> Movie | None:
    """Goes from element to element up to the pictures; through them where no length was told before."""
    reel = Reel()
    at = 0
    while at < source.size:
        head = source.take(at, 12)
        id, wide = element(head)
        count, used = sized(head[wide:])
        if not wide or not used:
            break
        body = at + wide + used
        if id == CLUSTER and reel.duration and reel.kinds:
            break
        if id in OPENED:
            at = body
            continue
        if count is None:
            break  # only those that are opened may leave it out
        if id in WANTED:
            WANTED[id](reel, source.take(body, min(count, 8)))
        at = body + count
    if reel.kinds and 1 not in reel.kinds:
        return None  # sound alone
    ticks = reel.duration or (reel.last + reel.gap if reel.last else 0)
    width, height = (reel.height, reel.width) if reel.turned else (reel.width, reel.height)
    return Movie(type, width, height, sane(ticks * reel.scale / 1e9), 2 in reel.kinds)


def element(head: bytes) -> tuple[int, int]:
    """An element's id, and of how many bytes that is; 0 where it is none."""
    wide = 9 - head[0].bit_length() if head and head[0] > 0x0F else 0
    return (number(head, 0, wide), wide) if wide and len(head) >= wide else (0, 0)


def sized(head: bytes) -> tuple[int | None, int]:
    """A size, `None` where it is left open, and of how many bytes that is; 0 where it is none."""
    wide = 9 - head[0].bit_length() if head and head[0] else 0
    if not wide or len(head) < wide:
        return None, 0
    value = number(head, 0, wide) & (1 << 7 * wide) - 1
    return (None if value == (1 << 7 * wide) - 1 else value), wide


def real(data: bytes) -> float:
    """A number with a fraction."""
    found: float = unpack(">d" if len(data) == 8 else ">f", data)[0] if len(data) in {4, 8} else 0.0
    return found if isfinite(found) else 0.0


def read_scale(reel: Reel, data: bytes) -> None:
    """Nanoseconds of a tick."""
    reel.scale = number(data, 0, 8) or reel.scale


def read_duration(reel: Reel, data: bytes) -> None:
    """Ticks of all of it."""
    reel.duration = max(real(data), 0.0)


def read_kind(reel: Reel, data: bytes) -> None:
    """1: pictures, 2: sound."""
    reel.kinds.append(number(data, 0, 8))


def read_width(reel: Reel, data: bytes) -> None:
    """Pixels of the first track of pictures."""
    reel.width = reel.width or number(data, 0, 8)


def read_height(reel: Reel, data: bytes) -> None:
    """Pixels of the first track of pictures."""
    reel.height = reel.height or number(data, 0, 8)


def read_roll(reel: Reel, data: bytes) -> None:
    """Degrees by which it is turned."""
    reel.turned = round(real(data)) % 180 == 90


def read_stamp(reel: Reel, data: bytes) -> None:
    """Ticks at which a cluster begins."""
    reel.cluster = number(data, 0, 8)


def read_block(reel: Reel, data: bytes) -> None:
    """A block stands at some ticks after its cluster's."""
    _, wide = sized(data)
    if not wide or len(data) < wide + 2:
        return
    at = reel.cluster + int.from_bytes(data[wide : wide + 2], "big", signed=True)
    if at > reel.last:
        reel.last, reel.gap = at, at - reel.last


WANTED: dict[int, Callable[[Reel, bytes], None]] = {
    SCALE: read_scale, DURATION: read_duration, KIND: read_kind, WIDTH: read_width, HEIGHT: read_height,
    ROLL: read_roll, STAMP: read_stamp, SIMPLE: read_block, BLOCK: read_block,
}  # fmt: skip
