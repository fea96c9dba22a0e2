"""The list of providers. One line here, one module beside."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import SimpleNamespace

from translators.base import Translator
from translators.video import VideoTranslator

NAMES: tuple[str, ...] = (
    "openai",
    "azure",
    "gemini",
    "vertex",
    "bfl",
    "dashscope",
    "hunyuan",
    "ideogram",
    "jimeng",
    "kling",
    "liblib",
    "minimax",
    "recraft",
    "stability",
    "volcengine",
    "xai",
    "zai",
    "bedrock",
    "fal",
    "modelscope",
    "openrouter",
    "replicate",
    "siliconflow",
    "together",
    "a1111",
    "comfyui",
    "demo",
)
"""Makers of models, then those who sell others' models, then servers of one's own."""


VIDEO_MAKERS: tuple[str, ...] = (
    "openai",
    "gemini",
    "vertex",
    "bfl",
    "dashscope",
    "kling",
    "minimax",
    "volcengine",
    "xai",
    "demo",
)
"""Those that make videos too."""


def load(name: str) -> Translator:
    """The translator of that name; its module is imported at the first call."""
    module: Translator = import_module(f"translators.{name}")
    return module


@cache
def load_video(name: str) -> VideoTranslator:
    """The translator of that provider's videos: its own words where it has any, else those for its pictures."""
    first = import_module(f"translators.{name}")
    own = import_module(f"translators.{name}.video" if hasattr(first, "__path__") else f"translators.{name}_video")
    usual = {"video_caps": own.VIDEOS.get, "declared": lambda _: None}  # only listed models, whatever server it is
    words = vars(first) | usual | {word: getattr(own, word) for word in own.__all__}
    made: VideoTranslator = SimpleNamespace(**words)
    return made
