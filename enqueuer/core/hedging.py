"""Decides when a batch is late, measured by recent batches, and which other worker computes it as well.

Only the head of the order is hedged, because the trainer waits for it, and only on a slot with nothing else to do: the
second lease costs processor time that was idle. By definition, one batch in twenty takes longer than the 95th
percentile, so a healthy fleet hedges fewer than that.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from operator import itemgetter
from typing import NamedTuple

from enqueuer.core.assignments import Assignment
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.ledger import Ledger
from enqueuer.core.scheduler import Scheduler
from enqueuer.core.worker import Worker

# Recent batches: those of so many result messages. Fewer than the least number say nothing.
_WINDOW = 200
_LEAST_SAMPLES = 10
# The percentile is computed anew after this many messages.
_REFRESH = 20
# A shorter delay is one of a thread or a packet: a second lease would come no sooner. Seconds.
_LEAST_SECONDS = 0.05


class ComputeTimes:
    """The 95th percentile of recent compute times, in seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Worker]] = deque(maxlen=_WINDOW)
        self._since_refresh = 0
        # As of the last refresh. Sorted once for all workers: in a large fleet, each head is on another worker.
        self._slowest_first: list[tuple[float, Worker]] = []
        self._counts: Counter[Worker] = Counter()
        self._p95_of_others: dict[Worker, float] = {}
        self._knows_enough = False

    def note(self, worker: Worker, seconds: float) -> None:
        """Note the mean compute time of a result message."""
        self._samples.append((seconds, worker))
        self._since_refresh += 1

    def p95_of_others(self, worker: Worker) -> float:
        """The percentile without this worker's own times; infinite as long as too few are known.

        A slow worker among few makes up the slowest twentieth itself, and would never be late by its own measure.
        """
        if self._since_refresh >= _REFRESH or (self._since_refresh and not self._knows_enough):
            self._refresh()
        if worker not in self._p95_of_others:
            self._p95_of_others[worker] = self._find_p95(worker)
        return self._p95_of_others[worker]

    def _refresh(self) -> None:
        self._since_refresh = 0
        self._slowest_first = sorted(self._samples, key=itemgetter(0), reverse=True)
        self._counts = Counter(worker for _, worker in self._samples)
        self._p95_of_others.clear()
        self._knows_enough = True

    def _find_p95(self, worker: Worker) -> float:
        count = len(self._slowest_first) - self._counts[worker]
        if count < _LEAST_SAMPLES:
            self._knows_enough = False
            return math.inf
        slower_count = count - math.ceil(0.95 * count)
        others = (seconds for seconds, other in self._slowest_first if other is not worker)
        return next(itertools.islice(others, slower_count, None))


class _Late(NamedTuple):
    """A position with one live lease, its holder, and when it is late."""

    position: int
    holder: Worker
    late_at: float


class Hedger:
    """Decides which late batches a second worker computes; `granting` books and sends the leases.

    A batch is late after ``factor`` times the 95th percentile of compute times; None: never.
    """

    def __init__(self, factor: float | None, ledger: Ledger, scheduler: Scheduler) -> None:
        self._factor = factor
        self._ledger = ledger
        self._scheduler = scheduler
        self._times = ComputeTimes()
        # When the head will be late, if it is not answered before; infinite while no other worker could take it.
        self.late_at = math.inf

    def rest(self) -> None:
        """Wait for nothing, until `hedges` looks again."""
        self.late_at = math.inf

    def note_batches(self, worker: Worker, count: int, busy: float) -> None:
        """Note a result message: ``count`` batches that took ``busy`` seconds together."""
        self._times.note(worker, busy / count)

    def hedges(self, now: float) -> list[Assignment]:
        """Second leases for the head of the order and for positions as late behind it, one an idle slot.

        The caller books all of them before it does anything else.
        """
        self.late_at = math.inf
        run = self._current_run()
        if self._factor is None or run is None:
            return []
        late = self._judge(run, run.head_in_waiting)
        if late is None:
            return []
        if late.late_at > now:
            self.late_at = late.late_at
            return []
        idle = self._scheduler.idle_workers()
        assignments: list[Assignment] = []
        for position in run.lowest_leased(len(idle)):
            late = self._judge(run, position)
            taker = next((worker for worker in idle if late is not None and worker is not late.holder), None)
            if late is None or taker is None or late.late_at > now:
                continue
            idle.remove(taker)
            assignments.append(Assignment(taker, run, [position]))
        return assignments

    def _current_run(self) -> EpochRun | None:
        runs = self._ledger.runs
        run = runs[min(runs)] if runs else None
        return run if run is not None and run.confirmed else None

    def _judge(self, run: EpochRun, position: int | None) -> _Late | None:
        """When the position is late; None if it is not to be hedged.

        A position is not hedged while it is answered, pending, hedged already, a suspect, or without another free
        worker.
        """
        lease = run.only_lease(position) if position is not None else None
        entry = self._ledger.find(lease) if lease is not None else None
        if lease is None or position is None or entry is None or position in run.deaths:
            return None
        holder = entry[2]
        if not self._scheduler.has_idle_beside(holder):
            return None
        # A lease queueing behind a late one is late as well: its holder has not answered for as long.
        since = holder.leases.get(lease, math.inf) if holder.in_process else holder.busy_since(lease)
        assert self._factor is not None
        patience = max(self._factor * self._times.p95_of_others(holder), _LEAST_SECONDS) + holder.round_trip
        return _Late(position, holder, since + patience)
