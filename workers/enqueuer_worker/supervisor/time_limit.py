"""Ends the workers of a supervisor that compute one batch for too long, and says where each of them was.

The supervisor does that, not the worker: user code that holds the GIL stops every thread of its own process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from enqueuer.compute.overdue import OverdueWatch
from enqueuer_worker.running import Running
from enqueuer_worker.supervisor.children import Child

# Noting a stack takes a worker about 1 ms. One that is stopped or deaf is not waited for any longer than this.
_STACK_SECONDS = 0.5
_STACK_POLL_SECONDS = 0.005


@dataclass(slots=True)
class _Overdue:
    """A worker that was asked for its stack, or has been killed since."""

    running: Running
    kill_at: float
    stack: str = ""
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a worker that has ended was computing (a lease, 0 for none), and whether it took too long."""

    lease: int
    timed_out: bool = False
    stack: str = ""


class TimeLimit:
    """Used by the supervisor's thread, which calls `enforce` when it is awake, by `next_deadline` at the latest."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # By incarnation and task.
        self._watch: OverdueWatch[tuple[bytes, int]] = OverdueWatch()
        self._overdue: dict[bytes, _Overdue] = {}
        self._poll_at = math.inf

    def next_deadline(self) -> float:
        return min(self._watch.next_look(), self._poll_at)

    def enforce(self, children: Sequence[Child], timeout: float | None, now: float) -> None:
        """Ask who has just become overdue for its stack, and kill who has given it. None: nobody becomes overdue."""
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
                self._end(child, now)

    def verdict(self, child: Child) -> Verdict:
        """About a child that has ended, which is then forgotten."""
        running, overdue = child.running(), self._overdue.pop(child.incarnation, None)
        if overdue is None:
            return Verdict(running.lease)
        if running.task != overdue.running.task:
            # It got done in its last moment; what it began then is not to blame.
            return Verdict(0)
        return Verdict(running.lease, timed_out=True, stack=overdue.stack or child.stack()[0])

    def _end(self, child: Child, now: float) -> None:
        overdue = self._overdue.get(child.incarnation)
        if overdue is None or overdue.killed:
            return
        if child.running().task != overdue.running.task:
            self._logger.info("worker %d has got done after all", child.number)
            del self._overdue[child.incarnation]
            return
        overdue.stack, complete = child.stack()
        if complete or now >= overdue.kill_at:
            child.kill()
            overdue.killed = True
            self._logger.warning("worker %d takes longer than batch_timeout for a batch: killed", child.number)
            self._logger.info("worker %d was here: %s", child.number, overdue.stack or "(it did not say where)")
        else:
            self._poll_at = now + _STACK_POLL_SECONDS
