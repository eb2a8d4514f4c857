"""The columns of the table of workers: their widths, and the text of each cell. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from enqueuer.monitoring.short_texts import UNKNOWN, cut, known_seconds, short_bytes, short_rate, short_seconds
from enqueuer.monitoring.worker_table import SeenWorker

_LEAST_NAME, _LEAST_HOST = 8, 6
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title (the name of an order), its width in characters, and the text of a cell."""

    title: str
    width: int
    text: Callable[[SeenWorker], str]
    is_right: bool = False

    def fit(self, text: str) -> str:
        """The text in this column's width exactly."""
        text = cut(text, self.width)
        return text.rjust(self.width) if self.is_right else text.ljust(self.width)

    def mark(self, arrow: str) -> str:
        """The title with this arrow, which is there also where the column is as narrow as its title."""
        return self.title[: max(0, self.width - len(arrow))] + arrow


def _tight(text: str) -> str:
    return text.replace(" ", "")


def _rate(worker: SeenWorker) -> str:
    rate = worker.batches_per_second
    return short_rate(rate) if rate is not None else UNKNOWN


def _quantile(seconds: float) -> str:
    return _tight(known_seconds(seconds))


def _size(nbytes: int) -> str:
    return _tight(short_bytes(nbytes)) if nbytes > 0 else UNKNOWN


def _computing_for(worker: SeenWorker) -> str:
    computing = worker.row.computing
    return _tight(short_seconds(computing[2])) if computing is not None else UNKNOWN


def _computes(worker: SeenWorker) -> str:
    computing = worker.row.computing
    return f"{computing[0]}/{computing[1]}" if computing is not None else ""


_FIXED = (
    Column("state", 8, lambda worker: worker.row.state),
    Column("batch/s", 7, _rate, True),
    Column("p50", 6, lambda worker: _quantile(worker.row.item_seconds_p50), True),
    Column("p95", 6, lambda worker: _quantile(worker.row.item_seconds_p95), True),
    Column("bytes", 6, lambda worker: _size(worker.row.received_bytes), True),
    Column("memory", 7, lambda worker: _size(worker.row.memory_bytes), True),
    Column("for", 6, _computing_for, True),
)


def layout(width: int, workers: Sequence[SeenWorker]) -> list[Column]:
    """The columns of a table of this width; names are as wide as these workers need, if there is room."""
    left = width - sum(column.width + 1 for column in _FIXED)
    computes = max([len("computes"), *(len(_computes(worker)) for worker in workers)])
    name = min(_LONGEST_NAME, max([len("worker▲"), *(len(worker.row.worker_id) for worker in workers)]))
    host = min(_LONGEST_NAME, max([len("host▲"), *(len(worker.row.host) for worker in workers)]))
    # Where room is short, the computed index comes first, and the names share the rest.
    computes = min(computes, max(0, left - min(name, _LEAST_NAME) - min(host, _LEAST_HOST) - 2))
    left -= computes + 2
    if name + host > left:
        host = min(host, max(_LEAST_HOST, left * 2 // 5))
        name = min(name, max(_LEAST_NAME, left - host))
        host = min(_LONGEST_NAME, max(0, left - name))
    return [
        Column("worker", name, lambda worker: worker.row.worker_id),
        Column("host", host, lambda worker: worker.row.host),
        *_FIXED,
        Column("computes", computes, _computes),
    ]


def line(columns: Sequence[Column], worker: SeenWorker) -> str:
    """The worker's line."""
    return " ".join(column.fit(column.text(worker)) for column in columns)


def head(columns: Sequence[Column], order: str, *, is_descending: bool) -> str:
    """The line of the titles, with an arrow at the column of the present order."""
    arrow = "▼" if is_descending else "▲"
    return " ".join(column.fit(column.title if column.title != order else column.mark(arrow)) for column in columns)
