"""Who computes one batch for longer than ``batch_timeout``. Time is an argument; somebody else looks and acts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Task = TypeVar("Task", bound=Hashable)

# Ten looks a time-out: one is noticed at most a tenth, and one look, late.
_LOOKS_COUNT = 10
_LEAST_INTERVAL = 0.02
_LONGEST_INTERVAL = 1.0
# What lies between two looks counts as this many intervals at most: whoever looks may have been stopped or asleep, and
# those who compute with it.
_MOST_INTERVALS = 2


class OverdueWatch(Generic[Task]):
    """Times tasks by looking at what runs, every `interval` seconds. Without a time-out there is nothing to look at."""

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
        """Another time-out, None for none. Then everything starts anew; the one that is set already changes nothing."""
        if timeout != self._timeout:
            self._timeout = timeout
            self._seconds.clear()
            self._looked_at = -math.inf

    def next_look(self) -> float:
        return math.inf if self._timeout is None else self._looked_at + self.interval

    def look(self, running: Iterable[Task], now: float) -> list[Task]:
        """``running`` is all that is computed at this moment; returns what has been so for longer than the time-out.

        A task counts from the first look that finds it, and is named by every look until it is not running any more.
        """
        if self._timeout is None:
            return []
        passed = min(now - self._looked_at, _MOST_INTERVALS * self.interval)
        self._looked_at = now
        known = self._seconds
        self._seconds = {task: known[task] + passed if task in known else 0.0 for task in running}
        return [task for task, seconds in self._seconds.items() if seconds > self._timeout]
