"""What fal's wire cases cannot show: large pictures, which are uploaded first, the two routes, ids, the credential."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.pictures import media
from translators import fal
from translators.base import Call, Fault, Job, Media, Reply, Secret, Stamp, Wait, blob
from translators.fal.models import MODELS, ROUTES, shape

SMALL = media("red.png")
LARGE = Media(blob=blob(b"\0" * 1_000_001), type="image/jpeg", width=2000, height=1000)
MASK = Media(blob=blob(b"\1" * 1_000_001), type="image/png", width=2000, height=1000)
BASE = "https://storage.example/"


def answered(call: Call, body: object = None, status: int = 200) -> Reply:
    return Reply(call=call, status=status, data=b"" if body is None else json.dumps(body).encode())


def called(step: object) -> Call:
    assert isinstance(step, Call)
    return step


def test_large_pictures_are_uploaded_one_after_the_other() -> None:
    job = Job(op="edit", model="fal-ai/flux-2", prompt="x", images=(SMALL, LARGE, LARGE))
    call = called(fal.start(job))
    for number in (1, 2):
        assert (call.method, call.path) == ("POST", "https://rest.fal.ai/storage/upload/initiate")
        assert call.query == {"storage_type": "gcs"}
        assert call.json == {"file_name": "image.jpeg", "content_type": "image/jpeg"}
        place = {"upload_url": f"{BASE}{number}?sig=x", "file_url": f"https://v3.fal.media/files/{number}.jpeg"}
        put = called(fal.step(job, answered(call, place)))
        assert (put.method, put.path, put.media, put.anonymous) == ("PUT", f"{BASE}{number}?sig=x", LARGE, True)
        call = called(fal.step(job, answered(put)))
    assert call.path == "/fal-ai/flux-2/edit"
    assert not call.repeatable
    first, *rest = call.json["image_urls"]
    assert first.media is SMALL
    assert rest == ["https://v3.fal.media/files/1.jpeg", "https://v3.fal.media/files/2.jpeg"]


def test_a_large_mask_is_the_last_upload() -> None:
    job = Job(op="edit", model="fal-ai/flux-pro/v1/fill", prompt="x", images=(SMALL,), mask=MASK)
    call = called(fal.start(job))
    assert call.json["content_type"] == "image/png"
    put = called(fal.step(job, answered(call, {"upload_url": f"{BASE}m", "file_url": "https://v3.fal.media/m"})))
    assert put.media is MASK
    sent = called(fal.step(job, answered(put))).json
    assert (sent["image_url"].media, sent["mask_url"]) == (SMALL, "https://v3.fal.media/m")


def test_a_refused_upload_is_a_fault() -> None:
    job = Job(op="edit", model="fal-ai/flux-2", prompt="x", images=(LARGE,))
    call = called(fal.start(job))
    with pytest.raises(Fault) as caught:
        fal.check(answered(call, {"detail": "No user found for Key ID and Secret"}, status=401))
    assert caught.value.kind == "auth"


def test_the_routes_differ_in_their_host_only() -> None:
    assert fal.base({}) == "https://queue.fal.run"
    assert fal.base({"route": "sync"}) == "https://fal.run"
    assert fal.base({"route": "sync", "base_url": "http://lab:8000/"}) == "http://lab:8000"
    job = Job(op="edit", model="fal-ai/flux-2", prompt="x", images=(LARGE,), site={"base_url": "http://lab:8000"})
    assert called(fal.start(job)).path == "/storage/upload/initiate"


def test_the_key_is_no_bearer() -> None:
    signed = fal.sign(Call(path="https://queue.fal.run/x"), Secret("id:secret"), Stamp(datetime.now(UTC), "n"))
    assert signed.headers == {"Authorization": "Key id:secret"}


@pytest.mark.parametrize("model", ["flux", "../etc", "a/..", "fal-ai/../../x", "fal-ai/x?y=1", "https://fal.run/x/y"])
def test_what_is_no_endpoint(model: str) -> None:
    assert fal.caps(model) is None


def test_an_endpoint_that_is_not_known_takes_anything() -> None:
    one, many, paints = map(fal.caps, ("me/app", "fal-ai/new/edit", "fal-ai/new/inpainting"))
    assert one
    assert many
    assert paints
    assert "*" in one.options
    assert (one.max_images, many.max_images) == (1, 10)
    assert paints.mask == "white-edits"


def test_every_endpoint_takes_as_many_pictures_as_it_says() -> None:
    """A model that lists several pictures has a field that holds several, on the endpoint that is asked then."""
    for model, caps in MODELS.items():
        for count in range(1, caps.max_images + 1):
            mask = SMALL if caps.mask_required else None
            job = Job(op="edit", model=model, prompt="x", images=(SMALL,) * count, mask=mask)
            names = shape(fal.endpoint(job))
            assert names.image.endswith("urls") or count == 1, model
        assert caps.ops <= {"generate", "edit", "variation"}


def test_every_route_leads_to_an_endpoint_that_is_listed() -> None:
    for model, route in ROUTES.items():
        for mask in (None, SMALL):
            for count in (0, 1, 2):
                job = Job(op="edit", model=model, images=(SMALL,) * count, mask=mask if count else None)
                assert fal.endpoint(job) in MODELS, (model, route)


def test_a_poll_survives_a_restart_with_the_address_of_its_result() -> None:
    job = Job(op="generate", model="fal-ai/flux-2", prompt="x")
    call = called(fal.start(job))
    step = fal.step(
        job, answered(call, {"request_id": "r", "status_url": "https://queue.fal.run/a/b/requests/r/status"})
    )
    assert isinstance(step, Wait)
    assert step.call.state == "https://queue.fal.run/fal-ai/flux-2/requests/r"
