"""What the wire's conversations do not show of servers that make videos as OpenAI did."""

from __future__ import annotations

import pytest

from translators import load_video
from translators.base import Call
from translators.openai.video import SORA, cancel, declared
from translators.video import VideoJob

POLL = Call(path="/videos/v1", method="GET", repeatable=True)
CONTENT = Call(path="/videos/v1/content", method="GET", read="bytes", repeatable=True)


def job(dialect: str) -> VideoJob:
    return VideoJob(op="video", model="m", site={"base_url": "http://gpu/v1", "dialect": dialect})


def test_only_a_server_that_stops_what_it_deletes_is_told_to() -> None:
    assert cancel(job("vllm-omni"), POLL) == Call(path="/videos/v1", method="DELETE", repeatable=True)
    assert cancel(job("vllm-omni"), CONTENT) is None
    assert cancel(job("sglang"), POLL) is None
    assert cancel(job(""), POLL) is None


@pytest.mark.parametrize(("dialect", "sound"), [("", "always"), ("vllm-omni", "choice"), ("sglang", "none")])
def test_a_model_is_taken_for_what_its_server_usually_has(dialect: str, sound: str) -> None:
    caps = declared({"dialect": dialect})
    assert caps.sound == sound
    assert (caps.tasks == SORA.tasks) is (not dialect)


def test_openai_itself_lists_none() -> None:
    assert not load_video("openai").VIDEOS
