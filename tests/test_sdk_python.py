"""The official Python client, unchanged, against the real server, in every form that it has. What of each provider:
`test_sdk_matrix.py`.

The client checks each answer against OpenAI's own types (`_strict_response_validation`).
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
from openai.types import Image, ImagesResponse

from tests.server import KEY
from tests.stage import EVERY, Moody, Stage, check, decoded, hole, measured, opened, photo, received, staged, sums


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("sdk_python")) as stage:
        yield stage


@pytest.fixture
def stage(whole: Stage) -> Stage:
    whole.clear()
    return whole


def client_of(stage: Stage, key: str = KEY, retries: int = 0, sent: list[Any] | None = None) -> OpenAI:
    """A client as its makers ship it; `sent` takes what it sends, its own retries included."""
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [sent.append]} if sent is not None else {}
    return OpenAI(
        base_url=stage.server.base_url, api_key=key, max_retries=retries, _strict_response_validation=True,
        http_client=DefaultHttpxClient(trust_env=False, verify=False, event_hooks=hooks),
    )  # fmt: skip


@pytest.fixture(scope="module")
def client(whole: Stage) -> Iterator[OpenAI]:
    with client_of(whole) as made:
        yield made


def async_client(stage: Stage) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=stage.server.base_url, api_key=KEY, max_retries=0, _strict_response_validation=True,
        http_client=DefaultAsyncHttpxClient(trust_env=False, verify=False),
    )  # fmt: skip


def generates(provider: str) -> str:
    return f"{provider}/{EVERY[provider].generates}"


def edits(provider: str) -> str:
    return f"{provider}/{EVERY[provider].edits}"


async def test_many_at_once(stage: Stage) -> None:
    """Nobody gets what another asked for."""
    sizes = [(1024 + 16 * each, 1024) for each in range(20)]
    async with async_client(stage) as client:
        responses = await asyncio.gather(
            *(
                client.images.generate(model=generates(name), prompt="a cat", size=f"{width}x{height}")
                for width, height in sizes
                for name in ("openai", "azure")
            )
        )
    assert [check(each)[0].size for each in responses] == [size for size in sizes for _ in range(2)]


# ---- streaming


def check_events(name: str, events: list[Any]) -> None:
    """Previews, then what was made, all of them pictures that are what they say."""
    assert [event.type for event in events] == [f"{name}.partial_image"] * (len(events) - 1) + [f"{name}.completed"]
    previews = events[:-1]
    assert len(previews) <= 2
    assert [event.partial_image_index for event in previews] == list(range(len(previews)))
    for event in events:
        assert measured(decoded(event.b64_json)) == (event.size, event.output_format)


def test_stream_of_several_pictures(client: OpenAI, stage: Stage) -> None:
    with client.images.generate(model=generates("openai"), prompt="a cat", n=3, stream=True) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["image_generation.completed"] * 3


def test_a_refusal_before_a_stream_is_an_ordinary_error(client: OpenAI, stage: Stage) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=generates("openai"), prompt="refuse me", stream=True)
    assert caught.value.code == "moderation_blocked"


def test_a_stream_that_breaks_raises(client: OpenAI, stage: Stage) -> None:
    prompt = "fail midway"
    with client.images.generate(model=generates("openai"), prompt=prompt, stream=True, partial_images=2) as stream:
        assert next(stream).type == "image_generation.partial_image"
        with pytest.raises(openai.APIError, match="had an error") as caught:
            next(stream)
    assert caught.value.code == "server_error"


# ---- errors


def test_a_wrong_key_with_a_large_upload(stage: Stage) -> None:
    """Refused before the body is read; the client hears why all the same."""
    sent: list[Any] = []
    with client_of(stage, "nobody", 2, sent) as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.images.edit(model=edits("openai"), prompt="a cat", image=b"\0" * (40 << 20))
    assert caught.value.code == "invalid_api_key"
    assert len(sent) == 1


def test_a_wrong_key_of_the_client(stage: Stage) -> None:
    with client_of(stage, "sk-nobody-knows-this") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.images.generate(model=generates("openai"), prompt="a cat")
    assert caught.value.code == "invalid_api_key"
    assert "knows" not in str(caught.value)
    assert stage.silent()


@pytest.mark.parametrize("name", ["gpt-image-99", "openai/gpt-image-99", "nobody/gpt-image-2", "a/b/c"])
def test_an_unknown_model(client: OpenAI, stage: Stage, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=name, prompt="a cat")
    error = caught.value
    assert (error.param, error.code, error.type) == ("model", "invalid_value", "image_generation_user_error")
    assert "does not exist" in str(error)
    assert stage.silent() == (name != "openai/gpt-image-99"), "OpenAI may have it: no list of ours is complete"


HOPELESS: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": ""}, "prompt", "empty_string"),
    ({"prompt": "x" * 40_000}, "prompt", "string_above_max_length"),
    ({"n": 11}, "n", "integer_above_max_value"),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": "4"}, "n", "invalid_type"),
    ({"size": "large"}, "size", "invalid_value"),
    ({"quality": "best"}, "quality", "invalid_value"),
    ({"output_format": "bmp"}, "output_format", "invalid_value"),
    ({"background": "transparent", "output_format": "jpeg"}, "background", "invalid_value"),
    ({"partial_images": 4}, "partial_images", "integer_above_max_value"),
    ({"extra_body": {"colour": "red"}}, "colour", "unknown_parameter"),
]


@pytest.mark.parametrize(("wrong", "param", "code"), HOPELESS, ids=[f"{param}-{code}" for _, param, code in HOPELESS])
def test_what_can_never_succeed_is_asked_once(stage: Stage, wrong: dict[str, Any], param: str, code: str) -> None:
    """Refused before anything is paid, with a status that the client does not repeat."""
    sent: list[Any] = []
    asked = {"model": generates("openai"), "prompt": "a cat", **wrong}
    with client_of(stage, retries=2, sent=sent) as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**asked)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert len(sent) == 1
    assert stage.silent()


@pytest.mark.parametrize(
    ("image", "code"),
    [(b"", "invalid_type"), (b"this is text", None), (b"\x89PNG\r\n\x1a\n broken", None)],
    ids=["empty", "text", "broken"],
)
def test_an_upload_that_is_no_picture_is_refused(stage: Stage, image: bytes, code: str | None) -> None:
    sent: list[Any] = []
    with client_of(stage, retries=2, sent=sent) as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=edits("openai"), image=image, prompt="a hat")
    assert caught.value.param == "image"
    assert code in {None, caught.value.code}
    assert len(sent) == 1
    assert stage.silent()


# ---- uploads: whatever happens on the way, the same bytes arrive


def test_an_upload_survives_a_retry(client: OpenAI, stage: Stage) -> None:
    moody, given = mood(stage, 503), [photo(), hole()]
    check(client.images.edit(model="moody/gpt-image-2", image=given[0], mask=given[1], prompt="a hat"))
    assert [sums(received(seen)) for seen in moody.seen] == [sums(given)] * 2


def test_an_upload_survives_a_fallback(client: OpenAI, stage: Stage) -> None:
    moody, given = mood(stage, 500), [photo(), hole()]
    raw = client.images.with_raw_response.edit(model="house style", image=given[0], mask=given[1], prompt="a hat")
    assert raw.headers["x-pictor-model"] == "openai/gpt-image-2"
    assert [sums(received(seen)) for seen in (*moody.seen, *stage.submits("openai"))] == [sums(given)] * 2


def test_an_upload_survives_a_fallback_to_another_wire(client: OpenAI, stage: Stage) -> None:
    moody, given = mood(stage, 500), [photo(), photo((0, 90, 0), kind="JPEG")]
    raw = client.images.with_raw_response.edit(model="abroad", image=list(given), prompt="a hat")
    assert raw.headers["x-pictor-model"] == "gemini/gemini-nano-banana-2.1"
    assert [sums(received(seen)) for seen in (*moody.seen, *stage.submits("gemini"))] == [sums(given)] * 2
    check(raw.parse())


def test_a_large_upload_survives_a_retry(client: OpenAI, stage: Stage) -> None:
    """Too large to be kept in memory: it waits on disk between the two."""
    out = io.BytesIO()
    opened(photo()).resize((2048, 2048)).save(out, "PNG", compress_level=0)
    moody, given = mood(stage, 503), out.getvalue()
    assert len(given) > 8 << 20
    check(client.images.edit(model="moody/gpt-image-2", image=given, prompt="a hat"))
    assert [sums(received(seen)) for seen in moody.seen] == [sums([given])] * 2


def mood(stage: Stage, *statuses: int) -> Moody:
    moody = stage.fakes["moody"]
    assert isinstance(moody, Moody)
    moody.moods[:] = statuses
    return moody


def test_a_refusal_does_not_fall_back(client: OpenAI, stage: Stage) -> None:
    with pytest.raises(openai.BadRequestError):
        client.images.edit(model="house style", image=photo(), prompt="refuse me")
    assert (len(stage.submits("moody")), len(stage.submits("openai"))) == (1, 0)


def test_every_way_to_give_a_file(client: OpenAI, stage: Stage, tmp_path: Path) -> None:
    given = photo()
    path = tmp_path / "pic é.png"
    path.write_bytes(given)
    with path.open("rb") as file:
        for image in (
            given,
            io.BytesIO(given),
            path,
            file,
            ("m.png", given, "image/png"),
            ('odd".gif', given, "application/pdf"),
        ):
            check(client.images.edit(model=edits("openai"), image=image, prompt="a hat"))
            check(client.images.edit(model=edits("openai"), image=[given, given], prompt="a hat"))
    seen = [sums(received(each)) for each in stage.submits("openai")]
    assert seen == [sums([given]), sums([given] * 2)] * 6


# ---- models


def test_list_models(client: OpenAI, stage: Stage) -> None:
    listed = {model.id for model in client.models.list()}
    assert {generates(provider) for provider in EVERY} <= listed
    assert {"dall-e-2", "dall-e-3", "house style"} <= listed
    assert stage.silent()


@pytest.mark.parametrize("name", [*map(generates, EVERY), "dall-e-3", "house style"])
def test_retrieve_a_model(client: OpenAI, stage: Stage, name: str) -> None:
    model = client.models.retrieve(name)
    assert (model.id, model.object) == (name, "model")


@pytest.mark.parametrize("name", ["gpt-image-99", "nobody/gpt-image-2", "demo/pain ter/2"])
def test_retrieve_an_unknown_model(client: OpenAI, stage: Stage, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    assert caught.value.code == "model_not_found"


# ---- applications that were built on DALL·E


def test_dall_e_3_keeps_its_manners(client: OpenAI, stage: Stage) -> None:
    response = client.images.generate(
        model="dall-e-3", prompt="a cat", size="1792x1024", quality="hd", style="vivid", user="u1"
    )
    assert response.data
    assert response.data[0].b64_json is None
    url = response.data[0].url
    assert url
    picture = opened(httpx.get(url, trust_env=False, verify=False).content)
    assert picture.size == (1792, 1024)
    assert (response.size, response.quality) == ("1792x1024", "high")


def test_dall_e_3_as_base64(client: OpenAI, stage: Stage) -> None:
    check(client.images.generate(model="dall-e-3", prompt="a cat", response_format="b64_json", quality="standard"))


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_dall_e_2_keeps_its_manners(client: OpenAI, stage: Stage) -> None:
    given = photo(size=(512, 512))

    def link(image: Image) -> str:
        assert image.b64_json is None
        return image.url or ""

    varied = client.images.create_variation(model="dall-e-2", image=given, n=2, size="256x256")
    drawn = client.images.generate(model="dall-e-2", prompt="a cat", n=2, size="256x256")
    changed = client.images.edit(model="dall-e-2", prompt="a cat", image=given, mask=hole((512, 512)), size="512x512")
    urls = [link(image) for response in (varied, drawn, changed) for image in response.data or ()]
    assert len(set(urls)) == 5
    for url in urls:
        opened(httpx.get(url, trust_env=False, verify=False).content)


# ---- the client's other forms


async def test_async_client(stage: Stage) -> None:
    given = photo()
    async with async_client(stage) as client:
        check(await client.images.generate(model=generates("openai"), prompt="a cat"))
        check(await client.images.edit(model=edits("gemini"), prompt="a cat", image=[given, given]), 1)
        stream = await client.images.generate(model=generates("vertex"), prompt="a cat", stream=True, partial_images=2)
        check_events("image_generation", [event async for event in stream])
        changes = await client.images.edit(model=edits("openrouter"), prompt="a cat", image=given, stream=True)
        check_events("image_edit", [event async for event in changes])
        with pytest.raises(openai.BadRequestError) as caught:
            await client.images.generate(model=generates("openrouter"), prompt="refuse me")
        assert caught.value.code
        assert (await client.models.retrieve(generates("bfl"))).id == generates("bfl")
        assert [model async for model in client.models.list()]


def azure_client(stage: Stage, **more: Any) -> AzureOpenAI:
    return AzureOpenAI(
        azure_endpoint=stage.server.address, api_key=KEY, api_version="2025-04-01-preview", max_retries=0,
        _strict_response_validation=True, http_client=DefaultHttpxClient(trust_env=False, verify=False), **more,
    )  # fmt: skip


@pytest.mark.parametrize("provider", ["azure", "gemini", "openrouter"])
def test_azure_client(stage: Stage, provider: str) -> None:
    """It names the deployment in the path, its slash encoded, and its key in `api-key`."""
    given = photo()
    with azure_client(stage) as client:
        check(client.images.generate(model=generates(provider), prompt="a cat"))
        check(client.images.edit(model=edits(provider), prompt="a cat", image=given))
        check(client.images.edit(model=edits(provider), prompt="a cat", image=[given]))
        with client.images.edit(model=edits(provider), prompt="a cat", image=given, stream=True) as stream:
            check_events("image_edit", list(stream))
        with pytest.raises(openai.BadRequestError):
            client.images.generate(model=generates(provider), prompt="refuse me")
    assert [sums(received(seen)) for seen in stage.submits(provider)] == [[], *[sums([given])] * 3, []]


def test_azure_client_with_one_deployment(stage: Stage) -> None:
    with azure_client(stage, azure_deployment="dall-e-3") as client:
        response = client.images.generate(prompt="a cat")
    assert response.data
    assert response.data[0].url


def test_azure_client_with_a_wrong_key(stage: Stage) -> None:
    with (
        azure_client(stage) as client,
        client.with_options(api_key="nobody") as stranger,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        stranger.images.generate(model=generates("azure"), prompt="a cat")
    assert caught.value.code == "invalid_api_key"
    assert stage.silent()


def test_raw_response(client: OpenAI, stage: Stage) -> None:
    raw = client.images.with_raw_response.generate(
        model=generates("openai"), prompt="a cat", size="1024x1024", quality="low"
    )
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["x-request-id"] == raw.request_id
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["openai-processing-ms"].isdecimal()
    assert raw.headers["x-pictor-model"] == generates("openai")
    assert "x-pictor-adjusted" not in raw.headers
    check(raw.parse())


def test_what_was_adjusted_is_named(client: OpenAI, stage: Stage) -> None:
    raw = client.images.with_raw_response.generate(
        model=generates("gemini"), prompt="a cat", quality="xhigh", style="vivid", background="opaque"
    )
    assert raw.headers["x-pictor-adjusted"] == "quality xhigh -> high; style left out"
    check(raw.parse())


def test_streaming_response(client: OpenAI, stage: Stage) -> None:
    asked: dict[str, Any] = {"model": generates("openai"), "prompt": "a cat"}
    with client.images.with_streaming_response.generate(**asked) as response:
        assert response.request_id
        read = ImagesResponse.model_validate_json(b"".join(response.iter_bytes()))
    assert read.data
    decoded(read.data[0].b64_json)
    with client.images.with_streaming_response.generate(**asked) as response:
        check(response.parse())


def test_own_fields_in_extra_body(client: OpenAI, stage: Stage) -> None:
    check(
        client.images.generate(
            model=generates("volcengine"), prompt="a cat", extra_body={"aspect_ratio": "16:9", "watermark": False}
        )
    )
    assert b'"watermark":false' in stage.submits("volcengine")[0].body
