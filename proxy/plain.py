"""Plain data, such as a YAML document holds, into structs: every fault in it is collected, with its path.

msgspec's own conversion stops at the first fault and knows neither units nor the environment. What a struct looks like
is still told by its annotations alone.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from translators.base import Secret

S = TypeVar("S", bound=msgspec.Struct)


class Quantity(msgspec.Struct, frozen=True, eq=False):
    """Annotates a number that may be written with a unit. Compared by identity: an annotation must be hashable."""

    name: str
    units: Mapping[str, float]  # in lower case; "" is the unit of a bare number


Seconds: TypeAlias = Annotated[
    float,
    Quantity("a number of seconds", {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}),
]
Bytes: TypeAlias = Annotated[
    int,
    Quantity(
        "a number of bytes",
        {"": 1, "b": 1}
        | {f"{letter}{tail}": 1000**power for power, letter in enumerate("kmg", 1) for tail in ("", "b")}
        | {f"{letter}ib": 1024**power for power, letter in enumerate("kmg", 1)},
    ),
]
Pixels: TypeAlias = Annotated[int, Quantity("a number of pixels", {"": 1, "px": 1, "mp": 1_000_000})]


class Filled(str):
    """Text that came from the environment. Faults show `written`, what the file says, as the value may be a secret."""

    written: str

    def __new__(cls, value: str, written: str) -> Filled:
        """Text with the text that it stands for."""
        made = super().__new__(cls, value)
        made.written = written
        return made


class Unfilled(msgspec.Struct, frozen=True):
    """Text that names a variable which is not set, or names it wrongly."""

    why: str


class Unreadable(Exception):
    """The document as a whole cannot be read."""


Fastest = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may have been built without libyaml


class Loader(Fastest):  # type: ignore[misc, valid-type]  # chosen at run time
    """Safe YAML in which no key stands twice and a date stays text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse what YAML itself forbids and PyYAML takes: the last of two equal keys would win."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value != "<<" and isinstance(key.value, str):
                if key.value in seen:
                    raise Unreadable(f"line {key.start_mark.line + 1}: the key {shown(key.value)} stands there twice")
                seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def parsed(text: str) -> Any:
    """The YAML document. Raises `Unreadable`; never quotes the text, which may hold secrets."""
    try:
        return yaml.load(text, Loader)  # noqa: S506  # a safe loader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise Unreadable(f"{line}this is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError:
        raise Unreadable("this is not YAML: it holds characters that YAML does not allow") from None


VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\{))")


def filled(value: Any, env: Mapping[str, str]) -> Any:
    """`value` with each `${NAME}` and `${NAME:-default}` replaced; `$$` stands for a dollar sign."""
    if isinstance(value, dict):
        return {key: filled(item, env) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, env) for item in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    missing: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        dollar, name, default, broken = match.groups()
        if dollar:
            return "$"
        if broken:
            missing.append("expected ${NAME} or ${NAME:-default}")
        elif default is None and name not in env:
            missing.append(f"{name} is not set")
        elif default is not None and not env.get(name):
            return str(default)
        return env.get(name or "", "")

    text = VARIABLE.sub(replacement, value)
    return Unfilled(missing[0]) if missing else Filled(text, value)


def shown(value: Any) -> str:
    """`value` for a message: short, and without what came from the environment."""
    if isinstance(value, Filled):
        return shown(value.written)
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:57] + "..."}"'
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)


def at(path: str, name: object) -> str:
    """The path of a member."""
    return f"{path}.{name}" if path else str(name)


@cache
def hints(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """The annotations of a struct, as objects."""
    return get_type_hints(cls, include_extras=True)


def struct(cls: type[S], value: Any, path: str, flaws: list[str]) -> S | None:
    """A `cls` from a mapping, without what is wrong in it; `None` where it lacks what it cannot be without."""
    before = len(flaws)
    given = members(cls, value, path, flaws)
    missing = [field.name for field in msgspec.structs.fields(cls) if field.required and field.name not in given]
    if len(flaws) == before:
        flaws += [f"{at(path, name)}: required" for name in missing]
    return None if missing else cls(**given)


def members(cls: type[msgspec.Struct], value: Any, path: str, flaws: list[str]) -> dict[str, Any]:
    """Those fields of a `cls` that the mapping gives and that can be read.

    What is empty (`port:`, `${PORT:-}`) is as good as not there, except a null for what may be none.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        flaws.append(f"{path or 'the file'}: expected a mapping, got {shown(value)}")
        return {}
    kinds = hints(cls)
    unknown(value, kinds, path, flaws)
    found: dict[str, Any] = {}
    for name, item in value.items():
        if name not in kinds or blank(kinds[name], item):
            continue
        before = len(flaws)
        made = read(kinds[name], item, at(path, name), flaws)
        if made is not None or len(flaws) == before:
            found[name] = made
    return found


def blank(kind: Any, value: Any) -> bool:
    """Whether nothing is said. An empty secret is one, for its reader to judge."""
    if value is None:
        return types.NoneType not in get_args(kind)
    return isinstance(value, Filled) and not value and kind is not Secret


def unknown(given: Mapping[Any, Any], known: Mapping[str, Any] | set[str], path: str, flaws: list[str]) -> None:
    """A flaw for each name that nobody reads."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
            flaws.append(f"{at(path, name)}: unknown{hint}")


def read(kind: Any, value: Any, path: str, flaws: list[str]) -> Any:
    """`value` as what the annotation `kind` says; with a flaw added, as much of it as can be, or `None`."""
    if isinstance(value, Unfilled):
        flaws.append(f"{path}: {value.why}")
        return None
    if get_origin(kind) is not None:
        return composed(kind, value, path, flaws)
    if kind is Secret:
        return secret(value, path, flaws)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return struct(kind, value, path, flaws)
    return scalar(kind, value, path, flaws)


def composed(kind: Any, value: Any, path: str, flaws: list[str]) -> Any:
    """`value` as an annotation that is made of others."""
    origin, given = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        arm = next(arm for arm in given if arm is not types.NoneType)
        return None if value is None else read(arm, value, path, flaws)
    if origin is Annotated:
        return annotated(given[0], given[1], value, path, flaws)
    if origin is Literal:
        if value not in given:
            flaws.append(f"{path}: expected one of {', '.join(map(str, given))}, got {shown(value)}")
            return None
        return str(value)
    if origin is tuple and given[-1] is not ...:
        return pair(given, value, path, flaws)
    return collection(origin, given, value, path, flaws)


def collection(origin: Any, given: tuple[Any, ...], value: Any, path: str, flaws: list[str]) -> Any:
    """A mapping, a set or a tuple, without the items that cannot be read."""
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            flaws.append(f"{path}: expected a mapping, got {shown(value)}")
            return None
        return {str(name): read(given[1], item, at(path, name), flaws) for name, item in value.items()}
    if not isinstance(value, list):
        flaws.append(f"{path}: expected a list, got {shown(value)}")
        return None
    items = [read(given[0], item, f"{path}[{index}]", flaws) for index, item in enumerate(value)]
    return origin(item for item in items if item is not None)


def pair(given: tuple[Any, ...], value: Any, path: str, flaws: list[str]) -> tuple[Any, ...] | None:
    """Two numbers: `[1024, 1024]` or `1024x1024`."""
    if isinstance(value, str) and re.fullmatch(r"\d+x\d+", value):
        value = [int(part) for part in value.split("x")]
    if not isinstance(value, list) or len(value) != len(given):
        flaws.append(f"{path}: expected two numbers such as 1024x1024 or [1024, 1024], got {shown(value)}")
        return None
    return tuple(
        read(kind, item, f"{path}[{index}]", flaws) for index, (kind, item) in enumerate(zip(given, value, strict=True))
    )


def annotated(kind: Any, note: Any, value: Any, path: str, flaws: list[str]) -> Any:
    """A number with a unit, or within bounds."""
    if isinstance(note, Quantity):
        number = quantity(note, value)
        if number is None:
            flaws.append(f"{path}: expected {note.name}, got {shown(value)}")
            return None
        return kind(number)
    before = len(flaws)
    made = read(kind, value, path, flaws)
    if len(flaws) == before and not bounds(note)[0] <= made <= bounds(note)[1]:
        low, high = bounds(note)
        wanted = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        flaws.append(f"{path}: expected a number {wanted}, got {shown(value)}")
        return None
    return made


def bounds(note: msgspec.Meta) -> tuple[float, float]:
    """The least and the most that it allows."""
    return (-math.inf if note.ge is None else note.ge, math.inf if note.le is None else note.le)


def quantity(note: Quantity, value: Any) -> float | None:
    """The number that is meant, never below zero; `None` where none is."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(value).strip())
    unit = note.units.get(match[2].lower()) if match else None
    return float(match[1]) * unit if match and unit is not None else None


def secret(value: Any, path: str, flaws: list[str]) -> Secret:
    """A secret, or the file that holds it. Neither it nor what the file says is ever shown."""
    if not isinstance(value, str):
        # A number would have lost leading zeros by now.
        flaws.append(f"{path}: expected text in quotes")
        return Secret("")
    return Secret(contents(value, path, flaws))


def contents(value: str, path: str, flaws: list[str]) -> str:
    """`value`, or what is in the file where it says `file:/path`; a variable, too, may end with a line's end."""
    if not value.startswith("file:"):
        return value.strip()
    try:
        return Path(value[5:]).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        flaws.append(f"{path}: the file cannot be read: {why}")
        return ""


SCALARS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
SPOKEN = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def scalar(kind: Any, value: Any, path: str, flaws: list[str]) -> Any:
    """Text, a number or a truth value. What comes from the environment is always text, and is read as its field's."""
    if kind is Any:
        return value
    if isinstance(value, Filled) and kind is not str:
        value = unquoted(kind, value)
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        flaws.append(f"{path}: expected {SCALARS[kind]}, got {shown(value)}")
        return None
    return str(value) if kind is str else value


def unquoted(kind: Any, text: Filled) -> Any:
    """The number or truth value that the text spells; the text itself where it spells none."""
    if kind is bool:
        return SPOKEN.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text
