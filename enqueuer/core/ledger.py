"""The books: which worker holds which lease, and which positions of each open epoch are undelivered.

Lease numbers count up and are never used twice. A lease stays in the table, findable for a late answer, until it is
answered or its epoch is closed. The epoch's run says whether the lease still counts.

The ledger alone writes `Worker.leases`, and tells the worker's hook of each change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice, repeat

from enqueuer.core.actions import Outcome
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.worker import Worker

# A lease: the epoch that it is on, its position there, and the worker that holds it.
LeaseEntry = tuple[EpochRun, int, Worker]

# A leaving worker may still answer this many of its leases; for the comparison, the other answer's digest is kept.
_MOST_WATCHED = 16


class HeldBytes:
    """Bytes of received batches until they are taken, each by its own weight. Other outcomes weigh nothing."""

    def __init__(self) -> None:
        self.total = 0
        # By epoch and position.
        self._buffered: dict[int, dict[int, int]] = {}
        # Weights of ready batches, in the order in which they are taken.
        self._ready: deque[int] = deque()

    def note_buffered(self, epoch: int, positions: Sequence[int], nbytes: int) -> None:
        """Batches of ``nbytes`` each have come for these positions."""
        self._buffered.setdefault(epoch, {}).update(dict.fromkeys(positions, nbytes))
        self.total += nbytes * len(positions)

    def note_delivered(self, epoch: int, positions: Sequence[int]) -> None:
        """Note that batches at these positions are ready to be taken."""
        weights = self._buffered.get(epoch, {})
        self._ready.extend([weights.pop(position, 0) for position in positions])

    def note_taken(self, count: int) -> None:
        """Note that the trainer took this many outcomes."""
        for _ in range(count):
            self.total -= self._ready.popleft()

    def forget(self, epoch: int) -> None:
        """Drop the epoch's buffered batches."""
        self.total -= sum(self._buffered.pop(epoch, {}).values())


class Ledger:
    """The open epochs (the current one, and at most the one after it) and all leases on them."""

    def __init__(self, *, weighs: bool = False) -> None:
        """``weighs``: keep `held_bytes`, at a cost for each batch."""
        self.runs: dict[int, EpochRun] = {}
        # Epochs that ended early, as long as workers still compute items of theirs.
        self.ended: dict[int, EpochRun] = {}
        self.stale_count = 0
        self.delivered_total = 0
        self.taken_total = 0
        self._leases: dict[int, LeaseEntry] = {}
        self.next_lease = 1
        self._held = HeldBytes() if weighs else None
        # Indices that ended workers in the epoch closed last.
        self._harmful: set[int] = set()
        # Leases on samples are in the table as well, under this run of no epoch: they answer no position.
        self.samples = EpochRun(-1, -1, (), ordered=True, confirmed=False)

    # ------------------------------------------------------------ counts

    @property
    def undelivered_count(self) -> int:
        """Leased, received and ready batches; the bound is on these."""
        return sum([run.undelivered_count for run in self.runs.values()]) + self.ready_count

    @property
    def leased_count(self) -> int:
        """Positions with a live lease."""
        return sum([run.leased_count for run in self.runs.values()])

    @property
    def ready_count(self) -> int:
        """Delivered to the ready queue and not taken by the trainer."""
        return self.delivered_total - self.taken_total

    @property
    def held_bytes(self) -> int:
        """Bytes of the batches received and not yet taken; 0 unless they are weighed."""
        return self._held.total if self._held is not None else 0

    @property
    def has_pending(self) -> bool:
        """Whether any position can be leased."""
        return any(run.has_pending for run in self.runs.values()) or self.has_suspects

    @property
    def has_suspects(self) -> bool:
        """Whether any position that ended a worker can be leased."""
        return any(run.has_suspects for run in self.runs.values())

    def holds_back(self, run: EpochRun) -> bool:
        """Whether `busy_indices` may name any for the earliest open run."""
        return bool(self.ended or (self._harmful and not run.confirmed))

    def busy_indices(self, run: EpochRun) -> set[int]:
        """Indices not to be leased in this run yet, because an earlier epoch's item of the same index is not done.

        Two workers computing one index at once would both write its cache file, say. An index that ended workers waits
        for the trainer as well: it hears of the failed batch first, and may stop there.
        """
        busy: set[int] = set() if run.confirmed else set(self._harmful)
        for earlier in (*self.runs.values(), *self.ended.values()):
            if earlier.epoch < run.epoch:
                busy |= earlier.unanswered_indices()
        return busy

    def find(self, lease: int) -> LeaseEntry | None:
        """The lease's entry, until it is answered or its epoch is closed."""
        return self._leases.get(lease)

    # ------------------------------------------------------------ epochs

    def open(self, run: EpochRun) -> None:
        """Begin an epoch's books."""
        self.runs[run.epoch] = run

    def end_early(self, run: EpochRun) -> None:
        """Drop what the epoch has not delivered. Its live leases keep their indices from the next epoch's."""
        self.ended[run.epoch] = self.runs.pop(run.epoch)
        run.end_early()
        if self._held is not None:
            self._held.forget(run.epoch)

    def is_computed_in_process(self, run: EpochRun) -> bool:
        """Whether threads of the trainer still compute items of the run."""
        entries = [self._leases.get(lease) for lease in run.live_leases()]
        return any(entry is not None and entry[2].in_process for entry in entries)

    def close(self, run: EpochRun) -> None:
        """Forget the run and every lease on it. Workers stay occupied by theirs until they answer or unlist them."""
        for runs in (self.runs, self.ended):
            if runs.get(run.epoch) is run:
                del runs[run.epoch]
        self._harmful = run.harmful_indices()
        if self._held is not None:
            self._held.forget(run.epoch)
        for lease in [lease for lease, (owner, _, _) in self._leases.items() if owner is run]:
            del self._leases[lease]

    def close_all(self) -> None:
        """Drop all outcomes."""
        self.runs.clear()
        self.ended.clear()
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
        worker.changed(worker)
        return first

    def grant_samples(self, worker: Worker, count: int, now: float) -> int:
        """Leases for samples, which occupy the worker like any other; returns the first number."""
        first = self.next_lease
        self.next_lease += count
        leases = range(first, self.next_lease)
        self._leases.update(dict.fromkeys(leases, (self.samples, -1, worker)))
        worker.leases.update(dict.fromkeys(leases, now))
        worker.changed(worker)
        return first

    def answer(self, worker: Worker, lease: int, run: EpochRun | None) -> int | None:
        """The position of an answer that counts; None for a stale one. Without a run, every answer is stale."""
        entry = self._leases.get(lease)
        if entry is None or entry[0] is not run or entry[2] is not worker:
            self.stale_count += 1
            if lease in worker.leases:
                self.expire(worker, (lease,))
            return None
        worker.leases.pop(lease, None)
        del self._leases[lease]
        worker.changed(worker)
        return entry[1]

    def answer_all(self, worker: Worker, leases: Sequence[int], run: EpochRun) -> list[int] | None:
        """The positions of these answers if each of them counts; otherwise None, and nothing changes."""
        # A lease named twice is gone the second time.
        entries = list(map(self._leases.pop, leases, repeat(None)))
        positions = [entry[1] for entry in entries if entry is not None and entry[0] is run and entry[2] is worker]
        if len(positions) != len(entries):
            found = zip(leases, entries, strict=True)
            self._leases.update({lease: entry for lease, entry in found if entry is not None})
            return None
        deque(map(worker.leases.pop, leases, repeat(None)), maxlen=0)
        worker.changed(worker)
        return positions

    def withdraw(self, lease: int) -> int | None:
        """End the lease while its worker stays occupied; returns the position if it is pending again."""
        entry = self._leases.get(lease)
        if entry is not None and entry[0].unlease(entry[1], lease):
            return entry[1]
        return None

    def expire(self, worker: Worker, leases: Iterable[int]) -> int:
        """End these leases and free the worker of them; returns how many positions are pending again for it."""
        returned = 0
        for lease in leases:
            worker.leases.pop(lease, None)
            worker.unlisted.discard(lease)
            returned += self.withdraw(lease) is not None
        worker.changed(worker)
        return returned

    def reinstate(self, worker: Worker, held: Iterable[int], now: float) -> None:
        """Occupy the worker again with leases that it still holds: they were revoked too late, so they run."""
        for lease in held:
            entry = self._leases.get(lease)
            if entry is not None and entry[2] is worker:
                worker.leases.setdefault(lease, now)
        worker.changed(worker)

    def release(self, worker: Worker) -> int:
        """End all leases of a worker that leaves; returns how many positions are pending again."""
        worker.reserved = False
        for lease in islice(worker.leases, _MOST_WATCHED):
            entry = self._leases.get(lease)
            if entry is not None and entry[0].is_live(entry[1], lease):
                entry[0].twice.add(entry[1])
        return self.expire(worker, list(worker.leases))

    # ------------------------------------------------------------ delivery

    def note_buffered(self, run: EpochRun, positions: Sequence[int], nbytes: int) -> None:
        """Batches of ``nbytes`` each have come for these positions."""
        if self._held is not None:
            self._held.note_buffered(run.epoch, positions, nbytes)

    def pop_deliverable(self, run: EpochRun) -> tuple[Sequence[int], list[Outcome]]:
        """Positions and outcomes that can be delivered now, in the order of delivery."""
        positions, outcomes = run.pop_deliverable()
        self.delivered_total += len(outcomes)
        if self._held is not None and outcomes:
            self._held.note_delivered(run.epoch, positions)
        return positions, outcomes

    def note_taken(self, total: int) -> None:
        """The trainer has taken this many in all; an outdated count changes nothing."""
        count = total - self.taken_total
        if count > 0:
            self.taken_total = total
            if self._held is not None:
                self._held.note_taken(count)
