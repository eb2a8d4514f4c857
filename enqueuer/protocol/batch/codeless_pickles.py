"""Pickles inside of batches: loaded as they are for the consumer, and without any of their code to compare batches.

    load_pickle(data)                      the object
    with code_left_out(): load_pickle(data)    its plain values; a `StandIn` for each object of another class

Both go through the same `BatchPlan`. The choice belongs to the calling thread: the consumer builds in its own.
"""

from __future__ import annotations

import builtins
import collections
import io
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Classes with plain values inside. Making one runs no code but its own.
_CONTAINERS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "deque"): collections.deque,
    **{
        ("builtins", kind.__name__): kind
        for kind in (set, frozenset, bytearray, complex, range, slice, list, dict, tuple, int, float, str, bytes, bool)
    },
}
# NumPy's functions and classes in pickles of arrays, scalars and dtypes.
_ARRAY_MAKERS = frozenset({"ndarray", "dtype", "scalar", "_reconstruct", "_frombuffer"})


class Opaque:
    """A pickle that cannot be read without its code."""


class StandIn:
    """Stands for an object of a class without its code: it holds the parts of the object."""

    parts: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> StandIn:
        self = super().__new__(cls)
        self.parts = [args, kwargs]
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `__new__` sets the parts, since a pickle may leave ``__init__`` out."""

    def __setstate__(self, state: Any) -> None:
        self.parts.append(state)

    def append(self, value: Any) -> None:
        """Keep an item that a pickle appends to an object of a subclass of list."""
        self.parts.append(value)

    def extend(self, values: Any) -> None:
        """Keep the items that a pickle appends to an object of a subclass of list."""
        self.parts.extend(values)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts.append((key, value))


class _Mode(threading.local):
    code_left_out = False


_mode = _Mode()


class _CodelessUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        if module == "collections" and name == "defaultdict":
            return lambda _factory=None: collections.OrderedDict()
        if module == "builtins" and isinstance(getattr(builtins, name, None), type):
            return getattr(builtins, name) if name == "NoneType" else StandIn
        if module.partition(".")[0] == "numpy" and name in _ARRAY_MAKERS:
            return super().find_class(module, name)
        if module.partition(".")[0] == "cloudpickle":
            # A class or function by value: its code names files and lines, which say nothing about the batch.
            raise pickle.UnpicklingError("holds code")
        return StandIn


def load_pickle(data: Any) -> Any:
    """The pickled object. Inside of `code_left_out`: its values without its code, or an `Opaque`."""
    if not _mode.code_left_out:
        return pickle.loads(data)  # noqa: S301  # only from peers whose pickles the parser takes
    try:
        return _CodelessUnpickler(io.BytesIO(data)).load()
    except Exception:  # a pickle may do anything with its parts
        return Opaque()


@contextmanager
def code_left_out() -> Iterator[None]:
    """In this thread, `load_pickle` runs no code of the pickles."""
    _mode.code_left_out = True
    try:
        yield
    finally:
        _mode.code_left_out = False
