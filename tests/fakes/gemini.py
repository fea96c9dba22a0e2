"""The Gemini API, strict: bodies by exact fields, values by model, the envelope of google.rpc."""

from __future__ import annotations

import io
import json
from typing import Any, ClassVar, Literal

import msgspec
import pybase64
from aiohttp import web
from PIL import Image

from tests.fakes.base import GOOD_KEY, Fake, picture
from translators import gemini as wire


class Exact(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Unknown fields are errors, as with protobuf's JSON."""


class InlineData(Exact):
    mime_type: Literal["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"]
    data: str


class Part(Exact):
    text: str | None = None
    inline_data: InlineData | None = None


class Content(Exact):
    parts: list[Part]
    role: Literal["user", "model"] | None = None


class OutputOptions(Exact):
    mime_type: Literal["image/png", "image/jpeg"] = "image/png"
    compression_quality: int | None = None


class ImageConfig(Exact):
    aspect_ratio: Literal[
        "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9", "1:4", "4:1", "1:8", "8:1"
    ] | None = None  # fmt: skip
    image_size: Literal["512", "1K", "2K", "4K"] | None = None
    person_generation: Literal["ALLOW_ALL", "ALLOW_ADULT", "ALLOW_NONE"] | None = None
    prominent_people: str | None = None
    image_output_options: OutputOptions | None = None


class Thinking(Exact):
    thinking_level: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH"] | None = None
    include_thoughts: bool = False


class GenerationConfig(Exact):
    response_modalities: list[Literal["TEXT", "IMAGE"]]
    image_config: ImageConfig = msgspec.field(default_factory=ImageConfig)
    seed: int | None = None
    thinking_config: Thinking | None = None


class Safety(Exact):
    category: str
    threshold: Literal["BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF"]


class Generate(Exact):
    contents: list[Content]
    generation_config: GenerationConfig
    safety_settings: list[Safety] = []
    system_instruction: Content | None = None
    tools: list[dict[Literal["googleSearch"], dict[str, Any]]] = []
    labels: dict[str, str] | None = None


class Instance(Exact):
    prompt: str


class PredictParameters(Exact):
    sample_count: int = 4
    aspect_ratio: Literal["1:1", "3:4", "4:3", "9:16", "16:9"] = "1:1"
    sample_image_size: Literal["1K", "2K"] = "1K"
    person_generation: Literal["dont_allow", "allow_adult", "allow_all"] | None = None
    safety_setting: Literal["BLOCK_LOW_AND_ABOVE"] | None = None
    output_options: OutputOptions = msgspec.field(default_factory=OutputOptions)
    include_rai_reason: bool = False
    include_safety_attributes: bool = False
    language: str | None = None
    guidance_scale: float | None = None


class Predict(Exact):
    instances: list[Instance]
    parameters: PredictParameters


THINKS = {
    "gemini-nano-banana-2.1": {"MINIMAL", "MEDIUM", "HIGH"},
    "gemini-3.1-flash-image": {"MINIMAL", "HIGH"},
    "gemini-3-pro-image": {"LOW", "HIGH"},
}
SIZES = {
    "gemini-nano-banana-2.1": {"1K", "2K", "4K"},
    "gemini-3.1-flash-image": {"512", "1K", "2K", "4K"},
    "gemini-3.1-flash-lite-image": {"1K"},
    "gemini-3-pro-image": {"1K", "2K", "4K"},
    "gemini-2.5-flash-image": set(),
}
INPUTS = {"gemini-2.5-flash-image": 3}
CLASSIC = {
    "HARM_CATEGORY_HARASSMENT", "HARM_CATEGORY_HATE_SPEECH", "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
}  # fmt: skip
STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL",
}  # fmt: skip


class Refused(Exception):
    """An error to answer with."""

    def __init__(self, status: int, message: str, *details: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.details = details

    def answer(self) -> web.Response:
        error = {"code": self.status, "message": str(self), "status": STATUSES[self.status]}
        return web.json_response(
            {"error": error | ({"details": list(self.details)} if self.details else {})}, status=self.status
        )


def require(right: bool, message: str) -> None:
    if not right:
        raise Refused(400, message)


def body_of(data: bytes, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise Refused(400, f"Invalid JSON payload received. {error}") from error


def decoded(data: str, kind: str) -> tuple[int, int]:
    """The size of an uploaded picture, which must be what it says."""
    try:
        with Image.open(io.BytesIO(pybase64.b64decode(data, validate=True))) as image:
            image.load()
            found = f"image/{(image.format or '').lower()}"
            size = image.size
    except (OSError, ValueError) as error:
        raise Refused(400, "Unable to process input image.") from error
    require(found == kind, f"Unable to process input image: {found} is not {kind}.")
    return size


def spoken(prompt: str) -> None:
    """The words that every fake understands, as far as they are errors."""
    if "rate limit me" in prompt:
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.05s"}
        raise Refused(429, "You exceeded your current quota. Please retry in 0.05s.", retry)
    if "fail me" in prompt:
        raise Refused(500, "An internal error has occurred.")


def parts_answer(parts: list[dict[str, Any]], finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    content = {"role": "model"} | ({"parts": parts} if parts else {})
    end = {"finishReason": finish} if finish else {}
    return {"candidates": [{"content": content, "index": 0} | end], "modelVersion": "fake", **more}


def usage(prompt_images: int) -> dict[str, Any]:
    given = {"TEXT": 8} | ({"IMAGE": 258 * prompt_images} if prompt_images else {})
    return {
        "promptTokenCount": sum(given.values()),
        "candidatesTokenCount": 1120,
        "promptTokensDetails": [{"modality": name, "tokenCount": count} for name, count in given.items()],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
    }


def inline(size: tuple[int, int], kind: str, **more: Any) -> dict[str, Any]:
    data = pybase64.b64encode_as_string(picture(size, kind))
    return {"inlineData": {"mimeType": f"image/{kind.lower()}", "data": data}, **more}


class Gemini(Fake):
    """`generateContent`, its stream, and `predict`."""

    name: ClassVar[str] = "gemini"
    generates: ClassVar[str] = "gemini-nano-banana-2.1"
    edits: ClassVar[str | None] = "gemini-nano-banana-2.1"
    fuses: ClassVar[str | None] = "gemini-3-pro-image"
    streams: ClassVar[str | None] = "gemini-nano-banana-2.1"
    counts: ClassVar[bool] = True
    pause_ms: ClassVar[int | None] = 50
    on_vertex: ClassVar[bool] = False

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": f"{self.url}/v1beta"}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1beta/models/{model}:{verb}", self.post)]

    async def post(self, request: web.Request) -> web.StreamResponse:
        try:
            self.authorize(request)
            return await self.answer(request, request.match_info["model"], request.match_info["verb"])
        except Refused as error:
            return error.answer()

    def authorize(self, request: web.Request) -> None:
        if "Authorization" in request.headers:
            raise Refused(401, "Request had invalid authentication credentials. Expected OAuth 2 access token.")
        if request.headers.get("x-goog-api-key") != GOOD_KEY:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            raise Refused(400, "API key not valid. Please pass a valid API key.", reason)

    async def answer(self, request: web.Request, model: str, verb: str) -> web.StreamResponse:
        require(request.content_type == "application/json", "Content-Type must be application/json.")
        data = await request.read()
        if model.startswith("imagen-"):
            return self.predict(data, model, verb)
        if model not in SIZES or verb not in {"generateContent", "streamGenerateContent"}:
            raise Refused(404, f"models/{model} is not found for API version v1beta, or is not supported for {verb}.")
        body: Generate = body_of(data, Generate)
        self.validate(body, model)
        if verb == "generateContent":
            return web.json_response(self.generated(body, model))
        require(request.query.get("alt") == "sse", "alt must be sse here.")
        return await self.streamed(request, body, model)

    def validate(self, body: Generate, model: str) -> None:
        config = body.generation_config
        image = config.image_config
        require(config.response_modalities[-1:] == ["IMAGE"], "responseModalities must hold IMAGE.")
        require(image.image_size is None or image.image_size in SIZES[model], "imageSize is not supported.")
        require(image.aspect_ratio is None or image.aspect_ratio in wire.MODELS[model].ratios, "Bad aspect_ratio.")
        level = config.thinking_config.thinking_level if config.thinking_config else None
        require(config.thinking_config is None or model in THINKS, "Thinking is not supported by this model.")
        require(level is None or level in THINKS[model], f"Thinking level {level} is not supported by this model.")
        vertex_only = (image.person_generation, image.prominent_people, image.image_output_options, body.labels)
        require(self.on_vertex or not any(vertex_only), "Unknown name: not a field of this API.")
        require({one.category for one in body.safety_settings} <= CLASSIC, "Bad safety category.")
        for content in body.contents:
            require(not self.on_vertex or content.role is not None, "Please use a valid role: user, model.")
            for part in content.parts:
                require((part.text is None) != (part.inline_data is None), "A part holds exactly one of its fields.")
        inputs = [part.inline_data for content in body.contents for part in content.parts if part.inline_data]
        require(len(inputs) <= INPUTS.get(model, 14), "Too many images.")
        for one in inputs:
            decoded(one.data, one.mime_type)

    def generated(self, body: Generate, model: str) -> dict[str, Any]:
        prompt = " ".join(part.text or "" for content in body.contents for part in content.parts)
        spoken(prompt)
        if "refuse me" in prompt:
            count = {"promptTokenCount": 8, "totalTokenCount": 8}
            return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": count}
        inputs = sum(bool(part.inline_data) for content in body.contents for part in content.parts)
        if "empty please" in prompt:
            return parts_answer([{"text": "I can only describe it."}], usageMetadata=usage(inputs))
        config = body.generation_config
        kind = "PNG" if model == "gemini-2.5-flash-image" else "JPEG"
        if chosen := config.image_config.image_output_options:
            kind = chosen.mime_type.partition("/")[2].upper()
        parts = [inline(self.size(body, model), kind, thoughtSignature="c2ln")]
        if config.thinking_config and config.thinking_config.include_thoughts:
            parts.insert(0, inline((128, 128), kind, thought=True))
        return parts_answer(parts, usageMetadata=usage(inputs))

    def size(self, body: Generate, model: str) -> tuple[int, int]:
        """The pixels that the documents name; without a ratio, the shape of the first input."""
        image = body.generation_config.image_config
        table = wire.MODELS[model].pixels_of
        ratio: str = image.aspect_ratio or "1:1"
        inputs = [part.inline_data for part in body.contents[0].parts if part.inline_data]
        if inputs and not image.aspect_ratio:
            width, height = decoded(inputs[0].data, inputs[0].mime_type)
            ratio = min(
                wire.MODELS[model].ratios,
                key=lambda one: abs(int(one.split(":")[0]) / int(one.split(":")[1]) - width / height),
            )
        return table[ratio] if ratio in table else table[f"{ratio}@{image.image_size or '1K'}"]

    async def streamed(self, request: web.Request, body: Generate, model: str) -> web.StreamResponse:
        """A part per event, then the end with the count."""
        whole = self.generated(body, model)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        events = [whole]
        if candidates := whole.get("candidates"):
            parts = candidates[0]["content"]["parts"]
            events = [parts_answer([part], finish=None) for part in parts]
            events.append(parts_answer([], usageMetadata=whole["usageMetadata"]))
        for event in events:
            await response.write(b"data: " + json.dumps(event).encode() + b"\r\n\r\n")
        await response.write_eof()
        return response

    def predict(self, data: bytes, model: str, verb: str) -> web.Response:
        if model not in wire.MODELS or verb != "predict":
            raise Refused(404, f"models/{model} is not found for API version v1beta, or is not supported for {verb}.")
        body: Predict = body_of(data, Predict)
        given = body.parameters
        require(1 <= given.sample_count <= 4, "sampleCount must be 1 to 4.")
        require(len(body.instances) == 1, "One instance is supported.")
        table = wire.MODELS[model].pixels_of
        at = given.aspect_ratio if given.aspect_ratio in table else f"{given.aspect_ratio}@{given.sample_image_size}"
        return self.predictions(body.instances[0].prompt, given.sample_count, table[at], given.output_options)

    def predictions(self, prompt: str, count: int, size: tuple[int, int], chosen: OutputOptions) -> web.Response:
        spoken(prompt)
        if "refuse me" in prompt:
            raise Refused(400, "Image generation failed with the following error: it violates our policies. "
                               "Support codes: 58061214")  # fmt: skip
        if "empty please" in prompt:
            return web.json_response({})
        kind = chosen.mime_type.partition("/")[2].upper()
        data = pybase64.b64encode_as_string(picture(size, kind))
        return web.json_response({"predictions": [{"mimeType": chosen.mime_type, "bytesBase64Encoded": data}] * count})
