"""Classes that travel by value, where cloudpickle's own way loses something.

slots          cloudpickle makes the class without them, and its instances could not come back
a class that comes back in a batch or an error
               cloudpickle finds the trainer's own class, and sets the worker's copies of all attributes on it: its
               methods, its counters, another `dataclasses.MISSING`. Here a process keeps the classes it has
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


def with_slots(reduced: tuple[Any, ...], cls: type) -> tuple[Any, ...]:
    """cloudpickle's reduction of a class by value, with its ``__slots__`` in the namespace that it is made of."""
    slots = vars(cls).get("__slots__")
    if slots is None or len(reduced) != 6 or issubclass(cls, enum.Enum):
        return reduced
    make, (metaclass, name, bases, namespace, *others), *rest = reduced
    return (make, (metaclass, name, bases, {**namespace, "__slots__": slots}, *others), *rest)


class ReturningPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles for the trainer: the classes that the trainer has stay as they are there."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=PROTOCOL)

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if not isinstance(obj, type) or not isinstance(reduced, tuple) or len(reduced) != 6:
            return reduced
        return (*with_slots(reduced, obj)[:5], partial(_set_unless_known, reduced[5]))


def pickle_to_return(value: Any) -> bytes:
    """Pickle a value for the trainer. Raises whatever the value's own code raises."""
    stream = io.BytesIO()
    ReturningPickler(stream).dump(value)
    return stream.getvalue()


def _set_unless_known(setter: Callable[[type, Any], object], cls: type, state: Any) -> None:
    if _known.get(id(cls)) is not cls:
        setter(cls, state)
        note_known(cls)
