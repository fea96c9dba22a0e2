"""HTTP out: httpx's requests, responses and errors over aiohttp's connections, and the guard for foreign addresses.

httpx's own pool collapses under concurrency, so its transport is replaced: `Transport` hands an `httpx.Request` to an
aiohttp session and gives an `httpx.Response` back whose stream yields the received pieces as they are. Nothing is
redirected, decompressed or remembered (cookies) here, and nothing is sent twice, but for a GET whose connection breaks
before the answer begins: that aiohttp repeats once.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from typing import Any, TypeAlias, cast

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from proxy.catalog import Upstream

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

V4_COMPATIBLE = ipaddress.ip_network("::/96")  # long out of use; nothing public is there
NAT64 = ipaddress.ip_network("64:ff9b::/96")
KEEPALIVE = 15.0  # seconds; short, since a stale connection that dies under a POST leaves its fate unknown
READ_BUFFER = 1 << 20  # bytes that one connection may hold unread


class Refused(httpx.ConnectError):
    """The address is not one that may be fetched from."""


class Allowed:
    """Which addresses may be fetched from: public ones, and what the configuration lists.

    `entries` are host names ("gpu-1") or networks in CIDR form ("10.0.0.0/8").
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self.hosts: set[str] = set()
        self.networks: list[Network] = []
        for entry in entries:
            try:
                self.networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self.hosts.add(entry.lower())

    def host(self, host: str) -> bool:
        """Whether `host` is listed by name: its addresses are not looked at then."""
        return host.lower() in self.hosts

    def address(self, text: str) -> bool:
        """Whether a connection to this address may be made."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped or address.sixtofour or address.teredo:
                inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
                return inner is not None and self.address(str(inner))
            if address in NAT64:
                return self.address(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
        if any(address in network for network in self.networks):
            return True
        if address in V4_COMPATIBLE:
            return False
        return address.is_global and not address.is_multicast


class GuardedResolver(AbstractResolver):
    """Resolves names to the addresses that may be fetched from; `Refused` where none is left.

    The check sits here, after DNS and on the very addresses that are connected to, so a name that changes its
    address between a check and a use gains nothing.
    """

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self.inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As the interface says."""
        try:
            found = await self.inner.resolve(host, port, family)
        except UnicodeError as error:  # "a..b", or a label of more than 63 characters
            raise OSError("not a host name") from error
        if self.allowed.host(host):
            return found
        open_to_us = [entry for entry in found if self.allowed.address(entry["host"])]
        if not open_to_us:
            raise Refused(f"{host} is not a public address")
        return open_to_us

    async def close(self) -> None:
        """As the interface says."""
        await self.inner.close()


class Transport(httpx.AsyncBaseTransport):
    """One pool of connections. With `allowed`, only to addresses that it admits."""

    def __init__(self, allowed: Allowed | None = None) -> None:
        self.allowed = allowed
        self.session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        resolver = GuardedResolver(self.allowed) if self.allowed else None
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE, resolver=resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the answer's body is still to be read.

        `request.extensions["timeout"]` may hold `connect` and `read` in seconds (`read` is between two pieces).
        """
        if self.session is None:
            self.session = self._open()
        host = request.url.host
        if self.allowed and is_address(host) and not (self.allowed.host(host) or self.allowed.address(host)):
            raise Refused(f"{host} is not a public address")
        times = request.extensions.get("timeout", {})
        try:
            answer = await self.session.request(
                request.method,
                str(request.url),
                headers=request.headers.multi_items(),
                data=content(request.stream),
                allow_redirects=False,
                timeout=patience(times.get("connect", 10.0), times.get("read", 300.0)),
            )
        except BROKEN as error:
            raise translated(error) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=Received(answer), request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        if self.session is not None:
            await self.session.close()
            self.session = None


class Received(httpx.AsyncByteStream):
    """A body in the pieces in which it arrives."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = self.answer.content.readchunk
        while True:
            try:
                piece, _ = await read()
            except BROKEN as error:
                raise translated(error) from error
            if piece:
                yield piece
            elif self.answer.content.at_eof():
                return

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body was not read to its end."""
        if self.answer.content.at_eof():
            self.answer.release()
        else:
            self.answer.close()


@lru_cache(64)
def patience(connect: float, read: float) -> aiohttp.ClientTimeout:
    """Seconds for a connection, and between two pieces."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)


def content(stream: object) -> Any:
    """A request's stream as aiohttp takes it."""
    if isinstance(stream, httpx.ByteStream):
        return b"".join(stream) or None
    return cast("httpx.AsyncByteStream", stream).__aiter__()


def is_address(host: str) -> bool:
    """Whether `host` is an IP address and not a name. Short and odd spellings (`127.1`, `0x7f000001`) count."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.replace(".", "").isdigit() or host.lower().startswith("0x")
    return True


def translated(error: Exception) -> httpx.HTTPError:
    """aiohttp's error as httpx's: a `ConnectError` or `ConnectTimeout` says that nothing was sent."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout(str(error))
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(f"cannot connect: {error.os_error}")
        case aiohttp.ServerTimeoutError():
            return httpx.ReadTimeout("no data in time")
        case aiohttp.InvalidURL():
            return httpx.UnsupportedProtocol("not a valid http(s) address")
        case _:
            return httpx.ReadError(f"the connection broke: {type(error).__name__}")


BROKEN = (aiohttp.ClientError, ConnectionError)
"""What aiohttp raises where an exchange fails."""


class Pools:
    """The pools of one server: one per provider, and a guarded one for every other address."""

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed  # private addresses that may be asked all the same
        self.foreign = Transport(allowed)
        self.own: dict[str, Transport] = {}

    def of(self, upstream: Upstream) -> Transport:
        """The provider's pool. Unguarded only where its address was configured."""
        if (found := self.own.get(upstream.name)) is None:
            found = self.own[upstream.name] = Transport(None if upstream.trusted else Allowed())
        return found

    async def aclose(self) -> None:
        """Close them all."""
        for transport in (self.foreign, *self.own.values()):
            await transport.aclose()
