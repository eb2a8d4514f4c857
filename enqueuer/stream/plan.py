"""Each rank's part of an epoch, also if the number of ranks changes in the middle of it.

An epoch is a list of virtual positions, fixed when it begins: ``world_size`` times the shard's length. Position v is
that of index ``order[v % length]``. Positions are dealt round robin to the ranks. After a resume with other ranks, the
remaining positions are dealt again in the same way:

    position   0 1 2 3 4 5     ``order`` is 4 0 2 1 5 3
    rank 0     4   2   5       its part: positions 0, 2 and 4; their ordinals in it are 0, 1 and 2
    rank 1       0   1   3
                               rank 0 received two batches, rank 1 one: ``done`` is {0, 1, 2}
    rank 0           1         the rest, dealt to three ranks
    rank 1             5
    rank 2               3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from enqueuer.stream.order import permutation, shard_length
from enqueuer.stream.ranges import Ranges


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """One rank's part of one epoch.

    ``done`` holds the virtual positions (of ``range(total)``) that any rank received before the last change of ranks.
    The rest is dealt to the ranks: this rank's part is every ``world_size``-th of it from ``rank`` on. In an epoch
    without such a change all parts have the same size; in one that was dealt again some have one position more, since
    each remaining position comes exactly once. ``taken`` holds the ordinals, in this rank's part, of the positions it
    received before the session.
    """

    length: int
    total: int
    shard: tuple[int, int]
    done: Ranges = field(default_factory=Ranges)
    taken: Ranges = field(default_factory=Ranges)

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

    def part(self) -> Sequence[int]:
        """The virtual positions of this rank's part, in order."""
        rank, world_size = self.shard
        if not self.done:
            return range(rank, self.total, world_size)
        return list(islice(self.done.complement(self.total), rank, None, world_size))

    def order(self, seed: int, epoch: int, *, shuffle: bool) -> Sequence[int]:
        """The indices left for this rank, in order."""
        indices = permutation(seed, epoch, self.length, shuffle=shuffle)
        if self.left_count == self.total == self.length:
            return indices
        part = self.part()
        return [indices[v % self.length] for start, stop in self._left.ranges for v in part[start:stop]]

    def received(self, positions: Ranges) -> Ranges:
        """The ordinals, in this rank's part, of all it received: ``taken``, and these positions of `order`."""
        return self.taken.union(self._left.select(positions))

    @property
    def _left(self) -> Ranges:
        """The ordinals, in this rank's part, of all that is left."""
        return self.taken.complement(self.count)


def merge_done(total: int, done: Ranges, parts: list[tuple[EpochPlan, Ranges]]) -> Ranges:
    """The virtual positions that any rank received: ``done``, and the ordinals given with each rank's plan."""
    flags = bytearray(total)
    for start, stop in done.ranges:
        flags[start:stop] = b"\1" * (stop - start)
    for plan, received in parts:
        part = plan.part()
        for start, stop in received.ranges:
            for position in part[start:stop]:
                flags[position] = 1
    found = Ranges()
    start = flags.find(1)
    while start >= 0:
        stop = flags.find(0, start)
        found.add(start, total if stop < 0 else stop)
        start = -1 if stop < 0 else flags.find(1, stop)
    return found
