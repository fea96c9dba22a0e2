"""What failures cost: each is counted once, and told with what was made, or by the fault where nothing was."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import translators
from proxy.catalog import Route, Target
from proxy.prices import settled, wasted
from tests.toy import CAPS, MADE, TEXT, Bench, Toy, staged, target
from translators.base import Call, Done, Fault, Job, Price, Reply, Step, Usage


def failing(kind: str, cost: float | None = None, **more: Any) -> dict[str, Any]:
    return {"fault": kind, "cost": cost, **more}


async def fault_of(bench: Bench, n: int = 1, **more: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        await bench.make(n, **more)
    return caught.value


def counted(bench: Bench, reason: str, provider: str = "toy") -> float:
    return bench.count("wasted_usd_total", provider=provider, reason=reason)


async def test_nothing_is_wasted_where_nothing_fails() -> None:
    async with staged() as bench:
        made = await bench.make(3)
        assert (made.wasted_usd, made.calls) == (0, 3)
        assert made.usage.cost_usd == pytest.approx(0.03)


async def test_a_fault_without_a_cost_costs_nothing() -> None:
    async with staged(make=[failing("policy")]) as bench:
        assert (await fault_of(bench)).cost_usd is None
        assert counted(bench, "policy") == 0


async def test_of_several_some_fail() -> None:
    async with staged(make=[failing("policy", 0.25), MADE, failing("upstream", 0.5), MADE]) as bench:
        made = await bench.make(4)
        assert (made.wasted_usd, made.calls) == (0.75, 2)
        assert made.usage.cost_usd == pytest.approx(0.02)
        assert (counted(bench, "policy"), counted(bench, "upstream")) == (0.25, 0.5)


async def test_of_several_all_fail() -> None:
    async with staged(make=[failing("policy", 0.25)]) as bench:
        assert (await fault_of(bench, 3)).cost_usd == 0.75
        assert counted(bench, "policy") == 0.75


async def test_a_second_try_after_an_empty_answer() -> None:
    async with staged(make=[failing("empty", 0.125), MADE]) as bench:
        assert (await bench.make()).wasted_usd == 0.125
        assert counted(bench, "empty") == 0.125


async def test_two_empty_answers() -> None:
    async with staged(make=[failing("empty", 0.125), failing("empty", 0.5)]) as bench:
        assert (await fault_of(bench)).cost_usd == 0.625
        assert counted(bench, "empty") == 0.625


async def test_a_credential_that_was_turned_away() -> None:
    async with staged(make=[failing("quota", 0.25), MADE], keys=("k1", "k2")) as bench:
        assert (await bench.make()).wasted_usd == 0.25
        assert counted(bench, "quota") == 0.25


async def test_a_target_that_failed_before_another_did_it() -> None:
    async with staged(make=[failing("upstream", 0.25)]) as bench, staged(make=[failing("empty", 0.5), MADE]) as other:
        second = target(other.url, "other")
        made = await bench.make(targets=[bench.targets[0], second])
        assert (made.wasted_usd, made.plan.target.id) == (0.75, "other/m")
        assert (counted(bench, "upstream"), counted(bench, "empty", "other")) == (0.25, 0.5)


async def test_all_targets_fail() -> None:
    async with staged(make=[failing("upstream", 0.25)]) as bench, staged(make=[failing("policy", 0.5)]) as other:
        second = target(other.url, "other")
        fault = await fault_of(bench, 2, targets=[bench.targets[0], second])
        assert (fault.kind, fault.cost_usd) == ("policy", 1.5)
        assert (counted(bench, "upstream"), counted(bench, "policy", "other")) == (0.5, 1.0)


async def test_a_fault_that_nothing_follows() -> None:
    async with staged(make=[failing("upstream", 0.25)]) as bench, staged() as other:
        route = Route("a", (), alias="a", fallback_on=frozenset())
        fault = await fault_of(bench, route=route, targets=[bench.targets[0], target(other.url, "other")])
        assert fault.cost_usd == 0.25
        assert not other.script.seen


async def test_sums_are_of_whole_millionths() -> None:
    """Each is rounded once, so the metric and the sum that the ledger gets cannot differ."""
    async with staged(make=[failing("policy", 0.0000015), MADE, failing("policy", 0.0000014), MADE]) as bench:
        assert (await bench.make(4)).wasted_usd == 0.000003
        assert counted(bench, "policy") == pytest.approx(0.000003, abs=1e-12)


LOST = "data:image/png;base64,!"
KEPT = f"data:image/png;base64,{TEXT}"


class Terse(Toy):
    """Says nothing of what it charges: its price list must."""

    def step(self, job: Job, reply: Reply, /) -> Step:
        made = super().step(job, reply)
        return msgspec.structs.replace(made, usage=Usage()) if isinstance(made, Done) else made


def by_list(bench: Bench) -> Target:
    rules = (Price(unit="image", amount=0.04),)
    known = target(bench.url, caps=msgspec.structs.replace(CAPS, max_n=2, prices=rules))
    return msgspec.structs.replace(known, upstream=msgspec.structs.replace(known.upstream, translator=Terse()))


async def test_pictures_that_were_charged_and_did_not_arrive() -> None:
    async with staged(make=[{"urls": [LOST]}]) as bench:
        assert (await fault_of(bench)).cost_usd == 0.01
        assert counted(bench, "upstream") == 0.01


async def test_pictures_that_did_not_arrive_cost_what_the_list_says() -> None:
    async with staged(make=[{"urls": [LOST, LOST]}]) as bench:
        assert (await fault_of(bench, 2, targets=[by_list(bench)])).cost_usd == 0.08
        assert counted(bench, "upstream") == 0.08


async def test_a_picture_that_did_not_arrive_beside_one_that_did() -> None:
    async with staged(make=[{"urls": [LOST, KEPT]}]) as bench:
        made = await bench.make(2, targets=[by_list(bench)])
        assert (len(made.outputs), made.wasted_usd) == (1, 0.04)
        assert counted(bench, "upstream") == 0.04


async def test_where_the_charge_is_told_a_lost_picture_is_in_it() -> None:
    async with staged(make=[{"urls": [LOST, KEPT]}], caps=msgspec.structs.replace(CAPS, max_n=2)) as bench:
        made = await bench.make(2)
        assert (len(made.outputs), made.wasted_usd, made.usage.cost_usd) == (1, 0, 0.01)


async def test_a_job_that_ends_without_a_picture_is_charged_all_the_same() -> None:
    async with staged(make=[{"pictures": []}]) as bench:
        assert (await fault_of(bench)).cost_usd == 0.02  # twice: an empty answer is tried again
        assert counted(bench, "empty") == 0.02


# ---- which providers tell what a failure cost


def refusal(provider: str, model: str, body: Any, path: str = "/x", method: str = "POST", **more: Any) -> Fault:
    """How a provider's answer without a picture ends."""
    headers = more.pop("headers", {})
    by, job = translators.load(provider), Job(op="generate", model=model, prompt="x", **more)
    reply = Reply(call=Call(path=path, method=method), status=200, headers=headers, data=msgspec.json.encode(body))

    def read() -> Step:
        by.check(reply)
        return by.step(job, reply)

    with pytest.raises(Fault) as caught:
        read()
    return caught.value


def cost_of(fault: Fault, provider: str, model: str) -> float | None:
    """In dollars, with a yuan at 0.14."""
    caps = translators.load(provider).MODELS[model]
    return wasted(settled(caps, 0.14), Job(op="generate", model=model), fault)


COUNT = {"promptTokenCount": 100, "candidatesTokenCount": 20, "thoughtsTokenCount": 980}


@pytest.mark.parametrize("provider", ["gemini", "vertex"])
@pytest.mark.parametrize("reason", ["NO_IMAGE", "IMAGE_SAFETY", "STOP"])
def test_google_bills_the_tokens_of_an_answer_without_a_picture(provider: str, reason: str) -> None:
    """100 in at 2 and 1,000 of words and thoughts at 12 dollars a million; no picture, as none is told of."""
    model = "gemini-3-pro-image"
    body = {"candidates": [{"finishReason": reason}], "usageMetadata": COUNT}
    fault = refusal(provider, model, body, f"/models/{model}:generateContent")
    assert cost_of(fault, provider, model) == pytest.approx(0.0122)


def test_google_bills_a_withheld_picture_where_it_says_so() -> None:
    model = "gemini-3-pro-image"
    details = [{"modality": "IMAGE", "tokenCount": 1120}]
    count = COUNT | {"candidatesTokenCount": 1120, "candidatesTokensDetails": details}
    body = {"candidates": [{"finishReason": "IMAGE_SAFETY"}], "usageMetadata": count}
    fault = refusal("gemini", model, body, f"/models/{model}:generateContent")
    assert cost_of(fault, "gemini", model) == pytest.approx(0.0002 + 0.01176 + 0.1344)


def test_liblib_takes_points_for_what_it_withholds() -> None:
    body = {"code": 0, "data": {"generateStatus": 5, "pointsCost": 10, "images": []}}
    fault = refusal("liblib", "star-3-alpha", body, "/api/generate/webui/status")
    assert cost_of(fault, "liblib", "star-3-alpha") == pytest.approx(0.014)


def test_ideogram_tells_what_unsafe_pictures_cost() -> None:
    body = {"status": "completed", "usage_cost_usd_micros": 60_000, "data": [{"url": None, "is_image_safe": False}]}
    assert refusal("ideogram", "ideogram-4", body, "/v2/generations/g", "GET").cost_usd == 0.06


def test_xai_tells_what_withheld_pictures_cost() -> None:
    blocked = {"respect_moderation": False}
    body = {"data": [blocked, blocked], "usage": {"cost_in_usd_ticks": 400_000_000}}
    assert refusal("xai", "grok-imagine-image", body, n=2).cost_usd == 0.04


def test_of_xai_a_call_is_paid_once() -> None:
    """What a call cost is told with the picture that it did make."""
    data = [{"respect_moderation": False}, {"b64_json": TEXT}]
    body = {"data": data, "usage": {"cost_in_usd_ticks": 400_000_000}}
    reply = Reply(call=Call(path="/images/generations"), status=200, data=msgspec.json.encode(body))
    done = translators.load("xai").step(Job(op="generate", model="grok-imagine-image", n=2), reply)
    assert isinstance(done, Done)
    assert done.usage.cost_usd == 0.04
    assert [fault.cost_usd for fault in done.faults] == [None]


def test_openrouter_tells_what_words_cost() -> None:
    body = {"choices": [{"message": {"content": "I cannot."}}], "usage": {"completion_tokens": 5, "cost": 0.002}}
    fault = refusal("openrouter", "google/gemini-3-pro-image", body, "/chat/completions")
    assert cost_of(fault, "openrouter", "google/gemini-3-pro-image") == 0.002


def test_minimax_counts_tokens_of_failed_pictures() -> None:
    body = {"data": [{"error": {"message": "sensitive"}}], "usage": {"input_tokens": 1000, "output_tokens": 0}}
    fault = refusal("minimax", "MiniMax-H3-Image", body, "/v1/images/generations")
    assert cost_of(fault, "minimax", "MiniMax-H3-Image") == pytest.approx(0.0023)


@pytest.mark.parametrize(("units", "usd"), [("2", 0.08), ("0", None), (None, None)])
def test_fal_tells_whether_what_it_blacked_out_was_billed(units: str | None, usd: float | None) -> None:
    model = "fal-ai/flux-pro/v1.1"
    body = {"images": [{"url": "https://v3.fal.media/a.png"}] * 2, "has_nsfw_concepts": [True, True]}
    headers = {} if units is None else {"x-fal-billable-units": units}
    fault = refusal("fal", model, body, f"/{model}/requests/r", "GET", n=2, headers=headers)
    assert fault.kind == "policy"
    assert cost_of(fault, "fal", model) == usd
