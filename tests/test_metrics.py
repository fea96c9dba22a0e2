"""The numbers that `/metrics` tells: their names are an interface, and nobody's input becomes a label."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import problem
from tests.fakes.base import running
from tests.lab import FAULTS, PNG, TEXT, Lab, error, fresh, generate, lab, post, total, wait
from tests.server import KEY, Server, free_port, serving
from translators.base import Fault, FaultKind

GOLDEN = Path(__file__).parent / "metrics.golden.txt"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Lab]:
    fake = Lab()
    with running(fake):
        yield fake


@pytest.fixture(scope="module")
def server(upstream: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), {"lab": lab(upstream)}, log={"level": "warning"}) as found:
        yield found


def scraped(server: Server) -> str:
    answer = httpx.get(f"{server.address}/metrics", trust_env=False)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


# Faults, on every path that makes pictures


EXPECTED: dict[str, tuple[int, str, str | None, bool]] = {
    "auth": (401, "invalid_request_error", "provider_auth_failed", False),
    "permission": (403, "invalid_request_error", None, False),
    "quota": (429, "insufficient_quota", "insufficient_quota", True),
    "rate": (429, "rate_limit_error", "rate_limit_exceeded", False),
    "invalid": (400, "invalid_request_error", "invalid_value", False),
    "policy": (400, "image_generation_user_error", "moderation_blocked", False),
    "missing": (400, "image_generation_user_error", "invalid_value", False),
    "overloaded": (503, "service_unavailable_error", "server_is_overloaded", False),
    "upstream": (502, "server_error", "server_error", False),
    "empty": (502, "server_error", "no_image", True),
    "timeout": (504, "server_error", "timeout", True),
}
"""Kind -> status, type, code, and whether an SDK is told not to repeat it."""

CALLS = (
    "images/generations",
    "images/generations stream",
    "images/edits",
    "images/edits json",
    "images/edits stream",
    "images/variations",
    "deployments/images/generations",
    "deployments/images/edits",
)


def call(server: Server, name: str, kind: str) -> httpx.Response:
    """One making call whose upstream fails with that kind."""
    model = f"{fresh()}-fault-{kind}"
    path, _, how = name.partition(" ")
    said: dict[str, Any] = {"model": model, "prompt": "x"}
    if path.startswith("deployments/"):
        inner = path.removeprefix("deployments/")
        deployment = model.replace("/", "%2F")
        address = f"{server.address}/openai/deployments/{deployment}/{inner}?api-version=2025-04-01-preview"
        given: dict[str, Any] = {"headers": {"api-key": KEY}, "trust_env": False, "timeout": 30}
        if inner == "images/edits":
            return httpx.post(address, data={"prompt": "x"}, files={"image": ("a.png", PNG)}, **given)
        return httpx.post(address, json={"prompt": "x"}, **given)
    if path == "images/generations":
        return post(server, path, json={**said, "stream": how == "stream"})
    if how == "json":
        return post(server, path, json={**said, "images": [{"image_url": f"data:image/png;base64,{TEXT}"}]})
    if path == "images/variations":
        del said["prompt"]
    elif how == "stream":
        said["stream"] = "true"
    return post(server, path, data=said, files={"image": ("a.png", PNG)})


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", EXPECTED)
def test_every_fault_on_every_path(server: Server, name: str, kind: str) -> None:
    status, type_, code, final = EXPECTED[kind]
    response = call(server, name, kind)
    found = error(response, status)
    assert (found["type"], found["code"]) == (type_, code)
    assert found["param"] == {"invalid": "size", "missing": "model"}.get(kind)
    assert (response.headers.get("x-should-retry") == "false") is final
    assert response.headers.get("retry-after") == ("60" if status in {429, 503} else None)


def test_every_kind_has_its_row() -> None:
    assert set(EXPECTED) == set(FAULTS) == set(get_args(FaultKind)) - {"cancelled"}
    shown = problem(Fault("cancelled", "The client closed the connection."))
    assert shown.status == 499
    assert json.loads(shown.body)["error"]["code"] == "cancelled"


# Names and labels


def shapes(text: str) -> str:
    """What of `text` is an interface: help, type, buckets and label tuples; no numbers."""
    text = re.sub(r'(version|python)="[^"]*"', r'\1="…"', text)
    lines: list[str] = []
    for family in text.split("# HELP ")[1:]:
        about, kind, *samples = family.splitlines()
        names = [sample.rpartition(" ")[0] for sample in samples]
        edges = dict.fromkeys(edge for name in names for edge in re.findall(r'le="([^"]*)"', name))
        lines += [f"# HELP {about}", kind]
        lines += [f"# BUCKETS {' '.join(edges)}"] if edges else []
        lines += sorted(name for name in names if 'le="' not in name)
    return "\n".join(lines) + "\n"


def everything(upstream: Lab, server: Server) -> None:
    """Calls that touch every metric that calls can touch."""
    generate(server, "x", "house", size="1010x1000", style="vivid")
    generate(server, "x", "house", response_format="url")
    generate(server, "x", "house", output_format="jpeg", n=2)
    generate(server, "x", "house", stream=True)
    post(server, "images/edits", data={"model": "lab/hurried", "prompt": "x"}, files={"image": ("a.png", PNG)})
    generate(server, "fault policy", "lab/streamer")
    generate(server, "fault empty", "lab/streamer")
    generate(server, "fault rate", "away")
    generate(server, "x", "nowhere")
    generate(server, "x", "lab/hurried", background="transparent")
    generate(server, "x", "lab/hurried", image_urls=["http://10.0.0.1/x.png"])
    httpx.post(f"{server.base_url}/images/generations", trust_env=False)
    httpx.post(f"{server.base_url}/images/generations", headers={"Authorization": "Bearer wrong"}, trust_env=False)
    httpx.get(f"{server.address}/nowhere", trust_env=False)
    httpx.request("PROPFIND", f"{server.address}/health", trust_env=False)
    for model in ("lab/broken",) * 6:
        generate(server, "fault upstream", model)
    right = server.config.read_text()
    reloaded(server, "server: 7", "failed")
    reloaded(server, right, "ok")


def reloaded(server: Server, text: str, result: str) -> None:
    """The server has read this configuration."""
    server.config.write_text(text)
    server.process.send_signal(signal.SIGHUP)
    wait(lambda: total(server, "config_reloads_total", result=result) == 1)


def test_names_and_labels_are_an_interface(tmp_path: Path) -> None:
    """After a change that is meant: WRITE_GOLDEN=1 pytest tests/test_metrics.py -k interface."""
    upstream = Lab()
    with running(upstream):
        provider = lab(upstream)
        provider["models"]["broken"] = {"ops": ["generate"]}
        price = {"unit": "image", "amount": 0.04}
        provider["models"]["painter"] = {"ops": ["generate"], "sizes": [[1024, 1024]], "prices": [price]}
        models = {"house": ["lab/painter"], "away": ["lab/broken", "lab/painter"]}
        with serving(tmp_path, {"lab": provider}, models=models) as server:
            everything(upstream, server)
            found = shapes(scraped(server))
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_promtool_accepts_it(server: Server) -> None:
    """Its linter knows the field's customs of naming."""
    promtool = found("promtool")
    generate(server, "x")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=scraped(server), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def found(program: str) -> str:
    path = shutil.which(program)
    if not path:
        pytest.skip(f"{program} is not here: install the package 'prometheus' (apt-get install prometheus)")
    return path


def test_a_prometheus_scrapes_it(server: Server, tmp_path: Path) -> None:
    prometheus = found("prometheus")
    generate(server, "x")
    port = free_port()
    target = server.address.removeprefix("http://")
    job = {"job_name": "pictor", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    command = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def asked() -> list[Any]:
        query = {"query": 'pictor_http_requests_total{route="/v1/images/generations"}'}
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params=query, trust_env=False)
        except httpx.TransportError:
            return []
        results: list[Any] = answer.json()["data"]["result"] if answer.status_code == 200 else []
        return results

    try:
        wait(asked, 30)
        assert {result["metric"]["job"] for result in asked()} == {"pictor"}
    finally:
        process.terminate()
        process.wait(10)


# What clients write


def tuples(server: Server) -> dict[str, set[tuple[tuple[str, str], ...]]]:
    """The label tuples of every metric."""
    found: dict[str, set[tuple[tuple[str, str], ...]]] = {}
    for family in text_string_to_metric_families(scraped(server)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).add(tuple(sorted(sample.labels.items())))
    return found


def junk(number: int) -> bytes:
    """A request that names what nobody has: a bare model, one at a provider, a deployment, a path, a method."""
    name = f"junk-{number}"
    path, method = "/v1/images/generations", "POST"
    match number % 40:
        case 0:
            path = f"/openai/deployments/{name}/images/generations?api-version=1"
        case 1:
            path = f"/v1/{name}"
        case 2:
            method = "PROPFIND"
        case 3:
            path, method = f"/v1/models/{name}", "GET"
        case 4:
            name = f"lab/{name}-fault-missing"
    body = json.dumps({"model": name, "prompt": "x", "size": f"{number}x{number}", name: 1} if number % 40 == 5 else
                      {"model": name, "prompt": "x"}).encode()  # fmt: skip
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def sent(server: Server, numbers: range) -> None:
    """These requests, on one connection, some in flight at a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.address.rpartition(":")[2]))
    for number in numbers:
        writer.write(junk(number))
        if number % 20 == 19 or number == numbers[-1]:
            await writer.drain()
            for _ in range(number % 20 + 1):
                await answered(reader)
    writer.close()


async def answered(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 4\d\d", head), head
    size = re.search(rb"content-length: (\d+)", head)
    assert size
    await reader.readexactly(int(size[1]))


async def test_10000_junk_names_add_one_series_at_most(server: Server) -> None:
    generate(server, "x")
    before = tuples(server)
    await asyncio.gather(*(sent(server, range(start, start + 2500)) for start in range(0, 10_000, 2500)))
    after = tuples(server)
    for name, rows in after.items():
        added = rows - before.get(name, set())
        if name.endswith("_bucket"):
            added = {tuple(pair for pair in row if pair[0] != "le") for row in added}
        allowed = 1 if not name.startswith("pictor_http_") else 6  # further routes, methods and statuses were asked for
        assert len(added) <= allowed, (name, added)
    assert "junk" not in scraped(server)
    assert total(server, "series_refused_total") == 0
