"""Pictor against nginx `proxy_pass`, one core each, in one run; one table. See README.md beside.

python -m bench.run [--quick] [--only NAME] [--nginx]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from bench import processes, scenarios
from bench.processes import GATEWAY, LOAD
from bench.scenarios import MIB, SCENARIOS, Scenario
from bench.upstream import BOUNDARY, Ports, prepare

HERE = Path(__file__).parent
HEAD = ("scenario", "nginx", "pictor", "", "ratio", "bar", "ok", "p50 ms", "p99 ms", "peak MiB", "core 0", "core 1")
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario through one server."""

    requests: int
    bytes: int
    seconds: float
    p50: float  # ms
    p99: float
    errors: int
    peak: float = 0.0  # MiB
    busy: float = 0.0  # share of its core that the server used
    load: float = 0.0  # share of the other core that was used

    def rate(self, scenario: Scenario) -> float:
        return self.requests / self.seconds if scenario.unit == "req/s" else self.bytes / self.seconds / 1e6


class Server(msgspec.Struct, frozen=True):
    """Where a scenario is sent."""

    pid: int
    port: int
    path: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    name: str
    cells: tuple[str, ...] = ()  # of `HEAD`, from nginx to bar
    ok: bool | None = None
    more: tuple[str, ...] = ()  # the rest


class Bench:
    """One run: where things are, and how long each measurement takes."""

    def __init__(self, root: Path, ports: Ports, rounds: int, seconds: int) -> None:
        self.root = root
        self.ports = ports
        self.rounds = rounds
        self.seconds = seconds
        self.foreign = 0.0  # the share of the measured core that something else used, at most

    def body(self, scenario: Scenario) -> tuple[Path, str]:
        """The file that holds the request's body, and its type."""
        if scenario.upload:
            return self.root / f"upload-{scenario.upload}", MULTIPART
        ask = {"model": scenario.model, "prompt": "A red fox in the snow", "response_format": scenario.respond}
        path = self.root / "ask.json"
        path.write_text(json.dumps(ask))
        return path, "application/json"

    def send(self, scenario: Scenario, port: int, path: str, seconds: int) -> Run:
        """Load for some seconds."""
        file, kind = self.body(scenario)
        if scenario.bulk:
            command = [sys.executable, "-m", "bench.bulk", str(port), path]
            command += [str(scenario.connections), str(seconds), str(file), kind]
        else:
            command = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s", "--timeout=60s"]
            command += ["-s", str(HERE / "wrk.lua"), f"http://127.0.0.1:{port}{path}", "--", str(file)]
        done = subprocess.run(
            processes.pinned(LOAD, command), capture_output=True, text=True, timeout=seconds + 90, check=False
        )
        if done.returncode:
            raise SystemExit(f"{scenario.name}, port {port}: {done.stderr or done.stdout}")
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Run)

    def measure(self, scenario: Scenario, server: Server) -> Run:
        """Once."""
        began = self.times(server.pid)
        run = self.send(scenario, server.port, server.path, self.seconds)
        took, busy, own, other = (after - before for before, after in zip(began, self.times(server.pid), strict=True))
        self.foreign = max(self.foreign, (own - busy) / took)
        return msgspec.structs.replace(run, busy=busy / took, load=other / took)

    def compare(self, scenario: Scenario, servers: list[Server]) -> list[Run]:
        """The scenario through each server in turn, several times over: what disturbs, disturbs them alike."""
        for server in servers:
            self.check(scenario, server.port, server.path)
            self.send(scenario, server.port, server.path, 1)
            processes.reset_peak(server.pid)
        rounds = [[self.measure(scenario, server) for server in servers] for _ in range(self.rounds)]
        return [
            msgspec.structs.replace(
                middle(runs, scenario),
                errors=sum(run.errors for run in runs),
                peak=processes.memory_mib(server.pid, "VmHWM"),
            )
            for server, runs in zip(servers, zip(*rounds, strict=True), strict=True)
        ]

    def direct(self, scenario: Scenario) -> Run:
        """The scenario without anything between."""
        runs = [self.send(scenario, self.ports.files, scenario.path, self.seconds) for _ in range(self.rounds)]
        return middle(runs, scenario)

    @staticmethod
    def times(pid: int) -> tuple[float, float, float, float]:
        return (
            time.monotonic(), processes.cpu_seconds(pid), processes.core_seconds(GATEWAY), processes.core_seconds(LOAD)
        )  # fmt: skip

    def check(self, scenario: Scenario, port: int, path: str) -> None:
        """One request, whose answer must be what is meant to be measured."""
        file, kind = self.body(scenario)
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("POST", path, file.read_bytes(), {"Content-Type": kind})
        reply = client.getresponse()
        body = reply.read()
        client.close()
        if reply.status != 200:
            raise SystemExit(f"{scenario.name}, port {port}: {reply.status} {body[:500]!r}")
        if scenario.answer and len(body) < scenario.answer * MIB:
            raise SystemExit(f"{scenario.name}, port {port}: {len(body)} bytes instead of {scenario.answer} MiB")

    @contextmanager
    def nginx(self, name: str, core: int, port: int) -> Iterator[int]:
        command = ["nginx", "-p", str(self.root), "-c", str(self.root / f"{name}.conf"), "-e", "stderr"]
        with processes.running(core, command, port, self.root / f"{name}.out") as pid:
            yield pid

    @contextmanager
    def upstream(self) -> Iterator[None]:
        slow = [sys.executable, "-m", "bench.slow", str(self.ports.slow)]
        with (
            self.nginx("answers", LOAD, self.ports.files),
            processes.running(LOAD, slow, self.ports.slow, self.root / "slow.out"),
        ):
            yield

    @contextmanager
    def pictor(self) -> Iterator[int]:
        command = [sys.executable, "-m", "proxy", "serve", "--config", str(self.root / "config.yaml")]
        with processes.running(GATEWAY, command, self.ports.pictor, self.root / "pictor.out") as pid:
            yield pid

    def servers(self, scenario: Scenario, nginx: int, pictor: int | None) -> list[Server]:
        """The reference, and Pictor unless the reference is all that is wanted."""
        own = "/v1/images/edits" if scenario.upload else "/v1/images/generations"
        found = [Server(nginx, self.ports.proxy, scenario.path)]
        return [*found, Server(pictor, self.ports.pictor, own)] if pictor else found

    def start(self) -> tuple[float, float]:
        """Seconds from the command to the first 200, the best of three; and MiB at rest afterwards."""
        seconds, resident = [], 0.0
        for _ in range(3):
            began = time.perf_counter()
            with self.pictor() as pid:
                while not self.healthy():
                    time.sleep(0.002)
                seconds.append(time.perf_counter() - began)
                time.sleep(1)
                resident = max(resident, processes.memory_mib(pid, "VmRSS"))
        return min(seconds), resident

    def healthy(self) -> bool:
        client = http.client.HTTPConnection("127.0.0.1", self.ports.pictor, timeout=5)
        try:
            client.request("GET", "/health")
            return client.getresponse().status == 200
        except OSError:
            return False
        finally:
            client.close()


def middle(runs: Sequence[Run], scenario: Scenario) -> Run:
    """The one with the median rate."""
    return sorted(runs, key=lambda run: run.rate(scenario))[len(runs) // 2]


def row(scenario: Scenario, runs: list[Run]) -> Row:
    """What is told of one scenario."""
    rates = [run.rate(scenario) for run in runs]
    ratio = rates[1] / rates[0] if rates[1:] else None
    bars, oks = [], []
    if scenario.bar is not None:
        bars.append(f"≥ {scenario.bar}")
        oks.append(ratio is not None and ratio >= scenario.bar)
    if scenario.peak_mib is not None:
        bars.append(f"peak ≤ {scenario.peak_mib:.0f}")
        oks.append(runs[-1].peak <= scenario.peak_mib)
    if errors := sum(run.errors for run in runs):
        bars.append(f"{errors} errors!")
        oks.append(False)

    def both(shown: Callable[[Run], str]) -> str:
        return " / ".join(map(shown, runs))

    return Row(
        name=scenario.name,
        cells=(
            f"{rates[0]:,.0f}",
            f"{rates[1]:,.0f}" if rates[1:] else "",
            scenario.unit,
            "" if ratio is None else f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}",
            ", ".join(bars),
        ),
        ok=all(oks) if oks and rates[1:] else None,
        more=(
            both(lambda run: f"{run.p50:,.2f}" if run.p50 < 10 else f"{run.p50:,.0f}"),
            both(lambda run: f"{run.p99:,.2f}" if run.p99 < 10 else f"{run.p99:,.0f}"),
            both(lambda run: f"{run.peak:,.0f}"),
            both(lambda run: f"{run.busy:.0%}"),
            both(lambda run: f"{run.load:.0%}"),
        ),
    )


def derived(measured: Mapping[str, list[Run]], direct: Run | None) -> Iterator[Row]:
    """Bars over several scenarios."""
    one, few, many = (measured.get(scenarios.small(count).name, ()) for count in (1, 16, 256))
    flat = [
        most.requests / least.requests * least.seconds / most.seconds for least, most in zip(few, many, strict=False)
    ]
    if flat[1:]:
        cells = (f"{flat[0]:.2f}", f"{flat[1]:.2f}", "", "", f"≥ {scenarios.FLAT}")
        yield Row(name="rate at 256 over rate at 16", cells=cells, ok=flat[1] >= scenarios.FLAT)
    if one[1:] and direct:
        nginx, pictor = (each.p50 - direct.p50 for each in one)
        cells = (f"{nginx:.3f}", f"{pictor:.3f}", "ms", "", f"≤ {scenarios.ADDED_MS}")
        yield Row(name="added to a direct call, p50, 1", cells=cells, ok=pictor <= scenarios.ADDED_MS)


def table(rows: list[Row]) -> str:
    """Markdown, its columns in line."""
    shown = {True: "yes", False: "NO", None: ""}
    lines = [HEAD, tuple("-" * len(each) for each in HEAD)]
    for each in rows:
        cells = (each.name, *each.cells, shown[each.ok], *each.more)
        lines.append(cells + ("",) * (len(HEAD) - len(cells)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pads = [["-" * width for width in widths] if number == 1 else line for number, line in enumerate(lines)]
    return "\n".join(f"| {' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |" for line in pads)


def main() -> int:
    options = parse()
    os.environ["PATH"] += ":/usr/sbin"  # where nginx is, for users other than root
    missing = [name for name in ("nginx", "wrk", "taskset", "setpriv") if not shutil.which(name)]
    if missing or sys.platform != "linux":
        raise SystemExit(f"The benchmark needs Linux and {', '.join(missing) or 'two cores'}")
    with tempfile.TemporaryDirectory(prefix="pictor-bench-") as made:
        bench = Bench(Path(made), Ports(), *((1, 1) if options.quick else (3, 2)))
        prepare(bench.root, bench.ports)
        rows = measured(bench, options)
    report = table(rows)
    if bench.foreign > 0.05:
        report += f"\n\nOther programs took up to {bench.foreign:.0%} of the measured core: repeat on a quiet machine."
    print(report)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / f"{datetime.now():%Y-%m-%d-%H%M%S}.md").write_text(report + "\n")
    return 1 if any(each.ok is False for each in rows) else 0


def measured(bench: Bench, options: Any) -> list[Row]:
    """All that was chosen."""
    chosen = [each for each in SCENARIOS if options.only in each.name]
    own = not options.nginx
    rows: list[Row] = []
    runs: dict[str, list[Run]] = {}
    with bench.upstream(), bench.nginx("proxy", GATEWAY, bench.ports.proxy) as nginx:
        if own and options.only in "start":
            rows += started(*bench.start())
        one = scenarios.small(1)
        direct = bench.direct(one) if one in chosen else None
        for _, group in groupby(chosen, key=lambda each: each.peak_mib and each.name):
            # what a server took for one scenario is not to count in the peak of another
            with bench.pictor() if own else nullcontext() as pictor:
                for each in group:
                    runs[each.name] = bench.compare(each, bench.servers(each, nginx, pictor))
                    rows.append(row(each, runs[each.name]))
                    print(each.name, *rows[-1].cells, file=sys.stderr)
    return [*rows, *derived(runs, direct)]


def started(seconds: float, resident: float) -> list[Row]:
    """What holds before the first request."""
    start = ("", f"{seconds:.2f}", "s", "", f"≤ {scenarios.START_SECONDS}")
    idle = ("", f"{resident:.0f}", "MiB", "", f"≤ {scenarios.IDLE_MIB:.0f}")
    return [
        Row(name="start to the first 200", cells=start, ok=seconds <= scenarios.START_SECONDS),
        Row(name="idle memory", cells=idle, ok=resident <= scenarios.IDLE_MIB),
    ]


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one second per scenario instead of five")
    parser.add_argument("--only", default="", metavar="NAME", help="scenarios whose name holds this; start: the start")
    parser.add_argument("--nginx", action="store_true", help="the reference alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
