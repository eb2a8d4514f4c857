"""What a worker is computing, in memory that its supervisor can still read when it is stuck or dead.

Behind that, the same nameless file takes the worker's stack when the supervisor asks for it with `STACK_SIGNAL`.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
from typing import NamedTuple

# The task first: of one that dies between the two it is then seen that the lease may be another task's.
_RUNNING = struct.Struct("@QQ")
RUNNING_BYTES = _RUNNING.size
STACK_SIGNAL = signal.SIGUSR2


class Running(NamedTuple):
    """``task`` counts what this process began, 0 for idle; a lease's number comes again in the next session, this one
    does not. A task that goes on for a session that has ended has no lease (0).
    """

    task: int
    lease: int


class RunningLease:
    """The worker's side: 0 is for none."""

    def __init__(self, fd: int | None) -> None:
        """``fd`` is a file of at least `RUNNING_BYTES` that the supervisor holds as well; None: nobody looks."""
        self._memory = mmap.mmap(-1 if fd is None else fd, RUNNING_BYTES)
        self._tasks_count = 0

    def set(self, lease: int) -> None:
        if lease:
            self._tasks_count += 1
        _RUNNING.pack_into(self._memory, 0, self._tasks_count if lease else 0, lease)

    def disown(self) -> None:
        """The session has ended: what goes on is nobody's lease any more, but the worker is not idle."""
        _RUNNING.pack_into(self._memory, 0, read_running(self._memory).task, 0)

    def get(self) -> int:
        _, lease = _RUNNING.unpack_from(self._memory)
        return int(lease)


def read_running(memory: bytes | mmap.mmap) -> Running:
    """What such a memory says."""
    return Running(*_RUNNING.unpack_from(memory))


def show_stack_when_asked(fd: int) -> None:
    """Have `STACK_SIGNAL` append the main thread's stack to this file, whoever holds the GIL."""
    os.lseek(fd, RUNNING_BYTES, os.SEEK_SET)
    faulthandler.register(STACK_SIGNAL, file=fd, all_threads=False, chain=False)
