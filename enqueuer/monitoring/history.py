"""The history of a session in an observer's eyes, for plots. Pure: times are the trainer's.

    snapshots ──► moments, each with the rates since the one before ──► columns of a plot: means over equal spans

A snapshot of another session begins a new history.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from enqueuer.protocol.observation import Snapshot

# The longest span of a plot, in seconds.
LONGEST_SPAN = 1_800.0
# Closer snapshots give no rate: a large fleet takes several pages at once.
_LEAST_SECONDS = 0.4
# Moments further apart have a gap between them: the trainer did not answer.
_GAP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Moment:
    """The session ``seconds`` after its start; the rate and the share of waiting count since the previous moment."""

    seconds: float
    batches_per_second: float
    wait_share: float
    ready_count: int
    received_count: int
    leased_count: int


def is_another_session(before: Snapshot, after: Snapshot) -> bool:
    """Whether the later snapshot is of another session: of another process, or of another ``start()``."""
    return (before.host, before.pid) != (after.host, after.pid) or after.elapsed_seconds < before.elapsed_seconds


class History:
    """The latest half hour of one session."""

    def __init__(self) -> None:
        self.moments: deque[Moment] = deque()
        # The snapshots behind the rate over the latest seconds, the oldest first.
        self._recent: deque[Snapshot] = deque()

    def add(self, snapshot: Snapshot) -> None:
        """Add a later snapshot of the same session. A snapshot too close to the last one is left out."""
        if not self._recent:
            self._recent.append(snapshot)
            return
        last = self._recent[-1]
        if snapshot.elapsed_seconds - last.elapsed_seconds < _LEAST_SECONDS:
            return
        rate, share = _rate_and_wait(last, snapshot)
        self._recent.append(snapshot)
        self.moments.append(
            Moment(
                snapshot.elapsed_seconds,
                rate,
                share,
                snapshot.ready_count,
                snapshot.received_count,
                snapshot.leased_count,
            )
        )
        while len(self._recent) > 2 and snapshot.elapsed_seconds - self._recent[1].elapsed_seconds >= 10.0:
            self._recent.popleft()
        while snapshot.elapsed_seconds - self.moments[0].seconds > LONGEST_SPAN:
            self.moments.popleft()

    @property
    def recent(self) -> tuple[float, float] | None:
        """Batches a second and the share of waiting over the latest ten seconds; None before the second snapshot."""
        return _rate_and_wait(self._recent[0], self._recent[-1]) if len(self._recent) > 1 else None

    def columns(self, value: Callable[[Moment], float], span: float, count: int) -> list[float | None]:
        """The latest ``span`` seconds as ``count`` means, the oldest first; None for a time without a moment.

        Columns begin at multiples of their width, so a plot moves by whole columns.
        """
        columns: list[float | None] = [None] * count
        if not self.moments or count < 1:
            return columns
        width = span / count
        last = math.floor(self.moments[-1].seconds / width)
        sums, counts = [0.0] * count, [0] * count
        filled = -1
        before: Moment | None = None
        for moment in self.moments:
            column = math.floor(moment.seconds / width) - last + count - 1
            if column >= 0:
                sums[column] += value(moment)
                counts[column] += 1
                # Where columns are narrower than the time between moments, a moment fills the empty ones before it.
                is_near = before is not None and moment.seconds - before.seconds <= _GAP_SECONDS
                for empty in range(max(filled + 1, 0), column) if is_near else ():
                    columns[empty] = value(moment)
            filled = max(filled, column)
            before = moment
        for column, counted in enumerate(counts):
            if counted:
                columns[column] = sums[column] / counted
        return columns


def _rate_and_wait(before: Snapshot, after: Snapshot) -> tuple[float, float]:
    seconds = after.elapsed_seconds - before.elapsed_seconds
    rate = (after.batches_total - before.batches_total) / seconds
    share = (after.wait_seconds - before.wait_seconds) / seconds
    return max(0.0, rate), min(1.0, max(0.0, share))
