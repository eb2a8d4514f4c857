"""A late head of the order is leased a second time: when, to which worker, and what becomes of the slower answer."""

from __future__ import annotations

import math
from typing import Any

import pytest

from enqueuer.core import events as ev
from enqueuer.core.actions import Deliver
from enqueuer.core.hedging import ComputeTimes
from enqueuer.protocol import messages as m
from tests.core.driver import Driver, Peer, supervisor

BATCH_SECONDS = 0.02


def late_head(workers: int = 3, **settings: Any) -> tuple[Driver, Peer, list[Peer]]:
    """The first worker has been sitting on the head of the order while the others computed all that there was room for.

    Nobody has been late yet.
    """
    driver = Driver(**{"max_queue_size": 30, "hedge": 3.0, "min_workers": workers, **settings})
    driver.open(1000)
    slow, *others = [Peer(driver, number).join(1000) for number in range(1, workers + 1)]
    while any(other.leases for other in others):
        for other in others:
            if other.leases:
                other.answer(other.leases[:1], busy=BATCH_SECONDS)
        driver.now += 0.0001
    assert len(slow.leases) == 1
    return driver, slow, others


def hedges(driver: Driver, peers: list[Peer], index: int = 0) -> list[Peer]:
    return [peer for peer in peers if any(grant.indices == (index,) for grant in driver.ever_sent(m.Grant, peer))]


def test_a_late_head_is_leased_a_second_time_and_the_first_answer_wins() -> None:
    driver, slow, others = late_head()
    driver.wait(0.055)
    assert driver.core.state.hedges_count == 0, "three times 20 ms have not passed"
    driver.wait(0.01)
    assert driver.core.state.hedges_count == 1
    (fast,) = hedges(driver, others)
    (lease,) = fast.leases
    fast.answer([lease], busy=BATCH_SECONDS)
    assert driver.delivered[0] == f"b{lease}"
    assert driver.ever_sent(m.Revoke, slow) == [m.Revoke((slow.leases[0],))]
    assert len(slow.leases) == 1, "it computes on, so it gets nothing else"
    stale = driver.core.state.ledger.stale_count
    slow.answer(slow.leases[:1])
    assert driver.core.state.ledger.stale_count == stale + 1
    driver.take(len(driver.delivered))
    assert slow.leases, "it is served again"


def test_a_thread_of_the_trainers_that_was_too_late_answers_and_is_served_again() -> None:
    """It drops nothing that it was granted: what it never answers would occupy its slot for good."""
    driver = Driver(max_queue_size=30, hedge=3.0, min_workers=2)
    driver.open(1000)
    threads = Peer(driver, 1, "threads")
    driver.step(ev.ThreadsJoined(threads.route, threads.incarnation, "here", 1, 1))
    other = Peer(driver, 2).join(1000)
    assert len(threads.leases) == 1
    while other.leases:
        other.answer(other.leases[:1], busy=BATCH_SECONDS)
        driver.now += 0.0001
    driver.wait(0.065)
    assert hedges(driver, [other])
    other.answer(busy=BATCH_SECONDS)
    driver.take(len(driver.delivered))
    assert driver.ever_sent(m.Revoke, threads) == []
    late = threads.leases
    threads.answer(late)
    assert threads.leases and threads.leases != late


def test_the_slow_answer_may_still_come_first() -> None:
    driver, slow, others = late_head()
    driver.wait(0.065)
    (fast,) = hedges(driver, others)
    driver.step()
    slow.answer(slow.leases[:1])
    assert driver.delivered[0] == "b1"
    assert driver.ever_sent(m.Revoke, fast)


def test_the_deadline_is_when_the_head_becomes_late() -> None:
    driver, _, _ = late_head()
    assert driver.core.next_deadline() == pytest.approx(0.06, abs=0.005)


@pytest.mark.parametrize("settings", [{"hedge": None}, {"hedge": 100.0}])
def test_nothing_is_hedged_when_it_is_off_or_the_factor_is_not_reached(settings: dict[str, Any]) -> None:
    driver, _, _ = late_head(**settings)
    driver.wait(1.0)
    assert driver.core.state.hedges_count == 0


def test_a_head_is_hedged_once_however_late_it_is() -> None:
    driver, _, _ = late_head()
    for _ in range(20):
        driver.wait(0.1)
    assert driver.core.state.hedges_count == 1


def test_nothing_is_hedged_while_every_slot_has_work() -> None:
    driver = Driver(max_queue_size=0, hedge=3.0, min_workers=2)
    driver.open(1000)
    _, other = [Peer(driver, number).join(1000) for number in (1, 2)]
    for _ in range(30):
        driver.now += BATCH_SECONDS
        other.answer(other.leases[:1], busy=BATCH_SECONDS)
    assert driver.core.state.hedges_count == 0


def test_nothing_is_hedged_before_it_is_known_what_batches_take() -> None:
    driver = Driver(max_queue_size=1, hedge=1.0, min_workers=2)
    driver.open(2)
    peers = [Peer(driver, number).join(2) for number in (1, 2)]
    peers[1].answer(busy=BATCH_SECONDS)
    driver.wait(5.0)
    assert driver.core.state.hedges_count == 0


def test_its_own_holder_is_no_help() -> None:
    driver, slow, others = late_head(workers=2)
    driver.step(ev.RouteLost(others[0].route))
    driver.wait(1.5)
    assert driver.core.state.hedges_count == 0
    assert slow.leases


def test_a_suspect_is_not_hedged_for_it_could_take_a_second_worker_with_it() -> None:
    driver, slow, others = late_head()
    boss = supervisor(driver)
    boss.say(m.WorkerExited(slow.incarnation, 0, -11, slow.leases[0]))
    (holder,) = hedges(driver, others)
    driver.wait(1.0)
    assert driver.core.state.hedges_count == 0
    assert hedges(driver, others) == [holder]


def test_what_is_as_late_behind_the_head_is_hedged_with_it() -> None:
    driver = Driver(max_queue_size=30, hedge=3.0, min_workers=4)
    driver.open(1000)
    one, two, *others = [Peer(driver, number).join(1000) for number in range(1, 5)]
    while any(other.leases for other in others):
        for other in others:
            if other.leases:
                other.answer(other.leases[:1], busy=BATCH_SECONDS)
    assert [len(peer.leases) for peer in (one, two)] == [1, 1]
    driver.wait(0.1)
    assert driver.core.state.hedges_count == 2
    assert len(hedges(driver, others, 0)) == len(hedges(driver, others, 1)) == 1


def test_unordered_it_is_the_batch_that_was_leased_first() -> None:
    driver = Driver(max_queue_size=4, ordered=False, hedge=3.0, min_workers=2)
    driver.open(30)
    slow, other = [Peer(driver, number).join(30) for number in (1, 2)]
    while other.leases:
        other.answer(other.leases[:1], busy=BATCH_SECONDS)
        driver.take(sum(len(action.outcomes) for action in driver.of(Deliver)))
    driver.wait(0.1)
    assert driver.core.state.hedges_count == 1
    other.answer(busy=BATCH_SECONDS)
    assert len(driver.delivered) == 30
    assert slow.leases


def test_a_hedge_that_is_lost_leaves_the_first_lease_and_is_granted_anew() -> None:
    driver, _, others = late_head()
    driver.wait(0.065)
    (fast,) = hedges(driver, others)
    fast.heartbeat(held=())
    assert driver.core.state.ledger.runs[0].hedged.keys() == {0}, "it went to the other one, or to the same again"
    assert driver.core.state.hedges_count == 2


def test_a_failure_that_is_final_ends_the_other_lease_too() -> None:
    driver, slow, others = late_head()
    driver.wait(0.065)
    (fast,) = hedges(driver, others)
    fast.fail(fast.leases[0])
    assert len(driver.delivered) > 0
    assert driver.ever_sent(m.Revoke, slow)


def test_a_failure_that_is_tried_again_leaves_the_other_lease_alone() -> None:
    driver, slow, others = late_head(retries=1)
    driver.wait(0.065)
    (fast,) = hedges(driver, others)
    fast.fail(fast.leases[0])
    assert driver.delivered == []
    slow.answer(slow.leases[:1])
    assert driver.delivered[0] == "b1"


def test_the_percentile_needs_samples_follows_the_newest_and_leaves_out_the_holder() -> None:
    driver = Driver(min_workers=1)
    driver.open(10)
    holder, other = (Peer(driver, number).join(10).record for number in (1, 2))
    times = ComputeTimes()
    for _ in range(9):
        times.note(other, 1.0)
    assert times.p95_of_others(holder) == math.inf
    times.note(other, 1.0)
    assert times.p95_of_others(holder) == 1.0
    for number in range(1, 201):
        times.note(other, number / 100)
    assert times.p95_of_others(holder) == pytest.approx(1.9)
    for _ in range(100):
        times.note(holder, 60.0)
    assert times.p95_of_others(holder) == pytest.approx(1.95)
    assert times.p95_of_others(other) == 60.0


def test_a_worker_that_hardly_gets_to_run_says_long_times_of_itself_and_is_late_all_the_same() -> None:
    driver, slow, others = late_head()
    slow.heartbeat(round_trip=0.001)
    for _ in range(5):
        slow.heartbeat(round_trip=0.2)
    for _ in range(30):
        driver.core.state.hedger.note_batches(slow.record, 1, 0.5)
    driver.wait(0.06 + 0.1 + 0.01)
    assert driver.core.state.hedges_count == 1
    assert hedges(driver, others)
