"""The widget of the workers: a line of titles, and a line a worker. It makes only the lines on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from enqueuer.monitoring.worker_table import SeenWorker
from enqueuer.top import columns
from enqueuer.top.columns import Column


class WorkerTitles(Widget):
    """The line of the titles."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._text = ""

    def show(self, text: str) -> None:
        """Show these titles."""
        self._text = text
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line."""
        width = self.size.width
        return Strip([Segment(self._text[:width].ljust(width), self.rich_style)], width)


class WorkerList(ScrollView, can_focus=True):
    """The table of workers, with a cursor on one of them."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"workers--cursor", "workers--away", "workers--empty"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "turn(-1)", "Page up", show=False),
        Binding("pagedown", "turn(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000)", "First", show=False),
        Binding("end,G", "move(1000000)", "Last", show=False),
        Binding("enter", "choose", "Details"),
    ]
    cursor: var[int] = var(0)

    class Chosen(Message):
        """The worker under the cursor is chosen."""

        def __init__(self, worker: SeenWorker) -> None:
            super().__init__()
            self.worker = worker

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._workers: Sequence[SeenWorker] = ()
        self._columns: Sequence[Column] = ()
        self._if_empty = ""

    def show(self, workers: Sequence[SeenWorker], if_empty: str) -> Sequence[Column]:
        """Show these workers, or this text if there is none; returns the columns of the table."""
        width = max(0, self.size.width - self.styles.scrollbar_size_vertical)
        self._workers, self._if_empty = workers, if_empty
        self._columns = columns.layout(width, workers)
        self.virtual_size = Size(width, max(1, len(workers)))
        self.cursor = max(0, min(self.cursor, len(workers) - 1))
        self.refresh()
        return self._columns

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width, number = self.size.width, y + self.scroll_offset.y
        if not self._workers and number == 0:
            style = self.get_component_rich_style("workers--empty")
            return Strip([Segment(self._if_empty[:width].ljust(width), style)], width)
        if number >= len(self._workers):
            return Strip.blank(width, self.rich_style)
        worker = self._workers[number]
        style = self.rich_style
        if worker.row.state != "serving":
            style = self.get_component_rich_style("workers--away")
        if number == self.cursor and self.has_focus:
            style = self.get_component_rich_style("workers--cursor")
        return Strip([Segment(columns.line(self._columns, worker)[:width].ljust(width), style)], width)

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self.cursor = max(0, min(self.cursor + lines, len(self._workers) - 1))
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)
        self.refresh()

    def action_turn(self, pages: int) -> None:
        """Move the cursor by pages."""
        self.action_move(pages * max(1, self.size.height - 1))

    def action_choose(self) -> None:
        """Choose the worker under the cursor."""
        if self._workers:
            self.post_message(self.Chosen(self._workers[self.cursor]))
