"""Answers in JSON that are kept alive: what leaves before they are known, what they become, and who can read them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import DefaultHttpxClient, OpenAI

from proxy import config
from tests.fakes.base import running
from tests.lab import TEXT, Lab, error, generate, lab, total, wait
from tests.server import KEY, ROOT, Server, serving

ALIVE = {"x-pictor-keep-alive": "1"}


@pytest.fixture
def upstream() -> Iterator[Lab]:
    fake = Lab()
    with running(fake):
        yield fake
        fake.go.set()


@pytest.fixture
def server(upstream: Lab, tmp_path: Path) -> Iterator[Server]:
    """Off, but for calls that ask for it."""
    with serving(tmp_path, {"lab": lab(upstream)}) as found:
        yield found


@contextmanager
def asked(server: Server, prompt: str, **headers: str) -> Iterator[httpx.Response]:
    """An answer whose head has come."""
    body = {"model": "lab/painter-1", "prompt": prompt}
    url = f"{server.base_url}/images/generations"
    keyed = {"Authorization": f"Bearer {KEY}", **ALIVE, **headers}
    with httpx.stream("POST", url, json=body, headers=keyed, timeout=30, trust_env=False) as answer:
        yield answer


def test_blanks_come_before_the_answer_is_known(server: Server, upstream: Lab) -> None:
    with asked(server, "slow") as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["x-pictor-task"].startswith("task_")
        assert "content-length" not in answer.headers
        pieces = answer.iter_bytes()
        assert next(pieces) == b" "
        upstream.go.set()
        rest = b"".join(pieces)
    found = json.loads(b" " + rest)
    assert (found["data"], found["size"]) == ([{"b64_json": TEXT}], "16x16")
    wait(lambda: total(server, "http_requests_total", route="/v1/images/generations", status="200") == 1)


def test_what_is_done_in_time_is_an_ordinary_answer(server: Server) -> None:
    answer = generate(server, "soon", "lab/painter-1", headers={"x-pictor-keep-alive": "20"})
    assert answer.content[:1] == b"{"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-pictor-model"] == "lab/painter-1"


def test_what_fails_in_time_has_its_own_status(server: Server) -> None:
    assert error(generate(server, "fault policy", headers=ALIVE), 400)["code"] == "moderation_blocked"
    assert error(generate(server, "x", headers=ALIVE, n=99), 400)["param"] == "n"
    assert error(generate(server, "x", "nobody/knows", headers=ALIVE), 400)["param"] == "model"


def test_what_fails_late_is_an_error_in_the_body_and_counts_as_one(server: Server, upstream: Lab) -> None:
    with asked(server, "slow cut") as answer:
        upstream.go.set()
        found = json.loads(b"".join(answer.iter_bytes()))
    assert answer.status_code == 200
    assert found["error"].keys() == {"message", "type", "param", "code"}
    assert found["error"]["code"] == "ambiguous"
    wait(lambda: total(server, "http_requests_total", route="/v1/images/generations", status="502") == 1)
    assert total(server, "http_requests_total", route="/v1/images/generations", status="200") == 0
    lines = (json.loads(line) for line in server.lines())
    (line,) = [each for each in lines if each.get("path") == "/v1/images/generations"]
    assert (line["status"], line["code"], line["task"]) == (502, "ambiguous", answer.headers["x-pictor-task"])


def test_who_leaves_meanwhile_leaves_a_picture_behind(server: Server, upstream: Lab) -> None:
    with asked(server, "slow", **{"Idempotency-Key": "a"}):
        pass
    wait(lambda: total(server, "clients_gone_total") == 1)
    upstream.go.set()
    again = generate(server, "slow", "lab/painter-1", headers={"Idempotency-Key": "a"})
    assert again.json()["data"] == [{"b64_json": TEXT}]
    assert len(upstream.made) == 1


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "", "٣", "9999999"])
def test_a_header_that_says_nothing(server: Server, upstream: Lab, value: str) -> None:
    found = generate(server, "x", headers={b"x-pictor-keep-alive": value.encode()})  # type: ignore[dict-item]
    assert error(found, 400)["param"] == "x-pictor-keep-alive"
    assert not upstream.made


def test_where_the_configuration_wants_it(upstream: Lab, tmp_path: Path) -> None:
    server = {"keep_alive_seconds": 1, "drain_seconds": 5}
    with serving(tmp_path, {"lab": lab(upstream)}, server=server) as running_server:
        port = int(running_server.address.rpartition(":")[2])
        body = json.dumps({"model": "lab/painter-1", "prompt": "slow"})
        head = f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            assert connection.recv(12) == b"HTTP/1.1 200"
        with ThreadPoolExecutor(1) as pool:  # one that wants none
            off = pool.submit(generate, running_server, "slow", "lab/painter-2", headers={"x-pictor-keep-alive": "0"})
            wait(lambda: len(upstream.made) == 2)
            upstream.go.set()
            assert "content-length" in off.result().headers


def test_it_is_off_unless_it_is_asked_for() -> None:
    assert config.Server().keep_alive_seconds is None


# Official clients


def test_openais_python_client_reads_it(server: Server, upstream: Lab) -> None:
    options: dict[str, Any] = {"http_client": DefaultHttpxClient(trust_env=False), "default_headers": ALIVE}
    with OpenAI(base_url=server.base_url, api_key=KEY, **options) as client, ThreadPoolExecutor(1) as pool:
        asked_for = pool.submit(client.images.generate, model="lab/painter-1", prompt="slow")
        wait(lambda: upstream.made)
        with asked(server, "slow") as answer:  # by then the first has got its head
            assert next(answer.iter_bytes()) == b" "
        upstream.go.set()
        data = asked_for.result().data
    assert data
    assert data[0].b64_json == TEXT


SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY,
  defaultHeaders: { "x-pictor-keep-alive": "1" } });
const { data, response } = await client.images.generate({ model: "lab/painter-1", prompt: "slow" }).withResponse();
console.log(response.headers.get("transfer-encoding"), data.data[0].b64_json);
"""


def test_openais_node_client_reads_it(node: str, server: Server, upstream: Lab) -> None:
    env = {"BASE_URL": server.base_url, "KEY": KEY, "PATH": os.environ["PATH"]}
    command = [node, "--input-type=module", "-e", SCRIPT]
    with subprocess.Popen(command, cwd=ROOT / "tests/node", env=env, stdout=subprocess.PIPE) as client:
        wait(lambda: upstream.made, 20)
        with asked(server, "slow") as answer:  # by then the first has got its head
            assert next(answer.iter_bytes()) == b" "
        upstream.go.set()
        out, _ = client.communicate(timeout=20)
    assert out.decode().split() == ["chunked", TEXT]
