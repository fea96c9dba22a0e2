"""What is sent again, what never is, and what becomes of a job: an engine over real sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from proxy import route, run
from proxy.catalog import Route, Target
from proxy.errors import problem, uncertain
from proxy.route import ordered
from tests.server import free_port
from tests.sockets import left, until
from tests.toy import CAPS, MADE, PNG, TEXT, Answer, Bench, Script, events, reset, shown, silence, staged, target
from translators.base import Done, Fault, FaultKind, Job

POLLED: Answer = {"poll": "/poll"}
STREAMED = Job(op="generate", model="m", prompt="x", stream=True)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "backoff", lambda tried: 0.0)


async def fault_of(running: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        await running
    return caught.value


def told(fault: Fault) -> tuple[FaultKind, str | None]:
    return fault.kind, fault.code


def never_again(fault: Fault) -> bool:
    """Whether the client's SDK is told not to repeat the request."""
    return problem(fault).headers.get("x-should-retry") == "false"


def pictures(done: Done) -> list[bytes]:
    return [output.blob.bytes() for output in done.outputs if output.blob]


# Submits


async def test_a_job() -> None:
    async with staged() as bench:
        assert pictures(await bench.run()) == [PNG]
        assert bench.script.keys("/make") == ["k1"]
        assert bench.count("upstream_calls_total", provider="toy", call="submit", result="2xx") == 1


async def test_no_connection_is_tried_again() -> None:
    async with staged(base=f"http://127.0.0.1:{free_port()}") as bench:
        fault = await fault_of(bench.run())
    assert told(fault) == ("overloaded", "unreachable")
    assert not never_again(fault)
    assert bench.count("upstream_calls_total", provider="toy", call="submit", result="reset") == run.TRIES
    assert bench.count("retries_total", provider="toy", call="submit", reason="overloaded") == run.TRIES - 1


async def test_a_server_that_comes_up_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was never sent may be sent again, and is."""
    port, script = free_port(), Script({"/make": [MADE]})
    up = asyncio.Event()
    runner = web.AppRunner(app := web.Application(), access_log=None)
    app.router.add_post("/make", script.answer)

    async def sleep(seconds: float) -> None:
        if not up.is_set():
            up.set()
            await web.TCPSite(runner, "127.0.0.1", port).start()

    await runner.setup()
    async with staged(base=f"http://127.0.0.1:{port}") as bench:
        monkeypatch.setattr(asyncio, "sleep", sleep)
        assert pictures(await bench.run()) == [PNG]
        monkeypatch.undo()
    await runner.cleanup()
    assert len(script.seen) == 1


@pytest.mark.parametrize("broken", [reset, b"{", b'{"pictures": ["' + TEXT.encode(), b"", b"<html>", 302, 204])
async def test_a_lost_answer_is_ambiguous(broken: Answer) -> None:
    """The body was sent, so it may have been paid: neither we nor the client's SDK nor a fallback repeats it."""
    async with staged(make=[broken, MADE]) as bench, staged() as other:
        fault = await fault_of(bench.make(targets=[bench.targets[0], target(other.url, "other")]))
        assert len(bench.script.seen) == 1
        assert not other.script.seen
    assert fault.kind == "upstream"
    assert never_again(fault)


async def test_an_answer_that_breaks_off_is_ambiguous() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"pictures": ["' + b"A" * 200_000)
        return await reset(request)

    async with staged(make=[cut, MADE]) as bench:
        fault = await fault_of(bench.make())
        assert len(bench.script.seen) == 1
    assert told(fault) == ("upstream", "ambiguous")
    assert never_again(fault)
    assert bench.count("upstream_calls_total", provider="toy", call="submit", result="ambiguous") == 1


async def test_no_first_byte_in_time_is_ambiguous() -> None:
    async with staged(make=[silence, MADE], first_byte_seconds=0.05) as bench:
        fault = await fault_of(bench.make())
        assert len(bench.script.seen) == 1
    assert told(fault) == ("timeout", "ambiguous")
    assert never_again(fault)
    assert bench.count("upstream_calls_total", provider="toy", call="submit", result="timeout") == 1


@pytest.mark.parametrize(
    ("turned_away", "reason"),
    [
        ((429, {"Retry-After": "0.01"}), "rate"),
        ((429, {"retry-after-ms": "5"}), "rate"),
        (429, "rate"),
        (503, "overloaded"),
        (529, "overloaded"),
        ((503, {"Retry-After": "0"}), "overloaded"),
    ],
)
async def test_what_was_turned_away_is_tried_again(turned_away: Answer, reason: str) -> None:
    async with staged(make=[turned_away, turned_away, MADE]) as bench:
        assert pictures(await bench.run()) == [PNG]
        assert len(bench.script.seen) == 3
    assert bench.count("retries_total", provider="toy", call="submit", reason=reason) == 2


async def test_a_short_pause_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause is the provider's own, not ours."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    async with staged(make=[(429, {"Retry-After": "4"}), MADE]) as bench:
        monkeypatch.setattr(asyncio, "sleep", noted)
        await bench.run()
        monkeypatch.undo()
    assert 4.0 in slept


async def test_a_long_pause_is_passed_on() -> None:
    async with staged(make=[(429, {"Retry-After": "60"}), MADE]) as bench:
        fault = await fault_of(bench.run())
        assert len(bench.script.seen) == 1
    assert (fault.kind, fault.retry_after) == ("rate", 60)
    headers = problem(fault).headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("60", "60000")


@pytest.mark.parametrize("status", [500, 502, 504, 400, 401, 402, 403, 404])
async def test_what_may_have_been_worked_on_is_not_repeated(status: int) -> None:
    async with staged(make=[status, MADE]) as bench:
        await fault_of(bench.run())
        assert len(bench.script.seen) == 1


async def test_an_overloaded_provider_is_given_up_after_three_tries() -> None:
    async with staged(make=[503]) as bench:
        assert told(await fault_of(bench.run())) == ("overloaded", None)
        assert len(bench.script.seen) == run.TRIES


@pytest.mark.parametrize("fault", ["rate", "overloaded"])
async def test_a_final_fault_is_not_repeated(fault: str) -> None:
    async with staged(make=[{"fault": fault, "final": True}, MADE]) as bench:
        assert (await fault_of(bench.run())).kind == fault
        assert len(bench.script.seen) == 1


# Polls


async def html(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>bad gateway", content_type="text/html")


async def half(request: web.Request) -> web.StreamResponse:
    """JSON that ends in the middle of a picture, by a server that closes where it should tell a length."""
    response = web.StreamResponse(headers={"Connection": "close"})
    response.force_close()
    response._length_check = False
    await response.prepare(request)
    await response.write(b'{"pictures": ["' + b"A" * 100_000)
    return response


RESULTS = ("2xx", "4xx", "429", "5xx", "reset", "timeout", "ambiguous")

UNTOLD: list[Answer] = [408, 409, 425, 429, 500, 502, 503, 504, 520, reset, b"{", b"", html, half, {"running": 3}]
"""What says of a poll alone that it failed, of the job nothing."""


def id_of(answer: Answer) -> str:
    """Its name in a report, which is the same in every process."""
    return str(getattr(answer, "__name__", answer))


@pytest.mark.parametrize("answer", UNTOLD, ids=id_of)
async def test_a_poll_that_fails_loses_nothing(answer: Answer) -> None:
    async with staged(make=[POLLED], poll=[{"running": True}, *[answer] * 9, {"running": True}, answer, MADE]) as bench:
        assert pictures(await bench.run()) == [PNG]
        assert len(bench.script.calls("/make")) == 1
        assert len(bench.script.calls("/poll")) == 13


@pytest.mark.parametrize("status", [404, 401])
async def test_a_task_that_is_not_known_yet(status: int) -> None:
    """Nor is one refused credential believed: tokens end, replicas lag."""
    async with staged(make=[POLLED], poll=[status, status, MADE]) as bench:
        assert pictures(await bench.run()) == [PNG]


@pytest.mark.parametrize("answer", [500, reset, b"{", 429], ids=id_of)
async def test_a_poll_is_given_up_at_last(answer: Answer) -> None:
    """The job's fate is unknown then: nobody makes it again, with this credential, another, or elsewhere."""
    async with staged(make=[POLLED], poll=[answer], keys=("k1", "k2")) as bench, staged() as other:
        fault = await fault_of(bench.make(targets=[bench.targets[0], target(other.url, "other")]))
        assert len(bench.script.calls("/make")) == 1
        assert not other.script.seen
    assert (
        sum(bench.count("upstream_calls_total", provider="toy", call="poll", result=result) for result in RESULTS)
        == run.POLL_FAULTS
    )
    assert never_again(fault)


@pytest.mark.parametrize(("status", "kind"), [(404, "missing"), (401, "auth")])
async def test_what_a_poll_says_three_times_is_believed(status: int, kind: str) -> None:
    async with staged(make=[POLLED], poll=[status], keys=("k1", "k2")) as bench:
        assert (await fault_of(bench.make())).kind == kind
        assert len(bench.script.calls("/poll")) == run.POLL_DOUBTS
        assert len(bench.script.calls("/make")) == 1


@pytest.mark.parametrize("status", [402, 403, 400])
async def test_a_poll_that_is_refused_is_no_reason_to_pay_again(status: int) -> None:
    async with staged(make=[POLLED], poll=[status], keys=("k1", "k2")) as bench, staged() as other:
        fault = await fault_of(bench.make(targets=[bench.targets[0], target(other.url, "other")]))
        assert len(bench.script.calls("/poll")) == 1
        assert len(bench.script.calls("/make")) == 1
        assert not other.script.seen
    assert never_again(fault) or problem(fault).status < 429


@pytest.mark.parametrize(
    "answer",
    [
        {"fault": "upstream", "code": "task_failed", "final": True},
        {"fault": "rate", "final": True},
        {"fault": "policy", "code": "moderation_blocked"},
        {"fault": "invalid"},
    ],
)
async def test_the_tasks_own_fault_ends_it(answer: dict[str, Any]) -> None:
    async with staged(make=[POLLED], poll=[{"running": True}, answer, MADE]) as bench:
        assert (await fault_of(bench.run())).kind == answer["fault"]
        assert len(bench.script.calls("/poll")) == 2


async def test_a_failed_task_may_be_made_elsewhere() -> None:
    failed = {"fault": "upstream", "code": "task_failed", "final": True}
    async with staged(make=[POLLED], poll=[failed]) as bench, staged() as other:
        made = await bench.make(targets=[bench.targets[0], target(other.url, "other")])
        assert made.plan.target.upstream.name == "other"


async def test_polls_keep_the_pause_that_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    async with staged(make=[POLLED], poll=[(429, {"Retry-After": "7"}), MADE]) as bench:
        monkeypatch.setattr(asyncio, "sleep", noted)
        await bench.run()
        monkeypatch.undo()
    assert 7.0 in slept


async def test_the_deadline_bounds_submit_and_polls() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return web.json_response({"running": True})

    async with staged(make=[POLLED], poll=[slow], job_seconds=0.1) as bench:
        fault = await fault_of(bench.run())
    assert told(fault) == ("timeout", "deadline_exceeded")
    assert problem(fault).status == 504
    assert never_again(fault)


async def test_the_deadline_bounds_the_download() -> None:
    async with staged(job_seconds=0.1, more={"/picture": [silence]}) as bench:
        bench.script.answers["/make"] = [{"urls": [f"{bench.url}/picture"]}]
        assert told(await fault_of(bench.run())) == ("timeout", "deadline_exceeded")


# Where credentials go


@pytest.mark.parametrize(
    "spelling",
    [
        "http://127.0.0.2:{port}/poll",
        "http://localhost:{port}/poll",
        "http://{host}:{other}/poll",
        "https://{host}:{port}/poll",
        "http://evil@{host}:{port}/poll",
        "http://{host}:{port}@127.0.0.2:{port}/poll",
        "https://toy.example.evil.example/poll",
        "https://evil.example/a.toy.example",
        "http://a.toy.example/poll",
        "https://user@a.toy.example/poll",
        "https://eviltoy.example/poll",
    ],
)
async def test_a_foreign_poll_address_never_sees_the_key(spelling: str) -> None:
    async with staged() as bench, staged() as other:
        host, _, port = bench.url.removeprefix("http://").partition(":")
        poll = spelling.format(host=host, port=port, other=other.url.rpartition(":")[2])
        bench.script.answers["/make"] = [{"poll": poll}]
        fault = await fault_of(bench.run())
        assert told(fault) == ("upstream", "foreign_host")
        assert not other.script.seen
        assert not bench.script.calls("/poll")


@pytest.mark.parametrize("poll", ["{url}/poll", "/poll", "{url}/poll?id=a%2Fb"])
async def test_polls_at_home(poll: str) -> None:
    async with staged() as bench:
        bench.script.answers["/make"] = [{"poll": poll.format(url=bench.url)}]
        assert pictures(await bench.run()) == [PNG]
        assert bench.script.keys("/poll") == ["k1"]


def test_hosts_of_the_provider_may_be_polled() -> None:
    upstream = target("http://127.0.0.1:1").upstream
    assert run.address("https://eu.toy.example/x", upstream) == "https://eu.toy.example/x"
    assert run.address("https://eu.toy.example:8443/x", upstream) == "https://eu.toy.example:8443/x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed_with_a_credential(status: int) -> None:
    async with staged() as other, staged(make=[(status, {"Location": f"{other.url}/make"})]) as bench:
        assert (await fault_of(bench.run())).kind == "upstream"
        assert not other.script.seen


# Downloads


async def test_a_made_picture_is_fetched_without_the_credential() -> None:
    """From the configured server, which may be private, also through its own redirect."""
    async with staged(more={"/picture": [(302, {"Location": "/there"})], "/there": [PNG]}) as bench:
        bench.script.answers["/make"] = [{"urls": [f"{bench.url}/picture"]}]
        assert pictures(await bench.run()) == [PNG]
        for request in (*bench.script.calls("/picture"), *bench.script.calls("/there")):
            assert "Authorization" not in request.headers
            assert "k1" not in str(request.headers)


async def test_a_made_picture_in_a_data_url() -> None:
    async with staged(make=[{"urls": [f"data:image/png;base64,{TEXT}"]}]) as bench:
        assert pictures(await bench.run()) == [PNG]


@pytest.mark.parametrize("way", ["address", "redirect", "other port"])
async def test_a_made_picture_at_a_private_address_is_not_fetched(way: str) -> None:
    async with staged() as bench, staged() as other:
        private = {
            "address": bench.url.replace("127.0.0.1", "127.0.0.2") + "/make",
            "other port": f"{other.url}/make",
            "redirect": f"{bench.url}/redirect",
        }[way]
        bench.script.answers["/redirect"] = [(302, {"Location": f"{other.url}/make"})]
        bench.script.answers["/make"] = [{"urls": [private]}]
        fault = await fault_of(bench.make())
        assert not other.script.seen
        assert len(bench.script.calls("/make")) == 1
    assert told(fault) == ("upstream", "foreign_host")
    assert bench.count("fetch_refused_total", source="provider", reason="address") == 1


async def test_a_listed_address_is_fetched() -> None:
    async with staged(allow=["127.0.0.0/8"]) as bench, staged(more={"/picture": [PNG]}) as other:
        bench.script.answers["/make"] = [{"urls": [f"{other.url}/picture"]}]
        assert pictures(await bench.run()) == [PNG]
        assert other.script.keys("/picture") == [""]


@pytest.mark.parametrize("failing", [[500, 500], [404, 404], [reset] * 4], ids=["500", "404", "reset"])
async def test_a_download_is_tried_again(failing: list[Answer]) -> None:
    """It is paid for."""
    async with staged(more={"/picture": [*failing, PNG]}) as bench:
        bench.script.answers["/make"] = [{"urls": [f"{bench.url}/picture"]}]
        assert pictures(await bench.run()) == [PNG]
        assert len(bench.script.calls("/make")) == 1
    assert bench.count("retries_total", provider="toy", call="fetch", reason="upstream") == 2


@pytest.mark.parametrize("bytes_", [bytes(1001), b""])
async def test_a_download_is_bounded(bytes_: bytes) -> None:
    async with staged(more={"/picture": [bytes_ or 500]}, output_bytes=1000) as bench, staged() as other:
        bench.script.answers["/make"] = [{"urls": [f"{bench.url}/picture"]}]
        fault = await fault_of(bench.make(targets=[bench.targets[0], target(other.url, "other")]))
        assert not other.script.seen  # it was made and paid: a second one is the client's to decide
    assert told(fault) == ("upstream", "download_failed")
    assert never_again(fault)


@pytest.mark.parametrize("bad", [404, (302, {"Location": "http://a:port/"})], ids=["404", "redirect"])
async def test_one_of_two_downloads_fails(bad: Answer) -> None:
    async with staged(more={"/good": [PNG], "/bad": [bad]}) as bench:
        bench.script.answers["/make"] = [{"urls": [f"{bench.url}/bad", f"{bench.url}/good"]}]
        done = await bench.run()
        assert pictures(done) == [PNG]
        assert [fault.kind for fault in done.faults] == ["upstream"]


# Streams


async def test_a_stream() -> None:
    frames = [("partial", {"pictures": ["QUJD"]}), ("made", {"pictures": [TEXT]}), ("made", {"pictures": [TEXT]})]
    async with staged(make=[events(*frames)]) as bench:
        assert pictures(await bench.run(STREAMED)) == [PNG, PNG]
        assert [partial.output.blob.bytes() for partial in bench.partials if partial.output.blob] == [b"ABC"]


ENDS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "reset": [],
    "fault": [("x", {"fault": "policy"})],
    "unreadable": [("x", {"pictures": 1})],
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_that_breaks_keeps_what_was_finished(end: str) -> None:
    answer = events(("made", {"pictures": [TEXT]}), *ENDS[end], broken=end == "reset")
    async with staged(make=[answer]) as bench:
        done = await bench.run(STREAMED)
        assert pictures(done) == [PNG]
        assert len(done.faults) == 1
        assert len(bench.script.seen) == 1


async def test_a_stream_that_breaks_before_is_not_repeated() -> None:
    async with staged(make=[events(("partial", {"pictures": ["QUJD"]}), broken=True), MADE]) as bench:
        assert told(await fault_of(bench.run(STREAMED))) == ("upstream", "ambiguous")
        assert len(bench.script.seen) == 1


async def test_a_stream_that_fails_after_a_preview_is_paid() -> None:
    answer = events(("partial", {"pictures": ["QUJD"]}), ("x", {"fault": "overloaded"}))
    async with staged(make=[answer, MADE]) as bench:
        fault = await fault_of(bench.run(STREAMED))
        assert told(fault) == ("overloaded", None)
        assert len(bench.script.seen) == 1
    assert uncertain(fault)


async def test_a_stream_was_asked_for_and_json_came() -> None:
    async with staged() as bench:
        assert pictures(await bench.run(STREAMED)) == [PNG]


# Empty answers


async def test_empty_is_asked_once_more() -> None:
    async with staged(make=[{"pictures": []}, MADE]) as bench:
        assert len((await bench.make()).outputs) == 1
    assert bench.count("retries_total", provider="toy", call="submit", reason="empty") == 1


async def test_empty_twice_is_a_fault() -> None:
    async with staged(make=[{"pictures": []}]) as bench:
        fault = await fault_of(bench.make())
        assert len(bench.script.seen) == 2
    assert fault.kind == "empty"
    assert problem(fault).status == 502
    assert never_again(fault)


async def test_policy_is_never_asked_again() -> None:
    async with staged(make=[{"fault": "policy"}, MADE]) as bench:
        assert (await fault_of(bench.make())).kind == "policy"
        assert len(bench.script.seen) == 1


# Several credentials


def by_key(answers: Mapping[str, Answer]) -> Answer:
    """An answer for each credential."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await shown(answers[request.headers["Authorization"].removeprefix("Bearer ")], request)

    return answer


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_a_credential_that_is_turned_away_rests(status: int) -> None:
    away: Answer = (status, {"Retry-After": "60"}) if status == 429 else status
    async with staged(make=[by_key({"k1": away, "k2": MADE, "k3": MADE})], keys=("k1", "k2", "k3")) as bench:
        for _ in range(6):
            await bench.make()
        keys = Counter(bench.script.keys("/make"))
        assert keys["k1"] == 1
        assert {keys["k2"], keys["k3"]} <= {2, 3, 4}


async def test_a_rested_credential_comes_back() -> None:
    now = 0.0
    async with staged(make=[by_key({"k1": (429, {"Retry-After": "60"}), "k2": MADE})], keys=("k1", "k2")) as bench:
        bench.health.clock = lambda: now
        for _ in range(4):
            await bench.make()
        assert bench.script.keys("/make").count("k1") == 1
        now = 61.0
        for _ in range(2):
            await bench.make()
        assert bench.script.keys("/make").count("k1") == 2


async def test_credentials_share_the_load() -> None:
    async with staged(keys=("k1", "k2", "k3")) as bench:
        for _ in range(6):
            await bench.make()
        assert Counter(bench.script.keys("/make")) == {"k1": 2, "k2": 2, "k3": 2}


async def test_all_credentials_are_turned_away() -> None:
    async with staged(make=[401], keys=("k1", "k2")) as bench:
        assert (await fault_of(bench.make())).kind == "auth"
        assert sorted(bench.script.keys("/make")) == ["k1", "k2"]
        assert (await fault_of(bench.make())).kind == "auth"  # all rest: better tried than refused
        assert len(bench.script.seen) == 4


@pytest.mark.parametrize("status", [400, 500, 404])
async def test_other_faults_are_not_tried_with_another_credential(status: int) -> None:
    async with staged(make=[status], keys=("k1", "k2")) as bench:
        await fault_of(bench.make())
        assert len(bench.script.seen) == 1


async def test_polls_keep_their_submits_credential() -> None:
    running: list[Answer] = [{"running": True}] * 3
    async with staged(make=[POLLED], poll=[*running, MADE, *running, MADE], keys=("k1", "k2")) as bench:
        for _ in range(2):
            await bench.make()
        submits, polls = bench.script.keys("/make"), bench.script.keys("/poll")
        assert submits == ["k1", "k2"]
        assert polls == ["k1"] * 4 + ["k2"] * 4


# The breaker


async def tripped(bench: Bench) -> None:
    for _ in range(route.TRIPS):
        assert told(await fault_of(bench.make())) != ("overloaded", "breaker_open")


async def test_the_breaker_opens_after_five_faults_of_the_provider() -> None:
    async with staged(make=[500]) as bench:
        await tripped(bench)
        assert bench.count("breaker_open", target="toy/m") == 1
        seen = len(bench.script.seen)
        fault = await fault_of(bench.make())
        assert told(fault) == ("overloaded", "breaker_open")
        assert problem(fault).status == 503
        assert len(bench.script.seen) == seen


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429])
async def test_faults_of_a_client_never_open_it(status: int) -> None:
    async with staged(make=[status]) as bench:
        for _ in range(route.TRIPS * 2):
            await fault_of(bench.make())
        assert bench.count("breaker_open", target="toy/m") == 0
        assert await fault_of(bench.make()) is not None
        assert bench.health.admits(bench.targets[0])


async def test_a_success_between_keeps_it_shut() -> None:
    async with staged(make=[500, 500, 500, 500, MADE, 500, 500, 500, 500, MADE]) as bench:
        for _ in range(10):
            try:
                await bench.make()
            except Fault as fault:
                assert fault.code != "breaker_open"


async def half_open(bench: Bench) -> Callable[[float], None]:
    """The breaker is open; the function that comes back turns the clock."""
    now = 0.0

    def turn(seconds: float) -> None:
        nonlocal now
        now += seconds

    bench.health.clock = lambda: now
    await tripped(bench)
    turn(route.OPEN_SECONDS - 1)
    assert (await fault_of(bench.make())).code == "breaker_open"
    turn(2)
    return turn


async def test_one_job_tries_whether_it_is_well_again() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def waiting(request: web.Request) -> web.StreamResponse:
        entered.set()
        await leave.wait()
        return web.json_response(MADE)

    async with staged(make=[*[500] * route.TRIPS, waiting, MADE]) as bench:
        await half_open(bench)
        first = asyncio.create_task(bench.make())
        await entered.wait()
        for _ in range(3):  # nobody else, while it is not back
            assert (await fault_of(bench.make())).code == "breaker_open"
        leave.set()
        assert len((await first).outputs) == 1
        assert bench.count("breaker_open", target="toy/m") == 0
        assert len((await bench.make()).outputs) == 1


async def test_it_stays_open_where_the_try_fails() -> None:
    async with staged(make=[500]) as bench:
        turn = await half_open(bench)
        assert (await fault_of(bench.make())).kind == "upstream"
        assert (await fault_of(bench.make())).code == "breaker_open"
        turn(route.OPEN_SECONDS + 1)
        assert (await fault_of(bench.make())).kind == "upstream"


@pytest.mark.parametrize("end", ["client's fault", "client leaves"])
async def test_a_try_that_tells_nothing_leaves_the_next_one_free(end: str) -> None:
    trial: Answer = 400 if end == "client's fault" else silence
    async with staged(make=[*[500] * route.TRIPS, trial, MADE]) as bench:
        await half_open(bench)
        if end == "client's fault":
            assert (await fault_of(bench.make())).kind == "invalid"
        else:
            job = asyncio.create_task(bench.make())
            await until(lambda: len(bench.script.seen) > route.TRIPS)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
        assert len((await bench.make()).outputs) == 1


async def test_an_open_breaker_leads_to_the_next_target() -> None:
    async with staged(make=[500]) as bench, staged() as other:
        both = [bench.targets[0], target(other.url, "other")]
        for _ in range(route.TRIPS + 2):
            assert len((await bench.make(targets=both)).outputs) == 1
        assert len(bench.script.seen) == route.TRIPS
        assert len(other.script.seen) == route.TRIPS + 2
    assert bench.count("fallbacks_total", alias="alias", reason="upstream") == route.TRIPS
    assert bench.count("fallbacks_total", alias="alias", reason="overloaded") == 2


# Fallback


KINDS: dict[FaultKind, bool] = {
    "auth": True, "permission": True, "quota": True, "rate": True, "invalid": False, "policy": False, "missing": True,
    "overloaded": True, "upstream": True, "empty": True, "timeout": True, "cancelled": False,
}  # fmt: skip
"""Whether a fault leads to the next target, where the configuration says nothing of it."""


@pytest.mark.parametrize("kind", KINDS)
async def test_what_falls_back(kind: FaultKind) -> None:
    async with staged(make=[{"fault": kind}]) as bench, staged() as other:
        both = [bench.targets[0], target(other.url, "other")]
        if KINDS[kind]:
            assert (await bench.make(targets=both)).plan.target.id == "other/m"
        else:
            assert (await fault_of(bench.make(targets=both))).kind == kind
            assert not other.script.seen
    assert bench.count("fallbacks_total", alias="alias", reason=kind) == KINDS[kind]


@pytest.mark.parametrize("kind", ["policy", "upstream"])
async def test_what_a_route_falls_back_on_is_its_own(kind: FaultKind) -> None:
    async with staged(make=[{"fault": kind}]) as bench, staged() as other:
        both = (bench.targets[0], target(other.url, "other"))
        only = Route("alias", both, alias="alias", fallback_on=frozenset({"policy"}))
        if kind == "policy":
            assert (await bench.make(route=only, targets=both)).plan.target.id == "other/m"
        else:
            assert (await fault_of(bench.make(route=only, targets=both))).kind == kind


async def test_targets_are_tried_in_order_and_the_last_fault_is_told() -> None:
    async with staged(make=[500]) as first, staged(make=[404]) as second, staged(make=[504]) as third:
        every = [target(bench.url, name) for name, bench in (("a", first), ("b", second), ("c", third))]
        assert (await fault_of(first.make(targets=every))).kind == "timeout"
        assert [len(bench.script.seen) for bench in (first, second, third)] == [1, 1, 1]


async def test_a_target_that_cannot_do_it_is_not_called() -> None:
    edits = replace(CAPS, ops=frozenset({"edit"}), max_images=1)
    async with staged() as able, staged() as unable:
        every = [target(unable.url, "unable", caps=edits), target(able.url, "able")]
        assert (await able.make(targets=every)).plan.target.id == "able/m"
        assert not unable.script.seen


def named(*weights: float) -> list[Target]:
    return [target("http://x", name=str(i), weight=weight) for i, weight in enumerate(weights)]


def test_targets_of_one_weight_keep_their_order() -> None:
    for weight in (0, 1, 3):
        assert [each.upstream.name for each in ordered(named(weight, weight, weight))] == ["0", "1", "2"]


def test_weights_draw_the_first_try(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Counter(tuple(each.upstream.name for each in ordered(named(3, 1))) for _ in range(4000))
    assert set(drawn) == {("0", "1"), ("1", "0")}
    assert 2800 < drawn["0", "1"] < 3200  # 3000 by its weight; 7 standard deviations off is no chance


def test_a_weight_of_nothing_comes_last() -> None:
    for _ in range(20):
        assert [each.upstream.name for each in ordered(named(0, 1))] == ["1", "0"]


# Fan-out


async def test_more_pictures_than_one_call_makes() -> None:
    async with staged() as bench:
        made = await bench.make(4)
        assert len(made.outputs) == len(bench.script.seen) == 4
        assert made.faults == ()
        assert made.usage.cost_usd == pytest.approx(0.04)
    assert bench.count("jobs_total", op="generate", provider="toy", model="m", outcome="ok") == 1


async def test_some_of_several_fail() -> None:
    async with staged(make=[500, MADE, {"fault": "policy"}, MADE]) as bench:
        made = await bench.make(4)
        assert len(made.outputs) == 2
        assert sorted(fault.kind for fault in made.faults) == ["policy", "upstream"]
    assert bench.count("jobs_total", op="generate", provider="toy", model="m", outcome="partial") == 1


async def test_all_of_several_fail() -> None:
    async with staged(make=[{"fault": "policy"}]) as bench:
        assert (await fault_of(bench.make(4))).kind == "policy"
    assert bench.count("jobs_total", op="generate", provider="toy", model="m", outcome="policy") == 1


def gathering(size: int) -> Answer:
    """Answers none before `size` have come; more than so many at once would be seen by the script."""
    barrier = asyncio.Barrier(size)

    async def answer(request: web.Request) -> web.StreamResponse:
        await barrier.wait()
        await asyncio.sleep(0.01)
        return web.json_response(MADE)

    return answer


async def test_a_request_makes_some_at_a_time() -> None:
    async with staged(make=[gathering(route.FAN_OUT)]) as bench:
        assert len((await bench.make(2 * route.FAN_OUT)).outputs) == 2 * route.FAN_OUT
        assert bench.script.most_at_once == route.FAN_OUT


async def test_a_providers_concurrency_bounds_all_requests() -> None:
    async with staged(make=[gathering(2)], concurrency=2) as bench:
        made = await asyncio.gather(*(bench.make(2) for _ in range(4)))
        assert sum(len(each.outputs) for each in made) == 8
        assert bench.script.most_at_once == 2
    assert bench.count("jobs_queued", provider="toy") == 0


async def test_a_job_that_leaves_gives_its_place_back() -> None:
    async with staged(make=[silence, MADE], concurrency=1) as bench:
        first, waiting = asyncio.create_task(bench.make()), asyncio.create_task(bench.make())
        await until(lambda: bench.script.seen and bench.count("jobs_queued", provider="toy"))
        for job in (waiting, first):
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
        assert bench.count("jobs_queued", provider="toy") == bench.count("jobs_running", provider="toy") == 0
        assert len((await bench.make()).outputs) == 1
    assert bench.count("jobs_total", op="generate", provider="toy", model="m", outcome="cancelled") == 2


async def test_no_place_within_the_time_is_overloaded() -> None:
    async with staged(make=[silence], concurrency=1) as bench:
        first = asyncio.create_task(bench.make())
        await until(lambda: bench.script.seen)
        soon = asyncio.get_running_loop().time() + 0.05
        job, at = Job(op="generate", model="m", prompt="x"), bench.targets[0]
        with pytest.raises(Fault) as caught:
            await bench.engine.run(job, at, at.upstream.credentials[0], bench.emit, ends=soon)
        assert (caught.value.kind, caught.value.code) == ("overloaded", "queue_full")
        assert "x-should-retry" not in problem(caught.value).headers
        assert len(bench.script.seen) == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_one_deadline_holds_for_all_calls_of_a_request() -> None:
    """Not one for each: eight calls, four at a time, none of which answers, end together."""
    async with staged(make=[silence], job_seconds=0.3) as bench:
        assert (await fault_of(bench.make(2 * route.FAN_OUT))).code == "deadline_exceeded"
        assert len(bench.script.calls("/make")) == route.FAN_OUT


async def test_only_so_many_pasts_are_kept() -> None:
    async with staged() as bench:
        for number in range(route.KNOWN + 50):
            bench.health.failed(target(bench.url, name=f"toy{number}"), "upstream")
        assert len(bench.health.circuits) == route.KNOWN


async def test_a_cancelled_job_lets_go_of_its_call() -> None:
    async with staged(make=[silence]) as bench:
        job = asyncio.create_task(bench.make())
        await until(lambda: bench.script.seen)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await until(lambda: left(bench.script.seen[0]))


async def test_a_fault_that_cost_money_is_counted() -> None:
    async with staged(make=[{"fault": "policy", "cost": 0.25}]) as bench:
        assert (await fault_of(bench.make())).cost_usd == 0.25
    assert bench.count("wasted_usd_total", provider="toy", reason="policy") == 0.25
