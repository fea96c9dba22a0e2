"""Load by bytes: uploads go out of a file and answers are thrown away in the kernel, so that neither is copied here.

wrk copies each answer through 8 kB reads, and so would be the limit itself. Prints the outcome as one line of JSON.

    python -m bench.bulk PORT PATH CONNECTIONS SECONDS FILE CONTENT-TYPE
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import sys
import time
from typing import BinaryIO

BUFFER = bytearray(1 << 20)  # of all clients
HEAD = 1 << 16
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Client:
    """One connection that asks again as soon as it is answered."""

    def __init__(self, port: int, head: bytes, file: BinaryIO) -> None:
        self.head = head
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seconds: list[float] = []
        self.bytes = 0
        self.errors = 0
        self.begin()

    def begin(self) -> None:
        self.began = time.perf_counter()
        self.socket.setblocking(True)
        self.socket.sendall(self.head, socket.MSG_MORE)
        self.socket.setblocking(False)
        self.sent = 0
        self.left = -1  # of the answer's body; -1: its head has not come

    def write(self) -> bool:
        """Send what the socket takes; whether that was the last of it."""
        self.sent += os.sendfile(self.socket.fileno(), self.file.fileno(), self.sent, self.size - self.sent)
        return self.sent == self.size

    def read(self) -> bool:
        """Take what has come; whether that was the last of it."""
        if self.left < 0:
            got = self.socket.recv_into(BUFFER, HEAD)
            head, end, rest = bytes(BUFFER[:got]).partition(b"\r\n\r\n")
            length = LENGTH.search(head)
            if not end or not length:
                raise SystemExit(f"an answer without a length: {head[:500]!r}")
            self.errors += b" 200 " not in head[:16]
            self.left = int(length[1]) - len(rest)
        else:
            got = self.socket.recv_into(BUFFER, min(self.left, len(BUFFER)), socket.MSG_TRUNC)
            if not got:
                raise SystemExit("the connection was closed in the middle of an answer")
            self.left -= got
        self.bytes += got
        if self.left:
            return False
        self.seconds.append(time.perf_counter() - self.began)
        self.bytes += self.size
        return True


def run(port: int, path: str, connections: int, seconds: float, file: BinaryIO, kind: str) -> dict[str, float]:
    """Load for `seconds`; what came of it."""
    size = os.fstat(file.fileno()).st_size
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode()
    began = time.perf_counter()
    clients = [Client(port, head, file) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_WRITE, client)
        while time.perf_counter() - began < seconds:
            for key, events in selector.select(1.0):
                client = key.data
                if events & selectors.EVENT_WRITE:
                    if client.write():
                        selector.modify(client.socket, selectors.EVENT_READ, client)
                elif client.read():
                    client.begin()
                    selector.modify(client.socket, selectors.EVENT_WRITE, client)
    took = time.perf_counter() - began
    times = sorted(each for client in clients for each in client.seconds)
    if not times:
        raise SystemExit(f"no answer within {seconds} s")
    return {
        "requests": len(times),
        "bytes": sum(client.bytes for client in clients),
        "seconds": took,
        "p50": times[len(times) // 2] * 1e3,
        "p99": times[len(times) * 99 // 100] * 1e3,
        "errors": sum(client.errors for client in clients),
    }


if __name__ == "__main__":
    port, path, connections, seconds, name, kind = sys.argv[1:]
    with open(name, "rb") as opened:
        print(json.dumps(run(int(port), path, int(connections), float(seconds), opened, kind)))
