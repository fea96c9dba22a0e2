"""The real server in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import yaml

KEY = "test-client-key"
CLEAN = {name: value for name in ("PATH", "HOME", "LANG", "TMPDIR") if (value := os.environ.get(name))}


@dataclass(frozen=True)
class Server:
    """A running server."""

    address: str  # http://127.0.0.1:port
    process: subprocess.Popen[bytes]
    config: Path
    log: Path

    @property
    def base_url(self) -> str:
        """What an OpenAI SDK takes."""
        return f"{self.address}/v1"

    def lines(self) -> list[str]:
        """What it has logged so far."""
        return self.log.read_text().splitlines()


@contextmanager
def serving(
    folder: Path, providers: Mapping[str, Any] | None = None, *, env: Mapping[str, str] | None = None,
    public: bool = False, takes_work: bool = True, **config: Any,
) -> Iterator[Server]:  # fmt: skip
    """`pictor serve` with these providers, one client key, and fetching from the loopback allowed.

    Other members of the configuration come as keywords and win: `serving(tmp_path, auth={"mode": "open"})`. `public`:
    it knows its own address, and hands it to providers. `takes_work`: wait until it does. The environment holds only
    what is given, so no key of the machine is ever used.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    document = {
        "server": {"drain_seconds": 5} | ({"public_url": address} if public else {}),
        "auth": {"mode": "keys", "keys": [{"name": "tests", "key": KEY, "admin": True}]},
        "data": str(folder / "data"),
        "fetch": {"allow": ["127.0.0.1"]},
        "providers": dict(providers or {}),
        **config,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    log = folder / "server.log"
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(path), "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**CLEAN, **(env or {})}, cwd=ROOT)
    server = Server(address, process, path, log)
    try:
        if takes_work:
            wait_ready(server)
        yield server
    finally:
        stop(process)


ROOT = Path(__file__).parent.parent


def wait_ready(server: Server, seconds: float = 20.0) -> None:
    """Returns when the server takes work."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.process.poll() is None, server.log.read_text()
        try:
            if httpx.get(f"{server.address}/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError(f"not ready after {seconds} s: {server.log.read_text()}")


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """End it; its exit status."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def free_port() -> int:
    """A port that nobody has, nor gets: none that the system hands out, and none of another test's."""
    for _ in range(EACH):
        port = SLICE + (FIRST + next(PORTS)) % EACH
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"No port is free from {SLICE} to {SLICE + EACH}.")


EACH = 1000
SLICE = 12_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 20 * EACH
"""Each process of a parallel run has a thousand ports, all below those that Linux gives to whoever asks for any."""
FIRST = secrets.randbelow(EACH)  # two runs on one machine should not meet
PORTS = count()
