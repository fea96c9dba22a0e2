"""What recorded conversations cannot show of OpenRouter: long pictures lifted out of a message, refusals at once."""

from __future__ import annotations

import json
from typing import Any

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.lift import Lifter
from translators import openrouter
from translators.base import Blob, Call, Done, Fault, Job, Reply

LONG = pybase64.b64encode(bytes(range(256)) * 400).decode()  # far beyond what stays in a skeleton
OTHER = pybase64.b64encode(bytes(range(255, -1, -1)) * 400).decode()
LINK = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{LONG}"}}
MARKDOWN = f"Here:\n\n![a](data:image/png;base64,{LONG})\nand\n![b](data:image/jpeg;base64,{OTHER})\n"
CHAT = Job(op="generate", model="google/gemini-3-pro-image", prompt="x", options={"route": "chat"})


def received(body: object, size: int) -> Reply:
    """`body` as it arrives in pieces of that size."""
    text = json.dumps(body).encode()
    lifter = Lifter()
    for at in range(0, len(text), size):
        lifter.feed(text[at : at + size])
    data, lifted = lifter.finish()
    assert lifted
    return Reply(call=Call(path="/chat/completions"), status=200, data=data, lifted=lifted)


@pytest.mark.parametrize("size", [7, 1000, 65_536, 1 << 20])
@pytest.mark.parametrize(
    ("message", "pictures"),
    [
        ({"content": "", "images": [LINK]}, [LONG]),
        ({"content": [{"type": "text", "text": "Here:"}, LINK]}, [LONG]),
        ({"content": MARKDOWN}, [LONG, OTHER]),
        ({"content": MARKDOWN.replace("\n", " ")}, [LONG, OTHER]),
        ({"content": [{"type": "text", "text": MARKDOWN}]}, [LONG, OTHER]),
    ],
    ids=["images", "parts", "text", "text without escapes", "text part"],
)
def test_lifted_pictures(message: dict[str, Any], pictures: list[str], size: int) -> None:
    reply = received({"choices": [{"message": {"role": "assistant", **message}}]}, size)
    openrouter.check(reply)
    done = openrouter.step(CHAT, reply)
    assert isinstance(done, Done)
    assert [b"".join(output.blob.base64()).decode() for output in done.outputs if output.blob] == pictures
    for output, picture in zip(done.outputs, pictures, strict=True):
        assert output.blob
        assert output.blob.size == len(picture)
        assert output.blob.bytes() == pybase64.b64decode(picture)


@given(st.data())
def test_data_urls_in_any_pieces(data: st.DataObject) -> None:
    """Where the text was cut on its way decides nothing."""
    text = b'x data:image/png;base64,QUJD" data:image/svg+xml;charset=utf-8;base64,REVG) data:image/png;base64,) data:'
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    chunks = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = openrouter.data_urls(Blob(chunks, len(text)))
    assert [blob.bytes() for blob in found] == [b"ABC", b"DEF"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"options": {"route": "fax"}}, "provider_options.route"),
        ({"site": {"route": "fax"}}, "provider_options.route"),
        ({"options": {"max_tokens": 5}}, "provider_options.max_tokens"),
        ({"options": {"provider": "openai"}}, "provider_options.provider"),
        (
            {"options": {"provider": {"options": {"openai": 1}}}, "moderation": "low"},
            "provider_options.provider.options.openai",
        ),
        ({"options": {"route": "chat", "image_config": "16:9"}}, "provider_options.image_config"),
        ({"options": {"route": "chat"}, "n": 2}, "n"),
        ({"options": {"route": "chat"}, "quality": "low"}, "quality"),
        ({"options": {"route": "chat"}, "background": "transparent"}, "background"),
        ({"options": {"route": "chat"}, "size": (1024, 1024)}, "size"),
    ],
)  # fmt: skip
def test_refused_before_it_is_sent(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        openrouter.start(Job(op="generate", model="openai/gpt-image-2", prompt="x", **changes))
    assert (caught.value.kind, caught.value.param) == ("invalid", param)


def test_which_models_there_are() -> None:
    dated = openrouter.caps("bytedance-seed/seedream-5-5-20261112")
    assert dated is openrouter.MODELS["bytedance-seed/seedream-5-5"]
    assert openrouter.caps("new-lab/new-image:free") is openrouter.DECLARED
    assert openrouter.caps("gpt-image-2") is None
    assert openrouter.caps("a/b/c") is None
