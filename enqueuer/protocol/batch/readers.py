"""Readers: the parts of a `BatchPlan`. Each node has one, and the reader makes the node's value when a batch is built.

The parser checks everything before it makes a reader, so a reader checks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from enqueuer.memory.buffer_pool import pool
from enqueuer.memory.segment import ALIGNMENT
from enqueuer.protocol.batch.format import MAX_DIMENSIONS, Buffer, Frame, Received, frame_nbytes

_Order = Literal["C", "F"]


class Reader:
    """Makes a node's value from the inline frame, the batch's offset in that frame, and the batch's large frames."""

    __slots__ = ()

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        raise NotImplementedError

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        """The node's values for ``count`` batches without large frames, one every ``stride`` bytes of the frame."""
        return [self(inline, number * stride, ()) for number in range(count)]


class Constant(Reader):
    """Returns an immutable value that the header itself holds."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return self.value

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        return [self.value] * count


class Computed(Reader):
    """Returns the result of a function of the inline frame, the offset and the frames."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[Buffer, int, Sequence[Received]], Any]) -> None:
        self._read = read

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return self._read(inline, offset, frames)


# ---------------------------------------------------------------- containers


class _Container(Reader):
    __slots__ = ("_children",)

    def __init__(self, children: list[Reader]) -> None:
        self._children = children

    def _rows(self, inline: Buffer, count: int, stride: int) -> Any:
        """One tuple a batch: the values of all children."""
        if not self._children:
            return [()] * count
        return zip(*[child.many(inline, count, stride) for child in self._children], strict=True)


class List(_Container):
    __slots__ = ()

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return [child(inline, offset, frames) for child in self._children]

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        return list(map(list, self._rows(inline, count, stride)))


class Tuple(_Container):
    __slots__ = ()

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return tuple([child(inline, offset, frames) for child in self._children])

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        return list(self._rows(inline, count, stride))


class Dict(_Container):
    __slots__ = ("_keys",)

    def __init__(self, items: list[tuple[Any, Reader]]) -> None:
        super().__init__([child for _, child in items])
        self._keys = [key for key, _ in items]

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        values = [child(inline, offset, frames) for child in self._children]
        return dict(zip(self._keys, values, strict=True))

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        return [dict(zip(self._keys, row, strict=True)) for row in self._rows(inline, count, stride)]


class ConstantList(Reader):
    """Returns a new list of the same immutable values each time."""

    __slots__ = ("_values",)

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return self._values.copy()


def read_list(children: list[Reader]) -> Reader:
    values = _constants(children)
    return List(children) if values is None else ConstantList(values)


def read_tuple(children: list[Reader]) -> Reader:
    values = _constants(children)
    return Tuple(children) if values is None else Constant(tuple(values))


def _constants(children: list[Reader]) -> list[Any] | None:
    values = [child.value for child in children if type(child) is Constant]
    return values if len(values) == len(children) else None


# ---------------------------------------------------------------- arrays


class InlineArray(Reader):
    """Copies an array out of the inline frame; the arrays of many batches become parts of one copy."""

    __slots__ = ("_at", "_dtype", "_order", "_shape", "_strides")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], at: int, order: _Order) -> None:
        self._shape, self._dtype, self._at, self._order = shape, dtype, at, order
        # Strides of the stored array: an array in F order is stored as one of the reversed shape in C order.
        strides = [dtype.itemsize]
        for size in reversed(self._stored_shape()[1:]):
            strides.append(strides[-1] * size)
        self._strides = tuple(reversed(strides))

    def _stored_shape(self) -> tuple[int, ...]:
        return self._shape if self._order == "C" else self._shape[::-1]

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        stored: Any = np.ndarray(self._shape, self._dtype, inline, offset + self._at, None, self._order)
        return stored.copy(self._order)

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        # Iterating over arrays without dimensions would give scalars, and NumPy may not allow one more dimension.
        if not 0 < len(self._shape) < MAX_DIMENSIONS:
            return super().many(inline, count, stride)
        shape, strides = (count, *self._stored_shape()), (stride, *self._strides)
        stored: Any = np.ndarray(shape, self._dtype, inline, self._at, strides)
        arrays = list(stored.copy("C"))
        return arrays if self._order == "C" else [array.T for array in arrays]


def read_empty_array(shape: tuple[int, ...], dtype: np.dtype[Any], order: _Order) -> Reader:
    return Computed(lambda inline, offset, frames: np.empty(shape, dtype, order))


def read_framed_array(shape: tuple[int, ...], dtype: np.dtype[Any], at: int, order: _Order) -> Reader:
    return Computed(lambda inline, offset, frames: np.ndarray(shape, dtype, _aligned(frames[at]), 0, None, order))


def read_objects(shape: tuple[int, ...], children: list[Reader]) -> Reader:
    def read(inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        values = (child(inline, offset, frames) for child in children)
        # Not numpy.array(): it would unpack lists and arrays among the values.
        return np.fromiter(values, object, len(children)).reshape(shape)

    return Computed(read)


# ---------------------------------------------------------------- bytes


def read_buffer(convert: Callable[[Any], Any], at: int, size: int) -> Reader:
    def read(inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return convert(memoryview(inline)[offset + at : offset + at + size])

    return Computed(read)


def read_frame(convert: Callable[[Any], Any], at: int) -> Reader:
    return Computed(lambda inline, offset, frames: convert(join_chunks(frames[at])))


def join_chunks(received: Received) -> Any:
    """The received buffer as one bytes-like object: a copy if it came in chunks, else its own memory."""
    if isinstance(received, tuple):
        return b"".join([join_chunks(chunk) for chunk in received])
    return received if isinstance(received, bytes | memoryview) else received.buffer


def _aligned(received: Received) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The received buffer in memory that is writable and aligned: its own if that is both, else a copy."""
    if isinstance(received, tuple):
        return _joined_in_pool(received)
    own = np.frombuffer(join_chunks(received), np.uint8)
    if own.flags.writeable and _address(own) % ALIGNMENT == 0:
        return own
    memory = np.empty(own.nbytes + ALIGNMENT, np.uint8)
    start = -_address(memory) % ALIGNMENT
    copy = memory[start : start + own.nbytes]
    copy[:] = own
    return copy


def _joined_in_pool(chunks: tuple[Frame, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    memory = np.frombuffer(pool.take(sum(map(frame_nbytes, chunks))), np.uint8)
    end = 0
    for chunk in chunks:
        start, end = end, end + frame_nbytes(chunk)
        memory[start:end] = np.frombuffer(join_chunks(chunk), np.uint8)
    return memory


def _address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])
