"""The list of providers. One line here, one module beside."""

from __future__ import annotations

from importlib import import_module

from translators.base import Translator

NAMES: tuple[str, ...] = (
    "openai", "azure", "gemini", "vertex", "volcengine", "openrouter", "bfl", "demo", "recraft", "kling", "dashscope",
    "stability", "ideogram", "fal", "jimeng", "modelscope", "siliconflow", "together", "xai", "minimax", "zai",
    "bedrock", "replicate", "hunyuan", "a1111", "liblib", "comfyui",
)  # fmt: skip


def load(name: str) -> Translator:
    """The translator of that name; its module is imported at the first call."""
    module: Translator = import_module(f"translators.{name}")
    return module
