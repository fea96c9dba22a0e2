"""The configuration: one YAML document and the environment, as documented structs. Checked whole before it is taken."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from proxy import plain, providers, webhook_secrets
from proxy.plain import Bytes, Pixels, Seconds
from proxy.providers import Provider
from translators.base import FaultKind, Secret

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Dollars: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Hosting: TypeAlias = Literal["store", "passthrough"]


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Pictor listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8000  # 0: any free one
    public_url: str | None = None  # how clients reach it, for links in answers; None: as the request came
    workers: Count = 1  # processes
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For is believed
    keep_alive_seconds: Seconds | None = None  # after which an answer in JSON that is not there sends blanks ahead
    drain_seconds: Seconds = 60.0  # what running jobs are given to finish when the server is told to stop


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the keys of one tier may do; `None` is "no bound". Each key has these limits for itself."""

    models: tuple[str, ...] = ("*",)  # patterns of the names that may be asked for: demo/*, dall-e-?
    requests_per_minute: Count | None = None  # calls that make something
    images_per_minute: Count | None = None  # pictures that are asked for
    concurrent_jobs: Count | None = None  # calls that make something, at once
    max_n: Count | None = None  # pictures of one call
    max_size: tuple[Count, Count] | None = None  # width x height: no picture of more pixels
    budget_usd_per_day: Dollars | None = None  # UTC
    budget_usd_per_month: Dollars | None = None
    priority: Annotated[int, msgspec.Meta(ge=-100, le=100)] = 0  # higher goes first where tasks wait for a place


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the ends of one key's tasks are told."""

    url: str | None = None  # where a request names no address of its own
    secrets: tuple[Secret, ...] = ()  # the newest first; all of them sign. Empty: one of our own making


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One client, fixed in the configuration. Others are made with `pictor keys create`."""

    name: str  # for logs and history
    key: Secret
    admin: bool = False  # may read /metrics and use /v1/admin
    models: tuple[str, ...] = ("*",)  # patterns of the names that it may ask for: demo/*, dall-e-?
    tier: str | None = None  # None: `auth.default_tier`
    webhook: Webhook = Webhook()


class Auth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may call. After loading, `mode` is "auto" only where no key is fixed here."""

    mode: Literal["auto", "keys", "open"] = "auto"  # auto: open until there is a key, here or in the database
    keys: tuple[Key, ...] = ()
    default_tier: str | None = None  # of keys without one, and of everybody where it is open; None: no limits
    cache_seconds: Seconds = 30.0  # how long a revoked key may still work
    open_anywhere: bool = False  # the second word without which `open` is refused on a host that others can reach


class Metrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`/metrics` shows spend."""

    open: bool = False  # to everybody; else to an admin key, and to this machine itself


class Files(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Made and uploaded files."""

    retention: Seconds | None = 30 * 86_400.0  # None: for ever
    max_bytes: Bytes | None = None  # of all made files; beyond it the oldest go
    url_seconds: Seconds = 3600.0  # how long a link to a made file works, at least
    store: str | None = None  # s3://bucket/prefix, gs://…, az://…; None: the folder `files` in `data`
    options: Mapping[str, Secret] = {}  # of the store: endpoint, region, access_key_id, secret_access_key …
    presign: bool = False  # links to made files redirect to the store's own; s3, gs and az alone
    upload_bytes: Bytes = 512_000_000  # of one uploaded file
    reference_bytes: Bytes = 25_000_000  # of a file that is uploaded by its address
    hosting: Hosting = "store"  # passthrough: `url` answers may be the provider's own links, which die at its will


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered of each call."""

    enabled: bool = True  # false: no rows, no costs per key, nothing to ask again for
    prompts: bool = True  # they are kept with it
    outputs: bool = True  # the made files are kept too, so that a cut client can ask again
    retention: Seconds | None = 90 * 86_400.0  # of the rows; the files have their own. None: for ever


class Fetch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures that a client names by address."""

    allow: tuple[str, ...] = ()  # private hosts, or networks such as 10.0.0.0/8, that may be fetched from all the same
    max_bytes: Bytes = 50_000_000
    seconds: Seconds = 30.0


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one request may bring. A model's own limits hold beside these."""

    body_bytes: Bytes = 512_000_000
    image_bytes: Bytes = 50_000_000
    image_pixels: Pixels = 64_000_000  # width x height
    images: Count = 16


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How prices become US dollars."""

    usd_per_cny: Annotated[float, msgspec.Meta(ge=0)] | None = None  # None: what is priced in CNY has no known cost
    # what a key with a budget gets of a model whose price is not known, which no budget can bound
    unknown: Literal["refuse", "allow"] = "refuse"


class AliasTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place where an alias leads."""

    model: str  # provider/model
    weight: Annotated[float, msgspec.Meta(ge=0)] = 1.0  # its share of the first tries, where weights differ


class Cache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same request again gets the same pictures, without another call."""

    seconds: Seconds = 3600.0
    shared: bool = False  # also with other keys


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model name of the operator's own."""

    targets: tuple[AliasTarget, ...]
    fallback_on: frozenset[FaultKind] | None = None  # after which faults the next target is tried; None: the usual
    hosting: Hosting | None = None  # None: as in `files`
    cache: Cache | None = None  # None: each request is made


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    server: Server = Server()
    auth: Auth = Auth()
    metrics: Metrics = Metrics()
    data: str = "./data"  # the directory of the embedded database, of files, and of the secret
    database: Secret | None = None  # postgresql://…; None: SQLite in `data`
    redis: Secret | None = None  # redis://…: limits shared by all processes
    secret: Secret | None = None  # signs links and digests keys; None: made at first use and kept in `data`
    history: History = History()
    files: Files = Files()
    fetch: Fetch = Fetch()
    limits: Limits = Limits()
    prices: Prices = Prices()
    log: Log = Log()
    default_model: str | None = None  # for requests that name none
    default_video_model: str | None = None  # for videos; None: sora-2, where an alias of that name leads somewhere
    providers: Mapping[str, Provider] = {}  # every one that is known; `Provider.off` says which are not served
    models: Mapping[str, Alias] = {}  # aliases
    tiers: Mapping[str, Tier] = {}


class ConfigError(Exception):
    """The configuration cannot be taken. `flaws` are all reasons, each with its path."""

    def __init__(self, flaws: list[str]) -> None:
        super().__init__("\n".join(flaws))
        self.flaws = flaws


WITHOUT_FILE: Mapping[str, Any] = {
    "server": {"host": "${PICTOR_HOST:-}", "port": "${PICTOR_PORT:-}", "public_url": "${PICTOR_PUBLIC_URL:-}"},
    "auth": {"mode": "${PICTOR_AUTH:-}", "keys": [{"name": "default", "key": "${PICTOR_KEY:-}", "admin": True}]},
    "data": "${PICTOR_DATA:-}",
}
"""What holds without a file: the shipped `config.yaml` without its aliases and tiers."""


def load(
    path: Path | str | None, env: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Config:
    """The configuration. Raises `ConfigError` with all that is wrong in it."""
    config, flaws = read(path, env, overrides)
    if flaws:
        raise ConfigError(flaws)
    return config


def read(
    path: Path | str | None, env: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[Config, list[str]]:
    """What can be read, and all that is wrong. `overrides` are members that win over the file's: `{"server": {…}}`."""
    env = os.environ if env is None else env
    flaws: list[str] = []
    tree = plain.filled(document(path, flaws), env)
    if not isinstance(tree, dict):
        flaws.append(f"the file: expected a mapping, got {plain.shown(tree)}")
        tree = {}
    for name, given in (overrides or {}).items():
        kept = tree.get(name)
        if isinstance(kept, dict) and isinstance(given, dict):
            tree[name] = kept | given
        elif kept is None or not isinstance(given, dict):
            tree[name] = given  # else what the file has there is no mapping, which is told below
    written = {"providers": tree.pop("providers", None), "models": tree.pop("models", None)}
    plain.unknown(tree, plain.hints(Config), "", flaws)
    known = plain.members(Config, {name: tree[name] for name in tree if name in plain.hints(Config)}, "", flaws)
    known["auth"] = auth(known.get("auth", Auth()), known.get("server", Server()), known.get("tiers", {}), flaws)
    known["providers"] = providers.read(written["providers"], env, flaws)
    known["models"] = aliases(written["models"], flaws)
    config = Config(**{name: value for name, value in known.items() if value is not None})
    check_addresses(config, flaws)
    check_webhooks(config, flaws)
    check_tiers(config, flaws)
    check_state(config, flaws)
    return config, flaws


def document(path: Path | str | None, flaws: list[str]) -> Any:
    """The file as plain data; an empty one is a mapping without members."""
    if path is None:
        return dict(WITHOUT_FILE)
    try:
        return plain.parsed(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        flaws.append(f"the file: cannot be read: {error.strerror}")
    except (UnicodeDecodeError, plain.Unreadable) as error:
        flaws.append(f"the file: {'it is not UTF-8' if isinstance(error, UnicodeDecodeError) else error}")
    return {}


def auth(given: Auth, server: Server, tiers: Mapping[str, Tier], flaws: list[str]) -> Auth:
    """Who may call, with `mode` settled. A key that is empty, as `${NAME:-}` may leave it, is as good as not there."""
    keys = tuple(key for key in given.keys if key.key.key)
    for what, values in (("name", [key.name for key in keys]), ("key", [key.key.key for key in keys])):
        if len(set(values)) < len(values):
            flaws.append(f"auth.keys: two of them have the same {what}")
    named = [(f"auth.keys[{index}].tier", key.tier) for index, key in enumerate(given.keys)]
    for path, tier in (*named, ("auth.default_tier", given.default_tier)):
        if tier is not None and tier not in tiers:
            flaws.append(f"{path}: {no_tier(tier, tiers)}")
    mode = "keys" if given.mode == "auto" and keys else given.mode
    if any(flaw.startswith("auth.") for flaw in flaws):
        return given  # what is wrong there would only be said again in other words
    if mode != "keys" and not given.open_anywhere and not loopback(server.host):
        flaws.append(
            f"auth.mode: open on {server.host} would let anybody spend; set a key, or mode: keys where all of them are "
            "made with `pictor keys create`, or say it twice with auth.open_anywhere: true"
        )
    return msgspec.structs.replace(given, mode=mode, keys=keys)


def no_tier(name: str, tiers: Mapping[str, Tier]) -> str:
    """What is said of a tier that is not there."""
    return f"there is no tier {plain.shown(name)}; " + (f"known are {', '.join(tiers)}" if tiers else "there are none")


def loopback(host: str) -> bool:
    """Whether only this machine can reach a server there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def aliases(value: Any, flaws: list[str]) -> dict[str, Alias]:
    """Aliases; a list of targets is short for `{targets: [{model: …}, …]}`."""
    found: dict[str, Alias] = {}
    if not isinstance(value, Mapping):
        if value is not None:
            flaws.append(f"models: expected a mapping of aliases, got {plain.shown(value)}")
        return found
    for name, given in value.items():
        written = {"targets": given} if isinstance(given, list | str) else given
        if isinstance(written, dict) and isinstance(written.get("targets"), list | str):
            targets = [written["targets"]] if isinstance(written["targets"], str) else written["targets"]
            full = [{"model": target} if isinstance(target, str | plain.Unfilled) else target for target in targets]
            written = written | {"targets": full}
        before = len(flaws)
        if alias := plain.struct(Alias, written, f"models.{name}", flaws):
            found[str(name)] = alias
            if not alias.targets and len(flaws) == before:
                flaws.append(f"models.{name}: expected at least one provider/model")
    return found


def check_addresses(config: Config, flaws: list[str]) -> None:
    """Texts that must be addresses. They are not shown: what was meant for elsewhere may have got there."""
    if (url := config.server.public_url) and (why := providers.no_address(url)):
        flaws.append(f"server.public_url: {why}")
    for index, place in enumerate(config.server.trusted_proxies):
        if not is_network(place):
            flaws.append(f"server.trusted_proxies[{index}]: expected an address, or a network such as 10.0.0.0/8")
    for index, place in enumerate(config.fetch.allow):
        if not is_network(place) and urlsplit(f"//{place}").hostname != place.lower():
            flaws.append(f"fetch.allow[{index}]: expected a host, or a network such as 10.0.0.0/8")


def check_webhooks(config: Config, flaws: list[str]) -> None:
    """Addresses and secrets of keys. Nothing of either is shown."""
    for index, key in enumerate(config.auth.keys):
        path, url = f"auth.keys[{index}].webhook", key.webhook.url
        if url is not None and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", url):
            flaws.append(f"{path}.url: expected an address that begins with http:// or https://, without user name")
        for number, secret in enumerate(key.webhook.secrets):
            try:
                length = len(webhook_secrets.raw(secret.key))
            except ValueError as error:
                flaws.append(f"{path}.secrets[{number}]: {error}")
            else:
                if length < webhook_secrets.LEAST:
                    flaws.append(f"{path}.secrets[{number}]: expected at least {webhook_secrets.LEAST} bytes")


def check_tiers(config: Config, flaws: list[str]) -> None:
    """Tiers that could not hold what they say."""
    for name, tier in config.tiers.items():
        if tier is not None:  # else its variable is not set, which is told already
            flaws += tier_flaws(tier, f"tiers.{name}", config.history)


def tier_flaws(tier: Tier, path: str, history: History) -> Iterator[str]:
    """What contradicts itself in a tier, or in what one key has of its own."""
    if not tier.models:
        yield f"{plain.at(path, 'models')}: expected at least one pattern; leave it out to allow all models"
    for name in ("budget_usd_per_day", "budget_usd_per_month"):
        if getattr(tier, name) is not None and not history.enabled:
            yield f"{plain.at(path, name)}: without history nothing is counted; set history.enabled: true"


SCHEMES: Mapping[str, tuple[str, ...]] = {
    "database": ("postgresql://", "sqlite:///"),
    "redis": ("redis://", "rediss://", "unix://"),
    "files.store": ("s3://", "gs://", "az://"),
}
SIGNING = ("s3://", "gs://", "az://")  # stores that can be asked for a link of their own
SECRET = 16  # characters, at least


def check_state(config: Config, flaws: list[str]) -> None:
    """Where records and files are kept. None of these addresses is shown: most of them hold a password."""
    database, redis = (given.key if given else None for given in (config.database, config.redis))
    for path, url in (("database", database), ("redis", redis), ("files.store", config.files.store)):
        if url is None or any(flaw.startswith(f"{path}:") for flaw in flaws):
            continue
        *others, last = SCHEMES[path]
        if not (url.startswith(SCHEMES[path]) and url.partition("://")[2].strip("/")):
            flaws.append(f"{path}: expected an address that begins with {', '.join(others)} or {last}")
    if config.secret is not None and len(config.secret.key) < SECRET:
        flaws.append(f"secret: expected at least {SECRET} characters")
    elif config.secret is None and database and database.startswith("postgresql://"):
        flaws.append("secret: required beside a postgresql:// database, whose machines must all have the same")
    if config.files.presign and not (config.files.store or "").startswith(SIGNING):
        flaws.append("files.presign: needs a store of s3://, gs:// or az://")
    for name, alias in config.models.items():
        if alias.cache and not config.history.enabled:
            flaws.append(f"models.{name}.cache: without history nothing is kept to be answered again")


def is_network(text: str) -> bool:
    """Whether it is an address, or a network in CIDR notation."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
