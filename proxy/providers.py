"""The `providers:` of the configuration: who is configured, with which credentials, and who is not and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from typing_extensions import TypeVar

import translators
from proxy import plain
from proxy.plain import Seconds
from translators import base
from translators.base import Caps, Price, Secret, Translator
from translators.video import VideoCaps

Makes: TypeAlias = Literal["image", "video"]
AnyCaps: TypeAlias = Caps | VideoCaps
C_co = TypeVar("C_co", bound=AnyCaps, covariant=True, default=Caps)
"""What a model can do. Where nothing is said, it makes pictures."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait for a provider."""

    connect: Seconds = 10.0
    first_byte: Seconds = 300.0  # from the end of the request to the first byte of the answer
    job: Seconds = 600.0  # all of a job: its calls, its polls and the download
    video: Seconds = 1800.0  # the same, where a video is made
    poll: Seconds = 60.0  # between two looks for what a provider makes: at most, where its own documents ask for longer


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the configuration says of one model. Every field of its `Caps` and the settings may stand beside these."""

    type: Makes = "image"  # not said in the file: what the model, or the one it is `like`, is known to make
    like: str | None = None  # the model of the same provider whose capabilities it starts from
    hidden: bool = False  # served, but not listed
    timeouts: Mapping[str, float] = {}  # those of `Timeouts` that differ from the provider's
    site: Mapping[str, str] = {}  # those of the provider's settings that differ for it
    caps: Mapping[str, Any] = {}  # those fields of `Caps`, or of `VideoCaps`, that differ from what is known


class Login(msgspec.Struct, frozen=True):
    """One credential: a ready secret, or what a token is got with. Shows neither."""

    secret: Secret
    grant: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return "Login(…)"


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider. Its settings (`Provider.settings` of its translator) stand beside these in the file."""

    translator: str  # not said in the file: the one of the same name
    base_url: str | None = None  # instead of the provider's own address; its host may then be private
    region: str | None = None
    timeouts: Timeouts = Timeouts()
    concurrency: Annotated[int, msgspec.Meta(ge=0)] = 0  # jobs at once, 0: no bound
    per_minute: Annotated[int, msgspec.Meta(ge=0)] = 0  # jobs begun in a minute, 0: no bound
    models: Mapping[str, Model] = {}
    models_only: tuple[str, ...] | None = None  # serve these, and nothing else
    logins: tuple[Login, ...] = ()  # from `api_key` and what else the provider takes, or several under `keys`
    site: Mapping[str, str] = {}  # what its translator is told: region, base_url and settings
    off: str = ""  # why it is not served; empty: it is


READ_HERE = frozenset({"translator", "logins", "site", "off", "models", "timeouts"})
"""Fields of `Provider` that are not read as their annotations say."""

IN_FILE = frozenset({"translator", "enabled", "models", "timeouts", "keys"})
"""Those that stand in the file."""


def read(value: Any, env: Mapping[str, str], flaws: list[str]) -> dict[str, Provider]:
    """Every provider that the file or a release names. With none configured at all, the demo is on."""
    if value is not None and not isinstance(value, Mapping):
        flaws.append(f"providers: expected a mapping, got {plain.shown(value)}")
        value = None
    entries = {str(name): entry for name, entry in (value or {}).items()}
    found: dict[str, Provider] = {}
    for name, entry in entries.items():
        if made := provider(name, {} if entry is None else entry, env, flaws):
            found[name] = made
    for name in translators.NAMES:
        if name not in entries:
            found[name] = unasked(name, env)
    demo = found.get("demo")
    if demo and "demo" not in entries and all(made.off for made in found.values()) and not flaws:
        found["demo"] = msgspec.structs.replace(demo, off="")
    return found


def unasked(name: str, env: Mapping[str, str]) -> Provider:
    """A provider of which the file says nothing: on where the environment holds its credential.

    What is wrong with the variables keeps it off and stops nobody: they may be meant for another program.
    """
    if translators.load(name).PROVIDER.credential == "none":
        return Provider(translator=name, logins=(Login(Secret("")),), off="it is on only where no other provider is")
    flaws: list[str] = []
    made = provider(name, {}, env, flaws)
    return Provider(translator=name, off=flaws[0].partition(": ")[2]) if flaws or not made else made


def provider(name: str, entry: Any, env: Mapping[str, str], flaws: list[str]) -> Provider | None:
    """One entry."""
    path = f"providers.{name}"
    if not isinstance(entry, Mapping):
        flaws.append(f"{path}: expected a mapping, got {plain.shown(entry)}")
        return None
    kind = entry.get("translator", name)
    if kind not in translators.NAMES:
        where = f"{path}.translator: " if "translator" in entry else f"{path}: there is no such provider; translator: "
        flaws.append(f"{where}expected one of {', '.join(translators.NAMES)}")
        return None
    if not NAME.fullmatch(name):
        flaws.append(f"{path}: a provider's name is letters, digits, dots, hyphens and underscores")
        return None
    translator = translators.load(str(kind))
    full = dict(entry) if name != kind else inherited(entry, translator, env)
    logins, off = credentials(name, full, translator, flaws)
    if not plain.read(bool, entry.get("enabled", True), f"{path}.enabled", flaws):
        off = "it is switched off"
    if off:  # variables that are not set are why, not a fault
        full = {member: value for member, value in full.items() if not isinstance(value, plain.Unfilled)}
    return described(str(kind), full, path, flaws, logins, off)


def inherited(entry: Mapping[str, Any], translator: Translator, env: Mapping[str, str]) -> dict[str, Any]:
    """`entry` with what the provider's usual variables say and it does not. A written credential stands alone."""
    secrets = secret_names(translator)
    own_login = "keys" in entry or not secrets.isdisjoint(entry)
    full = dict(entry)
    for member, variable in translator.PROVIDER.env.items():
        if env.get(variable) and member not in entry and not (own_login and member in secrets):
            text = env[variable]
            if member == "credentials" and not text.lstrip().startswith("{"):
                text = f"file:{text}"
            full[member] = plain.Filled(text, f"${{{variable}}}")
    return full


def secret_names(translator: Translator) -> set[str]:
    """Members that are credentials: the usual variables that are no settings, and what its tokens are got with."""
    fixed = translator.PROVIDER
    names = set(fixed.env) - fixed.settings - {"region", "base_url"}
    if fixed.credential != "none" and not names:
        names = {"api_key"}
    return names | {*CLIENT} if "token_url" in grant_of(translator) else names


CLIENT = ("tenant", "client_id", "client_secret")


def grant_of(translator: Translator) -> Mapping[str, str]:
    """What a token costs beside the operator's credential: the vendor's `token_url` and `scope`."""
    found: Mapping[str, str] = getattr(translator.PROVIDER, "grant", {})
    return found


def credentials(
    name: str, entry: Mapping[str, Any], translator: Translator, flaws: list[str]
) -> tuple[tuple[Login, ...], str]:
    """The logins, and where there are none, why not."""
    path = f"providers.{name}"
    if translator.PROVIDER.credential == "none":
        return (Login(Secret("")),), ""
    names = secret_names(translator)
    keys = entry.get("keys")
    if keys is None:
        keys, paths = [{member: entry[member] for member in entry if member in names}], [path]
    elif isinstance(keys, list):
        paths = [f"{path}.keys[{index}]" for index in range(len(keys))]
        if not names.isdisjoint(entry):
            flaws.append(f"{path}.keys: give a credential here or beside it, not both")
    else:
        flaws.append(f"{path}.keys: expected a list, got {plain.shown(keys)}")
        return (), "its keys cannot be read"
    before = len(flaws)
    made = [login(item, where, translator, flaws) for item, where in zip(keys, paths, strict=True)]
    if logins := tuple(each for each in made if isinstance(each, Login)):
        return logins, ""
    if missing := next(filter(None, (each for each in made if isinstance(each, str))), None):
        return (), missing
    if len(flaws) == before and entry.get("base_url") and strange(translator):
        return (Login(Secret("")),), ""  # a server of one's own that asks for none
    usual = name in translators.NAMES and translators.load(name) is translator  # then its variables may be set one day
    if len(flaws) == before and not usual:
        flaws.append(f"{path}: it needs a credential: {', '.join(sorted(names))}")
    return (), wanted(translator)


class Offer(msgspec.Struct, Generic[C_co], frozen=True, eq=False, kw_only=True):
    """What a translator has of one kind of models."""

    makes: Makes
    shape: type[C_co]
    needs: str  # the field that tells what a model does, without which one that nobody knows cannot be
    listed: Mapping[str, C_co]
    find: Callable[[str], C_co | None]  # also those that are not listed
    declared: Callable[[Mapping[str, str]], C_co | None]  # what any model of a server of one's own is taken for


def pictures(kind: str) -> Offer:
    """That translator's models that make pictures."""
    by = translators.load(kind)
    return Offer(
        makes="image", shape=Caps, needs="ops", listed=by.MODELS, find=by.caps,
        declared=lambda site: taken_for(by, site),
    )  # fmt: skip


def videos(kind: str) -> Offer[VideoCaps]:
    """Those that make videos: of most translators, none."""
    if kind not in translators.VIDEO_MAKERS:
        return NO_VIDEOS
    by = translators.load_video(kind)
    return Offer(
        makes="video", shape=VideoCaps, needs="tasks", listed=by.VIDEOS, find=by.video_caps, declared=by.declared
    )


NO_VIDEOS = Offer(
    makes="video", shape=VideoCaps, needs="tasks", listed={}, find=lambda _: None, declared=lambda _: None
)


def offers(kind: str) -> tuple[Offer[AnyCaps], ...]:
    """All that it has."""
    return pictures(kind), videos(kind)


def made_by(kind: str, model: str) -> tuple[Makes, ...]:
    """What a model is known to make: as the lists say, else what is the first to find it."""
    listed = tuple(offer.makes for offer in offers(kind) if model in offer.listed)
    return listed or tuple(offer.makes for offer in offers(kind) if offer.find(model))[:1]


def strange(translator: Translator) -> bool:
    """Whether it speaks to any server of a kind, whose models only the configuration can name."""
    return not {"DECLARED", "declared"}.isdisjoint(getattr(translator, "__all__", ()))


def taken_for(translator: Translator, site: Mapping[str, str]) -> Caps | None:
    """What a model is taken for that the configuration alone names: the same for all, or as its settings say.

    Raises a `Fault` where these describe none; its `param` is the setting.
    """
    members, public = vars(translator), getattr(translator, "__all__", ())
    found: Caps | None = None
    if "declared" in public:
        found = members["declared"](site)
    elif "DECLARED" in public:
        found = members["DECLARED"]
    return found


def wanted(translator: Translator) -> str:
    """Which variables would switch it on."""
    own = "its base_url" if addressed(translator) else "its api_key"
    return f"{' or '.join(' and '.join(way) for way in ways(translator)) or own} is not set"


def ways(translator: Translator) -> list[tuple[str, ...]]:
    """What in the environment switches it on: one variable, or several together."""
    names = secret_names(translator)
    env = translator.PROVIDER.env
    if addressed(translator):
        return [(env["base_url"],)] if "base_url" in env else []
    found: list[tuple[str, ...]] = [
        (env[name],) for name in ("api_key", "credentials") if name in names and name in env
    ]
    rest = [env[name] for name in env if name in names and name not in {"api_key", "credentials", "session_token"}]
    return [*found, tuple(rest)] if rest else found


def addressed(translator: Translator) -> bool:
    """Whether an address is what it is switched on by: it has none of its own, and may need no credential."""
    return strange(translator) and not translator.base({})


def login(item: Any, path: str, translator: Translator, flaws: list[str]) -> Login | str | None:
    """One credential; or text that says which variable is missing, empty where nothing is given at all."""
    if not isinstance(item, Mapping):
        flaws.append(f"{path}: expected a mapping such as {{api_key: …}}")
        return None
    names = secret_names(translator)
    plain.unknown(item, names, path, flaws)
    given: dict[str, Any] = {}
    for name, value in item.items():
        if isinstance(value, plain.Unfilled):
            return value.why
        if value in (None, ""):
            continue
        if name == "credentials":
            return service_account(value, plain.at(path, name), translator, flaws)
        given[name] = plain.secret(value, plain.at(path, name), flaws).key
    if "api_key" in given:
        key = given.pop("api_key")
        return Login(Secret(key, extra=given)) if key else ""
    if not given:
        return ""
    if "client_id" in given or "client_secret" in given:
        return client(given, path, translator, flaws)
    needed = names - {"api_key", "credentials", "session_token", *CLIENT}
    return Login(Secret("", extra=given)) if complete(given, needed, path, flaws) else None


def complete(given: Mapping[str, str], needed: set[str], path: str, flaws: list[str]) -> bool:
    """Whether nothing of a credential in several parts is missing."""
    missing = sorted(name for name in needed if not given.get(name))
    flaws += [f"{plain.at(path, name)}: required beside {', '.join(sorted(given))}" for name in missing]
    return not missing


def client(given: Mapping[str, str], path: str, translator: Translator, flaws: list[str]) -> Login | None:
    """OAuth's client credentials; the translator says where its vendor gives tokens."""
    fixed = grant_of(translator)
    url = fixed.get("token_url", "")
    if not complete(given, set(CLIENT if "{tenant}" in url else CLIENT[1:]), path, flaws):
        return None
    grant = {
        "grant": "client_credentials",
        "token_url": url.replace("{tenant}", given.get("tenant", "")),
        "client_id": given["client_id"],
        "client_secret": given["client_secret"],
        "scope": fixed.get("scope", ""),
    }
    return Login(Secret("", "bearer"), grant)


def service_account(value: Any, path: str, translator: Translator, flaws: list[str]) -> Login | None:
    """A service account's JSON: a mapping, JSON text, or the file that holds it."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(plain.contents(value, path, flaws))
        except msgspec.DecodeError:
            value = None
    account = value if isinstance(value, Mapping) else {}
    needed = ("client_email", "private_key", "token_uri")
    if not all(isinstance(account.get(name), str) for name in needed):
        if not any(flaw.startswith(f"{path}: ") for flaw in flaws):
            flaws.append(f"{path}: expected the JSON of a service account, with {', '.join(needed)}")
        return None
    kept = {name: str(account[name]) for name in (*needed, "private_key_id", "project_id") if account.get(name)}
    scope = grant_of(translator).get("scope", "")
    return Login(Secret("", "bearer"), {"grant": "jwt", "scope": scope} | kept)


def described(
    kind: str, entry: Mapping[str, Any], path: str, flaws: list[str], logins: tuple[Login, ...], off: str
) -> Provider:
    """A provider with all that is said of it beside its credentials."""
    translator = translators.load(kind)
    fixed = translator.PROVIDER
    simple = set(plain.hints(Provider)) - READ_HERE
    plain.unknown(entry, {*simple, *IN_FILE, *fixed.settings, *secret_names(translator)}, path, flaws)
    given = plain.members(Provider, {name: entry[name] for name in entry if name in simple}, path, flaws)
    site = settings(fixed, entry, path, flaws)
    if url := given.get("base_url"):
        if why := no_address(url):
            flaws.append(f"{path}.base_url: {why}")
        site["base_url"] = given["base_url"] = url.rstrip("/")
    if region := given.get("region") or next(iter(fixed.regions), None):
        site["region"] = region
        if fixed.regions and region not in fixed.regions:
            known_regions = ", ".join(filter(None, fixed.regions))
            flaws.append(f"{path}.region: expected one of {known_regions}, got {plain.shown(region)}")
    project = logins[0].grant.get("project_id") if logins else None
    if project and "project" in fixed.settings:
        site.setdefault("project", project)
    made = Provider(translator=kind, logins=logins, site=site, off=off, **given, **declared(kind, entry, path, flaws))
    if fixed.credential != "none" and not off and not flaws and not address(made):
        flaws.append(f"{path}: its address is missing; set base_url" + "".join(f" or {name}" for name in places(fixed)))
    return made


def places(fixed: base.Provider) -> list[str]:
    """The settings that hold an address."""
    return sorted(fixed.settings & {"endpoint", "base_url"})


def settings(fixed: base.Provider, given: Mapping[str, Any], path: str, flaws: list[str]) -> dict[str, str]:
    """Those of the translator's settings that are given, as text: a mapping as JSON, `file:/path` as what is there."""
    found: dict[str, str] = {}
    for name in sorted(fixed.settings & set(given)):
        if (value := given[name]) is not None:
            where = plain.at(path, name)
            if isinstance(value, Mapping):
                value = msgspec.json.encode(plain.read(Mapping[str, Any], value, where, flaws), enc_hook=str).decode()
            found[name] = plain.contents(str(plain.read(str, spelt(value), where, flaws)), where, flaws)
    return found


def spelt(value: Any) -> Any:
    """Settings are text to a translator; in YAML `2` and `true` need no quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


def declared(kind: str, entry: Mapping[str, Any], path: str, flaws: list[str]) -> dict[str, Any]:
    """`timeouts` and `models`, which are checked also where the provider is off."""
    timeouts = plain.struct(Timeouts, entry.get("timeouts") or {}, f"{path}.timeouts", flaws) or Timeouts()
    found: dict[str, Model] = {}
    models = entry.get("models") or {}
    if not isinstance(models, Mapping):
        flaws.append(f"{path}.models: expected a mapping of model ids, got {plain.shown(models)}")
        models = {}
    for name, given in models.items():
        found[str(name)] = model(kind, str(name), {} if given is None else given, f"{path}.models.{name}", flaws)
    return {"timeouts": timeouts, "models": found}


def model(kind: str, name: str, given: Any, path: str, flaws: list[str]) -> Model:
    """What is said of one model."""
    if not isinstance(given, Mapping):
        flaws.append(f"{path}: expected a mapping, got {plain.shown(given)}")
        return Model()
    fixed, own = translators.load(kind).PROVIDER, {"type", "like", "hidden"}
    made = plain.members(Model, {name: given[name] for name in given if name in own}, path, flaws)
    made.setdefault("type", next(iter(made_by(kind, made.get("like") or name)), "image"))
    shape = next(offer.shape for offer in offers(kind) if offer.makes == made["type"])
    known = plain.hints(shape)
    plain.unknown(given, {*own, *fixed.settings, "timeouts", *known}, path, flaws)
    timeouts = plain.members(Timeouts, given.get("timeouts"), f"{path}.timeouts", flaws)
    if "video" in timeouts:
        flaws.append(f"{path}.timeouts.video: a model has job alone")
    before = len(flaws)
    caps = plain.members(shape, {name: given[name] for name in given if name in known}, path, flaws)
    if len(flaws) == before:  # what cannot be read is left out: the places of the others would not be right
        flaws += price_flaws(caps.get("prices", ()), f"{path}.prices")
    return Model(timeouts=timeouts, site=settings(fixed, given, path, flaws), caps=caps, **made)


def price_flaws(rules: Sequence[Price], path: str) -> Iterator[str]:
    """Price rules that would never fit, each with its place."""
    for index, rule in enumerate(rules):
        if rule.size is not None and not SIZE.fullmatch(rule.size):
            yield f"{path}[{index}].size: expected a size such as 1024x1024, got {plain.shown(rule.size)}"
        low, high = rule.pixels
        if high and low >= high:
            yield f"{path}[{index}].pixels: expected the most to be above the least, got {low}, {high}"


SIZE = re.compile(r"[1-9]\d*x[1-9]\d*")


def address(made: Provider) -> str:
    """Where its calls go, without a slash at the end; empty where nowhere is said, or there is no wire.

    A translator may make more of `base_url` than it is, and one that knows nothing of it is overruled.
    """
    told = translators.load(made.translator).base(made.site).rstrip("/")
    if made.base_url and urlsplit(told).netloc != urlsplit(made.base_url).netloc:
        return made.base_url
    return told


def no_address(url: str) -> str | None:
    """What is wrong with an address."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "expected an address that begins with http:// or https://"
    if parts.username or parts.query or parts.fragment:
        return "expected an address without user name, query and fragment"
    return None
