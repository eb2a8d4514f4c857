"""Which positions of the current epoch the trainer has received, worked out from how many outcomes it took.

Outcomes are taken in the order in which they were put, so their positions need not be looked at when they are taken,
which happens 100 000 times a second, but only when more are put or somebody asks.
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
    """A place in the session's stream. ``positions`` are those of the order that was opened for ``epoch``;
    ``skipped`` all (epoch, index) of the session. ``began``: whether anything was taken at all.
    """

    epoch: int
    positions: Ranges
    skipped: tuple[tuple[int, int], ...]
    began: bool


class Receipts:
    """The ready queue's own, under its lock."""

    def __init__(self, first_epoch: int) -> None:
        self._epoch = first_epoch
        self._positions = Ranges()
        self._skipped: list[tuple[int, int]] = []
        # What was put and not yet counted as taken: epoch and positions of each delivery, and how many of the first.
        self._chunks: deque[tuple[int, Sequence[int]]] = deque()
        self._of_first = 0
        self._put_total = 0
        self._counted_total = 0
        # Failures and skips among them, with their numbers in the stream.
        self._special: deque[tuple[int, Any]] = deque()
        self._last: int | None = None

    def note_put(self, epoch: int, positions: Sequence[int], outcomes: Sequence[Any]) -> None:
        if not _NOT_A_BATCH.isdisjoint(map(type, outcomes)):
            self._special.extend(
                (number, outcome)
                for number, outcome in enumerate(outcomes, self._put_total)
                if type(outcome) in _NOT_A_BATCH
            )
        self._put_total += len(outcomes)
        self._chunks.append((epoch, positions))

    def count(self, taken_total: int) -> None:
        """So many were taken in all."""
        while self._counted_total < taken_total:
            epoch, positions = self._chunks[0]
            size = min(len(positions) - self._of_first, taken_total - self._counted_total)
            special = self._special[0] if self._special else None
            if special is not None:
                # Up to it, and then it alone.
                size = min(size, max(1, special[0] - self._counted_total))
            if epoch != self._epoch:
                self._epoch, self._positions = epoch, Ranges()
            if special is not None and special[0] == self._counted_total:
                self._special.popleft()
                self._count_special(positions[self._of_first], special[1])
            else:
                self._count_batches(positions, size)
            self._counted_total += size
            self._of_first += size
            if self._of_first == len(positions):
                self._chunks.popleft()
                self._of_first = 0

    def _count_batches(self, positions: Sequence[int], size: int) -> None:
        chosen = positions[self._of_first : self._of_first + size]
        if isinstance(chosen, range):
            self._positions.add(chosen.start, chosen.stop)
        else:
            for position in chosen:
                self._positions.add(position, position + 1)
        self._last = chosen[-1]

    def _count_special(self, position: int, outcome: Any) -> None:
        """A skip is as good as received. A batch whose error came out of ``next()`` was not."""
        self._last = None
        if type(outcome) is BatchSkipped:
            self._positions.add(position, position + 1)
            self._skipped.append((outcome.epoch, outcome.index))

    def take_back(self) -> None:
        """The last one that was counted could not be used after all."""
        if self._last is not None:
            self._positions.discard(self._last)

    def put_back(self) -> None:
        """The last one that was counted, a batch, is to be taken again."""
        assert self._last is not None
        self._positions.discard(self._last)
        if self._of_first:
            self._of_first -= 1
        else:
            self._chunks.appendleft((self._epoch, (self._last,)))
        self._counted_total -= 1
        self._last = None

    @property
    def received_count(self) -> int:
        """Of the epoch that was counted last."""
        return len(self._positions)

    def received(self) -> Received:
        return Received(self._epoch, self._positions.copy(), tuple(self._skipped), self._counted_total > 0)
