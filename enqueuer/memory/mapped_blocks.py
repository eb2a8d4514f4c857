"""The trainer's side of its workers' arenas: views on blocks that say themselves when the last of them has gone."""

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

# Of a worker's making, and only address space: as large as anything that could be one batch.
_LARGEST_SLAB_BYTES = 64 * 1024**3
_Key = tuple[bytes, int]
_Exporter: TypeAlias = "ctypes.Array[ctypes.c_char]"


class MappedBlocks:
    """The slabs that workers have shown. `add`, `open`, `forget` and `close` are for one thread; views may die in any.

    A block is returned to its worker by clearing its word, once nothing refers to it here any more. What is in use when
    this process forks is never returned, since the child may still look at it.
    """

    def __init__(self) -> None:
        self._slabs: dict[bytes, _MappedSlab] = {}
        # Of each block: the last use that was seen, over or not.
        self._newest: dict[_Key, _Use] = {}
        self._kept: set[_Key] = set()
        _all_mapped.add(self)

    def add(self, owner: bytes, slab_id: bytes, fd: int) -> None:
        """Map a worker's new slab. Raises OSError where that cannot be, or is not safe."""
        if slab_id in self._slabs:
            raise OSError("a slab of that id is there already")
        self._slabs[slab_id] = _MappedSlab(owner, fd)

    def open(self, owner: bytes, blocks: Sequence[tuple[BlockRef, Sequence[int]]]) -> list[list[memoryview]]:
        """Of each block, writable views of buffers of these sizes; it stays in use until the last one has gone.

        Raises OSError where there is no such block of this owner's. Then none is opened: it would be returned at once,
        and filled with something else before its worker sends again what was in it.
        """
        slabs = [self._check(owner, ref, aligned_offsets(sizes)[1]) for ref, sizes in blocks]
        return [self._views(slab, ref, sizes) for slab, (ref, sizes) in zip(slabs, blocks, strict=True)]

    def _check(self, owner: bytes, ref: BlockRef, nbytes: int) -> _MappedSlab:
        slab = self._slabs.get(ref.slab_id)
        if slab is None or slab.owner != owner:
            raise OSError("it names a slab that it never showed")
        if ref.offset % PAGE or not 0 <= ref.offset <= slab.nbytes - ALIGNMENT - nbytes:
            raise OSError(f"a batch of {nbytes} bytes at {ref.offset} is not within its slab")
        return slab

    def _views(self, slab: _MappedSlab, ref: BlockRef, sizes: Sequence[int]) -> list[memoryview]:
        offsets, nbytes = aligned_offsets(sizes)
        contents = memoryview(self._exporter(slab, ref, nbytes, ref.offset + ALIGNMENT)).cast("B")
        return [contents[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True)]

    def forget(self, owners: Container[bytes]) -> None:
        """Drop the slabs of these owners; what is still in use of them keeps its memory."""
        self._slabs = {key: slab for key, slab in self._slabs.items() if slab.owner not in owners}
        self._newest = {key: use for key, use in self._newest.items() if key[0] in self._slabs}

    def close(self) -> None:
        """Forget all slabs; what is still in use of them keeps its memory."""
        self._slabs.clear()
        self._newest.clear()

    def _exporter(self, slab: _MappedSlab, ref: BlockRef, nbytes: int, start: int) -> _Exporter:
        """What all views refer to. A message may come twice, but a use is returned once."""
        key = (ref.slab_id, ref.offset)
        newest = self._newest.get(key)
        if newest is not None and newest.number == ref.use:
            exporter = newest.reference()
            if exporter is not None and len(exporter) == nbytes:
                return exporter
        exporter = (ctypes.c_char * nbytes).from_buffer(slab.mapping, start)
        # Else the message is one that came twice, and nobody will look at what it names.
        if newest is None or newest.number < ref.use:
            self._newest[key] = _Use(weakref.ref(exporter, self._returner(slab, key)), ref.use)
        return exporter

    def _returner(self, slab: _MappedSlab, key: _Key) -> Callable[[object], None]:
        """What happens when the last view has gone, in whatever thread: no lock, no system call."""
        kept, words, word = self._kept, slab.words, key[1] // WORD_BYTES

        def give_back(_: object) -> None:
            if key not in kept:
                words[word] = 0

        return give_back

    def keep_for_good(self) -> None:
        """What is in use now is never returned."""
        self._kept.update(key for key, use in list(self._newest.items()) if use.reference() is not None)


class _Use(NamedTuple):
    reference: weakref.ref[_Exporter]
    number: int


class _MappedSlab:
    """One slab of a worker's, mapped to read and write: its arrays belong to the trainer while they are in use."""

    def __init__(self, owner: bytes, fd: int) -> None:
        # Without the seal whoever made it could cut it off, and reading it would kill this process; so would memory of
        # huge pages of which there are none left. What is no memfd has no seals.
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise OSError("a slab is not sealed")
        status = os.fstat(fd)
        if status.st_blksize != PAGE or status.st_size > _LARGEST_SLAB_BYTES:
            raise OSError("a slab is of other pages than the system's, or larger than any")
        if status.st_size == 0 or status.st_size % PAGE:
            raise OSError(f"a slab of {status.st_size} bytes is not made of whole pages")
        self.owner = owner
        self.nbytes = status.st_size
        self.mapping = mmap.mmap(fd, self.nbytes)
        self.words = memoryview(self.mapping).cast("Q")


_all_mapped: weakref.WeakSet[MappedBlocks] = weakref.WeakSet()


def _keep_all_for_good() -> None:
    for mapped in list(_all_mapped):
        mapped.keep_for_good()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_keep_all_for_good, after_in_child=_keep_all_for_good)
