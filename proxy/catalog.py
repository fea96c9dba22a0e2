"""What is served: providers from the configuration, their models, and the aliases that lead to them.

Immutable: a reload builds another one and swaps it whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

import translators
from proxy import prices, providers
from proxy.config import Alias, Cache, Config, ConfigError
from proxy.providers import Provider
from translators.base import Caps, Fault, FaultKind, Free, Price, Secret, Translator


class Credential(msgspec.Struct, frozen=True):
    """One way into a provider's account: a ready secret, or what a token is got with."""

    name: str  # "bfl#1": for logs and cool-downs; never the secret
    secret: Secret
    grant: Mapping[
        str, str
    ] = {}  # OAuth: {"grant": "jwt" | "client_credentials", "token_url": …, …}; empty: `secret` as it is

    def __repr__(self) -> str:
        return f"Credential({self.name!r})"


class Upstream(msgspec.Struct, frozen=True, eq=False):
    """One configured provider. `name` identifies it: a model with its own timeouts has a copy."""

    name: str  # its id in the configuration: "openai", "lab"
    translator: Translator
    base: str  # no slash at its end; empty where there is no wire
    site: Mapping[str, str]
    credentials: tuple[Credential, ...]  # never empty; where none is needed, one with an empty key
    trusted: bool = False  # `base_url` was configured: its host may be private, and be polled and fetched from
    connect_seconds: float = 10.0
    first_byte_seconds: float = 300.0
    job_seconds: float = 600.0
    concurrency: int = 0  # calls at once, 0: no bound


class Target(msgspec.Struct, frozen=True, eq=False):
    """One model at one provider."""

    upstream: Upstream
    model: str  # the provider's own id
    caps: Caps
    weight: float = 1.0

    @property
    def id(self) -> str:
        """`provider/model`."""
        return f"{self.upstream.name}/{self.model}"


class Route(msgspec.Struct, frozen=True, eq=False):
    """Where a model name leads: one target, or an alias's, in the order of the configuration."""

    name: str  # as the client wrote it
    targets: tuple[Target, ...]
    alias: str | None = None
    fallback_on: frozenset[FaultKind] = frozenset(
        {"overloaded", "rate", "timeout", "upstream", "empty", "auth", "permission", "quota", "missing"}
    )
    hosting: str = "store"  # "passthrough": `url` answers may be the provider's own links
    cache: Cache | None = None  # of its answers


class Labels(msgspec.Struct, frozen=True):
    """The only values that metric labels take: what is known when the configuration is loaded, else `other`."""

    providers: frozenset[str]
    models: frozenset[str]  # the providers' own ids
    aliases: frozenset[str]

    def provider(self, name: str) -> str:
        """`name`, or `other`."""
        return name if name in self.providers else "other"

    def model(self, name: str) -> str:
        """`name`, or `other`."""
        return name if name in self.models else "other"

    def alias(self, name: str | None) -> str:
        """`name`, `none` where the client named a model itself, or `other`."""
        return "none" if name is None else name if name in self.aliases else "other"


class Catalog(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """All names that lead somewhere."""

    config: Config
    upstreams: Mapping[str, Upstream]
    targets: Mapping[str, Target]  # listed ones and those of aliases, by "provider/model"
    aliases: Mapping[str, Route]  # in the order of the configuration; without targets where none is configured
    routes: Mapping[str, Route]  # aliases, full ids, and bare ids that only one provider has
    ambiguous: Mapping[str, tuple[str, ...]]  # bare ids that several have
    labels: Labels
    default_model: str | None
    created: int  # Unix seconds, for the model list

    def route(self, name: str | None) -> Route:
        """Where `name` leads. Raises a `Fault` that says what to ask for instead."""
        name = name or self.default_model
        if not name:
            raise Fault(
                "invalid",
                "Missing required parameter: 'model'. GET /v1/models lists what can be named.",
                code="missing_required_parameter",
                param="model",
            )
        route = self.routes.get(name) or self._unlisted(name)
        if route and route.targets:
            return route
        if choices := self.ambiguous.get(name):
            raise Fault(
                "invalid",
                f"The model '{name}' is served by several providers. Name one of them: {', '.join(choices)}.",
                code="invalid_value",
                param="model",
            )
        raise Fault("missing", self._absent(name, route), code="invalid_value", param="model")

    def _unlisted(self, name: str) -> Route | None:
        """A `provider/model` that is in no list: the provider may have it all the same."""
        provider, slash, model = name.partition("/")
        upstream = self.upstreams.get(provider)
        if not upstream or not slash or not model or "\0" in model:  # which PostgreSQL takes in no text
            return None
        target = target_of(self.config, upstream, model)
        return Route(name, (target,), hosting=self.config.files.hosting) if target else None

    def _absent(self, name: str, route: Route | None) -> str:
        text = f"The model '{shortened(name)}' does not exist."
        provider = self.config.providers.get(name.partition("/")[0])
        if route:
            given = self.config.models[name].targets
            named = dict.fromkeys(target.model.partition("/")[0] for target in given)
            reasons = "; ".join(f"{each}: {self.config.providers[each].off}" for each in named)
            return f"{text} It is an alias, but none of its providers is configured: {reasons}."
        if provider and provider.off and "/" in name:
            return f"{text} Its provider is not configured: {provider.off}."
        return (
            f"{text} A model is named provider/model, such as {self._example()}, by an alias, "
            "or by its bare id where only one provider has it. GET /v1/models lists them."
        )

    def _example(self) -> str:
        return next(iter(self.targets), "demo/painter")


def shortened(name: str) -> str:
    """A client's text for a message: long ones are cut in the middle."""
    return name if len(name) <= 120 else f"{name[:80]}...{name[-20:]}"


def build(config: Config, created: int | None = None) -> Catalog:
    """The catalogue as of now. Raises `ConfigError` where the configuration names models that cannot be."""
    if wrong := flaws(config):
        raise ConfigError(wrong)
    upstreams = {name: upstream(name, given) for name, given in config.providers.items() if not given.off}
    listed = {target.id: target for each in upstreams.values() for target in listed_targets(config, each)}
    aliases = {name: alias_route(config, name, given, upstreams) for name, given in config.models.items()}
    targets = listed | {target.id: target for route in aliases.values() for target in route.targets}
    bare: dict[str, list[Target]] = {}
    for target in listed.values():
        bare.setdefault(target.model, []).append(target)
    hosting = config.files.hosting
    routes = (
        {name: Route(name, tuple(found), hosting=hosting) for name, found in bare.items() if len(found) == 1}
        | {name: Route(name, (target,), hosting=hosting) for name, target in targets.items()}
        | aliases
    )
    return Catalog(
        config=config,
        upstreams=upstreams,
        targets=targets,
        aliases=aliases,
        routes=routes,
        ambiguous={name: tuple(each.id for each in found) for name, found in bare.items() if len(found) > 1},
        labels=Labels(frozenset(upstreams), frozenset(each.model for each in targets.values()), frozenset(aliases)),
        default_model=config.default_model or ("demo/painter" if list(upstreams) == ["demo"] else None),
        created=int(time.time()) if created is None else created,
    )


def upstream(name: str, given: Provider) -> Upstream:
    """The provider as the engine needs it."""
    translator = translators.load(given.translator)
    credentials = tuple(
        Credential(f"{name}#{number}", login.secret, login.grant) for number, login in enumerate(given.logins, 1)
    )
    return Upstream(
        name=name,
        translator=translator,
        base=providers.address(given),
        site=given.site,
        credentials=credentials,
        trusted=bool(given.base_url) or not translator.base({}),
        connect_seconds=given.timeouts.connect,
        first_byte_seconds=given.timeouts.first_byte,
        job_seconds=given.timeouts.job,
        concurrency=given.concurrency,
    )


def target_of(config: Config, by: Upstream, model: str, weight: float = 1.0) -> Target | None:
    """The model at that provider; `None` where there is no such model, or it may not be served."""
    given = config.providers[by.name]
    caps = caps_of(given, model)
    if caps is None:
        return None
    if (own := given.models.get(model)) and (own.timeouts or own.site):
        seconds = {f"{name}_seconds": seconds for name, seconds in own.timeouts.items()}
        by = replace(by, site=site_of(given, own), **seconds)
    priced = replace(caps, prices=prices.settled(caps, config.prices.usd_per_cny))
    return Target(by, model, priced, weight)


def site_of(given: Provider, own: providers.Model | None) -> Mapping[str, str]:
    """The settings that hold for a model."""
    return {**given.site, **own.site} if own and own.site else given.site


def caps_of(given: Provider, model: str) -> Caps | None:
    """What the model can do: as the release knows it, each field overruled by the configuration."""
    if given.models_only is not None and model not in given.models_only:
        return None
    translator = translators.load(given.translator)
    own = given.models.get(model)
    try:
        declared = providers.taken_for(translator, site_of(given, own)) if given.base_url else None
    except Fault:  # `flaws` says what is wrong
        return None
    known = translator.caps(own.like if own and own.like else model) or declared
    if not own:
        return known
    if known:
        return replace(known, **own.caps)
    return Caps(**own.caps) if "ops" in own.caps else None


def listed_targets(config: Config, by: Upstream) -> Iterator[Target]:
    """The models that are shown. Of a server of one's own, only those that the configuration names."""
    given = config.providers[by.name]
    elsewhere = given.base_url and by.name != given.translator and providers.strange(by.translator)
    names = dict.fromkeys(given.models_only or ([] if elsewhere else by.translator.MODELS))
    for model in names | dict.fromkeys(given.models):
        hidden = model in given.models and given.models[model].hidden
        if not hidden and (target := target_of(config, by, model)):
            yield target


def alias_route(config: Config, name: str, given: Alias, upstreams: Mapping[str, Upstream]) -> Route:
    """Where the alias leads, as far as its providers are configured."""
    targets: list[Target] = []
    for each in given.targets:
        provider, _, model = each.model.partition("/")
        found = target_of(config, upstreams[provider], model, each.weight) if provider in upstreams else None
        if found:
            targets.append(found)
    route = Route(
        name, tuple(targets), alias=name, hosting=given.hosting or config.files.hosting, cache=given.cache
    )  # fmt: skip
    return route if given.fallback_on is None else replace(route, fallback_on=given.fallback_on)


def flaws(config: Config) -> list[str]:
    """What is wrong with the models that the configuration names, each with its path."""
    found = [flaw for name, given in config.providers.items() for flaw in provider_flaws(name, given)]
    for name, alias in config.models.items():
        found += alias_flaws(config, name, alias)
    if config.default_model and not found and not leads_somewhere(config, config.default_model):
        found.append(f"default_model: {config.default_model} is neither an alias nor a provider/model that can be")
    return found


def provider_flaws(name: str, given: Provider) -> Iterator[str]:
    """Models that cannot be."""
    if fault := wrong_setting(given):
        yield f"providers.{name}.{fault.param}: {fault.message}"
    for model, own in given.models.items():
        path = f"providers.{name}.models.{model}"
        if fault := wrong_setting(given, own):
            yield f"{path}.{fault.param}: {fault.message}"
        elif own.like and translators.load(given.translator).caps(own.like) is None:
            yield f"{path}.like: {name} has no model {own.like}"
        elif given.models_only is None and caps_of(given, model) is None:
            yield f"{path}.ops: required, as no release knows this model"
        elif "prices" in own.caps and (caps := caps_of(given, model)):
            yield from price_flaws(caps, f"{path}.prices")
    for index, model in enumerate(given.models_only or ()):
        if caps_of(given, model) is None:
            yield f"providers.{name}.models_only[{index}]: {name} has no model {model}"


def price_flaws(caps: Caps, path: str) -> Iterator[str]:
    """Price rules for what this model does not make, each with its place."""
    for index, rule in enumerate(prices.settled(caps, None)):
        if rule.resolution and rule.pixels == prices.NOWHERE:
            yield f"{path}[{index}].resolution: nothing says how large a picture of {rule.resolution} is; give pixels"
        if rule.quality and caps.qualities and rule.quality not in caps.qualities:
            yield f"{path}[{index}].quality: expected one of {', '.join(caps.qualities)}, got {rule.quality}"


def wrong_setting(given: Provider, own: providers.Model | None = None) -> Fault | None:
    """What is wrong with the settings of a model, or with those that all share; said where they stand."""
    try:
        if given.base_url:
            providers.taken_for(translators.load(given.translator), site_of(given, own))
    except Fault as fault:
        shared = fault.param in given.site
        if shared if own is None else fault.param in own.site or not shared:
            return fault
    return None


def alias_flaws(config: Config, name: str, alias: Alias) -> Iterator[str]:
    """Targets that cannot be, and fallbacks that cannot do what the first one can."""
    first: Caps | None = None
    for index, target in enumerate(alias.targets):
        path = f"models.{name}[{index}]"
        provider, slash, model = target.model.partition("/")
        given = config.providers.get(provider)
        if not slash or given is None:
            known = ", ".join(config.providers)
            yield f"{path}: expected provider/model with one of the providers {known}, got {target.model}"
            continue
        caps = caps_of(given, model)
        if caps is None:
            yield f"{path}: {provider} has no model {model}"
        elif first is None:
            first = caps
        elif lacking := first.ops - caps.ops:
            yield f"{path}: {target.model} cannot {', '.join(sorted(lacking))}, as the first target can"


def leads_somewhere(config: Config, name: str) -> bool:
    """Whether `name` is an alias, or a model of a provider that is known."""
    provider, slash, model = name.partition("/")
    given = config.providers.get(provider)
    return name in config.models or bool(slash and given and caps_of(given, model))


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a model can do, as the model list shows it."""

    ops: list[str]
    mask: bool
    max_images: int
    max_n: int  # of one upstream call; more are several
    formats: list[str]
    qualities: list[str]
    backgrounds: list[str]
    streaming: bool  # real events; a stream is answered for every model
    partial_images: int
    params: list[str]
    options: list[str]  # names in `provider_options`


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's model object, and ours beside it."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str
    shutdown_date: str | None = None
    type: str
    provider: str | None
    enabled: bool
    targets: list[str] = []  # where an alias leads, in order
    capabilities: Capabilities | None = None
    sizes: list[str] = []
    ratios: list[str] = []
    resolutions: list[str] = []
    free_size: Free | None = None  # any size within these bounds
    price: list[Price] = []
    note: str | None = None


def listing(catalog: Catalog, everything: bool = False) -> list[dict[str, Any]]:
    """The model list: aliases first, then models. `everything` adds the aliases that lead nowhere yet."""
    hidden = {
        f"{name}/{model}"
        for name, given in catalog.config.providers.items()
        for model, own in given.models.items()
        if own.hidden
    }
    models = [
        *(alias_model(catalog, route) for route in catalog.aliases.values() if route.targets or everything),
        *(target_model(catalog, target) for target in catalog.targets.values() if target.id not in hidden),
    ]
    return [msgspec.to_builtins(model) for model in models]


def entry(catalog: Catalog, name: str) -> dict[str, Any]:
    """One model as the list shows it, by any name that leads to it. Raises the `Fault` of a name that does not."""
    route = catalog.route(name)
    model = alias_model(catalog, route) if route.alias else target_model(catalog, route.targets[0], name)
    found: dict[str, Any] = msgspec.to_builtins(model)
    return found


def alias_model(catalog: Catalog, route: Route) -> Model:
    """An alias can do what its first target can."""
    leads = [target.id for target in route.targets]
    if not leads:
        return Model(id=route.name, owned_by="pictor", type="image", provider=None, enabled=False)
    shown = target_model(catalog, route.targets[0], route.name)
    return replace(shown, owned_by="pictor", targets=leads)


def target_model(catalog: Catalog, target: Target, name: str | None = None) -> Model:
    """A model."""
    caps = target.caps
    makes = next((op for op in ("video", "speech") if op in caps.ops), "image")
    return Model(
        id=name or target.id,
        created=catalog.created,
        owned_by=target.upstream.name,
        shutdown_date=caps.ends,
        type=makes,
        provider=target.upstream.name,
        enabled=True,
        capabilities=Capabilities(
            ops=sorted(caps.ops),
            mask=caps.mask != "none",
            max_images=caps.max_images,
            max_n=caps.max_n,
            formats=list(caps.formats),
            qualities=list(caps.qualities),
            backgrounds=list(caps.backgrounds),
            streaming=caps.streams,
            partial_images=caps.partials,
            params=sorted(caps.params),
            options=sorted(caps.options),
        ),
        sizes=[f"{width}x{height}" for width, height in caps.sizes],
        ratios=list(caps.ratios),
        resolutions=list(caps.resolutions),
        free_size=caps.free,
        price=list(caps.prices),
        note=caps.note,
    )
