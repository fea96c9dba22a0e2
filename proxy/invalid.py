"""What is wrong with a request, in OpenAI's words and codes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from translators.base import Fault

WORDS = {
    "int": "an integer", "float": "a decimal number", "str": "a string", "bool": "a boolean", "null": "null",
    "array": "an array", "object": "an object", "bytes": "a file",
}  # fmt: skip
KINDS: dict[type, str] = {
    bool: "bool", int: "int", float: "float", str: "str", type(None): "null", list: "array", dict: "object",
    bytes: "bytes",
}  # fmt: skip
LONGEST = 64  # of a value that is repeated in a message


def clip(text: str) -> str:
    """`text`, shortened in the middle where it is long."""
    if len(text) <= LONGEST:
        return text
    half = (LONGEST - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def listed(values: Iterable[str]) -> str:
    """`'a', 'b', and 'c'`."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"


def unknown_parameter(name: str, hint: str = "") -> Fault:
    """A member that nobody knows."""
    name = clip(name)
    return Fault("invalid", f"Unknown parameter: '{name}'.{hint}", code="unknown_parameter", param=name)


def missing(name: str) -> Fault:
    """A member that must be there."""
    return Fault("invalid", f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)


def wrong_type(name: str, expected: str, got: str) -> Fault:
    """A member of another type; both in words: an integer, a string."""
    text = f"Invalid type for '{name}': expected {expected}, but got {got} instead."
    return Fault("invalid", text, code="invalid_type", param=name)


def unsupported_value(name: str, value: str, values: Iterable[str]) -> Fault:
    """A value that is not in the list."""
    text = f"Invalid value: '{clip(value)}'. Supported values are: {listed(values)}."
    return Fault("invalid", text, code="invalid_value", param=name)


def invalid_value(name: str, text: str) -> Fault:
    """A value that cannot be, for the reason given."""
    return Fault("invalid", text, code="invalid_value", param=name)


def too_long(name: str, most: int, length: int) -> Fault:
    """A text of too many characters."""
    text = (
        f"Invalid '{name}': string too long. Expected a string with maximum length {most}, "
        f"but got a string with length {length} instead."
    )
    return Fault("invalid", text, code="string_above_max_length", param=name)


def empty(name: str) -> Fault:
    """A text of no characters."""
    text = f"Invalid '{name}': empty string. Expected a string with minimum length 1, but got an empty string instead."
    return Fault("invalid", text, code="empty_string", param=name)


def too_many(name: str, most: int, count: int) -> Fault:
    """A list of too many items."""
    text = (
        f"Invalid '{name}': array too long. Expected an array with maximum length {most}, "
        f"but got an array with length {count} instead."
    )
    return Fault("invalid", text, code="array_above_max_length", param=name)


def too_few(name: str, least: int, count: int) -> Fault:
    """A list of too few items."""
    if not count:
        text = f"Invalid '{name}': empty array. Expected an array with minimum length {least}, but got an empty array."
        return Fault("invalid", text, code="empty_array", param=name)
    text = (
        f"Invalid '{name}': array too short. Expected an array with minimum length {least}, "
        f"but got an array with length {count} instead."
    )
    return Fault("invalid", text, code="array_below_min_length", param=name)


def out_of_range(name: str, kind: str, bound: str, value: object) -> Fault:
    """A number beyond its bound, which is written as `>= 1`."""
    kind = "decimal" if kind == "float" else "integer"
    side, code = ("below minimum", "below_min") if bound.startswith(">") else ("above maximum", "above_max")
    text = f"Invalid '{name}': {kind} {side} value. Expected a value {bound}, but got {clip(_digits(value))} instead."
    return Fault("invalid", text, code=f"{kind}_{code}_value", param=name)


def _digits(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to write integers of thousands of digits
        return "a number of thousands of digits"


def bad_json(why: object) -> Fault:
    """A body that is no JSON."""
    return Fault(
        "invalid",
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
        f"library correctly. The API expects a JSON payload, but what was sent was not valid JSON: {why}.)",
    )


_AT = re.compile(r"(?P<text>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>[\w.\[\]]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_TYPE = re.compile(r"Expected `(\w+(?: \| \w+)*?)(?: \| null)?`, got `(\w+)`")
_RANGE = re.compile(r"Expected `(int|float)` ([<>]=? ?\S+)")
_LENGTH = re.compile(r"Expected `(str|array|object)` of length (<=|>=) (\d+)")
_STEP = re.compile(r"(\w+)|\[(\d+)\]|(\[\.\.\.\])")


def explain(error: msgspec.ValidationError, plain: Any, choices: Mapping[str, tuple[str, ...]]) -> Fault:
    """The fault that tells of `error` what OpenAI would.

    `plain` is the same request, decoded without types: the message quotes from it. `choices` are the legal values
    of the members that have a closed list, by their names.
    """
    found = _AT.fullmatch(str(error))
    if not found:
        return Fault("invalid", str(error))
    text, path = found["text"], found["path"] or ""
    if match := _UNKNOWN.fullmatch(text):
        return unknown_parameter(f"{path}.{match[1]}".removeprefix("."))
    if match := _MISSING.fullmatch(text):
        return missing(f"{path}.{match[1]}".removeprefix("."))
    name, value = _find(plain, path, text)
    if found["key"]:
        value = max(value, key=len)
    return _explain_value(text, name, value, choices)


def _explain_value(text: str, name: str, value: Any, choices: Mapping[str, tuple[str, ...]]) -> Fault:
    if match := _TYPE.fullmatch(text):
        if not name:
            return Fault(
                "invalid", f"The body must be {WORDS[match[1]]}, but is {WORDS[match[2]]}.", code="invalid_type"
            )
        expected = " or ".join(WORDS.get(word, word) for word in match[1].split(" | "))
        return wrong_type(name, expected, WORDS.get(match[2], match[2]))
    if match := _RANGE.fullmatch(text):
        return out_of_range(name, match[1], match[2], value)
    if match := _LENGTH.fullmatch(text):
        return _wrong_length(name, match[1], match[2], int(match[3]), len(value))
    if text.startswith("Invalid enum value"):
        return unsupported_value(name, value, choices[name.rpartition(".")[2]])
    return invalid_value(name, f"Invalid '{name}': {text[:1].lower()}{text[1:]}.")


def _wrong_length(name: str, kind: str, side: str, bound: int, length: int) -> Fault:
    if kind == "array":
        return too_many(name, bound, length) if side == "<=" else too_few(name, bound, length)
    if kind == "str":
        return too_long(name, bound, length) if side == "<=" else empty(name)
    text = (
        f"Invalid '{name}': too many properties. Expected an object with at most {bound} properties, "
        f"but got an object with {length} properties instead."
    )
    return Fault("invalid", text, code="object_above_max_properties", param=name)


def _find(plain: Any, path: str, text: str) -> tuple[str, Any]:
    """The member at `path` of `plain` with its full name; `[...]` stands for any member of a map: the first bad one."""
    name = path.removeprefix(".")
    for member, index, any_member in _STEP.findall(path):
        if member:
            plain = plain[member]
        elif index:
            plain = plain[int(index)]
        elif any_member:
            key = _culprit(plain, text)
            name, plain = name.replace("[...]", f".{clip(key)}"), plain[key]
    return name, plain


def _culprit(plain: Mapping[str, Any], text: str) -> str:
    if match := _TYPE.fullmatch(text):
        for key, value in plain.items():
            if KINDS.get(type(value)) == match[2]:
                return key
    return max(plain, key=lambda key: len(str(plain[key])))
