"""When leases are granted: as the trainer takes, many at a time, and not before there are workers enough."""

from __future__ import annotations

from enqueuer.core import events as ev
from enqueuer.protocol import messages as m
from tests.core.driver import Driver, Peer, serving, supervisor


def test_the_bound_holds_back_grants_until_the_trainer_takes() -> None:
    driver, (worker,) = serving(100, max_queue_size=4)
    while worker.leases:
        worker.answer()
    assert driver.core.state.ledger.ready_count == driver.core.state.scheduler.bound == 5
    assert driver.core.takes_until_wake == 1
    driver.take(1)
    assert len(worker.leases) == 1


def test_with_busy_slots_room_is_collected_before_the_core_is_woken() -> None:
    driver, (worker,) = serving(1000, max_queue_size=100)
    assert driver.core.takes_until_wake is None
    while driver.core.takes_until_wake is None:
        worker.answer(worker.leases[:1], busy=0.001)
    assert driver.core.takes_until_wake == -(-driver.core.state.ledger.ready_count // 2)


def test_takes_wake_nobody_while_all_workers_have_enough_to_compute() -> None:
    driver, workers = serving(1000, 2, max_queue_size=10)
    for worker in workers:
        worker.answer(worker.leases[:1], busy=0.005)
        driver.take(driver.core.state.ledger.ready_count)
    assert sorted(len(worker.leases) for worker in workers) == [4, 6]
    head = workers[0]
    head.answer(head.leases[:1], busy=0.005)
    assert driver.core.state.ledger.ready_count > 0
    assert driver.core.takes_until_wake is None, "the next answer brings a turn early enough"
    while len(head.leases) > 1:
        head.answer(head.leases[:1], busy=0.005)
    assert driver.core.takes_until_wake is not None, "it would run dry"


def test_an_idle_slot_with_short_batches_is_not_worth_a_wake_for_each_take() -> None:
    driver, (worker,) = serving(100, max_queue_size=4)
    while worker.leases:
        worker.answer(busy=0.00001)
        driver.wait(0.001)
    assert driver.core.state.ledger.ready_count == 5
    assert driver.core.takes_until_wake == 5


def test_room_for_short_batches_is_collected_while_the_trainer_has_something_to_take() -> None:
    driver, (worker,) = serving(100, max_queue_size=9)
    worker.answer(busy=0.00001)
    driver.take(1)
    assert len(worker.leases) >= 2, "it had nothing to take"
    worker.answer(busy=0.00001)
    taken = driver.core.state.ledger.ready_count - 1
    for _ in range(taken):
        driver.take(1)
        if driver.core.state.scheduler.room_wanted:
            assert driver.sent(m.Grant) == []
    driver.take(1)
    assert worker.leases, "now it waits"


def test_room_for_short_batches_is_collected_for_a_millisecond_at_most() -> None:
    driver, (worker,) = serving(100, max_queue_size=9)
    worker.answer(busy=0.00001)
    assert worker.leases == [] and driver.core.next_deadline() <= driver.now + 0.001
    driver.wait(0.001)
    assert worker.leases, "the trainer may be busy with the one batch that it has"


def test_an_epoch_that_ends_while_room_is_collected_leaves_no_deadline_behind() -> None:
    driver, (worker,) = serving(12, max_queue_size=9)
    while worker.leases:
        worker.answer(busy=0.00001)
        driver.take(1)
        assert driver.core.next_deadline() > driver.now
        driver.wait(0.001)
        assert driver.core.next_deadline() > driver.now
    assert not driver.core.state.ledger.runs


def test_without_a_bound_nothing_is_waited_for() -> None:
    _, (worker,) = serving(100, max_queue_size=0)
    worker.answer(busy=0.00001)
    assert len(worker.leases) > 1


def test_the_taken_total_never_goes_back() -> None:
    driver, (worker,) = serving(5)
    worker.answer()
    driver.step(ev.Taken(1))
    driver.step(ev.Taken(0))
    assert driver.core.state.ledger.taken_total == 1


def test_nothing_is_granted_before_the_wanted_number_of_workers_is_there() -> None:
    driver = Driver(min_workers=2)
    driver.open(5)
    one = Peer(driver, 1).join(5)
    assert one.leases == []
    other = Peer(driver, 2).join(5)
    assert one.leases and other.leases
    boss = supervisor(driver)
    boss.say(m.WorkerExited(other.incarnation, 0, -9, 0))
    one.answer()
    assert one.leases, "once they were there, the ones that are left go on"


# ---------------------------------------------------------------- one index at a time


def indices_held(peer: Peer) -> set[tuple[int, int]]:
    """(epoch, index) of each lease that the coordinator thinks the worker holds."""
    entries = [peer.driver.core.state.ledger.find(lease) for lease in peer.leases]
    return {(entry[0].epoch, entry[0].order[entry[1]]) for entry in entries if entry is not None}


def answer_all(peer: Peer) -> set[tuple[int, int]]:
    """Answer until nothing more is granted; returns all that was held meanwhile."""
    seen = set()
    while held := indices_held(peer):
        seen |= held
        (lease, *_) = peer.leases
        entry = peer.driver.core.state.ledger.find(lease)
        assert entry is not None
        peer.answer([lease], epoch=entry[0].epoch)
    return seen


def test_an_index_of_the_next_epoch_is_leased_only_once_this_epochs_is_done() -> None:
    driver, (slow, quick) = serving(4, 2, max_queue_size=20)
    driver.open(4, epoch=1, order=[3, 2, 1, 0])
    ((_, index),) = indices_held(slow)
    seen = answer_all(quick)
    assert {found for epoch, found in seen if epoch == 1} == {0, 1, 2, 3} - {index}
    slow.answer()
    assert (1, index) in indices_held(slow) | indices_held(quick)


def test_a_lost_lease_keeps_its_index_from_the_next_epoch_until_it_is_answered() -> None:
    driver, (lost, other) = serving(2, 2, max_queue_size=20)
    driver.open(2, epoch=1)
    ((_, index),) = indices_held(lost)
    driver.step(ev.RouteLost(lost.route))
    driver.wait(3.0)
    assert (1, index) not in indices_held(other)
    seen = answer_all(other)
    assert {(0, index), (1, index)} <= seen
