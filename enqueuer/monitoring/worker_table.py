"""The workers of a session as a table, filled page by page, sorted and filtered. Pure: no clock, no screen.

A large fleet comes in pages; each begins at the worker after the last page. A worker missing from two rounds of pages
has left; an event may tell of its end earlier. One round is too few: when a worker leaves, the others move up, and one
of them may slip between two pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enqueuer.protocol.observation import Snapshot, WorkerRow

_ENDS = frozenset({"left", "rejected", "died"})
_DIGITS = re.compile(r"(\d+)")
# A worker's rate is taken over twice this time at most: over one second, it would be 0 or 1 for batches of a second.
_RATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker's latest row, and the session's time when it came.

    ``marks`` are two earlier sights of the worker, as (time, batches); its rate counts from the first one.
    """

    row: WorkerRow
    seconds: float
    round: int
    marks: tuple[tuple[float, int], tuple[float, int]]

    @property
    def batches_per_second(self) -> float | None:
        """The worker's batches a second; None after a single sight of it."""
        since, count = self.marks[0]
        passed = self.seconds - since
        return max(0, self.row.batches_count - count) / passed if passed > 0 else None


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the table: its name, the key of a row, and whether the largest come first."""

    name: str
    key: Callable[[SeenWorker], Any]
    is_descending: bool


def _computing_seconds(worker: SeenWorker) -> float:
    return worker.row.computing[2] if worker.row.computing is not None else -1.0


def _name_key(text: str) -> list[tuple[int, str]]:
    """Numbers in names count as such: w-2 comes before w-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(text)]


ORDERS = (
    Order("worker", lambda worker: _name_key(worker.row.worker_id), False),
    Order("host", lambda worker: _name_key(worker.row.host), False),
    Order("state", lambda worker: (worker.row.state == "serving", worker.row.state), False),
    Order("batch/s", lambda worker: worker.batches_per_second or 0.0, True),
    Order("p50", lambda worker: worker.row.item_seconds_p50, True),
    Order("p95", lambda worker: worker.row.item_seconds_p95, True),
    Order("bytes", lambda worker: worker.row.received_bytes, True),
    Order("memory", lambda worker: worker.row.memory_bytes, True),
    Order("for", _computing_seconds, True),
)


class WorkerTable:
    """The workers of one session."""

    def __init__(self) -> None:
        # By name, host and process: a row has no more of a worker's identity.
        self._workers: dict[tuple[str, str, int], SeenWorker] = {}
        self._round = 0

    def __len__(self) -> int:
        return len(self._workers)

    def add(self, page: Snapshot) -> None:
        """Take the rows of this page, and drop departed workers."""
        for row in page.rows:
            key = (row.worker_id, row.host, row.pid)
            self._workers[key] = _seen(row, page.elapsed_seconds, self._round, self._workers.get(key))
        if page.first_row + len(page.rows) >= page.rows_total:
            # A worker may slip through when another one leaves between two pages: only a second round is conclusive.
            least = self._round if page.first_row == 0 else self._round - 1
            for key in [key for key, worker in self._workers.items() if worker.round < least]:
                del self._workers[key]
            self._round += 1
        ended = {worker: seconds for _, seconds, what, worker in page.events if what in _ENDS}
        for key in [
            key for key, worker in self._workers.items() if ended.get(f"{key[0]} on {key[1]}", -1.0) > worker.seconds
        ]:
            del self._workers[key]

    def oldest_seconds(self, now: float) -> float:
        """The age of the oldest row at the session's time ``now``."""
        return now - min((worker.seconds for worker in self._workers.values()), default=now)

    def select(self, order: Order, *, is_reversed: bool = False, words: str = "") -> list[SeenWorker]:
        """The workers with each of these words in name, host or state, in this order; equal ones by name."""
        wanted = words.lower().split()
        found = [worker for worker in self._workers.values() if all(word in _text(worker) for word in wanted)]
        found.sort(key=ORDERS[0].key)
        found.sort(key=order.key, reverse=order.is_descending is not is_reversed)
        return found


def _seen(row: WorkerRow, seconds: float, number: int, before: SeenWorker | None) -> SeenWorker:
    mark = (seconds, row.batches_count)
    if before is None:
        return SeenWorker(row, seconds, number, (mark, mark))
    older, newer = before.marks
    return SeenWorker(row, seconds, number, (newer, mark) if seconds - newer[0] >= _RATE_SECONDS else (older, newer))


def _text(worker: SeenWorker) -> str:
    row = worker.row
    return f"{row.worker_id} {row.host} {row.state}".lower()
