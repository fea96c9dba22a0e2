"""Calls that are answered with their task: `Prefer: respond-async`, and what can be done about a task that runs."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from aiohttp import web
from openai import AsyncOpenAI, AzureOpenAI, BaseModel, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from proxy.api.preferring import Preference, preference
from tests.fakes.base import GOOD_KEY, Seen, picture, running
from tests.fakes.bfl import Bfl
from tests.fakes.comfyui import ComfyUI
from tests.fakes.dashscope import Dashscope
from tests.fakes.fal import Fal
from tests.fakes.jimeng import Jimeng
from tests.fakes.replicate import Replicate
from tests.lab import TEXT, Lab, error, generate, lab, total, wait
from tests.server import KEY, Server, serving, stop

OTHER = "another-client-key"
HEADERS = {"Authorization": f"Bearer {KEY}"}
LATER = {"Prefer": "respond-async"}
PRICE = 0.03  # as the provider tells it
POLLED = "slow/flux-2-pro"


@dataclass
class Slow(Bfl):
    """Its pictures are done when the test says so; its polls can fail."""

    name: ClassVar[str] = "slow"

    go: threading.Event = field(default_factory=threading.Event)
    progress: float = 0.1
    down: bool = False

    async def poll(self, request: web.Request) -> web.Response:
        if self.down:
            return web.json_response({"detail": "Not allowed"}, status=402)
        task = self.tasks.get(request.query.get("id", ""))
        if task is not None and not self.go.is_set():
            return web.json_response({"id": "x", "status": "Pending", "result": None, "progress": self.progress})
        if task is not None:
            task.polls = 1
        return await super().poll(request)

    @property
    def submits(self) -> int:
        """How often something was to be made."""
        return sum(each.method == "POST" for each in self.seen)


@dataclass(frozen=True)
class Upstreams:
    """One that is polled, and one that answers with the picture."""

    slow: Slow
    lab: Lab


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    found = Upstreams(Slow(), Lab())
    with running(found.slow), running(found.lab):
        yield found
        found.slow.go.set()
        found.lab.go.set()


def configured(upstreams: Upstreams, **more: Any) -> dict[str, Any]:
    models = {"flux-2-pro": {"prices": [{"unit": "image", "amount": PRICE}]}}
    slow = {"translator": "bfl", "api_key": GOOD_KEY, "base_url": upstreams.slow.url, "models": models}
    keys = [{"name": "tests", "key": KEY, "admin": True, "tier": "pro"}, {"name": "other", "key": OTHER}]
    return {
        "providers": {"slow": slow, "narrow": {**slow, "concurrency": 1}, "lab": lab(upstreams.lab)},
        "auth": {"mode": "keys", "keys": keys},
        "prices": {"unknown": "allow"},
        "tiers": {"pro": {"budget_usd_per_month": 100}},
        "models": {"kept": {"targets": "lab/painter-kept", "cache": {"seconds": "1h"}}},
        **more,
    }


@contextmanager
def served(folder: Path, upstreams: Upstreams, **more: Any) -> Iterator[Server]:
    with serving(folder, **configured(upstreams, **more)) as server:
        yield server


@pytest.fixture
def server(upstreams: Upstreams, tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path, upstreams) as found:
        yield found


def call(server: Server, method: str, path: str, *, key: str = KEY, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", **more.pop("headers", {})}
    return httpx.request(method, f"{server.address}{path}", headers=headers, trust_env=False, timeout=30, **more)


def later(server: Server, prompt: str = "a boat", model: str = POLLED, **headers: str) -> dict[str, Any]:
    """The task that a call is answered with."""
    answer = generate(server, prompt, model, headers={**LATER, **headers})
    assert answer.status_code == 202, answer.text
    return told(answer)


def told(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    assert found["object"] == "task"
    return found


def task(server: Server, id: str) -> dict[str, Any]:
    return told(call(server, "GET", f"/v1/tasks/{id}"))


def status(server: Server, id: str) -> str:
    found: str = task(server, id)["status"]
    return found


def files(server: Server, id: str) -> list[bytes]:
    return [httpx.get(each["url"], trust_env=False).content for each in task(server, id)["outputs"]]


def spent(server: Server) -> float:
    account = call(server, "GET", "/v1/account").json()
    assert account["budgets"]["month"]["reserved_usd"] == 0
    found: float = account["budgets"]["month"]["spent_usd"]
    assert found == (account["usage"]["month"]["cost_usd"] or 0) + account["usage"]["month"]["wasted_usd"]
    return found


# What is preferred


PREFERENCES: list[tuple[list[str], Preference]] = [
    ([], Preference()),
    (["respond-async"], Preference(True)),
    (["Respond-ASYNC"], Preference(True)),
    (["respond-async, wait=10"], Preference(True, 10)),
    (["wait=10", "respond-async"], Preference(True, 10)),
    (['respond-async, WAIT="10"'], Preference(True, 10)),
    (["respond-async,wait = 10 ; foo=bar"], Preference(True, 10)),
    (['foo="respond-async, wait=3", respond-async'], Preference(True)),
    (['foo="a \\" , wait=3", respond-async; x="y, wait=4"; z'], Preference(True)),
    (["respond-async;wait=10"], Preference(True)),  # a parameter of it, which nobody knows
    (["respond-async, wait=10, wait=20"], Preference(True, 10)),
    (["respond-async, wait=999999999999"], Preference(True, 600)),
    (["respond-async, wait=0"], Preference(True, 0)),
    (["respond-async, wait=-1"], Preference(True)),
    (["respond-async, wait=soon"], Preference(True)),
    (["respond-async, wait=1.5"], Preference(True)),
    (["respond-async, wait=٣"], Preference(True)),
    (["respond-async, wait"], Preference(True)),
    (["respond-async="], Preference(True)),
    (["respond-async=no"], Preference()),
    (["wait=10"], Preference()),
    (["respond async"], Preference()),
    ([",, ,respond-async,"], Preference(True)),
    (['"respond-async'], Preference()),
    (["@@@, respond-async"], Preference(True)),
    (["return=minimal; foo"], Preference()),
]


@pytest.mark.parametrize(("headers", "wish"), PREFERENCES)
def test_what_headers_prefer(headers: list[str], wish: Preference) -> None:
    assert preference(headers) == wish


# A call that is answered with its task


def test_a_call_is_answered_with_its_task_and_made_beside(server: Server, upstreams: Upstreams) -> None:
    answer = generate(server, "a boat", POLLED, headers=LATER)
    assert answer.status_code == 202, answer.text
    found = told(answer)
    assert answer.headers["location"] == f"/v1/tasks/{found['id']}"
    assert answer.headers["x-pictor-task"] == found["id"]
    assert answer.headers["preference-applied"] == "respond-async"
    assert (answer.headers["retry-after"], answer.headers["openai-poll-after-ms"]) == ("1", "1000")
    assert found["status"] in {"queued", "in_progress"}
    assert (found["progress"], found["outputs"], found["completed_at"], found["cost_usd"]) == (0, [], None, None)
    wait(lambda: upstreams.slow.submits == 1)
    upstreams.slow.progress = 0.4
    wait(lambda: task(server, found["id"])["progress"] == 40)
    looked = call(server, "GET", answer.headers["location"])
    assert int(looked.headers["openai-poll-after-ms"]) >= 1000
    listed = call(server, "GET", f"/v1/tasks?ids={found['id']}")
    assert listed.headers["retry-after"] == looked.headers["retry-after"]
    assert listed.json()["data"][0]["progress"] == 40
    upstreams.slow.go.set()
    wait(lambda: status(server, found["id"]) == "completed")
    done = call(server, "GET", answer.headers["location"])
    assert not {"retry-after", "openai-poll-after-ms"} & done.headers.keys()
    assert "retry-after" not in call(server, "GET", f"/v1/tasks?ids={found['id']}").headers
    assert (told(done)["progress"], told(done)["cost_usd"]) == (100, PRICE)
    assert len(files(server, found["id"])) == 1
    assert spent(server) == PRICE


def test_who_waits_a_while_gets_the_pictures_if_they_are_there_by_then(server: Server, upstreams: Upstreams) -> None:
    answer = generate(server, "soon", "lab/painter-1", headers={"Prefer": "respond-async, wait=20"})
    assert (answer.status_code, answer.json()["data"]) == (200, [{"b64_json": TEXT}])
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.headers["x-pictor-model"] == "lab/painter-1"
    answer = generate(server, "a boat", POLLED, headers={"Prefer": "respond-async; x=y, Wait=1"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async, wait=1"
    refused = generate(server, "fault policy", "lab/painter-1", headers={"Prefer": "respond-async, wait=20"})
    assert error(refused, 400)["code"] == "moderation_blocked"
    assert status(server, refused.headers["x-pictor-task"]) == "failed"


def test_what_fails_later_is_told_by_the_task(server: Server) -> None:
    found = later(server, "fault policy", "lab/painter-1")
    wait(lambda: status(server, found["id"]) == "failed")
    failed = task(server, found["id"])
    assert failed["error"] == {
        "message": "The lab says no.", "type": "image_generation_user_error", "param": None,
        "code": "moderation_blocked",
    }  # fmt: skip
    assert not failed["resumable"]


def test_what_cannot_be_had_is_refused_at_once(server: Server, upstreams: Upstreams) -> None:
    refused = error(generate(server, "x", POLLED, headers=LATER, stream=True), 400)
    assert (refused["param"], refused["code"]) == ("stream", "invalid_value")
    assert error(generate(server, "x", POLLED, headers=LATER, n=0), 400)["param"] == "n"
    assert error(generate(server, "x", "nobody/knows", headers=LATER), 400)["param"] == "model"
    assert not upstreams.slow.submits
    assert call(server, "GET", "/v1/tasks").json()["data"] == []


def test_without_a_history_there_are_no_tasks(upstreams: Upstreams, tmp_path: Path) -> None:
    tiers: dict[str, Any] = {"pro": {}}
    with served(tmp_path, upstreams, history={"enabled": False}, tiers=tiers, models={}) as server:
        assert error(generate(server, "x", POLLED, headers=LATER), 400)["code"] == "history_disabled"
        for method, path in (("POST", "cancel"), ("POST", "resume"), ("GET", "events")):
            assert error(call(server, method, f"/v1/tasks/task_1/{path}"), 404)["code"] == "history_disabled"
    assert not upstreams.slow.submits


def test_every_path_takes_it(server: Server, upstreams: Upstreams) -> None:
    """Edits and variations as forms, and Azure's paths."""
    file = {"image": ("a.png", picture((64, 64)))}
    form = {"model": "lab/painter-1", "prompt": "soon"}
    made = [
        call(server, "POST", path, data=data, files=file, headers=LATER)
        for path, data in (
            ("/v1/images/edits", form),
            ("/v1/images/variations", {"model": "lab/painter-1"}),
            ("/openai/deployments/lab%2Fpainter-1/images/edits?api-version=2025-04-01-preview", {"prompt": "soon"}),
            ("/openai/v1/images/edits", form),
            ("/openai/images/variations?api-version=1", {"model": "lab/painter-1"}),
        )
    ]
    body = {"prompt": "soon"}
    azure = "/openai/deployments/lab%2Fpainter-1/images/generations?api-version=1"
    for path in (azure, "/openai/v1/images/generations"):
        made.append(call(server, "POST", path, json={**body, "model": "lab/painter-1"}, headers=LATER))
    assert [each.status_code for each in made] == [202] * 7
    ids = [told(each)["id"] for each in made]
    wait(lambda: {status(server, id) for id in ids} == {"completed"})
    kinds = [each["operation"] for each in call(server, "GET", f"/v1/tasks?ids={','.join(ids)}").json()["data"]]
    assert kinds == ["edit", "variation", "edit", "edit", "variation", "generate", "generate"]


def test_what_came_with_it_is_kept_until_it_is_made(server: Server, upstreams: Upstreams, tmp_path: Path) -> None:
    form = {"model": "lab/painter-1", "prompt": "slow"}
    answer = call(
        server, "POST", "/v1/images/edits", data=form, files={"image": ("a.png", picture((64, 64)))}, headers=LATER
    )
    id = told(answer)["id"]
    wait(lambda: len(upstreams.lab.made) == 1)
    upstreams.lab.go.set()
    wait(lambda: status(server, id) == "completed")
    assert picture((64, 64)) in upstreams.lab.seen[-1].body


# The same call again


def test_a_repetition_is_answered_with_the_same_task(server: Server, upstreams: Upstreams) -> None:
    key = {"Idempotency-Key": "a"}
    first = later(server, **key)
    assert later(server, **key)["id"] == first["id"]
    assert error(generate(server, "another", POLLED, headers={**LATER, **key}), 409)["code"] == "idempotency_key_reused"
    upstreams.slow.go.set()
    wait(lambda: status(server, first["id"]) == "completed")
    again = later(server, **key)
    assert (again["id"], again["status"], len(again["outputs"])) == (first["id"], "completed", 1)
    for prefer in ({"Prefer": "respond-async, wait=5"}, {}):
        answer = generate(server, "a boat", POLLED, headers={**key, **prefer})
        assert (answer.status_code, answer.headers["x-pictor-task"]) == (200, first["id"])
        assert len(answer.json()["data"]) == 1
    assert upstreams.slow.submits == 1
    assert spent(server) == PRICE


def test_a_repetition_of_a_call_that_is_waited_for(server: Server, upstreams: Upstreams) -> None:
    """Neither waits for the other's way of being answered."""
    key = {"Idempotency-Key": "a"}
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(generate, server, "a boat", POLLED, headers=key)
        wait(lambda: upstreams.slow.submits == 1)
        found = later(server, **key)
        upstreams.slow.go.set()
        assert waits.result().headers["x-pictor-task"] == found["id"]
    wait(lambda: status(server, found["id"]) == "completed")
    assert upstreams.slow.submits == 1


def test_an_sdks_own_retry_of_a_call_whose_202_was_lost(server: Server, upstreams: Upstreams) -> None:
    first = later(server)
    again = later(server, **{"x-stainless-retry-count": "1"})
    assert again["id"] == first["id"]
    wait(lambda: upstreams.slow.submits == 1)


@pytest.mark.parametrize("how", ["key", "retry"])
def test_a_repetition_at_another_process_does_not_wait(upstreams: Upstreams, tmp_path: Path, how: str) -> None:
    headers = {"Idempotency-Key": "a"} if how == "key" else {"x-stainless-retry-count": "1"}
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    data = str(tmp_path / "data")
    with (
        served(tmp_path / "one", upstreams, data=data) as one,
        served(tmp_path / "other", upstreams, data=data) as other,
    ):
        first = later(one, **({"Idempotency-Key": "a"} if how == "key" else {}))
        wait(lambda: upstreams.slow.submits == 1)
        assert later(other, **headers)["id"] == first["id"]
        prefer = {"Prefer": "respond-async, wait=30"}
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(generate, other, "a boat", POLLED, headers={**headers, **prefer})
            upstreams.slow.go.set()
            assert (waits.result().status_code, waits.result().headers["x-pictor-task"]) == (200, first["id"])
        assert upstreams.slow.submits == 1


def test_an_answer_that_is_kept_is_told_as_its_task(server: Server, upstreams: Upstreams) -> None:
    first = later(server, "soon", "kept")
    wait(lambda: status(server, first["id"]) == "completed")
    answer = generate(server, "soon", "kept", headers=LATER)
    assert (answer.status_code, told(answer)["id"]) == (202, first["id"])
    assert answer.headers["x-pictor-cache"] == "hit"
    assert len(upstreams.lab.made) == 1
    other = call(
        server, "POST", "/v1/images/generations", key=OTHER, json={"model": "kept", "prompt": "soon"}, headers=LATER
    )
    assert told(other)["id"] != first["id"]


# What outlives its client, and its server


def cut_after_a_second(server: Server, headers: Mapping[str, str]) -> None:
    body = {"model": POLLED, "prompt": "a boat"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.base_url}/images/generations", json=body, headers={**HEADERS, **headers}, timeout=1,
            trust_env=False,
        )  # fmt: skip


@pytest.mark.parametrize("killed", [False, True], ids=["client", "client and server"])
@pytest.mark.parametrize("how", ["key", "task"])
def test_a_client_that_is_cut_off_gets_its_picture(
    upstreams: Upstreams, tmp_path: Path, how: str, killed: bool
) -> None:
    """The job ends, is kept, is billed once; also where the server dies in between."""
    with served(tmp_path, upstreams) as server:
        cut_after_a_second(server, {"Idempotency-Key": "a"})
        wait(lambda: call(server, "GET", "/v1/tasks").json()["data"])
        (id,) = [each["id"] for each in call(server, "GET", "/v1/tasks").json()["data"]]
        if killed:
            stop(server.process, signal.SIGKILL)
        else:
            recovered(server, upstreams, id, how)
    if killed:
        with served(tmp_path, upstreams) as server:
            recovered(server, upstreams, id, how)


def recovered(server: Server, upstreams: Upstreams, id: str, how: str) -> None:
    polls = len(upstreams.slow.seen)
    wait(lambda: len(upstreams.slow.seen) > polls, 40)  # somebody asks for it
    upstreams.slow.go.set()
    if how == "key":
        again = generate(server, "a boat", POLLED, headers={"Idempotency-Key": "a"})
        assert (again.status_code, again.headers["x-pictor-task"]) == (200, id)
        assert len(again.json()["data"]) == 1
    wait(lambda: status(server, id) == "completed")
    assert len(files(server, id)) == 1
    assert task(server, id)["cost_usd"] == PRICE
    assert upstreams.slow.submits == 1
    assert spent(server) == PRICE


def test_a_task_that_nobody_waits_for_outlives_its_server(upstreams: Upstreams, tmp_path: Path) -> None:
    with served(tmp_path, upstreams) as server:
        polled, sent = later(server), later(server, "slow", "lab/painter-1")
        wait(lambda: upstreams.slow.submits == 1 and len(upstreams.lab.made) == 1)
        wait(lambda: task(server, polled["id"])["progress"] == 10)
        stop(server.process, signal.SIGKILL)
    upstreams.slow.go.set()
    upstreams.lab.go.set()
    with served(tmp_path, upstreams) as server:
        wait(lambda: status(server, polled["id"]) == "completed", 40)
        wait(lambda: status(server, sent["id"]) == "failed", 40)  # nobody can tell, and it is not sent again
        assert task(server, sent["id"])["error"]["code"] == "submit_uncertain"
        assert (task(server, sent["id"])["cost_usd"], task(server, sent["id"])["resumable"]) == (None, False)
        assert (upstreams.slow.submits, len(upstreams.lab.made)) == (1, 1)


# Its end


def test_a_task_is_cancelled(server: Server, upstreams: Upstreams) -> None:
    """This provider cannot be stopped, so nobody knows what it charges."""
    id = later(server)["id"]
    wait(lambda: task(server, id)["progress"] == 10)
    answer = call(server, "POST", f"/v1/tasks/{id}/cancel")
    assert (answer.status_code, told(answer)["status"]) == (200, "cancelled")
    assert (told(answer)["cost_usd"], told(answer)["resumable"], told(answer)["cancelling"]) == (None, False, False)
    assert told(answer)["error"]["code"] == "task_cancelled"
    assert told(call(server, "POST", f"/v1/tasks/{id}/cancel")) == told(answer)  # once more changes nothing
    assert call(server, "DELETE", f"/v1/tasks/{id}").status_code == 200
    assert error(call(server, "POST", f"/v1/tasks/{id}/cancel"), 404)["code"] == "task_not_found"


STOPS = [
    pytest.param(Dashscope, "wan2.5-t2i-preview", "PENDING", 0, "CANCELED", id="dashscope, pending"),
    pytest.param(Dashscope, "wan2.5-t2i-preview", "RUNNING", None, "RUNNING", id="dashscope, running"),
    pytest.param(Replicate, Replicate.generates, "starting", 0, "canceled", id="replicate, starting"),
    pytest.param(Replicate, Replicate.generates, "processing", None, "canceled", id="replicate, charged by its time"),
    pytest.param(Fal, Fal.generates, "IN_QUEUE", None, "COMPLETED", id="fal, queued"),
    pytest.param(Jimeng, Jimeng.generates, "in_queue", 0, "not_found", id="jimeng"),
    pytest.param(ComfyUI, ComfyUI.generates, "queue_pending", 0, "{}", id="comfyui, pending"),
    pytest.param(ComfyUI, ComfyUI.generates, "queue_running", 0, "execution_interrupted", id="comfyui, running"),
]
"""A provider that can be stopped, its model, where the task is, what it costs then, what the next poll tells of it."""


@pytest.mark.parametrize(("fake", "model", "held", "cost", "then"), STOPS)
def test_a_task_is_stopped_at_its_provider(
    tmp_path: Path, fake: type[Dashscope | Replicate | Fal | Jimeng | ComfyUI], model: str, held: str,
    cost: float | None, then: str,
) -> None:  # fmt: skip
    """It costs nothing where the provider says so; where it does not, nobody knows."""
    upstream = fake(held=held)
    with running(upstream):
        provider = {**upstream.config(), "timeouts": {"poll": "50ms"}}
        with serving(tmp_path, providers={fake.name: provider}, prices={"unknown": "allow"}) as server:
            id = later(server, model=f"{fake.name}/{model}")["id"]
            wait(lambda: len(upstream.seen) > 5)  # it is polled
            answer = told(call(server, "POST", f"/v1/tasks/{id}/cancel"))
            assert (answer["status"], answer["cost_usd"]) == ("cancelled", cost)
            assert ("charge" in answer["error"]["message"]) == (cost is None)
            assert told(call(server, "POST", f"/v1/tasks/{id}/cancel")) == answer
        poll = next(each for each in reversed(upstream.seen) if polls(fake.name, each))
        again = httpx.request(
            poll.method, upstream.url + poll.path, params=poll.query, headers=poll.headers, content=poll.body,
            trust_env=False,
        )  # fmt: skip
        assert then in again.text
    assert upstream.stops == 1
    assert not upstream.broken, upstream.broken[0]


def polls(name: str, seen: Seen) -> bool:
    """Whether that request asks where a task is."""
    if name == "jimeng":
        return seen.query["Action"] == "CVSync2AsyncGetResult"
    return seen.method == "GET" and seen.path != "/queue"


def test_what_has_ended_stays_as_it_is(server: Server) -> None:
    id = generate(server, "soon", "lab/painter-1").headers["x-pictor-task"]
    answer = call(server, "POST", f"/v1/tasks/{id}/cancel")
    assert (answer.status_code, told(answer)["status"], told(answer)["cost_usd"]) == (200, "completed", None)


@pytest.mark.parametrize("model", [POLLED, "lab/painter-1"], ids=["polled", "on the wire"])
def test_who_waits_for_a_call_that_is_cancelled_is_told_so(server: Server, upstreams: Upstreams, model: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(generate, server, "slow", model)
        wait(lambda: call(server, "GET", "/v1/tasks").json()["data"])
        (found,) = call(server, "GET", "/v1/tasks").json()["data"]
        call(server, "POST", f"/v1/tasks/{found['id']}/cancel")
        refused = error(waits.result(), 499)
    assert refused["code"] == "task_cancelled"
    assert "charge" in refused["message"]
    wait(lambda: status(server, found["id"]) == "cancelled")
    assert task(server, found["id"])["cost_usd"] is None


def test_a_task_of_another_process_is_cancelled(upstreams: Upstreams, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    data = str(tmp_path / "data")
    with (
        served(tmp_path / "one", upstreams, data=data) as one,
        served(tmp_path / "other", upstreams, data=data) as other,
    ):
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(generate, one, "a boat", POLLED)
            wait(lambda: call(other, "GET", "/v1/tasks").json()["data"])
            (found,) = call(other, "GET", "/v1/tasks").json()["data"]
            answer = told(call(other, "POST", f"/v1/tasks/{found['id']}/cancel"))
            assert answer["status"] == "cancelled" or answer["cancelling"]
            assert error(waits.result(), 499)["code"] == "task_cancelled"
        wait(lambda: status(other, found["id"]) == "cancelled")


def test_a_task_that_waits_for_a_place_says_so_and_costs_nothing_when_it_is_cancelled(
    server: Server, upstreams: Upstreams
) -> None:
    first = later(server, model="narrow/flux-2-pro")["id"]
    wait(lambda: task(server, first)["progress"] == 10)
    second, third = (later(server, model="narrow/flux-2-pro")["id"] for _ in range(2))
    wait(lambda: task(server, third)["queue_position"] == 2)
    waiting = task(server, second)
    assert (waiting["status"], waiting["queue_position"], waiting["progress"]) == ("queued", 1, 0)
    assert waiting["queued_seconds"] >= 0
    followed = Followed(server, third)
    wait(lambda: followed.names == ["task.queued"])
    cancelled = told(call(server, "POST", f"/v1/tasks/{second}/cancel"))
    assert (cancelled["status"], cancelled["cost_usd"]) == ("cancelled", 0)
    wait(lambda: followed.events[-1][1]["queue_position"] == 1)
    upstreams.slow.go.set()
    assert followed.ended.wait(20)
    assert (followed.names[0], followed.names[-1]) == ("task.queued", "task.completed")
    assert upstreams.slow.submits == 2


# What has failed, and is gone on with


def failing(server: Server, upstreams: Upstreams) -> str:
    """A task that fails while its provider still makes the picture."""
    id: str = later(server)["id"]
    wait(lambda: task(server, id)["progress"] == 10)
    upstreams.slow.down = True
    wait(lambda: status(server, id) == "failed")
    upstreams.slow.down = False
    return id


def test_a_task_that_failed_is_gone_on_with(server: Server, upstreams: Upstreams) -> None:
    id = failing(server, upstreams)
    failed = task(server, id)
    assert (failed["resumable"], failed["cost_usd"]) == (True, None)
    answer = call(server, "POST", f"/v1/tasks/{id}/resume")
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/tasks/{id}")
    assert (told(answer)["status"], told(answer)["error"], told(answer)["completed_at"]) == ("in_progress", None, None)
    assert call(server, "POST", f"/v1/tasks/{id}/resume").status_code == 202  # it is gone on with already
    upstreams.slow.go.set()
    wait(lambda: status(server, id) == "completed")
    assert call(server, "POST", f"/v1/tasks/{id}/resume").status_code == 200
    assert (upstreams.slow.submits, len(files(server, id))) == (1, 1)
    assert spent(server) == PRICE
    requests = call(server, "GET", "/v1/admin/usage").json()["data"]
    assert [(each["requests"], each["failed"]) for each in requests] == [(1, 0)]


def test_a_task_that_fails_once_more_can_be_resumed_again(server: Server, upstreams: Upstreams) -> None:
    id = failing(server, upstreams)
    upstreams.slow.down = True
    assert call(server, "POST", f"/v1/tasks/{id}/resume").status_code == 202
    wait(lambda: status(server, id) == "failed")
    upstreams.slow.down = False
    upstreams.slow.go.set()
    assert call(server, "POST", f"/v1/tasks/{id}/resume").status_code == 202
    wait(lambda: status(server, id) == "completed")
    assert spent(server) == PRICE


def test_a_call_that_was_waited_for_is_gone_on_with(server: Server, upstreams: Upstreams) -> None:
    """It has no row to be made from, but its provider has it."""
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(generate, server, "a boat", POLLED)
        wait(lambda: upstreams.slow.submits == 1)
        upstreams.slow.down = True
        id = waits.result().headers["x-pictor-task"]
    upstreams.slow.down = False
    upstreams.slow.go.set()
    assert call(server, "POST", f"/v1/tasks/{id}/resume").status_code == 202
    wait(lambda: status(server, id) == "completed")
    assert upstreams.slow.submits == 1


def test_what_cannot_be_gone_on_with(server: Server, upstreams: Upstreams) -> None:
    id = later(server, "fault policy", "lab/painter-1")["id"]
    wait(lambda: status(server, id) == "failed")
    refused = call(server, "POST", f"/v1/tasks/{id}/resume")
    assert error(refused, 409)["code"] == "task_not_resumable"
    assert refused.headers["x-should-retry"] == "false"
    mine = failing(server, upstreams)
    theirs = call(server, "POST", f"/v1/tasks/{mine}/resume", key=OTHER)
    assert error(theirs, 404)["code"] == "task_not_found"
    assert error(call(server, "POST", f"/v1/tasks/{mine}/cancel", key=OTHER), 404)["code"] == "task_not_found"
    assert error(call(server, "GET", f"/v1/tasks/{mine}/events", key=OTHER), 404)["code"] == "task_not_found"
    assert call(server, "DELETE", f"/v1/tasks/{mine}").status_code == 200
    assert error(call(server, "POST", f"/v1/tasks/{mine}/resume"), 404)["code"] == "task_not_found"
    assert (rows(server, "job"), rows(server, "submit")) == (0, 0)


def rows(server: Server, table: str) -> int:
    with sqlite3.connect(server.config.parent / "data" / "pictor.db") as database:
        found: int = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # our own names
        return found


def test_nothing_is_left_of_what_has_ended(server: Server, upstreams: Upstreams) -> None:
    """Neither of a call that was waited for, nor of a task, nor of what was cancelled."""
    upstreams.slow.go.set()
    assert generate(server, "a boat", POLLED).status_code == 200
    done = later(server)["id"]
    wait(lambda: status(server, done) == "completed")
    upstreams.slow.go.clear()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(generate, server, "slow", "lab/painter-1")
        wait(lambda: len(call(server, "GET", "/v1/tasks").json()["data"]) == 3)
        (found, *_) = call(server, "GET", "/v1/tasks").json()["data"]
        call(server, "POST", f"/v1/tasks/{found['id']}/cancel")
        assert waits.result().status_code == 499
    assert (rows(server, "job"), rows(server, "submit")) == (0, 0)


# Its events


class Followed:
    """A stream of events as it comes."""

    def __init__(self, server: Server, id: str, key: str = KEY) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ended = threading.Event()
        self._url = f"{server.base_url}/tasks/{id}/events"
        self._key = key
        self._leave = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        with httpx.stream("GET", self._url, headers=headers, trust_env=False, timeout=30) as answer:
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            name = ""
            for line in answer.iter_lines():
                if self._leave.is_set():
                    return
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.append((name, json.loads(line.removeprefix("data: "))))
        self.ended.set()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def leave(self) -> None:
        """At the next event."""
        self._leave.set()


def test_every_change_is_an_event(server: Server, upstreams: Upstreams) -> None:
    id = later(server)["id"]
    wait(lambda: task(server, id)["progress"] == 10)
    followed = Followed(server, id)
    wait(lambda: followed.names == ["task.in_progress"])
    assert followed.events[0][1]["progress"] == 10
    upstreams.slow.progress = 0.5
    wait(lambda: len(followed.events) == 2)
    assert followed.events[1][1]["progress"] == 50
    upstreams.slow.go.set()
    assert followed.ended.wait(10)
    assert followed.names == ["task.in_progress"] * 2 + ["task.completed"]
    last = followed.events[-1][1]
    assert (last["status"], last["progress"], last["cost_usd"]) == ("completed", 100, PRICE)
    assert httpx.get(last["outputs"][0]["url"], trust_env=False).status_code == 200


@pytest.mark.parametrize(("prompt", "name"), [("soon", "task.completed"), ("fault policy", "task.failed")])
def test_of_what_has_ended_there_is_one_event(server: Server, prompt: str, name: str) -> None:
    id = generate(server, prompt, "lab/painter-1").headers["x-pictor-task"]
    followed = Followed(server, id)
    assert followed.ended.wait(10)
    assert followed.names == [name]


def test_events_of_a_task_of_another_process(upstreams: Upstreams, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    data = str(tmp_path / "data")
    with (
        served(tmp_path / "one", upstreams, data=data) as one,
        served(tmp_path / "other", upstreams, data=data) as other,
    ):
        id = later(one)["id"]
        followed = Followed(other, id)
        wait(lambda: followed.names)
        upstreams.slow.progress = 0.7
        wait(lambda: followed.events[-1][1]["progress"] == 70, 20)  # told every few seconds
        call(one, "POST", f"/v1/tasks/{id}/cancel")
        assert followed.ended.wait(10)
        assert followed.names[-1] == "task.cancelled"


def test_a_stream_outlives_a_failure_that_is_resumed_no_more_than_it_must(server: Server, upstreams: Upstreams) -> None:
    id = failing(server, upstreams)
    first = Followed(server, id)
    assert first.ended.wait(10)
    assert first.names == ["task.failed"]
    call(server, "POST", f"/v1/tasks/{id}/resume")
    second = Followed(server, id)
    wait(lambda: second.names)
    upstreams.slow.go.set()
    assert second.ended.wait(10)
    assert (second.names[0], second.names[-1]) == ("task.in_progress", "task.completed")


def test_a_key_follows_so_many_at_once_and_who_leaves_makes_room(server: Server, upstreams: Upstreams) -> None:
    id = later(server)["id"]
    port = int(server.address.rpartition(":")[2])
    request = f"GET /v1/tasks/{id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    open_streams = []
    for _ in range(100):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connection.sendall(request)
        assert connection.recv(12) == b"HTTP/1.1 200"
        open_streams.append(connection)
    refused = call(server, "GET", f"/v1/tasks/{id}/events")
    assert error(refused, 429)["code"] == "rate_limit_exceeded"
    assert refused.headers["retry-after"] == "5"
    for each in open_streams:
        each.close()
    upstreams.slow.go.set()
    wait(lambda: call(server, "GET", f"/v1/tasks/{id}/events").status_code == 200)
    wait(lambda: total(server, "http_in_flight", route="/v1/tasks/{id}/events") == 0)


def test_a_server_that_stops_ends_its_streams(upstreams: Upstreams, tmp_path: Path) -> None:
    with served(tmp_path, upstreams) as server:
        followed = Followed(server, later(server)["id"])
        wait(lambda: followed.names)
        assert stop(server.process) == 0
        assert followed.ended.wait(10)
        assert followed.names[-1] == "task.in_progress"


# Official clients


class TaskOfSdk(BaseModel):
    """As a user of the SDK would write it."""

    id: str
    status: str


def test_with_openais_client(server: Server, upstreams: Upstreams) -> None:
    with OpenAI(base_url=server.base_url, api_key=KEY, http_client=DefaultHttpxClient(trust_env=False)) as client:
        raw = client.images.with_raw_response.generate(model=POLLED, prompt="a boat", extra_headers=LATER)
        assert raw.status_code == 202
        id = raw.headers["x-pictor-task"]
        assert client.get(f"/tasks/{id}", cast_to=TaskOfSdk).status in {"queued", "in_progress"}
        ended = client.post(f"/tasks/{id}/cancel", cast_to=TaskOfSdk)
        assert (ended.id, ended.status) == (id, "cancelled")


async def test_with_openais_asynchronous_client(server: Server, upstreams: Upstreams) -> None:
    http = DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncOpenAI(base_url=server.base_url, api_key=KEY, http_client=http) as client:
        prefer = {"Prefer": "respond-async, wait=20"}
        made = await client.images.generate(model="lab/painter-1", prompt="soon", extra_headers=prefer)
        assert made.data
        assert made.data[0].b64_json == TEXT


def test_with_azures_client(server: Server, upstreams: Upstreams) -> None:
    client = AzureOpenAI(
        azure_endpoint=server.address, api_key=KEY, api_version="2025-04-01-preview",
        http_client=DefaultHttpxClient(trust_env=False),
    )  # fmt: skip
    with client:
        raw = client.images.with_raw_response.generate(model="lab/painter-1", prompt="soon", extra_headers=LATER)
    assert raw.status_code == 202
