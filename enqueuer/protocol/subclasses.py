"""Subclasses that a script's code finds by ``__subclasses__()``: nothing else refers to them, so they travel with it.

A class of the script travels by value, and its subclasses would stay behind: in a worker, the code would find none.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from types import FunctionType
from typing import Any

from enqueuer.protocol.code_names import names_in
from enqueuer.protocol.script_code import can_be_imported

_METHOD = "__subclasses__"


def with_subclasses(reduced: tuple[Any, ...], function: FunctionType, begun: Collection[int]) -> tuple[Any, ...]:
    """cloudpickle's reduction of a function, with the subclasses that it may ask for among its globals.

    They come first, so that they are made in their order. Those whose pickling has ``begun`` (by id) travel anyway; if
    their base led here, they would be made twice.
    """
    names = names_in(function.__code__)
    if _METHOD not in names or len(reduced) != 6:
        return reduced
    candidates = [*map(function.__globals__.get, names), _class_of(function)]
    bases = [value for value in candidates if isinstance(value, type) and not can_be_imported(value)]
    # By id: a metaclass may have made its classes unhashable.
    below = {id(subclass): subclass for base in bases for subclass in _below(base)}
    found = tuple(subclass for number, subclass in below.items() if number not in begun)
    attributes, state = reduced[2]
    kept = {f"{_METHOD} of {function.__qualname__}": found, **state["__globals__"]}
    return (*reduced[:2], (attributes, {**state, "__globals__": kept}), *reduced[3:])


def _class_of(method: FunctionType) -> Any:
    found: Any = sys.modules.get(method.__module__)
    for name in method.__qualname__.split(".")[:-1]:
        found = getattr(found, name, None)
    return found


def _below(base: type) -> Iterator[type]:
    subclasses: list[type] = type.__subclasses__(base)
    for subclass in subclasses:
        yield subclass
        yield from _below(subclass)
