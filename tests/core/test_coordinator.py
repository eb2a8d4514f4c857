"""The coordinator as a whole: answers, epochs, failures, delivery and what wakes it."""

from __future__ import annotations

import gc
import math
import weakref
from typing import get_args

import pytest

from enqueuer.core import coordinator
from enqueuer.core import events as ev
from enqueuer.core.actions import Deliver, EpochEnded, EpochExhausted, RemoteLine, Send
from enqueuer.core.worker import WorkerState
from enqueuer.protocol import messages as m
from tests.core.driver import Driver, Peer, serving, supervisor


def positions_of(peer: Peer) -> list[int]:
    """What it has leases for."""
    entries = [peer.driver.core.state.ledger.find(lease) for lease in peer.leases]
    return [entry[1] for entry in entries if entry is not None]


def test_every_kind_of_message_to_the_coordinator_has_a_rule() -> None:
    ruled = {m.Hello, *coordinator._WORKER_RULES, *coordinator._OBSERVER_RULES, *coordinator._SUPERVISOR_RULES}
    assert ruled == set(get_args(m.FromWorker))


# ---------------------------------------------------------------- answers


def test_a_batch_is_granted_computed_and_delivered() -> None:
    driver, (worker,) = serving(1)
    (grant,) = driver.ever_sent(m.Grant)
    assert grant == m.Grant(0, 0, 0, 1, (0,))
    worker.answer()
    assert driver.of(Deliver) == [Deliver(0, range(1), ["b1"])]
    assert driver.core.state.ledger.runs == {}


def test_a_grant_carries_indices_in_the_epochs_order() -> None:
    driver = Driver()
    driver.open(3, order=[2, 0, 1])
    worker = Peer(driver, 1).join(3)
    worker.answer()
    worker.answer()
    indices = [index for grant in driver.ever_sent(m.Grant) for index in grant.indices]
    assert indices == [2, 0, 1]


def test_a_late_answer_of_an_expired_lease_is_taken() -> None:
    driver, (slow, other) = serving(4, workers=2)
    held = slow.leases
    driver.step(ev.RouteLost(slow.route))
    driver.wait(5.0)
    assert slow.leases == []
    slow.answer(held)
    assert driver.delivered[:1] == [f"b{held[0]}"]
    assert driver.core.state.ledger.stale_count == 0
    assert other.leases


def test_a_duplicate_result_message_is_dropped() -> None:
    driver, (worker,) = serving()
    leases = worker.leases
    worker.answer(leases, seq=1)
    worker.answer(leases, seq=1)
    assert driver.delivered == ["b1"]
    assert driver.core.state.ledger.stale_count == len(leases)


def test_the_second_of_two_answers_for_one_position_is_stale() -> None:
    driver, (lost, other) = serving(9, workers=2)
    (first,), (second,) = lost.leases, other.leases
    driver.step(ev.RouteLost(lost.route))
    driver.wait(5.0)
    other.answer([second])
    again = other.leases[0]
    assert positions_of(other)[0] == 0
    other.answer([again])
    assert driver.delivered == [f"b{again}", f"b{second}"]
    lost.answer([first])
    assert len(driver.delivered) == 2
    assert driver.core.state.ledger.stale_count == 1


def test_an_answer_for_a_lease_of_somebody_else_is_stale() -> None:
    driver, (one, other) = serving(4, workers=2)
    one.answer(other.leases)
    assert driver.delivered == []
    assert driver.core.state.ledger.stale_count == 1
    assert other.leases


def test_results_of_an_unknown_incarnation_or_without_leases_are_dropped() -> None:
    driver, (worker,) = serving()
    Peer(driver, 9).answer([1])
    worker.answer([])
    assert driver.delivered == []
    worker.answer(seq=1)
    assert driver.delivered == ["b1"]


def test_ordered_delivery_waits_for_the_head_whoever_has_it() -> None:
    driver, (one, other) = serving(4, workers=2)
    other.answer(other.leases[:1])
    assert driver.delivered == []
    one.answer(one.leases[:1])
    assert driver.delivered == ["b1", "b2"]


def test_unordered_delivery_does_not_wait() -> None:
    driver, (_, other) = serving(4, workers=2, ordered=False)
    other.answer(other.leases[:1])
    assert driver.delivered == ["b2"]


# ---------------------------------------------------------------- epochs


def test_the_next_epoch_is_computed_ahead_and_delivered_when_confirmed() -> None:
    driver, (worker,) = serving(1, max_queue_size=10)
    assert driver.of(EpochExhausted) == [EpochExhausted(0)]
    driver.open(2, epoch=1, gated=True)
    worker.ready(2, epoch=1)
    worker.answer()
    worker.answer(epoch=1)
    assert driver.delivered == ["b1"]
    driver.step(ev.EpochConfirmed(1))
    assert driver.delivered == ["b1", "b2", "b3"]
    driver.step(ev.EpochConfirmed(5))


def test_answers_of_a_replaced_generation_are_stale() -> None:
    driver, (worker,) = serving(1, max_queue_size=10)
    driver.open(2, epoch=1, generation=1, gated=True)
    worker.answer([1])
    old = worker.leases
    driver.open(2, epoch=1, generation=2)
    worker.answer(old, epoch=1, generation=1)
    assert driver.core.state.ledger.stale_count == len(old)
    worker.answer(epoch=1, generation=2)
    assert driver.delivered[1:] and "b2" not in driver.delivered


def test_queued_leases_of_a_replaced_generation_are_revoked_and_free_their_places() -> None:
    driver, (worker,) = serving(100, max_queue_size=0)
    worker.answer(busy=0.001)
    running, *queued = worker.leases
    driver.open(100, epoch=0, generation=1)
    assert driver.sent(m.Revoke) == [m.Revoke((running, *queued))]
    assert running in worker.leases
    assert not set(queued).intersection(worker.leases)


def test_an_epochs_end_is_reported_once_when_its_last_position_is_leased() -> None:
    driver, (worker,) = serving(2)
    worker.answer()
    worker.answer()
    assert driver.history.count(EpochExhausted(0)) == 1


def test_an_empty_epoch_is_over_at_once() -> None:
    driver, _ = serving(0)
    assert driver.core.state.ledger.runs == {}


# ---------------------------------------------------------------- control


def test_an_unknown_connection_or_another_session_is_asked_for_a_hello() -> None:
    driver, (worker,) = serving()
    stranger = Peer(driver, 5)
    stranger.say(m.Drain())
    assert driver.sent(m.WhoAreYou, stranger) == [m.WhoAreYou()]
    worker.say(m.Drain(), session=b"x" * 16)
    assert driver.sent(m.WhoAreYou, worker) == [m.WhoAreYou()]
    assert worker.record.takes_leases


def test_messages_that_do_not_belong_there_change_nothing_but_the_count_of_offences() -> None:
    driver, (worker,) = serving()
    boss = supervisor(driver)
    worker.say(m.Bye())
    boss.say(m.Drain())
    assert driver.of(Send) == []
    assert worker.record.takes_leases
    assert driver.core.state.peers.offences_count == 2


def test_a_line_of_user_code_names_its_worker() -> None:
    driver, (worker,) = serving()
    worker.say(m.Log(20, "root", "hello"))
    assert driver.of(RemoteLine) == [RemoteLine(20, "root", "w1", "host", "hello")]


def test_stop_tells_everyone_and_ends_the_core() -> None:
    driver, (worker,) = serving()
    boss = supervisor(driver)
    driver.core.handle([ev.StopRequested(), ev.Taken(1)], driver.now)
    assert driver.core.next_deadline() == math.inf
    assert driver.core.handle([], driver.now) == []
    driver, (worker,) = serving()
    boss = supervisor(driver)
    assert [action.route for action in driver.core.handle([ev.StopRequested()], 0.0)] == [  # type: ignore[union-attr]
        worker.route,
        boss.route,
    ]


def test_a_stopped_core_holds_no_batch_whether_or_not_the_garbage_collector_runs() -> None:
    driver, (slow, other) = serving(10, workers=2)
    other.answer()
    run = weakref.ref(driver.core.state.ledger.runs[0])
    assert driver.core.state.ledger.runs[0].buffered_count and slow.leases
    gc.disable()
    try:
        driver.core.handle([ev.StopRequested()], driver.now)
        assert run() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("seen_by_supervisor", [True, False])
def test_a_lost_workers_leases_are_granted_again_before_new_ones(seen_by_supervisor: bool) -> None:
    driver, (lost, other) = serving(10, workers=2)
    boss = supervisor(driver)
    if seen_by_supervisor:
        boss.say(m.WorkerExited(lost.incarnation, 0, -9, 0))
    else:
        driver.step(ev.RouteLost(lost.route))
        driver.wait(5.0)
        assert other.record.state is WorkerState.SERVING
    other.answer()
    assert positions_of(other)[0] == 0
    assert driver.core.state.fleet.lost_count == 1


# ---------------------------------------------------------------- an epoch that ends early


def test_an_epoch_that_ends_early_is_dropped_and_reported_at_once() -> None:
    driver, (worker,) = serving(9)
    held = worker.leases
    driver.step(ev.EpochEndRequested(0))
    assert driver.of(EpochEnded) == [EpochEnded(0)]
    (revoke,) = driver.sent(m.Revoke)
    assert revoke.leases == tuple(held)
    driver.open(9, epoch=1)
    worker.answer(held[:1])
    assert driver.delivered == [] and driver.core.state.ledger.ended == {}
    assert {lease > held[-1] for lease in worker.leases} == {True}


def test_an_index_that_an_ended_epoch_still_computes_waits_in_the_next_one() -> None:
    driver, (slow, other) = serving(3, workers=2)
    (held,) = [lease for lease in slow.leases if positions_of(slow)[0] == 0][:1]
    driver.step(ev.EpochEndRequested(0))
    driver.open(3, epoch=1)
    other.answer()
    assert 0 not in positions_of(other), "another worker computes index 0 for the epoch before"
    slow.answer([held])
    assert 0 in positions_of(slow) + positions_of(other)


def test_nothing_is_granted_beyond_the_bound_while_an_ended_epoch_holds_the_next_ones_head_up() -> None:
    driver, (slow, other) = serving(9, workers=2, max_queue_size=2)
    assert positions_of(slow) == [0]
    driver.step(ev.EpochEndRequested(0))
    other.answer()
    driver.open(9, epoch=1)
    while other.leases:
        assert 0 not in positions_of(other)
        other.answer(epoch=1)
    state = driver.core.state
    assert state.ledger.undelivered_count == state.scheduler.bound == 4
    slow.answer()
    assert 0 in positions_of(slow) + positions_of(other)


def test_the_end_of_an_epoch_waits_for_the_trainer_s_own_threads() -> None:
    driver = Driver()
    threads = Peer(driver, 1, "threads")
    driver.step(ev.ThreadsJoined(threads.route, threads.incarnation, "host", 1, 2))
    driver.open(9)
    held = threads.leases
    driver.step(ev.EpochEndRequested(0))
    assert driver.of(EpochEnded) == [] and driver.ever_sent(m.Revoke) == []
    for lease in held[:-1]:
        threads.answer([lease])
        assert driver.of(EpochEnded) == []
    threads.answer(held[-1:])
    assert driver.of(EpochEnded) == [EpochEnded(0)]


def test_an_epoch_that_is_delivered_already_can_end() -> None:
    driver, (worker,) = serving(1)
    worker.answer()
    driver.step(ev.EpochEndRequested(0))
    assert driver.of(EpochEnded) == [EpochEnded(0)]


def test_the_items_of_an_ended_epoch_are_forgotten_with_their_worker() -> None:
    driver, (worker,) = serving(4)
    driver.step(ev.EpochEndRequested(0))
    assert driver.core.state.ledger.ended
    driver.step(ev.RouteLost(worker.route))
    driver.wait(30.0)
    assert driver.core.state.ledger.ended == {}
    driver.open(4, epoch=1)
    assert set(positions_of(Peer(driver, 2).join(4, epoch=1))) <= set(range(4))
