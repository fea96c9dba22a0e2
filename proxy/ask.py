"""OpenAI's request as structs: JSON and multipart become the same `Ask`.

A body is decoded straight into a struct per operation; only where that fails is the reason looked for, and told in
OpenAI's words. A form is first brought into the shape of the JSON body, so that there is one set of rules.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from proxy import invalid, sizes
from proxy.forms import Form, FormPart, nest
from translators.base import Blob, Fault, Lora, Media

PictureOp: TypeAlias = Literal["generate", "edit", "variation"]

MOST_IMAGES = 16
URL_CHARS = 20_971_520


class Upload(msgspec.Struct, frozen=True, tag=True):
    """A file part as it arrived. Name and type are the client's word and decide nothing."""

    blob: Blob
    param: str  # image[0], mask: to name it in an error


class Link(msgspec.Struct, frozen=True, tag=True):
    """A picture by address: http(s) or a `data:` URL."""

    url: str
    param: str
    blob: Blob | None = None  # the text of a long `data:` URL, as it came; `url` is empty then


class FileRef(msgspec.Struct, frozen=True, tag=True):
    """A picture that was uploaded before."""

    id: str  # file-…
    param: str


Source: TypeAlias = Upload | Link | FileRef


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What the client asked for, in OpenAI's words, each field of the right type; not yet held against a model.

    `None` is "not said". Lists of what is legal per model live in `Caps`, not here.
    """

    op: PictureOp
    model: str | None = None
    prompt: str = ""
    n: int = 1
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    moderation: str | None = None
    complexity: str | None = None
    frame_count: int | None = None
    frame_duration_ms: int | None = None
    svg: dict[str, Any] | None = None
    stream: bool = False
    partial_images: int = 0
    safety_identifier: str | None = None
    user: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    style: str | None = None
    input_fidelity: str | None = None
    # beyond OpenAI, on every model
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    loras: tuple[Lora, ...] = ()
    watermark: bool | None = None
    metadata: dict[str, str] = {}
    provider_options: dict[str, Any] = {}
    webhook_url: str | None = None
    images: tuple[Source, ...] = ()  # uploads, `images`, and `image_urls`, in arrival order
    mask: Source | None = None
    markup: Source | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """All pictures in it."""
        return tuple(each for each in (*self.images, self.mask, self.markup) if each is not None)


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures of an `Ask`, fetched, typed by their first bytes, measured, checked. Upright only after `fit`."""

    images: tuple[Media, ...] = ()
    mask: Media | None = None
    markup: Media | None = None


Word: TypeAlias = Annotated[str, Meta(max_length=64)]
Person: TypeAlias = Annotated[str, Meta(max_length=512)]
Url: TypeAlias = Annotated[str, Meta(min_length=1, max_length=URL_CHARS)]
Background: TypeAlias = Literal["transparent", "opaque", "auto"]
Format: TypeAlias = Literal["png", "jpeg", "webp", "gif", "svg"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Moderation: TypeAlias = Literal["low", "auto"]
Complexity: TypeAlias = Literal["low", "medium", "high"]
Respond: TypeAlias = Literal["url", "b64_json"]
Fidelity: TypeAlias = Literal["high", "low"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "background": get_args(Background), "output_format": get_args(Format), "effort": get_args(Effort),
    "moderation": get_args(Moderation), "complexity": get_args(Complexity), "response_format": get_args(Respond),
    "input_fidelity": get_args(Fidelity),
}  # fmt: skip


class LoraBody(msgspec.Struct, forbid_unknown_fields=True):
    """One of `loras`."""

    model: Annotated[str, Meta(min_length=1, max_length=2048)]
    weight: float | None = None


class Reference(msgspec.Struct, forbid_unknown_fields=True):
    """A picture in the JSON form of an edit: exactly one of the two."""

    image_url: Url | None = None
    file_id: Annotated[str, Meta(min_length=1, max_length=512)] | None = None


class Reasoning(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`svg.reasoning`."""

    effort: Effort | None = None


class SvgAuthor(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`svg` of an edit."""

    model: Annotated[str, Meta(min_length=1)] | None = None
    reasoning: Reasoning | None = None


class NamedSvgAuthor(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`svg` of a generation, which must name the model."""

    model: Annotated[str, Meta(min_length=1)]
    reasoning: Reasoning | None = None


class Said(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every making call takes: OpenAI's own fields, and ours beyond them."""

    model: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    size: Word | None = None
    user: Person | None = None
    negative_prompt: str | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    steps: Annotated[int, Meta(ge=1, le=1000)] | None = None
    guidance: Annotated[float, Meta(ge=0)] | None = None
    aspect_ratio: Word | None = None
    resolution: Word | None = None
    watermark: bool | None = None
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
        | None
    ) = None
    provider_options: dict[str, Any] | None = None
    webhook_url: Annotated[str, Meta(min_length=1, max_length=2083)] | None = None


class Variation(Said, kw_only=True, forbid_unknown_fields=True):
    """What every call for pictures takes, and all that a variation takes."""

    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    response_format: Respond | None = None
    loras: Annotated[list[LoraBody], Meta(max_length=16)] | None = None
    image_urls: Annotated[list[Url], Meta(max_length=MOST_IMAGES)] | None = None


class Drawn(Variation, kw_only=True, forbid_unknown_fields=True):
    """What generations and edits have in common."""

    quality: Word | None = None
    background: Background | None = None
    output_format: Format | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    moderation: Moderation | None = None
    complexity: Complexity | None = None
    frame_count: Annotated[int, Meta(ge=2, le=16)] | None = None
    frame_duration_ms: Annotated[int, Meta(ge=20, le=2**31 - 1)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    safety_identifier: Person | None = None
    style: Word | None = None
    input_fidelity: Fidelity | None = None


class Generation(Drawn, kw_only=True, forbid_unknown_fields=True):
    """The body of `images/generations`."""

    prompt: Annotated[str, Meta(min_length=1)]
    svg: NamedSvgAuthor | None = None


class FormEdit(Drawn, kw_only=True, forbid_unknown_fields=True):
    """The texts of the form of `images/edits`; whether it may lack a prompt is the model's affair."""

    prompt: str | None = None
    svg: SvgAuthor | None = None


class JsonEdit(FormEdit, kw_only=True, forbid_unknown_fields=True):
    """The JSON body of `images/edits`."""

    images: Annotated[list[Reference], Meta(min_length=1, max_length=MOST_IMAGES)] | None = None
    mask: Reference | None = None
    markup: Reference | None = None


class JsonVariation(Variation, kw_only=True, forbid_unknown_fields=True):
    """A variation of a picture that is named in JSON."""

    images: Annotated[list[Reference], Meta(min_length=1, max_length=MOST_IMAGES)] | None = None


Body: TypeAlias = Generation | FormEdit | JsonEdit | Variation | JsonVariation

IN_JSON: Mapping[PictureOp, type[Body]] = {"generate": Generation, "edit": JsonEdit, "variation": JsonVariation}
IN_FORM: Mapping[PictureOp, type[Body]] = {"generate": Generation, "edit": FormEdit, "variation": Variation}
FILES: Mapping[PictureOp, frozenset[str]] = {
    "generate": frozenset(),
    "edit": frozenset({"image", "mask", "markup"}),
    "variation": frozenset({"image"}),
}
DECODERS = {op: msgspec.json.Decoder(body) for op, body in IN_JSON.items()}
NAMES = {body: body.__struct_fields__ for body in {*IN_JSON.values(), *IN_FORM.values()}}
NOTHING_LIFTED: Mapping[str, Blob] = {}
WHOLE = frozenset({"svg", "loras", "images", "image_urls", "mask", "markup"})
"""Members that an `Ask` holds in another shape than the body does."""


def from_json(op: PictureOp, body: bytes, lifted: Mapping[str, Blob] = NOTHING_LIFTED) -> Ask:
    """The request of a JSON body, whose long `data:` URLs may have been `lifted` out. Raises `Fault("invalid")`."""
    if lifted:
        with suppress(Fault):
            ask = _read(op, body, lifted)
            links = [each for each in (*ask.images, ask.mask, ask.markup) if isinstance(each, Link) and each.blob]
            if len(links) == len(lifted):
                return ask
        body = restored(body, lifted)  # one stands where no picture is read, or something is wrong: it is told whole
    return _read(op, body, NOTHING_LIFTED)


def restored(body: bytes, lifted: Mapping[str, Blob]) -> bytes:
    """The body as it came, but for how its characters were escaped."""
    for token, blob in lifted.items():
        text = msgspec.json.encode(b"".join(blob.chunks).decode())
        body = body.replace(msgspec.json.encode(token), text)
    return body


def _read(op: PictureOp, body: bytes, lifted: Mapping[str, Blob]) -> Ask:
    try:
        read = DECODERS[op].decode(body)
    except msgspec.ValidationError as error:
        raise invalid.explain(error, decoded(body), CHOICES) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid.bad_json(error) from error
    return _ask(op, read, lifted=lifted)


def from_form(op: PictureOp, form: Form) -> Ask:
    """The request of a multipart form: as if the same had come as JSON. Raises `Fault("invalid")`."""
    uploads: dict[str, list[Blob]] = {}
    texts: list[tuple[str, str]] = []
    known = NAMES[IN_FORM[op]]
    for part in form.parts:
        root = part.name.partition("[")[0]
        if root not in known and root not in FILES[op]:
            raise invalid.unknown_parameter(part.name)
        if isinstance(part.value, str):
            if root in FILES[op]:
                raise _not_a_file(root, part, "a string")
            texts.append((part.name, part.value))
        else:
            uploads.setdefault(root, []).append(_checked_file(op, root, part, part.value))
    plain = nest(texts, coerce, lists=frozenset({"image_urls", "loras"}))
    try:
        read = msgspec.convert(plain, IN_FORM[op])
    except msgspec.ValidationError as error:
        raise invalid.explain(error, plain, CHOICES) from error
    single = form_image_param(form)
    images = [Upload(blob, single or f"image[{index}]") for index, blob in enumerate(uploads.get("image", ()))]
    return _ask(op, read, tuple(images), _only("mask", uploads), _only("markup", uploads))


def decoded(body: bytes) -> Any:
    """The body without types, to quote from in an error."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise invalid.bad_json(error) from error


def _ask(
    op: PictureOp,
    body: Body,
    uploads: tuple[Upload, ...] = (),
    mask: Upload | None = None,
    markup: Upload | None = None,
    lifted: Mapping[str, Blob] = NOTHING_LIFTED,
) -> Ask:
    """`body` as an `Ask`, once the rules hold that no type can tell."""
    said: dict[str, Any] = {
        name: value
        for name, value in zip(NAMES[type(body)], msgspec.structs.astuple(body), strict=True)
        if value is not None
    }
    if not WHOLE.isdisjoint(said):
        _reshape(said, lifted)
    for name in _LEGIBLE.keys() & said.keys():
        _check_legible(name, said[name])
    if uploads:
        said["images"] = uploads + said.get("images", ())
    if op != "generate" and "images" not in said:
        raise invalid.missing("images" if hasattr(body, "images") else "image")
    if len(said.get("images", ())) > MOST_IMAGES:
        raise invalid.too_many("image" if uploads else "images", MOST_IMAGES, len(said["images"]))
    if mask is not None:
        said["mask"] = mask
    if markup is not None:
        said["markup"] = markup
    return Ask(op=op, **said)


def _reshape(said: dict[str, Any], lifted: Mapping[str, Blob]) -> None:
    """Bring the members of `WHOLE` into the shapes of an `Ask`."""
    if "svg" in said:
        said["svg"] = msgspec.to_builtins(said["svg"])
    if "loras" in said:
        said["loras"] = tuple(Lora(lora.model, 1.0 if lora.weight is None else lora.weight) for lora in said["loras"])
    named: tuple[Source, ...] = (
        *(referred(item, f"images[{index}]", lifted) for index, item in enumerate(said.pop("images", ()))),
        *(address(url, f"image_urls[{index}]", lifted) for index, url in enumerate(said.pop("image_urls", ()))),
    )
    if named:
        said["images"] = named
    for name in ("mask", "markup"):
        if name in said:
            said[name] = referred(said[name], name, lifted)


def referred(reference: Reference, param: str, lifted: Mapping[str, Blob]) -> Link | FileRef:
    """What a picture in JSON refers to; `param` names it in an error. Raises `Fault("invalid")`."""
    if (reference.image_url is None) == (reference.file_id is None):
        raise invalid.invalid_value(param, f"Invalid '{param}'. Expected exactly one of 'image_url' and 'file_id'.")
    if reference.file_id is not None:
        return FileRef(reference.file_id, f"{param}.file_id")
    return address(reference.image_url or "", f"{param}.image_url", lifted)


def address(url: str, param: str, lifted: Mapping[str, Blob]) -> Link:
    """An http(s) or `data:` URL, or the token that stands for one. Raises `Fault("invalid")` for anything else."""
    found = lifted.get(url)
    if found and found.size <= URL_CHARS:
        return Link("", param, found)
    if not url[:8].lower().startswith(("http://", "https://", "data:")):
        text = f"Invalid '{param}'. Expected an http(s) or data: URL, but got '{invalid.clip(url)}'."
        raise invalid.invalid_value(param, text)
    return Link(url, param)


_LEGIBLE = {
    "size": (sizes.parse_size, "'auto', and WIDTHxHEIGHT such as '1536x1024'"),
    "aspect_ratio": (sizes.parse_ratio, "'auto', and WIDTH:HEIGHT such as '16:9'"),
    "resolution": (sizes.parse_resolution, "'auto', '1K', '2K', and '4K'"),
}


def _check_legible(name: str, text: str) -> None:
    parse, legal = _LEGIBLE[name]
    tier = name == "size" and _TIER.fullmatch(text)  # Seedream's and OpenRouter's own way to write a resolution
    if text != "auto" and not tier and not parse(text):
        raise invalid.invalid_value(name, f"Invalid value: '{invalid.clip(text)}'. Supported values are: {legal}.")


_TIER = re.compile(r"[1-9](?:\.5)?[kK]")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_INTEGERS = frozenset(
    {"n", "output_compression", "partial_images", "frame_count", "frame_duration_ms", "seed", "steps"}
)
_BOOLEANS = frozenset({"stream", "watermark"})
_OBJECTS = frozenset({"svg", "loras", "metadata", "provider_options", "image_urls"})
"""Members that may also come as one part of JSON text."""


def coerce(path: tuple[str, ...], text: str) -> Any:
    """A form's text as the JSON value that it stands for; unchanged where it stands for none, to be refused later.

    Inside `provider_options` the type is nowhere told: what looks like a number or a boolean becomes one. JSON text
    in one part leaves no doubt.
    """
    root = path[0]
    if len(path) == 1 and root in _OBJECTS and text.lstrip()[:1] in {"{", "["}:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
    anything = root == "provider_options"
    if (root in _INTEGERS or anything) and _INTEGER.fullmatch(text):
        return int(text)
    if (root == "guidance" or path[-1] == "weight" or anything) and _NUMBER.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    if (root in _BOOLEANS or anything) and text in {"true", "false"}:
        return text == "true"
    return text


def _checked_file(op: PictureOp, root: str, part: FormPart, blob: Blob) -> Blob:
    if root not in FILES[op]:
        raise invalid.wrong_type(part.name, "a value" if root in _OBJECTS else "a string", "a file")
    if not blob.size:
        raise _not_a_file(root, part, "an empty file")
    return blob


def _not_a_file(root: str, part: FormPart, got: str) -> Fault:
    expected = "one of an array of files or file" if root == "image" else "a file"
    return invalid.wrong_type(part.name.removesuffix("[]"), expected, got)


def form_image_param(form: Form) -> str | None:
    """`image` where the form has one picture under that plain name; its pictures are counted otherwise."""
    names: Iterable[str] = [part.name for part in form.parts if part.name.partition("[")[0] == "image"]
    return "image" if names == ["image"] else None


def _only(name: str, uploads: Mapping[str, list[Blob]]) -> Upload | None:
    blobs = uploads.get(name, [])
    if len(blobs) > 1:
        raise invalid.wrong_type(name, "a file", "an array of files")
    return Upload(blobs[0], name) if blobs else None
