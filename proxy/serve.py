"""Run the server: in this process, or in several that share one socket."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from proxy import logs
from proxy.config import Config, ConfigError

BACKLOG = 2048
REST_SECONDS = 30.0  # between two looks whether memory can be given back
RESTART_SECONDS = 1.0  # between the death of a worker and its successor
PROVEN_SECONDS = 10.0  # a worker that lived so long shows that the server can be started
STARTS = 3  # in a row that may fail
FD = "PICTOR_FD"  # the listening socket that a worker inherits
PARENT = "PICTOR_PARENT"  # the process that started it


def run(config: Config, path: Path | None, overrides: Mapping[str, Any]) -> int:
    """Serve until a signal ends it: SIGTERM and SIGINT drain, SIGHUP reloads. The exit code."""
    logs.setup(config.log.level, json=config.log.format == "json")
    if fd := os.environ.get(FD):
        return worker(config, path, overrides, socket.socket(fileno=int(fd)))
    listening = bound(config.server.host, config.server.port)
    if config.server.workers == 1:
        return worker(config, path, overrides, listening)
    return parent(config, listening)


def bound(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError` where the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(BACKLOG)
    listening.set_inheritable(True)
    return listening


def worker(config: Config, path: Path | None, overrides: Mapping[str, Any], listening: socket.socket) -> int:
    """Serve in this process."""
    from proxy.app import create  # after the multiprocess directory is set, which metrics read when they are imported
    from proxy.gateway import Gateway

    keep_freed_memory()
    gateway = Gateway(config, path, overrides)
    server = Server(
        uvicorn.Config(
            create(gateway),
            http="httptools",
            loop="uvloop" if os.name == "posix" else "asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            # What a client says of itself is believed only where it comes through a proxy of ours.
            proxy_headers=bool(config.server.trusted_proxies),
            forwarded_allow_ips=list(config.server.trusted_proxies),
            date_header=True,
            timeout_graceful_shutdown=int(config.server.drain_seconds),
            timeout_keep_alive=75,
        ),
        gateway,
    )
    gc.collect()
    gc.freeze()  # what lives for ever need not be looked at again
    gc.set_threshold(2_000, 10, 2_000)  # each look is short: at some ten thousand objects, as few for tasks that wait
    host, port = listening.getsockname()[:2]
    if FD not in os.environ:
        served = f"{len(gateway.catalog.labels.targets)} models of {', '.join(gateway.catalog.upstreams)}"
        logs.say(f"Pictor serves {served} on http://{host}:{port}")
        model = gateway.catalog.default_model or next(iter(gateway.catalog.targets), "demo/painter")
        welcome(config, f"http://{host}:{port}", model)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it once more when it has drained
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    return 0 if server.started else 1


def welcome(config: Config, address: str, model: str) -> None:
    """A first call, to be copied from the terminal."""
    if not sys.stdout.isatty():
        return
    key = "YOUR_KEY" if config.auth.mode == "keys" else "anything"
    print(
        f"""
  curl {address}/v1/images/generations -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "prompt": "a lighthouse at dusk", "response_format": "url"}}'

  from openai import OpenAI
  client = OpenAI(base_url="{address}/v1", api_key="{key}")
  made = client.images.generate(model="{model}", prompt="a lighthouse at dusk", response_format="url")
  print(made.data[0].url)

  {address}/schema/swagger documents every call.
""",
        flush=True,
    )


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of pictures. By default it gives back each freed chunk at once and pays the page
    faults again for the next: on 1 MiB answers that cost a third of the throughput. See `Server.rest` for the end.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 64 << 20)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def give_memory_back() -> None:
    """What `keep_freed_memory` kept."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class Server(uvicorn.Server):
    """uvicorn with a reload on SIGHUP, and readiness that ends when a stop begins."""

    def __init__(self, config: uvicorn.Config, gateway: Any) -> None:
        super().__init__(config)
        self.gateway = gateway

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, and listen for SIGHUP."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.call_later(REST_SECONDS, self.rest)
        if parent := os.environ.get(PARENT):
            self.orphaned(int(parent))

    def orphaned(self, parent: int) -> None:
        """Stop where the parent is gone without a word: nobody else would, and the port would stay taken."""
        if os.getppid() != parent:
            self.should_exit = True
            return
        asyncio.get_running_loop().call_later(1.0, self.orphaned, parent)

    def rest(self) -> None:
        """Give memory back to the system, where nothing runs that could use it again at once."""
        if not self.server_state.tasks:
            give_memory_back()
        asyncio.get_running_loop().call_later(REST_SECONDS, self.rest)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what runs finish within the drain time.

        Meanwhile connections are still taken, so that `/ready` can say that it drains and new work is refused in words.
        """
        self.gateway.draining = True
        self.gateway.works.release()
        self.gateway.workers.leave()
        end = time.monotonic() + self.gateway.config.server.drain_seconds
        running = self.gateway.works.running  # also those whose clients have left
        while (self.server_state.tasks or running) and time.monotonic() < end and not self.force_exit:  # noqa: ASYNC110  # uvicorn has no event
            await asyncio.sleep(0.1)
        await self.gateway.works.rest(0)  # whoever still waits is told
        self.config.timeout_graceful_shutdown = max(1, int(end - time.monotonic()))
        await super().shutdown(sockets)

    def reload(self) -> None:
        """Take the new configuration, or keep the old one and say why."""
        try:
            self.gateway.reload()
        except ConfigError as error:
            for flaw in error.flaws:
                logs.warn("the configuration was not taken", flaw=flaw)
        else:
            logs.say("the configuration was reloaded")


def parent(config: Config, listening: socket.socket) -> int:
    """Keep `workers` processes alive on one socket; hand signals on to them."""
    shared = tempfile.mkdtemp(prefix="pictor-metrics-")
    env = {
        **os.environ, FD: str(listening.fileno()), PARENT: str(os.getpid()), "PROMETHEUS_MULTIPROC_DIR": shared,
    }  # fmt: skip
    stopping = False

    born: dict[int, float] = {}  # process id -> when it was started

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603  # our own command line again
            [sys.executable, "-m", "proxy", *sys.argv[1:]], env=env, pass_fds=[listening.fileno()]
        )
        born[process.pid] = time.monotonic()
        return process

    workers = [start() for _ in range(config.server.workers)]

    def hand_on(number: int, _: object) -> None:
        nonlocal stopping
        stopping = stopping or number in {signal.SIGTERM, signal.SIGINT}
        for process in workers:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if number == signal.SIGINT else number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, hand_on)
    host, port = listening.getsockname()[:2]
    logs.say(f"Pictor serves on http://{host}:{port} with {len(workers)} workers")
    failed = 0
    try:
        while workers:
            time.sleep(0.1)
            for i, process in ended(workers):
                mark_dead(shared, process.pid)
                if stopping:
                    workers.pop(i)
                    continue
                logs.warn("a worker died", pid=process.pid, code=process.returncode)
                failed = failed + 1 if time.monotonic() - born.pop(process.pid) < PROVEN_SECONDS else 0
                if failed >= STARTS:
                    logs.warn("workers cannot be started")
                    hand_on(signal.SIGTERM, None)
                else:
                    time.sleep(RESTART_SECONDS)
                if not stopping:  # it may have been said during the pause
                    workers[i] = start()
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    return int(failed >= STARTS)


def ended(workers: Sequence[subprocess.Popen[bytes]]) -> list[tuple[int, subprocess.Popen[bytes]]]:
    """Those that run no more, with their places; from the last, so that they can be taken out in turn."""
    return [(i, workers[i]) for i in reversed(range(len(workers))) if workers[i].poll() is not None]


def mark_dead(shared: str, pid: int) -> None:
    """Take a dead worker's live gauges out of the sum."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, shared)  # type: ignore[no-untyped-call]  # the library leaves it untyped
