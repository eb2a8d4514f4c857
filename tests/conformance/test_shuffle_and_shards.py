"""The order of an epoch: shuffled, seeded, shared out between ranks."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.stream.order import permutation
from tests.support.placement import Placement, take
from tests.support.sequences import Arrays, Bare, Journaled


def orders(running: SequenceEnqueuer, length: int, epochs: int) -> list[list[int]]:
    """The index order of each of the next epochs."""
    taken = [index for _, index in take(running.get(), length * epochs)]
    return [taken[start : start + length] for start in range(0, length * epochs, length)]


def test_each_epoch_is_a_permutation_that_differs_from_the_one_before(placement: Placement) -> None:
    epochs = orders(placement.running(Journaled(length=20), workers=2, shuffle=True), 20, 4)
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_random_seed_before_start_fixes_the_order(placement: Placement) -> None:
    def seeded(seed: int) -> list[list[int]]:
        made = placement.enqueuer(Journaled(length=12), shuffle=True)
        random.seed(seed)
        placement.start(made)
        epochs = orders(made, 12, 2)
        made.stop()
        return epochs

    assert seeded(7) == seeded(7) != seeded(8)


def test_without_any_seed_two_runs_differ(threads: Placement) -> None:
    first, second = (threads.running(Bare(length=30), shuffle=True) for _ in range(2))
    assert orders(first, 30, 1) != orders(second, 30, 1)


def test_a_seed_fixes_the_order_in_every_placement(placement: Placement, threads: Placement) -> None:
    random.seed(1)
    there = orders(placement.running(Journaled(length=12), shuffle=True, seed=3), 12, 3)
    random.seed(2)
    here = orders(threads.running(Journaled(length=12), workers=1, shuffle=True, seed=3), 12, 3)
    assert there == here
    assert there != orders(threads.running(Journaled(length=12), shuffle=True, seed=4), 12, 3)


def test_an_epochs_order_depends_on_seed_and_epoch_alone(threads: Placement) -> None:
    whole = orders(threads.running(Bare(length=15), shuffle=True, seed=3), 15, 4)
    later = threads.enqueuer(Bare(length=15), shuffle=True, seed=3)
    later.start(2, 10, epoch=2)
    assert orders(later, 15, 2) == whole[2:]


def test_a_restart_takes_the_next_epochs_number(threads: Placement) -> None:
    whole = orders(threads.running(Bare(length=15), shuffle=True, seed=3), 15, 3)
    running = threads.running(Bare(length=15), shuffle=True, seed=3)
    assert [index for _, index in take(running.get(), 4)] == whole[0][:4]
    running.stop()
    running.start(2, 10)
    assert orders(running, 15, 2) == whole[1:]


def test_numpys_generator_is_not_consulted(threads: Placement) -> None:
    def seeded(seed: int) -> list[list[int]]:
        made = threads.enqueuer(Bare(length=12), shuffle=True)
        random.seed(7)
        np.random.seed(seed)
        made.start()
        epochs = orders(made, 12, 2)
        assert np.random.random() == np.random.RandomState(seed).random_sample()
        made.stop()
        return epochs

    assert seeded(1) == seeded(2)


def test_shuffle_permutes_batches_and_not_what_is_in_them(placement: Placement) -> None:
    taken = take(placement.running(Arrays(length=6, size=50), shuffle=True, seed=1).get(), 6)
    assert sorted(int(small[0]) for _, small in taken) == list(range(6))
    assert all((large == small[0]).all() for large, small in taken)


@pytest.mark.parametrize("shuffle", [False, True])
def test_shards_are_disjoint_equal_and_cover_everything(placement: Placement, shuffle: bool) -> None:
    taken: list[list[list[int]]] = []
    for rank in range(3):
        made = placement.running(Journaled(length=12), shuffle=shuffle, seed=5, shard=(rank, 3))
        assert len(made) == 4
        taken.append(orders(made, 4, 2))
        made.stop()
    for epoch in range(2):
        assert sorted(index for rank in taken for index in rank[epoch]) == list(range(12))


@pytest.mark.parametrize(("remainder", "count"), [("drop", 3), ("repeat", 4)])
def test_a_remainder_is_dropped_or_repeated_on_every_rank_alike(threads: Placement, remainder: str, count: int) -> None:
    shares = []
    for rank in range(2):
        made = threads.running(Bare(length=7), shard=(rank, 2), shard_remainder=remainder)
        assert len(made) == count
        shares.append([index for _, index in made.epoch()])
        assert len(shares[-1]) == count
    indices = sorted(shares[0] + shares[1])
    assert len(set(indices)) == (6 if remainder == "drop" else 7)


@pytest.mark.parametrize("options", [{"shard": (0, 2), "shuffle": True}, {"shard": (2, 2)}, {"shard": (0, 0)}])
def test_a_shard_that_cannot_be_is_a_value_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"shard|shuffle"):
        SequenceEnqueuer(Bare(), **options)


@pytest.mark.parametrize("length", [10**9, sys.maxsize])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("shard", [(0, 1), (1, 3)])
def test_a_length_that_stands_for_without_end_is_streamed_and_resumed(
    threads: Placement, length: int, shuffle: bool, shard: tuple[int, int]
) -> None:
    stream_and_resume(threads, length, shuffle, shard)


@pytest.mark.parametrize("shuffle", [False, True])
def test_separate_workers_get_indices_of_any_size(separate_placement: Placement, shuffle: bool) -> None:
    stream_and_resume(separate_placement, sys.maxsize, shuffle, (1, 3))


def stream_and_resume(placement: Placement, length: int, shuffle: bool, shard: tuple[int, int]) -> None:
    options: dict[str, Any] = {"shuffle": shuffle, "seed": 5, "shard": shard}
    whole = permutation(5, 0, length, shuffle=shuffle)
    expected = [whole[shard[0] + shard[1] * step] for step in range(60)]
    running = placement.running(Bare(length), **options)
    assert [index for _, index in take(running.get(), 30)] == expected[:30]
    state = json.loads(json.dumps(running.state_dict()))
    running.stop()
    resumed = placement.enqueuer(Bare(length), **options)
    resumed.load_state_dict(state)
    placement.start(resumed)
    assert [index for _, index in take(resumed.get(), 30)] == expected[30:]
