"""Tables of settings, metrics, errors and request fields, from the structs and tables that declare them."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
import types
from collections.abc import Mapping, Sequence
from textwrap import dedent
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from docs.markdown import NONE, sentence, table, ticked
from docs.words import CODES, FAULTS, FIELDS, LABELS, MEANINGS, SECTIONS
from proxy import errors as problems
from proxy import metrics as measured
from proxy import plain
from proxy.api.schema import TEXTS
from proxy.ask import Variation
from translators.base import Caps, Fault, FaultKind, Secret
from translators.video import VideoCaps

# ---- the configuration


def settings() -> str:
    """Every section of the configuration, a table each."""
    return "\n\n".join(
        f"### {path}\n\n{intro}\n\n{fields(struct, without, more)}" for path, intro, struct, without, more in SECTIONS
    )


def capabilities() -> str:
    """What may be said of a model beside the settings of the gateway's own."""
    return fields(Caps, frozenset(), {})


def video_capabilities() -> str:
    """The same of a model that makes videos."""
    return fields(VideoCaps, frozenset(), {})


def fields(struct: type[msgspec.Struct], without: frozenset[str], more: Mapping[str, tuple[str, str, str]]) -> str:
    """A line for each field; `more` are those that the reader of the file knows and no struct holds."""
    kinds, said = plain.hints(struct), comments(struct)
    rows = [
        (
            f"`{field.name}`",
            kind(kinds[field.name]),
            default(field, kinds[field.name]),
            meaning(struct, field.name, said),
        )
        for field in msgspec.structs.fields(struct)
        if field.name not in without
    ]
    rows += [(f"`{name}`", *rest) for name, rest in more.items()]
    return table(("Setting", "Value", "Default", "Meaning"), rows)


def meaning(struct: type[msgspec.Struct], name: str, said: Mapping[str, str]) -> str:
    """From the field's comment, where nothing else is written of it."""
    return MEANINGS.get((struct.__name__, name)) or sentence(said.get(name, "").replace("None", "null"))


def comments(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Field -> the comment behind it."""
    source = dedent(inspect.getsource(struct))
    lines = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return {
        node.target.id: lines[node.end_lineno]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno in lines
    }


SIMPLE: Mapping[Any, str] = {
    str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything",
    Secret: "text or `file:/path`",
}  # fmt: skip


def kind(hint: Any) -> str:
    """What an annotation asks for, in words."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    origin, given = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return " or ".join("null" if arm is types.NoneType else kind(arm) for arm in given)
    if origin is Annotated:
        return within(given[0], given[1])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in given)
    if origin is tuple and given[-1] is not ...:
        return "two numbers"
    if origin in {tuple, frozenset}:
        return f"list of {kind(given[0])}" if given[0] in SIMPLE or get_origin(given[0]) else "list"
    return "mapping"


def within(base: Any, note: Any) -> str:
    """A number with a unit, or within bounds."""
    if isinstance(note, plain.Quantity):
        return note.name.removeprefix("a number of ")
    least, most = plain.bounds(note)
    return f"{kind(base)}, {f'{least:g} to {most:g}' if most != float('inf') else f'at least {least:g}'}"


def default(field: msgspec.structs.FieldInfo, hint: Any) -> str:
    """As it would be written."""
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return shown(value, unit_of(hint))


def unit_of(hint: Any) -> str:
    """What a number counts; empty where nothing is said."""
    for each in (hint, *get_args(hint)):
        if get_origin(each) is Annotated and isinstance(get_args(each)[1], plain.Quantity):
            return str(get_args(each)[1].name).removeprefix("a number of ")
    return ""


WRITTEN: Mapping[str, Sequence[tuple[int, str]]] = {
    "seconds": ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")),
    "bytes": ((1_000_000, "MB"), (1, "")),
    "pixels": ((1_000_000, "MP"), (1, "")),
}


def shown(value: Any, unit: str = "") -> str:
    """A value as YAML, in the largest unit that leaves a whole number."""
    if unit and value is not None:
        size, name = next(each for each in WRITTEN[unit] if value % each[0] == 0 and (value >= each[0] or each[0] == 1))
        return f"`{value // size:g}{name}`"
    if isinstance(value, msgspec.Struct):
        return NONE
    if isinstance(value, bool) or value is None:
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, str):
        return f"`{value}`" if value else NONE
    if isinstance(value, tuple | frozenset | Mapping):
        return f"`{msgspec.json.encode(value).decode().replace(',', ', ')}`" if value else NONE
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


# ---- what is measured


def metrics() -> str:
    """Every metric."""
    head = ("Metric", "Type", "Labels", "Meaning")
    return table(head, ((f"`pictor_{row.name}`", row.kind, ticked(row.labels), row.help) for row in measured.TABLE))


def labels() -> str:
    """Every label, and the values that it takes."""
    used = dict.fromkeys(label for row in measured.TABLE for label in row.labels)
    return table(("Label", "Values"), ((f"`{label}`", LABELS[label]) for label in used))


# ---- what goes wrong, and what may be asked for


def errors() -> str:
    """Every kind of fault as a client sees it."""
    head = ("What failed", "Status", "`type`", "`code`, where there is no better", "SDKs ask again")
    return table(head, (error(name, text) for name, text in FAULTS.items()))


def error(name: FaultKind, text: str) -> Sequence[str]:
    """One kind."""
    status, family, code = problems.BY_KIND[name]
    again = "x-should-retry" not in problems.problem(Fault(name, "")).headers and (status == 429 or status >= 500)
    return text, str(status), f"`{family}`", f"`{code}`" if code else "`null`", "yes" if again else "no"


def codes() -> str:
    """The codes that are Pictor's own, or that it gives in OpenAI's manner."""
    head = ("`code`", "Status", "Meaning")
    return table(
        head,
        (
            (f"`{code}`", str(problems.problem(Fault(name, "", code=code)).status), text)
            for code, (name, text) in sorted(CODES.items())
        ),
    )


def own_fields() -> str:
    """Members of a request that OpenAI's have not."""
    names = Variation.__struct_fields__
    own = names[names.index("user") + 1 :]
    return table(("Field", "Meaning"), ((f"`{name}`", FIELDS.get(name) or TEXTS[name]) for name in own))
