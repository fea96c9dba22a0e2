"""What one running server holds. Everything of the configuration is in two members that a reload swaps at once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy import limits
from proxy.ask import Ask
from proxy.catalog import Catalog, Upstream, build
from proxy.config import Config, load
from proxy.credentials import Credentials
from proxy.engine import Engine
from proxy.fetch import plain
from proxy.http import Allowed, Pools
from proxy.keys import Keys
from proxy.logs import log, say, warn
from proxy.metrics import SIZE_CLASSES, Metrics, Phase
from proxy.pixels import Pixels
from proxy.places import Places
from proxy.route import Health
from proxy.state.database import Database, default_url
from proxy.state.files import Files, secret
from proxy.state.history import History
from proxy.state.keys import KeyStore
from proxy.state.ledger import Ledger
from proxy.state.migrate import migrated
from proxy.state.store import storage_fault
from proxy.state.uploads import Uploads
from proxy.state.workers import Workers
from proxy.trail import GATE, Trail
from proxy.webhooks import Parts, Webhooks
from proxy.works import Works
from translators.base import Blob, Fault

PARAMS = frozenset(Ask.__struct_fields__) | {"image"}  # what a metric may name
OUTPUT_BYTES = 256 << 20  # of one made picture that is downloaded
GAUGE_SECONDS = 5.0  # between two looks for what metrics show of the process
STORE_SECONDS = 10.0  # in which a made picture must be kept, and one more for each MiB
STORE_PAUSE = 1.0  # seconds between two tries of a store that hangs
REST_SECONDS = 2.0  # that calls are given to write themselves down once the time to drain is over


class Gateway:
    """One server's parts. A request takes `config` and `catalog` once and keeps them to its end."""

    def __init__(self, config: Config, path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        self.path = path  # of the configuration file, for reloads
        self.overrides = overrides or {}  # of the command line, which win over the file's at each reload
        self.metrics = Metrics()
        self.pixels = Pixels()
        self.health = Health(self.metrics)
        data = Path(config.data)
        key = config.secret.key.encode() if config.secret else secret(data)
        self.secret = key
        self.files = Files(data, config.files, key)
        self.database = Database(config.database.key if config.database else default_url(data))
        self.ledger = Ledger(self.database, data)
        self.history = History(self.database)
        self.uploads = Uploads(self.database, self.files)
        self.key_store = KeyStore(self.database, key)
        self.works = Works()
        self.listening: Counter[str] = Counter()  # the streams of events that each key follows
        self.workers = Workers(self.database, self.ledger, self.works.running.keys)
        self.webhooks = Webhooks(self.database, key, lambda: Parts(self.config, self.pools), self.metrics)
        self.limits = limits.build(
            config, self.database, lambda: self.workers.alive, self.workers.id,
            lambda degraded: self.metrics.set("limits_degraded", to=degraded),
        )  # fmt: skip
        self.draining = False
        self._gate = asyncio.Semaphore(GATE)
        self._store_hangs = False
        self._store_next = 0.0  # until then nobody tries a store that hangs
        self._beside: set[asyncio.Task[None]] = set()
        self.places = Places(
            self.limits, self.metrics, self.database, self.workers.id, lambda: self.workers.alive
        )  # fmt: skip
        self._retiring: set[asyncio.Task[None]] = set()
        self._take(config)

    def _take(self, config: Config) -> None:
        catalog = build(config)  # raises before anything is changed
        self.config: Config = config
        self.catalog: Catalog = catalog
        self.keys = Keys(config, self.key_store, self.secret)
        self.pixels.bound = config.limits.image_pixels
        self.pools = Pools(Allowed(config.fetch.allow))
        self.engine = Engine(
            self.pools,
            Credentials(plain(self.pools), time.time),
            self.pixels.aside,
            self.metrics,
            OUTPUT_BYTES,
            self.places,
        )
        self.places.bound(catalog.upstreams.values())
        labels = catalog.labels
        self.metrics.allow(
            provider=labels.providers,
            model=labels.models,
            alias=labels.aliases | {"none"},
            target=labels.targets,
            param=PARAMS,
            tier={*config.tiers, *SIZE_CLASSES, "none"},
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

    async def start(self) -> None:
        """Bring the database up to date and begin to write; where it is away, keep trying beside the requests."""
        self.ledger.start()
        try:
            await self._open()
        except Fault as fault:
            warn("the server starts without its database", error=fault.message)
            self.aside(self._opened_later())
        await self.limits.start()
        self.aside(self._measured())

    async def _open(self) -> None:
        await migrated(self.database)
        await self.workers.start()
        self.webhooks.start()

    async def _opened_later(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                await self._open()
            except Fault:
                continue
            except Exception as error:  # a newer version's database, rights that are missing …
                log.error("the database cannot be used: the server ends", exc_info=error)
                signal.raise_signal(signal.SIGTERM)
            else:
                say("the database is there")
            return

    async def _measured(self) -> None:
        """Say how this process stands."""
        while True:
            self.metrics.set("ledger_waiting", to=self.ledger.waiting)
            self.metrics.set("database_up", to=int(self.database.up))
            self.places.measure()
            await asyncio.sleep(GAUGE_SECONDS)

    def trail(self, task: str, *, durable: bool) -> Trail:
        """What follows the upstream calls of a task of this process."""
        return Trail(self.ledger, task, self.worker, durable=durable, gate=self._gate)

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` run beside the requests, to the end of the server at most."""
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    @property
    def worker(self) -> str:
        """The id of this process, in the rows of the tasks that it works on."""
        return self.workers.id

    @contextmanager
    def timed(self, upstream: Upstream, phase: Phase) -> Iterator[None]:
        """Count the time within as that phase of a job."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.engine.phase(upstream, phase, began)

    async def store(self, blob: Blob, kind: str) -> str:
        """Keep a made picture; its id. Raises `Fault`, as `Files.save` does, also where that takes too long.

        What is paid for does not wait for a store that hangs: one call at a time tries it then, and all others fail at
        once.
        """
        patience = STORE_SECONDS + blob.length / (1 << 20)
        if self._store_hangs:
            if time.monotonic() < self._store_next:
                raise storage_fault(None, "it hangs")
            self._store_next = time.monotonic() + patience
        try:
            async with asyncio.timeout(patience):
                name = await self.files.save(blob, kind)
        except TimeoutError as error:
            self._store_hangs, self._store_next = True, time.monotonic() + STORE_PAUSE
            raise storage_fault(None, f"no answer in {patience:.0f} seconds") from error
        self._store_hangs = False
        self.metrics.count("stored_files_total", self.files.backend)
        self.metrics.count("stored_bytes_total", self.files.backend, by=blob.length)
        return name

    def link(self, name: str) -> str:
        """The path and signature under which a stored picture can be had."""
        expires = int(time.time() + self.config.files.url_seconds)
        return f"/v1/outputs/{name}?{self.files.sign(name, expires)}"

    async def aclose(self) -> None:
        """Let go of connections and threads."""
        await self.works.rest(REST_SECONDS)
        await self.webhooks.aclose()
        for task in (*self._retiring, *self._beside):
            task.cancel()
        await asyncio.gather(self.pools.aclose(), *self._retiring, *self._beside, return_exceptions=True)
        for ending in (self.places.aclose, self.limits.aclose, self.ledger.stop, self.workers.stop):
            try:
                await ending()
            except Exception as error:  # the others must not be left out for it
                log.error("the server does not end in order", exc_info=error)
        self.pixels.close()
        self.files.close()
        self.database.close()


def longest_job(config: Config) -> float:
    """For how many seconds a job of this configuration may be under way: a model may have times of its own."""
    every = [given for given in config.providers.values() if not given.off]
    own = [each.timeouts["job"] for given in every for each in given.models.values() if "job" in each.timeouts]
    return max([0.0, *own, *(max(given.timeouts.job, given.timeouts.video) for given in every)])


async def retired(pools: Pools, seconds: float) -> None:
    """Close the connections of an old configuration once no job of its time can be under way."""
    try:
        await asyncio.sleep(seconds)
    finally:
        await pools.aclose()
