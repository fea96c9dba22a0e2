"""The official Node client, unchanged, against the real server. One script runs every check; here they are judged."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import KEY
from tests.stage import EVERY, Stage, decoded, hole, measured, opened, photo, received, staged, sums

HERE = Path(__file__).parent / "node"
PICTURE, OTHER, MASK = photo(), photo((0, 90, 200), kind="JPEG"), hole()
FILES = {"a.png": PICTURE, "b.jpg": OTHER, "mask.png": MASK}


@dataclass(frozen=True)
class Run:
    """What one run of the script told, and what reached the upstreams meanwhile."""

    stage: Stage
    lines: Mapping[str, Mapping[str, Any]]

    def answer(self, check: str) -> Mapping[str, Any]:
        """What the check got."""
        line = self.lines[check]
        assert "error" not in line, line["error"]
        answer: Mapping[str, Any] = line["answer"]
        return answer

    def fault(self, check: str) -> Mapping[str, Any]:
        """What it raised."""
        fault: Mapping[str, Any] = self.lines[check]["fault"]
        assert "got" not in fault, fault
        return fault

    def uploads(self, check: str, provider: str = "openai") -> list[str]:
        """The pictures that reached the upstream with that check's prompt, by their digests."""
        word = f"check <{check}>"
        (seen,) = [each for each in self.stage.submits(provider) if word.encode() in each.body]
        return sums(received(seen, self.stage.fakes[provider]))


@pytest.fixture(scope="module")
def run(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("sdk_node")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    models = {
        name: {"generates": f"{name}/{fake.generates}", "edits": fake.edits and f"{name}/{fake.edits}"}
        for name, fake in EVERY.items()
    }
    with staged(folder, public=True) as stage:
        told = {
            "BASE_URL": stage.server.base_url, "ADDRESS": stage.server.address, "KEY": KEY, "FOLDER": str(folder),
            "PROVIDERS": json.dumps(models), "PATH": os.environ["PATH"],
        }  # fmt: skip
        done = subprocess.run([node, "checks.mjs"], env=told, cwd=HERE, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        yield Run(stage, {line["check"]: line for line in lines})


def check(response: Mapping[str, Any], count: int = 1) -> list[Any]:
    """The pictures in an answer, which are what it says they are."""
    pictures = [decoded(each["b64_json"]) for each in response["data"]]
    assert len(pictures) == count
    assert {measured(picture) for picture in pictures} == {(response["size"], response["output_format"])}
    return pictures


def check_events(name: str, events: list[Mapping[str, Any]], most: int = 0) -> None:
    assert [each["type"] for each in events] == [f"{name}.partial_image"] * (len(events) - 1) + [f"{name}.completed"]
    assert len(events) <= most + 1
    for event in events:
        assert measured(decoded(event["b64_json"])) == (event["size"], event["output_format"])


@pytest.mark.parametrize("provider", EVERY)
def test_every_provider(run: Run, provider: str) -> None:
    check(run.answer(f"generate: {provider}"))
    check_events("image_generation", run.answer(f"stream: {provider}")["events"], most=2)
    assert run.lines[f"generate: {provider}"]["requestId"].startswith("req_")
    if not EVERY[provider].edits:
        return
    check(run.answer(f"edit: {provider}"))
    check_events("image_edit", run.answer(f"stream edit: {provider}")["events"])
    if EVERY[provider].wired:
        assert run.uploads(f"edit: {provider}", provider) == sums([PICTURE])
        assert run.uploads(f"stream edit: {provider}", provider) == sums([PICTURE])


@pytest.mark.parametrize(
    ("name", "pictures", "count"),
    [
        ("buffer without a type", [PICTURE], 1), ("buffer without a name", [PICTURE], 1),
        ("typed file", [PICTURE], 1), ("read stream first", [PICTURE, MASK], 1), ("array of one", [PICTURE], 1),
        ("array of files", [PICTURE, OTHER, PICTURE], 1), ("mask", [PICTURE, MASK], 2),
        ("azure edit", [PICTURE], 1), ("azure edit of a stream", [PICTURE], 1),
    ],
)  # fmt: skip
def test_uploads(run: Run, name: str, pictures: list[bytes], count: int) -> None:
    check(run.answer(name), count)
    assert run.uploads(name) == sums(pictures)


def test_numbers_beside_files(run: Run) -> None:
    assert run.answer("mask")["output_format"] == "jpeg"


@pytest.mark.parametrize(
    ("name", "count"),
    [("generate with nulls", 1), ("generate four", 4), ("variation", 2), ("as response", 1), ("azure generate", 1)],
)
def test_generations(run: Run, name: str, count: int) -> None:
    check(run.answer(name), count)


def test_own_fields(run: Run) -> None:
    (picture,) = check(run.answer("generate with own fields"))
    assert picture.format == "WEBP"
    assert picture.width / picture.height == pytest.approx(16 / 9, rel=0.03)


@pytest.mark.parametrize("name", ["generate as link", "legacy"])
def test_links(run: Run, name: str) -> None:
    answer = run.answer(name)
    (made,) = answer["data"]
    assert made.keys() == {"url"}
    picture = opened(httpx.get(made["url"], trust_env=False, verify=False).content)
    assert measured(picture) == (answer["size"], answer["output_format"])
    assert name != "legacy" or (answer["size"], answer["quality"]) == ("1792x1024", "high")


def test_with_response(run: Run) -> None:
    answer = run.answer("with response")
    check(answer)
    assert answer["status"] == 200
    assert answer["request_id"] == answer["headers"]["x-request-id"]
    assert answer["headers"]["x-pictor-model"] == "openai/gpt-image-2"
    assert answer["headers"]["content-type"] == "application/json"


def test_streams(run: Run) -> None:
    assert [each["type"] for each in run.answer("stream several")["events"]] == ["image_generation.completed"] * 3
    assert run.answer("stream ends early") == {"first": "image_generation.partial_image"}


def test_models(run: Run) -> None:
    ids = set(run.answer("models")["ids"])
    assert {f"{name}/{fake.generates}" for name, fake in EVERY.items()} | {"dall-e-3", "house style"} <= ids
    assert run.answer("model")["id"] == f"openrouter/{EVERY['openrouter'].generates}"
    assert run.answer("alias")["id"] == "house style"


FAULTS: dict[str, tuple[str, int | None, str | None, str | None]] = {
    "refusal": ("BadRequestError", 400, "moderation_blocked", None),
    "refusal of a stream": ("BadRequestError", 400, "moderation_blocked", None),
    "refusal of an edit": ("BadRequestError", 400, "moderation_blocked", None),
    "rate limit": ("RateLimitError", 429, "RESOURCE_EXHAUSTED", None),
    "server error": ("InternalServerError", 502, None, None),
    "emptiness": ("InternalServerError", 502, "no_image", None),
    "unknown model": ("BadRequestError", 400, "invalid_value", "model"),
    "no prompt": ("BadRequestError", 400, "missing_required_parameter", "prompt"),
    "bad n": ("BadRequestError", 400, "integer_below_min_value", "n"),
    "unknown field": ("BadRequestError", 400, "unknown_parameter", "colour"),
    "bad n in a form": ("BadRequestError", 400, "invalid_type", "n"),
    "no picture": ("BadRequestError", 400, "invalid_image_file", "image"),
    "stream breaks": ("APIError", None, "server_error", None),
    "wrong key": ("AuthenticationError", 401, "invalid_api_key", None),
    "wrong key with a large upload": ("AuthenticationError", 401, "invalid_api_key", None),
    "wrong key of ours": ("AuthenticationError", 401, "provider_auth_failed", None),
    "unknown model by id": ("NotFoundError", 404, "model_not_found", "model"),
}
ONCE = [name for name, (_, status, _, _) in FAULTS.items() if status == 400] + ["emptiness"]


@pytest.mark.parametrize(("name", "told"), FAULTS.items(), ids=FAULTS)
def test_faults(run: Run, name: str, told: tuple[str, int | None, str | None, str | None]) -> None:
    fault = run.fault(name)
    kind, status, code, param = told
    assert kind in fault["known"]
    assert (fault.get("status"), fault["code"], fault["param"]) == (status, code, param)
    if status is not None:
        assert fault["requestID"].startswith("req_")
        assert fault["message"].startswith(f"{status} ")


@pytest.mark.parametrize("name", ONCE)
def test_what_cannot_succeed_is_asked_once(run: Run, name: str) -> None:
    """These have a client that would ask three times."""
    assert run.fault(name)["sent"] == 1


def test_a_pause_is_told(run: Run) -> None:
    assert run.fault("rate limit")["retryAfter"] == "1"
