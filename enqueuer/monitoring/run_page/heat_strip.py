"""The workers' item times as a strip: a column for each span of time, a byte for each worker in it, in bounded memory.

A byte is 0 for an absent worker, 1 for one without an item so far, and else an eighth of an octave of its time, from
a microsecond to an hour. As in `LongHistory`, full columns are merged two by two; the slower time of both remains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

ABSENT, NO_ITEM = 0, 1
_FIRST = 2
_PER_OCTAVE = 8
_LOWEST = -20  # 2**-20 s is a microsecond


def level_of(item_seconds: float) -> int:
    """The byte for this item time."""
    if item_seconds <= 0.0:
        return NO_ITEM
    return min(255, max(_FIRST, _FIRST + int(_PER_OCTAVE * (math.log2(item_seconds) - _LOWEST))))


class HeatStrip:
    """Columns of levels. The caller numbers the rows; a row without a level is absent."""

    def __init__(self, most: int = 180, span: float = 2.0) -> None:
        self.span = span
        self._most = most
        # The number of each column's span since the beginning, and its levels.
        self.numbers: list[int] = []
        self.columns: list[bytearray] = []
        self._now = bytearray()

    def open(self, at: float) -> bool:
        """Begin the column of this time, with the present levels, if it is a new one. True if columns were merged."""
        number = int(at // self.span)
        if self.numbers and number <= self.numbers[-1]:
            return False
        self.numbers.append(number)
        self.columns.append(bytearray(self._now))
        if len(self.columns) <= self._most:
            return False
        while len(self.columns) > self._most:
            self._merge()
        return True

    def set(self, row: int, level: int) -> None:
        """The row's level from now on. The open column keeps the level of a worker gone by now."""
        self._now.extend(bytes(max(0, row + 1 - len(self._now))))
        self._now[row] = level
        if level != ABSENT and self.columns:
            column = self.columns[-1]
            column.extend(bytes(max(0, row + 1 - len(column))))
            column[row] = level

    def keep(self, rows: Iterable[int]) -> None:
        """Keep these rows alone; they are numbered from 0 on."""
        kept = list(rows)
        for levels in (self._now, *self.columns):
            levels[:] = bytes(levels[row] if row < len(levels) else ABSENT for row in kept)

    def _merge(self) -> None:
        self.span *= 2
        numbers: list[int] = []
        columns: list[bytearray] = []
        for number, column in zip(self.numbers, self.columns, strict=True):
            if numbers and number // 2 == numbers[-1]:
                columns[-1] = _slower(columns[-1], column)
            else:
                numbers.append(number // 2)
                columns.append(column)
        self.numbers, self.columns = numbers, columns


def _slower(one: bytearray, other: bytearray) -> bytearray:
    shorter, longer = sorted((one, other), key=len)
    return bytearray(map(max, longer, shorter)) + longer[len(shorter) :]
