"""A session's result messages: numbered, kept until they are acknowledged, and which of them to send again when."""

from __future__ import annotations

import math
from collections.abc import Iterator

from enqueuer_worker.core.events import Computed

# Without any acknowledgement for this long the oldest one is sent again, then after twice as long each time.
_RESEND_HEARTBEATS = 3


class Unacknowledged:
    """Pure: time is an argument. Numbers count up within the session, from ``sent_seq`` + 1. Times in seconds."""

    def __init__(self, heartbeat_interval: float, sent_seq: int = 0) -> None:
        self.sent_seq = sent_seq
        self.resend_at = math.inf
        self._first_interval = self._interval = _RESEND_HEARTBEATS * heartbeat_interval
        self._kept: dict[int, Computed] = {}

    def __iter__(self) -> Iterator[tuple[int, Computed]]:
        """Number and content of all that are kept, oldest first."""
        return iter(self._kept.items())

    def leases(self) -> set[int]:
        return {lease for computed in self._kept.values() for lease in computed.leases}

    def add(self, computed: Computed, now: float) -> int:
        """Keep one more; returns its number."""
        if not self._kept:
            self._wait_anew(now)
        self.sent_seq += 1
        self._kept[self.sent_seq] = computed
        return self.sent_seq

    def acknowledge(self, received_seq: int, now: float) -> None:
        """All up to this number have arrived."""
        arrived = [seq for seq in self._kept if seq <= received_seq]
        for seq in arrived:
            del self._kept[seq]
        if not self._kept:
            self.resend_at = math.inf
        elif arrived:
            self._wait_anew(now)

    def below(self, highest_seq: int) -> list[tuple[int, Computed]]:
        """What is missing before a number that has arrived: lost, not late, since one pipe keeps its order."""
        return [(seq, computed) for seq, computed in self._kept.items() if seq < highest_seq]

    def overdue(self, now: float) -> list[tuple[int, Computed]]:
        """The oldest one, if nothing was acknowledged for too long."""
        if now < self.resend_at:
            return []
        self._interval *= 2
        self.resend_at = now + self._interval
        return list(self._kept.items())[:1]

    def link_opened(self, now: float) -> None:
        """All of them are being sent again."""
        if self._kept:
            self.resend_at = now + self._interval

    def _wait_anew(self, now: float) -> None:
        self._interval = self._first_interval
        self.resend_at = now + self._interval
