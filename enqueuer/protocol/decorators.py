"""Reduces what decorators of `functools` made of a script's functions; their functions travel by value.

A `cached_property` holds a lock up to Python 3.11, and a memoised function is pickled by its name only. Both are made
anew at the other end, with a lock of their own and an empty cache.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from typing import Any

import cloudpickle

from enqueuer.protocol.script_code import is_of_main, named_setter

MemoisedFunction: Any = type(functools.lru_cache(len))
_ATTRIBUTE = "_enqueuer_memoised"


def reduce_cached_property(value: functools.cached_property[Any]) -> tuple[Any, ...]:
    """Reduce a cached property, or one of a subclass, without its lock."""
    state = {name: content for name, content in vars(value).items() if name != "lock"}
    return _make_cached_property, (type(value), "lock" in vars(value)), state


def _make_cached_property(cls: Any, has_lock: bool) -> Any:
    made = cls.__new__(cls)
    if has_lock:
        made.lock = threading.RLock()
    return made


def reduce_memoised(value: Any) -> Any:
    """Reduce a memoised function: by its name, if workers can import it, otherwise with the function in it."""
    if _can_be_imported(value):
        return NotImplemented
    state = {name: content for name, content in vars(value).items() if name != "__wrapped__"}
    setter = named_setter(_update, value) if is_of_main(value) else _update
    return _memoise, (value.__wrapped__, value.cache_parameters()), state, None, None, setter


def _memoise(function: Any, parameters: dict[str, Any]) -> Any:
    """The memoised function; the same one for the same function, since that may call itself by this name."""
    made = getattr(function, _ATTRIBUTE, None)
    if made is None:
        made = functools.lru_cache(**parameters)(function)
        with contextlib.suppress(AttributeError):  # a builtin takes none
            setattr(function, _ATTRIBUTE, made)
    return made


def _update(value: Any, state: dict[str, Any]) -> None:
    vars(value).update(state)


def _can_be_imported(value: Any) -> bool:
    name = getattr(value, "__module__", None)
    if name == "__main__" or any(_is_within(name, module) for module in cloudpickle.list_registry_pickle_by_value()):
        return False
    found: Any = sys.modules.get(name or "")
    for part in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is value


def _is_within(name: str | None, module: str) -> bool:
    return name is not None and (name == module or name.startswith(f"{module}."))
