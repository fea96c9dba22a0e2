"""Ends of tasks on the local disk, for as long as the database is away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from proxy.logs import warn
from proxy.state import ids
from proxy.state.records import Ending


def keep(folder: Path, endings: Sequence[Ending]) -> None:
    """One file, complete under its name or not there. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds prompts
    path = folder / f"{ids.new('')}.json"
    draft = path.with_suffix(".part")
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(endings))
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


def some(folder: Path, most: int) -> dict[Path, list[Ending]]:
    """The oldest files, until they hold `most` ends. Other processes may keep theirs here too, and forget ours."""
    found: dict[Path, list[Ending]] = {}
    count = 0
    for path in sorted(folder.glob("*.json")):
        if count >= most:
            break
        with suppress(FileNotFoundError):
            try:
                found[path] = msgspec.json.decode(path.read_bytes(), type=list[Ending])
                count += len(found[path])
            except msgspec.MsgspecError:
                lay_aside(path)
    return found


def forget(path: Path) -> None:
    """Its ends are in the database."""
    path.unlink(missing_ok=True)


def lay_aside(path: Path) -> None:
    """Keep a file that the database does not take for the operator to look at."""
    with suppress(FileNotFoundError):
        path.rename(path.with_suffix(".refused"))
        warn("a file of the journal cannot be written into the database", path=path.with_suffix(".refused"))
