"""What DashScope's wire cases cannot show: large pictures on their way through its storage, hosts, snapshots."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tests.pictures import media
from translators import dashscope
from translators.base import Blob, Call, Fault, Inline, Job, Media, Reply, Step
from translators.dashscope import uploads

POLICY = {
    "policy": "cG9s", "signature": "s=", "upload_dir": "dashscope-instant/a/b",
    "upload_host": "https://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com", "expire_in_seconds": 300,
    "max_file_size_mb": 100, "oss_access_key_id": "LTAI", "x_oss_object_acl": "private",
    "x_oss_forbid_overwrite": "true",
}  # fmt: skip


def heavy(fill: bytes) -> Media:
    """A picture by its weight alone."""
    chunks = (fill * (1 << 20),) * 7
    return Media(blob=Blob(chunks, 7 << 20), type="image/jpeg", width=4000, height=3000)


def name_of(picture: Media) -> str:
    return f"dashscope-instant/a/b/{hashlib.sha256(picture.blob.bytes()).hexdigest()}.jpeg"


@dataclass
class Talk:
    """A job on its way."""

    job: Job
    at: Step | None = None

    def begin(self) -> Call:
        self.at = dashscope.start(self.job)
        assert isinstance(self.at, Call)
        return self.at

    def hear(self, status: int = 200, data: bytes = b"") -> Call:
        assert isinstance(self.at, Call)
        reply = Reply(call=self.at, status=status, data=data)
        dashscope.check(reply)
        self.at = dashscope.step(self.job, reply)
        assert isinstance(self.at, Call)
        return self.at


def fields(call: Call) -> dict[str, Any]:
    return {part.name: part.value for part in call.form}


def granted() -> bytes:
    return msgspec.json.encode({"request_id": "r", "data": POLICY})


def test_large_pictures_are_stored_first_and_small_ones_are_not() -> None:
    one, two, small = heavy(b"1"), heavy(b"2"), media("red.png")
    talk = Talk(Job(op="edit", model="wan2.7-image", prompt="x", images=(one, small, two)))
    asking = talk.begin()
    assert (asking.method, asking.path, asking.repeatable) == ("GET", "/uploads", True)
    assert asking.query == {"action": "getPolicy", "model": "wan2.7-image"}

    first = talk.hear(data=granted())
    assert (first.method, first.path) == ("POST", POLICY["upload_host"])
    assert first.anonymous, "the storage must not see the key"
    assert first.repeatable
    assert [part.name for part in first.form] == [
        "OSSAccessKeyId", "Signature", "policy", "key", "x-oss-object-acl", "x-oss-forbid-overwrite",
        "success_action_status", "file",
    ]  # fmt: skip
    assert fields(first)["key"] == name_of(one)
    assert fields(first)["file"] is one

    second = talk.hear()
    assert fields(second)["file"] is two

    job = talk.hear(409, b"<Error><Code>FileAlreadyExists</Code></Error>")  # the same picture, stored before
    assert job.headers == {"X-DashScope-Async": "enable", "X-DashScope-OssResourceResolve": "enable"}
    content = job.json["input"]["messages"][0]["content"]
    assert content[0] == {"image": f"oss://{name_of(one)}"}
    assert isinstance(content[1]["image"], Inline)
    assert content[2:] == [{"image": f"oss://{name_of(two)}"}, {"text": "x"}]


def test_a_mask_goes_inline_beside_a_stored_picture() -> None:
    talk = Talk(Job(op="edit", model="wanx2.1-imageedit", prompt="x", images=(heavy(b"1"),), mask=media("white.png")))
    talk.begin()
    talk.hear(data=granted())
    given = talk.hear().json["input"]
    assert given["base_image_url"] == f"oss://{name_of(heavy(b'1'))}"
    assert isinstance(given["mask_image_url"], Inline)


@pytest.mark.parametrize(
    ("status", "data", "kind", "code"),
    [
        (403, b"<Error><Code>AccessDenied</Code></Error>", "upstream", "upload_failed"),
        (400, b"<Error><Code>EntityTooLarge</Code></Error>", "invalid", "image_too_large"),
        (500, b"", "upstream", "upload_failed"),
    ],
)
def test_a_storage_that_refuses_says_nothing_of_our_key(status: int, data: bytes, kind: str, code: str) -> None:
    talk = Talk(Job(op="edit", model="wan2.7-image", prompt="x", images=(heavy(b"1"),)))
    talk.begin()
    talk.hear(data=granted())
    with pytest.raises(Fault) as caught:
        talk.hear(status, data)
    assert (caught.value.kind, caught.value.code) == (kind, code)


def test_only_beijing_stores_pictures() -> None:
    site = {"region": "ap-southeast-1"}
    with pytest.raises(Fault) as caught:
        dashscope.start(Job(op="edit", model="wan2.7-image", prompt="x", images=(heavy(b"1"),), site=site))
    assert (caught.value.kind, caught.value.param) == ("invalid", "image")
    assert isinstance(
        dashscope.start(Job(op="edit", model="wan2.7-image", prompt="x", images=(media("red.png"),), site=site)), Call
    )


def test_a_picture_with_an_address_is_named_by_it() -> None:
    picture = msgspec.structs.replace(heavy(b"1"), url="https://pictor.example.org/a.jpg")
    call = dashscope.start(Job(op="edit", model="wan2.7-image", prompt="x", images=(picture,)))
    assert isinstance(call, Call)
    assert call.json["input"]["messages"][0]["content"][0] == {"image": "https://pictor.example.org/a.jpg"}


def test_what_may_stand_in_a_request_fits_there_as_base64() -> None:
    assert (uploads.INLINE + 2) // 3 * 4 + len("data:image/jpeg;base64,") <= 10_485_760


@pytest.mark.parametrize(
    ("site", "url"),
    [
        ({}, "https://dashscope.aliyuncs.com/api/v1"),
        ({"region": "ap-southeast-1"}, "https://dashscope-intl.aliyuncs.com/api/v1"),
        ({"region": "us-east-1"}, "https://dashscope-us.aliyuncs.com/api/v1"),
        ({"region": "cn-hongkong"}, "https://cn-hongkong.dashscope.aliyuncs.com/api/v1"),
        ({"region": "eu-central-1"}, ""),
        ({"region": "eu-central-1", "workspace": "ws-1"}, "https://ws-1.eu-central-1.maas.aliyuncs.com/api/v1"),
        ({"workspace": "llm-a_1"}, "https://llm-a_1.cn-beijing.maas.aliyuncs.com/api/v1"),
        ({"workspace": "evil.example/"}, ""),
        ({"base_url": "http://127.0.0.1:1/api/v1/"}, "http://127.0.0.1:1/api/v1"),
    ],
)
def test_where_it_is(site: dict[str, str], url: str) -> None:
    assert dashscope.base(site) == url


def test_a_snapshot_can_do_what_its_model_can() -> None:
    for model, snapshot in (
        ("qwen-image-2.0-pro", "2026-06-22"), ("qwen-image-max", "2025-12-30"), ("qwen-image-edit-plus", "2025-10-30"),
    ):  # fmt: skip
        assert dashscope.caps(f"{model}-{snapshot}") is dashscope.MODELS[model]
    assert dashscope.caps("qwen-image-9") is None
    assert dashscope.caps("wan2.7-t2v") is None


def test_every_model_that_edits_says_how() -> None:
    red = media("red.png")
    for model, caps in dashscope.MODELS.items():
        assert ("variation" in caps.ops) == ("edit" in caps.ops) == bool(caps.max_images)
        job = Job(op="edit", model=model, prompt="x", images=(red,) * caps.max_images)
        call = dashscope.start(job)
        assert isinstance(call, Call)
        inlined = sum(isinstance(each, Inline) for each in walked(call.json))
        assert inlined == caps.max_images, model


def walked(value: Any) -> list[Any]:
    """Everything in a JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(each for item in inner for each in walked(item))]
