"""The time limit for one batch (``batch_timeout``): a worker beyond it is asked for its stack, then killed.

    running ── time-out ──► asked for its stack ── stack complete, or 0.5 s later ──► killed
       ▲                          │
       └──── finished the item ───┘

The supervisor enforces it, not the worker: user code that holds the GIL stops every thread of its own process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from enqueuer.compute.overdue import OverdueWatch
from enqueuer_worker.running import Running
from enqueuer_worker.supervisor.children import Child

# A worker writes its stack in about 1 ms. A stopped process, or one that ignores the signal, never does.
_STACK_SECONDS = 0.5
_STACK_POLL_SECONDS = 0.005


@dataclass(slots=True)
class _Overdue:
    """A worker asked for its stack, and perhaps killed since."""

    # The overdue task.
    running: Running
    kill_at: float
    stack: str = ""
    killed: bool = False


@dataclass(frozen=True, slots=True)
class LastItem:
    """The last item of an ended worker: its lease (0: none), whether it took too long, and then the stack."""

    lease: int
    timed_out: bool = False
    stack: str = ""


class TimeLimit:
    """The supervisor's thread calls `enforce` in each round, by `next_deadline` at the latest."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # Tasks are known by incarnation and number.
        self._watch: OverdueWatch[tuple[bytes, int]] = OverdueWatch()
        # By incarnation.
        self._overdue: dict[bytes, _Overdue] = {}
        self._poll_at = math.inf

    def next_deadline(self) -> float:
        """When `enforce` is to be called even if nothing happens."""
        return min(self._watch.next_look(), self._poll_at)

    def enforce(self, children: Sequence[Child], timeout: float | None, now: float) -> None:
        """Ask newly overdue workers for their stacks, and kill those that wrote it. ``timeout`` None: no limit."""
        self._watch.limit(timeout)
        if now >= self._watch.next_look():
            running = {child.incarnation: child.running() for child in children}
            tasks = [(incarnation, state.task) for incarnation, state in running.items() if state.task]
            overdue = {incarnation for incarnation, _ in self._watch.look(tasks, now)}
            for child in children:
                if child.incarnation in overdue and child.incarnation not in self._overdue:
                    child.ask_for_stack()
                    self._overdue[child.incarnation] = _Overdue(running[child.incarnation], now + _STACK_SECONDS)
        self._poll_at = math.inf
        if self._overdue:
            for child in children:
                self._kill_if_overdue(child, now)

    def last_item(self, child: Child) -> LastItem:
        """Return the last item of an ended worker, and forget the worker."""
        running, overdue = child.running(), self._overdue.pop(child.incarnation, None)
        if overdue is None:
            return LastItem(running.lease)
        if running.task != overdue.running.task:
            # The worker finished the overdue item just before it was killed; the next item is not to blame.
            return LastItem(0)
        return LastItem(running.lease, timed_out=True, stack=overdue.stack or child.stack()[0])

    def _kill_if_overdue(self, child: Child, now: float) -> None:
        overdue = self._overdue.get(child.incarnation)
        if overdue is None or overdue.killed:
            return
        if child.running().task != overdue.running.task:
            self._logger.info("worker %d has finished its batch after all", child.number)
            del self._overdue[child.incarnation]
            return
        overdue.stack, complete = child.stack()
        if complete or now >= overdue.kill_at:
            child.kill()
            overdue.killed = True
            self._logger.warning("worker %d takes longer than batch_timeout for a batch: killed", child.number)
            self._logger.info("worker %d was here: %s", child.number, overdue.stack or "(it wrote no stack)")
        else:
            self._poll_at = now + _STACK_POLL_SECONDS
