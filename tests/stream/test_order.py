"""The order of epochs, and of the shards that they are dealt to."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.stream.order import LISTED_LENGTH, ComputedPermutation, permutation, shard_length
from enqueuer.stream.plan import EpochPlan

# States that were saved within such an epoch resume with this order: it must never change.
FIRST_OF_COMPUTED = {
    LISTED_LENGTH + 1: [248708, 1637, 486437, 334617],
    10**12: [454339893812, 111583758571, 844135987488, 630634610676],
    sys.maxsize: [3401637380302506840, 5718014585980189568, 8270814966930192047, 2956268749197567472],
}


def shards(seed: int, epoch: int, length: int, world_size: int, *, shuffle: bool, remainder: str) -> list[list[int]]:
    return [
        list(EpochPlan.fresh(length, (rank, world_size), remainder).order(seed, epoch, shuffle=shuffle))
        for rank in range(world_size)
    ]


def test_without_shuffle_the_order_is_the_sequences() -> None:
    assert permutation(0, 3, 5, shuffle=False) == range(5)


def test_the_shuffled_order_is_the_same_on_every_python_and_platform() -> None:
    assert list(permutation(7, 0, 10, shuffle=True)) == [3, 9, 1, 8, 2, 7, 4, 5, 6, 0]
    assert list(permutation(7, 1, 10, shuffle=True)) == [9, 8, 4, 6, 5, 3, 7, 2, 0, 1]
    assert list(permutation(2**64 - 1, 10**6, 10, shuffle=True)) == [0, 2, 5, 3, 1, 6, 8, 9, 4, 7]


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**9), st.integers(0, 300))
def test_a_shuffled_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone(
    seed: int, epoch: int, length: int
) -> None:
    order = permutation(seed, epoch, length, shuffle=True)
    assert sorted(order) == list(range(length))
    assert order == permutation(seed, epoch, length, shuffle=True)


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**9), st.integers(1, 3000))
def test_a_computed_permutation_has_each_index_once(seed: int, epoch: int, length: int) -> None:
    order = ComputedPermutation(f"{seed}:{epoch}", length)
    assert len(order) == length
    assert sorted(order) == list(range(length))
    assert order[-1] == order[length - 1]
    assert order[1:5] == [order[position] for position in range(1, min(5, length))]
    with pytest.raises(IndexError):
        order[length]


def test_orders_beyond_the_limit_are_computed_and_the_same_for_ever() -> None:
    assert isinstance(permutation(7, 0, LISTED_LENGTH, shuffle=True), array)
    assert permutation(7, 0, LISTED_LENGTH + 1, shuffle=True)[:4] == FIRST_OF_COMPUTED[LISTED_LENGTH + 1]
    assert permutation(7, 0, 10**12, shuffle=True)[:4] == FIRST_OF_COMPUTED[10**12]
    assert permutation(7, 0, sys.maxsize, shuffle=True)[:4] == FIRST_OF_COMPUTED[sys.maxsize]


def test_a_computed_permutation_has_no_favourites() -> None:
    # Each of the 24 permutations of four comes as often: the bound of chi-squared for 23 degrees of freedom at 1e-4.
    counts = Counter(tuple(ComputedPermutation(f"{seed}:0", 4)) for seed in range(4800))
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 60


def test_computed_orders_of_neighbouring_epochs_are_unrelated() -> None:
    orders = [permutation(3, epoch, 10**9, shuffle=True)[:1000] for epoch in range(3)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(orders[one]) & set(orders[other])
    steps = {after - before for before, after in pairwise(orders[0])}
    assert len(steps) == 999


def test_neighbouring_epochs_and_seeds_have_unrelated_orders() -> None:
    orders = [tuple(permutation(seed, epoch, 100, shuffle=True)) for seed in range(10) for epoch in range(10)]
    assert len(set(orders)) == 100


@given(st.integers(0, 1000), st.integers(0, 200), st.integers(1, 12), st.booleans())
def test_shards_are_disjoint_and_of_one_size_and_miss_less_than_one_batch_each(
    seed: int, length: int, world_size: int, shuffle: bool
) -> None:
    ranks = shards(seed, 0, length, world_size, shuffle=shuffle, remainder="drop")
    together = [index for rank in ranks for index in rank]
    assert {len(rank) for rank in ranks} == {shard_length(length, (0, world_size), "drop")}
    assert len(together) == len(set(together))
    assert 0 <= length - len(together) < world_size


@given(st.integers(0, 1000), st.integers(1, 200), st.integers(1, 12), st.booleans())
def test_shards_that_repeat_the_remainder_miss_nothing(seed: int, length: int, world_size: int, shuffle: bool) -> None:
    ranks = shards(seed, 0, length, world_size, shuffle=shuffle, remainder="repeat")
    together = [index for rank in ranks for index in rank]
    assert {len(rank) for rank in ranks} == {shard_length(length, (0, world_size), "repeat")}
    assert set(together) == set(range(length))
    assert len(together) - length < world_size


def test_the_ranks_batches_step_by_step_are_the_whole_order() -> None:
    whole = list(permutation(3, 2, 12, shuffle=True))
    ranks = shards(3, 2, 12, 4, shuffle=True, remainder="drop")
    assert [index for step in zip(*ranks, strict=True) for index in step] == whole


def test_an_empty_sequence_has_empty_shards() -> None:
    assert shards(0, 0, 0, 3, shuffle=True, remainder="repeat") == [[], [], []]
