"""Servers are killed, drained, stopped and cut from their database while tasks are made; then all is counted.

`python -m tests.chaos` (`make chaos`) does it in full and prints the figures, `tests/test_chaos.py` in small. The
provider, the clients and PostgreSQL are spared, so that they know what was asked for, answered and paid.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa

from proxy.state.database import Database
from proxy.state.workers import _take_over
from tests.chaos_account import Figure, figures, table
from tests.chaos_fleet import Blow, Fleet, Member, ended, fleet
from tests.stores import PostgresServer, postgres_binaries

Trouble: TypeAlias = Callable[[Fleet], Coroutine[Any, Any, None]]
ENDS_WITHIN = 120.0  # seconds after the last trouble and the last answer


# ---- what befalls them


def kills(rounds: int, seconds: float, *, drained: float = 0.25, pause: float = 3.0) -> Trouble:
    """So many ends of a process within that time, that share of them in order; each is started again after a while."""

    async def befall(those: Fleet) -> None:
        chance = those.chance

        async def gone(member: Member, how: signal.Signals) -> None:
            await member.end(how)
            await asyncio.sleep(chance.uniform(0, pause))
            await member.start()

        async with asyncio.TaskGroup() as group:
            for _ in range(rounds):
                await asyncio.sleep(seconds / rounds * chance.uniform(0.5, 1.5))
                member = await someone(those)
                member.up = False
                how = signal.SIGTERM if chance.random() < drained else signal.SIGKILL
                those.note(member, how.name)
                group.create_task(gone(member, how))

    return befall


async def someone(those: Fleet) -> Member:
    """One that serves; where none does, the first that does again."""
    while not (up := [each for each in those.members if each.up]):  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.05)
    return those.chance.choice(up)


def outage(server: PostgresServer, seconds: float) -> Trouble:
    """The database is away for so long."""

    async def befall(those: Fleet) -> None:
        began = time.monotonic()
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.start)
        those.blows.append(Blow(began, "database", "", (), until=time.monotonic()))

    return befall


def halt(seconds: float, *, at_once: bool = False) -> Trouble:
    """A process stands still for so long that others go on with its tasks; then it goes on, too.

    `at_once`: it is said to be gone as the others would say it, only sooner.
    """

    async def befall(those: Fleet) -> None:
        member = await someone(those)
        member.up = False
        those.note(member, "SIGSTOP")
        member.server.process.send_signal(signal.SIGSTOP)
        if at_once:
            await asyncio.to_thread(taken_for_gone, those.database, member.server.process.pid)
        await asyncio.sleep(seconds)
        member.server.process.send_signal(signal.SIGCONT)
        member.up = True

    return befall


def taken_for_gone(url: str, pid: int) -> None:
    database = Database(url)
    try:
        id = database.now(lambda connection: connection.scalar(sa.text(f"SELECT id FROM worker WHERE pid = {pid}")))
        database.now(partial(_take_over, {id: None}))
    finally:
        database.close()


def in_turn(*troubles: Trouble, pause: float) -> Trouble:
    """One after the other, with so many seconds before each."""

    async def befall(those: Fleet) -> None:
        for each in troubles:
            await asyncio.sleep(pause)
            await each(those)

    return befall


# ---- what is made meanwhile


def befallen(those: Fleet, tasks: int, seconds: float, trouble: Trouble) -> list[Figure]:
    """What is counted after so many tasks were asked for within that time, while trouble befell, and all have ended."""

    async def both() -> None:
        await asyncio.gather(*(each.start() for each in those.members))
        async with asyncio.TaskGroup() as group:
            group.create_task(those.load(tasks, seconds))
            group.create_task(trouble(those))
        await asyncio.gather(*those.watches)

    asyncio.run(both())
    began = time.monotonic()
    found = ended(those, ENDS_WITHIN)
    return [*figures(those, found), Figure("last end, seconds after all that", f"{time.monotonic() - began:.1f}")]


@contextmanager
def postgresql(folder: Path) -> Iterator[PostgresServer]:
    """One of our own, which can be stopped."""
    own = folder / "postgresql"
    own.mkdir()
    server = PostgresServer(postgres_binaries(), own)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def killed_on_sqlite(
    folder: Path, seed: int, *, tasks: int, rounds: int, seconds: float, **services: Any
) -> list[Figure]:
    """One process on SQLite."""
    with fleet(folder, 1, seed=seed, **services) as those:
        return befallen(those, tasks, seconds, kills(rounds, seconds))


def killed_on_postgresql(
    folder: Path, seed: int, *, tasks: int, rounds: int, seconds: float, **services: Any
) -> list[Figure]:
    """Three machines on PostgreSQL, none of which can look whether a process of another one's still runs."""
    with (
        postgresql(folder) as server,
        fleet(folder, 3, database=server.url, hosts=True, seed=seed, **services) as those,
    ):
        return befallen(those, tasks, seconds, kills(rounds, seconds))


def without_database(folder: Path, seed: int, *, tasks: int, away: float, seconds: float) -> list[Figure]:
    """Three processes whose database is away for a while."""
    with postgresql(folder) as server, fleet(folder, 3, database=server.url, seed=seed) as those:
        return befallen(those, tasks, seconds, in_turn(outage(server, away), pause=(seconds - away) / 2))


def halted(folder: Path, seed: int, *, tasks: int, still: float, seconds: float) -> list[Figure]:
    """Three processes, each of which stands still for a while."""
    with postgresql(folder) as server, fleet(folder, 3, database=server.url, seed=seed) as those:
        return befallen(those, tasks, seconds, in_turn(*[halt(still)] * 3, pause=(seconds / 3 - still)))


def killed_without_database(
    folder: Path, seed: int, *, tasks: int, rounds: int, away: float, seconds: float
) -> list[Figure]:
    """Three machines that are killed, also while their database is away."""

    async def both(those: Fleet) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(kills(rounds, seconds)(those))
            group.create_task(in_turn(outage(server, away), pause=(seconds - away) / 2)(those))

    with postgresql(folder) as server, fleet(folder, 3, database=server.url, hosts=True, seed=seed) as those:
        return befallen(those, tasks, seconds, both)


def all_on_postgresql(folder: Path, seed: int, *, tasks: int, seconds: float, **services: Any) -> list[Figure]:
    """A kill, a halt, an outage and one more kill, in small."""
    with postgresql(folder) as server, fleet(folder, 3, database=server.url, seed=seed, **services) as those:
        kill = kills(1, 0.5, drained=0)
        trouble = in_turn(kill, halt(4, at_once=True), outage(server, 4), kill, pause=1)
        return befallen(those, tasks, seconds, trouble)


FULL: dict[str, Callable[[Path, int], list[Figure]]] = {
    "sqlite": partial(killed_on_sqlite, tasks=1000, rounds=20, seconds=140),
    "postgresql": partial(killed_on_postgresql, tasks=1000, rounds=20, seconds=140),
    "outage": partial(without_database, tasks=300, away=30, seconds=50),
    "both": partial(killed_without_database, tasks=500, rounds=12, away=20, seconds=80),
    "halt": partial(halted, tasks=300, still=26, seconds=90),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is named, or all; 1 where something does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", action="append", choices=FULL, help="this one alone; may be repeated")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all chances")
    parser.add_argument("--keep", action="store_true", help="the folder with the logs and the database")
    options = parser.parse_args(arguments)
    wrong = 0
    for name in options.only or FULL:
        folder = Path(tempfile.mkdtemp(prefix="pictor-chaos-"))
        folder.chmod(0o755)  # for PostgreSQL's user
        try:
            lines = FULL[name](folder, options.seed)
        finally:
            if not options.keep:
                shutil.rmtree(folder, ignore_errors=True)
        print(table(f"{name}, seed {options.seed}" + (f", {folder}" if options.keep else ""), lines), flush=True)
        wrong += sum(not each.holds for each in lines)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
