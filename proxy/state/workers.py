"""The processes that serve, and what is done about one that is gone.

Each says every few seconds that it is there. Who has said nothing for `SILENT` seconds is gone, and one of the others
ends its tasks as failed, and gives back what they had reserved. What was silent is judged by each process's own steady
clock, so that no clocks need to agree, and nobody is gone because a machine slept or the database was away.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.logs import log, warn
from proxy.state import budgets, jobs, queues, tables
from proxy.state.database import Database, milliseconds
from proxy.state.ledger import Ledger
from translators.base import Fault

LOOK = 1.0  # seconds between two looks at whether the database is back
BEAT = 5.0  # seconds
SILENT = 20.0  # seconds after which a process is taken for gone
ADOPTED = 200  # tasks that are taken over in one transaction
ASTRAY = 60.0  # seconds after which what no task of ours needs is removed
LEFT = 6.0  # … in a process that stops: longer than any transaction takes that is still to tell of it

ERROR = {
    "kind": "upstream",
    "code": "interrupted",
    "message": "The server was stopped while it worked on this. It may have been made, and charged, all the same.",
    "param": None,
}


class Peer(msgspec.Struct, frozen=True):
    """A row of `worker`."""

    id: str
    host: str
    pid: int
    seen: int


class Held(msgspec.Struct, frozen=True):
    """What the tables hold for tasks of one process."""

    tasks: frozenset[str]
    reservations: frozenset[str]
    slots: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        """The ids of the tasks, whatever is held for them."""
        return self.tasks | self.reservations | self.slots


class Workers:
    """This process among the others. `running` tells the ids of the tasks that it works on."""

    def __init__(self, database: Database, ledger: Ledger, running: Callable[[], Collection[str]]) -> None:
        self.id = f"{socket.gethostname()}-{uuid.uuid4().hex}"
        self.alive = 1  # processes that serve, this one included
        self.adopted: Callable[[list[str]], Awaitable[None]] = _let_be  # goes on with tasks that are ours from now on
        self.taken: Callable[[list[str]], None] = lambda _: None  # … ends the work on those that are another's
        self._database = database
        self._ledger = ledger
        self._running = running
        self._started = milliseconds()
        self._seen: dict[str, tuple[int, float]] = {}  # of each other: what it said last, and when that was new to us
        self._astray: dict[str, float] = {}  # tasks that do not run, and since when
        self._next_beat = 0.0
        self._known = False  # it has said that it is there
        self._leaving = False
        self._wake = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._adopting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the others, and write what an earlier process left in the journal. Raises as `Database.write` does."""
        _HERE.add(self.id)
        await self._beat()
        if self._ledger.behind:
            await self._ledger.replay()
        self._adopt()
        self._beating = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """Leave: what is still not ended here has failed. Where the database is away, the others find out."""
        if self._beating is not None:
            for each in (self._beating, self._adopting):
                if each is not None:
                    each.cancel()
                    with suppress(asyncio.CancelledError):
                        await each
            self._beating = None
            _HERE.discard(self.id)
            with suppress(Fault):
                await self._database.write(partial(_take_over, {self.id: None}))

    def leave(self) -> None:
        """Take no more tasks, and give those away soon that this process works on no more: it may have long to go."""
        self._leaving = True
        self.look_now()

    def look_now(self) -> None:
        """Take what belongs to nobody at once, and not when the time has come."""
        self._next_beat = 0.0
        self._wake.set()

    async def _go_on(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if due := not self._database.up or time.monotonic() >= self._next_beat:
                    await self._beat()
                if self._database.up and self._ledger.behind:
                    await self._ledger.replay()
                if due:
                    self._adopt()
            except Fault:
                self._seen.clear()  # the others could not say anything either
            except Exception as error:
                log.error("unforeseen error beside the requests", exc_info=error)

    async def _beat(self) -> None:
        peers, known = await self._database.write(self._say)
        was_gone, self._known = self._known and not known, True
        self._next_beat = time.monotonic() + (LOOK if self._leaving else BEAT)
        gone = self._gone(peers)
        self.alive = 1 + len(peers) - len(gone)
        if gone:
            taken = await self._database.write(partial(_take_over, {peer.id: peer.seen for peer in gone}))
            for peer in taken:
                warn("a process is gone: others go on with its tasks, as far as they can", worker=peer)
        if was_gone:
            await self._let_go()
        await self._tidy()

    def _adopt(self) -> None:
        """Take tasks that nobody works on, beside all else: there may be thousands."""
        if not self._leaving and (self._adopting is None or self._adopting.done()):
            self._adopting = asyncio.create_task(self._take())

    async def _take(self) -> None:
        """A few at a time, and more once these are gone on with: others take their part."""
        try:
            while tasks := await self._database.write(partial(jobs.adopted, self.id, ADOPTED)):
                await self.adopted(tasks)
                if len(tasks) < ADOPTED or self._leaving:
                    break
        except Fault:  # the database is away: the next beat tries it again
            pass
        except Exception as error:
            log.error("unforeseen error beside the requests", exc_info=error)

    async def _let_go(self) -> None:
        """This process stood still, and was taken for gone: what others work on since then is theirs."""
        warn("this process was taken for gone: others go on with its tasks", worker=self.id)
        running = [*self._running()]
        for start in range(0, len(running), ADOPTED):
            some = running[start : start + ADOPTED]
            if taken := await self._database.read(partial(jobs.taken, self.id, some)):
                self.taken(taken)

    def _say(self, connection: Connection) -> tuple[list[Peer], bool]:
        """That we are there; who else is, and whether we were known."""
        table, now = tables.worker, milliseconds()
        # Two words within a millisecond must differ, and a clock may have been put back.
        later = sa.case((table.c.seen < now, now), else_=table.c.seen + 1)
        known = connection.execute(sa.update(table).where(table.c.id == self.id).values(seen=later)).rowcount == 1
        if not known:
            own = {"id": self.id, "host": _host(), "pid": os.getpid(), "started": self._started, "seen": now}
            connection.execute(sa.insert(table).values(own))
        others = sa.select(table.c.id, table.c.host, table.c.pid, table.c.seen).where(table.c.id != self.id)
        return [Peer(*found) for found in connection.execute(others)], known

    def _gone(self, peers: Iterable[Peer]) -> list[Peer]:
        now, before = time.monotonic(), self._seen
        self._seen = {}
        gone = []
        for peer in peers:
            said, since = before.get(peer.id, (None, now))
            self._seen[peer.id] = (peer.seen, since if said == peer.seen else now)
            if now - self._seen[peer.id][1] >= SILENT or (peer.host == _host() and not _alive(peer)):
                gone.append(peer)
        return gone

    async def _tidy(self) -> None:
        """Remove what is held for tasks that have not run for a minute; an answer from the database was lost, say."""
        held = await self._database.read(partial(_held, self.id))
        now, running = time.monotonic(), self._running()
        self._astray = {task: self._astray.get(task, now) for task in held.all if task not in running}
        lost = [task for task, since in self._astray.items() if now - since >= (LEFT if self._leaving else ASTRAY)]
        if lost:
            if not self._leaving:
                warn("tasks are held that do not run", tasks=lost)
            for at in range(0, len(lost), ADOPTED):  # others write meanwhile
                await self._database.write(partial(_settle, lost[at : at + ADOPTED]))


async def _let_be(tasks: list[str]) -> None:
    """For who has nothing to go on with."""


def _held(worker: str, connection: Connection) -> Held:
    task, reservation, slot = tables.task.c, tables.reservation.c, tables.slot.c
    a_keys = ~slot.key.startswith(queues.PROVIDER)  # places at a provider have names of their own
    return Held(
        frozenset(connection.scalars(sa.select(task.id).where(task.worker == worker, task.ended.is_(None)))),
        frozenset(connection.scalars(sa.select(reservation.task).where(reservation.worker == worker))),
        frozenset(connection.scalars(sa.select(slot.task).where(slot.worker == worker, a_keys))),
    )


def _settle(lost: Sequence[str], connection: Connection) -> None:
    durable = set(jobs.freed(connection, lost))
    lost = [task for task in lost if task not in durable]
    connection.execute(_failed().where(tables.task.c.id.in_(lost)))
    freed = budgets.given_back(connection, lost)
    connection.execute(sa.delete(tables.slot).where(tables.slot.c.task.in_(lost)))
    budgets.settled(connection, freed)


def _take_over(workers: dict[str, int | None], connection: Connection) -> list[str]:
    """End what these have left, unless they have spoken since, or another process does it."""
    worker = tables.worker.c
    gone = []
    for id, seen in sorted(workers.items()):  # in one order, so that no two processes wait for each other
        leaving = sa.delete(tables.worker).where(worker.id == id)
        if connection.execute(leaving if seen is None else leaving.where(worker.seen == seen)).rowcount:
            gone.append(id)
    if gone:
        jobs.set_free(connection, gone)
        connection.execute(_failed().where(tables.task.c.worker.in_(gone)))
        freed = budgets.given_back(connection, workers=gone)
        connection.execute(sa.delete(tables.slot).where(tables.slot.c.worker.in_(gone)))
        budgets.settled(connection, freed)
    return gone


def _failed() -> sa.Update:
    """Tasks that nobody works on have failed. They keep their claims, and their clients have lost their answers: what
    may be paid is not made again in silence.
    """
    table = tables.task
    failed = sa.update(table).where(table.c.ended.is_(None))
    return failed.values(status="failed", ended=milliseconds(), error=ERROR, lost=True)


@cache
def _host() -> str:
    """Where a process id means the same: this boot of this machine, and within it this container."""
    marks = [socket.gethostname(), str(uuid.getnode())]
    with suppress(OSError):  # only Linux has these
        marks = [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return f"{socket.gethostname()} {hashlib.sha256(repr(marks).encode()).hexdigest()[:16]}"


_HERE: set[str] = set()  # the ids of all that are in this process


def _alive(peer: Peer) -> bool:
    """Whether its process is still there, on this host."""
    if peer.pid == os.getpid():
        return peer.id in _HERE  # else the number has got to us, so that process is gone
    try:
        os.kill(peer.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
