"""The leaving of workers: one drains and says goodbye, its connection breaks, or it is lost.

Drain ──► finishes its leases ──► Goodbye(results sent) ──► all have come ──► Bye ──► GONE
connection breaks ──► a moment to come back ──► LOST: its leases are granted again; it may still return
"""

from __future__ import annotations

from enqueuer.core import offences
from enqueuer.core.actions import WARNING
from enqueuer.core.events import RouteLost, SupervisorDied
from enqueuer.core.state import State
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import Bye, Drain, Goodbye


def on_drain(state: State, worker: Worker, _message: Drain) -> None:
    """The worker takes no more leases and will leave."""
    if worker.state in (WorkerState.JOINING, WorkerState.SERVING):
        worker.move_to(WorkerState.DRAINING)
        state.note("draining", worker)


def on_goodbye(state: State, worker: Worker, message: Goodbye) -> None:
    """The worker has sent its last result; it may go once all of them have come."""
    if message.sent_seq < worker.received_seq or worker.is_beyond(message.sent_seq):
        text = f"says goodbye after {message.sent_seq} result messages, {worker.received_seq} came"
        offences.report_offence(state, worker, text)
        return
    worker.goodbye_seq = message.sent_seq
    let_go_if_done(state, worker)


def let_go_if_done(state: State, worker: Worker) -> None:
    """Say Bye to a worker that has said goodbye, once all its results have come."""
    done = worker.goodbye_seq is not None and worker.received_seq >= worker.goodbye_seq
    if done and worker.state is not WorkerState.GONE:
        state.dismiss(worker, Bye())


def on_route_lost(state: State, event: RouteLost) -> None:
    """A connection ended. A live worker comes back at once, so it keeps its leases for a moment."""
    state.fleet.supervisors.pop(event.route, None)
    worker = state.fleet.at(event.route)
    if worker is None or worker.in_process:
        return
    state.fleet.connect(worker, None)
    worker.unlinked_at = state.now


def on_supervisor_died(state: State, event: SupervisorDied) -> None:
    """The trainer saw its own supervisor die, and its children with it."""
    for worker in state.fleet.of_supervisor(event.supervisor):
        lose(state, worker, "its supervisor died")


def lose(state: State, worker: Worker, reason: str) -> None:
    """Grant the worker's leases to others. It may still come back."""
    state.fleet.lost_count += 1
    state.note("lost", worker)
    returned = state.remove(worker, WorkerState.LOST)
    state.report(WARNING, f"lost worker {worker.name} ({reason}); granting its {returned} leases again")
