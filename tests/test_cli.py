from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy import __version__

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


def test_little_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    """What a start costs: neither the server nor Pillow are needed to check a configuration."""
    heavy = {"litestar", "uvicorn", "httpx", "aiohttp", "PIL", "cryptography", "prometheus_client"}
    code = (
        "import sys; from proxy.cli import main; main(['check'])\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
