"""What the sweeper costs those who call meanwhile: the slowest calls beside it, over those of a quiet server.

    python -m bench.sweep [--rows 100000] [--files 10000]

Two servers on one core with the same history and files, asked in turn at a steady hundred calls a second. For the one,
everything is past its time, and it sweeps from its start on; the other has nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from bench import processes
from bench.history import fill
from bench.processes import GATEWAY
from bench.run import Bench
from bench.upstream import Ports, config, prepare
from proxy.state.database import Database, default_url
from proxy.state.migrate import migrate

EACH = 0.01  # seconds between two calls
WARM, SECONDS = 1.0, 5.0
ROUNDS = 5
BAR = 1.5


def filled(folder: Path, rows: int, files: int) -> None:
    """A data folder with so many tasks, and so many made files of years ago."""
    database = Database(default_url(folder))
    migrate(database)
    fill(database, rows)
    database.close()
    for number in range(files):
        path = folder / "files" / f"2020-01-{number % 28 + 1:02d}" / f"202001{number % 28 + 1:02d}-{number:022d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(20_000))
        os.utime(path, (1_577_836_800, 1_577_836_800))


async def asked(port: int) -> float:
    """The 99th percentile of the times of calls, in milliseconds."""
    times: list[float] = []
    body = {"model": "small/m", "prompt": "A red fox", "response_format": "url"}
    url = f"http://127.0.0.1:{port}/v1/images/generations"

    async with aiohttp.ClientSession() as session:

        async def one() -> None:
            began = time.perf_counter()
            async with session.post(url, json=body) as response:
                await response.read()
                assert response.status == 200, await response.text()
            times.append((time.perf_counter() - began) * 1000)

        for seconds in (WARM, SECONDS):  # what a server does once is not what is asked
            times.clear()
            async with asyncio.TaskGroup() as group:
                for _ in range(int(seconds / EACH)):
                    group.create_task(one())
                    await asyncio.sleep(EACH)
    return statistics.quantiles(times, n=100)[98]


def measured(root: Path, ports: Ports, data: Path, retention: str | None) -> float:
    """A server with this data, which keeps it for so long."""
    keep: dict[str, Any] = {"retention": retention}
    document = {
        **config(root, ports), "data": str(data), "history": keep, "files": {"hosting": "passthrough", **keep},
        "log": {"level": "info"},
    }  # fmt: skip
    path = root / "sweep.yaml"
    path.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(path)]
    with processes.running(GATEWAY, command, ports.pictor, root / "sweep.out"):
        found = asyncio.run(asked(ports.pictor))
    if retention is not None:
        swept = [line for line in (root / "sweep.out").read_text().splitlines() if '"swept"' in line]
        print(json.dumps({"p99 beside the sweep": round(found, 2), "it ended meanwhile": bool(swept)}), file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    with tempfile.TemporaryDirectory(prefix="pictor-bench-") as made:
        root, ports = Path(made), Ports()
        prepare(root, ports)
        filled(root / "full", options.rows, options.files)
        quiet, swept = [], []
        with Bench(root, ports, 1, 1).upstream():
            for _ in range(ROUNDS):
                shutil.copytree(root / "full", root / "data")
                os.sync()  # else the copy is still being written while the first server is measured
                quiet.append(measured(root, ports, root / "data", None))
                swept.append(measured(root, ports, root / "data", "1d"))
                shutil.rmtree(root / "data")
    ratio = statistics.median(busy / calm for busy, calm in zip(swept, quiet, strict=True))
    print(f"p99: quiet {statistics.median(quiet):.2f} ms, beside the sweep {statistics.median(swept):.2f} ms")
    print(f"ratio {ratio:.2f}, bar: at most {BAR}")
    return int(ratio > BAR)


if __name__ == "__main__":
    raise SystemExit(main())
