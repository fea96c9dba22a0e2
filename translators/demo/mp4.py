"""An MP4 file of one H.264 track, its index before the pictures, so that it plays while it is loaded.

Source: ISO/IEC 14496-12 (boxes), 14496-15 (avc1, avcC), 14496-14 (brands).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

from translators.base import Size

TICKS = 1000  # of the clock, for each frame
UPRIGHT = pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def box(name: str, *parts: bytes) -> bytes:
    """One box: its length, its name, what is in it."""
    return pack(">I4s", 8 + sum(map(len, parts)), name.encode()) + b"".join(parts)


def full(name: str, *parts: bytes, flags: int = 0) -> bytes:
    """One box of version 0 with flags."""
    return box(name, pack(">I", flags), *parts)


def mp4(size: Size, fps: int, sets: tuple[bytes, bytes], frames: Sequence[bytes], keys: Sequence[int]) -> bytes:
    """The file. `sets` are the stream's sequence and picture parameters, `frames` one NAL unit each.

    `keys`: the numbers, from 0, of the frames at which a player may begin.
    """
    kinds = box("ftyp", b"isom", pack(">I", 0x200), b"isomiso2avc1mp41")
    samples = [pack(">I", len(frame)) + frame for frame in frames]
    start = len(kinds) + len(index(size, fps, sets, samples, keys, 0)) + 8
    return kinds + index(size, fps, sets, samples, keys, start) + box("mdat", *samples)


def index(
    size: Size, fps: int, sets: tuple[bytes, bytes], samples: Sequence[bytes], keys: Sequence[int], start: int
) -> bytes:
    """Everything about the pictures, which begin at byte `start`."""
    lasts = pack(">II", fps * TICKS, len(samples) * TICKS)  # the clock's rate, and how long it all is
    no_dates = bytes(8)
    movie = full(
        "mvhd", no_dates, lasts, pack(">IHHQ", 1 << 16, 1 << 8, 0, 0), UPRIGHT, bytes(24), pack(">I", 2)
    )  # fmt: skip
    track = full(
        "tkhd", no_dates, pack(">III", 1, 0, len(samples) * TICKS), bytes(16), UPRIGHT,
        pack(">II", size[0] << 16, size[1] << 16), flags=3,
    )  # fmt: skip
    clock = full("mdhd", no_dates, lasts, pack(">HH", 0x55C4, 0))  # no language
    handler = full("hdlr", pack(">I4s", 0, b"vide"), bytes(12), b"VideoHandler\0")
    place = box("dinf", full("dref", pack(">I", 1), full("url ", flags=1)))  # this file
    media = box("minf", full("vmhd", bytes(8), flags=1), place, table(size, sets, samples, keys, start))
    return box("moov", movie, box("trak", track, box("mdia", clock, handler, media)))


def table(
    size: Size, sets: tuple[bytes, bytes], samples: Sequence[bytes], keys: Sequence[int], start: int
) -> bytes:  # fmt: skip
    """Where each frame is and how it is coded: one run of them."""
    count = len(samples)
    return box(
        "stbl",
        full("stsd", pack(">I", 1), entry(size, *sets)),
        full("stts", pack(">III", 1, count, TICKS)),
        full("stss", pack(">I", len(keys)), *(pack(">I", key + 1) for key in keys)),
        full("stsc", pack(">IIII", 1, 1, count, 1)),
        full("stsz", pack(">II", 0, count), *(pack(">I", len(sample)) for sample in samples)),
        full("stco", pack(">II", 1, start)),
    )


def entry(size: Size, sequence: bytes, picture: bytes) -> bytes:
    """How it is coded; the colours are those of high-definition television, as the stream itself says."""
    said = pack(">B3sBB", 1, sequence[1:4], 0xFF, 0xE1)  # lengths of four bytes, one sequence set
    said += pack(">H", len(sequence)) + sequence + b"\x01" + pack(">H", len(picture)) + picture
    shown = bytes(6) + pack(">H", 1) + bytes(16) + pack(">HHIIIH", *size, 72 << 16, 72 << 16, 0, 1)
    colors = box("colr", b"nclx", pack(">HHHB", 1, 1, 1, 0))
    return box("avc1", shown, bytes(32), pack(">Hh", 24, -1), box("avcC", said), colors)
