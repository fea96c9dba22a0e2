"""What a fresh machine installs: pinned, by hash, from wherever that machine is told to install from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
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


@pytest.mark.parametrize("processes", ["-n0", "-n2"])
@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 failed")])
def test_a_skip_fails_in_ci_alone(ci: str, outcome: str, processes: str, tmp_path: Path) -> None:
    run = ran(SAMPLE, tmp_path, processes, CI=ci)
    assert f"{outcome}, 1 xfailed" in run.stdout
    assert run.returncode == (1 if ci else 0)


SHARING = """
import os
import pytest

@pytest.fixture(scope="module")
def place():
    return "here"

@pytest.mark.parametrize("number", range(2))
def test_shared(place, number):
    print("shared", os.getpid())
"""
ALONE = """
import os
import pytest

@pytest.mark.parametrize("number", range(20))
def test_alone(number):
    print("alone", os.getpid())
"""


def test_what_a_module_sets_up_is_set_up_once(tmp_path: Path) -> None:
    (tmp_path / "test_sharing.py").write_text(SHARING)
    run = ran(ALONE, tmp_path, "-n2", "-rP")
    assert run.returncode == 0
    found = set(re.findall(r"^(shared|alone) (\d+)$", run.stdout, re.MULTILINE))
    assert Counter(what for what, _ in found) == {"shared": 1, "alone": 2}


def ran(text: str, folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A run of these tests with our own conftest."""
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (folder / "test_sample.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    return subprocess.run(
        [*command, str(folder)],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)} | env, capture_output=True, text=True, check=False,
    )  # fmt: skip
