"""What a task has sent to providers, so that any process can go on asking for it.

The engine tells a `Watch` of every submit, before it is sent and when the provider has named its task. For a task whose
history is kept that is a `Trail`'s, which writes it down; else nobody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.logs import log
from proxy.plan import Finish, Note, Plan
from proxy.state.database import milliseconds
from proxy.state.jobs import Claimed, JobRow, SubmitRow
from proxy.state.ledger import Ledger
from translators.base import Call, Fault, Job, Size, Wait
from translators.video import VideoJob

GATE = 16  # submits of durable tasks that begin at once: as many may be of unknown fate after a crash
GATE_SECONDS = 2.0  # after which a submit that is still on the wire lets the next one begin
PATIENCE = 3.0  # seconds that a submit on the wire still has once nobody wants it: what has a name may be stopped
AWAY_SECONDS = 0.5  # between two looks for a database without which nothing may be sent


class LetGo(Exception):
    """This process works on the task no more: another one goes on with it, or has done so already."""


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What the answers to a submit are read with, and what its results are finished with."""

    job: Job
    finish: Finish
    notes: tuple[Note, ...] = ()
    count: int = 1  # upstream calls of the same task
    sent: tuple[Size, ...] = ()  # pictures that went with it: some are priced
    look: Call | None = None  # how the provider can be asked whether it has it


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A submit of an earlier process. Without `wait` nobody knows whether the provider has it."""

    target: str
    credential: str
    saved: Saved
    wait: Wait | None


class Watch:
    """Follows one upstream call. This one lets it pass."""

    left: Left | None = None  # an earlier process has submitted it
    whole = True  # the job has what is to be sent
    mark: str | None = None  # our own name for the call
    unhurried = False  # it may wait for a place for as long as that takes
    askable = False  # the provider has it, and another process can ask for it

    @property
    def stopped(self) -> bool:
        """Whether nobody wants it any more."""
        return False

    async def until(self, begins: asyncio.Future[None]) -> None:
        """Wait for its place at the provider, or until nobody wants it any more. Raises `LetGo`."""
        await begins

    def waits(self, queue: str, key: str, priority: int) -> None:
        """It has waited for a while for its place at the provider `queue`."""

    def begins(self) -> None:
        """It has its place, or needs none."""

    def gate(self) -> AbstractAsyncContextManager[None]:
        """A place among those that submit."""
        return nullcontext()

    async def submitting(self, job: Job, look: Call | None) -> None:
        """It is about to be sent; `look` asks the provider whether it has it. Raises where it must not be sent."""

    def waiting(self, job: Job, wait: Wait) -> None:
        """The provider has it, and says how far it has come."""

    def patience(self) -> AbstractAsyncContextManager[None]:
        """Within it, a submit is on the wire: it is given up soon after nobody wants it any more."""
        return nullcontext()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until nobody wants it any more. Raises `LetGo`."""
        await asyncio.sleep(seconds)


UNWATCHED = Watch()


class Trail:
    """The upstream calls of one task."""

    def __init__(self, ledger: Ledger, task: str, worker: str, *, durable: bool, gate: asyncio.Semaphore) -> None:
        self.task = task
        self.durable = durable  # nothing is sent before it is written that it will be
        self.left: Mapping[int, Left] = {}
        self.progress: int | None = None  # per cent
        self.seconds = 0.0  # between two polls, as the provider wants them
        self.submitted = False  # a provider has something of it
        self.cancelled = False
        self.released = False
        self.queued = False  # a row says that it waits for a place
        self.sent = 0  # submits
        self.begun: Callable[[], None] = lambda: None  # writes the row of a task that has none yet
        self.let_go: Callable[[], None] = lambda: None  # of what was sent: the provider has all of it
        self._named: set[int] = set()  # calls that the provider has
        self._ledger = ledger
        self._worker = worker
        self._gate = gate
        self._pauses: set[asyncio.Future[None]] = set()  # that end before their time where something is to be done
        self._on_wire: set[asyncio.Timeout] = set()  # of submits
        self._waiting: set[asyncio.Future[None]] = set()  # for places
        self._shown = False  # there is a row of it that others see it wait by

    @property
    def has_rows(self) -> bool:
        """Whether there may be something of it in `job` or `submit`."""
        return self.durable or self.submitted or self.cancelled or self._shown

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if not self.cancelled:
            self.cancelled = True
            self._end_pauses()
            for limit in self._on_wire:
                limit.reschedule(asyncio.get_running_loop().time() + PATIENCE)
            self._end_waiting(cancelled)

    def release(self) -> None:
        """This process stops: another one goes on with it."""
        self.released = True
        self._end_pauses()
        self._end_waiting(LetGo)

    def _end_waiting(self, why: Callable[[], Exception]) -> None:
        for begins in self._waiting:
            if not begins.done():
                begins.set_exception(why())

    async def until(self, begins: asyncio.Future[None]) -> None:
        """Wait for a place; not where nobody wants it any more."""
        self.check()
        self._waiting.add(begins)
        try:
            await begins
        finally:
            self._waiting.discard(begins)

    def waits(self, queue: str, key: str, priority: int) -> None:
        """Write in passing that it waits for a place, where no row says so yet."""
        if not self.durable and not self._shown:
            self._shown = self.queued = True
            self._ledger.queue(JobRow(task=self.task, key=key, queue=queue, priority=priority))

    def begins(self) -> None:
        """Write in passing that it waits no longer."""
        if self.queued:
            self.queued = False
            self._ledger.place(self.task)

    def _end_pauses(self) -> None:
        for pause in self._pauses:
            _end(pause)

    def watch(self, plan: Plan, number: int, credential: str, *, whole: bool = True) -> Watch:
        """What follows the call with that number; `whole`: its job has what is to be sent."""
        return _Followed(self, plan, number, credential, whole=whole)

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """A place among those that submit at once; given up early where the provider takes its time."""
        await self._gate.acquire()
        held = True

        def give_up() -> None:
            nonlocal held
            if held:
                held = False
                self._gate.release()

        timer = asyncio.get_running_loop().call_later(GATE_SECONDS, give_up)
        try:
            yield
        finally:
            timer.cancel()
            give_up()

    @asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """Raises within `PATIENCE` of the wish for its end, as nobody knows then what the provider makes of it."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._on_wire.add(limit)
                yield
        except TimeoutError as error:
            if limit.expired():
                raise abandoned() from error
            raise
        finally:
            self._on_wire.discard(limit)

    async def claim(self, row: SubmitRow) -> None:
        """Write that it is about to be sent. Waits for a database that is away: nothing is paid yet."""
        while True:
            self.check()
            with suppress(Fault):
                verdict = await self._ledger.submit(Claimed(row, self._worker))
                break
            await asyncio.sleep(AWAY_SECONDS)
        if verdict == "taken":
            raise LetGo
        if verdict == "cancelled":
            self.cancel()
        self.check()

    def check(self) -> None:
        """Raises where it is not to be gone on with."""
        if self.cancelled:
            raise cancelled()
        if self.released:
            raise LetGo

    def save(self, row: SubmitRow) -> None:
        """Write down how the provider can be asked for it."""
        if not self.submitted:
            self.submitted = True
            self.begun()
        self._ledger.save(row)

    def named(self, number: int, of: int) -> None:
        """The provider has that one of so many calls."""
        self._named.add(number)
        if len(self._named) == of:
            self.let_go()

    async def pause(self, seconds: float) -> None:
        """Wait so long; shorter, where there is something to do."""
        if not (self.cancelled or self.released):
            loop = asyncio.get_running_loop()
            over = loop.create_future()  # thousands wait: an event with a timeout takes twice as much
            timer = loop.call_later(seconds, _end, over)
            self._pauses.add(over)
            try:
                await over
            finally:
                timer.cancel()
                self._pauses.discard(over)
        if self.released and not self.cancelled:
            raise LetGo


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


class _Followed(Watch):
    def __init__(self, trail: Trail, plan: Plan, number: int, credential: str, *, whole: bool) -> None:
        self.left = trail.left.get(number)
        self.whole = whole
        again = f".{trail.sent}" if trail.sent else ""  # a provider knows each name once
        self.mark = f"{trail.task}.{number}{again}"
        self._trail = trail
        self._plan = plan
        self._number = number
        self._credential = credential
        self._sent = milliseconds()
        self._last: Wait | None = self.left.wait if self.left else None
        self._saved: dict[str, Any] | None = None
        self._look: Call | None = None

    @property
    def unhurried(self) -> bool:  # type: ignore[override]  # read alone
        return self._trail.durable and self.left is None

    @property
    def askable(self) -> bool:  # type: ignore[override]  # read alone
        return self._last is not None

    @property
    def stopped(self) -> bool:
        return self._trail.cancelled

    async def until(self, begins: asyncio.Future[None]) -> None:
        await self._trail.until(begins)

    def waits(self, queue: str, key: str, priority: int) -> None:
        self._trail.waits(queue, key, priority)

    def begins(self) -> None:
        self._trail.begins()

    def gate(self) -> AbstractAsyncContextManager[None]:
        return self._trail.gate() if self._trail.durable else nullcontext()

    def patience(self) -> AbstractAsyncContextManager[None]:
        return self._trail.patience()

    async def submitting(self, job: Job, look: Call | None) -> None:
        self._look = look
        self._sent = milliseconds()
        self._trail.sent += 1
        if self._trail.durable:
            await self._trail.claim(self._row(job, None))
        else:
            self._trail.check()

    def waiting(self, job: Job, wait: Wait) -> None:
        trail = self._trail
        if wait.progress is not None:
            trail.progress = wait.progress
        if self._last is not None and self._last.call == wait.call:
            return
        self._last = wait
        try:
            row = self._row(job, msgspec.to_builtins(replace(wait, progress=None)))
        except TypeError as error:  # a call with a picture in it cannot be written down
            log.error("a provider's task cannot be gone on with elsewhere", exc_info=error, extra={"task": trail.task})
        else:
            trail.save(row)
            trail.named(self._number, len(self._plan.jobs))

    async def pause(self, seconds: float) -> None:
        self._trail.seconds = seconds
        await self._trail.pause(seconds)

    def _row(self, job: Job, call: dict[str, Any] | None) -> SubmitRow:
        if self._saved is None or call is None:
            plan = self._plan
            self._saved = written(
                Saved(
                    job=bare(job), finish=plan.finish, notes=plan.notes, count=len(plan.jobs),
                    sent=self.left.saved.sent if self.left else pixels(job), look=None if call else self._look,
                )
            )  # fmt: skip
        return SubmitRow(
            task=self._trail.task, number=self._number, target=self._plan.target.id, credential=self._credential,
            sent=self._sent, saved=self._saved, call=call,
        )  # fmt: skip


def pixels(job: Job) -> tuple[Size, ...]:
    """The sizes of the pictures that are sent."""
    return tuple((media.width, media.height) for media in job.images)


def bare(job: Job) -> Job:
    """The job without what was sent: enough to read the answers to its polls with."""
    job = replace(job, prompt="", negative_prompt=None, images=(), mask=None, markup=None)
    return replace(job, first=None, last=None, references=(), clip=None) if isinstance(job, VideoJob) else job


def written(saved: Saved) -> dict[str, Any]:
    """As its row has it."""
    told: dict[str, Any] = msgspec.to_builtins(saved)
    return told


def read(row: SubmitRow) -> Left:
    """What `Trail` wrote. Raises `Fault("upstream")` where this version cannot read it."""
    try:
        shape = VideoJob if row.saved["job"]["op"] == "video" else Job
        saved = Saved(
            job=msgspec.convert(row.saved["job"], shape),
            finish=msgspec.convert(row.saved["finish"], Finish),
            notes=msgspec.convert(row.saved.get("notes", ()), tuple[Note, ...]),
            count=row.saved["count"],
            sent=msgspec.convert(row.saved.get("sent", ()), tuple[Size, ...]),
            look=msgspec.convert(row.saved.get("look"), Call | None),
        )
        wait = None if row.call is None else msgspec.convert(row.call, Wait)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        text = "What was written down of this task cannot be read by this version."
        raise Fault("upstream", text, code="interrupted") from error
    return Left(target=row.target, credential=row.credential, saved=saved, wait=wait)


def uncertain() -> Fault:
    """How a task ends of which nobody knows whether the provider has it."""
    text = (
        "The server was stopped while it handed this task to the provider, and cannot tell whether it was taken. "
        "It may be made, and charged; it is not sent again."
    )
    return Fault("upstream", text, code="submit_uncertain")


def cancelled() -> Fault:
    """How a task ends that was cancelled before anything was paid."""
    return Fault("cancelled", "The task was cancelled.", code="task_cancelled")


def abandoned() -> Fault:
    """How a task ends that was cancelled before the provider had answered its submit."""
    fault = cancelled()
    fault.message += " The provider had it, and had not answered: it may make it, and charge for it, all the same."
    fault.passing = True
    return fault
