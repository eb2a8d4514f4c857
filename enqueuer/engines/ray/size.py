"""How many workers a fleet has: a pure decision on what the trainer wants."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """What a trainer wants of its fleet now.

    Attributes:
        address: Where workers reach the trainer; None while that is not known.
        in_session: Whether the trainer takes batches: between ``start()`` and ``stop()``.
        desired_slots: Slots that keep up with the trainer; None while that is not known.
        other_slots: Slots of workers that do not belong to the fleet, such as local ones.
    """

    address: str | None
    in_session: bool = False
    desired_slots: int | None = None
    other_slots: int = 0


class FleetSize:
    """The number of workers, between ``least`` and ``most``.

    It follows ``desired_slots``, which falls only after minutes. While that is not known, the number stays as it is, so
    a trainer that stops and starts again keeps its fleet; but a session without any other worker has at least one of
    the fleet. After ``idle_timeout`` seconds without a session it is ``least``.
    """

    def __init__(self, least: int, most: int, idle_timeout: float) -> None:
        self.workers_count = least
        self._least, self._most = least, most
        self._idle_timeout = idle_timeout
        self._idle_since = math.inf

    def decide(self, demand: Demand, now: float) -> int:
        """The number of workers from now on."""
        wanted = self.workers_count
        if not demand.in_session:
            self._idle_since = min(self._idle_since, now)
            if now - self._idle_since >= self._idle_timeout:
                wanted = self._least
        else:
            self._idle_since = math.inf
            if demand.desired_slots is not None:
                wanted = demand.desired_slots - demand.other_slots
            elif not demand.other_slots:
                wanted = max(wanted, 1)
        self.workers_count = min(self._most, max(self._least, wanted))
        return self.workers_count
