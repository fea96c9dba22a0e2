"""What all commands share: the file that they read, and how they talk to a person. Imports nothing of weight."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

CONFIG = Path("config.yaml")


def file_of(options: argparse.Namespace) -> Path | None:
    """The file that is read, if any."""
    if options.config:
        return Path(options.config)
    return CONFIG if CONFIG.is_file() else None


def refused(path: Path | None, flaws: Sequence[str]) -> int:
    """Every flaw on a line of its own."""
    for flaw in flaws:
        complain(f"{path or 'environment'}: {flaw}")
    return 1


def complain(text: str) -> int:
    """One line for a person."""
    print(f"pictor: {text}", file=sys.stderr)
    return 1


def table(rows: Iterable[tuple[str, ...]], indent: str = "  ") -> None:
    """Columns as wide as they must be."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        print(indent + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
