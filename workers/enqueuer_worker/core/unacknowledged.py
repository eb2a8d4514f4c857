"""The unacknowledged result messages of a session, and when to send them again."""

from __future__ import annotations

import math
from collections.abc import Iterator

from enqueuer_worker.core.events import Computed

# Without any acknowledgement for this long the oldest one is sent again, then after twice as long each time.
_RESEND_HEARTBEATS = 3


class Unacknowledged:
    """Numbers each result message of a session and keeps it until the coordinator acknowledges its number.

    Pure: time is an argument, in seconds. Numbers count up within the session, from ``sent_seq`` + 1.
    """

    def __init__(self, heartbeat_interval: float, sent_seq: int = 0) -> None:
        # The highest number given so far.
        self.sent_seq = sent_seq
        # When the oldest one is sent again; infinite while there is none.
        self.resend_at = math.inf
        self._first_interval = self._interval = _RESEND_HEARTBEATS * heartbeat_interval
        self._kept: dict[int, Computed] = {}
        # How many are sent again at the next time-out, and how many were at the last one since an acknowledgement.
        self._resend_count = 1
        self._resent_count = 0

    def __iter__(self) -> Iterator[tuple[int, Computed]]:
        """Number and content of each one, oldest first."""
        return iter(self._kept.items())

    def leases(self) -> set[int]:
        """The leases answered by these results."""
        return {lease for computed in self._kept.values() for lease in computed.leases}

    def add(self, computed: Computed, now: float) -> int:
        """Keep one more; returns its number."""
        if not self._kept:
            self._restart_wait(now)
        self.sent_seq += 1
        self._kept[self.sent_seq] = computed
        return self.sent_seq

    def acknowledge(self, received_seq: int, now: float) -> None:
        """Forget every result up to this number: all of them have arrived."""
        arrived = [seq for seq in self._kept if seq <= received_seq]
        for seq in arrived:
            del self._kept[seq]
        if not arrived:
            return
        # Nothing beyond those sent again has come: the ones behind them may all be lost, too. Twice as many next time,
        # and not all, since on a slow line they would travel twice.
        self._resend_count = 2 * self._resend_count if len(arrived) <= self._resent_count else 1
        self._resent_count = 0
        if not self._kept:
            self.resend_at = math.inf
        else:
            self._restart_wait(now)

    def below(self, highest_seq: int) -> list[tuple[int, Computed]]:
        """The missing results before a number that has arrived: they are lost, since one pipe keeps its order."""
        return [(seq, computed) for seq, computed in self._kept.items() if seq < highest_seq]

    def overdue(self, now: float) -> list[tuple[int, Computed]]:
        """The oldest results, if nothing was acknowledged for too long; the next wait is then twice as long."""
        if now < self.resend_at:
            return []
        self._interval *= 2
        self.resend_at = now + self._interval
        self._resent_count = self._resend_count
        return list(self._kept.items())[: self._resend_count]

    def link_opened(self, now: float) -> None:
        """Wait from now on: the caller sends all of them again over a new link."""
        if self._kept:
            self.resend_at = now + self._interval

    def _restart_wait(self, now: float) -> None:
        self._interval = self._first_interval
        self.resend_at = now + self._interval
