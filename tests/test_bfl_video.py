"""What the wire's conversations do not show of Black Forest Labs' videos."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from translators import load_video
from translators.base import Call, Fault
from translators.video import VideoJob

BFL = load_video("bfl")


def test_a_later_version_of_a_tool_is_known() -> None:
    assert BFL.video_caps("flux-tools/video-edit-v2") == BFL.VIDEOS["flux-tools/video-edit-v1"]
    assert BFL.video_caps("flux-tools/video-cut-v1") is None


def test_keyframes_without_a_time_need_a_length() -> None:
    job = VideoJob(op="video", model="flux-3-video", prompt="go", options={"keyframes": ["a", "b", "c"]})
    with pytest.raises(Fault) as caught:
        BFL.start(job)
    assert caught.value.param == "seconds"
    assert isinstance(BFL.start(replace(job, seconds=6)), Call)
