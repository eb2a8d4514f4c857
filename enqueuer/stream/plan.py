"""Each rank's part of an epoch, also if the number of ranks changes in the middle of it.

An epoch is a list of virtual positions, fixed when it begins: ``world_size`` times the shard's length. Position v
stands for index ``order[v % length]``. Positions are dealt round robin to the ranks. After a resume with other ranks,
the remaining positions are dealt again in the same way:

    position   0 1 2 3 4 5     ``order`` is 4 0 2 1 5 3
    rank 0     4   2   5       its part: positions 0, 2 and 4; their ordinals in it are 0, 1 and 2
    rank 1       0   1   3
                               rank 0 received two batches, rank 1 one: ``done`` is {0, 1, 2}
    rank 0           1         the rest, dealt to three ranks
    rank 1             5
    rank 2               3
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from enqueuer.stream.order import LISTED_LENGTH, permutation, shard_length
from enqueuer.stream.ranges import FixedRanges, Ranges


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """One rank's part of one epoch.

    ``done`` holds the virtual positions (of ``range(total)``) received by any rank before the last change of ranks.
    The rest is dealt to the ranks: this rank's part is every ``world_size``-th of it from ``rank`` on. In an epoch
    without such a change all parts have the same size; in one that was dealt again some have one position more, since
    each remaining position comes exactly once. ``taken`` holds the ordinals, in this rank's part, of the positions it
    received before the session. ``order_epoch`` is the epoch of the order, if it is another one: an epoch that ended
    early left this one a rest.
    """

    length: int
    total: int
    shard: tuple[int, int]
    done: Ranges = field(default_factory=Ranges)
    taken: Ranges = field(default_factory=Ranges)
    order_epoch: int | None = None

    @classmethod
    def fresh(cls, length: int, shard: tuple[int, int], remainder: str) -> EpochPlan:
        return cls(length, shard[1] * shard_length(length, shard, remainder), shard)

    @property
    def count(self) -> int:
        """The size of this rank's part."""
        rank, world_size = self.shard
        remaining = self.total - len(self.done)
        return max(0, -(-(remaining - rank) // world_size))

    @property
    def left_count(self) -> int:
        return self.count - len(self.taken)

    def order(self, seed: int, epoch: int, *, shuffle: bool) -> Sequence[int]:
        """The indices left for this rank, in order."""
        order_epoch = epoch if self.order_epoch is None else self.order_epoch
        indices = permutation(seed, order_epoch, self.length, shuffle=shuffle)
        if self.left_count == self.total == self.length:
            return indices
        order = _OrderOfRest(indices, self)
        return array("q", order) if self.length <= LISTED_LENGTH else order

    def received(self, positions: Ranges) -> Ranges:
        """The ordinals, in this rank's part, of all it received: ``taken``, and these positions of `order`."""
        return self.taken.union(self._left.select(positions))

    @property
    def _left(self) -> Ranges:
        """The ordinals, in this rank's part, of the positions left."""
        return self.taken.complement(self.count)


class _OrderOfRest(Sequence[int]):
    """The indices left of a part, each computed at its access."""

    def __init__(self, indices: Sequence[int], plan: EpochPlan) -> None:
        self._indices = indices
        self._length = plan.length
        self._rank, self._world_size = plan.shard
        left = plan._left
        self._count = len(left)
        self._ordinals = FixedRanges(left) if plan.taken else range(self._count)
        self._remaining = FixedRanges(plan.done.complement(plan.total)) if plan.done else range(plan.total)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: Any) -> Any:
        found = self._ordinals[number]
        if not isinstance(found, int):
            return [self._index_at(ordinal) for ordinal in found]
        return self._index_at(found)

    def _index_at(self, ordinal: int) -> int:
        return self._indices[self._remaining[self._rank + ordinal * self._world_size] % self._length]


def merge_done(total: int, done: Ranges, parts: list[tuple[EpochPlan, Ranges]]) -> Ranges:
    """The virtual positions received by any rank: ``done``, and the ordinals given with each rank's plan.

    Ordinal k of rank r is number k · world_size + r of the remaining positions. The positions up to the slowest rank's
    progress are one range; each position beyond them has a flag.
    """
    world_size = parts[0][0].shard[1] if parts else 1
    begun = [received.ranges[0][1] if 0 in received else 0 for _, received in parts]
    first = min(begun) * world_size if len(parts) == world_size else 0
    stop = max([first, *((received.ranges[-1][1] if received else 0) * world_size for _, received in parts)])
    flags = bytearray(stop - first)
    for plan, received in parts:
        rank = plan.shard[0]
        for begin, end in received.ranges:
            begin = max(begin, first // world_size)
            if begin < end:
                at = begin * world_size + rank - first
                flags[at : at + (end - begin - 1) * world_size + 1 : world_size] = b"\1" * (end - begin)
    found = Ranges([(0, first)])
    start = flags.find(1)
    while start >= 0:
        end = flags.find(0, start)
        found.add(first + start, first + (len(flags) if end < 0 else end))
        start = -1 if end < 0 else flags.find(1, end)
    return done.union(done.complement(total).select(found))
