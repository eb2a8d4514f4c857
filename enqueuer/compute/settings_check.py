"""Settings: plain values of the user's modules and classes, compared between the trainer and its local workers.

A local worker imports modules afresh, so a value set in a module by the training script is silently lost there:

    trainer, when an epoch opens    read_settings(sequence)      name ► digest and text
    worker, after the Sequence      find_unlike(digests)         names with other values here, and these values

The modules of all classes and functions in reach of the Sequence are read, and the modules imported there, if they are
the user's. (Of 5 821 plain values of libraries, 20 differ between any two processes; `library_settings` has a list of
its own.) Left out are names with an underscore, and values that differ by their nature: made from the clock, the
process or chance, counted up, filled as a cache.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import enum
import functools
import hashlib
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePath

import numpy as np

from enqueuer.compute.library_settings import NAMES as LIBRARY_SETTINGS
from enqueuer.compute.library_settings import read_process_settings, read_thread_settings
from enqueuer.compute.object_walk import walk
from enqueuer.compute.user_modules import SCRIPTS, is_users

# A walk through this many objects takes 2 ms.
_MOST_NODES = 2_000
_MOST_MODULES = 100
_MOST_SETTINGS = 1_000
# The most settings in one warning; the first is mostly the cause.
_MOST_TOLD = 5
_MOST_ITEMS = 1_000
_DEPTH_LIMIT = 6
_TEXT_SHOWN = 100
_NAME_LIMIT = 200

_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
# A value made by one of these differs from process to process.
_VARYING = frozenset(
    [
        *("time", "perf_counter", "monotonic", "process_time", "datetime", "date", "now", "today", "utcnow"),
        *("random", "default_rng", "rand", "randint", "secrets", "uuid", "uuid1", "uuid4", "urandom", "id"),
        *("getpid", "getppid", "gethostname", "socket", "threading", "tempfile", "mkdtemp", "mkstemp"),
    ]
)
_FILLS = frozenset({"append", "add", "setdefault", "extend", "insert", "appendleft", "pop", "popitem", "clear"})


def read_settings(sequence: object, of_thread: Mapping[str, str]) -> dict[str, tuple[bytes, str]]:
    """Digest and text of each setting that the Sequence may read, by its name ("module:NAME", "module:Class.name").

    ``of_thread``: the libraries' settings in the trainer's own thread (`read_thread_settings`).
    """
    settings = {**of_thread, **read_process_settings()}
    # Modules may hold anything, such as a proxy that raises for every name.
    with contextlib.suppress(Exception):
        settings |= {
            name: text
            for module in _modules_of(sequence)
            for name, text in _values_in(module, leave_out=_varying_names(module))
        }
    return {name: (_digest(text), _shown(text)) for name, text in islice(settings.items(), _MOST_SETTINGS)}


def find_unlike(digests: Mapping[str, bytes]) -> tuple[tuple[str, str], ...]:
    """Names and values of the settings with another digest here, among modules already imported here."""
    try:
        return tuple(islice(_unlike(digests), _MOST_TOLD))
    except Exception:  # as in `read_settings`
        return ()


def _unlike(digests: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    modules = {name.partition(":")[0] for name in digests if name not in LIBRARY_SETTINGS}
    here = {**read_thread_settings(), **read_process_settings()}
    here |= {
        name: text
        for module in modules.intersection(sys.modules)
        for name, text in _values_in(module, leave_out=frozenset())
    }
    for name, digest in digests.items():
        if name.partition(":")[0] in sys.modules and (name not in here or _digest(here[name]) != digest):
            yield name, _shown(here[name]) if name in here else "not set"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


def _shown(text: str) -> str:
    cut = text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}…"
    return cut if cut.isprintable() else ascii(cut)


# ---------------------------------------------------------------- modules


def _modules_of(sequence: object) -> list[str]:
    """The user's modules with the Sequence's classes and functions, and the modules imported there."""
    waiting = deque(dict.fromkeys(_homes_of(sequence)))
    seen: dict[str, None] = {}
    while waiting and len(seen) < _MOST_MODULES:
        name = waiting.popleft()
        if name in seen or not is_users(name):
            continue
        seen[name] = None
        for value in list(vars(sys.modules[name]).values()):
            if isinstance(value, types.ModuleType):
                waiting.append(value.__name__)
            elif isinstance(value, type | types.FunctionType) and isinstance(value.__module__, str):
                waiting.append(value.__module__)
    # Globals of the script itself travel with its classes.
    return [name for name in seen if name not in SCRIPTS]


def _homes_of(sequence: object) -> Iterator[str]:
    """The modules of all classes and functions in reach of the Sequence."""
    for node in walk(sequence, _MOST_NODES):
        if isinstance(node, type | types.FunctionType) and isinstance(node.__module__, str):
            yield node.__module__


# ---------------------------------------------------------------- values


def _values_in(module: str, leave_out: frozenset[str]) -> Iterator[tuple[str, str]]:
    for name, value in list(vars(sys.modules[module]).items()):
        if isinstance(value, type):
            if value.__module__ == module and not issubclass(value, enum.Enum):
                for attribute, content in list(vars(value).items()):
                    if not attribute.startswith("_") and attribute not in leave_out:
                        yield from _flatten(f"{module}:{value.__qualname__}.{attribute}", content, 0)
        elif not name.startswith("_") and name not in leave_out:
            yield from _flatten(f"{module}:{name}", value, 0)


def _flatten(name: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    """The plain values in this one: of dicts and namespaces each by a name of its own."""
    if len(name) > _NAME_LIMIT or not name.isprintable() or depth > _DEPTH_LIMIT:
        return
    if type(value) in (dict, OrderedDict, defaultdict) and value and len(value) <= _MOST_ITEMS:  # type: ignore[arg-type]
        for key, part in list(value.items()):  # type: ignore[attr-defined]
            if type(key) in (str, int, bool):
                yield from _flatten(f"{name}[{key!r}]", part, depth + 1)
    elif isinstance(value, _NAMESPACES) or (
        hasattr(type(value), "__dataclass_fields__") and hasattr(value, "__dict__")
    ):
        for attribute, part in list(vars(value).items()):
            if not attribute.startswith("_"):
                yield from _flatten(f"{name}.{attribute}", part, depth + 1)
    elif (text := _text_of(value, depth)) is not None:
        yield name, text


def _text_of(value: object, depth: int) -> str | None:
    """A plain value as text, the same in every process; None for any other."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return repr(value)
    if isinstance(value, enum.Enum):
        return f"{kind.__qualname__}.{value.name}"
    if isinstance(value, PurePath):
        return repr(str(value))
    if isinstance(value, np.bool_ | np.number):
        return repr(value.item())
    if depth > _DEPTH_LIMIT:
        return None
    if kind is dict and len(value) <= _MOST_ITEMS:  # type: ignore[arg-type]
        return _joined(sorted(_texts_of(value.items(), depth)), "{}")  # type: ignore[attr-defined]
    if kind in (list, tuple) and len(value) <= _MOST_ITEMS:  # type: ignore[arg-type]
        return _joined(_texts_of(value, depth), "[]" if kind is list else "()")  # type: ignore[arg-type]
    if kind in (set, frozenset) and len(value) <= _MOST_ITEMS:  # type: ignore[arg-type]
        return _joined(sorted(_texts_of(value, depth)), "{}")  # type: ignore[arg-type]
    return None


def _texts_of(values: Iterable[object], depth: int) -> list[str]:
    """The plain values among these, as texts."""
    return [text for value in values if (text := _text_of(value, depth + 1)) is not None]


def _joined(texts: list[str], brackets: str) -> str:
    return f"{brackets[0]}{', '.join(texts)}{brackets[1]}"


# ---------------------------------------------------------------- names that differ by their nature


@functools.lru_cache(256)
def _varying_names(module: str) -> frozenset[str]:
    """Names in the module's source with varying values: from the clock, the process or chance, counted up, filled."""
    try:
        tree = ast.parse(Path(sys.modules[module].__file__ or "").read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    names: set[str] = set()
    _note_made(tree, names)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            _note_changed(function, names)
    return frozenset(names)


def _note_made(body: ast.Module | ast.ClassDef, names: set[str]) -> None:
    for statement in body.body:
        if isinstance(statement, ast.ClassDef):
            _note_made(statement, names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            calls = (node.func for node in ast.walk(statement.value) if isinstance(node, ast.Call))
            if any(_name_of(part) in _VARYING for function in calls for part in ast.walk(function)):
                names.update(filter(None, (_name_of(part) for target in targets for part in ast.walk(target))))


def _note_changed(function: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str]) -> None:
    """Add names that the function counts up, fills, or makes at their first use."""
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


def _name_of(node: ast.AST) -> str:
    """The last part of a name: ``count`` of ``Class.count``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return _name_of(node.value) if isinstance(node, ast.Subscript) else ""
