"""What is written about Pictor: no table is stale, no link is dead, and what a reader may copy works."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import msgspec
import pytest
import yaml
from PIL import Image

from docs import generate
from docs.declared import comments
from docs.words import CODES, FAULTS, FIELDS, LABELS, MEANINGS, SECTIONS
from proxy import __version__, config, errors, metrics, plain
from proxy.ask import JsonEdit, Variation
from proxy.flaws import flaws
from tests.server import ROOT, Server, serving
from translators.base import Caps
from translators.video import VideoCaps

README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
NOTHING: Mapping[str, str] = {}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, kind: str) -> list[str]:
    """The fenced blocks of that language."""
    return [match["text"] for match in BLOCK.finditer(path.read_text()) if match["kind"] == kind]


# ---- generated parts


def test_generated_parts_are_current() -> None:
    stale = generate.stale(ROOT)
    assert not stale, f"run `python -m docs.generate`: {', '.join(map(named, stale))} say what no longer holds"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for page in generate.wanted():
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    return tmp_path


def generated(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "docs.generate", "--root", str(root), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_stale_page_is_named_and_written_anew(copied: Path) -> None:
    page = copied / "docs/metrics.md"
    page.write_text(page.read_text().replace("pictor_jobs_total` | counter", "pictor_jobs_total` | gauge"))
    (copied / "docs/providers/demo.md").unlink()
    checked = generated(copied, "--check")
    assert checked.returncode == 1
    assert {"stale: docs/metrics.md", "stale: docs/providers/demo.md"} <= {*checked.stdout.splitlines()}
    assert generated(copied).returncode == 0
    assert page.read_text() == (ROOT / "docs/metrics.md").read_text()
    assert "`painter`" in (copied / "docs/providers/demo.md").read_text()
    assert generated(copied, "--check").returncode == 0


def test_a_page_without_its_markers_is_refused(copied: Path) -> None:
    page = copied / "docs/errors.md"
    page.write_text(page.read_text().replace("<!-- begin codes -->", ""))
    checked = generated(copied, "--check")
    assert checked.returncode == 1
    assert "docs/errors.md: expected markers for codes, errors, found errors" in checked.stderr


STRUCTS: list[type[msgspec.Struct]] = [*(section[2] for section in SECTIONS), Caps, VideoCaps]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: str(struct.__name__))
def test_every_setting_has_a_meaning(struct: type[msgspec.Struct]) -> None:
    hidden = next((section[3] for section in SECTIONS if section[2] is struct), frozenset())
    said = comments(struct)
    fields = set(plain.hints(struct)) - hidden
    assert not [name for name in fields if not said.get(name) and not MEANINGS.get((struct.__name__, name))]


def test_no_meaning_is_left_over() -> None:
    known = {(struct.__name__, name) for struct in STRUCTS for name in plain.hints(struct)}
    assert MEANINGS.keys() <= known
    assert LABELS.keys() == {label for row in metrics.TABLE for label in row.labels}
    assert FAULTS.keys() == errors.BY_KIND.keys()
    assert {*FIELDS} <= {*Variation.__struct_fields__} <= {*JsonEdit.__struct_fields__}


def test_every_code_of_our_own_is_listed() -> None:
    written = {
        code for path in (ROOT / "proxy").rglob("*.py") for code in re.findall(r'\bcode="(\w+)"', path.read_text())
    }
    ranges = {f"{kind}_{side}_value" for kind in ("integer", "decimal") for side in ("below_min", "above_max")}
    assert written - ranges <= CODES.keys(), "add them to docs/words.py"


# ---- prose


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}, link


def test_every_provider_page_is_reached() -> None:
    linked = LINK.findall((ROOT / "docs/providers/README.md").read_text())
    pages = {path.name for path in (ROOT / "docs/providers").glob("*.md")} - {"README.md"}
    assert pages <= {*linked}


def test_the_calls_exist(server: Server) -> None:
    """Each that the table names; and what is ours under /v1 is in the table."""
    text = README.read_text().partition("## Calls")[2].partition("###")[0]
    told = {*re.findall(r"`((?:GET|POST|DELETE) /[^`]*)`", text)} - {"GET /schema"}
    paths = httpx.get(f"{server.address}/schema/openapi.json", trust_env=False).json()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert told <= there
    assert {call for call in there if " /v1/" in call and not call.startswith("HEAD")} <= told


def test_the_documentation_is_served(server: Server) -> None:
    for path in ("/schema", "/schema/swagger", "/schema/redoc"):
        assert httpx.get(f"{server.address}{path}", trust_env=False).status_code == 200


def test_the_changelog_knows_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


ACCOUNT = '{"client_email": "a@b.example", "private_key": "x", "token_uri": "https://b.example", "project_id": "p"}'
SNIPPETS = [(page, text) for page in PAGES for text in blocks(page, "yaml") if "scrape_configs" not in text]


@pytest.mark.parametrize(("page", "text"), SNIPPETS, ids=[named(page) for page, _ in SNIPPETS])
def test_configuration_examples_are_taken(page: Path, text: str, tmp_path: Path) -> None:
    account = tmp_path / "service-account.json"
    account.write_text(ACCOUNT)
    file = tmp_path / "config.yaml"
    file.write_text(text.replace("/run/secrets/service-account.json", str(account)))
    env = {name: f"the value of {name}" for name in re.findall(r"\$\{(\w+)", text)}
    read, found = config.read(file, env)
    assert found + flaws(read) == []


# ---- what can be copied


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As a reader has it after `make serve`: open, with the demo alone."""
    with serving(tmp_path_factory.mktemp("readme"), auth={"mode": "open"}) as running:
        yield running


@pytest.fixture(scope="module")
def size(server: Server) -> int:
    """Of the picture that every example asks for, which is one."""
    body = {"model": "demo/painter", "prompt": "a lighthouse at dusk"}
    answer = httpx.post(f"{server.base_url}/images/generations", json=body, trust_env=False).json()
    picture = b64decode(answer["data"][0]["b64_json"])
    with Image.open(io.BytesIO(picture)) as image:
        image.load()
        assert image.format == "PNG"
    return len(picture)


def run(
    command: list[str], text: str, server: Server, folder: Path = ROOT, variables: Mapping[str, str] = NOTHING
) -> str:
    """What the example prints; only the address in it is another."""
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        command, input=text.replace("http://127.0.0.1:8000", server.address), cwd=folder, env={**env, **variables},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


PYTHON = blocks(README, "python")
NODE = blocks(README, "js")
SHELL = {
    "first": ("README.md", "curl -s http://127.0.0.1:8000/v1/images/generations"),
    "history": ("README.md", 'curl -s "http://127.0.0.1:8000/v1/tasks'),
    "keys": ("README.md", "KEY=$(pictor keys create"),
    "more keys": ("docs/keys.md", "pictor keys create"),
    "usage": ("docs/keys.md", 'curl -s "http://127.0.0.1:8000/v1/admin/usage'),
    "tasks": ("docs/tasks.md", 'curl -s "http://127.0.0.1:8000/v1/tasks'),
    "later": ("docs/tasks.md", "TASK=$(curl -s http://127.0.0.1:8000/v1/images/generations"),
}
"""Where an example of the shell is, and how it begins."""


def shell(name: str) -> str:
    page, beginning = SHELL[name]
    (text,) = (text for text in blocks(ROOT / page, "sh") if text.startswith(beginning))
    return text


def test_every_example_is_run() -> None:
    assert (len(PYTHON), len(NODE)) == (3, 2)
    pages = {page for page, _ in SHELL.values()} | {"docs/files.md", "docs/errors.md"}
    ours = [text for page in pages for text in blocks(ROOT / page, "sh") if "curl" in text or "pictor keys" in text]
    assert sorted(ours) == sorted(map(shell, SHELL))


@pytest.mark.parametrize("text", [PYTHON[0], PYTHON[2]], ids=["openai", "azure"])
def test_python_examples(text: str, server: Server, size: int) -> None:
    assert run([sys.executable, "-"], text, server) == f"{size} bytes\n"


def test_files_example(server: Server, size: int) -> None:
    assert run([sys.executable, "-"], PYTHON[1], server) == f"{size} bytes kept, 1 picture made\n"


def test_node_examples(node: str, server: Server, size: int) -> None:
    printed = [run([node, "--input-type=module"], text, server, ROOT / "tests/node") for text in NODE]
    assert printed == [f"{size} bytes\n", "true\n"]


LATER = {kind: blocks(ROOT / "docs/tasks.md", kind) for kind in ("python", "js")}


def test_a_task_is_followed_in_python(server: Server) -> None:
    (text,) = LATER["python"]
    assert run([sys.executable, "-"], text, server) == "completed 1\n"


def test_a_task_is_followed_in_node(node: str, server: Server) -> None:
    (text,) = LATER["js"]
    assert run([node, "--input-type=module"], text, server, ROOT / "tests/node") == "completed 1\n"


@pytest.fixture(scope="module")
def curl() -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is needed: install curl")


@pytest.mark.usefixtures("curl")
def test_curl_examples(server: Server, size: int) -> None:
    assert run(["sh", "-es"], shell("first"), server).strip() == str(size)
    (task,) = json.loads(run(["sh", "-es"], shell("history"), server))["data"]
    assert httpx.get(task["outputs"][0]["url"], trust_env=False).status_code == 200
    assert json.loads(run(["sh", "-es"], shell("tasks"), server))["data"] == []
    assert run(["sh", "-es"], shell("later"), server) == "event: task.completed\n"


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Server]:
    """With the shipped tiers, and no key yet."""
    tiers = yaml.safe_load((ROOT / "config.yaml").read_text())["tiers"]
    with serving(tmp_path, auth={"mode": "auto"}, tiers=tiers) as running:
        yield running


@pytest.fixture
def command(closed: Server, tmp_path: Path) -> Mapping[str, str]:
    """Variables by which a shell finds `pictor`, and that its configuration."""
    program = tmp_path / "bin" / "pictor"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m proxy "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "PICTOR_CONFIG": str(closed.config)}


@pytest.mark.usefixtures("curl")
def test_keys_example(closed: Server, command: Mapping[str, str], size: int) -> None:
    printed = run(["sh", "-es"], shell("keys"), closed, variables=command)
    assert printed.startswith(f"{size}\n")
    account = json.loads(next(re.finditer(r'^\{"object":"account".*?\}(?=id )', printed, re.MULTILINE))[0])
    assert (account["key"]["name"], account["tier"], account["limits"]["images_per_minute"]) == ("app", "starter", 30)
    assert account["usage"]["today"]["requests"] == 1
    unkeyed = httpx.get(f"{closed.base_url}/models", trust_env=False)
    assert (unkeyed.status_code, unkeyed.json()["error"]["code"]) == (401, "missing_api_key")


@pytest.mark.usefixtures("curl")
def test_the_other_examples_of_keys(closed: Server, command: Mapping[str, str]) -> None:
    printed = run(["sh", "-es"], shell("more keys"), closed, variables=command)
    assert re.search(r"^key_\w+ +batch +sk-pictor-....… ", printed, re.MULTILINE)
    states = re.findall(r"^(?:tier|overrides|expires_at|revoked_at) +(.*)$", printed, re.MULTILINE)
    shown, changed, again, revoked = (states[at : at + 4] for at in range(0, 16, 4))
    assert shown[:2] == ["starter", "-"]
    assert changed[:2] == ["pro", '{"images_per_minute": 30}']
    assert again == ["pro", "-", "-", "-"]
    assert revoked[:3] == ["pro", "-", "-"]
    assert revoked[3] != "-"
    admin = run(["sh", "-es"], "pictor keys create --name admin --admin", closed, variables=command).strip()
    body = {"model": "demo/painter", "prompt": "a lighthouse at dusk"}
    headers = {"Authorization": f"Bearer {admin}"}
    httpx.post(f"{closed.base_url}/images/generations", json=body, headers=headers, trust_env=False).raise_for_status()
    table = run(["sh", "-es"], shell("usage"), closed, variables={"ADMIN": admin}).splitlines()
    assert table[0] == "day,key,key_name,model,requests,failed,pictures,cost_usd,wasted_usd,unpriced"
    assert re.search(r",admin,painter,1,0,1,", table[1])
