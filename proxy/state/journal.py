"""What must not be lost, on the local disk while the database is away: ends of tasks, names of upstream tasks."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from proxy.logs import warn
from proxy.state import ids
from proxy.state.jobs import SubmitRow
from proxy.state.records import Ending


class Kept(msgspec.Struct, frozen=True):
    """What one file holds."""

    endings: tuple[Ending, ...] = ()
    saved: tuple[SubmitRow, ...] = ()

    def __len__(self) -> int:
        return len(self.endings) + len(self.saved)


def keep(folder: Path, kept: Kept) -> None:
    """One file, complete under its name or not there. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds prompts
    path = folder / f"{ids.new('')}.json"
    draft = path.with_suffix(".part")
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def some(folder: Path, most: int) -> dict[Path, Kept]:
    """The oldest files, until they hold `most` things. Other processes may keep theirs here too, and forget ours."""
    found: dict[Path, Kept] = {}
    count = 0
    for path in sorted(folder.glob("*.json")):
        if count >= most:
            break
        with suppress(FileNotFoundError):
            try:
                found[path] = msgspec.json.decode(path.read_bytes(), type=Kept)
                count += len(found[path])
            except msgspec.MsgspecError:
                lay_aside(path)
    return found


def forget(path: Path) -> None:
    """What it holds is in the database."""
    path.unlink(missing_ok=True)


def lay_aside(path: Path) -> None:
    """Keep a file that the database does not take for the operator to look at."""
    with suppress(FileNotFoundError):
        path.rename(path.with_suffix(".refused"))
        warn("a file of the journal cannot be written into the database", path=path.with_suffix(".refused"))
