"""What has come and was not taken weighs what it weighs."""

from __future__ import annotations

from enqueuer.core import events as ev
from enqueuer.core.held_bytes import HeldBytes
from tests.core.driver import Driver, Peer


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
    ledger = driver.core.ledger
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
    assert driver.core.ledger.find(old)[1] == driver.core.ledger.find(new)[1]  # type: ignore[index]
    other.fail(new)
    other.answer([old], size=5000)
    assert driver.core.ledger.held_bytes == 0
