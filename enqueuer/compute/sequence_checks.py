"""Checks that an object can serve as a Sequence, and finds its ``on_epoch_end`` unless that is empty.

No base class is required: any object with ``__len__`` and ``__getitem__`` will do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Hook = TypeVar("Hook", bound=Callable[..., Any])

_REQUIRED = {"__len__": "the number of batches in an epoch", "__getitem__": "the batch at an index"}
# Keras' base classes with an empty on_epoch_end. They are compared by name, because no library may be imported for
# this. Other classes of these libraries have real hooks: the iterators of ImageDataGenerator reshuffle there.
_KERAS_ROOTS = frozenset({"keras", "tf_keras", "tensorflow"})
_KERAS_BASES = frozenset({"Sequence", "PyDataset"})
_EMPTY_MARK = "_enqueuer_empty_hook"


def empty_hook(function: Hook) -> Hook:
    """Mark a base class's hook as empty."""
    setattr(function, _EMPTY_MARK, True)
    return function


def check_sequence(candidate: object) -> None:
    """Raise a TypeError, naming the missing methods, if ``candidate`` cannot serve as a Sequence."""
    missing = [f"{name} ({meaning})" for name, meaning in _REQUIRED.items() if not hasattr(type(candidate), name)]
    if not missing:
        return
    if isinstance(candidate, type):
        raise TypeError(
            f"a Sequence is an instance, and {candidate.__qualname__} is a class: pass {candidate.__name__}(…)"
        )
    raise TypeError(f"a {type(candidate).__qualname__} cannot serve as a Sequence: it lacks {' and '.join(missing)}")


def own_on_epoch_end(sequence: Any) -> Callable[[], Any] | None:
    """The Sequence's ``on_epoch_end``; None if it is missing or is a base class's empty one."""
    method: Callable[[], Any] | None = getattr(sequence, "on_epoch_end", None)
    if not callable(method):
        return None
    if "on_epoch_end" not in getattr(sequence, "__dict__", {}):
        for owner in type(sequence).__mro__:
            if "on_epoch_end" in vars(owner):
                return None if _is_empty(owner) else method
    return method


def _is_empty(owner: type) -> bool:
    if hasattr(vars(owner)["on_epoch_end"], _EMPTY_MARK):
        return True
    return owner.__module__.partition(".")[0] in _KERAS_ROOTS and owner.__name__ in _KERAS_BASES
