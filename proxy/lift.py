"""Long strings are lifted out of JSON while it arrives: what is left is a skeleton, small enough to parse.

A picture's base64 holds no quote and no escape, so the end of its string is one `find`. Whatever string is longer than
`LIFT` is kept as the pieces in which it came; in its place the skeleton has a token that `Reply.read` turns back.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from translators.base import Blob, Fault

LIFT = 64 << 10  # bytes; strings up to this length stay in the skeleton
SKELETON = 8 << 20  # bytes; a reply that is larger without its long strings is nobody's picture


class Lifter:
    """Takes one JSON text in pieces. `finish` gives the skeleton and what was lifted."""

    __slots__ = ("_escaped", "_long", "_only", "_plain", "_start", "lifted", "skeleton")

    def __init__(self, only: bytes = b"") -> None:
        self._only = only  # how a string must begin to be lifted
        self.skeleton = bytearray()
        self.lifted: dict[str, Blob] = {}
        self._start = -1  # where in the skeleton the open string's text begins; -1 outside a string
        self._long: list[bytes] | None = None  # the open string's pieces, once it is known to be long
        self._plain = True  # whether it holds no escape so far
        self._escaped = False  # whether the last piece ended within an escape

    def feed(self, piece: bytes) -> None:
        """Take the next piece. Raises `Fault("upstream")` where even the skeleton grows too large."""
        at = 0
        while at < len(piece):
            inside = self._start >= 0
            at = self._inside(piece, at) if inside else self._outside(piece, at)
        if len(self.skeleton) > SKELETON:
            raise Fault("upstream", "The provider's answer is too large.", code="too_large")

    def finish(self) -> tuple[bytes, dict[str, Blob]]:
        """The skeleton and the lifted strings by their tokens."""
        if self._long is not None:
            raise Fault("upstream", "The provider's answer ended in the middle of a picture.", code="truncated")
        return bytes(self.skeleton), self.lifted

    def _outside(self, piece: bytes, at: int) -> int:
        quote = piece.find(b'"', at)
        if quote < 0:
            self.skeleton += piece[at:]
            return len(piece)
        self.skeleton += piece[at : quote + 1]
        self._start = len(self.skeleton)
        return quote + 1

    def _inside(self, piece: bytes, at: int) -> int:
        end = self._close(piece, at)
        stop = len(piece) if end < 0 else end
        if self._long is None and len(self.skeleton) - self._start + stop - at > LIFT and self._wanted(piece, at):
            before = bytes(self.skeleton[self._start :])
            self._long = [before] if before else []
            self._plain = b"\\" not in before
            del self.skeleton[self._start :]
        if self._long is None:
            self.skeleton += piece[at:stop]
        elif stop > at:
            self._plain = self._plain and piece.find(b"\\", at, stop) < 0
            self._long.append(piece if at == 0 and stop == len(piece) else piece[at:stop])
        if end < 0:
            return stop
        if self._long is not None:
            self._keep(self._long)
            self._long = None
        self.skeleton += b'"'
        self._start = -1
        return end + 1

    def _wanted(self, piece: bytes, at: int) -> bool:
        count = len(self._only)
        return (self.skeleton[self._start : self._start + count] + piece[at : at + count]).startswith(self._only)

    def _close(self, piece: bytes, at: int) -> int:
        """Where the open string ends in `piece`, or -1."""
        first = at + 1 if self._escaped else at  # the byte after a backslash that ended the last piece means nothing
        end = piece.find(b'"', first)
        while end > first and odd_backslashes(piece, end, first):
            end = piece.find(b'"', end + 1)
        self._escaped = end < 0 and len(piece) > first and odd_backslashes(piece, len(piece), first)
        return end

    def _keep(self, pieces: list[bytes]) -> None:
        if not self._plain:  # some encoders write "\/"
            try:
                pieces = [msgspec.json.decode(b'"' + b"".join(pieces) + b'"', type=str).encode()]
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Fault("upstream", f"The provider's answer cannot be read: {error}", code="unreadable") from error
        token = f"\x00{len(self.lifted)}"
        self.lifted[token] = Blob(tuple(pieces), sum(map(len, pieces)), "base64")
        self.skeleton += msgspec.json.encode(token)[1:-1]


def odd_backslashes(piece: bytes, end: int, first: int) -> bool:
    """Whether an odd number of backslashes stands right before `end`, counted back to `first`."""
    at = end
    while at > first and piece[at - 1] == 0x5C:
        at -= 1
    return (end - at) % 2 == 1


class Events:
    """Takes an event stream (SSE) in pieces; yields each event's name, skeleton and lifted strings.

    Lines may end with LF, CR LF or CR; comments and fields other than `event` and `data` are passed over; a last event
    without its empty line still counts.
    """

    def __init__(self) -> None:
        self._line = bytearray()  # the line so far, unless it is a `data` line whose value goes to the lifter
        self._in_data = False
        self._name = ""
        self._data: Lifter | None = None
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[tuple[str, bytes, dict[str, Blob]]]:
        """Take the next piece; yield the events that it completes."""
        at = 0
        while at < len(piece):
            if self._after_cr:
                self._after_cr = False
                if piece[at] == 0x0A:
                    at += 1
                    continue
            end, stop = line_end(piece, at)
            self._take(piece if at == 0 and stop == len(piece) else piece[at:stop])
            if end < 0:
                return
            self._after_cr = piece[end] == 0x0D
            at = end + 1
            yield from self._newline()

    def finish(self) -> Iterator[tuple[str, bytes, dict[str, Blob]]]:
        """The event that the stream ended in, if any."""
        if self._line or self._in_data:
            yield from self._newline()
        yield from self._dispatch()

    def _take(self, text: bytes) -> None:
        if self._in_data:
            if self._data is not None:
                self._data.feed(text)
            return
        self._line += text
        if len(self._line) > SKELETON:
            raise Fault("upstream", "The provider's event stream has a line without an end.", code="too_large")
        if self._line.startswith(b"data:") and len(self._line) > len(b"data: "):
            value = bytes(self._line[5:]).removeprefix(b" ")
            self._line.clear()
            self._in_data = True
            self._add(value)

    def _add(self, value: bytes) -> None:
        """The beginning of one more `data` line."""
        if self._data is None:
            self._data = Lifter()
        else:
            self._data.feed(b"\n")
        self._data.feed(value)

    def _newline(self) -> Iterator[tuple[str, bytes, dict[str, Blob]]]:
        if self._in_data:
            self._in_data = False
            return
        line = bytes(self._line)
        self._line.clear()
        if not line:
            yield from self._dispatch()
        elif line.startswith(b"event:"):
            self._name = line[6:].strip().decode("utf-8", "replace")
        elif line.startswith(b"data:") and line[5:].strip():  # a value of one character
            self._add(line[5:].strip())

    def _dispatch(self) -> Iterator[tuple[str, bytes, dict[str, Blob]]]:
        if self._data is not None:
            data, lifted = self._data.finish()
            yield self._name, data, lifted
        self._data = None
        self._name = ""


def line_end(piece: bytes, at: int) -> tuple[int, int]:
    """Where the line that `at` is in ends: the index of its end mark or -1, and the index where its text stops."""
    feed = piece.find(b"\n", at)
    back = piece.find(b"\r", at, feed if feed >= 0 else len(piece))
    end = back if back >= 0 else feed
    return end, len(piece) if end < 0 else end
