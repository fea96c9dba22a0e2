"""What the demo animates: real videos of the length and size asked for, which a decoder of others' making reads."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import av
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat

from tests.pictures import media
from translators import load_video
from translators.base import Done, Fault, Media, Size, blob
from translators.demo import h264
from translators.demo.mp4 import mp4
from translators.video import VideoJob

DEMO = load_video("demo")
CAPS = DEMO.VIDEOS["animation"]
SMALL = (640, 360)


def job(**fields: Any) -> VideoJob:
    usual: dict[str, Any] = {"op": "video", "model": "animation", "prompt": "a red barn", "size": SMALL, "seconds": 1}
    return VideoJob(**usual | fields)


def made(**fields: Any) -> Done:
    done = DEMO.start(job(**fields))
    assert isinstance(done, Done)
    return done


def data(done: Done) -> bytes:
    (output,) = done.outputs
    assert output.blob
    return output.blob.bytes()


def origin(done: Done) -> dict[str, str]:
    return cast("dict[str, str]", done.outputs[0].extra["origin"])


def decoded(file: bytes) -> Iterator[av.VideoFrame]:
    """Every frame; the decoder forgives nothing."""
    with av.open(io.BytesIO(file), mode="r", options={"err_detect": "explode"}) as found:
        stream = found.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        yield from found.decode(stream)


def shown(file: bytes) -> list[Image.Image]:
    return [
        Image.frombytes("RGB", (frame.width, frame.height), bytes(plane), "raw", "RGB", plane.line_size)
        for frame in decoded(file)
        for plane in frame.reformat(format="rgb24").planes
    ]


def planes(frame: av.VideoFrame) -> list[Image.Image]:
    """What the decoder made, without anything done to its colours."""
    return [
        Image.frombytes("L", (plane.width, plane.height), bytes(plane), "raw", "L", plane.line_size)
        for plane in frame.planes
    ]


def farthest(one: Image.Image, other: Image.Image) -> int:
    """By how much they differ where they differ most."""
    steps = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getextrema()
    return max(cast("tuple[int, int]", band)[1] for band in steps)


# ---- the file


@pytest.mark.parametrize("size", CAPS.sizes)
def test_it_has_the_size_and_the_length_asked_for(size: Size) -> None:
    with av.open(io.BytesIO(data(made(size=size, seconds=2))), mode="r") as found:
        (stream,) = found.streams
        assert isinstance(stream, av.VideoStream)
        assert (stream.width, stream.height) == size
        assert (stream.frames, stream.duration) == (20, 20_000)
        assert stream.average_rate == 10
        assert stream.codec_context.profile == "Constrained Baseline"
        frames = list(found.decode(stream))
    assert [frame.pts for frame in frames] == list(range(0, 20_000, 1000))
    assert [number for number, frame in enumerate(frames) if frame.key_frame] == [0]
    assert {(frame.width, frame.height) for frame in frames} == {size}


@pytest.mark.parametrize("seconds", CAPS.seconds)
def test_every_length_and_every_frame(seconds: int) -> None:
    frames = shown(data(made(seconds=seconds)))
    assert len(frames) == 10 * seconds
    assert all(farthest(one, other) > 20 for one, other in pairwise(frames)), "something moves all the time"


def test_its_colours_are_named() -> None:
    (frame, *_) = decoded(data(made()))
    assert (frame.color_range, frame.colorspace) == (1, 1)  # narrow, BT.709
    assert (frame.color_primaries, frame.color_trc) == (1, 1)


def test_the_index_comes_before_the_pictures() -> None:
    file = data(made())
    assert file.index(b"moov") < file.index(b"mdat")


def test_a_long_large_one_is_a_small_file() -> None:
    assert len(data(made(size=(1792, 1024), seconds=8))) < 3_000_000
    assert len(data(made(size=(1280, 720), seconds=8, first=media("photo.jpg")))) < 3_000_000


# ---- what is to be seen


def test_the_same_words_and_seed_make_the_same_video() -> None:
    assert data(made(seed=4)) == data(made(seed=4))
    assert data(made()) == data(made(seed=0))
    assert len({data(made(**fields)) for fields in ({}, {"seed": 1}, {"prompt": "x"}, {"negative_prompt": "y"})}) == 4


def test_the_prompts_colours_are_in_it() -> None:
    for name, band in (("red", 0), ("lime", 1), ("blue", 2)):
        first = shown(data(made(prompt=f"a {name} sky")))[0].crop((0, 0, 640, 180))
        pixels = [first.getpixel((x, y)) for x in range(0, 640, 16) for y in range(0, 180, 6)]
        strong = [cast("tuple[int, ...]", pixel)[band] - min(cast("tuple[int, ...]", pixel)) for pixel in pixels]
        assert max(strong) > 200, name


def test_a_first_frame_is_the_first_frame() -> None:
    picture = Image.radial_gradient("L").resize(SMALL).convert("RGB")
    ImageDraw.Draw(picture).rectangle((200, 100, 330, 210), fill="orange")
    out = io.BytesIO()
    picture.save(out, "PNG")
    given = Media(blob=blob(out.getvalue()), type="image/png", width=640, height=360)
    frames = shown(data(made(first=given)))
    above = (0, 0, 640, 330)  # of the signature
    apart = ImageStat.Stat(ImageChops.difference(frames[0].crop(above), picture.crop(above)))
    assert max(apart.mean) < 2  # all but the edges of colours, which are half as fine
    center = (220, 120, 310, 190)
    assert farthest(frames[0].crop(center), picture.crop(center)) <= 4
    assert farthest(frames[9], frames[0]) > 50


def test_a_first_frame_that_is_none() -> None:
    broken = Media(blob=blob(b"no picture"), type="image/png")
    with pytest.raises(Fault) as caught:
        made(first=broken)
    assert (caught.value.kind, caught.value.param) == ("invalid", "input_reference")


def test_without_a_size_the_first_frame_decides_which_way_is_up() -> None:
    tall = Media(blob=media("photo.png").blob, type="image/png", width=30, height=40)
    assert shown(data(made(size=None, first=tall)))[0].size == (720, 1280)
    assert shown(data(made(size=None)))[0].size == (1280, 720)
    assert shown(data(made(size=None, ratio="1:1", resolution="360p")))[0].size == (480, 480)


# ---- from earlier ones


def test_a_remix_has_the_same_shapes_in_other_colours() -> None:
    first = made(prompt="a red barn", seed=7)
    remix = made(task="remix", prompt="a blue barn", origin=origin(first), size=None, seconds=None)
    again = made(task="remix", prompt="a red barn", origin=origin(remix), size=None, seconds=None)
    assert data(again) == data(first)
    assert data(remix) not in {data(first), data(made(prompt="a blue barn", seed=7))}
    assert len(shown(data(remix))) == 10


def test_an_extension_is_the_earlier_one_and_more() -> None:
    first = made(prompt="a red barn", seed=7)
    longer = made(task="extend", prompt="a blue barn", origin=origin(first), seconds=2, size=None)
    frames, before = shown(data(longer)), shown(data(first))
    assert [farthest(one, other) for one, other in zip(frames, before, strict=False)] == [0] * 10
    assert len(frames) == 30
    assert [number for number, frame in enumerate(decoded(data(longer))) if frame.key_frame] == [0, 10]
    assert longer.outputs[0].extra["seconds"] == 3
    longest = made(task="extend", origin=origin(longer), seconds=8, size=None)
    assert len(shown(data(longest))) == 110


def test_an_extension_has_an_end() -> None:
    done = made(seconds=8)
    for _ in range(2):
        done = made(task="extend", origin=origin(done), seconds=8, size=None)
    with pytest.raises(Fault, match="24 seconds") as caught:
        made(task="extend", origin=origin(done), seconds=1, size=None)
    assert caught.value.param == "seconds"


def test_what_cannot_be_worked_on() -> None:
    with pytest.raises(Fault, match="itself") as caught:
        made(task="remix", origin={})
    assert caught.value.param == "video"
    framed = origin(made(first=media("photo.png")))
    with pytest.raises(Fault, match="picture"):
        made(task="extend", origin=framed)
    assert data(made(task="remix", origin=framed)) == data(made(prompt="a red barn"))


def test_it_refuses_like_the_painter() -> None:
    with pytest.raises(Fault) as caught:
        made(prompt="please REFUSE ME")
    assert (caught.value.kind, caught.value.code) == ("policy", "moderation_blocked")


# ---- the encoder, against a decoder of others' making


def test_the_decoder_sees_what_was_encoded() -> None:
    """Noise, edges, slopes and plains of random colours: no sample is farther off than a smooth block may be."""
    draw = random.Random(5)
    sources = [scribbled(draw, (176, 144)) for _ in range(12)]
    frames = [h264.key(picture, number) for number, picture in enumerate(sources)]
    file = mp4((176, 144), 25, h264.parameters((176, 144), 25), frames, range(12))
    for frame, source in zip(decoded(file), sources, strict=True):
        for seen, meant in zip(planes(frame), h264.split(source), strict=True):
            assert farthest(seen, meant) <= h264.ROUGH[0] + 2


def test_the_roughest_are_told_as_they_are() -> None:
    """Where that is too much for all of them, the others are told by their means, and the file is smaller."""
    picture = scribbled(random.Random(6), (176, 144))
    told = h264.cells(picture, 50)
    rough = {number for number, cell in enumerate(told) if cell.samples}
    assert 0 < len(rough) <= 50
    assert rough < {number for number, cell in enumerate(h264.cells(picture, 99)) if cell.samples}
    assert len(h264.key(picture, 0, most=50)) < len(h264.key(picture, 0))


def test_means_of_any_size_are_coded() -> None:
    """Blocks whose means leap between the ends: the longest codes there are."""
    draw = random.Random(7)
    sources = []
    for reach in (1, 3, 8, 30, 100, 255):
        small = Image.frombytes("RGB", (22, 18), bytes(max(0, 128 - draw.randrange(reach + 1)) for _ in range(1188)))
        fine = Image.frombytes("RGB", (44, 36), bytes(draw.choice((0, reach, 255)) for _ in range(4752)))
        fine.paste(small.resize((44, 36), Image.Resampling.NEAREST).crop((0, 0, 44, 18)))
        sources.append(fine.resize((176, 144), Image.Resampling.NEAREST))
    frames = [h264.key(source, number, most=0) for number, source in enumerate(sources)]
    file = mp4((176, 144), 25, h264.parameters((176, 144), 25), frames, range(6))
    for frame, source in zip(decoded(file), sources, strict=True):
        for seen, meant in zip(planes(frame), h264.split(source), strict=True):
            flat = meant.reduce(4).resize(meant.size, Image.Resampling.NEAREST)
            assert farthest(seen, flat) <= 3


def test_only_what_stands_in_front_is_told() -> None:
    draw = random.Random(8)
    back = scribbled(draw, (176, 144))
    sources, frames = [back], [h264.key(back, 0)]
    for order in range(1, 30):
        picture = back.copy()
        left, top = draw.randrange(-20, 176), draw.randrange(-20, 144)
        box = (left, top, left + 30, top + 25)
        ImageDraw.Draw(picture).ellipse(box, fill=(draw.randrange(256), draw.randrange(256), 0))
        frames.append(h264.over(picture, [(left, top, left + 31, top + 26)], order))
        sources.append(picture)
    file = mp4((170, 140), 25, h264.parameters((170, 140), 25), frames, [0])
    for frame, source in zip(decoded(file), sources, strict=True):
        assert (frame.width, frame.height) == (170, 140)
        for seen, meant in zip(planes(frame), h264.split(source), strict=True):
            assert farthest(seen, meant.crop((0, 0, *seen.size))) <= h264.ROUGH[0] + 2
    assert max(map(len, frames[1:])) < len(frames[0]) / 2


def test_no_start_code_is_in_the_stream() -> None:
    assert h264.escaped(bytes(7)) == b"\0\0\3\0\0\3\0\0\3\0"
    assert h264.escaped(b"\0\0\3\0\0\4") == b"\0\0\3\3\0\0\4"


def scribbled(draw: random.Random, size: Size) -> Image.Image:
    """Slopes, plains, edges and noise."""
    colors = [draw.randbytes(3) for _ in range(4)]
    mesh = Image.frombytes("RGB", (2, 2), b"".join(colors))
    picture = mesh.resize(size, Image.Resampling.BICUBIC)
    brush = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = draw.randrange(size[0]), draw.randrange(size[1])
        brush.rectangle((x, y, x + draw.randrange(60), y + draw.randrange(60)), fill=tuple(draw.randbytes(3)))
    for value in (b"\0", b"\xff"):
        picture.paste(Image.frombytes("RGB", (32, 32), value * 3072), (draw.randrange(150), draw.randrange(120)))
    picture.paste(Image.frombytes("RGB", (40, 24), draw.randbytes(2880)), (draw.randrange(140), draw.randrange(120)))
    return picture
