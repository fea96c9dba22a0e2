"""Conversion, fitting to a provider's limits, and masks, on real pictures."""

from __future__ import annotations

import asyncio
import io
import struct
import warnings
import zlib
from collections.abc import AsyncIterator

import pybase64
import pytest
from PIL import Image, ImageCms

from proxy import pixels
from proxy.pixels import Pixels, check_mask, convert_mask, fit, measure, prepare, transcode, typed
from tests.pictures import data, media
from translators.base import Blob, Caps, Fault, Job, MaskRule, Media, blob

CAPS = Caps(ops=frozenset({"edit"}), max_images=4, mask="alpha")


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> Blob:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return blob(out.getvalue())


def opened(picture: Blob) -> Image.Image:
    image = Image.open(io.BytesIO(picture.bytes()))
    image.load()
    return image


def caps(**changes: object) -> Caps:
    return Caps(ops=frozenset({"edit"}), **changes)  # type: ignore[arg-type]  # single members, by name


def corners() -> Image.Image:
    """4 x 2, each corner another colour: shows how a picture was turned."""
    image = Image.new("RGB", (4, 2), "white")
    for at, color in (((0, 0), "red"), ((3, 0), "lime"), ((0, 1), "blue"), ((3, 1), "black")):
        image.putpixel(at, Image.new("RGB", (1, 1), color).getpixel((0, 0)) or 0)
    return image


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def bomb(width: int = 20_000, height: int = 12_000) -> Blob:
    """A small file that says it holds many pixels, and does."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + width // 8)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return blob(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))


@pytest.fixture
async def threads() -> AsyncIterator[Pixels]:
    made = Pixels(2)
    yield made
    made.close()


# --- transcode


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("to", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("source", ["PNG", "TIFF"])
def test_every_kind_becomes_every_kind(mode: str, to: str, source: str) -> None:
    made = transcode(saved(Image.new(mode, (33, 21)), source), to)
    shape = measure(made)
    assert (shape.type, shape.width, shape.height) == (f"image/{to}", 33, 21)
    opened(made)


@pytest.mark.parametrize(("kind", "to"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
def test_what_is_right_already_is_not_touched(kind: str, to: str) -> None:
    picture = saved(Image.new("RGB", (9, 9)), kind)
    assert transcode(picture, to) is picture


@pytest.mark.parametrize(("kind", "to"), [("JPEG", "jpeg"), ("WEBP", "webp")])
def test_a_compression_is_applied_to_what_has_the_right_format(kind: str, to: str) -> None:
    picture = saved(Image.effect_noise((64, 64), 80).convert("RGB"), kind)
    made = transcode(picture, to, 10)
    assert measure(made).type == f"image/{to}"
    assert made.size < picture.size


def test_png_has_no_compression_to_apply() -> None:
    picture = saved(Image.new("RGB", (9, 9)), "PNG")
    assert transcode(picture, "png", 10) is picture


def test_the_answers_base64_is_read_as_it_came() -> None:
    wire = pybase64.b64encode(data("photo.webp"))
    picture = Blob((wire[:7], wire[7:1000], wire[1000:]), len(wire), "base64")
    assert measure(transcode(picture, "png")).type == "image/png"


def test_jpeg_shows_transparency_as_white() -> None:
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.paste((0, 0, 200, 255), (4, 0, 8, 8))
    made = opened(transcode(saved(image), "jpeg", 100))
    assert made.getpixel((0, 0)) == (255, 255, 255)
    blue = made.getpixel((7, 7))
    assert isinstance(blue, tuple)
    assert blue[2] > 195 > 5 > max(blue[:2])


def test_an_opaque_background_is_opaque() -> None:
    clear = saved(Image.new("RGBA", (8, 8), (200, 0, 0, 0)))
    made = transcode(clear, "png", background="opaque")
    assert not measure(made).alpha
    assert opened(made).getpixel((0, 0)) == (255, 255, 255)
    assert transcode(clear, "png", background="transparent") is clear


def test_compression_is_obeyed() -> None:
    noise = saved(Image.effect_noise((200, 200), 90).convert("RGB"))
    for to in ("jpeg", "webp"):
        sizes = [transcode(noise, to, quality).size for quality in (0, 30, 60, 95)]
        assert sizes == sorted(set(sizes))
        assert transcode(noise, to).size == sizes[-1]


def test_deep_greys_are_scaled_not_cut() -> None:
    deep = Image.new("I;16", (2, 1))
    deep.putpixel((0, 0), 65535)
    deep.putpixel((1, 0), 32768)
    made = opened(transcode(saved(deep, "TIFF"), "png"))
    assert (made.getpixel((0, 0)), made.getpixel((1, 0))) == (255, 127)


def test_the_colour_profile_stays_and_the_place_of_the_photo_goes() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = saved(Image.new("RGB", (8, 8)), "JPEG", icc_profile=profile, exif=exif(1), comment=b"home")
    for to in ("png", "webp"):
        made = opened(transcode(source, to))
        assert made.info["icc_profile"] == profile
        assert not made.getexif()
    grey = opened(transcode(saved(Image.new("L", (8, 8)), "JPEG", icc_profile=profile), "png"))
    assert "icc_profile" not in grey.info


def test_a_turned_answer_is_upright_once_converted() -> None:
    made = transcode(saved(corners(), "WEBP", lossless=True, exif=exif(6)), "png")
    assert opened(made).size == (2, 4)
    assert opened(made).getpixel((1, 0)) == (255, 0, 0)


@pytest.mark.parametrize("name", ["red.png", "photo.jpg", "photo.webp"])
def test_a_provider_that_sends_half_a_picture(name: str) -> None:
    whole = data(name)
    other = "jpeg" if name.endswith("png") else "png"
    for cut in (12, 40, len(whole) // 2, len(whole) - 40):
        with pytest.raises(Fault) as caught:
            transcode(blob(whole[:cut]), other)
        assert (caught.value.kind, caught.value.code, caught.value.param) == ("upstream", "unreadable", None)


def test_a_bomb_is_not_decoded() -> None:
    with pytest.raises(Fault, match="20000x12000") as caught:
        transcode(bomb(), "jpeg")
    assert caught.value.kind == "upstream"
    with pytest.raises(Fault, match="more than the 100 "):
        transcode(saved(Image.new("L", (11, 10))), "jpeg", bound=100)


def test_what_cannot_be_written() -> None:
    with pytest.raises(Fault, match="png, jpeg, webp") as caught:
        transcode(blob(data("red.png")), "gif")
    assert caught.value.param == "output_format"
    with pytest.raises(Fault, match="20000x1 cannot be written as webp") as caught:
        transcode(saved(Image.new("L", (20_000, 1))), "webp")
    assert (caught.value.kind, caught.value.code) == ("invalid", "unsupported_size")
    with pytest.raises(Fault, match="svg"):
        transcode(blob(b"<svg width='4' height='4'/>"), "png")


def test_pillow_warns_nobody() -> None:
    strange = saved(Image.new("P", (8, 8)), "PNG", transparency=bytes(256))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure(transcode(strange, "jpeg")).type == "image/jpeg"
        large = transcode(saved(Image.new("1", (9_500, 9_500))), "jpeg", bound=10**9)  # Pillow's own bound warns here
    assert measure(large).width == 9_500


# --- fit


def test_a_picture_within_the_limits_is_the_same_object() -> None:
    for name in ("red.png", "photo.jpg", "photo.webp", "clear.png"):
        picture = media(name)
        made, note = fit(picture, CAPS, "image[0]")
        assert made is picture
        assert note is None


def test_a_false_type_is_corrected_without_touching_the_bytes() -> None:
    picture = Media(blob=blob(data("photo.jpg")), type="image/png")
    made, note = fit(picture, CAPS, "image[0]")
    assert made.blob is picture.blob
    assert made == typed(picture.blob)
    assert (made.type, note) == ("image/jpeg", None)


@pytest.mark.parametrize(
    ("orientation", "first", "size"),
    [
        (2, "lime", (4, 2)), (3, "black", (4, 2)), (4, "blue", (4, 2)),
        (5, "red", (2, 4)), (6, "blue", (2, 4)), (7, "black", (2, 4)), (8, "lime", (2, 4)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_photo_is_turned_upright(orientation: int, first: str, size: tuple[int, int], kind: str) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    made, note = fit(typed(saved(corners(), kind, exif=exif(orientation), **lossless)), CAPS, "image[0]")
    upright = opened(made.blob).convert("RGB")
    assert (made.width, made.height) == upright.size == size
    assert not upright.getexif()
    assert note is None
    if kind == "PNG":
        assert upright.getpixel((0, 0)) == Image.new("RGB", (1, 1), first).getpixel((0, 0))


def test_a_turned_jpeg_stays_a_jpeg() -> None:
    made, _ = fit(typed(saved(corners(), "JPEG", exif=exif(6))), CAPS, "image[0]")
    assert (made.type, made.width, made.height) == ("image/jpeg", 2, 4)


def test_upright_files_keep_their_exif_untouched() -> None:
    for kind in ("JPEG", "WEBP", "PNG"):
        picture = typed(saved(corners(), kind, exif=exif(1)))
        assert fit(picture, CAPS, "image[0]")[0] is picture


@pytest.mark.parametrize(
    ("kind", "mode", "accepted", "made"),
    [
        ("BMP", "RGB", ("image/png", "image/jpeg"), "image/jpeg"),
        ("GIF", "P", ("image/png", "image/jpeg", "image/webp"), "image/jpeg"),
        ("WEBP", "RGBA", ("image/png", "image/jpeg"), "image/png"),
        ("AVIF", "RGBA", ("image/jpeg",), "image/jpeg"),
        ("TIFF", "RGB", ("image/png",), "image/png"),
        ("PNG", "RGB", ("image/webp",), "image/webp"),
    ],
)
def test_types_that_the_model_does_not_take(kind: str, mode: str, accepted: tuple[str, ...], made: str) -> None:
    picture, note = fit(typed(saved(Image.new(mode, (20, 10)), kind)), caps(input_types=accepted), "image[1]")
    assert (picture.type, picture.width, picture.height) == (made, 20, 10)
    assert measure(picture.blob).type == made
    assert note is not None
    assert note.text == f"image[1] image/{kind.lower()} -> {made}"
    assert (note.param, note.action) == ("image[1]", "converted")


@pytest.mark.parametrize(
    ("size", "limits", "made"),
    [
        ((600, 400), {"input_edge": (0, 410)}, (410, 273)),
        ((400, 600), {"input_edge": (0, 410)}, (273, 410)),
        ((600, 400), {"input_pixels": 60_000}, (300, 200)),
        ((599, 401), {"input_pixels": 59_999}, (299, 200)),
        ((600, 400), {"input_pixels": 60_000, "input_edge": (0, 150)}, (150, 100)),
        ((600, 2), {"input_edge": (0, 100)}, (100, 1)),
    ],
)
def test_large_pictures_are_scaled_down(
    size: tuple[int, int], limits: dict[str, object], made: tuple[int, int]
) -> None:
    picture, note = fit(typed(saved(Image.new("RGB", size))), caps(**limits), "image[0]")
    assert (picture.width, picture.height) == opened(picture.blob).size == made
    assert picture.type == "image/png"
    assert note is not None
    assert note.text == f"image[0] {size[0]}x{size[1]} -> {made[0]}x{made[1]}"


def test_a_turned_photo_is_scaled_by_how_it_is_seen() -> None:
    photo = typed(saved(Image.new("RGB", (600, 400)), "JPEG", exif=exif(6)))
    made, note = fit(photo, caps(input_edge=(0, 300)), "image[0]")
    assert (made.width, made.height) == (200, 300)
    assert note is not None
    assert note.text == "image[0] 400x600 -> 200x300"


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("WEBP", "RGBA")]
)
def test_heavy_pictures_are_made_lighter(kind: str, mode: str) -> None:
    noise = Image.effect_noise((400, 400), 90).convert(mode)
    if mode == "RGBA":
        noise.putalpha(Image.linear_gradient("L").resize(noise.size))
    heavy = typed(saved(noise, kind, quality=100))
    for limit in (heavy.blob.size - 1, 40_000, 5_000):
        made, note = fit(heavy, caps(input_bytes=limit), "image[0]")
        assert 0 < made.blob.length <= limit
        assert made.alpha == (mode == "RGBA")
        assert note is not None
        assert f"{heavy.blob.size} -> {made.blob.size} bytes" in note.text
    with pytest.raises(Fault, match="under the 10 bytes") as caught:
        fit(heavy, caps(input_bytes=10), "image[0]")
    assert caught.value.code == "image_too_large"


def test_small_pictures_are_refused_by_name() -> None:
    with pytest.raises(Fault, match="at least 256") as caught:
        fit(typed(saved(Image.new("RGB", (255, 900)))), caps(input_edge=(256, 0)), "image[2]")
    assert (caught.value.kind, caught.value.param) == ("invalid", "image[2]")
    with pytest.raises(Fault, match="500x50"):  # it would be, once its long edge fits
        fit(typed(saved(Image.new("RGB", (1000, 100)))), caps(input_edge=(64, 500)), "image[0]")


def test_a_client_that_sends_no_picture() -> None:
    for body in (b"", b"hello", b"%PDF-1.7"):
        with pytest.raises(Fault, match=r"Invalid image file or mode for image\[0\]") as caught:
            typed(blob(body), "image[0]")
        assert (caught.value.kind, caught.value.code, caught.value.param) == (
            "invalid", "invalid_image_file", "image[0]",
        )  # fmt: skip


def test_a_client_that_sends_a_broken_one() -> None:
    half = typed(blob(data("photo.jpg")[:600]), "image[0]")
    with pytest.raises(Fault, match=r"image\[0\].*cut off") as caught:
        fit(half, caps(input_types=("image/png",)), "image[0]")
    assert (caught.value.kind, caught.value.code) == ("invalid", "invalid_image_file")
    with pytest.raises(Fault, match="20000x12000"):
        fit(typed(bomb()), caps(input_edge=(0, 4096)), "image[0]")


def test_types_nobody_can_convert_are_refused_or_handed_on() -> None:
    drawing = typed(blob(b"<svg width='4' height='4'/>"))
    with pytest.raises(Fault, match="svg"):
        fit(drawing, CAPS, "image[0]")
    assert fit(drawing, caps(input_types=("image/svg+xml",)), "image[0]")[0] is drawing
    heic = typed(blob(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)))
    with pytest.raises(Fault, match="heic"):
        fit(heic, CAPS, "image[0]")


# --- masks: the transparent pixel is the one that is edited


IMAGE = typed(saved(Image.new("RGB", (2, 2))))


def two_by_two(kind: str = "PNG", mode: str = "RGBA") -> Media:
    """Upper left transparent, lower right half so."""
    image = Image.new("RGBA", (2, 2), (9, 9, 9, 255))
    image.putpixel((0, 0), (9, 9, 9, 0))
    image.putpixel((1, 1), (9, 9, 9, 128))
    return typed(saved(image.convert(mode), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))


@pytest.mark.parametrize(
    ("rule", "pixels_wanted"),
    [("white-edits", [255, 0, 0, 127]), ("black-edits", [0, 255, 255, 128])],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_polarity(rule: MaskRule, pixels_wanted: list[int], kind: str) -> None:
    made = convert_mask(two_by_two(kind), rule, IMAGE)
    image = opened(made.blob)
    assert (image.mode, made.type, made.alpha) == ("L", "image/png", False)
    assert list(image.tobytes()) == pixels_wanted


def test_openai_own_kind_is_not_touched() -> None:
    mask = two_by_two()
    assert convert_mask(mask, "alpha", IMAGE) is mask
    assert convert_mask(mask, "alpha", IMAGE, (2, 2), limit=10_000) is mask


@pytest.mark.parametrize(("kind", "mode"), [("WEBP", "RGBA"), ("PNG", "LA")])
def test_other_masks_become_openai_own_kind(kind: str, mode: str) -> None:
    made = convert_mask(two_by_two(kind, mode), "alpha", IMAGE)
    image = opened(made.blob)
    assert (made.type, image.mode) == ("image/png", "RGBA")
    assert list(image.getchannel("A").tobytes()) == [0, 255, 255, 128]


def test_a_heavy_mask_loses_its_colours_only() -> None:
    noise = Image.effect_noise((300, 300), 90).convert("RGBA")
    noise.putalpha(Image.linear_gradient("L").resize(noise.size))
    made = convert_mask(typed(saved(noise)), "alpha", typed(saved(noise)), limit=60_000)
    assert made.blob.size < 60_000
    assert opened(made.blob).getchannel("A").tobytes() == noise.getchannel("A").tobytes()


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (Image.new("RGBA", (3, 2), (0, 0, 0, 0)), "mask size does not match image size.*3x2.*2x2"),
        (Image.new("RGB", (2, 2)), "missing alpha channel"),
        (Image.new("L", (2, 2)), "missing alpha channel"),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 255)), "nothing would be edited"),
    ],
)
def test_masks_that_cannot_be_meant(mask: Image.Image, why: str) -> None:
    with pytest.raises(Fault, match=f"Invalid mask image format - .*{why}") as caught:
        check_mask(typed(saved(mask)), IMAGE)
    assert (caught.value.kind, caught.value.code, caught.value.param) == (
        "invalid", "invalid_mask_image_format", "mask",
    )  # fmt: skip


def test_a_mask_fits_the_picture_as_it_is_seen() -> None:
    turned = typed(saved(corners(), "JPEG", exif=exif(6)))
    assert check_mask(half_clear((2, 4)), turned).size == (2, 4)
    with pytest.raises(Fault, match="the mask is 4x2, the first image is 2x4"):
        check_mask(half_clear((4, 2)), turned)


def test_a_model_without_masks() -> None:
    with pytest.raises(Fault, match="takes no mask"):
        convert_mask(two_by_two(), "none", IMAGE)


# --- prepare


def edit(*images: Media, mask: Media | None = None, markup: Media | None = None) -> Job:
    return Job(op="edit", model="m", prompt="x", images=images, mask=mask, markup=markup)


def half_clear(size: tuple[int, int]) -> Media:
    image = Image.new("RGBA", size, (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    return typed(saved(image))


def test_a_job_with_nothing_to_do_is_the_same_object() -> None:
    plain = Job(op="generate", model="m", prompt="x")
    assert prepare(plain, CAPS) == (plain, ())
    assert prepare(plain, CAPS)[0] is plain
    image = media("red.png")
    job = edit(image, media("photo.jpg"), mask=half_clear((image.width, image.height)))
    assert prepare(job, CAPS)[0] is job


def test_mask_and_markup_go_with_a_scaled_picture() -> None:
    job = edit(
        typed(saved(Image.new("RGB", (600, 400)), "JPEG", exif=exif(6))),
        typed(saved(Image.new("RGB", (100, 100)))),
        mask=half_clear((400, 600)),
        markup=half_clear((400, 600)),
    )
    made, notes = prepare(job, caps(input_edge=(0, 300), mask="white-edits"))
    assert made.mask is not None
    assert made.markup is not None
    assert [(m.width, m.height) for m in (*made.images, made.mask, made.markup)] == [
        (200, 300), (100, 100), (200, 300), (200, 300),
    ]  # fmt: skip
    assert made.images[1] is job.images[1]
    assert set(opened(made.mask.blob).tobytes()) == {0, 255}  # no soft edge was added
    assert opened(made.mask.blob).getpixel((99, 0)) == 255
    assert opened(made.mask.blob).getpixel((100, 0)) == 0
    assert [note.text for note in notes] == ["image[0] 400x600 -> 200x300", "markup 400x600 -> 200x300"]


def test_a_mask_without_its_picture() -> None:
    with pytest.raises(Fault, match="needs the image") as caught:
        prepare(edit(mask=half_clear((4, 4))), CAPS)
    assert caught.value.param == "mask"


# --- the threads


async def test_the_work_is_done_beside_the_loop(threads: Pixels) -> None:
    picture = saved(Image.effect_noise((300, 300), 50).convert("RGB"))
    made = await asyncio.gather(*(threads.transcode(picture, to) for to in ("jpeg", "webp", "png")))
    assert [measure(one).type for one in made] == ["image/jpeg", "image/webp", "image/png"]
    assert made[2] is picture
    with pytest.raises(Fault, match="cut off"):
        await threads.transcode(blob(data("photo.jpg")[:600]), "png")


async def test_only_what_pillow_reads_whole_is_measured_beside_the_loop(threads: Pixels) -> None:
    png, tiff = (saved(Image.new("RGB", (60, 40)), kind) for kind in ("PNG", "TIFF"))
    assert (await threads.typed(tiff)).width == 60
    threads.close()
    assert (await threads.typed(png)).width == 60
    with pytest.raises(RuntimeError, match="after shutdown"):
        await threads.measure(tiff)


async def test_jobs_masks_and_single_pictures(threads: Pixels) -> None:
    plain = Job(op="generate", model="m", prompt="x")
    assert (await threads.prepare(plain, CAPS))[0] is plain
    job = edit(typed(saved(Image.new("RGB", (600, 400)))), mask=half_clear((600, 400)))
    made, notes = await threads.prepare(job, caps(input_edge=(0, 300), mask="alpha"))
    assert made.mask is not None
    assert (made.mask.width, made.mask.height, len(notes)) == (300, 200, 1)
    await threads.check_mask(half_clear((4, 4)), half_clear((4, 4)))
    with pytest.raises(Fault, match="does not match"):
        await threads.check_mask(half_clear((4, 4)), half_clear((4, 5)))
    assert await threads.aside(str.upper, "x") == "X"
    assert (await threads.mask(half_clear((4, 4)), "black-edits", half_clear((4, 4)), (2, 2))).width == 2
    assert (await threads.fit(media("red.png"), CAPS, "image[0]"))[1] is None


async def test_the_bound_can_be_set() -> None:
    small = Pixels(1, bound=100)
    with pytest.raises(Fault, match="more than the 100 "):
        await small.transcode(saved(Image.new("L", (11, 10))), "jpeg")
    small.close()
    assert pixels.BOUND == 64_000_000
