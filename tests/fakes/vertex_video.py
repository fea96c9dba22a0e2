"""Vertex AI's videos, strict: Veo's long-running predictions, and interactions that bring the video inline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pybase64
from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from tests.fakes import gemini_video
from tests.fakes.base import GOOD_KEY
from tests.fakes.gemini import Refused, body_of, decoded, require
from translators.base import Secret
from translators.video import VideoJob

TOKEN = "ya29.test"


class Exact(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Unknown fields are errors, as with protobuf's JSON."""


class Picture(Exact):
    bytes_base64_encoded: str
    mime_type: Literal["image/png", "image/jpeg"]


class Clip(Exact):
    bytes_base64_encoded: str
    mime_type: Literal["video/mp4"]


class Reference(Exact):
    image: Picture
    reference_type: Literal["asset"]


class Instance(Exact):
    prompt: str | None = None
    image: Picture | None = None
    last_frame: Picture | None = None
    reference_images: Annotated[list[Reference], Meta(max_length=3)] = []
    video: Clip | None = None


class Parameters(Exact):
    """`generateAudio` has to be said: what comes without it is uncertain."""

    generate_audio: bool
    sample_count: Literal[1] = 1
    duration_seconds: Literal[4, 6, 7, 8] = 8
    aspect_ratio: Literal["16:9", "9:16"] = "16:9"
    resolution: Literal["720p", "1080p", "4k"] = "720p"
    negative_prompt: str | None = None
    person_generation: Literal["allow_adult", "dont_allow", "allow_all"] | None = None
    seed: Annotated[int, Meta(ge=0, le=4_294_967_295)] | None = None
    enhance_prompt: bool | None = None
    compression_quality: Literal["optimized", "lossless"] | None = None
    resize_mode: Literal["pad", "crop"] | None = None
    fps: int | None = None


class Predict(Exact):
    instances: Annotated[list[Instance], Meta(min_length=1, max_length=1)]
    parameters: Parameters
    labels: dict[str, str] | None = None


class Fetch(Exact):
    operation_name: str


VEO = frozenset(
    {"veo-3.1-generate-001", "veo-3.1-fast-generate-001", "veo-3.1-lite-generate-001", "veo-3.1-generate-preview",
     "veo-3.1-fast-generate-preview"}
)  # fmt: skip


@dataclass
class Predicted:
    """An operation on its way."""

    model: str
    prompt: str
    polls: int = 0


@dataclass
class VertexVideo(gemini_video.GeminiVideo):
    name: ClassVar[str] = "vertex"
    generates: ClassVar[str] = "veo-3.1-generate-001"
    frames: ClassVar[str | None] = "veo-3.1-lite-generate-001"
    path: ClassVar[str] = "/v1"
    delivery: ClassVar[str] = "inline"
    secret: ClassVar[Secret] = Secret(TOKEN, "bearer")
    wrong: ClassVar[Secret] = Secret("ya29.wrong", "bearer")

    operations: dict[str, Predicted] = field(default_factory=dict)

    def job(self, prompt: str) -> VideoJob:
        site = {"project": "demo-project", "base_url": f"{self.url}{self.path}"}
        return VideoJob(op="video", model=self.generates, prompt=prompt, site=site)

    def stoppable(self) -> VideoJob:
        """An interaction; a prediction goes on."""
        return replace(self.job("a cat walks"), model="gemini-omni-1.2-flash")

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"project": "demo-project", "api_key": key, "base_url": f"{self.url}{self.path}"}

    def routes(self) -> list[web.RouteDef]:
        home = "/v1/projects/{project}/locations/{location}"
        return [
            *self.interactions(f"{home}/interactions"),
            web.post(f"{home}/publishers/google/models/{{model}}:predictLongRunning", self.predict),
            web.post(f"{home}/publishers/google/models/{{model}}:fetchPredictOperation", self.fetch),
        ]

    def authorize(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}" or "x-goog-api-key" in request.headers:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_TYPE_UNSUPPORTED"}
            raise Refused(401, "Request had invalid authentication credentials.", reason)
        if request.match_info["project"] != "demo-project":
            raise Refused(403, "Permission denied on resource project.")
        place = "us-central1" if "model" in request.match_info else "global"
        if request.match_info["location"] != place or request.match_info.get("model", min(VEO)) not in VEO:
            raise Refused(404, "Publisher Model was not found or your project does not have access to it.")

    def made(self, name: str) -> dict[str, str]:
        return {"data": pybase64.b64encode_as_string(self.video)}

    async def predict(self, request: web.Request) -> web.Response:
        try:
            self.authorize(request)
            body: Predict = body_of(await request.read(), Predict)
            model = request.match_info["model"]
            pictures = checked(body.instances[0], body.parameters, model)
        except Refused as refused:
            return refused.answer()
        self.received += pictures
        self.tasks += 1
        home = request.path.removeprefix("/v1/").partition(":")[0]
        name = f"{home}/operations/{self.tasks}"
        self.operations[name] = Predicted(model, body.instances[0].prompt or "")
        return web.json_response({"name": name})

    async def fetch(self, request: web.Request) -> web.Response:
        try:
            self.authorize(request)
            name = body_of(await request.read(), Fetch).operation_name
            operation = self.operations.get(name)
            if operation is None or operation.model != request.match_info["model"]:
                raise Refused(404, f"The operation {name} was not found.")
        except Refused as refused:
            return refused.answer()
        operation.polls += 1
        if operation.polls <= 2:
            return web.json_response({"name": name})
        if "fail me" in operation.prompt:
            error = {"code": 13, "message": "Video generation failed due to an internal server issue."}
            return web.json_response({"name": name, "done": True, "error": error})
        response: dict[str, Any] = {"@type": "type.googleapis.com/cloud.ai.large_models.vision.GenerateVideoResponse"}
        if "refuse me" in operation.prompt:
            text = "Veo could not generate videos because of its usage guidelines. Support codes: 17301594"
            response |= {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": [text]}
        else:
            video = {"bytesBase64Encoded": pybase64.b64encode_as_string(self.video), "mimeType": "video/mp4"}
            response |= {"raiMediaFilteredCount": 0, "videos": [video]}
        return web.json_response({"name": name, "done": True, "response": response})


def checked(instance: Instance, given: Parameters, model: str) -> list[bytes]:
    """The pictures of a request in which nothing is wrong."""
    gemini_video.spoken(instance.prompt or "")
    require(bool(instance.prompt or instance.image), "A prompt or an image is required.")
    require(instance.last_frame is None or instance.image is not None, "lastFrame needs image.")
    require(not (instance.reference_images and instance.image), "referenceImages is not supported with image.")
    require(not instance.reference_images or given.duration_seconds == 8, "referenceImages needs 8 seconds.")
    require(instance.video is None or model.endswith("-preview"), "Extending is not supported by this model.")
    require((instance.video is None) == (given.duration_seconds != 7), "durationSeconds must be 7 to extend.")
    require(instance.video is None or given.resolution == "720p", "Extending is supported at 720p.")
    if "-lite-" in model:
        simple = instance.last_frame is None and not instance.reference_images and given.resolution != "4k"
        require(simple, "This is not supported by the lite model.")
    pictures = [one for one in (instance.image, instance.last_frame) if one]
    pictures += [one.image for one in instance.reference_images]
    for one in pictures:
        decoded(one.bytes_base64_encoded, one.mime_type)
    return [pybase64.b64decode(one.bytes_base64_encoded, validate=True) for one in pictures]
