"""The upstream's answers that nginx cannot give: 50 ms late under /slow/, or when an upload was read to its end.

python -m bench.slow PORT
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

DELAY = 0.05
BUFFER = memoryview(bytearray(1 << 20))  # of all connections: what is in it is done with before the next one reads
BODY = b'{"created":1700000000,"data":[{"url":"https://pictures.example/a"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
END = b"0\r\n\r\n"  # of a body in chunks


class Connection(asyncio.BufferedProtocol):
    """One request after the other. Bodies are read over one buffer and thrown away."""

    def __init__(self) -> None:
        self.head = b""
        self.left = 0  # of the body; -1: in chunks, ended by `END`
        self.tail = b""
        self.late = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        got = BUFFER[:nbytes]
        if not self.left:
            self.head += bytes(got)
            head, end, rest = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            length = LENGTH.search(head)
            self.late = b" /slow/" in head[:64]
            self.head, self.tail = b"", b""
            self.left = int(length[1]) if length else -1
            got = memoryview(rest)
        self.read(got)

    def read(self, got: memoryview) -> None:
        """Take a piece of the body; answer where it was the last."""
        if self.left < 0:
            self.tail = (self.tail + bytes(got[-len(END) :]))[-len(END) :]
            self.left = 0 if self.tail == END else -1
        else:
            self.left -= len(got)
        if self.left == 0:
            asyncio.get_running_loop().call_later(DELAY if self.late else 0, self.transport.write, ANSWER)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
