"""What can be asked for."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, get_args

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import PathParameter

from proxy.answer import Answer
from proxy.api import query
from proxy.api.calling import calling
from proxy.gateway import Gateway
from proxy.keys import may
from proxy.listing import entry, listing
from proxy.providers import Makes
from translators.base import Fault

Name = Annotated[str, PathParameter(description="An alias, provider/model, or a bare id.")]


class Query(msgspec.Struct, frozen=True):
    """Which of them."""

    type: Annotated[Makes | None, msgspec.Meta(description="What they make. Default: all.")] = None


def wanted(request: Request[None, None, State]) -> Query:
    """The query. What else stands in it is for other servers: Azure's clients name the version that they speak."""
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name == "type"]
    return query.read(pairs, Query, {"type": get_args(Makes)})


@get(["/v1/models", "/openai/v1/models", "/openai/models"], operation_class=query.documented(Query))
async def models(request: Request[None, None, State]) -> Answer:
    """All models and aliases that this key may use."""
    caller = await calling(request)
    gateway: Gateway = request.app.state.gateway
    data = [model for model in listing(gateway.catalog, type=wanted(request).type) if may(caller, model["id"])]
    return Answer(200, [msgspec.json.encode({"object": "list", "data": data})], {})


@get(
    ["/v1/models/{model:path}", "/openai/v1/models/{model:path}", "/openai/models/{model:path}"],
    operation_class=query.documented(Query),
)
async def model(request: Request[None, None, State], model: Name) -> Answer:
    """One model or alias."""
    caller = await calling(request)
    gateway: Gateway = request.app.state.gateway
    name, type = model.removeprefix("/"), wanted(request).type
    with suppress(Fault):
        found = entry(gateway.catalog, name, type)
        if may(caller, name):
            return Answer(200, [msgspec.json.encode(found)], {})
    text = f"The model `{name}` does not exist or you do not have access to it."
    raise Fault("missing", text, code="model_not_found", param="model")
