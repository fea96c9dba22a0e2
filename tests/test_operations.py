"""What operation.md promises: backups that can be restored, several servers on shared records, and its examples."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from psycopg import sql

from tests.fakes.base import running
from tests.lab import Lab, lab
from tests.server import CLEAN, ROOT, Server, serving
from tests.stores import S3, postgres_binaries

OPERATIONS = (ROOT / "docs/operations.md").read_text()
SECRET = "the-same-on-all-machines"
PRICED = {"ops": ["generate"], "prices": [{"unit": "image", "amount": 0.25}]}
TIERS = {"team": {"budget_usd_per_month": 20, "images_per_minute": 60}}


@dataclass(frozen=True)
class Client:
    """One key's way to one server."""

    server: Server
    key: str

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        url = f"{self.server.base_url}{path}"
        return httpx.request(method, url, headers=headers, trust_env=False, timeout=30, **more)

    def get(self, path: str) -> Any:
        return self.ask("GET", path).raise_for_status().json()

    def make(self, prompt: str, **headers: str) -> httpx.Response:
        body = {"model": "lab/priced", "prompt": prompt}
        return self.ask("POST", "/images/generations", json=body, headers=headers).raise_for_status()

    def edit(self, file_id: str) -> httpx.Response:
        body = {"model": "demo/painter", "prompt": "brighter", "images": [{"file_id": file_id}]}
        return self.ask("POST", "/images/edits", json=body).raise_for_status()

    def upload(self, picture: bytes) -> str:
        files = {"file": ("red.png", picture)}
        made = self.ask("POST", "/files", data={"purpose": "vision"}, files=files).raise_for_status()
        return str(made.json()["id"])


def made(server: Server, *words: str, env: Mapping[str, str] = CLEAN) -> str:
    """What `pictor keys` prints."""
    command = [sys.executable, "-m", "proxy", "keys", *words, "--config", str(server.config)]
    done = subprocess.run(command, cwd=ROOT, env={**CLEAN, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


def section(title: str) -> str:
    return OPERATIONS.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def script(title: str, beginning: str) -> str:
    """A block of that section, with this Python instead of an installed one."""
    text: str
    (text,) = (
        found for found in re.findall(r"```sh\n(.*?)```", section(title), re.DOTALL) if found.startswith(beginning)
    )
    return text.replace(".venv/bin/python", shlex.quote(sys.executable))


def run(text: str, folder: Path, **env: str) -> None:
    done = subprocess.run(
        ["sh", "-es"], input=text, cwd=folder, env={**CLEAN, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def providers() -> Iterator[dict[str, Any]]:
    """One that costs something, and one that draws."""
    fake = Lab()
    with running(fake):
        upstream = lab(fake)
        upstream["models"] |= {"priced": PRICED}
        yield {"lab": upstream, "demo": {}}
        fake.go.set()


# ---- backup and restore


@contextmanager
def another(postgres_url: str) -> Iterator[str]:
    """A second empty database."""
    name = sql.Identifier(f"test_{secrets.token_hex(8)}")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield f"{postgres_url.rpartition('/')[0]}/{name.as_string().strip(chr(34))}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(params=["sqlite", "postgres"])
def places(request: pytest.FixtureRequest) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What two servers have to be told of their databases: the one that is saved, the one that is restored."""
    if request.param == "sqlite":
        yield {}, {}
        return
    first: str = request.getfixturevalue("postgres")
    with another(request.getfixturevalue("postgres_url")) as second:
        yield {"database": first, "secret": SECRET}, {"database": second, "secret": SECRET}


def tools() -> dict[str, str]:
    """Where `pg_dump` is that fits the server: beside it, unless that one is elsewhere."""
    here = [] if os.environ.get("TEST_POSTGRES_URL") else [str(postgres_binaries())]
    return {"PATH": os.pathsep.join([*here, os.environ["PATH"]])}


def test_a_backup_of_a_running_server_can_be_restored(
    places: tuple[dict[str, Any], dict[str, Any]], providers: dict[str, Any], tmp_path: Path
) -> None:
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
    old, new = ({**place, "tiers": TIERS} for place in places)
    kind = "PostgreSQL" if "database" in old else "SQLite"
    title = "Backup and restore"
    with serving(folders[0], providers, **old) as server:
        key = made(server, "create", "--name", "app", "--tier", "team")
        gone = made(server, "create", "--name", "gone")
        made(server, "revoke", "gone")
        client = Client(server, key)
        upload = client.upload((ROOT / "tests/pictures/red.png").read_bytes())
        ordered = client.make("a lighthouse", **{"Idempotency-Key": "order-1"})
        client.edit(upload)
        before = client.get("/tasks")
        links = [output["url"] for task in before["data"] for output in task["outputs"]]
        pictures = [httpx.get(link, trust_env=False).raise_for_status().content for link in links]
        account = client.get("/account")
        with busy(client):
            run(script(title, f"mkdir backup  # {kind}"), folders[0], DATABASE=old.get("database", ""), **tools())
    shutil.move(folders[0] / "backup", folders[1])
    run(script(title, f"mkdir data  # {kind}"), folders[1], DATABASE=new.get("database", ""), **tools())
    with serving(folders[1], providers, **new) as server:
        client = Client(server, key)
        ids = [task["id"] for task in before["data"]]
        found = client.get(f"/tasks?ids={','.join(ids)}")
        assert [(task["id"], task["cost_usd"], task["request"]) for task in found["data"]] == [
            (task["id"], task["cost_usd"], task["request"]) for task in before["data"]
        ]
        for link, picture in zip(links, pictures, strict=True):  # as they were given out, but for the port
            path = link.partition("/v1")[2]
            assert httpx.get(f"{server.base_url}{path}", trust_env=False).raise_for_status().content == picture
        assert client.edit(upload).headers["x-pictor-task"] not in ids
        again = client.make("a lighthouse", **{"Idempotency-Key": "order-1"})
        assert again.headers["x-pictor-task"] == ordered.headers["x-pictor-task"]
        assert again.json() == ordered.json()
        spent = client.get("/account")["budgets"]["month"]["spent_usd"]
        assert spent >= account["budgets"]["month"]["spent_usd"] == 0.25
        client.make("another")
        assert client.get("/account")["budgets"]["month"]["spent_usd"] == spent + 0.25
        assert Client(server, gone).ask("GET", "/models").status_code == 401


@contextmanager
def busy(client: Client) -> Iterator[None]:
    """Calls all the time."""
    begun, enough = threading.Event(), threading.Event()

    def call() -> None:
        while not enough.is_set():
            client.make("busy")
            begun.set()

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(30)
    yield
    enough.set()
    caller.join()


# ---- several machines


def test_two_servers_are_one(
    providers: dict[str, Any], postgres: str, redis_url: str, s3: S3, tmp_path: Path
) -> None:  # fmt: skip
    """With the configuration that the compose file has, but for the addresses."""
    document = yaml.safe_load((ROOT / "deploy/compose/config.yaml").read_text())
    document["files"]["options"] |= s3.options
    values = {
        "PICTOR_PUBLIC_URL": "http://127.0.0.1:1", "PICTOR_SECRET": SECRET, "PICTOR_DATABASE": postgres,
        "PICTOR_REDIS": redis_url, "PICTOR_STORE": f"s3://{s3.bucket}/pictor", "PICTOR_STORE_REGION": "us-east-1",
        "PICTOR_STORE_KEY": "test", "PICTOR_STORE_SECRET": "test",
    }  # fmt: skip
    with ExitStack() as stack:
        servers = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            env = {**values, "PICTOR_DATA": str(folder / "data")}
            servers.append(stack.enter_context(serving(folder, providers, env=env, **document)))
        env = {**values, "PICTOR_DATA": str(tmp_path / "cli")}
        key = made(servers[0], "create", "--name", "app", "--tier", "team", env=env)
        one, two = (Client(server, key) for server in servers)
        upload = one.upload((ROOT / "tests/pictures/red.png").read_bytes())
        two.edit(upload)
        ordered = one.make("a lighthouse", **{"Idempotency-Key": "order-1"})
        again = two.make("a lighthouse", **{"Idempotency-Key": "order-1"})
        assert again.headers["x-pictor-task"] == ordered.headers["x-pictor-task"]
        assert again.json() == ordered.json()
        assert ordered.headers["x-ratelimit-remaining-images"] == "58"  # of 60, as both have made one
        assert [task["id"] for task in one.get("/tasks")["data"]] == [task["id"] for task in two.get("/tasks")["data"]]
        assert one.get("/account") == two.get("/account")
        (output,) = two.get(f"/tasks/{ordered.headers['x-pictor-task']}")["outputs"]
        path = output["url"].partition("/v1")[2]
        links = [f"{server.base_url}{path}" for server in servers]
        pictures = [httpx.get(link, trust_env=False).raise_for_status().content for link in links]
        assert pictures[0] == pictures[1]
        assert len(pictures[0]) == output["bytes"]
