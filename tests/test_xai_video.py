"""What the wire's conversations do not show of xAI's videos."""

from __future__ import annotations

import pytest

from translators import load_video

XAI = load_video("xai")


@pytest.mark.parametrize("suffix", ["", "-2026-05-30", "-2027-01-31", "-latest", "-preview"])
def test_a_dated_model_is_known_by_the_one_whose_name_it_bears(suffix: str) -> None:
    assert XAI.video_caps(f"grok-imagine-video-1.5{suffix}") == XAI.VIDEOS["grok-imagine-video-1.5"]


def test_another_model_is_not_known() -> None:
    assert XAI.video_caps("grok-imagine-video-9") is None
