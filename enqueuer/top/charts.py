"""The widget of a plot over time: a line with the title and the present value, above bars that end on the right."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from enqueuer.monitoring.short_texts import cut
from enqueuer.top.bars import Cell, bar
from enqueuer.top.plots import PARTS, Plot


class Chart(Widget):
    """A plot. Each part has two component classes: one for the colour of its bars, one for its label."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--title",
        "chart--note",
        *(f"chart--{part}" for part in PARTS),
        *(f"chart--{part}-label" for part in PARTS),
    }

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(id=id)
        self._plot = Plot(labels=((title, None),), note="")
        self._cells: list[list[Cell]] = []

    @property
    def columns_count(self) -> int:
        """The number of columns with room in the widget."""
        return max(0, self.size.width)

    def show(self, plot: Plot) -> None:
        """Show this plot from now on."""
        height = max(0, self.size.height - 1)
        self._plot = plot
        self._cells = [bar(parts, plot.limit, height) if parts is not None else [] for parts in plot.columns]
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the widget."""
        width = self.size.width
        if y == 0:
            return self._title(width)
        row = self.size.height - 1 - y
        empty: Cell = (" ", None, None)
        cells = [cells[row] if row < len(cells) else empty for cells in self._cells[-width:]]
        segments = [Segment(text, self._style(lower, upper)) for text, lower, upper in cells]
        return Strip([Segment(" " * (width - len(cells)), self.rich_style), *segments], width)

    def _style(self, lower: int | None, upper: int | None) -> Style:
        if lower is None:
            return self.rich_style
        style = self.get_component_rich_style(f"chart--{self._plot.parts[lower]}")
        if upper is None:
            return style
        above = self.get_component_rich_style(f"chart--{self._plot.parts[upper]}")
        return style + Style(bgcolor=above.color)

    def _title(self, width: int) -> Strip:
        segments, left = [], width
        for text, part in self._plot.labels:
            shown = cut(text, left)
            style = self.get_component_rich_style(f"chart--{part}-label" if part is not None else "chart--title")
            segments.append(Segment(shown, style))
            left -= len(shown)
        text = self._plot.note if len(self._plot.note) < left else ""
        segments.append(Segment(text.rjust(left), self.get_component_rich_style("chart--note")))
        return Strip(segments, width)
