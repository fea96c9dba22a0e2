"""The commands that work on webhooks: `pictor keys webhook` and `pictor webhooks`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from proxy import webhook_secrets
from proxy.config import Config
from proxy.state import deliveries
from proxy.state.database import Database, milliseconds
from proxy.state.deliveries import Delivery
from proxy.state.keys import KeyStore
from proxy.terminal import table
from translators.base import Fault


async def secrets(store: KeyStore, config: Config, options: argparse.Namespace, secret: bytes) -> None:
    """`pictor keys webhook`: the secrets alone go to standard output, the newest first."""
    own = next((key for key in config.auth.keys if key.name == options.key), None)
    if own is not None:
        if options.rotate:
            text = f"The key '{own.name}' is fixed in the configuration: give it others there, as webhook.secrets."
            raise Fault("invalid", text, code="key_fixed")
        name, url, id, version, rotated = own.name, own.webhook.url, f"config:{own.name}", None, None
    else:
        key = await (store.rotate_webhook if options.rotate else store.get)(options.key)
        name, url, id, version, rotated = key.name, key.webhook_url, key.id, key.webhook_version, key.webhook_rotated
    found = webhook_secrets.of(config, secret, id, version, rotated, milliseconds())
    if options.json:
        print(json.dumps({"object": "webhook", "url": url, "secrets": found}, indent=2, ensure_ascii=False))
        return
    print(*found, sep="\n", flush=True)
    both = " The second signs too until a day after its rotation." if len(found) == 2 and own is None else ""
    print(f"pictor: the ends of tasks of '{name}' are told to {url or 'what a request names'}.{both}", file=sys.stderr)


async def show(database: Database, options: argparse.Namespace) -> None:
    """`pictor webhooks list`."""
    rows = await deliveries.page(
        database, options.limit, task=options.task, status="failed" if options.failed else None
    )
    if options.json:
        print(json.dumps([msgspec.to_builtins(row) for row in rows], indent=2, ensure_ascii=False))
        return
    head = ("ID", "TASK", "TYPE", "TO", "STATE", "TRIES", "NEXT", "LAST")
    table([head, *map(line, rows)], indent="")


async def deliver(database: Database, options: argparse.Namespace) -> None:
    """`pictor webhooks deliver`: a server tells it within a few seconds."""
    row = await deliveries.again(database, options.id)
    print(f"pictor: {row.id} is due again", file=sys.stderr)


WEBHOOKS: Mapping[str, Callable[[Database, argparse.Namespace], Coroutine[Any, Any, None]]] = {
    "list": show, "deliver": deliver,
}  # fmt: skip


def line(row: Delivery) -> tuple[str, ...]:
    """One line of the table. The address is cut before what may be a secret of its owner's."""
    parts = urlsplit(row.url)
    due = f"{datetime.fromtimestamp(row.due / 1000, UTC):%Y-%m-%d %H:%M:%S UTC}" if row.status == "pending" else "-"
    to = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return row.id, row.task, row.type, to, row.status, str(row.tries), due, row.last or "-"
