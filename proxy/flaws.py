"""What is wrong with the models that a configuration names, each fault with its path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import translators
from proxy import prices, providers
from proxy.abilities import MADE, OFFERS, alias_makes, caps_of, makes, site_of
from proxy.config import Alias, Config
from proxy.providers import AnyCaps, Makes, Provider
from translators.base import Fault
from translators.video import VideoCaps


def flaws(config: Config) -> list[str]:
    """What is wrong with the models that the configuration names, each with its path."""
    found = [flaw for name, given in config.providers.items() for flaw in provider_flaws(name, given)]
    for name, alias in config.models.items():
        found += alias_flaws(config, name, alias)
    if found:
        return found
    wanted: tuple[tuple[str, str | None, Makes], ...] = (
        ("default_model", config.default_model, "image"),
        ("default_video_model", config.default_video_model, "video"),
    )
    return [
        f"{path}: {name} is neither an alias nor a provider/model that can be, or makes no {MADE[makes]}"
        for path, name, makes in wanted
        if name and not leads_somewhere(config, name, makes)
    ]


def provider_flaws(name: str, given: Provider) -> Iterator[str]:
    """Models that cannot be."""
    if fault := wrong_setting(given):
        yield f"providers.{name}.{fault.param}: {fault.message}"
    for model, own in given.models.items():
        path = f"providers.{name}.models.{model}"
        has = OFFERS[own.type](given.translator)
        if fault := wrong_setting(given, own):
            yield f"{path}.{fault.param}: {fault.message}"
        elif own.type == "video" and given.translator not in translators.VIDEO_MAKERS:
            yield f"{path}.type: {given.translator} makes no videos; {', '.join(translators.VIDEO_MAKERS)} do"
        elif own.like and has.find(own.like) is None:
            yield f"{path}.like: {name} has no model {own.like}"
        elif given.models_only is None and caps_of(given, model, has) is None:
            yield f"{path}.{has.needs}: required, as no release knows this model"
        elif "prices" in own.caps and (caps := caps_of(given, model, has)):
            yield from price_flaws(caps, f"{path}.prices")
    for index, model in enumerate(given.models_only or ()):
        if not makes(given, model):
            yield f"providers.{name}.models_only[{index}]: {name} has no model {model}"


def price_flaws(caps: AnyCaps, path: str) -> Iterator[str]:
    """Price rules for what this model does not make, each with its place."""
    if isinstance(caps, VideoCaps):
        for index, rule in enumerate(caps.prices):
            if rule.resolution and caps.resolutions and rule.resolution not in caps.resolutions:
                known = ", ".join(caps.resolutions)
                yield f"{path}[{index}].resolution: expected one of {known}, got {rule.resolution}"
        return
    for index, rule in enumerate(prices.settled(caps, None)):
        if rule.resolution and rule.pixels == prices.NOWHERE:
            yield f"{path}[{index}].resolution: nothing says how large a picture of {rule.resolution} is; give pixels"
        if rule.quality and caps.qualities and rule.quality not in caps.qualities:
            yield f"{path}[{index}].quality: expected one of {', '.join(caps.qualities)}, got {rule.quality}"


def wrong_setting(given: Provider, own: providers.Model | None = None) -> Fault | None:
    """What is wrong with the settings of a model, or with those that all share; said where they stand."""
    try:
        if given.base_url:
            OFFERS[own.type if own else "image"](given.translator).declared(site_of(given, own))
    except Fault as fault:
        shared = fault.param in given.site
        if shared if own is None else fault.param in own.site or not shared:
            return fault
    return None


def alias_flaws(config: Config, name: str, alias: Alias) -> Iterator[str]:
    """Targets that cannot be, those that make something else, and fallbacks that cannot do what the first one can."""
    named: list[tuple[str, str, Provider, str]] = []
    for index, target in enumerate(alias.targets):
        path = f"models.{name}[{index}]"
        provider, slash, model = target.model.partition("/")
        given = config.providers.get(provider)
        if not slash or given is None:
            known = ", ".join(config.providers)
            yield f"{path}: expected provider/model with one of the providers {known}, got {target.model}"
        elif not makes(given, model):
            yield f"{path}: {provider} has no model {model}"
        else:
            named.append((path, target.model, given, model))
    if named and len(named) == len(alias.targets):
        kinds = alias_makes(config, alias)
        yield from lacking(named, kinds[0]) if kinds else mixed(named)


def mixed(named: Sequence[tuple[str, str, Provider, str]]) -> Iterator[str]:
    """Targets that make what the first one does not."""
    first = makes(named[0][2], named[0][3])
    for path, target, given, model in named[1:]:
        if not set(first) & set(other := makes(given, model)):
            yield f"{path}: {target} makes {MADE[other[0]]}, the first target {MADE[first[0]]}"


def lacking(named: Sequence[tuple[str, str, Provider, str]], kind: Makes) -> Iterator[str]:
    """Targets that cannot do what the first one can."""
    first: frozenset[str] | None = None
    for path, target, given, model in named:
        caps = caps_of(given, model, OFFERS[kind](given.translator))
        does = frozenset[str]() if caps is None else caps.tasks if isinstance(caps, VideoCaps) else caps.ops
        if first is None:
            first = does & {"create"} or does  # an earlier video is worked on where it was made, a clip where one can
        elif less := first - does:
            yield f"{path}: {target} cannot {', '.join(sorted(less))}, as the first target can"


def leads_somewhere(config: Config, name: str, kind: Makes) -> bool:
    """Whether `name` is an alias, or a model of a provider that is known, and makes such things."""
    if alias := config.models.get(name):
        return kind in alias_makes(config, alias)
    provider, slash, model = name.partition("/")
    given = config.providers.get(provider)
    return bool(slash and given and caps_of(given, model, OFFERS[kind](given.translator)))
