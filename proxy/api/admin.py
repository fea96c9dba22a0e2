"""Keys for those who run the server: made, listed, changed, rotated, revoked. As `pictor keys` does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.openapi.spec import Operation
from litestar.params import PathParameter
from msgspec import Meta

from proxy import invalid
from proxy.answer import Answer
from proxy.api import query
from proxy.api.body import text
from proxy.api.calling import calling
from proxy.api.schema import described
from proxy.gateway import Gateway
from proxy.state.keys import Change, Key, change, told
from translators.base import Fault

BODY = 64 * 1024  # bytes

Id = Annotated[str, PathParameter(description="A key's id or its name.")]
Call: TypeAlias = Request[None, None, State]


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which keys."""

    limit: Annotated[int, Meta(ge=1, le=100, description="How many at most.")] = 20
    after: Annotated[str | None, Meta(description="The id of the last key of the page before.")] = None


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a rotation."""

    grace_seconds: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 0.0  # for which the old text is still good


def taking(body: type[msgspec.Struct]) -> type[Operation]:
    """An operation that tells the request's body, which is read here."""

    class Documented(Operation):
        def to_schema(self) -> dict[str, Any]:
            content = {"application/json": {"schema": described(body)}}
            return {**super().to_schema(), "requestBody": {"content": content}}

    return Documented


@get("/v1/admin/keys", operation_class=query.documented(Query), tags=["Admin"])
async def listed(request: Call) -> Answer:
    """A page of the keys that are not fixed in the configuration, newest first; revoked ones too."""
    gateway = await administered(request)
    wanted = query.read(request.query_params.multi_items(), Query, {})
    keys, more = await gateway.key_store.page(wanted.limit, wanted.after)
    data = [told(key) for key in keys]
    return answered({
        "object": "list", "data": data, "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None, "has_more": more,
    })  # fmt: skip


@post("/v1/admin/keys", status_code=200, operation_class=taking(Change), tags=["Admin"])
async def created(request: Call) -> Answer:
    """A new key. `key` in the answer is its text, which is shown this once."""
    gateway = await administered(request)
    made, key = await gateway.key_store.create(change(await body_of(request), gateway.config))
    return answered({**told(made), "key": key})


@get("/v1/admin/keys/{id:str}", tags=["Admin"])
async def shown(request: Call, id: Id) -> Answer:
    """One key."""
    gateway = await administered(request)
    return answered(told(await gateway.key_store.get(id)))


@post("/v1/admin/keys/{id:str}", status_code=200, operation_class=taking(Change), tags=["Admin"])
async def changed(request: Call, id: Id) -> Answer:
    """The key with what the body names changed; `overrides` and `metadata` are replaced as a whole."""
    gateway = await administered(request)
    columns = change(await body_of(request), gateway.config)
    return dropped(gateway, await gateway.key_store.set(id, columns))


@post("/v1/admin/keys/{id:str}/rotate", status_code=200, operation_class=taking(Rotation), tags=["Admin"])
async def rotated(request: Call, id: Id) -> Answer:
    """The key with another text, which `key` shows this once. The old one is good for `grace_seconds` more."""
    gateway = await administered(request)
    body = await body_of(request)
    try:
        wanted = msgspec.convert(body, Rotation)
    except msgspec.ValidationError as error:
        raise invalid.explain(error, body, {}) from None
    made, key = await gateway.key_store.rotate(id, wanted.grace_seconds)
    return dropped(gateway, made, key=key)


@delete("/v1/admin/keys/{id:str}", status_code=200, tags=["Admin"])
async def revoked(request: Call, id: Id) -> Answer:
    """Revoke a key. Its row stays, as what it has spent does."""
    gateway = await administered(request)
    return dropped(gateway, await gateway.key_store.revoke(id), deleted=True)


async def administered(request: Call) -> Gateway:
    """The server's parts, for a caller that runs it. Raises `Fault("permission")` for others."""
    caller = await calling(request)
    if not caller.admin:
        raise Fault("permission", "This call needs an admin key.", code="admin_key_required")
    gateway: Gateway = request.app.state.gateway
    return gateway


async def body_of(request: Call) -> Any:
    """The JSON body; an empty one says nothing."""
    said = await text(request, BODY)
    try:
        return msgspec.json.decode(said or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid.bad_json(error) from error


def dropped(gateway: Gateway, row: Key, **more: object) -> Answer:
    """The changed key; what this process remembers of it goes."""
    gateway.keys.forget(row.id)
    return answered({**told(row), **more})


def answered(body: Mapping[str, object]) -> Answer:
    """The answer."""
    return Answer(200, [msgspec.json.encode(body)], {})
