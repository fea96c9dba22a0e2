"""Making calls on the real server: what is known again, is limited, is paid, and outlives its client."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import DefaultHttpxClient, OpenAI

from proxy.errors import uncertain
from proxy.work import as_ended
from tests.fakes.base import picture, running
from tests.lab import TEXT, Lab, error, fresh, generate, lab, post, total, wait
from tests.server import KEY, Server, serving, stop

OTHER = "another-client-key"
PRICED = {"ops": ["generate"], "prices": [{"unit": "image", "amount": 0.25}]}


@pytest.fixture
def upstream() -> Iterator[Lab]:
    fake = Lab()
    with running(fake):
        yield fake
        fake.go.set()


def configured(fake: Lab, **more: Any) -> dict[str, Any]:
    """A provider with a price, two clients of which one has limits, and an alias that keeps its answers."""
    provider = lab(fake)
    provider["models"] |= {"priced": PRICED}
    keys = [{"name": "tests", "key": KEY, "admin": True}, {"name": "other", "key": OTHER, "tier": "small"}]
    return {
        "providers": {"lab": provider},
        "auth": {"mode": "keys", "keys": keys},
        "tiers": {"small": {"images_per_minute": 100, "max_n": 2, "max_size": "1024x1024"}},
        "models": {"kept": {"targets": "lab/priced", "cache": {"seconds": "1h"}}},
        **more,
    }


@contextmanager
def served(folder: Path, fake: Lab, **more: Any) -> Iterator[Server]:
    with serving(folder, **configured(fake, **more)) as server:
        yield server


@pytest.fixture
def server(upstream: Lab, tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path, upstream) as running_server:
        yield running_server


def left_alone(server: Server, upstream: Lab, headers: Mapping[str, str], **body: Any) -> None:
    """Ask for something slow, and leave once the upstream works on it."""
    calls = len(upstream.made)
    text = json.dumps({"model": "lab/priced", "prompt": "slow", **body}).encode()
    lines = [
        "POST /v1/images/generations HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}",
        "Content-Type: application/json", f"Content-Length: {len(text)}",
        *(f"{name}: {value}" for name, value in headers.items()), "", "",
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), 10) as connection:
        connection.sendall("\r\n".join(lines).encode() + text)
        wait(lambda: len(upstream.made) > calls)
    wait(lambda: total(server, "clients_gone_total") >= 1)


def tasks(server: Server, key: str = KEY, **query: Any) -> list[dict[str, Any]]:
    found = httpx.get(
        f"{server.base_url}/tasks", params=query, headers={"Authorization": f"Bearer {key}"}, trust_env=False
    )
    assert found.status_code == 200, found.text
    data: list[dict[str, Any]] = found.json()["data"]
    return data


# What outlives its client


def test_a_call_whose_client_left_ends_and_is_found_by_its_key(server: Server, upstream: Lab) -> None:
    """It is made once, billed once, and answered to whoever comes with the same key."""
    left_alone(server, upstream, {"Idempotency-Key": "a"})
    upstream.go.set()
    wait(lambda: tasks(server)[0]["status"] == "completed")
    again = generate(server, "slow", "lab/priced", headers={"Idempotency-Key": "a"})
    assert again.json()["data"] == [{"b64_json": TEXT}]
    assert again.headers["x-pictor-task"] == tasks(server)[0]["id"]
    assert again.headers["x-pictor-cost-usd"] == "0.25"
    assert len(upstream.made) == 1
    assert total(server, "cost_usd_total") == 0.25
    assert total(server, "results_recovered_total", how="key") == 1


def test_who_leaves_before_anything_is_paid_stops_it(server: Server, upstream: Lab) -> None:
    """Its picture is still being fetched: the fetch ends, no call is made, and the key is free."""
    url = f"{upstream.url}/slow.png"
    body = {"model": "lab/painter-1", "prompt": "x", "image_urls": [url]}
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "a"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.base_url}/images/generations", json=body, headers=headers, timeout=1, trust_env=False)
    wait(lambda: upstream.gone == 1)
    wait(lambda: total(server, "http_requests_total", status="499") == 1)
    assert not upstream.made
    assert not tasks(server)
    upstream.go.set()
    again = generate(server, "x", "lab/painter-1", image_urls=[url], headers={"Idempotency-Key": "a"})
    assert again.status_code == 200, again.text
    assert len(upstream.made) == 1


def test_an_error_names_the_task_that_tells_more(server: Server, upstream: Lab) -> None:
    response = generate(server, "cut", "lab/priced")
    assert error(response, 502)["code"] == "ambiguous"
    (task,) = tasks(server)
    assert response.headers["x-pictor-task"] == task["id"]
    assert task["error"]["code"] == "ambiguous"


def test_a_call_that_still_runs_is_joined(server: Server, upstream: Lab) -> None:
    left_alone(server, upstream, {"Idempotency-Key": "a"})
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(generate, server, "slow", "lab/priced", headers={"Idempotency-Key": "a"})
        wait(lambda: total(server, "results_recovered_total", how="key") == 1)
        upstream.go.set()
        assert again.result().json()["data"] == [{"b64_json": TEXT}]
    assert len(upstream.made) == 1


@pytest.mark.parametrize("when", ["while it runs", "after its end"])
def test_an_sdks_own_retry_joins(server: Server, upstream: Lab, when: str) -> None:
    """Without any key: it says that it tries again, and the body is the same."""
    left_alone(server, upstream, {"x-stainless-retry-count": "0"})
    with ThreadPoolExecutor(1) as pool:
        if when == "after its end":
            upstream.go.set()
            wait(lambda: tasks(server)[0]["status"] == "completed")
        again = pool.submit(generate, server, "slow", "lab/priced", headers={"x-stainless-retry-count": "1"})
        wait(lambda: total(server, "results_recovered_total", how="retry") == 1)
        upstream.go.set()
        assert again.result().json()["data"] == [{"b64_json": TEXT}]
    assert len(upstream.made) == 1


def test_the_official_client_that_runs_out_of_patience_gets_its_picture(server: Server, upstream: Lab) -> None:
    options: dict[str, Any] = {"timeout": 1.0, "max_retries": 3, "http_client": DefaultHttpxClient(trust_env=False)}
    with OpenAI(base_url=server.base_url, api_key=KEY, **options) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.images.generate, model="lab/priced", prompt="slow")
        wait(lambda: total(server, "results_recovered_total", how="retry") >= 1)
        upstream.go.set()
        data = asked.result().data
    assert data
    assert data[0].b64_json == TEXT
    assert len(upstream.made) == 1


def test_a_try_again_after_a_refusal_is_no_repetition(server: Server, upstream: Lab) -> None:
    """Two clients ask for the same at once; one is refused and tries again: it wants a picture of its own."""
    assert generate(server, "fault rate", "lab/priced").status_code == 429
    assert generate(server, "fault rate", "lab/priced", headers={"x-stainless-retry-count": "1"}).status_code == 429
    assert len(upstream.made) == 2
    assert generate(server, "x", "lab/priced").status_code == 200
    assert generate(server, "x", "lab/priced", headers={"x-stainless-retry-count": "1"}).status_code == 200
    assert len(upstream.made) == 4  # the first one's client has its answer


def test_a_large_upload_is_known_again(server: Server, upstream: Lab) -> None:
    """Its fingerprint is taken while it is worked on."""
    form = {"model": "lab/painter-9", "prompt": "slow"}
    file = picture((900, 900)) + bytes(1 << 20)
    with ThreadPoolExecutor(2) as pool:

        def edit(count: str) -> httpx.Response:
            headers = {"x-stainless-retry-count": count}
            return post(server, "images/edits", data=form, files={"image": ("a.png", file)}, headers=headers)

        first = pool.submit(edit, "0")
        wait(lambda: len(upstream.made) == 1)
        wait(lambda: tasks(server))  # it is written down by now, and its fingerprint taken long since
        second = pool.submit(edit, "1")
        wait(lambda: total(server, "results_recovered_total", how="retry") == 1)
        upstream.go.set()
        assert first.result().json() == second.result().json()
    assert len(upstream.made) == 1


def test_a_refusal_that_no_sdk_repeats_is_no_reason_to_make_it_again(server: Server, upstream: Lab) -> None:
    refused = generate(server, "slow", "lab/priced", watermark=True, headers={"x-pictor-strict": "true"})
    assert error(refused, 400)["param"] == "watermark"
    left_alone(server, upstream, {}, watermark=True)
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(
            generate, server, "slow", "lab/priced", watermark=True, headers={"x-stainless-retry-count": "1"}
        )
        wait(lambda: total(server, "results_recovered_total", how="retry") == 1)
        upstream.go.set()
        assert again.result().status_code == 200
    assert len(upstream.made) == 1


def test_a_failure_that_nobody_heard_of_is_told_to_who_tries_again(server: Server, upstream: Lab) -> None:
    left_alone(server, upstream, {}, prompt="slow cut")
    upstream.go.set()
    wait(lambda: tasks(server)[0]["status"] == "failed")
    again = generate(server, "slow cut", "lab/priced", headers={"x-stainless-retry-count": "1"})
    assert error(again, 502)["code"] == "ambiguous"
    assert again.headers["x-should-retry"] == "false"
    assert len(upstream.made) == 1


def test_of_two_that_are_the_same_the_one_is_joined_whose_client_left(server: Server, upstream: Lab) -> None:
    with ThreadPoolExecutor(2) as pool:
        left_alone(server, upstream, {})
        waits = pool.submit(generate, server, "slow", "lab/priced")
        wait(lambda: len(tasks(server)) == 2)
        again = pool.submit(generate, server, "slow", "lab/priced", headers={"x-stainless-retry-count": "1"})
        wait(lambda: total(server, "results_recovered_total", how="retry") == 1)
        upstream.go.set()
        answered = [each.result().headers["x-pictor-task"] for each in (waits, again)]
    assert answered == [each["id"] for each in tasks(server)]
    assert len(upstream.made) == 2


@pytest.mark.parametrize("how", ["kept", "large"])
def test_a_try_again_at_another_process(upstream: Lab, tmp_path: Path, how: str) -> None:
    """Whose row there is found by, though the alias keeps answers, or the fingerprint came later than the work."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    data = str(tmp_path / "data")
    with served(tmp_path / "one", upstream, data=data) as one, served(tmp_path / "other", upstream, data=data) as other:

        def ask(server: Server, count: str, prompt: str = "slow") -> httpx.Response:
            headers = {"x-stainless-retry-count": count}
            if how == "kept":
                return generate(server, prompt, "kept", headers=headers)
            file = {"image": ("a.png", picture((900, 900)) + bytes(1 << 20))}
            return post(
                server, "images/edits", data={"model": "lab/painter-9", "prompt": prompt}, files=file, headers=headers
            )

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(ask, one, "0")
            wait(lambda: tasks(other))
            second = pool.submit(ask, other, "1")
            wait(lambda: total(other, "http_in_flight", route="/v1/images/" + ("generations", "edits")[how == "large"]))
            assert ask(other, "1", "later").status_code == 200  # by now it has looked for the one before
            upstream.go.set()
            assert second.result().headers["x-pictor-task"] == first.result().headers["x-pictor-task"]
    assert sorted(upstream.prompts) == ["later", "slow"]


def test_what_a_killed_server_may_have_paid_for_is_not_made_again(upstream: Lab, tmp_path: Path) -> None:
    with served(tmp_path, upstream) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(generate, server, "slow", "lab/priced")
        wait(lambda: tasks(server))
        stop(server.process, signal.SIGKILL)
        assert isinstance(asked.exception(), httpx.TransportError)
    with served(tmp_path, upstream) as server:
        again = generate(server, "slow", "lab/priced", headers={"x-stainless-retry-count": "1"})
        assert error(again, 502)["code"] == "interrupted"
        assert again.headers["x-should-retry"] == "false"
    assert len(upstream.made) == 1


def test_what_nobody_foresaw_may_have_been_paid() -> None:
    assert uncertain(as_ended(RuntimeError(), tried=True))
    assert not uncertain(as_ended(RuntimeError(), tried=False))


# Idempotency-Key


def test_the_same_key_is_one_call(server: Server, upstream: Lab) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(generate, server, "x", "lab/priced", headers={"Idempotency-Key": "a"}) for _ in range(8)
        ]  # fmt: skip
        answers = [each.result() for each in asked]
    assert {each.status_code for each in answers} == {200}
    assert len({each.headers["x-pictor-task"] for each in answers}) == 1
    assert len({each.text for each in answers}) == 1
    assert len(upstream.made) == 1
    assert len(tasks(server)) == 1


def test_the_same_key_with_another_body_is_a_conflict(server: Server, upstream: Lab) -> None:
    assert generate(server, "x", "lab/priced", headers={"Idempotency-Key": "a"}).status_code == 200
    response = generate(server, "y", "lab/priced", headers={"Idempotency-Key": "a"})
    assert error(response, 409)["code"] == "idempotency_key_reused"
    assert response.headers["x-should-retry"] == "false"
    assert len(upstream.made) == 1


def test_keys_of_two_clients_never_meet(server: Server, upstream: Lab) -> None:
    first = generate(server, "x", "lab/priced", headers={"Idempotency-Key": "a"})
    headers = {"Idempotency-Key": "a", "Authorization": f"Bearer {OTHER}"}
    second = generate(server, "x", "lab/priced", headers=headers)
    assert first.headers["x-pictor-task"] != second.headers["x-pictor-task"]
    assert len(upstream.made) == 2
    assert len(tasks(server)) == len(tasks(server, OTHER)) == 1


def test_after_a_failure_that_cost_nothing_the_key_is_free(server: Server, upstream: Lab) -> None:
    assert generate(server, "fault rate", "lab/priced", headers={"Idempotency-Key": "a"}).status_code == 429
    assert generate(server, "x", "lab/priced", headers={"Idempotency-Key": "a"}).status_code == 200


def test_what_may_have_been_paid_is_not_made_again(server: Server, upstream: Lab) -> None:
    for _ in range(2):
        response = generate(server, "cut", "lab/priced", headers={"Idempotency-Key": "a"})
        assert error(response, 502)["code"] == "ambiguous"
        assert response.headers["x-should-retry"] == "false"
    assert len(upstream.made) == 1
    (task,) = tasks(server)
    assert (task["status"], task["cost_usd"]) == ("failed", None)


def test_a_key_that_is_too_long(server: Server, upstream: Lab) -> None:
    response = generate(server, "x", "lab/priced", headers={"Idempotency-Key": "a" * 256})
    assert error(response, 400)["param"] == "Idempotency-Key"
    assert not upstream.made


@pytest.mark.parametrize("respond", ["url", "b64_json"])
def test_a_key_outlives_the_server(upstream: Lab, tmp_path: Path, respond: str) -> None:
    body = {"prompt": "x", "model": "lab/priced", "response_format": respond}
    with served(tmp_path, upstream) as server:
        first = generate(server, **body, headers={"Idempotency-Key": "a"})
        stop(server.process, signal.SIGKILL)
    with served(tmp_path, upstream) as server:
        second = generate(server, **body, headers={"Idempotency-Key": "a"})
        assert second.status_code == 200, second.text
        assert second.headers["x-pictor-task"] == first.headers["x-pictor-task"]
        if respond == "url":
            assert httpx.get(second.json()["data"][0]["url"], trust_env=False).status_code == 200
        else:
            assert second.json() == first.json()
    assert len(upstream.made) == 1


# Limits and money


def test_fifty_at_once_on_a_budget_for_ten(upstream: Lab, tmp_path: Path) -> None:
    with served(tmp_path, upstream, tiers={"small": {"budget_usd_per_month": 2.5}}) as server:
        with ThreadPoolExecutor(50) as pool:
            asked = [pool.submit(generate, server, f"{i}", "lab/priced", headers=as_other()) for i in range(50)]
            answers = [each.result() for each in asked]
        made = [each for each in answers if each.status_code == 200]
        refused = [each for each in answers if each.status_code == 429]
        assert (len(made), len(refused)) == (10, 40)
        assert {error(each, 429)["code"] for each in refused} == {"insufficient_quota"}
        assert {each.headers["x-should-retry"] for each in refused} == {"false"}
        assert len(upstream.made) == 10
        assert total(server, "limited_total", tier="small", limit="budget") == 40
        account = httpx.get(f"{server.base_url}/account", headers=as_other(), trust_env=False).json()
        assert account["budgets"]["month"]["spent_usd"] == 2.5
        assert account["budgets"]["month"]["reserved_usd"] == 0
        assert total(server, "cost_usd_total") == 2.5


def test_a_failure_gives_its_reservation_back(upstream: Lab, tmp_path: Path) -> None:
    with served(tmp_path, upstream, tiers={"small": {"budget_usd_per_day": 0.25}}) as server:
        for _ in range(3):
            assert generate(server, "fault policy", "lab/priced", headers=as_other()).status_code == 400
        assert generate(server, "x", "lab/priced", headers=as_other()).status_code == 200
        assert error(generate(server, "y", "lab/priced", headers=as_other()), 429)["code"] == "insufficient_quota"


def test_a_model_without_a_price_does_not_escape_a_budget(upstream: Lab, tmp_path: Path) -> None:
    tiers = {"small": {"budget_usd_per_day": 1}}
    with served(tmp_path, upstream, tiers=tiers) as server:
        found = error(generate(server, "x", headers=as_other()), 429)
        assert (found["code"], found["param"]) == ("price_unknown", "model")
        assert not upstream.made
    with served(tmp_path, upstream, tiers=tiers, prices={"unknown": "allow"}) as server:
        response = generate(server, "x", headers=as_other())
        assert response.status_code == 200
        assert "x-pictor-cost-usd" not in response.headers
        assert tasks(server, OTHER)[0]["cost_usd"] is None


def test_what_has_a_price_is_bounded_beside_what_has_none(upstream: Lab, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "tiers": {"small": {"budget_usd_per_day": 0.25}}, "prices": {"unknown": "allow"},
        "models": {"either": {"targets": ["lab/priced", "lab/several"]}},
    }  # fmt: skip
    with served(tmp_path, upstream, **more) as server:
        assert generate(server, "x", "either", headers=as_other()).headers["x-pictor-cost-usd"] == "0.25"
        assert error(generate(server, "y", "either", headers=as_other()), 429)["code"] == "insufficient_quota"
    assert len(upstream.made) == 1


def as_other(**more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {OTHER}", **more}


def test_pictures_per_minute_and_what_is_told_of_them(upstream: Lab, tmp_path: Path) -> None:
    with served(tmp_path, upstream, tiers={"small": {"images_per_minute": 3}}) as server:
        first = generate(server, "x", "lab/priced", n=2, headers=as_other())
        assert first.headers["x-ratelimit-limit-images"] == "3"
        assert first.headers["x-ratelimit-remaining-images"] == "1"
        refused = generate(server, "y", "lab/priced", n=2, headers=as_other())
        assert error(refused, 429)["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert generate(server, "z", "lab/priced", headers=as_other()).status_code == 200
        assert total(server, "limited_total", tier="small", limit="images") == 1
        assert generate(server, "x", "lab/priced").status_code == 200  # another client has no limits


def test_concurrent_jobs(upstream: Lab, tmp_path: Path) -> None:
    with served(tmp_path, upstream, tiers={"small": {"concurrent_jobs": 1}}) as server, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(generate, server, "slow", "lab/priced", headers=as_other())
        wait(lambda: upstream.made)
        assert error(generate(server, "x", "lab/priced", headers=as_other()), 429)["code"] == "rate_limit_exceeded"
        upstream.go.set()
        assert slow.result().status_code == 200
        assert generate(server, "x", "lab/priced", headers=as_other()).status_code == 200


@pytest.mark.parametrize(("more", "param"), [({"n": 3}, "n"), ({"size": "2048x2048"}, "size")])
def test_what_a_tier_does_not_give(server: Server, upstream: Lab, more: dict[str, Any], param: str) -> None:
    assert error(generate(server, "x", "lab/priced", headers=as_other(), **more), 400)["param"] == param
    assert not upstream.made


# Kept answers


def test_an_alias_that_keeps_its_answers(server: Server, upstream: Lab) -> None:
    first = generate(server, "x", "kept")
    second = generate(server, "x", "kept")
    assert first.json()["data"] == second.json()["data"]
    assert "x-pictor-cache" not in first.headers
    assert second.headers["x-pictor-cache"] == "hit"
    assert len(upstream.made) == 1
    assert generate(server, "y", "kept").json()["data"]
    assert "x-pictor-cache" not in generate(server, "x", "kept", headers=as_other()).headers  # never across keys
    assert len(upstream.made) == 3
    assert total(server, "cost_usd_total") == 0.75


def test_a_kept_answer_is_not_for_who_is_stricter(server: Server, upstream: Lab) -> None:
    assert generate(server, "x", "kept", watermark=True).headers["x-pictor-adjusted"]
    strict = generate(server, "x", "kept", watermark=True, headers={"x-pictor-strict": "true"})
    assert error(strict, 400)["param"] == "watermark"
    assert len(upstream.made) == 1


def test_identical_calls_at_once_are_one(server: Server, upstream: Lab) -> None:
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(generate, server, "slow", "kept") for _ in range(5)]
        wait(lambda: total(server, "cache_hits_total", how="joined") == 4)
        upstream.go.set()
        assert {each.result().status_code for each in asked} == {200}
    assert len(upstream.made) == 1


def test_kept_answers_that_all_may_share(upstream: Lab, tmp_path: Path) -> None:
    alias = {"kept": {"targets": "lab/priced", "cache": {"shared": True}}}
    with served(tmp_path, upstream, models=alias) as server:
        first = generate(server, "x", "kept")
        second = generate(server, "x", "kept", headers=as_other())
        assert second.headers["x-pictor-cache"] == "hit"
        assert "x-pictor-task" not in second.headers  # it is the other client's
        assert first.json()["data"] == second.json()["data"]
    with served(tmp_path, upstream, models=alias) as server:  # and over a restart
        assert generate(server, "x", "kept").headers["x-pictor-cache"] == "hit"
    assert len(upstream.made) == 1


def test_who_joins_the_call_of_another_gets_the_pictures_alone(upstream: Lab, tmp_path: Path) -> None:
    """And those at an address that it knows, whatever the other one wrote into its request."""
    alias = {"kept": {"targets": "lab/priced", "cache": {"shared": True}}}
    with served(tmp_path, upstream, models=alias) as server, ThreadPoolExecutor(2) as pool:
        headers = as_other(Host="evil.example")
        first = pool.submit(generate, server, "slow", "kept", response_format="url", headers=headers)
        wait(lambda: upstream.made)
        second = pool.submit(generate, server, "slow", "kept", response_format="url")
        wait(lambda: total(server, "cache_hits_total", how="joined") == 1)
        upstream.go.set()
        theirs, ours = first.result(), second.result()
    assert theirs.json()["data"][0]["url"].startswith("http://evil.example/v1/outputs/")
    assert ours.json()["data"][0]["url"].startswith(f"{server.address}/v1/outputs/")
    assert {name for name in ours.headers if name.startswith("x-ratelimit")} == set()
    assert "x-pictor-task" not in ours.headers
    assert (ours.headers["x-pictor-cache"], ours.headers["x-pictor-cost-usd"]) == ("hit", "0")
    assert theirs.headers["x-pictor-cost-usd"] == "0.25"
    assert len(upstream.made) == 1


def test_what_is_made_of_an_upload_stays_its_owners(upstream: Lab, tmp_path: Path) -> None:
    alias = {"kept": {"targets": "lab/several", "cache": {"shared": True}}}
    with served(tmp_path, upstream, models=alias) as server:
        sent = post(server, "files", data={"purpose": "vision"}, files={"file": ("a.png", picture((9, 9)))})
        body = {"model": "kept", "prompt": "x", "images": [{"file_id": sent.json()["id"]}]}
        assert post(server, "images/edits", json=body).status_code == 200
        assert post(server, "images/edits", json=body).headers["x-pictor-cache"] == "hit"
        assert error(post(server, "images/edits", json=body, headers=as_other()), 400)["param"] == "images[0].file_id"
    assert len(upstream.made) == 1


# Without a history


def test_without_a_history_nothing_is_written(upstream: Lab, tmp_path: Path) -> None:
    with served(tmp_path, upstream, history={"enabled": False}, models={}) as server:
        assert generate(server, "x", fresh()).status_code == 200
        found = httpx.get(f"{server.base_url}/tasks", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
        assert found.json()["error"]["code"] == "history_disabled"
    assert not list((tmp_path / "data" / "files").rglob("*.png"))


def test_prompts_are_kept_or_not(upstream: Lab, tmp_path: Path) -> None:
    with served(tmp_path, upstream) as server:
        generate(server, "a secret plan", "lab/priced", metadata={"project": "x"})
        (task,) = tasks(server)
        assert task["request"]["prompt"] == "a secret plan"
        assert task["metadata"] == {"project": "x"}
        assert "a secret plan" not in server.log.read_text()
    with served(tmp_path, upstream, history={"prompts": False}) as server:
        made = json.dumps({"data": [{"b64_json": TEXT, "revised_prompt": "another plan, in oil"}]})
        answer = generate(server, f"say {made}", "lab/priced").json()["data"][0]
        assert answer["revised_prompt"] == "another plan, in oil"
        (task,) = tasks(server, limit="1")
        assert "prompt" not in task["request"]
        assert task["outputs"][0]["revised_prompt"] is None
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("pictor.db*"))
    assert b"a secret plan" in stored
    assert b"another plan" not in stored


def test_pictures_lent_to_a_provider_are_taken_back(upstream: Lab, tmp_path: Path) -> None:
    """For a model that takes addresses only they wait in the store, and are no outputs that anybody could delete."""
    config = configured(upstream)
    config["providers"]["lab"]["models"]["fetches"] = {"ops": ["edit"], "max_images": 2, "inputs": "url"}
    with serving(tmp_path, public=True, **config) as server:
        files = [("image[]", (f"{size}.png", picture((size, size)))) for size in (64, 96)]
        form = {"model": "lab/fetches", "prompt": "slow"}
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(post, server, "images/edits", data=form, files=files)
            wait(lambda: upstream.made)
            assert len(list((tmp_path / "data" / "files").rglob("*.png"))) == 2
            upstream.go.set()
            assert asked.result().status_code == 200
        wait(lambda: len(list((tmp_path / "data" / "files").rglob("*.png"))) == 1)
        (output,) = tasks(server)[0]["outputs"]
        assert httpx.get(output["url"], trust_env=False).status_code == 200
