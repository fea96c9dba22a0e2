"""Processes on one core each, and what they take: processor time and memory, as Linux counts them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

GATEWAY, LOAD = 0, 1
"""The core of what is measured; the core of its clients and of the upstream."""
TICKS = os.sysconf("SC_CLK_TCK")


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """`command` on that core alone; it dies with this process."""
    return ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(core), *command]


@contextmanager
def running(core: int, command: Sequence[str], port: int, log: Path) -> Iterator[int]:
    """`command` until the block ends, once its port answers; its process id."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
    with log.open("wb") as out:
        process = subprocess.Popen(pinned(core, command), stdout=out, stderr=out)
    try:
        for _ in range(2_000):
            if process.poll() is not None:
                break
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    yield process.pid
                    return
            time.sleep(0.005)
        raise SystemExit(f"{' '.join(command)} did not start:\n{log.read_text()[-2000:]}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Processor time so far, of user and kernel, of the whole family."""
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in family(pid)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def core_seconds(core: int) -> float:
    """Time for which the core was not idle so far, whoever used it."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *counts = line.split()
        if name == f"cpu{core}":
            return (sum(map(int, counts[:8])) - int(counts[3]) - int(counts[4])) / TICKS
    raise SystemExit(f"there is no core {core}: two are needed")


def memory_mib(pid: int, field: str) -> float:
    """`VmRSS`, what is resident now, or `VmHWM`, the most since `reset_peak`, of the whole family."""
    total = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                total += int(line.split()[1])
    return total / 1024


def reset_peak(pid: int) -> None:
    """Let `VmHWM` begin again at what is resident now."""
    for each in family(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")
