"""Arrays in deliberately shared memory of the trainer: worker processes on this host map the same memory.

    tensor.share_memory_(), multiprocessing.Array, SharedMemory ──► (process, descriptor or name, bytes from … to …)

Trainer and workers exchange values there, such as a cache filled in the first epoch or a level raised by the loop. A
copy would be silently wrong, so an array that cannot be shared is refused. Linux tells where memory is shared. Other
systems do not, so there such tensors are refused, and such arrays are copied.
"""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enqueuer.errors import ConfigurationError

_MAPS = Path("/proc/self/maps")
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S{4} ([0-9a-f]+) \S+ (\d+)\s*(.*)")


class _Mapping(NamedTuple):
    start: int
    stop: int
    offset: int
    inode: int
    path: str


class SharedMappings:
    """The shared mappings of this process, as they are during one pickle. With ``copies`` none can be shared.

    ``is_used``: an array lies in one of them.
    """

    def __init__(self, *, copies: bool = False) -> None:
        self._copies = copies
        self.is_used = False
        self._mappings: list[_Mapping] | None = None

    def check(self, array: np.ndarray[Any, Any] | None) -> None:
        """Raise ConfigurationError unless `reduce` shares this array, which is all of a shared tensor's memory; None:
        there is none.
        """
        if array is None:
            raise not_shared("a shared tensor must be contiguous and without a gradient or attributes")
        if array.size and self._mapping_at(array.__array_interface__["data"][0]) is None:
            raise not_shared("this system does not tell where it is")

    def reduce(self, array: np.ndarray[Any, Any]) -> Any:
        """Reduce an array in shared memory; NotImplemented for any other.

        Raises ConfigurationError if workers cannot map the memory.
        """
        if array.size == 0 or not _is_foreign(array):
            return NotImplemented
        address = array.__array_interface__["data"][0]
        mapping = self._mapping_at(address)
        if mapping is None:
            return NotImplemented
        if self._copies:
            raise not_shared("workers on other hosts cannot map it")
        path = _path_for_workers(mapping)
        self.is_used = True
        place = (path, mapping.offset, mapping.stop - mapping.start, address - mapping.start)
        return _map_shared, (*place, array.shape, array.dtype, array.strides, array.flags.writeable)

    def holds(self, array: np.ndarray[Any, Any]) -> bool:
        """Whether the array lies in shared memory."""
        return self._mapping_at(array.__array_interface__["data"][0]) is not None

    def _mapping_at(self, address: int) -> _Mapping | None:
        if self._mappings is None:
            self._mappings = _shared_mappings()
        return next((one for one in self._mappings if one.start <= address < one.stop), None)


def _is_foreign(array: np.ndarray[Any, Any]) -> bool:
    """Whether the array lies on memory of another object than an array."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base is not None and not isinstance(base, bytes | bytearray)


def _shared_mappings() -> list[_Mapping]:
    try:
        lines = _MAPS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        if " rw-s " not in line:
            continue
        match = _LINE.match(line)
        if match is not None:
            start, stop, offset = (int(match[group], 16) for group in (1, 2, 3))
            found.append(_Mapping(start, stop, offset, int(match[4]), match[5].replace("\\012", "\n")))
    return found


def _path_for_workers(mapping: _Mapping) -> str:
    """The path under which another process of this user opens the file of the mapping, even without a name."""
    try:
        if Path(mapping.path).stat().st_ino == mapping.inode:
            return mapping.path
    except OSError:
        pass
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if os.fstat(int(descriptor.name)).st_ino == mapping.inode and str(descriptor.readlink()) == mapping.path:
                return f"/proc/{os.getpid()}/fd/{descriptor.name}"
        except OSError:
            continue  # it was closed meanwhile
    raise not_shared(f"no open file leads to it ({mapping.path or 'it has no name'})")


def not_shared(reason: str) -> ConfigurationError:
    """The error for shared memory that a worker cannot map."""
    return ConfigurationError(
        "the Sequence has an array or tensor in memory that the trainer shares (share_memory_(), "
        f"multiprocessing.Array), and worker processes cannot share it: {reason}. A copy would be another array. Use "
        "local workers on Linux, multiprocessing.shared_memory, a np.memmap, or threads (use_multiprocessing=False)"
    )


def _map_shared(
    path: str, offset: int, length: int, first: int, shape: Any, dtype: Any, strides: Any, is_writeable: bool
) -> np.ndarray[Any, Any]:
    with Path(path).open("r+b", buffering=0) as file:
        # A mapping ends with its page, and may be longer than its file.
        length = min(length, os.fstat(file.fileno()).st_size - offset)
        mapped = mmap.mmap(file.fileno(), length, offset=offset)
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, buffer=mapped, offset=first, strides=strides)
    array.flags.writeable = is_writeable
    return array
