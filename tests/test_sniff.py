"""What a picture is, by its first bytes: against Pillow's own files of every type, and against bytes built by hand."""

from __future__ import annotations

import io
import struct
import zlib

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from proxy.pixels import measure
from proxy.sniff import Shape, first, look, sniff
from tests.pictures import data
from translators.base import Blob, Fault, blob

SIZE = (31, 17)


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, SIZE).save(out, kind, **options)
    return out.getvalue()


def oriented(value: int, order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = value
    return exif.tobytes()


@pytest.mark.parametrize(
    ("kind", "mode", "options", "type", "alpha"),
    [
        ("PNG", "RGB", {}, "image/png", False),
        ("PNG", "RGBA", {}, "image/png", True),
        ("PNG", "LA", {}, "image/png", True),
        ("PNG", "L", {}, "image/png", False),
        ("PNG", "P", {}, "image/png", False),
        ("PNG", "P", {"transparency": 0}, "image/png", True),
        ("PNG", "RGB", {"transparency": (0, 0, 0)}, "image/png", True),
        ("JPEG", "RGB", {}, "image/jpeg", False),
        ("JPEG", "L", {}, "image/jpeg", False),
        ("JPEG", "CMYK", {}, "image/jpeg", False),
        ("JPEG", "RGB", {"progressive": True}, "image/jpeg", False),
        ("WEBP", "RGB", {}, "image/webp", False),
        ("WEBP", "RGBA", {}, "image/webp", True),
        ("WEBP", "RGB", {"lossless": True}, "image/webp", False),
        ("WEBP", "RGBA", {"lossless": True}, "image/webp", True),
        ("WEBP", "RGBA", {"lossless": True, "icc_profile": b"x" * 200}, "image/webp", True),
        ("GIF", "P", {}, "image/gif", False),
        ("GIF", "P", {"transparency": 0}, "image/gif", True),
        ("BMP", "RGB", {}, "image/bmp", False),
        ("AVIF", "RGB", {}, "image/avif", False),
        ("AVIF", "RGBA", {}, "image/avif", True),
        ("TIFF", "RGB", {}, "image/tiff", False),
        ("TIFF", "RGBA", {}, "image/tiff", True),
    ],
)
def test_every_type(kind: str, mode: str, options: dict[str, object], type: str, alpha: bool) -> None:
    shape = measure(blob(saved(kind, mode, **options)))
    assert shape == Shape(type, *SIZE, alpha=alpha)


@pytest.mark.parametrize("name", ["red.png", "photo.jpg", "photo.webp", "clear.png"])
def test_real_files(name: str) -> None:
    shape = sniff(data(name)[:4096])
    with Image.open(io.BytesIO(data(name))) as image:
        assert shape == Shape(f"image/{(image.format or '').lower()}", *image.size, image.has_transparency_data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_orientation(kind: str, value: int, order: str) -> None:
    shape = sniff(saved(kind, exif=oriented(value, order)))
    assert shape is not None
    assert (shape.orientation, shape.width, shape.height) == (value, *SIZE)
    assert shape.upright == (SIZE if value < 5 else SIZE[::-1])


def test_webp_keeps_its_orientation_at_the_end() -> None:
    shape = sniff(saved("WEBP", exif=oriented(6)))
    assert shape == Shape("image/webp", *SIZE, orientation=0)


def test_nonsense_in_exif_is_no_orientation() -> None:
    assert sniff(saved("JPEG", exif=oriented(77))) == Shape("image/jpeg", *SIZE)
    assert sniff(saved("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\0\0")) == Shape("image/jpeg", *SIZE)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation(kind: str) -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", SIZE, color) for color in ("red", "blue")]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=100, loop=0)
    shape = look(blob(out.getvalue()))
    assert shape is not None
    assert shape.animated
    assert (shape.width, shape.height) == SIZE


def test_a_jpeg_whose_size_stands_far_behind() -> None:
    far = saved("JPEG", icc_profile=bytes(200_000))
    assert sniff(far[:4096]) == Shape("image/jpeg", complete=False)
    assert look(blob(far)) == Shape("image/jpeg", *SIZE)
    farther = saved("JPEG", icc_profile=bytes(3_000_000))
    assert look(blob(farther)) == Shape("image/jpeg", complete=False)
    assert measure(blob(farther)) == Shape("image/jpeg", *SIZE)


def test_a_png_whose_transparency_stands_far_behind() -> None:
    whole = saved("PNG", "P", transparency=0)
    note = b"tEXt" + bytes(20_000)
    chunk = struct.pack(">I", 20_000) + note + struct.pack(">I", zlib.crc32(note))
    assert look(blob(whole[:33] + chunk + whole[33:])) == Shape("image/png", *SIZE, alpha=True)


def test_bitmaps_of_other_makers() -> None:
    core = b"BM" + bytes(8) + struct.pack("<IIHHHH", 26, 12, *SIZE, 1, 24) + bytes(60)
    assert sniff(core) == Shape("image/bmp", *SIZE)
    masks = struct.pack("<IIIIII", 0, 0, 0, 0, 0, 0) + struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF << 24)
    header = struct.pack("<IiiHHI", 124, SIZE[0], -SIZE[1], 1, 32, 3)
    assert sniff(b"BM" + bytes(8) + struct.pack("<I", 138) + header + masks[4:] + bytes(80)) == Shape(
        "image/bmp", *SIZE, alpha=True
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('<svg width="31" height="17">', (31, 17)),
        ('\ufeff<?xml version="1.0"?>\n<!-- <svg> -->\n<svg viewBox="0 0 24 12.4" xmlns="x">', (24, 12)),
        ("<!DOCTYPE svg PUBLIC 'a' 'b' [<!ENTITY c 'd'>]><svg\nwidth='31px' height='17px'>", (31, 17)),
        ('<svg width="100%" height="100%" viewBox="0,0,31,17">', (31, 17)),
        ('<svg stroke-width="9">', (0, 0)),
        ('<svg width="1.2.3" height="4">', (0, 0)),
        (f'<svg width="{"9" * 400}" height="4">', (0, 0)),
    ],
)
def test_drawings(text: str, size: tuple[int, int]) -> None:
    assert sniff(text.encode()) == Shape("image/svg+xml", *size, alpha=True)


def test_heic_is_known_by_name() -> None:
    ispe = b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", *SIZE)
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + ispe + b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", 8, 8) + b"mdat"
    assert sniff(head) == Shape("image/heic", *SIZE)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BM",
        b"GIF",
        b"<html><svg>",
        b"not a picture",
        b"RIFF\0\0\0\0WAVE",
        b"\0\0\0\x18ftypisom\0\0\0\0avif",
        b"{}",
    ],
)
def test_not_a_picture(head: bytes) -> None:
    assert sniff(head + bytes(40) if head.startswith(b"RIFF") else head) is None


def test_hostile_text_takes_no_time() -> None:
    assert sniff(b"<!---->" * 100_000) is None
    assert sniff(b" " * 100_000) is None


BEGINNINGS = [
    saved("PNG", exif=oriented(6)),
    saved("JPEG", exif=oriented(6)),
    saved("WEBP"),
    saved("WEBP", "RGBA", lossless=True),
    saved("GIF", "P", transparency=0),
    saved("BMP"),
    saved("AVIF"),
    b"<svg viewBox='0 0 1 1'>",
]


@given(st.sampled_from(BEGINNINGS), st.integers(0, 400), st.binary(max_size=60), st.integers(0, 400))
def test_no_bytes_break_it(start: bytes, at: int, noise: bytes, cut: int) -> None:
    broken = (start[:at] + noise + start[at + len(noise) :])[:cut]
    shape = sniff(broken)
    assert shape is None or shape.type.startswith("image/")


@given(st.binary(max_size=300), st.integers(1, 40), st.integers(1, 300), st.sampled_from(["raw", "hex", "base64"]))
def test_first_bytes_of_any_encoding(body: bytes, step: int, count: int, encoding: str) -> None:
    wire = {"raw": body, "hex": body.hex().encode(), "base64": pybase64.b64encode(body)}[encoding]
    chunks = tuple(wire[at : at + step] for at in range(0, len(wire), step))
    picture = Blob(chunks, len(wire), encoding)  # type: ignore[arg-type]  # a name out of a list is a `str` to mypy
    assert first(picture, count) == body[:count]


def test_broken_base64_is_the_senders_fault() -> None:
    with pytest.raises(Fault, match="base64") as caught:
        measure(blob(b"!!!!", "base64"), "image[0]")
    assert (caught.value.kind, caught.value.code, caught.value.param) == ("invalid", "invalid_image_file", "image[0]")
    with pytest.raises(Fault) as caught:
        measure(blob(b"!!!!", "base64"))
    assert (caught.value.kind, caught.value.code) == ("upstream", "unreadable")
