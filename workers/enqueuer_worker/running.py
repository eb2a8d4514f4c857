"""The running lease of a worker, readable by its supervisor even when the worker is stuck or dead.

Worker and supervisor share one nameless file. Its first bytes hold the running task and lease; behind them the worker
appends its stack whenever the supervisor sends it `STACK_SIGNAL`.

    │ task │ lease │ stack, stack, …
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
from typing import NamedTuple

# The task is written first: after a death between the two its new number shows that the lease may be the last one's.
_RUNNING = struct.Struct("@QQ")
RUNNING_BYTES = _RUNNING.size
STACK_SIGNAL = signal.SIGUSR2


class Running(NamedTuple):
    """A worker's running task and its lease.

    ``task`` counts the tasks this process has begun (0: idle), so unlike a lease's number it never comes again in
    another session. ``lease`` is 0 for a task of an earlier session.
    """

    task: int
    lease: int


class RunningLease:
    """The worker's side, for writing: the compute thread sets the lease, and the I/O loop disowns it."""

    def __init__(self, fd: int | None) -> None:
        """``fd`` is a file of at least `RUNNING_BYTES`, shared with the supervisor; None: memory of its own."""
        self._memory = mmap.mmap(-1 if fd is None else fd, RUNNING_BYTES)
        self._tasks_count = 0

    def set(self, lease: int) -> None:
        """Begin a task for this lease; 0: become idle."""
        if lease:
            self._tasks_count += 1
        _RUNNING.pack_into(self._memory, 0, self._tasks_count if lease else 0, lease)

    def disown(self) -> None:
        """Let the running task go on without a lease, since its session has ended."""
        _RUNNING.pack_into(self._memory, 0, read_running(self._memory).task, 0)

    def get(self) -> int:
        """The running lease, 0 for none."""
        _, lease = _RUNNING.unpack_from(self._memory)
        return int(lease)


def read_running(memory: bytes | mmap.mmap) -> Running:
    """Read the first `RUNNING_BYTES` of such a file."""
    return Running(*_RUNNING.unpack_from(memory))


def show_stack_when_asked(fd: int) -> None:
    """Have `STACK_SIGNAL` append the main thread's stack to this file, even while user code holds the GIL."""
    os.lseek(fd, RUNNING_BYTES, os.SEEK_SET)
    faulthandler.register(STACK_SIGNAL, file=fd, all_threads=False, chain=False)
