"""A rate limit as a token bucket: so many at once, then so many each second. Pure: time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class RateLimit:
    """Allows ``burst`` at once and ``per_second`` thereafter. Times in seconds.

    "At most one every 30 s" is ``RateLimit(1, 1 / 30)``.
    """

    burst: float
    per_second: float
    # Tokens in the bucket after the last successful `take`, and its time. A refused one changes neither: its rounding
    # errors would add up.
    _left: float = math.inf
    _taken_at: float = 0.0

    def take(self, now: float, weight: int = 1) -> bool:
        """Take ``weight`` tokens if the bucket holds as many; returns whether it did."""
        left = self._left_at(now)
        if left < weight:
            return False
        self._left, self._taken_at = left - weight, now
        return True

    def seconds_until(self, now: float, weight: int = 1) -> float:
        """Seconds until `take` of this weight succeeds; infinite if it never does."""
        if weight > self.burst:
            return math.inf
        return max(0.0, weight - self._left_at(now)) / self.per_second

    def _left_at(self, now: float) -> float:
        return min(self.burst, self._left + (now - self._taken_at) * self.per_second)
