"""The trainer's side of its workers' arenas: views on blocks, and the return of a block after its last view.

`arena.py` tells a block's life; its part in the trainer is

    array ──► view ──► exporter ──► mapping of the slab
                          ┊ weak reference: its callback writes 0 into the block's word

All views of one use share one exporter (a ctypes array). When the last view dies, so does the exporter, in any thread;
the callback then returns the block, with no lock and no system call. Three cases are special:

- A message may arrive twice. Views that are opened again share the living exporter. If that is dead, or a newer use was
  seen, the new exporter has no callback: a use is returned once, and a newer use is never returned in its place.
- A forked child may read a block for as long as it lives. Blocks in use at a fork are never returned.
- A slab comes from another process, which may be faulty: `_MappedSlab` refuses a file that is not safe to map.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import weakref
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple, TypeAlias

from enqueuer.memory.arena import PAGE, WORD_BYTES, BlockRef, aligned_offsets
from enqueuer.memory.segment import ALIGNMENT

# Larger than any batch. The size is a worker's claim, and a mapping takes only address space.
_LARGEST_SLAB_BYTES = 64 * 1024**3
_Key = tuple[bytes, int]
_Exporter: TypeAlias = "ctypes.Array[ctypes.c_char]"


class MappedBlocks:
    """All slabs shown by workers. `add`, `open`, `forget` and `close` are for one thread; views may die in any."""

    def __init__(self) -> None:
        self._slabs: dict[bytes, _MappedSlab] = {}
        # The newest use of each block that was opened here, whether it has ended or not.
        self._newest: dict[_Key, _Use] = {}
        # Blocks that are never returned. Shared with the callbacks.
        self._kept: set[_Key] = set()
        # Bytes of all buffers that were opened here.
        self.opened_bytes = 0
        _all_mapped.add(self)

    def add(self, owner: bytes, slab_id: bytes, fd: int) -> None:
        """Map a worker's new slab. Raises OSError if it cannot be mapped, or not safely."""
        if slab_id in self._slabs:
            raise OSError("a slab with this id exists already")
        self._slabs[slab_id] = _MappedSlab(owner, fd)

    def open(self, owner: bytes, blocks: Sequence[tuple[BlockRef, Sequence[int]]]) -> list[list[memoryview]]:
        """Writable views of buffers of these sizes, for each block. A block stays in use until its last view is gone.

        Raises OSError if this owner has no such block. Then none of the blocks is opened: an opened block would be
        returned at once, and filled with another batch before its worker sends the lost one again.
        """
        slabs = [self._check(owner, ref, aligned_offsets(sizes)[1]) for ref, sizes in blocks]
        return [self._views(slab, ref, sizes) for slab, (ref, sizes) in zip(slabs, blocks, strict=True)]

    def _check(self, owner: bytes, ref: BlockRef, nbytes: int) -> _MappedSlab:
        slab = self._slabs.get(ref.slab_id)
        if slab is None or slab.owner != owner:
            raise OSError("the worker names a slab that it never showed")
        if ref.offset % PAGE or not 0 <= ref.offset <= slab.nbytes - ALIGNMENT - nbytes:
            raise OSError(f"a batch of {nbytes} bytes at {ref.offset} is not within its slab")
        return slab

    def _views(self, slab: _MappedSlab, ref: BlockRef, sizes: Sequence[int]) -> list[memoryview]:
        offsets, nbytes = aligned_offsets(sizes)
        self.opened_bytes += nbytes
        contents = memoryview(self._exporter(slab, ref, nbytes, ref.offset + ALIGNMENT)).cast("B")
        return [contents[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True)]

    def forget(self, owners: Container[bytes]) -> None:
        """Drop the slabs of these owners; blocks still in use keep their memory."""
        self._slabs = {key: slab for key, slab in self._slabs.items() if slab.owner not in owners}
        self._newest = {key: use for key, use in self._newest.items() if key[0] in self._slabs}

    def close(self) -> None:
        """Drop all slabs; blocks still in use keep their memory."""
        self._slabs.clear()
        self._newest.clear()

    def _exporter(self, slab: _MappedSlab, ref: BlockRef, nbytes: int, start: int) -> _Exporter:
        """The exporter of all views of one use, and the return of the block when it dies."""
        key = (ref.slab_id, ref.offset)
        newest = self._newest.get(key)
        if newest is not None and newest.number == ref.use:
            exporter = newest.reference()
            if exporter is not None and len(exporter) == nbytes:
                return exporter
        exporter = (ctypes.c_char * nbytes).from_buffer(slab.mapping, start)
        # Otherwise the message is a repeated one, and its batch is dropped.
        if newest is None or newest.number < ref.use:
            self._newest[key] = _Use(weakref.ref(exporter, self._returner(slab, key)), ref.use)
        return exporter

    def _returner(self, slab: _MappedSlab, key: _Key) -> Callable[[object], None]:
        """The callback that returns a block. It runs in whatever thread drops the last view."""
        kept, words, word = self._kept, slab.words, key[1] // WORD_BYTES

        def give_back(_: object) -> None:
            if key not in kept:
                words[word] = 0

        return give_back

    def keep_blocks_in_use(self) -> None:
        """Never return the blocks that are in use now."""
        self._kept.update(key for key, use in list(self._newest.items()) if use.reference() is not None)


class _Use(NamedTuple):
    reference: weakref.ref[_Exporter]
    number: int


class _MappedSlab:
    """One worker's slab, mapped writable: arrays on it belong to the trainer while they are in use."""

    def __init__(self, owner: bytes, fd: int) -> None:
        # Without the seal, its worker could shrink the file, and the next read would kill this process. So would huge
        # pages when the system has none left. A file that is no memfd has no seals: fcntl raises.
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise OSError("a slab is not sealed")
        status = os.fstat(fd)
        if status.st_blksize != PAGE or status.st_size > _LARGEST_SLAB_BYTES:
            raise OSError(f"a slab of {status.st_size} bytes has huge pages, or is larger than any batch")
        if status.st_size == 0 or status.st_size % PAGE:
            raise OSError(f"a slab of {status.st_size} bytes is not made of whole pages")
        self.owner = owner
        self.nbytes = status.st_size
        self.mapping = mmap.mmap(fd, self.nbytes)
        self.words = memoryview(self.mapping).cast("Q")


_all_mapped: weakref.WeakSet[MappedBlocks] = weakref.WeakSet()


def _keep_all_blocks_in_use() -> None:
    for mapped in list(_all_mapped):
        mapped.keep_blocks_in_use()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_keep_all_blocks_in_use, after_in_child=_keep_all_blocks_in_use)
