"""The making calls as `/schema` documents them. Bodies are read by `proxy.ask`: this only tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar.openapi.spec import Operation

from proxy.ask import FormEdit, Generation, JsonEdit, JsonVariation, PictureOp, Variation
from proxy.video.ask import BODIES as FILMED
from proxy.video.ask import FILES as FILMED_FILES
from translators.video import Task

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

FILM_TEXTS: dict[str, str] = TEXTS | {
    "model": f"{TEXTS['model']} A changed video's is the one that made it, where none is named.",
    "prompt": "What to show.",
    "seconds": "How long, as text or a number. Converted to the nearest length that the model makes.",
    "size": "`WIDTHxHEIGHT`, `720p`, or `auto`. Converted to the nearest that the model makes.",
    "input_reference": "The first frame: a file, `{image_url}`, `{file_id}`, or an address by itself.",
    "last_frame": "The last frame, in the same forms.",
    "reference_images": "Pictures that say what is to be seen, not where.",
    "video": "One of yours by its `id`; or a file, `{url}`, `{file_id}`.",
    "negative_prompt": "What not to show.",
    "seed": "For a repeatable video.",
    "resolution": "`480p`, `720p`, `1080p`, `4K` …, beside `aspect_ratio` or instead of `size`.",
    "audio": "Whether the video has sound, where the model leaves the choice.",
    "camera": "A movement of the camera, in the model's words, or `fixed`.",
    "webhook_url": "Where the end is told.",
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


def described(body: type[msgspec.Struct], texts: Mapping[str, str] = TEXTS) -> dict[str, Any]:
    """A body's JSON Schema, whole in itself, with what each member means."""
    (top,), parts = msgspec.json.schema_components([body], ref_template="{name}")

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(parts[value["$ref"]])
            return {key: inlined(item) for key, item in value.items() if key not in {"default", "title"}}
        return [inlined(item) for item in value] if isinstance(value, list) else value

    schema: dict[str, Any] = inlined(top)
    for name, member in schema["properties"].items():
        if name in texts:
            member["description"] = texts[name]
    return schema


def form(body: type[msgspec.Struct], *files: str) -> dict[str, Any]:
    """A form's schema, with its file parts."""
    schema = described(body)
    schema["properties"] |= {name: {"type": "string", "format": "binary"} for name in files}
    return schema


BODIES: dict[PictureOp, Callable[[], dict[str, dict[str, Any]]]] = {
    "generate": lambda: {"application/json": described(Generation)},
    "edit": lambda: {
        "multipart/form-data": form(FormEdit, "image", "image[]", "mask", "markup"),
        "application/json": described(JsonEdit),
    },
    "variation": lambda: {
        "multipart/form-data": form(Variation, "image"),
        "application/json": described(JsonVariation),
    },
}
"""The request of each operation, in each form in which it may come. Made when it is first asked for."""


def request_body(op: PictureOp) -> dict[str, Any]:
    """The request of `op`."""
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in BODIES[op]().items()}}


def documented(op: PictureOp) -> type[Operation]:
    """An operation that tells the request's body."""

    class Documented(Operation):
        def to_schema(self) -> dict[str, Any]:
            return {**super().to_schema(), "requestBody": request_body(op)}

    return Documented


def film_body(task: Task) -> dict[str, Any]:
    """The request of a video."""
    body = FILMED[task]
    texts = {name: FILM_TEXTS[name] for name in FILMED_FILES[task]}
    form = described(body, FILM_TEXTS)
    form["properties"] |= {
        name: {"type": "string", "format": "binary", "description": text} for name, text in texts.items()
    }
    kinds = {"multipart/form-data": form, "application/json": described(body, FILM_TEXTS)}
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in kinds.items()}}


def film_documented(task: Task) -> type[Operation]:
    """An operation that tells the body of a request for a video."""

    class Documented(Operation):
        def to_schema(self) -> dict[str, Any]:
            return {**super().to_schema(), "requestBody": film_body(task)}

    return Documented
