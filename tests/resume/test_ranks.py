"""A run of several ranks is resumed with other ranks: each batch that is left comes exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enqueuer import SequenceEnqueuer, StateError
from enqueuer.stream.order import permutation, shard_length
from tests.resume.sequences import Failing, Shuffling, Still
from tests.resume.streams import running, through_json

SEED = 6


class World:
    """All ranks of one run: serial ones, or with so many threads each."""

    def __init__(self, sequence: type[Any], length: int, **options: Any) -> None:
        self._sequence, self._length, self._options = sequence, length, options
        self.states: Any = None

    def run(self, world_size: int, counts: Sequence[int], workers: int = 0) -> list[list[Any]]:
        """Rank r takes ``counts[r]`` batches, from where the ranks before were; ``-1``: the rest of its epoch."""
        taken, states = [], []
        for rank in range(world_size):
            shard = (rank, world_size)
            made = SequenceEnqueuer(self._sequence(self._length), seed=SEED, shard=shard, **self._options)
            if self.states is not None:
                made.load_state_dict(self.states)
            with running(made, workers):
                stream = made.epoch() if counts[rank] < 0 else islice(made.get(), counts[rank])
                taken.append(list(stream))
                states.append(made.state_dict())
        self.states = through_json(states)
        return taken


def flat(taken: list[list[Any]]) -> list[Any]:
    return [batch for part in taken for batch in part]


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 14), st.booleans(), st.sampled_from(["drop", "repeat"]), st.data())
def test_two_ranks_then_three_then_one_take_each_batch_of_the_epoch_once(
    length: int, shuffle: bool, remainder: str, data: st.DataObject
) -> None:
    """Ranks need not be in step: each stops where it likes within the epoch."""
    world = World(Shuffling, length, shuffle=shuffle, shard_remainder=remainder)
    count = shard_length(length, (0, 2), remainder)
    total = 2 * count
    two = world.run(2, data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2)))
    left = total - len(flat(two))
    if not flat(two):
        total = left = 3 * shard_length(length, (0, 3), remainder)
    shares = [len(range(rank, left, 3)) for rank in range(3)]
    three = world.run(3, [data.draw(st.integers(0, max(0, share - 1))) for share in shares])
    if not flat(two) + flat(three):
        total = length
    one = world.run(1, [-1])
    order = permutation(SEED, 0, length, shuffle=shuffle)
    expected = Counter(order[position % length] for position in range(total))
    assert Counter(batch[0] for batch in flat(two) + flat(three) + flat(one)) == expected


def test_steps_in_lock_step_through_epochs_and_changes_cover_each_epoch_once() -> None:
    """Ranks with one batch more than others are one step behind for ever, until the next change."""
    world = World(Still, 13, shuffle=True)
    taken: Counter[int] = Counter()
    for world_size, steps in [(2, 3), (3, 3), (1, 13), (3, 2), (2, 7), (1, 40)]:
        taken.update(batch[0] for batch in flat(world.run(world_size, [steps] * world_size)))
    # Epochs 0, 1 and 3 were begun by two or three ranks, which leaves out one of the 13 batches.
    expected: Counter[int] = Counter()
    for epoch, total in enumerate([12, 12, 13, 12, 13, 13, 13]):
        expected.update(permutation(SEED, epoch, 13, shuffle=True)[:total])
    assert taken == expected


@pytest.mark.parametrize("at_once", [True, False])
def test_an_exact_epoch_boundary_begins_a_fresh_epoch_of_the_new_ranks(at_once: bool) -> None:
    world = World(Shuffling, 12, shuffle=True)
    first = world.run(2, [-1, -1])
    alone = SequenceEnqueuer(Shuffling(12), seed=SEED, shuffle=True)
    with running(alone):
        whole = [list(alone.epoch()) for _ in range(2)]
    assert sorted(flat(first)) == sorted(whole[0])
    if not at_once:
        world.run(4, [0] * 4)
    assert world.run(1, [-1]) == [whole[1]]


def test_a_rank_for_which_nothing_is_left_goes_on_with_the_next_epoch() -> None:
    world = World(Still, 6)
    world.run(1, [5])
    first, second, third = world.run(3, [2, 2, 2])
    assert ([index for index, _ in first], [index for index, _ in second]) == ([5, 0], [1, 4])
    assert [index for index, _ in third] == [2, 5]


def test_unordered_ranks_with_threads_take_each_batch_of_the_epoch_once() -> None:
    world = World(Still, 30, ordered=False)
    taken = flat(world.run(2, [5, 9], workers=3))
    taken += flat(world.run(3, [4, 0, 4], workers=2))
    taken += flat(world.run(1, [-1], workers=3))
    assert sorted(index for index, _ in taken) == list(range(30))


def test_the_same_ranks_go_on_each_with_its_own_part() -> None:
    world = World(Still, 12)
    first = world.run(2, [2, 4])
    second = world.run(2, [-1, -1])
    assert [[index for index, _ in a + b] for a, b in zip(first, second, strict=True)] == [
        [0, 2, 4, 6, 8, 10],
        [1, 3, 5, 7, 9, 11],
    ]


def test_skips_of_all_ranks_still_count() -> None:
    class Bad(Failing):
        def __init__(self, length: int) -> None:
            super().__init__(length, bad=(0, 1))

    world = World(Bad, 8, on_error="skip", max_skipped=3)
    world.run(2, [1, 1])
    made = SequenceEnqueuer(Bad(8), seed=SEED, on_error="skip", max_skipped=3)
    made.load_state_dict(world.states)
    state = made.state_dict()
    assert (state["skipped"], state["skipped_count"]) == ([[0, 0], [0, 1]], 2)
    with running(made), pytest.raises(LookupError):
        list(islice(made.get(), 20))


def test_one_ranks_state_alone_is_refused_by_another_world() -> None:
    made = SequenceEnqueuer(Still(6), seed=SEED, shard=(0, 2))
    for shard in [(1, 2), (0, 3), (0, 1)]:
        other = SequenceEnqueuer(Still(6), seed=SEED, shard=shard)
        with pytest.raises(StateError, match=r"rank 0 of 2, and this is rank . of .: pass a list of all ranks' states"):
            other.load_state_dict(made.state_dict())


def test_drawn_seeds_that_differ_are_refused() -> None:
    states = []
    for rank in range(2):
        made = SequenceEnqueuer(Still(6), shard=(rank, 2))
        made.start(0)
        states.append(made.state_dict())
        made.stop()
    with pytest.raises(StateError, match="the ranks' states differ in seed"):
        SequenceEnqueuer(Still(6)).load_state_dict(states)
