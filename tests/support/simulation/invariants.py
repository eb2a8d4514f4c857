"""What must be true after every event, of the coordinator's books and of a worker's."""

from __future__ import annotations

from enqueuer.core import sampling
from enqueuer.core.coordinator import Coordinator
from enqueuer.core.epoch_run import EpochRun, PositionState
from enqueuer.core.worker import WorkerState
from enqueuer_worker.core.phase import Phase
from enqueuer_worker.core.worker_core import WorkerCore


class CoordinatorInvariants:
    """Remembers what it needs to see a step as legal. `check` is cheap but for ``thorough`` ones."""

    def __init__(self, core: Coordinator, *, misbehaved: bool = False) -> None:
        """``misbehaved``: a peer that is not honest takes part. Else nothing counts as an offence."""
        self._core = core
        self._misbehaved = misbehaved
        self._allowed = 0.0
        self._next_lease = 0

    def check(self, now: float, *, thorough: bool) -> None:
        core = self._core.state
        assert self._core.next_deadline() > now, "the coordinator would spin"
        assert core.ledger.ready_count >= 0
        assert core.peers.offences_count == 0 or self._misbehaved, core.peers.offenders
        self._check_bound()
        self._check_workers()
        if thorough:
            for run in core.ledger.runs.values():
                check_run(run)
                self._check_leases(run)
                indices = {run.order[position] for position in run._live}
                assert indices.isdisjoint(core.ledger.busy_indices(run)), "an index is computed for two epochs at once"

    def _check_bound(self) -> None:
        """Within the bound, or what was granted under an older one and has not been delivered yet.

        The head of the order, and suspects (one a worker), are granted whatever the bound is.
        """
        core = self._core.state
        undelivered = core.ledger.undelivered_count
        suspects = sum(len(run.deaths) for run in core.ledger.runs.values())
        self._allowed = max(core.scheduler.bound, min(self._allowed, undelivered))
        overshoot = 1 + suspects + len(core.fleet)
        assert undelivered <= self._allowed + overshoot, f"{undelivered} undelivered, {self._allowed} allowed"
        held_count = core.ledger.ready_count + sum(run.buffered_count for run in core.ledger.runs.values())
        assert core.ledger.held_bytes >= 0 and (held_count or not core.ledger.held_bytes), "weighs what is not there"

    def _check_workers(self) -> None:
        core, queues, slots = self._core.state, self._core.state.scheduler, 0
        is_founding = any(host.founding_since is not None for host in core.samples.hosts.values())
        assert core.samples.is_founding or not is_founding, "a founding host would never become trusted"
        for worker in core.fleet:
            assert worker.state not in (WorkerState.LOST, WorkerState.GONE), f"{worker.name} is {worker.state}"
            assert worker.route is None or core.fleet.at(worker.route) is worker, f"{worker.name} has another's route"
            slots += worker.slots if worker.takes_leases else 0
            serves = worker.takes_leases
            if serves and sampling.is_sampled(core, worker):
                host = core.samples.host_of(worker)
                assert host.is_trusted or host.founding_since is not None, f"{worker.name} serves without a sample"
            has_idle_slot = worker.load < worker.slots
            assert (worker in queues._idle) == (serves and has_idle_slot), f"{worker.name} in the idle queue"
            thirsty = serves and not has_idle_slot and worker.load <= worker.target_load // 2
            assert (worker in queues._thirsty) == thirsty, f"{worker.name} in the thirsty queue"
            assert (worker in queues._urgent) == (thirsty and worker.runs_dry), f"{worker.name} in the urgent queue"
            waiting = serves and not worker.in_process and worker.load > worker.slots
            assert (worker in queues._queueing) == waiting, f"{worker.name} among those with leases that wait"
            assert worker.leases or not worker.reserved, f"{worker.name} is reserved and has nothing to do"
        assert slots == core.scheduler.slots_count
        known = set(core.fleet)
        for queue in (queues._idle, queues._thirsty, queues._urgent, queues._queueing, queues._slots_of):
            assert known.issuperset(queue), "a departed worker is in a queue"
        assert sum(queues._idle.values()) == queues._idle_slots_count

    def _check_leases(self, run: EpochRun) -> None:
        """Every live lease is in the table and in its worker's record, and the worker is there."""
        core = self._core.state
        assert run.hedged.keys() <= run._live.keys(), "a position that is leased to nobody is hedged"
        for position in run._live:
            for lease in run.leases_of(position):
                entry = core.ledger.find(lease)
                assert entry is not None and entry[:2] == (run, position), f"lease {lease} is not in the table"
                worker = entry[2]
                assert lease in worker.leases, f"lease {lease} is not in the record of {worker.name}"
                assert worker.state not in (WorkerState.LOST, WorkerState.GONE), f"{worker.name} holds a live lease"


def check_run(run: EpochRun) -> None:
    """Each position is in exactly one state, and the counts agree."""
    states = [run.state_of(position) for position in range(run.length)]
    assert states.count(PositionState.LEASED) == run.leased_count
    assert states.count(PositionState.BUFFERED) == run.buffered_count
    assert run.leased_count + run.buffered_count == run.undelivered_count


def check_worker(core: WorkerCore, now: float) -> None:
    assert core.phase is Phase.GONE or core.next_deadline() > now, "the worker would spin"
    session = core._session
    if session is None:
        assert core.phase in (Phase.OFFLINE, Phase.HELLO, Phase.GONE), f"{core.phase} without a session"
        return
    numbers = [seq for seq, _ in session.unacknowledged]
    assert numbers == sorted(numbers), "results would be sent again out of order"
    assert not numbers or numbers[-1] <= session.unacknowledged.sent_seq
    assert all(lease <= session.highest_grant for lease in session.queued)
