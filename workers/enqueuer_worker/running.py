"""The running lease of a worker, readable by its supervisor even when the worker is stuck or dead.

Worker and supervisor share one nameless file. Its first bytes hold the running task and lease, then the work done so
far, then the trainer's reason for a rejection, if there was one. At the end the worker appends its stack
whenever the supervisor sends it `STACK_SIGNAL`.

    │ task │ lease │ items │ busy │ rejection │ stack, stack, …
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
# Items computed, and the nanoseconds that they took.
_WORK = struct.Struct("@QQ")
_WORK_OFFSET = _RUNNING.size
RUNNING_BYTES = _WORK_OFFSET + _WORK.size
# Both at once, since each item changes both.
_TASK_AND_WORK = struct.Struct("@QQQQ")
# A rejection may carry the traceback of a Sequence that cannot be built.
_REJECTION_BYTES = 16 * 1024
SHARED_BYTES = RUNNING_BYTES + _REJECTION_BYTES
STACK_SIGNAL = signal.SIGUSR2


class Running(NamedTuple):
    """A worker's running task and its lease.

    ``task`` counts the tasks this process has begun (0: idle), so unlike a lease's number it never comes again in
    another session. ``lease`` is 0 for a task of an earlier session.
    """

    task: int
    lease: int


class Work(NamedTuple):
    """The items that a worker has computed, and the seconds that they took together."""

    items_count: int
    busy_seconds: float

    def since(self, earlier: Work) -> Work:
        """The work after an earlier look."""
        return Work(self.items_count - earlier.items_count, self.busy_seconds - earlier.busy_seconds)


class RunningLease:
    """The worker's side, for writing: the compute thread sets the lease, and the I/O loop disowns it."""

    def __init__(self, fd: int | None) -> None:
        """``fd`` is a file of at least `SHARED_BYTES`, shared with the supervisor; None: memory of its own."""
        self._memory = mmap.mmap(-1 if fd is None else fd, SHARED_BYTES)
        self._tasks_count = 0
        self._items_count = self._busy_ns = 0

    def set(self, lease: int) -> None:
        """Begin a task for this lease; 0: become idle. Shows the work so far."""
        task = 0
        if lease:
            task = self._tasks_count = self._tasks_count + 1
        _TASK_AND_WORK.pack_into(self._memory, 0, task, lease, self._items_count, self._busy_ns)

    def note_item(self, seconds: float) -> None:
        """Count an item that was computed in this time; the next `set` shows it."""
        self._items_count += 1
        self._busy_ns += int(seconds * 1e9)

    def disown(self) -> None:
        """Let the running task go on without a lease, since its session has ended."""
        _RUNNING.pack_into(self._memory, 0, read_running(self._memory).task, 0)

    def get(self) -> int:
        """The running lease, 0 for none."""
        _, lease = _RUNNING.unpack_from(self._memory)
        return int(lease)

    def set_rejection(self, reason: str) -> None:
        """Leave the trainer's reason for the supervisor; of a long one the end is cut off."""
        encoded = reason.encode(errors="replace")[:_REJECTION_BYTES]
        self._memory[RUNNING_BYTES : RUNNING_BYTES + len(encoded)] = encoded


def read_running(memory: bytes | mmap.mmap) -> Running:
    """Read the first `RUNNING_BYTES` of such a file."""
    return Running(*_RUNNING.unpack_from(memory))


def read_rejection(shared: bytes) -> str:
    """Read the reason of a rejection from the first `SHARED_BYTES` of such a file; '' if there was none."""
    return shared[RUNNING_BYTES:SHARED_BYTES].rstrip(b"\0").decode(errors="replace")


def read_work(memory: bytes | mmap.mmap) -> Work:
    """Read the work from the first `RUNNING_BYTES` of such a file."""
    items_count, busy_ns = _WORK.unpack_from(memory, _WORK_OFFSET)
    return Work(items_count, busy_ns / 1e9)


def show_stack_when_asked(fd: int) -> None:
    """Have `STACK_SIGNAL` append the main thread's stack to this file, even while user code holds the GIL."""
    os.lseek(fd, SHARED_BYTES, os.SEEK_SET)
    faulthandler.register(STACK_SIGNAL, file=fd, all_threads=False, chain=False)
