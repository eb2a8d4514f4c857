"""The verdict, live: reads counters once a second, and compares the latest with the counters of a window ago.

I/O thread ── look ──► Counters ──► the latest ones, up to ten minutes ──► Window ──► judge ──► verdict, log line
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise

from enqueuer.core.verdict import LEAST_BATCHES, LEAST_SECONDS, Cause, Verdict, judge
from enqueuer.core.window import LateBatch, Window

logger = logging.getLogger("enqueuer")

_READ_SECONDS = 1.0
# A trainer with long steps reaches the least number of batches late; older counters describe another time.
_LONGEST_WINDOW = 600.0
_LOG_SECONDS = 60.0
# The published number of slots falls only after it was too high for this long: engines must not swing.
_FALL_SECONDS = 300.0
# The seconds of work a batch are those of most of these parts of the window.
_PARTS = 3
# A cause must hold for this long before the log names it.
_SETTLED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts since the session began, and the present state. The fields have the names of `Window`'s."""

    batches_count: int = 0
    wait_seconds: float = 0.0
    busy_seconds: float = 0.0
    # Batches computed by workers, whether taken or not.
    computed_count: int = 0
    failures_count: int = 0
    ready_wait_seconds: float = 0.0
    received_bytes: int = 0
    io_thread_seconds: float = 0.0
    probes_count: int = 0
    held_count: int = 0
    sending_seconds: float = 0.0
    read_bytes: int = 0
    # Sums over workers with heartbeats: seconds with a processor or in wait for one, and seconds of their items.
    worker_cpu_seconds: float = 0.0
    worker_busy_seconds: float = 0.0
    slots_count: int = 0
    compression_ratio: float = 1.0
    refused: str = ""
    # The late batch: half of the bound waits for it while a slot is idle. None: no batch is late now.
    late_batch: LateBatch | None = None


# The other fields are totals, which only grow.
_OF_THE_MOMENT = ("slots_count", "compression_ratio", "refused", "late_batch")
_TOTALS = tuple(field.name for field in fields(Counters) if field.name not in _OF_THE_MOMENT)


@dataclass(frozen=True, slots=True)
class _Moment:
    # The clock stands still during a pause, and so do the totals.
    at: float
    counters: Counters
    # Seconds since the beginning in which a late batch kept slots idle.
    blocked_seconds: float
    # Seconds since the beginning, times the number of slots at the time.
    slot_seconds: float


class VerdictWatch:
    """Judges the latest window. The I/O thread calls the methods. Any thread may read the attributes."""

    def __init__(self, read: Callable[[], Counters], now: float) -> None:
        self._read = read
        self._moments: deque[_Moment] = deque([_Moment(now, Counters(), 0.0, 0.0)])
        self._late_batch: LateBatch | None = None
        self.verdict = Verdict(Cause.TOO_EARLY, 0.0, None, "too early to tell")
        # The number of slots for engines to start; None while unknown.
        self.desired_slots: int | None = None
        # Batches a second, as measured by a probe.
        self.probed_rate: float | None = None
        self._is_paused = False
        # The length of all pauses, and the counts in them: no window has them.
        self._paused_seconds = 0.0
        self._paused_counters = Counters()
        self._too_many_since = math.inf
        self._held_since = now
        self._told: Cause | None = None
        self._told_at = -math.inf

    def look(self, now: float) -> None:
        """Read the counters and judge, if a second has passed since the last time and no pause is on."""
        last = self._moments[-1]
        if now - self._paused_seconds - last.at < _READ_SECONDS:
            return
        if self._is_paused:
            read = self._read()
            if _less(read, self._paused_counters).batches_count == last.counters.batches_count:
                self._leave_out(now, read)
                return
            self._is_paused = False  # nobody ended it, and the training goes on
        self._note_moment(now)
        self._renew(now)
        self._tell(now)

    def pause(self, now: float) -> None:
        """Judge nothing until `resume`, and have nothing of that time in a window: the trainer takes no batches."""
        if not self._is_paused:
            self._note_moment(now)
            self._is_paused = True

    def resume(self, now: float, probed_rate: float | None) -> None:
        """Judge again after a pause.

        ``probed_rate``, in batches a second, counts from now on, and the time before the pause is judged by it at once.
        None: no rate was measured.
        """
        if self._is_paused:
            self._leave_out(now, self._read())
            self._is_paused = False
        if probed_rate is not None:
            self.probed_rate = probed_rate
            self._too_many_since = -math.inf  # measured, so a larger number from before is not kept
            self._renew(now)

    def _leave_out(self, now: float, read: Counters) -> None:
        """Take what has passed since the last moment for a pause."""
        last = self._moments[-1]
        self._paused_seconds = now - last.at
        self._paused_counters = _less(read, last.counters)

    def _note_moment(self, now: float) -> None:
        """Read the counters."""
        last = self._moments[-1]
        at = now - self._paused_seconds
        counters = _less(self._read(), self._paused_counters)
        late = counters.late_batch
        if late is not None:
            self._late_batch = late
        # The late batch came or went somewhere between two looks: half of the time, on average.
        ends_count = (late is not None) + (last.counters.late_batch is not None)
        blocked = last.blocked_seconds + (at - last.at) * ends_count / 2
        slot_seconds = last.slot_seconds + (at - last.at) * last.counters.slots_count
        if counters.batches_count and not last.counters.batches_count:
            # The workers were starting until now: the window begins here.
            self._moments.clear()
        self._moments.append(_Moment(at, counters, blocked, slot_seconds))
        self._forget()

    def _renew(self, now: float) -> None:
        verdict = self._judge(now)
        if verdict.cause is not self.verdict.cause:
            self._held_since = now
        self.verdict = verdict

    def _judge(self, now: float) -> Verdict:
        """The verdict on the latest window; it advises the published number of slots, as all views do."""
        window = self.window
        verdict = judge(window)
        if verdict.desired_slots is None:
            return verdict
        self._publish(verdict.desired_slots, now)
        return judge(replace(window, published_slots=self.desired_slots))

    def _forget(self) -> None:
        """Drop old moments; the shortest window with enough seconds and batches stays."""
        moments, newest = self._moments, self._moments[-1]
        while len(moments) > 2:
            follower = moments[1]
            is_long = newest.at - follower.at >= LEAST_SECONDS
            has_batches = newest.counters.batches_count - follower.counters.batches_count >= LEAST_BATCHES
            if not (is_long and has_batches) and newest.at - moments[0].at < _LONGEST_WINDOW:
                return
            moments.popleft()

    @property
    def window(self) -> Window:
        """The counts of the latest window."""
        first, last = self._moments[0], self._moments[-1]
        before, after = first.counters, last.counters
        cpu = after.worker_cpu_seconds - before.worker_cpu_seconds
        busy = after.worker_busy_seconds - before.worker_busy_seconds
        return Window(
            seconds=last.at - first.at,
            batches_count=after.batches_count - before.batches_count,
            wait_seconds=after.wait_seconds - before.wait_seconds,
            slots_count=after.slots_count,
            slot_seconds=last.slot_seconds - first.slot_seconds,
            busy_seconds=after.busy_seconds - before.busy_seconds,
            item_seconds=self._work_seconds(),
            failures_count=after.failures_count - before.failures_count,
            blocked_seconds=last.blocked_seconds - first.blocked_seconds,
            late_batch=self._late_batch,
            ready_wait_seconds=after.ready_wait_seconds - before.ready_wait_seconds,
            received_bytes=after.received_bytes - before.received_bytes,
            compression_ratio=after.compression_ratio,
            refused=after.refused,
            io_thread_seconds=after.io_thread_seconds - before.io_thread_seconds,
            probes_count=after.probes_count - before.probes_count,
            held_count=after.held_count - before.held_count,
            sending_seconds=after.sending_seconds - before.sending_seconds,
            read_bytes=after.read_bytes - before.read_bytes,
            computing_share=min(1.0, cpu / busy) if busy > 0 else None,
            probed_rate=self.probed_rate,
        )

    def _work_seconds(self) -> tuple[float, ...]:
        """The seconds of work a batch in each part of the window with a batch.

        One slow batch makes one part an outlier; work with a slow batch now and then has some in every part.
        """
        last = len(self._moments) - 1
        ends = [self._moments[last * part // _PARTS].counters for part in range(_PARTS + 1)]
        return tuple(
            (after.busy_seconds - before.busy_seconds) / (after.computed_count - before.computed_count)
            for before, after in pairwise(ends)
            if after.computed_count > before.computed_count
        )

    def _publish(self, wanted: int, now: float) -> None:
        """Raise the published number at once, and lower it only after it was too high for minutes."""
        if self.desired_slots is None or wanted >= self.desired_slots:
            self.desired_slots, self._too_many_since = wanted, math.inf
            return
        self._too_many_since = min(self._too_many_since, now)
        if now - self._too_many_since >= _FALL_SECONDS:
            self.desired_slots, self._too_many_since = wanted, math.inf

    def _tell(self, now: float) -> None:
        cause = self.verdict.cause
        if cause in (Cause.TOO_EARLY, self._told) or now - self._held_since < _SETTLED_SECONDS:
            return
        if now - self._told_at >= _LOG_SECONDS:
            self._told, self._told_at = cause, now
            logger.info("%s", self.verdict)


def _less(counters: Counters, other: Counters) -> Counters:
    """These counters, with the totals of the other ones taken off."""
    return replace(counters, **{name: getattr(counters, name) - getattr(other, name) for name in _TOTALS})
