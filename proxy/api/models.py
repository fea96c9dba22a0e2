"""What can be asked for."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import PathParameter

from proxy.answer import Answer
from proxy.api.calling import calling
from proxy.gateway import Gateway
from proxy.keys import may
from proxy.listing import entry, listing
from translators.base import Fault

Name = Annotated[str, PathParameter(description="An alias, provider/model, or a bare id.")]


@get(["/v1/models", "/openai/v1/models", "/openai/models"])
async def models(request: Request[None, None, State]) -> Answer:
    """All models and aliases that this key may use."""
    caller = await calling(request)
    gateway: Gateway = request.app.state.gateway
    data = [model for model in listing(gateway.catalog) if may(caller, model["id"])]
    return Answer(200, [msgspec.json.encode({"object": "list", "data": data})], {})


@get(["/v1/models/{model:path}", "/openai/v1/models/{model:path}", "/openai/models/{model:path}"])
async def model(request: Request[None, None, State], model: Name) -> Answer:
    """One model or alias."""
    caller = await calling(request)
    gateway: Gateway = request.app.state.gateway
    name = model.removeprefix("/")
    with suppress(Fault):
        found = entry(gateway.catalog, name)
        if may(caller, name):
            return Answer(200, [msgspec.json.encode(found)], {})
    text = f"The model `{name}` does not exist or you do not have access to it."
    raise Fault("missing", text, code="model_not_found", param="model")
