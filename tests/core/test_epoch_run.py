"""One epoch's positions and their states."""

from __future__ import annotations

import pytest

from enqueuer.core.epoch_run import EpochRun, PositionState
from tests.support.simulation.invariants import check_run


def a_run(length: int = 5, *, ordered: bool = True, confirmed: bool = True) -> EpochRun:
    return EpochRun(0, 0, range(length), ordered=ordered, confirmed=confirmed)


def lease_all(run: EpochRun, count: int) -> None:
    """Leases 1, 2, … on the next positions."""
    for lease, position in enumerate(run.take_pending(count), 1):
        run.lease_all([position], [lease])


def test_a_position_goes_from_pending_over_leased_and_buffered_to_delivered() -> None:
    run = a_run(1)
    assert run.state_of(0) is PositionState.PENDING
    lease_all(run, 1)
    assert run.state_of(0) is PositionState.LEASED
    assert run.answer(0, "batch")
    assert run.state_of(0) is PositionState.BUFFERED
    assert run.pop_deliverable() == (range(1), ["batch"])
    assert run.state_of(0) is PositionState.DELIVERED
    assert run.complete


def test_a_position_in_two_states_is_found_out() -> None:
    run = a_run()
    lease_all(run, 1)
    run._buffered[0] = "batch"
    with pytest.raises(AssertionError, match="position 0 of epoch 0 is"):
        run.state_of(0)


def test_ordered_delivery_waits_for_the_head() -> None:
    run = a_run()
    lease_all(run, 3)
    run.answer(2, "c")
    run.answer(1, "b")
    assert run.pop_deliverable() == (range(0), [])
    run.answer(0, "a")
    assert run.pop_deliverable() == (range(3), ["a", "b", "c"])
    check_run(run)


def test_unordered_delivery_gives_what_came_as_it_came() -> None:
    run = a_run(3, ordered=False)
    lease_all(run, 3)
    run.answer(2, "c")
    assert run.pop_deliverable() == ([2], ["c"])
    run.answer(0, "a")
    assert run.pop_deliverable() == ([0], ["a"])
    assert not run.complete
    check_run(run)
    run.answer(1, "b")
    assert run.pop_deliverable() == ([1], ["b"])
    assert run.complete


def test_nothing_of_an_unconfirmed_run_is_deliverable() -> None:
    run = a_run(1, confirmed=False)
    lease_all(run, 1)
    run.answer(0, "a")
    assert run.pop_deliverable() == ((), [])
    run.confirmed = True
    assert run.pop_deliverable() == (range(1), ["a"])


def test_lost_positions_are_leased_before_fresh_ones_lowest_first() -> None:
    run = a_run()
    lease_all(run, 3)
    assert run.unlease(2, 3)
    assert run.unlease(0, 1)
    check_run(run)
    assert run.take_pending(10) == [0, 2, 3, 4]


def test_any_number_of_lost_positions_is_leased_in_order_around_the_busy_ones() -> None:
    run = a_run(300)
    lease_all(run, 200)
    for position in reversed(range(200)):
        assert run.unlease(position, position + 1)
    busy = set(range(0, 300, 2))
    assert run.take_pending(3, busy) == [1, 3, 5]
    assert run.take_pending(3, busy) == [7, 9, 11]
    assert run.take_pending(100, busy) == list(range(13, 213, 2))
    run.give_back()
    assert run.take_pending(110) == [*range(0, 213, 2), 213, 214, 215]


def test_a_second_answer_changes_nothing() -> None:
    run = a_run(2)
    lease_all(run, 1)
    assert run.answer(0, "first")
    assert not run.answer(0, "second")
    assert run.pop_deliverable() == (range(1), ["first"])
    assert not run.answer(0, "third")


def test_a_late_answer_takes_its_position_off_the_waiting_list() -> None:
    run = a_run(2)
    lease_all(run, 1)
    run.unlease(0, 1)
    assert run.answer(0, "late")
    assert run.take_pending(10) == [1]


def test_a_position_with_two_leases_stays_leased_when_one_of_them_is_lost() -> None:
    run = a_run(1)
    lease_all(run, 1)
    run.lease_all([0], [2])
    assert not run.unlease(0, 1)
    assert run.is_live(0, 2) and not run.is_live(0, 1)
    assert run.state_of(0) is PositionState.LEASED
    assert run.unlease(0, 2)
    assert not run.unlease(0, 2)


def test_a_position_that_killed_a_worker_waits_among_the_suspects() -> None:
    run = a_run(2)
    lease_all(run, 1)
    run.deaths[0] = 1
    run.unlease(0, 1)
    assert run.has_suspects
    assert run.state_of(0) is PositionState.PENDING
    assert run.take_pending(10) == [1]
    assert run.take_suspect() == 0


def test_an_index_that_killed_workers_is_not_free_for_a_later_epoch_even_after_its_last_chance() -> None:
    """It would kill more workers than it may, before the trainer hears of this epoch's failure."""
    run = EpochRun(0, 0, [7, 8], ordered=True, confirmed=True)
    lease_all(run, 2)
    run.deaths[0] = [-11]
    run.answer(0, "failed")
    run.answer(1, "batch")
    assert run.unanswered_indices() == {7}


@pytest.mark.parametrize("ordered", [True, False])
def test_batches_of_an_unconfirmed_run_that_are_next_in_order_can_be_counted(ordered: bool) -> None:
    run = a_run(5, ordered=ordered, confirmed=False)
    lease_all(run, 5)
    for position in (0, 1, 3):
        run.answer(position, "batch")
    assert run.deliverable_count == (2 if ordered else 3)


def test_a_suspect_that_was_answered_after_all_is_none() -> None:
    run = a_run(2)
    lease_all(run, 1)
    run.deaths[0] = 1
    run.unlease(0, 1)
    run.answer(0, "late")
    assert not run.has_suspects


@pytest.mark.parametrize("ordered", [True, False])
def test_the_head_is_waiting_when_nothing_before_it_is_under_way(ordered: bool) -> None:
    run = a_run(ordered=ordered)
    assert run.head_is_waiting
    lease_all(run, 2)
    assert not run.head_is_waiting
    run.unlease(1, 2)
    assert run.head_is_waiting is not ordered
    run.unlease(0, 1)
    assert run.head_is_waiting


def test_an_empty_epoch_is_complete_at_once() -> None:
    assert a_run(0).complete


def test_answers_that_come_together_are_taken_as_one_by_one() -> None:
    run = a_run(4)
    lease_all(run, 3)
    run.unlease(2, 3)  # expired: its answer is taken all the same
    assert run.answer_all([0, 1, 2], ["a", "b", "c"]) == [0, 1, 2]
    check_run(run)
    assert run.pop_deliverable() == (range(3), ["a", "b", "c"])


def test_an_answer_that_comes_second_among_others_is_dropped() -> None:
    run = a_run(2)
    lease_all(run, 2)
    assert run.answer(0, "first")
    assert run.answer_all([0, 1], ["second", "b"]) == [1]
    assert run.pop_deliverable() == (range(2), ["first", "b"])
