from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.forms import Form, Limits, Spooled, nest, parse
from translators.base import Blob, Fault

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FILE = 'form-data; name="image"; filename="a.png"'


def part(disposition: str | bytes, data: bytes, extra: bytes = b"") -> bytes:
    head = disposition if isinstance(disposition, bytes) else disposition.encode()
    return b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: " + head + b"\r\n" + extra + b"\r\n" + data + b"\r\n"


def whole(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n"


def read(chunks: Iterable[bytes], content_type: str = TYPE, limits: Limits | None = None) -> Form:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return asyncio.run(parse(stream(), content_type, limits or Limits()))


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def plain(form: Form) -> list[tuple[str, str | bytes]]:
    return [(p.name, p.value if isinstance(p.value, str) else p.value.bytes()) for p in form.parts]


def fault(chunks: Iterable[bytes], content_type: str = TYPE, limits: Limits | None = None) -> Fault:
    with pytest.raises(Fault) as caught:
        read(chunks, content_type, limits)
    assert caught.value.kind == "invalid"
    assert caught.value.message
    return caught.value


tricky = st.lists(
    st.sampled_from(
        [b"\r\n", b"--", BOUNDARY.encode(), b"\r", b"\n", b"-", b"\r\n--b0un", b"\r\n--b0undar", b"\0", b"x"]
    )
).map(b"".join)
data = st.one_of(st.binary(max_size=200), tricky).filter(
    lambda value: f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + value
)
names = st.text(st.characters(exclude_characters='"\\\r\n', exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(names, data, st.booleans()), max_size=6), st.integers(1, 80))
def test_any_parts_in_any_chunks_come_out_as_they_went_in(parts: list[tuple[str, bytes, bool]], size: int) -> None:
    body = whole(
        *(
            part(f'form-data; name="{name}"; filename="f"' if file else f'form-data; name="{name}"', value)
            for name, value, file in parts
            if file or is_text(value)
        )
    )
    got = plain(read(cut(body, size)))
    assert got == [(name, value if file else value.decode()) for name, value, file in parts if file or is_text(value)]


def is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=40), tricky, st.just(part(FILE, b"x")), st.just(whole()))), st.integers(1, 50)
)
def test_whatever_comes_is_a_form_or_a_fault(pieces: list[bytes], size: int) -> None:
    try:
        read(cut(b"".join(pieces), size))
    except Fault as raised:
        assert raised.kind == "invalid"


@given(st.text(max_size=80))
def test_whatever_the_content_type_says(text: str) -> None:
    fault([b"nothing"], text)
    fault([b"nothing"], f"multipart/form-data; {text}")


def test_a_form_that_is_cut_off_anywhere_is_refused() -> None:
    body = whole(part('form-data; name="prompt"', b"a cat"), part(FILE, b"\x89PNG" * 20)).removesuffix(b"\r\n")
    for end in range(len(body)):
        fault([body[:end]])
    assert read([body]).parts[0].value == "a cat"


@pytest.mark.parametrize(
    "name",
    [
        b'"a\\"b.png"', b'"a\\b.png"', b'"a\\"', b'"a%22b.png"', "\"图.png\"".encode(), b'"' + b"n" * 300 + b'"', b'""',
        b'"; name=x"', b"plain.png", b'"\xff\xfe.png"', b'"C:\\dir\\a.png"',
        b"\"pic \xc3\xa9.png\"; filename*=UTF-8''%C3%A9.png",
        b'"a;b.png"', b'"', b"",
    ],
)  # fmt: skip
def test_a_file_arrives_whatever_its_name(name: bytes) -> None:
    body = whole(part(b'form-data; name="image[]"; filename=' + name, b"bytes"))
    assert plain(read(cut(body, 7))) == [("image[]", b"bytes")]


def test_a_file_may_have_an_extended_name_only_or_only_a_type() -> None:
    extended = part("form-data; name=\"image\"; filename*=UTF-8''%e5%9b%be.png", b"1")
    typed = part('form-data; name="image"', b"2", b"Content-Type: image/png\r\n")
    text = part('form-data; name="prompt"', b"3", b"Content-Type: text/plain; charset=utf-8\r\n")
    json = part('form-data; name="metadata"', b"{}", b"Content-Type: application/json\r\n")
    got = plain(read([whole(extended, typed, text, json)]))
    assert got == [("image", b"1"), ("image", b"2"), ("prompt", "3"), ("metadata", "{}")]


def test_name_and_headers_in_any_case_and_unquoted() -> None:
    body = part("", b"1").replace(
        b"Content-Disposition: ", b"content-type: text/plain\r\nCONTENT-DISPOSITION: form-data; NAME=n"
    )
    assert plain(read([whole(body)])) == [("n", "1")]
    assert plain(read([whole(part('form-data; name="a\\"b"', b"1"))])) == [('a"b', "1")]


@pytest.mark.parametrize("filename", ['a"b.png', "a\\b.png", "图.png", "n" * 300, "a\r\nb.png"])
def test_forms_of_a_real_client(filename: str) -> None:
    files: list[Any] = [("image[]", (filename, b"first", "image/png")), ("image[]", (filename, b"second"))]
    request = httpx.Request("POST", "http://x", data={"prompt": "ein Bär", "n": "2"}, files=files)
    got = plain(read(cut(request.read(), 11), request.headers["content-type"]))
    assert got == [("prompt", "ein Bär"), ("n", "2"), ("image[]", b"first"), ("image[]", b"second")]


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("application/json", "unsupported_content_type"),
        ("", "unsupported_content_type"),
        ("multipart/mixed; boundary=x", "unsupported_content_type"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        (f"multipart/form-data; boundary={'x' * 300}", None),
        ("multipart/form-data; boundary=other", None),
    ],
)
def test_content_type(content_type: str, code: str | None) -> None:
    assert fault([whole(part(FILE, b"x"))], content_type).code == code


def test_quoted_boundary() -> None:
    assert plain(read([whole(part(FILE, b"x"))], f'Multipart/Form-Data; charset=utf-8; boundary="{BOUNDARY}"'))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\0" * 100, b'{"prompt": "a"}', whole(part("form-data", b"x")), whole(part(b"", b"x")),
        whole(b"--" + BOUNDARY.encode() + b"\r\n\r\nno headers\r\n"), whole(part(FILE, b"x", b"bad header\r\n")),
        whole(part(FILE, b"x", b"X: " + b"y" * 20_000 + b"\r\n")), whole(part(FILE, b"x", b"A: b\r\n" * 9)),
        whole(part('form-data; name="prompt"', b"\xff\xfe")),
    ],
)  # fmt: skip
def test_malformed(body: bytes) -> None:
    fault([body])
    fault(cut(body, 3))


def test_at_most_a_hundred_parts() -> None:
    one = part('form-data; name="a"', b"1")
    assert len(read([whole(*[one] * 100)]).parts) == 100
    assert "100 parts" in fault([whole(*[one] * 300)]).message


def test_bounds_of_body_and_texts() -> None:
    small = Limits(body_bytes=1000, text_bytes=100)
    assert fault([whole(part(FILE, b"x" * 2000))], limits=small).code == "request_too_large"
    long = fault([whole(part('form-data; name="prompt"', b"x" * 101))], limits=small)
    assert (long.code, long.param) == ("string_above_max_length", "prompt")
    assert plain(read([whole(part('form-data; name="image_urls[]"', b"x" * 101))], limits=small))


@pytest.mark.parametrize("size", [1, 1000, 65_536, 1 << 24])
def test_what_memory_does_not_hold_goes_to_disk_and_comes_back(size: int, tmp_path: Path) -> None:
    length = 3000 if size == 1 else 3_000_000
    limits = Limits(spool_bytes=length + length // 2, spool_dir=str(tmp_path))
    pictures = [os.urandom(length) for _ in range(4)]
    pictures[3] = b"tiny"
    blobs = [p.value for p in read(cut(whole(*(part(FILE, p) for p in pictures)), size), limits=limits).parts]
    assert all(isinstance(blob, Blob) for blob in blobs)
    made = [blob for blob in blobs if isinstance(blob, Blob)]
    assert [isinstance(blob.chunks, Spooled) for blob in made] == [False, True, True, False]
    assert [blob.size for blob in made] == [len(p) for p in pictures]
    for blob, picture in zip(made, pictures, strict=True):
        assert blob.bytes() == picture
        assert blob.bytes() == picture, "it can be walked again"
    assert not list(tmp_path.iterdir()), "the file has no name"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
def test_a_spooled_file_is_closed_with_its_last_reader(tmp_path: Path) -> None:
    def held() -> int:
        links = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        return sum(os.readlink(link).startswith(str(tmp_path)) for link in links)

    limits = Limits(spool_bytes=0, spool_dir=str(tmp_path))
    form = read([whole(part(FILE, b"x" * 100), part(FILE, b"y"))], limits=limits)
    value = form.parts[0].value
    assert isinstance(value, Blob)
    reader = iter(value.chunks)
    assert held() == 1
    del form, value
    gc.collect()
    assert next(reader) == b"x" * 100
    del reader
    gc.collect()
    assert held() == 0
    fault([whole(part(FILE, b"x" * 100))[:-20]], limits=limits)
    gc.collect()
    assert held() == 0


def test_no_room_on_disk_is_not_the_clients_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        read([whole(part(FILE, b"x"))], limits=Limits(spool_bytes=0, spool_dir=str(tmp_path / "missing")))
    assert caught.value.kind == "overloaded"


def test_whole_chunks_are_not_copied() -> None:
    body = whole(part(FILE, b"z" * 300_000))
    chunks = list(cut(body, 65_536))
    value = read(chunks).parts[0].value
    assert isinstance(value, Blob)
    kept = list(value.chunks)
    assert [any(piece is chunk for chunk in chunks) for piece in kept[1:-1]] == [True] * (len(kept) - 2)


def test_crumbs_are_gathered() -> None:
    value = read(cut(whole(part(FILE, b"z" * 200_000)), 1)).parts[0].value
    assert isinstance(value, Blob)
    assert len(list(value.chunks)) < 5


def nested(*fields: tuple[str, str]) -> dict[str, Any]:
    return nest(fields, lambda path, text: text, frozenset({"list"}))


def test_nest() -> None:
    assert nested(("svg[model]", "m"), ("svg[reasoning][effort]", "low"), ("n", "2")) == {
        "svg": {"model": "m", "reasoning": {"effort": "low"}}, "n": "2",
    }  # fmt: skip
    assert nested(("list[]", "a"), ("list[]", "b"), ("list", "c"), ("list[0]", "d")) == {"list": ["a", "b", "c", "d"]}
    items = {"list": [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]}
    one, two, three, four = ("a]", "1"), ("b]", "2"), ("a]", "3"), ("b]", "4")
    by_item = [(f"list[][{key}", value) for key, value in (one, two, three, four)]
    by_member = [(f"list[][{key}", value) for key, value in (one, three, two, four)]
    assert nested(*by_item) == nested(*by_member) == items
    assert nested(("list[1][b]", "4"), ("list[0][a]", "1"), ("list[1][a]", "3"), ("list[0][b]", "2")) == items
    assert nested(("o[tags][]", "1"), ("o[tags][]", "2"), ("o[0]", "x")) == {"o": {"tags": ["1", "2"], "0": "x"}}


@pytest.mark.parametrize(
    "fields",
    [
        [("a", "1"), ("a", "2")], [("a", "1"), ("a[b]", "2")], [("a[b]", "1"), ("a", "2")],
        [("a[b]", "1"), ("a[b]", "2")],
        [("a[b]", "1"), ("a[b][c]", "2")], [("a[][b]", "1")], [("[a]", "1")], [("a]b[", "1")], [("", "1")],
        [("a" + "[b]" * 9, "1")], [("list", "x"), ("list[0][a]", "1")],
        [("list[][a]", "1"), ("list[][a]", "2"), ("list[][b]", "3")], [("list[][a][b]", "1")], [("list[x][a]", "1")],
        [("list[][]", "1")], [("list[0][a]", "1"), ("list[0][a]", "2")], [("list[0][a]", "1"), ("list[][a]", "2")],
    ],
)  # fmt: skip
def test_nest_refuses_what_it_cannot_place(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(Fault) as caught:
        nested(*fields)
    assert caught.value.kind == "invalid"


@given(st.lists(st.tuples(st.text(st.sampled_from("ab[]0list9"), max_size=14), st.text(max_size=3)), max_size=6))
def test_nest_takes_any_name(fields: list[tuple[str, str]]) -> None:
    try:
        nested(*fields)
    except Fault as raised:
        assert raised.kind == "invalid"
