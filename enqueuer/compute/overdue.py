"""Watches for tasks that run longer than ``batch_timeout``. Time is an argument; the caller looks and acts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Task = TypeVar("Task", bound=Hashable)

# Ten looks in one time-out: an overdue task is noticed at most a tenth of the time-out, and one look, late.
_LOOKS_COUNT = 10
_LEAST_INTERVAL = 0.02
_LONGEST_INTERVAL = 1.0
# The time between two looks counts as this many intervals at most: the watching process may have been stopped or
# asleep, and the watched tasks with it.
_MOST_INTERVALS = 2


class OverdueWatch(Generic[Task]):
    """Times tasks by a look at the running ones every `interval` seconds. Without a time-out it does nothing."""

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = timeout
        self._seconds: dict[Task, float] = {}
        self._looked_at = -math.inf

    @property
    def interval(self) -> float:
        """Seconds between two looks; infinite without a time-out."""
        if self._timeout is None:
            return math.inf
        return min(max(self._timeout / _LOOKS_COUNT, _LEAST_INTERVAL), _LONGEST_INTERVAL)

    def limit(self, timeout: float | None) -> None:
        """Set the time-out; None is none. A different time-out restarts the timing of all tasks."""
        if timeout != self._timeout:
            self._timeout = timeout
            self._seconds.clear()
            self._looked_at = -math.inf

    def next_look(self) -> float:
        """When `look` is due; infinite without a time-out."""
        return math.inf if self._timeout is None else self._looked_at + self.interval

    def look(self, running: Iterable[Task], now: float) -> list[Task]:
        """Return the tasks that have been running for longer than the time-out; ``running`` is all tasks running now.

        A task is timed from the first look that finds it. An overdue task is returned by every look until it ends.
        """
        if self._timeout is None:
            return []
        passed = min(now - self._looked_at, _MOST_INTERVALS * self.interval)
        self._looked_at = now
        known = self._seconds
        self._seconds = {task: known[task] + passed if task in known else 0.0 for task in running}
        return [task for task, seconds in self._seconds.items() if seconds > self._timeout]
