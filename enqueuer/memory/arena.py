"""A worker's shared memory on its host: each batch is copied once into a reused block, and only a `BlockRef` is sent.

A slab is one memfd that holds blocks of one size. It has no name to remove after a crash and no ``/dev/shm`` limit, and
is sealed against shrinking, so its readers cannot die of SIGBUS. Each block is a multiple of the page size:

    | word: use number, or 0 when free | zeros up to byte 64 | contents, each buffer aligned to 64 bytes |

One block's life:

    worker    `Arena.take` writes a new use number into a free block's word; the batch is copied into the contents
    worker    sends the `BlockRef` (slab, offset, use); the trainer has mapped the slab before (`slab_exchange.py`)
    trainer   `MappedBlocks.open` makes views on the contents (`mapped_blocks.py`)
    trainer   writes 0 into the word when its last view is gone: the block is free, without a message or a lock
    worker    takes the block again, or returns its pages to the system after ten idle seconds

Blocks are reused because freshly mapped memory fills at a tenth of the speed of warm memory.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from enqueuer.host import available_bytes, is_among_last, total_bytes
from enqueuer.memory.segment import ALIGNMENT

logger = logging.getLogger(__name__)

SLAB_ID_BYTES = 16
PAGE = mmap.PAGESIZE
WORD_BYTES = 8
# Many blocks share a slab: one descriptor a block, in both processes, would exceed the system's limits.
_SLAB_BYTES = 256 * 1024 * 1024
# Memory that must stay free when a block is populated: the block's size once more, and an eighth of the machine's or
# control group's memory up to this bound. Batches that then go through the socket need memory as well, and the kernel
# kills processes beyond a control group's limit.
_MOST_RESERVED = 1024 * 1024 * 1024
_RESERVED = 1 / 8
# A free block that was taken longer ago than this returns its pages. After a failed allocation, the next one is tried
# after the same time.
_IDLE_SECONDS = 10.0
# Time between two sweeps for idle blocks. A sweep every 256 uses came only after minutes with large batches.
_SWEEP_SECONDS = 5.0


class BlockRef(NamedTuple):
    """Names one use of a block: ``offset`` is the block's place in its slab, ``use`` the number in its word."""

    slab_id: bytes
    offset: int
    use: int


class Block:
    """A block in use: `contents` is writable, and ``ref`` is sent to the trainer."""

    __slots__ = ("_slab", "contents", "ref")

    def __init__(self, slab: _Slab, offset: int, use: int) -> None:
        self._slab = slab
        start = offset + ALIGNMENT
        self.contents = slab.view[start : offset + slab.stride]
        self.ref = BlockRef(slab.id, offset, use)

    def release(self) -> None:
        """Free the block. Only for a ``ref`` that was not sent and never will be."""
        self._slab.release(self.ref.offset)


class Arena:
    """All slabs of one worker for one session. Used by its compute thread only.

    ``show(slab id, fd)`` makes the trainer map a new slab, or raises OSError. ``lock`` is shared with the host's other
    workers: it is held from the check of free memory to the allocation. Entering it may raise OSError.
    """

    def __init__(self, show: Callable[[bytes, int], None], lock: AbstractContextManager[None] | None = None) -> None:
        self._show = show
        self._lock = nullcontext() if lock is None else lock
        self._slabs: dict[int, list[_Slab]] = {}
        self._uses = 0
        # No new memory is requested before this time.
        self._full_until = 0.0
        self._has_warned = False
        self._sweep_at = 0.0

    @property
    def allocated_bytes(self) -> int:
        return sum(slab.allocated_bytes for slabs in self._slabs.values() for slab in slabs)

    def take(self, nbytes: int) -> Block | None:
        """A block for ``nbytes`` of contents; None if no block is free and there is no memory for another."""
        now = time.monotonic()
        self._uses += 1
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_SECONDS
            self._sweep(now - _IDLE_SECONDS)
        stride = _stride(nbytes + ALIGNMENT)
        # First fit, so that rarely needed blocks stay idle and return their pages.
        for slab in self._slabs.get(stride, ()):
            block = slab.take_again(self._uses, now)
            if block is not None:
                return block
        if now < self._full_until:
            return None
        try:
            return self._take_new(stride, now)
        except OSError as error:
            self._full_until = now + _IDLE_SECONDS
            level = logging.DEBUG if self._has_warned else logging.WARNING
            self._has_warned = True
            logger.log(level, "no more shared memory for batches (%s): some go through the socket", str(error))
            return None

    def _take_new(self, stride: int, now: float) -> Block | None:
        for slab in self._slabs.get(stride, ()):
            block = slab.take_new(self._uses, now)
            if block is not None:
                return block
        slab = _Slab(stride, max(1, _SLAB_BYTES // stride), self._show, self._lock)
        self._slabs.setdefault(stride, []).append(slab)
        return slab.take_new(self._uses, now)

    def _sweep(self, idle_since: float) -> None:
        for slabs in self._slabs.values():
            for slab in slabs:
                slab.return_idle_pages(idle_since)


class _Slab:
    """One memfd, mapped here and by the trainer. Only blocks that were used have pages.

    Raises OSError if it cannot be made, or if the trainer does not map it.
    """

    def __init__(
        self, stride: int, count: int, show: Callable[[bytes, int], None], lock: AbstractContextManager[None]
    ) -> None:
        self.id = os.urandom(SLAB_ID_BYTES)
        self._lock = lock
        self.stride = stride
        self._nbytes = count * stride
        # When each block was taken last, by offset; a block without an entry has no pages.
        self._taken_at: dict[int, float] = {}
        self._fd = os.memfd_create("enqueuer-batches", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            if is_among_last(self._fd):
                raise OSError("hardly any file descriptors left (ulimit -n)")
            os.ftruncate(self._fd, self._nbytes)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._mapping = mmap.mmap(self._fd, self._nbytes)
            show(self.id, self._fd)
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise
        self.view = memoryview(self._mapping)
        self._words = self.view.cast("Q")

    @property
    def allocated_bytes(self) -> int:
        return len(self._taken_at) * self.stride

    def take_again(self, use: int, now: float) -> Block | None:
        """A free block that has pages, marked with ``use``; None if there is none."""
        for offset in range(0, self._nbytes, self.stride):
            # The word is read only where there are pages: reading it would allocate one.
            if offset in self._taken_at and not self._words[offset // WORD_BYTES]:
                return self._take(offset, use, now)
        return None

    def take_new(self, use: int, now: float) -> Block | None:
        """A block that has had no pages yet, populated and marked with ``use``; None if all blocks have pages.

        Raises OSError if there is no memory for it.
        """
        for offset in range(0, self._nbytes, self.stride):
            if offset not in self._taken_at:
                self._populate(offset)
                return self._take(offset, use, now)
        return None

    def _take(self, offset: int, use: int, now: float) -> Block:
        self._words[offset // WORD_BYTES] = use
        self._taken_at[offset] = now
        return Block(self, offset, use)

    def release(self, offset: int) -> None:
        self._words[offset // WORD_BYTES] = 0

    def return_idle_pages(self, idle_since: float) -> None:
        """Return the pages of free blocks that were taken before ``idle_since``; mappings stay, in both processes."""
        for offset, taken_at in list(self._taken_at.items()):
            if taken_at <= idle_since and not self._words[offset // WORD_BYTES]:
                self._mapping.madvise(mmap.MADV_REMOVE, offset, self.stride)
                del self._taken_at[offset]

    def _populate(self, offset: int) -> None:
        """Allocate a block's pages before they are written: a write that finds no memory kills the process."""
        with self._lock:
            free = available_bytes()
            if free is not None and free < self.stride + self._reserved():
                raise OSError(f"{self.stride / 1e6:.0f} MB more wanted, {free / 1e6:.0f} MB are free")
            os.posix_fallocate(self._fd, offset, self.stride)

    def _reserved(self) -> float:
        return max(self.stride, min(_MOST_RESERVED, _RESERVED * total_bytes()))

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)


def aligned_offsets(sizes: Iterable[int]) -> tuple[list[int], int]:
    """The aligned offsets of buffers of these sizes in a block's contents, and the size of the whole.

    Worker and trainer compute the same offsets from the sizes, so offsets are not sent.
    """
    offsets = []
    end = 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, end


def _stride(nbytes: int) -> int:
    """The size of a block for ``nbytes``: at most an eighth more, so that batches of similar sizes share blocks."""
    pages = -(-nbytes // PAGE)
    step = 1 << max(0, pages.bit_length() - 4)
    return -(-pages // step) * step * PAGE
