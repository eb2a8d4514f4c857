"""What is known of one worker."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.core.events import Route
from enqueuer.core.worker import TRANSITIONS, Worker, WorkerState


def a_worker() -> Worker:
    return Worker("w", b"1" * 16, "host", 1, "remote", 1, Route("remote", b"1"), b"", 0, 0.0)


@pytest.mark.parametrize("state", WorkerState)
@pytest.mark.parametrize("target", WorkerState)
def test_only_listed_transitions_are_legal_and_others_change_nothing(state: WorkerState, target: WorkerState) -> None:
    worker = a_worker()
    worker.state = state
    if target in TRANSITIONS[state]:
        worker.move_to(target)
        assert worker.state is target
    else:
        with pytest.raises(ValueError, match=r"worker w on host cannot go from"):
            worker.move_to(target)
        assert worker.state is state


def test_nothing_leads_out_of_gone() -> None:
    assert TRANSITIONS[WorkerState.GONE] == frozenset()


@given(st.lists(st.integers(1, 12), max_size=40))
def test_each_result_number_counts_once_in_whatever_order_they_come(numbers: list[int]) -> None:
    worker = a_worker()
    seen: set[int] = set()
    for number in numbers:
        assert worker.take_result_number(number) is (number not in seen)
        seen.add(number)
        assert set(range(1, worker.received_seq + 1)) <= seen
        assert worker.received_seq + 1 not in seen
        assert worker.highest_seq == max(seen)


def test_compute_times_are_a_running_mean_that_starts_with_the_first() -> None:
    worker = a_worker()
    worker.note_batches(2, 0.2, now=5.0)
    assert worker.item_seconds == pytest.approx(0.1)
    worker.note_batches(1, 0.6, now=6.0)
    assert worker.item_seconds == pytest.approx(0.2)
    assert (worker.batches_count, worker.last_answer) == (3, 6.0)


def test_a_shorter_round_trip_is_believed_at_once_and_a_longer_one_little_by_little() -> None:
    worker = a_worker()
    for seconds, known in ((0.02, 0.02), (0.01, 0.01), (0.11, 0.02), (0.01, 0.01), (0.0, 0.01), (math.inf, 0.01)):
        worker.note_round_trip(seconds)
        assert worker.round_trip == pytest.approx(known)
    for _ in range(50):
        worker.note_round_trip(0.3)
    assert worker.round_trip == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 0.0, 5e-324])
def test_whatever_a_worker_says_of_its_times_its_share_is_bounded(seconds: float) -> None:
    worker = a_worker()
    worker.note_batches(1, seconds, now=0.0)
    worker.round_trip = seconds
    assert 1 <= worker.target_load < 5000


def test_only_a_serving_worker_with_a_route_takes_leases() -> None:
    worker = a_worker()
    assert not worker.takes_leases
    worker.move_to(WorkerState.SERVING)
    assert worker.takes_leases
    worker.route = None
    assert not worker.takes_leases
