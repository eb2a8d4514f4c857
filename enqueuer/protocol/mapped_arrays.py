"""Arrays in mapped files: a worker on this host maps the file again, so neither side reads or copies it.

    np.memmap, np.load(mmap_mode=…), slices and views of them ──► (file, mode, bytes from … to …) + shape and strides
    several arrays in one mapping                             ──► one mapping in the worker, too

A worker maps as the trainer does, except that it makes no file. Modes:

    r, r+, w+   pages are shared with the file, so a worker sees what the trainer wrote
    c           pages that the trainer wrote are its own. A mapping with such pages is copied, as are those of files
                without a name, and all where the system does not tell (outside of Linux)
"""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enqueuer.errors import ConfigurationError

_DELETED = " (deleted)"
_MODES = {"r": mmap.ACCESS_READ, "r+": mmap.ACCESS_WRITE, "w+": mmap.ACCESS_WRITE, "c": mmap.ACCESS_COPY}


class MappedFiles:
    """The mapped files of one pickle. With ``copies``, their content travels instead."""

    def __init__(self, *, copies: bool = False) -> None:
        self._copies = copies
        # Kept referenced, or another object could get the id of one.
        self._roots: list[object] = []
        self._mappings: dict[int, _Mapping | None] = {}

    def reduce(self, array: np.ndarray[Any, Any]) -> Any:
        """Reduce an array of a mapped file. NotImplemented for any other plain array: it is copied.

        Raises ConfigurationError if the file is gone, or too short.
        """
        is_memmap = isinstance(array, np.memmap)
        copied = (_restore_memmap, (np.asarray(array),)) if is_memmap else NotImplemented
        root = None if self._copies else _root_of(array)
        mapping = None if root is None else self._mapping_of(root)
        if mapping is None or array.size == 0:
            return copied
        first = array.__array_interface__["data"][0] - mapping.address
        steps = [(count - 1) * stride for count, stride in zip(array.shape, array.strides, strict=True)]
        low = first + sum(step for step in steps if step < 0)
        if not 0 <= low <= first + sum(step for step in steps if step > 0) + array.itemsize <= mapping.length:
            return copied  # not in this mapping after all
        return _restore_mapped, (
            mapping,
            first,
            array.shape,
            array.dtype,
            array.strides,
            is_memmap,
            array.flags.writeable,
        )

    def _mapping_of(self, root: np.memmap[Any, Any]) -> _Mapping | None:
        mapped: Any = root._mmap  # type: ignore[attr-defined]
        if id(mapped) not in self._mappings:
            self._mappings[id(mapped)] = _describe(root, mapped)
            self._roots.append(mapped)
        return self._mappings[id(mapped)]


class _Mapping(NamedTuple):
    """One mapping of a file in the trainer. It unpickles to the same bytes of the file, mapped anew."""

    path: str
    mode: str
    start: int
    length: int
    # The place of the memmap's first element in the file, in bytes.
    offset: int
    address: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _map_again, (self.path, self.mode, self.start, self.length, self.offset)


def _root_of(array: Any) -> np.memmap[Any, Any] | None:
    """The memmap whose memory the array is in, if it is an array or a memmap."""
    while array is not None:
        if isinstance(array, np.memmap) and getattr(array, "_mmap", None) is not None:
            return array
        # NumPy's sliding windows have a stand-in between them and the array.
        has_base = isinstance(array, np.ndarray) or type(array).__name__ == "DummyArray"
        array = getattr(array, "base", None) if has_base else None
    return None


def _describe(root: np.memmap[Any, Any], mapped: mmap.mmap) -> _Mapping | None:
    """The mapping, or None if its content must be copied."""
    if root.filename is None or root.mode not in _MODES:
        return None
    path, mode = Path(os.fsdecode(root.filename)), root.mode
    address = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    known = _look_up(address, with_dirt=mode == "c")
    if mode == "c" and (known is None or known.has_own_pages):
        return None
    if known is not None:
        if known.path.endswith(_DELETED):
            raise _gone(path, "it was deleted or replaced after it was mapped")
        now = Path(known.path)
        if now.exists() and not (path.exists() and path.samefile(now)):
            path = now  # it was renamed
    start = root.offset - root.offset % mmap.ALLOCATIONGRANULARITY
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _gone(path, str(error)) from error
    if size < start + len(mapped):
        raise _gone(path, f"it has {size} bytes now, and {start + len(mapped)} are mapped")
    return _Mapping(str(path), "r+" if mode == "w+" else mode, start, len(mapped), root.offset, address)


def _gone(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the Sequence has a memory-mapped array of the file {path}, and worker processes cannot map that again: "
        f"{reason}. Keep the file as it is until the enqueuer has stopped, or load the array into memory"
    )


# ---------------------------------------------------------------- asking the system


class _Known(NamedTuple):
    path: str
    has_own_pages: bool


def _look_up(address: int, *, with_dirt: bool) -> _Known | None:
    """Linux's record of the mapping at this address; None if it cannot be asked."""
    path, is_there, has_own_pages = "", False, False
    try:
        with Path("/proc/self/smaps" if with_dirt else "/proc/self/maps").open(errors="surrogateescape") as lines:
            for line in lines:
                bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
                if bounds is not None:
                    if is_there:
                        break
                    if int(bounds[1], 16) <= address < int(bounds[2], 16):
                        is_there = True
                        path = _unescape(line.rstrip("\n").split(maxsplit=5)[5:])
                elif is_there and line.startswith("Anonymous:"):
                    has_own_pages = int(line.split()[1]) > 0
    except OSError:
        return None
    return _Known(path, has_own_pages) if is_there else None


def _unescape(rest: list[str]) -> str:
    return rest[0].replace("\\012", "\n") if rest else ""


# ---------------------------------------------------------------- in the worker


class _MappedAgain(NamedTuple):
    mapped: mmap.mmap
    path: str
    mode: str
    offset: int


def _map_again(path: str, mode: str, start: int, length: int, offset: int) -> _MappedAgain:
    with Path(path).open("r+b" if mode == "r+" else "rb") as file:
        mapped = mmap.mmap(file.fileno(), length, access=_MODES[mode], offset=start)
    return _MappedAgain(mapped, path, mode, offset)


def _restore_mapped(
    again: _MappedAgain, first: int, shape: Any, dtype: Any, strides: Any, is_memmap: bool, is_writeable: bool
) -> np.ndarray[Any, Any]:
    kind: Any = np.memmap if is_memmap else np.ndarray
    array: Any = np.ndarray.__new__(kind, shape, dtype, buffer=again.mapped, offset=first, strides=strides)
    if is_memmap:
        array._mmap, array.filename = again.mapped, again.path
        array.mode, array.offset = again.mode, again.offset
    if not is_writeable:
        array.flags.writeable = False
    restored: np.ndarray[Any, Any] = array
    return restored


def _restore_memmap(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The copied array, as a memmap like the original."""
    return array.view(np.memmap)
