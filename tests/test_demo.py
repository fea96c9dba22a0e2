"""What the demo draws: real pictures of the size and format asked for, the same for the same words."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tests.pictures import media
from translators import demo
from translators.base import Done, Fault, Job, Media, Output, blob

SMALL = (128, 96)
CAPS = demo.MODELS["painter"]


def job(**fields: Any) -> Job:
    return Job(
        **{"op": "generate", "model": "painter", "prompt": "a red barn", "size": SMALL, "quality": "low"} | fields
    )


def drawn(**fields: Any) -> Done:
    return demo.start(job(**fields))


def data(output: Output) -> bytes:
    assert output.blob is not None
    return output.blob.bytes()


def opened(output: Output) -> Image.Image:
    return Image.open(io.BytesIO(data(output)))


def sent(image: Image.Image) -> Media:
    out = io.BytesIO()
    image.save(out, "PNG")
    return Media(blob=blob(out.getvalue()), type="image/png", width=image.width, height=image.height)


def noisy(size: tuple[int, int] = SMALL, mode: str = "RGB") -> Image.Image:
    """A picture in which every pixel differs from its neighbours."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    raw = bytes((index * 73 + index // 251) % 256 for index in range(size[0] * size[1] * bands))
    return Image.frombytes(mode, size, raw)


def test_the_same_words_and_seed_draw_the_same_picture() -> None:
    assert data(drawn(seed=4).outputs[0]) == data(drawn(seed=4).outputs[0])
    assert data(drawn().outputs[0]) == data(drawn(seed=0).outputs[0])


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"prompt": "a blue barn"},
        {"negative_prompt": "cows"},
        {"style": "natural"},
        {"quality": "high"},
        {"steps": 3},
        {"guidance": 2.0},
        {"complexity": "high"},
    ],
)
def test_what_is_asked_changes_the_picture(fields: dict[str, Any]) -> None:
    assert data(drawn(**fields).outputs[0]) != data(drawn().outputs[0])


def test_several_pictures_differ_and_each_can_be_drawn_again_by_its_seed() -> None:
    made = drawn(n=3, seed=7).outputs
    assert len({data(output) for output in made}) == 3
    assert [output.extra for output in made] == [{"seed": 7}, {"seed": 8}, {"seed": 9}]
    assert data(drawn(seed=9).outputs[0]) == data(made[2])


@pytest.mark.parametrize("size", [(64, 64), (65, 113), (1024, 64), (64, 700), (1536, 1024)])
def test_sizes_are_exact(size: tuple[int, int]) -> None:
    assert opened(drawn(size=size).outputs[0]).size == size


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (1024, 1024)),
        ({"ratio": "16:9"}, CAPS.pixels_of["16:9@1K"]),
        ({"ratio": "9:21", "resolution": "1K"}, CAPS.pixels_of["9:21@1K"]),
        ({"op": "edit", "images": (media("photo.jpg"),)}, (24, 16)),
        ({"op": "edit", "images": (media("red.png"),), "resolution": "1K"}, (1024, 1024)),
    ],
)
def test_without_a_size_the_ratio_or_the_picture_decides(fields: dict[str, Any], size: tuple[int, int]) -> None:
    assert opened(drawn(size=None, **fields).outputs[0]).size == size


def test_every_listed_size_can_be_painted() -> None:
    free = CAPS.free
    assert free is not None
    for width, height in CAPS.pixels_of.values():
        assert free.edge[0] <= min(width, height) <= max(width, height) <= free.edge[1]
        assert width * height <= free.pixels[1]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "gif"])
def test_formats_are_real(format: str) -> None:
    image = opened(drawn(format=format).outputs[0])
    assert (image.format or "").lower() == format
    image.load()
    assert image.size == SMALL


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_compression_is_kept(format: str) -> None:
    sizes = [len(data(drawn(format=format, compression=level).outputs[0])) for level in (5, 50, 100)]
    assert sizes == sorted(set(sizes))


def test_a_gif_shows_the_picture_coming_to_be() -> None:
    image = opened(drawn(format="gif", frame_count=4, frame_duration_ms=120).outputs[0])
    assert getattr(image, "n_frames", 1) == 4
    assert image.info["duration"] == 120


@pytest.mark.parametrize("format", ["png", "webp"])
def test_a_transparent_background_is_transparent(format: str) -> None:
    done = drawn(background="transparent", format=format)
    alpha = opened(done.outputs[0]).convert("RGBA").getchannel("A")
    assert done.background == "transparent"
    assert (alpha.getpixel((0, 0)), alpha.getpixel((64, 48))) == (0, 255)


def test_an_opaque_one_is_not() -> None:
    done = drawn(op="edit", images=(sent(noisy(mode="RGBA")),), background="opaque")
    assert (done.background, opened(done.outputs[0]).mode) == ("opaque", "RGB")


def test_jpeg_cannot_be_transparent() -> None:
    with pytest.raises(Fault) as caught:
        drawn(background="transparent", format="jpeg")
    assert (caught.value.kind, caught.value.param) == ("invalid", "background")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_mask_leaves_what_is_opaque_untouched(mode: str, count: int) -> None:
    """Pixel by pixel, alpha included; and paints where it is transparent."""
    original = noisy(mode=mode)
    mask = Image.new("RGBA", SMALL, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (30, 20, 90, 70))
    images = (sent(original), *[media("photo.jpg")] * (count - 1))
    result = opened(drawn(op="edit", images=images, mask=sent(mask)).outputs[0]).convert("RGBA")
    before, after = original.convert("RGBA"), result
    hole = mask.getchannel("A")
    changed = 0
    for y in range(SMALL[1]):
        for x in range(SMALL[0]):
            if hole.getpixel((x, y)) == 255:
                assert before.getpixel((x, y)) == after.getpixel((x, y))
            else:
                changed += before.getpixel((x, y)) != after.getpixel((x, y))
    assert changed > 0.95 * 60 * 50


def test_an_edit_paints_over_its_picture() -> None:
    images = (media("red.png"),)
    high, low = (opened(drawn(op="edit", images=images, fidelity=fidelity).outputs[0]) for fidelity in ("high", "low"))
    reds = [
        sum(level * count for level, count in enumerate(image.getchannel("R").histogram())) for image in (high, low)
    ]
    assert reds[0] > reds[1]  # the input shows through more where fidelity is high


def test_an_edit_keeps_the_outline_of_a_cut_out_picture() -> None:
    image = Image.new("RGBA", SMALL, (10, 20, 30, 0))
    image.paste((200, 20, 30, 255), (20, 20, 80, 60))
    alpha = opened(drawn(op="edit", images=(sent(image),)).outputs[0]).getchannel("A")
    assert (alpha.getpixel((2, 2)), alpha.getpixel((50, 40))) == (0, 255)


@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_several_references_all_show(count: int) -> None:
    colors = [(index * 15, 255 - index * 15, 128) for index in range(count)]
    images = tuple(sent(Image.new("RGB", (40, 40), color)) for color in colors)
    made = opened(drawn(op="edit", images=images, fidelity="high").outputs[0])
    turned = opened(drawn(op="edit", images=images[::-1], fidelity="high").outputs[0])
    assert made.size == SMALL
    assert made.tobytes() != turned.tobytes()


def test_a_variation_is_another_picture() -> None:
    original = noisy()
    one, two = drawn(op="variation", prompt="", images=(sent(original),), n=2).outputs
    assert opened(one).tobytes() != opened(two).tobytes()
    assert opened(one).tobytes() != original.tobytes()


def test_markup_is_drawn_over_the_picture() -> None:
    markup = Image.new("RGBA", SMALL, (0, 0, 0, 0))
    markup.paste((255, 255, 255, 255), (0, 0, 64, 96))
    image = sent(Image.new("RGB", SMALL, "black"))
    left, right = (
        opened(drawn(op="edit", images=(image,), markup=sent(markup)).outputs[0]).getpixel(place)
        for place in ((30, 10), (100, 10))
    )
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert min(left) > max(right)


@pytest.mark.parametrize("partials", [0, 1, 3])
def test_previews_come_with_a_stream(partials: int) -> None:
    done = drawn(stream=True, partials=partials, n=2)
    pictures = [data(partial.output) for partial in done.partials]
    assert [partial.index for partial in done.partials] == list(range(partials))
    assert len({*pictures, data(done.outputs[0])}) == partials + 1
    assert all(opened(partial.output).size == SMALL for partial in done.partials)
    assert data(done.outputs[0]) == data(drawn().outputs[0])


def test_no_previews_without_a_stream() -> None:
    assert drawn(partials=3).partials == ()


def test_nothing_is_charged_and_nothing_is_counted() -> None:
    usage = drawn().usage
    assert usage.cost_usd == 0.0
    assert (usage.input_text, usage.output_image) == (None, None)


def test_refuse_me_is_refused() -> None:
    with pytest.raises(Fault) as caught:
        drawn(prompt="Please refuse me.")
    assert (caught.value.kind, caught.value.code) == ("policy", "moderation_blocked")


@pytest.mark.parametrize("prompt", ["", "雨の中の猫", "🦊\n\0", "x" * 5000, "#fff transparent rgb(1,2,3) red red navy"])
def test_any_prompt_is_drawn(prompt: str) -> None:
    assert opened(drawn(prompt=prompt).outputs[0]).size == SMALL


def test_a_picture_that_cannot_be_read_is_named() -> None:
    with pytest.raises(Fault) as caught:
        drawn(op="edit", images=(media("red.png"),), mask=Media(blob=blob(b"no picture"), type="image/png"))
    assert (caught.value.kind, caught.value.param) == ("invalid", "mask")


def test_it_needs_no_wire_and_no_key() -> None:
    assert demo.base({}) == ""
    assert demo.PROVIDER.credential == "none"
    assert demo.caps("painter") is CAPS
    assert demo.caps("writer") is None
