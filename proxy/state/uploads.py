"""Files that clients upload, each its key's own: rows in the database, bytes in the store.

A row leads the way: before the first byte is written it is there, nobody's and about to expire, and it is that again
before the first byte is deleted. So whatever breaks in between, a sweep finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy import sniff
from proxy.ask import FileRef
from proxy.invalid import clip, invalid_value
from proxy.state import ids, tables
from proxy.state.database import Database, milliseconds
from proxy.state.files import Files
from translators.base import Blob, Fault

NOBODY = ""  # the key of a row whose file is not whole
UNFINISHED = 86_400_000  # milliseconds that an upload may take
BATCH = 200  # rows of one transaction


class Upload(msgspec.Struct, frozen=True):
    """A row of `file`. Times in milliseconds since 1970."""

    id: str
    key: str
    created: int
    expires: int | None
    filename: str
    purpose: str
    type: str
    bytes: int
    path: str


class Page(msgspec.Struct, frozen=True):
    """Some uploads in order, and whether there are others behind them."""

    uploads: tuple[Upload, ...]
    more: bool


class Uploads:
    """The uploads of one installation. Everything raises as `Database` and `Store` do, too."""

    def __init__(self, database: Database, files: Files, now: Callable[[], int] = milliseconds) -> None:
        self._database = database
        self._store = files.store
        self._now = now

    async def create(
        self, key: str, blob: Blob, *, filename: str, purpose: str, lifetime: int | None = None
    ) -> Upload:  # fmt: skip
        """Keep `blob` for `lifetime` seconds (`None`: until it is deleted). On any failure nothing of it stays."""
        id, now = ids.new("file-"), self._now()
        type = await asyncio.to_thread(type_of, blob)
        draft = Upload(
            id=id, key=NOBODY, created=now, expires=now + UNFINISHED, filename=filename, purpose=purpose, type=type,
            bytes=blob.length, path=f"uploads/{ids.day(now)[:7]}/{id}",
        )  # fmt: skip
        await self._database.write(
            lambda connection: connection.execute(sa.insert(_FILE), msgspec.structs.asdict(draft))
        )
        try:
            await self._store.put(draft.path, blob, type, id)
        except Fault:
            with suppress(Fault):  # else a sweep does it
                await self._forget([draft])
            raise
        made = msgspec.structs.replace(draft, key=key, expires=None if lifetime is None else now + lifetime * 1000)
        whole = sa.update(_FILE).where(_FILE.c.id == id).values(key=made.key, expires=made.expires)
        await self._database.write(lambda connection: connection.execute(whole))
        return made

    async def get(self, key: str, id: str) -> Upload:
        """One upload. Raises `Fault("missing")` where there is none, or another key's, or it has expired."""
        wanted = _SELECT.where(_FILE.c.id == id, _FILE.c.key == key, self._alive())
        found = () if "\0" in id else await self._database.read(partial(_uploads, wanted))  # PostgreSQL takes none
        if not found:
            raise Fault("missing", f"No such File object: {clip(id)}", param="id")
        return found[0]

    async def page(
        self, key: str, limit: int, *, after: str | None = None, oldest_first: bool = False, purpose: str | None = None
    ) -> Page:
        """At most `limit` uploads behind the one with the id `after`, the newest first unless it is said otherwise."""
        id = _FILE.c.id
        wanted = _SELECT.where(_FILE.c.key == key, self._alive()).limit(limit + 1)
        wanted = wanted.order_by(id.asc() if oldest_first else id.desc())
        if after is not None:
            wanted = wanted.where(id > after if oldest_first else id < after)
        if purpose is not None:
            wanted = wanted.where(_FILE.c.purpose == purpose)
        found = await self._database.read(partial(_uploads, wanted))
        return Page(found[:limit], len(found) > limit)

    def read(self, upload: Upload, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Its bytes from `start` to before `stop`, a piece at a time."""
        return self._store.read(upload.path, start, stop)

    async def picture(self, key: str, ref: FileRef, most: int) -> Blob:
        """What a request means by a `file_id`, to be walked anywhere. Raises `Fault("invalid")` with its parameter."""
        try:
            found = await self.get(key, ref.id)
            if found.bytes > most:
                text = f"Invalid '{ref.param}': the file is larger than {most} bytes."
                raise Fault("invalid", text, code="invalid_image_file", param=ref.param)
            return await self._store.fetched(found.path, found.bytes)
        except (Fault, FileNotFoundError) as error:
            if isinstance(error, Fault) and error.kind != "missing":
                raise
            raise invalid_value(ref.param, f"No such File object: {clip(ref.id)}") from error

    async def delete(self, key: str, id: str) -> None:
        """Delete it. Raises `Fault("missing")` as `get` does."""
        found = await self.get(key, id)
        hidden = sa.update(_FILE).where(_FILE.c.id == id).values(key=NOBODY, expires=self._now())
        await self._database.write(lambda connection: connection.execute(hidden))
        with suppress(Fault):  # it is gone for its owner; a sweep does the rest
            await self._forget([found])

    async def sweep(self, pause: float = 0.0) -> int:
        """Delete what has expired; how many uploads that were. `pause`: seconds between two batches."""
        gone = 0
        old = _SELECT.where(_FILE.c.expires <= self._now()).limit(BATCH)
        while found := await self._database.read(partial(_uploads, old)):
            await self._forget(found)
            gone += len(found)
            await asyncio.sleep(pause)
        return gone

    def _alive(self) -> sa.ColumnElement[bool]:
        return sa.or_(_FILE.c.expires.is_(None), _FILE.c.expires > self._now())

    async def _forget(self, uploads: tuple[Upload, ...] | list[Upload]) -> None:
        """The bytes first: a row leads to them."""
        await self._store.delete([each.path for each in uploads])
        gone = sa.delete(_FILE).where(_FILE.c.id.in_([each.id for each in uploads]))
        await self._database.write(lambda connection: connection.execute(gone))


_FILE = tables.file
_SELECT = sa.select(*(_FILE.c[name] for name in Upload.__struct_fields__))


def _uploads(statement: sa.Select[Any], connection: Connection) -> tuple[Upload, ...]:
    return tuple(Upload(*row) for row in connection.execute(statement))


def type_of(blob: Blob) -> str:
    """What it is by its first bytes; whatever is not known is just bytes."""
    if shape := sniff.look(blob):
        return shape.type
    head = blob.head(16)
    return next((type for at, magic, type in _MAGIC if head.startswith(magic, at)), "application/octet-stream")


_MAGIC = (
    (0, b"%PDF-", "application/pdf"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
)
