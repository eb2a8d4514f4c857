"""The widgets around the plots: the trainer, the verdict with its cure, and the figures in words."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from enqueuer.core.verdict import FIX_FIRST, Cause
from enqueuer.monitoring.session_texts import faults, memory, progress, received, slots, workers
from enqueuer.monitoring.short_texts import counted, duration
from enqueuer.monitoring.verdict_word import limit_word
from enqueuer.protocol.observation import Snapshot

_GRAVE = (Cause.NO_WORKERS.value, Cause.ERRORS.value)
# Faults with a figure on the screen even at zero.
_SHOWN_AT_ZERO = ("retries", "hedges", "lost workers")


class Overview(Vertical):
    """The head of the screen. The verdict's line has the class of its severity."""

    def compose(self) -> ComposeResult:
        """The two lines."""
        yield Static(id="place")
        yield Static(id="verdict")

    def show(self, snapshot: Snapshot) -> None:
        """Show what this snapshot says."""
        self.query_one("#place", Static).update(place(snapshot))
        verdict = self.query_one("#verdict", Static)
        verdict.set_classes(severity(snapshot))
        verdict.update(verdict_text(snapshot))


class Facts(Static):
    """The figures under the plots: workers, bytes, faults and the latest events."""

    def show(self, snapshot: Snapshot, note: str, events: list[str]) -> None:
        """Show this snapshot; ``note`` is about the table, ``events`` are the latest ones, newest first."""
        counts = faults(snapshot)
        faults_text = " · ".join(counted(n, name) for name, n in counts.items() if n or name in _SHOWN_AT_ZERO)
        lines = [
            f"slots {slots(snapshot)} · workers {workers(snapshot)} · {note}",
            f"received {received(snapshot)} · memory {memory(snapshot)}",
            " · ".join([faults_text, *events[:1]]),
            *events[1:],
        ]
        self.update(Text("\n".join(lines)))


def place(snapshot: Snapshot) -> Text:
    """The trainer, its age and its progress."""
    return Text(
        f"trainer {snapshot.pid} on {snapshot.host}, for {duration(snapshot.elapsed_seconds)} · "
        f"epoch {progress(snapshot)} · Enqueuer {snapshot.library_version}"
    )


def severity(snapshot: Snapshot) -> str:
    """How grave the verdict is: quiet, well, slow or starved."""
    if snapshot.cause == Cause.TOO_EARLY.value:
        return "quiet"
    if snapshot.cause == Cause.NOTHING.value:
        return "well"
    return "starved" if snapshot.cause in _GRAVE or snapshot.recent_wait_share >= FIX_FIRST else "slow"


def verdict_text(snapshot: Snapshot) -> Text:
    """The word for the limit, the sentence with its figures, and the cure."""
    known = {cause.value for cause in Cause}
    word = limit_word(Cause(snapshot.cause)) if snapshot.cause in known else snapshot.cause
    text = Text()
    if word:
        text.append(f"limit: {word} ", "bold")
        text.append("– ")
    text.append(snapshot.sentence)
    if snapshot.cure:
        text.append(f" → {snapshot.cure}", "bold")
    return text
