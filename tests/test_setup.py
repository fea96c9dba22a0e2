"""What a fresh machine installs: pinned, by hash, from wherever that machine is told to install from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ["build", "serve", "test"]
PIN = re.compile(
    r"^(?P<pin>[^\s\\]+==[^\s\\]+(?: ; [^\\]+?)?) \\\n(?P<hashes>(?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE
)
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: list[str] = [each for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra]
NODE: dict[str, Any] = json.loads((ROOT / "tests/node/package.json").read_text())


def text(name: str) -> str:
    return (ROOT / f"requirements/{name}.txt").read_text()


def pins(name: str) -> dict[str, str]:
    """Package -> version."""
    found = [Requirement(match["pin"]) for match in PIN.finditer(text(name))]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in found}


@pytest.mark.parametrize("name", LOCKS)
def test_locks_hold_pins_and_hashes_and_nothing_else(name: str) -> None:
    rest = PIN.sub("", text(name))
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []
    for match in PIN.finditer(text(name)):
        assert re.fullmatch(r"(\s*--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", match["hashes"])


@pytest.mark.parametrize(
    "path",
    ["requirements/build.txt", "requirements/serve.txt", "requirements/test.txt", "tests/node/package-lock.json"],
)
def test_locks_name_no_host(path: str) -> None:
    found = (ROOT / path).read_text()
    assert "://" not in found
    assert not re.search(r"\.(org|com|net|io|dev)\b", found)
    assert '"resolved"' not in found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("build", PROJECT["build-system"]["requires"]),
        ("serve", PROJECT["project"]["dependencies"]),
        ("test", PROJECT["project"]["dependencies"] + EXTRAS),
    ],
)
def test_pins_are_what_the_project_asks_for(name: str, wanted: list[str]) -> None:
    pinned = pins(name)
    for each in map(Requirement, wanted):
        assert each.specifier.contains(pinned[canonicalize_name(each.name)]), each


def test_tests_run_on_what_is_served() -> None:
    assert pins("serve").items() <= pins("test").items()


def test_node_packages_are_pinned() -> None:
    lock = json.loads((ROOT / "tests/node/package-lock.json").read_text())["packages"]
    wanted = NODE["dependencies"] | NODE["optionalDependencies"]
    assert lock[""]["dependencies"] | lock[""]["optionalDependencies"] == wanted
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in each for path, each in lock.items() if path)


def test_the_installed_command_exists() -> None:
    module, function = PROJECT["project"]["scripts"]["pictor"].split(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert re.search(rf"^def {function}\(", source, re.MULTILINE)


@pytest.mark.parametrize("target", ["serve", "test", "lint", "bench", "lock", "clean"])
def test_make_knows(target: str) -> None:
    """A dry run: it fails where a target or what it is made from is missing."""
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_ci_runs_make_test_and_allows_no_skip() -> None:
    run = ROOT / ".ci/run"
    assert os.access(run, os.X_OK)
    assert "export CI=true" in run.read_text()
    assert "make --no-print-directory test" in run.read_text()


SAMPLE = """
import pytest

def test_skipped():
    pytest.skip("no such thing here")

@pytest.mark.xfail
def test_expected():
    assert False
"""


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 failed")])
def test_a_skip_fails_in_ci_alone(ci: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"CI": ci, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{outcome}, 1 xfailed" in run.stdout
    assert run.returncode == (1 if ci else 0)
