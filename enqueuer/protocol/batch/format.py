"""The batch header: words, limits and types that its encoder and its parser share.

A header is msgpack values one after the other (no enclosing array), a pre-order walk through the batch. Flat, because
nested msgpack arrays let a few hostile bytes ask for gigabytes before any of our checks runs.

| value | stands for |
|---|---|
| nil, bool, integer, float, str, bin | itself |
| map | a number as ``msgpack-numpy`` writes it: NumPy scalar or complex |
| ``[LIST, n]``, ``[TUPLE, n]`` | the next n nodes |
| ``[DICT, n]`` | n times a key (plain values and tuples of them), then its value |
| ``[ARRAY, storage, dtype, shape, order]`` | bytes in the given storage, memory order "C" or "F" |
| ``[OBJECTS, dtype, shape]`` | an array of objects ("O") or variable-width strings ("T"): an element a node, C order |
| ``[SCALAR, storage, dtype]`` | a NumPy scalar that ``msgpack-numpy`` does not carry (datetime64, bfloat16, records) |
| ``[NUMPY_STR, str]``, ``[NUMPY_BYTES, bin]`` | ``numpy.str_``, ``numpy.bytes_`` |
| ``[BYTES, storage, size]`` | bytes too long for a header |
| ``[BYTEARRAY, storage, size]`` | the same, mutable |
| ``[INTEGER, bin]`` | an int beyond 64 bits: two's complement, little-endian |
| ``[PICKLE, storage, size]`` | any Python object; only from the trainer's own local processes, or under `Trust.KEYED` |

``storage`` is ``INLINE`` (the next bytes of the batch's part of the inline frame) or ``FRAME`` (its next large frame).
``dtype`` is described in ``dtypes.py``.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, Protocol

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

# A large buffer travels in frames of this size: the allocators at both ends keep their memory, while that of a frame of
# 38 MB is mapped and unmapped each time.
CHUNK_BYTES: Final = 1024 * 1024

INLINE: Final = 0
FRAME: Final = 1

PLAIN_TYPES: Final = frozenset({type(None), bool, int, float, str, bytes})

# Deep enough for any batch, and far below Python's recursion limit. A cycle is found by it, too.
MAX_DEPTH: Final = 64
# About a second of the receiver's I/O thread. A list this long should be an array.
MAX_NODES: Final = 1 << 20
# Keys that hash alike make a dict quadratic; this many of them cost a receiver about a second.
MAX_DICT_ITEMS: Final = 1 << 14
# NumPy 1 says so; NumPy 2 has 64 and no name for it.
MAX_DIMENSIONS: Final[int] = getattr(np, "MAXDIMS", 64)


class FrameLike(Protocol):
    """What we need of a ``zmq.Frame``."""

    @property
    def buffer(self) -> Any: ...

    def __len__(self) -> int: ...


Buffer = bytes | memoryview
Frame = Buffer | FrameLike
# A large buffer as it arrived: a frame, or its chunks.
Received = Frame | tuple[Frame, ...]


class Trust(Enum):
    """How far a peer's bytes are believed. Belongs to a socket pair, never to a message."""

    LOCAL = "local"
    """The trainer's own processes, over a private socket: pickles are read."""
    KEYED = "keyed"
    """Workers elsewhere that have a key, where the trainer's owner said ``allow_pickle=True``: pickles are read."""
    REMOTE = "remote"
    """Anyone on a network: data only."""
