"""OpenAI's request as structs: JSON and multipart become the same `Ask`."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from translators.base import Blob, Lora, Media

PictureOp: TypeAlias = Literal["generate", "edit", "variation"]


class Upload(msgspec.Struct, frozen=True):
    """A file part as it arrived. Name and type are the client's word and decide nothing."""

    blob: Blob
    param: str  # image[0], mask: to name it in an error


class Link(msgspec.Struct, frozen=True):
    """A picture by address: http(s) or a `data:` URL."""

    url: str
    param: str


Source: TypeAlias = Upload | Link


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
    images: tuple[Source, ...] = ()  # uploads, `images`, and `image_urls`, in arrival order
    mask: Source | None = None
    markup: Source | None = None


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures of an `Ask`, fetched, typed by their first bytes, measured, checked. Upright only after `fit`."""

    images: tuple[Media, ...] = ()
    mask: Media | None = None
    markup: Media | None = None
