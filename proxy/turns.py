"""Whose turn it is at a provider that takes only so many jobs. Pure.

A higher priority goes first. Within one, the key goes first that has the fewest jobs under way there; of several, the
one that was served longest ago; of its jobs, the oldest. So each key gets its part of the places, however many jobs it
has, and where there is but one place they take turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

import msgspec


class Group(msgspec.Struct, frozen=True):
    """What waits of one key with one priority."""

    priority: int
    key: str
    count: int
    first: str  # the id of the oldest task: ids sort by age


class Others(msgspec.Struct, frozen=True):
    """What other processes have of the same provider, as of a moment ago."""

    waiting: tuple[Group, ...] = ()
    running: Mapping[str, int] = {}  # key -> jobs
    served: Mapping[str, int] = {}  # key -> when a job of it began last, in milliseconds since 1970


NOBODY = Others()


class Waits(Protocol):
    """A job that waits. What is `gone` waits no longer."""

    priority: int
    key: str
    task: str
    gone: bool


W = TypeVar("W", bound=Waits)


class Line(Generic[W]):
    """The jobs of this process that wait for a place at one provider. Looking for the next one takes as long as there
    are keys, not jobs.
    """

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()  # key -> jobs of this process
        self.served: dict[str, int] = {}  # as `Others` has it
        self._waiting: dict[int, dict[str, _Heap[W]]] = {}  # priority -> key -> jobs, the oldest first
        self._counts: Counter[int] = Counter()  # priority -> jobs

    def __len__(self) -> int:
        return self._counts.total()

    def __iter__(self) -> Iterator[W]:
        """The oldest of each key and priority."""
        return (heap.first() for keys in self._waiting.values() for heap in keys.values())

    def add(self, waiter: W) -> None:
        """It waits from now on."""
        keys = self._waiting.setdefault(waiter.priority, {})
        heap = keys.get(waiter.key)
        if heap is None:
            heap = keys[waiter.key] = _Heap()
        heap.add(waiter)
        self._counts[waiter.priority] += 1

    def drop(self, waiter: W) -> None:
        """It waits no longer. This may be said again."""
        if waiter.gone:
            return
        waiter.gone = True
        self._counts[waiter.priority] -= 1
        keys = self._waiting[waiter.priority]
        keys[waiter.key].drop()
        if not len(keys[waiter.key]):
            del keys[waiter.key]
            if not keys:
                del self._waiting[waiter.priority]

    def began(self, key: str, now: int) -> None:
        """A job of this key has a place."""
        self.running[key] += 1
        self.served[key] = now

    def ended(self, key: str) -> None:
        """… and no longer."""
        self.running[key] -= 1
        if not self.running[key]:
            del self.running[key]

    def forget(self, before: int) -> None:
        """Who was served before that may as well never have been."""
        self.served = {key: at for key, at in self.served.items() if at >= before or self.running[key]}

    def best(self, others: Others = NOBODY) -> W | None:
        """Whose turn it is of those here."""
        if not self._waiting:
            return None
        keys = self._waiting[max(self._waiting)]
        standing = Standing(self, others)
        return min((heap.first() for heap in keys.values()), key=lambda each: (*standing.of(each.key), each.task))

    def count(self, priority: int) -> int:
        """How many wait with this priority, or a higher one."""
        return sum(count for each, count in self._counts.items() if each >= priority)

    def groups(self) -> Iterator[Group]:
        """All that wait here."""
        for priority, keys in self._waiting.items():
            for key, heap in keys.items():
                yield Group(priority, key, len(heap), heap.first().task)


class _Heap(Generic[W]):
    """Jobs of one key, the oldest first. Those that are gone are left out when they come to the top."""

    def __init__(self) -> None:
        self._all: list[tuple[str, int, W]] = []
        self._count = self._number = 0

    def __len__(self) -> int:
        return self._count

    def add(self, waiter: W) -> None:
        self._count += 1
        self._number += 1  # two upstream calls of the same task keep their order
        heappush(self._all, (waiter.task, self._number, waiter))

    def drop(self) -> None:
        self._count -= 1
        if len(self._all) > 64 + 2 * self._count:
            self._all = [each for each in self._all if not each[2].gone]
            heapify(self._all)

    def first(self) -> W:
        while self._all[0][2].gone:
            heappop(self._all)
        return self._all[0][2]


class Standing:
    """How each key stands, in this process and all others together."""

    def __init__(self, line: Line[W], others: Others) -> None:
        self._line_running, self._line_served = line.running, line.served
        self._others = others

    def of(self, key: str) -> tuple[int, int]:
        """Its jobs under way, and when it was served last: the smallest goes first."""
        others = self._others
        return (
            self._line_running.get(key, 0) + others.running.get(key, 0),
            max(self._line_served.get(key, 0), others.served.get(key, 0)),
        )


def ahead(standing: Standing, mine: Group, groups: Iterable[Group]) -> int:
    """How many jobs of `groups` have their turn before the first of `mine`, as things stand now."""
    running, served = standing.of(mine.key)
    count = 0
    for each in groups:
        if each.priority > mine.priority:
            count += each.count
        elif each.priority == mine.priority and each.key == mine.key:
            count += each.first < mine.first
        elif each.priority == mine.priority:
            theirs, since = standing.of(each.key)
            if theirs < running:
                count += min(each.count, running - theirs)
            elif theirs == running:
                count += (since, each.first) < (served, mine.first)
    return count
