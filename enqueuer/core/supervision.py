"""Reports of supervisors about their children: the ones alive, and the end of one with the lease it was computing."""

from __future__ import annotations

from enqueuer.core import offences, results
from enqueuer.core.actions import INFO, WARNING, FleetFailed
from enqueuer.core.events import Route
from enqueuer.core.peer import Supervisor
from enqueuer.core.state import State
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import Children, ExitCode, HeartbeatReply, WorkerExited, describe_exit

# After this many local workers in a row have died before they served, the session fails.
_MAX_DEATHS_ON_ARRIVAL = 5
# Exit codes of a worker's deliberate end.
_DELIBERATE_EXITS = frozenset(ExitCode)


def forget_silent(state: State) -> None:
    """Drop silent supervisors without notice. A returning one is asked to say Hello again."""
    supervisors, silent_since = state.fleet.supervisors, state.now - state.options.timing.worker_timeout
    for route in [route for route, known in supervisors.items() if known.last_seen <= silent_since]:
        del supervisors[route]


def on_children(state: State, route: Route, message: Children) -> None:
    """A supervisor vouches for its children: they live, even if one holds its GIL and sends no heartbeat."""
    supervisor = state.fleet.supervisors[route]
    supervisor.last_seen = state.now
    for incarnation in message.alive:
        worker = state.fleet.find(incarnation)
        if worker is None:
            continue
        if not _is_child(worker, route, supervisor):
            offences.report_offence(state, route, f"answers for {worker.name}, which is no child of its")
            return
        worker.last_seen = state.now
    state.send(route, HeartbeatReply(0, 0, 0.0))


def on_worker_exited(state: State, route: Route, message: WorkerExited) -> None:
    """A supervisor saw a child end: its leases are granted again, and the one it was computing may be to blame."""
    supervisor = state.fleet.supervisors[route]
    supervisor.last_seen = max(supervisor.last_seen, state.now)
    worker = state.fleet.find(message.incarnation)
    # User code may call os._exit with any code; a worker ending on purpose computes nothing.
    deliberate = message.exit_code in _DELIBERATE_EXITS and not message.running
    if worker is None:
        if not (deliberate or message.timed_out):
            _note_death_on_arrival(state, route, message)
        return
    if not _is_child(worker, route, supervisor):
        offences.report_offence(state, route, f"announced the death of {worker.name}, which is no child of its")
        return
    if worker.state is WorkerState.GONE:
        return
    if message.timed_out:
        _blame(state, worker, message)
        text = f"worker {worker.name} (pid {worker.pid}) computed one batch for longer than batch_timeout: replaced"
        state.report(INFO, text)
    elif not deliberate:
        _blame(state, worker, message)
        if worker.state is WorkerState.JOINING and worker.batches_count == 0:
            _note_death_on_arrival(state, route, message)
        if worker.state is not WorkerState.LOST:  # its broken connection was counted before
            state.fleet.lost_count += 1
        state.note("died", worker)
        end = describe_exit(message.exit_code, at_work=message.running != 0)
        state.report(WARNING, f"worker {worker.name} (pid {worker.pid}) {end}")
    state.remove(worker, WorkerState.GONE)


def _blame(state: State, worker: Worker, message: WorkerExited) -> None:
    """Count the end against the position the worker was computing."""
    entry = state.ledger.find(message.running) if message.running else None
    if entry is None:
        return
    run, position, holder = entry
    if holder is not worker or run.is_answered(position):
        return
    if message.timed_out:
        results.note_timeout(state, worker, run, position, message.stack)
    else:
        results.note_death(state, worker, run, position, message.exit_code)


def _note_death_on_arrival(state: State, route: Route, message: WorkerExited) -> None:
    if not state.is_local(route.channel):
        return
    state.deaths_on_arrival += 1
    if state.fleet.find(message.incarnation) is None:
        text = f"local worker {message.child_number} {describe_exit(message.exit_code)} before it had joined"
        state.report(WARNING, text)
    if state.deaths_on_arrival >= _MAX_DEATHS_ON_ARRIVAL:
        text = (
            f"{state.deaths_on_arrival} local workers in a row died before their first batch; the last one "
            f"{describe_exit(message.exit_code)}"
        )
        state.actions.append(FleetFailed(text))


def _is_child(worker: Worker, route: Route, supervisor: Supervisor) -> bool:
    return (worker.supervisor, worker.channel, worker.key) == (supervisor.id, route.channel, supervisor.key)
