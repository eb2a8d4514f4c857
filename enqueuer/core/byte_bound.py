"""How many more leases ``max_bytes`` allows.

What has come counts as what it weighs. What is leased is not known yet: for an idle slot it counts as batches weigh
lately, to queue behind that as the heaviest of this epoch and the one before. So even where light and heavy batches
come in turns, what is undelivered goes beyond ``max_bytes`` by one batch a slot at most, once one as heavy has come.
"""

from __future__ import annotations

# Weight of a message whose batches are lighter than they were lately; heavier ones are believed at once.
_LIGHTER_WEIGHT = 0.05


class ByteBound:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._recent = 0.0
        self._epoch = -1
        self._heaviest = self._heaviest_before = 0

    def note_weight(self, epoch: int, nbytes: int) -> None:
        """A message brought batches of this many bytes each."""
        nbytes = max(1, nbytes)
        self._recent = max(nbytes, self._recent + _LIGHTER_WEIGHT * (nbytes - self._recent))
        if epoch > self._epoch:
            self._epoch = epoch
            self._heaviest, self._heaviest_before = 0, self._heaviest
        self._heaviest = max(nbytes, self._heaviest)

    @property
    def is_known(self) -> bool:
        """Whether anything is known of what batches weigh."""
        return self._recent > 0.0

    def room_for_idle(self, held: int, leased_count: int) -> float:
        """Leases for slots that have nothing to do, where batches of ``held`` bytes are here; below 0: too many."""
        return (self._max_bytes - held) // self._recent - leased_count

    def room_for_queues(self, held: int, leased_count: int) -> float:
        """Leases that wait behind others."""
        return (self._max_bytes - held) // max(self._heaviest, self._heaviest_before) - leased_count
