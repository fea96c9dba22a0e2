"""Golden costs of videos: the vendors' own lists, worked through by hand; and the most that one may cost beforehand."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from proxy.video.prices import video_cost, video_estimate, video_wasted
from tests.pictures import media
from translators import VIDEO_MAKERS, load_video
from translators.base import Fault, Price, Usage
from translators.video import VideoCaps, VideoJob

MILLION = 1_000_000
WIDE = (1280, 720)
FRAME = media("photo.png")
RULES = (
    Price(unit="second", amount=0.1, resolution="720p", sound=False),
    Price(unit="second", amount=0.2, resolution="720p", sound=True),
    Price(unit="second", amount=0.4, resolution="1080p"),
    Price(unit="input_image", amount=0.01, free=1),
)
CAPS = VideoCaps(
    tasks=frozenset({"create", "edit", "extend"}), seconds=(4, 8), extra_seconds=(4,), clip_seconds=(2, 10),
    resolutions=("720p", "1080p"), sound="choice", prices=RULES,
)  # fmt: skip


def job(**said: Any) -> VideoJob:
    return replace(VideoJob(op="video", model="m", prompt="go"), **said)


@pytest.mark.parametrize(
    ("said", "seconds", "usd"),
    [
        ({"resolution": "720p", "audio": True, "seconds": 4}, 4, 0.8),
        ({"resolution": "720P", "audio": False, "seconds": 4}, 4, 0.4),
        ({"resolution": "720p", "seconds": 4}, 4, None),  # with sound or without: nobody said
        ({"resolution": "1080p", "seconds": 4}, 4, 1.6),
        ({"resolution": "1080p", "seconds": 4}, 4.041, 1.6),  # a file is a frame longer than what is billed
        ({"resolution": "1080p", "seconds": 4}, 3, 1.2),  # another length is not
        ({"resolution": "1080p", "seconds": 4}, None, 1.6),
        ({"resolution": "1080p"}, None, None),
        ({"resolution": "480p", "audio": True}, 4, None),  # nobody lists it
        ({"audio": True}, 4, 0.8),  # its frames tell that it is 720p
        ({"resolution": "1080p", "seconds": 4, "first": FRAME}, 4, 1.6),
        ({"resolution": "1080p", "seconds": 4, "first": FRAME, "last": FRAME}, 4, 1.61),
        ({"resolution": "1080p", "seconds": 4, "references": (FRAME,) * 4}, 4, 1.63),
        ({"resolution": "1080p", "seconds": 4, "task": "extend"}, 12, 4.8),
    ],
)
def test_what_a_video_cost(said: dict[str, Any], seconds: float | None, usd: float | None) -> None:
    found = video_cost(RULES, job(**said), seconds, WIDE)
    assert found == (None if usd is None else pytest.approx(usd))


def test_what_the_provider_tells_is_heeded_first() -> None:
    asked = job(resolution="1080p", seconds=4)
    assert video_cost(RULES, asked, 4, WIDE, Usage(cost_usd=0.3)) == 0.3
    assert video_cost(RULES, asked, 4, WIDE, Usage(seconds=6)) == pytest.approx(2.4)
    credits = (*RULES, Price(unit="credit", amount=0.14))
    assert video_cost(credits, asked, 4, WIDE, Usage(credits=2)) == pytest.approx(0.28)
    assert video_cost(credits, asked, 4, WIDE) == pytest.approx(1.6)
    tokens = (*RULES, Price(unit="token.image.out", amount=10, per=MILLION))
    assert video_cost(tokens, asked, 4, WIDE, Usage(output_image=50_000)) == pytest.approx(0.5)
    assert video_cost(tokens, asked, 4, WIDE) == pytest.approx(1.6)


def test_a_price_in_yuan_is_none_in_dollars() -> None:
    rules = (Price(unit="second", amount=1, currency="CNY"),)
    assert video_cost(rules, job(), 5) is None


def test_a_price_by_size_and_one_by_length() -> None:
    rules = (Price(unit="second", amount=0.3, size="1280x720"), Price(unit="second", amount=0.5, size="1792x1024"))
    assert video_cost(rules, job(), 10, (1792, 1024)) == pytest.approx(5)
    assert video_cost(rules, job(size=WIDE), 10) == pytest.approx(3)
    assert video_cost(rules, job(), 10) is None
    whole = (Price(unit="video", amount=0.28, seconds=6), Price(unit="video", amount=0.56, seconds=10))
    assert video_cost(whole, job(seconds=6), 5.88) == 0.28
    assert video_cost(whole, job(seconds=10), 10) == 0.56
    assert video_cost(whole, job(), 8) is None


@pytest.mark.parametrize(
    ("said", "clip", "usd"),
    [
        ({"resolution": "720p", "seconds": 4}, None, 0.8),  # it may have sound
        ({"resolution": "720p", "seconds": 4, "audio": False}, None, 0.4),
        ({"seconds": 4}, None, 1.6),  # it may have 1080p
        ({"resolution": "1080p"}, None, 3.2),  # it may have 8 seconds
        ({"resolution": "1080p", "task": "edit"}, 5, 4.0),  # the clip is billed, and what is made of it
        ({"resolution": "1080p", "task": "edit"}, None, 8.0),
        ({"resolution": "1080p", "task": "extend", "seconds": 4}, 5, 5.6),
        ({"resolution": "480p"}, None, None),
    ],
)
def test_the_most_that_it_may_cost(said: dict[str, Any], clip: float | None, usd: float | None) -> None:
    found = video_estimate(CAPS, job(**said), clip)
    assert found == (None if usd is None else pytest.approx(usd))


def test_a_resolution_without_a_price_has_no_bound() -> None:
    wider = replace(CAPS, resolutions=("720p", "1080p", "4k"))
    assert video_estimate(wider, job(seconds=4)) is None
    assert video_estimate(replace(wider, usual_resolution="720p"), job(seconds=4)) == pytest.approx(0.8)
    assert video_estimate(replace(CAPS, prices=()), job(seconds=4)) is None


def test_what_nobody_got() -> None:
    asked = job(resolution="1080p", seconds=4)
    lost = Fault("upstream", "")
    lost.lost = 1
    assert video_wasted(RULES, asked, lost) == pytest.approx(1.6)
    assert video_wasted(RULES, asked, Fault("policy", "", cost_usd=0.3)) == 0.3
    assert video_wasted(RULES, asked, Fault("policy", "")) is None
    assert video_wasted(RULES, asked, Fault("policy", "", usage=Usage(cost_usd=0.2))) == 0.2


# ---- the vendors' lists


@pytest.mark.parametrize(
    ("model", "said", "usd"),
    [
        ("kling/kling-3.0-turbo", {"resolution": "1080p"}, 0.7),
        ("kling/kling-3.0", {"resolution": "720p", "audio": False}, 0.42),
        ("kling/kling-3.0", {"resolution": "1080p", "audio": True}, 0.84),
        ("kling/kling-3.0-omni", {"resolution": "1080p", "audio": True}, 0.7),
        ("kling/kling-3.0-omni", {"resolution": "1080p", "task": "edit"}, 0.84),
        ("kling/kling-v3", {"resolution": "4k", "audio": True}, 2.1),
        ("kling/kling-2.6", {"resolution": "720p"}, None),  # not found
        ("vertex/veo-3.1-generate-001", {"resolution": "4k"}, 3.0),
        ("vertex/veo-3.1-fast-generate-001", {"resolution": "1080p"}, 0.6),
        ("vertex/veo-3.1-lite-generate-001", {"resolution": "1080p"}, 0.4),
        ("gemini/gemini-omni-1.2-flash", {"resolution": "720p"}, 0.507),
        ("gemini/gemini-omni-1.2-flash", {"resolution": "1080p"}, None),
        ("minimax/MiniMax-H3", {"resolution": "2K"}, 0.65),
        ("minimax/MiniMax-H3", {"resolution": "2K", "references": (FRAME,) * 7}, 0.73),
        ("minimax/MiniMax-H3-Max", {"resolution": "480P"}, 0.25),
        ("minimax/MiniMax-Hailuo-02", {"resolution": "768P"}, None),  # not found
        ("xai/grok-imagine-video", {"resolution": "720p", "first": FRAME}, 0.352),
        ("xai/grok-imagine-video-1.5", {"resolution": "1080p"}, 1.25),
        ("bfl/flux-3-video", {"resolution": "fhd"}, 1.45),
        ("bfl/flux-3-video", {"resolution": "fhd", "task": "extend"}, None),
        ("dashscope/wan3.0-video", {"resolution": "1080P"}, 0.825),
        ("dashscope/wan2.6-i2v-flash", {"resolution": "1080P", "audio": True}, 2.5),  # yuan, as those below
        ("dashscope/wan2.6-i2v-flash", {"resolution": "1080P", "audio": False}, 1.25),
        ("dashscope/wan2.2-t2v-plus", {"resolution": "480P"}, 0.7),
        ("dashscope/happyhorse-1.0-t2v", {"resolution": "720P"}, 4.5),
    ],
)
def test_five_seconds(model: str, said: dict[str, Any], usd: float | None) -> None:
    provider, _, name = model.partition("/")
    rules = load_video(provider).VIDEOS[name].prices
    found = video_cost([replace(rule, currency="USD") for rule in rules], job(seconds=5, **said), 5)
    assert found == (None if usd is None else pytest.approx(usd))


@pytest.mark.parametrize(("resolution", "seconds", "usd"), [("768P", 6, 0.28), ("768P", 10, 0.56), ("1080P", 6, 0.49)])
def test_hailuo_is_paid_by_the_video(resolution: str, seconds: int, usd: float) -> None:
    caps = load_video("minimax").VIDEOS["MiniMax-Hailuo-2.3"]
    asked = job(resolution=resolution, seconds=seconds)
    assert video_cost(caps.prices, asked, seconds - 0.1) == usd
    assert video_estimate(caps, asked) == usd


def test_omni_is_paid_by_tokens_where_they_are_told() -> None:
    """1.50 for a million in, 17.50 for a million of video."""
    rules = load_video("gemini").VIDEOS["gemini-omni-1.1-flash"].prices
    usage = Usage(input_text=536, output_image=46_336)
    assert video_cost(rules, job(resolution="1080p", seconds=8), 8, None, usage) == pytest.approx(0.811684)


@pytest.mark.parametrize("provider", VIDEO_MAKERS)
def test_a_bound_is_never_less_than_the_cost(provider: str) -> None:
    for model, caps in load_video(provider).VIDEOS.items():
        dollars = tuple(replace(price, currency="USD") for price in caps.prices)
        for resolution in caps.resolutions:
            for seconds in caps.seconds:
                asked = job(model=model, seconds=seconds, resolution=resolution, audio=caps.sound != "none")
                bound = video_estimate(replace(caps, prices=dollars), asked)
                spent = video_cost(dollars, asked, seconds)
                assert (bound is None) == (spent is None)
                assert bound is None or spent is None or bound >= spent
