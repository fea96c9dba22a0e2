"""`pictor tasks`, on the database of a server that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.base import running
from tests.lab import Lab, generate, wait
from tests.server import CLEAN, ROOT, Server
from tests.test_async import POLLED, Slow, Upstreams, later, served, spent, status, task

PRICE = 0.03


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    found = Upstreams(Slow(), Lab())
    with running(found.slow), running(found.lab):
        yield found
        found.slow.go.set()
        found.lab.go.set()


@pytest.fixture
def server(upstreams: Upstreams, tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path, upstreams) as found:
        yield found


def pictor(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the operator types it."""
    command = [sys.executable, "-m", "proxy", "tasks", *arguments, "--config", str(server.config)]
    return subprocess.run(command, cwd=ROOT, env=CLEAN, capture_output=True, text=True, check=False)


def told(server: Server, *arguments: str) -> Any:
    done = pictor(server, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tasks_are_listed_and_shown(server: Server) -> None:
    done = generate(server, "soon", "lab/painter-1").headers["x-pictor-task"]
    failed = later(server, "fault policy", "lab/painter-2")["id"]
    wait(lambda: status(server, failed) == "failed")
    found = told(server, "list")
    assert [each["id"] for each in found["data"]] == [failed, done]
    assert (found["first_id"], found["last_id"], found["has_more"]) == (failed, done, False)
    assert {each["key"] for each in found["data"]} == {"config:tests"}
    assert [each["id"] for each in told(server, "list", "--status", "failed")["data"]] == [failed]
    assert [each["id"] for each in told(server, "list", "--model", "lab/painter-1")["data"]] == [done]
    assert told(server, "list", "--limit", "1")["has_more"]
    assert told(server, "list", "--key", "config:other")["data"] == []
    shown = told(server, "show", done)
    assert shown["outputs"][0]["url"] is None
    assert (shown["status"], shown["key"]) == ("completed", "config:tests")
    lines = pictor(server, "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "CREATED", "STATE", "DOES", "MODEL", "COST", "ERROR"]
    assert lines[1].split()[-3:] == ["lab/painter-2", "0", "moderation_blocked"]
    assert "soon" in pictor(server, "show", done).stdout


def test_a_running_task_is_cancelled(server: Server, upstreams: Upstreams) -> None:
    id = later(server)["id"]
    wait(lambda: task(server, id)["progress"] == 10)
    assert f"{id} " in pictor(server, "list", "--status", "in_progress").stdout
    done = pictor(server, "cancel", id)
    assert (done.returncode, done.stderr) == (0, f"pictor: a server ends {id} within a few seconds\n")
    wait(lambda: status(server, id) == "cancelled")
    assert told(server, "cancel", id)["status"] == "cancelled"


def test_a_task_that_failed_is_gone_on_with(server: Server, upstreams: Upstreams) -> None:
    id = later(server)["id"]
    wait(lambda: task(server, id)["progress"] == 10)
    upstreams.slow.down = True
    wait(lambda: status(server, id) == "failed")
    upstreams.slow.down = False
    upstreams.slow.go.set()
    assert ", resumable" in pictor(server, "list").stdout
    assert told(server, "resume", id)["status"] == "in_progress"
    wait(lambda: status(server, id) == "completed", 20)
    assert upstreams.slow.submits == 1
    assert spent(server) == PRICE
    done = pictor(server, "resume", id)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pictor: The task '{id}' is completed" in done.stderr


def test_what_cannot_be_done_is_said(server: Server, upstreams: Upstreams) -> None:
    for action in ("show", "cancel", "resume"):
        done = pictor(server, action, "task_0")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("pictor: There is no task 'task_0'.")
    id = later(server, "a boat", POLLED)["id"]
    assert f"'{id}' is under way" in pictor(server, "resume", id).stderr
    for wrong in (("--limit", "0"), ("--limit", "x"), ("--status", "done")):
        assert pictor(server, "list", *wrong).returncode == 2
