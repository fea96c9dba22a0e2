"""What is measured, and the bars: data."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Unit: TypeAlias = Literal["req/s", "MB/s"]

MIB = 1 << 20
EDGES = {1: 512, 4: 1024, 16: 2048}
"""MiB of base64 -> edge of the square RGB picture that it is, stored without compression."""
UPLOADS = {4: (1024, 1365), 20: (2580, 2583)}
"""Size of an uploaded picture in MiB or MB -> width and height. 4 MiB; 20 MB."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request, sent by `connections` clients that each ask again as soon as they are answered."""

    name: str
    connections: int
    path: str  # at the upstream, and so through nginx
    model: str  # through Pictor
    unit: Unit = "req/s"
    respond: Literal["url", "b64_json"] = "url"
    upload: int = 0  # key of `UPLOADS`; 0: a generation
    answer: int = 0  # MiB of base64 that the answer holds, 0: a link
    bar: float | None = None  # Pictor's rate over nginx's, at least
    peak_mib: float | None = None  # the server's memory, at most

    @property
    def bulk(self) -> bool:
        """Whether bytes are the load, rather than requests."""
        return bool(self.answer or self.upload)


def small(connections: int, bar: float | None = None) -> Scenario:
    return Scenario(
        name=f"250-byte answer, {connections}",
        connections=connections,
        path="/small/v1/images/generations",
        model="small/m",
        bar=bar,
    )


def openai(size: int, connections: int, bar: float | None = None, peak_mib: float | None = None) -> Scenario:
    return Scenario(
        name=f"{size} MiB base64, {connections}",
        connections=connections,
        path=f"/b64-{size}/v1/images/generations",
        model=f"b64-{size}/m",
        unit="MB/s",
        respond="b64_json",
        answer=size,
        bar=bar,
        peak_mib=peak_mib,
    )


def gemini(size: int) -> Scenario:
    return Scenario(
        name=f"{size} MiB base64, Gemini, 8",
        connections=8,
        path=f"/gemini/v1beta/models/size-{size}:generateContent",
        model=f"gemini/size-{size}",
        unit="MB/s",
        respond="b64_json",
        answer=size,
        bar=0.6,
    )


def edit(size: int, what: str, connections: int, bar: float | None = None, peak_mib: float | None = None) -> Scenario:
    return Scenario(
        name=f"edit with {what}, {connections}",
        connections=connections,
        path="/edit/v1/images/edits",
        model="edit/m",
        unit="MB/s",
        upload=size,
        bar=bar,
        peak_mib=peak_mib,
    )


LINK = msgspec.structs.replace(openai(4, 8, bar=0.6), name="4 MiB, url to base64, 8", model="link/m")
"""Pictor downloads and encodes what nginx passes on as ready base64."""

SLOW = msgspec.structs.replace(
    small(256, bar=0.4), name="50 ms upstream, 256", path="/slow/v1/images/generations", model="slow/m"
)

SCENARIOS = (
    small(1),
    small(16),
    small(64, bar=0.05),
    small(256),
    SLOW,
    *(openai(size, connections, 0.6 if connections == 8 else None) for size in EDGES for connections in (1, 8)),
    *(openai(size, 32, peak_mib=1.3 * 32 * size + 100 if size == 16 else None) for size in EDGES),
    *(gemini(size) for size in EDGES),
    LINK,
    edit(4, "4 MiB", 8, bar=0.35),
    edit(20, "20 MB", 20, peak_mib=600e6 / MIB),
)

FLAT = 0.8  # the rate at 256 connections over the rate at 16, at least
ADDED_MS = 0.6  # latency beyond the direct call at one connection, p50, at most
START_SECONDS = 1.0  # to the first 200
IDLE_MIB = 90.0  # at rest after start
