"""The order of an epoch: a pure function of (seed, epoch, length, shuffle, shard)."""

from __future__ import annotations

import random
from collections.abc import Sequence


def shard_length(length: int, shard: tuple[int, int], remainder: str) -> int:
    """How many batches each rank has in an epoch: the same on every rank.

    ``remainder="drop"`` leaves out the up to ``world_size - 1`` last batches of the (shuffled) order, so that none is
    seen twice; ``"repeat"`` starts again at the order's beginning, so that none is missed.
    """
    _, world_size = shard
    if remainder == "drop":
        return length // world_size
    return -(-length // world_size)


def permutation(seed: int, epoch: int, length: int, *, shuffle: bool) -> Sequence[int]:
    """All indices in the order that all ranks share."""
    indices = range(length)
    if not shuffle:
        return indices
    permuted = list(indices)
    # A text seed goes through SHA-512 (CPython's `random.seed`, version 2), so neighbouring epochs are unrelated;
    # `shuffle` on top of it gives the same order on every platform and Python since 3.2.
    random.Random(f"{seed}:{epoch}").shuffle(permuted)
    return permuted


def epoch_order(
    seed: int,
    epoch: int,
    length: int,
    *,
    shuffle: bool = False,
    shard: tuple[int, int] = (0, 1),
    remainder: str = "drop",
) -> Sequence[int]:
    """The indices of one rank's epoch, in order of position.

    All ranks permute the whole range alike and rank r takes every ``world_size``-th from r on, so the ranks are
    disjoint and their union does not depend on ``world_size`` (but for the remainder).
    """
    rank, world_size = shard
    indices = permutation(seed, epoch, length, shuffle=shuffle)
    if world_size == 1:
        return indices
    count = shard_length(length, shard, remainder)
    return [indices[(rank + k * world_size) % length] for k in range(count)] if length else []
