"""A worker's shared memory on its host: each batch is copied once into a reused block, and only its ref travels.

Pages are dear: memory that is mapped anew for each batch fills at a tenth of the speed of warm memory. So blocks are
reused. A block begins with one 64-bit word: the number of its use while the trainer may read it, 0 when it is free. The
worker sets it; the trainer clears it when its last array on the block has gone. No message and no lock is needed.

A slab is one memfd with blocks of one size: it has no name to sweep up after a crash, no ``/dev/shm`` limit, and is
sealed against shrinking, so that no reader of it can die of SIGBUS. ``slab_exchange.py`` brings it to the trainer.

A slab is block after block, each a multiple of the page size: the word, zeros up to 64 bytes, then the contents.
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
# Blocks share a slab: a descriptor for each, at both ends, would run into the system's limits.
_SLAB_BYTES = 256 * 1024 * 1024
# What a new block must leave of what machine and control group have left: as much again, and an eighth of all there is,
# but no more than this. Batches that then go through the socket need memory as well, and beyond a control group's limit
# the kernel kills.
_MOST_RESERVED = 1024 * 1024 * 1024
_RESERVED = 1 / 8
# A block that served nothing for this long gives its memory back. For as long nothing is asked for when there is none.
_IDLE_SECONDS = 10.0
# How often that is looked at, when a block is taken. By time, not by uses: 256 of them were minutes with large batches.
_SWEEP_SECONDS = 5.0


class BlockRef(NamedTuple):
    """Where a batch lies: ``offset`` is the block's in the slab, ``use`` the number in its word."""

    slab_id: bytes
    offset: int
    use: int


class Block:
    """A block that is in use: `contents` is writable, ``ref`` is what travels."""

    __slots__ = ("_slab", "contents", "ref")

    def __init__(self, slab: _Slab, offset: int, use: int) -> None:
        self._slab = slab
        start = offset + ALIGNMENT
        self.contents = slab.view[start : offset + slab.stride]
        self.ref = BlockRef(slab.id, offset, use)

    def release(self) -> None:
        """Nobody was told of it, and nobody will be."""
        self._slab.release(self.ref.offset)


class Arena:
    """All slabs of one worker for one session. Used by its compute thread only.

    ``show(slab id, fd)`` has the trainer map a new slab, or raises OSError. Under ``lock`` no other worker takes memory
    between the look at what there is and the taking; to enter it may raise OSError.
    """

    def __init__(self, show: Callable[[bytes, int], None], lock: AbstractContextManager[None] | None = None) -> None:
        self._show = show
        self._lock = nullcontext() if lock is None else lock
        self._slabs: dict[int, list[_Slab]] = {}
        self._uses = 0
        # No new memory is asked for before.
        self._full_until = 0.0
        self._has_warned = False
        self._sweep_at = 0.0

    @property
    def allocated_bytes(self) -> int:
        return sum(slab.allocated_bytes for slabs in self._slabs.values() for slab in slabs)

    def take(self, nbytes: int) -> Block | None:
        """A block for this many bytes of contents; None where none is free and there is no memory for another."""
        now = time.monotonic()
        self._uses += 1
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_SECONDS
            self._sweep(now - _IDLE_SECONDS)
        stride = _stride(nbytes + ALIGNMENT)
        # The first that is free: what is rarely needed stays behind, and can be given back.
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
                slab.give_memory_back(idle_since)


class _Slab:
    """One memfd, mapped here and by the trainer. It has pages only where a block was used. Raises OSError."""

    def __init__(
        self, stride: int, count: int, show: Callable[[bytes, int], None], lock: AbstractContextManager[None]
    ) -> None:
        self.id = os.urandom(SLAB_ID_BYTES)
        self._lock = lock
        self.stride = stride
        self._nbytes = count * stride
        # When each block was taken last; those that are not here have no pages.
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
        """A block that has pages and is free, from now on in this use; None if there is none."""
        for offset in range(0, self._nbytes, self.stride):
            # What has no pages must not get one by being looked at.
            if offset in self._taken_at and not self._words[offset // WORD_BYTES]:
                return self._take(offset, use, now)
        return None

    def take_new(self, use: int, now: float) -> Block | None:
        """The same of one that gets pages. Raises OSError if there is no memory for it."""
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

    def give_memory_back(self, idle_since: float) -> None:
        """The pages of blocks that were free since then go; the mappings stay, here and at the trainer."""
        for offset, taken_at in list(self._taken_at.items()):
            if taken_at <= idle_since and not self._words[offset // WORD_BYTES]:
                self._mapping.madvise(mmap.MADV_REMOVE, offset, self.stride)
                del self._taken_at[offset]

    def _populate(self, offset: int) -> None:
        """Have the pages before they are written to: a write that finds no memory kills."""
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
    """Where in a block's contents buffers of these sizes lie, each aligned, and the size of all of it.

    Both ends know by this where a buffer is.
    """
    offsets = []
    end = 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, end


def _stride(nbytes: int) -> int:
    """The block's size: at most an eighth more, so that batches of nearly one size share their blocks."""
    pages = -(-nbytes // PAGE)
    step = 1 << max(0, pages.bit_length() - 4)
    return -(-pages // step) * step * PAGE
