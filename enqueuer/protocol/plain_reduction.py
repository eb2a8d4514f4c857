"""Reduces objects of classes with a ``__getattr__`` or ``__getattribute__``, without asking it.

The standard reduction asks the instance for ``__getnewargs_ex__`` and the like, and at the other end an instance
without any attribute for ``__setstate__``. A ``__getattr__`` with an answer to every name is wrong there, and one that
passes every name on to an attribute calls itself without end. The interpreter looks such methods up in the class; so
does this reduction.
"""

from __future__ import annotations

import copyreg
import struct
from types import FunctionType
from typing import Any

_POINTER_BYTES = struct.calcsize("P")
# The size of a class statement's additions to its base: the dict and the weak references.
_ADDED_BYTES = type("_Plain", (), {}).__basicsize__ - object.__basicsize__
_OWN_REDUCTIONS = ("__reduce__", "__reduce_ex__")


def is_plain_with_getattr(cls: type) -> bool:
    """Whether instances answer for attributes, have the standard reduction, and no state that only C code knows."""
    asks = _of_class(cls, "__getattr__") is not None or isinstance(_of_class(cls, "__getattribute__"), FunctionType)
    if issubclass(cls, type) or not asks:
        return False
    if any(getattr(cls, name) is not getattr(object, name) for name in _OWN_REDUCTIONS):
        return False
    return cls not in copyreg.dispatch_table and is_made_of_attributes(cls)


def is_made_of_attributes(cls: type) -> bool:
    """Whether instances have no state that only C code knows, beside the items of a list or dict."""
    if cls.__itemsize__:
        return False
    base = next(base for base in (list, dict, object) if issubclass(cls, base))
    # As in the standard reduction: a larger object has fields of its own.
    return cls.__basicsize__ <= base.__basicsize__ + _ADDED_BYTES + _POINTER_BYTES * len(_slot_names(cls))


def reduce_plainly(value: Any) -> tuple[Any, ...]:
    """The reduction of an object; `is_made_of_attributes` is true for its class."""
    cls: Any = type(value)
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    if _of_class(cls, "__getnewargs_ex__") is not None:
        args, keywords = cls.__getnewargs_ex__(value)
    elif _of_class(cls, "__getnewargs__") is not None:
        args = cls.__getnewargs__(value)
    items = iter(value) if isinstance(value, list) else None
    pairs = iter(value.items()) if isinstance(value, dict) else None
    return _make, (cls, args, keywords), _state_of(value, cls), items, pairs, _set_state


def _make(cls: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return cls.__new__(cls, *args, **keywords)


def _state_of(value: Any, cls: Any) -> Any:
    if _of_class(cls, "__getstate__") is not None:
        return cls.__getstate__(value)
    try:
        state = object.__getattribute__(value, "__dict__")
    except AttributeError:
        state = None  # only slots, or no attributes at all
    slots = {}
    for name in _slot_names(cls):
        try:
            slots[name] = object.__getattribute__(value, name)
        except AttributeError:
            continue  # not set
    return (state, slots) if slots else state


def _set_state(value: Any, state: Any) -> None:
    cls: Any = type(value)
    if _of_class(cls, "__setstate__") is not None:
        cls.__setstate__(value, state)
        return
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        object.__getattribute__(value, "__dict__").update(state)
    for name, content in (slots or {}).items():
        object.__setattr__(value, name, content)


def _of_class(cls: type, name: str) -> Any:
    """The attribute, as the class or a base other than `object` defines it; a metaclass is not asked."""
    return next((vars(owner)[name] for owner in cls.__mro__[:-1] if name in vars(owner)), None)


def _slot_names(cls: type) -> list[str]:
    names: list[str] = copyreg._slotnames(cls)  # type: ignore[attr-defined]
    return names
