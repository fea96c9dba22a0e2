"""What to ask of which model: `Ask` x targets -> settled `Job`s, and notes on what could not be had. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from proxy.catalog import Target
from translators.base import Job


class Note(msgspec.Struct, frozen=True):
    """One thing that the answer differs in from the wish; named in `x-pictor-adjusted`."""

    param: str
    action: Literal["converted", "noted"]
    text: str  # "size 1024x1024 -> 2048x2048"


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """What is left to do to a made picture."""

    format: str | None = None  # png, jpeg, webp: transcode where the bytes are something else; None: as it comes
    compression: int | None = None  # 0-100, for a transcode to jpeg or webp
    respond: Literal["b64_json", "url"] = "b64_json"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The work for one target: `jobs` together make the `n` that was asked for."""

    target: Target
    jobs: tuple[Job, ...]
    finish: Finish
    notes: tuple[Note, ...] = ()
