"""Who may know whom, what a translator may reach, and how long a module or a function may become.

What departs from a rule stands in a table here, with the reason; one that no longer departs must leave the table.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.server import ROOT
from translators import NAMES

PROXY = sorted((ROOT / "proxy").rglob("*.py"))
TRANSLATORS = sorted((ROOT / "translators").rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in (*PROXY, *TRANSLATORS)}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_proxy = pytest.mark.parametrize("path", PROXY, ids=named)
every_translator = pytest.mark.parametrize("path", TRANSLATORS, ids=named)
every_module = pytest.mark.parametrize("path", TREES, ids=named)


def imported(path: Path) -> Iterator[str]:
    """The modules that it imports, wherever in it; of `from translators import openai` also `translators.openai`."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module or ""
            if node.module in {"translators", "proxy"}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


# ---- what a translator may reach

PURE = frozenset(
    {"__future__", "base64", "binascii", "collections", "collections.abc", "colorsys", "dataclasses", "datetime",
     "enum", "functools", "hashlib", "hmac", "io", "itertools", "json", "math", "re", "string", "struct", "typing",
     "urllib.parse", "zlib", "PIL", "cryptography", "msgspec", "pybase64", "translators"}
)  # fmt: skip
"""Computing alone: no server, sockets, files, processes, clocks, chance or logs. A package counts for all below it."""

CLOCKS = frozenset({"now", "utcnow", "today"})  # of datetime and date
REACHES = frozenset({"open", "print", "input", "eval", "exec", "__import__", "breakpoint"})


@every_translator
def test_a_translator_computes_and_nothing_else(path: Path) -> None:
    pure = PURE | {"importlib", "types"} if path == ROOT / "translators/__init__.py" else PURE
    assert not {name for name in imported(path) if name not in pure and name.partition(".")[0] not in pure}
    calls = [node.func for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)]
    assert not {func.attr for func in calls if isinstance(func, ast.Attribute)} & CLOCKS
    assert not {func.id for func in calls if isinstance(func, ast.Name)} & REACHES
    assert not any(isinstance(node, ast.Global | ast.AsyncFunctionDef | ast.Await) for node in ast.walk(TREES[path]))


@every_translator
def test_a_translator_keeps_nothing_between_calls(path: Path) -> None:
    """What is made when the module is imported is never changed."""
    top = {
        target.id
        for node in TREES[path].body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    changed = {
        target.value.id
        for function in functions(TREES[path])
        for node in ast.walk(function)
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete)
        for target in ([node.target] if isinstance(node, ast.AugAssign) else node.targets)
        if isinstance(target, ast.Subscript | ast.Attribute) and isinstance(target.value, ast.Name)
    }
    local = {arg.arg for function in functions(TREES[path]) for arg in ast.walk(function) if isinstance(arg, ast.arg)}
    assert not (changed & top) - local


# ---- who may know whom

SHARED: Mapping[str, str] = {
    "base": "the contract",
    "shapes": "wires that several providers share",
    "signing": "signatures",
    "video": "the contract of those that make videos",
    "canvas": "arithmetic of ratios and margins",
    "google": "what Google's two services answer, and the sizes of Gemini's pictures, which others sell too",
    "painter": "the demo's pictures",
    "workflow": "ComfyUI's workflows",
}
"""Modules that are no provider's own. A provider's are the one of its name, its package, and `<its name>_…`."""

REUSE: Mapping[tuple[str, str], str] = {
    ("azure", "openai"): "the same API at another address, with another credential",
    ("vertex", "gemini"): "the same API in Google Cloud, with another credential",
    ("bedrock", "stability"): "the same models in AWS, whose bodies are made by the same functions",
    ("comfyui", "a1111"): "the same credential of a server of one's own, and the same words when its card is full",
    ("hunyuan", "volcengine"): "the same models sold by another: what they can do",
}
"""Who uses whose functions or tables, and why. Never more than one step, and never back."""


def owner(module: str) -> str | None:
    """The provider whose module it is; none: it is shared."""
    first = module.removeprefix("translators.").partition(".")[0]
    return next((name for name in NAMES if first == name or first.startswith(f"{name}_")), None)


def test_every_module_is_a_providers_or_shared() -> None:
    firsts = {path.relative_to(ROOT / "translators").parts[0].removesuffix(".py") for path in TRANSLATORS}
    assert {name for name in firsts - {"__init__"} if owner(name) is None} == SHARED.keys() & firsts


def test_no_provider_knows_another() -> None:
    known = {
        (own, other)
        for path in TRANSLATORS
        if (own := owner(".".join(path.relative_to(ROOT).with_suffix("").parts[:2])))
        for name in imported(path)
        if name.startswith("translators.") and (other := owner(name)) not in {own, None}
    }
    assert known == REUSE.keys()
    assert not {own for own, _ in REUSE} & {other for _, other in REUSE}


def test_what_is_shared_knows_no_provider() -> None:
    shared = [path for path in TRANSLATORS if path.stem in SHARED and path.parent.name == "translators"]
    assert not {(path.stem, name) for path in shared for name in imported(path) if owner(name)}


@every_proxy
def test_the_server_knows_no_translator(path: Path) -> None:
    """Each is reached by its name in the configuration alone."""
    assert not {name for name in imported(path) if name.startswith("translators.") and owner(name)}


SPOKEN: Mapping[str, str] = {
    "demo": "is on where no other provider is, and names the first model in a greeting",
    "openai": "the API that is served, by its paths",
}
"""Providers' names that the server's code may hold, and as what."""


@every_proxy
def test_the_server_names_no_provider(path: Path) -> None:
    """Neither as a string or the part of a path, nor as a name: what is special about one stands in its translator."""
    prose = {id(node.value) for node in ast.walk(TREES[path]) if isinstance(node, ast.Expr)}
    words = [
        node.value for node in ast.walk(TREES[path])
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]  # fmt: skip
    words += [node.id for node in ast.walk(TREES[path]) if isinstance(node, ast.Name)]
    words += [node.attr for node in ast.walk(TREES[path]) if isinstance(node, ast.Attribute)]
    found = {name for name in NAMES for word in words if re.search(rf"(?:^|[/'\"]){name}(?:$|[/'\"])", word)}
    assert found <= SPOKEN.keys()
    assert "openai" not in words


# ---- how long

MODULE, FUNCTION = 420, 60  # lines

LONG: Mapping[str, str] = {}
"""Modules beyond the bound, without tables."""


def lines(path: Path) -> int:
    """Of a module without its data: tables at the top, and structs, which are the wire's or the file's shape."""
    data = sum(
        (node.end_lineno or 0) - node.lineno + 1
        for node in TREES[path].body
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.ClassDef | ast.Import | ast.ImportFrom)
        and not any(functions(node))
    )
    return len(path.read_text().splitlines()) - data


def test_modules_are_short() -> None:
    assert {named(path) for path in TREES if lines(path) > MODULE} == LONG.keys()


@every_module
def test_functions_are_short(path: Path) -> None:
    long = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions(TREES[path])}
    assert not {name: count for name, count in long.items() if count > FUNCTION}
