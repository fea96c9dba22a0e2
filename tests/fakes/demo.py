"""Our own painter: in the list with the others, but without a wire."""

from __future__ import annotations

from typing import Any, ClassVar

from aiohttp import web

from tests.fakes.base import GOOD_KEY, Fake


class Demo(Fake):
    name: ClassVar[str] = "demo"
    generates: ClassVar[str] = "painter"
    edits: ClassVar[str | None] = "painter"
    masks: ClassVar[str | None] = "painter"
    fuses: ClassVar[str | None] = "painter"
    streams: ClassVar[str | None] = "painter"
    wired: ClassVar[bool] = False
    keyed: ClassVar[bool] = False
    previews: ClassVar[int | None] = 2

    def routes(self) -> list[web.RouteDef]:
        return []

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {}
