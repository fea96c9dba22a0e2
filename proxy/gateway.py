"""What one running server holds. Everything of the configuration is in two members that a reload swaps at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.ask import Ask
from proxy.catalog import Catalog, Upstream, build
from proxy.config import Config, load
from proxy.credentials import Credentials
from proxy.engine import Engine
from proxy.fetch import plain
from proxy.http import Allowed, Pools
from proxy.keys import Keys
from proxy.metrics import Metrics, Phase
from proxy.pixels import Pixels
from proxy.route import Health
from proxy.state.files import Files, secret
from translators.base import Blob

PARAMS = frozenset(Ask.__struct_fields__) | {"image"}  # what a metric may name
OUTPUT_BYTES = 256 << 20  # of one made picture that is downloaded


class Gateway:
    """One server's parts. A request takes `config` and `catalog` once and keeps them to its end."""

    def __init__(self, config: Config, path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        self.path = path  # of the configuration file, for reloads
        self.overrides = overrides or {}  # of the command line, which win over the file's at each reload
        self.metrics = Metrics()
        self.pixels = Pixels()
        self.health = Health(self.metrics)
        data = Path(config.data)
        self.files = Files(data, secret(data))
        self.draining = False
        self._places: dict[tuple[str, int], asyncio.Semaphore] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._take(config)

    def _take(self, config: Config) -> None:
        catalog = build(config)  # raises before anything is changed
        self.config: Config = config
        self.catalog: Catalog = catalog
        self.keys = Keys(config.auth, config.server.public_url)
        self.pixels.bound = config.limits.image_pixels
        self.pools = Pools(Allowed(config.fetch.allow))
        self.engine = Engine(
            self.pools,
            Credentials(plain(self.pools), time.time),
            self.pixels.aside,
            self.metrics,
            OUTPUT_BYTES,
            self._places,
        )
        labels = catalog.labels
        self.metrics.allow(
            provider=labels.providers,
            model=labels.models,
            alias=labels.aliases | {"none"},
            target=catalog.targets,
            param=PARAMS,
        )
        self.metrics.set("config_loaded_seconds", to=time.time())

    def reload(self) -> None:
        """Read the configuration again. Raises `ConfigError` where it is wrong: then nothing has changed.

        Requests under way keep the engine and the connections that they began with.
        """
        old = self.pools
        longest = longest_job(self.config)
        try:
            self._take(load(self.path, None, self.overrides))
        except Exception:
            self.metrics.count("config_reloads_total", "failed")
            raise
        self.metrics.count("config_reloads_total", "ok")
        task = asyncio.create_task(retired(old, longest))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    @contextmanager
    def timed(self, upstream: Upstream, phase: Phase) -> Iterator[None]:
        """Count the time within as that phase of a job."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.engine.phase(upstream, phase, began)

    async def store(self, blob: Blob, kind: str) -> str:
        """Keep a made picture; the path and signature under which it can be had."""
        name = await self.files.save(blob, kind)
        self.metrics.count("stored_files_total", "local")
        self.metrics.count("stored_bytes_total", "local", by=blob.length)
        expires = int(time.time() + self.config.files.url_seconds)
        return f"/v1/outputs/{name}?{self.files.sign(name, expires)}"

    async def aclose(self) -> None:
        """Let go of connections and threads."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(self.pools.aclose(), *self._retiring, return_exceptions=True)
        self.pixels.close()
        self.files.close()


def longest_job(config: Config) -> float:
    """For how many seconds a job of this configuration may be under way: a model may have times of its own."""
    every = [given for given in config.providers.values() if not given.off]
    own = [each.timeouts["job"] for given in every for each in given.models.values() if "job" in each.timeouts]
    return max([0.0, *own, *(given.timeouts.job for given in every)])


async def retired(pools: Pools, seconds: float) -> None:
    """Close the connections of an old configuration once no job of its time can be under way."""
    try:
        await asyncio.sleep(seconds)
    finally:
        await pools.aclose()
