from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.ask import Ask, FileRef, Link, PictureOp, Upload, from_form, from_json
from proxy.forms import Form, FormPart, parse
from proxy.lift import Lifter
from tests import pictures
from translators.base import Blob, Fault, Lora, blob

DATA_URL = "data:image/png;base64,iVBORw0KGgo="


OPS: tuple[PictureOp, ...] = ("generate", "edit", "variation")
FIELDS = (
    *Ask.__struct_fields__,
    "image",
    "image_urls",
    "model",
    "weight",
    "image_url",
    "file_id",
    "effort",
    "reasoning",
)


def asked(op: PictureOp = "generate", /, **members: Any) -> Ask:
    base: dict[str, Any] = {"prompt": "a cat"} if op == "generate" else {"images": [{"image_url": DATA_URL}]}
    return from_json(op, json.dumps({**base, **members}).encode())


def refused(op: PictureOp, body: bytes) -> Fault:
    with pytest.raises(Fault) as caught:
        from_json(op, body)
    assert caught.value.kind == "invalid"
    return caught.value


def refusal(op: PictureOp = "generate", /, **members: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        asked(op, **members)
    assert caught.value.kind == "invalid"
    return caught.value


def form(*parts: tuple[str, str | bytes]) -> Form:
    return Form(tuple(FormPart(name, value if isinstance(value, str) else blob(value)) for name, value in parts))


def form_refusal(*parts: tuple[str, str | bytes], op: PictureOp = "edit") -> Fault:
    with pytest.raises(Fault) as caught:
        from_form(op, form(*parts))
    assert caught.value.kind == "invalid"
    return caught.value


def test_every_field_of_a_generation() -> None:
    body = {
        "model": "m", "prompt": "a cat", "n": 2, "size": "1536x1024", "quality": "high", "background": "transparent",
        "output_format": "webp", "output_compression": 80, "moderation": "low", "complexity": "low", "frame_count": 4,
        "frame_duration_ms": 100, "svg": {"model": "s", "reasoning": {"effort": "low"}}, "stream": True,
        "partial_images": 2, "safety_identifier": "s", "user": "u", "response_format": "url", "style": "vivid",
        "input_fidelity": "high", "negative_prompt": "dog", "seed": 7, "steps": 20, "guidance": 3.5,
        "aspect_ratio": "3:2", "resolution": "2K", "watermark": False, "metadata": {"project": "p"},
        "provider_options": {"bfl": {"x": [1]}},
    }  # fmt: skip
    extra = {"loras": [{"model": "l"}, {"model": "k", "weight": 0.5}], "image_urls": ["https://x/a.png", DATA_URL]}
    ask = from_json("generate", json.dumps({**body, **extra}).encode())
    assert {name: getattr(ask, name) for name in body} == body
    assert ask.loras == (Lora("l"), Lora("k", 0.5))
    assert ask.images == (Link("https://x/a.png", "image_urls[0]"), Link(DATA_URL, "image_urls[1]"))


def test_null_is_not_said() -> None:
    fields = set(Ask.__struct_fields__) - {"op", "prompt", "images", "mask", "markup"} | {"image_urls"}
    assert from_json("generate", json.dumps({"prompt": "a", **dict.fromkeys(fields)}).encode()) == Ask(
        op="generate", prompt="a"
    )
    edit = asked("edit", prompt=None, mask=None, markup=None, svg={"reasoning": None, "model": None})
    assert edit == replace(asked("edit"), svg={})


def test_json_edit() -> None:
    ask = asked(
        "edit", images=[{"image_url": "https://x/a.png"}, {"image_url": DATA_URL}], mask={"image_url": "http://x/m"},
        markup={"image_url": "HTTPS://x/k", "file_id": None}, image_urls=["https://x/b.png"],
    )  # fmt: skip
    assert ask.images == (
        Link("https://x/a.png", "images[0].image_url"),
        Link(DATA_URL, "images[1].image_url"),
        Link("https://x/b.png", "image_urls[0]"),
    )
    assert ask.mask == Link("http://x/m", "mask.image_url")
    assert ask.markup == Link("HTTPS://x/k", "markup.image_url")
    assert ask.prompt == ""


@pytest.mark.parametrize("op", ["edit", "variation"])
def test_pictures_that_were_uploaded_before(op: PictureOp) -> None:
    ask = asked(op, images=[{"file_id": "file-1"}, {"image_url": DATA_URL}, {"file_id": "file-2", "image_url": None}])
    assert ask.images == (
        FileRef("file-1", "images[0].file_id"),
        Link(DATA_URL, "images[1].image_url"),
        FileRef("file-2", "images[2].file_id"),
    )


def test_a_mask_and_a_markup_that_were_uploaded_before() -> None:
    ask = asked("edit", mask={"file_id": "file-1"}, markup={"file_id": "file-2"})
    assert (ask.mask, ask.markup) == (FileRef("file-1", "mask.file_id"), FileRef("file-2", "markup.file_id"))


def test_a_reference_without_an_id() -> None:
    fault = refusal("edit", images=[{"file_id": ""}])
    assert (fault.code, fault.param) == ("empty_string", "images[0].file_id")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{'a': 1}", b'{"prompt": "a"} x', b'{"prompt": "\xff"}', b'{"prompt":"a","n":"x"', b"\0"]
)
def test_bad_json(body: bytes) -> None:
    fault = refused("generate", body)
    assert (fault.code, fault.param) == (None, None)
    assert fault.message.startswith("We could not parse the JSON body of your request. (HINT: ")


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"1", b"null"])
def test_json_that_is_no_object(body: bytes) -> None:
    assert refused("generate", body).code == "invalid_type"


def test_deep_json_is_refused() -> None:
    deep = b'{"prompt":"a","provider_options":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    assert refused("generate", deep).code is None


WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"n": "two"}, "invalid_type", "n", "Invalid type for 'n': expected an integer, but got a string instead."),
    ({"n": True}, "invalid_type", "n", "Invalid type for 'n': expected an integer, but got a boolean instead."),
    ({"n": 1.5}, "invalid_type", "n", "Invalid type for 'n': expected an integer, but got a decimal number instead."),
    ({"n": [1]}, "invalid_type", "n", "Invalid type for 'n': expected an integer, but got an array instead."),
    ({"prompt": 5}, "invalid_type", "prompt", "expected a string, but got an integer instead."),
    ({"prompt": None}, "invalid_type", "prompt", "Invalid type for 'prompt': expected a string, but got null instead."),
    ({"stream": "true"}, "invalid_type", "stream", "expected a boolean, but got a string instead."),
    ({"stream": 1}, "invalid_type", "stream", "expected a boolean, but got an integer instead."),
    ({"svg": "x"}, "invalid_type", "svg", "Invalid type for 'svg': expected an object, but got a string instead."),
    ({"guidance": "x"}, "invalid_type", "guidance", "expected a decimal number, but got a string instead."),
    ({"image_urls": "https://x"}, "invalid_type", "image_urls", "expected an array, but got a string instead."),
    ({"image_urls": [1]}, "invalid_type", "image_urls[0]", "expected a string, but got an integer instead."),
    ({"metadata": {"a": "b", "c": 1}}, "invalid_type", "metadata.c", "expected a string, but got an integer instead."),
    ({"foo": 1}, "unknown_parameter", "foo", "Unknown parameter: 'foo'."),
    ({"image": "x"}, "unknown_parameter", "image", "Unknown parameter: 'image'."),
    ({"svg": {"model": "x", "foo": 1}}, "unknown_parameter", "svg.foo", "Unknown parameter: 'svg.foo'."),
    ({"svg": {}}, "missing_required_parameter", "svg.model", "Missing required parameter: 'svg.model'."),
    ({"loras": [{"model": "a", "x": 1}]}, "unknown_parameter", "loras[0].x", "Unknown parameter: 'loras[0].x'."),
    ({"loras": [{"weight": 1}]}, "missing_required_parameter", "loras[0].model", "'loras[0].model'."),
    ({"response_format": "base64"}, "invalid_value", "response_format",
     "Invalid value: 'base64'. Supported values are: 'url' and 'b64_json'."),
    ({"background": ""}, "invalid_value", "background",
     "Invalid value: ''. Supported values are: 'transparent', 'opaque', and 'auto'."),
    ({"svg": {"model": "x", "reasoning": {"effort": "huge"}}}, "invalid_value", "svg.reasoning.effort",
     "Invalid value: 'huge'. Supported values are: 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'."),
    ({"n": 0}, "integer_below_min_value", "n", "Expected a value >= 1, but got 0 instead."),
    ({"n": 11}, "integer_above_max_value", "n",
     "Invalid 'n': integer above maximum value. Expected a value <= 10, but got 11 instead."),
    ({"n": 10**30}, "integer_above_max_value", "n", f"but got {10**30} instead."),
    ({"partial_images": 4}, "integer_above_max_value", "partial_images", "Expected a value <= 3, but got 4 instead."),
    ({"output_compression": -1}, "integer_below_min_value", "output_compression", ">= 0, but got -1 instead."),
    ({"output_compression": 101}, "integer_above_max_value", "output_compression", "<= 100"),
    ({"frame_count": 1}, "integer_below_min_value", "frame_count", ">= 2"),
    ({"frame_count": 17}, "integer_above_max_value", "frame_count", "<= 16"),
    ({"frame_duration_ms": 19}, "integer_below_min_value", "frame_duration_ms", ">= 20"),
    ({"seed": 2**63}, "integer_above_max_value", "seed", "got 9223372036854775808"),
    ({"seed": -(2**63) - 1}, "integer_below_min_value", "seed", ">= -9223372036854775808"),
    ({"steps": 0}, "integer_below_min_value", "steps", ">= 1"),
    ({"guidance": -0.5}, "decimal_below_min_value", "guidance", "decimal below minimum value. Expected a value >= 0"),
    ({"prompt": ""}, "empty_string", "prompt", "Invalid 'prompt': empty string."),
    ({"model": ""}, "empty_string", "model", "Invalid 'model': empty string."),
    ({"user": "u" * 513}, "string_above_max_length", "user",
     "string too long. Expected a string with maximum length 512, but got a string with length 513 instead."),
    ({"safety_identifier": "u" * 513}, "string_above_max_length", "safety_identifier", "length 513"),
    ({"metadata": {str(i): "x" for i in range(17)}}, "object_above_max_properties", "metadata", "at most 16"),
    ({"metadata": {"k" * 65: "x"}}, "string_above_max_length", "metadata", "length 65"),
    ({"metadata": {"a": "x", "k": "v" * 513}}, "string_above_max_length", "metadata.k", "length 513"),
    ({"image_urls": ["https://x"] * 17}, "array_above_max_length", "image_urls", "got an array with length 17"),
    ({"image_urls": ["ftp://x"]}, "invalid_value", "image_urls[0]", "http(s) or data: URL, but got 'ftp://x'."),
    ({"image_urls": [""]}, "empty_string", "image_urls[0]", "empty string"),
    ({"image_urls": ["data:" + "x" * 20_971_520]}, "string_above_max_length", "image_urls[0]", "length 20971520"),
    ({"size": "big"}, "invalid_value", "size", "Invalid value: 'big'. Supported values are: 'auto', and WIDTHxHEIGHT"),
    ({"size": "0x10"}, "invalid_value", "size", "'0x10'"),
    ({"size": "1024×1024"}, "invalid_value", "size", "WIDTHxHEIGHT"),
    ({"size": "１０２４x1024"}, "invalid_value", "size", "WIDTHxHEIGHT"),
    ({"aspect_ratio": "0:1"}, "invalid_value", "aspect_ratio", "'16:9'"),
    ({"resolution": "huge"}, "invalid_value", "resolution", "'1K'"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "code", "param", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_told_as_openai_does(members: dict[str, Any], code: str, param: str, message: str) -> None:
    fault = refusal(**members)
    assert (fault.code, fault.param) == (code, param)
    assert message in fault.message
    assert len(fault.message) < 400


def test_missing_prompt() -> None:
    fault = refused("generate", b"{}")
    assert (fault.code, fault.param) == ("missing_required_parameter", "prompt")
    assert fault.message == "Missing required parameter: 'prompt'."


def test_long_values_are_shortened() -> None:
    assert refusal(response_format="sta" + "x" * 500 + "e-3").message.startswith("Invalid value: 'staxxx")
    assert "...xxx" in refusal(response_format="x" * 500).message
    assert len(refusal("generate", **{"k" * 500: 1}).message) < 120
    assert len(refused("generate", b'{"prompt":"a","n":1' + b"0" * 5000 + b"}").message) < 300


@pytest.mark.parametrize("text", ["auto", "1024x1024", "99999x1", "2K", "1.5k"])
def test_sizes_that_can_be_read(text: str) -> None:
    assert asked(size=text).size == text


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"images": []}, "empty_array", "images"),
        ({"images": [{"image_url": DATA_URL}] * 17}, "array_above_max_length", "images"),
        ({"images": [{"image_url": DATA_URL}] * 16, "image_urls": [DATA_URL]}, "array_above_max_length", "images"),
        ({"images": [{}]}, "invalid_value", "images[0]"),
        ({"images": [{"image_url": DATA_URL, "file_id": "file-a"}]}, "invalid_value", "images[0]"),
        ({"images": [{"url": "x"}]}, "unknown_parameter", "images[0].url"),
        ({"images": ["x"]}, "invalid_type", "images[0]"),
        ({"images": "x"}, "invalid_type", "images"),
        ({"images": None}, "missing_required_parameter", "images"),
        ({"mask": "x"}, "invalid_type", "mask"),
        ({"markup": {"image_url": "nowhere"}}, "invalid_value", "markup.image_url"),
        ({"image": "x"}, "unknown_parameter", "image"),
    ],
)
def test_what_is_wrong_with_a_json_edit(members: dict[str, Any], code: str, param: str) -> None:
    fault = refusal("edit", **members)
    assert (fault.code, fault.param) == (code, param)


def test_a_variation_takes_less() -> None:
    ask = asked("variation", n=2, response_format="url", size="512x512", user="u", seed=1)
    assert (ask.n, ask.response_format, ask.size, ask.user, ask.seed) == (2, "url", "512x512", "u", 1)
    for name in ("prompt", "quality", "stream", "mask"):
        assert refusal("variation", **{name: "x"}).code == "unknown_parameter"


# --- forms ---------------------------------------------------------------------------------------------------------

PNG = pictures.data("red.png")


def bytes_of(ask: Ask) -> list[tuple[str, bytes]]:
    return [(image.param, image.blob.bytes()) for image in ask.images if isinstance(image, Upload)]


@pytest.mark.parametrize(
    "names",
    [["image[]", "image[]", "image[]"], ["image", "image", "image"], ["image[0]", "image[1]", "image[2]"],
     ["image[2]", "image", "image[]"]],
)  # fmt: skip
def test_pictures_under_any_name_keep_their_order(names: list[str]) -> None:
    files = [(name, PNG + bytes([index])) for index, name in enumerate(names)]
    ask = from_form("edit", form(files[0], ("prompt", "a"), *files[1:]))
    assert bytes_of(ask) == [(f"image[{index}]", PNG + bytes([index])) for index in range(3)]


def test_one_picture_is_called_image() -> None:
    assert bytes_of(from_form("edit", form(("image", PNG)))) == [("image", PNG)]
    assert bytes_of(from_form("edit", form(("image[]", PNG)))) == [("image[0]", PNG)]


def test_mask_and_markup() -> None:
    ask = from_form("edit", form(("mask", b"m"), ("image", PNG), ("markup", b"k"), ("prompt", "a")))
    assert isinstance(ask.mask, Upload)
    assert isinstance(ask.markup, Upload)
    assert (ask.mask.blob.bytes(), ask.mask.param) == (b"m", "mask")
    assert (ask.markup.blob.bytes(), ask.markup.param) == (b"k", "markup")


def test_uploads_and_links_together() -> None:
    ask = from_form("edit", form(("image", PNG), ("image_urls[]", DATA_URL), ("prompt", "a")))
    assert ask.images == (ask.images[0], Link(DATA_URL, "image_urls[0]"))
    links = from_form("edit", form(("image_urls", json.dumps([DATA_URL, "https://x"])), ("prompt", "a")))
    assert [link.param for link in links.images] == ["image_urls[0]", "image_urls[1]"]


IMAGE_AS_TEXT = "Invalid type for 'image': expected one of an array of files or file, but got a string instead."


@pytest.mark.parametrize(
    ("parts", "code", "param", "message"),
    [
        ([("image", "x")], "invalid_type", "image", IMAGE_AS_TEXT),
        ([("image[]", "x")], "invalid_type", "image", IMAGE_AS_TEXT),
        ([("image", b"")], "invalid_type", "image", "an empty file"),
        ([("mask", b"")], "invalid_type", "mask", "an empty file"),
        ([("mask", "")], "invalid_type", "mask", "expected a file, but got a string"),
        ([("mask", b"a"), ("mask", b"b")], "invalid_type", "mask", "an array of files"),
        ([("prompt", b"file")], "invalid_type", "prompt", "expected a string, but got a file"),
        ([("foo", "x")], "unknown_parameter", "foo", "'foo'"),
        ([("foo", b"x")], "unknown_parameter", "foo", "'foo'"),
        ([("images", b"x")], "unknown_parameter", "images", "'images'"),
        ([("svg[foo]", "x")], "unknown_parameter", "svg.foo", "'svg.foo'"),
        ([("n", "two")], "invalid_type", "n", "expected an integer, but got a string"),
        ([("n", "2.5")], "invalid_type", "n", "expected an integer"),
        ([("n", " 2")], "invalid_type", "n", "expected an integer"),
        ([("n", "٢")], "invalid_type", "n", "expected an integer"),
        ([("n", "")], "invalid_type", "n", "expected an integer"),
        ([("n", "0")], "integer_below_min_value", "n", ">= 1"),
        ([("n", "11")], "integer_above_max_value", "n", "<= 10"),
        ([("n", "9" * 5000)], "invalid_type", "n", "expected an integer"),
        ([("n[]", "1")], "invalid_type", "n", "got an array"),
        ([("n[a]", "1")], "invalid_type", "n", "got an object"),
        ([("stream", "True")], "invalid_type", "stream", "expected a boolean, but got a string"),
        ([("stream", "1")], "invalid_type", "stream", "expected a boolean"),
        ([("partial_images", "x")], "invalid_type", "partial_images", "expected an integer"),
        ([("output_compression", "x")], "invalid_type", "output_compression", "expected an integer"),
        ([("guidance", "1e999")], "invalid_type", "guidance", "expected a decimal number"),
        ([("metadata", "{bad")], "invalid_type", "metadata", "expected an object, but got a string"),
        ([("metadata[a]", "x"), ("metadata", "{}")], "duplicate_parameter", "metadata", "twice"),
        ([("prompt", "a"), ("prompt", "b")], "duplicate_parameter", "prompt", "twice"),
        ([("response_format", "x")], "invalid_value", "response_format", "'url' and 'b64_json'"),
        ([("image_urls[]", "nowhere")], "invalid_value", "image_urls[0]", "http(s)"),
    ],
)
def test_what_is_wrong_with_a_form(parts: list[tuple[str, str | bytes]], code: str, param: str, message: str) -> None:
    fault = form_refusal(*([] if parts[0][0] == "image" else [("image", PNG)]), *parts)
    assert (fault.code, fault.param) == (code, param)
    assert message in fault.message


def test_form_without_a_picture_or_with_too_many() -> None:
    fault = form_refusal(("prompt", "a"))
    assert (fault.code, fault.param) == ("missing_required_parameter", "image")
    assert form_refusal(*[("image[]", PNG)] * 17).code == "array_above_max_length"
    assert form_refusal(("image", PNG), ("mask", b"m"), op="variation").param == "mask"
    assert form_refusal(("image", PNG), ("prompt", "a"), op="generate").param == "image"


def test_options_in_brackets_get_the_types_that_they_look_like() -> None:
    ask = from_form(
        "edit",
        form(
            ("image", PNG), ("provider_options[bfl][steps]", "5"), ("provider_options[bfl][raw]", "true"),
            ("provider_options[bfl][tags][]", "a"), ("provider_options[x]", "1.5"), ("metadata[n]", "5"),
        ),
    )  # fmt: skip
    assert ask.provider_options == {"bfl": {"steps": 5, "raw": True, "tags": ["a"]}, "x": 1.5}
    assert ask.metadata == {"n": "5"}


def test_loras_as_the_sdk_writes_them() -> None:
    """All models first, all weights after them: whose weight is whose must not be guessed."""
    models = [("loras[][model]", "a"), ("loras[][model]", "b")]
    weights = [("loras[][weight]", "0.5"), ("loras[][weight]", "0.7")]
    assert from_form("edit", form(("image", PNG), *models, *weights)).loras == (Lora("a", 0.5), Lora("b", 0.7))
    assert from_form("edit", form(("image", PNG), *models)).loras == (Lora("a"), Lora("b"))
    fault = form_refusal(("image", PNG), *models, weights[0])
    assert fault.param == "loras"
    assert "JSON text" in fault.message


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
keys = st.text(st.sampled_from("abcdefgh_0"), min_size=1, max_size=8)
finite = st.floats(0, 100, allow_nan=False)
lora = st.fixed_dictionaries({"model": words}, optional={"weight": finite})
valid = st.fixed_dictionaries(
    {},
    optional={
        "model": words, "prompt": words, "n": st.integers(1, 10), "size": st.sampled_from(["auto", "1024x1536", "2K"]),
        "quality": st.sampled_from(["low", "hd"]), "background": st.sampled_from(["opaque", "auto"]),
        "output_format": st.sampled_from(["png", "svg"]), "output_compression": st.integers(0, 100),
        "moderation": st.just("low"), "complexity": st.just("high"), "frame_count": st.integers(2, 16),
        "frame_duration_ms": st.integers(20, 1000), "stream": st.booleans(), "partial_images": st.integers(0, 3),
        "svg": st.fixed_dictionaries({"model": words}, optional={"reasoning": st.just({"effort": "max"})}),
        "safety_identifier": words, "user": words, "response_format": st.sampled_from(["url", "b64_json"]),
        "style": words, "input_fidelity": st.just("low"), "negative_prompt": words,
        "seed": st.integers(-(2**63), 2**63 - 1), "steps": st.integers(1, 1000), "guidance": finite,
        "aspect_ratio": st.just("16:9"), "resolution": st.just("4K"), "watermark": st.booleans(),
        "loras": st.lists(lora, min_size=1, max_size=3),
        "metadata": st.dictionaries(keys, words, min_size=1, max_size=5),
        "provider_options": st.dictionaries(
            keys, st.dictionaries(keys, st.one_of(st.integers(-99, 99), st.booleans(), st.just("word")), min_size=1),
            min_size=1, max_size=3,
        ),
        "image_urls": st.lists(st.just(DATA_URL), min_size=1, max_size=3),
    },
)  # fmt: skip
broken = st.dictionaries(
    st.sampled_from(["n", "stream", "seed", "guidance", "prompt", "foo", "size", "response_format", "user"]),
    st.one_of(st.just("x"), st.integers(-5, 200), st.booleans(), st.just("u" * 600)), max_size=2,
)  # fmt: skip


def flat(value: Any, name: str) -> list[tuple[str, str]]:
    """A value as OpenAI's SDKs write it into a form."""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in flat(item, f"{name}[{key}]")]
    if isinstance(value, list) and name == "loras":
        return [pair for place, item in enumerate(value) for pair in flat(item, f"{name}[{place}]")]
    if isinstance(value, list):
        return [pair for item in value for pair in flat(item, f"{name}[]")]
    return [(name, value if isinstance(value, str) else json.dumps(value))]


def outcome(ask: Any) -> Ask | tuple[str | None, str | None]:
    try:
        made: Ask = ask()
    except Fault as fault:
        return fault.code, fault.param
    return replace(made, images=made.images[1:])  # the first one is the form's upload, and the JSON's link


@settings(max_examples=300, deadline=None)
@given(valid, st.sampled_from(["text", "brackets"]))
def test_a_form_means_what_its_json_means(members: dict[str, Any], manner: str) -> None:
    whole = {"loras", "provider_options", "metadata", "svg", "image_urls"} if manner == "text" else set()
    texts = [
        pair
        for name, value in members.items()
        for pair in ([(name, json.dumps(value))] if name in whole else flat(value, name))
    ]
    by_form = outcome(lambda: from_form("edit", form(("image", PNG), *texts)))
    by_json = outcome(lambda: from_json("edit", json.dumps({"images": [{"image_url": DATA_URL}], **members}).encode()))
    assert isinstance(by_form, Ask)
    assert by_form == by_json


@settings(max_examples=200, deadline=None)
@given(broken)
def test_a_form_is_refused_as_its_json_is(members: dict[str, Any]) -> None:
    """Where a text stands for no other type: `prompt=5` is a string in a form."""
    members = {
        name: value
        for name, value in members.items()
        if isinstance(value, str) or name not in {"prompt", "size", "response_format", "user", "foo"}
    }
    order = sorted(members)  # unknown names are found before wrong values
    if "foo" in order:
        order = ["foo"]
    texts = [pair for name in order for pair in flat(members[name], name)]
    by_form = outcome(lambda: from_form("edit", form(("image", PNG), *texts)))
    body = {name: members[name] for name in order} | {"images": [{"image_url": DATA_URL}]}
    by_json = outcome(lambda: from_json("edit", json.dumps(body).encode()))
    assert by_form == by_json


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(-1e300, 1e300), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=5)), inner, max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(OPS), st.dictionaries(st.sampled_from((*FIELDS, "", "`", "é")), anything, max_size=4))
def test_any_json_is_a_request_or_a_fault(op: PictureOp, members: dict[str, Any]) -> None:
    base: dict[str, Any] = {"prompt": "a"} if op == "generate" else {"images": [{"image_url": DATA_URL}]}
    try:
        from_json(op, json.dumps({**base, **members}).encode())
    except Fault as fault:
        assert fault.kind == "invalid"
        assert len(fault.message) < 500


brackets = st.lists(st.sampled_from(["", "0", "model", "effort", "reasoning", "é"]), max_size=3)
part_names = st.tuples(st.one_of(st.sampled_from(FIELDS), st.text(max_size=3)), brackets)
part_values = st.one_of(st.text(max_size=9), st.sampled_from(["[1]", "{", "[[]]", "1", "true"]), st.binary())


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(OPS), st.lists(st.tuples(part_names, part_values), max_size=5))
def test_any_form_is_a_request_or_a_fault(
    op: PictureOp, parts: list[tuple[tuple[str, list[str]], str | bytes]]
) -> None:
    given = [(root + "".join(f"[{key}]" for key in keys), value) for (root, keys), value in parts]
    try:
        from_form(op, form(*given))
    except Fault as fault:
        assert fault.kind == "invalid"
        assert len(fault.message) < 500


def test_real_multipart_to_ask() -> None:
    files: list[Any] = [("image[]", ("a.png", PNG)), ("mask", ("", b"mask", "image/png"))]
    data = {"prompt": "ein Bär", "n": "2", "svg[model]": "m", "svg[reasoning][effort]": "low", "stream": "true"}
    request = httpx.Request("POST", "http://x", data=data, files=files)
    body = request.read()

    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 50):
            yield body[at : at + 50]

    ask = from_form("edit", asyncio.run(parse(stream(), request.headers["content-type"])))
    assert (ask.prompt, ask.n, ask.stream) == ("ein Bär", 2, True)
    assert ask.svg == {"model": "m", "reasoning": {"effort": "low"}}
    assert bytes_of(ask) == [("image[0]", PNG)]
    assert isinstance(ask.mask, Upload)
    assert isinstance(ask.mask.blob, Blob)


# ---- long data: URLs, lifted out of the body while it arrives


def arrived(body: bytes, step: int = 65_536) -> tuple[bytes, Mapping[str, Blob]]:
    """The body as it is read from a connection."""
    lifter = Lifter(only=b"data:")
    for at in range(0, len(body), step):
        lifter.feed(body[at : at + step])
    return lifter.finish()


LONG_URL = "data:image/png;base64," + "QUJD" * 40_000


def text_of(link: object) -> str:
    assert isinstance(link, Link)
    assert link.blob is not None
    return b"".join(link.blob.chunks).decode()


@pytest.mark.parametrize("step", [1_000, 65_536, 10**9])
def test_pictures_in_a_body_are_not_parsed(step: int) -> None:
    urls = (LONG_URL, "https://x/y", LONG_URL + "RA==")
    body = {"prompt": "a", "images": [{"image_url": url} for url in urls], "mask": {"image_url": LONG_URL}}
    skeleton, lifted = arrived(json.dumps(body).encode(), step)
    assert len(skeleton) < 1_000
    ask = from_json("edit", skeleton, lifted)
    first, second, third = ask.images
    assert (text_of(first), text_of(third), text_of(ask.mask)) == (LONG_URL, LONG_URL + "RA==", LONG_URL)
    assert second == Link("https://x/y", "images[1].image_url")
    assert [link.param for link in ask.images] == [f"images[{index}].image_url" for index in range(3)]


def test_a_long_text_that_is_no_picture_stays_where_it_is() -> None:
    options = {"lab": {"image": LONG_URL, "text": 'data: "é"\n' * 20_000}}
    body = {"prompt": "a", "images": [{"image_url": LONG_URL}], "provider_options": options}
    skeleton, lifted = arrived(json.dumps(body).encode())
    assert len(lifted) == 3
    ask = from_json("edit", skeleton, lifted)
    assert ask.provider_options == options
    assert ask.images == (Link(LONG_URL, "images[0].image_url"),)


@pytest.mark.parametrize(
    "members",
    [
        {"prompt": LONG_URL},
        {"images": [{"image_url": LONG_URL, "file_id": "file-1"}]},
        {"images": [{"image_url": LONG_URL, "more": 1}]},
        {"images": [{"image_url": "data:" + "A" * 21_000_000}]},
        {"images": [{"image_url": LONG_URL}], "n": "two"},
        {"size": LONG_URL},
    ],
)
def test_what_is_wrong_is_told_as_if_nothing_had_been_lifted(members: dict[str, Any]) -> None:
    body = json.dumps({"prompt": "a", "images": [{"image_url": "https://x"}], **members}).encode()
    whole = outcome(lambda: from_json("edit", body))
    assert outcome(lambda: from_json("edit", *arrived(body))) == whole


def test_a_name_that_stands_for_a_lifted_text_opens_nothing() -> None:
    body = json.dumps({"prompt": "a", "images": [{"image_url": "\x000"}]}).encode()
    with pytest.raises(Fault) as caught:
        from_json("edit", *arrived(body))
    assert caught.value.param == "images[0].image_url"
