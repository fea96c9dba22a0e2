"""Log lines: one JSON object per event on standard error. No credential and no picture gets into one.

Code logs as ever: `logging.getLogger("pictor").info("polled", extra={"task": id})`. What `extra` names becomes a
member of the line. Masking happens where the line is written, so that a line that is not written costs nothing.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Set
from contextvars import ContextVar
from datetime import UTC, date, datetime
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import TextIO, TypeAlias
from uuid import UUID

import msgspec

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that this code runs for; in each line that it writes."""

SHORT = 64  # characters of a text whose search is worth remembering
LONGEST = 8_000  # characters of one text: more than a stack needs, less than a picture
MOST = 100  # items of one list
DEEPEST = 5  # lists and objects within each other
MASK = "***"

QUIET = (
    "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "aiohttp", "asyncio", "httpx", "httpcore", "litestar",
    "PIL", "python_multipart", "urllib3",
)  # fmt: skip
"""Loggers that tell of each request, with addresses and their queries, or of each chunk; the app has its own line."""

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"

log = logging.getLogger("pictor")


def setup(level: str = "info", *, json: bool = True, stream: TextIO | None = None) -> None:
    """Write what is at least `level` (debug, info, warning, error) to `stream`, else to standard error."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler.formatter, Lines)]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines(json=json))
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in QUIET:
        quiet = logging.getLogger(name)
        quiet.handlers.clear()
        quiet.propagate = True
        quiet.setLevel(max(threshold, logging.WARNING))
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line says them
    logging.raiseExceptions = False  # else a line that cannot be written is told with its arguments, unmasked


def say(text: str, **fields: object) -> None:
    """Something that the operator should see."""
    log.info(text, extra={"fields": fields})


def warn(text: str, **fields: object) -> None:
    """Something that the operator should look after."""
    log.warning(text, extra={"fields": fields})


_OWN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message", "asctime", "taskName", "color_message", "fields",
}  # fmt: skip


class Lines(logging.Formatter):
    """A record as one line: JSON for machines, or text for a terminal."""

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self.json = json

    def format(self, record: logging.LogRecord) -> str:
        """One line without its end."""
        line: dict[str, Plain] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(_message(record)),
        }
        if (request := request_id.get()) is not None:
            line["request_id"] = request
        for name, value in (*record.__dict__.items(), *record.__dict__.get("fields", {}).items()):
            if name not in _OWN and name not in line:
                line[name] = MASK if _secret(name) else masked(value) if type(value) is str else shown(value)
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = masked(record.stack_info)
        return msgspec.json.encode(line).decode() if self.json else _text(line)


def shown(value: object, depth: int = 0) -> Plain:
    """`value` as it may stand in a line: its texts masked; of bytes the count, of unknown things the type alone."""
    match value:
        case None | bool() | float():
            return value
        case int():
            return int(value) if -(2**63) <= value < 2**64 else str(value)
        case str() | BaseException() | date() | UUID() | PurePath() | Enum():
            return masked(f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value))
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Mapping() | list() | tuple() | Set() if depth >= DEEPEST:
            return "…"
        case Mapping():
            return {str(name): MASK if _secret(str(name)) else shown(each, depth + 1) for name, each in value.items()}
        case list() | tuple() | Set():
            items = [shown(each, depth + 1) for each, _ in zip(value, range(MOST), strict=False)]
            return [*items, f"… of {len(value)}"] if len(value) > MOST else items
        case _:
            return f"<{type(value).__qualname__}>"  # its repr may hold anything: a blob's holds the picture


_NAMES = (
    r"(?:proxy[-_])?authorization|(?:x[-_]|x-goog[-_])?api[-_]?key|x[-_]key|ocp-apim-subscription-key"
    r"|(?:(?:client|app|api|access)[-_]?)?secret(?:[-_]?(?:access[-_]?)?key)?|access[-_]?key(?:[-_]?(?:id|secret))?"
    r"|(?:access|refresh|id|session|security|bearer|auth)[-_]?token|x-amz-security-token|private[-_]?key"
    r"|pass(?:word|wd)|(?:set-)?cookie"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)


@lru_cache(256)
def _secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name) is not None


# Between a name and its value may stand whatever a list of pairs, a dict or JSON puts there.
_IS = r"""(?:[\\"']*\s*[:=]|[\\"']+\s*,)\s*(?:b(?=["']))?[\\"']*"""
_SECRETS = tuple(
    re.compile(f"({before}){secret}", re.IGNORECASE | re.ASCII)
    for before, secret in (
        (rf"(?:authorization|cookie){_IS}", r"""[^"'\\\r\n]+"""),  # of several parts
        (rf"(?<![\w-])(?:{_NAMES}){_IS}", r"""[^\s"'\\,;&)}\]]+"""),
        (r"[?&](?:key|token|sig|signature|x-amz-(?:signature|credential|security-token))=", r"""[^\s&"'\\#]+"""),
        (r"\bBearer\s+", r"[\w.~+/=-]{8,}"),
        # keys by how their makers begin them; signed tokens
        (r"(?<![\w-])(?:(?:sk|pk|rk|xai)-|(?:gsk|r8|hf|ghp)_|AIza|AKIA|AKID|AKLT|LTAI)", r"[\w-]{8,}"),
        (r"\beyJ", r"[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
        # any long unbroken run is a picture, or a key of a kind that nobody thought of
        (r"[\w+/=-]{16}", r"[\w+/=-]{240,}"),
    )
)


def masked(text: str) -> str:
    """`text` without what looks like a credential or a picture, and not longer than a line may be."""
    if len(text) > LONGEST:
        cut = LONGEST // 4
        text = f"{text[:cut]}… ({len(text)} characters) …{text[-3 * cut :]}"  # a stack tells most at its end
    return _short(text) if len(text) <= SHORT else _searched(text)


def _searched(text: str) -> str:
    if len(text) >= 8:
        for pattern in _SECRETS:
            text = pattern.sub(_hide, text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


_short = lru_cache(1024)(_searched)
"""Paths, models and sizes come again and again, and the search is what a line costs most."""


def _hide(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit the text: a fault of ours, no reason to lose the line
        return str(record.msg)


def _text(line: dict[str, Plain]) -> str:
    """For a terminal: the fields behind the message, a stack below it. Nothing in a message can forge a line."""
    stacks = [str(line.pop(name)) for name in ("stack", "exception") if name in line]
    time, level, logger, message = (str(line.pop(name)) for name in ("time", "level", "logger", "message"))
    fields = "".join(f" {name}={msgspec.json.encode(value).decode()}" for name, value in line.items())
    safe = _CONTROL.sub(lambda found: repr(found[0])[1:-1], message)
    return "\n".join((f"{time[11:23]} {level:<8} {logger}: {safe}{fields}", *stacks))


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
