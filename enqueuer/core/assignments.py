"""One round of assignments: the scheduler decides how many positions a worker gets, and this file decides which ones.

The earlier epoch comes first. An index of a later epoch is held back while an earlier epoch's item of the same index is
not done: two workers computing one index at once could both write its cache file. The held-back positions are found
once a round, not once a worker: with a thousand workers at an epoch's end, most pending positions are held back.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.ledger import Ledger
from enqueuer.core.worker import Worker


class Assignment(NamedTuple):
    """Lease these positions to the worker."""

    worker: Worker
    run: EpochRun
    positions: list[int]


class Assignments:
    """The assignments of one round, which `close` ends. The caller books them afterwards."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.runs: Sequence[EpochRun] = [run for _, run in sorted(ledger.runs.items())]
        self.made: list[Assignment] = []
        self._busy: dict[int, Set[int]] = {}

    def take_suspect(self, worker: Worker, run: EpochRun) -> None:
        """Assign the run's next suspect to the worker."""
        self.made.append(Assignment(worker, run, [run.take_suspect()]))

    def take(self, worker: Worker, count: int) -> int:
        """Assign up to ``count`` positions to the worker; returns how many."""
        given = 0
        for run in self.runs:
            if given == count:
                break
            positions = run.take_pending(count - given, self._busy_indices(run))
            if positions:
                self.made.append(Assignment(worker, run, positions))
                given += len(positions)
        return given

    def close(self) -> list[Assignment]:
        """End the round and return all its assignments. Held-back positions are pending again."""
        for run in self.runs:
            run.give_back()
        return self.made

    def _busy_indices(self, run: EpochRun) -> Set[int]:
        """The indices held back in this run, found once a round.

        They do not change within it: the run's positions are assigned only after those of all earlier runs.
        """
        if run is self.runs[0] and not self._ledger.holds_back(run):
            return frozenset()
        busy = self._busy.get(run.epoch)
        if busy is None:
            assigned = [
                other.order[position]
                for _, other, positions in self.made
                if other.epoch < run.epoch
                for position in positions
            ]
            busy = self._busy[run.epoch] = self._ledger.busy_indices(run).union(assigned)
        return busy
