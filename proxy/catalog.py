"""What is served: providers from the configuration, their models, and the aliases that lead to them.

Immutable: a reload builds another one and swaps it whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Generic, Literal, TypeAlias, overload

import msgspec
from msgspec.structs import replace

import translators
from proxy import invalid, prices, providers
from proxy.abilities import MADE, OFFERS, alias_makes, caps_of, makes, own_of, site_of
from proxy.config import Alias, Cache, Config, ConfigError
from proxy.flaws import flaws
from proxy.providers import AnyCaps, C_co, Makes, Offer, Provider
from translators.base import Call, Fault, FaultKind, Price, Secret, Translator
from translators.video import VideoCaps, VideoJob

Cancel: TypeAlias = Callable[[VideoJob, Call], Call | None]
"""What stops the task of a poll, if it can be."""


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
    """One configured provider. `name` identifies it: a model with its own timeouts has a copy, and so have videos."""

    name: str  # its id in the configuration: "openai", "lab"
    translator: Translator
    base: str  # no slash at its end; empty where there is no wire
    site: Mapping[str, str]
    credentials: tuple[Credential, ...]  # never empty; where none is needed, one with an empty key
    trusted: bool = False  # `base_url` was configured: its host may be private, and be polled and fetched from
    connect_seconds: float = 10.0
    first_byte_seconds: float = 300.0
    job_seconds: float = 600.0
    poll_seconds: float = 60.0  # between two polls, at most
    concurrency: int = 0  # jobs at once, 0: no bound
    per_minute: int = 0  # jobs begun in a minute, 0: no bound
    cancel: Cancel | None = None  # of videos alone


class Target(msgspec.Struct, Generic[C_co], frozen=True, eq=False):
    """One model at one provider: a `Target` makes pictures, a `Target[VideoCaps]` videos, a `Target[AnyCaps]` any."""

    upstream: Upstream
    model: str  # the provider's own id
    caps: C_co
    weight: float = 1.0

    @property
    def id(self) -> str:
        """`provider/model`."""
        return f"{self.upstream.name}/{self.model}"

    @property
    def makes(self) -> Makes:
        """What kind of thing."""
        return "video" if isinstance(self.caps, VideoCaps) else "image"


class Route(msgspec.Struct, Generic[C_co], frozen=True, eq=False):
    """Where a model name leads: one target, or an alias's, in the order of the configuration. All make the same."""

    name: str  # as the client wrote it
    targets: tuple[Target[C_co], ...]
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
    targets: frozenset[str]  # "provider/model"
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


class Shelf(msgspec.Struct, Generic[C_co], frozen=True, eq=False, kw_only=True):
    """All models that make one kind of thing, and the names that lead to them."""

    upstreams: Mapping[str, Upstream]
    targets: Mapping[str, Target[C_co]]  # listed ones and those of aliases, by "provider/model"
    aliases: Mapping[str, Route[C_co]]  # without targets where none is configured
    routes: Mapping[str, Route[C_co]]  # aliases, full ids, and bare ids that only one provider has
    ambiguous: Mapping[str, tuple[str, ...]]  # bare ids that several have


SHOWN = 5  # models that a refusal names
SORA = "sora-2"
"""What OpenAI's clients ask for where they name no model for a video."""


class Catalog(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """All names that lead somewhere. Where one has pictures and videos, it leads to what is wanted."""

    config: Config
    pictures: Shelf
    videos: Shelf[VideoCaps]
    labels: Labels
    created: int  # Unix seconds, for the model list

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        """Every provider, as pictures need it."""
        return self.pictures.upstreams

    @property
    def targets(self) -> Mapping[str, Target]:
        """Every model that makes pictures."""
        return self.pictures.targets

    @property
    def aliases(self) -> Mapping[str, Route[AnyCaps]]:
        """Every alias; where it makes pictures and videos, as it makes pictures."""
        return {**self.videos.aliases, **self.pictures.aliases}

    @property
    def default_model(self) -> str | None:
        """What makes pictures where no model is named."""
        return self.config.default_model or ("demo/painter" if [*self.upstreams] == ["demo"] else None)

    @property
    def default_video_model(self) -> str | None:
        """What makes videos where no model is named."""
        if self.config.default_video_model:
            return self.config.default_video_model
        sora = self.videos.aliases.get(SORA)
        if [*self.upstreams] == ["demo"] and not (sora and sora.targets):
            return next(iter(self.videos.targets), None)
        return SORA if sora else None

    @overload
    def route(self, name: str | None, makes: Literal["image"] = "image") -> Route: ...
    @overload
    def route(self, name: str | None, makes: Literal["video"]) -> Route[VideoCaps]: ...
    @overload
    def route(self, name: str | None, makes: Makes) -> Route[AnyCaps]: ...
    def route(self, name: str | None, makes: Makes = "image") -> Route[AnyCaps]:
        """Where `name` leads, of what makes such things. Raises a `Fault` that says what to ask for instead."""
        shelf = self.shelf(makes)
        name = name or (self.default_video_model if makes == "video" else self.default_model)
        if not name:
            raise Fault(
                "invalid",
                f"Missing required parameter: 'model'. GET /v1/models?type={makes} lists what can be named.",
                code="missing_required_parameter",
                param="model",
            )
        route = shelf.routes.get(name) or self._unlisted(name, makes)
        if route and route.targets:
            return route
        if choices := shelf.ambiguous.get(name):
            text = f"The model '{name}' is served by several providers. Name one of them: {', '.join(choices)}."
            raise invalid.invalid_value("model", text)
        if other := self._elsewhere(name, makes):
            raise invalid.invalid_value("model", self._other(name, other, makes))
        raise Fault("missing", self._absent(name, route), code="invalid_value", param="model")

    def shelf(self, makes: Makes) -> Shelf[AnyCaps]:
        """What makes such things."""
        return self.videos if makes == "video" else self.pictures

    def makes(self, name: str) -> Makes:
        """What a name leads to: pictures, where it leads to either or nowhere."""
        return next((makes for makes in MADE if self._leads(name, makes)), "image")

    def _unlisted(self, name: str, makes: Makes) -> Route[AnyCaps] | None:
        """A `provider/model` that is in no list: the provider may have it all the same."""
        provider, slash, model = name.partition("/")
        upstream = self.shelf(makes).upstreams.get(provider)
        if name in self.config.models or not upstream or not slash or not model:
            return None
        if "\0" in model:  # which PostgreSQL takes in no text
            return None
        target = target_of(self.config, upstream, model, OFFERS[makes])
        return Route(name, (target,), hosting=self.config.files.hosting) if target else None

    def _elsewhere(self, name: str, makes: Makes) -> Makes | None:
        """What else the model makes."""
        others: Iterable[Makes] = (other for other in MADE if other != makes)
        return next((other for other in others if self._leads(name, other)), None)

    def _leads(self, name: str, makes: Makes) -> bool:
        shelf = self.shelf(makes)
        return name in shelf.routes or name in shelf.ambiguous or self._unlisted(name, makes) is not None

    def _other(self, name: str, other: Makes, makes: Makes) -> str:
        """What is said of a model that makes something else."""
        shelf = self.shelf(makes)
        named = [*(name for name, route in shelf.aliases.items() if route.targets), *shelf.targets]
        text = f"The model '{shortened(name)}' makes {MADE[other]}, not {MADE[makes]}."
        if not named:
            return f"{text} No provider that makes {MADE[makes]} is configured."
        some = ", ".join(islice(named, SHOWN))
        return f"{text} Models that make {MADE[makes]}: {some}; GET /v1/models?type={makes} lists all of them."

    def _absent(self, name: str, route: Route[AnyCaps] | None) -> str:
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
        return next(iter(self.pictures.targets), "demo/painter")


def shortened(name: str) -> str:
    """A client's text for a message: long ones are cut in the middle."""
    return name if len(name) <= 120 else f"{name[:80]}...{name[-20:]}"


def build(config: Config, created: int | None = None) -> Catalog:
    """The catalogue as of now. Raises `ConfigError` where the configuration names models that cannot be."""
    if wrong := flaws(config):
        raise ConfigError(wrong)
    served = {name: given for name, given in config.providers.items() if not given.off}
    drawing = {name: upstream(name, given) for name, given in served.items()}
    makers = {name: given for name, given in served.items() if given.translator in translators.VIDEO_MAKERS}
    filming = {name: video_upstream(name, given) for name, given in makers.items()}
    pictures, videos = shelf(config, drawing, providers.pictures), shelf(config, filming, providers.videos)
    targets = frozenset({*pictures.targets, *videos.targets})
    models = frozenset(target.partition("/")[2] for target in targets)
    return Catalog(
        config=config,
        pictures=pictures,
        videos=videos,
        labels=Labels(frozenset(drawing), models, targets, frozenset(config.models)),
        created=int(time.time()) if created is None else created,
    )


def shelf(config: Config, upstreams: Mapping[str, Upstream], offer: Callable[[str], Offer[C_co]]) -> Shelf[C_co]:
    """What makes one kind of thing: that which translators have as `offer` tells."""
    listed = {target.id: target for by in upstreams.values() for target in listed_targets(config, by, offer)}
    aliases = {
        name: alias_route(config, name, given, upstreams, offer)
        for name, given in config.models.items()
        if offer("demo").makes in alias_makes(config, given)
    }
    targets = listed | {target.id: target for route in aliases.values() for target in route.targets}
    bare: dict[str, list[Target[C_co]]] = {}
    for target in listed.values():
        bare.setdefault(target.model, []).append(target)
    hosting = config.files.hosting
    routes = {name: Route(name, tuple(found), hosting=hosting) for name, found in bare.items() if len(found) == 1}
    routes |= {name: Route(name, (target,), hosting=hosting) for name, target in targets.items()}
    return Shelf(
        upstreams=upstreams,
        targets=targets,
        aliases=aliases,
        routes={name: route for name, route in routes.items() if name not in config.models} | aliases,
        ambiguous={name: tuple(each.id for each in found) for name, found in bare.items() if len(found) > 1},
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
        poll_seconds=given.timeouts.poll,
        concurrency=given.concurrency,
        per_minute=given.per_minute,
    )


def video_upstream(name: str, given: Provider) -> Upstream:
    """The same for its videos."""
    by = translators.load_video(given.translator)
    return replace(upstream(name, given), translator=by, cancel=by.cancel, job_seconds=given.timeouts.video)


def target_of(
    config: Config, by: Upstream, model: str, offer: Callable[[str], Offer[C_co]], weight: float = 1.0
) -> Target[C_co] | None:
    """The model at that provider; `None` where there is no such model, or it may not be served."""
    given = config.providers[by.name]
    has = offer(given.translator)
    caps = caps_of(given, model, has)
    if caps is None:
        return None
    if (own := own_of(given, model, has.makes)) and (own.timeouts or own.site):
        seconds = {f"{name}_seconds": seconds for name, seconds in own.timeouts.items()}
        by = replace(by, site=site_of(given, own), **seconds)
    return Target(by, model, replace(caps, prices=priced(caps, config.prices.usd_per_cny)), weight)


def priced(caps: AnyCaps, usd_per_cny: float | None) -> tuple[Price, ...]:
    """The rules as they are used. A video's resolution is known by its name, a picture's is told by its pixels."""
    if isinstance(caps, VideoCaps):
        return prices.in_dollars(caps.prices, usd_per_cny)
    return prices.settled(caps, usd_per_cny)


def listed_targets(config: Config, by: Upstream, offer: Callable[[str], Offer[C_co]]) -> Iterator[Target[C_co]]:
    """The models that are shown. Of a server of one's own, only those that the configuration names."""
    given = config.providers[by.name]
    has = offer(given.translator)
    elsewhere = given.base_url and by.name != given.translator and providers.strange(by.translator)
    names = dict.fromkeys(given.models_only or ([] if elsewhere else has.listed))
    for model in names | dict.fromkeys(given.models):
        own = own_of(given, model, has.makes)
        shown = has.makes in makes(given, model) and not (own and own.hidden)
        if shown and (target := target_of(config, by, model, offer)):
            yield target


def alias_route(
    config: Config, name: str, given: Alias, upstreams: Mapping[str, Upstream], offer: Callable[[str], Offer[C_co]]
) -> Route[C_co]:
    """Where the alias leads, as far as its providers are configured."""
    targets: list[Target[C_co]] = []
    for each in given.targets:
        provider, _, model = each.model.partition("/")
        by = upstreams.get(provider)
        if by and (found := target_of(config, by, model, offer, each.weight)):
            targets.append(found)
    route = Route(
        name, tuple(targets), alias=name, hosting=given.hosting or config.files.hosting, cache=given.cache
    )  # fmt: skip
    return route if given.fallback_on is None else replace(route, fallback_on=given.fallback_on)
