"""Made pictures: kept in a folder per day, found by an id that cannot be guessed, read through signed links.

`save`, `open`, `read` and `sweep` are all that the rest knows, so that an object store can stand behind them.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import os
import re
import secrets
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlencode

import msgspec

from translators.base import Blob, Fault

CHUNK = 256 * 1024
DAY = 86_400

EXTENSIONS = {
    "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif", "image/svg+xml": "svg",
    "image/bmp": "bmp", "image/avif": "avif", "image/tiff": "tiff", "image/heic": "heic",
    "video/mp4": "mp4", "video/webm": "webm",
    "audio/mpeg": "mp3", "audio/wav": "wav", "audio/ogg": "ogg", "audio/aac": "aac", "audio/flac": "flac",
    "application/octet-stream": "bin",
}  # fmt: skip
TYPES = {extension: type for type, extension in EXTENSIONS.items()}

_ID = re.compile(r"(\d{4})(\d\d)(\d\d)-[\w-]{22}\.([a-z0-9]{2,4})", re.ASCII)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

P = ParamSpec("P")
T = TypeVar("T")


class Stored(msgspec.Struct, frozen=True):
    """One kept file. What is under an id never changes."""

    id: str
    type: str
    size: int
    modified: float  # seconds since 1970


class Files:
    """The store in a local folder. Its disk is touched in its own threads only."""

    def __init__(self, data: Path, key: bytes | None = None, now: Callable[[], float] = time.time) -> None:
        """Keep in `data/files`. `key` is `data/secret` where none is given."""
        self._folder = data / "files"
        self._key = hmac.digest(key or secret(data), b"outputs", "sha256")  # the secret serves others too
        self._now = now
        self._pool = ThreadPoolExecutor(4, "files")

    async def save(self, blob: Blob, type: str) -> str:
        """Keep it; its new id. On any failure nothing of it stays."""
        return await self._run(self._save, blob, type)

    async def open(self, id: str) -> Stored:
        """What is kept under `id`. Raises `Fault("missing")`."""
        path = self._path(id)
        try:
            found = await self._run(path.stat)
        except FileNotFoundError as error:
            raise _missing(id) from error
        return Stored(id, TYPES.get(path.suffix[1:], "application/octet-stream"), found.st_size, found.st_mtime)

    async def read(self, id: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Its bytes from `start` to before `stop`, in pieces of 256 kB."""
        file = await self._run(self._path(id).open, "rb")
        try:
            await self._run(file.seek, start)
            while piece := await self._run(file.read, CHUNK if stop is None else min(CHUNK, stop - start)):
                yield piece
                start += len(piece)
        finally:
            file.close()

    def blob(self, stored: Stored) -> Blob:
        """It as a blob whose chunks come from the disk: to be walked in a thread."""
        return Blob(_Chunks(self._path(stored.id)), stored.size)

    def sign(self, id: str, expires: int) -> str:
        """The query of a link that opens `id` until `expires`, in seconds since 1970."""
        return urlencode({"expires": expires, "signature": self._signature(id, str(expires))})

    def verify(self, id: str, expires: str | None, signature: str | None) -> int:
        """How many seconds the link is still good for. Raises `Fault("permission")` where it is not."""
        wanted = self._signature(id, expires or "").encode()
        if not hmac.compare_digest(wanted, (signature or "").encode("utf-8", "replace")):
            text = "This link's signature is missing or does not belong to it; use the link as it was given."
            raise Fault("permission", text, code="invalid_signature", param="signature")
        left = int(expires or 0) - int(self._now())
        if left < 0:
            raise Fault("permission", "This link has expired; ask for a new one.", code="link_expired", param="expires")
        return left

    async def sweep(self, retention: float | None) -> int:
        """Delete what is older than `retention` seconds (`None`: for ever kept); how many files that were."""
        return 0 if retention is None else await self._run(self._sweep, retention)

    def close(self) -> None:
        """Let what is being written end."""
        self._pool.shutdown(wait=True)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))

    def _path(self, id: str) -> Path:
        found = _ID.fullmatch(id)
        if found is None:
            raise _missing(id)
        return self._folder / f"{found[1]}-{found[2]}-{found[3]}" / id

    def _signature(self, id: str, expires: str) -> str:
        digest = hmac.digest(self._key, f"{id}\n{expires}".encode("utf-8", "replace"), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _save(self, blob: Blob, type: str) -> str:
        # the day stands in the id, so that the file is found without an index
        day = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%d")
        id = f"{day}-{secrets.token_urlsafe(16)}.{EXTENSIONS.get(type, 'bin')}"
        path = self._path(id)
        draft = path.with_name(f".{id}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("xb", buffering=CHUNK) as file:
                for piece in blob.decoded():
                    file.write(piece)
            draft.replace(path)
        except BaseException as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise _storage_fault(error) or error from error
        return id

    def _sweep(self, retention: float) -> int:
        limit = self._now() - retention
        last, empty = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d") for at in (limit, limit - DAY))
        gone = 0
        for folder in sorted(self._folder.glob("????-??-??")):
            if folder.name > last:
                break
            paths: list[Path] = []
            with suppress(FileNotFoundError):  # another process sweeps too
                paths = list(folder.iterdir())
            for path in paths:
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < limit:
                        path.unlink()
                        gone += 1
            if folder.name < empty:  # not a folder in which something may be about to be written
                with suppress(OSError):
                    folder.rmdir()
        return gone


class _Chunks:
    """A file's bytes, as often as they are walked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(CHUNK):
                yield piece


def secret(data: Path) -> bytes:
    """The installation's secret, `data/secret`; made at first use, readable by its owner alone.

    It appears under its name complete or not at all, so processes that start at once agree on one.
    """
    path = data / "secret"
    if not path.exists():
        data.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".secret-", dir=data)  # O_EXCL and 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            os.unlink(draft)
    found = path.read_bytes()
    if len(found) < 16:
        raise ValueError(f"{path} holds no secret; remove it, and a new one is made (links given out before die).")
    return found


def _missing(id: str) -> Fault:
    return Fault("missing", f"There is no output '{id[:80]}'. It may have been deleted.", code="output_not_found")


def _storage_fault(error: BaseException) -> Fault | None:
    if isinstance(error, OSError) and error.errno in _FULL:
        return Fault("overloaded", "The server's storage is full; the output could not be kept.", code="storage_full")
    if isinstance(error, ValueError):
        return Fault("upstream", f"The provider's output cannot be decoded: {error}.", code="unreadable")
    return None
