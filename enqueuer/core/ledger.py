"""Who holds which lease, and what of each open epoch is undelivered.

Lease numbers count up and are never used twice. A lease stays in the table, findable for a late answer, until it is
answered or its epoch's books are closed; whether it still counts is the epoch run's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.held_bytes import HeldBytes
from enqueuer.core.worker import Worker

# Of a lease: the epoch it is on, its position there, and who holds it.
LeaseEntry = tuple[EpochRun, int, Worker]


class Ledger:
    """The open epochs (the current one, and at most the one after it) and all leases on them."""

    def __init__(self, *, weighs: bool = False) -> None:
        """``weighs``: `held_bytes` is kept, which costs something for each batch."""
        self.runs: dict[int, EpochRun] = {}
        self.stale_count = 0
        self.delivered_total = 0
        self.taken_total = 0
        self._leases: dict[int, LeaseEntry] = {}
        self.next_lease = 1
        self._held = HeldBytes() if weighs else None

    # ------------------------------------------------------------ counts

    @property
    def undelivered_count(self) -> int:
        """Leased, received and ready batches: what the bound bounds."""
        return sum([run.undelivered_count for run in list(self.runs.values())]) + self.ready_count

    @property
    def leased_count(self) -> int:
        """Positions that some worker is to answer."""
        return sum([run.leased_count for run in list(self.runs.values())])

    @property
    def ready_count(self) -> int:
        """Delivered to the ready queue and not taken by the trainer."""
        return self.delivered_total - self.taken_total

    @property
    def held_bytes(self) -> int:
        """What the batches weigh that have come and were not taken; 0 where that is not kept."""
        return self._held.total if self._held is not None else 0

    @property
    def has_pending(self) -> bool:
        return any(run.has_pending or run.has_suspects for run in self.runs.values())

    def find(self, lease: int) -> LeaseEntry | None:
        return self._leases.get(lease)

    # ------------------------------------------------------------ epochs

    def open(self, run: EpochRun) -> None:
        self.runs[run.epoch] = run

    def close(self, run: EpochRun) -> None:
        """Forget the run and every lease on it; workers stay occupied by theirs until they answer or unlist them."""
        del self.runs[run.epoch]
        if self._held is not None:
            self._held.forget(run.epoch)
        for lease in [lease for lease, (owner, _, _) in self._leases.items() if owner is run]:
            del self._leases[lease]

    def close_all(self) -> None:
        """No outcome is held any more."""
        self.runs.clear()
        self._leases.clear()
        if self._held is not None:
            self._held = HeldBytes()

    # ------------------------------------------------------------ leases

    def grant(self, worker: Worker, run: EpochRun, positions: Sequence[int], now: float) -> int:
        """Lease these positions to the worker; returns the first of the consecutive lease numbers."""
        first = self.next_lease
        self.next_lease += len(positions)
        leases = range(first, self.next_lease)
        run.lease_all(positions, leases)
        self._leases.update(zip(leases, zip(repeat(run), positions, repeat(worker)), strict=True))
        worker.leases.update(dict.fromkeys(leases, now))
        return first

    def answer(self, worker: Worker, lease: int, run: EpochRun | None) -> int | None:
        """The position that this answer is for, if it may be taken; None if it is stale, as all are without a run."""
        entry = self._leases.get(lease)
        if entry is None or entry[0] is not run or entry[2] is not worker:
            self.stale_count += 1
            if lease in worker.leases:
                self.expire(worker, (lease,))
            return None
        worker.leases.pop(lease, None)
        del self._leases[lease]
        return entry[1]

    def answer_all(self, worker: Worker, leases: Sequence[int], run: EpochRun) -> list[int] | None:
        """The positions that these answers are for, if each may be taken; None, and nothing is changed, if not."""
        entries = [self._leases.get(lease) for lease in leases]
        positions = [entry[1] for entry in entries if entry is not None and entry[0] is run and entry[2] is worker]
        if len(positions) != len(set(leases)) or len(positions) != len(leases):
            return None
        for lease in leases:
            del self._leases[lease]
            worker.leases.pop(lease, None)
        return positions

    def withdraw(self, lease: int) -> int | None:
        """The lease no longer counts, but its worker stays occupied; returns the position if pending again."""
        entry = self._leases.get(lease)
        if entry is not None and entry[0].unlease(entry[1], lease):
            return entry[1]
        return None

    def expire(self, worker: Worker, leases: Iterable[int]) -> int:
        """The worker does not hold these any more; returns how many positions are pending again for it."""
        returned = 0
        for lease in leases:
            worker.leases.pop(lease, None)
            worker.unlisted.discard(lease)
            returned += self.withdraw(lease) is not None
        return returned

    def release(self, worker: Worker) -> int:
        """The worker is lost: all its leases; returns how many positions are pending again."""
        worker.reserved = False
        return self.expire(worker, list(worker.leases))

    # ------------------------------------------------------------ delivery

    def note_buffered(self, run: EpochRun, positions: Sequence[int], nbytes: int) -> None:
        """The outcomes of these positions are batches of ``nbytes`` each."""
        if self._held is not None:
            self._held.note_buffered(run.epoch, positions, nbytes)

    def pop_deliverable(self, run: EpochRun) -> tuple[Sequence[int], list[Any]]:
        positions, outcomes = run.pop_deliverable()
        self.delivered_total += len(outcomes)
        if self._held is not None and outcomes:
            self._held.note_delivered(run.epoch, positions)
        return positions, outcomes

    def note_taken(self, total: int) -> None:
        """The trainer has taken so many in all; a count from before an earlier one changes nothing."""
        count = total - self.taken_total
        if count > 0:
            self.taken_total = total
            if self._held is not None:
                self._held.note_taken(count)
