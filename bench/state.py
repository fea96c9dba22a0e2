"""What keys, limits, budgets and history cost: processor time per call, over that of the bare gateway, in one run.

python -m bench.state [--quick]

Two servers on one core, asked in turn: one without history and keys, one with a client of a tier that has every limit
and a monthly budget, whose calls are all written down and charged. Small answers at 64 connections: with larger ones
the difference drowns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import yaml

from bench import processes
from bench.processes import GATEWAY, LOAD
from bench.run import HERE, Bench, Run
from bench.scenarios import small
from bench.upstream import Ports, config, prepare

KEY = "bench-key-of-a-client"
BAR = 1.25
BARRED = "keys, limits, ledger"
MANY = 1_000_000_000
SCENARIO = small(64)
KINDS = {"bare": {}, BARRED: {"budget": False}, f"{BARRED}, budget": {"budget": True}}


@contextmanager
def server(root: Path, ports: Ports, port: int, kind: str) -> Iterator[int]:
    """One of the servers; its process id."""
    document = {**config(root, ports), "server": {"port": port}, "data": str(root / kind)}
    if kind != "bare":
        tier = dict.fromkeys(("requests_per_minute", "images_per_minute", "concurrent_jobs", "max_n"), MANY)
        if KINDS[kind]["budget"]:
            tier["budget_usd_per_month"] = MANY
            document["providers"]["small"]["models"]["m"] |= {"prices": [{"unit": "image", "amount": 0.001}]}
        document |= {
            "auth": {"keys": [{"name": "bench", "key": KEY, "tier": "all"}]},
            "tiers": {"all": tier},
            "history": {"enabled": True},
        }
    path = root / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(path)]
    with processes.running(GATEWAY, command, port, root / f"{kind}.out") as pid:
        yield pid


def load(body: Path, port: int, seconds: int) -> Run:
    """All that the clients can ask in so many seconds."""
    command = ["wrk", "-t1", f"-c{SCENARIO.connections}", f"-d{seconds}s", "--timeout=60s", "-s", str(HERE / "wrk.lua")]
    command += [f"http://127.0.0.1:{port}/v1/images/generations", "--", str(body), KEY]
    done = subprocess.run(processes.pinned(LOAD, command), capture_output=True, text=True, check=True)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Run)


def checked(body: Path, port: int) -> None:
    """One call, which must be answered."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    head = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    client.request("POST", "/v1/images/generations", body.read_bytes(), head)
    reply = client.getresponse()
    text = reply.read()
    client.close()
    if reply.status != 200:
        raise SystemExit(f"port {port}: {reply.status} {text!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four rounds instead of fifteen")
    seconds, rounds = (1, 4 if parser.parse_args().quick else 15)
    os.environ["PATH"] += ":/usr/sbin"
    with tempfile.TemporaryDirectory(prefix="pictor-bench-") as made:
        root, ports = Path(made), Ports()
        prepare(root, ports)
        body = root / "ask.json"
        body.write_text(json.dumps({"model": SCENARIO.model, "prompt": "A red fox", "response_format": "url"}))
        with ExitStack() as stack:
            stack.enter_context(Bench(root, ports, 1, 1).upstream())
            servers = {kind: ports.pictor + 50 + number for number, kind in enumerate(KINDS)}
            pids = {kind: stack.enter_context(server(root, ports, port, kind)) for kind, port in servers.items()}
            for port in servers.values():
                checked(body, port)
                load(body, port, 1)
            measured = [
                {kind: once(body, port, pids[kind], seconds) for kind, port in servers.items()} for _ in range(rounds)
            ]
    print("| server | calls/s | microseconds of processor per call | over the bare one |")
    print("| --- | --- | --- | --- |")
    missed = False
    for kind in KINDS:
        rate, spent = (statistics.median(each[kind][part] for each in measured) for part in (0, 1))
        # of the two measured right after each other, as the machine is not equally quick all the time
        ratio = statistics.median(each[kind][1] / each["bare"][1] for each in measured)
        missed |= kind == BARRED and ratio > BAR
        print(f"| {kind} | {rate:,.0f} | {spent:.0f} | {ratio:.2f} |")
    print(f"\nbar: {BARRED}, at most {BAR}. A budget is guarded by a transaction of its own before each call.")
    return int(missed)


def once(body: Path, port: int, pid: int, seconds: int) -> tuple[float, float]:
    """Calls per second, and microseconds of processor time for each."""
    before = processes.cpu_seconds(pid)
    run = load(body, port, seconds)
    if run.errors:
        raise SystemExit(f"port {port}: {run.errors} errors")
    return run.requests / run.seconds, (processes.cpu_seconds(pid) - before) / run.requests * 1e6


if __name__ == "__main__":
    raise SystemExit(main())
