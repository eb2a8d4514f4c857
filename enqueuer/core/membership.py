"""Who is there: joining, identity, signs of life, reconciliation, leaving and death."""

from __future__ import annotations

import math

from enqueuer.core.actions import Action, FleetFailed, Report, Send
from enqueuer.core.admission import Admission
from enqueuer.core.events import EpochOpened, Route, ThreadsJoined
from enqueuer.core.failures import Failures
from enqueuer.core.fleet import FORGET_SECONDS, Fleet
from enqueuer.core.ledger import Ledger
from enqueuer.core.process_exit import DELIBERATE_EXITS, describe_exit
from enqueuer.core.scheduler import Scheduler
from enqueuer.core.settings import Settings
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import (
    Bye,
    Children,
    Drain,
    Epoch,
    Goodbye,
    Heartbeat,
    HeartbeatReply,
    Hello,
    LoadFailure,
    Ready,
    Reject,
    Role,
    Welcome,
    WorkerExited,
)

_INFO, _WARNING, _ERROR = 20, 30, 40
# A worker whose connection broke comes back at once if it lives; this many heartbeats are given to it.
_GRACE_HEARTBEATS = 2
# A silent worker is asked, so that a connection whose other end is gone shows itself before the time-out.
_PROBE_HEARTBEATS = 2.5
# Local workers that die before they ever served, in a row, before the session is given up.
_MAX_DEATHS_ON_ARRIVAL = 5


class Membership:
    """Handlers for all that changes the fleet. Appends to the coordinator's actions."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        fleet: Fleet,
        scheduler: Scheduler,
        actions: list[Action],
        failures: Failures,
        now: float,
    ) -> None:
        self.now = now
        self._settings = settings
        self._ledger = ledger
        self._fleet = fleet
        self._scheduler = scheduler
        self._actions = actions
        self._failures = failures
        self._admission = Admission(settings)
        self._sweep_at = now
        self._alone_since = self._complained_at = now
        self._supervisors_heard: dict[Route, float] = {}
        self._deaths_on_arrival = 0

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
            for route in self._supervisors_heard:
                self._supervisors_heard[route] += gap
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
        self._forget_silent_supervisors(now)
        self._complain_if_alone(now)

    def _forget_silent_supervisors(self, now: float) -> None:
        """Nobody is told when one is gone. If it is not, it is asked who it is when it speaks again."""
        timeout = self._settings.worker_timeout
        for route in [route for route, heard in self._supervisors_heard.items() if now - heard >= timeout]:
            self._forget_supervisor(route)

    def _forget_supervisor(self, route: Route) -> None:
        self._fleet.supervisors.pop(route, None)
        self._supervisors_heard.pop(route, None)

    def _check_alive(self, worker: Worker, now: float) -> None:
        silence = now - worker.last_seen
        if now - worker.cut_off_at >= _GRACE_HEARTBEATS * self._settings.heartbeat_interval:
            # Whatever vouches for it: what was granted over the old connection may be nobody's.
            self._lose(worker, "its connection broke")
        elif silence >= self._settings.worker_timeout:
            self._lose(worker, f"silent for {silence:.1f} s")
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
            self._report(_WARNING, f"{who}{where} for {waited:.0f} s; waiting")
            self._complained_at = now

    # ------------------------------------------------------------ joining

    def add_threads(self, event: ThreadsJoined, now: float) -> None:
        worker = Worker(
            worker_id="threads",
            incarnation=event.incarnation,
            host=event.host,
            pid=event.pid,
            place=event.route.place,
            slots=event.slots,
            route=event.route,
            supervisor=b"",
            child_number=0,
            last_seen=now,
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
            self._send(worker, self._admission.epoch_message(worker.place, opened))
            worker.epochs_sent_at = self.now

    def on_hello(self, route: Route, session: bytes, hello: Hello, now: float) -> None:
        refusal = self._admission.refusal_of_hello(hello)
        if refusal:
            self._report(_ERROR, f"rejected worker {hello.worker_id} on {hello.host}: {refusal}")
            self._actions.append(Send(route, Reject(refusal)))
        elif hello.role is Role.SUPERVISOR:
            self._fleet.supervisors[route] = hello.supervisor
            self._supervisors_heard[route] = now
            self._actions.append(Send(route, self._admission.welcome(route.place, 0, None)))
        else:
            self._join(route, hello, session == self._settings.session, now)

    def _join(self, route: Route, hello: Hello, is_ours: bool, now: float) -> None:
        """``is_ours``: it is in this session already, and what it says of leases and results is about this one."""
        worker = self._fleet.find(hello.incarnation)
        if self._fleet.at(route) not in (None, worker):
            # Two workers cannot be on one connection: who spoke before is not there any more.
            self.on_route_lost(route, now)
        if worker is None:
            worker = Worker.from_hello(hello, route, now)
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
        refusal = self._admission.refusal_of_place(worker.place, opened)
        if refusal:
            self._turn_away(worker, refusal)
        else:
            self._send(worker, self._admission.welcome(worker.place, worker.received_seq, opened))

    def _send_epochs(self, worker: Worker) -> None:
        for message in self._admission.epochs(worker.place):
            self._send(worker, message)
        worker.epochs_sent_at = self.now

    def on_ready(self, worker: Worker, message: Ready, _now: float) -> None:
        refusal = self._admission.refusal_of_ready(message)
        if refusal:
            self._turn_away(worker, refusal)
        elif refusal is not None and worker.state is WorkerState.JOINING:
            worker.move_to(WorkerState.SERVING)
            self._deaths_on_arrival = 0
            self._report(_INFO, f"worker {worker.name} (pid {worker.pid}) joined")
            self._scheduler.note_load(worker)

    def on_load_failure(self, worker: Worker, message: LoadFailure, _now: float) -> None:
        run = self._ledger.runs.get(message.epoch)
        if run is None or run.generation != message.generation:
            return  # a state that was given up before this worker came to load it
        text = f"worker {worker.name} cannot build the Sequence: {message.error.text}"
        if self._admission.is_local(worker.place):
            self._actions.append(FleetFailed(text, message.error))
        else:
            self._report(_ERROR, text)
        self._send(worker, Reject("it cannot build the Sequence"))
        self._part(worker)

    def _turn_away(self, worker: Worker, reason: str) -> None:
        if self._admission.is_local(worker.place):
            # It was made for this trainer by this trainer: no other will do better.
            self._actions.append(FleetFailed(f"local worker {worker.name} cannot serve: {reason}"))
        else:
            self._report(_ERROR, f"rejected worker {worker.name}: {reason}")
        self._dismiss(worker, Reject(reason))

    # ------------------------------------------------------------ signs of life and reconciliation

    def on_heartbeat(self, worker: Worker, message: Heartbeat, _now: float) -> None:
        worker.note_round_trip(message.round_trip)
        ignored = self._reconcile(worker, message)
        newest = self._admission.newest
        behind = newest is not None and message.generation != newest.generation
        if behind or ignored or worker.state is WorkerState.JOINING:
            # An Epoch, or the answer to it, was lost; a worker ignores what it has. A whole Sequence may still be on
            # its way over a slow line, which another one behind it would not make faster.
            patience = self._settings.coordinator_timeout if self._admission.is_heavy(worker.place) else 0.0
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
            self._report(_WARNING, f"{len(gone)} leases of worker {worker.name} were lost on the way; granting again")
        for lease in message.held:
            # Revoked too late: it runs after all, and occupies its slot.
            entry = self._ledger.find(lease)
            if entry is not None and entry[2] is worker:
                worker.leases.setdefault(lease, self.now)
        return ignored

    def after_answers(self, worker: Worker) -> None:
        """The worker has answered something: it may be free, or done."""
        done = worker.goodbye_seq is not None and worker.received_seq >= worker.goodbye_seq
        if done and worker.state is not WorkerState.GONE:
            self._say_bye(worker)
        self._scheduler.note_load(worker)

    def on_children(self, route: Route, message: Children, now: float) -> None:
        """A supervisor answers for children that hold their GIL."""
        supervisor = self._fleet.supervisors[route]
        self._supervisors_heard[route] = now
        for incarnation in message.alive:
            worker = self._fleet.find(incarnation)
            if worker is not None and worker.supervisor == supervisor:
                worker.last_seen = now
        self._actions.append(Send(route, HeartbeatReply(0, 0, 0.0)))

    # ------------------------------------------------------------ leaving and death

    def on_drain(self, worker: Worker, _message: Drain, _now: float) -> None:
        if worker.state in (WorkerState.JOINING, WorkerState.SERVING):
            worker.move_to(WorkerState.DRAINING)
            self._scheduler.note_load(worker)

    def on_goodbye(self, worker: Worker, message: Goodbye, _now: float) -> None:
        worker.goodbye_seq = message.sent_seq
        self.after_answers(worker)

    def _say_bye(self, worker: Worker) -> None:
        self._report(_INFO, f"worker {worker.name} left after {worker.batches_count} batches")
        self._dismiss(worker, Bye())

    def _dismiss(self, worker: Worker, farewell: Bye | Reject) -> None:
        worker.farewell = farewell
        self._send(worker, farewell)
        self._part(worker)

    def on_route_lost(self, route: Route, now: float) -> None:
        self._forget_supervisor(route)
        worker = self._fleet.at(route)
        if worker is None or worker.in_process:
            return
        self._fleet.connect(worker, None)
        worker.cut_off_at = now
        self._scheduler.note_load(worker)

    def on_worker_exited(self, route: Route, message: WorkerExited, _now: float) -> None:
        worker = self._fleet.find(message.incarnation)
        # User code may call os._exit with any code; who leaves on purpose computes nothing.
        deliberate = message.exit_code in DELIBERATE_EXITS and not message.running
        if worker is None:
            if not (deliberate or message.timed_out):
                self._note_death_on_arrival(route, message)
            return
        if worker.state is WorkerState.GONE or worker.supervisor != self._fleet.supervisors[route]:
            return
        if message.timed_out:
            self._blame(worker, message)
            text = f"worker {worker.name} (pid {worker.pid}) computed one batch for longer than batch_timeout: replaced"
            self._report(_INFO, text)
        elif not deliberate:
            self._blame(worker, message)
            if worker.state is WorkerState.JOINING and worker.batches_count == 0:
                self._note_death_on_arrival(route, message)
            self._fleet.lost_count += 1
            self._report(_WARNING, f"worker {worker.name} (pid {worker.pid}) died: {describe_exit(message.exit_code)}")
        self._part(worker)

    def _blame(self, worker: Worker, message: WorkerExited) -> None:
        entry = self._ledger.find(message.running) if message.running else None
        if entry is None or entry[2] is not worker or entry[0].is_answered(entry[1]):
            return
        if message.timed_out:
            self._failures.on_timeout(worker, entry[0], entry[1], message.stack)
        else:
            self._failures.on_death(worker, entry[0], entry[1])

    def _note_death_on_arrival(self, route: Route, message: WorkerExited) -> None:
        if not self._admission.is_local(route.place):
            return
        self._deaths_on_arrival += 1
        if self._deaths_on_arrival >= _MAX_DEATHS_ON_ARRIVAL:
            self._actions.append(
                FleetFailed(
                    f"{self._deaths_on_arrival} local workers in a row died before their first batch, the last one: "
                    f"{describe_exit(message.exit_code)}"
                )
            )

    def on_supervisor_died(self, supervisor: bytes, _now: float) -> None:
        for worker in self._fleet.of_supervisor(supervisor):
            self._lose(worker, "its supervisor died")

    def _lose(self, worker: Worker, reason: str) -> None:
        self._fleet.lost_count += 1
        returned = self._ledger.release(worker)
        self._report(_WARNING, f"lost worker {worker.name} ({reason}); granting its {returned} leases again")
        self._fleet.depart(worker, WorkerState.LOST)
        self._scheduler.note_load(worker)

    def _part(self, worker: Worker) -> None:
        self._ledger.release(worker)
        self._fleet.depart(worker, WorkerState.GONE)
        self._scheduler.note_load(worker)

    # ------------------------------------------------------------ small things

    def _send(self, worker: Worker, message: Epoch | Welcome | Reject | HeartbeatReply | Bye) -> None:
        if worker.route is not None:
            self._actions.append(Send(worker.route, message))

    def _report(self, level: int, text: str) -> None:
        self._actions.append(Report(level, text))
