"""Many Python values as one pickle, for channels on which pickles are read.

A node for each value costs ten times as much as a pickle of all. Measured, both sides together, for 64 lists of 512
integers: 40 ms node by node, 1.5 ms as a pickle. Arrays and tensors keep their nodes: a pickle would copy large arrays,
and keep tensors as tensors. Only a batch of very many arrays is pickled together with them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from enqueuer.protocol.batch.dtypes import has_bytes
from enqueuer.protocol.classes_by_value import ReturningPickler

# A container of this many values is pickled at once, and so is any container after this many nodes.
MANY_VALUES = 64
MANY_NODES = 256
# After this many nodes the whole batch is pickled, with its arrays. They are small then, and a copy costs less than a
# node, which takes 10 to 30 µs.
MANY_ARRAYS = 1 << 14


def pickle_values(value: Any, is_tensor: Callable[[type], bool], *, with_arrays: bool) -> bytes | None:
    """The value as one pickle; None if it holds a tensor, an array (unless ``with_arrays``), or an unpicklable part."""
    file = io.BytesIO()
    try:
        _ValuesPickler(file, is_tensor, with_arrays).dump(value)
    except Exception:  # the user's code may raise anything; the walk node by node names the part
        return None
    return file.getvalue()


class _HasNodeError(Exception):
    """The value holds an array or a tensor."""


class _ValuesPickler(ReturningPickler):
    """Plain values in lists, tuples, dicts and sets are pickled in C, and never come to `reducer_override`."""

    def __init__(self, file: io.BytesIO, is_tensor: Callable[[type], bool], with_arrays: bool) -> None:
        super().__init__(file)
        self._is_tensor, self._with_arrays = is_tensor, with_arrays

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is np.ndarray or kind is np.memmap:
            if has_bytes(obj.dtype):
                if not self._with_arrays:
                    raise _HasNodeError
                order = "F" if obj.flags.fnc else "C"
                # NumPy's own pickles of read-only arrays are read-only.
                return make_array, (bytearray(obj.tobytes("A")), obj.dtype, obj.shape, order)
        elif kind is np.str_ or kind is np.bytes_:
            # NumPy's own pickles of these drop zeros at the end.
            return kind, (str.__str__(obj) if kind is np.str_ else bytes(obj),)
        elif self._is_tensor(kind):
            raise _HasNodeError
        return super().reducer_override(obj)


def make_array(
    data: bytearray, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]
) -> np.ndarray[Any, Any]:
    """A writable array on these bytes. Pickles name this function."""
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, data, order=order)
    return array
