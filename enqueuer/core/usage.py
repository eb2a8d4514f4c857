"""Workers' use of their machines, from their heartbeats: processor time, bytes read, and waiting for the network.

The figures of a heartbeat count from the start of the worker's process, so a lost heartbeat loses nothing. Each figure
is compared with the previous heartbeat's. The first heartbeat after the worker's first batch is the beginning: reads
and imports before it (to start, to build the Sequence, for the first item) do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from enqueuer.protocol.messages import Heartbeat


@dataclass(frozen=True, slots=True)
class Told:
    """The figures and the time of one heartbeat; ``busy_seconds`` are those of the worker's answers by then."""

    at: float
    cpu_seconds: float
    busy_seconds: float
    read_bytes: int
    sending_seconds: float

    @classmethod
    def by(cls, beat: Heartbeat, busy_seconds: float, now: float) -> Told:
        return cls(now, beat.cpu_seconds, busy_seconds, beat.read_bytes, beat.sending_seconds)


class FleetUsage:
    """Sums over all workers with heartbeats, departed ones included.

    ``busy_seconds`` are the compute times of the same workers in the same time, to compare ``cpu_seconds`` with.
    """

    def __init__(self) -> None:
        self.cpu_seconds = self.busy_seconds = self.sending_seconds = 0.0
        self.read_bytes = 0

    def note(self, before: Told | None, after: Told) -> None:
        """Add a worker's use between two heartbeats."""
        if before is None:
            return
        elapsed = after.at - before.at
        self.cpu_seconds += _at_most(elapsed, after.cpu_seconds - before.cpu_seconds)
        self.sending_seconds += _at_most(elapsed, after.sending_seconds - before.sending_seconds)
        self.busy_seconds += after.busy_seconds - before.busy_seconds
        self.read_bytes += max(0, after.read_bytes - before.read_bytes)


def _at_most(elapsed: float, seconds: float) -> float:
    """``seconds``, but at most ``elapsed``: more come from several threads of one item, or from a false claim."""
    return min(elapsed, seconds) if seconds > 0 else 0.0
