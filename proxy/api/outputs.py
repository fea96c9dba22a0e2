"""GET and HEAD /v1/outputs/{id}: a made file or its thumbnail, opened by the signature in its link. No key needed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Protocol

from litestar import HttpMethod, Request, Response, route
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from proxy import invalid
from proxy.api.serving import Served, answer
from proxy.pixels import Pixels
from proxy.state.files import SIDES, Files, Stored
from proxy.thumbnail import thumbnail as reduced
from proxy.video.stills import still_of
from proxy.video.stills import thumbnail as poster_of
from proxy.works import Works
from translators.base import Blob, Fault

Expires = Annotated[
    str | None, QueryParameter(description="When the link ends, in seconds since 1970. As it was given.")
]
Signature = Annotated[str | None, QueryParameter(description="What makes the link valid. As it was given.")]
Thumbnail = Annotated[
    str | None,
    QueryParameter(description="256, 512 or 1024: a WebP instead, whose longest edge has at most so many pixels."),
]

THUMBNAIL_BYTES = 64 << 20  # of a file of which one is made
WEEK = 604_800  # seconds; no store signs for longer
SPARE = 60  # seconds for which a redirect works longer than a client keeps it


class Parts(Protocol):
    """What is needed of a server."""

    files: Files
    pixels: Pixels
    works: Works


@route(
    "/v1/outputs/{id:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    exclude_from_auth=True,
    summary="A made file",
    tags=["Outputs"],
    media_type="*/*",  # what the file is; the documentation would say JSON
)
async def output(
    request: Request[Any, Any, State],
    id: FromPath[str],
    expires: Expires = None,
    signature: Signature = None,
    thumbnail: Thumbnail = None,
) -> Response[Any]:
    """The file's bytes, whole or one range of them."""
    parts: Parts = request.app.state.gateway
    left = parts.files.verify(id, expires, signature)
    stored = await parts.files.open(id)
    if thumbnail is not None and stored.type != "image/svg+xml":  # a drawing is of any size
        return await small(request, parts, stored, side_of(thumbnail), left)
    if thumbnail is None and request.method == "GET":  # the store's own links open to GET alone
        lasts = min(left + SPARE, WEEK)
        if url := await parts.files.presigned(id, lasts):
            headers = {"location": url, "cache-control": f"private, max-age={lasts - SPARE}"}
            return Response(b"", status_code=307, headers=headers)
    served = Served(
        tag=id, type=stored.type, size=stored.size, modified=stored.modified, name=id, max_age=left
    )  # fmt: skip
    return answer(request, served, partial(parts.files.read, id))


def side_of(text: str) -> int:
    """The longest edge that is asked for. Raises `Fault("invalid")`."""
    sides = [str(side) for side in SIDES]
    if text not in sides:
        raise invalid.unsupported_value("thumbnail", text, sides)
    return int(text)


async def small(request: Request[Any, Any, State], parts: Parts, stored: Stored, side: int, left: int) -> Response[Any]:
    """The thumbnail of `stored`."""
    picture = await parts.files.thumbnail(stored.id, side) or await made(parts, stored, side)

    async def read(start: int, stop: int) -> AsyncGenerator[bytes, None]:
        yield picture.bytes()[start:stop]

    served = Served(
        tag=f"{stored.id}.{side}", type="image/webp", size=picture.size, modified=stored.modified,
        name=f"{stored.id.rpartition('.')[0]}-{side}.webp", max_age=left,
    )  # fmt: skip
    return answer(request, served, read)


async def made(parts: Parts, stored: Stored, side: int) -> Blob:
    """A new thumbnail, kept for the next who asks. Raises `Fault("invalid")` where there can be none."""
    if stored.type.startswith("video/"):
        try:
            return await still_of(parts.files, parts.works, stored, poster_of(side))
        except Fault as fault:
            if fault.kind != "invalid":
                raise
            raise no_thumbnail(fault.message) from fault
    if not stored.type.startswith("image/") or stored.size > THUMBNAIL_BYTES:
        raise no_thumbnail(f"it is {stored.type} of {stored.size} bytes")
    try:
        picture = await parts.pixels.aside(reduced, parts.files.blob(stored), side, parts.pixels.bound)
    except Fault as fault:
        if fault.kind == "overloaded":
            raise
        raise no_thumbnail(fault.message) from fault
    with suppress(Fault):  # a full store is no reason to answer nothing
        await parts.files.keep_thumbnail(stored.id, side, picture)
    return picture


def no_thumbnail(why: str) -> Fault:
    """The fault of a file that cannot be shown small."""
    text = f"There is no thumbnail of this file: {why}."
    return Fault("invalid", text, code="thumbnail_unavailable", param="thumbnail")
