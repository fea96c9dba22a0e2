"""Keys that are made while the server runs. A key's text is shown once and never kept: rows have its HMAC alone."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy.engine import Connection, Row

from proxy import invalid, plain
from proxy.config import Config, Tier, no_tier, tier_flaws
from proxy.state import ids
from proxy.state.database import Database, insert, milliseconds
from proxy.state.tables import key as table
from translators.base import Fault

BEGINNING = "sk-pictor-"
SHOWN = len(BEGINNING) + 4  # characters of a key by which a person recognises it
LATEST = 253_402_300_799  # 9999-12-31, in seconds since 1970

NO_NUL = r"^[^\x00]*\Z"  # PostgreSQL takes none
Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=512, pattern=NO_NUL)]
Label: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_NUL)]
Text: TypeAlias = Annotated[str, Meta(max_length=512, pattern=NO_NUL)]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `key`. Times in milliseconds since 1970."""

    id: str
    name: str
    email: str | None
    digest: bytes
    prefix: str
    previous_digest: bytes | None
    previous_until: int | None
    tier: str | None
    admin: bool
    models: tuple[str, ...] | None  # patterns; None: what the tier allows
    overrides: dict[str, Any]  # members of the tier that are different for this key
    metadata: dict[str, str]
    created: int
    expires: int | None
    revoked: int | None
    webhook_url: str | None = None
    webhook_version: int = 1
    webhook_rotated: int | None = None

    def good_until(self, digest: bytes) -> int | None:
        """Until when its text with that digest opens anything; `None`: for ever. Zero where it does no more."""
        if self.revoked is not None:
            return 0
        if digest == self.digest:
            return self.expires
        return min(self.previous_until or 0, self.expires or LATEST * 1000)


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be said of a key. What is not said stays as it is."""

    name: Annotated[str, Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    email: Annotated[str, Meta(max_length=320)] | UnsetType | None = UNSET
    tier: str | UnsetType | None = UNSET  # null: `auth.default_tier`
    admin: bool | UnsetType = UNSET
    models: Annotated[list[Word], Meta(min_length=1, max_length=100)] | UnsetType | None = UNSET
    overrides: dict[str, Any] | UnsetType = UNSET
    metadata: Annotated[dict[Label, Text], Meta(max_length=16)] | UnsetType = UNSET
    expires_at: Annotated[int, Meta(ge=0, le=LATEST)] | UnsetType | None = UNSET  # seconds since 1970; null: never
    webhook_url: str | UnsetType | None = UNSET  # null: nowhere


def change(given: Any, config: Config) -> dict[str, Any]:
    """The columns that `given`, a `Change` as plain data, sets. Raises `Fault("invalid")` that names the member."""
    try:
        said = msgspec.convert(given, Change)
    except msgspec.ValidationError as error:
        raise invalid.explain(error, given, {}) from None
    columns: dict[str, Any] = {
        name: value for name in Change.__struct_fields__ if (value := getattr(said, name)) is not UNSET
    }
    for name in columns.keys() & _RULES.keys():
        columns[name] = _RULES[name](columns[name], config)
    if "expires_at" in columns:
        columns["expires"] = columns.pop("expires_at")
    return columns


def _name(name: str, config: Config) -> str:
    if not name.isprintable() or name != name.strip() or name.startswith("key_"):
        text = "Invalid 'name': expected printable text that does not begin with 'key_'."
        raise invalid.invalid_value("name", text)
    if any(name == each.name for each in config.auth.keys):
        raise taken(name)
    return name


def _email(email: str | None, _: Config) -> str | None:
    if email and not re.fullmatch(r"[^@\s\x00]+@[^@\s\x00]+", email):
        raise invalid.invalid_value("email", "Invalid 'email': expected an address such as 'ann@example.com'.")
    return email or None


def _tier(tier: str | None, config: Config) -> str | None:
    if tier is not None and tier not in config.tiers:
        raise invalid.invalid_value("tier", f"Invalid 'tier': {no_tier(tier, config.tiers)}.")
    return tier


def _overrides(given: dict[str, Any], config: Config) -> dict[str, Any]:
    flaws: list[str] = []
    found = plain.members(Tier, given, "overrides", flaws)
    if not flaws:
        flaws += tier_flaws(Tier(**found), "overrides", config.history)
    if not flaws and any("\0" in pattern for pattern in found.get("models", ())):
        flaws.append("overrides.models: expected text without NUL")
    if flaws:
        param, _, text = flaws[0].partition(": ")
        raise invalid.invalid_value(param, f"Invalid '{param}': {text}.")
    return found


def _expires(at: int | None, _: Config) -> int | None:
    if at is not None and at <= time.time():
        raise invalid.invalid_value("expires_at", "Invalid 'expires_at': expected a time that is still to come.")
    return at and at * 1000


def _webhook(url: str | None, config: Config) -> str | None:
    from proxy.http import Allowed  # which a command seldom needs, and takes long to import
    from proxy.webhooks import check_url

    return check_url(url, "webhook_url", Allowed(config.fetch.allow)) if url else None


_RULES: Mapping[str, Callable[[Any, Config], Any]] = {
    "name": _name, "email": _email, "tier": _tier, "overrides": _overrides, "expires_at": _expires,
    "webhook_url": _webhook,
}  # fmt: skip


def tier_of(config: Config, name: str | None, overrides: Mapping[str, Any]) -> Tier:
    """The limits of a key. Raises `Fault("permission")` where they fit the configuration no more: nobody is let in
    whose bounds are not known.
    """
    tier = Tier() if name is None else config.tiers.get(name)
    if tier is None:
        raise Fault("permission", f"The key's tier '{name}' is not in the configuration.", code="tier_unknown")
    flaws: list[str] = []
    own = plain.members(Tier, overrides, "", flaws)
    if flaws:
        raise Fault("permission", f"The key's own limits cannot be read: {flaws[0]}.", code="tier_unknown")
    return msgspec.structs.replace(tier, **own)


def digest(secret: bytes, text: str) -> bytes:
    """What a key is known by. The beginning keeps it apart from all else that the secret is for."""
    return hmac.digest(secret, b"key\n" + text.encode("utf-8", "surrogatepass"), "sha256")


class KeyStore:
    """The keys in the database. Every call raises `Fault("overloaded")` where that is away.

    `which` is a key's id or its name.
    """

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._secret = secret

    async def create(self, columns: Mapping[str, Any]) -> tuple[Key, str]:
        """A new key of what `change` gave, and its text. Raises `Fault("invalid")` where its name is taken."""
        if "name" not in columns:
            raise invalid.missing("name")
        text = BEGINNING + secrets.token_urlsafe(32)
        row = {**_NEW, **columns, "id": ids.new("key_"), "created": milliseconds(), **self._known_by(text)}

        def work(connection: Connection) -> Key:
            connection.execute(insert(table, connection).on_conflict_do_nothing(), row)
            # It is there also where a try before wrote it whose end was not heard of.
            found = connection.execute(sa.select(table).where(table.c.digest == row["digest"])).first()
            if found is None:
                raise taken(row["name"])
            return _read(found)

        return await self._database.write(work), text

    async def page(self, limit: int, after: str | None = None) -> tuple[Sequence[Key], bool]:
        """At most `limit` keys, newest first, those made before `after`; and whether there are more."""
        query = sa.select(table).order_by(table.c.id.desc()).limit(limit + 1)
        if after is not None:
            query = query.where(table.c.id < _plain(after))
        found = await self._database.read(lambda connection: [_read(row) for row in connection.execute(query)])
        return found[:limit], len(found) > limit

    async def get(self, which: str) -> Key:
        """That key. Raises `Fault("missing")`."""
        query = sa.select(table).where(_is(which))
        found = await self._database.read(lambda connection: connection.execute(query).first())
        if found is None:
            raise _missing(which)
        return _read(found)

    async def set(self, which: str, columns: Mapping[str, Any]) -> Key:
        """Change what `change` gave. Raises `Fault("missing")`, or `Fault("invalid")` where it is revoked."""
        try:
            return await self._database.write(lambda connection: _changed(connection, which, columns))
        except sa.exc.IntegrityError as error:  # of all that is unique, only the name can be chosen
            raise taken(columns["name"]) from error

    async def rotate(self, which: str, grace: float = 0.0) -> tuple[Key, str]:
        """Give it another text; the old one is good for `grace` more seconds. Raises as `set` does."""
        text = BEGINNING + secrets.token_urlsafe(32)
        new = self._known_by(text)
        until = milliseconds() + round(grace * 1000)

        def work(connection: Connection) -> Key:
            old = _locked(connection, which)
            if old.digest == new["digest"]:  # done before, by a try whose end was not heard of
                return old
            kept = {"previous_digest": old.digest, "previous_until": until} if grace else _NO_PREVIOUS
            return _changed(connection, old.id, {**new, **kept})

        return await self._database.write(work), text

    async def revoke(self, which: str) -> Key:
        """Let it open nothing any more; once is enough. Raises `Fault("missing")`."""

        def work(connection: Connection) -> Key:
            found = _locked(connection, which, revoked=True)
            if found.revoked is not None:
                return found
            return _changed(connection, found.id, {"revoked": milliseconds()})

        return await self._database.write(work)

    async def rotate_webhook(self, which: str) -> Key:
        """Give its webhooks another secret; the one before signs too for a day. Raises as `set` does."""
        new = {"webhook_version": table.c.webhook_version + 1, "webhook_rotated": milliseconds()}
        return await self._database.write(lambda connection: _changed(connection, which, new))

    async def find(self, digest: bytes) -> Key | None:
        """The key that has this digest, or had it before its last rotation. Whether it is still good says the key."""
        query = sa.select(table).where(sa.or_(table.c.digest == digest, table.c.previous_digest == digest))
        found = await self._database.read(lambda connection: connection.execute(query).first())
        return None if found is None else _read(found)

    async def any(self) -> bool:
        """Whether there is a key, be it good or not."""
        query = sa.select(table.c.id).limit(1)
        return await self._database.read(lambda connection: connection.execute(query).first()) is not None

    def _known_by(self, text: str) -> dict[str, Any]:
        return {"digest": digest(self._secret, text), "prefix": text[:SHOWN]}


_NO_PREVIOUS: Mapping[str, None] = {"previous_digest": None, "previous_until": None}
_NEW: Mapping[str, Any] = {
    **_NO_PREVIOUS, "email": None, "tier": None, "admin": False, "models": None, "overrides": {}, "metadata": {},
    "expires": None, "revoked": None, "webhook_url": None, "webhook_version": 1, "webhook_rotated": None,
}  # fmt: skip


def _read(row: Row[Any]) -> Key:
    return msgspec.convert(row._mapping, Key)


def _locked(connection: Connection, which: str, *, revoked: bool = False) -> Key:
    """The key, which nobody else changes before this transaction ends."""
    found = connection.execute(sa.select(table).where(_is(which)).with_for_update()).first()
    if found is None:
        raise _missing(which)
    key = _read(found)
    if key.revoked is not None and not revoked:
        raise Fault("invalid", f"The key '{key.name}' is revoked and cannot be changed.", code="key_revoked")
    return key


def _changed(connection: Connection, which: str, columns: Mapping[str, Any]) -> Key:
    key = _locked(connection, which)
    if not columns:
        return key
    changing = sa.update(table).where(table.c.id == key.id).values(columns).returning(*table.c)
    return _read(connection.execute(changing).one())


def _is(which: str) -> sa.ColumnElement[bool]:
    which = _plain(which)
    return table.c.id == which if which.startswith("key_") else table.c.name == which


def _plain(text: str) -> str:
    """What no key has, where it holds what PostgreSQL does not take."""
    return text.replace("\0", "\ufffd")


def _missing(which: str) -> Fault:
    return Fault("missing", f"There is no key '{invalid.clip(which)}'.", code="key_not_found", param="id")


def taken(name: str) -> Fault:
    """The fault of a name that another key has."""
    return Fault("invalid", f"There is a key with the name '{name}' already.", code="name_taken", param="name")


def told(key: Key) -> dict[str, Any]:
    """The key as a person or a program may see it. Times in seconds since 1970."""
    times = {"created_at": key.created, "expires_at": key.expires, "revoked_at": key.revoked}
    return {
        "object": "key", "id": key.id, "name": key.name, "prefix": key.prefix, "email": key.email, "tier": key.tier,
        "admin": key.admin, "models": key.models, "overrides": key.overrides, "metadata": key.metadata,
        **{name: at and at // 1000 for name, at in times.items()},
        "previous_until": key.previous_until and key.previous_until // 1000, "webhook_url": key.webhook_url,
    }  # fmt: skip
