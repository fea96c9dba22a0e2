"""What Stability AI's wire cases cannot show: names that are not listed, and that every listed model can be asked."""

from __future__ import annotations

import pytest

from tests.pictures import media
from translators import stability
from translators.base import Call, Fault, Job

PHOTO = media("photo.jpg")  # 24x16


def test_models_that_became_others_are_known() -> None:
    assert stability.caps("sd3-medium") is stability.MODELS["sd3.5-medium"]
    assert stability.caps("sd3-large-turbo") is stability.MODELS["sd3.5-large-turbo"]
    assert stability.caps("sd9") is None


@pytest.mark.parametrize("model", stability.MODELS)
def test_every_model_can_be_asked_for_all_that_it_lists(model: str) -> None:
    caps = stability.MODELS[model]
    needs = {"search_prompt", "select_prompt"} & caps.options
    for op in caps.ops:
        call = stability.start(
            Job(
                op=op, model=model, prompt="a cat" if caps.prompt_chars else "",
                images=() if op == "generate" else (PHOTO,) * max(caps.max_images, 1),
                mask=media("white.png") if caps.mask != "none" and op == "edit" else None,
                size=(64, 64) if caps.free else None, options=dict.fromkeys(needs, "a dog"),
            )
        )  # fmt: skip
        assert isinstance(call, Call)
        assert call.headers["Accept"] == "application/json"
        files = sum(part.value is PHOTO for part in call.form)
        assert files == (0 if op == "generate" else max(caps.max_images, 1))


@pytest.mark.parametrize("user", ["é", "x" * 257, "a\r\nHost: b"])
def test_what_is_no_header_is_refused(user: str) -> None:
    with pytest.raises(Fault) as caught:
        stability.start(Job(op="generate", model="core", prompt="a cat", user=user))
    assert (caught.value.kind, caught.value.param) == ("invalid", "user")
