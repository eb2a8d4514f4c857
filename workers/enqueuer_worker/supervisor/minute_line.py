"""The line that a supervisor logs once a minute: what its workers computed in the last minute, and how busy they were.

The counts are in the file that each worker shares with its supervisor, so no message is sent for it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from enqueuer_worker.running import Work
from enqueuer_worker.supervisor.children import Child

LINE_SECONDS = 60.0


class MinuteLine:
    """Logs the line, at INFO, whenever `look` finds that a minute has passed."""

    def __init__(self, logger: logging.Logger, now: float) -> None:
        self._logger = logger
        self._last_at = now
        # By incarnation: the work of each worker up to the last line.
        self._last: dict[bytes, Work] = {}

    def look(self, children: Sequence[Child], now: float) -> None:
        """Log the line if it is due."""
        seconds = now - self._last_at
        if seconds < LINE_SECONDS:
            return
        work = {child.incarnation: child.work() for child in children}
        changes = [done.since(self._last.get(incarnation, Work(0, 0.0))) for incarnation, done in work.items()]
        self._last, self._last_at = work, now
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
