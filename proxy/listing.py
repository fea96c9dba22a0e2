"""The model list, as `GET /v1/models` shows it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.abilities import MADE, own_of
from proxy.catalog import Catalog, Route, Target
from proxy.providers import AnyCaps, Makes
from translators.base import Caps, Free, Price
from translators.video import VideoCaps


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


class VideoCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a model that makes videos can do."""

    tasks: list[str]
    text: bool  # makes videos of text alone
    seconds: list[int]  # every length that it makes
    usual_seconds: int | None  # where none is asked for; null: the model decides
    extra_seconds: list[int]  # that an extension adds
    clip_seconds: list[float]  # least and most of a clip to edit or extend; 0: no bound
    first_frame: bool
    last_frame: bool
    references: int
    references_beside_frames: bool
    sound: str  # none, always, choice
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
    capabilities: Capabilities | VideoCapabilities | None = None
    sizes: list[str] = []
    ratios: list[str] = []
    resolutions: list[str] = []
    free_size: Free | None = None  # any size within these bounds
    price: list[Price] = []
    note: str | None = None


def listing(catalog: Catalog, everything: bool = False, type: Makes | None = None) -> list[dict[str, Any]]:
    """The model list: aliases first, then models, pictures before videos, or those of one `type` alone. A name that
    leads to both stands there twice. `everything` adds the aliases that lead nowhere yet."""
    shelves = [(each, catalog.shelf(each)) for each in MADE if type in {None, each}]
    models = [
        *(
            alias_model(catalog, shelf.aliases[name], makes)
            for name in catalog.config.models
            for makes, shelf in shelves
            if name in shelf.aliases and (everything or shelf.aliases[name].targets)
        ),
        *(
            target_model(catalog, target)
            for _, shelf in shelves
            for target in shelf.targets.values()
            if not hidden(catalog, target)
        ),
    ]
    return [msgspec.to_builtins(model) for model in models]


def hidden(catalog: Catalog, target: Target[AnyCaps]) -> bool:
    """Whether the configuration keeps it out of the list."""
    own = own_of(catalog.config.providers[target.upstream.name], target.model, target.makes)
    return own is not None and own.hidden


def entry(catalog: Catalog, name: str, type: Makes | None = None) -> dict[str, Any]:
    """One model as the list shows it, by any name that leads to it; where that makes pictures and videos and no `type`
    is named, as it makes pictures. Raises the `Fault` of a name that leads nowhere."""
    route = catalog.route(name, type or catalog.makes(name))
    makes = route.targets[0].makes
    model = alias_model(catalog, route, makes) if route.alias else target_model(catalog, route.targets[0], name)
    found: dict[str, Any] = msgspec.to_builtins(model)
    return found


def alias_model(catalog: Catalog, route: Route[AnyCaps], makes: Makes) -> Model:
    """An alias can do what its first target can."""
    leads = [target.id for target in route.targets]
    if not leads:
        return Model(id=route.name, owned_by="pictor", type=makes, provider=None, enabled=False)
    shown = target_model(catalog, route.targets[0], route.name)
    return replace(shown, owned_by="pictor", targets=leads)


def target_model(catalog: Catalog, target: Target[AnyCaps], name: str | None = None) -> Model:
    """A model."""
    caps = target.caps
    return Model(
        id=name or target.id,
        created=catalog.created,
        owned_by=target.upstream.name,
        shutdown_date=caps.ends,
        type=target.makes,
        provider=target.upstream.name,
        enabled=True,
        capabilities=of_videos(caps) if isinstance(caps, VideoCaps) else of_pictures(caps),
        sizes=[f"{width}x{height}" for width, height in caps.sizes],
        ratios=list(caps.ratios),
        resolutions=list(caps.resolutions),
        free_size=None if isinstance(caps, VideoCaps) else caps.free,
        price=list(caps.prices),
        note=caps.note,
    )


def of_pictures(caps: Caps) -> Capabilities:
    """What it can do."""
    return Capabilities(
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
    )


def of_videos(caps: VideoCaps) -> VideoCapabilities:
    """What it can do."""
    return VideoCapabilities(
        tasks=sorted(caps.tasks),
        text=caps.text,
        seconds=list(caps.seconds),
        usual_seconds=caps.usual_seconds or None,
        extra_seconds=list(caps.extra_seconds),
        clip_seconds=list(caps.clip_seconds),
        first_frame=caps.first,
        last_frame=caps.last,
        references=caps.references,
        references_beside_frames=caps.mixes,
        sound=caps.sound,
        params=sorted(caps.params),
        options=sorted(caps.options),
    )
