"""A stream that is interrupted anywhere and resumed equals one without interruption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enqueuer import SequenceEnqueuer
from tests.resume.sequences import Failing, Keeping, Lengthening, Numbered, Shuffling, Sparse, Still
from tests.resume.streams import Make, pieces, running, through_json, uninterrupted
from tests.support.sequences import as_spec

KINDS: dict[str, Callable[[int], Any]] = {
    "still": Still,
    "shuffling": Shuffling,
    "lengthening": Lengthening,
    "keeping": Keeping,
    "numbered": Numbered,
    "sparse": lambda length: Sparse(length + 1),
    "spec, shuffling": lambda length: as_spec(Shuffling(length)),
    "spec, lengthening": lambda length: as_spec(Lengthening(length)),
    "skipping": lambda length: Failing(length, bad=(1, 3)),
}


def make_of(kind: str, length: int, **options: Any) -> Make:
    if kind == "skipping":
        options = {**options, "on_error": "skip"}
    return lambda: SequenceEnqueuer(KINDS[kind](length), **options)


lengths = st.integers(1, 5)
kinds = st.sampled_from(list(KINDS))
cuts_of_serial = st.lists(st.integers(0, 13), min_size=1, max_size=4)
option_sets = st.fixed_dictionaries({"shuffle": st.booleans(), "seed": st.sampled_from([None, 3])})


@settings(deadline=None, max_examples=100)
@given(kinds, lengths, option_sets, cuts_of_serial, st.booleans())
def test_a_resumed_stream_is_the_same_in_the_consumers_thread(
    kind: str, length: int, options: dict[str, Any], cuts: list[int], after_stop: bool
) -> None:
    make = make_of(kind, length, **options)
    cuts = [*cuts, 2 * length]
    expected = uninterrupted(make, sum(cuts))
    assert list(chain(*pieces(make, cuts, [0], after_stop))) == expected


@settings(deadline=None, max_examples=50)
@given(kinds, lengths, option_sets, cuts_of_serial, st.booleans())
def test_a_resumed_stream_is_the_same_with_another_number_of_threads(
    kind: str, length: int, options: dict[str, Any], cuts: list[int], after_stop: bool
) -> None:
    make = make_of(kind, length, **options)
    cuts = [*cuts, 2 * length]
    expected = uninterrupted(make, sum(cuts))
    assert list(chain(*pieces(make, cuts, [2, 1, 0, 3], after_stop))) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_can_be_resumed_at_every_batch_of_two_and_a_half_epochs(kind: str, workers: int) -> None:
    length = 4
    make = make_of(kind, length, shuffle=True)
    expected = uninterrupted(make, 14)
    for cut in range(2 * length + length // 2 + 1):
        assert list(chain(*pieces(make, [cut, 4], [workers]))) == expected[: cut + 4], f"at {cut}"


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(["still", "shuffling", "keeping"]), lengths, st.booleans(), cuts_of_serial, st.data())
def test_unordered_each_batch_comes_once_an_epoch_and_is_the_same(
    kind: str, length: int, shuffle: bool, cuts: list[int], data: st.DataObject
) -> None:
    length += 3
    make = make_of(kind, length, shuffle=shuffle, ordered=False)
    cuts = [*cuts, -sum(cuts) % length]
    expected = uninterrupted(make_of(kind, length, shuffle=shuffle), sum(cuts))
    workers = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    taken = list(chain(*pieces(make, cuts, workers)))
    assert len(taken) % length == 0
    for first in range(0, len(taken), length):
        assert Counter(taken[first : first + length]) == Counter(expected[first : first + length])


def test_unordered_an_early_batch_that_was_not_received_is_the_one_that_is_left(gated: Any) -> None:
    """Index 1 is held back while all others are received."""
    sequence, gate = gated(6, held=1)
    with running(SequenceEnqueuer(sequence, ordered=False, seed=2), 2) as enqueuer:
        stream = enqueuer.get()
        first = sorted(next(stream) for _ in range(5))
        state = enqueuer.state_dict()
        gate.set()
    assert first == [0, 2, 3, 4, 5]
    assert state["taken"] == [[0, 1], [2, 6]]
    again = SequenceEnqueuer(gated(6)[0], ordered=False, seed=2)
    again.load_state_dict(through_json(state))
    with running(again, 2):
        assert list(again.epoch()) == [1]
        assert sorted(again.epoch()) == list(range(6))


def test_the_rest_of_an_epoch_is_an_epoch_and_the_length_stays_the_full_one() -> None:
    made = SequenceEnqueuer(Still(5), seed=1)
    with running(made):
        stream = made.get()
        taken = [next(stream) for _ in range(2)]
        state = made.state_dict()
    again = SequenceEnqueuer(Still(5), seed=1)
    again.load_state_dict(state)
    with running(again, 2):
        rest = list(again.epoch())
        assert [index for index, _ in taken + rest] == list(range(5))
        assert len(list(again.epoch())) == len(again) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_start_after_a_resume_is_a_new_pass(workers: int) -> None:
    made = SequenceEnqueuer(Still(4), seed=1)
    made.start(workers)
    stream = made.get()
    [next(stream) for _ in range(2)]
    made.stop()
    made.load_state_dict(made.state_dict())
    made.start(workers)
    assert [next(made.get())[0] for _ in range(3)] == [2, 3, 0]
    made.stop()
    assert (made.state_dict()["epoch"], made.state_dict()["taken"]) == (1, [[0, 1]])
    made.start(workers)
    assert made.state_dict()["epoch"] == 2
    assert next(made.get())[0] == 0
    assert made.state_dict()["epoch"] == 2
    made.stop()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 9), st.integers(0, 9))
def test_one_live_object_goes_on_over_several_starts_and_a_fresh_one_is_brought_to_its_state(
    first: int, second: int
) -> None:
    """The state has the on_epoch_end calls of all starts, each under its own drawn seed."""
    length = 4
    made = SequenceEnqueuer(Shuffling(length), shuffle=True)
    for count in (first, second):
        made.start(0)
        taken = made.get()
        [next(taken) for _ in range(count)]
        state = through_json(made.state_dict())
        following = [next(taken) for _ in range(6)]
        again = SequenceEnqueuer(Shuffling(length), shuffle=True)
        again.load_state_dict(state)
        with running(again, 2):
            assert [next(again.get()) for _ in range(6)] == following
        made.stop()
