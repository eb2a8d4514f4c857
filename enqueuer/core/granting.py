"""Carries out the decisions of scheduler and hedger: books leases and sends them, moves them, revokes them."""

from __future__ import annotations

import math

from enqueuer.core.actions import EpochExhausted, Outcome
from enqueuer.core.assignments import Assignment
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.scheduler import REBALANCE_INTERVAL
from enqueuer.core.state import State
from enqueuer.core.worker import Worker
from enqueuer.protocol.messages import Grant, Revoke

# How long room for short batches is collected at most.
_COLLECT_SECONDS = 0.001


def next_deadline(state: State) -> float:
    """When granting wants a turn even if nothing happens."""
    return min(state.rebalance_at, state.collecting_until, state.hedger.late_at)


def grant(state: State) -> None:
    """Lease all that may be leased now."""
    state.rebalance_at = math.inf
    state.hedger.rest()
    if not state.ledger.runs or not _has_min_workers(state):
        state.collecting_until = math.inf
        return
    if not _waits_for_room(state):
        while assignments := state.scheduler.assign():
            for assignment in assignments:
                _book(state, assignment)
    for run in state.ledger.runs.values():
        if run.fresh_count == 0 and not run.exhausted_reported:
            run.exhausted_reported = True
            state.actions.append(EpochExhausted(run.epoch))
    if state.scheduler.has_idle:
        _hedge(state)
        _rebalance(state)


def settle(state: State, run: EpochRun, position: int, outcome: Outcome) -> bool:
    """Give the position its outcome, and revoke other leases on it; False if it had an outcome already."""
    leases = run.leases_of(position) if position in run.hedged else ()
    taken = run.answer(position, outcome)
    for lease in leases:
        entry = state.ledger.find(lease)  # None for the lease that was just answered
        if entry is not None:
            revoke(state, entry[2], [lease])
    return taken


def revoke_all_of(state: State, run: EpochRun) -> None:
    """Revoke all leases of the run: its epoch has ended, or its state is outdated."""
    for worker in state.fleet:
        if worker.in_process or worker.route is None:
            continue
        useless = [lease for lease in worker.leases if _is_of(state, lease, run)]
        if useless:
            revoke(state, worker, useless)


def revoke(state: State, worker: Worker, leases: list[int]) -> None:
    """Take leases back. A queueing lease frees its place at once, a running one when it is answered."""
    if worker.route is None or worker.in_process:
        return  # the trainer's threads answer every lease, and nothing queues there for long
    state.send(worker, Revoke(tuple(leases)))
    queued = set(leases).difference(list(worker.leases)[: worker.slots])
    state.ledger.expire(worker, queued)


def _is_of(state: State, lease: int, run: EpochRun) -> bool:
    entry = state.ledger.find(lease)
    return entry is not None and entry[0] is run


def _waits_for_room(state: State) -> bool:
    """Whether to wait for more room, so that one message grants more. The wait is short: no take may follow."""
    if state.scheduler.room_wanted == 0 or state.now >= state.collecting_until:
        state.collecting_until = math.inf
        return False
    state.collecting_until = min(state.collecting_until, state.now + _COLLECT_SECONDS)
    return True


def _hedge(state: State) -> None:
    for assignment in state.hedger.hedges(state.now):
        state.hedges_count += 1
        _book(state, assignment)


def _rebalance(state: State) -> None:
    for move in state.scheduler.moves(state.now):
        state.send(move.loser, Revoke((move.lease,)))
        # The lease queues there and does not run, so its place is free at once.
        state.ledger.expire(move.loser, (move.lease,))
        positions = move.run.take_pending(1, state.ledger.busy_indices(move.run))
        move.run.give_back()
        if positions:  # none if it has become a suspect meanwhile, which is leased in its own way
            _book(state, Assignment(move.taker, move.run, positions))
    if state.scheduler.has_movable:
        state.rebalance_at = state.now + REBALANCE_INTERVAL


def _book(state: State, assignment: Assignment) -> None:
    worker, run, positions = assignment
    was_idle = not worker.leases
    first = state.ledger.grant(worker, run, positions, state.now)
    if was_idle:
        worker.last_answer = state.now
    # A tuple made from a list: `_indices` of the control codec says why.
    order = run.order
    indices = tuple([order[position] for position in positions])
    state.send(worker, Grant(run.epoch, run.generation, worker.received_seq, first, indices))


def _has_min_workers(state: State) -> bool:
    if not state.has_had_min_workers:
        # Workers waiting for a sample count, since the sample needs a grant before.
        present = state.scheduler.slots_count + state.samples.waiting_count
        state.has_had_min_workers = present >= state.options.min_workers
    return state.has_had_min_workers
