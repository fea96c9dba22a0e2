"""Limits of one process, in its memory."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from proxy.limits.backend import LEASE, Slot, Wanted
from proxy.limits.rates import WINDOW, Admission, judge

LEAST = 1024  # buckets that are kept before those that are full are looked for


class Memory:
    """What is not full, and what runs. A bucket that is full is as good as none, so there are never many."""

    degraded = False

    def __init__(self, clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000) -> None:
        self._clock = clock
        self._full: dict[tuple[str, str], int] = {}
        self._jobs: dict[str, set[str]] = {}
        self._begun: dict[str, deque[int]] = {}  # when jobs of callers began that may begin only so many in a minute
        self._sweep_at = LEAST

    def __len__(self) -> int:
        """How many numbers and jobs are kept."""
        return len(self._full) + sum(map(len, self._jobs.values())) + sum(map(len, self._begun.values()))

    @property
    def held(self) -> list[Slot]:
        """What runs."""
        return [(caller, task) for caller, tasks in self._jobs.items() for task in tasks]

    async def start(self) -> None:
        """There is nothing to reach."""

    async def aclose(self) -> None:
        """There is nothing to give back."""

    async def take(self, wanted: Wanted) -> Admission:
        """Never waits."""
        return self.judge(wanted)

    async def release(self, slot: Slot) -> None:
        """Never waits."""
        self.drop(slot)

    async def seize(self, slot: Slot) -> None:
        """Never waits."""
        self.hold(slot)

    def leave(self, slot: Slot) -> None:
        """It counts for as long as a lease would last."""
        asyncio.get_running_loop().call_later(LEASE, self.drop, slot)

    def judge(self, wanted: Wanted) -> Admission:
        """What holds for a call, taken where it is admitted."""
        now, caller, rules = self._clock(), wanted.caller, wanted.rules
        full = [self._full.get((caller, rate.dimension), 0) for rate in rules.rates]
        jobs = self._jobs.get(caller, ()) if rules.jobs is not None else ()
        running = len(jobs) - (wanted.task in jobs)  # what is asked again counts once
        begun = self._within(caller, now) if rules.begun is not None else (0, 0)
        admission = judge(rules, wanted.n, full, running, now, begun)
        if admission.admitted:
            for rate, later in zip(rules.rates, admission.full, strict=True):
                self._full[caller, rate.dimension] = later
            if rules.jobs is not None and wanted.task:
                self.hold((caller, wanted.task))
            if rules.begun is not None and wanted.task:
                self.began(caller)
            if len(self._full) > self._sweep_at:
                self._sweep(now)
        return admission

    def hold(self, slot: Slot) -> None:
        """Count a job that runs."""
        caller, task = slot
        self._jobs.setdefault(caller, set()).add(task)

    def drop(self, slot: Slot) -> bool:
        """Count it no longer; whether it was counted."""
        caller, task = slot
        tasks = self._jobs.get(caller)
        if tasks is None or task not in tasks:
            return False
        tasks.remove(task)
        if not tasks:
            del self._jobs[caller]
        return True

    def began(self, caller: str) -> None:
        """Count a job that begins."""
        now = self._clock()
        self._within(caller, now)
        self._begun.setdefault(caller, deque()).append(now)

    def _within(self, caller: str, now: int) -> tuple[int, int]:
        """How many jobs began within the last minute, and when the first of them did."""
        begun = self._begun.get(caller)
        while begun and begun[0] <= now - WINDOW:
            begun.popleft()
        return (len(begun), begun[0]) if begun else (0, 0)

    def _sweep(self, now: int) -> None:
        self._full = {name: full for name, full in self._full.items() if full > now}
        self._sweep_at = max(LEAST, 2 * len(self._full))
