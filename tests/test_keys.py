from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from proxy import config, keys
from proxy.config import Auth, Config, Tier
from proxy.keys import Caller, Keys, check_model, may
from proxy.state import tables
from proxy.state.database import Database, milliseconds
from proxy.state.keys import KeyStore, change, digest
from tests.stores import PostgresServer
from translators.base import Fault, Secret

SECRET = b"an installation's own secret"
HERE = "192.0.2.1"
PRO = Tier(images_per_minute=120, max_n=4, models=("demo/*", "bfl/*"))
FIXED = config.Key(name="fixed", key=Secret("a-key-of-the-file"), admin=True)


def made(mode: Any = "keys", fixed: tuple[config.Key, ...] = (), seconds: float = 60.0, **more: Any) -> Config:
    """A configuration with one tier."""
    given = {"tiers": {"pro": PRO}} | more
    auth = Auth(mode=mode, keys=fixed, cache_seconds=seconds, default_tier=given.pop("default_tier", None))
    return Config(auth=auth, **given)


@pytest.fixture
def store(database: Database) -> KeyStore:
    return KeyStore(database, SECRET)


async def new(store: KeyStore, name: str = "app", **given: Any) -> tuple[str, str]:
    """A key: its id and its text."""
    key, text = await store.create(change({"name": name, **given}, made()))
    return key.id, text


def bearing(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@asynccontextmanager
async def fault(code: str) -> AsyncIterator[Fault]:
    """The block fails in that way."""
    said = Fault("invalid", "")
    with pytest.raises(Fault) as caught:
        yield said
    assert caught.value.code == code, caught.value.message
    vars(said).update(vars(caught.value))


@contextmanager
def looked_up(database: Database) -> Iterator[list[str]]:
    """What is asked of the database."""
    seen: list[str] = []

    def note(_c: Any, _d: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append(statement)

    engines = {database._reading, database._writing}
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        sa.event.remove(engine, "before_cursor_execute", note)


async def until_refused(found: Keys, text: str) -> Fault:
    """The fault, once the key is taken no more."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            await found.who(bearing(text), HERE)
        except Fault as refused:
            return refused
        await asyncio.sleep(0.01)
    raise AssertionError("the key is still good")


# ---- the store


async def test_only_a_digest_is_kept(store: KeyStore, database: Database) -> None:
    key, text = await store.create(change({"name": "app", "metadata": {"team": "a"}}, made()))
    assert text.startswith("sk-pictor-")
    assert len(text) == len("sk-pictor-") + 43
    assert (key.prefix, key.digest) == (text[:14], digest(SECRET, text))
    assert digest(b"another secret", text) != key.digest
    with database._reading.begin() as connection:
        row = connection.execute(sa.select(tables.key)).one()
    assert text[14:] not in str([*row])
    assert text[14:].encode() not in b"".join(each for each in row if isinstance(each, bytes))
    assert await store.find(key.digest) == await store.get("app") == await store.get(key.id) == key


async def test_a_name_is_taken_once(store: KeyStore) -> None:
    await new(store)
    other, _ = await new(store, "other")
    async with fault("name_taken") as said:
        await new(store)
    assert said.param == "name"
    async with fault("name_taken"):
        await store.set(other, {"name": "app"})
    assert (await store.get(other)).name == "other"
    async with fault("name_taken"):  # of the configuration
        change({"name": "fixed"}, made(fixed=(FIXED,)))


async def test_pages(store: KeyStore) -> None:
    every = sorted([(await new(store, f"app {index}"))[0] for index in range(5)], reverse=True)
    after, found, more = None, [], True
    while more:
        page, more = await store.page(2, after)
        after = page[-1].id
        found.append([key.id for key in page])
    assert found == [every[:2], every[2:4], every[4:]]
    assert await store.page(5) == (await store.page(9)) == (await store.page(5))
    assert await store.page(1, every[-1]) == ([], False)


async def test_what_is_said_is_changed_and_nothing_else(store: KeyStore) -> None:
    id, _ = await new(store, tier="pro", email="a@b.example", metadata={"a": "1"}, models=["demo/*"])
    before = await store.get(id)
    assert await store.set(id, change({}, made())) == before
    columns = change({"email": None, "overrides": {"max_size": "1024x512"}, "admin": True}, made())
    changed = await store.set("app", columns)
    assert changed == msgspec.structs.replace(before, email=None, overrides={"max_size": [1024, 512]}, admin=True)
    assert await store.get(id) == changed


async def test_keys_that_are_not_there(store: KeyStore) -> None:
    for which in ("nobody", "key_none", "nul\0", "key_\0"):
        for call in (store.get(which), store.set(which, {}), store.rotate(which), store.revoke(which)):
            async with fault("key_not_found"):
                await call


async def test_a_revoked_key_stays_revoked(store: KeyStore) -> None:
    id, _ = await new(store)
    revoked = await store.revoke("app")
    assert revoked.revoked
    assert await store.revoke(id) == revoked
    for call in (store.set(id, {"admin": True}), store.rotate(id)):
        async with fault("key_revoked"):
            await call


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({}, "missing_required_parameter", "name"),
        ({"name": ""}, "empty_string", "name"),
        ({"name": "x" * 101}, "string_above_max_length", "name"),
        ({"name": "key_1"}, "invalid_value", "name"),
        ({"name": "a\nb"}, "invalid_value", "name"),
        ({"nme": "a"}, "unknown_parameter", "nme"),
        ({"tier": "gold"}, "invalid_value", "tier"),
        ({"email": "nobody"}, "invalid_value", "email"),
        ({"admin": "yes"}, "invalid_type", "admin"),
        ({"models": []}, "empty_array", "models"),
        ({"models": ["\0"]}, "invalid_value", "models[0]"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"metadata": {"a": "\0"}}, "invalid_value", "metadata.a"),
        ({"metadata": {str(index): "" for index in range(17)}}, "object_above_max_properties", "metadata"),
        ({"expires_at": 1}, "invalid_value", "expires_at"),
        ({"overrides": {"images": 3}}, "invalid_value", "overrides.images"),
        ({"overrides": {"max_n": 0}}, "invalid_value", "overrides.max_n"),
        ({"overrides": {"max_n": "3"}}, "invalid_value", "overrides.max_n"),
        ({"overrides": {"max_size": "big"}}, "invalid_value", "overrides.max_size"),
        ({"overrides": {"models": []}}, "invalid_value", "overrides.models"),
        ({"overrides": {"models": ["\0"]}}, "invalid_value", "overrides.models"),
    ],
)
async def test_what_no_key_can_be(given: Mapping[str, Any], code: str, param: str, tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path}/keys.db")
    async with fault(code) as said:
        await KeyStore(database, SECRET).create(change(given, made()))
    assert said.param == param
    database.close()


async def test_a_budget_needs_history() -> None:
    wanted = {"overrides": {"budget_usd_per_day": 1}}
    assert change(wanted, made()) == {"overrides": {"budget_usd_per_day": 1}}
    async with fault("invalid_value") as said:
        change(wanted, made(history=config.History(enabled=False)))
    assert said.param == "overrides.budget_usd_per_day"


# ---- who calls


async def test_a_fixed_key_needs_no_database() -> None:
    found = Keys(made(fixed=(FIXED,), default_tier="pro"), None, SECRET)
    caller = Caller(id="config:fixed", name="fixed", admin=True, tier=PRO, tier_name="pro")
    for headers in (bearing("a-key-of-the-file"), {"api-key": "a-key-of-the-file"}):
        assert await found.who(headers, HERE) == caller
    async with fault("missing_api_key"):
        await found.who({}, HERE)
    async with fault("invalid_api_key") as said:
        await found.who(bearing("a-key-of-nobody"), HERE)
    assert said.message == "Incorrect API key provided: a-key***dy."


async def test_a_caller_has_its_tier_and_its_own_limits(store: KeyStore) -> None:
    id, text = await new(
        store, tier="pro", models=["demo/*", "dall-e-3"], overrides={"images_per_minute": None, "max_size": "64x32"},
        metadata={"team": "a"}, admin=True,
    )  # fmt: skip
    caller = await Keys(made(), store, SECRET).who(bearing(text), HERE)
    assert caller == Caller(
        id=id, name="app", admin=True, models=("demo/*", "dall-e-3"), tier_name="pro", metadata={"team": "a"},
        tier=Tier(max_n=4, max_size=(64, 32), models=("demo/*", "bfl/*")),
    )  # fmt: skip
    assert may(caller, "demo/painter")
    for model, whose in (("bfl/flux-2-pro", "The key 'app'"), ("dall-e-3", "The tier 'pro' of the key 'app'")):
        async with fault("model_not_allowed") as said:
            check_model(caller, model)
        assert said.message == f"{whose} may not use the model '{model}'."
    _, text = await new(store, "plain")
    assert (await Keys(made(), store, SECRET).who(bearing(text), HERE)).tier == Tier()
    assert (await Keys(made(default_tier="pro"), store, SECRET).who(bearing(text), HERE)).tier == PRO


async def test_another_configuration_has_other_tiers(store: KeyStore, caplog: pytest.LogCaptureFixture) -> None:
    id, text = await new(store, tier="pro")
    changed = Keys(made(tiers={"pro": Tier(max_n=1)}), store, SECRET)
    assert (await changed.who(bearing(text), HERE)).tier == Tier(max_n=1)
    gone = Keys(made(tiers={}), store, SECRET)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            async with fault("tier_unknown") as said:
                await gone.who(bearing(text), HERE)
    assert said.kind == "permission"
    assert len([line for line in caplog.records if line.message == "a key is refused"]) == 1
    await store.set(id, {"tier": None})
    gone.forget(id)
    assert (await gone.who(bearing(text), HERE)).tier_name is None


async def test_limits_of_another_version(store: KeyStore) -> None:
    id, text = await new(store)
    await store.set(id, {"overrides": {"pictures_per_year": 3}})
    async with fault("tier_unknown"):
        await Keys(made(), store, SECRET).who(bearing(text), HERE)


async def test_a_key_is_looked_up_once(store: KeyStore, database: Database) -> None:
    id, text = await new(store)
    found = Keys(made(), store, SECRET)
    with looked_up(database) as seen:
        callers = await asyncio.gather(*(found.who(bearing(text), HERE) for _ in range(100)))
        assert {caller.id for caller in callers} == {id}
        assert len(seen) == 1
        assert (await found.who({"api-key": text}, HERE)).id == id
        assert len(seen) == 1
        for _ in range(30):
            async with fault("invalid_api_key"):
                await found.who(bearing("sk-wrong"), HERE)
        assert len(seen) == 2


async def test_a_client_that_leaves_takes_no_look_up_along(store: KeyStore) -> None:
    id, text = await new(store)
    found = Keys(made(), store, SECRET)
    first, second = (asyncio.create_task(found.who(bearing(text), HERE)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).id == id


async def test_a_revoked_key(store: KeyStore) -> None:
    id, text = await new(store)
    here, there, slow = (Keys(made(seconds=seconds), store, SECRET) for seconds in (60.0, 0.2, 60.0))
    for each in (here, there, slow):
        assert (await each.who(bearing(text), HERE)).id == id
    await store.revoke(id)
    here.forget(id)
    async with fault("invalid_api_key"):  # in this process at once
        await here.who(bearing(text), HERE)
    assert (await until_refused(there, text)).code == "invalid_api_key"  # in others within one lifetime
    assert (await slow.who(bearing(text), HERE)).id == id


async def test_a_look_up_that_began_before_the_revocation(store: KeyStore, database: Database) -> None:
    """What it read is told to those who asked then, and not remembered."""
    id, text = await new(store)
    found = Keys(made(), store, SECRET)
    read, go_on = threading.Event(), threading.Event()

    def hold(_c: Any, _d: Any, statement: str, *_: Any) -> None:
        if "previous_digest = " in statement and statement.startswith("SELECT"):
            read.set()
            go_on.wait(10)

    sa.event.listen(database._reading, "after_cursor_execute", hold)
    early = asyncio.create_task(found.who(bearing(text), HERE))
    await asyncio.to_thread(read.wait, 10)
    await store.revoke(id)
    found.forget(id)
    go_on.set()
    assert (await early).id == id
    async with fault("invalid_api_key"):
        await found.who(bearing(text), HERE)


async def test_a_key_that_expires_while_it_is_remembered(store: KeyStore) -> None:
    row, text = await store.create({"name": "brief", "expires": milliseconds() + 300})
    found = Keys(made(), store, SECRET)
    assert (await found.who(bearing(text), HERE)).id == row.id
    assert (await until_refused(found, text)).code == "invalid_api_key"
    assert milliseconds() >= (row.expires or 0)


async def test_a_rotated_key(store: KeyStore) -> None:
    id, first = await new(store)
    _, second = await store.rotate(id, grace=60)
    found = Keys(made(), store, SECRET)
    for text in (first, second):
        assert (await found.who(bearing(text), HERE)).id == id
    row, third = await store.rotate("app")
    assert row.previous_digest is None
    found.forget(id)
    assert (await found.who(bearing(third), HERE)).id == id
    for text in (first, second):
        async with fault("invalid_api_key"):
            await found.who(bearing(text), HERE)
    _, fourth = await store.rotate(id, grace=0.3)
    found.forget(id)
    assert (await found.who(bearing(third), HERE)).id == id
    assert (await until_refused(found, third)).code == "invalid_api_key"
    assert (await found.who(bearing(fourth), HERE)).id == id


# ---- wrong keys


async def test_wrong_keys_are_slowed_by_address(store: KeyStore, database: Database) -> None:
    _, good = await new(store)
    _, unseen = await new(store, "unseen")
    found = Keys(made(), store, SECRET)
    await found.who(bearing(good), HERE)
    for index in range(20):
        async with fault("invalid_api_key"):
            await found.who(bearing(f"sk-guess-{index}"), HERE)
    with looked_up(database) as seen:
        async with fault("rate_limit_exceeded") as said:
            await found.who(bearing("sk-guess-20"), HERE)
        assert said.kind == "rate"
        assert 0 < (said.retry_after or 0) <= 3
        async with fault("rate_limit_exceeded"):
            await found.who(bearing(unseen), HERE)
        assert not seen
    assert (await found.who(bearing(good), HERE)).name == "app"
    assert (await found.who(bearing(unseen), "192.0.2.2")).name == "unseen"
    async with fault("missing_api_key"):
        await found.who({}, HERE)


async def test_many_guesses_at_once(store: KeyStore) -> None:
    found = Keys(made(), store, SECRET)
    guesses = (found.who(bearing(f"sk-guess-{index}"), HERE) for index in range(50))
    codes = [each.code for each in await asyncio.gather(*guesses, return_exceptions=True) if isinstance(each, Fault)]
    assert (codes.count("invalid_api_key"), codes.count("rate_limit_exceeded")) == (20, 30)


async def test_good_keys_and_one_wrong_one_cost_no_tries(store: KeyStore) -> None:
    found = Keys(made(), store, SECRET)
    texts = [(await new(store, f"app {index}"))[1] for index in range(30)]
    for text in texts:
        await found.who(bearing(text), HERE)
    for _ in range(50):
        async with fault("invalid_api_key"):
            await found.who(bearing("sk-mistyped"), HERE)


def test_a_network_is_one_client() -> None:
    same = keys.network_of("2001:db8:1:2::1")
    assert keys.network_of("2001:db8:1:2:ffff::9") == keys.network_of("2001:db8:1:2::5%eth0") == same
    assert keys.network_of("2001:db8:1:3::1") != same
    assert keys.network_of("::ffff:192.0.2.1") == keys.network_of("192.0.2.1") != keys.network_of("192.0.2.2")
    assert keys.network_of("") == ""


# ---- where nobody needs one


async def test_auto_is_open_until_there_is_a_key(store: KeyStore) -> None:
    found = Keys(made("auto", seconds=0, default_tier="pro"), store, SECRET)
    anyone = Caller(id="anyone", name="anyone", tier=PRO, tier_name="pro")
    assert await found.who({}, HERE) == await found.who(bearing("anything"), HERE) == anyone
    id, text = await new(store)
    async with fault("missing_api_key"):
        await found.who({}, HERE)
    async with fault("invalid_api_key"):
        await found.who(bearing("anything"), HERE)
    assert (await found.who(bearing(text), HERE)).id == id
    await store.revoke(id)
    for each in (found, Keys(made("auto"), store, SECRET)):  # that the last one is gone opens nothing
        async with fault("missing_api_key"):
            await each.who({}, HERE)


async def test_auto_asks_once_in_a_lifetime(store: KeyStore, database: Database) -> None:
    found = Keys(made("auto"), store, SECRET)
    with looked_up(database) as seen:
        for _ in range(50):
            await found.who(bearing("anything"), HERE)
    assert len(seen) == 2  # whether there is any key, and whether this is one


async def test_the_first_key_is_known_at_once(store: KeyStore) -> None:
    """Nobody who was let in without a key before shares its limits and its history."""
    found = Keys(made("auto"), store, SECRET)
    assert (await found.who({}, HERE)).id == "anyone"
    id, text = await new(store)
    assert (await found.who(bearing(text), HERE)).id == id
    async with fault("missing_api_key"):
        await found.who({}, HERE)


async def test_open_knows_the_keys_that_there_are(store: KeyStore) -> None:
    id, text = await new(store, tier="pro")
    found = Keys(made("open"), store, SECRET)
    assert (await found.who(bearing(text), HERE)).id == id
    for index in range(50):
        assert (await found.who(bearing(f"anything {index % 30}"), HERE)).id == "anyone"
    assert (await found.who({}, HERE)).id == "anyone"


@pytest.mark.parametrize("mode", ["auto", "open"])
async def test_pages_of_other_sites(mode: str) -> None:
    found = Keys(made(mode, server=config.Server(public_url="https://pictor.example")), None, SECRET)
    for origin in ("http://localhost:3000", "http://127.0.0.1", "https://pictor.example"):
        assert (await found.who({"origin": origin}, HERE)).id == "anyone"
    for origin in ("https://evil.example", "null", "http://[", "https://pictor.example.evil.example"):
        async with fault("foreign_origin"):
            await found.who({"origin": origin}, HERE)


# ---- while the database is away


@pytest.fixture
def remote(postgres_server: PostgresServer) -> Iterator[Database]:
    database = Database(postgres_server.url)
    database.now(tables.metadata.create_all)
    yield database
    database.close()


async def test_an_outage(remote: Database, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "AGAIN", 0.05)
    store = KeyStore(remote, SECRET)
    id, text = await new(store)
    _, unseen = await new(store, "unseen")
    brief, brief_text = await store.create({"name": "brief", "expires": milliseconds() + 3000})
    warm, cold = Keys(made(), store, SECRET), Keys(made(fixed=(FIXED,), seconds=0), store, SECRET)
    for each in (warm, cold):
        assert (await each.who(bearing(text), HERE)).id == id
        assert (await each.who(bearing(brief_text), HERE)).id == brief.id
    undecided = Keys(made("auto", seconds=0), store, SECRET)
    postgres_server.stop()

    for each in (warm, cold):  # also beyond its time
        assert (await each.who(bearing(text), HERE)).id == id
    assert (await cold.who(bearing("a-key-of-the-file"), HERE)).id == "config:fixed"
    for wrong in [unseen] * 30 + [f"sk-guess-{index}" for index in range(30)]:  # nobody is to blame
        async with fault("database_unavailable") as said:
            await cold.who(bearing(wrong), HERE)
    assert said.retry_after
    async with fault("database_unavailable"):  # that nobody can tell opens nothing
        await undecided.who({}, HERE)
    assert (await Keys(made("open"), store, SECRET).who(bearing(unseen), HERE)).id == "anyone"
    assert (await until_refused(cold, brief_text)).code == "database_unavailable"
    assert milliseconds() >= (brief.expires or 0)

    postgres_server.start()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            assert (await cold.who(bearing(unseen), HERE)).name == "unseen"
            break
        except Fault as away:
            assert away.code == "database_unavailable"
            await asyncio.sleep(0.05)
    await store.revoke(id)
    assert (await until_refused(cold, text)).code == "invalid_api_key"


async def test_an_outage_that_lasts(
    remote: Database, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "STALE", 0.5)
    store = KeyStore(remote, SECRET)
    _, text = await new(store)
    found = Keys(made(seconds=0), store, SECRET)
    await found.who(bearing(text), HERE)
    postgres_server.stop()
    await found.who(bearing(text), HERE)
    assert (await until_refused(found, text)).code == "database_unavailable"


async def test_a_database_that_hangs(remote: Database, postgres_server: PostgresServer) -> None:
    """Who was good before waits a second for it, and no more for a while."""
    store = KeyStore(remote, SECRET)
    _, text = await new(store)
    found = Keys(made(seconds=0), store, SECRET)
    await found.who(bearing(text), HERE)
    postgres_server.pause()
    try:
        callers = await asyncio.gather(*(found.who(bearing(text), HERE) for _ in range(20)))
        assert {caller.name for caller in callers} == {"app"}
        assert (await found.who(bearing(text), HERE)).name == "app"
    finally:
        postgres_server.resume()
