"""The program of `enqueuer top`: a screen of the latest pages of a trainer's snapshots.

    feed's thread ── page, or silence ──► App ──► history, table of workers ──► widgets

The screen shows `History`, `WorkerTable` and the latest snapshot; the widgets keep no data of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.message import Message
from textual.widgets import Footer, Input, Static

from enqueuer.monitoring.history import History, is_another_session
from enqueuer.monitoring.short_texts import duration
from enqueuer.monitoring.worker_table import ORDERS, WorkerTable
from enqueuer.observer import Observer
from enqueuer.protocol.observation import Snapshot
from enqueuer.top import columns
from enqueuer.top.charts import Chart
from enqueuer.top.details import DetailsScreen
from enqueuer.top.feed import Feed
from enqueuer.top.help import HelpScreen
from enqueuer.top.overview import Facts, Overview
from enqueuer.top.plots import SPANS, queue_plot, rate_plot, wait_plot
from enqueuer.top.worker_list import WorkerList, WorkerTitles

_EVENTS_KEPT = 16
# Pages of one round arrive together; the screen draws them together.
_DRAW_SECONDS = 0.25
# The screen calls younger rows up to date.
_OLD_SECONDS = 5.0


class Page(Message):
    """A page of a snapshot has come."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class Silence(Message):
    """No trainer answers, for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class TopApp(App[None]):
    """Shows one trainer. ``connect`` returns an observer of it, and raises OSError while there is none.

    Without ``connect``, the app shows the pages posted to it.
    """

    CSS_PATH = "top.tcss"
    TITLE = "enqueuer top"
    ENABLE_COMMAND_PALETTE = False
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-tall")]  # noqa: RUF012 - Textual declares no class variable
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("s", "sort(1)", "Sort"),
        Binding("S", "sort(-1)", "Sort back", show=False),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "show_all", "All", show=False),
        Binding("z", "zoom", "Zoom"),
        Binding("d", "toggle_dark", "Dark/light"),
        Binding("question_mark,h,f1", "help", "Help", key_display="?"),
    ]

    def __init__(self, connect: Callable[[], Observer] | None = None) -> None:
        super().__init__()
        self._feed = None if connect is None else Feed(connect, self._post_page, self._post_silence)
        self._history = History()
        self._table = WorkerTable()
        self._latest: Snapshot | None = None
        self._events: deque[tuple[int, float, str, str]] = deque(maxlen=_EVENTS_KEPT)
        self._order = 0
        self._is_reversed = False
        self._span = 0
        self._is_stale = False

    # ------------------------------------------------------------ the feed

    def _post_page(self, snapshot: Snapshot) -> None:
        self.post_message(Page(snapshot))

    def _post_silence(self, reason: str) -> None:
        self.post_message(Silence(reason))

    def on_mount(self) -> None:
        """Begin to ask the trainer."""
        self.screen.add_class("-nothing")
        self.query_one(WorkerList).focus()
        self.set_interval(_DRAW_SECONDS, self._draw_if_stale)
        if self._feed is not None:
            self._feed.start()

    def on_unmount(self) -> None:
        """Stop asking the trainer."""
        if self._feed is not None:
            self._feed.stop()

    def on_page(self, message: Page) -> None:
        """Take the page into the history and the table."""
        snapshot = message.snapshot
        if self._latest is not None and is_another_session(self._latest, snapshot):
            self._history, self._table = History(), WorkerTable()
            self._events.clear()
        self._latest = snapshot
        self._history.add(snapshot)
        self._table.add(snapshot)
        self._events.extend(snapshot.events)
        self._is_stale = True
        self.screen_stack[0].set_class(False, "-silent", "-nothing")

    def on_silence(self, message: Silence) -> None:
        """Say why no page comes; the latest figures stay."""
        self.screen_stack[0].set_class(True, "-silent")
        text = f"no answer – {message.reason} – asking again each second"
        self.screen_stack[0].query_one("#silence", Static).update(text)

    # ------------------------------------------------------------ the screen

    def compose(self) -> ComposeResult:
        """The widgets, from the top down."""
        yield Static("asking for a trainer …", id="silence", markup=False)
        yield Overview(id="overview")
        with Horizontal(id="plots"):
            yield Chart("batches/s", id="rate")
            yield Chart("waiting", id="wait")
            yield Chart("queue", id="queue")
        yield Facts(id="facts", markup=False)
        yield Input(placeholder="words in a worker's name, host or state", id="filter", compact=True)
        yield WorkerTitles(id="titles")
        yield WorkerList(id="workers")
        yield Footer(show_command_palette=False)

    def _draw_if_stale(self) -> None:
        if self._is_stale:
            # A widget is missing while the screen is put up, and while the program ends.
            with suppress(NoMatches):
                self._draw()

    def on_resize(self) -> None:
        """Draw in the new size, once the widgets have theirs."""
        self._is_stale = True
        self.call_after_refresh(self._draw_if_stale)

    def _draw(self) -> None:
        self._is_stale = False
        if self._latest is None:
            return
        base, latest, span = self.screen_stack[0], self._latest, SPANS[self._span]
        base.query_one(Overview).show(latest)
        rate, wait, queue = base.query(Chart)
        rate.show(rate_plot(self._history, span, rate.columns_count))
        wait.show(wait_plot(self._history, span, wait.columns_count))
        queue.show(queue_plot(self._history, latest, span, queue.columns_count))
        self._draw_workers()

    def _draw_workers(self) -> None:
        assert self._latest is not None
        base, order = self.screen_stack[0], ORDERS[self._order]
        words = base.query_one("#filter", Input).value
        workers = self._table.select(order, is_reversed=self._is_reversed, words=words)
        if_empty = "no worker has these words; escape shows all" if words else "no worker is there"
        fitting = base.query_one(WorkerList).show(workers, if_empty)
        title = columns.head(fitting, order.name, is_descending=order.is_descending is not self._is_reversed)
        base.query_one(WorkerTitles).show(title)
        base.query_one(Facts).show(self._latest, self._note(len(workers)), self._told_events())

    def _note(self, shown_count: int) -> str:
        """The shown part of the fleet, and the age of its rows."""
        assert self._latest is not None
        count = f"{shown_count} of {len(self._table)} workers shown"
        seconds = self._table.oldest_seconds(self._latest.elapsed_seconds)
        return f"{count}, up to {duration(seconds)} old" if seconds >= _OLD_SECONDS else count

    def _told_events(self) -> list[str]:
        assert self._latest is not None
        now = self._latest.elapsed_seconds
        return [
            f"{worker} {what} {duration(max(0.0, now - seconds))} ago"
            for _, seconds, what, worker in reversed(self._events)
        ]

    # ------------------------------------------------------------ keys

    def action_sort(self, step: int) -> None:
        """Sort by the next column."""
        self._order = (self._order + step) % len(ORDERS)
        self._draw()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._is_reversed = not self._is_reversed
        self._draw()

    def action_filter(self) -> None:
        """Ask for the words of the filter."""
        self.screen.add_class("-filtered")
        self.query_one("#filter", Input).focus()

    def action_show_all(self) -> None:
        """Clear the words of the filter."""
        self.query_one("#filter", Input).value = ""
        self._leave_filter()

    def on_input_changed(self) -> None:
        """Filter at each keystroke."""
        if self._latest is not None:
            self._draw_workers()

    def on_input_submitted(self) -> None:
        """Keep the words, and go back to the table."""
        self._leave_filter()

    def _leave_filter(self) -> None:
        words = self.query_one("#filter", Input)
        self.screen.set_class(bool(words.value), "-filtered")
        self.query_one(WorkerList).focus()

    def action_zoom(self) -> None:
        """Show the next span in the plots."""
        self._span = (self._span + 1) % len(SPANS)
        self._draw()

    def action_toggle_dark(self) -> None:
        """Switch between dark and light."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    def action_help(self) -> None:
        """Show the help."""
        self.push_screen(HelpScreen())

    def on_worker_list_chosen(self, message: WorkerList.Chosen) -> None:
        """Show the details of this worker."""
        assert self._latest is not None
        self.push_screen(DetailsScreen(message.worker, self._latest.elapsed_seconds))
