"""How long a page of tasks and the sums of the ledger take, with many rows, and while others are written.

    python -m bench.history [--rows 100000] [--database postgresql://…]

Without a database it is SQLite in a temporary folder; a given one must be empty. Each row of the table is one query
with the median and the worst of its times in milliseconds, as a request waits for it: thread, statement, conversion.
"nothing is found" is the worst that a filter can do: all rows are judged.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from proxy.state import ids, tables
from proxy.state.database import Database
from proxy.state.history import Filters, History, Span
from proxy.state.ledger import Ledger
from proxy.state.records import Batch, Ending, Entry, Task, write

START = 1_790_000_000_000
APART = 60_000  # milliseconds between two calls
KEYS = {"key_a": 50, "key_b": 25, "key_c": 15, "key_d": 7, "key_e": 3}  # per cent of the calls
MODELS = ("bfl/flux-2-pro", "openai/gpt-image-2.6-flare", "gemini/gemini-3.1-flash-image", "recraft/recraftv4")
PROMPT = "A watercolour of a lighthouse on a cliff at dawn, with gulls and a small red boat far out. " * 5
ROUNDS = 25


def ending(number: int, chance: random.Random) -> Ending:
    """One call as the server writes it."""
    at = START + number * APART
    id = f"task_{at:012x}{chance.getrandbits(80):020x}"
    key = chance.choices([*KEYS], [*KEYS.values()])[0]
    model = chance.choice(MODELS)
    failed = chance.random() < 0.03
    output = {
        "id": f"20261120-{chance.getrandbits(128):022x}"[:31] + ".png", "type": "image/png", "width": 1024,
        "height": 1024, "bytes": 1_234_567, "revised_prompt": PROMPT,
    }  # fmt: skip
    task = Task(
        id=id, key=key, created=at, ended=at + 9_000, status="failed" if failed else "completed",
        op=chance.choice(["generate", "generate", "generate", "edit"]), asked=chance.choice([model, "dall-e-3"]),
        model=model, worker="w", request={"prompt": PROMPT, "n": 2, "size": "1024x1024", "quality": "high"},
        metadata={"project": f"p{chance.randrange(20)}", "source": "web"},
        result=None if failed else {"created": at // 1000, "outputs": [output, output], "usage": {"output_image": 4}},
        bytes=2_469_134, timings={"submit": 3.2, "download": 0.4, "store": 0.02}, cost=None if failed else 40_000,
        error={"kind": "policy", "code": "moderation_blocked", "message": "No.", "param": None} if failed else None,
        fingerprint=f"{chance.getrandbits(256):064x}", request_id=f"req_{chance.getrandbits(128):032x}",
    )  # fmt: skip
    provider, _, bare = model.partition("/")
    entry = Entry(
        id=id, key=key, at=at, day=ids.day(at), op=task.op, provider=provider, model=bare,
        status=task.status, pictures=0 if failed else 2, cost=task.cost,
    )  # fmt: skip
    return Ending(task, entry)


def fill(database: Database, rows: int) -> None:
    chance = random.Random(1)
    database.now(tables.metadata.create_all)
    for start in range(0, rows, 5_000):
        group = [ending(number, chance) for number in range(start, min(rows, start + 5_000))]
        database.now(partial(write, Batch(endings=group)))
    if database.kind == "postgresql":  # as autovacuum does within a minute
        engine = sa.create_engine(database.url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text("VACUUM (ANALYZE)"))
        engine.dispose()


def queries(history: History, rows: int) -> dict[str, Callable[[], Awaitable[object]]]:
    middle = START + rows // 2 * APART
    deep = f"task_{middle:012x}"
    last = ids.day(START + rows * APART)
    month = Span(first=last[:7] + "-01", last=last)
    every = Span(first=ids.day(START), last=last)

    def page(key: str | None, after: str | None = None, limit: int = 20, **filters: object) -> Awaitable[object]:
        return history.page(key, limit, after=after, filters=Filters(**filters))  # type: ignore[arg-type]

    found: dict[str, Callable[[], Awaitable[object]]] = {
        "the last 100": lambda: page("key_a", limit=100),
        "deep in the list": lambda: page("key_a", deep),
        "oldest first": lambda: history.page("key_a", 20, oldest_first=True),
        "status failed": lambda: page("key_a", status="failed"),
        "model": lambda: page("key_a", model="dall-e-3"),
        "operation": lambda: page("key_a", op="edit"),
        "metadata": lambda: page("key_a", metadata={"project": "p7"}),
        "one day": lambda: page("key_a", since=middle, until=middle + 86_400_000),
        "all together": lambda: page(
            "key_a", status="failed", op="edit", model="dall-e-3", metadata={"project": "p7", "source": "web"}
        ),
        "status, nothing is found": lambda: page("key_a", status="queued"),
        "model, nothing is found": lambda: page("key_a", model="x"),
        "metadata, nothing is found": lambda: page("key_a", metadata={"project": "x"}),
        "small key, nothing is found": lambda: page("key_e", metadata={"project": "x"}),
        "all keys": lambda: page(None),
        "all keys, failed": lambda: page(None, status="failed"),
        "all keys, status, nothing is found": lambda: page(None, status="queued"),
        "all keys, model, nothing is found": lambda: page(None, model="x"),
        "all keys, both, nothing is found": lambda: page(None, model=MODELS[0], metadata={"project": "x"}),
        "20 ids": lambda: history.several([f"{deep}{n}" for n in range(20)], "key_a"),
        "account": lambda: history.account("key_a", START + rows * APART),
        "usage, this month, by key and model": lambda: history.usage(month, ["key", "model"]),
        "usage, all days, by day": lambda: history.usage(every, ["day"]),
    }
    return found


async def measured(ask: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """The median and the worst, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), max(times)


async def writing(ledger: Ledger, rows: int, written: list[int]) -> None:
    """Ten calls at a time end, one group after the other, until it is cancelled."""
    chance = random.Random(2)
    for number in range(rows, 10 * rows):
        await asyncio.gather(*(ledger.end(ending(number * 10 + each, chance)) for each in range(10)))
        written[0] += 10
        await asyncio.sleep(0.01)


async def bench(url: str | None, rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(url or f"sqlite:///{folder}/pictor.db")
        fill(database, rows)
        history = History(database)
        quiet = {name: await measured(ask) for name, ask in queries(history, rows).items()}
        ledger = Ledger(database, Path(folder))
        ledger.start()
        written = [0]
        writer = asyncio.create_task(writing(ledger, rows, written))
        began = time.monotonic()
        busy = {name: await measured(ask) for name, ask in queries(history, rows).items()}
        rate = written[0] / (time.monotonic() - began)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await ledger.stop()
        database.close()
    print(f"{database.kind}, {rows:,} rows; then while {rate:.0f} calls/s end\n")
    print(f"| {'query':<38} | median | worst | median, written | worst, written |\n| --- | ---: | ---: | ---: | ---: |")
    for name, (median, worst) in quiet.items():
        print(f"| {name:<38} | {median:.1f} | {worst:.1f} | {busy[name][0]:.1f} | {busy[name][1]:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--database", help="an empty PostgreSQL; without it SQLite in a temporary folder")
    given = parser.parse_args()
    asyncio.run(bench(given.database, given.rows))


if __name__ == "__main__":
    main()
