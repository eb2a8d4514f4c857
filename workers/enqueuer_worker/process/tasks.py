"""The queue of the compute thread's tasks, and its running lease."""

from __future__ import annotations

import threading
from collections import deque
from itertools import repeat

from enqueuer.protocol.messages import Epoch
from enqueuer_worker.core.events import Compute, Prepare
from enqueuer_worker.running import RunningLease

# One lease: its session, its epoch, its number, and the index to compute for it. A bare tuple, since one is made for
# each batch, and an instance of a class takes six times as long to make.
Item = tuple[bytes, Epoch, int, int]


class TaskQueue:
    """The I/O loop adds and cancels tasks, the compute thread takes them, in order.

    Cancelled leases leave the queue at once. (A mark for each would stay behind if its lease never comes.)
    The running lease changes under the queue's lock, so after ``cancel(None)`` it is never one of the old session:
    the next session uses the same numbers again.
    """

    def __init__(self, running: RunningLease) -> None:
        self.running = running
        self.closed = False
        self._tasks: deque[Prepare | Item] = deque()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Prepare | Compute) -> None:
        """Append a preparation, or one task for each index of a `Compute`."""
        with self._lock:
            if isinstance(task, Prepare):
                self._tasks.append(task)
            else:
                leases = range(task.first_lease, task.first_lease + len(task.indices))
                self._tasks.extend(zip(repeat(task.session), repeat(task.epoch), leases, task.indices))
            self._changed.notify()

    def cancel(self, leases: frozenset[int] | None) -> None:
        """Drop these leases where they still wait; None drops everything, and the running task loses its lease."""
        with self._lock:
            if leases is None:
                self._tasks.clear()
                self.running.disown()
            else:
                self._tasks = deque(task for task in self._tasks if isinstance(task, Prepare) or task[2] not in leases)

    def close(self) -> None:
        """Drop all tasks and end `wait`: the worker is leaving."""
        with self._lock:
            self.closed = True
            self._tasks.clear()
            self._changed.notify()

    def take(self) -> Prepare | Item | None:
        """Take the next task and make it the running one; None if there is none now."""
        with self._lock:
            if not self._tasks:
                self.running.set(0)
                return None
            task = self._tasks.popleft()
            self.running.set(0 if isinstance(task, Prepare) else task[2])
            return task

    def begin_again(self) -> None:
        """Count the running task as begun now: its item is computed a second time, and has its whole time for it."""
        with self._lock:
            self.running.set(self.running.get())

    def wait(self) -> None:
        """Wait until there is a task or the queue is closed."""
        with self._lock:
            while not self._tasks and not self.closed:
                self._changed.wait()
