"""How many batches may be undelivered: as many as the caller said, or as many as the trainer's waiting asks for."""

from __future__ import annotations

import math

# The automatic depth is looked at again after so many times as many batches were delivered.
_WINDOW = 4
# Of what nobody needed in that time, the part that is given up.
_GIVEN_UP = 0.5


class FixedDepth:
    """``max_queue_size`` as a number, and a batch in each slot on top of it; 0 or less: no bound."""

    def __init__(self, max_queue_size: int) -> None:
        self._max_queue_size = max_queue_size

    def bound(self, slots: int) -> float:
        return self._max_queue_size + slots if self._max_queue_size > 0 else math.inf

    def deepen(self, bound: int) -> None:
        """The trainer waits, and idle slots could do more within this bound: the caller wanted it so."""

    def note(self, ready_count: int, delivered_total: int, slots: int) -> bool:
        """How much is ready to be taken; whether the bound may be another one now."""
        return False


class AutoDepth:
    """Deep enough that slots compute on while the trainer waits for a late batch, and hardly deeper.

    It begins at two batches a slot. It is deepened at once, by whoever sees the trainer wait while slots are idle, and
    becomes shallower again, by half of what was ready at all times of a while and so was of no use.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._least_ready = math.inf
        self._window_end = 0

    def bound(self, slots: int) -> float:
        return max(self._depth, 2 * slots + 1)

    def deepen(self, bound: int) -> None:
        self._depth = max(self._depth, bound)
        self._least_ready = 0

    def note(self, ready_count: int, delivered_total: int, slots: int) -> bool:
        self._least_ready = min(self._least_ready, ready_count)
        if delivered_total < self._window_end:
            return False
        if self._least_ready < math.inf:
            self._depth = int(self.bound(slots) - _GIVEN_UP * self._least_ready)
        self._least_ready = math.inf
        self._window_end = delivered_total + int(_WINDOW * self.bound(slots))
        return True


def make_depth(max_queue_size: int | None) -> FixedDepth | AutoDepth:
    """None: it finds the depth by itself."""
    return AutoDepth() if max_queue_size is None else FixedDepth(max_queue_size)
