"""Query strings as documented structs, and what is wrong with one in OpenAI's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from litestar.openapi.spec import Operation

from proxy import invalid

T = TypeVar("T", bound=msgspec.Struct)

LISTS = frozenset({"ids", "group_by"})  # `ids=a,b`, `ids=a&ids=b` and `ids[]=a` are the same
MAPS = frozenset({"metadata"})  # `metadata[project]=x`
_INDEXED = re.compile(r"(\w+)\[(.*)\]", re.DOTALL)


def read(pairs: Iterable[tuple[str, str]], type: type[T], choices: Mapping[str, tuple[str, ...]]) -> T:
    """The parameters as `type`. Raises `Fault("invalid")`, also for names that nobody knows.

    `choices` are the legal values of the members that have a closed list.
    """
    plain: dict[str, Any] = {}
    for name, value in pairs:
        member, index = _parted(name)
        if member not in type.__struct_fields__ or bool(index) != (member in MAPS):
            known = (f"{each}[...]" if each in MAPS else each for each in type.__struct_fields__)
            raise invalid.unknown_parameter(name, f" Supported parameters are: {invalid.listed(known)}.")
        if "\0" in value:  # which PostgreSQL takes in no text
            raise invalid.invalid_value(name, f"Invalid '{name}': it contains a NUL character.")
        if member in LISTS:
            plain[member] = [*plain.get(member, ()), *filter(None, map(str.strip, value.split(",")))]
        elif member in MAPS:
            plain.setdefault(member, {})[index] = value
        else:
            plain[member] = value
    try:
        return msgspec.convert(plain, type, strict=False)
    except msgspec.ValidationError as error:
        raise invalid.explain(error, plain, choices) from error


def _parted(name: str) -> tuple[str, str]:
    """`ids`, `ids[]` and `metadata[project]` as the member and what stands in its brackets."""
    found = _INDEXED.fullmatch(name)
    if found is None:
        return name, ""
    return (found[1], found[2]) if found[2] or found[1] in LISTS else (name, "")


def documented(type: type[msgspec.Struct]) -> type[Operation]:
    """An operation that tells the parameters of its query."""

    class Documented(Operation):
        def to_schema(self) -> dict[str, Any]:
            schema = super().to_schema()
            return {**schema, "parameters": [*schema.get("parameters", ()), *parameters(type)]}

    return Documented


def parameters(type: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """The members of `type` as OpenAPI has parameters of a query."""
    _, parts = msgspec.json.schema_components([type])
    told = []
    for name, member in parts[type.__name__]["properties"].items():
        description = member.pop("description", "")
        parameter = {"name": name, "in": "query", "required": False, "description": description, "schema": member}
        if name in MAPS:
            parameter["style"] = "deepObject"
        elif name in LISTS:
            parameter["explode"] = False
        told.append(parameter)
    return told
