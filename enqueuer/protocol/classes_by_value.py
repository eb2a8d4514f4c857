"""Classes that travel by value, where cloudpickle's own way loses something.

slots         cloudpickle makes the class without them, and its instances cannot come back
enumerations  members lose the attributes that ``__init__`` or ``__new__`` gave them; aliases are an error
classes that come back in a batch or an error
              cloudpickle finds the trainer's own class, and sets the worker's copies of all attributes on it: methods,
              counters, another `dataclasses.MISSING`. Here a process keeps the classes that it has
"""

from __future__ import annotations

import enum
import io
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle

PROTOCOL = 5
# By id: a metaclass may have made its classes unhashable.
_known: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()


def note_known(cls: type) -> None:
    """This process has the class with all its attributes."""
    _known[id(cls)] = cls


def made_whole(reduced: tuple[Any, ...], cls: type) -> tuple[Any, ...]:
    """cloudpickle's reduction of a class, with what that leaves out; other reductions as they are."""
    if len(reduced) != 6 or reduced[5] is None:
        return reduced
    return _with_members(reduced, cls) if issubclass(cls, enum.Enum) else _with_slots(reduced, cls)


def _with_slots(reduced: tuple[Any, ...], cls: type) -> tuple[Any, ...]:
    """The class is made with its ``__slots__`` in its namespace."""
    slots = vars(cls).get("__slots__")
    if slots is None:
        return reduced
    make, (metaclass, name, bases, namespace, *others), *rest = reduced
    return (make, (metaclass, name, bases, {**namespace, "__slots__": slots}, *others), *rest)


def _with_members(reduced: tuple[Any, ...], cls: type[enum.Enum]) -> tuple[Any, ...]:
    make, (bases, name, qualname, _, *others), (namespace, slots), items, pairs, setter = reduced
    members = {alias: member.value for alias, member in cls.__members__.items()}
    attributes = {
        member.name: {key: value for key, value in vars(member).items() if not (key[0] == key[-1] == "_")}
        for member in cls
    }
    without_aliases = {key: value for key, value in namespace.items() if key not in members}
    whole_state = setter, (without_aliases, slots), attributes
    return make, (bases, name, qualname, members, *others), whole_state, items, pairs, _set_enumeration


def _set_enumeration(cls: Any, whole_state: tuple[Callable[[type, Any], object], Any, dict[str, Any]]) -> None:
    setter, state, attributes = whole_state
    setter(cls, state)
    for name, values in attributes.items():
        vars(cls[name]).update(values)


class ReturningPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles for the trainer: the classes that the trainer has stay as they are there."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=PROTOCOL)

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if not isinstance(obj, type) or not isinstance(reduced, tuple):
            return reduced
        reduced = made_whole(reduced, obj)
        if len(reduced) != 6 or reduced[5] is None:
            return reduced
        return (*reduced[:5], partial(_set_unless_known, reduced[5]))


def pickle_to_return(value: Any) -> bytes:
    """Pickle a value for the trainer. Raises whatever the value's own code raises."""
    stream = io.BytesIO()
    ReturningPickler(stream).dump(value)
    return stream.getvalue()


def _set_unless_known(setter: Callable[[type, Any], object], cls: type, state: Any) -> None:
    if _known.get(id(cls)) is not cls:
        setter(cls, state)
        note_known(cls)
