"""Servers of one's own: what their entries in the configuration come to, and what no recorded conversation shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.config import ConfigError
from tests.test_catalog import build, fault, flaws
from tests.test_config import load
from translators import a1111
from translators.base import Call, Job, Media, Secret, Stamp, blob

NOW = Stamp(datetime(2026, 11, 20, tzinfo=UTC), "n")


# ---- settings


def test_a_setting_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "referer.txt"
    file.write_text("https://shop.example\n")
    served = build(f"providers: {{openrouter: {{api_key: k, referer: 'file:{file}'}}}}")
    assert served.upstreams["openrouter"].site == {"referer": "https://shop.example"}
    gone = f"providers: {{openrouter: {{api_key: k, referer: 'file:{tmp_path}/gone'}}}}"
    assert flaws(gone) == ["providers.openrouter.referer: the file cannot be read: No such file or directory"]


def test_a_mapping_is_told_as_json(tmp_path: Path) -> None:
    text = "providers: {openrouter: {api_key: k, title: {a: '${NAME}', b: [1, two]}}}"
    found = load(tmp_path, text, {"NAME": "from outside"}).providers["openrouter"]
    assert json.loads(found.site["title"]) == {"a": "from outside", "b": [1, "two"]}
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.flaws == ["providers.openrouter.title.a: NAME is not set"]


def test_a_model_may_have_settings_of_its_own() -> None:
    served = build("""
        providers:
          lab:
            translator: openai
            base_url: http://gpu-1:8188/v1
            response_format: b64_json
            models: {plain: {}, linked: {response_format: url, timeouts: {job: 20m}}}
    """)
    plain, linked = served.route("plain").targets[0].upstream, served.route("linked").targets[0].upstream
    assert (plain.site["response_format"], linked.site["response_format"]) == ("b64_json", "url")
    assert linked.site["base_url"] == "http://gpu-1:8188/v1"
    assert (plain.job_seconds, linked.job_seconds) == (600, 1200)
    assert flaws("providers: {bfl: {api_key: k, models: {flux-2-pro: {response_format: url}}}}") == [
        "providers.bfl.models.flux-2-pro.response_format: unknown; known are "
        + flaws("providers: {bfl: {api_key: k, models: {flux-2-pro: {xyzzy: 1}}}}")[0].partition("known are ")[2]
    ]


# ---- AUTOMATIC1111


def test_a_web_ui_needs_its_address_alone() -> None:
    served = build("providers: {}", {"A1111_BASE_URL": "http://gpu-1:7860/"})
    upstream = served.upstreams["a1111"]
    assert (upstream.base, upstream.trusted) == ("http://gpu-1:7860", True)
    assert list(served.targets) == ["a1111/default"]
    assert served.route("a1111/any.safetensors [0123abcd]").targets[0].caps == a1111.DECLARED
    assert "A1111_BASE_URL is not set" in fault(build("providers: {bfl: {api_key: k}}"), "a1111/default").message


@pytest.mark.parametrize(
    ("key", "said"),
    [("", None), ("user:pass", "Basic dXNlcjpwYXNz"), ("token", "Bearer token")],
    ids=["none", "basic", "bearer"],
)
def test_a_web_ui_takes_what_api_auth_was_given(key: str, said: str | None) -> None:
    call = a1111.sign(Call(path="http://gpu-1:7860/sdapi/v1/txt2img"), Secret(key), NOW)
    assert call.headers.get("Authorization") == said


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((512, 384), (512, 384)),
        ((1000, 999), (1000, 1000)),
        ((4000, 3000), (1184, 888)),
        ((24, 16), (96, 64)),
    ],
)
def test_an_edit_keeps_the_shape_of_its_picture(picture: tuple[int, int], size: tuple[int, int]) -> None:
    """The server would squeeze it into 512x512."""
    image = Media(blob=blob(b""), type="image/png", width=picture[0], height=picture[1])
    call = a1111.start(Job(op="edit", model="default", prompt="x", images=(image,)))
    assert isinstance(call, Call)
    assert (call.json["width"], call.json["height"]) == size
