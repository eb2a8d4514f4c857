from __future__ import annotations

from enqueuer.engines.ray.size import Demand, FleetSize

ADDRESS = "tcp://trainer:5555"


def in_session(desired: int | None, others: int = 0) -> Demand:
    return Demand(ADDRESS, True, desired, others)


def test_a_fleet_begins_with_its_least_size() -> None:
    assert FleetSize(2, 8, 60.0).decide(Demand(ADDRESS), 0.0) == 2


def test_a_session_without_other_workers_has_one_until_the_number_is_known() -> None:
    assert FleetSize(0, 8, 60.0).decide(in_session(None), 0.0) == 1


def test_local_workers_bring_the_number_without_the_fleet() -> None:
    assert FleetSize(0, 8, 60.0).decide(in_session(None, others=2), 0.0) == 0


def test_the_fleet_adds_what_other_workers_lack() -> None:
    assert FleetSize(0, 8, 60.0).decide(in_session(5, others=2), 0.0) == 3


def test_the_size_stays_within_its_bounds() -> None:
    size = FleetSize(2, 8, 60.0)
    assert size.decide(in_session(100), 0.0) == 8
    assert size.decide(in_session(1), 1.0) == 2


def test_a_new_session_keeps_the_fleet_while_its_number_is_not_known() -> None:
    size = FleetSize(0, 8, 60.0)
    size.decide(in_session(6), 0.0)
    assert size.decide(Demand(ADDRESS), 10.0) == 6
    assert size.decide(in_session(None), 20.0) == 6


def test_a_fleet_without_a_session_is_given_up_after_its_time() -> None:
    size = FleetSize(1, 8, 60.0)
    size.decide(in_session(6), 0.0)
    assert size.decide(Demand(ADDRESS), 10.0) == 6
    assert size.decide(Demand(ADDRESS), 69.0) == 6
    assert size.decide(Demand(ADDRESS), 70.0) == 1


def test_each_session_starts_the_time_again() -> None:
    size = FleetSize(0, 8, 60.0)
    size.decide(in_session(6), 0.0)
    size.decide(Demand(ADDRESS), 10.0)
    size.decide(in_session(None), 50.0)
    assert size.decide(Demand(ADDRESS), 100.0) == 6
