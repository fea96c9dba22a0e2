"""The real server among slow, broken and hostile upstreams and clients; its start, its reload and its end."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pybase64
import pytest
import yaml
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy.ask import from_json
from proxy.config import load
from proxy.draw import planned
from proxy.fetch import CUT, data_url, lifted_url
from proxy.gateway import Gateway, longest_job
from proxy.http import Allowed, GuardedResolver, Refused
from tests.fakes.base import Fake, running
from tests.lab import MIB, NOISE, PNG, TEXT, Lab, bomb, error, fresh, generate, lab, post, total, wait
from tests.server import CLEAN, KEY, ROOT, Server, free_port, serving, stop, wait_ready
from translators.base import Blob


@pytest.fixture(scope="module")
def upstream() -> Iterator[Lab]:
    fake = Lab()
    with running(fake):
        yield fake


@pytest.fixture(scope="module")
def server(upstream: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Nothing private may be fetched from; a body has at most 50 MB."""
    folder = tmp_path_factory.mktemp("server")
    bounds: dict[str, Any] = {"fetch": {"allow": []}, "limits": {"body_bytes": "50MB"}}
    with serving(folder, {"lab": lab(upstream)}, **bounds) as running_server:
        yield running_server


def memory(server: Server) -> int:
    """The most that the server ever had in memory, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        return 0  # elsewhere it is not told
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) << 10


def logged(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.lines()]


@pytest.fixture(autouse=True)
def _nothing_unforeseen(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to the shared server, no error of ours is in its log."""
    yield
    if "server" in request.fixturenames:
        shared: Server = request.getfixturevalue("server")
        assert [line for line in logged(shared) if line["level"] == "error"] == []


# Upstreams


def test_it_works(server: Server) -> None:
    assert generate(server, "x").json()["data"] == [{"b64_json": TEXT}]


def test_an_answer_of_16_mb_that_breaks_off(server: Server, upstream: Lab) -> None:
    before = len(upstream.made)
    response = generate(server, "cut")
    assert error(response, 502)["code"] == "ambiguous"
    assert response.headers["x-should-retry"] == "false"
    assert len(upstream.made) == before + 1


def test_a_slow_upstream_meets_the_deadline(server: Server, upstream: Lab) -> None:
    response = generate(server, "slow", "lab/hurried")
    assert error(response, 504)["code"] == "deadline_exceeded"
    assert response.headers["x-should-retry"] == "false"
    wait(lambda: upstream.gone)  # its call was let go of
    upstream.gone = 0


@pytest.mark.parametrize(
    "said", ["", "{", "null", "[]", '"text"', '{"data": 7}', '{"data": [{"b64_json": 7}]}', "\x00", '{"data": [[]]}']
)
def test_an_answer_that_cannot_be_read(server: Server, said: str) -> None:
    response = generate(server, f"say {said}")
    assert error(response, 502)["type"] == "server_error"
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "said",
    [
        "bm8gcGljdHVyZQ==",  # base64 of no picture
        "%%%%",
        "iVBORw0KGgo=",  # a PNG's magic and no more
        "A" * 30_000,
    ],
)
def test_an_answer_that_is_no_picture(server: Server, said: str) -> None:
    response = generate(server, "say " + json.dumps({"data": [{"b64_json": said}]}))
    assert error(response, 502)["type"] == "server_error"


def test_a_bomb_as_answer_is_not_unpacked(server: Server) -> None:
    """Handed through it harms nobody; where another format was asked for, it stays as it is and that is said."""
    assert len(bomb()) < 300_000
    before = memory(server)
    plain = generate(server, "bomb")
    assert plain.json()["size"] == "20000x12000"
    response = generate(server, "bomb", output_format="jpeg")
    assert response.status_code == 200
    assert response.json()["output_format"] == "png"
    assert "output_format" in response.headers["x-pictor-adjusted"]
    assert memory(server) - before < 100 * MIB


def test_a_compressed_answer_that_unpacks_to_600_mb(server: Server) -> None:
    before = memory(server)
    assert error(generate(server, "packed"), 502)["code"] == "too_large"
    assert memory(server) - before < 100 * MIB


# Clients


@pytest.mark.parametrize("way", ["upload", "data url"])
def test_a_bomb_as_input_is_not_unpacked(server: Server, upstream: Lab, way: str) -> None:
    before, calls = memory(server), len(upstream.made)
    if way == "upload":
        form = {"model": fresh(), "prompt": "x"}
        response = post(server, "images/edits", data=form, files={"image": ("a.png", bomb())})
    else:
        url = f"data:image/png;base64,{base64.b64encode(bomb()).decode()}"
        body = {"model": fresh(), "prompt": "x", "images": [{"image_url": url}]}
        response = post(server, "images/edits", json=body)
    assert (error(response, 400)["param"] or "").startswith("image")
    assert "20000x12000" in response.json()["error"]["message"]
    assert len(upstream.made) == calls
    assert memory(server) - before < 100 * MIB


async def test_a_data_url_is_held_once_and_in_pieces(tmp_path: Path) -> None:
    """Its text in the request is as large again, and would stay until the answer."""
    picture = PNG + bytes(3 * MIB)
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    body = {"model": "demo/painter", "prompt": "x", "images": [{"image_url": url}], "mask": {"image_url": url}}
    gateway = Gateway(load(None, {"PICTOR_DATA": str(tmp_path)}))
    ask = from_json("edit", json.dumps(body).encode())
    work = await planned(gateway, gateway.catalog.route(ask.model), ask, owner="", strict=False)
    await gateway.aclose()
    assert work.ask.sources == ()
    (job,) = work.plans[0].jobs
    assert job.mask
    for media in (*job.images, job.mask):
        assert media.blob.bytes() == picture
        assert max(map(len, media.blob.chunks)) <= CUT


@pytest.mark.parametrize(
    "data", ["", "AAA", "A", "AAAA=AAA", "AA==AAAA", "AAA-", "AA\nAA", "AAAA\u00e9AAA", "AAAA===="]
)
def test_base64_of_a_data_url(data: str) -> None:
    try:
        wanted = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except ValueError:
        wanted = None
    if wanted is None or "=" in data:
        with pytest.raises(ValueError, match=r"base64|ascii"):
            data_url(f"data:image/png;base64,{data}")
    else:
        assert data_url(f"data:image/png;base64,{data}").bytes() == wanted


def test_base64_that_would_leave_its_string(server: Server, upstream: Lab) -> None:
    """What is sent on as it came cannot add a member to the provider's request."""
    calls = len(upstream.made)
    url = f'data:image/png;base64,{TEXT}","n":"10","x":"{TEXT}'
    body = {"model": fresh(), "prompt": "x", "images": [{"image_url": url}]}
    assert (error(post(server, "images/edits", json=body), 400)["param"] or "").startswith("image")
    assert len(upstream.made) == calls


def test_a_name_that_no_header_holds(server: Server) -> None:
    """The picture is made by then."""
    response = generate(server, "x", "lab/a\x01b\r\nc\x7f")
    assert response.status_code == 200, response.text
    assert response.headers["x-pictor-model"] == "lab/a b  c"


def test_a_name_that_no_row_holds(server: Server, upstream: Lab) -> None:
    """It could be made, and not be written down."""
    calls = len(upstream.made)
    assert error(generate(server, "x", "lab/a\x00b"), 400)["param"] == "model"
    assert len(upstream.made) == calls


@pytest.mark.parametrize("made", [1, 2])
def test_fewer_pictures_than_were_asked_for(server: Server, made: int) -> None:
    said = json.dumps({"data": [{"b64_json": TEXT}] * made})
    response = generate(server, f"say {said}", "lab/several", n=3)
    assert len(response.json()["data"]) == made
    assert response.headers["x-pictor-adjusted"] == f"n 3 -> {made}"


def test_a_preview_that_is_no_picture(server: Server) -> None:
    """What it is a preview of is answered all the same."""
    frames: list[tuple[str, dict[str, Any]]] = [
        ("partial_image", {"b64_json": "AAAA", "partial_image_index": 0}),
        ("completed", {"b64_json": TEXT}),
    ]
    text = "".join(f"data: {json.dumps({'type': f'image_generation.{name}', **data})}\n\n" for name, data in frames)
    response = generate(server, f"events {text}", "lab/streamer", stream=True, partial_images=1)
    assert response.status_code == 200, response.text
    assert "image_generation.completed" in response.text
    assert TEXT in response.text


@pytest.mark.parametrize("noise", [NOISE, "%NOISE%"], ids=["short", "lifted"])
@pytest.mark.parametrize("end", ['","url":"http://evil.example/","x":"', "\n", "\\"])
def test_a_picture_that_would_leave_its_string(server: Server, noise: str, end: str) -> None:
    """A provider adds nothing to the client's answer either."""
    said = json.dumps({"data": [{"b64_json": noise + end}]})
    assert error(generate(server, f"say {said}"), 502)["code"] == "unreadable"


def test_a_form_of_300_parts(server: Server, upstream: Lab) -> None:
    calls = len(upstream.made)
    files = [("image[]", ("a.png", PNG)) for _ in range(300)]
    error(post(server, "images/edits", data={"model": fresh(), "prompt": "x"}, files=files), 400)
    assert len(upstream.made) == calls


@contextmanager
def opened(server: Server) -> Iterator[socket.socket]:
    port = int(server.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        yield connection


def head(path: str, kind: str, *lines: str) -> bytes:
    """The head of a request."""
    every = (f"POST /v1/{path} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", f"Content-Type: {kind}", *lines)
    return "\r\n".join((*every, "", "")).encode()


PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
FORM = "multipart/form-data; boundary=b"


@pytest.mark.parametrize("kind", ["application/json", FORM])
def test_a_body_that_is_announced_too_large_is_refused_unread(server: Server, kind: str) -> None:
    """Not a byte of the 200 MB is waited for."""
    with opened(server) as connection:
        connection.sendall(head("images/edits", kind, "Content-Length: 200000000"))
        response = connection.makefile("rb").readline()
    assert b" 413 " in response


@pytest.mark.parametrize(
    ("kind", "start", "least"),
    [
        (FORM, PART, 45 * MIB),
        ("application/json", b'{"images":[{"image_url":"data:image/png;base64,', 45 * MIB),
        ("application/json", b'{"prompt":"', 7 * MIB),  # text is never as long as a picture
    ],
)
def test_a_body_without_a_length_is_refused_at_the_limit(server: Server, kind: str, start: bytes, least: int) -> None:
    sent = 0
    with opened(server) as connection:
        connection.sendall(head("images/edits", kind, "Transfer-Encoding: chunked"))
        connection.sendall(b"%x\r\n%b\r\n" % (len(start), start))
        chunk = b"100000\r\n" + b"A" * MIB + b"\r\n"
        connection.setblocking(False)
        answer = b""
        while sent < 200 * MIB and not answer:
            answer = received(connection)
            sent += pushed(connection, chunk)
    assert b" 413 " in answer.partition(b"\r\n")[0]
    assert least < sent < least + 35 * MIB  # what is on its way in the sockets' buffers comes on top


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except BlockingIOError:
        return b""


def pushed(connection: socket.socket, data: bytes) -> int:
    """Send all of `data`, waiting where the other side does not read."""
    connection.settimeout(10)
    connection.sendall(data)
    connection.setblocking(False)
    return len(data)


def test_a_large_body_with_the_official_limit_is_told_in_words(server: Server) -> None:
    response = post(server, content=b" " * (51 * 1000 * 1000), headers={"Content-Type": "application/json"})
    assert error(response, 413)["code"] == "request_too_large"


PLACES = (
    "http://127.0.0.1:{port}/x", "http://127.1:{port}/x", "http://0x7f000001:{port}/x", "http://2130706433:{port}/x",
    "http://017700000001:{port}/x", "http://0177.0.0.1:{port}/x", "http://127.0.0.1.:{port}/x", "http://127.0.1:{port}/x",
    "http://[::1]:{port}/x", "http://[::ffff:127.0.0.1]:{port}/x", "http://[::ffff:7f00:1]:{port}/x",
    "http://[::127.0.0.1]:{port}/x", "http://[64:ff9b::7f00:1]:{port}/x", "http://[2002:7f00:1::]:{port}/x",
    "http://0:{port}/x", "http://0.0.0.0:{port}/x", "http://[::]:{port}/x", "http://localhost:{port}/x",
    "http://LOCALHOST.:{port}/x", "http://①②⑦.⓪.⓪.①:{port}/x", "http://{host}:{port}/x",
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest", "http://10.0.0.1/x",
    "http://172.16.0.1/x", "http://192.168.0.1/x", "http://100.64.0.1/x", "http://224.0.0.1/x",
    "http://255.255.255.255/x", "http://user@127.0.0.1:{port}/x", "http://user:word@localhost:{port}/x",
    "http://example.com@127.0.0.1:{port}/x", "file:///etc/passwd", "ftp://127.0.0.1:{port}/x", "gopher://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/x", "127.0.0.1:{port}/x", "http://", "http:///x", "http://[::1", "http://127.0.0.1:99999/",
    "\\x", "http://127.0.0.1:{port}\\@example.com/", "javascript:alert(1)", "http://a..b/", "https://xn--/",
)  # fmt: skip
"""Spellings of this machine, of its network, and of what is no address at all."""


@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_public_is_not_fetched(server: Server, upstream: Lab, place: str) -> None:
    before = len(upstream.seen)
    url = place.format(port=upstream.url.rpartition(":")[2], host=socket.gethostname())
    good = {"image_url": f"data:image/png;base64,{TEXT}"}
    bad = {"image_url": url}
    for body in ({"images": [good, bad]}, {"images": [good], "mask": bad}):
        response = post(server, "images/edits", json={"model": fresh(), "prompt": "x", **body})
        param = error(response, 400)["param"]
        assert param.startswith("images[1]" if "mask" not in body else "mask"), response.text
    response = generate(server, "x", image_urls=[url])
    assert error(response, 400)["param"].startswith("image_urls[0]")
    assert len(upstream.seen) == before


class Table(AbstractResolver):
    """A name server, by table."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=each, port=port, family=socket.AF_INET, proto=0, flags=0)
            for each in self.addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0"]
)
async def test_a_name_that_leads_inwards(address: str) -> None:
    resolver = GuardedResolver(Allowed())
    resolver.inner = Table(address)  # type: ignore[assignment]  # whatever resolves
    with pytest.raises(Refused):
        await resolver.resolve("innocent.example")
    resolver.inner = Table(address, "93.184.216.34")  # type: ignore[assignment]  # as above
    assert [entry["host"] for entry in await resolver.resolve("innocent.example")] == ["93.184.216.34"]


INWARDS = (
    "http://[::1]:{port}/x", "http://169.254.169.254/x", "http://10.0.0.1/", "file:///etc/passwd",
    "ftp://127.0.0.1/x", "http://user@127.0.0.1:{port}/x", "//[::1]:{port}/x", "http://127.0.0.2:{port}/x",
    "http://a:port/",
)  # fmt: skip


def test_a_redirect_inwards_is_not_followed(upstream: Lab, tmp_path: Path) -> None:
    """Where one host is listed, what it redirects to is checked all the same."""
    with serving(tmp_path, {"lab": lab(upstream)}) as server:
        port = upstream.url.rpartition(":")[2]
        assert generate(server, "x", image_urls=[f"{upstream.url}/a.png"]).status_code == 200
        assert generate(server, "x", image_urls=[f"{upstream.url}/redirect?to=/a.png"]).status_code == 200
        before = len([each for each in upstream.seen if each.path == "/x"])
        for place in INWARDS:
            url = f"{upstream.url}/redirect?to={place.format(port=port)}"
            assert error(generate(server, "x", image_urls=[url]), 400)["param"].startswith("image_urls[0]")
        endless = f"{upstream.url}/redirect?to={upstream.url}/redirect"
        assert error(generate(server, "x", image_urls=[endless]), 400)["param"].startswith("image_urls[0]")
        assert len([each for each in upstream.seen if each.path == "/x"]) == before


# Clients that leave


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["painter", "streamer"])  # the one streams nothing by itself
def test_a_client_that_leaves_is_no_longer_answered(server: Server, upstream: Lab, stream: bool, model: str) -> None:
    """Its picture is paid for all the same: the call to the provider goes on to its end."""
    calls, gone = len(upstream.made), total(server, "clients_gone_total")
    ended = total(server, "jobs_total", outcome="ok")
    body = json.dumps({"model": f"lab/{model}", "prompt": "slow", "stream": stream}).encode()
    upstream.gone = 0
    with opened(server) as connection:
        connection.sendall(head("images/generations", "application/json", f"Content-Length: {len(body)}") + body)
        wait(lambda: len(upstream.made) > calls)
    wait(lambda: total(server, "clients_gone_total", route="/v1/images/generations") == gone + 1)
    assert total(server, "http_requests_total", route="/v1/images/generations", status="0") == 0
    assert total(server, "http_requests_total", route="/v1/images/generations", status="499") >= 1
    assert total(server, "http_in_flight", route="/v1/images/generations") == 0
    assert total(server, "jobs_running") == 1
    upstream.go.set()
    wait(lambda: total(server, "jobs_running") == 0)
    upstream.go.clear()
    assert upstream.gone == 0
    assert total(server, "jobs_total", outcome="ok") == ended + 1


@pytest.mark.parametrize("kind", ["application/json", FORM])
def test_a_client_that_leaves_within_its_upload(server: Server, upstream: Lab, kind: str) -> None:
    calls, lines = len(upstream.made), len(server.lines())
    with opened(server) as connection:
        connection.sendall(head("images/edits", kind, "Content-Length: 1000000") + (PART if kind == FORM else b"{"))
        wait(lambda: total(server, "http_in_flight", route="/v1/images/edits") == 1)
    wait(lambda: total(server, "http_in_flight", route="/v1/images/edits") == 0)
    wait(lambda: [line for line in logged(server)[lines:] if line.get("path") == "/v1/images/edits"])
    (line,) = [line for line in logged(server)[lines:] if line.get("path") == "/v1/images/edits"]
    assert line["status"] == 499
    assert len(upstream.made) == calls


# Start, reload, end


@contextmanager
def started(
    folder: Path, config: Mapping[str, Any], *arguments: str, before: str = "", ready: bool = True
) -> Iterator[Server]:
    """`pictor serve` with exactly this configuration; `before` is done in its process first."""
    path, log, port = folder / "config.yaml", folder / "server.log", free_port()
    path.write_text(yaml.safe_dump(dict(config)))
    code = f"import sys\n{before}\nfrom proxy.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", code] if before else [sys.executable, "-m", "proxy"]
    command += ["serve", "--config", str(path), "--port", str(port), *arguments]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=CLEAN, cwd=ROOT)
    server = Server(f"http://127.0.0.1:{port}", process, path, log)
    try:
        if ready:
            wait_ready(server)
        yield server
    finally:
        stop(process)


def document(folder: Path, fake: Fake, **more: Any) -> dict[str, Any]:
    return {
        "server": {"drain_seconds": 10},
        "auth": {"mode": "keys", "keys": [{"name": "tests", "key": KEY}]},
        "data": str(folder / "data"),
        "providers": {"lab": lab(fake)},
        **more,
    }


def status_of(server: Server, path: str) -> int:
    """The status that a new connection gets."""
    return httpx.get(f"{server.address}{path}", trust_env=False).status_code


def test_a_picture_that_cannot_be_stored_is_answered(tmp_path: Path) -> None:
    """It is paid for, whatever is wrong with the disk."""
    fake = Lab()
    with running(fake), started(tmp_path, document(tmp_path, fake)) as server:
        shutil.rmtree(tmp_path / "data" / "files")
        (tmp_path / "data" / "files").write_text("no folder")
        response = generate(server, "x", response_format="url")
        assert response.json()["data"] == [{"b64_json": TEXT}]
        assert response.headers["x-pictor-adjusted"] == "response_format url -> b64_json (storage_unavailable)"
        assert len(fake.made) == 1
        assert [line for line in logged(server) if line["level"] == "error"]


def test_pages_of_others_may_not_spend(tmp_path: Path) -> None:
    """A browser sends a strange page's POST to the loopback without asking anybody."""
    fake = Lab()
    server_of = {"public_url": "https://pictor.example"}
    with running(fake), started(tmp_path, document(tmp_path, fake, auth={"mode": "open"}, server=server_of)) as server:
        body = json.dumps({"model": "lab/painter", "prompt": "x"})
        for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example", "http://[::1"):
            response = post(server, content=body, headers={"Origin": origin, "Content-Type": "text/plain"})
            assert error(response, 403)["code"] == "foreign_origin"
        assert not fake.made
        for origin in ("http://localhost:3000", "http://[::1]:8000", "https://pictor.example"):
            assert post(server, content=body, headers={"Origin": origin}).status_code == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_what_runs_finish(tmp_path: Path, workers: int) -> None:
    fake = Lab()
    with (
        running(fake),
        started(tmp_path, document(tmp_path, fake), "--workers", str(workers)) as server,
        ThreadPoolExecutor() as pool,
    ):
        slow = pool.submit(generate, server, "slow")
        wait(lambda: fake.made)
        server.process.send_signal(signal.SIGTERM)
        if workers == 1:
            wait(lambda: status_of(server, "/ready") == 503)
            assert status_of(server, "/health") == 200
            refused = error(generate(server, "x"), 503)
            assert refused["code"] == "draining"
        fake.go.set()
        assert slow.result().json()["data"] == [{"b64_json": TEXT}]
        assert server.process.wait(10) == 0
        assert len(fake.made) == 1


def test_sigterm_ends_what_takes_too_long(tmp_path: Path) -> None:
    fake = Lab()
    with running(fake), ThreadPoolExecutor() as pool:
        config = document(tmp_path, fake, server={"drain_seconds": 1})
        with started(tmp_path, config) as server:
            slow = pool.submit(generate, server, "slow")
            wait(lambda: fake.made)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 0
        wait(lambda: fake.gone)
        response = slow.result()
        assert error(response, 503)["code"] == "ambiguous"
        assert response.headers["x-should-retry"] == "false"


def test_sighup(tmp_path: Path) -> None:
    fake = Lab()
    with running(fake):
        config = document(tmp_path, fake)
        with started(tmp_path, config) as server:
            server.config.write_text("providers: {lab: {translator: nobody}}\nfetch: {seconds: many}\n")
            server.process.send_signal(signal.SIGHUP)
            wait(lambda: total(server, "config_reloads_total", result="failed") == 1)
            assert generate(server, "x").status_code == 200
            told = [line for line in logged(server) if line["level"] == "warning"]
            assert len(told) == 2  # each flaw has its line
            assert "providers.lab" in str(told)
            assert "fetch.seconds" in str(told)

            config["models"] = {"house": ["lab/painter"]}
            server.config.write_text(yaml.safe_dump(config))
            assert error(generate(server, "x", "house"), 400)["param"] == "model"
            server.process.send_signal(signal.SIGHUP)
            wait(lambda: total(server, "config_reloads_total", result="ok") == 1)
            assert generate(server, "x", "house").headers["x-pictor-model"] == "lab/painter"


async def test_a_reload_takes_limits_and_waits_for_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    config = {"data": str(tmp_path / "data"), "limits": {"image_pixels": 100}}
    path.write_text(yaml.safe_dump(config))
    gateway = Gateway(load(path, {}), path)
    models = {"quick": {"ops": ["generate"]}, "slow": {"ops": ["generate"], "hidden": True, "timeouts": {"job": 1800}}}
    lab = {"translator": "openai", "base_url": "http://lab.example/v1", "models": models}
    path.write_text(yaml.safe_dump(config | {"limits": {"image_pixels": 200}, "providers": {"lab": lab}}))
    gateway.reload()
    assert gateway.pixels.bound == 200
    assert longest_job(gateway.config) == 1800
    await gateway.aclose()


def test_sighup_takes_nothing_from_what_runs(tmp_path: Path) -> None:
    fake = Lab()
    with running(fake):
        config = document(tmp_path, fake)
        with started(tmp_path, config) as server, ThreadPoolExecutor() as pool:
            slow = pool.submit(generate, server, "slow")
            wait(lambda: fake.made)
            config["providers"] = {"demo": {}}
            server.config.write_text(yaml.safe_dump(config))
            server.process.send_signal(signal.SIGHUP)
            wait(lambda: total(server, "config_reloads_total", result="ok") == 1)
            assert error(generate(server, "x"), 400)["param"] == "model"
            fake.go.set()
            assert slow.result().status_code == 200


def test_a_wrong_configuration_is_told_whole(tmp_path: Path) -> None:
    wrong = {
        "server": {"workers": "many"},
        "fetch": {"alow": []},
        "providers": {"nobody": {}},
        "models": {"a": ["b/c"]},
    }
    with started(tmp_path, wrong, ready=False) as server:
        assert server.process.wait(10) == 1
    text = server.log.read_text()
    for name in ("server.workers", "fetch.alow", "providers.nobody", "models.a"):
        assert name in text
    assert "Traceback" not in text


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with started(tmp_path, {}, "--port", port, ready=False) as server:
            assert server.process.wait(10) == 1
    assert "in use" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def children(pid: int) -> set[int]:
    """The processes that `pid` started and that live."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {int(row[0]) for row in rows if int(row[1]) == pid and not row[2].startswith("Z")}


def test_two_workers(tmp_path: Path) -> None:
    fake = Lab()
    with running(fake), started(tmp_path, document(tmp_path, fake), "--workers", "2") as server:
        pid = server.process.pid
        wait(lambda: len(children(pid)) == 2)
        workers = children(pid)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: generate(server, "x").status_code, range(24)))
        assert answers == [200] * 24
        for _ in range(10):  # whichever of them answers
            assert total(server, "http_requests_total", route="/v1/images/generations", status="200") == 24
            assert total(server, "pictures_total", provider="lab") == 24
            assert total(server, "jobs_running") == 0

        killed = workers.pop()
        os.kill(killed, signal.SIGKILL)
        wait(lambda: len(children(pid) - {killed}) == 2)  # another takes its place
        assert total(server, "pictures_total", provider="lab") == 24
        workers = children(pid)

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
    assert not {worker for worker in workers if Path(f"/proc/{worker}").exists()}


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """Else the port would stay taken, by a server that nobody can stop or reload."""
    fake = Lab()
    with running(fake), started(tmp_path, document(tmp_path, fake), "--workers", "2") as server:
        pid = server.process.pid
        wait(lambda: len(children(pid)) == 2)
        server.process.kill()
        server.process.wait()
        port = int(server.address.rpartition(":")[2])
        wait(lambda: free(port))


def free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_workers_that_cannot_start(tmp_path: Path) -> None:
    fake = Lab()
    (tmp_path / "data").write_text("no folder")
    with started(tmp_path, document(tmp_path, fake, providers={}), "--workers", "2", ready=False) as server:
        assert server.process.wait(20) == 1
        assert "workers cannot be started" in server.log.read_text()


def test_a_slow_stream_shows_signs_of_life(tmp_path: Path) -> None:
    fake = Lab()
    hurried = "import proxy.answer\nproxy.answer.KEEP_ALIVE = 0.05"
    with running(fake), started(tmp_path, document(tmp_path, fake), before=hurried) as server:
        body = {"model": "lab/painter", "prompt": "slow", "stream": True}
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.stream(
            "POST", f"{server.base_url}/images/generations", json=body, headers=headers, trust_env=False
        ) as answer:
            lines = answer.iter_lines()
            assert [next(lines) for _ in range(4)] == [": keep-alive", "", ": keep-alive", ""]
            fake.go.set()
            rest = [line for line in lines if line and not line.startswith(":")]
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert rest[0] == "event: image_generation.completed"
        assert json.loads(rest[1].removeprefix("data: "))["b64_json"] == TEXT


def test_a_slow_stream_that_fails_ends_with_an_error_event(tmp_path: Path) -> None:
    """The status is long sent; the log and the metrics know better."""
    fake = Lab()
    hurried = "import proxy.answer\nproxy.answer.KEEP_ALIVE = 0.05"
    with running(fake), started(tmp_path, document(tmp_path, fake), before=hurried) as server:
        response = generate(server, "slow", "lab/hurried", stream=True)
        assert response.status_code == 200
        name, data = response.text.strip().split("\n\n")[-1].split("\n")
        assert name == "event: error"
        assert json.loads(data.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
        wait(lambda: [line for line in logged(server) if line.get("path") == "/v1/images/generations"])
        (line,) = [line for line in logged(server) if line.get("path") == "/v1/images/generations"]
        assert (line["fault"], line["code"]) == ("timeout", "deadline_exceeded")
        assert total(server, "jobs_total", outcome="timeout") == 1


@pytest.mark.parametrize("cut", [5, 70, 10**6])
@pytest.mark.parametrize("end", ["", "=", "=="])
def test_a_lifted_data_url_is_the_picture_that_it_was(cut: int, end: str) -> None:
    data = PNG[: len(PNG) // 3 * 3 - len(end)]
    text = b"data:image/png;base64," + pybase64.b64encode(data)
    pieces = tuple(text[at : at + cut] for at in range(0, len(text), cut))
    assert lifted_url(Blob(pieces, len(text), "base64")).bytes() == data


@pytest.mark.parametrize("data", ["QUJD*UJD", "QUI=QUJD", "QQ==QUJD", "QUJ", "Q", 'QUJD","n":9,"x":"'])
def test_broken_base64_of_a_lifted_data_url(data: str) -> None:
    text = f"data:image/png;base64,{data}".encode()
    if data == "QUJ":  # only its padding is missing
        assert lifted_url(Blob((text,), len(text), "base64")).bytes() == b"AB"
        return
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the decoder calls it
        lifted_url(Blob((text,), len(text), "base64"))
