"""Carries out what the scheduler and the hedger decide: books leases and says so, moves them, revokes them."""

from __future__ import annotations

import math

from enqueuer.core.actions import Action, EpochExhausted, Send
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.fleet import Fleet
from enqueuer.core.hedging import Hedger
from enqueuer.core.ledger import Ledger
from enqueuer.core.scheduler import REBALANCE_INTERVAL, Assignment, Scheduler
from enqueuer.core.settings import Settings
from enqueuer.core.worker import Worker
from enqueuer.protocol.messages import Grant, Revoke

# How long room for short batches is collected at most.
_COLLECT_SECONDS = 0.001


class Granting:
    """Appends to the coordinator's actions."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        fleet: Fleet,
        scheduler: Scheduler,
        hedger: Hedger,
        actions: list[Action],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._fleet = fleet
        self._scheduler = scheduler
        self._hedger = hedger
        self._actions = actions
        self.hedges_count = 0
        self._rebalance_at = self._collecting_until = math.inf
        self._had_min_workers = False

    @property
    def next_deadline(self) -> float:
        return min(self._rebalance_at, self._collecting_until, self._hedger.next_deadline)

    def revoke_all_of(self, run: EpochRun) -> None:
        """Leases that nobody waits for any more (hedged, late, or of an outdated state) need not be computed."""
        for worker in self._fleet:
            if worker.in_process or worker.route is None:
                continue
            useless = [lease for lease in worker.leases if self._is_useless(lease, run)]
            if useless:
                self.revoke(worker, useless)

    def revoke(self, worker: Worker, leases: list[int]) -> None:
        """Nobody waits for these: what is queued there frees its place, what is running occupies it until answered."""
        if worker.route is None or worker.in_process:
            return  # the trainer's threads answer all that they are granted: nothing queues there for long
        self._actions.append(Send(worker.route, Revoke(tuple(leases))))
        queued = set(leases).difference(list(worker.leases)[: worker.slots])
        self._ledger.expire(worker, queued)
        self._scheduler.note_load(worker)

    def _is_useless(self, lease: int, run: EpochRun) -> bool:
        entry = self._ledger.find(lease)
        return entry is not None and entry[0] is run

    def grant(self, now: float) -> None:
        """All that may be leased now."""
        self._rebalance_at = self._hedger.next_deadline = math.inf
        if not self._ledger.runs or not self._has_min_workers():
            self._collecting_until = math.inf
            return
        if not self._waits_for_room(now):
            while assignments := self._scheduler.assign():
                for assignment in assignments:
                    self._book(assignment, now)
        for run in self._ledger.runs.values():
            if run.fresh_count == 0 and not run.exhausted_reported:
                run.exhausted_reported = True
                self._actions.append(EpochExhausted(run.epoch))
        if self._scheduler.has_idle:
            self._hedge(now)
            self._rebalance(now)

    def _waits_for_room(self, now: float) -> bool:
        """Whether more will be granted at once in a moment; not for long, since the trainer may take nothing more."""
        if self._scheduler.room_wanted == 0 or now >= self._collecting_until:
            self._collecting_until = math.inf
            return False
        self._collecting_until = min(self._collecting_until, now + _COLLECT_SECONDS)
        return True

    def _hedge(self, now: float) -> None:
        for assignment in self._hedger.hedges(now):
            self.hedges_count += 1
            self._book(assignment, now)

    def _rebalance(self, now: float) -> None:
        for move in self._scheduler.moves(now):
            assert move.loser.route is not None
            self._actions.append(Send(move.loser.route, Revoke((move.lease,))))
            # Queued there, not running: it frees its place at once.
            self._ledger.expire(move.loser, (move.lease,))
            self._scheduler.note_load(move.loser)
            positions = move.run.take_pending(1)
            if positions:  # else it has become a suspect meanwhile, which is leased in its own way
                self._book(Assignment(move.taker, move.run, positions), now)
        if self._scheduler.has_movable:
            self._rebalance_at = now + REBALANCE_INTERVAL

    def _book(self, assignment: Assignment, now: float) -> None:
        worker, run, positions = assignment
        first = self._ledger.grant(worker, run, positions, now)
        if worker.load == len(positions):
            worker.last_answer = now
        self._scheduler.note_load(worker)
        assert worker.route is not None
        # From a list: `_indices` of the control codec says why.
        indices = tuple([run.order[position] for position in positions])
        grant = Grant(run.epoch, run.generation, worker.received_seq, first, indices)
        self._actions.append(Send(worker.route, grant))

    def _has_min_workers(self) -> bool:
        if not self._had_min_workers:
            self._had_min_workers = self._scheduler.slots_count >= self._settings.min_workers
        return self._had_min_workers
