"""What Jimeng's wire cases cannot show: signatures as the service checks them, and pictures by address."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tests.pictures import media
from translators import jimeng
from translators.base import Call, Job, Reply, Secret, Stamp, Wait

PHOTO = media("photo.jpg")  # 24x16
STAMP = Stamp(datetime(2026, 11, 20, 12, tzinfo=UTC), "n")
KEYS = {"access_key": "AKLTexampleaccesskeyid", "secret_key": "c2VjcmV0LWtleS1mb3ItdGVzdHM="}


def signed(call: Call, secret: Secret) -> Call:
    return jimeng.sign(replace(call, path="https://visual.volcengineapi.com/"), secret, STAMP)


@pytest.mark.parametrize("secret", [Secret("", extra=KEYS), Secret("|".join(KEYS.values()))], ids=["two", "joined"])
def test_what_is_sent_is_signed_as_the_vendor_signs_it(secret: Secret) -> None:
    job = Job(op="generate", model="jimeng_t2i_v40", prompt="a red panda")
    submit = jimeng.start(job)
    assert isinstance(submit, Call)
    reply = Reply(call=submit, status=200, data=b'{"code":10000,"data":{"task_id":"7392616336519610409"}}')
    waiting = jimeng.step(job, reply)
    assert isinstance(waiting, Wait)
    found = [signed(call, secret).headers["Authorization"].rpartition("=")[2] for call in (submit, waiting.call)]
    assert found == [
        "6eb1de52481676a8d1899577d282d822a521f6f9a614de028076c66c912d664b",
        "c473921c7f5490b344136b70691df65a0d2a7e8ac38ca4f8f9acd20b2c6d3578",
    ]


def test_a_session_token_is_sent_and_signed() -> None:
    call = jimeng.start(Job(op="generate", model="jimeng_t2i_v40", prompt="a red panda"))
    assert isinstance(call, Call)
    headers = signed(call, Secret("", extra=KEYS | {"session_token": "STSexampletoken"})).headers
    assert headers["X-Security-Token"] == "STSexampletoken"
    assert headers["Authorization"].endswith("=5c03f414a024632e0b44355ee4bd4e60ffae56341484dea73a3bb5586a0efd79")


def test_pictures_with_an_address_are_sent_by_it() -> None:
    images = tuple(replace(PHOTO, url=f"https://pictor.example/outputs/{name}") for name in "ab")
    call = jimeng.start(Job(op="edit", model="jimeng_seedream46_cvtob", prompt="x", images=images))
    assert isinstance(call, Call)
    assert call.json["image_urls"] == ["https://pictor.example/outputs/a", "https://pictor.example/outputs/b"]
    assert "binary_data_base64" not in call.json


def test_there_is_one_address() -> None:
    assert jimeng.base({}) == "https://visual.volcengineapi.com"
    assert jimeng.caps("jimeng_t2i_v99") is None


@pytest.mark.parametrize("model", jimeng.MODELS)
def test_every_model_can_be_asked_for_all_that_it_says(model: str) -> None:
    caps = jimeng.MODELS[model]
    images = (PHOTO,) * caps.max_images
    mask = media("white.png") if caps.mask != "none" else None
    size = (1328, 1328) if caps.free else None
    for op in sorted(caps.ops):
        given: dict[str, Any] = {} if op == "generate" else {"images": images, "mask": mask}
        for resolution in caps.resolutions or (None,):
            job = Job(op=op, model=model, prompt="x", size=None if resolution else size, resolution=resolution, **given)
            assert isinstance(jimeng.start(job), Call)
