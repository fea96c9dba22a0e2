"""The command `pictor`. Heavy modules are imported where they are first needed: `--help` needs none."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from proxy import __version__
from proxy.terminal import complain, file_of, refused, table

if TYPE_CHECKING:
    from proxy.catalog import Catalog
    from proxy.config import Config
    from proxy.providers import Login


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = parser().parse_args(argv)
    try:
        status: int = options.run(options)
    except BrokenPipeError:  # `pictor models | head`; what is still buffered must not be flushed into it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    top = argparse.ArgumentParser(prog="pictor", description="Every image model behind OpenAI's own API.")
    top.add_argument("--version", action="version", version=f"pictor {__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=os.environ.get("PICTOR_CONFIG") or None,
        help="the configuration; default: $PICTOR_CONFIG, else config.yaml here, else the environment alone",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", parents=[shared], help="run the server")
    serve.add_argument("--host", help="the address to listen on")
    serve.add_argument("--port", type=int, help="the port to listen on")
    serve.add_argument("--workers", type=int, help="the number of processes")
    serve.set_defaults(run=run_serve)

    check = commands.add_parser("check", parents=[shared], help="check the configuration")
    check.set_defaults(run=run_check)

    models = commands.add_parser("models", parents=[shared], help="list the models that would be served")
    models.add_argument("--json", action="store_true", help="as GET /v1/models gives them")
    models.add_argument("--all", action="store_true", help="also aliases of which no provider is configured")
    models.set_defaults(run=run_models)

    migrate = commands.add_parser("migrate", parents=[shared], help="bring the database up to date")
    migrate.set_defaults(run=run_records, command="migrate")

    keys = commands.add_parser("keys", help="make, list, change and revoke keys")
    keys_parser(keys.add_subparsers(required=True, metavar="ACTION"), shared)

    tasks = commands.add_parser("tasks", help="list, show and cancel tasks, and go on with those that failed")
    tasks_parser(tasks.add_subparsers(required=True, metavar="ACTION"), shared)

    webhooks = commands.add_parser("webhooks", help="list what clients were told, and tell it again")
    webhooks_parser(webhooks.add_subparsers(required=True, metavar="ACTION"), shared)
    return top


def keys_parser(actions: Any, shared: argparse.ArgumentParser) -> None:
    """What may be said behind `pictor keys`."""
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("key", metavar="KEY", help="its name or id")
    grace = argparse.ArgumentParser(add_help=False)
    grace.add_argument("--grace", type=seconds, default=0.0, metavar="TIME", help="how long the old one is still good")
    turn = argparse.ArgumentParser(add_help=False)
    turn.add_argument("--rotate", action="store_true", help="make another first; the old one signs too for a day")
    for action, parents, text in (
        ("create", [settings_parser(named=True)], "make a key and print it, this once"),
        ("list", [], "list all keys, the newest first"),
        ("show", [which], "show a key"),
        ("set", [which, settings_parser(named=False)], "change a key; an empty value takes one away"),
        ("rotate", [which, grace], "give a key another text and print it, this once"),
        ("webhook", [which, turn], "print the secrets that sign what is told of a key's tasks, the newest first"),
        ("revoke", [which], "let a key open nothing any more"),
    ):
        one = actions.add_parser(action, parents=[shared, *parents], help=text, description=f"{text.capitalize()}.")
        one.add_argument("--json", action="store_true", help="as /v1/admin/keys gives it")
        one.set_defaults(run=run_records, command="keys", action=action)


def tasks_parser(actions: Any, shared: argparse.ArgumentParser) -> None:
    """What may be said behind `pictor tasks`."""
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("task", metavar="TASK", help="its id: task_…")
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument(
        "--status", choices=("queued", "in_progress", "completed", "failed", "cancelled"), help="where they are"
    )
    some.add_argument("--model", metavar="MODEL", help="as it was asked for, or as it answered")
    some.add_argument("--key", metavar="ID", help="of this key alone")
    some.add_argument("--limit", type=count, default=100, metavar="N", help="how many at most; default: 100")
    for action, parent, text in (
        ("list", some, "list the tasks of all keys, the newest first"),
        ("show", which, "show a task"),
        ("cancel", which, "end a task that is under way"),
        ("resume", which, "go on with a task that failed, where its provider can still be asked for it"),
    ):
        one = actions.add_parser(action, parents=[shared, parent], help=text, description=f"{text.capitalize()}.")
        one.add_argument("--json", action="store_true", help="as GET /v1/admin/tasks gives it, without links")
        one.set_defaults(run=run_records, command="tasks", action=action)


def count(text: str) -> int:
    """A number from 1."""
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 8 and int(text)):
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


def webhooks_parser(actions: Any, shared: argparse.ArgumentParser) -> None:
    """What may be said behind `pictor webhooks`."""
    text = "list what clients were told of their tasks' ends, the newest first"
    one = actions.add_parser("list", parents=[shared], help=text, description=f"{text.capitalize()}.")
    one.add_argument("--task", metavar="ID", help="of this task alone")
    one.add_argument("--failed", action="store_true", help="what was given up alone")
    one.add_argument("--limit", type=int, default=100, metavar="N", help="how many at most; default: 100")
    one.add_argument("--json", action="store_true", help="every member, as JSON")
    one.set_defaults(run=run_records, command="webhooks", action="list")
    text = "tell it again, at once and with all tries"
    two = actions.add_parser("deliver", parents=[shared], help=text, description=f"{text.capitalize()}.")
    two.add_argument("id", metavar="ID", help="as `pictor webhooks list` shows it: evt_…")
    two.set_defaults(run=run_records, command="webhooks", action="deliver")


def settings_parser(*, named: bool) -> argparse.ArgumentParser:
    """What may be said of one key."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--name", required=named, help="what it is called: an app, a person")
    made.add_argument("--email", help="who answers for it")
    made.add_argument("--tier", help="a tier of the configuration")
    made.add_argument("--expires", type=moment, metavar="TIME", help="90d, 2027-01-31 or never")
    made.add_argument("--models", metavar="A,B", help="patterns of the models that it may ask for")
    made.add_argument(
        "--limit", type=pair, action="append", metavar="NAME=VALUE",
        help="a limit of its own instead of its tier's: images_per_minute=30; none: no bound",
    )  # fmt: skip
    made.add_argument("--webhook", metavar="URL", help="where the ends of its tasks are told")
    made.add_argument("--metadata", type=pair, action="append", metavar="NAME=VALUE", help="a note of your own")
    made.add_argument("--admin", action=argparse.BooleanOptionalAction, help="may read /metrics and use /v1/admin")
    return made


def pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE`."""
    name, between, value = text.partition("=")
    if not (name and between):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def duration(text: str) -> float | None:
    """Seconds: of `30s`, `1h`; `None` where it is no time."""
    from proxy import plain

    return plain.quantity(get_args(plain.Seconds)[1], text)


def seconds(text: str) -> float:
    """`30s`, `1h`."""
    found = duration(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 30s or 1h, got {text!r}")
    return found


def moment(text: str) -> int:
    """So much time from now, or a date, in UTC where it names no zone: in seconds since 1970. 0: never."""
    if text in {"", "never"}:
        return 0
    if (ahead := duration(text)) is not None:
        return math.ceil(time.time() + ahead)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected 90d, 2027-01-31 or never, got {text!r}") from None
    return math.ceil((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def run_records(options: argparse.Namespace) -> int:
    """`pictor keys`, `pictor tasks`, `pictor webhooks` and `pictor migrate`."""
    from proxy import commands

    return commands.run(options)


def run_serve(options: argparse.Namespace) -> int:
    """`pictor serve`."""
    given = {name: value for name in ("host", "port", "workers") if (value := getattr(options, name)) is not None}
    path = file_of(options)
    overrides = {"server": given} if given else {}
    config, _, flaws = checked(path, overrides)
    if flaws:
        return refused(path, flaws)
    from proxy.config import ConfigError
    from proxy.serve import run

    try:
        return run(config, path, {"server": given} if given else {})
    except ConfigError as error:  # a store that cannot be opened with its options
        return refused(path, error.flaws)
    except OSError as error:  # the port is taken, the data directory cannot be written …
        return complain(str(error))


def run_check(options: argparse.Namespace) -> int:
    """`pictor check`."""
    path = file_of(options)
    config, catalog, flaws = checked(path, {})
    print(f"configuration  {path or 'the environment alone'}")
    print(f"address        http://{config.server.host}:{config.server.port}, {access(config)}")
    print("\nproviders")
    table(
        (name, f"not configured: {given.off}" if given.off else credentials(given.logins))
        for name, given in config.providers.items()
    )
    if catalog and catalog.aliases:
        print("\naliases")
        table(
            (name, " -> ".join(target.id for target in route.targets) or "nowhere: none of its providers is configured")
            for name, route in catalog.aliases.items()
        )
    return refused(path, flaws) if flaws else 0


def run_models(options: argparse.Namespace) -> int:
    """`pictor models`."""
    path = file_of(options)
    _, catalog, flaws = checked(path, {})
    if flaws or catalog is None:
        return refused(path, flaws)
    from proxy.listing import listing

    listed = listing(catalog, options.all)
    if options.json:
        print(json.dumps({"object": "list", "data": listed}, indent=2, ensure_ascii=False))
        return 0
    table([("MODEL", "DOES", "SIZE", "PRICE", "ENDS"), *(row(model) for model in listed)], indent="")
    return 0


def checked(path: Path | None, overrides: Mapping[str, Any]) -> tuple[Config, Catalog | None, list[str]]:
    """What can be read of the configuration, and all that is wrong in it."""
    from proxy import catalog, config
    from proxy.flaws import flaws as wrong_models

    read, flaws = config.read(path, overrides=overrides)
    flaws += wrong_models(read)
    return read, None if flaws else catalog.build(read), flaws


def access(config: Config) -> str:
    """Who may call."""
    made = ", and those made with `pictor keys create`"
    match config.auth.mode:
        case "open":
            return "open to everybody who can reach it"
        case "auto":
            return "open to everybody who can reach it, until a key is made"
        case _:
            return plural(len(config.auth.keys), "key") + made


def credentials(logins: Sequence[Login]) -> str:
    """How many there are, nothing of what they are."""
    needed = any(login.grant or login.secret.key or login.secret.extra for login in logins)
    return plural(len(logins), "credential") if needed else "configured, needs no credential"


def plural(count: int, noun: str) -> str:
    """`1 key`, `2 keys`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def row(model: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    if not model["enabled"]:
        return model["id"], "-", "-", "-", ""
    can = model["capabilities"]
    does = f"video: {', '.join(can['tasks'])}" if model["type"] == "video" else ", ".join(can["ops"])
    return model["id"], does, sizes(model), price(model["price"]), model["shutdown_date"] or ""


def sizes(model: Mapping[str, Any]) -> str:
    """How its size is asked for, in a few words."""
    if model["free_size"]:
        return "any"
    if len(model["sizes"]) > 3:
        return plural(len(model["sizes"]), "size")
    named = " ".join(model["sizes"] or model["resolutions"])
    return named or (plural(len(model["ratios"]), "ratio") if model["ratios"] else "the model's own")


SPOKEN = ("image", "megapixel", "token.image.out", "second", "video", "character")


def price(rules: Sequence[Mapping[str, Any]]) -> str:
    """The rule for what is made, as the others only add to it or vary it."""
    if not rules:
        return "unknown"
    first = min(rules, key=lambda rule: SPOKEN.index(rule["unit"]) if rule["unit"] in SPOKEN else len(SPOKEN))
    per = f"{first['per']:,} " if first["per"] > 1 else ""
    return f"{first['amount']:g} {first['currency']} / {per}{first['unit']}{' …' if len(rules) > 1 else ''}"
