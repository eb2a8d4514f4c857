"""How many more leases ``max_bytes`` allows.

What has come counts as what it weighs. What is leased is not known yet: for an idle slot it counts as batches weigh
lately, to queue behind that as the heaviest there was. So even where light and heavy batches come in turns, what is
undelivered goes beyond ``max_bytes`` by one batch a slot at most, once a heavy one has come.
"""

from __future__ import annotations

# Weight of a batch that is lighter than they were lately; a heavier one is believed at once.
_LIGHTER_WEIGHT = 0.05
# The same for the heaviest one, which is forgotten after some thousand.
_FORGOTTEN = 0.001


class ByteBound:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._recent = 0.0
        self._heaviest = 0.0

    def note_batches(self, count: int, nbytes: float) -> None:
        """So many came together, of ``nbytes`` each."""
        nbytes = max(1.0, nbytes)
        if nbytes >= self._recent:
            self._recent = nbytes
        else:
            self._recent += _LIGHTER_WEIGHT * (nbytes - self._recent)
        self._heaviest = max(self._recent, self._heaviest + min(1.0, _FORGOTTEN * count) * (nbytes - self._heaviest))

    @property
    def is_known(self) -> bool:
        """Whether anything is known of what batches weigh."""
        return self._heaviest > 0.0

    def room_for_idle(self, held: float, leased_count: int) -> float:
        """Leases for slots that have nothing to do, where batches of ``held`` bytes are here; below 0: too many."""
        return (self._max_bytes - held) // self._recent - leased_count

    def room_for_queues(self, held: float, leased_count: int) -> float:
        """Leases that wait behind others."""
        return (self._max_bytes - held) // self._heaviest - leased_count
