"""The fleet's history: when workers joined, left, died and were lost; the latest events alone."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_MOST_KEPT = 256


class FleetEvent(NamedTuple):
    """One change of the fleet: ``what`` is joined, draining, left, rejected, died or lost.

    ``number`` counts the session's events from 1; ``seconds`` are those since its start.
    """

    number: int
    seconds: float
    what: str
    worker: str


class FleetHistory:
    """The latest events of a session that began at ``now``."""

    def __init__(self, now: float) -> None:
        self._began = now
        # The number of the latest event.
        self.count = 0
        self.events: deque[FleetEvent] = deque(maxlen=_MOST_KEPT)

    def note(self, now: float, what: str, worker: str) -> None:
        """Add an event."""
        self.count += 1
        self.events.append(FleetEvent(self.count, now - self._began, what, worker))
