"""Long strings leave a JSON text wherever it is cut; events come out of a stream however it is cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import lift
from proxy.lift import LIFT, SKELETON, Events, Lifter
from translators.base import Blob, Call, Fault, Reply

Seen: TypeAlias = tuple[str, bytes, dict[str, Blob]]

SHORT = 8  # the bound that the property tests set, so that "long" costs nothing


def lifted(pieces: Iterable[bytes]) -> tuple[Any, dict[str, Blob]]:
    """The value that a text in pieces stands for, its lifted strings put back."""
    lifter = Lifter()
    for piece in pieces:
        lifter.feed(piece)
    skeleton, blobs = lifter.finish()
    return restored(msgspec.json.decode(skeleton), blobs), blobs


def restored(value: Any, blobs: dict[str, Blob]) -> Any:
    match value:
        case str() if value in blobs:
            return b"".join(blobs[value].chunks).decode()
        case list():
            return [restored(each, blobs) for each in value]
        case dict():
            return {restored(name, blobs): restored(each, blobs) for name, each in value.items()}
    return value


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut at these places, each taken modulo its length; a place twice gives an empty piece."""
    at = sorted(place % (len(data) + 1) for place in places)
    return [data[start:stop] for start, stop in pairwise((0, *at, len(data)))]


CHARACTERS = st.one_of(
    st.sampled_from('\\"/\n\t\x00\x7fé猫\u2028😀'), st.characters(exclude_categories=["Cs"]), st.sampled_from("aB3+/=")
)
TEXTS = st.text(CHARACTERS, max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, st.lists(st.integers(0, 10_000), max_size=12), st.booleans(), st.sampled_from([None, 2]), st.booleans())
def test_any_json_in_any_pieces(
    monkeypatch: pytest.MonkeyPatch, value: Any, places: list[int], ascii: bool, indent: int | None, slashes: bool
) -> None:
    monkeypatch.setattr(lift, "LIFT", SHORT)
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    if slashes:
        text = text.replace("/", "\\/")  # as PHP writes them; a slash means nothing outside strings
    found, blobs = lifted(cut(text.encode(), places))
    assert found == json.loads(text)
    assert all(blob.size == sum(map(len, blob.chunks)) and blob.encoding == "base64" for blob in blobs.values())


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES)
def test_one_byte_at_a_time(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    monkeypatch.setattr(lift, "LIFT", SHORT)
    text = json.dumps(value).encode()
    assert lifted(text[i : i + 1] for i in range(len(text)))[0] == value


@pytest.mark.parametrize(("length", "count"), [(LIFT, 0), (LIFT + 1, 1)])
def test_the_bound(length: int, count: int) -> None:
    text = json.dumps({"a": "x" * length}).encode()
    for pieces in ([text], [text[:100], text[100:]], [text[:LIFT], text[LIFT:]]):
        value, blobs = lifted(pieces)
        assert value == {"a": "x" * length}
        assert len(blobs) == count


def test_whole_pieces_are_kept_as_they_are() -> None:
    """A piece that lies within one string is neither joined nor copied."""
    inside = [bytes([letter]) * LIFT * 2 for letter in b"abc"]
    _, blobs = lifted([b'{"b64_json":"', *inside, b'"}'])
    (blob,) = blobs.values()
    assert [id(chunk) for chunk in blob.chunks] == [id(piece) for piece in inside]


def test_several_pictures_in_one_piece() -> None:
    value = {"data": [{"b64_json": letter * (LIFT + 1)} for letter in "abc"], "n": 3}
    found, blobs = lifted([json.dumps(value).encode()])
    assert found == value
    assert len(blobs) == 3


def test_escaped_slashes_become_base64_again() -> None:
    picture = "abc/" * LIFT
    text = b'{"b64_json":"' + picture.replace("/", "\\/").encode() + b'"}'
    (blob,) = lifted(cut(text, (100, 40_000, 40_001)))[1].values()
    assert blob.size == len(picture)
    assert b"".join(blob.base64()) == picture.encode()


def test_a_reply_reads_what_was_lifted() -> None:
    class Made(msgspec.Struct):
        b64_json: Blob
        seed: int

    picture = "QUJD" * LIFT
    lifter = Lifter()
    for piece in cut(b'{"b64_json":"' + picture.encode() + b'","seed":7}', (50, 70_000)):
        lifter.feed(piece)
    data, blobs = lifter.finish()
    made = Reply(call=Call(path="/"), status=200, data=data, lifted=blobs).read(Made)
    assert made.seed == 7
    assert made.b64_json.head(6) == b"ABCABC"
    assert made.b64_json.length == 3 * LIFT


def test_cut_off_within_a_picture() -> None:
    lifter = Lifter()
    lifter.feed(b'{"b64_json":"' + b"A" * (LIFT + 1))
    with pytest.raises(Fault) as caught:
        lifter.finish()
    assert (caught.value.kind, caught.value.code) == ("upstream", "truncated")


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":"short', b'{"a":"x\\', b'{"a":1'])
def test_cut_off_elsewhere(text: bytes) -> None:
    lifter = Lifter()
    lifter.feed(text)
    data, blobs = lifter.finish()
    with pytest.raises(Fault) as caught:
        Reply(call=Call(path="/"), status=200, data=data, lifted=blobs).read(dict)
    assert (caught.value.kind, caught.value.code) == ("upstream", "unreadable")


@pytest.mark.parametrize("escape", [b"\\x", b"\\ud800", b"\\u12", b"\\\\\\q"])
def test_a_long_string_with_a_broken_escape(escape: bytes) -> None:
    """Whatever a provider writes is its fault, never an error of ours."""
    lifter = Lifter()
    with pytest.raises(Fault) as caught:
        lifter.feed(b'{"a":"' + b"A" * LIFT + b"A" + escape + b'"}')
    assert (caught.value.kind, caught.value.code) == ("upstream", "unreadable")


def test_the_skeleton_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lift, "SKELETON", 4000)
    lifter = Lifter()
    lifter.feed(b'"a",' * 1000)
    with pytest.raises(Fault) as caught:
        lifter.feed(b" ")
    assert (caught.value.kind, caught.value.code) == ("upstream", "too_large")


def test_long_strings_do_not_count_for_the_skeleton() -> None:
    lifter = Lifter()
    lifter.feed(b'["')
    for _ in range(3):
        lifter.feed(b"A" * SKELETON)
    lifter.feed(b'"]')
    assert len(lifter.finish()[0]) < 20


def test_a_quoted_token_is_text_beside_the_lifted_string() -> None:
    """What a client wrote into its prompt, and the provider echoes, does not stand for a picture."""
    value = {"prompt": "\x000", "b64_json": "A" * (LIFT + 1)}
    lifter = Lifter()
    lifter.feed(json.dumps(value).encode())
    data, _ = lifter.finish()
    assert msgspec.json.decode(data)["prompt"] == "\x000"


# Event streams


def events(pieces: Iterable[bytes]) -> list[tuple[str, str]]:
    """Each event's name and data."""
    parser = Events()

    def seen() -> Iterator[Seen]:
        for piece in pieces:
            yield from parser.feed(piece)
        yield from parser.finish()

    found: list[tuple[str, str]] = []
    for name, data, blobs in seen():
        text = data.decode()
        for token, blob in blobs.items():
            text = text.replace(json.dumps(token)[1:-1], b"".join(blob.chunks).decode())
        found.append((name, text))
    return found


STREAM = [
    ": a comment",
    "",
    "event: image_generation.partial_image",
    "id: 7",
    "retry: 10",
    'data: {"b64_json":"QUJD","n":1}',
    "",
    "",
    ":",
    "data:no space",
    "",
    "event:named without space",
    "data",
    "data: 1",
    "data: 2",
    "data:3",
    "data: last of four",
    "",
    "data: x",
    "",
    "event: nothing follows",
    "",
    "data: after it",
    "",
    "data: [DONE]",
    "",
]
MEANING = [
    ("image_generation.partial_image", '{"b64_json":"QUJD","n":1}'),
    ("", "no space"),
    ("named without space", "1\n2\n3\nlast of four"),
    ("", "x"),
    ("", "after it"),
    ("", "[DONE]"),
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_however_lines_end_and_pieces_fall(end: str, size: int) -> None:
    text = (end.join(STREAM) + end).encode()
    assert events(text[i : i + size] for i in range(0, len(text), size)) == MEANING


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 10_000), max_size=12),
    st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=len(STREAM), max_size=len(STREAM)),
)
def test_events_in_any_pieces_and_mixed_line_ends(places: list[int], ends: list[str]) -> None:
    # After a CR an LF is its second half: an empty line there must not begin with one.
    for i in range(1, len(STREAM)):
        if not STREAM[i] and ends[i - 1] == "\r" and ends[i] == "\n":
            ends[i] = "\r\n"
    text = "".join(line + end for line, end in zip(STREAM, ends, strict=True)).encode()
    assert events(cut(text, places)) == MEANING


@pytest.mark.parametrize("tail", ["data: {}", "data: {}\n", "data: {}\r", "data: {}\r\n", "data: {}\n\n", "data:1"])
def test_the_last_event_counts_without_its_empty_line(tail: str) -> None:
    last = tail.strip()[5:].strip()
    assert events([b"data: first\n\n" + tail.encode()]) == [("", "first"), ("", last)]


def test_a_picture_in_an_event_is_lifted_and_not_copied() -> None:
    parser = Events()
    inside = [b"A" * LIFT * 2, b"B" * LIFT * 2]
    stream = [b'event: x.completed\ndata: {"b64_json":"', *inside, b'"}\n', b"\n"]
    ((name, data, blobs),) = [event for piece in stream for event in parser.feed(piece)]
    ((token, blob),) = blobs.items()
    assert name == "x.completed"
    assert msgspec.json.decode(data) == {"b64_json": token}
    assert [id(chunk) for chunk in blob.chunks] == [id(piece) for piece in inside]


def test_a_stream_cut_off_within_a_picture() -> None:
    parser = Events()
    list(parser.feed(b'data: {"b64_json":"' + b"A" * (LIFT + 1)))
    with pytest.raises(Fault) as caught:
        list(parser.finish())
    assert (caught.value.kind, caught.value.code) == ("upstream", "truncated")


@pytest.mark.parametrize("line", [b": ", b"id: ", b""])
def test_a_line_without_an_end_is_bounded(line: bytes) -> None:
    parser = Events()
    list(parser.feed(line))
    list(parser.feed(b"x" * (SKELETON - 10)))
    with pytest.raises(Fault) as caught:
        list(parser.feed(b"x" * 20))
    assert (caught.value.kind, caught.value.code) == ("upstream", "too_large")
