"""Golden costs: the providers' own price lists, worked through by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import translators
from proxy.prices import banded, cost, settled
from translators.base import Caps, Op, Price, Size, Unit, Usage

MILLION = 1_000_000
UNKNOWN = Usage()
SQUARE = (1024, 1024)


def price(unit: Unit, amount: float, **rest: Any) -> Price:
    return Price(unit=unit, amount=amount, **rest)


def of(provider: str, model: str) -> tuple[Price, ...]:
    return settled(translators.load(provider).MODELS[model], None)


# ---- the providers' lists, November 2026


def test_openai_by_tokens() -> None:
    """gpt-image-2: 5 for text in, 8 for images in, 30 for images out, in USD per million tokens."""
    usage = Usage(input_text=14, input_image=0, output_text=0, output_image=7024)
    assert cost(of("openai", "gpt-image-2"), "generate", [SQUARE], "high", usage) == pytest.approx(0.21079)
    usage = Usage(input_text=100, input_image=3000, output_text=0, output_image=1000)
    assert cost(of("openai", "gpt-image-2"), "edit", [SQUARE], "low", usage, [SQUARE]) == pytest.approx(0.0545)


@pytest.mark.parametrize(
    ("model", "output", "inputs", "usd"),
    [
        ("flux-2-max", (1024, 1024), [], 0.07),
        ("flux-2-max", (2048, 1024), [], 0.10),
        ("flux-2-max", (2048, 2048), [], 0.16),
        ("flux-2-max", (1440, 1024), [], 0.10),
        ("flux-2-max", (512, 512), [(1024, 1024)], 0.10),
        ("flux-2-max", (1024, 1024), [(1024, 1024), (2048, 2048)], 0.22),
        ("flux-2-pro", (1024, 1024), [(1024, 1024)], 0.045),
        ("flux-2-flex", (2048, 1024), [], 0.10),
        ("flux-kontext-pro", (1392, 752), [(4000, 3000)], 0.04),
        ("flux-3-image", (768, 768), [], 0.041),
        ("flux-3-image", (1024, 1024), [], 0.048),
        ("flux-3-image", (2048, 2048), [], 0.10),
        ("flux-3-image", (4096, 4096), [], 0.607),
        ("flux-3-image", (1536, 1536), [], None),  # the list does not have it
    ],
)
def test_bfl_by_megapixels_and_resolution(model: str, output: Size, inputs: list[Size], usd: float | None) -> None:
    found = cost(of("bfl", model), "edit" if inputs else "generate", [output], images_in=inputs)
    assert found == (None if usd is None else pytest.approx(usd))


@pytest.mark.parametrize(
    ("model", "tokens", "usd"),
    [
        ("gemini-nano-banana-2.1", 1120, 0.0336),
        ("gemini-3.1-flash-image", 747, 0.0448),
        ("gemini-3.1-flash-image", 1120, 0.0672),
        ("gemini-3.1-flash-image", 1680, 0.1008),
        ("gemini-3.1-flash-image", 2520, 0.1512),
        ("gemini-3-pro-image", 1120, 0.1344),
    ],
)
def test_gemini_by_tokens(model: str, tokens: int, usd: float) -> None:
    usage = Usage(input_text=0, output_text=0, output_image=tokens)
    assert cost(of("gemini", model), "generate", [SQUARE], usage=usage) == pytest.approx(usd, abs=0.00005)


@pytest.mark.parametrize(
    ("model", "output", "inputs", "usd"),
    [
        ("doubao-seedream-5-5-261028", (1280, 720), 0, 0.020),
        ("doubao-seedream-5-5-261028", (2048, 2048), 0, 0.035),
        ("doubao-seedream-5-5-261028", (1024, 1024), 3, 0.020 + 3 * 0.008),
        ("doubao-seedream-5-0-pro-260628", (1024, 1024), 0, 0.045),
        ("doubao-seedream-5-0-pro-260628", (1024, 1024), 1, 0.045),  # the first input is free
        ("doubao-seedream-5-0-pro-260628", (2048, 2048), 3, 0.09 + 2 * 0.003),
        ("doubao-seedream-4-5-251128", (4096, 4096), 5, 0.04),
        ("doubao-seedream-3-0-t2i-250415", (1024, 1024), 0, None),  # no price is published
    ],
)
def test_seedream_by_pixels_and_inputs(model: str, output: Size, inputs: int, usd: float | None) -> None:
    found = cost(of("volcengine", model), "generate", [output], images_in=[SQUARE] * inputs)
    assert found == (None if usd is None else pytest.approx(usd))


# ---- how rules are read


def test_several_pictures_of_one_call() -> None:
    rules = (price("image", 0.07), price("megapixel", 0.03, free=1), price("input_image", 0.01))
    assert cost(rules, "edit", [SQUARE, (2048, 1024)], images_in=[SQUARE]) == pytest.approx(0.14 + 0.03 + 0.01)


def test_what_the_provider_charged_wins() -> None:
    rules = (price("image", 1),)
    assert cost(rules, "generate", [SQUARE], usage=Usage(cost_usd=0.3)) == 0.3
    assert cost(rules, "generate", [SQUARE], usage=Usage(cost_usd=0.0)) == 0
    assert cost((), "generate", [], usage=Usage(cost_usd=0.3)) == 0.3


def test_free_only_where_a_rule_says_so() -> None:
    assert cost((price("image", 0),), "generate", [SQUARE]) == 0
    assert cost((), "generate", [SQUARE]) is None


def test_quality_and_size() -> None:
    rules = (
        price("image", 0.04, quality="standard", size="1024x1024"),
        price("image", 0.08, quality="standard", size="1792x1024"),
        price("image", 0.08, quality="hd", size="1024x1024"),
    )
    assert cost(rules, "generate", [SQUARE], "hd") == 0.08
    assert cost(rules, "generate", [SQUARE, SQUARE], "standard") == 0.08
    assert cost(rules, "generate", [SQUARE]) is None  # which quality it has nobody said
    assert cost(rules, "generate", [SQUARE, (640, 480)], "standard") is None  # one of them has no price


def test_op() -> None:
    rules = (price("image", 0.04, op="generate"), price("image", 0.06, op="edit"))
    assert cost(rules, "edit", [SQUARE]) == 0.06
    assert cost(rules, "variation", [SQUARE]) is None


def test_a_size_that_nobody_measured() -> None:
    assert cost((price("image", 0.04),), "generate", [(0, 0)]) == 0.04
    assert cost((price("megapixel", 0.04),), "generate", [(0, 0)]) is None
    assert cost((price("image", 0.04, pixels=(0, 10)),), "generate", [(0, 0)]) is None


@pytest.mark.parametrize("missing", ["input_text", "output_text", "output_image", "input_image"])
def test_tokens_that_nobody_counted(missing: str) -> None:
    units: tuple[Unit, ...] = ("token.text.in", "token.image.in", "token.text.out", "token.image.out")
    rules = tuple(price(unit, 1, per=MILLION) for unit in units)
    counts = {"input_text": 1, "input_image": 1, "output_text": 1, "output_image": 1}
    assert cost(rules, "edit", [SQUARE], usage=Usage(**counts), images_in=[SQUARE]) == 4e-6
    del counts[missing]
    assert cost(rules, "edit", [SQUARE], usage=Usage(**counts), images_in=[SQUARE]) is None


def test_no_pictures_are_no_tokens() -> None:
    rules = (price("token.image.in", 1), price("token.image.out", 1))
    assert cost(rules, "generate", [SQUARE], usage=Usage(output_image=2)) == 2


def test_a_price_for_input_alone_is_no_price() -> None:
    rules = (price("token.text.in", 5, per=MILLION),)
    assert cost(rules, "generate", [SQUARE], usage=Usage(input_text=10)) is None


def test_seconds_and_characters() -> None:
    assert cost((price("second", 0.1),), "video", [(1280, 720)], counts={"second": 8}) == pytest.approx(0.8)
    assert cost((price("second", 0.1),), "video", [(1280, 720)]) is None
    assert cost((price("character", 15, per=MILLION),), "speech", [(0, 0)], counts={"character": 2000}) == pytest.approx(0.03)


def test_yuan_only_with_a_rate() -> None:
    caps = Caps(ops=frozenset({"generate"}), prices=(price("image", 0.5, currency="CNY"),))
    assert cost(caps.prices, "generate", [SQUARE]) is None
    assert cost(settled(caps, None), "generate", [SQUARE]) is None
    assert cost(settled(caps, 0.14), "generate", [SQUARE]) == pytest.approx(0.07)


# ---- resolutions: by what was delivered


TIERS = {"512": 0.045, "1K": 0.067, "2K": 0.101, "4K": 0.151}


@pytest.mark.parametrize(
    ("output", "usd"),
    [
        ((512, 512), 0.045),
        ((384, 688), 0.045),
        ((1024, 1024), 0.067),
        ((768, 1376), 0.067),
        ((384, 3072), 0.067),
        ((2048, 2048), 0.101),
        ((2752, 1536), 0.101),
        ((4096, 4096), 0.151),
        ((5504, 3072), 0.151),
    ],
)
def test_the_tier_is_that_of_the_delivered_picture(output: Size, usd: float) -> None:
    rules = tuple(price("image", amount, resolution=name) for name, amount in TIERS.items())
    assert cost(rules, "generate", [output]) == usd


def test_documented_sizes_decide_where_there_are_any() -> None:
    """Here 2K is only 1600 x 900: by its name alone that would be 1K."""
    caps = Caps(
        ops=frozenset({"generate"}),
        resolutions=("1K", "2K"),
        pixels_of={"16:9@1K": (800, 450), "16:9@2K": (1600, 900)},
        prices=(price("image", 1, resolution="1k"), price("image", 2, resolution="2k")),
    )
    assert cost(settled(caps, None), "generate", [(800, 450)]) == 1
    assert cost(settled(caps, None), "generate", [(1600, 900)]) == 2


def test_a_resolution_that_cannot_be_measured_has_no_price() -> None:
    assert cost((price("image", 1, resolution="huge"),), "generate", [SQUARE]) is None
    assert cost((price("image", 1, resolution="1 MP"), price("image", 2, resolution="4 MP")), "edit", [SQUARE]) == 1


@given(
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    names=st.lists(st.sampled_from(["512", "1K", "1.5K", "2K", "3K", "4K"]), unique=True, min_size=1),
)
def test_every_picture_is_in_one_band(width: int, height: int, names: list[str]) -> None:
    rules = banded([price("image", 1, resolution=name) for name in names])
    assert cost(rules, "generate", [(width, height)]) == 1
    assert banded(rules) == rules


def test_every_listed_price_can_be_reached() -> None:
    """No rule of a release stands for a picture that cannot be."""
    for name in translators.NAMES:
        for model, caps in translators.load(name).MODELS.items():
            for low, high in (rule.pixels for rule in settled(caps, None)):
                assert not high or low < high, (name, model)
                assert low < 1 << 40, (name, model)


GIVEN_AWAY = {("zai", "cogview-3-flash")}  # the vendor's price list says that it is free
FREE = {"demo", "a1111", "comfyui", "modelscope"}  # of one's own; modelscope within the day's quota


def test_no_release_prices_a_picture_at_nothing() -> None:
    usage = Usage(input_text=10, input_image=0, output_text=10, output_image=1000)
    ops: tuple[Op, ...] = ("generate", "edit")
    for name, op in itertools.product(translators.NAMES, ops):
        for model, caps in translators.load(name).MODELS.items():
            found = cost(settled(caps, 0.14), op, [(2048, 2048)], caps.qualities[-1] if caps.qualities else None, usage)
            assert found != 0 or name in FREE or (name, model) in GIVEN_AWAY, (name, model)
