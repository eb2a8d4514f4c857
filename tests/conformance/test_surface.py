"""The names, signatures and attributes used by code written for Keras."""

from __future__ import annotations

import types
from typing import Any

import pytest

import enqueuer
from enqueuer import OrderedEnqueuer, SequenceEnqueuer, SequenceSpec
from tests.support.placement import Placement, passes, take
from tests.support.sequences import Bare, Journaled, as_spec


def test_the_attributes_have_the_values_given() -> None:
    sequence = Journaled()
    made = SequenceEnqueuer(sequence, True, shuffle=True)
    assert made.sequence is sequence
    assert made.use_multiprocessing is True
    assert made.shuffle is True
    assert SequenceEnqueuer(sequence).use_multiprocessing is False
    assert SequenceEnqueuer(sequence).shuffle is False


def test_uid_is_an_int_that_no_other_enqueuer_has() -> None:
    first, second = SequenceEnqueuer(Bare()), OrderedEnqueuer(Bare())
    assert type(first.uid) is int
    assert first.uid < second.uid


def test_workers_is_0_before_start_and_stays_after_stop(threads: Placement) -> None:
    made = threads.enqueuer(Bare())
    assert made.workers == 0
    made.start(3, 5)
    assert made.workers == 3
    made.stop()
    assert made.workers == 3


def test_options_after_use_multiprocessing_are_keyword_only() -> None:
    unchecked: Any = SequenceEnqueuer
    with pytest.raises(TypeError):
        unchecked(Bare(), False, True)


def test_ordered_enqueuer_is_the_same_class_with_shuffle_in_third_place(threads: Placement) -> None:
    made = OrderedEnqueuer(Bare(length=20), False, True)
    assert isinstance(made, SequenceEnqueuer)
    assert made.shuffle is True
    with made:
        made.start(2, 5)
        epoch = [index for _, index in made.epoch()]
    assert sorted(epoch) == list(range(20))
    assert epoch != list(range(20))
    assert OrderedEnqueuer(Bare(), use_multiprocessing=False, shuffle=False, seed=3).shuffle is False


def test_start_takes_its_arguments_by_position_and_returns_none(threads: Placement) -> None:
    made: Any = threads.enqueuer(Bare())
    assert made.start(3, 10) is None
    assert made.stop(None) is None


def test_is_running_is_a_method(threads: Placement) -> None:
    made = threads.enqueuer(Bare())
    assert made.is_running() is False
    made.start()
    assert made.is_running() is True
    made.stop()
    assert made.is_running() is False


def test_get_returns_a_real_generator(threads: Placement) -> None:
    assert isinstance(threads.enqueuer(Bare()).get(), types.GeneratorType)


def test_anything_with_len_and_getitem_is_a_sequence(placement: Placement) -> None:
    stream = placement.running(Bare(length=3)).get()
    assert take(stream, 7) == [(1, 0), (1, 1), (1, 2), (1, 0), (1, 1), (1, 2), (1, 0)]


@pytest.mark.parametrize(
    ("sequence", "missing"),
    [(object(), "__getitem__"), (iter([1]), "__len__"), ({1}, "__getitem__"), (None, "__len__")],
)
def test_an_object_that_is_no_sequence_is_a_type_error_that_says_what_is_missing(sequence: Any, missing: str) -> None:
    with pytest.raises(TypeError, match=missing):
        SequenceEnqueuer(sequence)


def test_a_list_is_a_sequence_as_well(live_placement: Placement) -> None:
    assert take(live_placement.running(["a", "b", "c"]).get(), 4) == ["a", "b", "c", "a"]


def test_a_spec_is_a_sequence_everywhere(live_placement: Placement) -> None:
    spec = as_spec(Journaled(length=3))
    assert isinstance(spec, SequenceSpec)
    assert take(live_placement.running(spec).get(), 7) == [*passes(3, 2), (2, 0)]


def test_the_base_class_iterates_over_one_epoch() -> None:
    class Squares(enqueuer.Sequence):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> int:
            return index * index

    squares = Squares()
    assert list(squares) == [0, 1, 4, 9]
    squares.on_epoch_end()


def test_len_is_the_number_of_batches_of_an_epoch(placement: Placement) -> None:
    assert len(placement.enqueuer(Journaled(length=5))) == 5


def test_epoch_ends_after_one_epoch(placement: Placement) -> None:
    running = placement.running(Journaled(length=4))
    assert list(running.epoch()) == passes(4, 1)
    assert list(running.epoch()) == passes(4, 1, first=1)
    begun = running.epoch()
    running.stop()
    assert list(begun) == []


def test_iterating_over_the_enqueuer_is_the_endless_stream(placement: Placement) -> None:
    assert take(iter(placement.running(Journaled(length=3))), 8) == [*passes(3, 2), (2, 0), (2, 1)]


def test_the_context_manager_stops_on_leaving(threads: Placement) -> None:
    with SequenceEnqueuer(Bare()) as made:
        made.start(1, 2)
        assert next(made.get()) == (1, 0)
    assert not made.is_running()


def test_the_context_manager_stops_on_an_exception_and_lets_it_pass() -> None:
    made = SequenceEnqueuer(Bare())
    with pytest.raises(LookupError, match="from the body"), made:
        made.start(1, 2)
        raise LookupError("from the body")
    assert not made.is_running()


def test_close_is_stop(threads: Placement) -> None:
    running = threads.running(Bare())
    running.close()
    assert not running.is_running()
    running.close()
