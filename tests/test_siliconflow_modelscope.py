"""What SiliconFlow's and ModelScope's wire cases cannot show: hosts, and which models there are."""

from __future__ import annotations

import pytest

from tests.pictures import media
from translators import modelscope, siliconflow
from translators.base import Call, Caps, Job


def test_where_they_are() -> None:
    assert siliconflow.base({}) == "https://api.siliconflow.cn/v1"
    assert siliconflow.base({"region": "com"}) == "https://api.siliconflow.com/v1"
    assert siliconflow.base({"base_url": "http://127.0.0.1:1/v1/"}) == "http://127.0.0.1:1/v1"
    assert modelscope.base({}) == "https://api-inference.modelscope.cn/v1"
    assert modelscope.base({"region": "intl"}) == "https://api-inference.modelscope.ai/v1"
    assert modelscope.base({"base_url": "http://127.0.0.1:1/v1/"}) == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize("model", ["stabilityai/stable-diffusion-3-5-large", "deepseek-ai/Janus-Pro-7B", "Kolors"])
def test_removed_models_are_unknown(model: str) -> None:
    assert siliconflow.caps(model) is None


@pytest.mark.parametrize(
    ("model", "caps"),
    [
        ("Qwen/Qwen-Image-Edit-2603", modelscope.QWEN_FUSE),
        ("someone/Qwen-Image-Lightning", modelscope.QWEN),
        ("someone/my_flux_merge", modelscope.FLUX),
        ("someone/anime-edit", modelscope.ANY_EDIT),
        ("AI-ModelScope/stable-diffusion-xl-base-1.0", modelscope.ANY),
        ("qwen-image", None),
        ("a/b/c", None),
        ("/b", None),
        ("a/", None),
    ],
)
def test_any_repository_is_taken_for_what_its_name_says(model: str, caps: Caps | None) -> None:
    assert modelscope.caps(model) is caps


def test_every_model_that_edits_sends_as_many_pictures_as_it_lists() -> None:
    red = media("red.png")
    for model, caps in siliconflow.MODELS.items():
        assert ("variation" in caps.ops) == ("edit" in caps.ops) == bool(caps.max_images)
        call = siliconflow.start(Job(op="edit", model=model, prompt="x", images=(red,) * caps.max_images))
        assert isinstance(call, Call)
        assert sum("image" in name for name in call.json) == caps.max_images
