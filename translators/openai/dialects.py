"""Servers that speak as OpenAI does, but not quite: what they can do, and where their words differ. Only data.

Chosen by the setting `dialect` of `openai`. What a server takes without using it is not among its capabilities, so that
a client hears that it was left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from translators.base import Caps, Free


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of server does otherwise than OpenAI."""

    caps: Caps
    respond: str | None = "b64_json"  # what `response_format` must say: elsewhere its links may lead nowhere
    names: Mapping[str, str] = {}  # a member's usual name -> the one here
    localai: bool = False  # edits are generations with pictures in their JSON; a mask has a path of its own
    tail: bool = False  # what OpenAI has no field for stands in a block at the prompt's end


COMMON = Caps(
    ops=frozenset({"generate", "edit", "variation"}),
    max_n=10,
    free=Free(step=8),
    max_images=16,
    formats=("png", "jpeg", "webp"),
    compression=True,
    params=frozenset({"user", "seed", "negative_prompt", "steps", "guidance"}),
    options=frozenset({"*"}),
)

DIALECTS: Mapping[str, Dialect] = {
    "localai": Dialect(
        caps=replace(
            COMMON,
            max_n=1,  # with a mask; without, it would take any
            mask="white-edits",
            formats=(),
            compression=False,
            params=frozenset({"seed", "negative_prompt", "steps"}),
            note="With a mask it keeps the size of its picture, and takes one, without seed and negative prompt.",
        ),
        names={"num_inference_steps": "step"},
        localai=True,
    ),
    "vllm-omni": Dialect(caps=replace(COMMON, mask="white-edits"), names={"mask": "mask_image"}),
    "sglang": Dialect(caps=COMMON),  # it takes a mask, and ignores it
    "sd.cpp": Dialect(
        caps=replace(
            COMMON,
            mask="white-edits",
            formats=("png", "jpeg"),
            params=frozenset({"seed", "steps"}),
            options=frozenset({"sample_params"}),
        ),
        respond=None,
        tail=True,
    ),
}
