"""A key's webhook: where the ends of its tasks are told, and the secrets by which it knows that it is us."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec

from proxy import webhook_secrets
from proxy.answer import Answer
from proxy.api.admin import Id, administered
from proxy.api.calling import calling
from proxy.api.schema import Envelope
from proxy.gateway import Gateway
from proxy.state.database import milliseconds
from proxy.state.keys import Key
from translators.base import Fault


class WebhookObject(msgspec.Struct, frozen=True, kw_only=True):
    """Where a key's tasks are told of, where a request names no `webhook_url`; and what signs in either case."""

    object: Literal["webhook"] = "webhook"
    url: str | None
    secrets: list[str]  # the newest first; after a rotation both sign for a day


RESPONSES = {
    200: ResponseSpec(WebhookObject, generate_examples=False, description="The address and the secrets."),
    401: ResponseSpec(Envelope, generate_examples=False, description="No key, or not a good one."),
}


@get("/v1/account/webhook", tags=["Account"], responses=RESPONSES)
async def own(request: Request[None, None, State]) -> Answer:
    """Where the ends of this key's tasks are told, and the secrets that sign."""
    gateway: Gateway = request.app.state.gateway
    caller = await calling(request)
    if made(caller.id):
        return answered(gateway, await gateway.key_store.get(caller.id))
    secrets = webhook_secrets.of(gateway.config, gateway.secret, caller.id, None, None, milliseconds())
    return told(WebhookObject(url=caller.webhook, secrets=secrets))


@post("/v1/account/webhook/rotate", status_code=200, tags=["Account"], responses=RESPONSES)
async def own_rotated(request: Request[None, None, State]) -> Answer:
    """Another secret, which signs from now on. The one before signs too for a day."""
    gateway: Gateway = request.app.state.gateway
    caller = await calling(request)
    if not made(caller.id):
        text = "The webhook secret of this key is the configuration's: auth.keys has `webhook.secrets`."
        raise Fault("invalid", text, code="key_fixed")
    return answered(gateway, await gateway.key_store.rotate_webhook(caller.id))


@get("/v1/admin/keys/{id:str}/webhook", tags=["Admin"], responses=RESPONSES)
async def shown(request: Request[None, None, State], id: Id) -> Answer:
    """The same of any key that is not fixed in the configuration."""
    gateway = await administered(request)
    return answered(gateway, await gateway.key_store.get(id))


@post("/v1/admin/keys/{id:str}/webhook/rotate", status_code=200, tags=["Admin"], responses=RESPONSES)
async def rotated(request: Request[None, None, State], id: Id) -> Answer:
    """Another secret for that key. The one before signs too for a day."""
    gateway = await administered(request)
    return answered(gateway, await gateway.key_store.rotate_webhook(id))


HANDLERS = (own, own_rotated, shown, rotated)


def made(key: str) -> bool:
    """Whether the key has a row."""
    return key.startswith("key_")


def answered(gateway: Gateway, key: Key) -> Answer:
    """What is told of a key with a row."""
    secrets = webhook_secrets.of(
        gateway.config, gateway.secret, key.id, key.webhook_version, key.webhook_rotated, milliseconds()
    )
    return told(WebhookObject(url=key.webhook_url, secrets=secrets))


def told(body: WebhookObject) -> Answer:
    """The answer. It is nobody else's, and not to be kept on the way."""
    return Answer(200, [msgspec.json.encode(body)], {"cache-control": "no-store"})
