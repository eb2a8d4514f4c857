"""Simulated time: a heap of what happens when."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Happening = Callable[[], None]


class Clock:
    """Runs happenings in the order of their times; those of the same time in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Happening]] = []
        self._planned_count = 0

    def at(self, time: float, happening: Happening) -> None:
        self._planned_count += 1
        heapq.heappush(self._planned, (max(time, self.now), self._planned_count, happening))

    def after(self, delay: float, happening: Happening) -> None:
        self.at(self.now + delay, happening)

    def run_next(self) -> None:
        self.now, _, happening = heapq.heappop(self._planned)
        happening()


class Alarm:
    """Calls its owner at one time, which can be moved; what was planned before is then void."""

    def __init__(self, clock: Clock, ring: Happening) -> None:
        self._clock = clock
        self._ring = ring
        self._time = float("inf")

    def set(self, time: float) -> None:
        if time != self._time:
            self._time = time
            if time < float("inf"):
                self._clock.at(time, lambda: self._come(time))

    @property
    def is_set(self) -> bool:
        return self._time < float("inf")

    def _come(self, time: float) -> None:
        if time == self._time:
            self._time = float("inf")
            self._ring()
