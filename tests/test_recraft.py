"""What Recraft's wire cases cannot show: names that are not listed, and that every listed model can be asked."""

from __future__ import annotations

import pytest

from tests.pictures import media
from translators import recraft
from translators.base import Call, Job, Op

PHOTO = (media("photo.jpg"),)  # 24x16


def test_older_and_longer_names_are_known() -> None:
    assert recraft.caps("recraftv3_raster") is recraft.MODELS["recraftv3"]
    assert recraft.caps("recraft20b") == recraft.MODELS["recraftv2"]
    assert recraft.caps("refm1") == recraft.MODELS["recraftv2"]
    assert recraft.caps("recraftv9") is None


@pytest.mark.parametrize("model", recraft.MODELS)
def test_every_model_can_be_asked_for_all_that_it_lists(model: str) -> None:
    caps = recraft.MODELS[model]
    for op in caps.ops:
        call = recraft.start(job(op, model))
        assert isinstance(call, Call)
        assert ("image_format" in call.json) == (caps.formats != ("svg",) and model != "explore-similar")
        assert ("prompt" in call.json) == (caps.prompt_chars > 0 and not call.path.endswith("variateImage"))


def job(op: Op, model: str) -> Job:
    caps = recraft.MODELS[model]
    return Job(
        op=op, model=model, prompt="a cat" if caps.prompt_chars else "", images=() if op == "generate" else PHOTO,
        mask=media("white.png") if caps.mask_required else None, size=(64, 64) if caps.free else None,
        style="icon" if "style" in caps.params else None,
        options={"source_image_id": "a"} if "source_image_id" in caps.options else {},
    )  # fmt: skip


@pytest.mark.parametrize("model", ["recraftv4_1", "recraftv4_1_vector"])
@pytest.mark.parametrize("name", ["red.png", "photo.jpg"])
def test_a_variation_has_the_shape_of_its_picture(model: str, name: str) -> None:
    call = recraft.start(Job(op="variation", model=model, images=(media(name),)))
    assert isinstance(call, Call)
    assert call.json["size"] == {"red.png": "1:1", "photo.jpg": "3:2"}[name]
