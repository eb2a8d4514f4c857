"""A set of positions as sorted, disjoint, half-open ranges; small if positions are mostly consecutive."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

# (start, stop), half-open.
Range = tuple[int, int]


class Ranges:
    """A set of positions: ``Ranges([(0, 3), (5, 6)])`` holds 0, 1, 2 and 5. Touching ranges become one."""

    __slots__ = ("_count", "_starts", "_stops")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0
        for start, stop in ranges:
            self.add(start, stop)

    @property
    def ranges(self) -> list[Range]:
        """The ranges, ascending."""
        return list(zip(self._starts, self._stops, strict=True))

    def add(self, start: int, stop: int) -> None:
        """Add the positions of ``range(start, stop)``; some or all may be in the set already."""
        if start >= stop:
            return
        # Merge all ranges that overlap or touch the new one.
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        for index in range(first, last):
            self._count -= self._stops[index] - self._starts[index]
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self._count += stop - start

    def discard(self, position: int) -> None:
        """Remove the position, if it is in the set."""
        if position not in self:
            return
        index = bisect_right(self._starts, position) - 1
        start, stop = self._starts[index], self._stops[index]
        parts = [part for part in ((start, position), (position + 1, stop)) if part[0] < part[1]]
        self._starts[index : index + 1] = [part[0] for part in parts]
        self._stops[index : index + 1] = [part[1] for part in parts]
        self._count -= 1

    def complement(self, total: int) -> Ranges:
        """The positions of ``range(total)`` that are not in this set."""
        gaps = Ranges()
        at = 0
        for start, stop in self.ranges:
            gaps.add(at, min(start, total))
            at = stop
        gaps.add(at, total)
        return gaps

    def select(self, chosen: Ranges) -> Ranges:
        """The positions at the ``chosen`` ordinals of this set; the lowest position has ordinal 0."""
        selected = Ranges()
        wanted = iter(chosen.ranges)
        low, high = next(wanted, (0, 0))
        ordinal = 0
        for start, stop in self.ranges:
            end = ordinal + stop - start
            while low < end and low < high:
                selected.add(start + low - ordinal, start + min(high, end) - ordinal)
                if high > end:
                    low = end
                    break
                low, high = next(wanted, (0, 0))
            ordinal = end
        return selected

    def union(self, other: Ranges) -> Ranges:
        return Ranges([*self.ranges, *other.ranges])

    def copy(self) -> Ranges:
        return Ranges(self.ranges)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.ranges:
            yield from range(start, stop)

    def __contains__(self, position: int) -> bool:
        index = bisect_right(self._starts, position) - 1
        return index >= 0 and position < self._stops[index]

    def __len__(self) -> int:
        """The number of positions, not of ranges."""
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Ranges({self.ranges})"


class FixedRanges(Sequence[int]):
    """The positions of a set at one moment, in order: ``FixedRanges(ranges)[ordinal]`` costs a binary search."""

    __slots__ = ("_count", "_ends", "_ranges")

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges.ranges
        # The number of positions up to the end of each range.
        self._ends = list(accumulate(stop - start for start, stop in self._ranges))
        self._count = len(ranges)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, ordinal: Any) -> Any:
        ordinal = range(self._count)[ordinal]
        if isinstance(ordinal, range):
            return [self[one] for one in ordinal]
        at = bisect_right(self._ends, ordinal)
        return self._ranges[at][1] - (self._ends[at] - ordinal)
