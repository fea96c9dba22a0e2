"""What Replicate's wire cases cannot show: large pictures, which are uploaded first, ids, and the shapes of models."""

from __future__ import annotations

import json

import pytest

from tests.pictures import media
from translators import replicate
from translators.base import Call, Fault, Job, Media, Part, Reply, blob
from translators.replicate.models import MODELS, SHAPES, VERSIONS, shape

SMALL = media("red.png")
LARGE = Media(blob=blob(b"\0" * 256_001), type="image/jpeg", width=800, height=600)
MASK = Media(blob=blob(b"\1" * 256_001), type="image/png", width=800, height=600)
FILES = "https://api.replicate.com/v1/files/"


def answered(call: Call, body: object, status: int = 201) -> Reply:
    return Reply(call=call, status=status, data=json.dumps(body).encode())


def called(step: object) -> Call:
    assert isinstance(step, Call)
    return step


def test_large_pictures_are_uploaded_one_after_the_other() -> None:
    job = Job(op="edit", model="google/nano-banana", prompt="x", images=(LARGE, SMALL, LARGE))
    call = called(replicate.start(job))
    for number in (1, 2):
        assert (call.path, call.form, call.repeatable) == ("/files", (Part("content", LARGE),), True)
        call = called(replicate.step(job, answered(call, {"id": "f", "urls": {"get": f"{FILES}{number}"}})))
    assert call.path == "/models/google/nano-banana/predictions"
    assert not call.repeatable
    first, second, third = call.json["input"]["image_input"]
    assert (first, second.media, third) == (f"{FILES}1", SMALL, f"{FILES}2")


def test_a_large_mask_is_the_last_upload() -> None:
    job = Job(op="edit", model="black-forest-labs/flux-fill-pro", prompt="x", images=(SMALL,), mask=MASK)
    call = called(replicate.start(job))
    assert call.form == (Part("content", MASK),)
    sent = called(replicate.step(job, answered(call, {"urls": {"get": f"{FILES}m"}}))).json["input"]
    assert (sent["image"].media, sent["mask"]) == (SMALL, f"{FILES}m")


def test_an_upload_without_an_address_is_a_fault() -> None:
    job = Job(op="edit", model="google/nano-banana", prompt="x", images=(LARGE,))
    call = called(replicate.start(job))
    for body in ({"id": "f", "urls": {}}, {"id": "f"}):
        with pytest.raises(Fault) as caught:
            replicate.step(job, answered(call, body))
        assert (caught.value.kind, caught.value.code) == ("upstream", "unreadable")


@pytest.mark.parametrize(
    "model", ["flux", "a/../b", "../x/y", "a/b/c", "a/b:latest", "A" * 64, "deployments/x", "a/b?c"]
)
def test_what_is_no_model(model: str) -> None:
    assert replicate.caps(model) is None


def test_a_version_of_a_known_model_can_what_it_can() -> None:
    version = "0" * 64
    assert replicate.caps(f"stability-ai/sdxl:{version}") == MODELS["stability-ai/sdxl"]
    for model in (version, f"someone/model:{version}", "someone/model", "deployments/me/mine"):
        caps = replicate.caps(model)
        assert caps
        assert "*" in caps.options


def test_every_model_takes_as_many_pictures_as_it_says() -> None:
    for model, caps in MODELS.items():
        for count in range(max(caps.min_images, 1), caps.max_images + 1):
            job = Job(op="edit", model=model, prompt="x", images=(SMALL,) * count)
            assert isinstance(replicate.start(job), Call), model


def test_every_count_and_every_leniency_has_a_field() -> None:
    for model, caps in MODELS.items():
        names = shape(model)
        assert bool(names.count) == (caps.max_n > 1) or caps.max_n == 1, model
        assert bool(names.lenient) or "moderation" not in caps.params, model


def test_no_shape_is_of_no_model() -> None:
    for name in SHAPES:
        assert any(model.startswith(name) for model in MODELS), name
    assert VERSIONS.keys() <= MODELS.keys()


def test_addresses_and_pictures_anywhere_in_an_output() -> None:
    output = {"a": ["https://x.example/1.png", {"b": "data:image/png;base64,iVBORw0KGgo="}], "c": "text", "d": None}
    job = Job(op="generate", model="me/mine", prompt="x")
    done = replicate.step(job, answered(called(replicate.start(job)), {"status": "succeeded", "output": output}))
    first, second = done.outputs  # type: ignore[union-attr]  # a finished prediction is a Done
    assert first.url == "https://x.example/1.png"
    assert second.blob
    assert second.blob.bytes() == b"\x89PNG\r\n\x1a\n"
