"""The trainer's own instance: its identity, its history of epoch ends, and its state for saving."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from enqueuer.errors import EnqueuerError, StateError
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.runtime.trainer_sequence import TrainerSequence
from enqueuer.stream.ranges import Ranges
from enqueuer.stream.state import ResumeState
from tests.resume.sequences import Keeping, Numbered, Shuffling
from tests.support.sequences import Bare, as_spec

DEADLINE = 30.0
STATE = ResumeState(7, 2, 4, False, (0, 1), "drop", 4, taken=Ranges([(0, 1)]), epoch_ends=((7, 0, 2),))


def begun(sequence: Any, source: TrainerSequence | None = None) -> OwnSequence:
    own = OwnSequence(TrainerSequence(lambda: sequence) if source is None else source)
    own.begin(0)
    own.enter(0, own.spec, own.read())
    return own


@pytest.mark.parametrize("spec", [False, True])
def test_an_instances_history_outlives_the_session(spec: bool) -> None:
    sequence = as_spec(Shuffling(3)) if spec else Shuffling(3)
    source = TrainerSequence(lambda: sequence)
    for seed in (7, 8):
        own = begun(sequence, source)
        own.end_epoch(seed, 0, own.instance)
    assert own.ends.runs == ((7, 0, 1), (8, 0, 1))


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
    own = OwnSequence(TrainerSequence(lambda: sequences[0]))
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
    own = OwnSequence(TrainerSequence(lambda: sequence))
    own.restore(STATE)
    assert (own.instance.version, own.over_epoch, own.entered_epoch, own.ends.runs) == (2, 1, 2, ((7, 0, 2),))
    with pytest.raises(StateError, match="with 9 batches, and this one has 4"):
        OwnSequence(TrainerSequence(lambda: as_spec(Shuffling(4)))).restore(replace(STATE, length=9))


@pytest.mark.parametrize("sequence", [Numbered(4), as_spec(Numbered(4))])
def test_a_sequence_with_set_epoch_has_the_states_history_after_a_restore(sequence: Any) -> None:
    own = OwnSequence(TrainerSequence(lambda: sequence))
    own.restore(STATE)
    own.end_epoch(7, 2, own.instance)
    assert (own.instance.set_epochs, own.ends.runs) == ([2], ((7, 0, 3),))


def test_a_sequences_own_state_is_loaded_instead_of_a_replay() -> None:
    kept = Keeping(4, seed=5)
    kept.on_epoch_end()
    own = OwnSequence(TrainerSequence(lambda: Keeping(4)))
    own.restore(replace(STATE, sequence=begun(kept).state()))
    assert own.instance.order == kept.order and own.instance.version == 1
