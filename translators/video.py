"""The contract of a translator that makes videos: what is different from pictures. The rest is `base`'s.

A provider's videos stand in a module beside its pictures, `<provider>_video` or `<provider>.video`, with `VIDEOS`,
`start`, `step` and `cancel`. Credential, addresses and errors are the provider's
own: `base`, `check` and `sign` come from its first module where the video module has none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

import msgspec

from translators.base import Call, Job, Media, Price, Size, Translator

Task: TypeAlias = Literal["create", "edit", "extend", "remix"]
"""`create` from text, frames or references; `edit` or `extend` a clip; `remix` an earlier result by another prompt."""

Sound: TypeAlias = Literal["none", "always", "choice"]


class VideoCaps(msgspec.Struct, frozen=True, kw_only=True):
    """What one model can do. Lengths in seconds, pictures in pixels; data, as `base.Caps` is.

    A size is asked for by `sizes` (a closed list), or by `ratios` and `resolutions`, of which `pixels_of` tells the
    pixels: "16:9@720p" -> 1280, 720. Where `frames_shape` is set, a first frame decides the ratio, and none is sent.
    """

    tasks: frozenset[Task] = frozenset({"create"})
    seconds: tuple[int, ...] = ()  # every length that it makes, ascending
    usual_seconds: int = 0  # where none is asked for; 0: the model decides
    extra_seconds: tuple[int, ...] = ()  # that an extension adds
    clip_inputs: Literal["bytes", "url", "none"] = "bytes"  # how a clip is sent; none: only an earlier result is taken
    clip_types: tuple[str, ...] = ("video/mp4",)
    clip_bytes: int = 100_000_000  # of one clip
    clip_seconds: tuple[float, float] = (0, 0)  # its least and most
    sizes: tuple[Size, ...] = ()
    ratios: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()  # ascending, in the model's spelling
    usual_resolution: str = ""  # where none is asked for, if that is known
    pixels_of: Mapping[str, Size] = {}
    frames_shape: bool = False
    text: bool = True  # makes videos of text alone
    first: bool = False  # takes a first frame
    last: bool = False  # … and a last one beside it
    references: int = 0  # pictures that say what is to be seen, not where
    mixes: bool = False  # references beside frames
    prompt_chars: int = 2_500
    inputs: Literal["bytes", "url"] = "bytes"
    input_types: tuple[str, ...] = ("image/png", "image/jpeg", "image/webp")
    input_bytes: int = 20_000_000  # of one picture
    input_edge: tuple[int, int] = (0, 0)  # least and most of either edge
    sound: Sound = "none"
    params: frozenset[str] = frozenset()  # of `Job` and `VideoJob`: seed, negative_prompt, watermark, camera, user …
    options: frozenset[str] = frozenset()  # names in `provider_options`
    prices: tuple[Price, ...] = ()  # by "second" as a rule; `resolution`, `sound` and `clip` as conditions
    ends: str | None = None  # the day of its shutdown
    note: str | None = None


class VideoJob(Job, frozen=True, kw_only=True, omit_defaults=True):
    """One video to make, settled: every length and size is legal for the model, a field that it does not take is unset.

    `op` is "video", `n` is 1; `images`, `mask` and what else belongs to pictures stays empty.
    """

    task: Task = "create"
    seconds: int | None = None  # one of `VideoCaps.seconds`, or of `extra_seconds` for an extension
    first: Media | None = None
    last: Media | None = None
    references: tuple[Media, ...] = ()
    clip: Media | None = None  # the video to edit or extend
    # Of an earlier result to remix, edit or extend: its `Output.extra["origin"]`. Only `prompts` may hold words in it.
    origin: Mapping[str, str] = {}
    audio: bool | None = None  # for models whose `sound` is "choice"
    camera: str | None = None  # the vendor's word for a movement, or "fixed"


class VideoTranslator(Translator, Protocol):
    """A provider's videos: the words of its pictures, and these. `video_caps` and `declared` need not be written."""

    @property
    def VIDEOS(self) -> Mapping[str, VideoCaps]: ...  # the models that are listed; others go through `video_caps`
    def video_caps(self, model: str, /) -> VideoCaps | None: ...  # None: there is no such model here
    def declared(self, site: Mapping[str, str], /) -> VideoCaps | None: ...  # of any model, at a server of one's own
    def cancel(self, job: VideoJob, waiting: Call, /) -> Call | None: ...  # stops the task of that poll, if it can be
