"""What the batches weigh that have come and that the trainer has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from enqueuer.core.epoch_run import EpochRun


class HeldBytes:
    """Buffered and ready batches, each by its own weight. What is not a batch weighs nothing."""

    def __init__(self) -> None:
        self.total = 0.0
        # By epoch and position.
        self._buffered: dict[int, dict[int, float]] = {}
        # Of what is ready, in the order in which it is taken.
        self._ready: deque[float] = deque()

    def note_answered(self, run: EpochRun, positions: Sequence[int], nbytes: float) -> None:
        """Batches of ``nbytes`` each came for these; those that came second are not held."""
        weights = self._buffered.setdefault(run.epoch, {})
        for position in positions:
            if run.is_buffered(position) and position not in weights:
                weights[position] = nbytes
                self.total += nbytes

    def note_delivered(self, run: EpochRun, positions: Sequence[int]) -> None:
        weights = self._buffered.get(run.epoch, {})
        self._ready.extend([weights.pop(position, 0.0) for position in positions])

    def note_taken(self, count: int) -> None:
        for _ in range(count):
            self.total -= self._ready.popleft()

    def forget(self, run: EpochRun) -> None:
        """What is buffered of it goes."""
        self.total -= sum(self._buffered.pop(run.epoch, {}).values())
