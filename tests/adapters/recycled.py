"""Memory that is reused as soon as nothing refers to it, like a shared block."""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

ALIGNMENT = 64
SPOILT = 0xAB


class Blocks:
    """Hands out arrays on blocks. A block is overwritten and handed out again when its last user is gone."""

    def __init__(self) -> None:
        self._free: deque[Any] = deque()
        self.recycled_count = 0

    def array(self, shape: tuple[int, ...], dtype: Any, value: Any) -> np.ndarray[Any, Any]:
        """A writable array, aligned to 64 bytes, filled with the value."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = self._free.popleft() if self._free else np.empty(size + ALIGNMENT, np.uint8)
        assert memory.nbytes == size + ALIGNMENT, "blocks are of one size"
        # ctypes instead of a view: the view of a view refers to the array itself, so a view between them dies early.
        user = (ctypes.c_ubyte * memory.nbytes).from_buffer(memory)
        weakref.finalize(user, self._recycle, memory).atexit = False
        array = np.ndarray(shape, dtype, user, -memory.ctypes.data % ALIGNMENT)
        array[...] = value
        return array

    def _recycle(self, memory: np.ndarray[Any, Any]) -> None:
        memory[:] = SPOILT
        self.recycled_count += 1
        self._free.append(memory)


def hold_and_drop(loader: Iterable[Any], length: int) -> dict[int, Any]:
    """Take two epochs of ``length`` batches of `Large`, hold hundreds of arrays at a time and drop them in any order.

    Each is checked when it is dropped. Returns the rest: the array of batch ``key % length``, by key.
    """
    rng = np.random.default_rng(0)
    held: dict[int, Any] = {}
    for epoch in range(2):
        for index, batch in enumerate(loader):
            assert batch["parts"][0] == index
            held[epoch * length + index] = batch["x"]
            if len(held) > 200:
                for key in rng.permutation(list(held))[:150].tolist():
                    array = np.asarray(held.pop(key))
                    assert array[0] == array[-1] == key % length
    assert held
    return held
