"""What `make chaos` does for many minutes, in some seconds: whatever befalls the servers, all is made once and told."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.chaos import all_on_postgresql, killed_on_sqlite
from tests.chaos_account import Figure, table

RUNS = {
    "sqlite": partial(killed_on_sqlite, tasks=60, rounds=2, seconds=8),
    "postgresql": partial(all_on_postgresql, tasks=100, seconds=14),
}


@pytest.mark.parametrize("name", RUNS)
def test_whatever_befalls_the_servers(name: str) -> None:
    run: Callable[..., Sequence[Figure]] = RUNS[name]
    with tempfile.TemporaryDirectory(prefix="pictor-test-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # for PostgreSQL's user
        figures = run(Path(folder), 1, job=(0.3, 2.5))
    assert not [each for each in figures if not each.holds], table(name, figures)
