"""The coordinator as a pure state machine: `handle(events, now) -> actions`, `next_deadline()`.

    events ──► handlers ──► ledger (who holds what, what is undelivered)
                       ├──► membership, departures (who is there, who goes)
                       └──► granting (who gets what next) ──► actions

No socket, thread, clock or randomness in here: the I/O loop feeds it, and so does the simulated cluster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from enqueuer.core.actions import CRITICAL, Action, Deliver, RemoteLine, Send
from enqueuer.core.answers import Answers
from enqueuer.core.conduct import Conduct
from enqueuer.core.departures import Departures
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.events import (
    BlockUnavailable,
    ControlReceived,
    EpochConfirmed,
    EpochOpened,
    Event,
    Malformed,
    ResultsReceived,
    ResultsRefused,
    Route,
    RouteLost,
    StopRequested,
    SupervisorDied,
    Taken,
    ThreadsJoined,
    ThreadTimedOut,
)
from enqueuer.core.failures import Failures
from enqueuer.core.fleet import Fleet
from enqueuer.core.granting import Granting
from enqueuer.core.hedging import Hedger
from enqueuer.core.ledger import Ledger
from enqueuer.core.membership import Membership
from enqueuer.core.scheduler import Scheduler
from enqueuer.core.settings import Settings
from enqueuer.core.supervision import Supervision
from enqueuer.core.worker import Worker
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
    Ready,
    Stop,
    WhoAreYou,
    WorkerExited,
)

# An honest worker of the smallest batches holds some ten thousand, and says so once a second.
_HELD_AS_A_MESSAGE = 1024


class Coordinator:
    """One session. `handle` is called by one thread (the I/O thread) only."""

    def __init__(self, settings: Settings, now: float) -> None:
        self.settings = settings
        self.ledger = Ledger(weighs=settings.max_bytes is not None)
        self.fleet = Fleet()
        self.scheduler = Scheduler(settings, self.ledger)
        self._actions: list[Action] = []
        self.failures = Failures(settings, self._actions, self._settle)
        self.conduct = Conduct(self.ledger, self._actions)
        self.departures = Departures(self.ledger, self.fleet, self.scheduler, self.conduct, self._actions)
        self.membership = Membership(
            settings,
            self.ledger,
            self.fleet,
            self.scheduler,
            self._actions,
            self.failures,
            self.conduct,
            self.departures,
            now,
        )
        self._worker_messages: dict[type, Any] = {
            Ready: self.membership.on_ready,
            Heartbeat: self.membership.on_heartbeat,
            LoadFailure: self.membership.on_load_failure,
            Drain: self.departures.on_drain,
            Goodbye: self.departures.on_goodbye,
        }
        self.hedger = Hedger(settings, self.ledger, self.scheduler)
        self.granting = Granting(settings, self.ledger, self.fleet, self.scheduler, self.hedger, self._actions)
        self.answers = Answers(
            self.ledger,
            self.fleet,
            self.scheduler,
            self.hedger,
            self.departures,
            self.failures,
            self.conduct,
            self._actions,
            self._settle,
        )
        self._stopped = False

    # ------------------------------------------------------------ the two entry points

    def handle(self, events: Iterable[Event], now: float) -> list[Action]:
        """Take what happened by ``now`` (all readable input before any timer; nothing, where only time has passed) and
        return what to do, in order.
        """
        if self._stopped:
            return []
        self.membership.shift_deadlines_over_a_gap(now)
        for event in events:
            handler = _ANSWERS.get(type(event))
            if handler is not None:
                handler(self.answers, event, now)
            else:
                _HANDLERS[type(event)](self, event, now)
            if self._stopped:
                break
        if not self._stopped:
            self.membership.run_timers(now)
            # Before more is delivered: how little was left for the trainer since the last turn.
            self.scheduler.review_depth()
            self._deliver()
            self.granting.grant(now)
        actions = list(self._actions)
        self._actions.clear()
        return actions

    def next_deadline(self) -> float:
        """When `handle` wants to be called even if nothing happens."""
        if self._stopped:
            return math.inf
        return min(self.membership.next_deadline, self.granting.next_deadline)

    @property
    def takes_until_wake(self) -> int | None:
        """After how many more takes by the trainer this core wants to know; None: not for granting.

        While a slot with long batches waits for room in the bound, each take counts; otherwise room is collected, so
        that small batches are granted many at a time.
        """
        ready_count = self.ledger.ready_count
        if ready_count == 0 or not self.scheduler.has_takers or not self.ledger.has_pending:
            return None
        if self.scheduler.has_costly_idle:
            return 1
        return min(ready_count, self.scheduler.room_wanted or -(-ready_count // 2))

    @property
    def malformed_count(self) -> int:
        return self.conduct.malformed_count

    @property
    def routes(self) -> list[Route]:
        """Where workers and supervisors are reached now."""
        return [worker.route for worker in self.fleet if worker.route is not None] + list(self.fleet.supervisors)

    # ------------------------------------------------------------ epochs

    def _on_epoch_opened(self, event: EpochOpened, _now: float) -> None:
        old = self.ledger.runs.get(event.epoch)
        if old is not None:
            self.granting.revoke_all_of(old)
            self.ledger.close(old)
            self.failures.forget_skips(old)
        run = EpochRun(
            event.epoch,
            event.generation,
            event.order,
            ordered=self.settings.ordered,
            confirmed=not event.gated,
        )
        self.ledger.open(run)
        self.membership.announce(event)

    def _on_epoch_confirmed(self, event: EpochConfirmed, _now: float) -> None:
        run = self.ledger.runs.get(event.epoch)
        if run is not None:
            run.confirmed = True

    def _on_taken(self, event: Taken, _now: float) -> None:
        self.ledger.note_taken(event.total)

    def _on_stop_requested(self, _event: StopRequested, _now: float) -> None:
        self._actions.extend(Send(route, Stop()) for route in self.routes)
        # Outcomes may be large, and this object may wait for the garbage collector.
        self.ledger.close_all()
        self._stopped = True

    # ------------------------------------------------------------ answers

    def _on_malformed(self, event: Malformed, _now: float) -> None:
        self.conduct.malformed_count += 1
        self.departures.offend_at(event.route, f"sent a malformed message: {event.reason}")

    def _settle(self, run: EpochRun, position: int, outcome: Any) -> bool:
        """The position has its outcome; False if it had one. Who else computes it need not."""
        leases = run.leases_of(position) if position in run.hedged else ()
        taken = run.answer(position, outcome)
        for lease in leases:
            entry = self.ledger.find(lease)  # not any more the one that was answered
            if entry is not None:
                self.granting.revoke(entry[2], [lease])
        return taken

    # ------------------------------------------------------------ control messages

    def _on_control(self, event: ControlReceived, now: float) -> None:
        message, route = event.message, event.route
        worker, supervisor = self.fleet.at(route), self.fleet.supervisors.get(route)
        # What answers leases is bounded by them.
        if (worker is None or type(message) is not Failure) and not self._may_talk(route, message, now):
            return
        if isinstance(message, Hello):
            self.membership.on_hello(route, event.session, message, event.key, now)
        elif event.session != self.settings.session or (worker is None and supervisor is None):
            self._actions.append(Send(route, WhoAreYou()))
        elif worker is not None:
            worker.last_seen = now
            self._on_worker_message(worker, message, now)
        elif (handler := _SUPERVISOR_MESSAGES.get(type(message))) is not None:
            handler(self.membership.supervision, route, message, now)
        else:
            self.departures.offend_at(route, f"said {type(message).__name__}, which no supervisor says")

    def _may_talk(self, route: Route, message: Message, now: float) -> bool:
        if self.conduct.ignores(route):
            return False  # cut off for what it said earlier in this very poll
        if self.departures.standing_at(route).talk.take(now, _weight(message)):
            return True
        self.departures.offend_at(route, "floods the control channel")
        return False

    def _on_worker_message(self, worker: Worker, message: Message, now: float) -> None:
        if isinstance(message, Failure):
            self.answers.on_failure(worker, message, now)
        elif isinstance(message, Log):
            if worker.standing.lines.take(now):
                level = min(max(message.level, 0), CRITICAL)
                self._actions.append(RemoteLine(level, message.logger, worker.worker_id, worker.host, message.text))
        elif (handler := self._worker_messages.get(type(message))) is not None:
            handler(worker, message, now)
        else:
            self.departures.offend(worker, f"said {type(message).__name__}, which no worker says")

    def _on_threads_joined(self, event: ThreadsJoined, now: float) -> None:
        self.membership.add_threads(event, now)

    def _on_route_lost(self, event: RouteLost, now: float) -> None:
        self.departures.on_route_lost(event.route, now)

    def _on_supervisor_died(self, event: SupervisorDied, now: float) -> None:
        self.departures.on_supervisor_died(event.supervisor, now)

    # ------------------------------------------------------------ delivering

    def _deliver(self) -> None:
        for _, run in sorted(self.ledger.runs.items()):
            positions, outcomes = self.ledger.pop_deliverable(run)
            if outcomes:
                self._actions.append(Deliver(run.epoch, positions, outcomes))
            if run.complete:
                self.granting.revoke_all_of(run)
                self.ledger.close(run)
            if not run.confirmed or not run.complete:
                break


def _weight(message: Message) -> int:
    """For how many messages this one counts: as runs, 65 536 leases are ten bytes, and 40 ms to look at."""
    return 1 + len(message.held) // _HELD_AS_A_MESSAGE if isinstance(message, Heartbeat | Hello) else 1


_ANSWERS: dict[type, Any] = {
    ResultsReceived: Answers.on_results,
    ResultsRefused: Answers.on_results_refused,
    BlockUnavailable: Answers.on_block_unavailable,
    ThreadTimedOut: Answers.on_thread_timed_out,
}

_HANDLERS: dict[type, Any] = {
    ControlReceived: Coordinator._on_control,
    Malformed: Coordinator._on_malformed,
    RouteLost: Coordinator._on_route_lost,
    SupervisorDied: Coordinator._on_supervisor_died,
    ThreadsJoined: Coordinator._on_threads_joined,
    EpochOpened: Coordinator._on_epoch_opened,
    EpochConfirmed: Coordinator._on_epoch_confirmed,
    Taken: Coordinator._on_taken,
    StopRequested: Coordinator._on_stop_requested,
}

_SUPERVISOR_MESSAGES: dict[type, Any] = {
    WorkerExited: Supervision.on_worker_exited,
    Children: Supervision.on_children,
}
