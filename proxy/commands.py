"""The commands that work on the records: `pictor keys`, `tasks`, `webhooks` and `migrate`. Also while servers run."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from proxy import task_commands, webhook_commands
from proxy.config import Config, read
from proxy.plain import Filled
from proxy.state.database import Database, default_url
from proxy.state.files import secret
from proxy.state.keys import Key, KeyStore, change, told
from proxy.state.migrate import NewerDatabase, migrate
from proxy.terminal import complain, file_of, refused, table
from translators.base import Fault

PAGE = 100


def run(options: argparse.Namespace) -> int:
    """One command; the exit status."""
    path = file_of(options)
    config, flaws = read(path)
    if flaws:
        return refused(path, flaws)
    data = Path(config.data)
    try:
        database = Database(config.database.key if config.database else default_url(data))
        try:
            migrate(database)
            if options.command == "keys":
                key = config.secret.key.encode() if config.secret else secret(data)
                store = KeyStore(database, key)
                if options.action == "webhook":
                    asyncio.run(webhook_commands.secrets(store, config, options, key))
                else:
                    asyncio.run(KEYS[options.action](store, config, options))
            elif options.command == "tasks":
                asyncio.run(task_commands.TASKS[options.action](database, options))
            elif options.command == "webhooks":
                asyncio.run(webhook_commands.WEBHOOKS[options.action](database, options))
        finally:
            database.close()
    except (Fault, NewerDatabase, OSError) as error:
        return complain(str(error))
    if options.command == "migrate":
        print("The database is up to date.")
    return 0


async def create(store: KeyStore, config: Config, options: argparse.Namespace) -> None:
    """`pictor keys create`: the text of the key alone goes to standard output."""
    opens = config.auth.mode == "auto" and not await store.any()
    given = said(options) | {
        "overrides": merged({}, limits(options.limit or ())), "metadata": merged({}, options.metadata or ()),
    }  # fmt: skip
    made, text = await store.create(change(given, config))
    printed(made, options, text)
    if opens:
        print("pictor: from now on nobody is served without a key, as auth.mode is auto", file=sys.stderr)


async def show(store: KeyStore, _: Config, options: argparse.Namespace) -> None:
    """`pictor keys show`."""
    printed(await store.get(options.key), options)


async def alter(store: KeyStore, config: Config, options: argparse.Namespace) -> None:
    """`pictor keys set`."""
    key = await store.get(options.key)
    given = said(options)
    if options.limit:
        given["overrides"] = merged(key.overrides, limits(options.limit))
    if options.metadata:
        given["metadata"] = merged(key.metadata, options.metadata)
    printed(await store.set(key.id, change(given, config)), options)


async def rotate(store: KeyStore, _: Config, options: argparse.Namespace) -> None:
    """`pictor keys rotate`: the new text alone goes to standard output."""
    made, text = await store.rotate(options.key, options.grace)
    printed(made, options, text)


async def revoke(store: KeyStore, _: Config, options: argparse.Namespace) -> None:
    """`pictor keys revoke`."""
    printed(await store.revoke(options.key), options)


async def show_all(store: KeyStore, _: Config, options: argparse.Namespace) -> None:
    """`pictor keys list`."""
    keys: list[Key] = []
    more = True
    while more:
        page, more = await store.page(PAGE, keys[-1].id if keys else None)
        keys += page
    if options.json:
        print(json.dumps({"object": "list", "data": [told(key) for key in keys]}, indent=2, ensure_ascii=False))
        return
    table([("ID", "NAME", "KEY", "TIER", "ADMIN", "STATE", "EXPIRES"), *(row(key) for key in keys)], indent="")


KEYS: Mapping[str, Callable[[KeyStore, Config, argparse.Namespace], Coroutine[Any, Any, None]]] = {
    "create": create, "list": show_all, "show": show, "set": alter, "rotate": rotate, "revoke": revoke,
}  # fmt: skip


def said(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of a key, as `change` takes it. Empty text is "none"."""
    given = {name: value for name in ("name", "admin") if (value := getattr(options, name)) is not None}
    given |= {name: value or None for name in ("email", "tier") if (value := getattr(options, name)) is not None}
    if options.models is not None:
        given["models"] = listed(options.models) or None
    if options.webhook is not None:
        given["webhook_url"] = options.webhook or None
    if options.expires is not None:
        given["expires_at"] = options.expires or None
    return given


def merged(old: Mapping[str, Any], pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """`old` with the pairs; one with an empty value takes its name out."""
    new = {**old, **dict(pairs)}
    return {name: value for name, value in new.items() if value != ""}


def limits(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """Members of a tier, as the configuration has them: the texts `30`, `1024x1024`, `demo/*,bfl/*` and `none`."""
    for name, text in pairs:
        if text == "none":
            yield name, None
        else:
            yield name, listed(text) if text and name == "models" else Filled(text, text)


def listed(text: str) -> list[str]:
    """`a,b`."""
    return [part.strip() for part in text.split(",") if part.strip()]


def printed(key: Key, options: argparse.Namespace, text: str | None = None) -> None:
    """The key for a person or a program; of a new text, that alone, so that it can be caught in a variable."""
    if options.json:
        shown = told(key) | ({"key": text} if text else {})
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    elif text:
        print(text, flush=True)
        print(f"pictor: the key '{key.name}' ({key.id}); it is not shown again", file=sys.stderr)
    else:
        table(((name, spelled(name, value)) for name, value in told(key).items() if name != "object"), indent="")


def spelled(name: str, value: Any) -> str:
    """A member of a key on a line."""
    if value is None or value in ((), {}):
        return "-"
    if name.endswith(("_at", "_until")):
        return date(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def date(at: float) -> str:
    """A time in seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def row(key: Key) -> tuple[str, ...]:
    """One line of the table."""
    state = "revoked" if key.revoked else "expired" if key.expires and key.expires / 1000 <= time() else "good"
    expires = date(key.expires / 1000) if key.expires else "-"
    return key.id, key.name, f"{key.prefix}…", key.tier or "-", "yes" if key.admin else "-", state, expires
