"""Item times in logarithmic buckets: quantiles of a worker, a histogram of the session, and no list of times."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import log2

# Buckets are a fourth of an octave wide, so a quantile is off by a tenth at most.
_PER_OCTAVE = 4
OCTAVES = 32
# Times below 2**-20 s, a microsecond, share the first octave; those above 2**12 s, an hour, the last one.
_LOWEST = -20
_BUCKETS = OCTAVES * _PER_OCTAVE
_SHORT, _LONG = 2.0**_LOWEST, 2.0 ** (_LOWEST + OCTAVES)
# At this many, all counts are halved: a worker's latest items weigh most.
_MOST_RECENT = 1_024
# Upper bounds of the octaves, in seconds.
OCTAVE_BOUNDS: tuple[float, ...] = tuple(2.0 ** (_LOWEST + 1 + octave) for octave in range(OCTAVES))


class SessionTimes:
    """Counts of the item times of all workers of a session, which their `ItemTimes` write."""

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * _BUCKETS))

    @property
    def total(self) -> int:
        """How many items there were."""
        return sum(self.counts)

    def octaves(self) -> list[int]:
        """How many items each octave has: up to ``OCTAVE_BOUNDS[i]`` seconds, and above the bound before it."""
        return [sum(self.counts[at : at + _PER_OCTAVE]) for at in range(0, _BUCKETS, _PER_OCTAVE)]


class ItemTimes:
    """Counts of the item times of one worker. Old ones fade, so that the quantiles are those of its latest items."""

    __slots__ = ("_counts", "_of_session", "_total")

    def __init__(self) -> None:
        self._counts = array("I", bytes(4 * _BUCKETS))
        self._of_session: array[int] | None = None
        self._total = 0

    def join(self, session: SessionTimes) -> None:
        """Count each item for the session as well."""
        self._of_session = session.counts

    def note(self, seconds: float, count: int) -> None:
        """Count ``count`` items that took this long each. Called for each result message, so it makes no object."""
        bucket = int(_PER_OCTAVE * (log2(seconds) - _LOWEST)) if _SHORT < seconds < _LONG else _outer(seconds)
        self._counts[bucket] += count
        if self._of_session is not None:
            self._of_session[bucket] += count
        self._total += count
        if self._total >= _MOST_RECENT:
            self._counts = array("I", [left >> 1 for left in self._counts])
            self._total = sum(self._counts)

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """The times, in seconds, below which these shares of the items are; 0.0 without an item."""
        if not self._total:
            return [0.0] * len(shares)
        upto = list(accumulate(self._counts))
        return [_middle(bisect_left(upto, share * self._total)) for share in shares]


def _outer(seconds: float) -> int:
    """The bucket of a time beyond all bounds, such as none at all."""
    return 0 if seconds <= _SHORT else _BUCKETS - 1


def _middle(bucket: int) -> float:
    return float(2.0 ** (_LOWEST + (bucket + 0.5) / _PER_OCTAVE))
