"""What LiblibAI's wire cases cannot show: its signature in a call, pictures by their addresses, what a name may be."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from tests.fakes.liblib_bodies import FAMILIES
from tests.pictures import media
from translators import liblib
from translators.base import Call, Fault, Job, Lora, Media, Secret, Stamp, blob
from translators.liblib.bodies import inside, nearest
from translators.liblib.models import MODELS, WAYS

AT = "https://pictor.example/v1/outputs"
CHECKPOINT = "0ea388c7eb854be3ba3c6f65aac6bfd3"


def published(name: str, at: str) -> Media:
    return msgspec.structs.replace(media(name), url=f"{AT}/{at}")


SECRET = "KppKsn7ezZxhi6lIDjbo7YyVYzanSu2d"


@pytest.mark.parametrize(
    "secret",
    [Secret("", extra={"access_key": "AK", "secret_key": SECRET}), Secret(f"AK|{SECRET}")],
    ids=["pair", "one"],
)
def test_a_signature_stands_in_the_query(secret: Secret) -> None:
    stamp = Stamp(datetime.fromtimestamp(1_790_000_000, UTC), "a1B2c3D4e5")
    call = Call(path="https://openapi.liblibai.cloud/api/generate/webui/text2img/ultra", json={})
    signed = liblib.sign(call, secret, stamp)
    assert signed.query == {
        "AccessKey": "AK", "Signature": "Caa_zl-3GFuupdiV-aJNRC7mqL8", "Timestamp": "1790000000000",
        "SignatureNonce": "a1B2c3D4e5",
    }  # fmt: skip
    assert signed.path == call.path
    assert not signed.headers


def test_pictures_with_addresses_are_not_uploaded() -> None:
    job = Job(
        op="edit", model="sd", prompt="x", size=(512, 512), images=(published("red.png", "a"),),
        mask=published("white.png", "b"),
    )  # fmt: skip
    call = liblib.start(job)
    assert isinstance(call, Call)
    params = call.json["generateParams"]
    assert (params["sourceImage"], params["inpaintParam"]["maskImage"]) == (f"{AT}/a", f"{AT}/b")


def test_only_pictures_without_an_address_are_uploaded() -> None:
    images = (published("red.png", "a"), media("photo.jpg"), published("blue.png", "c"))
    call = liblib.start(Job(op="edit", model="seedream-4.0", prompt="x", images=images))
    assert isinstance(call, Call)
    assert (call.path, call.json["extension"]) == (liblib.UPLOAD, "jpg")
    call = liblib.onward(Job(op="edit", model="seedream-4.0", prompt="x", images=images), ("https://oss/b",))
    assert call.json["generateParams"]["referenceImages"] == [f"{AT}/a", "https://oss/b", f"{AT}/c"]


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("star-3-alpha", True), ("sd", True), (f"sd/{CHECKPOINT}", True), (f"f1/{CHECKPOINT}", True),
        (f"comfyui/{CHECKPOINT}", True), ("comfyui", False), (f"star-3-alpha/{CHECKPOINT}", False),
        (f"qwen-image/{CHECKPOINT}", False), ("sd/dreamshaper", False), ("sd/", True), ("star-4", False),
    ],
)  # fmt: skip
def test_names(model: str, known: bool) -> None:
    assert (liblib.caps(model) is not None) == known


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_its_ways(model: str) -> None:
    """What a model says it does, a path and a template do, and the fake knows both."""
    caps, ways = MODELS[model], WAYS[model]
    asked = ({"generate"} & caps.ops) | ({"edit"} & caps.ops) | ({"mask"} if caps.mask != "none" else set())
    assert asked == ways.keys()
    for way in ways.values():
        _, status = FAMILIES[way.path.removeprefix("/api/generate/"), way.template]
        assert way.status == f"/api/generate/{status}"
    if "edit" in caps.ops:
        images = tuple(published("photo.jpg", str(index)) for index in range(caps.max_images))
        assert isinstance(liblib.start(Job(op="edit", model=model, prompt="x", images=images)), Call)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": "sd", "loras": (Lora("a"),) * 6}, "loras"),
        ({"model": "sd", "guidance": 15.5}, "guidance"),
        ({"model": "qwen-image", "seed": 10_000_000_000}, "seed"),
        ({"model": "kontext-pro", "guidance": 0.5}, "guidance"),
        ({"model": "libdream", "guidance": 11.0}, "guidance"),
    ],
)
def test_numbers_beyond_the_range_are_named(more: dict[str, object], param: str) -> None:
    with pytest.raises(Fault) as caught:
        liblib.start(msgspec.structs.replace(Job(op="generate", model="", prompt="x"), **more))
    assert (caught.value.kind, caught.value.param) == ("invalid", param)


def test_a_heavy_mask_is_named() -> None:
    heavy = Media(blob=blob(bytes(4_000_001)), type="image/png", width=8, height=8)
    with pytest.raises(Fault) as caught:
        liblib.start(Job(op="edit", model="img1", prompt="x", images=(media("red.png"),), mask=heavy))
    assert caught.value.param == "mask"


@pytest.mark.parametrize("option", ["text", {"maskImage": "https://example.com/m.png"}, {"maskMode": 1}])
def test_the_mask_is_ours(option: object) -> None:
    job = Job(
        op="edit", model="sd", prompt="x", images=(published("red.png", "a"),), mask=published("white.png", "b"),
        options={"inpaintParam": option},
    )  # fmt: skip
    with pytest.raises(Fault) as caught:
        liblib.start(job)
    assert caught.value.param == "provider_options.inpaintParam"


@pytest.mark.parametrize(
    ("size", "expected"),
    [((24, 16), (192, 128)), ((4096, 2048), (2048, 1024)), ((8000, 16), (2048, 128)), ((1001, 999), (1000, 1000))],
)
def test_a_pictures_own_size_within_bounds(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = Media(blob=blob(b""), type="image/png", width=size[0], height=size[1])
    assert inside(picture, 128, 2048, 8) == expected


def test_the_nearest_ratio() -> None:
    assert nearest(media("photo.jpg"), MODELS["kontext-max"].ratios) == "3:2"
    assert nearest(Media(blob=blob(b""), type="image/png"), ("1:1",)) is None
