"""What can be asked for."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import PathParameter

from proxy.answer import Answer
from proxy.catalog import entry, listing
from proxy.config import Key
from proxy.gateway import Gateway
from proxy.keys import may
from translators.base import Fault

Name = Annotated[str, PathParameter(description="An alias, provider/model, or a bare id.")]


def allowed(request: Request[None, None, State]) -> tuple[Gateway, Key]:
    """The server's parts, for a caller with a good key."""
    gateway: Gateway = request.app.state.gateway
    key = gateway.keys.who(request.headers)
    request.scope["state"]["key"] = key
    return gateway, key


@get(["/v1/models", "/openai/v1/models", "/openai/models"])
async def models(request: Request[None, None, State]) -> Answer:
    """All models and aliases that this key may use."""
    gateway, key = allowed(request)
    data = [model for model in listing(gateway.catalog) if may(key, model["id"])]
    return Answer(200, [msgspec.json.encode({"object": "list", "data": data})], {})


@get(["/v1/models/{model:path}", "/openai/v1/models/{model:path}", "/openai/models/{model:path}"])
async def model(request: Request[None, None, State], model: Name) -> Answer:
    """One model or alias."""
    gateway, key = allowed(request)
    name = model.removeprefix("/")
    with suppress(Fault):
        found = entry(gateway.catalog, name)
        if may(key, name):
            return Answer(200, [msgspec.json.encode(found)], {})
    text = f"The model `{name}` does not exist or you do not have access to it."
    raise Fault("missing", text, code="model_not_found", param="model")
