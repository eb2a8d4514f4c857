"""Warm memory for large batches that are sent to or received from a network: mapped once, filled again and again.

Freshly mapped memory fills at a tenth of the speed of warm memory, and the C library maps each allocation above 32 MB
anew.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections import defaultdict, deque
from typing import TypeAlias

# A trainer holds one or two batches while another one is received. A worker keeps each batch until it is acknowledged.
_FREE_OF_A_SIZE = 8
_FREE_BYTES = 256 * 1024 * 1024

_Exporter: TypeAlias = "ctypes.Array[ctypes.c_char]"


class BufferPool:
    """Buffers that return to the pool by themselves when their last view is gone. For any number of threads."""

    def __init__(self) -> None:
        self._free: dict[int, deque[mmap.mmap]] = defaultdict(deque)
        self._free_bytes = 0
        # Weak references to the exporters of buffers in use; the callback returns the buffer to the pool.
        self._in_use: dict[int, weakref.ref[_Exporter]] = {}

    def take(self, nbytes: int) -> memoryview:
        """A writable buffer that begins on a page, with old contents. Raises MemoryError."""
        stride = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            memory = self._free[stride].pop()
            self._free_bytes -= stride
        except IndexError:
            memory = _map(stride)
        exporter = (ctypes.c_char * nbytes).from_buffer(memory)

        def come_back(_: object) -> None:
            del self._in_use[id(memory)]
            self._put_back(memory)

        self._in_use[id(memory)] = weakref.ref(exporter, come_back)
        return memoryview(exporter).cast("B")

    def clear(self) -> None:
        """Return all free buffers to the system."""
        for free in list(self._free.values()):
            free.clear()
        self._free_bytes = 0

    def _put_back(self, memory: mmap.mmap) -> None:
        # Without a lock, since a view may die anywhere, even inside this class; at worst the sum is slightly off.
        if len(self._free[len(memory)]) == _FREE_OF_A_SIZE:
            return
        if self._free_bytes + len(memory) > _FREE_BYTES:
            self.clear()  # mostly sizes that are no longer used
        self._free[len(memory)].append(memory)
        self._free_bytes += len(memory)


def _map(nbytes: int) -> mmap.mmap:
    """A private mapping: a forked child keeps its batch when this process fills the buffer again, and the other way
    round. Private memory counts as the process's data, where that is limited.
    """
    try:
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no memory for a buffer of {nbytes} bytes ({error.strerror})") from error


# One pool for the process, like the C library's allocator; `clear` it after a session.
pool = BufferPool()
