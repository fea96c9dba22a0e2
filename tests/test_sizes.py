from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy import sizes
from proxy.sizes import Choice, Wish, choose, fit, is_legal, off
from translators.base import Caps, Free, Op, Size

FLEXIBLE = Free(step=16, pixels=(655_360, 8_294_400), edge=(1, 3840), ratio=3)
LARGE = Free(pixels=(3_686_400, 16_777_216), ratio=16)
EDGES = Free(step=32, pixels=(256 * 256, 1440 * 1440), edge=(256, 1440))
BOUNDS = [FLEXIBLE, LARGE, EDGES, Free(), Free(step=8), Free(step=64, ratio=1), Free(step=16, edge=(64, 0))]
TIERS = ("512", "1K", "2K", "4K")
RATIOS = ("1:1", "3:2", "2:3", "16:9", "9:16", "21:9", "auto")
ANY: frozenset[Op] = frozenset({"generate"})

edge = st.integers(1, 99_999)
size_text = st.tuples(edge, edge)


@settings(max_examples=500, deadline=None)
@given(size_text, st.sampled_from(BOUNDS))
def test_a_fitted_size_is_legal_and_keeps_its_shape(size: Size, free: Free) -> None:
    got = fit(size, free)
    assert got is not None
    assert is_legal(got, free)
    if is_legal(size, free):
        assert got == size
    ratio = max(size) / min(size)
    most = min(free.ratio or math.inf, (free.edge[1] or math.inf) / free.edge[0], 100)
    if ratio < most * 0.9 and min(got) >= free.step * 20:
        assert off(got[0] / got[1], size[0] / size[1]) < 0.05


@settings(max_examples=300, deadline=None)
@given(
    size_text, st.sampled_from([1, 8, 16, 32]), st.integers(64, 512), st.integers(2, 12), st.sampled_from([0, 2, 3.5]),
    st.integers(0, 3),
)  # fmt: skip
def test_any_bounds_that_leave_room(size: Size, step: int, least: int, span: int, ratio: float, area: int) -> None:
    most = least * span
    low = least * least * area
    free = Free(step=step, pixels=(low, most * most), edge=(least, most), ratio=ratio)
    assume(low <= most * most / 2)
    assume(most - least >= 2 * step)
    got = fit(size, free)
    assert got is None or is_legal(got, free)
    if span >= 4 and step <= 16:
        assert got is not None


def test_no_room_at_all() -> None:
    assert fit((100, 100), Free(step=64, edge=(65, 127))) is None


@pytest.mark.parametrize(
    ("said", "free", "got"),
    [
        ((1024, 1024), FLEXIBLE, (1024, 1024)),
        ((1024, 1024), LARGE, (1920, 1920)),
        ((1536, 1024), LARGE, (2352, 1568)),
        ((1000, 1000), FLEXIBLE, (1008, 1008)),
        ((256, 256), FLEXIBLE, (816, 816)),
        ((4096, 4096), FLEXIBLE, (2880, 2880)),
        ((1254, 836), FLEXIBLE, (1248, 832)),
        ((1536, 1024), EDGES, (1440, 960)),
        ((5000, 500), FLEXIBLE, (2736, 912)),
    ],
)
def test_fit(said: Size, free: Free, got: Size) -> None:
    assert fit(said, free) == got


@pytest.mark.parametrize(
    ("text", "size"),
    [("1x1", (1, 1)), ("1536x1024", (1536, 1024)), ("0x1", None), ("1x", None), ("1X1", None), (" 1x1", None),
     ("100000x1", None), ("1x1\n", None), ("auto", None)],
)  # fmt: skip
def test_parse_size(text: str, size: Size | None) -> None:
    assert sizes.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "ratio"),
    [("16:9", 16 / 9), ("2.35:1", 2.35), ("9:19.5", 9 / 19.5), ("0:1", None), ("1:0", None), ("1", None)],
)  # fmt: skip
def test_parse_ratio(text: str, ratio: float | None) -> None:
    assert sizes.parse_ratio(text) == ratio


@pytest.mark.parametrize(
    ("text", "nominal"),
    [("1K", 1024), ("1.5k", 1536), ("4K", 4096), ("512", 512), ("768sq", 768), ("1 MP", 1024), ("4MP", 2048),
     ("0K", None), ("K", None), ("1KB", None)],
)  # fmt: skip
def test_parse_resolution(text: str, nominal: float | None) -> None:
    assert sizes.parse_resolution(text) == nominal


@pytest.mark.parametrize(
    ("size", "ratio", "resolution"),
    [
        ((1024, 1024), "1:1", "1K"), ((1536, 1024), "3:2", "1K"), ((1024, 1536), "2:3", "1K"),
        ((1792, 1024), "16:9", "1K"), ((1024, 1792), "9:16", "1K"), ((512, 512), "1:1", "512"),
        ((256, 256), "1:1", "512"), ((2048, 2048), "1:1", "2K"), ((2560, 1440), "16:9", "2K"),
        ((3840, 2160), "16:9", "4K"), ((9999, 9999), "1:1", "4K"),
    ],
)  # fmt: skip
def test_a_size_in_words(size: Size, ratio: str, resolution: str) -> None:
    caps = Caps(ops=ANY, ratios=RATIOS, resolutions=TIERS)
    assert choose(Wish(size=size), caps) == Choice(ratio=ratio, resolution=resolution)


def test_square_resolutions_are_for_squares() -> None:
    caps = Caps(ops=ANY, ratios=RATIOS, resolutions=("768sq", "1k"))
    assert choose(Wish(size=(512, 512)), caps) == Choice(ratio="1:1", resolution="768sq")
    assert choose(Wish(size=(600, 400)), caps) == Choice(ratio="3:2", resolution="1k")


def test_words_where_the_model_knows_them() -> None:
    caps = Caps(ops=ANY, ratios=RATIOS, resolutions=("1k", "2k"))
    assert choose(Wish(ratio="16:9", resolution="2K"), caps) == Choice(ratio="16:9", resolution="2k")
    assert choose(Wish(ratio="7:4"), caps) == Choice(ratio="16:9")
    assert choose(Wish(resolution="4K"), caps) == Choice(resolution="2k")


def test_words_in_pixels_where_it_does_not() -> None:
    assert choose(Wish(ratio="16:9"), Caps(ops=ANY, free=FLEXIBLE)) == Choice(size=(1360, 768))
    assert choose(Wish(resolution="2K"), Caps(ops=ANY, free=FLEXIBLE)) == Choice(size=(2048, 2048))
    assert choose(Wish(resolution="4K"), Caps(ops=ANY, free=FLEXIBLE)) == Choice(size=(2880, 2880))
    three = Caps(ops=ANY, sizes=((1024, 1024), (1536, 1024), (1024, 1536)))
    assert choose(Wish(ratio="2:3", resolution="4K"), three) == Choice(size=(1024, 1536))
    tiers = Caps(ops=ANY, free=LARGE, resolutions=("2K", "4K"))
    assert choose(Wish(resolution="4k"), tiers) == Choice(resolution="4K")
    assert choose(Wish(ratio="1:1", resolution="2K"), tiers) == Choice(size=(2048, 2048))


def test_default_where_the_model_must_be_told() -> None:
    assert choose(Wish(), Caps(ops=ANY, free=LARGE)) == Choice()
    assert choose(Wish(), Caps(ops=ANY, free=FLEXIBLE, auto_size=False)) == Choice(size=(1024, 1024))
    listed = Caps(ops=ANY, sizes=((512, 512), (1328, 1328)), auto_size=False)
    assert choose(Wish(), listed) == Choice(size=(1328, 1328))
    words = Caps(ops=ANY, ratios=RATIOS, resolutions=TIERS, auto_size=False)
    assert choose(Wish(), words) == Choice(ratio="1:1", resolution="1K")
    assert choose(Wish(size=(5, 5)), Caps(ops=ANY)) == Choice()


@given(size_text, st.lists(st.tuples(st.integers(64, 4096), st.integers(64, 4096)), min_size=1, max_size=8))
def test_a_listed_size_is_the_best_in_shape(size: Size, listed: list[Size]) -> None:
    got = sizes.nearest_size(size, listed)
    best = min(off(w / h, size[0] / size[1]) for w, h in listed)
    assert got in listed
    assert off(got[0] / got[1], size[0] / size[1]) <= max(best, sizes.CLOSE)
