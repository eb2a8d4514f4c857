"""The trainer's own instance: its identity, its history of epoch ends, and its state for saving."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from enqueuer.compute.epoch_state import EpochEnds
from enqueuer.errors import EnqueuerError, StateError
from enqueuer.runtime.own_sequence import Histories, OwnSequence
from enqueuer.stream.ranges import Ranges
from enqueuer.stream.state import ResumeState
from tests.resume.sequences import Keeping, Numbered, Shuffling
from tests.support.sequences import Bare, as_spec

DEADLINE = 10.0
STATE = ResumeState(7, 2, 4, False, (0, 1), "drop", 4, taken=Ranges([(0, 1)]), epoch_ends=((7, 0, 2),))


def begun(sequence: Any, histories: Histories | None = None) -> OwnSequence:
    own = OwnSequence(lambda: sequence, histories)
    own.begin(0)
    own.enter(0, own.spec, own.read())
    return own


def test_a_history_is_an_objects_own_and_does_not_keep_it_alive() -> None:
    histories = Histories()
    first, second = Bare(), Bare()  # equal, and without a hash
    histories.of(first).append((7, 0))
    assert (histories.of(first).runs, histories.of(second).runs) == (((7, 0, 1),), ())
    histories.replace(first, EpochEnds([(8, 0, 3)]))
    assert histories.of(first).runs == ((8, 0, 3),)
    del first
    gc.collect()
    histories.of(Bare())
    assert len(histories._entries) <= 2


def test_an_object_without_weak_references_has_a_history_too() -> None:
    class Slotted:
        __slots__ = ()

    histories, slotted = Histories(), Slotted()
    histories.of(slotted).append((7, 0))
    assert len(histories.of(slotted)) == 1


def test_threads_that_meet_an_object_at_once_see_one_history() -> None:
    for _ in range(50):
        histories, met, barrier = Histories(), Bare(), threading.Barrier(4)

        def meet(histories: Histories = histories, met: Any = met, barrier: threading.Barrier = barrier) -> EpochEnds:
            barrier.wait(DEADLINE)
            return histories.of(met)

        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(meet) for _ in range(4)]
            assert len({id(future.result(DEADLINE)) for future in found}) == 1


def test_a_live_objects_history_outlives_the_session_and_a_specs_does_not() -> None:
    histories = Histories()
    for sequence, expected in [(Shuffling(3), ((7, 0, 1), (8, 0, 1))), (as_spec(Shuffling(3)), ((8, 0, 1),))]:
        for seed in (7, 8):
            own = begun(sequence, histories)
            own.end_epoch(seed, 0, own.instance)
        assert own.ends.runs == expected


def test_until_the_hook_has_returned_the_state_before_it_is_shown() -> None:
    shown: list[Any] = []
    sequence = Keeping(3, hook=lambda: shown.append((own.over_epoch, own.epoch_ends(7, 0), own.state())))
    own = begun(sequence)
    before = own.state()
    own.end_epoch(7, 0, sequence)
    assert shown == [(-1, (), before)]
    assert (own.over_epoch, own.epoch_ends(7, 0), own.state() == before) == (0, ((7, 0, 1),), False)


def test_a_hook_that_is_yet_to_run_for_an_epoch_before_counts_as_run() -> None:
    own = begun(Shuffling(3))
    assert own.epoch_ends(7, 1) == ((7, 0, 1),)
    assert begun(Bare(3)).epoch_ends(7, 1) == ()


def test_the_epochs_own_instance_is_shown_though_another_was_read_ahead() -> None:
    sequences: list[Any] = [Keeping(3), Keeping(5)]
    own = OwnSequence(lambda: sequences[0])
    own.begin(0)
    own.enter(0, own.spec, own.read())
    first = sequences.pop(0)
    own.enter(1, own.spec, own.read())
    assert own.state()["order"] == [0, 1, 2]
    own.end_epoch(7, 0, first)
    own.enter(1, own.spec, own.read())
    assert (own.state()["order"], own.epoch_ends(7, 1)) == ([0, 1, 2, 3, 4], ())


def test_a_released_sequence_is_not_read_again() -> None:
    own = begun(as_spec(Bare()))
    own.release()
    with pytest.raises(EnqueuerError):
        own.read()
    assert own.state() is None


@pytest.mark.parametrize("spec", [False, True])
def test_restore_brings_the_sequence_to_the_state_and_refuses_another_length(spec: bool) -> None:
    sequence = as_spec(Shuffling(4)) if spec else Shuffling(4)
    own = OwnSequence(lambda: sequence)
    own.restore(STATE)
    assert (own.instance.version, own.over_epoch, own.entered_epoch, own.ends.runs) == (2, 1, 2, ((7, 0, 2),))
    with pytest.raises(StateError, match="with 9 batches, and this one has 4"):
        OwnSequence(lambda: as_spec(Shuffling(4))).restore(replace(STATE, length=9))


@pytest.mark.parametrize("sequence", [Numbered(4), as_spec(Numbered(4))])
def test_a_sequence_with_set_epoch_has_the_states_history_after_a_restore(sequence: Any) -> None:
    own = OwnSequence(lambda: sequence)
    own.restore(STATE)
    own.end_epoch(7, 2, own.instance)
    assert (own.instance.set_epochs, own.ends.runs) == ([2], ((7, 0, 3),))


def test_a_sequences_own_state_is_loaded_instead_of_a_replay() -> None:
    kept = Keeping(4, seed=5)
    kept.on_epoch_end()
    own = OwnSequence(lambda: Keeping(4))
    own.restore(replace(STATE, sequence=begun(kept).state()))
    assert own.instance.order == kept.order and own.instance.version == 1
