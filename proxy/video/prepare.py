"""A job's pictures as its model takes them, and its clip as far as anybody here can tell: nothing here changes a clip.

The pictures are made to fit by the functions, and in the threads, that do it for jobs that make pictures.
"""

from __future__ import annotations

import operator

from msgspec.structs import replace

from proxy import pixels
from proxy.decide import Note
from proxy.pixels import BOUND, Pixels
from proxy.sizes import CLOSE, off
from proxy.state.uploads import type_of
from translators.base import Blob, Caps, Fault, Media, Size
from translators.video import VideoCaps, VideoJob


async def prepare(job: VideoJob, caps: VideoCaps, by: Pixels) -> tuple[VideoJob, tuple[Note, ...]]:
    """`job` with its pictures as the model takes them; the same object where nothing had to be done.

    Raises `Fault("invalid")` where one cannot be made to fit, or the clip does not.
    """
    if job.clip is not None:
        check_clip(job.clip, caps)
    if job.first is None and job.last is None and not job.references:
        return job, ()
    return await by.aside(fitted, job, caps, bound=by.bound)


def fitted(job: VideoJob, caps: VideoCaps, *, bound: int = BOUND) -> tuple[VideoJob, tuple[Note, ...]]:
    """See `prepare`. A first frame of the video's shape gets its size too, where that is one of a closed list."""
    limits = limits_of(caps)
    notes: list[Note] = []

    def fit(media: Media, param: str, size: Size | None = None) -> Media:
        made, note = pixels.fit(media, limits, param, size=size, bound=bound)
        notes.extend([note] if note else [])
        return made

    def frame(media: Media | None, param: str) -> Media | None:
        return None if media is None else fit(media, param, _size_of(media, job.size, param))

    first, last = frame(job.first, "input_reference"), frame(job.last, "last_frame")
    references = tuple([fit(each, f"reference_images[{index}]") for index, each in enumerate(job.references)])
    if first is job.first and last is job.last and all(map(operator.is_, references, job.references)):
        return job, tuple(notes)
    return replace(job, first=first, last=last, references=references), tuple(notes)


def _size_of(frame: Media, size: Size | None, param: str) -> Size | None:
    """The video's size for a frame of its shape; servers that copy OpenAI's refuse any other."""
    width, height = pixels.measure(frame.blob, param).upright
    if size is None or not width or not height or off(width / height, size[0] / size[1]) > CLOSE:
        return None
    return size


def limits_of(caps: VideoCaps) -> Caps:
    """What the model says of the pictures that it takes, as models that make pictures say it."""
    return Caps(ops=frozenset(), input_types=caps.input_types, input_bytes=caps.input_bytes, input_edge=caps.input_edge)


def as_clip(file: Blob, param: str = "video") -> Media:
    """A client's file as a clip, typed by its first bytes. Raises `Fault("invalid")` for what is no video."""
    kind = type_of(file)
    if not kind.startswith("video/"):
        raise _wrong_type(param, kind, ("video/mp4",))
    return Media(blob=file, type=kind)


def check_clip(clip: Media, caps: VideoCaps, param: str = "video") -> None:
    """Refuse a clip of a type or a size that the model does not take."""
    if clip.type not in caps.clip_types:
        raise _wrong_type(param, clip.type, caps.clip_types)
    if caps.clip_bytes and clip.blob.length > caps.clip_bytes:
        text = f"Invalid '{param}': the file has {clip.blob.length} bytes; this model takes at most {caps.clip_bytes}."
        raise Fault("invalid", text, code="video_too_large", param=param)


def _wrong_type(param: str, kind: str, types: tuple[str, ...]) -> Fault:
    listed = ", ".join(f"'{each}'" for each in types)
    text = f"Invalid file '{param}': unsupported mimetype ('{kind}'). Supported file formats are {listed}."
    return Fault("invalid", text, code="unsupported_file_mimetype", param=param)
