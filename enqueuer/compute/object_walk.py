"""Walks through everything in reach of an object, without a call of its code: no ``__getattr__``, no property.

    near    attributes, small containers, closures, defaults, bound methods, iterators; the object's classes
    far     the items of large containers, in turns, and of small ones where a thousand items are near already: a list
            of a million rows must not hide what is beside it
    outer   globals named in the user's functions, and attributes of modules named there

Each part is walked breadth first: near objects before others, far and outer ones in turns, since either may have more
than the walk's limit. Each object comes with its trail, the names that lead to it: processes that hold equal objects
find them by the same names, whatever else one of them holds.
"""

from __future__ import annotations

import contextlib
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
from itertools import chain, filterfalse, islice
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
# Their texts are the same in each process.
_PLAIN_NAMES = frozenset({type(None), bool, int, float, complex, str, bytes})
_NAME_LIMIT = 200
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
# Objects of these have no attributes of the user's, but refer to others: iterators, generators, bound methods.
_BUILT_IN = frozenset({"builtins", "functools", "itertools"})
# Modules with private generators; their classes hold nothing of the user's.
_FOREIGN = frozenset(sys.stdlib_module_names) | {
    *("numpy", "torch", "tensorflow", "jax", "keras", "pandas", "scipy", "PIL"),
}


# The trail before, and an attribute's name, a key or a number; a class or a global begins one by its full name.
Trail = tuple["Trail | None", object]
_Step = tuple[object, Trail]


def walk(
    root: object, limit: int, is_leaf: Callable[[object], bool] = lambda node: False
) -> Iterator[tuple[object, Trail]]:
    """Yield the object and everything in its reach, each once, at most ``limit``, with its trail. Leaves are not looked
    into.

    A leaf among the globals of a class's module is found as well, as if it were an attribute of the class.
    """
    # Objects stay referenced until the end, or an id could come twice.
    seen: dict[int, object] = {}
    near: deque[_Step] = deque([(root, (None, ""))])
    far: deque[Iterator[_Step]] = deque()
    outer: deque[types.FunctionType] = deque()
    kinds: dict[type, _Kind] = {}
    looks_left = _LOOKS_AN_OBJECT * limit
    near_items_left = _NEAR_ITEMS
    is_outers_turn = True
    while len(seen) < limit and looks_left > 0:
        looks_left -= 1
        if near:
            step: Any = near.popleft()
        elif outer and (is_outers_turn or not far):
            is_outers_turn, near_items_left = False, _NEAR_ITEMS
            near.extend(_named_globals(outer.popleft()))
            continue
        elif far:
            is_outers_turn, near_items_left = True, _NEAR_ITEMS
            step = next(far[0], None)
            if step is None:
                far.popleft()
                continue
            far.rotate(-1)
        else:
            return
        node, trail = step
        cls = type(node)
        kind = kinds.get(cls) or kinds.setdefault(cls, _Kind(cls))
        if kind.is_plain or id(node) in seen:
            continue
        seen[id(node)] = node
        if issubclass(cls, type):
            trail = (None, _name_of(node))
        yield node, trail
        if is_leaf(node):
            continue
        if kind.container is not None:
            count, items = kind.container.__len__(node), _items_of(node, kind.container, trail, limit)
            if count <= min(_SMALL_COUNT, near_items_left):
                near_items_left -= count
                near.extend(items)
            else:
                far.append(islice(items, limit))
            if cls is kind.container:
                continue
        elif issubclass(cls, np.ndarray):
            if node.dtype.hasobject:
                far.append(_numbered(trail, islice(node.flat, limit)))
            continue
        elif cls is types.FunctionType and is_users(str(node.__module__)):
            outer.append(node)
        if not kind.is_met:
            kind.is_met = True
            near.extend((base, trail) for base in kind.users_classes)
        near.extend(_parts_of(node, kind, trail, is_leaf))


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
        self.slots = slots_of(cls)
        self.is_built_in = issubclass(cls, threading.local) or (cls.__module__ in _BUILT_IN and self.container is None)


def slots_of(cls: type) -> list[types.MemberDescriptorType]:
    """The slots of a class and of its bases."""
    return [
        slot
        for base in cls.__mro__
        for name, slot in vars(base).items()
        if isinstance(slot, types.MemberDescriptorType) and name != "__dict__"
    ]


def attributes_of(node: object) -> list[tuple[str, object]]:
    """The object's own attributes, in its ``__dict__`` or in slots."""
    return list(_attributes(node, slots_of(type(node))))


def _items_of(node: Any, container: Any, trail: Trail, limit: int) -> Iterator[_Step]:
    if container is dict:
        # Augmenters are keys where a dict has their weights.
        keys = filterfalse(_is_plain_key, islice(dict.keys(node), limit))
        return chain(((value, (trail, key)) for key, value in dict.items(node)), ((key, (trail, key)) for key in keys))
    if container in (set, frozenset):
        # They have no order: a member is named by itself.
        return ((item, (trail, item)) for item in container.__iter__(node))
    return _numbered(trail, container.__iter__(node))


def _is_plain_key(key: object) -> bool:
    return type(key) in (str, int, bytes)


def _numbered(trail: Trail, items: Iterable[object]) -> Iterator[_Step]:
    return ((item, (trail, number)) for number, item in enumerate(items))


def _named(trail: Trail | None, items: Iterable[tuple[str, object]]) -> Iterator[_Step]:
    return ((item, (trail, name)) for name, item in items)


def _parts_of(node: Any, kind: _Kind, trail: Trail, is_leaf: Callable[[object], bool]) -> Iterator[_Step]:
    """The object's references, apart from a container's items and its classes."""
    cls = type(node)
    if cls is types.FunctionType:
        yield from _numbered(trail, node.__defaults__ or ())
        yield from _named(trail, (node.__kwdefaults__ or {}).items())
        yield from _named(trail, zip(node.__code__.co_freevars, map(_content, node.__closure__ or ()), strict=False))
        yield from _module_leaves(node.__module__, is_leaf)
        # Such as a decorator's ``__wrapped__``.
        yield from _named(trail, list(vars(node).items()))
    elif issubclass(cls, type):
        if not _is_foreign(node.__module__):
            yield from _named(trail, list(vars(node).items()))
            yield from _module_leaves(node.__module__, is_leaf)
    else:
        if cls is contextvars.ContextVar:
            # Not `get(None)`, which hides the variable's default.
            with contextlib.suppress(LookupError):
                yield node.get(), (trail, "get")
        elif kind.is_built_in:
            yield from _numbered(trail, gc.get_referents(node))
        yield from _named(trail, _attributes(node, kind.slots))


def _attributes(node: object, slots: list[types.MemberDescriptorType]) -> Iterator[tuple[str, object]]:
    try:
        found = object.__getattribute__(node, "__dict__")
    except AttributeError:
        found = {}
    if issubclass(type(found), dict):
        yield from list(found.items())
    for slot in slots:
        try:
            yield slot.__name__, slot.__get__(node)
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


def _module_leaves(name: str, is_leaf: Callable[[object], bool]) -> Iterable[_Step]:
    """The leaves among the globals of a module; a script's are its own affair, unless a function names them."""
    module = sys.modules.get(name)
    if module is None or name in SCRIPTS or _is_foreign(name):
        return ()
    return [(value, _global(name, own)) for own, value in list(vars(module).items()) if is_leaf(value)]


def _named_globals(function: types.FunctionType) -> Iterator[_Step]:
    """The globals named in the function's code, and the attributes of the user's modules named there."""
    names = names_in(function.__code__)
    package = function.__globals__.get("__package__")
    modules: list[types.ModuleType | None] = []
    for name in names:
        value: Any = function.__globals__.get(name, sys.modules.get(name))
        if issubclass(type(value), types.ModuleType):
            modules.append(value)
        else:
            yield value, _global(str(function.__module__), name)
        # ``from .name import …`` within the function.
        modules.append(sys.modules.get(f"{package}.{name}"))
    seen: set[str] = set()
    while modules:
        module = modules.pop()
        if module is None or module.__name__ in seen or not is_users(module.__name__):
            continue
        seen.add(module.__name__)
        for name in names:
            value = vars(module).get(name)
            if issubclass(type(value), types.ModuleType):
                modules.append(value)
            elif name in vars(module):
                yield value, _global(module.__name__, name)


def _global(module: str, name: str) -> Trail:
    return None, f"{module}:{name}"


# ---------------------------------------------------------------- trails


def path_of(trail: Trail) -> str:
    """The trail as a text, the same in each process."""
    names = []
    step: Trail | None = trail
    while step is not None:
        step, name = step
        names.append(_described(name))
    return "/".join(reversed(names))


def _described(name: object, depth: int = 3) -> str:
    """A key, or a member of a set, by its plain values: its address and its hash are others in each process."""
    cls = type(name)
    if cls in _PLAIN_NAMES or issubclass(cls, np.generic):
        return repr(name)[:_NAME_LIMIT]
    if issubclass(cls, type):
        return _name_of(name)
    if depth == 0:
        return cls.__qualname__
    if cls is tuple:
        parts: Iterator[object] = islice(tuple.__iter__(name), _SMALL_COUNT)  # type: ignore[arg-type]
        return f"({', '.join(_described(part, depth - 1) for part in parts)})"
    attributes = sorted(f"{own}={_described(part, depth - 1)}" for own, part in attributes_of(name))
    return f"{cls.__qualname__}({', '.join(attributes)})"


def _name_of(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
