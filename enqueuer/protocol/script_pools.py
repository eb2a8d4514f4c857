"""Pickles a script's classes and functions for the pools of its ``__getitem__`` in a worker process.

A forked child finds them by name in its copy of the worker's ``__main__``. A child started afresh has none, so the
pickle has the value, too. The child puts it, and the parts of the script it needs, into a ``__main__`` like the
worker's, and pickles its own answers by name.
"""

from __future__ import annotations

import pickle
import sys
import types
import weakref
from typing import Any

from enqueuer.protocol.decorators import MemoisedFunction
from enqueuer.protocol.object_pickler import pickle_alone
from enqueuer.protocol.script_code import is_of_main, stand_in_for_main

_KINDS = (type, types.FunctionType, MemoisedFunction)
_pickled: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()


def reduce_for_pool(_: object, value: Any) -> Any:
    """A ``reducer_override`` for `multiprocessing.reduction.ForkingPickler` in a worker process."""
    if not isinstance(value, _KINDS) or not is_of_main(value):
        return NotImplemented
    pickled = _pickled.get(value)
    if pickled is None:
        pickled = _pickled[value] = pickle_alone(value)
    return _find_or_load, (value.__qualname__, pickled)


def _find_or_load(name: str, pickled: bytes) -> Any:
    if name not in vars(sys.modules["__main__"]):
        stand_in_for_main()
        vars(sys.modules["__main__"])[name] = pickle.loads(pickled)  # noqa: S301 - from the process that started this
    return vars(sys.modules["__main__"])[name]
