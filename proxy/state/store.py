"""Bytes under paths: in a folder, or in a bucket of S3, Google Cloud Storage or Azure. The same code for all.

What is written is there whole or not at all, and no more than a few pieces of it are in memory at once. Measured on a
local disk, writing costs what writing a file does (16 MiB 7 ms, 250 kB 0.9 ms); obstore's own stream of a local file
comes in pieces of 8 kB and costs six times as much as reading it, so that reading asks for one large range at a time.
"""

from __future__ import annotations

import asyncio
import errno
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
import obstore as obs
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from proxy.config import ConfigError
from proxy.forms import collected
from proxy.logs import warn
from translators.base import Blob, Fault

PIECE = 1 << 20  # bytes that are read at once
PART = 5 << 20  # bytes of one part of a large file, the least that S3 takes; what is smaller is written at once
LARGE = 4  # large files that are written at once: each has up to three parts in memory
THREADS = 16
BATCH = 200  # files of one listing or deletion
RETRY_AFTER = 5.0  # seconds after which a client may try again
DAY = 86_400

BACKENDS = frozenset({"s3", "gs", "az"})
CLIENT = frozenset({"allow_http", "allow_invalid_certificates", "connect_timeout", "timeout", "proxy_url"})
"""Members of `files.options` that concern the connection; every other one is the store's own."""

P = ParamSpec("P")
T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True):
    """What is kept under one path."""

    path: str
    size: int
    modified: float  # seconds since 1970


class Store:
    """One place. Raises `Fault("overloaded")` with `storage_full` or `storage_unavailable` where it cannot be used."""

    def __init__(self, place: Path | str, options: Mapping[str, str]) -> None:
        """A folder, or an address such as `s3://bucket/prefix`. Raises `ConfigError` where it cannot be one."""
        self.folder = place.absolute() if isinstance(place, Path) else None
        self.backend = "local" if isinstance(place, Path) else place.partition(":")[0]
        self._store: Any = opened(place, options)  # a union whose functions take each of its members
        self._pool = ThreadPoolExecutor(THREADS, "files")
        self._large = asyncio.Semaphore(LARGE)

    async def put(self, path: str, blob: Blob, type: str, name: str) -> None:
        """Write it. On any failure nothing of it stays. Raises `Fault("upstream")` where it cannot be decoded.

        `type` and `name` are what a link to a bucket answers with; a folder keeps neither.
        """
        attributes = (
            None if self.folder else {"Content-Type": type, "Content-Disposition": f'inline; filename="{name}"'}
        )
        large = blob.size > PART
        async with self._large if large else nullcontext():
            try:
                await self._run(self._put, path, blob, attributes, large=large)
            except ValueError as error:
                text = f"The provider's output cannot be decoded: {error}."
                raise Fault("upstream", text, code="unreadable") from error

    async def head(self, path: str) -> Entry:
        """What is there. Raises `FileNotFoundError`."""
        with faults(missing=True):
            return entry(await obs.head_async(self._store, path))

    async def read(self, path: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to before `stop`, which must be there. Raises `FileNotFoundError`."""
        while start < stop:
            end = min(start + PIECE, stop)
            with faults(missing=True):
                piece = await obs.get_range_async(self._store, path, start=start, end=end)
            yield piece.to_bytes()
            start = end

    async def fetched(self, path: str, size: int) -> Blob:
        """All of it, to be walked anywhere, also when it is deleted meanwhile: in memory, or on the local disk."""
        return await collected(self.read(path, 0, size))

    def blob(self, path: str, size: int) -> Blob:
        """All of it, read while it is walked: for threads only."""
        return Blob(_Ranges(self._store, path, size), size)

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete what is there of them."""
        for at in range(0, len(paths), BATCH):
            await self._run(self._delete, paths[at : at + BATCH])

    async def folders(self) -> list[str]:
        """The names at the top that are folders, in order."""
        with faults():
            found = await obs.list_with_delimiter_async(self._store)
        return sorted(found["common_prefixes"])

    async def listed(self, folder: str) -> AsyncGenerator[list[Entry], None]:
        """All files below a folder, some at a time, in no order."""
        with faults():
            async for batch in obs.list(self._store, folder, chunk_size=BATCH):
                yield [entry(each) for each in batch]

    async def presigned(self, path: str, seconds: int) -> str | None:
        """The store's own address of it, good for so long; `None` where it has none."""
        if self.folder:
            return None
        with faults():
            url: str = await obs.sign_async(self._store, "GET", path, timedelta(seconds=seconds))
        return url

    async def tidy(self) -> None:
        """Remove what a killed process has half written, a day later. A bucket needs a rule of its own for that."""
        if self.folder and self.folder.is_dir():
            await self._run(_tidied, self.folder, time.time() - DAY)

    def close(self) -> None:
        """Let what is being written end."""
        self._pool.shutdown(wait=True)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))

    def _put(self, path: str, blob: Blob, attributes: dict[str, str] | None, *, large: bool) -> None:
        with faults():
            obs.put(
                self._store, path, blob.decoded() if large else blob.bytes(), use_multipart=large, chunk_size=PART,
                max_concurrency=2, attributes=attributes,
            )  # fmt: skip

    def _delete(self, paths: Sequence[str]) -> None:
        with faults(missing=True):
            try:
                obs.delete(self._store, paths)
            except FileNotFoundError:  # of some stores, and then the others may still be there
                for path in paths:
                    with suppress(FileNotFoundError):
                        obs.delete(self._store, path)


class _Ranges:
    """A file's bytes, as often as they are walked."""

    def __init__(self, store: Any, path: str, size: int) -> None:
        self._store, self._path, self._size = store, path, size

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self._size, PIECE):
            with faults(missing=True):
                piece = obs.get_range(self._store, self._path, start=start, end=min(start + PIECE, self._size))
            yield piece.to_bytes()


def opened(place: Path | str, options: Mapping[str, str]) -> ObjectStore:
    """The store at `place`. Nothing is sent yet."""
    try:
        if isinstance(place, Path):
            return LocalStore(place.absolute(), mkdir=True, automatic_cleanup=True)
        if place.partition("://")[0] not in BACKENDS:
            raise ConfigError(["files.store: expected s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"])
        client: Any = {"timeout": "60s", "connect_timeout": "5s"}
        client |= {name: value for name, value in options.items() if name in CLIENT}
        if options.get("endpoint", "").startswith("http://"):
            client["allow_http"] = "true"
        retry: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
        own: Any = {name: value for name, value in options.items() if name not in CLIENT}
        return from_url(place, config=own, client_options=client, retry_config=retry)
    except (BaseError, ValueError) as error:
        raise ConfigError([f"files: the store cannot be opened: {first_line(error)}"]) from error


def entry(found: Any) -> Entry:
    """What obstore tells of a file."""
    return Entry(found["path"], found["size"], found["last_modified"].timestamp())


@contextmanager
def faults(*, missing: bool = False) -> Iterator[None]:
    """The store's failures as faults. `missing`: that a file is not there is no failure; else its bucket is not."""
    try:
        yield
    except BaseError as error:
        found = _OS_ERROR.search(str(error))
        raise storage_fault(int(found[1]) if found else None, first_line(error)) from error
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError):
            raise
        raise storage_fault(error.errno, first_line(error)) from error


_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def storage_fault(number: int | None, why: str) -> Fault:
    """What a request is told that needs the store; the log gets the reason. `number` is the operating system's."""
    warn("the store of files cannot be used", error=why)
    if number in _FULL:
        return Fault("overloaded", "The server's storage is full; the file could not be kept.", code="storage_full")
    text = "The server's storage cannot be used at the moment."
    return Fault("overloaded", text, code="storage_unavailable", retry_after=RETRY_AFTER)


def first_line(error: BaseException) -> str:
    """What obstore says, without the dump of its insides."""
    return str(error).partition("\n")[0]


_DRAFT = re.compile(r".+#\d+|\..+\.part")


def _tidied(folder: Path, before: float) -> None:
    for path in folder.glob("*/**/*"):
        with suppress(OSError):  # another process tidies too
            if _DRAFT.fullmatch(path.name) and path.stat().st_mtime < before:
                path.unlink()
