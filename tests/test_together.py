"""What Together AI's wire cases cannot show: ids, addresses, and which field takes a model's pictures."""

from __future__ import annotations

import pytest

from tests.pictures import media
from translators import together
from translators.base import Call, Job

PICTURE = media("red.png")


def test_every_model_gets_its_pictures_in_one_field() -> None:
    for model, caps in together.MODELS.items():
        for count in range(1, caps.max_images + 1):
            call = together.start(Job(op="edit", model=model, prompt="x", images=(PICTURE,) * count))
            assert isinstance(call, Call)
            fields = {"image_url", "reference_images"} & call.json.keys()
            assert len(fields) == 1
            assert count == 1 or fields == {"reference_images"}


@pytest.mark.parametrize("model", ["FLUX", "a/b?c", "a/b c", "", "https://x/y"])
def test_what_is_no_model(model: str) -> None:
    assert together.caps(model) is None


def test_older_models_and_dedicated_ones_are_asked_by_their_names() -> None:
    for model in ("black-forest-labs/FLUX.1-schnell", "me/mine-1a2b", "me/org/model:v2"):
        caps = together.caps(model)
        assert caps
        assert caps.note


def test_another_address() -> None:
    assert together.base({}) == "https://api.together.ai/v1"
    assert together.base({"base_url": "https://api.together.xyz/v1/"}) == "https://api.together.xyz/v1"
