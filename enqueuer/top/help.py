"""The help: the keys, and the meaning of the figures."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

_TEXT = """\
s, S       sort by the next column, the one before
r          reverse the order
/          show only workers whose name, host or state has these words;
           escape shows all again
enter      all that is known of the worker under the cursor
z          plots over 1, 5 or 30 minutes
d          dark or light
q, Ctrl-C  leave; the training goes on

The trainer waits for data while nothing is ready. Below 5 % of its time
data is not the limit, from 20 % on it is the first thing to mend.

ready          batches that the trainer can take now
out of order   computed, but an earlier batch is not there yet
leased         being computed, or queued at a worker
batch/s        the worker's batches a second, over 5 to 10 seconds
p50, p95       half, and 95 %, of its latest batches took less
bytes          of its batches, counted without compression
memory         that its process has
for, computes  how long it may have been at which epoch/index

A trainer answers an observer with a kilobyte a second. The figures
above the table are those of the last second; of a large fleet, workers
come in turn, and the screen says how old they are.
"""


class HelpScreen(ModalScreen[None]):
    """A box over the screen, with a scroll bar on a small one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,h,f1", "app.pop_screen", "Back"),
    ]

    def compose(self) -> ComposeResult:
        """The text in its box."""
        with VerticalScroll(classes="box") as box:
            box.border_title = "enqueuer top"
            box.border_subtitle = "escape: back"
            yield Static(_TEXT, markup=False)
