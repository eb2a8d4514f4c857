"""Walks through everything in reach of an object, without a call of its code: no ``__getattr__``, no property.

    near    attributes, small containers, closures, defaults, bound methods, iterators; the object's classes
    far     the items of large containers, in turns, and of small ones where a thousand items are near already: a list
            of a million rows must not hide what is beside it
    outer   globals named in the user's functions, and attributes of modules named there

Each part is walked breadth first: near objects before others, far and outer ones in turns, since either may have more
than the walk's limit. Processes that hold equal objects walk in the same order.
"""

from __future__ import annotations

import contextvars
import gc
import io
import logging
import random
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from enqueuer.compute.user_modules import SCRIPTS, is_users
from enqueuer.protocol.code_names import names_in

_SMALL_COUNT = 100
# Items of small containers to walk as near objects of the instance, of a far object or of a function.
_NEAR_ITEMS = 1_000
# References to look at for each object to walk: plain values cost a look, too.
_LOOKS_AN_OBJECT = 5
# Neither walked nor looked into. (A SystemRandom is for secrets.)
_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray, range),
    *(np.generic, types.ModuleType, types.CodeType, random.SystemRandom),
    *(logging.Filterer, logging.Manager, threading.Thread, io.IOBase, weakref.ref),
)
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
# Objects of these have no attributes of the user's, but refer to others: iterators, generators, bound methods.
_BUILT_IN = frozenset({"builtins", "functools", "itertools"})
# Modules with private generators; their classes hold nothing of the user's.
_FOREIGN = frozenset(sys.stdlib_module_names) | {
    *("numpy", "torch", "tensorflow", "jax", "keras", "pandas", "scipy", "PIL"),
}


def walk(root: object, limit: int, is_leaf: Callable[[object], bool] = lambda node: False) -> Iterator[object]:
    """Yield the object and everything in its reach, each once, at most ``limit``. Leaves are not looked into.

    A leaf among the globals of a class's module is found as well, as if it were an attribute of the class.
    """
    # Objects stay referenced until the end, or an id could come twice.
    seen: dict[int, object] = {}
    near: deque[object] = deque([root])
    far: deque[Iterator[object]] = deque()
    outer: deque[types.FunctionType] = deque()
    kinds: dict[type, _Kind] = {}
    looks_left = _LOOKS_AN_OBJECT * limit
    near_items_left = _NEAR_ITEMS
    is_outers_turn = True
    while len(seen) < limit and looks_left > 0:
        looks_left -= 1
        if near:
            node: Any = near.popleft()
        elif outer and (is_outers_turn or not far):
            is_outers_turn, near_items_left = False, _NEAR_ITEMS
            near.extend(_named_globals(outer.popleft()))
            continue
        elif far:
            is_outers_turn, near_items_left = True, _NEAR_ITEMS
            node = next(far[0], far)
            if node is far:
                far.popleft()
                continue
            far.rotate(-1)
        else:
            return
        cls = type(node)
        kind = kinds.get(cls) or kinds.setdefault(cls, _Kind(cls))
        if kind.is_plain or id(node) in seen:
            continue
        seen[id(node)] = node
        yield node
        if is_leaf(node):
            continue
        if kind.container is not None:
            count, items = kind.container.__len__(node), _items_of(node, kind.container)
            if count <= min(_SMALL_COUNT, near_items_left):
                near_items_left -= count
                near.extend(items)
            else:
                far.append(islice(items, limit))
            if cls is kind.container:
                continue
        elif issubclass(cls, np.ndarray):
            if node.dtype.hasobject:
                far.append(islice(node.flat, limit))
            continue
        elif cls is types.FunctionType and is_users(str(node.__module__)):
            outer.append(node)
        if not kind.is_met:
            kind.is_met = True
            near.extend(kind.users_classes)
        near.extend(_parts_of(node, kind, is_leaf))


class _Kind:
    """The facts common to all objects of one class.

    They come from the class alone: `isinstance` asks an object for its ``__class__``, which a proxy or the ``f`` of an
    ``.npz`` file answers with an error, or with code of its own.
    """

    def __init__(self, cls: type) -> None:
        self.is_plain = issubclass(cls, _PLAIN)
        # The built-in container that the class is or extends. Its own methods see the items, not the class's.
        self.container: Any = next((base for base in _CONTAINERS if issubclass(cls, base)), None)
        # Whether an object of the class was looked into.
        self.is_met = False
        self.users_classes = [base for base in cls.__mro__ if not _is_foreign(base.__module__)]
        self.slots = [
            slot
            for base in cls.__mro__
            for name, slot in vars(base).items()
            if isinstance(slot, types.MemberDescriptorType) and name != "__dict__"
        ]
        self.is_built_in = issubclass(cls, threading.local) or (cls.__module__ in _BUILT_IN and self.container is None)


def _items_of(node: Any, container: Any) -> Iterator[object]:
    return iter(dict.values(node)) if container is dict else container.__iter__(node)


def _parts_of(node: Any, kind: _Kind, is_leaf: Callable[[object], bool]) -> Iterator[object]:
    """The object's references, apart from a container's items and its classes."""
    cls = type(node)
    if cls is types.FunctionType:
        yield from node.__defaults__ or ()
        yield from (node.__kwdefaults__ or {}).values()
        yield from map(_content, node.__closure__ or ())
        yield from _module_leaves(node.__module__, is_leaf)
        # Such as a decorator's ``__wrapped__``.
        yield from list(vars(node).values())
    elif issubclass(cls, type):
        if not _is_foreign(node.__module__):
            yield from list(vars(node).values())
            yield from _module_leaves(node.__module__, is_leaf)
    else:
        if cls is contextvars.ContextVar:
            yield node.get(None)
        elif kind.is_built_in:
            yield from gc.get_referents(node)
        yield from _attributes(node, kind.slots)


def _attributes(node: object, slots: list[types.MemberDescriptorType]) -> Iterator[object]:
    try:
        found = object.__getattribute__(node, "__dict__")
    except AttributeError:
        found = {}
    if issubclass(type(found), dict):
        yield from list(found.values())
    for slot in slots:
        try:
            yield slot.__get__(node)
        except AttributeError:
            continue  # not set


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None  # not bound yet


def _is_foreign(module: object) -> bool:
    return not isinstance(module, str) or module.partition(".")[0] in _FOREIGN


# ---------------------------------------------------------------- globals


def _module_leaves(name: str, is_leaf: Callable[[object], bool]) -> Iterable[object]:
    """The leaves among the globals of a module; a script's are its own affair, unless a function names them."""
    module = sys.modules.get(name)
    if module is None or name in SCRIPTS or _is_foreign(name):
        return ()
    return [value for value in list(vars(module).values()) if is_leaf(value)]


def _named_globals(function: types.FunctionType) -> Iterator[object]:
    """The globals named in the function's code, and the attributes of the user's modules named there."""
    names = names_in(function.__code__)
    for name in names:
        value: Any = function.__globals__.get(name, sys.modules.get(name))
        if not issubclass(type(value), types.ModuleType):
            yield value
        elif is_users(value.__name__):
            yield from [vars(value)[inner] for inner in names if inner in vars(value)]
