from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy import __version__
from tests.server import free_port, serving

ROOT = Path(__file__).parent.parent


def pictor(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command as a user has it: in a directory of its own, with an environment of its own."""
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )


def test_check_without_a_file(tmp_path: Path) -> None:
    done = pictor(tmp_path, "check", env={"BFL_API_KEY": "sk-never-show"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "the environment alone" in done.stdout
    assert "not configured: OPENAI_API_KEY is not set" in done.stdout
    assert "1 credential" in done.stdout
    assert "sk-never-show" not in done.stdout


def test_check_lists_all_faults(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "server: {port: x}\nproviders: {bfl: {api_key: k, timeouts: {job: x}}}\nmodels: {a: bfl/flux-8}\n"
    )
    done = pictor(tmp_path, "check")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        'pictor: config.yaml: server.port: expected a whole number, got "x"',
        'pictor: config.yaml: providers.bfl.timeouts.job: expected a number of seconds, got "x"',
        "pictor: config.yaml: models.a[0]: bfl has no model flux-8",
    ]


@pytest.mark.parametrize("command", ["serve", "models"])
def test_nothing_starts_with_a_fault(tmp_path: Path, command: str) -> None:
    (tmp_path / "other.yaml").write_text("nonsense: 1")
    for arguments, env in (
        ((command, "--config", "other.yaml"), {}),
        ((command,), {"PICTOR_CONFIG": "other.yaml"}),
    ):
        done = pictor(tmp_path, *arguments, env=env)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("pictor: other.yaml: nonsense: unknown")
        assert len(done.stderr.splitlines()) == 1


def test_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    """Only the store itself can tell: what it takes is none of ours."""
    (tmp_path / "config.yaml").write_text("files: {store: s3://bucket, options: {acces_key: x}}")
    done = pictor(tmp_path, "serve", "--port", "0")
    assert done.returncode == 1
    assert "acces_key" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = pictor(tmp_path, "check", "--config", "none.yaml")
    assert done.returncode == 1
    assert done.stderr == "pictor: none.yaml: the file: cannot be read: No such file or directory\n"


def test_serve_takes_the_command_line_into_the_check(tmp_path: Path) -> None:
    done = pictor(tmp_path, "serve", "--host", "0.0.0.0", "--port", "70000")
    assert done.returncode == 1
    assert "server.port: expected a number from 0 to 65535, got 70000" in done.stderr
    assert "auth.mode: open on 0.0.0.0 would let anybody spend" in done.stderr


def test_models(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("models: {house: bfl/flux-2-pro, gone: openai/gpt-image-2}")
    done = pictor(tmp_path, "models", env={"BFL_API_KEY": "k"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["MODEL", "DOES", "SIZE", "PRICE", "ENDS"]
    assert "\nhouse " in done.stdout
    assert "0.03 USD / image" in done.stdout
    assert "gone" not in done.stdout
    assert "\ngone " in pictor(tmp_path, "models", "--all", env={"BFL_API_KEY": "k"}).stdout
    listed = json.loads(pictor(tmp_path, "models", "--json", env={"BFL_API_KEY": "k"}).stdout)
    assert listed["object"] == "list"
    assert [entry["id"] for entry in listed["data"]][:2] == ["house", "bfl/flux-3-image"]


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = f'"{sys.executable}" -m proxy models --json | head -c 1'
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_shipped_file(tmp_path: Path) -> None:
    done = pictor(tmp_path, "check", "--config", str(ROOT / "config.yaml"))
    assert (done.returncode, done.stderr) == (0, "")


def test_help_and_version(tmp_path: Path) -> None:
    assert pictor(tmp_path, "--version").stdout == f"pictor {__version__}\n"
    assert "serve" in pictor(tmp_path, "--help").stdout
    assert pictor(tmp_path).returncode == 2
    assert pictor(tmp_path, "dance").returncode == 2


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        ("", "open to everybody who can reach it, until a key is made"),
        ("auth: {mode: open}", "open to everybody who can reach it"),
        ("auth: {mode: keys}", "0 keys, and those made with `pictor keys create`"),
        ("auth: {keys: [{name: a, key: k}]}", "1 key, and those made with `pictor keys create`"),
    ],
)
def test_check_tells_who_may_call(tmp_path: Path, auth: str, told: str) -> None:
    (tmp_path / "config.yaml").write_text(auth)
    assert pictor(tmp_path, "check").stdout.splitlines()[1].endswith(f":8000, {told}")


# ---- keys


TIERS = "tiers: {pro: {images_per_minute: 120}, trial: {max_n: 1}}\n"
TEXT = re.compile(r"sk-pictor-[\w-]{43}\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a configuration with tiers is."""
    (tmp_path / "config.yaml").write_text(TIERS)
    return tmp_path


def told(folder: Path, *arguments: str) -> dict[str, Any]:
    """What a command tells of a key."""
    done = pictor(folder, "keys", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_key_is_made(folder: Path) -> None:
    first = pictor(folder, "keys", "create", "--name", "app")
    assert (first.returncode, bool(TEXT.fullmatch(first.stdout))) == (0, True)
    assert "it is not shown again" in first.stderr
    assert "nobody is served without a key" in first.stderr
    text = first.stdout.strip()
    second = pictor(
        folder, "keys", "create", "--name", "shop", "--tier", "pro", "--email", "ann@example.com", "--expires", "90d",
        "--models", "demo/*, dall-e-3", "--limit", "images_per_minute=30", "--limit", "max_size=512x512",
        "--limit", "max_n=none", "--limit", "models=demo/*,bfl/*", "--limit", "budget_usd_per_day=2.5",
        "--metadata", "team=a", "--metadata", "note=x=y", "--admin",
    )  # fmt: skip
    assert TEXT.fullmatch(second.stdout)
    assert "nobody is served" not in second.stderr
    shown = told(folder, "show", "shop")
    assert shown == shown | {
        "object": "key", "name": "shop", "tier": "pro", "email": "ann@example.com", "admin": True,
        "models": ["demo/*", "dall-e-3"], "metadata": {"team": "a", "note": "x=y"},
        "overrides": {
            "images_per_minute": 30, "max_size": [512, 512], "max_n": None, "models": ["demo/*", "bfl/*"],
            "budget_usd_per_day": 2.5,
        },
    }  # fmt: skip
    assert shown["expires_at"] - shown["created_at"] == pytest.approx(90 * 86_400, abs=120)
    assert "key" not in shown
    listed = pictor(folder, "keys", "list").stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["ID", "NAME"], [shown["id"], "shop"], [told(folder, "show", "app")["id"], "app"],
    ]  # fmt: skip
    assert f"{text[:14]}…" in listed
    assert text not in listed
    assert [key["name"] for key in told(folder, "list")["data"]] == ["shop", "app"]
    plain = pictor(folder, "keys", "show", shown["id"]).stdout
    assert re.search(r"^tier +pro$", plain, re.MULTILINE)
    assert re.search(r"^revoked_at +-$", plain, re.MULTILINE)


def test_a_key_is_changed(folder: Path) -> None:
    made = told(
        folder, "create", "--name", "app", "--tier", "pro", "--email", "a@b.example", "--models", "demo/*",
        "--limit", "max_n=2", "--limit", "images_per_minute=3", "--metadata", "a=1", "--metadata", "b=2",
        "--expires", "2099-01-31",
    )  # fmt: skip
    assert TEXT.fullmatch(made.pop("key") + "\n")
    assert made["expires_at"] == 4_073_500_800
    assert told(folder, "set", "app") == made
    changed = told(
        folder, "set", made["id"], "--limit", "max_n=", "--limit", "concurrent_jobs=1", "--metadata", "a=",
        "--metadata", "c=3", "--admin", "--tier", "trial",
    )  # fmt: skip
    assert changed == made | {
        "overrides": {"images_per_minute": 3, "concurrent_jobs": 1}, "metadata": {"b": "2", "c": "3"}, "admin": True,
        "tier": "trial",
    }  # fmt: skip
    emptied = told(
        folder, "set", "app", "--name", "other", "--tier", "", "--email", "", "--models", "", "--expires", "never",
        "--no-admin",
    )  # fmt: skip
    assert emptied == changed | {
        "name": "other", "tier": None, "email": None, "models": None, "expires_at": None, "admin": False,
    }  # fmt: skip
    rotated = told(folder, "rotate", "other", "--grace", "1h")
    assert rotated["previous_until"]
    assert TEXT.fullmatch(pictor(folder, "keys", "rotate", "other").stdout)
    assert told(folder, "show", "other")["previous_until"] is None
    assert told(folder, "revoke", "other")["revoked_at"]
    assert "revoked" in pictor(folder, "keys", "list").stdout


@pytest.fixture(scope="module")
def with_a_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where there is a key of the name `here`."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "config.yaml").write_text(TIERS)
    told(folder, "create", "--name", "here")
    return folder


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("show", "nobody"), 1, "There is no key 'nobody'."),
        (("create", "--name", "here"), 1, "There is a key with the name 'here' already."),
        (("create", "--name", "x", "--tier", "gold"), 1, 'there is no tier "gold"; known are pro, trial.'),
        (("create", "--name", "x", "--limit", "pictures=1"), 1, "Invalid 'overrides.pictures': unknown"),
        (("create", "--name", "x", "--limit", "max_n=x"), 1, 'expected a whole number, got "x"'),
        (("create", "--name", "x", "--limit", "max_n"), 2, "expected NAME=VALUE, got 'max_n'"),
        (("create", "--name", "x", "--expires", "soon"), 2, "expected 90d, 2027-01-31 or never, got 'soon'"),
        (("create", "--name", "x", "--expires", "2001-01-01"), 1, "expected a time that is still to come"),
        (("rotate", "here", "--grace", "long"), 2, "expected a time such as 30s or 1h, got 'long'"),
        (("create",), 2, "--name"),
        ((), 2, "ACTION"),
    ],
)
def test_wrong_commands(with_a_key: Path, arguments: tuple[str, ...], status: int, why: str) -> None:
    done = pictor(with_a_key, "keys", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("keys", "list"), ("migrate",)])
def test_a_database_that_is_away(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "config.yaml").write_text(
        f"database: postgresql://pictor:never-show@127.0.0.1:{free_port()}/pictor\nsecret: {'x' * 16}\n"
    )
    done = pictor(tmp_path, *command)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "pictor: The server's database cannot be reached."
    assert "never-show" not in done.stderr
    (tmp_path / "config.yaml").write_text("database: nowhere://never-show")
    done = pictor(tmp_path, *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pictor: config.yaml: database: expected an address that begins with postgresql://")


def test_migrate(folder: Path) -> None:
    for _ in range(2):
        done = pictor(folder, "migrate")
        assert (done.returncode, done.stdout, done.stderr) == (0, "The database is up to date.\n", "")
    with sqlite3.connect(folder / "data" / "pictor.db") as database:
        assert database.execute("SELECT count(*) FROM key").fetchone() == (0,)
        database.execute("UPDATE alembic_version SET version_num = 'later'")
    database.close()
    done = pictor(folder, "migrate")
    assert done.returncode == 1
    assert "Start a version at least as new" in done.stderr
    assert "Traceback" not in done.stderr


def test_while_a_server_runs(tmp_path: Path) -> None:
    """A key that is made beside it opens it, and closes it to all others; within one lifetime in either way."""
    auth = {"mode": "auto", "cache_seconds": 0.2}
    with serving(tmp_path, auth=auth) as server, httpx.Client(base_url=server.base_url, trust_env=False) as client:

        def asked(key: str) -> tuple[int, str | None]:
            answer = client.get("/models", headers={"api-key": key})
            return answer.status_code, answer.json().get("error", {}).get("code")

        def comes(key: str, wanted: tuple[int, str | None]) -> None:
            end = time.monotonic() + 20
            while asked(key) != wanted:
                assert time.monotonic() < end
                time.sleep(0.05)

        def commanded(*arguments: str) -> str:
            done = pictor(tmp_path, "keys", *arguments, "--config", str(server.config))
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        assert asked("anything") == (200, None)
        key = commanded("create", "--name", "app")
        assert asked(key) == (200, None)
        comes("anything", (401, "invalid_api_key"))
        other = commanded("rotate", "app")
        assert asked(other) == (200, None)
        comes(key, (401, "invalid_api_key"))
        commanded("revoke", "app")
        comes(other, (401, "invalid_api_key"))
        comes("", (401, "missing_api_key"))


@pytest.mark.parametrize("arguments", [["--help"], ["keys", "--help"], ["keys", "create", "--help"]])
def test_help_imports_nothing_of_weight(tmp_path: Path, arguments: list[str]) -> None:
    heavy = {"sqlalchemy", "msgspec", "yaml", "asyncio", "alembic", "cachetools", "psycopg"}
    code = (
        "import sys; from proxy.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: pictor")
    assert done.stderr == "[]\n"


def test_little_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    """What a start costs: neither the server nor Pillow are needed to check a configuration."""
    heavy = {"litestar", "uvicorn", "httpx", "aiohttp", "PIL", "cryptography", "prometheus_client", "sqlalchemy"}
    code = (
        "import sys; from proxy.cli import main; main(['check'])\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
