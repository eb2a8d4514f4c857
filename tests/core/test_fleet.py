"""The records of workers and how they are found."""

from __future__ import annotations

import pytest

from enqueuer.core import fleet as fleet_module
from enqueuer.core.events import Route
from enqueuer.core.fleet import Fleet
from enqueuer.core.worker import Worker, WorkerState


def a_worker(number: int) -> Worker:
    route = Route("remote", bytes([number]))
    return Worker(f"w{number}", bytes([number]) * 16, "host", 1, "remote", 1, route, bytes(16), 0, 0.0)


def test_a_worker_is_found_by_incarnation_route_and_supervisor() -> None:
    fleet, worker = Fleet(lambda _: None), a_worker(1)
    fleet.add(worker)
    assert fleet.find(worker.incarnation) is worker
    assert fleet.at(Route("remote", b"\x01")) is worker
    assert fleet.of_supervisor(bytes(16)) == [worker]
    assert list(fleet) == [worker]
    assert len(fleet) == 1


def test_a_new_route_replaces_the_old_one() -> None:
    fleet, worker = Fleet(lambda _: None), a_worker(1)
    fleet.add(worker)
    old, new = worker.route, Route("remote", b"new")
    fleet.connect(worker, new)
    assert old is not None and fleet.at(old) is None
    assert fleet.at(new) is worker
    fleet.connect(worker, None)
    assert fleet.at(new) is None


def test_a_departed_worker_is_found_for_its_late_answers_and_is_not_there() -> None:
    fleet, worker = Fleet(lambda _: None), a_worker(1)
    fleet.add(worker)
    fleet.depart(worker, WorkerState.LOST)
    assert fleet.find(worker.incarnation) is worker
    assert list(fleet) == [] and len(fleet) == 0
    assert fleet.of_supervisor(bytes(16)) == []
    fleet.return_to(worker)
    assert list(fleet) == [worker]
    assert worker.state is WorkerState.JOINING


@pytest.mark.parametrize("state", [WorkerState.LOST, WorkerState.GONE])
def test_departed_workers_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch, state: WorkerState) -> None:
    monkeypatch.setitem(fleet_module._MOST_KEPT, state, 2)
    fleet, workers = Fleet(lambda _: None), [a_worker(number) for number in range(4)]
    for worker in workers:
        fleet.add(worker)
        fleet.depart(worker, state)
    assert [fleet.find(worker.incarnation) for worker in workers] == [None, None, *workers[2:]]
    assert len(fleet) == 0


def test_a_lost_worker_is_forgotten_when_it_was_silent_for_long_enough() -> None:
    fleet, workers = Fleet(lambda _: None), [a_worker(number) for number in range(3)]
    for number, worker in enumerate(workers):
        fleet.add(worker)
        worker.last_seen = float(number)
        fleet.depart(worker, WorkerState.LOST)
    fleet.forget_lost(1.0)
    assert [fleet.find(worker.incarnation) for worker in workers] == [None, None, workers[2]]
    fleet.forget_lost(5.0)
    fleet.forget_lost(5.0)
    assert fleet.find(workers[2].incarnation) is None


def test_a_lost_worker_that_is_then_seen_to_have_ended_is_kept_as_one_of_those() -> None:
    fleet, worker = Fleet(lambda _: None), a_worker(1)
    fleet.add(worker)
    fleet.depart(worker, WorkerState.LOST)
    fleet.depart(worker, WorkerState.GONE)
    assert fleet.find(worker.incarnation) is worker
    assert list(fleet) == [] and len(fleet) == 0


def test_a_worker_that_is_lost_or_gone_or_unknown_has_left() -> None:
    fleet = Fleet(lambda _: None)
    worker = a_worker(1)
    assert fleet.has_left(worker.incarnation)
    fleet.add(worker)
    assert not fleet.has_left(worker.incarnation)
    for state in (WorkerState.LOST, WorkerState.GONE):
        fleet.depart(worker, state)
        assert fleet.has_left(worker.incarnation)
