from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import DefaultHttpxClient, OpenAI

from proxy.ask import FileRef, Link, Source, Upload
from proxy.forms import Form, FormPart, parse
from proxy.lift import Lifter
from proxy.video.ask import VideoAsk, from_form, from_json, no_characters, without_sources
from tests import pictures
from translators.base import Fault, blob
from translators.video import Task

DATA_URL = "data:image/png;base64,iVBORw0KGgo="
TASKS: tuple[Task, ...] = ("create", "edit", "extend", "remix")
PNG, MP4 = pictures.data("red.png"), pictures.data("clip.mp4")


def base(task: Task) -> dict[str, Any]:
    return {"prompt": "a cat"} | ({"video": {"id": "video_1"}} if task in {"edit", "extend"} else {})


def asked(task: Task = "create", /, **members: Any) -> VideoAsk:
    return from_json(task, json.dumps({**base(task), **members}).encode())


def refusal(task: Task = "create", /, **members: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        asked(task, **members)
    assert caught.value.kind == "invalid"
    return caught.value


def form(*parts: tuple[str, str | bytes]) -> Form:
    return Form(tuple(FormPart(name, value if isinstance(value, str) else blob(value)) for name, value in parts))


def formed(*parts: tuple[str, str | bytes], task: Task = "create") -> VideoAsk:
    return from_form(task, form(("prompt", "a cat"), *parts))


def form_refusal(*parts: tuple[str, str | bytes], task: Task = "create") -> Fault:
    with pytest.raises(Fault) as caught:
        formed(*parts, task=task)
    assert caught.value.kind == "invalid"
    return caught.value


def data(source: Source | None) -> bytes:
    assert isinstance(source, Upload)
    return source.blob.bytes()


# --- JSON -------------------------------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {
    "model": "m", "prompt": "a cat", "size": "1280x720", "negative_prompt": "dog", "seed": 7, "steps": 20,
    "guidance": 3.5, "aspect_ratio": "16:9", "resolution": "720p", "audio": False, "camera": "fixed", "user": "u",
    "safety_identifier": "s", "watermark": False, "metadata": {"project": "p"},
    "provider_options": {"lab": {"x": [1]}}, "webhook_url": "https://x/hook",
}  # fmt: skip


def test_every_field_of_a_creation() -> None:
    ask = asked(
        "create", **PLAIN, seconds="8", input_reference={"image_url": DATA_URL}, last_frame={"file_id": "file-1"},
        reference_images=["https://x/a.png", {"file_id": "file-2"}, {"image_url": DATA_URL}],
    )  # fmt: skip
    assert {name: getattr(ask, name) for name in PLAIN} == PLAIN
    assert (ask.op, ask.task, ask.seconds, ask.n) == ("video", "create", 8, 1)
    assert ask.first == Link(DATA_URL, "input_reference.image_url")
    assert ask.last == FileRef("file-1", "last_frame.file_id")
    assert ask.references == (
        Link("https://x/a.png", "reference_images[0]"), FileRef("file-2", "reference_images[1].file_id"),
        Link(DATA_URL, "reference_images[2].image_url"),
    )  # fmt: skip
    assert ask.sources == (ask.first, ask.last, *ask.references)
    assert without_sources(ask).sources == ()
    assert without_sources(ask).prompt == "a cat"


@pytest.mark.parametrize("task", TASKS)
def test_a_form_says_the_same_as_json(task: Task) -> None:
    texts = {name: value for name, value in PLAIN.items() if not isinstance(value, dict)}
    parts = [(name, json.dumps(value) if isinstance(value, bool) else str(value)) for name, value in texts.items()]
    parts += [
        ("metadata[project]", "p"), ("provider_options[lab]", '{"x": [1]}'), ("seconds", "8"),
        ("reference_images[]", DATA_URL), ("reference_images[]", "https://x/a.png"),
    ]  # fmt: skip
    said = dict(PLAIN, provider_options={"lab": '{"x": [1]}'})  # text stays text where nobody tells its type
    if "video" in base(task):
        parts.append(("video[id]", "video_1"))
    read = from_form(task, form(*parts))
    assert read == asked(task, **said, seconds="8", reference_images=[DATA_URL, "https://x/a.png"])


def test_nulls_are_as_if_nothing_was_said() -> None:
    nulls = dict.fromkeys((*PLAIN, "seconds", "input_reference", "last_frame", "reference_images"))
    assert asked(**{**nulls, "prompt": "a cat"}) == asked()


@pytest.mark.parametrize(
    ("said", "seconds"), [("4", 4), (4, 4), ("012", 12), ("auto", None), (None, None), (3600, 3600)]
)
def test_seconds_come_as_text_and_as_a_number(said: str | int | None, seconds: int | None) -> None:
    assert asked(seconds=said).seconds == seconds


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("4.5", "invalid_value"), ("four", "invalid_value"), ("-4", "invalid_value"), ("", "invalid_value"),
        (0, "integer_below_min_value"), (-1, "integer_below_min_value"), ("0", "integer_below_min_value"),
        (3601, "integer_above_max_value"), ("9" * 9, "integer_above_max_value"), (4.5, "invalid_type"),
        (True, "invalid_type"), ([4], "invalid_type"),
    ],
)  # fmt: skip
def test_seconds_that_are_none(said: Any, code: str) -> None:
    fault = refusal(seconds=said)
    assert (fault.code, fault.param) == (code, "seconds")


@given(st.text(max_size=12) | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_stands_for_seconds_is_read_or_refused(said: str | float) -> None:
    try:
        ask = asked(seconds=said)
    except Fault as fault:
        assert fault.kind == "invalid"
        assert fault.param == "seconds"
    else:
        assert ask.seconds is None or 1 <= ask.seconds <= 3600


def test_types_are_told_in_words() -> None:
    assert refusal(seconds=True).message == (
        "Invalid type for 'seconds': expected an integer or a string, but got a boolean instead."
    )
    assert "expected a string or an object, but got an integer" in refusal(input_reference=3).message


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"prompt": ""}, "empty_string", "prompt"), ({"prompt": None}, "invalid_type", "prompt"),
        ({"n": 2}, "unknown_parameter", "n"), ({"video": {"id": "video_1"}}, "unknown_parameter", "video"),
        ({"size": "wide"}, "invalid_value", "size"), ({"aspect_ratio": "wide"}, "invalid_value", "aspect_ratio"),
        ({"resolution": "sharp"}, "invalid_value", "resolution"), ({"audio": "yes"}, "invalid_type", "audio"),
        ({"input_reference": {}}, "invalid_value", "input_reference"),
        ({"input_reference": {"image_url": DATA_URL, "file_id": "f"}}, "invalid_value", "input_reference"),
        ({"input_reference": "cat.png"}, "invalid_value", "input_reference"),
        ({"input_reference": {"image_url": "ftp://x"}}, "invalid_value", "input_reference.image_url"),
        ({"last_frame": {"id": "x"}}, "unknown_parameter", "last_frame.id"),
        ({"reference_images": "https://x"}, "invalid_type", "reference_images"),
        ({"reference_images": [DATA_URL] * 33}, "array_above_max_length", "reference_images"),
        ({"reference_images": [DATA_URL, "x"]}, "invalid_value", "reference_images[1]"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "object_above_max_properties", "metadata"),
        ({"webhook_url": ""}, "empty_string", "webhook_url"), ({"seed": "x"}, "invalid_type", "seed"),
    ],
)  # fmt: skip
def test_what_a_creation_cannot_say(members: dict[str, Any], code: str, param: str) -> None:
    fault = refusal(**members)
    assert (fault.code, fault.param) == (code, param)


@pytest.mark.parametrize("size", ["1280x720", "720x1280", "auto", "720p", "1080P", "4K"])
def test_a_size_is_pixels_or_a_resolution(size: str) -> None:
    assert asked(size=size).size == size


@pytest.mark.parametrize("task", ["edit", "extend"])
@pytest.mark.parametrize(
    ("video", "clip", "origin"),
    [
        ({"id": "video_1"}, None, "video_1"), ("video_1", None, "video_1"),
        ({"url": "https://x/a.mp4"}, Link("https://x/a.mp4", "video.url"), None),
        ("https://x/a.mp4", Link("https://x/a.mp4", "video"), None),
        ({"file_id": "file-1"}, FileRef("file-1", "video.file_id"), None),
    ],
)  # fmt: skip
def test_the_video_to_change(task: Task, video: Any, clip: Source | None, origin: str | None) -> None:
    ask = asked(task, video=video, seconds="8")
    assert (ask.clip, ask.origin, ask.seconds) == (clip, origin, 8)
    assert ask.sources == (() if clip is None else (clip,))


@pytest.mark.parametrize("task", ["edit", "extend"])
@pytest.mark.parametrize(
    ("video", "code"),
    [
        (None, "missing_required_parameter"), ({}, "invalid_value"), ({"id": "a", "url": "https://x"}, "invalid_value"),
        ("cat.mp4", "invalid_value"), (3, "invalid_type"), ("", "empty_string"),
    ],
)  # fmt: skip
def test_a_video_that_is_none(task: Task, video: Any, code: str) -> None:
    fault = refusal(task, video=video)
    assert (fault.code, fault.param) == (code, "video")


def test_a_remix_has_its_video_in_the_path() -> None:
    assert from_json("remix", b'{"prompt":"x"}', origin="video_9") == VideoAsk(
        task="remix", prompt="x", origin="video_9"
    )
    assert from_form("remix", form(("prompt", "x")), origin="video_9").origin == "video_9"
    assert refusal("remix", video={"id": "video_1"}).code == "unknown_parameter"


def test_characters_are_refused_in_words() -> None:
    fault = no_characters()
    assert (fault.kind, fault.param) == ("invalid", "video")
    assert "reference_images" in fault.message


def test_long_addresses_are_not_parsed() -> None:
    """As the route hands them over: taken out of the body before it is decoded."""
    long = "data:image/png;base64," + "iVBORw0KGgoA" * 20_000
    lifter = Lifter(only=b"data:")
    lifter.feed(
        json.dumps({"prompt": "x", "input_reference": long, "reference_images": [{"image_url": long}]}).encode()
    )
    skeleton, lifted = lifter.finish()
    assert len(lifted) == 2
    ask = from_json("create", skeleton, lifted)
    for source in ask.sources:
        assert isinstance(source, Link)
        assert source.blob is not None
        assert b"".join(source.blob.chunks).decode() == long
    lifter = Lifter(only=b"data:")
    lifter.feed(json.dumps({"prompt": long}).encode())
    assert from_json("create", *lifter.finish()).prompt == long


# --- forms ------------------------------------------------------------------------------------------------------------


def test_files_of_a_creation() -> None:
    ask = formed(
        ("reference_images[]", PNG), ("input_reference", PNG), ("last_frame", PNG), ("reference_images[]", b"two"),
        ("reference_images[]", "https://x/a.png"),
    )  # fmt: skip
    assert data(ask.first) == data(ask.last) == data(ask.references[0]) == PNG
    assert [each.param for each in ask.references] == [f"reference_images[{index}]" for index in range(3)]
    assert data(ask.references[1]) == b"two"


@pytest.mark.parametrize(
    "parts",
    [
        [("input_reference[image_url]", DATA_URL)],
        [("input_reference", json.dumps({"image_url": DATA_URL}))],
    ],
)  # fmt: skip
def test_a_reference_object_in_a_form(parts: list[tuple[str, str]]) -> None:
    assert formed(*parts).first == Link(DATA_URL, "input_reference.image_url")


def test_other_references_in_a_form() -> None:
    assert formed(("input_reference", DATA_URL)).first == Link(DATA_URL, "input_reference")
    assert formed(("input_reference[file_id]", "file-1")).first == FileRef("file-1", "input_reference.file_id")
    assert formed(("reference_images[0][file_id]", "file-1")).references[0] == FileRef(
        "file-1", "reference_images[0].file_id"
    )
    assert formed(("video[id]", "video_1"), task="edit").origin == "video_1"
    assert data(formed(("video", MP4), task="extend").clip) == MP4


def test_switches_in_a_form() -> None:
    ask = formed(("audio", "true"), ("watermark", "false"), ("seed", "7"), ("provider_options[draft]", "true"))
    assert (ask.audio, ask.watermark, ask.seed, ask.provider_options) == (True, False, 7, {"draft": True})
    assert form_refusal(("audio", "yes")).param == "audio"


@pytest.mark.parametrize(
    ("parts", "task", "code", "param"),
    [
        ([("input_reference", PNG), ("input_reference[file_id]", "f")], "create", "duplicate_parameter",
         "input_reference"),
        ([("input_reference", PNG), ("input_reference", PNG)], "create", "invalid_type", "input_reference"),
        ([("input_reference", b"")], "create", "invalid_type", "input_reference"),
        ([("prompt", PNG)], "create", "invalid_type", "prompt"),
        ([("metadata", PNG)], "create", "invalid_type", "metadata"),
        ([("what", "x")], "create", "unknown_parameter", "what"),
        ([("video", MP4)], "create", "unknown_parameter", "video"),
        ([("video", MP4), ("video[id]", "video_1")], "edit", "duplicate_parameter", "video"),
        ([], "edit", "missing_required_parameter", "video"),
        ([("seconds", "4.5")], "create", "invalid_value", "seconds"),
        ([("reference_images[]", PNG)] * 33, "create", "array_above_max_length", "reference_images"),
        ([("prompt", "again")], "create", "duplicate_parameter", "prompt"),
    ],
)  # fmt: skip
def test_forms_that_are_refused(parts: list[tuple[str, str | bytes]], task: Task, code: str, param: str) -> None:
    fault = form_refusal(*parts, task=task)
    assert (fault.code, fault.param) == (code, param)


def test_a_prompt_is_required() -> None:
    with pytest.raises(Fault) as caught:
        from_form("create", form(("seconds", "4")))
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "prompt")


@given(st.lists(st.tuples(st.sampled_from(
    ["prompt", "seconds", "input_reference", "input_reference[image_url]", "video[id]", "video", "size",
     "reference_images[]", "reference_images[0][file_id]", "metadata[a]", "audio", "provider_options[a][b]", "odd["]),
    st.text(max_size=8) | st.binary(max_size=8)), max_size=5), st.sampled_from(TASKS))  # fmt: skip
def test_any_form_is_read_or_refused(parts: list[tuple[str, str | bytes]], task: Task) -> None:
    try:
        assert from_form(task, form(*parts)).prompt
    except Fault as fault:
        assert fault.kind == "invalid"
        assert fault.message


# --- what OpenAI's own client sends -----------------------------------------------------------------------------------


class Recorder(BaseHTTPRequestHandler):
    """Keeps what it was sent, and answers like a server of videos."""

    kept: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.kept.append((self.path, self.headers["content-type"], body))
        answer = b'{"id":"video_1"}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        http = DefaultHttpxClient(trust_env=False, verify=False)
        with OpenAI(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}/v1", http_client=http) as client:
            yield client
        server.shutdown()
        thread.join()


PATHS: dict[str, Task] = {"edits": "edit", "extensions": "extend", "remix": "remix", "videos": "create"}


def received() -> VideoAsk:
    """The last request, read as the route reads it."""
    path, kind, body = Recorder.kept.pop()
    task = PATHS[path.rpartition("/")[2]]
    origin = path.split("/")[3] if task == "remix" else None

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    if kind.startswith("multipart/"):
        return from_form(task, asyncio.run(parse(pieces(), kind)), origin=origin)
    return from_json(task, body, origin=origin)


pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def test_the_client_creates_without_a_file(client: OpenAI) -> None:
    client.videos.create(prompt="a cat", model="sora-2", seconds="8", size="1280x720")
    assert received() == VideoAsk(prompt="a cat", model="sora-2", seconds=8, size="1280x720")


def test_the_client_creates_from_a_file_and_fields_of_ours(client: OpenAI) -> None:
    extra = {
        "audio": True, "seed": 7, "resolution": "1080p", "metadata": {"project": "p"},
        "provider_options": {"lab": {"draft": True}}, "reference_images": ["https://x/a.png", "https://x/b.png"],
        "last_frame": {"image_url": DATA_URL}, "webhook_url": "https://x/hook",
    }  # fmt: skip
    client.videos.create(prompt="a cat", input_reference=pictures.HERE / "red.png", extra_body=extra)
    ask = received()
    assert data(ask.first) == PNG
    assert (ask.audio, ask.seed, ask.resolution, ask.metadata) == (True, 7, "1080p", {"project": "p"})
    assert ask.provider_options == {"lab": {"draft": True}}
    assert ask.last == Link(DATA_URL, "last_frame.image_url")
    assert ask.references == (
        Link("https://x/a.png", "reference_images[0]"), Link("https://x/b.png", "reference_images[1]"),
    )  # fmt: skip


def test_the_client_changes_videos(client: OpenAI) -> None:
    earlier = {"prompt": "at night", "video": {"id": "video_1"}}  # which its own method refuses to send
    client.post("/videos/edits", body=earlier, cast_to=object)
    assert received() == VideoAsk(task="edit", prompt="at night", origin="video_1")
    client.videos.edit(prompt="at night", video=pictures.HERE / "clip.mp4")
    assert data(received().clip) == MP4
    client.post("/videos/extensions", body={**earlier, "seconds": "8"}, cast_to=object)
    assert received() == VideoAsk(task="extend", prompt="at night", origin="video_1", seconds=8)
    client.videos.extend(prompt="on", video=("a.mp4", MP4, "video/mp4"), seconds="8")
    assert data(received().clip) == MP4
    client.videos.remix("video_7", prompt="in snow")
    assert received() == VideoAsk(task="remix", prompt="in snow", origin="video_7")
