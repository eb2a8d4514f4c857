"""The automatic depth: deeper while the trainer waits and slots are idle, shallower when nobody needs it."""

from __future__ import annotations

import inspect
import math

import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.core import events as ev
from enqueuer.core.bounds import DEFAULT_QUEUE_SIZE, AutoDepth, ByteBound, FixedDepth
from enqueuer.core.worker import WorkerState
from tests.core.driver import Driver, Peer


def serving(length: int, workers: int, **settings: object) -> tuple[Driver, list[Peer]]:
    driver = Driver(**{"max_queue_size": None, "min_workers": workers, **settings})
    driver.open(length)
    return driver, [Peer(driver, number).join(length) for number in range(1, workers + 1)]


def answer_all(peers: list[Peer], times: int) -> None:
    for _ in range(times):
        for peer in peers:
            if peer.leases:
                peer.answer(busy=0.02)


@pytest.mark.parametrize(
    ("max_queue_size", "slots", "bound"), [(10, 1, 11), (10, 4, 14), (10, 32, 42), (1, 1, 2), (0, 5, math.inf)]
)
def test_a_queue_that_is_full_leaves_each_slot_a_batch(max_queue_size: int, slots: int, bound: float) -> None:
    assert FixedDepth(max_queue_size).bound(slots) == bound


def test_the_default_is_that_of_start() -> None:
    assert inspect.signature(SequenceEnqueuer.start).parameters["max_queue_size"].default == DEFAULT_QUEUE_SIZE


def test_it_begins_as_deep_as_the_default_and_with_many_slots_at_two_batches_each() -> None:
    assert serving(100, 4)[0].core.state.scheduler.bound == FixedDepth(DEFAULT_QUEUE_SIZE).bound(4) == 14
    assert AutoDepth().bound(32) == 65


def test_while_the_head_is_late_the_others_compute_on() -> None:
    driver, (late, *others) = serving(100, 4)
    assert late.leases[0] == 1, "the head of the order"
    answer_all(others, 10)
    assert all(peer.leases for peer in others), "nobody idles"
    assert driver.core.state.scheduler.bound > 15
    assert not driver.delivered


def test_a_fixed_depth_stays_as_it_is() -> None:
    driver, (_, *others) = serving(100, 4, max_queue_size=6)
    answer_all(others, 5)
    assert driver.core.state.scheduler.bound == 10
    assert not any(peer.leases for peer in others)


def test_a_trainer_that_does_not_wait_gets_no_more_than_it_needs() -> None:
    driver, peers = serving(1000, 4)
    answer_all(peers, 20)
    assert driver.core.state.ledger.ready_count == driver.core.state.scheduler.bound == 14


def test_it_never_goes_beyond_the_bytes_that_are_allowed() -> None:
    driver, (_, *others) = serving(1000, 4, max_bytes=2000)
    for _ in range(10):
        for peer in others:
            if peer.leases:
                peer.answer(busy=0.02, size=100)
    assert driver.core.state.ledger.undelivered_count <= 20


def test_what_was_needed_once_is_given_up_when_it_is_not_needed_any_more() -> None:
    driver, (late, *others) = serving(2000, 4)
    answer_all(others, 10)
    deep = driver.core.state.scheduler.bound
    assert deep > 30
    late.answer(busy=0.02)
    for _ in range(150):
        answer_all([late, *others], 1)
        driver.take(min(4, driver.core.state.ledger.ready_count - 3))
    assert driver.core.state.scheduler.bound == 14


def test_what_there_is_for_a_trainer_that_always_waits_is_kept() -> None:
    """It takes at once what is delivered, and all workers have enough to do: nothing happens but results."""
    driver, (late, *others) = serving(4000, 4)
    answer_all(others, 10)
    deep = driver.core.state.scheduler.bound
    for _ in range(150):
        for peer in (late, *others):
            peer.answer(peer.leases[:1], busy=0.02, taken_total=driver.core.state.ledger.delivered_total)
    assert driver.core.state.ledger.ready_count > 0
    assert driver.core.state.scheduler.bound == deep


def test_what_the_trainer_needs_again_and_again_is_kept() -> None:
    """A head that is late in each window: the depth that carried the others over it stays."""
    depth = AutoDepth()
    depth.deepen(60)
    for delivered_total in range(0, 5000, 20):
        depth.note(ready_count=delivered_total % 200, delivered_total=delivered_total, slots=4)
    assert depth.bound(4) == 60


def test_a_worker_that_is_lost_leaves_it_as_deep_as_it_was() -> None:
    driver, (worker,) = serving(100, 1)
    assert driver.core.state.scheduler.bound == 11
    driver.step(ev.RouteLost(worker.route))
    driver.wait(30.0, until_done=True)
    assert worker.state() is WorkerState.LOST
    assert driver.core.state.scheduler.bound == 11, "its late answers may still come"


def test_the_head_of_the_order_goes_whatever_the_bytes() -> None:
    driver, (worker,) = serving(100, 1, max_bytes=10)
    worker.answer(busy=0.02, size=1000)
    driver.take(1)
    assert worker.leases
    driver.step()


def test_a_heavier_batch_is_believed_at_once_and_a_lighter_one_slowly() -> None:
    bound = ByteBound(1000)
    bound.note_weight(0, 10)
    assert bound.room_for_idle(0, 0) == 100
    bound.note_weight(0, 100)
    assert bound.room_for_idle(0, 0) == 10
    bound.note_weight(0, 10)
    assert bound.room_for_idle(0, 0) == 10
    for _ in range(100):
        bound.note_weight(0, 10)
    assert bound.room_for_idle(0, 0) > 90


def test_what_only_waits_counts_as_the_heaviest_of_this_epoch_and_the_one_before() -> None:
    bound = ByteBound(1000)
    bound.note_weight(0, 100)
    for epoch, room in [(0, 10), (1, 10), (2, 100)]:
        for _ in range(1000):
            bound.note_weight(epoch, 10)
        assert bound.room_for_queues(0, 0) == room
    assert bound.room_for_queues(500, 2) == 48


def test_a_late_batch_of_an_epoch_before_does_not_forget_this_ones() -> None:
    bound = ByteBound(1000)
    bound.note_weight(5, 100)
    for _ in range(3):
        bound.note_weight(4, 10)
        bound.note_weight(5, 10)
    assert bound.room_for_queues(0, 0) == 10


def test_more_than_is_allowed_leaves_less_than_no_room() -> None:
    bound = ByteBound(1000)
    bound.note_weight(0, 100)
    assert bound.room_for_idle(1300, 0) == -3


def test_batches_of_nothing_are_no_division_by_zero() -> None:
    bound = ByteBound(1000)
    assert not bound.is_known
    bound.note_weight(0, 1 << 40)
    for _ in range(20_000):
        bound.note_weight(2, 0)
    assert bound.is_known
    assert bound.room_for_idle(0, 0) > 900
