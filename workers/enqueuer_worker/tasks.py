"""What the compute thread has to do, in order, and which lease it is doing now."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from enqueuer.protocol.messages import Epoch
from enqueuer_worker.running import RunningLease
from enqueuer_worker.worker_events import Compute, Prepare


@dataclass(slots=True)  # not frozen: that alone would treble the time to make one
class Item:
    """One lease and the index to compute for it."""

    session: bytes
    epoch: Epoch
    lease: int
    index: int


class TaskQueue:
    """Filled and thinned out by the I/O thread, worked off by the compute thread.

    Cancelled leases are taken out of the queue here, instead of being remembered as marks that nobody may ever come to
    clear. The running lease changes under the same lock: after ``cancel(None)`` it is never one of the old session's,
    whose numbers the next session uses again.
    """

    def __init__(self, running: RunningLease) -> None:
        self.running = running
        self._tasks: deque[Prepare | Item] = deque()
        self._condition = threading.Condition(threading.Lock())
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Prepare | Compute) -> None:
        with self._condition:
            if isinstance(task, Prepare):
                self._tasks.append(task)
            else:
                session, epoch = task.session, task.epoch
                leases = range(task.first_lease, task.first_lease + len(task.indices))
                self._tasks.extend(
                    Item(session, epoch, lease, index) for lease, index in zip(leases, task.indices, strict=True)
                )
            self._condition.notify()

    def cancel(self, leases: frozenset[int] | None) -> None:
        """Drop these leases where they still wait; None: everything."""
        with self._condition:
            if leases is None:
                self._tasks.clear()
                self.running.disown()
            else:
                self._tasks = deque(
                    task for task in self._tasks if isinstance(task, Prepare) or task.lease not in leases
                )

    def close(self) -> None:
        """Make `next` return None from now on."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def next(self) -> Prepare | Item | None:
        """Wait for the next task, which becomes the running one; None once the queue is closed."""
        with self._condition:
            while not self._tasks and not self._closed:
                self.running.set(0)
                self._condition.wait()
            if self._closed:
                self.running.set(0)
                return None
            task = self._tasks.popleft()
            self.running.set(0 if isinstance(task, Prepare) else task.lease)
            return task
