"""Receipts: the trainer's received positions of the current epoch, derived from the number of takes.

Outcomes leave in the order of arrival, so a take only counts: there may be 100 000 a second. Positions are looked up at
each delivery, and for each state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from enqueuer.core.actions import BatchFailed, BatchSkipped
from enqueuer.stream.ranges import Ranges

_NOT_A_BATCH = frozenset({BatchFailed, BatchSkipped})


@dataclass(frozen=True, slots=True)
class Received:
    """The trainer's progress in a session's stream.

    ``positions`` are the received ones of ``epoch``, in the epoch's order of this session. ``skipped`` has the (epoch,
    index) of every batch skipped in the session. ``began``: whether any outcome was taken.
    """

    epoch: int
    positions: Ranges
    skipped: tuple[tuple[int, int], ...]
    began: bool


class Receipts:
    """The receipts of one ready queue, which calls every method under its lock."""

    def __init__(self, first_epoch: int) -> None:
        self._epoch = first_epoch
        self._positions = Ranges()
        self._skipped: list[tuple[int, int]] = []
        # Epoch and positions of the deliveries not yet counted, and the number already counted of the first one.
        self._deliveries: deque[tuple[int, Sequence[int]]] = deque()
        self._of_first = 0
        self._put_total = 0
        self._counted_total = 0
        # The failures and skips of these deliveries, with their numbers in the stream.
        self._not_batches: deque[tuple[int, Any]] = deque()
        # The position counted last, if its outcome was a batch.
        self._last: int | None = None

    def note_put(self, epoch: int, positions: Sequence[int], outcomes: Sequence[Any]) -> None:
        """Add a delivery: these outcomes are in the queue now."""
        if not _NOT_A_BATCH.isdisjoint(map(type, outcomes)):
            self._not_batches.extend(
                (number, outcome)
                for number, outcome in enumerate(outcomes, self._put_total)
                if type(outcome) in _NOT_A_BATCH
            )
        self._put_total += len(outcomes)
        self._deliveries.append((epoch, positions))

    def count(self, taken_total: int) -> None:
        """Count outcomes as taken, up to this many in all."""
        while self._counted_total < taken_total:
            epoch, positions = self._deliveries[0]
            size = min(len(positions) - self._of_first, taken_total - self._counted_total)
            number, outcome = self._not_batches[0] if self._not_batches else (None, None)
            if number is not None:
                # The batches before a failure or skip are counted together; then it alone.
                size = min(size, max(1, number - self._counted_total))
            if epoch != self._epoch:
                self._epoch, self._positions = epoch, Ranges()
            if number == self._counted_total:
                self._not_batches.popleft()
                self._count_not_batch(positions[self._of_first], outcome)
            else:
                self._count_batches(positions, size)
            self._counted_total += size
            self._of_first += size
            if self._of_first == len(positions):
                self._deliveries.popleft()
                self._of_first = 0

    def _count_batches(self, positions: Sequence[int], size: int) -> None:
        chosen = positions[self._of_first : self._of_first + size]
        if isinstance(chosen, range):
            self._positions.add(chosen.start, chosen.stop)
        else:
            for position in chosen:
                self._positions.add(position, position + 1)
        self._last = chosen[-1]

    def _count_not_batch(self, position: int, outcome: Any) -> None:
        """Count a skip as received, and a failure, raised by ``next()``, as not received."""
        self._last = None
        if type(outcome) is BatchSkipped:
            self._positions.add(position, position + 1)
            self._skipped.append((outcome.epoch, outcome.index))

    def take_back(self) -> None:
        """Undo the receipt of the outcome counted last; it stays taken."""
        if self._last is not None:
            self._positions.discard(self._last)

    def put_back(self) -> None:
        """Undo the take of the outcome counted last, a batch; it will be taken again."""
        assert self._last is not None
        self._positions.discard(self._last)
        if self._of_first:
            self._of_first -= 1
        else:
            self._deliveries.appendleft((self._epoch, (self._last,)))
        self._counted_total -= 1
        self._last = None

    def end_epoch(self, epoch: int, length: int) -> Ranges:
        """Drop the deliveries of this epoch that were not counted, and count all its positions as received.

        Returns the positions that were received. Called after `count`, within the epoch.
        """
        received, dropped_count = self._positions, 0
        while self._deliveries and self._deliveries[0][0] == epoch:
            dropped_count += len(self._deliveries.popleft()[1]) - self._of_first
            self._of_first = 0
        first_kept = self._counted_total + dropped_count
        self._not_batches = deque((n - dropped_count, what) for n, what in self._not_batches if n >= first_kept)
        self._put_total -= dropped_count
        self._positions, self._last = Ranges([(0, length)]), None
        return received

    @property
    def received_count(self) -> int:
        """The number of received positions of the epoch counted last."""
        return len(self._positions)

    def received(self) -> Received:
        """A snapshot; later counts do not change it."""
        return Received(self._epoch, self._positions.copy(), tuple(self._skipped), self._counted_total > 0)
