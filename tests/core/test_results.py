"""What becomes of batches whose computing goes wrong: errors, skips, time-outs, poison."""

from __future__ import annotations

import pytest

from enqueuer.core import events as ev
from enqueuer.core.actions import BatchFailed, BatchSkipped
from enqueuer.protocol import messages as m
from tests.core.driver import ERROR, Driver, Peer, serving, supervisor


def positions_of(peer: Peer) -> list[int]:
    """What it has leases for."""
    entries = [peer.driver.core.state.ledger.find(lease) for lease in peer.leases]
    return [entry[1] for entry in entries if entry is not None]


# ---------------------------------------------------------------- errors


def test_a_failure_takes_its_batchs_place() -> None:
    driver, (worker,) = serving(1)
    worker.fail(1)
    assert driver.delivered == [BatchFailed(0, 0, "w1", "host", ERROR)]


def test_a_failed_batch_is_tried_again_as_often_as_allowed() -> None:
    driver, (worker,) = serving(1, retries=2)
    for lease in (1, 2):
        worker.fail(lease)
        assert driver.delivered == []
    worker.fail(3)
    assert driver.core.state.retries_count == 2
    assert isinstance(driver.delivered[0], BatchFailed)


def test_skipping_ends_when_its_budget_is_spent() -> None:
    driver, (worker,) = serving(3, on_error="skip", max_skipped=2)
    for _ in range(3):
        worker.fail(worker.leases[0])
    assert driver.delivered[:2] == [BatchSkipped(0, 0), BatchSkipped(1, 0)]
    assert isinstance(driver.delivered[2], BatchFailed)
    assert driver.core.state.skipped == [(0, 0), (0, 1)]
    assert "skipped batch 1 of epoch 0: ValueError: bad item" in driver.reports()


def test_the_first_failures_in_the_order_of_delivery_are_skipped_whichever_came_first() -> None:
    driver, (first, second) = serving(2, workers=2, on_error="skip", max_skipped=1)
    second.fail(second.leases[0])
    first.fail(first.leases[0])
    skipped, raised = driver.delivered
    assert skipped == BatchSkipped(0, 0)
    assert (type(raised), raised.index) == (BatchFailed, 1)
    assert driver.core.state.skipped == [(0, 0)]


def test_a_duplicate_or_stale_failure_changes_nothing() -> None:
    driver, (worker,) = serving(1)
    worker.fail(1, generation=5)
    worker.fail(77)
    assert driver.delivered == []
    driver, (worker,) = serving(1, retries=5)
    worker.fail(1)
    worker.fail(1)
    assert driver.core.state.retries_count == 1


def test_skips_of_earlier_sessions_count_against_the_budget() -> None:
    driver, (worker,) = serving(3, on_error="skip", max_skipped=2, skipped_before=1)
    for _ in range(2):
        worker.fail(worker.leases[0])
    assert driver.delivered[0] == BatchSkipped(0, 0)
    assert isinstance(driver.delivered[1], BatchFailed)


def test_skips_of_an_epoch_that_is_computed_anew_count_once() -> None:
    driver, (worker,) = serving(1, on_error="skip", max_skipped=2)
    worker.fail(1)
    for generation in (1, 2, 3):
        driver.open(1, epoch=1, generation=generation, gated=True)
        worker.ready(1, epoch=1, generation=generation)
        worker.fail(worker.leases[0], epoch=1, generation=generation)
    driver.step(ev.EpochConfirmed(1))
    assert driver.delivered == [BatchSkipped(0, 0), BatchSkipped(0, 1)]
    assert driver.core.state.skipped == [(0, 0), (1, 0)]


# ---------------------------------------------------------------- time-outs


def time_out(driver: Driver, worker: Peer, stack: str = "Stack: nap()") -> None:
    """Its supervisor ends it while it computes the first of its leases."""
    supervisor(driver).say(m.WorkerExited(worker.incarnation, 0, -9, worker.leases[0], True, stack))


def test_supervisors_learn_the_time_out_in_their_welcome() -> None:
    driver, _ = serving(3, batch_timeout=7.5)
    supervisor(driver)
    (welcome,) = driver.sent(m.Welcome)
    assert welcome.options == {"batch_timeout": 7.5}


def test_a_batch_that_took_too_long_is_tried_once_more_then_fails_with_the_stack() -> None:
    driver, (one, two) = serving(4, workers=2)
    time_out(driver, one)
    assert driver.delivered == []
    assert "batch 0 of epoch 0 took too long on w1 on host; trying it again\nStack: nap()" in driver.reports()
    assert "computed one batch for longer than batch_timeout: replaced" in driver.reports()
    while driver.core.state.ledger.find(two.leases[0])[1] != 0:  # type: ignore[index]
        two.answer(two.leases[:1])
    time_out(driver, two)
    assert driver.delivered[0] == BatchFailed(0, 0, "w2", "host", None, timeouts=2, stack="Stack: nap()")
    assert driver.core.state.timeouts_count == 2


def test_retries_count_for_time_outs_too() -> None:
    driver = Driver(retries=3)
    driver.open(1)
    for number in range(1, 4):
        time_out(driver, Peer(driver, number).join(1))
        assert driver.delivered == []
    time_out(driver, Peer(driver, 4).join(1))
    assert driver.delivered[0].timeouts == 4


def test_a_batch_that_takes_too_long_can_be_skipped() -> None:
    driver = Driver(on_error="skip")
    driver.open(1)
    for number in (1, 2):
        time_out(driver, Peer(driver, number).join(1))
    assert driver.delivered == [BatchSkipped(0, 0)]
    assert "skipped batch 0 of epoch 0: it took too long on 2 workers" in driver.reports()


def test_a_time_out_is_no_poison() -> None:
    driver, (one, _) = serving(4, workers=2, max_worker_deaths=1)
    time_out(driver, one)
    assert driver.delivered == []
    assert not driver.core.state.ledger.runs[0].deaths


def test_a_time_out_of_what_another_worker_has_answered_is_no_more_than_a_death() -> None:
    driver, (one, two) = serving(4, workers=2)
    driver.wait(11.0)
    two.on_new_link().hello()
    two.ready(4)
    while two.leases:
        two.answer()
    driver.take(2)
    two.answer()
    supervisor(driver).say(m.WorkerExited(one.incarnation, 0, -9, 1, True, ""))
    assert driver.core.state.timeouts_count == 0


def test_a_thread_that_took_too_long_frees_its_slot_and_its_late_answer_is_stale() -> None:
    driver = Driver()
    driver.open(3)
    threads = Peer(driver, 1, "threads")
    driver.step(ev.ThreadsJoined(threads.route, threads.incarnation, "here", 1, 1))
    assert threads.leases == [1]
    driver.step(ev.ThreadTimedOut(threads.incarnation, 0, 0, 1, "Stack: nap()"))
    assert threads.leases == [2], "granted again, to the thread in its place"
    threads.answer([1])
    assert driver.delivered == [] and driver.core.state.ledger.stale_count == 1
    driver.step(ev.ThreadTimedOut(threads.incarnation, 0, 0, 2, "Stack: nap()"))
    assert driver.delivered[0].timeouts == 2
    driver.step(ev.ThreadTimedOut(threads.incarnation, 0, 0, 2, "again"))
    driver.step(ev.ThreadTimedOut(b"?" * 16, 0, 0, 3, "a stranger"))
    assert driver.core.state.timeouts_count == 2


# ---------------------------------------------------------------- poison


def test_a_batch_that_kills_too_many_workers_raises_instead_of_eating_the_fleet() -> None:
    driver = Driver(max_worker_deaths=2)
    driver.open(1)
    boss = supervisor(driver)
    for number in (1, 2):
        victim = Peer(driver, number).join(1)
        boss.say(m.WorkerExited(victim.incarnation, 0, -9, victim.leases[0]))
    assert driver.delivered == [BatchFailed(0, 0, "w2", "host", None, deaths=(-9, -9))]


@pytest.mark.parametrize("timed_out", [False, True])
def test_an_index_that_ended_workers_is_not_computed_ahead_for_the_epoch_after(timed_out: bool) -> None:
    """Its failure is ready for the trainer, which has not asked for the epoch after yet, and may never do so."""
    driver = Driver(max_queue_size=10, max_worker_deaths=2)
    driver.open(2)
    boss = supervisor(driver)
    for number in (1, 2):
        victim = Peer(driver, number).join(2)
        boss.say(m.WorkerExited(victim.incarnation, 0, -9, victim.leases[0], timed_out, ""))
    other = Peer(driver, 3).join(2)
    driver.open(2, epoch=1, gated=True)
    other.ready(2, epoch=1)
    other.answer()
    assert [type(outcome) for outcome in driver.delivered] == [BatchFailed, str]
    assert positions_of(other) == [1]
    other.answer(epoch=1)
    assert not other.leases
    driver.step(ev.EpochConfirmed(1))
    assert positions_of(other) == [0]


@pytest.mark.parametrize("exit_code", [0, 3, 4])
def test_a_batch_that_ends_its_process_with_a_deliberate_looking_exit_code_is_deadly_too(exit_code: int) -> None:
    driver = Driver(max_worker_deaths=1)
    driver.open(1)
    boss = supervisor(driver)
    victim = Peer(driver, 1).join(1)
    boss.say(m.WorkerExited(victim.incarnation, 0, exit_code, victim.leases[0]))
    assert driver.delivered == [BatchFailed(0, 0, "w1", "host", None, deaths=(exit_code,))]


def test_only_the_running_lease_counts_as_deadly() -> None:
    driver = Driver(max_queue_size=0, max_worker_deaths=1)
    driver.open(10)
    boss = supervisor(driver)
    victim = Peer(driver, 1).join(10)
    victim.answer(busy=0.001)
    running, *queued = victim.leases
    assert queued
    boss.say(m.WorkerExited(victim.incarnation, 0, -9, running))
    (run,) = driver.core.state.ledger.runs.values()
    assert run.deaths == {1: [-9]}
    assert isinstance(driver.delivered[1], BatchFailed)
    assert len(driver.delivered) == 2


def test_a_suspect_is_leased_alone() -> None:
    driver = Driver(max_queue_size=0)
    driver.open(20)
    boss = supervisor(driver)
    victim = Peer(driver, 1).join(20)
    boss.say(m.WorkerExited(victim.incarnation, 0, -9, victim.leases[0]))
    worker = Peer(driver, 2).join(20)
    assert len(worker.leases) == 1
    worker.heartbeat(round_trip=1.0)
    assert len(worker.leases) == 1
    worker.answer(busy=0.001)
    assert driver.delivered == ["b2"]
    assert len(worker.leases) > 1


def test_a_worker_runs_empty_for_a_suspect_when_none_is_free() -> None:
    driver = Driver(max_queue_size=0)
    driver.open(100)
    boss = supervisor(driver)
    survivor, victim = Peer(driver, 1).join(100), Peer(driver, 2).join(100)
    survivor.answer(busy=0.0005)
    assert len(survivor.leases) > 2
    (suspect,) = victim.leases
    boss.say(m.WorkerExited(victim.incarnation, 0, -9, suspect))
    survivor.answer(survivor.leases[:1], busy=0.0005)
    assert survivor.record.reserved
    survivor.answer(busy=0.001)
    assert len(survivor.leases) == 1
    assert positions_of(survivor) == [1]


def test_a_worker_kept_free_whose_leases_vanish_still_gets_the_suspect() -> None:
    driver = Driver(max_queue_size=0)
    driver.open(3)
    boss = supervisor(driver)
    survivor, victim = Peer(driver, 1).join(3), Peer(driver, 2).join(3)
    boss.say(m.WorkerExited(victim.incarnation, 0, -9, victim.leases[0]))
    assert survivor.record.reserved
    survivor.heartbeat(held=())
    assert positions_of(survivor) == [1]
