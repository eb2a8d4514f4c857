"""Item times in logarithmic buckets: quantiles and histograms without a list of times."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

# Buckets are a fourth of an octave wide, so a quantile is off by a tenth at most.
_PER_OCTAVE = 4
OCTAVES = 32
# Times below 2**-20 s, a microsecond, share the first octave; those above 2**12 s, an hour, the last one.
_LOWEST = -20
_BUCKETS = OCTAVES * _PER_OCTAVE
# At this many, all counts are halved: a worker's latest items weigh most.
_MOST_RECENT = 1_024
# Upper bounds of the octaves, in seconds.
OCTAVE_BOUNDS: tuple[float, ...] = tuple(2.0 ** (_LOWEST + 1 + octave) for octave in range(OCTAVES))


def _middle(bucket: int) -> float:
    return float(2.0 ** (_LOWEST + (bucket + 0.5) / _PER_OCTAVE))


class ItemTimes:
    """Counts of item times. ``is_recent``: old ones fade, so that the quantiles are those of the latest items."""

    __slots__ = ("_counts", "_is_recent", "_total")

    def __init__(self, *, is_recent: bool = True) -> None:
        self._counts = array("I" if is_recent else "Q", bytes((4 if is_recent else 8) * _BUCKETS))
        self._is_recent = is_recent
        self._total = 0

    def note(self, seconds: float, count: int) -> None:
        """Count ``count`` items that took this long each."""
        if seconds < OCTAVE_BOUNDS[0]:
            bucket = 0
        elif seconds < OCTAVE_BOUNDS[-1]:
            bucket = int(_PER_OCTAVE * (math.log2(seconds) - _LOWEST))
        else:
            bucket = _BUCKETS - 1
        self._counts[bucket] += count
        self._total += count
        if self._is_recent and self._total >= _MOST_RECENT:
            self._halve()

    def _halve(self) -> None:
        self._counts = array("I", [count >> 1 for count in self._counts])
        self._total = sum(self._counts)

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """The times, in seconds, below which these shares of the items are; 0.0 without an item."""
        if not self._total:
            return [0.0] * len(shares)
        upto = list(accumulate(self._counts))
        return [_middle(bisect_left(upto, share * self._total)) for share in shares]

    def octaves(self) -> list[int]:
        """How many items each octave has: up to ``OCTAVE_BOUNDS[i]`` seconds, and above the bound before it."""
        counts = self._counts
        return [sum(counts[at : at + _PER_OCTAVE]) for at in range(0, _BUCKETS, _PER_OCTAVE)]
