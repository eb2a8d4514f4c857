"""Names in a module's source whose values are no settings, since they differ by their nature or change by themselves.

Read from the syntax: what is made from the clock, the process or chance, counted up, filled as a cache, or made when it
is first asked for.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# A value made by one of these differs from process to process.
_VARYING = frozenset(
    [
        *("time", "perf_counter", "monotonic", "process_time", "datetime", "date", "now", "today", "utcnow"),
        *("random", "default_rng", "rand", "randint", "secrets", "uuid", "uuid1", "uuid4", "urandom", "id"),
        *("randn", "normal", "uniform", "permutation", "shuffle", "sample", "choice", "choices", "empty"),
        *("getpid", "getppid", "gethostname", "socket", "threading", "tempfile", "mkdtemp", "mkstemp"),
    ]
)
_FILLS = frozenset({"append", "add", "setdefault", "extend", "insert", "appendleft", "pop", "popitem", "clear"})
_CONSTRUCTORS = frozenset({"__init__", "__post_init__", "__new__"})


class SourceNames(NamedTuple):
    """Names in one module.

    Attributes:
        varying: Variables and attributes of classes that are no settings.
        state: Attributes of instances that methods compute, beside `varying`. A method that assigns its argument makes
            a setting.
        imported: Names bound by an import.
        made: Names bound to a value other than None.
    """

    varying: frozenset[str] = frozenset()
    state: frozenset[str] = frozenset()
    imported: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()


@functools.lru_cache(256)
def names_in_source(module: str) -> SourceNames:
    """The names in the source of an imported module; none if there is no source to read."""
    try:
        tree = ast.parse(Path(getattr(sys.modules.get(module), "__file__", None) or "").read_bytes())
    except (OSError, SyntaxError, ValueError):
        return SourceNames()
    varying: set[str] = set()
    state: set[str] = set()
    made: set[str] = set()
    _note_made(tree, varying, made)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            _note_changed(function, varying)
            state.update(_computed_attributes(function))
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for statement in ast.walk(tree)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for alias in statement.names
    }
    return SourceNames(frozenset(varying), frozenset(varying | state), frozenset(imported), frozenset(made))


def _note_made(body: ast.Module | ast.ClassDef, varying: set[str], made: set[str]) -> None:
    for statement in body.body:
        if isinstance(statement, ast.ClassDef):
            _note_made(statement, varying, made)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = set(filter(None, (_name_of(part) for target in targets for part in ast.walk(target))))
            calls = (node.func for node in ast.walk(statement.value) if isinstance(node, ast.Call))
            if any(_name_of(part) in _VARYING for function in calls for part in ast.walk(function)):
                varying.update(names)
            if not (isinstance(statement.value, ast.Constant) and statement.value.value is None):
                made.update(names)


def _note_changed(function: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str]) -> None:
    """Names that the function counts up, fills, or makes when they are first asked for."""
    asked = {
        _name_of(part)
        for node in ast.walk(function)
        if isinstance(node, ast.If | ast.IfExp)
        for part in ast.walk(node.test)
    }
    shared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    names.update(name for name in shared if name in asked)
    for node in ast.walk(function):
        if isinstance(node, ast.AugAssign):
            names.add(_name_of(node.target))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(_name_of(target.value) for target in targets if isinstance(target, ast.Subscript))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _FILLS:
            names.add(_name_of(node.func.value))
    names.discard("")


def _computed_attributes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Attributes that the function assigns, other than the arguments it is given; none for a constructor."""
    if function.name in _CONSTRUCTORS:
        return
    arguments = function.args
    given = {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and node.value is not None
            and _name_of(node.value) not in given
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (part.attr for target in targets for part in ast.walk(target) if isinstance(part, ast.Attribute))


def _name_of(node: ast.AST) -> str:
    """The last part of a name: ``count`` of ``Class.count``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return _name_of(node.value) if isinstance(node, ast.Subscript) else ""
