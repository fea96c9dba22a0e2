"""OpenAI's video requests as structs: JSON and multipart become the same `VideoAsk`.

Both of OpenAI's SDKs send `videos.create` as a form, with or without a file in it. A form is brought into the shape of
the JSON body, as with pictures, so that there is one set of rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from proxy import invalid, sizes
from proxy.ask import (
    NOTHING_LIFTED,
    FileRef,
    Link,
    Person,
    Reference,
    Said,
    Source,
    Upload,
    Url,
    Word,
    address,
    coerce,
    decoded,
    referred,
    restored,
)
from proxy.forms import Form, nest
from proxy.video.lengths import lines
from translators.base import Blob, Fault, Media
from translators.video import Task

MOST_REFERENCES = 32
LONGEST = 3600
"""Seconds: far more than any model makes."""


class VideoAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What the client asked for, each field of the right type; not yet held against a model. `None` is "not said"."""

    op: Literal["video"] = "video"
    task: Task = "create"
    model: str | None = None
    prompt: str = ""
    seconds: int | None = None
    size: str | None = None
    first: Source | None = None  # OpenAI's `input_reference`
    # beyond OpenAI, on every model
    last: Source | None = None  # `last_frame`
    references: tuple[Source, ...] = ()  # `reference_images`
    clip: Source | None = None  # a video to edit or extend that is not one of ours
    origin: str | None = None  # one of ours: video_…
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    audio: bool | None = None
    camera: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    watermark: bool | None = None
    metadata: dict[str, str] = {}
    provider_options: dict[str, Any] = {}
    webhook_url: str | None = None

    @property
    def n(self) -> int:
        """How many are made."""
        return 1

    @property
    def sources(self) -> tuple[Source, ...]:
        """All pictures and clips in it."""
        return tuple(each for each in (self.first, self.last, *self.references, self.clip) if each is not None)


def without_sources(ask: VideoAsk) -> VideoAsk:
    """It, without its pictures and clips: what is kept once they are fetched."""
    return replace(ask, first=None, last=None, references=(), clip=None)


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a `VideoAsk` names, fetched, typed by its first bytes. Pictures are upright only after `prepare`."""

    first: Media | None = None
    last: Media | None = None
    references: tuple[Media, ...] = ()
    clip: Media | None = None  # also of one of our videos, where its file is kept
    origin: Mapping[str, str] = {}  # of one of our videos: what its maker knows it by, `Output.extra["origin"]`
    maker: str = ""  # the configured provider that made it: nobody else can use `origin`
    origin_seconds: float | None = None  # how long the clip or video is, where that is known


Picture: TypeAlias = Reference | Url
"""OpenAI's object, or an address by itself."""


class Earlier(msgspec.Struct, forbid_unknown_fields=True):
    """A video in the JSON form of an edit or extension: exactly one of these. OpenAI knows `id` alone."""

    id: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    url: Url | None = None
    file_id: Annotated[str, Meta(min_length=1, max_length=512)] | None = None


class Filmed(Said, kw_only=True, forbid_unknown_fields=True):
    """What every call for a video takes; and all that a remix takes, whose video stands in its path."""

    prompt: Annotated[str, Meta(min_length=1)]
    seconds: int | Word | None = None
    reference_images: Annotated[list[Picture], Meta(max_length=MOST_REFERENCES)] | None = None
    audio: bool | None = None
    camera: Word | None = None
    safety_identifier: Person | None = None


class Creation(Filmed, kw_only=True, forbid_unknown_fields=True):
    """The body of `videos`."""

    input_reference: Picture | None = None
    last_frame: Picture | None = None


class Change(Filmed, kw_only=True, forbid_unknown_fields=True):
    """The body of `videos/edits` and `videos/extensions`."""

    video: Earlier | Url | None = None


BODIES: Mapping[Task, type[Filmed]] = {"create": Creation, "edit": Change, "extend": Change, "remix": Filmed}
FILES: Mapping[Task, frozenset[str]] = {
    "create": frozenset({"input_reference", "last_frame", "reference_images"}),
    "edit": frozenset({"video", "reference_images"}),
    "extend": frozenset({"video", "reference_images"}),
    "remix": frozenset({"reference_images"}),
}
DECODERS = {task: msgspec.json.Decoder(body) for task, body in BODIES.items()}
LISTS = frozenset({"reference_images"})
NO_CHOICES: Mapping[str, tuple[str, ...]] = {}


def from_json(
    task: Task, body: bytes, lifted: Mapping[str, Blob] = NOTHING_LIFTED, *, origin: str | None = None
) -> VideoAsk:
    """The request of a JSON body, whose long `data:` URLs may have been `lifted` out. Raises `Fault("invalid")`.

    `origin` is the video that a remix names in its path.
    """
    if lifted:
        with suppress(Fault):
            ask = _read(task, body, lifted, origin)
            if sum(isinstance(each, Link) and each.blob is not None for each in ask.sources) == len(lifted):
                return ask
        body = restored(body, lifted)  # one stands where no picture is read, or something is wrong: it is told whole
    return _read(task, body, NOTHING_LIFTED, origin)


def _read(task: Task, body: bytes, lifted: Mapping[str, Blob], origin: str | None) -> VideoAsk:
    try:
        read = DECODERS[task].decode(body)
    except msgspec.ValidationError as error:
        raise invalid.explain(error, decoded(body), NO_CHOICES) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid.bad_json(error) from error
    return _ask(task, read, {}, lifted, origin)


def from_form(task: Task, form: Form, *, origin: str | None = None) -> VideoAsk:
    """The request of a multipart form: as if the same had come as JSON. Raises `Fault("invalid")`."""
    files: dict[str, list[Blob]] = {}
    texts: list[tuple[str, str]] = []
    body = BODIES[task]
    for part in form.parts:
        root = part.name.partition("[")[0]
        if root not in body.__struct_fields__:
            raise invalid.unknown_parameter(part.name)
        if isinstance(part.value, str):
            texts.append((part.name, part.value))
        elif root not in FILES[task]:
            raise invalid.wrong_type(part.name, "a value" if root in OBJECTS else "a string", "a file")
        elif not part.value.size:
            raise invalid.wrong_type(part.name.removesuffix("[]"), "a file", "an empty file")
        else:
            files.setdefault(root, []).append(part.value)
    plain = nest(texts, _coerce, lists=LISTS)
    try:
        read = msgspec.convert(plain, body)
    except msgspec.ValidationError as error:
        raise invalid.explain(error, plain, NO_CHOICES) from error
    return _ask(task, read, files, NOTHING_LIFTED, origin)


OBJECTS = frozenset({"input_reference", "last_frame", "reference_images", "video", "metadata", "provider_options"})
"""Members that may also come as one part of JSON text."""


def _coerce(path: tuple[str, ...], text: str) -> Any:
    """A form's text as the JSON value that it stands for: as of a picture's form, and the members that only we have."""
    root = path[0]
    if len(path) == 1 and root in OBJECTS and text.lstrip()[:1] in {"{", "["}:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
    if root == "audio" and text in {"true", "false"}:
        return text == "true"
    return coerce(path, text)


PICTURES = {"first": "input_reference", "last": "last_frame"}
"""What clients call the frames."""
SAME = frozenset(VideoAsk.__struct_fields__) - {"op", "task", "seconds"}


def _ask(
    task: Task, body: Filmed, files: Mapping[str, list[Blob]], lifted: Mapping[str, Blob], origin: str | None
) -> VideoAsk:
    """`body` as a `VideoAsk`, once the rules hold that no type can tell."""
    members = {name: getattr(body, name) for name in body.__struct_fields__}
    said = {name: value for name, value in members.items() if name in SAME and value is not None}
    for name in LEGIBLE.keys() & said.keys():
        _check_legible(name, said[name])
    for name, param in PICTURES.items():
        said[name] = _picture(param, members.get(param), _only(param, files), lifted)
    said["references"] = _references(body.reference_images or (), files.get("reference_images", ()), lifted)
    if task in {"edit", "extend"}:
        said["clip"], origin = _video(members["video"], _only("video", files), lifted)
    return VideoAsk(task=task, seconds=_seconds(body.seconds), origin=origin, **said)


def _picture(
    param: str, given: Reference | str | None, upload: Upload | None, lifted: Mapping[str, Blob]
) -> Source | None:
    """A picture however it came: as a file, as OpenAI's object, as an address by itself."""
    if upload is not None and given is not None:
        raise _twice(param)
    if given is None:
        return upload
    return address(given, param, lifted) if isinstance(given, str) else referred(given, param, lifted)


def _references(
    given: list[Reference | str] | tuple[()], files: list[Blob] | tuple[()], lifted: Mapping[str, Blob]
) -> tuple[Source, ...]:
    """Files first, as with pictures to edit."""
    if len(files) + len(given) > MOST_REFERENCES:
        raise invalid.too_many("reference_images", MOST_REFERENCES, len(files) + len(given))
    uploads = [Upload(blob, f"reference_images[{index}]") for index, blob in enumerate(files)]
    rest = [
        _picture(f"reference_images[{index}]", each, None, lifted) for index, each in enumerate(given, len(uploads))
    ]
    return (*uploads, *(each for each in rest if each is not None))


def _video(
    given: Earlier | str | None, upload: Upload | None, lifted: Mapping[str, Blob]
) -> tuple[Source | None, str | None]:
    """The video to change: a clip, or the id of one of ours."""
    if upload is not None and given is not None:
        raise _twice("video")
    if given is None:
        if upload is None:
            raise invalid.missing("video")
        return upload, None
    if isinstance(given, str):
        return (None, given) if given.startswith("video_") else (address(given, "video", lifted), None)
    if sum(each is not None for each in (given.id, given.url, given.file_id)) != 1:
        text = "Invalid 'video'. Expected exactly one of 'id', 'url' and 'file_id'."
        raise invalid.invalid_value("video", text)
    if given.url is not None:
        return address(given.url, "video.url", lifted), None
    return (FileRef(given.file_id, "video.file_id"), None) if given.file_id is not None else (None, given.id)


def _twice(param: str) -> Fault:
    text = f"Invalid '{param}': it is given twice, as a file and as a value."
    return Fault("invalid", text, code="duplicate_parameter", param=param)


def _only(name: str, files: Mapping[str, list[Blob]]) -> Upload | None:
    blobs = files.get(name, [])
    if len(blobs) > 1:
        raise invalid.wrong_type(name, "a file", "an array of files")
    return Upload(blobs[0], name) if blobs else None


_WHOLE = re.compile(r"[0-9]{1,9}")


def _seconds(said: int | str | None) -> int | None:
    """OpenAI writes the number as a string, and many a client as a number."""
    if said is None or said == "auto":
        return None
    if isinstance(said, str):
        if not _WHOLE.fullmatch(said):
            text = f"Invalid value: '{invalid.clip(said)}'. Expected a whole number of seconds, such as '8'."
            raise invalid.invalid_value("seconds", text)
        said = int(said)
    if said < 1:
        raise invalid.out_of_range("seconds", "int", ">= 1", said)
    if said > LONGEST:
        raise invalid.out_of_range("seconds", "int", f"<= {LONGEST}", said)
    return said


def _size(text: str) -> object:
    """Pixels, or a resolution, as some clients write it here."""
    return sizes.parse_size(text) or lines(text)


Parse: TypeAlias = Callable[[str], object]
LEGIBLE: Mapping[str, tuple[Parse, str]] = {
    "size": (_size, "'auto', and WIDTHxHEIGHT such as '1280x720'"),
    "aspect_ratio": (sizes.parse_ratio, "'auto', and WIDTH:HEIGHT such as '16:9'"),
    "resolution": (lines, "'auto', '480p', '720p', '1080p', '2K', and '4K'"),
}


def _check_legible(name: str, text: str) -> None:
    parse, legal = LEGIBLE[name]
    if text != "auto" and not parse(text):
        raise invalid.invalid_value(name, f"Invalid value: '{invalid.clip(text)}'. Supported values are: {legal}.")


def no_characters() -> Fault:
    """What is answered to `videos.create_character`: no provider that can be configured makes any."""
    text = (
        "Characters are not supported here: no provider makes them. Pass pictures of them as 'reference_images' to a "
        "model that takes references; GET /v1/models lists them."
    )
    return Fault("invalid", text, code="unsupported_operation", param="video")
