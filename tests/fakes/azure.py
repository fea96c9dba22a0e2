"""Azure OpenAI: OpenAI's bodies under deployments, with Azure's own header, paths and refusals.

`api_version` decides which of the two addresses its configuration asks for: a date, or "" for v1.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from aiohttp import web

from tests.fakes import openai
from tests.fakes.base import GOOD_KEY, Fake
from tests.fakes.openai import Edit, Generate, Received, Refused
from translators.base import MaskRule

GOOD_TOKEN = "test-token"
TYPES = {"image/png": "PNG", "image/jpeg": "JPEG"}
NOT_HERE = ("complexity", "frame_count", "frame_duration_ms", "svg", "safety_identifier")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Azure(Fake):
    name: ClassVar[str] = "azure"
    generates: ClassVar[str] = "gpt-image-2"
    edits: ClassVar[str | None] = "gpt-image-2"
    masks: ClassVar[str | None] = "gpt-image-2"
    fuses: ClassVar[str | None] = "gpt-image-2"
    streams: ClassVar[str | None] = "gpt-image-2"
    mask_rule: ClassVar[MaskRule] = "alpha"
    previews: ClassVar[int | None] = 2
    counts: ClassVar[bool] = True
    pause_ms: ClassVar[int | None] = 1000
    deployments: ClassVar[dict[str, str]] = {
        "gpt-image-2": "gpt-image-2",
        "gpt-image-1.5-eu": "gpt-image-1.5",
        "house-pictures": "gpt-image-1-mini",
    }

    api_version: str = "2025-04-01-preview"

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        version = {"api_version": self.api_version} if self.api_version else {}
        return {"api_key": key, "base_url": self.url, **version}

    def routes(self) -> list[web.RouteDef]:
        dated, v1 = "/openai/deployments/{deployment}/images", "/openai/v1/images"
        return [
            web.post(f"{dated}/generations", guarded(self.generate)),
            web.post(f"{dated}/edits", guarded(self.edit)),
            web.post(f"{v1}/generations", guarded(self.generate)),
            web.post(f"{v1}/edits", guarded(self.edit)),
            web.route("*", "/{rest:.*}", guarded(nowhere)),
        ]

    async def generate(self, request: web.Request) -> web.StreamResponse:
        raw = await openai.read_json(request)
        return await self.made(request, Generate, raw, [])

    async def edit(self, request: web.Request) -> web.StreamResponse:
        texts, files = await openai.read_form(request)
        return await self.made(request, Edit, texts, files)

    async def made(
        self, request: web.Request, shape: type[Generate], raw: dict[str, Any], files: list[Received]
    ) -> web.StreamResponse:
        model = self.routed(request, raw)
        ask = openai.typed(shape, raw | {"model": model}, strict=shape is Generate)
        for name in NOT_HERE:
            if getattr(ask, name) is not None:
                raise Refused(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
        if ask.output_format not in {None, "png", "jpeg"}:
            raise openai.listed(str(ask.output_format), ("png", "jpeg"), "output_format")
        openai.fitting(ask, model)
        given = openai.pictures(model, files, TYPES) if shape is Edit else 0
        openai.spoken(ask.prompt, contact="Azure support ticket")
        return await openai.answered(request, ask, given)

    def routed(self, request: web.Request, raw: dict[str, Any]) -> str:
        """The model behind the deployment, which the path or else the body names; never both."""
        version = request.query.get("api-version")
        deployment = request.match_info.get("deployment")
        if deployment is None:
            if version not in {None, "preview", "latest", "v1"}:
                raise Refused("Resource not found", code="404", status=404)
            deployment = raw.get("model")
            if not isinstance(deployment, str):
                text = "Missing required parameter: 'model'."
                raise Refused(text, code="missing_required_parameter", param="model")
        else:
            if not re.fullmatch(r"2025-(0[4-9]|1\d)-\d\d(-preview)?|202[6-9]-\d\d-\d\d(-preview)?", version or ""):
                raise Refused("Resource not found", code="404", status=404)
            if "model" in raw:
                raise Refused("Unknown parameter: 'model'.", code="unknown_parameter", param="model")
        if deployment not in self.deployments:
            text = (
                "The API deployment for this resource does not exist. If you created the deployment within the last "
                "5 minutes, please wait a moment and try again."
            )
            raise Refused(text, code="DeploymentNotFound", status=404)
        return self.deployments[deployment]


async def nowhere(request: web.Request) -> web.StreamResponse:
    raise Refused("Resource not found", code="404", status=404)


def guarded(handler: Handler) -> Handler:
    """`handler` for those who may; its refusals in Azure's envelope, which often has neither type nor param."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            authorized(request)
            return await handler(request)
        except Refused as refused:
            return refusal(refused)

    return answer


def authorized(request: web.Request) -> None:
    """The resource's key in `api-key`, or a token as bearer: the key as bearer is refused."""
    if request.headers.get("api-key") == GOOD_KEY and "Authorization" not in request.headers:
        return
    if request.headers.get("Authorization") == f"Bearer {GOOD_TOKEN}" and "api-key" not in request.headers:
        return
    text = (
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
        "active subscription and use a correct regional API endpoint for your resource."
    )
    raise Refused(text, code="401", status=401)


def refusal(refused: Refused) -> web.Response:
    if refused.status == 400:
        return openai.refusal(refused)
    code = {429: "429", 500: "InternalServerError"}.get(refused.status, refused.code)
    text = "Rate limit is exceeded. Please retry after 1 seconds." if refused.status == 429 else refused.message
    return web.json_response({"error": {"code": code, "message": text}}, status=refused.status)
