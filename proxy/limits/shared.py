"""Limits that several processes share, and what holds while what they share them through is away.

Calls that come while the store is asked gather, and are asked for together: one round trip for all of them. A store
that fails is left alone: each process goes on with its share of every limit, and looks each second whether it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from proxy.limits.backend import Away, Slot, Store, Wanted
from proxy.limits.memory import Memory
from proxy.limits.rates import Admission, share
from proxy.logs import log, say, warn

MOST = 100  # calls of one round trip
PROBE_SECONDS = 1.0
START_SECONDS = 5.0  # for the first connection

Waiting: TypeAlias = tuple[Wanted, asyncio.Future[Admission]]
"""A call that asks to be admitted, and what waits for the answer."""

Ended: TypeAlias = tuple[Slot, asyncio.Future[None] | None]
"""A slot to give back, and what waits for that, if anything does."""


class Shared:
    """Limits in `store`. `workers_alive` says how many processes share them; `told` hears of each loss and return."""

    def __init__(
        self, store: Store, workers_alive: Callable[[], int], told: Callable[[bool], None] = lambda _: None
    ) -> None:
        self.degraded = False
        self._told = told
        self._store = store
        self._workers_alive = workers_alive
        self._memory = Memory()  # what runs here; and the share of this process, while it is alone
        self._wanted: list[Waiting] = []
        self._ended: list[Ended] = []
        self._lent: set[Slot] = set()  # what a store that is away may still count
        self._turn = asyncio.Lock()  # to ask the store
        self._serving: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._lost_at = 0.0

    async def start(self) -> None:
        """Connect, so that no call waits for it, and the log tells of a store that is not there."""
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._store.hold(())
        except (Away, TimeoutError) as error:
            self._lose(error)

    async def aclose(self) -> None:
        """Give back what is held still, and disconnect."""
        if self._serving is not None:
            await self._serving
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        left = [slot for slot, _ in self._ended] + self._memory.held
        if left and not self.degraded:
            try:
                async with asyncio.timeout(self._store.patience):
                    await self._store.run(left, ())
            except (Away, TimeoutError):
                pass  # their leases end
        await self._store.aclose()

    async def take(self, wanted: Wanted) -> Admission:
        """What the store says; while it is away, what this process says."""
        if self.degraded:
            return self._alone(wanted)
        done: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        self._wanted.append((wanted, done))
        self._serve_soon()
        try:
            return await done
        except asyncio.CancelledError:
            if not done.cancelled():  # the answer was there already, and nobody will make the call
                self._forget((wanted.caller, wanted.task))
            raise

    async def release(self, slot: Slot) -> None:
        """Returns when the next call may have the slot."""
        if not self._memory.drop(slot):
            return
        if self.degraded:
            if slot in self._lent:
                self._ended.append((slot, None))  # for when the store is there again
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended.append((slot, done))
        self._serve_soon()
        await done

    async def seize(self, slot: Slot) -> None:
        """Returns when the others count it."""
        self._memory.hold(slot)
        self._tend_soon()
        if self.degraded:
            return
        try:
            async with asyncio.timeout(self._store.patience), self._turn:
                await self._store.hold((slot,))
        except (Away, TimeoutError) as error:
            self._lose(error)

    def leave(self, slot: Slot) -> None:
        """It is renewed no longer."""
        self._memory.drop(slot)

    def _forget(self, slot: Slot) -> None:
        """Give back what nobody will use; it need not be held."""
        self._memory.drop(slot)
        self._ended.append((slot, None))
        if not self.degraded:
            self._serve_soon()

    def _alone(self, wanted: Wanted) -> Admission:
        part = share(wanted.rules, max(1, self._workers_alive()))
        admission = self._memory.judge(msgspec.structs.replace(wanted, rules=part))
        self._tend_soon()
        return admission

    def _serve_soon(self) -> None:
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        try:
            while (self._wanted or self._ended) and not self.degraded:
                wanted, self._wanted = self._wanted[:MOST], self._wanted[MOST:]
                ended, self._ended = self._ended[:MOST], self._ended[MOST:]
                await self._ask(wanted, ended)
            if self.degraded:  # its leases may have found that out meanwhile
                self._answer_alone([], [])
        finally:
            self._serving = None

    async def _ask(self, wanted: list[Waiting], ended: list[Ended]) -> None:
        try:
            async with asyncio.timeout(self._store.patience), self._turn:
                found = await self._store.run([slot for slot, _ in ended], [each for each, _ in wanted])
        except (Away, TimeoutError) as error:
            self._lose(error)
            self._answer_alone(wanted, ended)
        except Exception as error:  # of ours: nobody must wait for ever
            log.error("limits cannot be judged", exc_info=error)
            for _, waiting in wanted:
                if not waiting.done():
                    waiting.set_exception(error)
            _let_go(ended)  # what is made must not be lost with its slot, whose lease ends by itself
        else:
            for (each, done), admission in zip(wanted, found, strict=True):
                self._answer(each, done, admission)
            _let_go(ended)

    def _answer_alone(self, wanted: list[Waiting], ended: list[Ended]) -> None:
        _let_go(ended + self._ended)
        self._ended = [(slot, None) for slot, _ in ended + self._ended]
        every, self._wanted = wanted + self._wanted, []
        for each, done in every:
            admission = self._alone(each)
            if not admission.admitted:
                # The store may have given the slot, although its answer did not come.
                self._ended.append(((each.caller, each.task), None))
            self._answer(each, done, admission)

    def _answer(self, wanted: Wanted, done: asyncio.Future[Admission], admission: Admission) -> None:
        slot = (wanted.caller, wanted.task)
        if admission.admitted and wanted.task and wanted.rules.begun is not None and not self.degraded:
            self._memory.began(wanted.caller)  # the share of this process knows of it, should it come to that
        if admission.admitted and wanted.task and wanted.rules.jobs is not None:
            self._memory.hold(slot)
            self._tend_soon()
        if done.done():  # its caller has gone
            self._forget(slot)
        else:
            done.set_result(admission)

    def _lose(self, error: Exception) -> None:
        if self.degraded:
            return
        self.degraded = True
        self._lost_at = time.monotonic()
        self._lent = set(self._memory.held)
        why = str(error) or "no answer in time"
        workers = max(1, self._workers_alive())
        self._told(True)
        warn("limits are not shared: each process has its part of them", store=self._store.name, why=why, of=workers)
        if self._tending is not None and self._tending is not asyncio.current_task():
            self._tending.cancel()  # it sleeps until the next renewal
            self._tending = None
        self._tend_soon()

    def _tend_soon(self) -> None:
        if self._tending is None:
            self._tending = asyncio.create_task(self._tend())

    async def _tend(self) -> None:
        """Renew leases while there are any; while the store is away, look for it."""
        try:
            while self.degraded or self._memory.held:
                await asyncio.sleep(PROBE_SECONDS if self.degraded else self._store.lease / 3)
                await self._renew()
        except Exception as error:
            log.error("leases of limits cannot be renewed", exc_info=error)
        finally:
            if self._tending is asyncio.current_task():
                self._tending = None

    async def _renew(self) -> None:
        async with self._turn:
            held = self._memory.held
            if self.degraded:
                self._lent.update(held)
            try:
                await self._store.hold(held)
            except Away as error:
                self._lose(error)
                if time.monotonic() - self._lost_at > self._store.lease:
                    self._ended.clear()  # their leases have ended
                    self._lent = set(held)
                return
        if self.degraded:
            self.degraded = False
            self._told(False)
            say("limits are shared again", store=self._store.name)
        if self._ended:
            self._serve_soon()


def _let_go(ended: Sequence[Ended]) -> None:
    for _, done in ended:
        if done is not None and not done.done():
            done.set_result(None)
