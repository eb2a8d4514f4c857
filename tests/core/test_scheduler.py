"""The worker that gets the next leases: fairness, the bound, and moves to idle slots."""

from __future__ import annotations

import pytest

from enqueuer.core import events as ev
from enqueuer.core.worker import Worker
from enqueuer.protocol import messages as m
from tests.core.driver import Driver, Peer, supervisor


def serving(length: int, workers: int, **settings: object) -> tuple[Driver, list[Peer]]:
    """All of them join before there is anything to do."""
    driver = Driver(**{"min_workers": workers, **settings})
    driver.open(length)
    return driver, [Peer(driver, number).join(length) for number in range(1, workers + 1)]


def test_within_a_scarce_bound_no_lease_waits_behind_another_in_place_of_one_that_came_early() -> None:
    driver, peers = serving(100, 16, max_queue_size=10)
    for early in peers[1:9]:
        early.answer(busy=0.02)
    assert driver.core.state.scheduler.bound == 26
    assert [len(peer.leases) for peer in peers] == [1] * 16, "one each, none in a queue"


@pytest.mark.parametrize(("busy", "leased"), [(0.0011, 10), (0.0009, 12)])
def test_short_batches_take_the_room_that_is_kept_for_those_that_come_early(busy: float, leased: int) -> None:
    driver, peers = serving(100, 2, max_queue_size=10)
    for peer in peers:
        peer.answer(busy=busy)
    driver.take(2)
    assert driver.core.state.ledger.leased_count == leased


def test_no_slot_has_a_second_lease_while_another_has_none() -> None:
    driver, workers = serving(100, 4, max_queue_size=2)
    assert [len(worker.leases) for worker in workers] == [1, 1, 1, 1]
    workers[0].answer(busy=0.0001)
    assert [len(worker.leases) for worker in workers[1:]] == [1, 1, 1]
    assert len(workers[0].leases) >= 1
    newcomer = Peer(driver, 9).join(100)
    while not newcomer.leases:
        driver.take(1)
    assert len(newcomer.leases) == 1


def test_a_worker_holds_enough_small_batches_to_cover_its_round_trip() -> None:
    _, (worker,) = serving(10_000, 1, max_queue_size=0)
    worker.heartbeat(round_trip=0.006)
    worker.answer(busy=0.0001)
    # One running, one more, and (6 + 4 ms) / 0.1 ms queued.
    assert len(worker.leases) in (101, 102)


def test_small_batches_are_granted_many_to_a_message() -> None:
    driver, (worker,) = serving(10_000, 1, max_queue_size=0)
    worker.answer(busy=0.00001)
    worker.answer(worker.leases[:10], busy=0.0001)
    assert driver.sent(m.Grant) == [], "a quarter of its queue must be free first"
    worker.answer(worker.leases[:200], busy=0.002)
    (grant,) = driver.sent(m.Grant)
    assert len(grant.indices) >= 100


@pytest.mark.parametrize(
    ("seconds", "queued"), [((0.005,) * 3, 4), ((0.01,) * 3, 3), ((0.02,) * 3, 0), ((0.11, 0.01, 0.01), 0)]
)
def test_batches_of_some_milliseconds_are_queued_so_that_several_travel_in_a_message(
    seconds: tuple[float, ...], queued: int
) -> None:
    """None waits behind a long one: the longest lately counts."""
    _, (worker,) = serving(10_000, 1, max_queue_size=0)
    for took in seconds:
        worker.answer(worker.leases[:1], busy=took)
    assert worker.record.target_load == 2 + queued


def test_long_batches_are_not_queued_beyond_one() -> None:
    _, workers = serving(100, 2, max_queue_size=50)
    for worker in workers:
        worker.answer(busy=1.0)
    assert [len(worker.leases) for worker in workers] == [2, 2]


def test_room_is_shared_between_workers_that_want_more() -> None:
    driver, workers = serving(1000, 2, max_queue_size=40)
    for worker in workers:
        worker.answer(busy=0.00001)
    driver.take(2)
    loads = [len(worker.leases) for worker in workers]
    assert sum(loads) <= 42
    assert min(loads) >= 1


def test_the_head_is_granted_although_the_bound_is_full() -> None:
    driver, (slow, fast) = serving(100, 2, max_queue_size=4)
    while fast.leases:
        fast.answer()
    assert driver.core.state.ledger.undelivered_count == driver.core.state.scheduler.bound
    (head,) = slow.leases
    driver.step(ev.RouteLost(slow.route))
    driver.wait(5.0)
    assert not driver.core.state.ledger.runs[0].is_live(0, head)
    assert [grant.indices for grant in driver.ever_sent(m.Grant, fast)][-1] == (0,)


def test_the_weight_of_batches_bounds_them_too() -> None:
    driver, (worker,) = serving(100, 1, max_queue_size=50, max_bytes=1000)
    assert driver.core.state.scheduler.bound == 1, "of their weight nothing is known yet: one a slot"
    worker.answer(busy=0.001, size=300)
    assert driver.core.state.scheduler.bound == 3
    while worker.leases:
        worker.answer(busy=0.001, size=300)
    assert driver.core.state.ledger.undelivered_count == 3
    driver.take(2)
    driver.wait(0.001)
    assert len(worker.leases) == 2


@pytest.mark.parametrize("busy", [0.02, 0.0002])
@pytest.mark.parametrize("run", [1, 2, 5, 10, 20, 60])
def test_light_and_heavy_batches_together_stay_within_the_bytes_but_for_one_a_slot(run: int, busy: float) -> None:
    sizes = [100 if position // run % 2 else 1000 for position in range(400)]
    driver, workers = serving(len(sizes), 2, max_queue_size=1000, max_bytes=10_000)
    ledger = driver.core.state.ledger
    most = 0
    while ledger.runs:
        for worker in workers:
            if worker.leases:
                entry = ledger.find(worker.leases[0])
                assert entry is not None
                worker.answer(worker.leases[:1], busy=busy, size=sizes[entry[1]])
            most = max(most, sum(sizes[ledger.taken_total :][: ledger.undelivered_count]))
            driver.now += busy / 2
        driver.take(min(1, ledger.ready_count))
    assert 7_000 <= most <= 10_000 + 2 * 1000


@pytest.mark.parametrize("light_count", [500, 3000])
def test_a_long_run_of_light_batches_does_not_make_an_epoch_forget_its_heavy_ones(light_count: int) -> None:
    sizes = [1000] * 8 + [10] * light_count + [1000] * 40
    driver, workers = serving(len(sizes), 2, max_queue_size=0, max_bytes=10_000)
    ledger = driver.core.state.ledger
    most = 0

    def size_of(lease: int) -> int:
        entry = ledger.find(lease)
        assert entry is not None
        return sizes[entry[1]]

    while ledger.runs:
        for worker in workers:
            if worker.leases:
                # Light ones go many to a message, a heavy one alone.
                size = size_of(worker.leases[0])
                leases = [lease for lease in worker.leases[: 1 if size == 1000 else 20] if size_of(lease) == size]
                worker.answer(leases, busy=0.00002 * len(leases), size=size)
            most = max(most, sum(sizes[ledger.taken_total :][: ledger.undelivered_count]))
            driver.now += 0.001
        driver.take(min(10, ledger.ready_count))
    assert most <= 10_000 + 2 * 1000


def test_batches_heavier_than_all_that_is_allowed_come_one_at_a_time() -> None:
    driver, (one, other) = serving(6, 2, max_queue_size=50, max_bytes=1000)
    workers = (one, other)
    one.answer(size=5000)
    other.answer(size=5000)
    assert driver.core.state.scheduler.bound == 0
    assert not one.leases and not other.leases
    driver.take(2)
    assert sum(len(worker.leases) for worker in workers) == 1
    for number in range(3, 7):
        next(worker for worker in workers if worker.leases).answer(size=5000)
        assert driver.core.state.ledger.undelivered_count == 1
        driver.take(1)
        assert driver.core.state.ledger.delivered_total == number
    assert driver.core.state.ledger.runs == {}


def test_the_current_epoch_is_granted_before_the_one_ahead() -> None:
    driver, (worker,) = serving(2, 1, max_queue_size=20)
    driver.open(2, epoch=1, gated=True)
    worker.answer()
    assert [grant.epoch for grant in driver.ever_sent(m.Grant)] == [0, 0, 1][: len(driver.ever_sent(m.Grant))]


# ---------------------------------------------------------------- moves


def test_a_queued_lease_moves_to_an_idle_slot() -> None:
    driver, (busy, idle) = serving(4, 2, max_queue_size=50)
    busy.answer(busy=1.0)
    assert len(busy.leases) == 2
    queued = busy.leases[1]
    idle.answer(busy=1.0)
    assert driver.sent(m.Revoke, busy) == [m.Revoke((queued,))]
    assert len(busy.leases) == len(idle.leases) == 1
    old, new = driver.core.state.ledger.find(queued), driver.core.state.ledger.find(idle.leases[0])
    assert old is not None and new is not None and old[:2] == new[:2]
    busy.answer(busy.leases)
    busy.answer([queued])
    assert driver.delivered[-1] == f"b{queued}", "its old lease can still answer"


def test_a_lease_behind_a_late_one_moves_as_soon_as_that_is_seen() -> None:
    driver, (late, idle) = serving(6, 2, max_queue_size=50)
    late.answer(busy=0.002)
    queued = late.leases[1:]
    assert queued
    while idle.leases:
        idle.answer(busy=0.002)
    assert driver.core.next_deadline() <= driver.now + 0.005
    driver.wait(0.1)
    assert driver.ever_sent(m.Revoke, late)[0] == m.Revoke((queued[0],))
    assert idle.leases


def test_short_queues_are_not_worth_moving() -> None:
    driver, (busy, idle) = serving(8, 2, max_queue_size=50)
    busy.answer(busy=0.001)
    while idle.leases:
        idle.answer(busy=0.001)
    assert driver.ever_sent(m.Revoke) == []


def test_nothing_wakes_the_core_for_moves_while_nothing_queues() -> None:
    driver, (_, idle) = serving(2, 2)
    idle.answer()
    assert driver.core.state.scheduler.has_idle
    assert not driver.core.state.scheduler.has_movable
    assert driver.core.next_deadline() >= driver.now + 0.4


def test_an_expired_lease_that_is_still_held_is_not_moved_again() -> None:
    driver, (busy, idle, other) = serving(5, 3, max_queue_size=50)
    other.answer(busy=1.0)
    busy.answer(busy=1.0)
    idle.answer(busy=1.0)
    ((revoked,),) = [revoke.leases for revoke in driver.ever_sent(m.Revoke)]
    loser = next(peer for peer in (busy, other) if driver.ever_sent(m.Revoke, peer))
    loser.heartbeat(held=(*loser.leases, revoked))
    assert revoked in loser.leases
    for peer in (busy, idle, other):
        if peer is not loser:
            peer.answer(busy=1.0)
    driver.wait(5.0)
    assert [revoke.leases for revoke in driver.ever_sent(m.Revoke)].count((revoked,)) == 1


def test_a_queued_lease_that_turns_out_to_be_a_suspect_is_leased_alone() -> None:
    driver = Driver(max_queue_size=0)
    driver.open(4)
    boss = supervisor(driver)
    victim, busy, idle = (Peer(driver, number).join(4) for number in (1, 2, 3))
    (running,) = victim.leases
    driver.step(ev.RouteLost(victim.route))
    driver.wait(5.0)
    busy.answer(busy=1.0)
    assert [driver.core.state.ledger.find(lease)[1] for lease in busy.leases] == [0, 3]  # type: ignore[index]
    busy.answer(busy.leases[1:], busy=1.0)
    boss.say(m.WorkerExited(victim.incarnation, 0, -9, running))
    idle.answer(busy=1.0)
    assert driver.delivered == []
    busy.answer(busy=1.0)
    assert len(driver.delivered) == 4


def test_threads_share_their_queue_and_need_no_moves() -> None:
    driver = Driver(max_queue_size=0)
    driver.open(3)
    driver.step(ev.ThreadsJoined(ev.Route("threads", b""), b"t" * 16, "host", 1, 2))
    driver.step(ev.ResultsReceived(b"t" * 16, 0, 0, 1, 0.001, [1], ["x"], 1))
    (worker,) = driver.core.state.fleet
    assert worker.target_load == 2
    assert isinstance(worker, Worker) and worker.load == 2
    assert not driver.core.state.scheduler.has_movable
