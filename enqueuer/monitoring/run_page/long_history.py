"""Figures over time in bounded memory: when the columns are full, neighbouring points become one of twice the span.

    span 1 s   ▪▪▪▪▪▪▪▪   full: 8 points
    span 2 s   ▪ ▪ ▪ ▪    merged, and room for 4 more; then 4 s, 8 s, …

An hour and a week thus take the same memory, and each point is the mean of all samples in its span. Pure: the time is
an argument.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

_NAN = math.nan


class LongHistory:
    """One column for each name, beside the column of times, with ``most`` points at most."""

    def __init__(self, names: Sequence[str], most: int = 600, span: float = 1.0) -> None:
        self.names = tuple(names)
        self.span = span
        self._most = most
        # The mean time and the number of the samples in each point.
        self.times = array("d")
        self._counts = array("L")
        self._columns = [array("d") for _ in self.names]

    def __len__(self) -> int:
        return len(self.times)

    def add(self, at: float, values: Sequence[float]) -> bool:
        """Add a sample, later than all before it; NaN stands for an unknown value. True if points were merged."""
        if self.times and at // self.span == self.times[-1] // self.span:
            self._counts[-1] += 1
            for column, value in zip(self._all, (at, *values), strict=True):
                column[-1] = _mean(column[-1], self._counts[-1] - 1, value, 1)
            return False
        for column, value in zip(self._all, (at, *values), strict=True):
            column.append(value)
        self._counts.append(1)
        if len(self) <= self._most:
            return False
        while len(self) > self._most:
            self._merge()
        return True

    @property
    def _all(self) -> list[array[float]]:
        return [self.times, *self._columns]

    def _merge(self) -> None:
        """Make one point of those in each span of twice the length."""
        self.span *= 2
        counts, columns = self._counts, self._all
        kept = 0
        for point in range(1, len(self)):
            if self.times[point] // self.span == self.times[kept] // self.span:
                for column in columns:
                    column[kept] = _mean(column[kept], counts[kept], column[point], counts[point])
                counts[kept] += counts[point]
            else:
                kept += 1
                counts[kept] = counts[point]
                for column in columns:
                    column[kept] = column[point]
        for column in columns:
            del column[kept + 1 :]
        del counts[kept + 1 :]

    def point(self, number: int = -1) -> list[float | None]:
        """The time and the values of one point, rounded to what a chart shows; None for an unknown one."""
        return [round(self.times[number], 2), *(_rounded(column[number]) for column in self._columns)]

    def columns(self) -> list[list[float | None]]:
        """The column of times, then the columns of values, as in `point`."""
        times: list[float | None] = [round(at, 2) for at in self.times]
        return [times, *([_rounded(value) for value in column] for column in self._columns)]


def _mean(one: float, one_count: int, other: float, other_count: int) -> float:
    """The mean of two weighted values; of an unknown one and a known one, the known one."""
    if one != one:
        return other
    if other != other:
        return one
    return one + (other - one) * other_count / (one_count + other_count)


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
