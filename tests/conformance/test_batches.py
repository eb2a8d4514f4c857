"""Batches arrive as ``__getitem__`` returned them, and belong to the consumer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from enqueuer import SequenceError
from tests.support.failing import Objects, Point
from tests.support.journal import Journal
from tests.support.placement import Placement, take
from tests.support.sequences import Arrays, Nones, OnlyNones, Reshaped
from tests.support.values import FALSY, VALUES, Values, same
from tests.support.waiting import wait_until


def test_every_structure_and_dtype_comes_out_untouched(placement: Placement) -> None:
    taken = take(placement.running(Values()).get(), len(VALUES))
    different = [(sent, got) for sent, got in zip(VALUES, taken, strict=True) if not same(sent, got)]
    assert different == []


def test_falsy_batches_are_delivered(placement: Placement) -> None:
    taken = take(placement.running(Values(falsy=True)).get(), len(FALSY))
    different = [(sent, got) for sent, got in zip(FALSY, taken, strict=True) if not same(sent, got)]
    assert different == []


def test_threads_deliver_the_very_object(threads: Placement) -> None:
    batches = [object(), [1], np.zeros(3)]
    taken = take(threads.running(batches).get(), 3)
    assert all(got is sent for sent, got in zip(batches, taken, strict=True))


@pytest.mark.parametrize("size", [1, 1_000, 300_000])
def test_arrays_are_writable(placement: Placement, size: int) -> None:
    for large, small in take(placement.running(Arrays(length=4, size=size)).get(), 8):
        for array in (large, small):
            assert array.flags.writeable
            array += 1


def test_a_batch_is_never_changed_later(placement: Placement) -> None:
    """Fifty batches are held while fifty more pass through any reused memory."""
    stream = placement.running(Arrays(length=25, size=50_000), workers=2).get()
    held = take(stream, 50)
    take(stream, 50)
    for position, (large, small) in enumerate(held):
        assert (large == position % 25).all()
        assert small.tolist() == [position % 25]


def test_a_write_of_the_consumer_changes_only_its_own_batch(placement: Placement) -> None:
    stream = placement.running(Arrays(length=5, size=50_000)).get()
    first = take(stream, 5)
    for large, _ in first:
        large[:] = -1
    for position, (large, _) in enumerate(take(stream, 10)):
        assert (large == position % 5).all()
    assert all((large == -1).all() for large, _ in first)


def test_batches_outlive_the_enqueuer(placement: Placement) -> None:
    running = placement.running(Arrays(length=4, size=300_000))
    held = take(running.get(), 4)
    running.stop()
    del running
    for index, (large, _) in enumerate(held):
        assert (large == index).all()
        large[:] = 7


def test_shapes_may_vary_between_batches(placement: Placement) -> None:
    for index, (first, second) in enumerate(take(placement.running(Reshaped(length=6)).get(), 6)):
        assert first.shape == (index + 1, 3, 2 * index)
        assert second.shape == (1,) * index
        assert (first == index).all()
        assert second.sum() == index


def test_large_batches_arrive_whole(placement: Placement) -> None:
    for index, (large, _) in enumerate(take(placement.running(Arrays(length=3, size=10_000_000)).get(), 3)):
        assert large.nbytes == 40_000_000
        assert large[0] == large[-1] == index
        assert large.sum(dtype=np.int64) == index * 10_000_000


@pytest.mark.proves("`__getitem__` returns `None`")
def test_none_is_skipped_but_counts_for_its_epoch(placement: Placement, journal: Journal) -> None:
    running = placement.running(Nones(length=6, journal=journal.path))
    assert take(running.get(), 10) == [(version, index) for version in range(4) for index in (0, 2, 4)][:10]
    assert len(journal.epoch_ends()) == 3


def test_a_sequence_of_nones_goes_round_until_it_is_stopped(placement: Placement, journal: Journal) -> None:
    running = placement.running(OnlyNones(length=2, journal=journal.path))
    with ThreadPoolExecutor(1) as pool:
        consumer = pool.submit(lambda: list(running.get()))
        wait_until(lambda: len(journal.epoch_ends()) >= 3, what="three epochs of nothing")
        running.stop()
        assert consumer.result(10) == []


def test_an_object_that_can_be_pickled_reaches_the_trainer_from_its_own_processes(live_placement: Placement) -> None:
    taken = take(live_placement.running(Objects(kind="point")).get(), 3)
    assert taken == [{"field": 0}, {"field": 1}, {"field": Point(2)}]


@pytest.mark.proves("a batch cannot be carried")
def test_a_batch_that_cannot_be_carried_is_an_error_in_its_place_that_names_the_field(
    separate_placement: Placement,
) -> None:
    # The trainer's own processes may pickle, and a lock cannot be; a remote worker may not.
    for kind in ("lock", "point") if separate_placement.name == "remote" else ("lock",):
        running = separate_placement.running(Objects(kind=kind), workers=1)
        stream = running.get()
        assert take(stream, 2) == [{"field": 0}, {"field": 1}]
        with pytest.raises(SequenceError, match="field") as caught:
            next(stream)
        assert caught.value.index == 2
        assert not running.is_running()
