"""Stacked bars in characters of eighths: the cells of a plot. Pure.

Each column of a plot is a bar of one or more parts, from the bottom up. A cell has two colours at most, so a cell with
three parts leaves out the middle one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"
# A cell: its character, the part below in its colour, and the part above behind it; None is no part.
Cell = tuple[str, int | None, int | None]
_EMPTY: Cell = (" ", None, None)


def nice_limit(value: float) -> float:
    """The upper end of an axis for values up to this one: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


def bar(parts: Sequence[float], limit: float, height: int) -> list[Cell]:
    """The cells of one bar, from the bottom up. A part above 0 is visible; the bar ends at the limit."""
    ends, below = [], 0
    for number, part in enumerate(parts):
        end = round(8 * height * min(1.0, sum(parts[: number + 1]) / limit))
        below = min(8 * height, max(end, below + (part > 0)))
        ends.append(below)
    return [_cell(ends, 8 * row) for row in range(height)]


def _cell(ends: Sequence[int], bottom: int) -> Cell:
    lower = _part_at(ends, bottom)
    if lower is None:
        return _EMPTY
    filled = min(8, ends[lower] - bottom)
    return _EIGHTHS[filled], lower, _part_at(ends, bottom + filled) if filled < 8 else None


def _part_at(ends: Sequence[int], eighth: int) -> int | None:
    return next((number for number, end in enumerate(ends) if end > eighth), None)
