"""Who may call. Keys are known by their HMAC only, so that a look-up tells nothing by its time.

Keys of the configuration are asked first and never need the database; those that were made with `pictor keys` are
looked up there once in `auth.cache_seconds`. So a revoked key is refused everywhere within that time, and at once by
the process that revoked it. While the database is away, a key that was good is taken for five minutes beyond that
time; one that nobody has looked up before is not.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec
from cachetools import TTLCache

from proxy.config import Config, Tier, loopback
from proxy.logs import warn
from proxy.state.database import READERS, unavailable
from proxy.state.keys import Key, KeyStore, digest, tier_of
from translators.base import Fault

T = TypeVar("T")
NOTHING: Mapping[str, Any] = {}

STALE = 300.0  # seconds for which a key that was good is taken beyond its time while the database is away
AGAIN = 5.0  # seconds between two looks for such a key
PATIENCE = 5.0  # seconds that a call waits for a look-up
BRIEF = 1.0  # where the key was good before
MOST = 100_000  # keys that are remembered, good ones and others each
ADDRESSES = 100_000
TRIES = 20  # wrong keys of one address, at once
EACH = 3.0  # seconds after which it has one more


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and what it may do."""

    id: str  # key_…, config:NAME, or anyone
    name: str
    admin: bool = False
    models: tuple[str, ...] = ("*",)  # patterns of the names that it may ask for, beside its tier's
    tier: Tier = Tier()
    tier_name: str | None = None
    metadata: Mapping[str, str] = {}
    webhook: str | None = None  # where its tasks' ends are told, where a request names no address


class Known(msgspec.Struct, frozen=True, gc=False):
    """A good key. Times on the monotonic clock; a key that expires sooner is neither fresh nor stale beyond that."""

    caller: Caller
    fresh: float  # until then nobody asks again
    stale: float  # until then it is taken while the database is away


Verdict: TypeAlias = Caller | str
"""Of a key that was looked up: who it is, or why it opens nothing; "" where it is not known, or no more."""


class Keys:
    """Who the keys of one configuration belong to. Made anew with each configuration; what is remembered goes then."""

    def __init__(self, config: Config, store: KeyStore | None, secret: bytes) -> None:
        auth = config.auth
        self._config = config
        self._store = store
        self._secret = secret
        self._mode = auth.mode
        self._origins = None if auth.open_anywhere else {urlsplit(config.server.public_url or "").hostname} - {None}
        self._fixed = {
            digest(secret, key.key.key): limited(
                Caller(
                    id=f"config:{key.name}",
                    name=key.name,
                    admin=key.admin,
                    models=key.models,
                    tier_name=key.tier,
                    webhook=key.webhook.url,
                ),
                config,
            )
            for key in auth.keys
        }
        self._anyone = limited(Caller(id="anyone", name="anyone"), config)
        self._known: TTLCache[bytes, Known] = TTLCache(MOST, auth.cache_seconds + STALE)
        self._refused: TTLCache[bytes, str] = TTLCache(MOST, auth.cache_seconds)
        self._asking: dict[bytes, asyncio.Task[Verdict]] = {}
        self._wrong = WrongKeys()
        self._places = asyncio.Semaphore(READERS)  # more would only take each other's tries
        self._keyless = 0.0  # until then there is no key at all

    async def who(self, headers: Mapping[str, str], address: str) -> Caller:
        """Who sent a request, by `Authorization: Bearer` or `api-key`; `address` is the client's.

        Raises `Fault("auth")`; `Fault("rate")` where that address has tried too many wrong keys; `Fault("permission")`
        for a page of another site, and for a key whose tier is gone; `Fault("overloaded")` where the key must be looked
        up and the database is away.
        """
        given = presented(headers)
        mark = b""
        if given:
            mark = digest(self._secret, given)
            if (fixed := self._fixed.get(mark)) is not None:
                return fixed
            known = self._known.get(mark)
            if known is not None and time.monotonic() < known.fresh:
                return known.caller
        if self._mode == "auto" and await self._has_keys():
            self._mode = "keys"  # also when all of them are revoked: nobody is let in by that
        if self._mode == "keys":
            return await self._entitled(given, mark, address)
        caller = await self._told(mark) if given else None
        if caller is None:
            self._check_origin(headers.get("origin"))
            return self._anyone
        if self._mode == "auto":  # the first key was made since that was looked up
            self._mode = "keys"
        return caller

    def forget(self, id: str) -> None:
        """Look that key up again before it is taken: it was changed or revoked."""
        for mark in [mark for mark, known in self._known.items() if known.caller.id == id]:
            self._known.pop(mark, None)
        self._refused.clear()
        self._asking.clear()  # what is under way may have read the row as it was: it tells those who wait, and is lost

    async def _has_keys(self) -> bool:
        """Whether there is any key. That the database is away is no reason to let anybody in: it is raised."""
        if self._store is None or time.monotonic() < self._keyless:
            return False
        if await _within(PATIENCE, asyncio.ensure_future(self._store.any())):
            return True
        self._keyless = time.monotonic() + self._config.auth.cache_seconds
        return False

    async def _entitled(self, given: str, mark: bytes, address: str) -> Caller:
        """The caller, where everybody needs a key."""
        if not given:
            raise Fault(
                "auth",
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                code="missing_api_key",
            )
        found: Verdict | None = self._refused.get(mark)
        if found is None:
            found = await self._judged(mark, address)
        if isinstance(found, Caller):
            return found
        if found:
            raise Fault("permission", found, code="tier_unknown")
        raise Fault("auth", f"Incorrect API key provided: {masked(given)}.", code="invalid_api_key")

    async def _judged(self, mark: bytes, address: str) -> Verdict:
        """What the store says of a key; of one that was good, what it said, while the database is away."""
        if mark not in self._known:
            return await _within(PATIENCE, self._look_up(mark, address))
        try:
            return await _within(BRIEF, self._look_up(mark, None))
        except Fault:
            known, now = self._known.get(mark), time.monotonic()  # `forget` may have been called
            if known is None or now >= known.stale:
                raise
            self._known[mark] = msgspec.structs.replace(known, fresh=min(now + AGAIN, known.stale))
            return known.caller

    async def _told(self, mark: bytes) -> Caller | None:
        """Who it is, where nobody needs a key: one that is unknown, or cannot be looked up, is as good as none."""
        if mark in self._refused:
            return None
        try:
            found = await _within(BRIEF, self._look_up(mark, None))
        except Fault:
            return None
        return found if isinstance(found, Caller) else None

    def _look_up(self, mark: bytes, address: str | None) -> asyncio.Task[Verdict]:
        """One look-up for all that ask for the same key at the same time; a try of that address, where it is one."""
        task = self._asking.get(mark)
        if task is None:
            task = self._asking[mark] = asyncio.create_task(self._looked_up(mark, address))
            task.add_done_callback(partial(self._answered, mark))
        return task

    def _answered(self, mark: bytes, task: asyncio.Task[Verdict]) -> None:
        if self._asking.get(mark) is task:
            del self._asking[mark]

    async def _looked_up(self, mark: bytes, address: str | None) -> Verdict:
        if address is None:
            return await self._read(mark)
        async with self._places:
            self._wrong.take(address)  # before it is known to be wrong: many may be tried at once
            try:
                found = await self._read(mark)
            except Fault:
                self._wrong.give_back(address)
                raise
            if found:
                self._wrong.give_back(address)
            return found

    async def _read(self, mark: bytes) -> Verdict:
        began = time.monotonic()
        row = await self._store.find(mark) if self._store is not None else None
        until = 0 if row is None else row.good_until(mark)
        left = float("inf") if until is None else until / 1000 - time.time()
        found: Verdict = self._verdict(row) if row is not None and left > 0 else ""
        if self._asking.get(mark) is not asyncio.current_task():
            return found  # it was forgotten meanwhile
        if isinstance(found, Caller):
            lasts = self._config.auth.cache_seconds
            self._known[mark] = Known(found, began + min(lasts, left), began + min(lasts + STALE, left))
        else:
            self._known.pop(mark, None)
            self._refused[mark] = found
        return found

    def _verdict(self, row: Key) -> Verdict:
        models = ("*",) if row.models is None else row.models
        caller = Caller(
            id=row.id, name=row.name, admin=row.admin, models=models, tier_name=row.tier, metadata=row.metadata,
            webhook=row.webhook_url,
        )  # fmt: skip
        try:
            return limited(caller, self._config, row.overrides)
        except Fault as fault:
            warn("a key is refused", key=row.name, error=fault.message)
            return fault.message

    def _check_origin(self, origin: str | None) -> None:
        """Raises `Fault("permission")` where a browser calls for a page of another site.

        A server that is open to this machine is not open to every page that is read on it: a browser sends such a
        page's POST anywhere, unasked, and the pictures would be paid for.
        """
        if origin is None or self._origins is None:
            return
        host = host_of(origin)
        if not (loopback(host) or host in self._origins):
            raise Fault(
                "permission",
                f"Pages of {origin[:100]} may not call a server without keys. Set auth.keys, server.public_url where "
                "the page is its own, or auth.open_anywhere.",
                code="foreign_origin",
            )


class WrongKeys:
    """How many keys an address may still try. A wrong one that it repeats is tried once in `auth.cache_seconds`."""

    def __init__(self) -> None:
        self._free: TTLCache[str, float] = TTLCache(ADDRESSES, TRIES * EACH)
        """Network -> when all its tries are free again, on the monotonic clock."""

    def take(self, address: str) -> None:
        """Count one. Raises `Fault("rate")` where none is left."""
        network, now = network_of(address), time.monotonic()
        free = max(self._free.get(network, now), now) + EACH
        wait = free - now - TRIES * EACH
        if wait > 0:
            text = "Too many wrong API keys came from your address. Please wait before you try another one."
            raise Fault("rate", text, code="rate_limit_exceeded", retry_after=wait)
        self._free[network] = free

    def give_back(self, address: str) -> None:
        """It was not wrong, or nobody could say."""
        network = network_of(address)
        if network in self._free:
            self._free[network] -= EACH


def network_of(address: str) -> str:
    """What one client has at the least: an address, or a /64 of IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))


async def _within(seconds: float, task: asyncio.Future[T]) -> T:
    """Its result. Who waits no more does not end it. Raises `Fault("overloaded")` where it takes longer."""
    task.add_done_callback(_heard)
    try:
        return await asyncio.wait_for(asyncio.shield(task), seconds)
    except TimeoutError:
        raise unavailable() from None


def _heard(task: asyncio.Future[T]) -> None:
    """Those who waited have its failure; nobody may be left."""
    if not task.cancelled():
        task.exception()


def limited(caller: Caller, config: Config, overrides: Mapping[str, Any] = NOTHING) -> Caller:
    """The caller with the limits of its tier, or of the tier of all who have none. Raises `Fault("permission")` where
    that is not in the configuration.
    """
    name = caller.tier_name or config.auth.default_tier
    return msgspec.structs.replace(caller, tier_name=name, tier=tier_of(config, name, overrides))


def presented(headers: Mapping[str, str]) -> str:
    """The key in a request's headers; empty where there is none."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else headers.get("api-key", "").strip()


def host_of(origin: str) -> str:
    """The host in an `Origin`; empty where there is none, as in "null"."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def may(caller: Caller, model: str) -> bool:
    """Whether this caller may ask for a model by that name: both its key and its tier must allow it."""
    return matches(model, caller.models) and matches(model, caller.tier.models)


def matches(model: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns fits."""
    return any(fnmatchcase(model, pattern) for pattern in patterns)


def check_model(caller: Caller, model: str) -> None:
    """Raises `Fault("permission")` where it may not."""
    if may(caller, model):
        return
    own = not matches(model, caller.models)
    whose = f"The key '{caller.name}'" if own else f"The tier '{caller.tier_name}' of the key '{caller.name}'"
    raise Fault("permission", f"{whose} may not use the model '{model}'.", code="model_not_allowed", param="model")


def masked(key: str) -> str:
    """Enough of a key to recognise it, as OpenAI shows it: `sk-ab***yz`."""
    return f"{key[:5]}***{key[-2:]}" if len(key) > 12 else "***"
