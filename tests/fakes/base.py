"""What every fake upstream shares: a real server in a thread, a record of what it saw, and pictures to answer with.

All fakes understand the same words in a prompt, so that one test can ask the same of every provider:
`refuse me` is refused by the safety system, `rate limit me` always answers the provider's "too fast", `fail me` its
server error, `empty please` success without a picture. The credential `wrong-key` is unknown to all of them.
"""

from __future__ import annotations

import asyncio
import io
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web
from PIL import Image

from translators.base import MaskRule, Size

GOOD_KEY = "test-key"
WRONG_KEY = "wrong-key"


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Fake:
    """One strict upstream. Subclasses give `name`, models to try, and `routes`."""

    name: ClassVar[str]  # the provider's id, as in `translators.NAMES`
    generates: ClassVar[str]  # a model that makes pictures from text
    edits: ClassVar[str | None] = None  # … from a picture and text
    masks: ClassVar[str | None] = None  # … with a mask
    fuses: ClassVar[str | None] = None  # … from several pictures
    streams: ClassVar[str | None] = None  # … with real events
    varies: ClassVar[str | None] = None  # … from a picture alone; not said: the one that edits, where it can

    wired: ClassVar[bool] = True  # whether anything reaches it
    keyed: ClassVar[bool] = True  # whether it asks for a credential
    photo: ClassVar[Size] = (512, 384)  # of pictures that these models take
    mask_rule: ClassVar[MaskRule] = "white-edits"  # how a mask says what is to be edited
    mask_first: ClassVar[bool] = False  # whether the mask stands before the picture in a request
    previews: ClassVar[int | None] = None  # of two that are asked for, how many come for sure
    counts: ClassVar[bool] = False  # whether it always tells tokens, as OpenAI does
    pause_ms: ClassVar[int | None] = None  # what its rate limit asks for

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # what it raised: a fault of the fake's own

    def routes(self) -> list[web.RouteDef]:
        """What it answers to."""
        raise NotImplementedError

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        """Its entry under `providers:` in the configuration."""
        return {"api_key": key, "base_url": self.url}

    def pays(self, seen: Seen) -> bool:
        """Whether that request is one for pictures: no poll, no upload, no login."""
        return seen.method == "POST"

    def at(self, address: str) -> bytes | None:
        """The picture that it was given under that address: one that was uploaded to it, or that it has fetched."""
        return None

    @web.middleware
    async def record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Keep what came before it is answered."""
        body = await request.read()
        self.seen.append(Seen(request.method, request.path, dict(request.query), dict(request.headers), body))
        try:
            answer: web.StreamResponse = await handler(request)
        except web.HTTPException:
            raise
        except Exception:
            self.broken.append(traceback.format_exc())
            raise
        return answer


@contextmanager
def running(fake: Fake) -> Iterator[Fake]:
    """`fake` on a free port of the loopback, in a thread of its own."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def up() -> web.AppRunner:
        app = web.Application(client_max_size=256 << 20, middlewares=[fake.record])
        app.add_routes(fake.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        fake.url = f"http://{host}:{port}"
        return runner

    def serve() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(up())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def picture(size: tuple[int, int] = (64, 64), kind: str = "PNG", color: tuple[int, int, int] = (40, 120, 200)) -> bytes:
    """A real picture of that size (width, height)."""
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, kind)
    return out.getvalue()


def parsed_size(text: str | None, default: tuple[int, int] = (1024, 1024)) -> tuple[int, int]:
    """`1536x1024` as width and height."""
    if not text or "x" not in text:
        return default
    width, height = text.split("x")
    return int(width), int(height)
