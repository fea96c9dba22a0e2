"""Kept bytes as an answer: whole, one range of them, their headers alone, or told that nothing has changed."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from email.utils import formatdate, parsedate_to_datetime
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.response import Stream

Read: TypeAlias = Callable[[int, int], AsyncGenerator[bytes, None]]
"""Bytes from the first number to before the second."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered with. The bytes behind a `tag` never change."""

    tag: str
    type: str
    size: int
    modified: float  # seconds since 1970
    name: str  # under which a browser saves it
    max_age: int  # seconds that a client may keep it
    attached: bool = False  # a browser saves it, and does not show it


def answer(request: Request[Any, Any, State], served: Served, read: Read) -> Response[Any]:
    """`served` as this request wants it."""
    headers = described(served)
    if unchanged(request, served):
        return Response(b"", status_code=304, headers=headers)
    headers |= {"content-type": served.type, "content-length": str(served.size)}
    if request.method == "HEAD":  # a range is GET's alone
        return Response(b"", headers=headers)
    part = span(request.headers.get("range", ""), served.size) if range_counts(request, served) else None
    if part is None:
        return Stream(read(0, served.size), headers=headers)
    headers["content-length"] = str(len(part))
    if not part:
        headers["content-range"] = f"bytes */{served.size}"
        return Response(b"", status_code=416, headers=headers)
    headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{served.size}"
    return Stream(read(part.start, part.stop), status_code=206, headers=headers)


def described(served: Served) -> dict[str, str]:
    """What every answer about it says."""
    headers = {
        "etag": f'"{served.tag}"',
        "last-modified": formatdate(served.modified, usegmt=True),
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={served.max_age}",
        "content-disposition": disposition(served.name, attached=served.attached),
        "x-content-type-options": "nosniff",
    }
    if served.type == "image/svg+xml":  # a drawing may hold scripts, and this is our own origin
        headers["content-security-policy"] = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
    return headers


def disposition(name: str, *, attached: bool) -> str:
    """A Content-Disposition (RFC 6266), with a plain name for those who cannot read the full one."""
    plain = _UNSAFE.sub("_", name)
    told = f'{"attachment" if attached else "inline"}; filename="{plain}"'
    return told if plain == name else f"{told}; filename*=UTF-8''{quote(name, safe='')}"


_UNSAFE = re.compile(r'[^ -~]|["\\%]')


def unchanged(request: Request[Any, Any, State], served: Served) -> bool:
    """Whether the client has it already (RFC 9110, 13.2.2: a tag is asked before a date)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        tag = f'"{served.tag}"'
        return tags.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in tags.split(","))
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
    except ValueError:
        return False
    return int(served.modified) <= since.timestamp()


def range_counts(request: Request[Any, Any, State], served: Served) -> bool:
    """Whether a `Range` is meant for this very file."""
    only_if = request.headers.get("if-range")
    return only_if is None or only_if in (f'"{served.tag}"', formatdate(served.modified, usegmt=True))


_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


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
