"""Every database that a release has left becomes the one that this version needs, and keeps its rows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from proxy.state import tables
from proxy.state.database import Database
from proxy.state.migrate import HEAD, SCRIPTS, NewerDatabase, migrate, migrated

SCHEMAS = Path(__file__).parent / "schemas"  # what each release has left, with a few rows


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return ScriptDirectory.from_config(config)


RELEASED = sorted(each.revision for each in scripts().walk_revisions())


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def differences(connection: Connection) -> list[Any]:
    found: list[Any] = compare_metadata(MigrationContext.configure(connection), tables.metadata)
    return found


def version(connection: Connection) -> object:
    return connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()


def load(database: Database, release: str) -> None:
    """Make the empty database what `release` has left."""
    dump = (SCHEMAS / f"{release}.{database.kind}.sql").read_text()
    if database.kind == "postgresql":
        with psycopg.connect(database.url.render_as_string(hide_password=False)) as connection:
            connection.execute(dump.encode())
    else:
        raw = database._writing.raw_connection()
        driver: Any = raw.driver_connection
        driver.executescript(dump)
        raw.close()


def test_the_head_is_the_newest_script() -> None:
    assert scripts().get_heads() == [HEAD]


def test_an_empty_database_becomes_what_the_tables_say(empty: Database) -> None:
    migrate(empty)
    assert empty.now(version) == [HEAD]
    assert empty.now(differences) == []


def test_limits_cost_no_log_in_postgresql(postgres: str) -> None:
    database = Database(postgres)
    migrate(database)
    kinds = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u'"
    assert database.now(lambda connection: sorted(connection.scalars(sa.text(kinds)))) == ["rate", "slot"]
    database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_each_release_has_left_a_database(kind: str) -> None:
    assert sorted(path.name.partition(".")[0] for path in SCHEMAS.glob(f"*.{kind}.sql")) == RELEASED


@pytest.mark.parametrize("release", RELEASED)
def test_what_a_release_has_left_is_kept(empty: Database, release: str) -> None:
    load(empty, release)
    migrate(empty)
    assert empty.now(version) == [HEAD]
    assert empty.now(differences) == []

    def rows(table: sa.Table) -> dict[str, Any]:
        return {row[0]: row for row in empty.now(lambda connection: list(connection.execute(sa.select(table))))}

    keys, tasks = rows(tables.key), rows(tables.task)
    assert (keys["key_1"].name, keys["key_1"].digest, keys["key_1"].models) == ("app", b"\1\2", ["demo/*"])
    assert (keys["key_2"].admin, keys["key_2"].revoked) == (True, 1_790_000_000_002)
    assert tasks["task_1"].request == {"prompt": "Ein Leuchtturm – “日本”, it's", "n": 1}
    assert (tasks["task_1"].cost, tasks["task_1"].claim, tasks["task_1"].lost) == (40_000, "cd", True)
    assert tasks["task_1"].result["outputs"] == [{"id": "20261120-x.png", "type": "image/png"}]
    assert tasks["task_2"].error == {"kind": "policy", "code": None, "message": "No.", "param": None}
    assert tasks["task_3"].ended is None
    assert {row.cost for row in rows(tables.entry).values()} == {40_000}
    totals = empty.now(lambda connection: list(connection.execute(sa.select(tables.budget))))
    assert sorted(tuple(row) for row in totals) == [
        ("key_1", "2026-09", 40_007, 500), ("key_1", "2026-09-21", 40_007, 500),
    ]  # fmt: skip
    for table in tables.metadata.sorted_tables:
        assert rows(table), table.name


def test_what_is_current_costs_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/pictor.db"
    start = (
        "import sys; from proxy.state.database import Database; from proxy.state.migrate import migrate;"
        "migrate(Database(sys.argv[1])); print('alembic' in sys.modules)"
    )
    said = [subprocess.check_output([sys.executable, "-c", start, url], text=True).split() for _ in range(2)]
    assert said == [["True"], ["False"]]


def test_processes_that_start_at_once(empty: Database) -> None:
    url = empty.url.render_as_string(hide_password=False)
    starting = [subprocess.Popen([sys.executable, "-m", __name__, url]) for _ in range(4)]
    assert [process.wait(60) for process in starting] == [0] * 4
    assert empty.now(version) == [HEAD]
    assert empty.now(differences) == []


def test_a_newer_database_is_left_alone(empty: Database) -> None:
    migrate(empty)
    empty.now(lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(NewerDatabase, match=f"at version 9999, .* up to {HEAD}"):
        migrate(empty)
    assert empty.now(version) == ["9999"]


async def test_a_migration_that_fails_leaves_all_as_it_was(empty: Database) -> None:
    empty.now(lambda connection: connection.execute(sa.text("CREATE TABLE slot (id INTEGER)")))
    with pytest.raises(sa.exc.DBAPIError):  # as this one makes its last tables
        await migrated(empty)
    assert empty.now(lambda connection: sa.inspect(connection).get_table_names()) == ["slot"]
    empty.now(lambda connection: connection.execute(sa.text("DROP TABLE slot")))
    await migrated(empty)
    assert empty.now(differences) == []


if __name__ == "__main__":
    migrate(Database(sys.argv[1]))
