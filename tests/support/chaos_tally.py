"""Compares the batches of a consumer with the expected ones: lost, repeated, out of order, wrong; and the gaps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from enqueuer import SequenceEnqueuer
from tests.support.chaos_sequences import content_of


def expected_order(length: int, epoch: int, seed: int | None) -> list[int]:
    """The indices of an epoch, shuffled if there is a seed, as the same class delivers them without any worker."""
    reference = SequenceEnqueuer(range(length), shuffle=seed is not None, seed=seed)
    reference.start(0, epoch=epoch)
    try:
        return list(reference.epoch())
    finally:
        reference.stop()


class Tally:
    """Takes every batch with its time, and the end of every epoch.

    ``longest_gap`` is the longest time between two batches, in seconds, over the ends of epochs as well; ``gap_end``
    is when it ended. ``ordered`` False asks for each index once an epoch, in any order.
    """

    def __init__(
        self, length: int, *, seed: int | None, first_epoch: int = 0, tag: int = 0, ordered: bool = True
    ) -> None:
        self.length = length
        self.first_epoch = first_epoch
        self.epoch = first_epoch
        self.taken_count = 0
        self.lost_count = 0
        self.repeated_count = 0
        self.out_of_order_count = 0
        self.wrong_count = 0
        self.longest_gap = 0.0
        self.gap_end = 0.0
        self.pids: set[int] = set()
        self._seed = seed
        self._tag = tag
        self._ordered = ordered
        self._indices: list[int] = []
        self._last: float | None = None

    def take(self, batch: Any, now: float) -> None:
        """Count a batch taken at ``now`` on the monotonic clock."""
        if self._last is not None and now - self._last > self.longest_gap:
            self.longest_gap, self.gap_end = now - self._last, now
        self._last = now
        index, pid, tag, content = batch
        self.taken_count += 1
        self.pids.add(int(pid))
        self._indices.append(int(index))
        if tag != self._tag or not np.array_equal(content, content_of(index, self._tag)):
            self.wrong_count += 1

    def end_epoch(self) -> None:
        """Compare the batches taken since the last call with one epoch."""
        wanted = expected_order(self.length, self.epoch, self._seed)
        found, due = Counter(self._indices), Counter(wanted)
        self.lost_count += (due - found).total()
        self.repeated_count += (found - due).total()
        if self._ordered:
            self.out_of_order_count += sum(a != b for a, b in zip(self._indices, wanted, strict=False))
        self._indices = []
        self.epoch += 1

    def faults(self) -> dict[str, int]:
        """The number of faults by kind; empty if each position came once and in order, with its own content."""
        counts = {
            "lost": self.lost_count,
            "repeated": self.repeated_count,
            "out of order": self.out_of_order_count,
            "wrong": self.wrong_count,
            "in no whole epoch": len(self._indices),
        }
        return {kind: count for kind, count in counts.items() if count}

    def summary(self) -> dict[str, Any]:
        """The tally as plain values, for a program to print."""
        return {
            "taken": self.taken_count,
            "faults": self.faults(),
            "longest_gap": self.longest_gap,
            "pids": len(self.pids),
        }
