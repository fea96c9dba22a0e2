"""Pictures of videos: what is in them, and that hostile ones end."""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path
from struct import pack
from typing import cast

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from proxy.video import poster as posters
from proxy.video.poster import poster, spritesheet
from tests.films import filmed
from tests.pictures import data as file
from translators import load_video
from translators.base import Blob, Done, Fault, blob
from translators.video import VideoJob


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def demo(seconds: int = 2) -> Blob:
    done = load_video("demo").start(
        VideoJob(op="video", model="animation", prompt="a red sky", seconds=seconds, size=(640, 360))
    )
    assert isinstance(done, Done)
    assert done.outputs[0].blob
    return done.outputs[0].blob


def shades(count: int, codec: str = "libx264", format: str = "mp4", size: tuple[int, int] = (96, 64)) -> bytes:
    """Frames from black to white, ten a second, of which the first third is black."""
    out = io.BytesIO()
    with av.open(out, "w", format=format) as made:
        stream = made.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(count):
            frame = av.VideoFrame(*size, "yuv420p")
            light = 16 if number < count // 3 else 16 + 219 * number // (count - 1)
            for plane, value in zip(frame.planes, (light, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts = number
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return out.getvalue()


def light(image: Image.Image, x: int, y: int) -> int:
    return cast("tuple[int, ...]", image.convert("RGB").getpixel((x, y)))[1]


@pytest.mark.parametrize(("codec", "format"), [("libx264", "mp4"), ("libvpx-vp9", "webm"), ("libx264", "matroska")])
def test_a_poster_is_of_the_first_frame_that_is_not_black(codec: str, format: str) -> None:
    image = opened(poster(blob(shades(30, codec, format))))
    assert (image.format, image.size) == ("WEBP", (96, 64))
    assert light(image, 48, 32) == pytest.approx(255 * 10 / 29, abs=6)


def test_of_a_black_one_there_is_a_poster_too() -> None:
    out = poster(blob(filmed("mp4")))  # green, as all zeros are
    assert opened(out).size == (96, 64)


def test_a_poster_is_no_larger_than_asked_for() -> None:
    assert opened(poster(demo(), side=200)).size == (200, 112)
    assert opened(poster(demo())).size == (640, 360)


def test_a_sheet_goes_from_the_beginning_to_the_end() -> None:
    image = opened(spritesheet(blob(shades(50)), grid=(5, 5), tile=48))
    assert (image.format, image.size) == ("JPEG", (240, 160))
    seen = [light(image, 24 + 48 * (number % 5), 16 + 32 * (number // 5)) for number in range(25)]
    assert seen[0] < 10
    assert seen[-1] > 235
    assert seen == pytest.approx(sorted(seen), abs=3)
    assert len({value // 6 for value in seen}) >= 15


def test_a_sheet_of_fewer_frames_than_it_has_places() -> None:
    image = opened(spritesheet(blob(shades(3)), grid=(4, 2), tile=32))
    seen = [light(image, 16 + 32 * (number % 4), 10 + 21 * (number // 4)) for number in range(8)]
    assert seen[0] < 10
    assert seen[-1] > 235
    assert seen == pytest.approx(sorted(seen), abs=3)


def test_a_sheet_of_the_demos_own() -> None:
    assert opened(spritesheet(demo())).size == (1280, 720)


def test_a_sheet_of_a_long_one_is_of_key_frames() -> None:
    image = opened(spritesheet(blob(shades(1800, size=(32, 32))), tile=16))
    assert image.size == (80, 80)
    assert light(image, 72, 72) > 200


def test_files_and_received_bytes_are_the_same(tmp_path: Path) -> None:
    data = shades(10)
    path = tmp_path / "made.mp4"
    path.write_bytes(data)
    expected = poster(blob(data))
    assert poster(path) == poster(io.BytesIO(data)) == expected
    assert poster(Blob((data[:100], data[100:333], data[333:]), len(data))) == expected
    assert spritesheet(path) == spritesheet(blob(data))


def test_a_turned_one_is_shown_as_it_is_seen() -> None:
    data = shades(4)
    upright = pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    turned = data[:at] + pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30) + data[at + 36 :]
    assert opened(poster(blob(turned))).size == (64, 96)
    assert opened(spritesheet(blob(turned), grid=(2, 1), tile=48)).size == (64, 48)


def test_a_quarter_turn_goes_to_the_right() -> None:
    """As of a telephone that is held upright: what the file has at its left is on top."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as made:
        stream = made.add_stream("libx264", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        frame = av.VideoFrame(96, 64, "yuv420p")
        row = bytes([235] * 48 + [16] * 48)
        frame.planes[0].update(b"".join(row.ljust(frame.planes[0].line_size, b"\x10") for _ in range(64)))
        for plane in frame.planes[1:]:
            plane.update(b"\x80" * plane.buffer_size)
        frame.pts = 0
        made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    data = out.getvalue()
    upright = pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    image = opened(
        poster(blob(data[:at] + pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30) + data[at + 36 :]))
    )
    assert image.size == (64, 96)
    assert light(image, 32, 8) > 200
    assert light(image, 32, 88) < 40


# ---- what cannot be


@pytest.mark.parametrize("make", [poster, spritesheet])
@pytest.mark.parametrize(
    "data",
    [b"", b"no video", file("photo.png"), file("clip.mp4"), shades(5)[:200], b"#EXTM3U\nfile:///etc/passwd\n",
     filmed("matroska", "ffv1")],
    ids=["empty", "text", "picture", "no-index", "cut-off", "playlist", "codec"],
)  # fmt: skip
def test_of_others_there_is_none(make: object, data: bytes) -> None:
    assert callable(make)
    with pytest.raises(Fault) as caught:
        make(blob(data))
    assert (caught.value.kind, caught.value.code) == ("invalid", "poster_unavailable")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(Fault, match=r"pip install pictor\[video\]") as caught:
        poster(blob(shades_made))
    assert (caught.value.kind, caught.value.code) == ("missing", "poster_unavailable")


shades_made = shades(6)


def test_frames_beyond_the_bound_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shades(60)
    monkeypatch.setattr(posters, "FRAMES", 30)
    image = opened(spritesheet(blob(data), grid=(2, 1), tile=32))
    assert light(image, 48, 10) < 140  # the thirtieth stands for all that come after it
    monkeypatch.setattr(posters, "SECONDS", -1.0)
    with pytest.raises(Fault, match="no frame"):
        poster(blob(data))


def test_pixels_beyond_the_bound_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posters, "PIXELS", 96 * 63)
    with pytest.raises(Fault, match="96x64"):
        poster(blob(shades_made))


@settings(max_examples=40, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([shades_made, filmed("webm", "libvpx"), demo(1).bytes()[:60_000]]),
)
def test_a_damaged_one_is_shown_or_refused(draw: random.Random, data: bytes) -> None:
    broken = bytearray(data)
    for _ in range(draw.randrange(1, 30)):
        broken[draw.randrange(len(broken))] = draw.randrange(256)
    for make in (poster, spritesheet):
        try:
            assert opened(make(blob(bytes(broken)))).size > (0, 0)
        except Fault as fault:
            assert fault.code == "poster_unavailable"
