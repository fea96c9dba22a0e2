"""Pictures of made videos, kept beside them so that each is made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

import msgspec

from proxy.state.files import Files, Stored
from proxy.video.poster import Film, poster, spritesheet
from proxy.works import Works
from translators.base import Blob, Fault, blob

SIDE = 1024  # pixels of a thumbnail's longest edge; one of `files.SIDES`
PLACES = asyncio.Semaphore(2)  # that are made at once: each takes a processor for some seconds


class Still(msgspec.Struct, frozen=True):
    """One kind of picture of a video."""

    name: str
    type: str
    extension: str
    make: Callable[[Film], bytes]
    kept: Callable[[Files, str], Awaitable[Blob | None]]
    keep: Callable[[Files, str, Blob], Awaitable[None]]


def thumbnail(side: int) -> Still:
    """A poster whose longest edge is one of `files.SIDES`."""
    return Still(
        f"thumbnail-{side}", "image/webp", "webp", partial(poster, side=side),
        lambda files, id: files.thumbnail(id, side), lambda files, id, made: files.keep_thumbnail(id, side, made),
    )  # fmt: skip


STILLS: Mapping[str, Still] = {
    "thumbnail": thumbnail(SIDE),
    "spritesheet": Still("spritesheet", "image/jpeg", "jpg", spritesheet, Files.sheet, Files.keep_sheet),
}  # fmt: skip
"""By OpenAI's name of the variant."""


async def still_of(files: Files, works: Works, stored: Stored, still: Still) -> Blob:
    """The picture, as it was made before or is made now. Raises as `poster.poster` does."""
    async with works.alone(f"{stored.id}.{still.name}"):
        if found := await still.kept(files, stored.id):
            return found
        film = files.local(stored) or await files.fetched(stored)
        async with PLACES:
            made = blob(await asyncio.to_thread(still.make, film))
        with suppress(Fault):  # a full store is no reason to answer nothing
            await still.keep(files, stored.id, made)
        return made
