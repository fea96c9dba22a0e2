"""GET and HEAD /v1/outputs/{id}: a made file, opened by the signature in its link. No key needed."""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from typing import Annotated, Any

from litestar import HttpMethod, Request, Response, route
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from proxy.state.files import Files, Stored

Expires = Annotated[
    str | None, QueryParameter(description="When the link ends, in seconds since 1970. As it was given.")
]
Signature = Annotated[str | None, QueryParameter(description="What makes the link valid. As it was given.")]

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


@route(
    "/v1/outputs/{id:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    exclude_from_auth=True,
    summary="A made file",
    tags=["Outputs"],
    media_type="*/*",  # what the file is; the documentation would say JSON
)
async def output(
    request: Request[Any, Any, State], id: FromPath[str], expires: Expires = None, signature: Signature = None
) -> Response[Any]:
    """The file's bytes, whole or one range of them."""
    files = files_of(request)
    left = files.verify(id, expires, signature)
    return answer(request, files, await files.open(id), left)


def files_of(request: Request[Any, Any, State]) -> Files:
    """The store of this server."""
    files: Files = request.app.state.files
    return files


def answer(request: Request[Any, Any, State], files: Files, stored: Stored, max_age: int) -> Response[Any]:
    """`stored` as this request wants it: whole, one range, its headers alone, or told that it has not changed."""
    headers = described(stored, max_age)
    if unchanged(request, stored):
        return Response(b"", status_code=304, headers=headers)
    headers |= {"content-type": stored.type, "content-length": str(stored.size)}
    if request.method == "HEAD":  # a range is GET's alone
        return Response(b"", headers=headers)
    part = span(request.headers.get("range", ""), stored.size) if range_counts(request, stored) else None
    if part is None:
        return Stream(files.read(stored.id), headers=headers)
    headers["content-length"] = str(len(part))
    if not part:
        headers["content-range"] = f"bytes */{stored.size}"
        return Response(b"", status_code=416, headers=headers)
    headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{stored.size}"
    return Stream(files.read(stored.id, part.start, part.stop), status_code=206, headers=headers)


def described(stored: Stored, max_age: int) -> dict[str, str]:
    """What every answer about it says."""
    headers = {
        "etag": etag(stored),
        "last-modified": formatdate(stored.modified, usegmt=True),
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={max_age}",
        "content-disposition": f'inline; filename="{stored.id}"',
        "x-content-type-options": "nosniff",
    }
    if stored.type == "image/svg+xml":  # a drawing may hold scripts, and this is our own origin
        headers["content-security-policy"] = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
    return headers


def etag(stored: Stored) -> str:
    """Its id: what is under one never changes."""
    return f'"{stored.id}"'


def unchanged(request: Request[Any, Any, State], stored: Stored) -> bool:
    """Whether the client has it already (RFC 9110, 13.2.2: a tag is asked before a date)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or etag(stored) in (tag.strip().removeprefix("W/") for tag in tags.split(","))
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
    except ValueError:
        return False
    return int(stored.modified) <= since.timestamp()


def range_counts(request: Request[Any, Any, State], stored: Stored) -> bool:
    """Whether a `Range` is meant for this very file."""
    only_if = request.headers.get("if-range")
    return only_if is None or only_if in (etag(stored), formatdate(stored.modified, usegmt=True))


def span(header: str, size: int) -> range | None:
    """The bytes that a `Range` header asks for; empty where there are none such; `None`: all of it.

    Several ranges, and what cannot be read, count as none asked for: RFC 9110 allows the whole then.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[0].endswith("=-"):
        return None
    if not found[1]:  # the last so many
        return range(max(0, size - int(found[2])), size)
    start, stop = int(found[1]), int(found[2]) + 1 if found[2] else size
    if found[2] and stop <= start:
        return None
    return range(min(start, size), min(stop, size))
