"""The order of an epoch and the size of a shard: pure functions of (seed, epoch, length, shuffle, shard)."""

from __future__ import annotations

import random
from collections.abc import Sequence


def shard_length(length: int, shard: tuple[int, int], remainder: str) -> int:
    """The number of batches of each rank in an epoch, the same for every rank.

    ``remainder="drop"`` leaves out the last batches of the (shuffled) order, up to ``world_size - 1``: no batch comes
    twice. ``"repeat"`` starts again at the order's beginning: no batch is missed.
    """
    _, world_size = shard
    if remainder == "drop":
        return length // world_size
    return -(-length // world_size)


def permutation(seed: int, epoch: int, length: int, *, shuffle: bool) -> Sequence[int]:
    """All indices of an epoch, in the order that all ranks share."""
    indices = range(length)
    if not shuffle:
        return indices
    permuted = list(indices)
    # A text seed is hashed with SHA-512 (CPython's `random.seed`, version 2), so neighbouring epochs are unrelated.
    # From it, `shuffle` makes the same order on every platform and Python since 3.2.
    random.Random(f"{seed}:{epoch}").shuffle(permuted)
    return permuted
