"""Detects threads of the trainer that hold the interpreter while the training waits for a batch.

Such a thread delays each turn of the I/O thread by the interpreter's switch interval (5 ms) or more, and no counter of
batches shows the delay. So the I/O thread sleeps for a moment, without the interpreter, and measures how late the
interpreter comes back. A waiting consumer does not hold the interpreter, so the holder is another thread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_LOOK_SECONDS = 1.0
# Long enough for another thread to take the interpreter.
_SLEEP_SECONDS = 0.0005
# This thread's nanoseconds with a processor, and nanoseconds of waiting for a free one.
_SCHEDULE = Path("/proc/thread-self/schedstat")


class InterpreterProbe:
    """Counts the probes, and those that found the interpreter held by another thread.

    The I/O thread calls `look` in each of its turns.
    """

    def __init__(self, now: float) -> None:
        self.probes_count = self.held_count = 0
        self._look_at = now

    def look(self, now: float, *, is_waiting: bool) -> None:
        """Probe once a second at most, and only while a consumer waits."""
        if is_waiting and now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self.probes_count += 1
            self.held_count += measure_delay() >= sys.getswitchinterval() / 2


def measure_delay() -> float:
    """How much later than asked a short sleep ends, in seconds; the wait for a free processor does not count."""
    starved, started = _starved_seconds(), time.monotonic()
    time.sleep(_SLEEP_SECONDS)
    late = time.monotonic() - started - _SLEEP_SECONDS
    return late - (_starved_seconds() - starved)


def _starved_seconds() -> float:
    """Seconds in which this thread waited for a free processor; 0.0 where unknown (not Linux)."""
    try:
        return int(_SCHEDULE.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
