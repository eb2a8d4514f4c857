"""The batch header: the nodes, limits and types that `encoder.py` and `parser.py` share.

A header is a flat series of msgpack values: the nodes of the batch in pre-order, without an enclosing array. Nested
msgpack arrays would let a few hostile bytes ask for gigabytes before any check here runs.

| node | stands for |
|---|---|
| nil, bool, integer, float, str, bin | itself |
| map | a NumPy scalar or a complex number in the form of ``msgpack-numpy`` |
| ``[LIST, n]``, ``[TUPLE, n]`` | the next n nodes |
| ``[DICT, n]`` | n times a key (plain values and tuples of them), then its value |
| ``[ARRAY, storage, dtype, shape, order]`` | bytes in the given storage, memory order "C" or "F" |
| ``[OBJECTS, dtype, shape]`` | an array of objects ("O") or variable-width strings ("T"), followed by its elements |
| ``[SCALAR, storage, dtype]`` | a NumPy scalar unknown to ``msgpack-numpy`` (datetime64, bfloat16, records) |
| ``[NUMPY_STR, str]``, ``[NUMPY_BYTES, bin]`` | ``numpy.str_``, ``numpy.bytes_`` |
| ``[BYTES, storage, size]`` | bytes too long for a header |
| ``[BYTEARRAY, storage, size]`` | a bytearray of any length |
| ``[INTEGER, bin]`` | an int beyond 64 bits: two's complement, little-endian |
| ``[PICKLE, storage, size]`` | any Python object; refused under `Trust.REMOTE` |

``storage`` is ``INLINE`` (the next bytes of the batch's part of the inline frame) or ``FRAME`` (its next large frame).
``dtypes.py`` lists the forms of ``dtype``.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

import numpy as np

LIST: Final = 0
TUPLE: Final = 1
DICT: Final = 2
ARRAY: Final = 3
OBJECTS: Final = 4
SCALAR: Final = 5
NUMPY_STR: Final = 6
NUMPY_BYTES: Final = 7
BYTES: Final = 8
BYTEARRAY: Final = 9
INTEGER: Final = 10
PICKLE: Final = 11

# A large buffer travels in frames of this size. The allocators at both ends keep memory of this size, and map and unmap
# that of a 38 MB frame each time.
CHUNK_BYTES: Final = 1024 * 1024

INLINE: Final = 0
FRAME: Final = 1

PLAIN_TYPES: Final = frozenset({type(None), bool, int, float, str, bytes})

# Deep enough for any batch, and far below Python's recursion limit. It also ends the walk through a cycle.
MAX_DEPTH: Final = 64
# Parsing this many takes the receiver's I/O thread about a second. A list this long should be an array.
MAX_NODES: Final = 1 << 20
# Keys that hash alike make a dict quadratic: this many of them take a receiver about a second.
MAX_DICT_ITEMS: Final = 1 << 14
# NumPy 1 names its limit; NumPy 2 allows 64 and names none.
MAX_DIMENSIONS: Final[int] = getattr(np, "MAXDIMS", 64)


class FrameLike(Protocol):
    """The part of ``zmq.Frame`` used here."""

    @property
    def buffer(self) -> Any: ...

    def __len__(self) -> int: ...


# The value of a Sequence at one index: arrays, tensors and other objects in any nesting of containers.
Batch: TypeAlias = Any
Buffer: TypeAlias = bytes | memoryview
Frame: TypeAlias = Buffer | FrameLike
# A large buffer as it arrived: one frame, or the frames of its chunks.
Received: TypeAlias = Frame | tuple[Frame, ...]


def frame_nbytes(frame: Frame) -> int:
    """The size of a frame in bytes."""
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)


class Trust(Enum):
    """The trust in a peer's bytes: a property of the peer's channel, never of a message."""

    LOCAL = "local"
    """The trainer's own processes, over a private socket: pickles are read."""
    KEYED = "keyed"
    """Remote workers with a key, of a trainer with ``allow_pickle=True``: pickles are read."""
    REMOTE = "remote"
    """Any peer on a network: data only."""
