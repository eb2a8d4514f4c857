"""What the compute thread has to do, in order, and which lease it is doing now."""

from __future__ import annotations

import threading
from collections import deque
from itertools import repeat

from enqueuer.protocol.messages import Epoch
from enqueuer_worker.core.events import Compute, Prepare
from enqueuer_worker.running import RunningLease

# One lease: its session, its epoch, its number, and the index to compute for it. A bare tuple, since one is made for
# each batch, and a class of ours takes six times as long to make.
Item = tuple[bytes, Epoch, int, int]


class TaskQueue:
    """Filled and thinned out by whoever turns the I/O loop, worked off by the compute thread.

    Cancelled leases are taken out of the queue here, instead of being remembered as marks that nobody may ever come to
    clear. The running lease changes under the same lock: after ``cancel(None)`` it is never one of the old session's,
    whose numbers the next session uses again.
    """

    def __init__(self, running: RunningLease) -> None:
        self.running = running
        self.closed = False
        self._tasks: deque[Prepare | Item] = deque()
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Prepare | Compute) -> None:
        with self._lock:
            if isinstance(task, Prepare):
                self._tasks.append(task)
            else:
                leases = range(task.first_lease, task.first_lease + len(task.indices))
                self._tasks.extend(zip(repeat(task.session), repeat(task.epoch), leases, task.indices))
            self._news.notify()

    def cancel(self, leases: frozenset[int] | None) -> None:
        """Drop these leases where they still wait; None: everything."""
        with self._lock:
            if leases is None:
                self._tasks.clear()
                self.running.disown()
            else:
                self._tasks = deque(task for task in self._tasks if isinstance(task, Prepare) or task[2] not in leases)

    def close(self) -> None:
        """Have nothing more for anybody."""
        with self._lock:
            self.closed = True
            self._tasks.clear()
            self._news.notify()

    def take(self) -> Prepare | Item | None:
        """The next task, which becomes the running one; None if there is none now."""
        with self._lock:
            if not self._tasks:
                self.running.set(0)
                return None
            task = self._tasks.popleft()
            self.running.set(0 if isinstance(task, Prepare) else task[2])
            return task

    def wait(self) -> None:
        """Wait until there is a task, or the queue was closed."""
        with self._lock:
            while not self._tasks and not self.closed:
                self._news.wait()
