"""Heartbeats, silence and time-outs of workers, and the coordinator's own pauses.

Each heartbeat lists its worker's leases. A granted lease missing from the list was lost on the way and is granted again
(reconciliation), so nothing depends on a message having arrived. Two looks a heartbeat interval find silent workers.
"""

from __future__ import annotations

import math

from enqueuer.core import comparing, joining, leaving, offences, refusals, sampling, supervision
from enqueuer.core.actions import WARNING, FleetFailed
from enqueuer.core.fleet import FORGET_SECONDS
from enqueuer.core.state import State
from enqueuer.core.usage import Told
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import Heartbeat, HeartbeatReply

# Heartbeat intervals for a worker with a broken connection to come back; a live one does at once.
_GRACE_HEARTBEATS = 2
# After this many heartbeat intervals of silence, a worker is sent a reply: a dead connection breaks by it, before the
# time-out.
_PROBE_HEARTBEATS = 2.5


# ---------------------------------------------------------------- time


def begin_turn(state: State, now: float) -> None:
    """Set the time of the turn. The coordinator's own pause moves all deadlines: it is not its workers' silence.

    A pause is a gap between two turns beyond every deadline: the trainer was stopped, or code held its GIL.
    """
    gap = now - max(state.now, state.sweep_at) - state.options.timing.heartbeat_interval
    state.now = now
    if gap > 0:
        for worker in state.fleet:
            worker.last_seen += gap
            worker.last_answer += gap
            worker.unlinked_at += gap
        for supervisor in state.fleet.supervisors.values():
            supervisor.last_seen += gap
        state.samples.shift(gap)
        state.alone_since += gap
        state.warned_at += gap


def run_timers(state: State) -> None:
    """Look at all workers, twice a heartbeat interval."""
    if state.now < state.sweep_at:
        return
    state.sweep_at = state.now + state.options.timing.heartbeat_interval / 2
    for worker in state.fleet:
        if not worker.in_process:
            _check_alive(state, worker)
    state.fleet.forget_lost(state.now - FORGET_SECONDS)
    supervision.forget_silent(state)
    comparing.review_contests(state)
    sampling.review(state)
    _warn_without_workers(state)


def _check_alive(state: State, worker: Worker) -> None:
    timing = state.options.timing
    silence = state.now - worker.last_seen
    if state.now - worker.unlinked_at >= _GRACE_HEARTBEATS * timing.heartbeat_interval:
        # Even if its supervisor vouches for it: the last leases granted over the old connection may never have come.
        leaving.lose(state, worker, "its connection broke")
    elif silence >= timing.worker_timeout:
        leaving.lose(state, worker, f"silent for {silence:.1f} s")
    elif silence >= _PROBE_HEARTBEATS * timing.heartbeat_interval:
        state.send(worker, HeartbeatReply(worker.received_seq, worker.highest_seq, math.inf))


def _warn_without_workers(state: State) -> None:
    present, least = state.scheduler.slots_count + state.samples.waiting_count, state.options.min_workers
    if (present and (present >= least or state.ledger.leased_count)) or not state.ledger.has_pending:
        state.alone_since = state.warned_at = state.now
        return
    waited, limit = state.now - state.alone_since, state.options.no_worker_timeout
    workers = f"only {present} of min_workers={least} workers" if present else "no worker"
    where = f" connected to {state.facts.address}" if state.facts.address else ""
    refused = refusals.describe(state)
    if limit is not None and waited >= limit:
        text = f"{workers}{where} for {waited:.0f} s, and no_worker_timeout={limit:g}"
        state.actions.append(FleetFailed(f"{text}; {refused or 'start workers first, or allow more time'}"))
        state.alone_since = state.now
    elif state.now - state.warned_at >= state.options.timing.no_worker_warning:
        state.report(WARNING, f"{workers}{where} for {waited:.0f} s; {refused or 'waiting'}")
        state.warned_at = state.now


# ---------------------------------------------------------------- heartbeats


def on_heartbeat(state: State, worker: Worker, message: Heartbeat) -> None:
    """Reconcile the worker's leases with the ledger, repeat messages it seems to have missed, and reply."""
    if (offence := offences.wrong_heartbeat(state, worker, message)) is not None:
        offences.report_offence(state, worker, offence)
        return
    worker.note_round_trip(message.round_trip)
    worker.memory_bytes = message.memory_bytes
    if worker.batches_count:
        told = Told.by(message, worker.busy_seconds, state.now)
        state.usage.note(worker.told, told)
        worker.told = told
    ignored = _reconcile(state, worker, message)
    newest = state.newest_epoch
    behind = newest is not None and message.generation != newest.generation
    if behind or ignored or (worker.state is WorkerState.JOINING and not state.samples.is_waiting(worker)):
        # An Epoch, or the answer to it, was lost; a worker ignores an Epoch it has. A whole Sequence may still be on
        # its way over a slow line, and a second one behind it would only delay it.
        timing = state.options.timing
        patience = timing.coordinator_timeout if joining.carries_sequence(state, worker.channel) else 0.0
        if state.now - worker.epochs_sent_at >= patience:
            joining.send_epochs(state, worker)
    state.send(worker, HeartbeatReply(worker.received_seq, worker.highest_seq, message.sent_at))


def _reconcile(state: State, worker: Worker, message: Heartbeat) -> bool:
    """Whether the worker seems to have ignored a grant, as it does without the grant's Epoch."""
    held = set(message.held)
    missing = [lease for lease in worker.leases if lease not in held]
    # A lease the worker has seen and does not hold is lost. One it has not seen may be on its way: it is lost if the
    # next heartbeat lacks it as well.
    gone = [lease for lease in missing if lease <= message.highest_grant or lease in worker.unlisted]
    ignored = any(lease > message.highest_grant for lease in gone)
    worker.unlisted = set(missing).difference(gone)
    if state.ledger.expire(worker, gone):
        state.report(WARNING, f"{len(gone)} leases of worker {worker.name} were lost on the way; granting again")
    state.ledger.reinstate(worker, message.held, state.now)
    return ignored
