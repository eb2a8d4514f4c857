"""A window: the counts between two moments of a training, and the shares and rates derived from them.

`verdict` judges it. `desired_slots` is ceil(1.1 · c · p): enough for the trainer, and a tenth more (tf.data
service's rule, `OptimalNumberOfWorkersRequiredByIterator`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_HEAD_ROOM = 1.1
# A trainer that works less than this part of the window may be any number of times as fast as it was. The window's
# figure is then the loop's own overhead, which said "add 2296"; so no window asks for more than this many times the
# rate. The next one, with more workers, sees further.
MOST_GROWTH = 8


@dataclass(frozen=True, slots=True)
class LateBatch:
    """The batch with the most others waiting behind it."""

    epoch: int
    index: int
    host: str


@dataclass(frozen=True, slots=True)
class Window:
    """The counts between two moments.

    Attributes:
        seconds: The length of the window.
        batches_count: Batches taken by the trainer.
        wait_seconds: The trainer's waiting time for batches, without the wait for the very first one.
        slots_count: Slots of workers taking leases, at the window's end.
        busy_seconds: Slot seconds in which a batch was computed.
        item_seconds: Seconds of work a batch, in each part of the window.
        failures_count: Failed batches and lost workers.
        blocked_seconds: Seconds in which a slot was idle while at least half of the bound waited behind one late batch.
        late_batch: The batch with the most others waiting behind it.
        ready_wait_seconds: The trainer's waiting time while a batch was ready and not yet taken.
        probes_count: The number of looks for another thread holding the interpreter while the trainer waits.
        held_count: The number of looks with such a thread.
        received_bytes: Bytes received over the network, as they travelled.
        sending_seconds: Slot seconds in which a worker had nothing to compute while its batches were on their way.
        compression_ratio: Bytes of batches for each byte sent.
        io_thread_seconds: Processor seconds of the trainer's I/O thread.
        computing_share: The part of their items' time in which workers used a processor or waited for a free one;
            None where they do not tell.
        read_bytes: Bytes read by workers from files and pipes.
        probed_rate: Batches a second taken by the trainer from memory, if a probe has measured it.
        refused: Workers that came and were refused, with the reasons; '' if others serve.
        slot_seconds: The seconds that all slots were there, summed; None: those at the window's end, all of the time.
        published_slots: The number that engines go by, where it is kept for longer than a window; None: the window's.
    """

    seconds: float
    batches_count: int
    wait_seconds: float
    slots_count: int
    busy_seconds: float
    item_seconds: tuple[float, ...] = ()
    failures_count: int = 0
    blocked_seconds: float = 0.0
    late_batch: LateBatch | None = None
    ready_wait_seconds: float = 0.0
    probes_count: int = 0
    held_count: int = 0
    received_bytes: int = 0
    sending_seconds: float = 0.0
    compression_ratio: float = 1.0
    io_thread_seconds: float = 0.0
    computing_share: float | None = None
    read_bytes: int = 0
    probed_rate: float | None = None
    refused: str = ""
    slot_seconds: float | None = None
    published_slots: int | None = None

    @property
    def available_seconds(self) -> float:
        """Slot seconds in which a batch could be computed."""
        return self.slots_count * self.seconds if self.slot_seconds is None else self.slot_seconds

    @property
    def wait_share(self) -> float:
        """``w``, from 0.0 to 1.0."""
        return min(1.0, self.wait_seconds / self.seconds) if self.seconds > 0 else 0.0

    @property
    def rate(self) -> float:
        """Batches a second taken by the trainer."""
        return self.batches_count / self.seconds if self.seconds > 0 else 0.0

    @property
    def demand(self) -> float:
        """``c``: the rate of a trainer without waiting, in batches a second, as far as the window can tell."""
        if self._is_probed and self.probed_rate is not None:
            return self.probed_rate
        working = self.seconds - self.wait_seconds
        return MOST_GROWTH * self.rate if self.is_demand_unseen or working <= 0 else self.batches_count / working

    @property
    def _is_probed(self) -> bool:
        """Whether a probe's rate holds: a trainer that takes more than it has changed since."""
        return self.probed_rate is not None and self.rate <= self.probed_rate

    @property
    def is_demand_unseen(self) -> bool:
        """Whether the trainer does little but wait, so the window cannot show how fast it could be."""
        return not self._is_probed and MOST_GROWTH * (self.seconds - self.wait_seconds) < self.seconds

    @property
    def work_seconds(self) -> float:
        """``p``: the mean of the parts' times, those further off than the deviation replaced by the median."""
        return mean_without_outliers(self.item_seconds)

    @property
    def busy_share(self) -> float:
        """``u``, from 0.0 to 1.0."""
        available = self.available_seconds
        return min(1.0, self.busy_seconds / available) if available > 0 else 0.0

    @property
    def sending_share(self) -> float:
        """The part of the slots' idle time in which their batches were on their way, from 0.0 to 1.0."""
        idle = self.available_seconds - self.busy_seconds
        return min(1.0, self.sending_seconds / idle) if idle > 0 else 0.0

    @property
    def blocked_share(self) -> float:
        """The part of the window in which a slot was idle behind one late batch."""
        return self.blocked_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def late_share(self) -> float:
        """The part of the window in which a batch was ready while the trainer still waited."""
        return self.ready_wait_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def held_share(self) -> float:
        """The part of the looks in which another thread held the interpreter, from 0.0 to 1.0."""
        return self.held_count / self.probes_count if self.probes_count else 0.0

    @property
    def io_thread_share(self) -> float:
        """The use of a core by the trainer's I/O thread, from 0.0 to 1.0."""
        return self.io_thread_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def desired_slots(self) -> int | None:
        """The number of slots to keep up with the trainer; None if the window does not say."""
        if self.published_slots is not None:
            return self.published_slots
        wanted = _HEAD_ROOM * self.demand * self.work_seconds
        return max(1, math.ceil(wanted)) if 0 < wanted < math.inf else None


def mean_without_outliers(values: Sequence[float]) -> float:
    """The mean, with values further off than the deviation replaced by the median; 0.0 of none."""
    if not values:
        return 0.0
    mean, median = statistics.fmean(values), statistics.median(values)
    # Two values are one deviation off each; rounding must not make them outliers.
    furthest = (1 + 1e-9) * statistics.pstdev(values)
    return statistics.fmean(median if abs(value - mean) > furthest else value for value in values)
