"""Golden costs: the providers' own price lists, worked through by hand; and what a call may cost before it is made."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import translators
from proxy import catalog, config, listing, plain, tokens
from proxy.catalog import Credential, Target, Upstream
from proxy.config import Config
from proxy.estimate import estimate, most, priced
from proxy.plan import Finish, Plan
from proxy.prices import banded, cost, dollars, micros, settled, wasted
from translators.base import Caps, Fault, Free, Job, Media, Op, Price, Secret, Size, Unit, Usage, blob

MILLION = 1_000_000
UNKNOWN = Usage()
SQUARE = (1024, 1024)
K2 = (2048, 2048)
K4 = (4096, 4096)


def price(unit: Unit, amount: float, **rest: Any) -> Price:
    return Price(unit=unit, amount=amount, **rest)


def of(provider: str, model: str, usd_per_cny: float | None = None) -> tuple[Price, ...]:
    return settled(translators.load(provider).MODELS[model], usd_per_cny)


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


MADE: tuple[tuple[str, str, Op, list[Size], str | None, Usage, list[Size], float | None], ...] = (
    ("openai", "gpt-image-2.6-flare", "generate", [SQUARE], "high",
     Usage(input_text=14, output_image=7024), [], 0.21079),
    ("openai", "gpt-image-1.5", "generate", [SQUARE], "high",
     Usage(input_text=20, output_text=100, output_image=4160), [], 0.13422),
    ("openai", "gpt-image-1-mini", "generate", [SQUARE], "high",
     Usage(input_text=20, output_image=4160), [], 0.03332),
    ("azure", "gpt-image-2", "edit", [SQUARE], "medium",
     Usage(input_text=100, input_image=1500, output_image=1756), [SQUARE], 0.06518),
    ("gemini", "gemini-2.5-flash-image", "generate", [SQUARE], None,
     Usage(input_text=10, output_text=0, output_image=1290), [], 0.038703),
    ("gemini", "gemini-3-pro-image", "edit", [K4], None,
     Usage(input_text=100, input_image=560, output_text=500, output_image=2000), [SQUARE], 0.24732),
    ("gemini", "imagen-4.0-generate-001", "generate", [SQUARE] * 4, None, UNKNOWN, [], 0.16),
    ("vertex", "imagen-4.0-ultra-generate-001", "generate", [K2, K2], None, UNKNOWN, [], 0.12),
    ("vertex", "imagen-3.0-capability-001", "edit", [SQUARE], None, UNKNOWN, [SQUARE], 0.04),
    ("vertex", "imagen-4.0-upscale-preview", "edit", [K2], None, UNKNOWN, [SQUARE], None),  # not found
    ("bfl", "flux-2-klein-4b", "edit", [SQUARE], None, UNKNOWN, [SQUARE], 0.015),
    ("bfl", "flux-pro-1.1-ultra", "generate", [(2752, 1536)], None, UNKNOWN, [], 0.06),
    ("bfl", "flux-2-pro", "generate", [SQUARE], None, Usage(cost_usd=0.031), [], 0.031),
    ("dashscope", "qwen-image-3.0-pro", "edit", [K2], None, UNKNOWN, [SQUARE] * 2, 0.081),
    ("dashscope", "qwen-image-3.0", "generate", [SQUARE], None, UNKNOWN, [], 0.03),
    ("dashscope", "qwen-image-2.1-pro", "generate", [SQUARE], None, UNKNOWN, [], None),  # not found
    ("ideogram", "ideogram-4-5", "generate", [K2], "high", UNKNOWN, [], 0.10),
    ("ideogram", "ideogram-4-5-precise-edit", "edit", [SQUARE], "very_low", UNKNOWN, [SQUARE], 0.008),
    ("ideogram", "ideogram-4-5-precise-edit", "edit", [SQUARE], "high", UNKNOWN, [SQUARE], 0.22),
    ("ideogram", "ideogram-4", "generate", [K2], "quality", UNKNOWN, [], 0.10),
    ("ideogram", "ideogram-3", "edit", [SQUARE] * 2, "quality", UNKNOWN, [SQUARE], 0.18),
    ("ideogram", "ideogram-3-character", "edit", [SQUARE], "turbo", UNKNOWN, [SQUARE], 0.10),
    ("ideogram", "ideogram-3-transparent", "generate", [SQUARE], "default", UNKNOWN, [], 0.07),
    ("ideogram", "V_2_TURBO", "generate", [SQUARE], None, UNKNOWN, [], 0.05),
    ("ideogram", "upscale", "edit", [K2], None, UNKNOWN, [SQUARE], None),  # not found
    ("kling", "kling-v2-1", "generate", [SQUARE] * 2, None, UNKNOWN, [], 0.028),
    ("kling", "kling-v2-1", "edit", [SQUARE], None, UNKNOWN, [SQUARE], None),  # by how many are sent
    ("kling", "kling-v3-omni", "edit", [K4], None, UNKNOWN, [SQUARE], 0.056),
    ("kling", "kling-v3", "generate", [SQUARE], None, UNKNOWN, [], None),  # two lists that do not agree
    ("minimax", "image-01", "generate", [SQUARE] * 9, None, UNKNOWN, [], 0.0315),
    ("minimax", "MiniMax-H3-Image", "edit", [K2], None,
     Usage(input_text=100, input_image=2000, output_image=4000), [SQUARE], 0.01843),
    ("openrouter", "black-forest-labs/flux.2-pro", "generate", [K2], None, UNKNOWN, [], 0.12),
    ("openrouter", "qwen/qwen-image-3", "edit", [SQUARE], None, UNKNOWN, [SQUARE] * 2, 0.036),
    ("openrouter", "google/gemini-3.1-flash-image", "generate", [K4], None, UNKNOWN, [], 0.1512),
    ("openrouter", "bytedance-seed/seedream-5-5", "edit", [K2], None, UNKNOWN, [SQUARE], 0.043),
    ("openrouter", "openai/gpt-image-2", "generate", [SQUARE], "low", Usage(cost_usd=0.006), [], 0.006),
    ("recraft", "recraftv4_1_pro", "generate", [K2], None, UNKNOWN, [], 0.21),
    ("recraft", "recraftv4_1_pro", "variation", [K2], None, UNKNOWN, [SQUARE], 0.04),
    ("recraft", "recraftv3", "edit", [SQUARE] * 3, None, UNKNOWN, [SQUARE], 0.12),
    ("recraft", "crisp-upscale", "edit", [K4], None, UNKNOWN, [SQUARE], 0.004),
    ("replicate", "google/nano-banana-pro", "edit", [K4], None, UNKNOWN, [SQUARE], 0.30),
    ("replicate", "black-forest-labs/flux-schnell", "generate", [SQUARE] * 4, None, UNKNOWN, [], 0.012),
    ("replicate", "bytedance/seedream-5-pro", "generate", [K2], None, UNKNOWN, [], 0.09),
    ("replicate", "bytedance/seedream-5-pro", "generate", [SQUARE], None, UNKNOWN, [], None),  # the list has 2K alone
    ("siliconflow", "Qwen/Qwen-Image-Edit", "edit", [SQUARE], None, UNKNOWN, [SQUARE], 0.04),
    ("siliconflow", "Kwai-Kolors/Kolors", "generate", [SQUARE], None, UNKNOWN, [], None),  # perhaps free
    ("stability", "sd3.5-medium", "generate", [SQUARE], None, UNKNOWN, [], 0.035),
    ("stability", "inpaint", "edit", [SQUARE], None, UNKNOWN, [SQUARE], 0.05),
    ("stability", "upscale-creative", "edit", [K2], None, UNKNOWN, [SQUARE], 0.60),
    ("together", "black-forest-labs/FLUX.1.1-pro", "generate", [(1440, 1440)], None, UNKNOWN, [], 0.08),
    ("together", "google/gemini-3-pro-image", "generate", [(3072, 1344)], None, UNKNOWN, [], 0.134),
    ("together", "google/gemini-3-pro-image", "generate", [(3072, 5376)], None, UNKNOWN, [], 0.24),
    ("volcengine", "doubao-seedream-5-0-260128", "generate", [K2] * 2, None, UNKNOWN, [], 0.07),
    ("xai", "grok-imagine-image-2.0", "edit", [SQUARE], "medium", UNKNOWN, [SQUARE], 0.07),
    ("xai", "grok-imagine-image-2.0", "generate", [K2] * 2, "low", UNKNOWN, [], 0.12),
    ("xai", "grok-imagine-image", "generate", [SQUARE] * 2, None, UNKNOWN, [], 0.04),
    ("xai", "grok-imagine-image", "edit", [SQUARE], None, UNKNOWN, [SQUARE], None),  # what is sent is billed, too
    ("zai", "glm-image", "generate", [(1280, 1280)], None, UNKNOWN, [], 0.015),
    ("zai", "cogview-4", "generate", [SQUARE], "hd", UNKNOWN, [], 0.01),
    ("zai", "cogview-3-flash", "generate", [SQUARE], None, UNKNOWN, [], 0),
    ("bedrock", "stability.stable-image-ultra-v1:1", "generate", [SQUARE], None, UNKNOWN, [], 0.14),
    ("bedrock", "us.stability.stable-conservative-upscale-v1:0", "edit", [K2], None, UNKNOWN, [SQUARE], 0.4),
    ("fal", "fal-ai/flux/schnell", "generate", [(1024, 768)], None, UNKNOWN, [], 0.003),
    ("fal", "fal-ai/flux-2-pro", "generate", [K2], None, UNKNOWN, [], 0.075),
    ("fal", "fal-ai/flux-2-pro", "edit", [K2], None, UNKNOWN, [SQUARE], None),  # what is sent may be billed, too
    ("fal", "fal-ai/nano-banana-2", "generate", [K2], None, UNKNOWN, [], 0.12),
    ("fal", "openai/gpt-image-2", "generate", [SQUARE], "high", UNKNOWN, [], 0.211),
    ("fal", "openai/gpt-image-2", "generate", [(1536, 1024)], "high", UNKNOWN, [], None),  # listed at 1024x1024 alone
    ("fal", "fal-ai/ideogram/v3", "generate", [SQUARE], "BALANCED", UNKNOWN, [], 0.06),
    ("demo", "painter", "generate", [K2], None, UNKNOWN, [], 0),
    ("a1111", "default", "generate", [SQUARE], None, UNKNOWN, [], 0),
    ("comfyui", "workflow", "edit", [SQUARE], None, UNKNOWN, [SQUARE], 0),
    ("modelscope", "Qwen/Qwen-Image", "generate", [SQUARE], None, UNKNOWN, [], 0),
)  # fmt: skip
"""Provider, model, what was made of what, and US dollars by the provider's page."""

IN_YUAN: tuple[tuple[str, str, Op, list[Size], Usage, float | None], ...] = (
    ("dashscope", "qwen-image-2.0-pro", "generate", [K2], UNKNOWN, 0.5),
    ("dashscope", "wan2.6-image", "edit", [SQUARE] * 4, UNKNOWN, 0.8),
    ("dashscope", "wanx2.0-t2i-turbo", "generate", [SQUARE], UNKNOWN, 0.04),
    ("hunyuan", "hy-image-v3.5-preview", "generate", [K2], UNKNOWN, 0.15),
    ("hunyuan", "hy-image-v3.5-preview", "generate", [K4], UNKNOWN, 0.20),
    ("hunyuan", "TextToImageLite", "generate", [SQUARE], UNKNOWN, 0.099),
    ("hunyuan", "hy-image-v3", "generate", [SQUARE], UNKNOWN, None),
    ("jimeng", "jimeng_t2i_v40", "generate", [K2] * 3, UNKNOWN, 0.66),
    ("jimeng", "jimeng_image2image_dream_inpaint", "edit", [SQUARE], UNKNOWN, 0.20),
    ("jimeng", "jimeng_t2i_v31", "generate", [SQUARE], UNKNOWN, None),
    ("liblib", "star-3-alpha", "generate", [SQUARE] * 2, Usage(credits=10), 0.1),
    ("liblib", "star-3-alpha", "generate", [SQUARE], UNKNOWN, None),
    ("liblib", "kontext-pro", "edit", [SQUARE] * 2, UNKNOWN, 0.58),
    ("liblib", "kontext-max", "edit", [SQUARE], Usage(credits=60), 0.60),
    ("siliconflow", "Qwen/Qwen-Image", "generate", [(1328, 1328)], UNKNOWN, 0.3),
)
"""The same in yuan."""


@pytest.mark.parametrize(("provider", "model", "op", "made", "quality", "usage", "given", "usd"), MADE)
def test_the_lists(
    provider: str, model: str, op: Op, made: list[Size], quality: str | None, usage: Usage, given: list[Size],
    usd: float | None,
) -> None:  # fmt: skip
    found = cost(of(provider, model), op, made, quality, usage, given)
    assert found == (None if usd is None else pytest.approx(usd, abs=1e-9))


@pytest.mark.parametrize(("provider", "model", "op", "made", "usage", "yuan"), IN_YUAN)
def test_the_lists_in_yuan(
    provider: str, model: str, op: Op, made: list[Size], usage: Usage, yuan: float | None
) -> None:
    given = [SQUARE] if op == "edit" else []
    assert cost(of(provider, model), op, made, None, usage, given) is None  # no rate, no price
    found = cost(of(provider, model, 0.14), op, made, None, usage, given)
    assert found == (None if yuan is None else pytest.approx(yuan * 0.14, abs=1e-9))


def test_every_provider_and_every_unit_is_in_the_lists() -> None:
    rows = {(row[0], row[1]) for row in MADE} | {(row[0], row[1]) for row in IN_YUAN}
    assert {provider for provider, _ in rows} == set(translators.NAMES)
    released = [caps for name in translators.NAMES for caps in translators.load(name).MODELS.values()]
    units = {rule.unit for caps in released for rule in caps.prices}
    assert {rule.unit for row in rows for rule in of(*row)} == units


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
    assert cost(
        (price("character", 15, per=MILLION),), "speech", [(0, 0)], counts={"character": 2000}
    ) == pytest.approx(0.03)


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


def test_each_call_has_its_own_free_ones() -> None:
    rules = (price("image", 0.045), price("input_image", 0.003, free=1))
    assert cost(rules, "edit", [SQUARE] * 4, images_in=[SQUARE], calls=4) == pytest.approx(0.18)
    assert cost(rules, "edit", [SQUARE] * 2, images_in=[SQUARE] * 3, calls=2) == pytest.approx(0.09 + 2 * 2 * 0.003)


def test_credits_stand_instead_of_the_list() -> None:
    rules = (price("image", 0.29), price("credit", 1, per=100))
    assert cost(rules, "generate", [SQUARE]) == 0.29
    assert cost(rules, "generate", [SQUARE], usage=Usage(credits=30)) == 0.3
    assert cost(rules[1:], "generate", [SQUARE]) is None


# ---- what a call may cost


@pytest.mark.parametrize(
    ("size", "low", "medium", "high"),
    [
        ((1024, 1024), 196, 1756, 7024),
        ((1536, 1024), 158, 1372, 5488),
        ((1024, 1536), 158, 1372, 5488),
        ((2048, 1152), 157, 1413, 5650),
        ((2560, 1440), 205, 1843, 7370),
        ((2048, 2048), 397, 3568, 14272),
        ((3840, 2160), 371, 3336, 13342),
    ],
)
def test_tokens_of_gpt_image_2(size: Size, low: int, medium: int, high: int) -> None:
    """OpenAI's own calculator, November 2026."""
    found = [tokens.made("gpt-image-2", size, quality) for quality in ("low", "medium", "high", None)]
    assert found == [low, medium, high, high]


def test_tokens_of_others() -> None:
    assert [tokens.made("gpt-image-1", (1536, 1024), each) for each in ("low", "medium", "high")] == [400, 1568, 6208]
    assert tokens.made("gpt-image-1", (640, 480), None) == 6240
    assert tokens.made("gpt-image-2.5", SQUARE, "low") == 1756
    assert [tokens.made("nano-banana", size, None) for size in ((512, 512), (1584, 672), (2752, 1536), K4)] == [
        747, 1290, 1680, 2520,
    ]  # fmt: skip
    assert tokens.made("patches", SQUARE, None) == tokens.sent("patches", SQUARE) == 4096
    assert tokens.sent("gpt-image-1", SQUARE) == 65 + 129 + 6240
    assert tokens.sent("nano-banana", SQUARE) == 1120


def job(op: Op = "generate", **rest: Any) -> Job:
    return Job(op=op, **{"model": "m", "prompt": "a cat", **rest})


def media(*sizes: Size) -> tuple[Media, ...]:
    return tuple(Media(blob=blob(b""), type="image/png", width=size[0], height=size[1]) for size in sizes)


def listed(provider: str, model: str, rate: float | None = 0.14) -> Caps:
    caps = translators.load(provider).MODELS[model]
    return Caps(**{name: getattr(caps, name) for name in Caps.__struct_fields__} | {"prices": settled(caps, rate)})


def test_a_bound_on_tokens() -> None:
    """7,024 tokens come out, and at most as many go in as the prompt has bytes, and what stands around it."""
    found = most(listed("openai", "gpt-image-2"), job(size=SQUARE, quality="high", prompt="a" * 136))
    assert found == pytest.approx(7024 * 30e-6 + 200 * 5e-6)
    twice = most(listed("openai", "gpt-image-2"), job(size=SQUARE, quality="high", prompt="a" * 136, n=2))
    assert twice == pytest.approx(2 * (7024 * 30e-6 + 200 * 5e-6))
    streamed = most(listed("openai", "gpt-image-2"), job(size=SQUARE, quality="high", prompt="a" * 136, partials=3))
    assert streamed == pytest.approx(7324 * 30e-6 + 200 * 5e-6)


def test_pictures_that_are_sent_are_in_the_bound() -> None:
    caps = listed("openai", "gpt-image-2")
    plain = most(caps, job(size=SQUARE, quality="low")) or 0
    edit = most(caps, job("edit", size=SQUARE, quality="low", images=media(SQUARE, K4))) or 0
    assert edit == pytest.approx(plain + 2 * 1536 * 8e-6 + 2 * 64 * 5e-6)
    found = most(listed("bfl", "flux-2-max"), job("edit", size=SQUARE, images=media(K2)))
    assert found == pytest.approx(0.07 + 4 * 0.03)


@pytest.mark.parametrize(
    ("provider", "model", "asked", "usd"),
    [
        ("bfl", "flux-3-image", {}, 0.607),
        ("bfl", "flux-3-image", {"resolution": "1k"}, 0.048),
        ("bfl", "flux-3-image", {"resolution": "1.5k"}, None),
        ("bfl", "flux-2-pro", {}, 0.03 + 3 * 0.015),
        ("bfl", "flux-2-pro", {"size": SQUARE}, 0.03),
        ("ideogram", "ideogram-4-5", {}, 0.10),
        ("ideogram", "ideogram-4-5", {"quality": "low"}, 0.03),
        ("volcengine", "doubao-seedream-5-0-pro-260628", {"resolution": "1K"}, 0.045),
        ("volcengine", "doubao-seedream-5-0-pro-260628", {}, 0.09),
        ("fal", "openai/gpt-image-2", {}, 0.211),
        ("fal", "openai/gpt-image-2", {"size": (1536, 1024)}, None),
        ("fal", "fal-ai/nano-banana-2", {"ratio": "16:9"}, 0.16),
        ("liblib", "kontext-pro", {"n": 4}, 4 * 0.29 * 0.14),
        ("liblib", "star-3-alpha", {}, None),
        ("demo", "painter", {}, 0),
    ],
)
def test_a_bound(provider: str, model: str, asked: dict[str, Any], usd: float | None) -> None:
    found = most(listed(provider, model), job(**asked))
    assert found == (None if usd is None else pytest.approx(usd))


def test_an_edit_that_keeps_the_pictures_size() -> None:
    fill = listed("fal", "fal-ai/flux-pro/v1/fill")
    assert most(fill, job("edit", images=media((3000, 2000)))) == pytest.approx(6 * 0.05)


def test_seconds_and_characters_before_they_are_made() -> None:
    caps = Caps(ops=frozenset({"speech"}), prices=(price("character", 15, per=MILLION),))
    assert most(caps, job("speech", prompt="x" * 2000)) == pytest.approx(0.03)
    caps = Caps(ops=frozenset({"video"}), prices=(price("second", 0.1),))
    assert most(caps, job("video"), counts={"second": 8}) == pytest.approx(0.8)
    assert most(caps, job("video")) is None


def plan(amount: float | None, jobs: int = 1) -> Plan:
    caps = Caps(ops=frozenset({"generate"}), prices=() if amount is None else (price("image", amount),))
    upstream = Upstream(
        name="toy", translator=translators.load("demo"), base="", site={}, credentials=(Credential("toy", Secret("")),)
    )
    return Plan(target=Target(upstream, "m", caps), jobs=(job(),) * jobs, finish=Finish())


def test_the_dearest_plan_is_reserved() -> None:
    assert estimate([plan(0.04)]) == 0.04
    assert estimate([plan(0.04, jobs=3), plan(0.1)]) == 0.12
    assert estimate([plan(0)]) == 0
    assert estimate([plan(None)]) is None
    assert estimate([]) is None


def test_a_fallback_that_no_budget_bounds() -> None:
    plans = [plan(0.04), plan(None)]
    assert estimate(plans) is None
    assert estimate(priced(plans)) == 0.04


PRICED = [
    (name, model)
    for name in translators.NAMES
    for model, caps in translators.load(name).MODELS.items()
    if any(rule.unit in {"image", "megapixel"} for rule in caps.prices)
]


def within(free: Free, width: int, height: int) -> bool:
    (least, area), (short, long) = free.pixels, free.edge
    return (
        least <= width * height <= (area or 1 << 60)
        and min(width, height) >= short
        and max(width, height) <= (long or 1 << 60)
        and (not free.ratio or max(width, height) <= free.ratio * min(width, height))
    )


@st.composite
def calls(draw: st.DrawFn) -> tuple[Caps, Job, Size, str | None]:
    """A job for a listed model, and a picture that it may make of it."""
    caps = listed(*draw(st.sampled_from(PRICED)))
    op = draw(st.sampled_from(sorted(caps.ops)))
    sent = draw(st.lists(st.tuples(st.integers(64, 4096), st.integers(64, 4096)), min_size=1, max_size=3))
    ways: list[tuple[dict[str, Any], Size]] = [({"size": size}, size) for size in caps.sizes]
    for name, size in caps.pixels_of.items():
        ratio, _, tier = name.partition("@")
        ways.append(({"ratio": ratio, "resolution": tier or None}, size))
    if not caps.pixels_of:
        squares = {"1k": SQUARE, "2k": K2, "4k": K4}
        ways += [({"resolution": each}, squares[each.lower()]) for each in caps.resolutions if each.lower() in squares]
    if caps.free:
        step = caps.free.step
        sides = st.integers(1, 4096 // step).map(lambda count: count * step)
        size = draw(st.tuples(sides, sides))
        ways += [({"size": size}, size)] if within(caps.free, *size) else []
    asked, size = draw(st.sampled_from(ways)) if ways else ({}, sent[0] if op != "generate" else SQUARE)
    if caps.auto_size and draw(st.booleans()):
        asked = {}
    wish = draw(st.sampled_from([None, *caps.qualities]))
    quality = wish or draw(st.sampled_from([None, *caps.qualities]))
    images = media(*sent) if op != "generate" else ()
    n = draw(st.integers(1, caps.max_n))
    return caps, job(op, n=n, quality=wish, images=images, **asked), size, quality


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(calls())
def test_a_bound_holds(call: tuple[Caps, Job, Size, str | None]) -> None:
    caps, asked, size, quality = call
    sent = [(each.width, each.height) for each in asked.images]
    paid = cost(caps.prices, asked.op, [size] * asked.n, quality, images_in=sent)
    bound = most(caps, asked)
    if paid is not None:
        assert bound is not None
        assert bound >= paid - 1e-9


# ---- what was wasted


def test_what_a_failure_cost() -> None:
    rules = (price("token.text.in", 2, per=MILLION), price("token.text.out", 12, per=MILLION),
             price("token.image.out", 120, per=MILLION))  # fmt: skip
    counted = Usage(input_text=1000, output_text=500, output_image=0)
    assert wasted(rules, job(), Fault("empty", "", usage=counted)) == pytest.approx(0.008)
    assert wasted(rules, job(), Fault("empty", "", usage=counted, cost_usd=0.5)) == 0.5
    assert wasted(rules, job(), Fault("empty", "", usage=Usage(cost_usd=0.2))) == 0.2
    assert wasted(rules, job(), Fault("empty", "")) is None
    assert wasted(rules, job(), Fault("empty", "", usage=Usage(input_text=0))) is None
    yuan = (price("credit", 1, per=100, currency="CNY"),)
    assert wasted(yuan, job(), Fault("policy", "", usage=Usage(credits=10))) is None
    assert wasted((price("credit", 0.14, per=100),), job(), Fault("policy", "", usage=Usage(credits=10))) == 0.014


def test_what_lost_pictures_cost() -> None:
    def fault(lost: int, usage: Usage | None) -> Fault:
        made = Fault("upstream", "", usage=usage)
        made.lost = lost
        return made

    rules = (price("image", 0.04), price("input_image", 0.01))
    edit = job("edit", images=media(SQUARE))
    assert wasted(rules, edit, fault(2, UNKNOWN)) == pytest.approx(0.09)  # all of the call
    assert wasted(rules, edit, fault(1, None)) == pytest.approx(0.04)  # the others arrived: what was sent is in theirs
    assert wasted(rules, edit, fault(1, Usage(cost_usd=0.3))) == 0.3
    area = (price("megapixel", 0.01),)
    assert wasted(area, job(size=K2), fault(1, UNKNOWN)) == pytest.approx(0.04)
    assert wasted(area, job(), fault(1, UNKNOWN)) is None


# ---- prices of one's own


def configured(
    rules: str, more: str = "", model: str = "bfl: {api_key: k, models: {flux-2-pro: {prices: RULES}}}"
) -> Config:
    tree = plain.parsed(f"providers: {{{model.replace('RULES', rules)}}}\n{more}")
    return config.load(None, {}, tree)


def test_a_price_list_of_ones_own_stands_instead_of_the_releases() -> None:
    rules = (
        "[{unit: image, amount: 2, currency: CNY, quality: high, size: 1024x1024, op: generate}, "
        "{unit: token.text.in, amount: 5, per: 1000000}, "
        "{unit: megapixel, amount: 0.5, free: 1, pixels: [0, 4194304]}, "
        "{unit: image, amount: 1, resolution: 2K}]"
    )
    served = catalog.build(configured(rules, "prices: {usd_per_cny: 0.5}"))
    found = served.route("bfl/flux-2-pro").targets[0].caps.prices
    assert found == (
        price("image", 1, quality="high", size="1024x1024", op="generate"),
        price("token.text.in", 5, per=MILLION),
        price("megapixel", 0.5, free=1, pixels=(0, 4194304)),
        price("image", 1, resolution="2K", pixels=found[3].pixels),
    )
    shown = listing.entry(served, "bfl/flux-2-pro")["price"]
    assert [(rule["unit"], rule["amount"], rule["currency"]) for rule in shown] == [
        ("image", 1.0, "USD"), ("token.text.in", 5, "USD"), ("megapixel", 0.5, "USD"), ("image", 1, "USD"),
    ]  # fmt: skip


def test_without_a_rate_yuan_are_shown_as_such() -> None:
    (shown,) = listing.entry(catalog.build(configured("[{unit: image, amount: 2, currency: CNY}]")), "bfl/flux-2-pro")[
        "price"
    ]
    assert (shown["amount"], shown["currency"]) == (2, "CNY")


AT = "providers.bfl.models.flux-2-pro.prices"


@pytest.mark.parametrize(
    ("rules", "flaw"),
    [
        ("[{unit: picture, amount: 1}]", f"{AT}[0].unit: expected one of image, megapixel,"),
        ("[{unit: image, amount: -1}]", f"{AT}[0].amount: expected a number from 0 to 1e+06, got -1"),
        ("[{unit: image, amount: .nan}]", f"{AT}[0].amount: expected a number from 0 to 1e+06, got nan"),
        ("[{unit: image, amount: .inf}]", f"{AT}[0].amount: expected a number from 0 to 1e+06, got inf"),
        ("[{unit: image, amount: free}]", f'{AT}[0].amount: expected a number, got "free"'),
        ("[{unit: image}]", f"{AT}[0].amount: required"),
        ("[{unit: image, amount: 1, currency: EUR}]", f'{AT}[0].currency: expected one of USD, CNY, got "EUR"'),
        ("[{unit: image, amount: 1, per: 0}]", f"{AT}[0].per: expected a number of at least 1, got 0"),
        ("[{unit: image, amount: 1, free: -1}]", f"{AT}[0].free: expected a number of at least 0, got -1"),
        ("[{unit: image, amount: 1, op: draw}]", f"{AT}[0].op: expected one of generate, edit,"),
        ("[{unit: image, amount: 1, tier: pro}]", f"{AT}[0].tier: unknown"),
        ("{unit: image, amount: 1}", f"{AT}: expected a list, got a mapping"),
        ("[{unit: image, amount: 1}, {unit: image, amount: 1, size: big}]",
         f'{AT}[1].size: expected a size such as 1024x1024, got "big"'),
        ("[{unit: image, amount: 1, pixels: [9, 4]}]",
         f"{AT}[0].pixels: expected the most to be above the least, got 9, 4"),
    ],
)  # fmt: skip
def test_faults_in_prices(rules: str, flaw: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        configured(rules)
    (found,) = caught.value.flaws
    assert found.startswith(flaw)


def test_prices_of_what_a_model_does_not_make() -> None:
    with pytest.raises(config.ConfigError) as caught:
        catalog.build(configured("[{unit: image, amount: 1, resolution: huge}]"))
    assert caught.value.flaws == [f"{AT}[0].resolution: nothing says how large a picture of huge is; give pixels"]
    model = "openai: {api_key: k, models: {gpt-image-2: {prices: RULES}}}"
    with pytest.raises(config.ConfigError) as caught:
        catalog.build(configured("[{unit: image, amount: 1, quality: hd}]", model=model))
    at = "providers.openai.models.gpt-image-2.prices[0].quality"
    assert caught.value.flaws == [f"{at}: expected one of low, medium, high, got hd"]


# ---- money as whole numbers


@pytest.mark.parametrize(
    ("usd", "whole"),
    [(None, None), (0.0, 0), (0.04, 40_000), (0.0000005, 1), (0.00000049, 0), (0.1234565, 123_457), (0.211, 211_000),
     (1e-12, 0), (12_345.678901, 12_345_678_901)],
)  # fmt: skip
def test_micros(usd: float | None, whole: int | None) -> None:
    assert micros(usd) == whole


@given(st.integers(0, 10**13))
def test_micros_come_back(whole: int) -> None:
    assert micros(dollars(whole)) == whole
    assert f"{dollars(whole):.6f}" == f"{whole // MILLION}.{whole % MILLION:06}"


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_micros_keep_order(one: float, other: float) -> None:
    assert (micros(one) <= micros(other)) or one > other
