"""Classes that travel by value, where cloudpickle's own way loses something.

slots         cloudpickle makes the class without them, and its instances cannot come back
enumerations  members lose the attributes that ``__init__`` or ``__new__`` gave them, and those that are functions
              become methods; aliases are an error
classes that come back in a batch or an error
              cloudpickle finds the trainer's own class, and sets the worker's copies of all attributes on it: methods,
              counters, another `dataclasses.MISSING`. Here a process keeps the classes that it has
``__init_subclass__``
              cloudpickle calls it again, without the arguments of the class statement. What it did travels anyway
ctypes        ``_fields_`` makes a structure's fields; an array type is its element's type, times a number; types of
              pointers and functions are made of others (`c_libraries`)
"""

from __future__ import annotations

import ctypes
import enum
import io
import operator
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import cloudpickle

from enqueuer.protocol import c_libraries, constructors
from enqueuer.protocol.script_code import can_be_imported

PROTOCOL = 5
_ON_SUBCLASS = "__init_subclass__"
# By id: a metaclass may have made its classes unhashable.
_known: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()


def note_known(cls: type) -> None:
    """This process has the class with all its attributes."""
    _known[id(cls)] = cls


def made_whole(reduced: tuple[Any, ...], cls: type) -> tuple[Any, ...]:
    """cloudpickle's reduction of a class, with what that leaves out; other reductions as they are."""
    if len(reduced) != 6 or reduced[5] is None:
        return reduced
    if issubclass(cls, enum.Enum):
        return _with_members(reduced, cls)
    if cls in _BASES_OF_C:
        return type, (_BASES_OF_C[cls],)
    if issubclass(cls, ctypes.Array):
        element: Any = cls._type_
        return (operator.mul, (element, cls._length_)) if cls is element * cls._length_ else reduced
    made = c_libraries.reduce_type(cls)
    if made is not None:
        return made
    if issubclass(cls, ctypes.Structure | ctypes.Union):
        reduced = _with_c_fields(reduced)
    return _made_silently(_with_slots(reduced, cls), cls)


def _with_slots(reduced: tuple[Any, ...], cls: type) -> tuple[Any, ...]:
    """The class is made with its ``__slots__`` in its namespace."""
    slots = vars(cls).get("__slots__")
    make, (metaclass, name, bases, namespace, *others), *rest = reduced
    if slots is None or NamedTuple in bases:  # that has its own, and refuses others
        return reduced
    return (make, (metaclass, name, bases, {**namespace, "__slots__": slots}, *others), *rest)


def _with_c_fields(reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """``_fields_`` is set last, since ``_pack_`` and the like must be there by then, and makes the descriptors."""
    make, args, (namespace, slots), *rest = reduced
    kept = {name: value for name, value in namespace.items() if type(value) is not _C_FIELD and name != "_fields_"}
    if "_fields_" in namespace:
        kept["_fields_"] = namespace["_fields_"]
    return make, args, (kept, slots), *rest


class _OneField(ctypes.Structure):
    _fields_ = (("field", ctypes.c_char),)


_C_FIELD: type = type(_OneField.field)
# Their metaclasses have no name to find them by.
_BASES_OF_C: dict[type, type] = {type(base): base for base in (ctypes.Structure, ctypes.Union)}


def _made_silently(reduced: tuple[Any, ...], cls: type) -> tuple[Any, ...]:
    """The class is made without a call of ``__init_subclass__``, if its bases with one travel by value, too."""
    owners = [base for base in cls.__mro__[1:-1] if _ON_SUBCLASS in vars(base)]
    if not owners or any(map(can_be_imported, owners)):
        return reduced
    make, args, *rest = reduced
    return (_make_silently, (owners, make, args), *rest)


# A class statement of another thread would be silent, too; two of these would restore each other's silence.
_silence = threading.Lock()


def _make_silently(owners: list[type], make: Callable[..., type], args: tuple[Any, ...]) -> type:
    with _silence:
        loud = {owner: vars(owner)[_ON_SUBCLASS] for owner in owners if _ON_SUBCLASS in vars(owner)}
        try:
            for owner in loud:
                type.__setattr__(owner, _ON_SUBCLASS, _DO_NOTHING)
            return make(*args)
        finally:
            for owner, method in loud.items():
                type.__setattr__(owner, _ON_SUBCLASS, method)


_DO_NOTHING: Any = classmethod(lambda cls, **_: None)


def _with_members(reduced: tuple[Any, ...], cls: type[enum.Enum]) -> tuple[Any, ...]:
    make, (bases, name, qualname, _, *others), (namespace, slots), items, pairs, setter = reduced
    members = {alias: _as_member(member.value) for alias, member in cls.__members__.items()}
    attributes = {
        member.name: {key: value for key, value in vars(member).items() if not (key[0] == key[-1] == "_")}
        for member in cls
    }
    without_aliases = {key: value for key, value in namespace.items() if key not in members}
    whole_state = setter, (without_aliases, slots), attributes
    return make, (bases, name, qualname, members, *others), whole_state, items, pairs, _set_enumeration


def _as_member(value: Any) -> Any:
    make_member: Any = getattr(enum, "member", None)  # since Python 3.11
    return make_member(value) if make_member is not None and hasattr(value, "__get__") else value


def _set_enumeration(cls: Any, whole_state: tuple[Callable[[type, Any], object], Any, dict[str, Any]]) -> None:
    setter, state, attributes = whole_state
    setter(cls, state)
    for name, values in attributes.items():
        vars(cls[name]).update(values)


class ReturningPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles for the trainer: the classes that the trainer has stay as they are there."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=PROTOCOL)
        self._reductions: dict[type, Callable[[Any], Any] | None] = {}

    def reducer_override(self, obj: Any) -> Any:
        cls = type(obj)
        if cls not in self._reductions:
            self._reductions[cls] = None if cls in self.dispatch_table else constructors.choose(cls)
        reduction = self._reductions[cls]
        if reduction is not None:
            return reduction(obj)
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
