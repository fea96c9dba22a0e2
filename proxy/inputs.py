"""What a client gave to a call: fetched, typed, bounded; and kept, where the call must outlive this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from proxy import fetch
from proxy.ask import FileRef, Link, Source
from proxy.http import Refused
from proxy.state.files import Stored
from translators.base import Blob, Fault, Media

if TYPE_CHECKING:
    from proxy.gateway import Gateway

I = TypeVar("I", bound=msgspec.Struct)  # noqa: E741  # a struct of inputs

READABLE = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif", "image/tiff")


async def pictures(gateway: Gateway, sources: Sequence[Source], owner: str) -> tuple[Media, ...]:
    """The pictures that the key `owner` named, in their order. Where one cannot be had, nobody waits for the others."""
    tasks = [asyncio.ensure_future(picture(gateway, source, owner)) for source in sources]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def picture(gateway: Gateway, source: Source, owner: str) -> Media:
    """One picture, typed by its first bytes."""
    limits = gateway.config.limits
    blob = await content(gateway, source, owner, limits.image_bytes)
    media = await gateway.pixels.typed(blob, source.param)
    if media.type not in READABLE:
        text = (
            f"Invalid file '{source.param}': unsupported mimetype ('{media.type}'). "
            "Supported file formats are 'image/png', 'image/jpeg', 'image/webp', 'image/gif', and 'image/bmp'."
        )
        raise Fault("invalid", text, code="unsupported_file_mimetype", param=source.param)
    if media.width * media.height > limits.image_pixels:
        text = f"Invalid '{source.param}': {media.width}x{media.height} is more than {limits.image_pixels} pixels."
        raise Fault("invalid", text, code="invalid_image_file", param=source.param)
    return media


async def content(gateway: Gateway, source: Source, owner: str, most: int) -> Blob:
    """The bytes of what was named, at most `most` of them. Raises `Fault("invalid")`."""
    fetching = gateway.config.fetch
    if isinstance(source, Link):
        bounds = {"bytes": min(fetching.max_bytes, most), "seconds": fetching.seconds}
        try:
            blob = await fetch.client_picture(gateway.pools, source, bounds, spooled=True)
        except Fault as fault:
            if isinstance(fault.__cause__, Refused):
                gateway.metrics.count("fetch_refused_total", "client", "address")
            raise
    elif isinstance(source, FileRef):
        blob = await gateway.uploads.picture(owner, source, most)
    else:
        blob = source.blob
    if blob.length > most:
        text = f"Invalid '{source.param}': the file is larger than {most} bytes."
        raise Fault("invalid", text, code="invalid_image_file", param=source.param)
    return blob


# ---- kept for a process that goes on


async def keep(gateway: Gateway, inputs: msgspec.Struct, kept: list[str]) -> dict[str, Any]:
    """All of it as a row has it, its files by their ids in the store, which are added to `kept` as they get there."""

    async def told(value: Any) -> Any:
        if isinstance(value, Media):
            kept.append(await gateway.store(value.blob, value.type))
            said = {name: each for name in MEDIA if (each := getattr(value, name))}
            return {"stored": kept[-1], **said}
        return [await told(each) for each in value] if isinstance(value, tuple) else msgspec.to_builtins(value)

    return {name: await told(value) for name in inputs.__struct_fields__ if (value := getattr(inputs, name))}


MEDIA = ("type", "width", "height", "alpha")


async def again(gateway: Gateway, inputs: type[I], told: dict[str, Any]) -> I:
    """What `keep` wrote. Raises `Fault("missing")` where its files are gone."""

    async def read(value: Any) -> Any:
        if isinstance(value, dict) and "stored" in value:
            stored = await gateway.files.open(value["stored"])
            said = {name: value[name] for name in MEDIA if name in value}
            return Media(blob=await gateway.files.fetched(stored), **said)
        return tuple([await read(each) for each in value]) if isinstance(value, list) else value

    return inputs(**{name: await read(value) for name, value in told.items()})


def ids(told: dict[str, Any]) -> list[str]:
    """The files that `keep` left in the store."""
    found: list[str] = []
    for value in told.values():
        every = value if isinstance(value, list) else [value]
        found += [each["stored"] for each in every if isinstance(each, dict) and "stored" in each]
    return found


def let_go(gateway: Gateway, inputs: msgspec.Struct, told: dict[str, Any]) -> None:
    """Hold no longer in memory what `keep` has written: whoever walks it again reads it from the store.

    Thousands of tasks may wait for their providers, and few of them are ever sent anywhere else.
    """
    for name, value in told.items():
        given = getattr(inputs, name)
        many = isinstance(value, list)
        for media, each in zip(given if many else (given,), value if many else (value,), strict=True):
            if isinstance(media, Media) and "stored" in each:
                kept = gateway.files.blob(Stored(each["stored"], media.type, media.blob.length, 0.0))
                media.blob.chunks, media.blob.size, media.blob.encoding = kept.chunks, kept.size, kept.encoding
