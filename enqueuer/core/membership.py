"""Who is there: joining, identity, signs of life, reconciliation."""

from __future__ import annotations

import math

from enqueuer.core.actions import ERROR, INFO, WARNING, Action, FleetFailed, Report, Send
from enqueuer.core.admission import Admission
from enqueuer.core.conduct import Conduct
from enqueuer.core.departures import Departures
from enqueuer.core.events import EpochOpened, Route, ThreadsJoined
from enqueuer.core.failures import Failures
from enqueuer.core.fleet import FORGET_SECONDS, Fleet, Supervisor
from enqueuer.core.identity import pretence_of
from enqueuer.core.ledger import Ledger
from enqueuer.core.scheduler import Scheduler
from enqueuer.core.settings import Settings
from enqueuer.core.standing import MOST_OFFENCES, Standing
from enqueuer.core.supervision import Supervision
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import (
    Epoch,
    Heartbeat,
    HeartbeatReply,
    Hello,
    LoadFailure,
    Ready,
    Reject,
    Role,
    Welcome,
)

# A worker whose connection broke comes back at once if it lives; this many heartbeats are given to it.
_GRACE_HEARTBEATS = 2
# A silent worker is asked, so that a connection whose other end is gone shows itself before the time-out.
_PROBE_HEARTBEATS = 2.5


class Membership:
    """Handlers for what workers say of themselves. Appends to the coordinator's actions."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        fleet: Fleet,
        scheduler: Scheduler,
        actions: list[Action],
        failures: Failures,
        conduct: Conduct,
        departures: Departures,
        now: float,
    ) -> None:
        self.now = now
        self._settings = settings
        self._ledger = ledger
        self._fleet = fleet
        self._scheduler = scheduler
        self._actions = actions
        self._conduct = conduct
        self._departures = departures
        self._admission = Admission(settings)
        self.supervision = Supervision(ledger, fleet, self._admission, failures, departures, actions)
        self._sweep_at = now
        self._alone_since = self._complained_at = now

    # ------------------------------------------------------------ time

    @property
    def next_deadline(self) -> float:
        return self._sweep_at

    def shift_deadlines_over_a_gap(self, now: float) -> None:
        """A trainer that was stopped or held its GIL must not take its own pause for its workers' silence."""
        gap = now - max(self.now, self._sweep_at) - self._settings.heartbeat_interval
        self.now = now
        if gap > 0:
            for worker in self._fleet:
                worker.last_seen += gap
                worker.last_answer += gap
                worker.cut_off_at += gap
            for supervisor in self._fleet.supervisors.values():
                supervisor.last_seen += gap
            self._alone_since += gap
            self._complained_at += gap

    def run_timers(self, now: float) -> None:
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._settings.heartbeat_interval / 2
        for worker in self._fleet:
            if not worker.in_process:
                self._check_alive(worker, now)
        self._fleet.forget_lost(now - FORGET_SECONDS)
        self.supervision.forget_silent(now - self._settings.worker_timeout)
        self._complain_if_alone(now)

    def _check_alive(self, worker: Worker, now: float) -> None:
        silence = now - worker.last_seen
        if now - worker.cut_off_at >= _GRACE_HEARTBEATS * self._settings.heartbeat_interval:
            # Whatever vouches for it: what was granted over the old connection may be nobody's.
            self._departures.lose(worker, "its connection broke")
        elif silence >= self._settings.worker_timeout:
            self._departures.lose(worker, f"silent for {silence:.1f} s")
        elif silence >= _PROBE_HEARTBEATS * self._settings.heartbeat_interval and worker.route is not None:
            self._send(worker, HeartbeatReply(worker.received_seq, worker.highest_seq, math.inf))

    def _complain_if_alone(self, now: float) -> None:
        there, least = self._scheduler.slots_count, self._settings.min_workers
        if (there and (there >= least or self._ledger.leased_count)) or not self._ledger.has_pending:
            self._alone_since = self._complained_at = now
            return
        waited, limit = now - self._alone_since, self._settings.no_worker_timeout
        who = f"only {there} of min_workers={least} workers" if there else "no worker"
        where = f" connected to {self._settings.address}" if self._settings.address else ""
        if limit is not None and waited >= limit:
            text = f"{who}{where} for {waited:.0f} s, and no_worker_timeout={limit:g}"
            self._actions.append(FleetFailed(f"{text}; start workers first, or allow more time"))
            self._alone_since = now
        elif now - self._complained_at >= self._settings.no_worker_warning:
            self._report(WARNING, f"{who}{where} for {waited:.0f} s; waiting")
            self._complained_at = now

    # ------------------------------------------------------------ joining

    def add_threads(self, event: ThreadsJoined, now: float) -> None:
        worker = Worker(
            worker_id="threads",
            incarnation=event.incarnation,
            host=event.host,
            pid=event.pid,
            channel=event.route.channel,
            slots=event.slots,
            route=event.route,
            supervisor=b"",
            child_number=0,
            last_seen=now,
            standing=Standing("the trainer's threads"),
            in_process=True,
        )
        self._fleet.add(worker)
        worker.move_to(WorkerState.SERVING)
        self._scheduler.note_load(worker)

    def announce(self, opened: EpochOpened) -> None:
        """An epoch, or a newer state of one, can be computed: tell every worker."""
        renew = self._admission.announce(opened)
        for worker in self._fleet:
            if worker.in_process or worker.route is None:
                continue
            if renew:
                self._welcome(worker, opened)
            self._send(worker, self._admission.epoch_message(worker.channel, opened))
            worker.epochs_sent_at = self.now

    def on_hello(self, route: Route, session: bytes, hello: Hello, key: str, now: float) -> None:
        if self._conduct.ignores(hello.incarnation):
            self._conduct.outlaw(route)
            self._actions.append(Send(route, Reject("it was cut off")))
            return
        refusal = self._admission.refusal_of_hello(hello)
        if refusal:
            standing = self._departures.standing_at(route)
            if not standing.was_rejected:
                standing.was_rejected = True
                self._report(ERROR, f"rejected worker {hello.worker_id} on {hello.host}: {refusal}")
            self._actions.append(Send(route, Reject(refusal)))
            return
        pretence = pretence_of(self._fleet, route, hello, key)
        if pretence:
            self._cut_off_pretender(route, hello, pretence)
        elif hello.role is Role.SUPERVISOR:
            self._greet_supervisor(route, hello, key, now)
        else:
            self._join(route, session, hello, key, now)

    def _cut_off_pretender(self, route: Route, hello: Hello, pretence: str) -> None:
        """At once: what it claims is somebody's, who must not suffer for it."""
        there = self._fleet.at(route) or self._fleet.supervisors.get(route)
        name = f"{hello.role.name.lower()} {hello.worker_id} on {hello.host}"
        standing = self._conduct.introduce(route, name) if there is None else there.standing
        standing.offences_count = max(standing.offences_count, MOST_OFFENCES - 1)
        self._departures.offend_as(route, standing, pretence)

    def _greet_supervisor(self, route: Route, hello: Hello, key: str, now: float) -> None:
        known = self._fleet.supervisors.get(route)
        if known is None:
            standing = self._conduct.introduce(route, f"supervisor {hello.worker_id} on {hello.host}")
            known = self._fleet.supervisors[route] = Supervisor(hello.supervisor, key, now, standing)
        known.last_seen = now
        self._actions.append(Send(route, self._admission.welcome(route.channel, 0, None)))

    def _join(self, route: Route, session: bytes, hello: Hello, key: str, now: float) -> None:
        # Else it is in no session or another one, and what it says of leases and results is not about this one.
        is_ours = session == self._settings.session
        worker = self._fleet.find(hello.incarnation)
        standing = self._conduct.introduce(route, f"worker {hello.worker_id} on {hello.host}")
        if worker is None:
            worker = Worker.from_hello(hello, route, key, standing, now)
            if is_ours:
                # Lost for so long that it was forgotten: what it still keeps was done again by others.
                worker.received_seq = hello.sent_seq
            self._fleet.add(worker)
        elif worker.farewell is not None:
            # It did not hear what was said last, or it would not be here.
            self._actions.append(Send(route, worker.farewell))
        if worker.state is WorkerState.GONE:
            return
        if worker.route != route:
            self._change_link(worker, route, hello.held if is_ours else ())
        worker.last_seen = now
        opened = self._admission.newest
        if opened is not None:
            self._welcome(worker, opened)
            self._send_epochs(worker)
        self._scheduler.note_load(worker)

    def _change_link(self, worker: Worker, route: Route, held: tuple[int, ...]) -> None:
        """What the worker did not get or keep over the old link is nobody's now."""
        if worker.state is WorkerState.LOST:
            self._fleet.return_to(worker)
        elif worker.state is not WorkerState.JOINING:
            worker.move_to(WorkerState.JOINING)
        self._fleet.connect(worker, route)
        worker.cut_off_at = math.inf
        self._ledger.expire(worker, set(worker.leases).difference(held))

    def _welcome(self, worker: Worker, opened: EpochOpened) -> None:
        refusal = self._admission.refusal_of_channel(worker.channel, opened)
        if refusal:
            self._turn_away(worker, refusal)
        else:
            self._send(worker, self._admission.welcome(worker.channel, worker.received_seq, opened))

    def _send_epochs(self, worker: Worker) -> None:
        for message in self._admission.epochs(worker.channel):
            self._send(worker, message)
        worker.epochs_sent_at = self.now

    def on_ready(self, worker: Worker, message: Ready, _now: float) -> None:
        refusal = self._admission.refusal_of_ready(message)
        if refusal:
            self._turn_away(worker, refusal)
        elif refusal is not None and worker.state is WorkerState.JOINING:
            worker.move_to(WorkerState.SERVING)
            self.supervision.deaths_on_arrival = 0
            self._report(INFO, f"worker {worker.name} (pid {worker.pid}) joined")
            self._scheduler.note_load(worker)

    def on_load_failure(self, worker: Worker, message: LoadFailure, _now: float) -> None:
        run = self._ledger.runs.get(message.epoch)
        if run is None or run.generation != message.generation:
            return  # a state that was given up before this worker came to load it
        text = f"worker {worker.name} cannot build the Sequence: {message.error.text}"
        if self._admission.is_local(worker.channel):
            self._actions.append(FleetFailed(text, message.error))
        else:
            self._report(ERROR, text)
        self._departures.dismiss(worker, Reject("it cannot build the Sequence"))

    def _turn_away(self, worker: Worker, reason: str) -> None:
        if self._admission.is_local(worker.channel):
            # It was made for this trainer by this trainer: no other will do better.
            self._actions.append(FleetFailed(f"local worker {worker.name} cannot serve: {reason}"))
        else:
            self._report(ERROR, f"rejected worker {worker.name}: {reason}")
        self._departures.dismiss(worker, Reject(reason))

    # ------------------------------------------------------------ signs of life and reconciliation

    def on_heartbeat(self, worker: Worker, message: Heartbeat, now: float) -> None:
        offence = self._conduct.of_seconds(worker, message.round_trip, now) or self._conduct.of_held(
            worker, message.held
        )
        if offence:
            self._departures.offend(worker, offence)
            return
        worker.note_round_trip(message.round_trip)
        ignored = self._reconcile(worker, message)
        newest = self._admission.newest
        behind = newest is not None and message.generation != newest.generation
        if behind or ignored or worker.state is WorkerState.JOINING:
            # An Epoch, or the answer to it, was lost; a worker ignores what it has. A whole Sequence may still be on
            # its way over a slow line, which another one behind it would not make faster.
            patience = self._settings.coordinator_timeout if self._admission.is_heavy(worker.channel) else 0.0
            if self.now - worker.epochs_sent_at >= patience:
                self._send_epochs(worker)
        self._send(worker, HeartbeatReply(worker.received_seq, worker.highest_seq, message.sent_at))
        self._scheduler.note_load(worker)

    def _reconcile(self, worker: Worker, message: Heartbeat) -> bool:
        """Whether a grant seems to have been ignored, as one is whose Epoch the worker does not have."""
        held = set(message.held)
        missing = [lease for lease in worker.leases if lease not in held]
        # One it has seen and does not hold is nobody's. One it has not seen may be on its way: wait one more.
        gone = [lease for lease in missing if lease <= message.highest_grant or lease in worker.unlisted]
        ignored = any(lease > message.highest_grant for lease in gone)
        worker.unlisted = set(missing).difference(gone)
        if self._ledger.expire(worker, gone):
            self._report(WARNING, f"{len(gone)} leases of worker {worker.name} were lost on the way; granting again")
        for lease in message.held:
            # Revoked too late: it runs after all, and occupies its slot.
            entry = self._ledger.find(lease)
            if entry is not None and entry[2] is worker:
                worker.leases.setdefault(lease, self.now)
        return ignored

    # ------------------------------------------------------------ small things

    def _send(self, worker: Worker, message: Epoch | Welcome | HeartbeatReply) -> None:
        if worker.route is not None:
            self._actions.append(Send(worker.route, message))

    def _report(self, level: int, text: str) -> None:
        self._actions.append(Report(level, text))
