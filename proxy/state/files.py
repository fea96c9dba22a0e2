"""Made pictures: kept in a folder per day, found by an id that cannot be guessed, read through signed links.

The day stands in the id, so that a file is found without an index, and what is old without looking at the rest.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import secrets
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from proxy import config
from proxy.state.store import Store
from translators.base import Blob, Fault

EXTENSIONS = {
    "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif", "image/svg+xml": "svg",
    "image/bmp": "bmp", "image/avif": "avif", "image/tiff": "tiff", "image/heic": "heic",
    "video/mp4": "mp4", "video/webm": "webm", "video/quicktime": "mov", "video/x-matroska": "mkv",
    "audio/mpeg": "mp3", "audio/wav": "wav", "audio/ogg": "ogg", "audio/aac": "aac", "audio/flac": "flac",
    "application/octet-stream": "bin",
}  # fmt: skip
TYPES = {extension: type for type, extension in EXTENSIONS.items()}
DEFAULTS = config.Files()
SIDES = (256, 512, 1024)
"""Longest edges of thumbnails, in pixels."""

_ID = re.compile(r"(\d{4})(\d\d)(\d\d)-[\w-]{22}\.([a-z0-9]{2,4})", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class Stored(msgspec.Struct, frozen=True):
    """One kept file. What is under an id never changes."""

    id: str
    type: str
    size: int
    modified: float  # seconds since 1970


class Files:
    """The made files of one installation. Everything that is awaited raises as `Store` does, too."""

    def __init__(
        self, data: Path, settings: config.Files = DEFAULTS, key: bytes | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Keep in `data/files`, or where `settings.store` says. `key` is `data/secret` where none is given.

        Raises `ConfigError` where the store cannot be opened.
        """
        options = {name: value.key for name, value in settings.options.items()}
        self.store = Store(settings.store or data / "files", options)
        self.backend = self.store.backend
        self._presign = settings.presign
        self._key = hmac.digest(key or secret(data), b"outputs", "sha256")  # the secret serves others too
        self._now = now

    async def save(self, blob: Blob, type: str) -> str:
        """Keep it; its new id. On any failure nothing of it stays."""
        day = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%d")
        id = f"{day}-{secrets.token_urlsafe(16)}.{EXTENSIONS.get(type, 'bin')}"
        await self.store.put(path_of(id), blob, type, id)
        return id

    async def open(self, id: str) -> Stored:
        """What is kept under `id`. Raises `Fault("missing")`."""
        path = path_of(id)
        try:
            found = await self.store.head(path)
        except FileNotFoundError as error:
            raise _missing(id) from error
        type = TYPES.get(path.rpartition(".")[2], "application/octet-stream")
        return Stored(id, type, found.size, found.modified)

    async def read(self, id: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Its bytes from `start` to before `stop`, a piece at a time."""
        end = (await self.open(id)).size if stop is None else stop
        async for piece in self.store.read(path_of(id), start, end):
            yield piece

    async def fetched(self, stored: Stored) -> Blob:
        """All of it, to be walked anywhere: in memory up to 8 MB, beyond that on the local disk."""
        return await self.store.fetched(path_of(stored.id), stored.size)

    def blob(self, stored: Stored) -> Blob:
        """It as a blob that is read while it is walked: in a thread, as the store may be far away."""
        return self.store.blob(path_of(stored.id), stored.size)

    def local(self, stored: Stored) -> Path | None:
        """Where it is on the local disk, where it is there."""
        return self.store.folder / path_of(stored.id) if self.store.folder else None

    async def thumbnail(self, id: str, side: int) -> Blob | None:
        """The thumbnail that was kept beside it, if one was."""
        return await self._beside(thumbnail_path(id, side))

    async def keep_thumbnail(self, id: str, side: int, blob: Blob) -> None:
        """Keep it beside the file that it is of; it goes with that."""
        await self.store.put(thumbnail_path(id, side), blob, "image/webp", f"{id}.{side}.webp")

    async def sheet(self, id: str) -> Blob | None:
        """The sheet of small pictures that was kept beside a video, if one was."""
        return await self._beside(sheet_path(id))

    async def keep_sheet(self, id: str, blob: Blob) -> None:
        """Keep it beside the video that it is of; it goes with that."""
        await self.store.put(sheet_path(id), blob, "image/jpeg", f"{id}.sheet.jpg")

    async def _beside(self, path: str) -> Blob | None:
        try:
            return await self.store.fetched(path, (await self.store.head(path)).size)
        except FileNotFoundError:
            return None

    async def delete(self, ids: Iterable[str]) -> None:
        """Delete what is there of them, and the pictures beside them."""
        known = [id for id in ids if _ID.fullmatch(id)]
        await self.store.delete([path for id in known for path in (path_of(id), *_beside(id))])

    async def presigned(self, id: str, seconds: int) -> str | None:
        """The store's own link to it, good for so long; `None` where the configuration wants none."""
        return await self.store.presigned(path_of(id), seconds) if self._presign else None

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

    async def sweep(self, retention: float | None, pause: float = 0.0) -> int:
        """Delete what is older than `retention` seconds (`None`: for ever kept); how many files that were.

        `pause`: seconds between two batches.
        """
        if retention is None:
            return 0
        limit = self._now() - retention
        last = datetime.fromtimestamp(limit, UTC).strftime("%Y-%m-%d")
        gone = 0
        for day in await self.store.folders():
            if not _DAY.fullmatch(day) or day > last:
                continue
            async for batch in self.store.listed(day):
                old = [each.path for each in batch if each.modified < limit]
                await self.store.delete(old)
                gone += len(old)
                await asyncio.sleep(pause)
        return gone

    def close(self) -> None:
        """Let what is being written end."""
        self.store.close()

    def _signature(self, id: str, expires: str) -> str:
        digest = hmac.digest(self._key, f"{id}\n{expires}".encode("utf-8", "replace"), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


def path_of(id: str) -> str:
    """Where a made file is. Raises `Fault("missing")` for what is no id."""
    found = _ID.fullmatch(id)
    if found is None:
        raise _missing(id)
    return f"{found[1]}-{found[2]}-{found[3]}/{id}"


def thumbnail_path(id: str, side: int) -> str:
    """Where its thumbnail is."""
    return f"{path_of(id)}.{side}.webp"


def sheet_path(id: str) -> str:
    """Where the sheet of a video is."""
    return f"{path_of(id)}.sheet.jpg"


def _beside(id: str) -> Iterable[str]:
    yield from (thumbnail_path(id, side) for side in SIDES)
    if TYPES.get(id.rpartition(".")[2], "").startswith("video/"):
        yield sheet_path(id)


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
