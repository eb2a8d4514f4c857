"""Which batches of an epoch are whose, also when some of them are done and the ranks have changed in the middle.

An epoch is a list of virtual positions, fixed when it is begun: ``world_size`` times as many as each rank has, and
position v stands for index ``order[v % length]``. They are dealt round robin to the ranks. After a resume with other
ranks, what is left of them is dealt again in the same way.
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

    ``done`` holds the virtual positions (of ``range(total)``) that were received, by whatever rank, before the ranks
    were last changed. The rest is dealt to the ranks: this one's part is every ``world_size``-th of it from ``rank``
    on. All ranks have equally many of an epoch that they began; of one that was dealt again some have one more than
    others, since each remaining position comes exactly once. ``taken`` are the places in this rank's own part that it
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
        """The indices that are left for this rank, in order."""
        indices = permutation(seed, epoch, self.length, shuffle=shuffle)
        if self.left_count == self.total == self.length:
            return indices
        part = self.part()
        return [indices[v % self.length] for start, stop in self._left.pairs for v in part[start:stop]]

    def received(self, opened: Ranges) -> Ranges:
        """Places in this rank's part: those taken before, and those with these places in `order`."""
        return self.taken.union(self._left.select(opened))

    @property
    def _left(self) -> Ranges:
        return self.taken.complement(self.count)


def all_done(total: int, done: Ranges, parts: list[tuple[EpochPlan, Ranges]]) -> Ranges:
    """``done``, and what each rank has received of its part."""
    flags = bytearray(total)
    for start, stop in done.pairs:
        flags[start:stop] = b"\1" * (stop - start)
    for plan, received in parts:
        part = plan.part()
        for start, stop in received.pairs:
            for position in part[start:stop]:
                flags[position] = 1
    found = Ranges()
    start = flags.find(1)
    while start >= 0:
        stop = flags.find(0, start)
        found.add(start, total if stop < 0 else stop)
        start = -1 if stop < 0 else flags.find(1, stop)
    return found
