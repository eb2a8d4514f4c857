"""The bounds on undelivered batches: by number (`FixedDepth`, `AutoDepth`) and by bytes (`ByteBound`)."""

from __future__ import annotations

import math

# The automatic depth is reviewed after this many times as many deliveries.
_WINDOW = 4
# A review gives up this part of an unused depth.
_GIVEN_UP = 0.5
# Weight of a message with lighter batches than recent ones; heavier ones are believed at once.
_LIGHTER_WEIGHT = 0.05


class FixedDepth:
    """``max_queue_size`` as a number, and a batch in each slot on top of it; 0 or less: no bound."""

    def __init__(self, max_queue_size: int) -> None:
        self._max_queue_size = max_queue_size

    def bound(self, slots: int) -> float:
        """Batches that may be undelivered with this many slots."""
        return self._max_queue_size + slots if self._max_queue_size > 0 else math.inf

    def deepen(self, bound: int) -> None:
        """Ignore that the trainer waits while slots are idle: the caller has fixed the depth."""

    def note(self, ready_count: int, delivered_total: int, slots: int) -> bool:
        """Note the batches ready to be taken; returns whether the bound may have changed: never."""
        return False


class AutoDepth:
    """Deep enough for slots to compute on while the trainer waits for a late batch, and hardly deeper.

    It begins at two batches a slot. When the trainer waits while slots are idle, it deepens at once. When some batches
    were ready all the time of a review, half of those were of no use, and it becomes shallower by them.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._least_ready = math.inf
        self._window_end = 0

    def bound(self, slots: int) -> float:
        """Batches that may be undelivered with this many slots."""
        return max(self._depth, 2 * slots + 1)

    def deepen(self, bound: int) -> None:
        """Allow at least ``bound`` undelivered batches."""
        self._depth = max(self._depth, bound)
        self._least_ready = 0

    def note(self, ready_count: int, delivered_total: int, slots: int) -> bool:
        """Note the batches ready to be taken; returns whether the bound may have changed."""
        self._least_ready = min(self._least_ready, ready_count)
        if delivered_total < self._window_end:
            return False
        if self._least_ready < math.inf:
            self._depth = int(self.bound(slots) - _GIVEN_UP * self._least_ready)
        self._least_ready = math.inf
        self._window_end = delivered_total + int(_WINDOW * self.bound(slots))
        return True


def make_depth(max_queue_size: int | None) -> FixedDepth | AutoDepth:
    """The depth for a fixed ``max_queue_size``, or the automatic one for None."""
    return AutoDepth() if max_queue_size is None else FixedDepth(max_queue_size)


class ByteBound:
    """How many more leases ``max_bytes`` allows.

    Received batches count with their own bytes. A lease for an idle slot counts as a recent batch, a queueing lease as
    the heaviest batch of this epoch and the one before. So even where light and heavy batches come in turns, the
    undelivered ones exceed ``max_bytes`` by one batch a slot at most, once one as heavy has come.
    """

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
        """Whether any batch has been weighed."""
        return self._recent > 0.0

    def room_for_idle(self, held: int, leased_count: int) -> float:
        """Leases for idle slots, with ``held`` bytes of batches received; below 0: too many."""
        return (self._max_bytes - held) // self._recent - leased_count

    def room_for_queues(self, held: int, leased_count: int) -> float:
        """Leases to queue behind others."""
        return (self._max_bytes - held) // max(self._heaviest, self._heaviest_before) - leased_count
