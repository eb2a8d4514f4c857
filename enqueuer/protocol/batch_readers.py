"""The parts of a plan: a closure a node, which makes that node's value when a batch is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from enqueuer.protocol.batch_format import Buffer, Frame, Received
from enqueuer.transport.buffer_pool import pool

# From the inline frame, where in it the batch begins, and the batch's large frames.
Reader = Callable[[Buffer, int, Sequence[Received]], Any]

ALIGNMENT_BYTES = 64


class Constant:
    """The reader of an immutable value, which the header itself holds."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return self.value


def read_list(children: list[Reader]) -> Reader:
    if all(type(child) is Constant for child in children):
        values = [child.value for child in children]  # type: ignore[attr-defined]
        return lambda inline, offset, frames: values.copy()
    return lambda inline, offset, frames: [child(inline, offset, frames) for child in children]


def read_tuple(children: list[Reader]) -> Reader:
    if all(type(child) is Constant for child in children):
        return Constant(tuple([child.value for child in children]))  # type: ignore[attr-defined]
    return lambda inline, offset, frames: tuple([child(inline, offset, frames) for child in children])


def read_dict(items: list[tuple[Any, Reader]]) -> Reader:
    return lambda inline, offset, frames: {key: child(inline, offset, frames) for key, child in items}


def read_empty_array(shape: tuple[int, ...], dtype: np.dtype[Any], order: Any) -> Reader:
    return lambda inline, offset, frames: np.empty(shape, dtype, order)


def read_inline_array(shape: tuple[int, ...], dtype: np.dtype[Any], at: int, order: Any) -> Reader:
    def read(inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return np.ndarray(shape, dtype, inline, offset + at, None, order).copy(order)

    return read


def read_framed_array(shape: tuple[int, ...], dtype: np.dtype[Any], at: int, order: Any) -> Reader:
    def read(inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return np.ndarray(shape, dtype, _own_memory(frames[at]), 0, None, order)

    return read


def read_objects(shape: tuple[int, ...], children: list[Reader]) -> Reader:
    def read(inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        values = (child(inline, offset, frames) for child in children)
        # Not numpy.array(): it would take lists and arrays among the values apart.
        return np.fromiter(values, object, len(children)).reshape(shape)

    return read


def read_buffer(convert: Callable[[Any], Any], at: int, size: int) -> Reader:
    def read(inline: Buffer, offset: int, frames: Sequence[Received]) -> Any:
        return convert(memoryview(inline)[offset + at : offset + at + size])

    return read


def read_frame(convert: Callable[[Any], Any], at: int) -> Reader:
    return lambda inline, offset, frames: convert(contiguous(frames[at]))


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
