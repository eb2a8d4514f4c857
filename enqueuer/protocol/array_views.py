"""Arrays of one pickle that share memory: they are views of one block in the worker, too.

    self.frame, self.top = frame, frame[:8]            pickle's own way: two arrays, and a write to one is lost
                     ──► block of bytes ──► two views

Which arrays overlap is known after the first pickling; only then is the object pickled a second time, with the blocks.
Overlap is a matter of addresses, so views of an array, of a tensor and of a `bytearray` are found alike.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

# The effort that NumPy puts into telling interleaved arrays from overlapping ones, such as the columns of a matrix.
_MOST_WORK = 1_000


class ArrayViews:
    """The arrays of one pickle. Without blocks it notes them; with blocks it reduces them to views of these."""

    def __init__(self, blocks: list[_Block] | None = None) -> None:
        self._blocks = blocks
        self._starts = [block.low for block in blocks or ()]
        # Kept referenced, or another array could get the address of one.
        self._noted: list[np.ndarray[Any, Any]] = []
        self._has_views = False

    def reduce(self, array: np.ndarray[Any, Any]) -> Any:
        """Reduce a plain array to a view of its block; NotImplemented for an array that overlaps with no other."""
        if array.size == 0 or array.dtype.hasobject:
            return NotImplemented
        if self._blocks is None:
            self._noted.append(array)
            self._has_views |= array.base is not None
            return NotImplemented
        low, high = _bounds(array)
        place = bisect.bisect_right(self._starts, low) - 1
        block = self._blocks[place] if place >= 0 else None
        if block is None or array is block.content or high > block.high:
            return NotImplemented
        first = array.__array_interface__["data"][0] - block.low
        return _view, (block.content, first, array.shape, array.dtype, array.strides, array.flags.writeable)

    def with_blocks(self) -> ArrayViews | None:
        """For a second pickling of the same object; None if no two arrays of the first one overlap."""
        if self._blocks is not None or not self._has_views:
            return None
        blocks = list(_blocks_of(self._noted))
        return ArrayViews(blocks) if blocks else None


class _Memory:
    """The bytes of overlapping arrays, which it keeps alive, in NumPy's array interface."""

    def __init__(self, low: int, high: int, arrays: list[np.ndarray[Any, Any]]) -> None:
        self.arrays = arrays
        self.__array_interface__ = {"data": (low, False), "shape": (high - low,), "typestr": "|u1", "version": 3}


class _Block(NamedTuple):
    low: int
    high: int
    content: np.ndarray[Any, Any]


def _blocks_of(arrays: list[np.ndarray[Any, Any]]) -> Iterator[_Block]:
    places = sorted(((*_bounds(array), number) for number, array in enumerate(arrays)), key=lambda one: one[:2])
    high = 0
    group: list[int] = []
    for low, end, number in places:
        if group and low >= high:
            yield from _block_of([arrays[one] for one in group])
            group = []
        high = max(high, end) if group else end
        group.append(number)
    yield from _block_of([arrays[one] for one in group])


def _block_of(arrays: list[np.ndarray[Any, Any]]) -> Iterator[_Block]:
    """The block of arrays whose bounds overlap, if any two that follow one another have a byte in common."""
    if any(_overlap(one, other) for one, other in pairwise(arrays)):
        bounds = [_bounds(array) for array in arrays]
        low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
        yield _Block(low, high, np.asarray(_Memory(low, high, arrays)))


def _overlap(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    try:
        return bool(np.shares_memory(one, other, max_work=_MOST_WORK))  # type: ignore[arg-type]  # any number will do
    except RuntimeError:  # too much work: one block is right in any case
        return True


def _bounds(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """The addresses of the array's first byte, and of the byte after its last."""
    low = high = array.__array_interface__["data"][0]
    for count, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (count - 1) * stride
        else:
            high += (count - 1) * stride
    return low, high + array.itemsize


def _view(
    block: np.ndarray[Any, Any], first: int, shape: Any, dtype: Any, strides: Any, is_writeable: bool
) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, buffer=block, offset=first, strides=strides)
    if not is_writeable:
        array.flags.writeable = False
    return array
