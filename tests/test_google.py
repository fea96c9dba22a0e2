"""What Google's translators do beside conversations: addresses, signatures, sizes, requests that cannot be made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.pictures import media
from translators import gemini, load, vertex
from translators.base import Call, Fault, Job, Reply, Secret, Stamp

STAMP = Stamp(datetime(2026, 11, 20, tzinfo=UTC), "n")
MEBIPIXELS = {"512": 0.25, "1K": 1, "2K": 4, "4K": 16}


@pytest.mark.parametrize(
    ("site", "base"),
    [
        ({}, "https://aiplatform.googleapis.com/v1"),
        ({"location": "us-east5"}, "https://aiplatform.googleapis.com/v1"),  # express mode has no locations
        ({"project": "p"}, "https://aiplatform.googleapis.com/v1"),
        ({"project": "p", "location": "global"}, "https://aiplatform.googleapis.com/v1"),
        ({"project": "p", "location": "us"}, "https://aiplatform.us.rep.googleapis.com/v1"),
        ({"project": "p", "location": "eu"}, "https://aiplatform.eu.rep.googleapis.com/v1"),
        ({"project": "p", "location": "us-east5"}, "https://us-east5-aiplatform.googleapis.com/v1"),
    ],
)
def test_vertex_address(site: dict[str, str], base: str) -> None:
    assert vertex.base(site) == base


@pytest.mark.parametrize("name", ["gemini", "vertex"])
def test_keys_and_tokens_go_into_their_own_headers(name: str) -> None:
    sign = load(name).sign
    assert sign(Call(path="/"), Secret("k"), STAMP).headers == {"x-goog-api-key": "k"}
    assert sign(Call(path="/"), Secret("t", "bearer"), STAMP).headers == {"Authorization": "Bearer t"}


@pytest.mark.parametrize("name", ["gemini", "vertex"])
def test_each_size_that_can_be_asked_for_has_its_pixels(name: str) -> None:
    for caps in load(name).MODELS.values():
        asked = [f"{ratio}@{size}" for ratio in caps.ratios for size in caps.resolutions] or list(caps.ratios)
        assert set(caps.pixels_of) == set(asked)
        for key, (width, height) in caps.pixels_of.items():
            ratio, _, resolution = key.partition("@")
            across, down = map(int, ratio.split(":"))
            assert width / height == pytest.approx(across / down, rel=0.08)
            assert width * height / 2**20 == pytest.approx(MEBIPIXELS[resolution or "1K"], rel=0.13)


def test_an_alias_of_googles_is_known_and_an_unknown_model_is_not() -> None:
    assert gemini.caps("nano-banana-pro-preview") == gemini.MODELS["gemini-3-pro-image"]
    assert gemini.caps("gemini-2.5-flash-image-preview") is None
    assert vertex.caps("nano-banana-pro-preview") is None


@pytest.mark.parametrize(
    ("job", "param", "says"),
    [
        (Job(op="generate", model="imagen-4.0-generate-001"), "model", "configure `project`"),
        (
            Job(op="generate", model="imagen-4.0-generate-001", seed=1, watermark=True, site={"project": "p"}),
            "seed", "without a watermark",
        ),
        (
            Job(
                op="edit", model="imagen-3.0-capability-001", images=(media("red.png"), media("blue.png")),
                site={"project": "p"},
            ),
            "image", "subjectImageConfig",
        ),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_made(job: Job, param: str, says: str) -> None:
    with pytest.raises(Fault, match=says) as caught:
        vertex.start(job)
    assert (caught.value.kind, caught.value.param) == ("invalid", param)


def test_a_missing_model_is_told_what_may_be_meant() -> None:
    gone = b'{"error": {"code": 404, "message": "No such model.", "status": "NOT_FOUND"}}'
    job = Job(op="generate", model="gemini-3-pro-image", site={"project": "p", "location": "asia-east1"})
    with pytest.raises(Fault, match=r"gemini-nano-banana-2\.1.*asia-east1"):
        vertex.check(Reply(call=vertex.start(job), status=404, data=gone))
    with pytest.raises(Fault, match=r"^No such model\. Google may have retired it"):
        gemini.check(Reply(call=gemini.start(job), status=404, data=gone))
    with pytest.raises(Fault, match=r"^No such model\.$"):
        gemini.check(Reply(call=Call(path="/models/gemini-nano-banana-2.1:generateContent"), status=404, data=gone))
