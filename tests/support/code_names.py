"""The names in the sources: of modules, and of everything that a module defines, takes or assigns."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_SOURCES = (REPOSITORY / "enqueuer", REPOSITORY / "workers" / "enqueuer_worker")


@cache
def files() -> list[Path]:
    return sorted(path for source in _SOURCES for path in source.rglob("*.py"))


@cache
def modules() -> dict[str, str]:
    """The last part of each module's name -> a file of that name."""
    found = {}
    for path in files():
        module = path.parent if path.name == "__init__.py" else path
        found[module.stem] = str(path.relative_to(REPOSITORY))
    return found


@cache
def identifiers() -> dict[str, str]:
    """Each name, without leading underscores -> where it is first: classes, functions, parameters, variables."""
    found: dict[str, str] = {}
    for path in files():
        for name, line in _names(ast.parse(path.read_text())):
            found.setdefault(name.lstrip("_"), f"{path.relative_to(REPOSITORY)}:{line}")
    return found


@cache
def texts() -> str:
    """All string constants of the sources, with a blank where a value is put in; spaces and line breaks are one."""
    found = []
    for path in files():
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else " " for part in node.values]
                found.append("".join(str(part) for part in parts))
    return "\n".join(" ".join(text.split()) for text in found)


def _names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Name):
            yield node.id, node.lineno
