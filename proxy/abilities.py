"""What a configured model makes and can do: as the release knows it, each field overruled by the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from proxy import providers
from proxy.config import Alias, Config
from proxy.providers import AnyCaps, C_co, Makes, Offer, Provider
from translators.base import Fault

MADE: Mapping[Makes, str] = {"image": "pictures", "video": "videos"}
OFFERS: Mapping[Makes, Callable[[str], Offer[AnyCaps]]] = {"image": providers.pictures, "video": providers.videos}
"""Kind of model -> what a translator has of it."""


def own_of(given: Provider, model: str, makes: Makes) -> providers.Model | None:
    """What the configuration says of the model that makes such things."""
    own = given.models.get(model)
    return own if own and own.type == makes else None


def site_of(given: Provider, own: providers.Model | None) -> Mapping[str, str]:
    """The settings that hold for a model."""
    return {**given.site, **own.site} if own and own.site else given.site


def caps_of(given: Provider, model: str, has: Offer[C_co]) -> C_co | None:
    """What the model can do: as the release knows it, each field overruled by the configuration."""
    if given.models_only is not None and model not in given.models_only:
        return None
    if (sure := surely_makes(given, model)) and has.makes not in sure:
        return None
    own = own_of(given, model, has.makes)
    try:
        declared = has.declared(site_of(given, own)) if given.base_url else None
    except Fault:  # `flaws` says what is wrong
        return None
    known = has.find(own.like if own and own.like else model) or declared
    if not own:
        return known
    if known:
        return replace(known, **own.caps)
    return has.shape(**own.caps) if has.needs in own.caps else None


def surely_makes(given: Provider, model: str) -> tuple[Makes, ...]:
    """What is said of it, and what the lists say; of a model that only a provider can know, nothing."""
    own = given.models.get(model)
    said = (own.type,) if own else ()
    return (*said, *(has.makes for has in providers.offers(given.translator) if model in has.listed))


def makes(given: Provider, model: str) -> tuple[Makes, ...]:
    """What it makes; where nobody can tell, it is taken for the first thing that it may make."""
    every = (has.makes for has in providers.offers(given.translator) if caps_of(given, model, has))
    return surely_makes(given, model) or tuple(every)[:1]


def alias_makes(config: Config, given: Alias) -> tuple[Makes, ...]:
    """What all targets of an alias may make, and one of them surely makes."""
    named = [
        (config.providers[name], model) for name, _, model in (each.model.partition("/") for each in given.targets)
    ]
    sure = {kind for by, model in named for kind in makes(by, model)}
    return tuple(
        kind
        for kind, offer in OFFERS.items()
        if kind in sure and all(caps_of(by, model, offer(by.translator)) for by, model in named)
    )
