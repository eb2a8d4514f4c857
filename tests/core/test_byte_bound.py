"""What may still be leased, by what is here and by what batches weigh."""

from __future__ import annotations

from enqueuer.core.byte_bound import ByteBound


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
