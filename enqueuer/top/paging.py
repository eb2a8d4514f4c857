"""Decides which workers the next request asks for, and when. Pure.

A trainer allows each observer so many bytes at once and so many each second, and drops requests beyond them. The first
round brings the whole fleet. After it, each second brings the session's figures and as many workers as the allowance
gives, in turn. An answer tells when the trainer answers a request of the same size again: pages grow while that is at
once, and halve when it is later. A request asks either for more workers than the last one or for events, since the
allowance of a second suffices for one of them.
"""

from __future__ import annotations

from enqueuer.monitoring.history import is_another_session
from enqueuer.observer import NO_EVENT
from enqueuer.protocol.messages import MOST_ROWS
from enqueuer.protocol.observation import Snapshot

INTERVAL = 1.0


class Paging:
    """The requests over one connection: ``first_row``, ``rows_count`` and ``after_event`` are those of the next one."""

    def __init__(self) -> None:
        self.first_row = 0
        self.rows_count = MOST_ROWS
        self.after_event = 0
        self._newest_event = 0
        self._is_first_round = True
        self._last: Snapshot | None = None

    def take(self, page: Snapshot) -> float:
        """Take the answer; returns the seconds until the next request."""
        if self._last is not None and is_another_session(self._last, page):
            self._newest_event = 0  # they count from 1 again
        self._last = page
        if page.events:
            self._newest_event = page.events[-1][0]
        self._turn_page(page)
        if self._is_first_round and page.seconds_to_ask == 0:
            self.after_event = NO_EVENT
            return 0.0
        self._resize(page)
        return max(INTERVAL, page.seconds_to_ask)

    def _turn_page(self, page: Snapshot) -> None:
        self.first_row = page.first_row + len(page.rows)
        if self.first_row >= page.rows_total or not page.rows:
            self.first_row, self._is_first_round = 0, False

    def _resize(self, page: Snapshot) -> None:
        has_asked_for_events = self.after_event != NO_EVENT
        self.after_event = NO_EVENT
        most = max(1, min(MOST_ROWS, page.rows_total))
        if page.seconds_to_ask > 0:
            self.rows_count = max(1, min(self.rows_count, most) // 2)
        elif has_asked_for_events and self.rows_count < most:
            self.rows_count += 1
        else:
            self.after_event = self._newest_event
