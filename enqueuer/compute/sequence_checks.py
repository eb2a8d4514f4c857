"""Checks that an object can serve as a Sequence, and finds its optional methods.

No base class is required: any object with ``__len__`` and ``__getitem__`` will do. Many Sequences are wrappers: their
``__getattr__`` passes every name on, returns None, or returns anything at all. A method found through it counts only
if it does not answer every name.
"""

from __future__ import annotations

import logging
import operator
import sys
from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

from enqueuer.errors import with_article

logger = logging.getLogger("enqueuer")

Hook = TypeVar("Hook", bound=Callable[..., Any])

# The length of an epoch without an end: the largest that ``len()`` can return.
ENDLESS = sys.maxsize
_REQUIRED = {"__len__": "the number of batches in an epoch", "__getitem__": "the batch at an index"}
# Keras' base classes with an empty on_epoch_end. They are compared by name, because no library may be imported for
# this. Other classes of these libraries have real hooks: the iterators of ImageDataGenerator reshuffle there.
_KERAS_ROOTS = frozenset({"keras", "tf_keras", "tensorflow"})
_KERAS_BASES = frozenset({"Sequence", "PyDataset"})
_EMPTY_MARK = "_enqueuer_empty_hook"
# No object has this name, except through a ``__getattr__`` with an answer to every name.
_UNKNOWN_NAME = "_enqueuer_unknown_method"


def empty_hook(function: Hook) -> Hook:
    """Mark a base class's hook as empty."""
    setattr(function, _EMPTY_MARK, True)
    return function


def check_sequence(candidate: object) -> None:
    """Raise a TypeError, naming the missing methods, if ``candidate`` cannot serve as a Sequence."""
    _check_items(candidate)
    missing = [f"{name} ({meaning})" for name, meaning in _REQUIRED.items() if not hasattr(type(candidate), name)]
    if len(missing) == 1 and "__len__" in missing[0] and _defines_num_batches(candidate):
        batch_count(candidate)
        return
    if not missing:
        return
    if isinstance(candidate, type):
        raise TypeError(
            f"a Sequence is an instance, and {candidate.__qualname__} is a class: pass {candidate.__name__}(…)"
        )
    raise TypeError(
        f"{with_article(type(candidate).__qualname__)} cannot serve as a Sequence: it lacks {' and '.join(missing)}"
    )


def _check_items(candidate: object) -> None:
    """Raise a TypeError for texts and for dicts of columns: they have a length, but their items are no batches."""
    problem = ""
    if isinstance(candidate, str | bytes | bytearray):
        is_target = isinstance(candidate, str) and ":" in candidate
        cure = f"for a Sequence by its name pass SequenceSpec({candidate!r:.80})" if is_target else "pass a Sequence"
        problem = f"its items are characters; {cure}"
    elif _is_plain_dict(candidate) and candidate and 0 not in candidate:
        problem = "its keys are not 0, 1, …; pass an object whose __getitem__(index) makes the batch at an index"
    if problem:
        raise TypeError(f"{with_article(type(candidate).__qualname__)} cannot serve as a Sequence: {problem}")


def _is_plain_dict(candidate: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(candidate, dict) and type(candidate).__getitem__ is dict.__getitem__


def batch_count(sequence: Any) -> int:
    """The number of batches in an epoch: ``len()``, or ``num_batches`` of a Keras dataset without ``__len__``.

    `ENDLESS` if ``num_batches`` is None. Runs the user's code. Raises TypeError, ValueError or OverflowError if that
    gives no length.
    """
    if hasattr(type(sequence), "__len__"):
        return _length(sequence)
    count = sequence.num_batches
    return ENDLESS if count is None else operator.index(count)


def is_shuffled(sequence: Any, shuffle: bool) -> bool:
    """Whether to shuffle: not a dataset without an end, which Keras takes in order as well. A warning says so."""
    if shuffle and not hasattr(type(sequence), "__len__") and sequence.num_batches is None:
        logger.warning(
            "shuffle=True changes nothing for %s, which has no end (num_batches is None)",
            with_article(type(sequence).__qualname__),
        )
        return False
    return shuffle


def _length(sequence: Any) -> int:
    """``len()``, with errors that name the class: they come out of ``start()``, and Python's own do not name it."""
    try:
        return len(sequence)
    except (TypeError, ValueError, OverflowError) as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # the user's code raised it
        hint = " (divide with // or math.ceil)" if "'float'" in str(error) else ""
        raise type(error)(
            f"{type(sequence).__qualname__}.__len__ must return the number of batches in an epoch, an integer of at "
            f"least 1{hint}: {error}"
        ) from None


def _defines_num_batches(sequence: object) -> bool:
    """Whether the class defines ``num_batches`` itself; that of Keras' base class only asks ``__len__``."""
    owner = next((cls for cls in type(sequence).__mro__ if "num_batches" in vars(cls)), None)
    return owner is not None and not _is_keras_base(owner)


def own_on_epoch_end(sequence: Any) -> Callable[[], Any] | None:
    """The Sequence's ``on_epoch_end``; None if it is missing or is a base class's empty one.

    A wrapper's ``__getattr__`` may pass the question on: then the wrapped Sequence's hook counts, unless it is empty.
    """
    method = _find(sequence, "on_epoch_end")
    if method is None or not _is_own(sequence, "on_epoch_end"):
        wrapped = getattr(method, "__self__", None)
        return None if wrapped is not None and _has_empty_hook(wrapped) else method
    return None if _has_empty_hook(sequence) else method


def optional_method(sequence: Any, name: str) -> Callable[..., Any] | None:
    """The Sequence's method of this name, or that of the object behind its ``__getattr__``.

    None if there is none, or if ``__getattr__`` returns something callable for every name: then its answers mean
    nothing. An exception of ``__getattr__`` counts as no.
    """
    method = _find(sequence, name)
    if method is not None and not _is_own(sequence, name) and _find(sequence, _UNKNOWN_NAME) is not None:
        return None
    return method


def fills_buffers(sequence: Any) -> bool:
    """Whether the Sequence's ``getitem_into`` stands for its ``__getitem__``.

    It must be of the same class or a subclass of that: behind a wrapper, or under an overridden ``__getitem__``, it
    would give other batches.
    """
    if "getitem_into" in _namespace(sequence):
        return callable(_namespace(sequence)["getitem_into"])
    for owner in type(sequence).__mro__:
        if "getitem_into" in vars(owner):
            return callable(getattr(sequence, "getitem_into", None))
        if "__getitem__" in vars(owner):
            return False
    return False


def _find(sequence: Any, name: str) -> Callable[..., Any] | None:
    """The attribute, if it can be called. Errors are passed on, except those of ``__getattr__``."""
    try:
        found = getattr(sequence, name, None)
    except Exception:
        if _is_own(sequence, name):
            raise
        return None
    return found if callable(found) else None


def _is_own(sequence: Any, name: str) -> bool:
    """Whether the instance or its class has the attribute, so that ``__getattr__`` is not asked."""
    return name in _namespace(sequence) or any(name in vars(owner) for owner in type(sequence).__mro__)


def _namespace(sequence: Any) -> dict[str, Any]:
    try:
        found = object.__getattribute__(sequence, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


def _has_empty_hook(sequence: Any) -> bool:
    if "on_epoch_end" in _namespace(sequence):
        return False
    owner = next((owner for owner in type(sequence).__mro__ if "on_epoch_end" in vars(owner)), None)
    return owner is not None and _is_empty(owner)


def _is_empty(owner: type) -> bool:
    if hasattr(vars(owner)["on_epoch_end"], _EMPTY_MARK):
        return True
    return _is_keras_base(owner)


def _is_keras_base(owner: type) -> bool:
    return owner.__module__.partition(".")[0] in _KERAS_ROOTS and owner.__name__ in _KERAS_BASES
