"""The order of one rank's fresh epoch, written out plainly: the reference for `EpochPlan` and for whole runs."""

from __future__ import annotations

from collections.abc import Sequence

from enqueuer.stream.order import permutation, shard_length


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

    All ranks permute the whole range alike, and rank r takes every ``world_size``-th index from r on. So the ranks are
    disjoint, and their union does not depend on ``world_size`` (but for the remainder).
    """
    rank, world_size = shard
    indices = permutation(seed, epoch, length, shuffle=shuffle)
    if world_size == 1:
        return indices
    count = shard_length(length, shard, remainder)
    return [indices[(rank + k * world_size) % length] for k in range(count)] if length else []
