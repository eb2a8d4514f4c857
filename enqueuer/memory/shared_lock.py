"""A lock among processes with one inherited nameless file: a supervisor's workers."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import AbstractContextManager, nullcontext

# Only a worker that was stopped in between holds the lock for longer.
_PATIENCE_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 0.001


def make_lock_file() -> int | None:
    """A descriptor for `SharedLock` that child processes inherit; None if this system has no nameless files."""
    return os.memfd_create("enqueuer-lock", os.MFD_CLOEXEC) if hasattr(os, "memfd_create") else None


def shared_lock(fd: int | None) -> AbstractContextManager[None]:
    """The lock of this descriptor; without a descriptor, a lock that is always free."""
    return nullcontext() if fd is None else SharedLock(fd)


class SharedLock(AbstractContextManager[None]):
    """A lock for one thread of each process; the kernel does not distinguish the threads of a process.

    Entering it raises OSError if another process holds it for half a second. The death of its holder frees it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except (BlockingIOError, PermissionError) as error:  # POSIX allows either
                if time.monotonic() >= deadline:
                    raise OSError("another worker holds the memory lock") from error
            time.sleep(_LOOK_AGAIN_SECONDS)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)
