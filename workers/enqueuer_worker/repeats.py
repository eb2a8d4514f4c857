"""Notes that repeat themselves: each is logged in full once, then counted in one line.

The intervals double: a lasting cause is logged at once, after 10 s, 30 s, 70 s, and in the end every ten minutes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

_FIRST_INTERVAL = 10.0
_LONGEST_INTERVAL = 600.0
# Distinct causes that are remembered; the oldest is forgotten first.
_MOST_CAUSES = 100
_MINUTE = 60


@dataclass(slots=True)
class _Cause:
    since: float
    due_at: float
    interval: float = _FIRST_INTERVAL
    count: int = 0


class RepeatedNotes:
    """Logs a cause at once and in full, then as one line with a count: 10 s later, 20 s after that, up to 10 min."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._causes: dict[str, _Cause] = {}

    def note(self, level: int, summary: str, details: str, now: float, count: int = 1) -> None:
        """Log ``summary`` and ``details`` if the summary is new; otherwise count it, and log it when it is due.

        ``count``: how often it has happened since the last call.
        """
        cause = self._causes.get(summary)
        if cause is None:
            if len(self._causes) >= _MOST_CAUSES:
                del self._causes[next(iter(self._causes))]
            self._causes[summary] = _Cause(now, now + _FIRST_INTERVAL, count=count)
            self._logger.log(level, "%s%s", summary, details)
            return
        cause.count += count
        if now >= cause.due_at:
            cause.interval = min(2 * cause.interval, _LONGEST_INTERVAL)
            cause.due_at = now + cause.interval
            self._logger.log(level, "still: %s (%d times in %s)", summary, cause.count, duration(now - cause.since))

    def note_rejection(self, reason: str, now: float) -> None:
        """Log the trainer's reason for a rejection; the lines after its first one are logged once."""
        summary, _, more = reason.partition("\n")
        details = f"\n{more}" if more else ""
        self.note(logging.ERROR, f"the trainer rejected this worker: {summary}", details, now)

    def forget(self) -> None:
        """Begin anew: the next note of any cause is logged in full."""
        self._causes.clear()


def duration(seconds: float) -> str:
    """A time in words for a log line: '45 s', '12 min'."""
    return f"{seconds:.0f} s" if seconds < 2 * _MINUTE else f"{seconds / _MINUTE:.0f} min"
