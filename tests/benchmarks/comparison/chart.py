"""The chart: a panel a kind, a bar a contestant, what was measured at an equal depth and at each one's default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.comparison.contestants import CONTESTANTS
from tests.benchmarks.comparison.results import Cell, Results
from tests.benchmarks.comparison.table import TITLES, cells_of, depth_words, kinds_of

_OURS, _PEERS, _LIMITS = "#1f6fb4", "#9aa5b1", "#d9b44a"
# Of a panel: title and axis, and each bar with its label.
_FRAME_INCHES, _BAR_INCHES = 1.0, 0.17
# Whose rate is a limit rather than somebody's to beat.
_BASELINES = ("memcpy", "bare", "pipes")


def draw(results: Results, directory: Path) -> list[Path]:
    """Writes comparison.png and comparison.svg; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = kinds_of(results)
    if not kinds:
        return []
    bars_counts = [len(_cells(results, kind)) for kind in kinds]
    heights = [_FRAME_INCHES + _BAR_INCHES * max(bars_counts[first : first + 2]) for first in range(0, len(kinds), 2)]
    figure, axes = pyplot.subplots(
        len(heights), 2, figsize=(15, sum(heights)), squeeze=False, layout="constrained", height_ratios=heights
    )
    for axis, kind in zip(axes.flat, kinds, strict=False):
        _panel(axis, results, kind)
    for axis in list(axes.flat)[len(kinds) :]:
        axis.axis("off")
    figure.suptitle("Batches a second that reach the trainer, 2 workers, medians; * does not keep the order")
    paths = [directory / f"comparison.{suffix}" for suffix in ("png", "svg")]
    for path in paths:
        # Without a date, a chart of the same figures is the same file.
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return paths


def _panel(axis: Any, results: Results, kind: str) -> None:
    """The fastest on top. The scale is logarithmic where the slowest would else have no bar at all."""
    cells = _cells(results, kind)
    cells.sort(key=lambda cell: results.median(cell) or 0.0)
    rates = [results.median(cell) or 0.0 for cell in cells]
    bars = axis.barh([_label(cell) for cell in cells], rates, color=[_colour(cell) for cell in cells])
    axis.bar_label(bars, [f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" for rate in rates], padding=3, fontsize=8)
    if rates and rates[-1] > 50 * rates[0]:
        axis.set_xscale("log")
    axis.margins(x=0.15)
    axis.set_title(f"{kind}: {TITLES[kind]}", fontsize=10)
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xlabel("batches/s")
    axis.spines[["top", "right"]].set_visible(False)


def _cells(results: Results, kind: str) -> list[Cell]:
    """The measured ones with the usual setting, the same for all kinds."""
    return [cell for cell in cells_of(results, kind) if cell in results.runs]


def _label(cell: Cell) -> str:
    contestant = CONTESTANTS[cell.contestant]
    star = "" if contestant.ordered else " *"
    return f"{contestant.title}{star}" + (f", {depth_words(cell)}" if contestant.bounded else "")


def _colour(cell: Cell) -> str:
    if cell.contestant in _BASELINES:
        return _LIMITS
    return _OURS if cell.contestant.startswith("enqueuer") else _PEERS
