"""Parts of real files, for pages that teach by them: they cannot say what is no longer there."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent


def change(provider: str) -> str:
    """What a provider adds to the product: its line in the list, and its module, as a diff."""
    listed = "translators/__init__.py"
    lines = text(listed).splitlines()
    at = lines.index(f'    "{provider}",')
    hunk = [f" {lines[at - 1]}", f"+{lines[at]}", f" {lines[at + 1]}"]
    module = f"translators/{provider}.py"
    added = text(module).splitlines()
    return fenced("diff", [
        f"--- a/{listed}", f"+++ b/{listed}", f"@@ -{at},2 +{at},3 @@", *hunk,
        "--- /dev/null", f"+++ b/{module}", f"@@ -0,0 +1,{len(added)} @@", *(f"+{line}".rstrip() for line in added),
    ])  # fmt: skip


def whole(path: str) -> str:
    """A file as it is."""
    return fenced(path.rpartition(".")[2], text(path).splitlines())


def defined(path: str, *names: str) -> str:
    """The functions, classes and constants of these names at the top of a Python file, in its order."""
    lines = text(path).splitlines()
    shown: list[str] = []
    for node in ast.parse(text(path)).body:
        if names_of(node) & set(names):
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(each.lineno for each in decorators)])
            gap = [""] * (2 if isinstance(node, ast.FunctionDef | ast.ClassDef) else 1) if shown else []
            shown += [*gap, *lines[first - 1 : node.end_lineno]]
    return fenced("python", shown)


def names_of(node: ast.stmt) -> set[str]:
    """What a statement defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()


def fenced(kind: str, lines: list[str]) -> str:
    """A block of code."""
    return "\n".join([f"```{kind}", *lines, "```"])


def text(path: str) -> str:
    """A file of this project."""
    return (ROOT / path).read_text(encoding="utf-8")
