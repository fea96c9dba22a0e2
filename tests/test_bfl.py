"""What Black Forest Labs' wire cases cannot show: what is refused before anything is sent, regions, the credential."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.pictures import media
from translators import bfl
from translators.base import Call, Fault, Job, Lora, Secret, Stamp

PHOTO = (media("photo.jpg"),)  # 24x16


@pytest.mark.parametrize(
    ("job", "param"),
    [
        (Job(op="edit", model="flux-pro-1.0-expand", images=PHOTO), "size"),
        (Job(op="edit", model="flux-pro-1.0-expand", images=PHOTO, size=(24, 16)), "size"),
        (Job(op="edit", model="flux-pro-1.0-expand", images=PHOTO, size=(64, 8)), "size"),
        (Job(op="edit", model="flux-tools/outpainting-v1", images=PHOTO), "size"),
        (Job(op="generate", model="flux-pro-1.1-ultra-finetuned", prompt="x"), "loras"),
        (Job(op="generate", model="flux-pro-1.1-ultra-finetuned", prompt="x", loras=(Lora("a"), Lora("b"))), "loras"),
        (Job(op="edit", model="flux-kontext-pro", prompt="x", images=PHOTO * 5), "image"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_parameter(job: Job, param: str) -> None:
    with pytest.raises(Fault) as caught:
        bfl.start(job)
    assert (caught.value.kind, caught.value.param) == ("invalid", param)


def test_outpainting_takes_the_canvas_from_the_options() -> None:
    call = bfl.start(
        Job(op="edit", model="flux-tools/outpainting-v1", images=PHOTO, options={"width": 64, "height": 48})
    )
    assert isinstance(call, Call)
    assert (call.json["width"], call.json["height"]) == (64, 48)


def test_a_region_keeps_its_host() -> None:
    assert bfl.base({}) == "https://api.bfl.ai"
    assert bfl.base({"region": "eu"}) == "https://api.eu.bfl.ai"
    assert bfl.base({"region": "us"}) == "https://api.us.bfl.ai"


def test_the_key_goes_into_its_own_header() -> None:
    signed = bfl.sign(Call(path="https://api.bfl.ai/v1/flux-2-pro"), Secret("k"), Stamp(datetime.now(UTC), "n"))
    assert signed.headers == {"x-key": "k"}


@pytest.mark.parametrize("model", ["flux-pro", "flux-pro-1.0-canny", "flux-pro-1.0-depth", "flux-3-video"])
def test_removed_models_are_unknown(model: str) -> None:
    assert bfl.caps(model) is None


def test_every_family_says_how_many_pictures_it_takes() -> None:
    """A model with more references in its capabilities than members for them would refuse what it lists."""
    for model, caps in bfl.MODELS.items():
        job = Job(op="edit", model=model, prompt="x", images=PHOTO * caps.max_images, size=(64, 64), loras=(Lora("a"),))
        if "edit" in caps.ops:
            assert isinstance(bfl.start(job), Call)
