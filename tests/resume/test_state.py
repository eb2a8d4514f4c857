"""Resume states: the batches that count as received, the calls of ``on_epoch_end``, and refused states."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec, StateError
from tests.resume.sequences import (
    Failing,
    Keeping,
    Lengthening,
    Numbered,
    Pickled,
    Shuffling,
    Still,
    interruptions,
)
from tests.resume.streams import running, through_json, uninterrupted
from tests.support.sequences import as_spec
from tests.support.waiting import settled, wait_until

DEADLINE = 10.0


def state_after(made: SequenceEnqueuer, count: int, workers: int = 0) -> Any:
    with running(made, workers):
        list(islice(made.get(), count))
        return through_json(made.state_dict())


def resumed(made: SequenceEnqueuer, state: Any) -> SequenceEnqueuer:
    made.load_state_dict(state)
    return made


def indices(made: SequenceEnqueuer, count: int, workers: int = 0) -> list[int]:
    with running(made, workers):
        return [batch[0] for batch in islice(made.get(), count)]


@pytest.mark.parametrize("interrupted", [0, 3, 7])
def test_a_batch_that_a_ctrl_c_interrupts_while_it_is_built_was_not_received_and_comes_next(interrupted: int) -> None:
    made = SequenceEnqueuer(Pickled(8), use_multiprocessing=True)
    with running(made, 2):
        batches = made.get()
        assert list(islice(batches, interrupted)) == list(range(interrupted))
        interruptions.add(interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        state = through_json(made.state_dict())
        expected = [*range(interrupted, 8), 0, 1]
        assert list(islice(made.get(), len(expected))) == expected
    if interrupted == 7:
        del expected[0]  # its epoch was over, and its on_epoch_end may have run
    resumed_one = resumed(SequenceEnqueuer(Pickled(8)), state)
    with running(resumed_one, 1):
        assert [batch.index for batch in islice(resumed_one.get(), len(expected))] == expected


# ---------------------------------------------------------------- when it can be asked


def test_the_state_before_the_first_start_is_the_beginning() -> None:
    made = SequenceEnqueuer(Still(5))
    state = made.state_dict()
    assert (state["epoch"], state["length"], state["taken"]) == (0, 5, [])
    assert SequenceEnqueuer(Still(5), seed=np.int64(7)).state_dict()["seed"] == 7
    assert indices(resumed(SequenceEnqueuer(Still(5)), through_json(state)), 3) == [0, 1, 2]


def test_a_state_before_the_first_batch_has_the_seed_of_the_run_that_follows() -> None:
    made = SequenceEnqueuer(Still(9), shuffle=True)
    state = through_json(made.state_dict())
    assert state == made.state_dict()
    wanted = indices(made, 9)
    assert indices(resumed(SequenceEnqueuer(Still(9), shuffle=True), state), 9) == wanted


@pytest.mark.parametrize("workers", [0, 2])
def test_the_state_is_the_same_while_running_and_after_stop(workers: int) -> None:
    made = SequenceEnqueuer(Still(5))
    made.start(workers, 2)
    running_states = [made.state_dict()]
    for _ in range(7):
        next(made.get())
        running_states.append(made.state_dict())
    made.stop()
    assert made.state_dict() == running_states[-1]
    assert [(state["epoch"], state["taken"]) for state in running_states] == [
        (0, []),
        *[(0, [[0, count]]) for count in (1, 2, 3, 4, 5)],
        (1, [[0, 1]]),
        (1, [[0, 2]]),
    ]
    assert running_states[0]["seed"] is not None


def test_the_state_after_a_load_is_the_loaded_one_until_a_batch_is_taken() -> None:
    state = state_after(SequenceEnqueuer(Shuffling(5)), 7)
    made = resumed(SequenceEnqueuer(Shuffling(5)), state)
    assert made.state_dict() == state
    made.start(2)
    assert made.state_dict() == state
    made.stop()
    assert made.state_dict() == state


def test_a_prefetched_batch_is_not_received() -> None:
    made = SequenceEnqueuer(Still(4), seed=1, prefetch_epochs=True)
    with running(made, 2, 100):
        stream = made.get()
        next(stream)
        settled(lambda: made.stats().ready_count)
        assert made.state_dict()["taken"] == [[0, 1]]
        state = state_after(resumed(SequenceEnqueuer(Still(4), seed=1), made.state_dict()), 0)
        assert state["taken"] == [[0, 1]]


def test_the_state_is_json_and_small() -> None:
    assert len(json.dumps(state_after(SequenceEnqueuer(Shuffling(5), shuffle=True), 12))) < 400


def test_numpy_numbers_in_the_options_are_plain_in_the_state() -> None:
    made = SequenceEnqueuer(Still(5), seed=np.int64(2), shard=[np.int32(1), np.int32(2)], shuffle=1)
    made.start(0, epoch=np.int16(3))
    state = through_json(made.state_dict())
    made.stop()
    assert (state["seed"], state["shard"], state["shuffle"], state["epoch"]) == (2, [1, 2], True, 3)
    resumed(SequenceEnqueuer(Still(5), seed=2, shard=(1, 2), shuffle=True), state)


def test_states_saved_by_another_thread_meanwhile_are_all_exact() -> None:
    def make() -> SequenceEnqueuer:
        return SequenceEnqueuer(Shuffling(6), shuffle=True)

    expected = uninterrupted(make, 320)
    states: list[Any] = []
    made = make()
    with running(made, 2):
        consumer = threading.Thread(target=lambda: list(islice(made.get(), 300)))
        consumer.start()
        while consumer.is_alive():
            states.append(through_json(made.state_dict()))
        consumer.join()
    places = [6 * state["epoch"] + sum(stop for _, stop in state["taken"]) for state in states]
    assert places == sorted(places)
    for place, state in list(zip(places, states, strict=True))[:: max(1, len(states) // 25)]:
        with running(resumed(make(), state)) as again:
            assert list(islice(again.get(), 8)) == expected[place : place + 8]


# ---------------------------------------------------------------- errors and skips


@pytest.mark.parametrize("options", [{}, {"ordered": False}])
@pytest.mark.parametrize("bad", [0, 2, 4])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_whose_error_was_raised_is_tried_again(workers: int, bad: int, options: dict[str, Any]) -> None:
    """The first and last batch of an epoch included: on_epoch_end does not run before the batch has come."""
    ends: list[int] = []

    class Ending(Failing):
        def on_epoch_end(self) -> None:
            ends.append(1)

    made = SequenceEnqueuer(Ending(5, bad=(bad,)), seed=1, **options)
    made.start(workers)
    taken = []
    with pytest.raises(LookupError):
        for batch in made.get():
            taken.append(batch[0])
    assert taken == list(range(bad)) and not made.is_running()
    state = through_json(made.state_dict())
    assert (state["epoch"], state["taken"]) == (0, [[0, bad]] if bad else [])
    again = resumed(SequenceEnqueuer(Still(5), seed=1, **options), state)
    with running(again, 1):
        assert [batch[0] for batch in again.epoch()] == list(range(bad, 5))
    assert ends == []


def test_after_an_error_the_same_enqueuer_goes_on_at_that_batch() -> None:
    sequence = Failing(5, bad=(3,))
    made = SequenceEnqueuer(sequence, seed=1)
    made.start(2)
    with pytest.raises(LookupError):
        list(made.get())
    made.load_state_dict(made.state_dict())
    sequence.bad = ()
    assert indices(made, 4, workers=2) == [3, 4, 0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_skips_are_in_the_state_once_they_were_passed_and_count_for_max_skipped(workers: int) -> None:
    def make() -> SequenceEnqueuer:
        return SequenceEnqueuer(Failing(4, bad=(1, 3)), seed=1, on_error="skip", max_skipped=3)

    made = make()
    with running(made, workers):
        assert next(made.get())[0] == 0
        settled(lambda: made.stats().ready_count)
        assert made.state_dict()["skipped"] == []
        assert next(made.get())[0] == 2
        state = through_json(made.state_dict())
    assert (state["taken"], state["skipped"], state["skipped_count"]) == ([[0, 3]], [[0, 1]], 1)
    again = resumed(make(), state)
    again.start(workers)
    taken = []
    with pytest.raises(LookupError):
        for batch in again.get():
            taken.append(batch[0])
    assert taken == [0, 2]
    state = again.state_dict()
    assert (state["skipped"], state["skipped_count"]) == ([[0, 1], [0, 3], [1, 1]], 3)
    stats = again.stats()
    # What was left out since start(), also when an error has ended it.
    assert (stats.running, stats.workers, stats.skipped) == (False, (), ((0, 3), (1, 1)))


# ---------------------------------------------------------------- on_epoch_end


class Held(Shuffling):
    """The hook begins to change the object, then waits for ``gate``."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.entered, self.gate = threading.Event(), threading.Event()
        self.inside: Callable[[], None] = lambda: None

    def on_epoch_end(self) -> None:
        np.random.shuffle(self.order)
        self.entered.set()
        self.inside()
        assert self.gate.wait(DEADLINE)


def test_a_state_saved_during_on_epoch_end_does_not_wait_for_it_and_the_load_runs_it() -> None:
    sequence = Held(4)
    made = SequenceEnqueuer(sequence, shuffle=True, seed=1)
    inside: list[Any] = []
    sequence.inside = lambda: inside.append(made.state_dict())
    with running(made, 2):
        list(islice(made.get(), 4))
        assert sequence.entered.wait(DEADLINE)
        state = through_json(made.state_dict())
        wait_until(lambda: inside != [], what="the hook's own state")
        sequence.gate.set()
        expected = list(islice(made.get(), 4))
    assert inside == [state]
    assert (state["epoch"], state["taken"], state["epoch_end"], state["epoch_ends"]) == (0, [[0, 4]], False, [])
    again = Held(4)
    again.gate.set()
    resumed_one = resumed(SequenceEnqueuer(again, shuffle=True, seed=1), state)
    assert again.entered.is_set(), "it ran in load_state_dict"
    assert resumed_one.state_dict()["epoch_ends"] == [[1, 0, 1]]
    with running(resumed_one, 1):
        assert list(islice(resumed_one.get(), 4)) == expected


def test_a_state_saved_after_on_epoch_end_does_not_run_it_again() -> None:
    made = SequenceEnqueuer(Shuffling(4), seed=1)
    with running(made, 1):
        list(islice(made.get(), 4))
        wait_until(lambda: made.state_dict()["epoch_end"], what="on_epoch_end")
        wait_until(lambda: made.state_dict()["next_length"] == 4, what="the next epoch")
        state = through_json(made.state_dict())
        assert (state["epoch"], state["taken"], state["epoch_ends"]) == (0, [[0, 4]], [[1, 0, 1]])
        expected = list(islice(made.get(), 4))
    sequence = Shuffling(4)
    again = resumed(SequenceEnqueuer(sequence, seed=1), state)
    assert sequence.version == 1
    with running(again):
        assert list(islice(again.get(), 4)) == expected
    assert sequence.version == 1


def test_a_hook_that_raised_has_not_run() -> None:
    class Broken(Shuffling):
        def on_epoch_end(self) -> None:
            np.random.shuffle(self.order)
            raise OSError("no next epoch")

    for workers in (0, 1):
        made = SequenceEnqueuer(Broken(3), seed=1)
        made.start(workers)
        with pytest.raises(OSError, match="no next epoch"):
            list(made.get())
        state = through_json(made.state_dict())
        assert (state["epoch"], state["taken"], state["epoch_end"]) == (0, [[0, 3]], False)
        expected = uninterrupted(lambda: SequenceEnqueuer(Shuffling(3), seed=1), 6)
        with running(resumed(SequenceEnqueuer(Shuffling(3), seed=1), state)) as again:
            assert list(islice(again.get(), 3)) == expected[3:]
        with pytest.raises(OSError, match="no next epoch"):
            SequenceEnqueuer(Broken(3), seed=1).load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sequences_own_state_is_that_of_the_position_also_inside_its_hook(workers: int) -> None:
    states: list[Any] = []
    made = SequenceEnqueuer(Keeping(4, hook=lambda: states.append(through_json(made.state_dict()))), seed=1)
    with running(made, workers):
        taken = list(islice(made.get(), 12))
    for epoch, state in enumerate(states[:2]):
        with running(resumed(SequenceEnqueuer(Keeping(4, seed=99), seed=1), state), workers) as again:
            assert list(islice(again.get(), 4)) == taken[4 * (epoch + 1) : 4 * (epoch + 2)]


def test_a_sequences_own_state_must_be_json_and_what_it_raises_is_raised() -> None:
    class Odd(Still):
        def state_dict(self) -> Any:
            return {"order": np.arange(3)}

        def load_state_dict(self, state: Any) -> None:
            raise KeyError("never")

    class Raising(Odd):
        def state_dict(self) -> Any:
            raise OSError("cannot say")

        def on_epoch_end(self) -> None:
            """Does nothing, but the class has a hook."""

    made = SequenceEnqueuer(Odd(3))
    with (
        running(made, 1),
        pytest.raises(StateError, match=r"state_dict\(\) of the Sequence is not made of JSON values"),
    ):
        next(made.get())
        made.state_dict()
    made = SequenceEnqueuer(Raising(3))
    with running(made, 1):
        assert len(list(islice(made.get(), 8))) == 8, "a user without saved states is not bothered"
        with pytest.raises(OSError, match="cannot say"):
            made.state_dict()


def test_set_epoch_brings_a_live_sequence_to_the_saved_epoch() -> None:
    state = state_after(SequenceEnqueuer(Numbered(4), seed=1), 9)
    sequence = Numbered(4)
    made = resumed(SequenceEnqueuer(sequence, seed=1), state)
    assert (sequence.set_epochs, sequence.version) == ([2], 2)
    with running(made, 2):
        assert [batch[:2] for batch in islice(made.get(), 4)] == [(2, 1), (2, 2), (2, 3), (3, 0)]
    over = state_after(SequenceEnqueuer(Numbered(4), seed=1), 8)
    sequence = Numbered(4)
    resumed(SequenceEnqueuer(sequence, seed=1), over)
    assert (sequence.set_epochs, sequence.version) == ([1], 2), "to the epoch that was over, and its end was run"


def test_a_live_object_with_another_history_is_refused() -> None:
    state = state_after(SequenceEnqueuer(Shuffling(3), seed=1), 4)
    made = SequenceEnqueuer(Shuffling(3), seed=1)
    with running(made):
        list(islice(made.get(), 10))
    with pytest.raises(StateError, match="Shuffling has had 3 calls of on_epoch_end that the state knows nothing of"):
        made.load_state_dict(state)
    made.sequence = Shuffling(3)
    made.load_state_dict(state)


# ---------------------------------------------------------------- refused


STATE = state_after(SequenceEnqueuer(Still(6), seed=4, shuffle=True), 8)


@pytest.mark.parametrize(
    ("length", "options", "reason"),
    [
        (6, {"seed": 5, "shuffle": True}, "the state's seed is 4, and this enqueuer's is 5"),
        (7, {"seed": 4, "shuffle": True}, "of a Sequence with 6 batches, and this one has 7"),
        (6, {"seed": 4, "shuffle": False}, "the state's shuffle is True, and this enqueuer's is False"),
        (
            6,
            {"seed": 4, "shuffle": True, "shard_remainder": "repeat"},
            "the state's shard_remainder is 'drop', and this enqueuer's is 'repeat'",
        ),
        (6, {"seed": 4, "shuffle": True, "shard": (0, 2)}, "rank 0 of 1, and this is rank 0 of 2: pass a list"),
    ],
)
@pytest.mark.parametrize("spec", [False, True])
def test_a_state_that_does_not_fit_is_refused_with_the_difference(
    length: int, options: dict[str, Any], reason: str, spec: bool
) -> None:
    sequence: Any = as_spec(Still(length)) if spec else Still(length)
    made = SequenceEnqueuer(sequence, **options)
    for given in (STATE, [STATE]):
        if given is STATE or "pass a list" not in reason:
            with pytest.raises(StateError, match=reason):
                made.load_state_dict(given)
    assert made.state_dict()["taken"] == []


def test_another_version_is_refused() -> None:
    with pytest.raises(StateError, match="version 99, but this library reads version 1"):
        SequenceEnqueuer(Still(6)).load_state_dict({**STATE, "version": 99})


@pytest.mark.parametrize("count", [6, 12])
def test_another_length_is_refused_also_at_the_epochs_end(count: int) -> None:
    made = SequenceEnqueuer(Lengthening(3), seed=1)
    with running(made, 1):
        list(islice(made.get(), 3))
        wait_until(lambda: made.state_dict()["next_length"] is not None, what="the next epoch")
        state = made.state_dict()
    assert (state["length"], state["next_length"]) == (3, 4)
    with pytest.raises(StateError, match=f"with 4 batches, and this one has {count + 1}"):
        SequenceEnqueuer(Lengthening(count), seed=1).load_state_dict(state)
    resumed(SequenceEnqueuer(Lengthening(3), seed=1), state)


def test_a_length_that_changes_between_load_and_start_is_refused_by_start() -> None:
    sequence = Still(6)
    made = resumed(SequenceEnqueuer(sequence, seed=4, shuffle=True), STATE)
    sequence.length = 9
    for workers in (0, 1):
        made.load_state_dict({**STATE, "length": 9, "total": 9})
        sequence.length = 10
        with pytest.raises(StateError, match="with 9 batches, and this one has 10"):
            made.start(workers)
        sequence.length = 9


@pytest.mark.parametrize("garbage", [None, 3, "state", {}, {"version": 1}, [], [None], {"version": [1]}])
def test_a_value_that_is_no_state_is_refused(garbage: Any) -> None:
    with pytest.raises(StateError):
        SequenceEnqueuer(Still(6)).load_state_dict(garbage)


def test_a_refused_state_leaves_the_one_that_was_loaded_before() -> None:
    made = resumed(SequenceEnqueuer(Still(6), seed=4, shuffle=True), STATE)
    with pytest.raises(StateError):
        made.load_state_dict({**STATE, "seed": 5})
    assert made.state_dict() == STATE


def test_a_state_cannot_be_loaded_while_running() -> None:
    made = SequenceEnqueuer(Still(6), seed=4, shuffle=True)
    with running(made), pytest.raises(RuntimeError, match=r"already running: call stop\(\) first"):
        made.load_state_dict(STATE)


def test_another_epoch_than_the_loaded_one_is_a_value_error_and_the_state_stays() -> None:
    made = resumed(SequenceEnqueuer(Still(6), seed=4, shuffle=True), STATE)
    with pytest.raises(ValueError, match="epoch=0, but the state that was loaded goes on in epoch 1"):
        made.start(0, epoch=0)
    made.start(0, epoch=1)
    assert made.state_dict() == STATE
    made.stop()


def test_a_sequence_that_was_replaced_after_the_load_is_refused() -> None:
    made = resumed(SequenceEnqueuer(Still(6), seed=4, shuffle=True), STATE)
    made.sequence = Still(6)
    with pytest.raises(StateError, match="replaced after load_state_dict"):
        made.start(0)


def test_a_start_that_fails_leaves_the_state_for_the_next() -> None:
    spec = SequenceSpec("tests.resume.sequences:Still", length=6)
    made = resumed(SequenceEnqueuer(spec, seed=4, shuffle=True, bind="tcp://192.0.2.1:5555", insecure=True), STATE)
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        made.start(0)
    assert made.state_dict() == STATE


@pytest.mark.parametrize("spec", [False, True])
def test_a_start_that_fails_half_way_leaves_the_brought_sequence_for_the_next(
    monkeypatch: pytest.MonkeyPatch, spec: bool
) -> None:
    def make() -> SequenceEnqueuer:
        return SequenceEnqueuer(as_spec(Shuffling(5)) if spec else Shuffling(5), shuffle=True, seed=1)

    expected = uninterrupted(make, 15)
    made = resumed(make(), state_after(make(), 8))
    with monkeypatch.context() as patched:
        patched.setattr("enqueuer.runtime.local_threads.LocalThreads.start", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            made.start(2)
    with running(made, 2):
        assert list(islice(made.get(), 7)) == expected[8:]


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("sequence", [Still, Shuffling])
def test_a_state_saved_at_any_batch_is_exact_though_the_next_epoch_is_computed_ahead(
    sequence: type[Any], length: int
) -> None:
    made = SequenceEnqueuer(sequence(length), seed=1, prefetch_epochs=True)
    states = []
    with running(made, 2, 50):
        stream = made.get()
        for _ in range(11):
            next(stream)
            settled(lambda: made.stats().ready_count)
            states.append(through_json(made.state_dict()))
    for count, state in enumerate(states, 1):
        place = length * state["epoch"] + sum(stop for _, stop in state["taken"])
        assert place == count
        over = count // length if count % length or state["epoch_end"] else count // length - 1
        assert sum(run[2] for run in state["epoch_ends"]) == (over if sequence is Shuffling else 0)
        resumed(SequenceEnqueuer(sequence(length), seed=1), state)
