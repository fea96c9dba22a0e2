"""A provider of videos that takes its time, on Volcengine's wire: what is submitted is ready when it is told so.

    python -m bench.maker PORT VIDEO

    POST /contents/generations/tasks        -> {"id"}
    GET  /contents/generations/tasks/{id}   -> {"status"}, with the address of VIDEO, a file, once it is ready
    POST /ready/{seconds}                   what was submitted becomes ready within so long, in no order
    GET  /told                              what has happened: see `Told`

It does next to nothing for each call, so that it is not what is measured.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from pathlib import Path
from typing import cast

import msgspec
import uvloop

TASKS = b"/contents/generations/tasks"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Told(msgspec.Struct):
    """What has happened. Times in seconds since 1970."""

    submits: int = 0
    polls: int = 0
    polled: dict[str, float] = {}  # task -> its last poll
    ready: dict[str, float] = {}  # task -> when its video was there
    seen: dict[str, float] = {}  # task -> when a poll was first told so


class Maker:
    """All tasks."""

    def __init__(self, port: int, video: bytes) -> None:
        self.told = Told()
        self.video = answer(video, "video/mp4")
        self.link = f"http://127.0.0.1:{port}/video.mp4"
        self.waiting = answer(b'{"status":"running"}')

    def asked(self, method: bytes, path: bytes) -> bytes:
        """The answer to one request."""
        told = self.told
        if path.startswith(TASKS):
            if method == b"POST":
                told.submits += 1
                return answer(b'{"id":"cgt-%d"}' % told.submits)
            return self.polled(path[len(TASKS) + 1 :].decode())
        if path == b"/video.mp4":
            return self.video
        if path.startswith(b"/ready/"):
            self.finish(float(path[len(b"/ready/") :]))
            return answer(b"{}")
        return answer(msgspec.json.encode(told))

    def polled(self, task: str) -> bytes:
        told, now = self.told, time.time()
        told.polls += 1
        told.polled[task] = now
        if told.ready.get(task, now + 1) > now:
            return self.waiting
        told.seen.setdefault(task, now)
        made = {"id": task, "status": "succeeded", "content": {"video_url": self.link}, "duration": 1}
        return answer(msgspec.json.encode(made))

    def finish(self, seconds: float) -> None:
        tasks = [task for number in range(self.told.submits) if (task := f"cgt-{number + 1}") not in self.told.ready]
        random.shuffle(tasks)
        now = time.time()
        self.told.ready |= {task: now + seconds * (place + 1) / len(tasks) for place, task in enumerate(tasks)}


def answer(body: bytes, kind: str = "application/json") -> bytes:
    """The whole of it."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is none by type

    def data_received(self, data: bytes) -> None:
        self.got += data
        head, end, rest = self.got.partition(b"\r\n\r\n")
        if not end:
            return
        length = LENGTH.search(head)
        if length and len(rest) < int(length[1]):
            return
        self.got = b""  # nobody sends a second one before the answer
        method, path, _ = head.split(b" ", 2)
        self.transport.write(self.maker.asked(method, path))


async def serve(port: int, video: bytes) -> None:
    maker = Maker(port, video)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(maker), "127.0.0.1", port, backlog=4096
    )  # fmt: skip
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
