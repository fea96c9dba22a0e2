"""The image, held against what can be known of it without building it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parent.parent
KNOWN = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN",
    "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
SECRET = re.compile(r"api_?key|secret|token|passw|credential|\bsk-", re.IGNORECASE)


class Step(NamedTuple):
    """One instruction, its continued lines joined."""

    word: str
    value: str


def stages() -> list[list[Step]]:
    """The instructions, a list per FROM."""
    found: list[list[Step]] = []
    for each in DockerfileParser(str(ROOT / "Dockerfile")).structure:
        step = Step(each["instruction"], each["value"])
        if step.word == "FROM":
            found.append([])
        if step.word != "COMMENT":
            found[-1].append(step)
    return found


STAGES = stages()
STEPS = [step for stage in STAGES for step in stage]
COPIES = [step.value.split() for step in STEPS if step.word == "COPY"]
SOURCES = [source for words in COPIES if not words[0].startswith("--from=") for source in words[:-1]]


def values(stage: list[Step], word: str) -> list[str]:
    return [step.value for step in stage if step.word == word]


def test_every_instruction_is_known() -> None:
    assert {step.word for step in STEPS} <= KNOWN


def test_stages() -> None:
    assert len(STAGES) == 2
    names = [value.split()[2] for value in values(STEPS, "FROM") if " AS " in value]
    taken = [words[0].removeprefix("--from=") for words in COPIES if words[0].startswith("--from=")]
    assert taken == names == ["build"], "the last stage takes only what an earlier one made"


def test_bases_name_their_version() -> None:
    bases = [value.split()[0] for value in values(STEPS, "FROM")]
    assert len(set(bases)) == 1, "the environment is copied between stages, so their Python must be one"
    for base in bases:
        assert re.search(r":\d+\.\d+", base)


def test_user_is_a_number_and_not_root() -> None:
    last = STAGES[-1]
    (user,) = values(last, "USER")
    assert all(int(part) >= 10_000 for part in user.split(":")), "a number, so that runAsNonRoot can check it"
    after = [step.word for step in last[last.index(Step("USER", user)) :]]
    assert not {"RUN", "COPY"} & set(after)


def test_health_check_asks_the_port_that_is_served() -> None:
    (check,) = values(STAGES[-1], "HEALTHCHECK")
    command = json.loads(check.split(" CMD ")[1])
    assert "/health'" in command[-1]
    (port,) = values(STAGES[-1], "EXPOSE")
    assert f":{port}/" in command[-1]
    assert port in json.loads(values(STAGES[-1], "CMD")[0])
    compile(command[-1], "HEALTHCHECK", "exec")


@pytest.mark.parametrize("word", ["ENTRYPOINT", "CMD", "VOLUME"])
def test_exec_form(word: str) -> None:
    """A shell in between would swallow the signal to stop."""
    (value,) = values(STAGES[-1], word)
    assert all(isinstance(each, str) for each in json.loads(value))


def test_nothing_is_fetched_but_by_hash() -> None:
    assert not values(STEPS, "ADD")
    assert not any(re.search(r"\bcurl\b|\bwget\b|\bgit\b|apt|https?://", run) for run in values(STEPS, "RUN"))
    for run in values(STEPS, "RUN"):
        for command in re.findall(r"(?<!-)\bpip .*?(?= && |$)", run):
            assert "--require-hashes" in command or "--no-deps" in command
            assert "wheel" not in command.split() or "--no-build-isolation" in command


def test_no_secret() -> None:
    for step in STEPS:
        if step.word in {"ENV", "ARG", "LABEL", "RUN"}:
            assert not SECRET.search(step.value), step.value


@pytest.mark.parametrize("source", SOURCES)
def test_sources_exist_and_reach_the_builder(source: str) -> None:
    assert (ROOT / source).exists()
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "what is not asked for does not come along"
    assert f"!{source}" in lines


def test_the_wheel_holds_all_that_is_copied(tmp_path: Path) -> None:
    """The build stage's own command over what it copies; a page or a table left behind would be missed in service."""
    for source in SOURCES:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / source).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / source)
    copied = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/**/*") if path.is_file()}
    command = "-m pip wheel --quiet --no-build-isolation --no-deps --no-index --wheel-dir dist ."
    subprocess.run([sys.executable, *command.split()], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {name for name in copied if not name.startswith("requirements/")}


def test_only_the_volume_is_written_to() -> None:
    """The root file system is read-only: working directory, data and byte code must not need it."""
    last = STAGES[-1]
    (work,) = values(last, "WORKDIR")
    assert json.loads(values(last, "VOLUME")[0]) == [f"{work}/data"], "the configuration's default is ./data"
    assert any("PYTHONDONTWRITEBYTECODE=1" in value for value in values(last, "ENV"))
