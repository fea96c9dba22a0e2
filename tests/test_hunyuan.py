"""What Tencent's wire cases cannot show: credentials, addresses, and what is refused before anything is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tests.pictures import media
from translators import hunyuan
from translators.base import Call, Fault, Job, Reply, Secret, Stamp, Wait

PHOTO = media("photo.jpg")  # 24x16
STAMP = Stamp(datetime.fromtimestamp(1700000000, UTC), "n")
KEYS = {"secret_id": "AKIDEXAMPLE0000000000000000000000000", "secret_key": "SecretKeyExample0000000000000000"}
HUB = Job(op="generate", model="hy-image-v3", prompt="x")
CLOUD = Job(op="generate", model="SubmitHunyuanImageJob", prompt="x")


def call_of(job: Job) -> Call:
    made = hunyuan.start(job)
    assert isinstance(made, Call)
    return made


def polling(job: Job) -> Call:
    submit = call_of(job)
    waiting = hunyuan.step(job, Reply(call=submit, status=200, data=b'{"Response":{"JobId":"1253-1-0"}}'))
    assert isinstance(waiting, Wait)
    return waiting.call


def test_what_is_sent_is_signed_as_the_vendor_signs_it() -> None:
    headers = hunyuan.sign(polling(CLOUD), Secret("", extra=KEYS), STAMP).headers
    assert headers["X-TC-Timestamp"] == "1700000000"
    assert headers["Authorization"] == (
        f"TC3-HMAC-SHA256 Credential={KEYS['secret_id']}/2023-11-14/hunyuan/tc3_request, "
        "SignedHeaders=content-type;host, Signature=760cbee8b49bc9047b0c0512bd78b5a79e8a56b7763f444c4d9a3a19e19d5df9"
    )


def test_a_session_token_goes_along() -> None:
    secret = Secret("k", extra=KEYS | {"session_token": "t"})
    assert hunyuan.sign(call_of(CLOUD), secret, STAMP).headers["X-TC-Token"] == "t"
    assert hunyuan.sign(call_of(HUB), secret, STAMP).headers == {"Authorization": "Bearer k"}


@pytest.mark.parametrize(
    ("job", "secret", "named"),
    [
        (HUB, Secret("", extra=KEYS), "api_key"),
        (CLOUD, Secret("k"), "secret_id"),
        (CLOUD, Secret("k", extra={"secret_id": "i"}), "secret_key"),
    ],
)
def test_neither_credential_stands_in_for_the_other(job: Job, secret: Secret, named: str) -> None:
    with pytest.raises(Fault, match=named) as caught:
        hunyuan.sign(call_of(job), secret, STAMP)
    assert caught.value.kind == "permission"


@pytest.mark.parametrize(
    ("model", "site", "path"),
    [
        ("SubmitHunyuanImageJob", {}, "https://hunyuan.tencentcloudapi.com/"),
        ("RefineImage", {"region": "cn"}, "https://aiart.tencentcloudapi.com/"),
        ("RefineImage", {"region": "intl"}, "https://aiart.intl.tencentcloudapi.com/"),
        ("SubmitHunyuanImageJob", {"region": "intl"}, "https://hunyuan.tencentcloudapi.com/"),
        ("RefineImage", {"base_url": "https://tokenhub-intl.tencentmaas.com"}, "https://aiart.tencentcloudapi.com/"),
        ("RefineImage", {"base_url": "http://127.0.0.1:8080"}, "/"),
    ],
)
def test_where_actions_go(model: str, site: dict[str, str], path: str) -> None:
    images = (PHOTO,) if model == "RefineImage" else ()
    assert call_of(Job(op="edit" if images else "generate", model=model, images=images, site=site)).path == path


def test_where_tokenhub_is() -> None:
    assert hunyuan.base({}) == hunyuan.base({"region": "cn"}) == "https://tokenhub.tencentmaas.com"
    assert hunyuan.base({"region": "intl"}) == "https://tokenhub-intl.tencentcloudmaas.com"
    assert hunyuan.base({"base_url": "http://127.0.0.1:8080"}) == "http://127.0.0.1:8080"


def test_the_clouds_region_can_be_set() -> None:
    assert call_of(replace(CLOUD, site={"cloud_region": "ap-beijing"})).headers["X-TC-Region"] == "ap-beijing"


def test_a_background_is_replaced_by_address() -> None:
    product = replace(PHOTO, url="https://pictor.example/outputs/a")
    mask = replace(media("mask.png"), url="https://pictor.example/outputs/b")
    said = call_of(Job(op="edit", model="ReplaceBackground", prompt="a desk", images=(product,), mask=mask)).json
    assert (said["ProductUrl"], said["MaskUrl"]) == (product.url, mask.url)


def test_a_job_is_not_asked_about_for_ever() -> None:
    call = polling(CLOUD)
    data = b'{"Response":{"Error":{"Code":"InternalError","Message":"internal error"}}}'
    for _ in range(5):
        reply = Reply(call=call, status=200, data=data)
        hunyuan.check(reply)
        waiting = hunyuan.step(CLOUD, reply)
        assert isinstance(waiting, Wait)
        call = waiting.call
    with pytest.raises(Fault, match="internal error"):
        hunyuan.check(Reply(call=call, status=200, data=data))


def test_models_that_the_configuration_alone_knows() -> None:
    assert call_of(replace(HUB, model="hy-image-v4")).path == "/v1/wand/hunyuan-image/v3-generation"
    assert call_of(replace(CLOUD, model="TextToImageFast")).headers["X-TC-Action"] == "TextToImageFast"
    assert hunyuan.caps("hy-image-v4") is None


@pytest.mark.parametrize("model", hunyuan.MODELS)
def test_every_model_can_be_asked_for_all_that_it_says(model: str) -> None:
    caps = hunyuan.MODELS[model]
    image = replace(PHOTO, url="https://pictor.example/outputs/a") if caps.inputs == "url" else PHOTO
    mask = replace(media("white.png"), url="https://pictor.example/outputs/b") if caps.mask_required else None
    ratio = caps.ratios[0] if caps.ratios else None
    for op in sorted(caps.ops):
        given: dict[str, Any] = {} if op == "generate" else {"images": (image,) * caps.max_images, "mask": mask}
        for size in ((1024, 1024), None) if caps.sizes or caps.free else (None,):
            job = Job(op=op, model=model, prompt="x", n=caps.max_n, size=size, ratio=ratio, **given)
            assert call_of(job).json
