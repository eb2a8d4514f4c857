"""The screen with the details of one worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from enqueuer.monitoring.short_texts import duration, known_seconds, short_bytes, short_rate, short_seconds
from enqueuer.monitoring.worker_table import SeenWorker


class DetailsScreen(ModalScreen[None]):
    """One worker, at the time when the screen was opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "app.pop_screen", "Back"),
    ]

    def __init__(self, worker: SeenWorker, now: float) -> None:
        super().__init__()
        self._worker, self._now = worker, now

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        text = "\n".join(f"{name:<11} {value}" for name, value in facts(self._worker, self._now))
        box = Static(text, classes="box", markup=False)
        box.border_title = "worker"
        box.border_subtitle = "escape: back"
        yield box


def facts(worker: SeenWorker, now: float) -> Iterator[tuple[str, str]]:
    """The worker's facts as names and texts, at the session's time ``now``."""
    row, rate = worker.row, worker.batches_per_second
    yield "worker", row.worker_id
    yield "host", row.host
    yield "process", str(row.pid)
    yield "state", row.state
    yield "slots", str(row.slots)
    yield "leases", str(row.leases_count)
    yield "batches", f"{row.batches_count}" + (f", {short_rate(rate)}/s" if rate is not None else "")
    yield "batch time", f"{known_seconds(row.item_seconds)} on average"
    yield "", f"{known_seconds(row.item_seconds_p50)} p50, {known_seconds(row.item_seconds_p95)} p95"
    yield "received", short_bytes(row.received_bytes)
    if row.memory_bytes:
        yield "memory", short_bytes(row.memory_bytes)
    if row.computing is not None:
        epoch, index, seconds = row.computing
        yield "computes", f"index {index} of epoch {epoch}, for {short_seconds(seconds)}"
    yield "seen", f"{duration(now - worker.seconds)} ago"
