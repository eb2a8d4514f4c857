"""What the batches weigh that have come and that the trainer has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class HeldBytes:
    """Buffered and ready batches, each by its own weight. What is not a batch weighs nothing."""

    def __init__(self) -> None:
        self.total = 0
        # By epoch and position.
        self._buffered: dict[int, dict[int, int]] = {}
        # Of what is ready, in the order in which it is taken.
        self._ready: deque[int] = deque()

    def note_buffered(self, epoch: int, positions: Sequence[int], nbytes: int) -> None:
        """The outcomes of these positions are batches of ``nbytes`` each."""
        self._buffered.setdefault(epoch, {}).update(dict.fromkeys(positions, nbytes))
        self.total += nbytes * len(positions)

    def note_delivered(self, epoch: int, positions: Sequence[int]) -> None:
        weights = self._buffered.get(epoch, {})
        self._ready.extend([weights.pop(position, 0) for position in positions])

    def note_taken(self, count: int) -> None:
        for _ in range(count):
            self.total -= self._ready.popleft()

    def forget(self, epoch: int) -> None:
        """What is buffered of it goes."""
        self.total -= sum(self._buffered.pop(epoch, {}).values())
