"""The coordinator as a pure state machine: `handle(events, now) -> actions`, `next_deadline()`.

    events ──► one rule for each kind (the tables below) ──► State ──► granting ──► actions

A turn: all events of a poll, then timers, then what can be delivered, then what can be granted. No socket, thread,
clock or randomness in here: the I/O loop drives it, and so does the simulated cluster. `state` draws the whole core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from enqueuer.core import granting, joining, leaving, liveness, observing, offences, refusals, results, supervision
from enqueuer.core.actions import CRITICAL, Action, Deliver, EpochEnded, RemoteLine
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.events import (
    BlockUnavailable,
    ControlReceived,
    EpochConfirmed,
    EpochEndRequested,
    EpochOpened,
    Event,
    Malformed,
    ResultsReceived,
    ResultsRefused,
    Right,
    Route,
    RouteLost,
    StopRequested,
    SupervisorDied,
    Taken,
    ThreadsJoined,
    ThreadTimedOut,
)
from enqueuer.core.peer import Supervisor
from enqueuer.core.settings import SessionFacts
from enqueuer.core.state import State
from enqueuer.core.worker import Worker
from enqueuer.options import Options
from enqueuer.protocol.messages import (
    Children,
    Drain,
    Failure,
    Goodbye,
    Heartbeat,
    Hello,
    LoadFailure,
    Log,
    Message,
    Observe,
    Ready,
    Stop,
    WhoAreYou,
    WorkerExited,
)

# An honest worker of the smallest batches holds some ten thousand leases, and lists them once a second.
_HELD_AS_A_MESSAGE = 1024


class Coordinator:
    """One session. One thread (the I/O thread) calls it; ``state`` may be read there between two turns."""

    def __init__(self, options: Options, facts: SessionFacts, now: float) -> None:
        self.state = State(options, facts, now)

    def handle(self, events: Iterable[Event], now: float) -> list[Action]:
        """Take what happened by ``now``, and return what to do, in order.

        ``events`` are all that a poll brought, before any timer runs; none if only time has passed.
        """
        state = self.state
        if state.is_stopped:
            return []
        liveness.begin_turn(state, now)
        for event in events:
            _EVENT_RULES[type(event)](state, event)
            if state.is_stopped:
                return state.take_actions()
        liveness.run_timers(state)
        # Before more is delivered: it looks at how little was left for the trainer since the last turn.
        state.scheduler.review_depth()
        if state.ledger.ended or state.ending is not None:
            _end_early(state)
        _deliver(state)
        granting.grant(state)
        return state.take_actions()

    def next_deadline(self) -> float:
        """When `handle` wants to be called even if nothing happens."""
        state = self.state
        return math.inf if state.is_stopped else min(state.sweep_at, granting.next_deadline(state))

    def ignores(self, peer: Route | bytes) -> bool:
        """Whether the shell drops messages over this route, or from this incarnation, unread."""
        return self.state.peers.is_banned(peer)

    @property
    def takes_until_wake(self) -> int | None:
        """How many more takes of the trainer are worth a turn; None: takes alone are not.

        While a slot with long batches waits for room in the bound, each take is, and while all have enough to compute,
        none is; otherwise room is collected, so that small batches are granted many at a time.
        """
        ledger, scheduler = self.state.ledger, self.state.scheduler
        ready_count = ledger.ready_count
        if ready_count == 0 or not scheduler.has_takers or not ledger.has_pending:
            return None
        if scheduler.has_costly_idle:
            return 1
        if scheduler.can_wait:
            return None
        return min(ready_count, scheduler.room_wanted or -(-ready_count // 2))

    @property
    def taken_total(self) -> int:
        """Outcomes that the trainer has taken, as far as events have said."""
        return self.state.ledger.taken_total

    @property
    def slots_count(self) -> int:
        """Slots of workers that serve now."""
        return self.state.scheduler.slots_count

    @property
    def refusals(self) -> str:
        """Workers that came and were refused, by reason; '' if there was none."""
        return refusals.describe(self.state)

    @property
    def routes(self) -> list[Route]:
        """The routes of all workers and supervisors."""
        return _routes(self.state)

    def has_left(self, incarnation: bytes) -> bool:
        """Whether a worker is not there: lost, gone or unknown."""
        return self.state.fleet.has_left(incarnation)


# ---------------------------------------------------------------- epochs, takes, the end


def _on_epoch_opened(state: State, event: EpochOpened) -> None:
    old = state.ledger.runs.get(event.epoch)
    if old is not None:
        granting.revoke_all_of(state, old)
        state.ledger.close(old)
    ordered, confirmed = state.options.ordered, not event.gated
    run = EpochRun(event.epoch, event.generation, event.order, ordered=ordered, confirmed=confirmed)
    state.ledger.open(run)
    joining.announce(state, event)


def _on_epoch_confirmed(state: State, event: EpochConfirmed) -> None:
    run = state.ledger.runs.get(event.epoch)
    if run is not None:
        run.confirmed = True


def _on_epoch_end_requested(state: State, event: EpochEndRequested) -> None:
    run = state.ledger.runs.get(event.epoch)
    if run is not None:
        granting.revoke_all_of(state, run)
        state.ledger.end_early(run)
    state.ending = event.epoch


def _on_taken(state: State, event: Taken) -> None:
    state.ledger.note_taken(event.total)


def _on_stop_requested(state: State, _event: StopRequested) -> None:
    for route in _routes(state):
        state.send(route, Stop())
    # Outcomes may be large, and this object may wait for the garbage collector.
    state.ledger.close_all()
    state.is_stopped = True


def _routes(state: State) -> list[Route]:
    return [worker.route for worker in state.fleet if worker.route is not None] + list(state.fleet.supervisors)


def _end_early(state: State) -> None:
    """Report the epoch that ended early, and close the books of ended epochs without a running item."""
    ending = None if state.ending is None else state.ledger.ended.get(state.ending)
    if state.ending is not None and (ending is None or not state.ledger.is_computed_in_process(ending)):
        state.actions.append(EpochEnded(state.ending))
        state.ending = None
    for run in [run for run in state.ledger.ended.values() if not run.leased_count]:
        state.ledger.close(run)


def _deliver(state: State) -> None:
    for _, run in sorted(state.ledger.runs.items()):
        positions, outcomes = state.ledger.pop_deliverable(run)
        if outcomes:
            state.actions.append(Deliver(run.epoch, positions, results.skip_or_raise(state, outcomes)))
        if run.complete:
            granting.revoke_all_of(state, run)
            state.ledger.close(run)
        if not run.confirmed or not run.complete:
            break


# ---------------------------------------------------------------- control messages


def _on_malformed(state: State, event: Malformed) -> None:
    state.peers.malformed_count += 1
    offences.report_offence(state, event.route, f"sent a malformed message: {event.reason}")


def _on_control(state: State, event: ControlReceived) -> None:
    message, route = event.message, event.route
    worker, supervisor = state.fleet.at(route), state.fleet.supervisors.get(route)
    # Answers to leases are bounded by the leases.
    if (worker is None or type(message) is not Failure) and not _may_talk(state, event, worker or supervisor):
        return
    rule = _OBSERVER_RULES.get(type(message))
    if rule is not None:
        rule(state, event, message)
    elif event.right is Right.OBSERVE:
        observing.refuse(state, event)
    elif isinstance(message, Hello):
        joining.on_hello(state, route, event.session, message, event.key)
    elif event.session != state.facts.session or (worker is None and supervisor is None):
        state.send(route, WhoAreYou())
    else:
        peer: Worker | Route
        if worker is not None:
            worker.last_seen = state.now
            role, peer, rules = "worker", worker, _WORKER_RULES
        else:
            role, peer, rules = "supervisor", route, _SUPERVISOR_RULES
        if (rule := rules.get(type(message))) is not None:
            rule(state, peer, message)
        else:
            offences.report_offence(state, peer, f"said {type(message).__name__}, which no {role} says")


def _may_talk(state: State, event: ControlReceived, peer: Worker | Supervisor | None) -> bool:
    if state.peers.is_banned(event.route):
        # An earlier message of this very turn has banned it.
        state.peers.ignored_count += 1
        return False
    record = peer.peer if peer is not None else state.peers.unidentified(event.route)
    if record.talk.take(state.now, _weight(event.message)):
        return True
    offences.report_offence(state, event.route, "floods the control channel")
    return False


def _weight(message: Message) -> int:
    """For how many messages this one counts: 65 536 leases can be listed in ten bytes, and take 40 ms to look at."""
    return 1 + len(message.held) // _HELD_AS_A_MESSAGE if isinstance(message, Heartbeat | Hello) else 1


def _on_log(state: State, worker: Worker, message: Log) -> None:
    if worker.peer.lines.take(state.now):
        level = min(max(message.level, 0), CRITICAL)
        state.actions.append(RemoteLine(level, message.logger, worker.worker_id, worker.host, message.text))


# ---------------------------------------------------------------- the tables

_EVENT_RULES: Final[dict[type, Callable[[State, Any], None]]] = {
    ControlReceived: _on_control,
    ResultsReceived: results.on_results,
    Taken: _on_taken,
    ResultsRefused: results.on_results_refused,
    BlockUnavailable: results.on_block_unavailable,
    Malformed: _on_malformed,
    RouteLost: leaving.on_route_lost,
    SupervisorDied: leaving.on_supervisor_died,
    ThreadsJoined: joining.add_threads,
    ThreadTimedOut: results.on_thread_timed_out,
    EpochOpened: _on_epoch_opened,
    EpochConfirmed: _on_epoch_confirmed,
    EpochEndRequested: _on_epoch_end_requested,
    StopRequested: _on_stop_requested,
}

# The rules for messages take the peer second: a Worker, or a supervisor's Route.
_WORKER_RULES: Final[dict[type, Callable[[State, Any, Any], None]]] = {
    Ready: joining.on_ready,
    Heartbeat: liveness.on_heartbeat,
    Failure: results.on_failure,
    LoadFailure: joining.on_load_failure,
    Drain: leaving.on_drain,
    Goodbye: leaving.on_goodbye,
    Log: _on_log,
}

_OBSERVER_RULES: Final[dict[type, Callable[[State, ControlReceived, Any], None]]] = {Observe: observing.on_observe}

_SUPERVISOR_RULES: Final[dict[type, Callable[[State, Route, Any], None]]] = {
    WorkerExited: supervision.on_worker_exited,
    Children: supervision.on_children,
}
