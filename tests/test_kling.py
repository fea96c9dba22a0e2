"""What Kling's wire cases cannot show: its two credentials, its sites, and what every model says of itself."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from msgspec.structs import replace

from tests.fakes.kling import ACCESS_KEY, SECRET_KEY, Refused, authorized
from tests.pictures import media
from translators import kling
from translators.base import Call, Done, Fault, Finder, Job, Reply, Secret, Stamp, Wait

PHOTO = (media("photo.jpg"),)  # 24x16
KEYS = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}


def signed(secret: Secret, now: datetime) -> str:
    call = kling.sign(Call(path="https://api-singapore.klingai.com/v1/images/generations"), secret, Stamp(now, "n"))
    return call.headers["Authorization"]


def test_an_api_key_is_the_token() -> None:
    assert signed(Secret("k"), datetime.now(UTC)) == "Bearer k"
    assert signed(Secret("k", extra=KEYS), datetime.now(UTC)) == "Bearer k", "it works everywhere, the others do not"


def test_access_keys_make_a_token_that_the_service_takes() -> None:
    authorized(signed(Secret("", extra=KEYS), datetime.now(UTC)))


@pytest.mark.parametrize(
    ("keys", "now", "code"),
    [
        (KEYS | {"secret_key": "other"}, datetime.now(UTC), 1002),
        (KEYS, datetime(2023, 11, 14, tzinfo=UTC), 1004),
        (KEYS, datetime(2099, 1, 1, tzinfo=UTC), 1003),
    ],
)
def test_the_service_refuses_another_secret_and_another_time(keys: dict[str, str], now: datetime, code: int) -> None:
    with pytest.raises(Refused) as caught:
        authorized(signed(Secret("", extra=keys), now))
    assert caught.value.code == code


def test_a_region_keeps_its_host() -> None:
    assert kling.base({}) == kling.base({"region": "global"}) == "https://api-singapore.klingai.com"
    assert kling.base({"region": "cn"}) == "https://api-beijing.klingai.com"


@pytest.mark.parametrize("model", ["kling-v1", "kling-v1-5", "kling-v2", "kling-v2-new"])
def test_discontinued_models_are_unknown(model: str) -> None:
    assert kling.caps(model) is None


@pytest.mark.parametrize("model", kling.MODELS)
def test_every_model_takes_as_many_pictures_as_it_says(model: str) -> None:
    caps = kling.MODELS[model]
    job = Job(op="edit", model=model, prompt="x", images=PHOTO * caps.max_images, size=(36, 24) if caps.free else None)
    assert isinstance(kling.start(job), Call)


def test_a_long_prompt_is_not_made_too_long_by_the_names_of_pictures() -> None:
    call = kling.start(Job(op="edit", model="kling-image-o1", prompt="x" * 2490, images=PHOTO * 2))
    assert isinstance(call, Call)
    assert call.json["prompt"] == "x" * 2490


# ---- a task whose submit had no answer

TASK = {"task_id": "8319", "task_info": {"external_task_id": "task_1-1"}}
MARKED = Job(op="generate", model="kling-v3", prompt="x", mark="task_1-1")


def looked(job: Job, status: int, body: object) -> Wait | Done | None:
    call = kling.look(job)
    assert call
    assert (call.method, call.path) == ("GET", "/v1/images/generations/task_1-1")
    reply = Reply(call=call, status=status, data=msgspec.json.encode(body))
    kling.check(reply)
    found = kling.found(job, reply)
    assert not isinstance(found, Call)
    return found


def test_a_task_bears_our_name_and_is_found_by_it() -> None:
    call = kling.start(MARKED)
    assert isinstance(call, Call)
    assert call.json["external_task_id"] == "task_1-1"
    going = looked(MARKED, 200, {"code": 0, "data": {**TASK, "task_status": "submitted"}})
    assert isinstance(going, Wait)
    assert going.queued
    assert going.call == Call(method="GET", path="/v1/images/generations/task_1-1", repeatable=True)
    images = {"images": [{"url": "https://x.test/1.png"}]}
    done = looked(MARKED, 200, {"code": 0, "data": {**TASK, "task_status": "succeed", "task_result": images}})
    assert isinstance(done, Done)


def test_what_was_never_submitted_is_not_found() -> None:
    assert looked(MARKED, 404, {"code": 1203, "message": "The requested task does not exist"}) is None
    assert looked(MARKED, 400, {"code": 1201, "message": "Task not found"}) is None
    with pytest.raises(Fault) as caught:
        looked(MARKED, 503, {"code": 5001, "message": "Server is busy"})
    assert caught.value.kind == "overloaded"


def test_a_task_that_bears_no_name_of_ours_cannot_be_looked_for() -> None:
    assert isinstance(kling, Finder)
    assert kling.look(replace(MARKED, mark=None)) is None
    assert kling.look(replace(MARKED, options={"external_task_id": "mine"})) is None
    assert kling.look(replace(MARKED, op="edit", model="kling-v2-1")) is None, "its pictures would tell where it went"
    assert kling.look(replace(MARKED, op="edit"))
    combined = replace(MARKED, op="edit", model="kling-v2-1", images=PHOTO * 2)
    assert kling.look(combined) is None
    call = kling.start(combined)
    assert isinstance(call, Call)
    assert "external_task_id" not in call.json
