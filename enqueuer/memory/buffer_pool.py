"""Warm memory for large batches that go over a network or came over it: mapped once, filled again and again.

Freshly mapped memory fills at a tenth of the speed of memory that is in use already, and the C library maps what is
larger than 32 MB anew each time.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections import defaultdict, deque
from typing import TypeAlias

# The trainer holds one or two batches, and one is being put together. A worker keeps each until it is acknowledged.
_FREE_OF_A_SIZE = 8
_FREE_BYTES = 256 * 1024 * 1024

_Exporter: TypeAlias = "ctypes.Array[ctypes.c_char]"


class BufferPool:
    """Buffers that come back by themselves when the last view on them has gone. For any number of threads."""

    def __init__(self) -> None:
        self._free: dict[int, deque[mmap.mmap]] = defaultdict(deque)
        self._free_bytes = 0
        # What refers to the buffers that are out, for what it does when they are not any more.
        self._out: dict[int, weakref.ref[_Exporter]] = {}

    def take(self, nbytes: int) -> memoryview:
        """A writable buffer on a page of its own, with whatever was in it before. Raises MemoryError."""
        stride = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            memory = self._free[stride].pop()
            self._free_bytes -= stride
        except IndexError:
            memory = _map(stride)
        exporter = (ctypes.c_char * nbytes).from_buffer(memory)

        def come_back(_: object) -> None:
            del self._out[id(memory)]
            self._put_back(memory)

        self._out[id(memory)] = weakref.ref(exporter, come_back)
        return memoryview(exporter).cast("B")

    def clear(self) -> None:
        """Give back to the system what is free."""
        for free in list(self._free.values()):
            free.clear()
        self._free_bytes = 0

    def _put_back(self, memory: mmap.mmap) -> None:
        # Without a lock, since a view may die anywhere: the sum is a little off at worst.
        if len(self._free[len(memory)]) == _FREE_OF_A_SIZE:
            return
        if self._free_bytes + len(memory) > _FREE_BYTES:
            self.clear()  # of sizes that are not used any more, as a rule
        self._free[len(memory)].append(memory)
        self._free_bytes += len(memory)


def _map(nbytes: int) -> mmap.mmap:
    """Private: a forked child keeps what it has of a batch when this process fills the buffer again, and fills its own.
    So it also counts as the process's data, where that is limited.
    """
    try:
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no memory for a buffer of {nbytes} bytes ({error.strerror})") from error


# Of the process, like the C library's own; `clear` after a session.
pool = BufferPool()
