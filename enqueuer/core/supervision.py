"""What supervisors say of their children: who is alive, who has died, and at what."""

from __future__ import annotations

from dataclasses import dataclass

from enqueuer.core.actions import INFO, WARNING, Action, FleetFailed, Report, Send
from enqueuer.core.admission import Admission
from enqueuer.core.departures import Departures
from enqueuer.core.events import Route
from enqueuer.core.failures import Failures
from enqueuer.core.fleet import Fleet, Supervisor
from enqueuer.core.ledger import Ledger
from enqueuer.core.process_exit import DELIBERATE_EXITS, describe_exit
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import Children, HeartbeatReply, WorkerExited

# Local workers that die before they ever served, in a row, before the session is given up.
_MAX_DEATHS_ON_ARRIVAL = 5


@dataclass(slots=True)
class Supervision:
    """Appends to the coordinator's actions."""

    ledger: Ledger
    fleet: Fleet
    admission: Admission
    failures: Failures
    departures: Departures
    actions: list[Action]
    deaths_on_arrival: int = 0

    def forget_silent(self, silent_since: float) -> None:
        """Nobody is told when one is gone. If it is not, it is asked who it is when it speaks again."""
        supervisors = self.fleet.supervisors
        for route in [route for route, known in supervisors.items() if known.last_seen <= silent_since]:
            del supervisors[route]

    def on_children(self, route: Route, message: Children, now: float) -> None:
        """A supervisor answers for children that hold their GIL."""
        supervisor = self.fleet.supervisors[route]
        supervisor.last_seen = now
        for incarnation in message.alive:
            worker = self.fleet.find(incarnation)
            if worker is None:
                continue
            if not _is_child(worker, route, supervisor):
                self.departures.offend_as(
                    route, supervisor.standing, f"answers for {worker.name}, which is no child of its"
                )
                return
            worker.last_seen = now
        self.actions.append(Send(route, HeartbeatReply(0, 0, 0.0)))

    def on_worker_exited(self, route: Route, message: WorkerExited, now: float) -> None:
        supervisor = self.fleet.supervisors[route]
        supervisor.last_seen = max(supervisor.last_seen, now)
        worker = self.fleet.find(message.incarnation)
        # User code may call os._exit with any code; who leaves on purpose computes nothing.
        deliberate = message.exit_code in DELIBERATE_EXITS and not message.running
        if worker is None:
            if not (deliberate or message.timed_out):
                self._note_death_on_arrival(route, message)
            return
        if not _is_child(worker, route, supervisor):
            self.departures.offend_as(
                route, supervisor.standing, f"announced the death of {worker.name}, which is no child of its"
            )
            return
        if worker.state is WorkerState.GONE:
            return
        if message.timed_out:
            self._blame(worker, message)
            text = f"worker {worker.name} (pid {worker.pid}) computed one batch for longer than batch_timeout: replaced"
            self.actions.append(Report(INFO, text))
        elif not deliberate:
            self._blame(worker, message)
            if worker.state is WorkerState.JOINING and worker.batches_count == 0:
                self._note_death_on_arrival(route, message)
            if worker.state is not WorkerState.LOST:  # else its connection told of it before, and it is counted
                self.fleet.lost_count += 1
            text = f"worker {worker.name} (pid {worker.pid}) died: {describe_exit(message.exit_code)}"
            self.actions.append(Report(WARNING, text))
        self.departures.part(worker)

    def _blame(self, worker: Worker, message: WorkerExited) -> None:
        entry = self.ledger.find(message.running) if message.running else None
        if entry is None:
            return
        run, position, holder = entry
        if holder is not worker or run.is_answered(position):
            return
        if message.timed_out:
            self.failures.on_timeout(worker, run, position, message.stack)
        else:
            self.failures.on_death(worker, run, position)

    def _note_death_on_arrival(self, route: Route, message: WorkerExited) -> None:
        if not self.admission.is_local(route.channel):
            return
        self.deaths_on_arrival += 1
        if self.deaths_on_arrival >= _MAX_DEATHS_ON_ARRIVAL:
            self.actions.append(
                FleetFailed(
                    f"{self.deaths_on_arrival} local workers in a row died before their first batch, the last one: "
                    f"{describe_exit(message.exit_code)}"
                )
            )


def _is_child(worker: Worker, route: Route, supervisor: Supervisor) -> bool:
    return (worker.supervisor, worker.channel, worker.key) == (supervisor.id, route.channel, supervisor.key)
