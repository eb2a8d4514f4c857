"""The lease that a worker is computing, in memory that its supervisor can still read after a crash."""

from __future__ import annotations

import mmap
import struct

_LEASE = struct.Struct("=Q")
RUNNING_BYTES = _LEASE.size


class RunningLease:
    """The worker's side: 0 is for none."""

    def __init__(self, fd: int | None) -> None:
        """``fd`` is a file of at least `RUNNING_BYTES` that the supervisor holds as well; None: nobody looks."""
        self._memory = mmap.mmap(-1 if fd is None else fd, RUNNING_BYTES)

    def set(self, lease: int) -> None:
        _LEASE.pack_into(self._memory, 0, lease)

    def get(self) -> int:
        return read_running(self._memory)


def read_running(memory: bytes | mmap.mmap) -> int:
    """The lease in such a memory."""
    return int(_LEASE.unpack_from(memory)[0])
