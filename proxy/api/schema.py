"""The making calls as `/schema` documents them. Bodies are read by `proxy.ask`: this only tells."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.openapi.spec import Operation

from proxy.ask import Ask, PictureOp

TEXTS: dict[str, str] = {
    "model": "An alias, `provider/model`, or a bare id that only one provider has.",
    "prompt": "What to draw.",
    "n": "How many pictures, 1-10. More than the model makes at once are several upstream calls.",
    "size": "`WIDTHxHEIGHT` or `auto`. Converted to the nearest that the model makes.",
    "quality": "`auto`, `low`, `medium`, `high`, `xhigh`, `max`; `standard` and `hd` are understood.",
    "background": "`transparent`, `opaque` or `auto`.",
    "output_format": "`png`, `jpeg` or `webp`, transcoded where the model makes another; `gif`, `svg` where it can.",
    "output_compression": "0-100, for `jpeg` and `webp`.",
    "moderation": "`auto` or `low`.",
    "complexity": "Planning effort: `low`, `medium`, `high`.",
    "frame_count": "2-16, with `output_format` gif.",
    "frame_duration_ms": "At least 20, with `output_format` gif.",
    "svg": "Which model draws, and with what effort, with `output_format` svg.",
    "stream": "Answer as server-sent events.",
    "partial_images": "Previews in the stream, 0-3.",
    "safety_identifier": "A stable, hashed id of the end user.",
    "user": "The older name of `safety_identifier`.",
    "response_format": "`b64_json`, or `url`: a signed link to this server. Works for every model.",
    "style": "`vivid` or `natural`.",
    "input_fidelity": "`high` or `low`.",
    "negative_prompt": "What not to draw.",
    "seed": "For a repeatable picture.",
    "steps": "Denoising steps.",
    "guidance": "How closely the prompt is followed.",
    "aspect_ratio": "Such as `16:9`, instead of `size`.",
    "resolution": "`1K`, `2K` or `4K`, instead of `size`.",
    "loras": "LoRAs with their weights.",
    "watermark": "Whether the provider's visible mark is wanted.",
    "metadata": "Up to 16 pairs of your own.",
    "provider_options": "The provider's own parameters, by their own names.",
}
FILES = {
    "edit": ("image", "image[]", "mask", "markup"),
    "variation": ("image",),
}


class Image(msgspec.Struct):
    """One made picture."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class TokenDetails(msgspec.Struct):
    """Tokens by what they stand for."""

    text_tokens: int
    image_tokens: int


class TokenUsage(msgspec.Struct):
    """What the provider counted."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: TokenDetails
    total_tokens: int


class ImagesResponse(msgspec.Struct):
    """OpenAI's answer. `size` and `output_format` are measured from the bytes."""

    created: int
    data: list[Image]
    background: str | None = None
    output_format: str | None = None
    quality: str | None = None
    size: str | None = None
    usage: TokenUsage | None = None


class Trouble(msgspec.Struct):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class Envelope(msgspec.Struct):
    """An error answer."""

    error: Trouble


def properties() -> dict[str, Any]:
    """The members of an `Ask` as JSON Schema."""
    (_, defined) = msgspec.json.schema_components([Ask], ref_template="#/{name}", schema_hook=lambda _: {})
    members: dict[str, Any] = defined["Ask"]["properties"]
    return {name: {**plain(members[name]), "description": text} for name, text in TEXTS.items()}


def plain(member: dict[str, Any]) -> dict[str, Any]:
    """A member's schema without defaults and references."""
    kept = {key: value for key, value in member.items() if key in {"type", "enum", "anyOf"}}
    if "items" in member:
        return {"type": "array", "items": {"type": "object"}}
    return kept


def request_body(op: PictureOp) -> dict[str, Any]:
    """The request of `op`, in each form in which it may come."""
    known = properties()
    if op == "variation":
        known = {name: known[name] for name in ("model", "n", "response_format", "size", "user")}
    links = {"type": "array", "maxItems": 16, "items": {"type": "string"}, "description": "References, by address."}
    reference = {"type": "object", "properties": {"image_url": {"type": "string"}}}
    content: dict[str, Any] = {}
    if op == "generate":
        content["application/json"] = {"schema": described({**known, "image_urls": links}, ("prompt",))}
        return {"required": True, "content": content}
    files = {name: {"type": "string", "format": "binary"} for name in FILES[op]}
    content["multipart/form-data"] = {"schema": described({**files, **known}, ())}
    if op == "edit":
        references = {"images": {"type": "array", "items": reference}, "mask": reference, "markup": reference}
        content["application/json"] = {"schema": described({**references, **known}, ("images", "prompt"))}
    return {"required": True, "content": content}


def described(members: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    """An object with these members and no others."""
    return {"type": "object", "properties": members, "required": list(required), "additionalProperties": False}


def documented(op: PictureOp) -> type[Operation]:
    """An operation that tells the request's body."""

    class Documented(Operation):
        def to_schema(self) -> dict[str, Any]:
            return {**super().to_schema(), "requestBody": request_body(op)}

    return Documented
