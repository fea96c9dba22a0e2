"""What no recorded conversation shows of OpenAI and Azure: addresses, models by their names, credentials, refusals."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from translators import azure, openai, shapes
from translators.base import Blob, Call, Fault, Job, Output, Reply, Secret, Stamp

NOW = Stamp(datetime(2026, 11, 20, tzinfo=UTC), "0")


@pytest.mark.parametrize(
    ("site", "base"),
    [
        ({}, "https://api.openai.com/v1"),
        ({"region": ""}, "https://api.openai.com/v1"),
        ({"region": "eu"}, "https://eu.api.openai.com/v1"),
        ({"base_url": "http://gpu-1:8188/v1/"}, "http://gpu-1:8188/v1"),
    ],
)
def test_openai_base(site: dict[str, str], base: str) -> None:
    assert openai.base(site) == base


@pytest.mark.parametrize(
    "pasted",
    [
        "https://openai-eu.openai.azure.com",
        "https://openai-eu.openai.azure.com/",
        "https://openai-eu.openai.azure.com/openai",
        "https://openai-eu.openai.azure.com/openai/v1/",
        "https://openai-eu.openai.azure.com/openai/deployments/x/images/generations?api-version=2025-04-01-preview",
    ],
)
def test_azure_cuts_what_was_pasted(pasted: str) -> None:
    assert azure.base({"endpoint": pasted}) == "https://openai-eu.openai.azure.com"


def test_azure_keeps_a_gateway_path() -> None:
    assert azure.base({"endpoint": "https://apim.example/pictures/openai/v1"}) == "https://apim.example/pictures"
    assert azure.base({"base_url": "http://127.0.0.1:9", "endpoint": "https://a.example"}) == "http://127.0.0.1:9"
    assert azure.base({}) == ""


def test_openai_serves_what_openai_serves() -> None:
    assert openai.caps("gpt-image-2-2026-04-21") == openai.MODELS["gpt-image-2"]
    for retired in ("dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-2-mine", ""):
        assert openai.caps(retired) is None


@pytest.mark.parametrize(
    ("deployment", "model"),
    [
        ("gpt-image-2", "gpt-image-2"),
        ("gpt-image-2-eu", "gpt-image-2"),
        ("gpt-image-2.5-flare-prod", "gpt-image-2.5-flare"),
        ("gpt-image-1-mini", "gpt-image-1-mini"),
    ],
)
def test_azure_knows_a_deployment_by_its_name(deployment: str, model: str) -> None:
    assert azure.caps(deployment) == azure.MODELS[model]


def test_azure_takes_any_other_deployment_for_what_all_can_do() -> None:
    caps = azure.caps("house-pictures")
    for model in azure.MODELS.values():
        assert caps.params <= model.params
        assert set(caps.qualities) <= set(model.qualities)
        assert caps.formats == model.formats
    assert not caps.prices


def test_credentials() -> None:
    call = Call(path="https://x.example/")
    assert openai.sign(call, Secret("k"), NOW).headers == {"Authorization": "Bearer k"}
    assert openai.sign(call, Secret(""), NOW).headers == {}
    assert azure.sign(call, Secret("k"), NOW).headers == {"api-key": "k"}
    assert azure.sign(call, Secret("t", "bearer"), NOW).headers == {"Authorization": "Bearer t"}


@pytest.mark.parametrize("name", ["model", "n", "stream", "image[]", "size"])
def test_options_may_not_overrule_what_was_checked(name: str) -> None:
    with pytest.raises(Fault) as caught:
        openai.start(Job(op="generate", model="house", prompt="x", options={"seed": 1, name: "5"}))
    assert (caught.value.kind, caught.value.param) == ("invalid", f"provider_options.{name}")


def test_a_data_url_loses_its_prefix_however_it_is_cut() -> None:
    """Lifted strings come in pieces, and their prefix may span several."""
    text = b"data:image/png;base64,iVBORw0KGgo="
    for size in (1, 3, 22, 30, 40):
        pieces = tuple(text[at : at + size] for at in range(0, len(text), size))
        call = Call(path="/images/generations")
        reply = Reply(call=call, status=200, data=b'{"data":[{"url":"#1"}]}', lifted={"#1": Blob(pieces, len(text))})
        [output] = shapes.step(Job(op="generate", model="house"), reply).outputs
        assert isinstance(output, Output)
        assert output.blob is not None
        assert output.blob.bytes() == b"\x89PNG\r\n\x1a\n"
        assert output.blob.size == 12


def test_a_broken_stream_was_worked_on() -> None:
    call = Call(path="/images/generations", read="events")
    error = b'{"type":"error","error":{"code":"server_is_overloaded","message":"Busy."}}'
    with pytest.raises(Fault) as caught:
        openai.check(Reply(call=call, status=200, event="error", data=error))
    assert (caught.value.kind, caught.value.final) == ("overloaded", True)
    with pytest.raises(Fault) as caught:
        openai.check(Reply(call=call, status=503, data=error))
    assert (caught.value.kind, caught.value.final) == ("overloaded", False)
