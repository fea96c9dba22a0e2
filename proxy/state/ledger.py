"""What is written of each call, in groups: while one transaction commits, and a moment longer, the next one gathers.

`begin` never waits, and may be lost with the process. `claim` and `reserve` decide whether a call may be made. `end` is
what an answer waits for: it returns when the row, its cost and the budget are durable. Where the database is away by
then, they go to a journal on the local disk, and from there into the database once it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from proxy.logs import log, say
from proxy.state import budgets, jobs, journal, records
from proxy.state.budgets import Reservation, Short
from proxy.state.database import Database, unavailable
from proxy.state.jobs import Claimed, JobRow, SubmitRow, Verdict
from proxy.state.journal import Kept
from proxy.state.records import Answers, Batch, Ending, Entry, Opening, Task
from translators.base import Fault

__all__ = ["Claimed", "Ending", "Entry", "JobRow", "Ledger", "Reservation", "SubmitRow", "Task"]

W = TypeVar("W")
A = TypeVar("A")

GATHER = 0.003  # seconds between two transactions: what comes meanwhile shares the cost of the next one
MOST = 500  # of each kind in one transaction
WAITING = 50_000  # rows in passing that are kept for a database that is away


class Waiter(msgspec.Struct, Generic[W, A], eq=False):
    """Something to write that somebody waits for."""

    wish: W
    done: asyncio.Future[A]


class Work(msgspec.Struct, eq=False):
    """What waits, and what is written together."""

    begun: list[Task] = []
    unclaimed: list[str] = []
    unreserved: list[str] = []
    lost: list[str] = []
    saved: list[SubmitRow] = []
    queued: list[JobRow] = []
    placed: list[str] = []
    endings: list[Waiter[Ending, None]] = []
    openings: list[Waiter[Opening, bool]] = []
    reservations: list[Waiter[Reservation, Short | None]] = []
    submits: list[Waiter[Claimed, Verdict]] = []

    @property
    def size(self) -> int:
        """How many things."""
        return sum(map(len, self._lists()))

    @property
    def batch(self) -> Batch:
        """As a transaction sees it."""
        return Batch(
            begun=self.begun, unclaimed=self.unclaimed, unreserved=self.unreserved, lost=self.lost,
            saved=self.saved, queued=self.queued, placed=self.placed,
            endings=[each.wish for each in self.endings], openings=[each.wish for each in self.openings],
            reservations=[each.wish for each in self.reservations], submits=[each.wish for each in self.submits],
        )  # fmt: skip

    @property
    def futures(self) -> Iterator[asyncio.Future[Any]]:
        """Of all that is waited for."""
        waiters: Sequence[Waiter[Any, Any]] = (*self.endings, *self.openings, *self.reservations, *self.submits)
        return (each.done for each in waiters)

    def taken(self, most: int) -> Work:
        """At most so many of each kind, the oldest, which wait no more. Of what nobody asks for any more, none."""
        self.openings = [each for each in self.openings if not each.done.done()]
        self.reservations = [each for each in self.reservations if not each.done.done()]
        self.submits = [each for each in self.submits if not each.done.done()]
        taken = Work(*(each[:most] for each in self._lists()))
        for each in self._lists():
            del each[:most]
        return taken

    def halves(self) -> tuple[Work, Work]:
        """Both have something in them, where there is more than one thing."""
        left, right, to_left = Work(), Work(), True
        for whole, one, other in zip(self._lists(), left._lists(), right._lists(), strict=True):
            for each in whole:
                (one if to_left else other).append(each)
                to_left = not to_left
        return left, right

    def _lists(self) -> tuple[list[Any], ...]:
        return (
            self.begun, self.unclaimed, self.unreserved, self.lost, self.saved, self.queued, self.placed,
            self.endings, self.openings, self.reservations, self.submits,
        )  # fmt: skip


class Ledger:
    """The writer of one process. `start` before the first call, `stop` after the last."""

    def __init__(self, database: Database, data: Path) -> None:
        self.database = database
        self.behind = True  # something may wait for `replay`
        self._folder = data / "journal"
        self._kept = 0  # ends that this process has put into the journal
        self._unkept: list[Ending] = []  # which the disk did not take either
        self._unsaved: list[SubmitRow] = []
        self._waiting = Work()
        self._wake = asyncio.Event()
        self._stopping = False
        self._writer: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many things are not in the database yet."""
        return self._waiting.size + len(self._unkept) + len(self._unsaved) + self._kept

    def start(self) -> None:
        """Begin to write."""
        self._writer = asyncio.create_task(self._write())

    async def stop(self) -> None:
        """Write what waits; where that is not possible, the ends go to the journal."""
        self._stopping = True
        self._wake.set()
        if self._writer is not None:
            await self._writer

    def check(self) -> None:
        """Raises `Fault("overloaded")` where the database is away: nothing is made then that must be written down."""
        if not self.database.up or self._writer is None:
            raise unavailable()

    def begin(self, task: Task) -> None:
        """Write in passing that `task` is under way."""
        if len(self._waiting.begun) < WAITING:
            self._waiting.begun.append(task)
            self._wake.set()

    def withdraw(self, task: str) -> None:
        """Take back in passing the row of a claimed task that is not made after all. Its claim is free then."""
        self._waiting.unclaimed.append(task)
        self._wake.set()

    def lost(self, task: str) -> None:
        """Write in passing that the client of a task left before it had the answer."""
        self._waiting.lost.append(task)
        self._wake.set()

    def save(self, row: SubmitRow) -> None:
        """Write in passing how the provider can be asked for what it was sent."""
        self._waiting.saved.append(row)
        self._wake.set()

    def queue(self, row: JobRow) -> None:
        """Write in passing that a call that is not durable waits for a place: the other processes see it then."""
        self._waiting.queued.append(row)
        self._wake.set()

    def place(self, task: str) -> None:
        """Write in passing that a durable task has its place, and is worked on."""
        self._waiting.placed.append(task)
        self._wake.set()

    async def open(self, task: Task, job: JobRow | None = None) -> bool:
        """Write that `task` is under way; False where another task has its claim. Raises as `check` does.

        Where this raises, or is cancelled, nothing stays claimed.
        """
        self.check()
        try:
            return await self._written(self._waiting.openings, Opening(task, job))
        except asyncio.CancelledError:  # it may have been written
            self.withdraw(task.id)
            raise

    async def reserve(self, wanted: Reservation) -> Short | None:
        """Keep the amount free; else the budget that has not enough left: "day" or "month". Raises as `check` does.

        Where this raises, or is cancelled, nothing stays reserved.
        """
        self.check()
        try:
            return await self._written(self._waiting.reservations, wanted)
        except asyncio.CancelledError:  # it may have been written
            self._waiting.unreserved.append(wanted.task)
            self._wake.set()
            raise

    async def submit(self, claimed: Claimed) -> Verdict:
        """Write that something is about to be sent to a provider, and say whether it may be. Raises as `check` does.

        Where this raises it may have been written all the same: it says more than there was then, and never less.
        """
        self.check()
        return await self._written(self._waiting.submits, claimed)

    async def end(self, ending: Ending) -> None:
        """Write how a task ended; returns when nothing can lose it any more.

        It is written also where the one who waits is cancelled. Its reservation is given back, if it has an estimate.
        """
        if self._writer is None:
            await self._keep(Kept((ending,)))
        else:
            await self._written(self._waiting.endings, ending)

    async def replay(self) -> int:
        """Write what the journal holds; how many things that were. For when the database is back, or opened."""
        self._waiting.saved += self._unsaved
        self._unsaved = []
        unkept, self._unkept, self.behind = self._unkept, [], False
        self._wake.set()  # what was begun meanwhile
        await self._all_ended(unkept)
        count = len(unkept)
        while files := await asyncio.to_thread(journal.some, self._folder, MOST):
            written = await asyncio.gather(*map(self._all_written, files.values()))
            for path, whole in zip(files, written, strict=True):
                await asyncio.to_thread(journal.forget if whole else journal.lay_aside, path)
            replayed = sum(map(len, files.values()))
            count, self._kept = count + replayed, max(0, self._kept - replayed)
            if self.behind:  # the database is gone again: they have got into new files
                break
        if count:
            say("what the journal held was written", count=count)
        return count

    async def _all_written(self, kept: Kept) -> bool:
        if kept.saved:
            try:
                await self.database.write(partial(jobs.save_late, kept.saved))
            except Fault:
                await self._keep(Kept(saved=kept.saved))  # the database is gone again
            except Exception as error:
                log.error("submits cannot be written", exc_info=error)
                return False
        return await self._all_ended(kept.endings)

    async def _all_ended(self, endings: Sequence[Ending]) -> bool:
        found = await asyncio.gather(*map(self.end, endings), return_exceptions=True)
        return not any(isinstance(each, Exception) for each in found)

    async def _written(self, waiting: list[Waiter[W, A]], wish: W) -> A:
        done: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        waiting.append(Waiter(wish, done))
        self._wake.set()
        return await done

    async def _write(self) -> None:
        while not (self._stopping and self._idle()):
            if self._idle():
                self._wake.clear()
                await self._wake.wait()
                continue
            work = self._waiting.taken(MOST)
            try:
                await self._commit(work)
            except Exception as error:  # nobody may wait for ever
                log.error("unforeseen error of the ledger", exc_info=error)
                _refuse(work, error)
            if not self._stopping:
                await asyncio.sleep(GATHER)
        self._writer = None  # at once: nobody may wait for it from now on

    def _idle(self) -> bool:
        """Whether there is nothing to do now: what nobody waits for stays where it is while the database is away."""
        waiting = self._waiting
        if self.database.up:
            return not waiting.size
        urgent = waiting.endings or waiting.saved or waiting.openings or waiting.reservations or waiting.submits
        return not urgent

    async def _commit(self, work: Work) -> None:
        try:
            self.check()  # no end waits for a try that others make
            answers = await self.database.write(partial(records.write, work.batch))
        except Fault as fault:
            await self._postpone(work, fault)
        except Exception as error:
            if work.size > 1:  # one of them cannot be written: find out which
                for half in work.halves():
                    await self._commit(half)
            else:
                log.error("a row cannot be written", exc_info=error)
                _refuse(work, error)
        else:
            await self._answer(work, answers)

    async def _answer(self, work: Work, answers: Answers) -> None:
        for ending in work.endings:
            _tell(ending.done, None)
        for opening, mine in zip(work.openings, answers.openings, strict=True):
            _tell(opening.done, mine)
        for claimed, verdict in zip(work.submits, answers.submits, strict=True):
            _tell(claimed.done, verdict)
        unopened = []
        for wanted, decision in zip(work.reservations, answers.reservations, strict=True):
            if decision.unopened:
                unopened.append(wanted)
            else:
                _tell(wanted.done, decision.short)
        if unopened:
            await self._open(unopened)

    async def _open(self, wanted: Sequence[Waiter[Reservation, Short | None]]) -> None:
        """Make the budgets that these need, and let them ask again, before all others."""
        again = Work(reservations=[*wanted])
        try:
            await self.database.write(partial(budgets.opened, [each.wish for each in wanted]))
        except Exception as error:
            _refuse(again, error)
        else:
            self._waiting.reservations[:0] = again.reservations

    async def _postpone(self, work: Work, fault: Fault) -> None:
        """The database is away, or it is not known what has become of the transaction."""
        waiting, self.behind = self._waiting, True
        if not self._stopping:  # else another process does what is left
            waiting.begun[:0] = work.begun[: WAITING - len(waiting.begun)]
            waiting.unclaimed += [*work.unclaimed, *(each.wish.task.id for each in work.openings)]
            waiting.unreserved += [*work.unreserved, *(each.wish.task for each in work.reservations)]
            waiting.lost += work.lost
            waiting.queued[:0] = work.queued
            waiting.placed[:0] = work.placed
        _refuse(Work(openings=work.openings, reservations=work.reservations, submits=work.submits), fault)
        if work.endings or work.saved:
            await self._keep(Kept(tuple(each.wish for each in work.endings), tuple(work.saved)))
            for ending in work.endings:
                _tell(ending.done, None)

    async def _keep(self, kept: Kept) -> None:
        """Put it into the journal."""
        self.behind = True
        try:
            await asyncio.to_thread(journal.keep, self._folder, kept)
        except OSError as error:  # what is paid for is answered all the same
            log.error("ends of tasks are in memory alone", exc_info=error)
            self._unkept += kept.endings
            self._unsaved += kept.saved
        else:
            self._kept += len(kept)


def _tell(future: asyncio.Future[A], answer: A) -> None:
    if not future.done():  # else nobody waits for it any more
        future.set_result(answer)


def _refuse(work: Work, error: Exception) -> None:
    for future in work.futures:
        if not future.done():
            future.set_exception(error)
