"""Finds the innermost part of an object that cannot be pickled: `.store.tables['a'][0]`, a sqlite3.Connection.

Each level tries its parts one by one and goes on in the first part to fail alone. The search runs after an error, so it
may take a while, up to a limit.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

from enqueuer.protocol.object_pickler import ObjectPickler

_MOST_LEVELS = 20
_MOST_SECONDS = 5.0


def find_unpicklable(live: Any) -> tuple[str, Any] | None:
    """The path from the object to the innermost part that cannot be pickled, and the part; None if it is the whole."""
    end = time.monotonic() + _MOST_SECONDS
    path, found = "", live
    for _ in range(_MOST_LEVELS):
        inner = next(((step, part) for step, part in _parts(found) if _fails(part)), None)
        if inner is None or time.monotonic() > end:
            break
        path, found = path + inner[0], inner[1]
    return (path, found) if path else None


def _parts(whole: Any) -> Iterator[tuple[str, Any]]:
    """The parts of the object in its pickle, each with its step of the path."""
    if type(whole) is dict:
        for key, value in whole.items():
            yield f"[{key!r:.40}]", value
    elif type(whole) in (list, tuple):
        for number, value in enumerate(whole):
            yield f"[{number}]", value
    else:
        for name, value in _state(whole).items():
            yield f".{name}", value


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


def _fails(part: Any) -> bool:
    try:
        ObjectPickler(io.BytesIO(), lambda _: False).dump(part)
    except Exception:
        return True
    return False
