"""What holds for the whole run: no skip in CI, nobody's account is used, what stays together, and where Node is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it has no types

from translators import NAMES, load

pytest_plugins = ["tests.stores"]

CI = bool(os.environ.get("CI"))
NODE_BIN = Path(__file__).parent / "node" / "node_modules" / ".bin"

settings.register_profile("pictor", deadline=None, derandomize=CI)
settings.load_profile("pictor")

USUAL = {variable for name in NAMES for variable in load(name).PROVIDER.env.values()}
for _variable in [*os.environ]:
    if _variable in USUAL or _variable.startswith("PICTOR_"):
        del os.environ[_variable]  # what a developer has set would switch real providers on


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if CI and report.skipped:
        refuse(report)
    return report


def refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """What was skipped has not been tested, so in CI it has failed."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"CI allows no skip. {reason}"


def pytest_xdist_auto_num_workers() -> int:
    """Half of the time a test waits for a server."""
    return (os.cpu_count() or 1) * 3 // 2


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """In a parallel run, a module whose tests share what it sets up has one process; others go where one is free."""

    def unit(test: str) -> str:
        path = test.partition("::")[0]
        return path if shares(config.rootpath / path) else test

    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = unit
    return scheduling


@cache
def shares(module: Path) -> bool:
    """Whether a server or the like stands there for several tests."""
    return 'scope="module"' in module.read_text()


@pytest.fixture(scope="session")
def node() -> str:
    """The path of a Node that the official client runs on: ours where it was installed, else the machine's."""
    found = shutil.which("node", path=f"{NODE_BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        pytest.skip("Node 22 or newer is needed: `make test` installs it where npm is there")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < 22:
        pytest.skip(f"Node 22 or newer is needed, {found} is {version}: `make test` installs it where npm is there")
    return found
