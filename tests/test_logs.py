"""Log lines: what stands in them, and what never does."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import logs
from proxy.logs import masked, request_id, shown
from translators.base import blob

KEY = "sk-proj-Zx81hdJAQ0q7nBvU2"
log = logging.getLogger("pictor.test")


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the lines go, with the process's logging as it was afterwards."""
    root = logging.getLogger()
    names = {name: logging.getLogger(name) for name in logs.QUIET}
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    quiet = {name: (each.handlers[:], each.level, each.propagate) for name, each in names.items()}
    yield io.StringIO()
    root.handlers[:], raising = before[0], before[2]
    root.setLevel(before[1])
    logging.raiseExceptions = raising
    for name, (handlers, level, propagate) in quiet.items():
        names[name].handlers[:], names[name].propagate = handlers, propagate
        names[name].setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_one_object_per_event(out: io.StringIO) -> None:
    logs.setup("info", stream=out)
    log.info("polled %s times", 3, extra={"task": "img_1", "ms": 12.5, "ok": True, "none": None})
    line = lines(out)[0]
    assert datetime.fromisoformat(line.pop("time")).tzinfo == UTC
    assert line == {
        "level": "info", "logger": "pictor.test", "message": "polled 3 times",
        "task": "img_1", "ms": 12.5, "ok": True, "none": None,
    }  # fmt: skip


def test_newlines_stay_within_their_line(out: io.StringIO) -> None:
    logs.setup("info", stream=out)
    log.info('a\nb\r\n{"level": "error"}')
    assert lines(out)[0]["message"] == 'a\nb\r\n{"level": "error"}'
    logs.setup("info", json=False, stream=out)
    log.info("x\n13:44:45.852 error pictor: forged \x1b[31m")
    assert out.getvalue().splitlines()[-1].endswith(r"x\n13:44:45.852 error pictor: forged \x1b[31m")


async def test_the_request_is_named_in_each_of_its_lines(out: io.StringIO) -> None:
    logs.setup("info", stream=out)

    async def serve(name: str) -> None:
        request_id.set(name)
        await asyncio.sleep(0)
        log.info("served")

    await asyncio.gather(*(asyncio.create_task(serve(f"req_{each}")) for each in range(3)))
    log.info("idle")
    assert [line.get("request_id") for line in lines(out)] == ["req_0", "req_1", "req_2", None]


def test_an_exception_is_one_member(out: io.StringIO) -> None:
    logs.setup("info", stream=out)
    try:
        raise ValueError(f"no access with {KEY}")
    except ValueError:
        log.exception("failed")
    line = lines(out)[0]
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: no access with sk-***")
    log.info("where", stack_info=True)
    assert "test_an_exception" in lines(out)[1]["stack"]
    logs.setup("info", json=False, stream=out)
    log.error("again", exc_info=ValueError("why"))
    assert out.getvalue().splitlines()[-1] == "ValueError: why"


def test_below_the_level_nothing_is_even_formatted(out: io.StringIO) -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    logs.setup("warning", stream=out)
    log.info("%s", Costly())
    assert out.getvalue() == ""


def test_what_operators_are_told(out: io.StringIO) -> None:
    logs.setup("info", stream=out)
    logs.say("served", name="x", message=3, args=[1])
    logs.warn("died", pid=7)
    said, warned = lines(out)
    assert (said["message"], said["level"]) == ("served", "info")
    assert (warned["message"], warned["level"], warned["pid"]) == ("died", "warning", 7)


def test_setting_up_again_replaces_the_first(out: io.StringIO) -> None:
    logs.setup("info", stream=out)
    logs.setup("debug", json=False, stream=out)
    log.debug("once", extra={"task": "a b"})
    assert len(out.getvalue().splitlines()) == 1
    assert out.getvalue().endswith(' pictor.test: once task="a b"\n')


def test_talkative_libraries_are_quiet_unless_it_matters(out: io.StringIO) -> None:
    own = logging.StreamHandler(out)
    logging.getLogger("uvicorn.error").addHandler(own)
    logs.setup("debug", stream=out)
    for name in logs.QUIET:
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).error("trouble")
    assert [line["message"] for line in lines(out)] == ["trouble"] * len(logs.QUIET)


def test_a_wrong_call_loses_no_line_and_tells_no_argument(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", stream=out)
    wrong = "two %s %s"
    log.info(wrong, KEY)
    assert lines(out)[0]["message"] == wrong
    out.close()
    log.info("nobody listens %s", KEY)
    assert KEY not in capsys.readouterr().err


# --- what never stands in a line

VALUE = "Zx81hdJAQ0q7nBvU2"


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Authorization: Bearer {VALUE}",
        f"{{'Authorization': 'Bearer {VALUE}'}}",
        f'{{"authorization": "Key 3f2a:{VALUE}"}}',
        f'{{\\"authorization\\": \\"Bearer {VALUE}\\"}}',
        f"authorization: TC3-HMAC-SHA256 Credential=AKIDabcdefgh/2026, SignedHeaders=host, Signature={VALUE}",
        f"sent with bearer {VALUE} and",
        f"x-key: {VALUE}",
        f"('x-key', 'a'), (b'X-Key': b'{VALUE}')",
        f"api-key={VALUE};",
        f"api_key: '{VALUE}'",
        f"x-goog-api-key: {VALUE}",
        f"client_secret={VALUE}&grant_type=x",
        f"GET https://x/y?a=1&key={VALUE} 200",
        f"https://bucket/x?X-Amz-Credential=AKIAabcdefgh%2F1&X-Amz-Signature={VALUE}",
        f"/v1/outputs/a.png?expires=1&signature={VALUE}",
        f"AIza{VALUE}",
        f"eyJhbGciOiJIUzI1NiJ9.{VALUE}.{VALUE}",
        f"password={VALUE}",
        f"Cookie: a=b; session={VALUE}",
        f"[(b'x-key', b'{VALUE}')]",
        f"[('Authorization', 'Bearer {VALUE}')]",
    ],
)
def test_credentials_are_masked(text: str) -> None:
    assert VALUE not in masked(text)
    assert logs.MASK in masked(text)
    assert VALUE not in json.dumps(shown({"deep": [{"in": text}]}))


@pytest.mark.parametrize(
    "text",
    [
        "openai/gpt-image-2 answered after 12 s",
        "input_tokens: 120, output_tokens: 4096",
        "task-28 of model fal-ai/flux-2-pro at risk-free-something",
        "the key bfl#1 rests for 30 s",
        "GET /v1/images/generations 200",
        "img_0a1b2c3d4e5f60718293a4b5c6d7e8f9 stored as 20270115-UE7dZ2njrjjXsWHccuOpng.png",
    ],
)
def test_plain_words_stay(text: str) -> None:
    assert masked(text) == text


def test_fields_named_like_a_credential_are_masked(out: io.StringIO) -> None:
    logs.setup("info", stream=out)
    fields = {"api_key": VALUE, "key": "app", "headers": {"x-key": VALUE, "accept": "*/*"}, "secret": 5}
    log.info("x", extra=fields)
    line = lines(out)[0]
    assert VALUE not in out.getvalue()
    assert (line["key"], line["headers"]["accept"], line["secret"]) == ("app", "*/*", logs.MASK)


def test_no_picture_gets_into_a_line(out: io.StringIO) -> None:
    logs.setup("info", stream=out)
    raw = secrets.token_bytes(50_000)
    text = pybase64.b64encode(raw).decode()
    log.info("got %s", text, extra={"raw": raw, "blob": blob(raw), "json": {"b64_json": text}, "list": [raw, text]})
    log.info("got %r", text[:2000])
    assert max(map(len, out.getvalue().splitlines())) < 1_000
    assert lines(out)[0]["raw"] == "<50000 bytes>"
    assert lines(out)[0]["blob"] == "<Blob>"


def test_values_of_every_kind() -> None:
    class Color(Enum):
        RED = "red"

    day = datetime(2026, 1, 2, tzinfo=UTC)
    assert shown([2**70, -(2**70), 7, Path("/a"), UUID(int=1), day, ValueError("x"), Color.RED, object]) == [
        str(2**70), str(-(2**70)), 7, "/a", "00000000-0000-0000-0000-000000000001", "2026-01-02 00:00:00+00:00",
        "ValueError: x", "Color.RED", "<type>",
    ]  # fmt: skip
    assert shown({1: {2}}) == {"1": [2]}
    assert shown(list(range(101)))[-1] == "… of 101"  # type: ignore[index]  # a list, as it came
    assert shown("a\ud800b") == "a\\ud800b"
    endless: list[object] = []
    endless.append(endless)
    assert "…" in json.dumps(shown(endless), ensure_ascii=False)


def test_long_texts_keep_their_ends() -> None:
    told = masked("start " + "word " * 100_000 + "end")
    assert told.startswith("start")
    assert told.endswith("end")
    assert len(told) < logs.LONGEST + 100


@given(
    st.recursive(
        st.none() | st.text() | st.binary() | st.integers() | st.floats(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_value_makes_a_line(value: object) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (value,), None)
    record.value = value
    for form in (True, False):
        line = logs.Lines(json=form).format(record)
        assert "\n" not in line
    assert json.loads(logs.Lines(json=True).format(record))["level"] == "info"
