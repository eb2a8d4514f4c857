"""Batches that are None are left out. An epoch of nothing else looks like a success, so the log warns of it."""

from __future__ import annotations

import logging

logger = logging.getLogger("enqueuer")


class LeftOut:
    """Counts the batches that were None, as a consumer takes them. A few may be missed: consumers take no lock."""

    def __init__(self) -> None:
        self._count = 0
        self._has_warned = False

    def note(self, epoch: int, taken_count: int, length: int, taken_total: int) -> None:
        """Count one; warn, once, at the end of an epoch if nothing but None has come so far.

        ``taken_count`` is this epoch's, of ``length``; ``taken_total`` is the session's.
        """
        self._count += 1
        if self._count == taken_total and taken_count == length and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "no batch in epoch %d: __getitem__ returned None %d times, and None leaves a batch out; is its return "
                "missing?",
                epoch,
                self._count,
            )
