"""The parts of a plan: one reader a node, which makes that node's value when a batch is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from enqueuer.memory.buffer_pool import pool
from enqueuer.protocol.batch.format import MAX_DIMENSIONS, Buffer, Frame, Received

ALIGNMENT_BYTES = 64

_Order = Literal["C", "F"]


class Reader:
    """Called with the inline frame, where in it the batch begins, and the batch's large frames: the node's value."""

    __slots__ = ()

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        raise NotImplementedError

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        """The values for ``count`` batches without large frames, which begin every ``stride`` bytes of the frame."""
        return [self(inline, number * stride, ()) for number in range(count)]


class Constant(Reader):
    """An immutable value, which the header itself holds."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return self.value

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        return [self.value] * count


class Computed(Reader):
    """Whatever this function makes of the batch's part of the inline frame, or of its frames."""

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
        """A tuple of the children's values for each batch."""
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
    """A list of immutable values: a new one each time."""

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
    """Copied out of the inline frame; of many batches, in one piece that they share without overlapping."""

    __slots__ = ("_at", "_dtype", "_order", "_shape", "_strides")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], at: int, order: _Order) -> None:
        self._shape, self._dtype, self._at, self._order = shape, dtype, at, order
        # Of what lies there; an array in F order lies there as one of the reversed shape in C order.
        strides = [dtype.itemsize]
        for size in reversed(self._stored_shape()[1:]):
            strides.append(strides[-1] * size)
        self._strides = tuple(reversed(strides))

    def _stored_shape(self) -> tuple[int, ...]:
        return self._shape if self._order == "C" else self._shape[::-1]

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        there: Any = np.ndarray(self._shape, self._dtype, inline, offset + self._at, None, self._order)
        return there.copy(self._order)

    def many(self, inline: Buffer, count: int, stride: int) -> Sequence[Any]:
        # Iterating would make scalars of those without dimensions; and one more may be too many for NumPy.
        if not 0 < len(self._shape) < MAX_DIMENSIONS:
            return super().many(inline, count, stride)
        shape, strides = (count, *self._stored_shape()), (stride, *self._strides)
        there: Any = np.ndarray(shape, self._dtype, inline, self._at, strides)
        arrays = list(there.copy("C"))
        return arrays if self._order == "C" else [array.T for array in arrays]


def read_empty_array(shape: tuple[int, ...], dtype: np.dtype[Any], order: _Order) -> Reader:
    return Computed(lambda inline, offset, frames: np.empty(shape, dtype, order))


def read_framed_array(shape: tuple[int, ...], dtype: np.dtype[Any], at: int, order: _Order) -> Reader:
    return Computed(lambda inline, offset, frames: np.ndarray(shape, dtype, _own_memory(frames[at]), 0, None, order))


def read_objects(shape: tuple[int, ...], children: list[Reader]) -> Reader:
    def read(inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        values = (child(inline, offset, frames) for child in children)
        # Not numpy.array(): it would take lists and arrays among the values apart.
        return np.fromiter(values, object, len(children)).reshape(shape)

    return Computed(read)


# ---------------------------------------------------------------- bytes


def read_buffer(convert: Callable[[Any], Any], at: int, size: int) -> Reader:
    def read(inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return convert(memoryview(inline)[offset + at : offset + at + size])

    return Computed(read)


def read_frame(convert: Callable[[Any], Any], at: int) -> Reader:
    return Computed(lambda inline, offset, frames: convert(contiguous(frames[at])))


def contiguous(frame: Received) -> Any:
    """One buffer; a copy if it came in chunks."""
    if isinstance(frame, tuple):
        return b"".join([contiguous(chunk) for chunk in frame])
    return frame if isinstance(frame, bytes | memoryview) else frame.buffer


def _own_memory(frame: Received) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if isinstance(frame, tuple):
        return _join(frame)
    received = np.frombuffer(contiguous(frame), np.uint8)
    if received.flags.writeable and _address(received) % ALIGNMENT_BYTES == 0:
        return received
    room = np.empty(received.nbytes + ALIGNMENT_BYTES, np.uint8)
    start = -_address(room) % ALIGNMENT_BYTES
    copy = room[start : start + received.nbytes]
    copy[:] = received
    return copy


def _join(chunks: tuple[Frame, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    room = np.frombuffer(pool.take(sum(map(_size, chunks))), np.uint8)
    end = 0
    for chunk in chunks:
        start, end = end, end + _size(chunk)
        room[start:end] = np.frombuffer(contiguous(chunk), np.uint8)
    return room


def _size(chunk: Frame) -> int:
    return chunk.nbytes if isinstance(chunk, memoryview) else len(chunk)


def _address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])
