"""Pictures by address: what a client names, and what a provider made. Guarded, bounded, without any credential."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from urllib.parse import unquote_to_bytes

import httpx
import pybase64

from proxy import wire
from proxy.ask import Link
from proxy.catalog import Upstream
from proxy.forms import collected
from proxy.http import Pools, Refused, Transport
from translators.base import Blob, Fault, aligned, blob
from translators.shapes import bare

REDIRECTS = 5
SMALL = 1 << 20  # bytes of an answer that is no picture
CUT = 256 << 10  # bytes of a `data:` URL in one piece; sent in one, each of several uploads would be buffered whole
HEADERS = {"Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity", "User-Agent": wire.AGENT}


async def get(
    pools: Pools, url: str, *, most: int, seconds: float, own: Transport | None = None, own_host: str = "",
    spooled: bool = False,
) -> Blob:  # fmt: skip
    """The bytes at `url`, at most `most` of them, within `seconds`. `spooled`: what is large waits on the local disk.

    `own` is used for addresses at `own_host` (a configured server, which may be private); every other host, and
    every host that a redirect leads to, must be public or listed. Raises httpx's errors, and `Fault("upstream")` for
    a status that is not 200 or a body that is too large.
    """
    async with asyncio.timeout(seconds):
        for _ in range(REDIRECTS + 1):
            target = checked(url)
            transport = own if own is not None and netloc(target) == own_host else pools.foreign
            request = httpx.Request("GET", target, headers=HEADERS, extensions={"timeout": {"read": min(seconds, 60)}})
            response = await transport.handle_async_request(request)
            try:
                if response.is_redirect and "location" in response.headers:
                    url = joined(target, response.headers["location"])
                    continue
                if response.status_code != 200:
                    raise Fault(
                        "missing" if response.status_code in {403, 404, 410} else "upstream",
                        f"Error while downloading file. Upstream status code: {response.status_code}.",
                        code="download_failed",
                    )
                headers = wire.headers_of(response)
                if spooled:
                    return await collected(wire.bounded(response, headers, most))
                pieces = [piece async for piece in wire.bounded(response, headers, most)]
                return Blob(tuple(pieces), sum(map(len, pieces)))
            finally:
                await response.aclose()
        raise Fault("upstream", "Error while downloading file. Too many redirects.", code="download_failed")


def checked(url: str) -> httpx.URL:
    """`url` parsed. Raises `Refused` for anything but http and https, and for addresses with a user in them."""
    try:
        target = httpx.URL(url)
        host = target.host  # decodes an international name
    except (httpx.InvalidURL, ValueError) as error:
        raise Refused("not a valid address") from error
    if target.scheme not in {"http", "https"} or not host:
        raise Refused("only http and https addresses are fetched")
    if target.userinfo:
        raise Refused("addresses with a user name are not fetched")
    return target


def joined(target: httpx.URL, location: str) -> str:
    """Where a redirect leads. Raises `Refused` where that is no address."""
    try:
        return str(target.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise Refused("a redirect to what is not a valid address") from error


def at_home(url: str, upstream: Upstream) -> bool:
    """Whether `url` is at the provider's configured server, which may be private."""
    return upstream.trusted and netloc(checked(url)) == netloc(httpx.URL(upstream.base))


def netloc(url: httpx.URL) -> str:
    """Scheme, host and port, the port always written."""
    return f"{url.scheme}://{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def data_url(url: str) -> Blob:
    """The picture in a `data:` URL, its base64 kept as it is. Raises `ValueError` where it is none."""
    head, comma, text = url.partition(",")
    if not comma:
        raise ValueError("a data: URL needs a comma before its data")
    if head.endswith(";base64"):
        data = text.encode("ascii")
        data += b"=" * (-len(data) % 4)
        try:
            pybase64.b64decode(data, validate=True)  # it may be sent on as it is, within somebody's JSON
        except ValueError as error:
            raise ValueError("its base64 is broken") from error
        return Blob(tuple(data[at : at + CUT] for at in range(0, len(data), CUT)), len(data), "base64")
    return blob(unquote_to_bytes(text))


def lifted_url(text: Blob) -> Blob:
    """`data_url` of an address that was lifted out of a body: in its pieces, nothing joined. For a thread."""
    head = b"".join(islice(text.chunks, 2))[:256]
    if b";base64," not in head:
        return data_url(b"".join(text.chunks).decode())
    picture = bare(text)
    padding = -picture.size % 4
    picture = Blob((*picture.chunks, b"=" * padding), picture.size + padding, "base64")
    ended = False
    for piece in aligned(picture.chunks, 4):
        if ended:
            raise ValueError("its base64 is broken")
        ended = len(pybase64.b64decode(piece, validate=True)) * 4 < len(piece) * 3  # padded
    return picture


def plain(
    pools: Pools,
) -> Callable[[str, str, Mapping[str, str], bytes], Awaitable[tuple[int, Mapping[str, str], bytes]]]:
    """One small request to a public address, such as a token endpoint, by the shape that `Credentials` takes."""

    async def fetch(
        method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        request = httpx.Request(
            method, checked(url), headers=dict(headers), content=body, extensions={"timeout": {"read": 30.0}}
        )
        response = await pools.foreign.handle_async_request(request)
        try:
            told = wire.headers_of(response)
            return response.status_code, told, b"".join([piece async for piece in wire.bounded(response, told, SMALL)])
        finally:
            await response.aclose()

    return fetch


async def client_picture(pools: Pools, link: Link, limits: Mapping[str, float], *, spooled: bool = False) -> Blob:
    """What the client's `link` leads to. Every failure is the client's: a 400 that names its parameter."""
    param = link.param
    try:
        if link.blob is not None:
            return await asyncio.to_thread(lifted_url, link.blob)
        if link.url.startswith("data:"):
            return data_url(link.url)
    except ValueError as error:
        raise Fault("invalid", f"Invalid '{param}': {error}.", code="invalid_value", param=param) from error
    try:
        return await get(
            pools, link.url, most=int(limits["bytes"]), seconds=limits["seconds"], spooled=spooled
        )  # fmt: skip
    except Refused as error:
        text = f"Error while downloading file: {error}."
        raise Fault("invalid", text, code="invalid_value", param=param) from error
    except (httpx.HTTPError, TimeoutError) as error:
        message = f"Error while downloading file: {str(error) or 'no answer in time'}."
    except Fault as fault:
        if fault.kind == "overloaded":  # our own disk
            raise
        message = fault.message
    raise Fault("invalid", message, code="invalid_value", param=param)
