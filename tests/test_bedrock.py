"""What Bedrock's wire cases cannot show: the credential on the wire, regions, and what every model says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from proxy import wire
from proxy.http import Transport
from tests.fakes.base import GOOD_KEY, running
from tests.fakes.bedrock import ACCESS_KEY, SECRET_KEY, Bedrock
from tests.stage import photo
from translators import bedrock
from translators.base import Call, Fault, Job, Media, Reply, Secret, Stamp, blob

NOW = Stamp(datetime(2026, 11, 20, 12, tzinfo=UTC), "n")
KEYS = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
PICTURE = Media(blob=blob(photo()), type="image/png", width=512, height=384, alpha=True)


@pytest.fixture(scope="module")
def fake() -> Iterator[Bedrock]:
    upstream = Bedrock()
    with running(upstream):
        yield upstream


async def asked(fake: Bedrock, job: Job, secret: Secret) -> Reply:
    """The reply to the job's one call, over a real connection."""
    call = bedrock.start(job)
    assert isinstance(call, Call)
    transport = Transport()
    try:
        signed = bedrock.sign(replace(call, path=fake.url + call.path), secret, NOW)
        return await wire.read(call, await transport.handle_async_request(wire.request(call, signed, {})))
    finally:
        await transport.aclose()


@pytest.mark.parametrize(
    "secret",
    [Secret(GOOD_KEY), Secret("", extra=KEYS), Secret("", extra=KEYS | {"session_token": "temporary"})],
    ids=["key", "signed", "temporary"],
)
async def test_each_credential_is_accepted_as_it_is_sent(fake: Bedrock, secret: Secret) -> None:
    """The path goes through two libraries that have their own ideas of how a colon is written."""
    job = Job(op="edit", model="stability.sd3-5-large-v1:0", prompt="x", images=(PICTURE,))
    reply = await asked(fake, job, secret)
    assert reply.status == 200, reply.data
    sent = {name.lower(): value for name, value in fake.seen[-1].headers.items()}
    assert sent.get("x-amz-security-token") == secret.extra.get("session_token")


async def test_another_secret_is_refused(fake: Bedrock) -> None:
    job = Job(op="generate", model="stability.stable-image-core-v1:1", prompt="x")
    for secret in (Secret("other"), Secret("", extra=KEYS | {"secret_access_key": "other"})):
        with pytest.raises(Fault) as caught:
            bedrock.check(await asked(fake, job, secret))
        assert caught.value.kind == "auth"


async def test_settings_are_signed_too(fake: Bedrock) -> None:
    site = {"guardrail": "g", "guardrail_version": "2", "region": "us-east-1"}
    job = Job(op="generate", model="stability.stable-image-core-v1:1", prompt="x", site=site)
    assert (await asked(fake, job, Secret("", extra=KEYS))).status == 200
    said = fake.seen[-1].headers["Authorization"]
    assert "/20261120/us-east-1/bedrock/aws4_request" in said
    assert "x-amzn-bedrock-guardrailidentifier;x-amzn-bedrock-guardrailversion" in said


@pytest.mark.parametrize("model", bedrock.MODELS)
async def test_every_model_is_asked_for_what_it_takes(fake: Bedrock, model: str) -> None:
    caps = bedrock.MODELS[model]
    needs: dict[str, Any] = {option: "a dog" for option in ("search_prompt", "select_prompt") if option in caps.options}
    for op in caps.ops:
        drawn = op == "generate" or "style-guide" in model
        job = Job(
            op=op,
            model=model,
            prompt="x" if caps.prompt_chars and op != "variation" else "",
            images=() if op == "generate" else (PICTURE,) * max(caps.min_images, 1),
            mask=replace(PICTURE, alpha=False) if caps.mask != "none" else None,
            ratio=caps.ratios[0] if caps.ratios and drawn else None,
            size=(768, 512) if caps.free else None,
            format=caps.formats[-1],
            negative_prompt="fog" if "negative_prompt" in caps.params else None,
            seed=7 if "seed" in caps.params else None,
            style="anime" if "style" in caps.params else None,
            options=needs,
        )
        reply = await asked(fake, job, Secret(GOOD_KEY))
        assert reply.status == 200, reply.data


@pytest.mark.parametrize(
    ("site", "address", "scope"),
    [
        ({}, "https://bedrock-runtime.us-west-2.amazonaws.com", "us-west-2"),
        ({"region": "us-east-1"}, "https://bedrock-runtime.us-east-1.amazonaws.com", "us-east-1"),
        ({"region": "cn-north-1"}, "https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ({"base_url": "https://bedrock-runtime-fips.us-east-2.amazonaws.com"},
         "https://bedrock-runtime-fips.us-east-2.amazonaws.com", "us-east-2"),
        ({"base_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9", "us-west-2"),
        ({"base_url": "http://127.0.0.1:9", "region": "us-east-2"}, "http://127.0.0.1:9", "us-east-2"),
    ],
)  # fmt: skip
def test_regions(site: dict[str, str], address: str, scope: str) -> None:
    assert bedrock.base(site) == address
    call = bedrock.start(Job(op="generate", model="stability.stable-image-core-v1:1", prompt="x", site=site))
    assert isinstance(call, Call)
    assert call.state == scope


def test_an_ended_model_says_when() -> None:
    """It is not listed, but told apart from one that never was."""
    assert bedrock.caps("amazon.titan-image-generator-v1") is None
    for model, day in bedrock.ENDED.items():
        caps = bedrock.caps(model)
        assert caps is not None
        assert (caps.ends, model in bedrock.MODELS) == (day, False)
        with pytest.raises(Fault, match=day):
            bedrock.start(Job(op="generate", model=model, prompt="x"))


def test_names_of_a_model() -> None:
    inpaint = bedrock.MODELS["us.stability.stable-image-inpaint-v1:0"]
    for name in (
        "stability.stable-image-inpaint-v1:0",
        "us.stability.stable-image-inpaint-v1:0",
        "arn:aws:bedrock:us-west-2:123456789012:inference-profile/us.stability.stable-image-inpaint-v1:0",
    ):
        assert bedrock.caps(name) is inpaint
