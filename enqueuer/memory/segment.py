"""Shared memory that one process fills and others on its host map: one copy of a dataset, however many workers.

    trainer   `SharedSegment.create` copies the parts into a file and makes it read-only
    worker    `map_segment(path)`, then `read_parts`: views on the same memory; a page that is written to is copied
    trainer   `SharedSegment.close`; the memory is freed when the last reader drops its mapping

On Linux the file is a memfd. It has no name to remove after a crash and no ``/dev/shm`` limit, and is sealed, so not
even its maker can change it under a reader. Elsewhere it is a file in a directory that only its owner may enter.

Layout: the number of parts and their sizes (64-bit, native order: the readers are on this host), then the parts, each
aligned to 64 bytes. The path is all that a reader needs.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from pickle import PickleBuffer
from typing import TypeAlias

import numpy as np

from enqueuer.errors import ConfigurationError
from enqueuer.host import available_bytes

Buffer: TypeAlias = bytes | memoryview

HAS_MEMFD = hasattr(os, "memfd_create")
# A cache line; SIMD loads and JAX's zero-copy imports need it, too.
ALIGNMENT = 64
_WORD_BYTES = 8
# Linux copies at most 2 GiB - 4 KiB in one call.
_WRITE_BYTES = 1 << 30
# The result of a comparison, a byte for each, stays in the cache: 10 GB/s, as with any size from here to 16 MiB.
_COMPARE_BYTES = 1 << 20


class SharedSegment:
    """The maker's handle. The memory lives until it is closed and the last reader has dropped its mapping.

    Readers pass ``path`` to `map_segment`. ``sizes`` are the parts' sizes in bytes, ``nbytes`` is that of the whole.
    """

    def __init__(self, fd: int, path: str, sizes: tuple[int, ...], nbytes: int, *, file: Path | None) -> None:
        self.path = path
        self.sizes = sizes
        self.nbytes = nbytes
        self._fd = fd
        self._file = file
        self._owner = os.getpid()
        self._mapping: mmap.mmap | None = None

    @classmethod
    def create(cls, parts: Sequence[Buffer], *, directory: Path) -> SharedSegment:
        """A segment with these contents (contiguous buffers, copied).

        Where the system has no memfd (macOS), the file is made in ``directory`` (0700, removed by the caller).
        Raises ConfigurationError if there is no room.
        """
        views = [_raw(part) for part in parts]
        sizes = tuple(view.nbytes for view in views)
        offsets, nbytes = _layout(sizes)
        free = available_bytes()
        if free is not None and nbytes > free:
            raise _no_room(nbytes, f"{free / 1e6:.0f} MB are free")
        fd, file = _open_memfd() if HAS_MEMFD else _open_file(directory)
        segment = cls(fd, f"/proc/{os.getpid()}/fd/{fd}" if file is None else str(file), sizes, nbytes, file=file)
        try:
            # write() and not a writable mapping: without memory it raises, where a mapping would kill with SIGBUS; and
            # contents can be sealed only while no writable mapping exists.
            os.ftruncate(fd, nbytes)
            _write(fd, memoryview(_header(sizes)), 0)
            for view, offset in zip(views, offsets, strict=True):
                _write(fd, view, offset)
            _make_read_only(fd, sealed=file is None)
        except BaseException as error:
            segment.close()
            if isinstance(error, OSError):
                raise _no_room(nbytes, error.strerror or str(error)) from error
            raise
        return segment

    def matches(self, parts: Sequence[Buffer], *, first: int = 0) -> bool:
        """Whether the contents, from part number ``first`` on, equal these parts, byte for byte.

        Runs at memory speed (10 GB/s).
        """
        views = [_raw(part) for part in parts]
        if tuple(view.nbytes for view in views) != self.sizes[first:]:
            return False
        if self._mapping is None:
            # Private although nothing is written: before Linux 6.7 a sealed memfd cannot be mapped shared.
            self._mapping = mmap.mmap(self._fd, self.nbytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        return all(_equal(own, other) for own, other in zip(read_parts(self._mapping)[first:], views, strict=True))

    def close(self) -> None:
        """Close the file; readers keep their mappings. May be called again, and in a forked child."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None
        if self._file is not None and os.getpid() == self._owner:
            self._file.unlink(missing_ok=True)

    def __del__(self) -> None:
        # Attributes are missing if __init__ failed; errors at interpreter exit are of no use.
        with contextlib.suppress(AttributeError, OSError):
            self.close()


def map_segment(path: str) -> mmap.mmap:
    """Map a segment privately (MAP_PRIVATE): a page that this process writes to is copied first.

    The mapping lives as long as anything made from it, such as the views of `read_parts`. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(fd)


def read_parts(mapping: mmap.mmap) -> list[memoryview]:
    """Views of the parts in a mapped segment."""
    view = memoryview(mapping)
    (count,) = np.frombuffer(view, dtype=np.uint64, count=1)
    sizes = np.frombuffer(view, dtype=np.uint64, count=int(count), offset=_WORD_BYTES).tolist()
    offsets, _ = _layout(sizes)
    return [view[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True)]


def _layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """The offset of each part, and the size of the whole; both follow from the sizes alone."""
    offsets = []
    end = _WORD_BYTES * (1 + len(sizes))
    for size in sizes:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        offsets.append(start)
        end = start + size
    return offsets, end


def _header(sizes: Iterable[int]) -> bytes:
    sizes = list(sizes)
    return np.array([len(sizes), *sizes], dtype=np.uint64).tobytes()


def _raw(part: Buffer) -> memoryview:
    """The bytes of a contiguous buffer, C or Fortran, of any item type."""
    return PickleBuffer(part).raw()


def _write(fd: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(fd, view[:_WRITE_BYTES], offset)
        view, offset = view[written:], offset + written


def _equal(own: memoryview, other: memoryview) -> bool:
    left, right = np.frombuffer(own, np.uint8), np.frombuffer(other, np.uint8)
    return all(
        np.array_equal(left[start : start + _COMPARE_BYTES], right[start : start + _COMPARE_BYTES])
        for start in range(0, len(left), _COMPARE_BYTES)
    )


def _open_memfd() -> tuple[int, None]:
    return os.memfd_create("enqueuer-sequence", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), None


def _open_file(directory: Path) -> tuple[int, Path]:
    fd, name = tempfile.mkstemp(prefix="sequence-", dir=directory)
    return fd, Path(name)


def _make_read_only(fd: int, *, sealed: bool) -> None:
    if not sealed:
        os.fchmod(fd, 0o400)
        return
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)


def _no_room(nbytes: int, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"no room for {nbytes / 1e6:.0f} MB of shared memory ({why}). Keep large data in files that __getitem__ opens "
        "(np.load with mmap_mode='r'), or use threads (use_multiprocessing=False)"
    )
