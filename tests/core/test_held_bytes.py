"""What has come and was not taken weighs what it weighs."""

from __future__ import annotations

from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.held_bytes import HeldBytes
from tests.core.driver import Driver, Peer


def leased(count: int, *, ordered: bool = True) -> EpochRun:
    run = EpochRun(0, 0, range(count), ordered=ordered, confirmed=True)
    run.lease_all(run.take_pending(count), range(count))
    return run


def come(run: EpochRun, held: HeldBytes, position: int, nbytes: float) -> None:
    run.answer(position, "batch")
    held.note_answered(run, (position,), nbytes)


def test_a_batch_weighs_from_its_answer_until_it_is_taken() -> None:
    run, held = leased(3), HeldBytes()
    come(run, held, 1, 20.0)
    come(run, held, 0, 10.0)
    assert held.total == 30.0
    held.note_delivered(run, run.pop_deliverable()[0])
    assert held.total == 30.0
    held.note_taken(1)
    assert held.total == 20.0
    held.note_taken(1)
    assert held.total == 0.0


def test_an_answer_that_comes_second_adds_nothing() -> None:
    run, held = leased(2), HeldBytes()
    come(run, held, 1, 20.0)
    held.note_answered(run, (1,), 20.0)
    assert held.total == 20.0
    come(run, held, 0, 10.0)
    held.note_delivered(run, run.pop_deliverable()[0])
    held.note_answered(run, (0,), 10.0)
    assert held.total == 30.0


def test_what_is_no_batch_weighs_nothing_and_is_taken_all_the_same() -> None:
    run, held = leased(2), HeldBytes()
    run.answer(0, "a failure")
    come(run, held, 1, 20.0)
    held.note_delivered(run, run.pop_deliverable()[0])
    held.note_taken(1)
    assert held.total == 20.0


def test_batches_of_an_epoch_that_is_thrown_away_weigh_nothing() -> None:
    run, held = leased(2), HeldBytes()
    come(run, held, 1, 20.0)
    held.forget(run)
    assert held.total == 0.0


def test_the_books_of_a_session_agree_with_what_its_trainer_did_not_take() -> None:
    driver = Driver(max_queue_size=100, min_workers=2, max_bytes=100_000)
    driver.open(30)
    late, other = (Peer(driver, number).join(30) for number in (1, 2))
    sizes = []
    for size in range(100, 110):
        other.answer(other.leases[:1], size=size, busy=0.02)
        sizes.append(size)
    assert driver.core.ledger.held_bytes == sum(sizes)
    late.answer(late.leases[:1], size=7, busy=0.02)
    assert driver.core.ledger.held_bytes == sum(sizes) + 7
    driver.take(1)
    assert driver.core.ledger.held_bytes == sum(sizes)
    driver.open(30, generation=1)
    assert driver.core.ledger.held_bytes == sum(sizes[: driver.core.ledger.ready_count])
