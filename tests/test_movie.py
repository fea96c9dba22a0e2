"""What a video's boxes tell of it, against files that another library writes, and against broken ones."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping
from itertools import pairwise
from struct import pack

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.movie import LONGEST, STEPS, Movie, kind, look, look_at
from tests.films import filmed
from translators import load_video
from translators.base import Blob, Done, blob
from translators.video import VideoJob

FASTSTART: Mapping[str, str] = {"movflags": "faststart"}
FRAGMENTS: Mapping[str, str] = {"movflags": "frag_keyframe+empty_moov"}
DASH: Mapping[str, str] = {"movflags": "dash+frag_keyframe"}


def seen(data: bytes) -> Movie | None:
    return look(lambda start, stop: data[start:stop], len(data))


def usual(options: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(options.items())


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (filmed("mp4"), "video/mp4"),
        (filmed("mp4", options=usual(FASTSTART)), "video/mp4"),
        (filmed("mp4", options=usual(FRAGMENTS)), "video/mp4"),
        (filmed("mp4", options=usual(DASH)), "video/mp4"),
        (filmed("mp4", options=usual(FRAGMENTS), seekable=False), "video/mp4"),
        (filmed("mov"), "video/quicktime"),
        (filmed("webm", "libvpx"), "video/webm"),
        (filmed("webm", "libvpx", seekable=False), "video/webm"),
        (filmed("webm", "libvpx", options=(("live", "1"),), seekable=False), "video/webm"),
        (filmed("matroska"), "video/x-matroska"),
    ],
    ids=["mp4", "faststart", "fragments", "dash", "recorded", "mov", "webm", "webm-recorded", "webm-live", "mkv"],
)
def test_what_others_write(data: bytes, type: str) -> None:
    found = seen(data)
    assert found
    assert (found.type, found.width, found.height, found.has_sound) == (type, 96, 64, False)
    assert found.seconds == pytest.approx(2.5, abs=0.01)


@pytest.mark.parametrize(
    "data",
    [
        filmed("mp4", sound="aac"),
        filmed("mp4", sound="aac", options=usual(FRAGMENTS)),
        filmed("mov", sound="aac"),
        filmed("webm", "libvpx", sound="libopus"),
    ],
    ids=["mp4", "fragments", "mov", "webm"],
)
def test_what_sounds(data: bytes) -> None:
    found = seen(data)
    assert found
    assert (found.width, found.height, found.has_sound) == (96, 64, True)
    with av.open(io.BytesIO(data), mode="r") as known:
        assert known.duration
        assert found.seconds == pytest.approx(known.duration / 1e6, abs=0.03)


def test_the_demos_own() -> None:
    done = load_video("demo").start(VideoJob(op="video", model="animation", prompt="x", seconds=2, size=(640, 360)))
    assert isinstance(done, Done)
    assert done.outputs[0].blob
    assert look_at(done.outputs[0].blob) == Movie("video/mp4", 640, 360, 2.0)


def test_a_turned_one_is_measured_as_it_is_seen() -> None:
    data = filmed("mp4")
    upright = pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    for matrix, size in (((0, 1, -1, 0), (64, 96)), ((0, -1, 1, 0), (64, 96)), ((-1, 0, 0, -1), (96, 64))):
        a, b, c, d = (value << 16 for value in matrix)
        found = seen(data[:at] + pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :])
        assert found
        assert (found.width, found.height) == size


def test_long_sizes_and_long_clocks() -> None:
    """Boxes of more than 4 GB say their size in eight bytes, and so do long films their length."""
    data = filmed("mp4", options=usual(FASTSTART))
    at = data.index(b"mdat") - 4
    wide = data[:at] + pack(">I4sQ", 1, b"mdat", len(data) - at + 8) + data[at + 8 :]
    assert seen(wide) == seen(data)
    clock = pack(">IQQIQ", 1 << 24, 0, 0, 1000, 90_000) + bytes(80)
    film = box("moov", box("mvhd", clock), box("trak", box("mdia", box("hdlr", bytes(8) + b"vide" + bytes(12)))))
    assert seen(box("ftyp", b"isom", bytes(4)) + wide_box("mdat", bytes(100)) + film) == Movie(
        "video/mp4", seconds=90.0
    )


def box(name: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return pack(">I4s", 8 + len(body), name.encode()) + body


def wide_box(name: str, body: bytes) -> bytes:
    return pack(">I4sQ", 1, name.encode(), 16 + len(body)) + body


# ---- received bytes


def test_bytes_in_pieces_and_in_base64() -> None:
    data = filmed("mp4", sound="aac")
    whole = seen(data)
    draw = random.Random(1)
    for _ in range(20):
        cuts = sorted({0, len(data), *(draw.randrange(len(data)) for _ in range(30))})
        pieces = tuple(data[start:stop] for start, stop in pairwise(cuts))
        assert look_at(Blob(pieces, len(data))) == whole
    assert look_at(blob(base64.b64encode(data), "base64")) == whole
    assert look_at(blob(data.hex().encode(), "hex")) == whole
    with pytest.raises(ValueError, match="base64"):
        look_at(blob(b"!" * 400, "base64"))


def test_little_of_a_large_one_is_read() -> None:
    data = filmed("mp4")
    at = data.index(b"mdat") - 4
    end = at + int.from_bytes(data[at : at + 4], "big")
    far = 1 << 40  # bytes of pictures before the index
    head, tail = data[:at] + pack(">I4sQ", 1, b"mdat", far), data[end:]
    size = len(head) + far - 16 + len(tail)
    read = 0

    def sparse(start: int, stop: int) -> bytes:
        nonlocal read
        read += stop - start
        gone = size - len(tail)
        return head[start:stop] if start < len(head) else tail[start - gone : stop - gone]

    found = look(sparse, size)
    assert found == seen(data)
    assert read < 4096


# ---- what is none, and what is broken


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"GIF89a" + bytes(60), b"\x89PNG\r\n\x1a\n" + bytes(60), b"<svg>", bytes(64),
     b"\x1aE\xdf\xa3" + bytes(60),
     box("ftyp", b"avif", bytes(4)), box("ftyp", b"heic", bytes(4)), box("ftyp", b"M4A ", bytes(4))],
)  # fmt: skip
def test_what_is_no_video(data: bytes) -> None:
    assert kind(data) is None
    assert seen(data) is None


def test_sound_alone_is_no_video() -> None:
    track = box("trak", box("mdia", box("hdlr", bytes(8) + b"soun" + bytes(12))))
    assert seen(box("ftyp", b"isom", bytes(4)) + box("moov", track)) is None


def test_one_without_an_index_is_of_no_size() -> None:
    assert seen(filmed("mp4")[:500]) == Movie("video/mp4")


def test_it_says_nothing_that_cannot_be() -> None:
    clock = pack(">IIIII", 0, 0, 0, 1, 1 << 31) + bytes(80)
    assert LONGEST < 1 << 31
    assert seen(box("ftyp", b"isom", bytes(4)) + box("moov", box("mvhd", clock))) == Movie("video/mp4")
    unknown = pack(">IIIII", 0, 0, 0, 1, 0xFFFFFFFF) + bytes(80)
    assert seen(box("ftyp", b"isom", bytes(4)) + box("moov", box("mvhd", unknown))) == Movie("video/mp4")


@pytest.mark.parametrize(
    "junk",
    [box("free") * 400_000, b"\xec\x80" * 400_000, b"\xe7\x81\1" * 400_000, b"\xa0\x80" * 400_000],
    ids=["boxes", "voids", "stamps", "groups"],
)
def test_it_does_not_go_on_for_ever(junk: bytes) -> None:
    steps = 0
    head = box("ftyp", b"isom", bytes(4)) if b"free" in junk else filmed("webm", "libvpx")[:40]
    data = head + junk

    def counted(start: int, stop: int) -> bytes:
        nonlocal steps
        steps += 1
        return data[start:stop]

    assert look(counted, len(data))
    assert steps <= STEPS + 1


WHOLE = (
    filmed("mp4", sound="aac"), filmed("mp4", options=usual(FRAGMENTS)), filmed("mp4", options=usual(DASH)),
    filmed("mov"), filmed("webm", "libvpx", sound="libopus"), filmed("webm", "libvpx", seekable=False),
)  # fmt: skip


def sensible(found: Movie | None) -> None:
    if found:
        assert found.type.startswith("video/")
        assert 0 <= found.seconds <= LONGEST
        assert found.width >= 0
        assert found.height >= 0


@given(st.sampled_from(WHOLE), st.integers(0, 1 << 20))
def test_one_that_is_cut_off(data: bytes, end: int) -> None:
    sensible(seen(data[: end % (len(data) + 1)]))


@given(
    st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=9)), max_size=9)
)
def test_one_that_is_damaged(data: bytes, changes: list[tuple[int, bytes]]) -> None:
    broken = bytearray(data)
    for place, what in changes:
        at = place % min(len(data), 3000) if place % 2 else place % len(data)
        broken[at : at + len(what)] = what
    sensible(seen(bytes(broken)))
    sensible(look_at(blob(bytes(broken))))


NAMES = ("moov", "trak", "mdia", "minf", "stbl", "mvhd", "tkhd", "mdhd", "hdlr", "stsd", "mvex", "mehd", "trex", "moof",
         "traf", "tfhd", "tfdt", "trun", "sidx", "mdat")  # fmt: skip
LEAVES = st.builds(box, st.sampled_from(NAMES), st.binary(max_size=120))
TREES = st.recursive(
    LEAVES, lambda inner: st.builds(lambda name, parts: box(name, *parts), st.sampled_from(NAMES), st.lists(inner)),
    max_leaves=40,
)  # fmt: skip


@given(st.lists(TREES, max_size=6))
def test_any_tree_of_boxes(trees: list[bytes]) -> None:
    sensible(seen(box("ftyp", b"isom", bytes(4)) + b"".join(trees)))


IDS = tuple(bytes.fromhex(text) for text in (
    "18538067", "1f43b675", "a0", "1549a966", "2ad7b1", "4489", "1654ae6b", "ae", "83", "e0", "b0", "ba", "7670",
    "7675", "e7", "a3", "a1", "ec",
))  # fmt: skip
ELEMENTS = st.builds(
    lambda id, body, open: id + (b"\xff" if open else bytes([0x80 | len(body)])) + body,
    st.sampled_from(IDS), st.binary(max_size=12), st.booleans(),
)  # fmt: skip


@given(st.lists(ELEMENTS, max_size=60))
def test_any_row_of_elements(elements: list[bytes]) -> None:
    sensible(seen(filmed("webm", "libvpx")[:40] + b"".join(elements)))


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    sensible(seen(data))
