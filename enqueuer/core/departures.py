"""How a worker goes: drained, dismissed, lost, or cut off for what it did."""

from __future__ import annotations

from enqueuer.core.actions import INFO, WARNING, Action, Report, Send
from enqueuer.core.conduct import Conduct
from enqueuer.core.events import Route
from enqueuer.core.fleet import Fleet
from enqueuer.core.ledger import Ledger
from enqueuer.core.scheduler import Scheduler
from enqueuer.core.standing import Standing
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import Bye, Drain, Goodbye, Reject


class Departures:
    """Appends to the coordinator's actions."""

    def __init__(
        self, ledger: Ledger, fleet: Fleet, scheduler: Scheduler, conduct: Conduct, actions: list[Action]
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._scheduler = scheduler
        self._conduct = conduct
        self._actions = actions

    def after_answers(self, worker: Worker) -> None:
        """The worker has answered something: it may be free, or done."""
        done = worker.goodbye_seq is not None and worker.received_seq >= worker.goodbye_seq
        if done and worker.state is not WorkerState.GONE:
            self._say_bye(worker)
        self._scheduler.note_load(worker)

    def on_drain(self, worker: Worker, _message: Drain, _now: float) -> None:
        if worker.state in (WorkerState.JOINING, WorkerState.SERVING):
            worker.move_to(WorkerState.DRAINING)
            self._scheduler.note_load(worker)

    def on_goodbye(self, worker: Worker, message: Goodbye, _now: float) -> None:
        if message.sent_seq < worker.received_seq or worker.is_beyond(message.sent_seq):
            self.offend(worker, f"says goodbye after {message.sent_seq} result messages, {worker.received_seq} came")
            return
        worker.goodbye_seq = message.sent_seq
        self.after_answers(worker)

    def _say_bye(self, worker: Worker) -> None:
        self._report(INFO, f"worker {worker.name} left after {worker.batches_count} batches")
        self.dismiss(worker, Bye())

    def dismiss(self, worker: Worker, farewell: Bye | Reject) -> None:
        """Say it, and again if the worker comes back because it did not hear it."""
        worker.farewell = farewell
        if worker.route is not None:
            self._actions.append(Send(worker.route, farewell))
        self.part(worker)

    def on_route_lost(self, route: Route, now: float) -> None:
        """A connection ended. Who lives comes back at once, so its leases are left to it for a moment."""
        self._fleet.supervisors.pop(route, None)
        worker = self._fleet.at(route)
        if worker is None or worker.in_process:
            return
        self._fleet.connect(worker, None)
        worker.cut_off_at = now
        self._scheduler.note_load(worker)

    def on_supervisor_died(self, supervisor: bytes, _now: float) -> None:
        for worker in self._fleet.of_supervisor(supervisor):
            self.lose(worker, "its supervisor died")

    def lose(self, worker: Worker, reason: str) -> None:
        """It may still come back; till then its leases are for others."""
        self._fleet.lost_count += 1
        returned = self._ledger.release(worker)
        self._report(WARNING, f"lost worker {worker.name} ({reason}); granting its {returned} leases again")
        self._fleet.depart(worker, WorkerState.LOST)
        self._scheduler.note_load(worker)

    def part(self, worker: Worker) -> None:
        """It has ended, or need not come back."""
        self._ledger.release(worker)
        self._fleet.depart(worker, WorkerState.GONE)
        self._scheduler.note_load(worker)

    # ------------------------------------------------------------ offences

    def offend(self, worker: Worker, what: str) -> None:
        """The worker did what no honest one does."""
        if self._conduct.note(worker.standing, what):
            self._cut_off(worker, what)

    def offend_at(self, route: Route, what: str) -> None:
        """Whoever is at the other end did."""
        self.offend_as(route, self.standing_at(route), what)

    def standing_at(self, route: Route) -> Standing:
        """Of whoever is at the other end, known or not."""
        peer = self._fleet.at(route) or self._fleet.supervisors.get(route)
        return self._conduct.stranger(route) if peer is None else peer.standing

    def offend_as(self, route: Route, standing: Standing, what: str) -> None:
        """The same, where the standing has been found."""
        if not self._conduct.note(standing, what):
            return
        worker = self._fleet.at(route)
        if worker is not None:
            self._cut_off(worker, what)
            return
        self._conduct.outlaw(route)
        self._actions.append(Send(route, Reject(f"it {what}")))
        self._fleet.supervisors.pop(route, None)

    def _cut_off(self, worker: Worker, what: str) -> None:
        """Nothing from it is read any more, and what it holds is for others."""
        self._conduct.outlaw(worker.incarnation)
        if worker.route is not None:
            self._conduct.outlaw(worker.route)
        if worker.state is not WorkerState.GONE:
            self.dismiss(worker, Reject(f"it {what}"))

    def _report(self, level: int, text: str) -> None:
        self._actions.append(Report(level, text))
