"""The upstream's answers that nginx cannot give: 50 ms late under /slow/, or when an upload was read to its end.

Uploads are thrown away in the kernel, as answers are in `bench.bulk`.

    python -m bench.slow PORT
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
import time
from collections import deque

DELAY = 0.05
BODY = b'{"created":1700000000,"data":[{"url":"https://pictures.example/a"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
END = b"0\r\n\r\n"  # of a body in chunks
BUFFER = bytearray(1 << 20)
HEAD = 1 << 16


class Connection:
    """One request after the other."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = accepted
        self.head = b""
        self.left = 0  # of the body; 0: the head has not come; -1: in chunks, ended by `END`
        self.tail = b""
        self.late = False

    def read(self) -> bool | None:
        """Take what has come: whether the request is whole; None where the client has gone."""
        if self.left > 0:
            got = self.socket.recv_into(BUFFER, min(self.left, len(BUFFER)), socket.MSG_TRUNC)
            self.left -= got
            return self.left == 0 if got else None
        piece = self.socket.recv(HEAD)
        if not piece:
            return None
        if self.left == 0:
            self.head += piece
            head, end, piece = self.head.partition(b"\r\n\r\n")
            if not end:
                return False
            length = LENGTH.search(head)
            self.late = b" /slow/" in head[:64]
            self.head, self.tail = b"", b""
            self.left = int(length[1]) if length else -1
        if self.left > 0:
            self.left -= len(piece)
            return self.left == 0
        self.tail = (self.tail + piece)[-len(END) :]
        self.left = 0 if self.tail == END else -1
        return self.left == 0


def serve(port: int) -> None:
    listening = socket.create_server(("127.0.0.1", port), backlog=2048)
    waiting: deque[tuple[float, Connection]] = deque()  # all wait equally long, so the first is due first
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        while True:
            timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            for key, _ in selector.select(timeout):
                if key.data is None:
                    connection = Connection(listening.accept()[0])
                    selector.register(connection.socket, selectors.EVENT_READ, connection)
                    continue
                connection = key.data
                try:
                    whole = connection.read()
                except ConnectionError:
                    whole = None
                if whole is None:
                    selector.unregister(connection.socket)
                    connection.socket.close()
                elif whole and connection.late:
                    waiting.append((time.monotonic() + DELAY, connection))
                elif whole:
                    answer(connection)
            while waiting and waiting[0][0] <= time.monotonic():
                answer(waiting.popleft()[1])


def answer(connection: Connection) -> None:
    """It is short enough for any socket's buffer. A client that has gone is noticed when it is read."""
    if connection.socket.fileno() >= 0:
        connection.socket.send(ANSWER)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
