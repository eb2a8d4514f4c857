"""The number of workers of a fleet: a pure decision, made from the trainer's demand."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """A trainer's demand on its fleet now.

    Attributes:
        address: The trainer's address for workers; None while unknown.
        in_session: Whether the trainer takes batches: between ``start()`` and ``stop()``.
        desired_slots: The number of slots to keep up with the trainer; None while unknown.
        other_slots: Slots of workers outside of the fleet, such as local ones.
    """

    address: str | None
    in_session: bool = False
    desired_slots: int | None = None
    other_slots: int = 0


class FleetSize:
    """The number of workers, between ``least`` and ``most``.

    The number follows ``desired_slots``, which falls only after minutes. While ``desired_slots`` is unknown, the number
    stays as it is, so the fleet survives a stop and start of the trainer; but a session without any other worker gets
    at least one. After ``idle_timeout`` seconds without a session the number is ``least``.
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
