"""The outgoing buffers of a batch: each is joined to the inline frame, sent from its own memory, or copied.

    size <= INLINE_BYTES                             copied into the inline frame
    larger, and the arena has a block                copied into the block
    larger, a contiguous array in private memory     sent from that memory, without a copy
    larger, anything else                            copied into memory of its own

Memory is private if only the batch refers to it. A Sequence may return the same arrays each time, or views of a data
set that it shuffles in place; such memory could change before it is sent. Reference counts tell it from new memory:
those of the batch, of each container and array in it, and of the array under a view. None may exceed the count of a
new object, which `_measure_references` takes on the running version of Python.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence, Set
from typing import Any, Literal, TypeAlias

import numpy as np

from enqueuer.memory.arena import Block, aligned_offsets
from enqueuer.memory.buffer_pool import pool
from enqueuer.protocol.batch import format as f
from enqueuer.protocol.batch.format import Buffer

# A buffer of at most this size travels in the inline frame. Measured over ipc, both ends, 16 arrays a message: 16 KiB
# take 6 µs inline and 13 µs as a frame, 32 KiB 12 and 17, 128 KiB 30 and 32. Above 32 KiB the gain is small, and an
# inline array is copied, and not aligned to 64 bytes.
INLINE_BYTES = 32 * 1024

# The C library may map memory anew for each request from this size on, depending on earlier frees; never below it.
_POOLED_BYTES = 128 * 1024

Piece: TypeAlias = np.ndarray[Any, Any] | bytes | bytearray


def gather(pieces: Sequence[Piece], storages: Sequence[int], private: Set[int]) -> tuple[bytes, tuple[Buffer, ...]]:
    """The inline bytes and the large frames of a batch; arrays with ids in ``private`` are not copied."""
    inline: list[bytes | bytearray] = []
    frames: list[Buffer] = []
    for piece, storage in zip(pieces, storages, strict=True):
        if isinstance(piece, np.ndarray):
            if storage == f.INLINE:
                inline.append(piece.tobytes("A"))
            elif id(piece) in private and piece.flags.forc:
                frames.append(_raw(piece))
            else:
                frames.append(_copy(piece))
        elif storage == f.INLINE:
            inline.append(piece)
        else:
            frames.append(bytes(piece))  # no copy for bytes, a snapshot of a bytearray
    return b"".join(inline), tuple(frames)


def copy_to_block(pieces: Sequence[Piece], storages: Sequence[int], block: Block) -> tuple[bytes, tuple[Buffer, ...]]:
    """The inline bytes of a batch, and one view of the block for the copy of each large buffer, aligned."""
    inline: list[bytes | bytearray] = []
    large: list[Piece] = []
    for piece, storage in zip(pieces, storages, strict=True):
        if storage == f.INLINE:
            inline.append(piece.tobytes("A") if isinstance(piece, np.ndarray) else piece)
        else:
            large.append(piece)
    sizes = [_nbytes(piece) for piece in large]
    starts, _ = aligned_offsets(sizes)
    frames = tuple(block.contents[start : start + size] for start, size in zip(starts, sizes, strict=True))
    for piece, frame in zip(large, frames, strict=True):
        if isinstance(piece, np.ndarray):
            _fill(frame, piece)
        else:
            frame[:] = piece
    return b"".join(inline), frames


def block_bytes(pieces: Sequence[Piece], storages: Sequence[int]) -> int:
    """The size of the block for `copy_to_block`."""
    sizes = [_nbytes(piece) for piece, storage in zip(pieces, storages, strict=True) if storage == f.FRAME]
    return aligned_offsets(sizes)[1]


def _nbytes(piece: Piece) -> int:
    return piece.nbytes if isinstance(piece, np.ndarray) else len(piece)


def _copy(array: np.ndarray[Any, Any]) -> Buffer:
    """A copy of the array's bytes, in pooled memory if large: mapping memory anew each time takes ten times as long."""
    if array.nbytes < _POOLED_BYTES:
        return array.tobytes("A")
    frame = pool.take(array.nbytes)
    _fill(frame, array)
    return frame


def _fill(frame: memoryview, array: np.ndarray[Any, Any]) -> None:
    """Copy the array's bytes in the order of ``tobytes("A")``: F if it is only F-contiguous, else C."""
    order: Literal["C", "F"] = "F" if array.flags.fnc else "C"
    np.ndarray(array.shape, array.dtype, frame, order=order)[...] = array


def _raw(array: np.ndarray[Any, Any]) -> memoryview:
    """The memory of a contiguous array, viewed as uint8 because not every dtype exports a buffer."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.T.reshape(-1)
    return flat.view(np.uint8).data


# ---------------------------------------------------------------- private memory


def private_arrays(batch: object, references: int, pieces: Sequence[Piece]) -> set[int]:
    """The ids of the arrays among ``pieces`` to which only the batch refers.

    ``references`` is the batch's `sys.getrefcount` in a function that the caller passed its one variable to.
    ``pieces`` holds one more reference to each array.
    """
    known = {id(piece) for piece in pieces if isinstance(piece, np.ndarray)}
    private: set[int] = set()
    if not known:
        return private
    if isinstance(batch, np.ndarray):
        if id(batch) in known and references <= _NEW_BATCH and _owns_memory(batch):
            private.add(id(batch))
    elif references <= _NEW_BATCH:
        _collect_private(batch, known, private)
    return private


def _collect_private(container: Any, known: set[int], private: set[int]) -> None:
    for child in container.values() if type(container) is dict else container:
        kind = type(child)
        if kind is np.ndarray:
            if id(child) in known and sys.getrefcount(child) <= _NEW_CHILD + 1 and _owns_memory(child):
                private.add(id(child))
        elif kind in (tuple, list, dict) and sys.getrefcount(child) <= _NEW_CHILD:
            _collect_private(child, known, private)


def _owns_memory(array: np.ndarray[Any, Any]) -> bool:
    if array.flags.owndata:
        return True
    return type(array.base) is np.ndarray and array.base.flags.owndata and _base_references(array) <= _NEW_BASE


def _base_references(array: np.ndarray[Any, Any]) -> int:
    return sys.getrefcount(array.base)


def _batch_references(batch: object) -> int:
    return sys.getrefcount(batch)


def _measure_references() -> tuple[int, int, int]:
    """The counts of a new batch, child and base, taken as the code above takes them: Python versions differ."""
    batch = [[0]]
    return _batch_references(batch), next(sys.getrefcount(child) for child in batch), _base_references(np.empty(1)[:])


_NEW_BATCH, _NEW_CHILD, _NEW_BASE = _measure_references()
