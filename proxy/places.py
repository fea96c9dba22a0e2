"""Places at providers that take only so many jobs: as many as the configuration says, over all processes together.

Every upstream call passes here before it is submitted. Those that wait in this process are asked for in the order of
`turns`, one at a time. Whoever is next here tries only where the others' jobs that come before leave it a place: those
are seen in the rows of `job`. What is seen there may be of a process that is dead or hangs: a place that nobody takes
for `YIELD_SECONDS` is taken. Where several processes share the limits a place may come free unheard, so it is looked
for while somebody waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any

import msgspec

from proxy.catalog import Upstream
from proxy.limits import Limits
from proxy.limits.rates import SECOND, Admission, Rules
from proxy.logs import log, say
from proxy.metrics import Metrics
from proxy.state import ids, queues
from proxy.state.database import Database, milliseconds
from proxy.trail import Watch
from proxy.turns import NOBODY, Group, Line, Others, Standing, ahead
from translators.base import Fault

SNAPSHOT_SECONDS = 0.25  # for which what others have is taken as it was
AGAIN_SECONDS = 0.25  # until one that let others go first looks again
SEARCH_SECONDS = (0.25, 1.0)  # between two looks for a place that came free elsewhere: for each process, and at most
YIELD_SECONDS = 2.5  # that a free place is left to those who come before
SEEN_SECONDS = 0.25  # after which a call that somebody waits for is seen by the other processes
SAID_SECONDS = 1.0  # of waiting, after which the log says so
ROUND = 3_600_000  # milliseconds after which it no longer counts when a key was served


class Asking(msgspec.Struct, frozen=True):
    """For whom an upstream call is made."""

    task: str = ""
    key: str = ""
    priority: int = 0
    created: int = 0  # milliseconds since 1970


asking: ContextVar[Asking] = ContextVar("asking", default=Asking())  # noqa: B039  # frozen
"""For whom this code runs."""


class Waiter:
    """An upstream call that waits for its place."""

    __slots__ = ("begins", "created", "gone", "granted", "key", "position", "priority", "since", "slot", "task")

    def __init__(self, who: Asking, slot: str) -> None:
        self.priority, self.key, self.task = who.priority, who.key, who.task
        self.slot = slot
        self.created = who.created or milliseconds()
        self.since = time.monotonic()
        self.position = 1
        self.gone = self.granted = False
        self.begins: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Queue:
    """One provider's places, as this process sees them."""

    def __init__(self, places: Places, name: str) -> None:
        self.name = name
        self.rules: Rules | None = None  # None: it takes all
        self.line: Line[Waiter] = Line()
        self._places = places
        self._kick = asyncio.Event()  # a place may have come free, or somebody better has come
        self._others: tuple[float, Others] = (0.0, NOBODY)
        self._yielding: float | None = None  # since when a free place is left to others
        self._serving: asyncio.Task[None] | None = None

    async def take(self, watch: Watch) -> Place:
        """Wait for a place, in turn. A job that the provider has already has its place at once."""
        who = asking.get()
        slot = watch.mark or f"{who.task or 'call'}.{ids.chance(6)}"
        place = Place(self, who.key, slot)
        if watch.left is not None:
            self.line.began(who.key, milliseconds())
            try:
                await self._places.limits.seize(self.name, slot)
            except BaseException:
                place.vacate()
                raise
            return place
        waiter = Waiter(who, slot)
        self._join(waiter)
        seen = asyncio.get_running_loop().call_later(SEEN_SECONDS, self._show, waiter, watch)
        try:
            await watch.until(waiter.begins)
        except BaseException:
            self._leave(waiter)
            if waiter.granted:
                place.vacate()
            raise
        finally:
            seen.cancel()
        return place

    def kick(self) -> None:
        """There may be a place."""
        self._kick.set()
        if self._serving is None and self.line:
            self._serving = asyncio.create_task(self._serve())

    def stop(self) -> None:
        """Let nobody in any more."""
        if self._serving is not None:
            self._serving.cancel()

    @property
    def oldest(self) -> float:
        """For how many seconds the one has waited that waits longest; 0: nobody does."""
        first = min((waiter.created for waiter in self.line), default=None)
        return 0.0 if first is None else max(0.0, (milliseconds() - first) / 1000)

    def _join(self, waiter: Waiter) -> None:
        self.line.add(waiter)
        waiter.position = self.line.count(waiter.priority)
        self._places.metrics.count("jobs_queued", self.name)
        if self._serving is None or self._yielding is not None:
            self.kick()

    def _leave(self, waiter: Waiter) -> None:
        if not waiter.gone:
            self.line.drop(waiter)
            self._places.metrics.count("jobs_queued", self.name, by=-1)

    def _show(self, waiter: Waiter, watch: Watch) -> None:
        if not waiter.gone and self._places.limits.shared:
            watch.waits(self.name, waiter.key, waiter.priority)

    async def _serve(self) -> None:
        """Let in whoever waits, until nobody does."""
        try:
            while self.line:
                self._kick.clear()
                pause = await self._step()
                if pause == 0:
                    await asyncio.sleep(0)  # others have their turn on the loop, however many wait
                    continue
                try:
                    async with asyncio.timeout(pause):
                        await self._kick.wait()
                except TimeoutError:
                    pass
        finally:
            self._serving = None
            if len(self.line.served) > 1000:
                self.line.forget(milliseconds() - ROUND)

    async def _step(self) -> float | None:
        """Let the next one in, if there is a place. For how many seconds to wait until the next step; `None`: until one
        comes free here.
        """
        try:
            others = await self._look_at_others()
            waiter, rules = self.line.best(others), self.rules
            if waiter is None:
                return 0
            if rules is None:
                self._let_in(waiter)
                return 0
            mine = Group(waiter.priority, waiter.key, 1, waiter.task)
            first = ahead(Standing(self.line, others), mine, others.waiting)
            if first and not self._yielded():
                seen = await self._places.limits.look(self.name, rules)
                if free(rules, seen) <= first:
                    return self._yield(rules, seen)
            if waiter.gone:
                return 0
            admission = await self._places.limits.place(self.name, rules, waiter.slot)
        except Exception as error:  # of ours: nobody must wait for ever
            log.error("places of a provider cannot be judged", exc_info=error, extra={"provider": self.name})
            return SEARCH_SECONDS[1]
        self._yielding = None
        if not admission.admitted:
            return self._pause(rules, admission)
        self._let_in(waiter)
        return 0

    def _let_in(self, waiter: Waiter) -> None:
        if waiter.begins.done():  # it has gone meanwhile
            self._leave(waiter)
            self._places.beside(self._places.limits.vacate(self.name, waiter.slot))
            return
        self._leave(waiter)
        waiter.granted = True
        self.line.began(waiter.key, milliseconds())
        waiter.begins.set_result(None)
        waited = time.monotonic() - waiter.since
        if waited > SAID_SECONDS:
            say(
                "a job begins after it has waited for a place", task=waiter.task, provider=self.name,
                waited=round(waited, 1), position=waiter.position,
            )  # fmt: skip

    def _yielded(self) -> bool:
        return self._yielding is not None and time.monotonic() - self._yielding >= YIELD_SECONDS

    def _yield(self, rules: Rules, seen: Admission) -> float | None:
        if free(rules, seen) == 0:  # there is nothing to leave to anybody
            self._yielding = None
            return self._pause(rules, seen)
        if self._yielding is None:
            self._yielding = time.monotonic()
        return AGAIN_SECONDS

    def _pause(self, rules: Rules, refused: Admission) -> float | None:
        if rules.jobs is None or refused.running < rules.jobs:
            return max(refused.wait / SECOND, 0.001)
        each, most = SEARCH_SECONDS
        if not self._places.limits.shared:
            return None
        return min(each * self._places.alive(), most) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret

    async def _look_at_others(self) -> Others:
        at, others = self._others
        now = time.monotonic()
        if now - at < SNAPSHOT_SECONDS:
            return others
        others = await self._places.others(self.name)
        self._others = (now, others)
        return others


def free(rules: Rules, seen: Admission) -> int:
    """How many jobs may begin now."""
    jobs = None if rules.jobs is None else rules.jobs - seen.running
    begun = None if rules.begun is None else rules.begun - seen.begun
    return max(0, min((each for each in (jobs, begun) if each is not None), default=0))


class Place:
    """What one upstream call has while it runs."""

    __slots__ = ("_held", "_key", "_queue", "_slot")

    def __init__(self, queue: Queue, key: str, slot: str) -> None:
        self._queue, self._key, self._slot = queue, key, slot
        self._held = True

    def vacate(self) -> None:
        """It has ended: the next one may begin. This may be said again."""
        if self._held:
            self._free()
            self._queue._places.vacated(self._queue, self._slot)

    def leave(self) -> None:
        """Another process goes on with it: its place stays taken."""
        if self._held:
            self._free()
            self._queue._places.limits.leave(self._queue.name, self._slot)

    def _free(self) -> None:
        self._held = False
        self._queue.line.ended(self._key)


class Places:
    """The places of one server, at all providers. `alive` tells how many processes share them."""

    def __init__(
        self, limits: Limits, metrics: Metrics, database: Database | None = None, worker: str = "",
        alive: Callable[[], int] = lambda: 1,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.metrics = metrics
        self.alive = alive
        self._database = database
        self._worker = worker
        self._queues: dict[str, Queue] = {}
        self._bounded: dict[str, Queue] = {}  # those of providers that have a bound
        self._beside: set[asyncio.Task[None]] = set()

    def bound(self, upstreams: Iterable[Upstream]) -> None:
        """These are the providers from now on, with their bounds: for all that wait, too."""
        given = {each.name: rules for each in upstreams if (rules := rules_of(each)) is not None}
        for name in given.keys() - self._queues.keys():
            self._queues[name] = Queue(self, name)
        self._bounded = {name: self._queues[name] for name in given}
        for name, queue in self._queues.items():
            queue.rules = given.get(name)
            if queue.line:
                queue.kick()

    def at(self, provider: str) -> Queue | None:
        """Where a job of this provider waits; `None`: it has no bound."""
        return self._bounded.get(provider)

    def vacated(self, queue: Queue, slot: str) -> None:
        """Give a place back, and let the next one in once that is known."""

        async def give() -> None:
            try:
                await self.limits.vacate(queue.name, slot)
            finally:
                queue.kick()

        self.beside(give())

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run; nobody waits for it."""
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def others(self, provider: str) -> Others:
        """What the other processes have there. Where that cannot be known, nothing."""
        if not self.limits.shared or self._database is None:
            return NOBODY
        try:
            return await self._database.read(partial(queues.others, provider, self._worker))
        except Fault:
            return NOBODY

    def measure(self) -> None:
        """Say how it stands."""
        for name, queue in self._queues.items():
            self.metrics.set("queue_oldest_seconds", name, to=round(queue.oldest, 1))

    async def aclose(self) -> None:
        """Let nobody in any more, and give back what has been vacated."""
        for queue in self._queues.values():
            queue.stop()
        while self._beside:
            await asyncio.gather(*self._beside, return_exceptions=True)


def rules_of(upstream: Upstream) -> Rules | None:
    """Its bounds; `None` where it has none."""
    if not upstream.concurrency and not upstream.per_minute:
        return None
    return Rules((), upstream.concurrency or None, upstream.per_minute or None)
