"""The books of leases."""

from __future__ import annotations

import pytest

from enqueuer.core import events as ev
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.events import Route
from enqueuer.core.ledger import HeldBytes, Ledger
from enqueuer.core.worker import Worker
from tests.core.driver import Driver, Peer


def a_worker(number: int = 1) -> Worker:
    return Worker(f"w{number}", bytes([number]) * 16, "host", 1, "remote", 1, Route("remote", b"1"), b"", 0, 0.0)


def books(length: int = 5) -> tuple[Ledger, EpochRun]:
    ledger = Ledger()
    run = EpochRun(0, 0, range(length), ordered=True, confirmed=True)
    ledger.open(run)
    return ledger, run


def test_lease_numbers_count_up_and_are_never_used_twice() -> None:
    ledger, run = books()
    worker = a_worker()
    assert ledger.grant(worker, run, run.take_pending(2), 0.0) == 1
    ledger.release(worker)
    assert ledger.grant(worker, run, run.take_pending(2), 0.0) == 3
    assert list(worker.leases) == [3, 4]


def test_an_answer_frees_its_worker_and_closes_the_lease() -> None:
    ledger, run = books()
    worker = a_worker()
    ledger.grant(worker, run, run.take_pending(1), 0.0)
    assert ledger.answer(worker, 1, run) == 0
    assert worker.leases == {}
    assert ledger.answer(worker, 1, run) is None
    assert ledger.stale_count == 1


def test_an_expired_lease_can_still_be_answered() -> None:
    ledger, run = books()
    worker = a_worker()
    ledger.grant(worker, run, run.take_pending(1), 0.0)
    assert ledger.expire(worker, [1]) == 1
    assert ledger.expire(worker, [1]) == 0
    assert ledger.answer(worker, 1, run) == 0


def test_an_answer_for_another_run_gives_the_position_back() -> None:
    ledger, run = books()
    worker = a_worker()
    ledger.grant(worker, run, run.take_pending(1), 0.0)
    assert ledger.answer(worker, 1, None) is None
    assert worker.leases == {}
    assert run.take_pending(1) == [0]


def test_an_answer_from_another_worker_leaves_the_lease_alone() -> None:
    ledger, run = books()
    worker = a_worker()
    ledger.grant(worker, run, run.take_pending(1), 0.0)
    assert ledger.answer(a_worker(2), 1, run) is None
    assert run.is_live(0, 1)
    assert list(worker.leases) == [1]


def test_a_withdrawn_lease_still_occupies_its_worker() -> None:
    ledger, run = books()
    worker = a_worker()
    ledger.grant(worker, run, run.take_pending(1), 0.0)
    assert ledger.withdraw(1) == 0
    assert ledger.withdraw(1) is None
    assert ledger.withdraw(99) is None
    assert worker.load == 1


def test_closing_an_epoch_forgets_its_leases_but_not_that_workers_compute_them() -> None:
    ledger, run = books()
    worker = a_worker()
    ledger.grant(worker, run, run.take_pending(2), 0.0)
    ledger.close(run)
    assert ledger.find(1) is None
    assert worker.load == 2
    assert not ledger.has_pending


def test_undelivered_counts_what_is_leased_buffered_and_ready() -> None:
    ledger, run = books()
    worker = a_worker()
    ledger.grant(worker, run, run.take_pending(3), 0.0)
    for position in (0, 2):
        ledger.answer(worker, position + 1, run)
        run.answer(position, "batch")
    assert ledger.pop_deliverable(run) == (range(1), ["batch"])
    assert (run.leased_count, run.buffered_count, ledger.ready_count) == (1, 1, 1)
    assert ledger.undelivered_count == 3
    ledger.note_taken(1)
    assert ledger.undelivered_count == 2


def test_all_answers_of_a_message_are_taken_at_once() -> None:
    ledger, run = books()
    worker = a_worker()
    ledger.grant(worker, run, run.take_pending(3), 0.0)
    ledger.expire(worker, [2])  # late, and still welcome
    assert ledger.answer_all(worker, (1, 2, 3), run) == [0, 1, 2]
    assert worker.leases == {} and ledger.find(1) is None


@pytest.mark.parametrize("leases", [(1, 9), (1, 1), (1, 3)], ids=["unknown", "twice", "another's"])
def test_one_answer_that_needs_a_look_leaves_all_as_they_were(leases: tuple[int, int]) -> None:
    ledger, run = books()
    worker, other = a_worker(1), a_worker(2)
    ledger.grant(worker, run, run.take_pending(2), 0.0)
    ledger.grant(other, run, run.take_pending(1), 0.0)
    assert ledger.answer_all(worker, leases, run) is None
    assert list(worker.leases) == [1, 2] and ledger.find(1) is not None
    assert ledger.stale_count == 0


def test_a_batch_weighs_from_its_answer_until_it_is_taken() -> None:
    held = HeldBytes()
    held.note_buffered(0, (1,), 20)
    held.note_buffered(0, (0,), 10)
    assert held.total == 30
    held.note_delivered(0, range(2))
    assert held.total == 30
    held.note_taken(1)
    assert held.total == 20
    held.note_taken(1)
    assert held.total == 0


def test_what_is_no_batch_weighs_nothing_and_is_taken_all_the_same() -> None:
    held = HeldBytes()
    held.note_buffered(0, (1,), 20)
    held.note_delivered(0, range(2))
    held.note_taken(1)
    assert held.total == 20


def test_batches_of_an_epoch_that_is_thrown_away_weigh_nothing() -> None:
    held = HeldBytes()
    held.note_buffered(3, (1, 2), 20)
    held.forget(3)
    assert held.total == 0


def serving(**settings: object) -> tuple[Driver, Peer, Peer]:
    driver = Driver(**{"max_queue_size": 100, "min_workers": 2, "max_bytes": 100_000, **settings})
    driver.open(30)
    late, other = (Peer(driver, number).join(30) for number in (1, 2))
    return driver, late, other


def test_the_books_of_a_session_agree_with_what_its_trainer_did_not_take() -> None:
    driver, late, other = serving()
    sizes = list(range(100, 110))
    for size in sizes:
        other.answer(other.leases[:1], size=size, busy=0.02)
    ledger = driver.core.state.ledger
    assert ledger.held_bytes == sum(sizes)
    late.answer(late.leases[:1], size=7, busy=0.02)
    assert ledger.held_bytes == sum(sizes) + 7
    driver.take(1)
    assert ledger.held_bytes == sum(sizes)
    driver.open(30, generation=1)
    assert ledger.held_bytes == sum(sizes[: ledger.ready_count])
    driver.step(ev.StopRequested())
    assert ledger.held_bytes == 0


def test_a_batch_that_comes_after_its_position_has_failed_is_not_held() -> None:
    driver, _, other = serving()
    (old,) = other.leases
    other.heartbeat(())
    other.heartbeat(())
    assert old not in other.leases
    (new,) = other.leases[:1]
    assert driver.core.state.ledger.find(old)[1] == driver.core.state.ledger.find(new)[1]  # type: ignore[index]
    other.fail(new)
    other.answer([old], size=5000)
    assert driver.core.state.ledger.held_bytes == 0
