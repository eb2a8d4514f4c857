"""Reduces what decorators of `functools` made of a script's functions; their functions travel by value.

A `cached_property` holds a lock up to Python 3.11, a memoised function is pickled by its name only, and a
`singledispatch` function holds weak references. They are made anew at the other end, with a lock of their own or an
empty cache.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import types
from typing import Any

from enqueuer.protocol.script_code import can_be_imported, is_of_main, named_setter

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
    if can_be_imported(value):
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


# ---------------------------------------------------------------- functools.singledispatch

_DISPATCHER_CODE = functools.singledispatch(lambda _: None).__code__  # type: ignore[attr-defined]
_MADE_WITH_IT = frozenset({"register", "dispatch", "registry", "_clear_cache", "__wrapped__"})


def is_dispatcher(value: types.FunctionType) -> bool:
    """Whether `functools.singledispatch` made the function."""
    return value.__code__ is _DISPATCHER_CODE


def reduce_dispatcher(value: Any) -> tuple[Any, ...]:
    """Reduce a dispatcher to its implementations, the default one among them. They may call it by its name."""
    names = {name: getattr(value, name) for name in ("__module__", "__qualname__", "__doc__", "__annotations__")}
    own = {name: content for name, content in vars(value).items() if name not in _MADE_WITH_IT}
    state = names, own, list(value.registry.items())
    return _make_dispatcher, (value.__name__,), state, None, None, _set_dispatcher


def _make_dispatcher(name: str) -> Any:
    def placeholder(_: object) -> None: ...

    placeholder.__name__ = name
    return functools.singledispatch(placeholder)


def _set_dispatcher(value: Any, state: tuple[dict[str, Any], dict[str, Any], list[tuple[type, Any]]]) -> None:
    names, own, implementations = state
    for name, content in names.items():
        setattr(value, name, content)
    vars(value).update(own)
    for cls, implementation in implementations:
        value.register(cls, implementation)
        if cls is object:
            value.__wrapped__ = implementation
