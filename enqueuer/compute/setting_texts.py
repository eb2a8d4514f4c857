"""Settings as texts that are the same in every process, so that a change can be seen and shown.

plain values                        themselves; of dicts, namespaces, dataclasses, named tuples and instances of the
                                    user's classes each part by a name of its own
functions, classes, partials        where they come from: a function that the script has put in another's place
small arrays                        type, shape and a digest
"""

from __future__ import annotations

import enum
import functools
import hashlib
import sys
import types
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np

from enqueuer.compute.object_walk import attributes_of, slots_of
from enqueuer.compute.source_names import names_in_source
from enqueuer.compute.user_modules import is_users

_MOST_ITEMS = 1_000
_DEPTH_LIMIT = 6
# Instances in instances are looked into this deep.
_INSTANCES_DEPTH_LIMIT = 3
_NAME_LIMIT = 200
_MOST_ARRAY_BYTES = 1 << 16
_ARRAY_SHOWN = 8

_SCALARS = (type(None), bool, int, float, complex, str, bytes, tuple, enum.Enum, PurePath, np.bool_, np.number)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


def flatten(name: str, value: object, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Name and text of the value, or of each part of it that has a name of its own; nothing if it has no text."""
    if len(name) > _NAME_LIMIT or not name.isprintable() or depth > _DEPTH_LIMIT:
        return
    items = _items_of(value)
    if items and len(items) <= _MOST_ITEMS:
        for key, part in items:
            if type(key) in (str, int, bool):
                yield from flatten(f"{name}[{key!r}]", part, depth + 1)
    elif _is_namespace(value) or hasattr(type(value), "__dataclass_fields__"):
        for attribute, part in attributes_of(value):
            if not attribute.startswith("_"):
                yield from flatten(f"{name}.{attribute}", part, depth + 1)
    elif issubclass(type(value), tuple) and hasattr(type(value), "_fields"):
        fields: tuple[str, ...] = type(value)._fields  # type: ignore[attr-defined]
        for attribute, part in zip(fields, tuple.__iter__(value), strict=False):  # type: ignore[arg-type]
            yield from flatten(f"{name}.{attribute}", part, depth + 1)
    elif is_users_instance(value):
        if depth < _INSTANCES_DEPTH_LIMIT:
            for attribute, part in _settings_of(value):
                yield from flatten(f"{name}.{attribute}", part, depth + 1)
    elif (text := _text_of(value, depth)) is not None:
        yield name, text


def _items_of(value: Any) -> list[tuple[object, object]]:
    """The items of a mapping that may hold settings; none for any other value."""
    kind = type(value)
    if kind in (dict, OrderedDict, defaultdict) or (issubclass(kind, dict) and _has_items_as_attributes(value)):
        return list(dict.items(value))
    if kind in (ChainMap, UserDict):
        return list(value.items())
    # Not imported here: a process without it has no parser.
    configparser = sys.modules.get("configparser")
    if configparser is not None and kind in (configparser.ConfigParser, configparser.RawConfigParser):
        sections = [value.default_section, *value.sections()]
        return [(name, {key: value[name].get(key, raw=True) for key in value[name]}) for name in sections]
    return []


def _has_items_as_attributes(value: Any) -> bool:
    """Whether the dict is a configuration, whose items are read as attributes. Other dicts of the user's are caches."""
    kind = type(value)
    return hasattr(kind, "__getattr__") or getattr(value, "__dict__", None) is value


def _is_namespace(value: object) -> bool:
    # Not imported here: a process without it has no namespace of its.
    argparse = sys.modules.get("argparse")
    kinds = (types.SimpleNamespace,) if argparse is None else (types.SimpleNamespace, argparse.Namespace)
    return issubclass(type(value), kinds)


def is_users_instance(value: object) -> bool:
    """Whether this is an instance, with attributes, of a class of the user's; a data set holds no settings."""
    cls = type(value)
    if not is_users(str(cls.__module__)) or issubclass(cls, enum.Enum | type) or hasattr(cls, "__getitem__"):
        return False
    return hasattr(value, "__dict__") or bool(slots_of(cls))


def _settings_of(instance: object) -> list[tuple[str, object]]:
    """Attributes that are no state: not computed by methods, and no lists, dicts or arrays."""
    left_out = names_in_source(type(instance).__module__).state
    return [
        (name, part)
        for name, part in attributes_of(instance)
        if not name.startswith("_")
        and name not in left_out
        and (issubclass(type(part), _SCALARS) or is_users_instance(part) or home_of(part) is not None)
    ]


def home_of(value: Any) -> tuple[str, str] | None:
    """Module and name in it that a function or class says it has; None for any other value."""
    kind = type(value)
    if issubclass(kind, staticmethod | classmethod):
        value = value.__func__
    elif issubclass(kind, property):
        value = value.fget
    elif issubclass(kind, functools.cached_property):
        value = value.func
    return (str(value.__module__), value.__qualname__) if issubclass(type(value), (*_FUNCTIONS, type)) else None


def _text_of(value: Any, depth: int) -> str | None:
    """A plain value as text; None for any other."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return repr(value)
    if issubclass(kind, enum.Enum):
        return f"{kind.__qualname__}.{value.name}"
    if issubclass(kind, PurePath):
        return repr(str(value))
    if issubclass(kind, np.bool_ | np.number):
        return repr(value.item())
    if kind is np.ndarray:
        return _text_of_array(value)
    home = home_of(value)
    if home is not None:
        return ".".join(home)
    if depth > _DEPTH_LIMIT:
        return None
    if kind is functools.partial:
        parts: tuple[Any, ...] = (value.func, *value.args, value.keywords)
        return f"partial{_joined(_texts_of(parts, depth), '()')}"
    if kind is dict and len(value) <= _MOST_ITEMS:
        return _joined(sorted(_texts_of(value.items(), depth)), "{}")
    if kind in (list, tuple, deque) and len(value) <= _MOST_ITEMS:
        return _joined(_texts_of(value, depth), "()" if kind is tuple else "[]")
    if kind in (set, frozenset) and len(value) <= _MOST_ITEMS:
        return _joined(sorted(_texts_of(value, depth)), "{}")
    if is_users_instance(value) and depth < _INSTANCES_DEPTH_LIMIT:
        return f"{kind.__qualname__}{_joined(_texts_of(map(list, _settings_of(value)), depth), '()')}"
    return None


def _text_of_array(array: Any) -> str | None:
    if array.dtype.hasobject or array.nbytes > _MOST_ARRAY_BYTES:
        return None
    if array.size <= _ARRAY_SHOWN:
        return f"{array.dtype} array {array.tolist()}"
    digest = hashlib.blake2b(array.tobytes(), digest_size=4).hexdigest()
    return f"{array.dtype} array of shape {array.shape}, digest {digest}"


def _texts_of(values: Iterable[object], depth: int) -> list[str]:
    """The plain ones among the values, as texts."""
    return [text for value in values if (text := _text_of(value, depth + 1)) is not None]


def _joined(texts: list[str], brackets: str) -> str:
    return f"{brackets[0]}{', '.join(texts)}{brackets[1]}"
