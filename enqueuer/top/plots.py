"""The three plots: the rate, the share of waiting, and the queue by state. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from enqueuer.core.verdict import FIX_FIRST, NOT_THE_LIMIT
from enqueuer.monitoring.history import History
from enqueuer.monitoring.short_texts import short_rate
from enqueuer.protocol.observation import Snapshot
from enqueuer.top.bars import nice_limit

# The spans of the plots, in seconds: `z` goes to the next one.
SPANS = (60.0, 300.0, 1_800.0)
_QUEUE = ("ready", "received", "leased")

# The names of all parts of bars.
PARTS = ("rate", "well", "slow", "starved", "ready", "received", "leased")


@dataclass(frozen=True, slots=True)
class Plot:
    """The content of a chart.

    ``labels`` are (text, part or None): the label of a part has its colour. A column is a bar's parts from the bottom
    up, or None for a time without a snapshot.
    """

    labels: Sequence[tuple[str, str | None]]
    note: str
    parts: Sequence[str] = ()
    columns: Sequence[Sequence[float] | None] = field(default=())
    limit: float = 1.0


def span_text(span: float) -> str:
    """The span in words."""
    return f"{span / 60:.0f} min"


def rate_plot(history: History, span: float, count: int) -> Plot:
    """Batches a second."""
    columns = history.columns(lambda moment: moment.batches_per_second, span, count)
    limit = nice_limit(max((column for column in columns if column is not None), default=0.0))
    now = short_rate(history.recent[0]) if history.recent is not None else "–"
    return Plot(
        labels=((f"{now} batches/s", None),),
        note=f"0–{limit:g}",
        parts=("rate",),
        columns=[None if column is None else (column,) for column in columns],
        limit=limit,
    )


def wait_plot(history: History, span: float, count: int) -> Plot:
    """The share of the trainer's time spent waiting, in the colour of its band."""
    columns = history.columns(lambda moment: moment.wait_share, span, count)
    now = f"{history.recent[1]:.0%}" if history.recent is not None else "–"
    return Plot(
        labels=((f"{now} waiting", _band(history.recent[1]) if history.recent is not None else None),),
        note=span_text(span),
        parts=("well", "slow", "starved"),
        columns=[None if column is None else _in_band(column) for column in columns],
    )


def queue_plot(history: History, latest: Snapshot, span: float, count: int) -> Plot:
    """Undelivered batches by state: ready, waiting for an earlier one, leased."""
    ready = history.columns(lambda moment: moment.ready_count, span, count)
    received = history.columns(lambda moment: moment.received_count, span, count)
    leased = history.columns(lambda moment: moment.leased_count, span, count)
    columns = [
        None if one is None or two is None or three is None else (one, two, three)
        for one, two, three in zip(ready, received, leased, strict=True)
    ]
    most = max((sum(column) for column in columns if column is not None), default=0.0)
    counts = (latest.ready_count, latest.received_count, latest.leased_count)
    words = ("ready", "out of order", "leased")
    labels = [(f"{count} {word}", part) for count, word, part in zip(counts, words, _QUEUE, strict=True)]
    return Plot(
        labels=[labels[0], (" ", None), labels[1], (" ", None), labels[2]],
        note=f"of {latest.queue_limit}" if latest.queue_limit else "",
        parts=_QUEUE,
        columns=columns,
        limit=max(1.0, most, latest.queue_limit),
    )


def _band(share: float) -> str:
    return "well" if share < NOT_THE_LIMIT else "slow" if share < FIX_FIRST else "starved"


def _in_band(share: float) -> tuple[float, float, float]:
    """The share as the part of its band; the parts below it are empty."""
    well, slow, starved = (share if _band(share) == band else 0.0 for band in ("well", "slow", "starved"))
    return well, slow, starved
