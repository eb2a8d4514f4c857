"""What may still be leased, by what is here and by what batches weigh."""

from __future__ import annotations

from enqueuer.core.byte_bound import ByteBound


def test_a_heavier_batch_is_believed_at_once_and_a_lighter_one_slowly() -> None:
    bound = ByteBound(1000)
    bound.note_batches(1, 10.0)
    assert bound.room_for_idle(0, 0) == 100
    bound.note_batches(1, 100.0)
    assert bound.room_for_idle(0, 0) == 10
    bound.note_batches(1, 10.0)
    assert bound.room_for_idle(0, 0) == 10
    for _ in range(100):
        bound.note_batches(1, 10.0)
    assert bound.room_for_idle(0, 0) > 90


def test_what_only_waits_counts_as_the_heaviest_there_was() -> None:
    bound = ByteBound(1000)
    bound.note_batches(1, 100.0)
    for _ in range(100):
        bound.note_batches(1, 10.0)
    assert bound.room_for_queues(0, 0) == 10
    assert bound.room_for_queues(500, 2) == 3


def test_the_heaviest_is_forgotten_in_the_end() -> None:
    bound = ByteBound(1000)
    bound.note_batches(1, 1000.0)
    for _ in range(200):
        bound.note_batches(50, 1.0)
    assert bound.room_for_queues(0, 0) > 900


def test_more_than_is_allowed_leaves_less_than_no_room() -> None:
    bound = ByteBound(1000)
    bound.note_batches(1, 100.0)
    assert bound.room_for_idle(1300, 0) == -3


def test_batches_of_nothing_are_no_division_by_zero() -> None:
    bound = ByteBound(1000)
    assert not bound.is_known
    for _ in range(20_000):
        bound.note_batches(64, 0.0)
    assert bound.is_known
    assert bound.room_for_idle(0, 0) == 1000
