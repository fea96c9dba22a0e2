"""The making calls that run in this process, and what is remembered of those that ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from cachetools import TTLCache
from msgspec.structs import replace

from proxy.answer import Result
from proxy.errors import retried
from proxy.state.ledger import Task
from proxy.trail import Trail
from translators.base import Fault

AGAIN_SECONDS = 600.0  # how long after its begin an SDK's own retry may join a call
KNOWN = 10_000


class Work:
    """A call that runs, or whose result is there."""

    __slots__ = ("cache", "claim", "free", "headers", "id", "key", "lost", "print", "result", "trail", "webhook")

    def __init__(self, id: str, key: str, result: asyncio.Future[Result], headers: Mapping[str, str]) -> None:
        self.id = id
        self.key = key  # the id of the key that made it
        self.result = result
        self.headers = headers
        self.print: str | None = None
        self.claim: str | None = None
        self.cache: str | None = None
        self.lost = False  # its client has left
        self.free = False  # for whoever waits here: another call pays for it
        self.trail: Trail | None = None  # of what it submits
        self.webhook: str | None = None  # where its end is told

    async def wait(self) -> Result:
        """The result; who waits may be cancelled without harm to the work."""
        result = await asyncio.shield(self.result)
        return replace(result, cost_usd=0.0) if self.free else result

    def shared(self, key: str) -> Work:
        """The same for another call, of `key`, that is no repetition of it and has headers of its own."""
        told = {"x-pictor-task": self.id} if key == self.key else {}
        work = Work(self.id, self.key, self.result, {**told, "x-pictor-cache": "hit"})
        work.free = True
        return work


class Works:
    """The calls that run in this process, and what it remembers of those that ended."""

    def __init__(self) -> None:
        self.running: dict[str, Work] = {}
        self.by_mark: dict[str, Work] = {}  # claims and cache keys: digests that never meet
        self.refused: TTLCache[str, int] = TTLCache(KNOWN, AGAIN_SECONDS)
        """How often this fingerprint was answered with an error: so many tries again are for new pictures."""
        self.cached: TTLCache[str, Task] = TTLCache(KNOWN, 86_400)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def alone(self, mark: str | None) -> AsyncIterator[None]:
        """Until the block ends, no other call with this mark begins: the next one finds what this one has begun."""
        if mark is None:
            yield
            return
        turn = self._turns.setdefault(mark, asyncio.Lock())
        async with turn:
            yield

    def add(self, work: Work) -> None:
        """It runs from now on."""
        self.running[work.id] = work
        for mark in (work.claim, work.cache):
            if mark is not None:
                self.by_mark[mark] = work

    def drop(self, work: Work) -> None:
        """It runs no more."""
        self.running.pop(work.id, None)
        for mark in (work.claim, work.cache):
            if mark is not None and self.by_mark.get(mark) is work:
                del self.by_mark[mark]

    def like(self, print: str) -> Work | None:
        """One that runs with this fingerprint; rather one whose client has left than one that is waited for."""
        found = [work for work in self.running.values() if work.print == print]
        return next((work for work in found if work.lost), found[0] if found else None)

    def fresh(self, mark: str) -> bool:
        """Whether a try again follows an error that was answered: then it is no repetition of what is under way."""
        if count := self.refused.get(mark):
            self.refused[mark] = count - 1
            return True
        return False

    def failed(self, mark: str | None, fault: Fault) -> None:
        """An error was answered to this fingerprint. It counts where an SDK tries again because of it."""
        if mark is not None and retried(fault):
            self.refused[mark] = self.refused.get(mark, 0) + 1

    def release(self) -> None:
        """Go on with nothing that another process can go on with, but for what is being handed to a provider now."""
        for work in self.running.values():
            if work.trail is not None and work.trail.durable:
                work.trail.release()

    def let_go(self, tasks: Iterable[str]) -> None:
        """Go on with none of these: others do."""
        for id in tasks:
            if (work := self.running.get(id)) and work.trail is not None:
                work.trail.release()

    async def rest(self, seconds: float) -> None:
        """Wait until nothing runs any more, at most so long; then end what does."""
        if running := [work.result for work in self.running.values()]:
            _, late = await asyncio.wait(running, timeout=seconds)
            for one in late:
                one.cancel()
            await asyncio.gather(*late, return_exceptions=True)
