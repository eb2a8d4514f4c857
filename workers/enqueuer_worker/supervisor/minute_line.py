"""The supervisor's log line once a minute: the work of its workers in the last minute, and how busy they were.

Each worker shares a file with its supervisor. The counts are in it, so no message is sent for the line.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from enqueuer_worker.running import Work
from enqueuer_worker.supervisor.children import Child

LINE_SECONDS = 60.0


class MinuteLine:
    """Logs the line, at INFO, whenever `look` finds that a minute of a session has passed."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # The time of the last line, or of the session's begin; None between sessions.
        self._last_at: float | None = None
        # By incarnation: the work of each worker up to that time.
        self._last: dict[bytes, Work] = {}

    def look(self, children: Sequence[Child], now: float, *, in_session: bool) -> None:
        """Log the line if it is due."""
        if not in_session:
            self._last_at = None
            return
        if self._last_at is not None and now - self._last_at < LINE_SECONDS:
            return
        work = {child.incarnation: child.work() for child in children}
        if self._last_at is not None:
            self._log(children, work, now - self._last_at)
        self._last, self._last_at = work, now

    def _log(self, children: Sequence[Child], work: dict[bytes, Work], seconds: float) -> None:
        changes = [done.since(self._last.get(incarnation, Work(0, 0.0))) for incarnation, done in work.items()]
        computing = sum(child.running().task != 0 for child in children)
        count = sum(change.items_count for change in changes)
        busy = sum(change.busy_seconds for change in changes) / (seconds * max(1, len(children)))
        self._logger.info(
            "last %.0f s: %.1f batches/s, busy %.0f%% of the time, %d of %d workers are computing",
            seconds,
            count / seconds,
            100 * min(1.0, busy),
            computing,
            len(children),
        )
