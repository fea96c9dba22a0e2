"""The list of providers. One line here, one module beside."""

from __future__ import annotations

from importlib import import_module

from translators.base import Translator

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


def load(name: str) -> Translator:
    """The translator of that name; its module is imported at the first call."""
    module: Translator = import_module(f"translators.{name}")
    return module
