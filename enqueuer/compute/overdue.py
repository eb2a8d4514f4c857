"""Overdue tasks: watches for those that run longer than ``batch_timeout``, and describes where a thread is.

Time is an argument; the caller looks and acts.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import traceback
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

Task = TypeVar("Task", bound=Hashable)

# Ten looks in one time-out: an overdue task is noticed at most a tenth of the time-out, and one look, late.
_LOOKS_COUNT = 10
_LEAST_INTERVAL = 0.02
_LONGEST_INTERVAL = 1.0
# The time between two looks counts as this many intervals at most: the watching process may have been stopped or
# asleep, and the watched tasks with it.
_MOST_INTERVALS = 2
# The longest description of a stack.
_STACK_CHARACTERS = 16 * 1024
_LIBRARY = f"{Path(__file__).parent.parent}{os.sep}"


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


def describe_stack(thread: threading.Thread) -> str:
    """The stack of a running thread, from the user code that the library calls on; '' if it has ended.

    At most its last 16 384 characters: the innermost calls of an endless recursion.
    """
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    frames = list(traceback.extract_stack(frame))
    called = itertools.dropwhile(lambda summary: not summary.filename.startswith(_LIBRARY), frames)
    users = list(itertools.dropwhile(lambda summary: summary.filename.startswith(_LIBRARY), called))
    text = "".join(traceback.format_list(users or frames))
    return f"Stack (most recent call last):\n{text[-_STACK_CHARACTERS:]}"
