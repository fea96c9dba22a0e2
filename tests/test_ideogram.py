"""What Ideogram's wire cases cannot show: the credential, mask polarity, and that every listed model can be asked."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.pictures import media
from translators import ideogram
from translators.base import Call, Job, Part, Secret, Stamp

PHOTO = media("photo.jpg")  # 24x16


def test_the_key_goes_into_its_own_header() -> None:
    signed = ideogram.sign(Call(path="https://api.ideogram.ai/generate"), Secret("k"), Stamp(datetime.now(UTC), "n"))
    assert signed.headers == {"Api-Key": "k"}


def test_black_is_edited_but_for_removing() -> None:
    """The reverse of most vendors, and of the one path here that removes."""
    rules = {model: caps.mask for model, caps in ideogram.MODELS.items() if caps.mask != "none"}
    assert rules.pop("remove-object") == "white-edits"
    assert set(rules.values()) == {"black-edits"}
    assert len(rules) == 3


@pytest.mark.parametrize("model", ideogram.MODELS)
def test_every_model_can_be_asked_for_all_that_it_lists(model: str) -> None:
    caps = ideogram.MODELS[model]
    for op in caps.ops:
        images = () if op == "generate" else (PHOTO,) * caps.max_images
        call = ideogram.start(
            Job(
                op=op, model=model, prompt="a cat" if caps.prompt_chars else "", images=images,
                mask=media("white.png") if caps.mask_required else None, ratio=caps.ratios[0] if caps.ratios else None,
                size=caps.sizes[0] if caps.sizes and not caps.ratios else None,
                quality=caps.qualities[0] if caps.qualities else None,
            )
        )  # fmt: skip
        assert isinstance(call, Call)
        assert [part.value for part in call.form if part.value is PHOTO] == list(images)
        assert ":" not in str(texts(call.form).get("aspect_ratio", ""))


@pytest.mark.parametrize(
    ("model", "speed"), [("ideogram-3", "TURBO"), ("ideogram-4", "turbo"), ("ideogram-4-transparent", "turbo")]
)
def test_only_the_older_paths_shout(model: str, speed: str) -> None:
    call = ideogram.start(Job(op="generate", model=model, prompt="a cat", quality="turbo"))
    assert isinstance(call, Call)
    assert texts(call.form)["rendering_speed"] == speed


def texts(form: tuple[Part, ...]) -> dict[str, object]:
    return {part.name: part.value for part in form}
