"""What recorded conversations cannot show of Volcengine Ark: that its tables hold what they promise."""

from __future__ import annotations

import pytest

from translators import volcengine
from translators.base import Caps, Fault, Job

SIZED = [caps for caps in {id(caps): caps for caps in volcengine.MODELS.values()}.values() if caps.ratios]


@pytest.mark.parametrize("caps", [*SIZED, volcengine.ANY])
def test_recommended_sizes_are_legal(caps: Caps) -> None:
    assert caps.free
    assert {f"{ratio}@{tier}" for ratio in caps.ratios for tier in caps.resolutions} == caps.pixels_of.keys()
    for name, (width, height) in caps.pixels_of.items():
        wide, high = map(int, name.partition("@")[0].split(":"))
        assert caps.free.pixels[0] <= width * height <= caps.free.pixels[1], name
        assert width / height == pytest.approx(wide / high, rel=0.03), name


def test_where_it_is() -> None:
    assert volcengine.base({}) == "https://ark.cn-beijing.volces.com/api/v3"
    assert volcengine.base({"region": "eu-west"}) == "https://ark.eu-west.bytepluses.com/api/v3"
    assert volcengine.base({"base_url": "http://127.0.0.1:1/api/v3/"}) == "http://127.0.0.1:1/api/v3"


def test_which_models_there_are() -> None:
    assert volcengine.caps("doubao-seedream-4-0-250828") is volcengine.caps("seedream-4-0-250828")
    assert volcengine.caps("ep-20261120123456-abcde") is volcengine.ANY
    assert volcengine.caps("seededit-3-0-i2i-250628") is None  # shut down there


def test_a_ratio_without_a_size_is_refused() -> None:
    """A model that the configuration gives more ratios than the vendor's table has."""
    with pytest.raises(Fault) as caught:
        volcengine.start(Job(op="generate", model="doubao-seedream-4-0-250828", prompt="x", ratio="7:5"))
    assert (caught.value.kind, caught.value.param) == ("invalid", "aspect_ratio")
