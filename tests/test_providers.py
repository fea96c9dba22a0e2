"""What holds for every provider that is listed, without a word of it here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace

from docs import served
from docs.markdown import NONE
from proxy import config, providers
from tests.server import KEY, ROOT, serving
from tests.test_cli import pictor
from tests.test_config import ENV, WITHOUT
from translators import NAMES, load
from translators.base import Price

every = pytest.mark.parametrize("name", NAMES)


def test_each_is_a_translator(tmp_path: Path) -> None:
    """mypy takes a module for an implementation of the contract, and names what is missing or has another type."""
    names = ", ".join(NAMES)
    file = tmp_path / "listed.py"
    file.write_text(f"""\
from translators import {names}
from translators.base import Translator

LISTED: tuple[Translator, ...] = ({names},)
""")
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


OPTIONAL = {"DECLARED", "declared", "found", "cancel", "look"}


@every
def test_what_it_exports_is_the_contract(name: str) -> None:
    """A star in nobody's import, but the reader's list of what there is."""
    public = {"MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"}
    assert public <= set(getattr(load(name), "__all__", public)) <= public | OPTIONAL


@every
def test_its_page_has_text(name: str) -> None:
    """Beside the tables that are written: of keys, of regions, of what a reader would stumble over."""
    text = (ROOT / f"docs/providers/{name}.md").read_text()
    for part in ("facts", "models", "details"):
        before, _, rest = text.partition(f"<!-- begin {part} -->")
        text = before + rest.partition(f"<!-- end {part} -->")[2]
    prose = [line for line in text.splitlines() if line and not line.startswith(("#", "|", "`"))]
    assert len(" ".join(prose).split()) >= 60


def test_each_is_told_by_the_check(tmp_path: Path) -> None:
    found = {line.split()[0]: line for line in pictor(tmp_path, "check").stdout.splitlines() if line.startswith("  ")}
    for name in NAMES:
        for way in providers.ways(load(name)):
            assert all(variable in found[name] for variable in way)
    done = pictor(tmp_path, "check", env=ENV)
    assert (done.returncode, done.stderr) == (0, "")
    off = {line.split()[0] for line in done.stdout.splitlines() if "not configured: " in line}
    assert off == WITHOUT


@every
def test_what_switches_it_on_is_enough(name: str) -> None:
    by = load(name)
    endpoint = [by.PROVIDER.env[each] for each in ("endpoint",) if each in by.PROVIDER.env]
    for way in providers.ways(by):
        found = config.load(None, {variable: ENV[variable] for variable in (*way, *endpoint)})
        assert [each for each, given in found.providers.items() if not given.off] == [name]


# ---- the model list


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """To a server on which every provider is on that variables switch on, and the demo."""
    env = {name: value for name, value in ENV.items() if not name.startswith("PICTOR_")}
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        serving(tmp_path_factory.mktemp("listed"), {"demo": {}}, env=env) as server,
        httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as asking,
    ):
        yield asking


def listed(client: httpx.Client, query: str = "") -> list[dict[str, Any]]:
    """`GET /v1/models`."""
    found: list[dict[str, Any]] = client.get(f"models{query}").raise_for_status().json()["data"]
    return found


def matrix(part: str) -> dict[str, dict[str, str]]:
    """A table of all models in the documents: model -> column -> cell."""
    page = (ROOT / "docs/providers/README.md").read_text()
    text = page.partition(f"<!-- begin {part} -->\n")[2].partition(f"<!-- end {part} -->")[0]
    head, _, *lines = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in text.splitlines())
    return {cells[0].strip("`"): dict(zip(head, cells, strict=True)) for cells in lines}


def costs(model: dict[str, Any]) -> str:
    """What the table has to say of its price."""
    by = load(model["provider"])
    bands = msgspec.convert(model["price"], tuple[Price, ...])
    prices = [replace(price, pixels=(0, 0)) if price.resolution else price for price in bands]  # one tells the other
    free = "free" if by.PROVIDER.credential == "none" or providers.addressed(by) else "unknown"
    return served.prices(prices) if prices else free


def row(model: dict[str, Any]) -> dict[str, str]:
    """What the table has to say of a model, from what the server says of it."""
    can = model["capabilities"]
    previews = f", {can['partial_images']} previews" if can["partial_images"] else ""
    return {
        "Model": f"`{model['id']}`",
        **{op.title(): "yes" if op in can["ops"] else NONE for op in ("generate", "edit", "variation")},
        "Mask": "yes" if can["mask"] else NONE,
        "References": str(can["max_images"] or NONE),
        "At once": str(can["max_n"]),
        "Formats": ", ".join(can["formats"]) or "the model's own",
        "Streaming": f"yes{previews}" if can["streaming"] else NONE,
        "Price": costs(model),
        "Ends": model["shutdown_date"] or "",
    }


def video_row(model: dict[str, Any]) -> dict[str, str]:
    """The same of a model that makes videos."""
    can = model["capabilities"]
    facts = {"Text alone": can["text"], "First frame": can["first_frame"], "Last frame": can["last_frame"]}
    return {
        "Model": f"`{model['id']}`",
        "Tasks": ", ".join(can["tasks"]),
        "Seconds": served.spans(can["seconds"]),
        **{name: "yes" if fact else NONE for name, fact in facts.items()},
        "References": str(can["references"] or NONE),
        "Sound": {"none": NONE, "always": "always", "choice": "as asked"}[can["sound"]],
        "Price": costs(model),
        "Ends": model["shutdown_date"] or "",
    }


def test_the_table_and_the_server_say_the_same(client: httpx.Client) -> None:
    """What only the table says is left out of it: that a mask is required, and the least number of references."""
    told = {
        name: cells
        | {
            "Mask": cells["Mask"].replace("required", "yes"),
            "References": cells["References"].rpartition("–")[2] or NONE,
        }
        for name, cells in matrix("models").items()
        if name.partition("/")[0] not in WITHOUT - {"demo"}
    }
    assert told == {model["id"]: row(model) for model in listed(client, "?type=image")}


def test_the_table_of_videos_and_the_server_say_the_same(client: httpx.Client) -> None:
    assert matrix("videos") == {model["id"]: video_row(model) for model in listed(client, "?type=video")}


def test_the_list_by_type(client: httpx.Client) -> None:
    every, pictures, videos = listed(client), listed(client, "?type=image"), listed(client, "?type=video")
    assert every == [*pictures, *videos]
    assert all(videos)
    assert listed(client, "?api-version=2025-04-01-preview") == every  # as Azure's clients ask
    assert client.get("models/kling/kling-v3").json()["type"] == "image"
    assert client.get("models/kling/kling-v3?type=video").json()["type"] == "video"
    assert client.get("models/kling/kling-3.0").json()["type"] == "video"
    assert client.get("models/kling/kling-3.0?type=image").status_code == 404
    wrong = client.get("models?type=film")
    assert wrong.status_code == 400
    assert wrong.json()["error"] | {"message": ""} == {
        "message": "", "type": "invalid_request_error", "param": "type", "code": "invalid_value",
    }  # fmt: skip
    assert wrong.json()["error"]["message"] == "Invalid value: 'film'. Supported values are: 'image' and 'video'."
