"""A multipart form as it streams in: texts, and files as the chunks in which they came.

Nothing is joined, and nothing is copied but where a part begins or ends inside a chunk, or where a client sends
crumbs. What exceeds the share of memory goes to a file that has no name and vanishes with the last reference to it.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from translators.base import Blob, Fault

CRUMB = 16_384  # pieces below this size are gathered first: a list entry each would cost more than their bytes
GATHERED = 65_536
BATCH = 1 << 20  # bytes that wait to be written to disk before the parser rests
READ = 262_144
DEEPEST = 8  # brackets in a name
TEXT_PARTS = dict.fromkeys(("image_urls", "input_reference", "last_frame", "reference_images", "video"), 20_971_520)
"""Whose texts may be longer than `Limits.text_bytes`: data: URLs."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a form may hold."""

    body_bytes: int = 512 << 20
    text_bytes: int = 1 << 20  # of one text
    parts: int = 100
    spool_bytes: int = 8 << 20  # of all files together that stay in memory
    spool_dir: str | None = None  # the system's own where none is given


class FormPart(msgspec.Struct, frozen=True):
    """One part, in the order of arrival. A file's type is not kept, and its name decides nothing."""

    name: str
    value: str | Blob
    filename: str = ""


class Form(msgspec.Struct, frozen=True):
    """A whole form."""

    parts: tuple[FormPart, ...]


NO_LIMITS_GIVEN = Limits()


async def parse(chunks: AsyncIterator[bytes], content_type: str, limits: Limits = NO_LIMITS_GIVEN) -> Form:
    """Read a form to its end. Raises `Fault("invalid")` for whatever is wrong with it."""
    collector = _Collector(limits)
    parser = MultipartParser(boundary_of(content_type), collector.callbacks(), max_header_size=16_384)
    received = 0
    try:
        async for chunk in chunks:
            received += len(chunk)
            if received > limits.body_bytes:
                text = f"The request body is too large: at most {limits.body_bytes} bytes are accepted."
                raise Fault("invalid", text, code="request_too_large")
            parser.write(chunk)
            if collector.spool.waiting >= BATCH:
                await asyncio.to_thread(collector.spool.flush)
        if collector.spool.waiting:
            await asyncio.to_thread(collector.spool.flush)
    except FormParserError as error:
        raise malformed(str(error)) from error
    if not collector.ended:
        raise malformed("it ends before its closing boundary")
    return Form(tuple(collector.parts))


def malformed(why: str) -> Fault:
    """The fault of a body that is no form."""
    return Fault("invalid", f"We could not parse the multipart form of your request: {why}.")


_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^;\s"]+))', re.IGNORECASE)


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names. Raises `Fault("invalid")`."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        text = f"Invalid Content-Type header ({content_type[:100]}), expected multipart/form-data."
        raise Fault("invalid", text, code="unsupported_content_type")
    if not (found := _BOUNDARY.search(content_type)):
        raise malformed("its Content-Type names no boundary")
    boundary = (found[1] or found[2]).encode("latin-1", "replace")
    if len(boundary) > 256:
        raise malformed("its boundary is longer than 256 bytes")
    return boundary


# `name` stands first in what every client sends, and a file's name may hold anything, even `; name="x"`.
_NAME = re.compile(rb';\s*name\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.IGNORECASE | re.DOTALL)
_FILE_NAME = re.compile(rb";\s*filename\*?\s*=", re.IGNORECASE)
_ESCAPED = re.compile(rb'\\(["\\])')


def name_of(disposition: bytes) -> tuple[str, bool]:
    """The name in a Content-Disposition, and whether it is a file's. Raises `Fault("invalid")` without a name."""
    if not (found := _NAME.search(disposition)):
        raise malformed("a part has no name")
    name = _ESCAPED.sub(rb"\1", found[1]) if found[1] is not None else found[2]
    rest = disposition[: found.start()] + disposition[found.end() :]
    return name.decode("utf-8", "replace"), _FILE_NAME.search(rest) is not None


_PLAIN_NAME = re.compile(rb';\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.IGNORECASE | re.DOTALL)
_CODED_NAME = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]*)", re.IGNORECASE)


def file_name_of(disposition: bytes) -> str:
    """The file's name in a Content-Disposition; empty where there is none."""
    if found := _CODED_NAME.search(disposition):
        return unquote_to_bytes(found[1]).decode("utf-8", "replace")
    if not (found := _PLAIN_NAME.search(disposition)):
        return ""
    name = found[1] if found[1] is not None else found[2]
    return _ESCAPED.sub(rb"\1", name).decode("utf-8", "replace").replace("%22", '"')  # as browsers write a quote


class _File:
    """An open file without a name, closed when nothing refers to it any more."""

    def __init__(self, folder: str | None) -> None:
        self.fd, path = tempfile.mkstemp(prefix="pictor-", dir=folder)
        os.unlink(path)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class Spooled:
    """The bytes of one part on disk; can be walked any number of times, by several readers at once."""

    def __init__(self, file: _File, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size

    def __iter__(self) -> Iterator[bytes]:
        at, end = self._start, self._start + self._size
        while at < end:
            piece = os.pread(self._file.fd, min(READ, end - at), at)
            if not piece:
                raise OSError("a spooled upload ends early")
            at += len(piece)
            yield piece


class _Spool:
    """Where files go once the share of memory is used up: one file for the whole form."""

    def __init__(self, limits: Limits) -> None:
        self.room = limits.spool_bytes
        self.folder = limits.spool_dir
        self.file: _File | None = None
        self.end = 0  # bytes given so far, written or waiting
        self.waiting = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.end += len(piece)
        self.waiting += len(piece)

    def open(self) -> _File:
        """The file, made when it is first needed."""
        try:
            self.file = self.file or _File(self.folder)
        except OSError as error:
            raise no_room(error) from error
        return self.file

    def flush(self) -> None:
        """Write what waits. May block: for a thread."""
        at = self.end - self.waiting
        pieces, self._pieces, self.waiting = self._pieces, [], 0
        file = self.open()
        try:
            for piece in pieces:
                written = 0
                while written < len(piece):
                    written += os.pwrite(file.fd, memoryview(piece)[written:], at + written)
                at += written
        except OSError as error:
            raise no_room(error) from error


def no_room(error: OSError) -> Fault:
    """The fault of a full disk: ours, and over once there is room again."""
    text = f"The server has no room for this upload now: {error.strerror}."
    return Fault("overloaded", text, code="storage_full")


class _FilePart:
    """A file as it grows: in memory while there is room, then on disk."""

    def __init__(self, spool: _Spool) -> None:
        self.size = 0
        self._spool = spool
        self._chunks: list[bytes] = []
        self._crumbs: list[bytes] = []
        self._gathered = 0
        self._start: int | None = None  # in the spool

    def add(self, piece: bytes) -> None:
        if len(piece) >= CRUMB and not self._crumbs:
            self._keep(piece)
            return
        self._crumbs.append(piece)
        self._gathered += len(piece)
        if self._gathered >= GATHERED:
            self._gather()

    def _gather(self) -> None:
        if self._crumbs:
            whole = b"".join(self._crumbs)
            self._crumbs, self._gathered = [], 0
            self._keep(whole)

    def _keep(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._start is None and len(piece) <= self._spool.room:
            self._spool.room -= len(piece)
            self._chunks.append(piece)
            return
        if self._start is None:
            self._start = self._spool.end
            for chunk in self._chunks:
                self._spool.room += len(chunk)
                self._spool.add(chunk)
            self._chunks = []
        self._spool.add(piece)

    def blob(self) -> Blob:
        self._gather()
        if self._start is None:
            return Blob(tuple(self._chunks), self.size)
        return Blob(Spooled(self._spool.open(), self._start, self.size), self.size)


async def collected(pieces: AsyncIterator[bytes], limits: Limits = NO_LIMITS_GIVEN) -> Blob:
    """All `pieces` as one blob, with the same share of memory. Raises `Fault("overloaded")` where the disk is full."""
    spool = _Spool(limits)
    part = _FilePart(spool)
    async for piece in pieces:
        part.add(piece)
        if spool.waiting >= BATCH:
            await asyncio.to_thread(spool.flush)
    made = part.blob()
    if spool.waiting:
        await asyncio.to_thread(spool.flush)
    return made


class _Collector:
    """Takes the parser's callbacks, and makes parts of them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.spool = _Spool(limits)
        self.parts: list[FormPart] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._field = b""
        self._value = b""
        self._name = ""
        self._file_name = ""
        self._file: _FilePart | None = None
        self._text: list[bytes] = []
        self._text_room = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self.part_begin,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_header_end": self.header_end,
            "on_headers_finished": self.headers_finished,
            "on_part_data": self.part_data,
            "on_part_end": self.part_end,
            "on_end": self.end,
        }

    def part_begin(self) -> None:
        if len(self.parts) >= self.limits.parts:
            raise malformed(f"it has more than {self.limits.parts} parts")
        self._headers = {}

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        self._name, is_file = name_of(disposition)
        main = self._headers.get(b"content-type", b"").lower().strip()
        is_file = is_file or (bool(main) and not main.startswith((b"text/", b"application/json")))
        self._file = _FilePart(self.spool) if is_file else None
        self._file_name = file_name_of(disposition) if is_file else ""
        self._text = []
        self._text_room = max(self.limits.text_bytes, TEXT_PARTS.get(self._name.partition("[")[0], 0))

    def part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._file is not None:
            self._file.add(piece)
            return
        self._text_room -= len(piece)
        if self._text_room < 0:
            text = f"Invalid '{self._name[:64]}': string too long."
            raise Fault("invalid", text, code="string_above_max_length", param=self._name[:64])
        self._text.append(piece)

    def part_end(self) -> None:
        if self._file is not None:
            self.parts.append(FormPart(self._name, self._file.blob(), self._file_name))
        else:
            self.parts.append(FormPart(self._name, self._decoded(b"".join(self._text))))
        self._file, self._text = None, []

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            text = f"Invalid '{self._name[:64]}': the text is not UTF-8."
            raise Fault("invalid", text, code="invalid_value", param=self._name[:64]) from error

    def end(self) -> None:
        self.ended = True


_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PLACE = re.compile(r"[0-9]{1,3}")
Coerce: TypeAlias = Callable[[tuple[str, ...], str], Any]
Entry: TypeAlias = tuple[list[str], Any, str]
"""The keys in brackets, the value, and the whole name."""


def nest(fields: Iterable[tuple[str, str]], coerce: Coerce, lists: frozenset[str]) -> dict[str, Any]:
    """The texts of a form as the JSON object that they stand for: `svg[reasoning][effort]`, `image_urls[]`.

    `coerce` gives each text its type. Under the names in `lists` a number in brackets is a place, elsewhere a key;
    repeating such a name adds to its list.
    """
    tree: dict[str, Any] = {}
    listed: dict[str, list[Entry]] = {}
    for name, text in fields:
        found = _KEY.fullmatch(name)
        keys = re.findall(r"\[([^\[\]]*)\]", found[2]) if found else []
        if not found or len(keys) > DEEPEST:
            raise Fault("invalid", f"Unknown parameter: '{name[:64]}'.", code="unknown_parameter", param=name[:64])
        root = found[1]
        value = coerce((root, *keys), text)
        if root in lists:
            listed.setdefault(root, []).append((keys, value, name))
        else:
            _put(tree, [root, *keys], value, name)
    tree |= {root: _list_of(root, entries) for root, entries in listed.items()}
    return tree


def _twice(name: str) -> Fault:
    text = f"Invalid form: '{name[:64]}' is given twice, or both as a whole and in parts."
    return Fault("invalid", text, code="duplicate_parameter", param=name[:64].partition("[")[0])


def _put(tree: dict[str, Any], path: list[str], value: Any, name: str) -> None:
    """Set the member at `path`; an empty last key adds to a list."""
    *parents, last = path
    if last == "" and parents:
        *parents, last = parents
        value, adds = [value], True
    else:
        adds = False
    for key in parents:
        if not key:
            raise _unclear(path[0], name)
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise _twice(name)
    if last not in tree:
        tree[last] = value
    elif adds and isinstance(tree[last], list):
        tree[last] += value
    else:
        raise _twice(name)


def _unclear(root: str, name: str) -> Fault:
    text = f"Invalid form: '{name[:64]}' cannot be read. Give '{root}' as JSON text in one part."
    return Fault("invalid", text, code="invalid_value", param=root)


def _list_of(root: str, entries: list[Entry]) -> list[Any]:
    """The items that texts under one name make up, in one of three manners: whole, numbered, or member by member.

    OpenAI's SDKs write `loras[][model]` of all items first and `loras[][weight]` after them. Which weight belongs to
    which model is only certain where each item has each member: anything else is refused rather than guessed.
    """
    whole: list[Any] = []
    numbered: dict[int, dict[str, Any]] = {}
    columns: dict[str, list[Any]] = {}
    for (place, *rest), value, name in ((keys or [""], value, name) for keys, value, name in entries):
        if not rest:
            whole.append(value)
        elif _PLACE.fullmatch(place):
            _put(numbered.setdefault(int(place), {}), rest, value, name)
        elif not place and len(rest) == 1 and rest[0]:
            columns.setdefault(rest[0], []).append(value)
        else:
            raise _unclear(root, name)
    if sum(map(bool, (whole, numbered, columns))) > 1:
        raise _twice(root)
    if columns:
        if len({len(column) for column in columns.values()}) > 1:
            raise _unclear(root, f"{root}[]")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if numbered:
        return [numbered[place] for place in sorted(numbered)]
    if len(whole) == 1 and isinstance(whole[0], list):
        return whole[0]
    return whole
