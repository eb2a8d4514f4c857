"""Finds the innermost part of an object that cannot be pickled: `.store.tables['a'][0]`, a sqlite3.Connection.

Each level tries its parts one by one and goes on in the first part to fail alone. A class or function of a script is
pickled with what it uses, so a global may be in the way: `.__getitem__, which uses the global lock`. The search runs
after an error, so it may take a while, up to a limit.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from enqueuer.protocol.code_names import names_in
from enqueuer.protocol.object_pickler import ObjectPickler

# In the path: what comes next is a global of a script, used by what came before.
GLOBAL = ", which uses the global "
_MOST_LEVELS = 20
_MOST_SECONDS = 5.0


def find_unpicklable(live: Any) -> tuple[str, Any] | None:
    """The path from the object to the innermost part that cannot be pickled, and the part; None if it is the whole."""
    end = time.monotonic() + _MOST_SECONDS
    path, found = "", live
    # What has been met fails for the part that is looked for: methods of a class name the class, and children hold
    # their parent.
    met = {id(live)}
    for _ in range(_MOST_LEVELS):
        inner = next(((step, part) for step, part in _parts(found) if id(part) not in met and _fails(part, met)), None)
        if inner is None or time.monotonic() > end:
            break
        path, found = path + inner[0], inner[1]
        met.add(id(found))
    return (path, found) if path else None


def _parts(whole: Any) -> Iterator[tuple[str, Any]]:
    """The parts of the object in its pickle, each with its step of the path."""
    if type(whole) is dict:
        for key, value in whole.items():
            yield f"[{key!r:.40}]", value
    elif type(whole) in (list, tuple):
        for number, value in enumerate(whole):
            yield f"[{number}]", value
    elif isinstance(whole, FunctionType):
        yield from _used(whole)
    elif isinstance(whole, type):
        for name, value in vars(whole).items():
            yield f".{name}", getattr(value, "__func__", getattr(value, "fget", value))
        for base in whole.__bases__:
            yield "", base
    else:
        for name, value in _state(whole).items():
            yield f".{name}", value
        yield "", type(whole)


def _used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What the function's code uses from outside."""
    for name in names_in(function.__code__):
        if name in function.__globals__:
            yield f"{GLOBAL}{name}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f", which uses {name} of the function around it", cell.cell_contents
        except ValueError:
            continue  # not set yet
    yield "'s defaults", function.__defaults__
    yield "'s defaults", function.__kwdefaults__


def _state(whole: Any) -> dict[Any, Any]:
    cls: Any = type(whole)
    if cls.__reduce__ is not object.__reduce__ or cls.__reduce_ex__ is not object.__reduce_ex__:
        return {}
    try:
        state = whole.__reduce_ex__(2)[2]
    except Exception:
        return {}
    if isinstance(state, tuple) and len(state) == 2:  # with slots
        return {name: value for part in state if isinstance(part, dict) for name, value in part.items()}
    return state if isinstance(state, dict) else {}


class _PartPickler(ObjectPickler):
    """Passes over the objects that have been met."""

    def __init__(self, met: set[int]) -> None:
        super().__init__(io.BytesIO(), lambda _: False)
        self._met = met

    def persistent_id(self, obj: Any) -> Any:
        return "met" if id(obj) in self._met else None


def _fails(part: Any, met: set[int]) -> bool:
    try:
        _PartPickler(met).dump(part)
    except Exception:
        return True
    return False
