"""The trainer's log line once a minute: rate, time lost to waiting, workers and queue of the last minute."""

from __future__ import annotations

import logging
from collections.abc import Callable

from enqueuer.monitoring.stats import Stats

logger = logging.getLogger("enqueuer")

LINE_SECONDS = 60.0


class MinuteLine:
    """Logs the line, at INFO, whenever `look` finds that a minute has passed. The I/O thread calls it in its turns."""

    def __init__(self, snapshot: Callable[[], Stats], now: float) -> None:
        self._snapshot = snapshot
        self._last = Stats()
        self._last_at = now

    def look(self, now: float) -> None:
        """Log the line if it is due."""
        if now - self._last_at < LINE_SECONDS:
            return
        stats = self._snapshot()
        logger.info("%s", describe_change(self._last, stats, now - self._last_at))
        self._last, self._last_at = stats, now


def describe_change(before: Stats, after: Stats, seconds: float) -> str:
    """The line for the time between two snapshots."""
    count = after.batches_total - before.batches_total
    share = min(1.0, (after.wait_seconds - before.wait_seconds) / seconds)
    limit = f" of {after.queue_limit}" if after.queue_limit else ""
    return (
        f"last {seconds:.0f} s: {count / seconds:.1f} batches/s, waited {share:.0%} of the time, "
        f"workers {after.slots_count}, queue {after.ready_count}{limit}; epoch {after.epoch}, "
        f"batch {after.taken_count} of {after.length}"
    )
