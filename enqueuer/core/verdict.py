"""The verdict: what holds the training back, by how much, and what mends it. A pure function of one window's counters.

The signs are, over the window,

    w  share of the time that the trainer waited        c  batches a second that it would take if it never waited
    p  seconds of work a batch                          S  slots of all workers
    u  share of the slots' time in which they computed

`desired_slots` is ceil(1.1 · c · p): what keeps up with the trainer, and a tenth more (tf.data service's rule,
`OptimalNumberOfWorkersRequiredByIterator`). The bands of ``w`` are those of XProf's input-pipeline analyzer: below 5 %
input is not the limit, from 20 % on it is the first thing to mend.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

# A window says nothing below these.
LEAST_SECONDS = 30.0
LEAST_BATCHES = 20
# The bands of the wait share.
NOT_THE_LIMIT = 0.05
FIX_FIRST = 0.20
_HEAD_ROOM = 1.1
# A trainer that works less than this part of the window may be any number of times as fast as it was. The window's
# figure is then the loop's own overhead, which said "add 2296"; so no window asks for more than this many times the
# rate. The next one, with more workers, sees further.
MOST_GROWTH = 8
# Slots that compute this share of the time are all that there is.
_BUSY = 0.9
# Of the time that the trainer waited, for a sign to explain it.
_EXPLAINED = 0.5
_THREAD_IS_FULL = 0.85
# Looks at the interpreter: fewer say nothing.
_LEAST_PROBES = 3
# Workers that use less processor time than this share of their items' time wait for something else.
_COMPUTING = 0.5
# Bytes a batch: workers that read less wait for something else than storage. Sockets do not count.
_READS = 1024


class Cause(Enum):
    """What holds the training back."""

    TOO_EARLY = "too early to tell"
    NO_WORKERS = "no workers"
    ERRORS = "errors"
    NOTHING = "the trainer itself"
    WORKERS = "too few workers"
    ORDER = "one late batch"
    NETWORK = "the network"
    COORDINATOR = "the coordinator"
    STORAGE = "storage"
    INTERPRETER = "the trainer's interpreter"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class LateBatch:
    """The batch that the most others waited for."""

    epoch: int
    index: int
    host: str


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted between two moments.

    Attributes:
        seconds: The length of the window.
        batches_count: Batches that the trainer took.
        wait_seconds: Seconds that the trainer waited for one, without the wait for the first batch of all.
        slots_count: Slots of the workers that take leases, at the window's end.
        busy_seconds: Slot seconds in which a batch was computed.
        item_seconds: Seconds of work a batch, of each worker.
        failures_count: Batches that raised, and workers that were lost.
        blocked_seconds: Seconds in which a slot was idle while at least half of the bound waited behind one late batch.
        late_batch: The batch that the most others waited for.
        ready_wait_seconds: Seconds that the trainer waited while a batch was ready: it was taken late.
        probes_count: How often was looked for a thread that holds the interpreter while the trainer waits.
        held_count: How often there was one.
        received_bytes: Bytes that came over the network, as they travelled.
        sending_seconds: Slot seconds in which a worker had nothing to compute while its batches were on their way.
        compression_ratio: Bytes of batches for each byte that was sent.
        io_thread_seconds: Processor seconds of the trainer's I/O thread.
        computing_share: The part of their items' time in which workers used a processor or waited for a free one;
            None where they do not tell.
        read_bytes: Bytes that workers read from files and pipes.
        probed_rate: Batches a second that the trainer takes from memory, if a probe has measured it.
        slot_seconds: The seconds that all slots were there, summed; None: those at the window's end, all of the time.
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
    slot_seconds: float | None = None

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
        """Batches a second that the trainer took."""
        return self.batches_count / self.seconds if self.seconds > 0 else 0.0

    @property
    def demand(self) -> float:
        """``c``: batches a second that the trainer would take if it never waited, as far as the window can tell."""
        if self.probed_rate is not None:
            return self.probed_rate
        working = self.seconds - self.wait_seconds
        return MOST_GROWTH * self.rate if self.is_demand_unseen or working <= 0 else self.batches_count / working

    @property
    def is_demand_unseen(self) -> bool:
        """Whether the trainer works so little beside its waiting that the window does not show how fast it could be."""
        return self.probed_rate is None and MOST_GROWTH * (self.seconds - self.wait_seconds) < self.seconds

    @property
    def work_seconds(self) -> float:
        """``p``: the mean of the workers' times, those further off than the deviation replaced by the median."""
        return _mean_without_outliers(self.item_seconds)

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
        """The part of a core that the trainer's I/O thread used."""
        return self.io_thread_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def desired_slots(self) -> int | None:
        """Slots that keep up with the trainer; None if the window does not say."""
        wanted = _HEAD_ROOM * self.demand * self.work_seconds
        return max(1, math.ceil(wanted)) if 0 < wanted < math.inf else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds the training back.

    Attributes:
        cause: The first cause that explains the wait.
        wait_share: The share of the time that the trainer waited, 0.0 to 1.0: what mending the cause can win.
        desired_slots: Slots that keep up with the trainer; None while that is not known.
        sentence: The cause with its figures, in words.
        cure: The option or command that mends it; '' if there is nothing to mend.
    """

    cause: Cause
    wait_share: float
    desired_slots: int | None
    sentence: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.sentence}: {self.cure}" if self.cure else self.sentence


def judge(window: Window) -> Verdict:
    """The verdict on a window: the first cause in the order of the table that its counters show."""
    for cause, is_shown, describe in _CAUSES:
        if is_shown(window):
            sentence, cure = describe(window)
            is_early = cause in (Cause.TOO_EARLY, Cause.NO_WORKERS)
            return Verdict(cause, window.wait_share, None if is_early else window.desired_slots, sentence, cure)
    raise AssertionError("the last cause is always shown")


# ---------------------------------------------------------------- the signs


def _is_too_early(window: Window) -> bool:
    # A trainer that gets nothing at all never reaches the number of batches.
    return window.seconds < LEAST_SECONDS or (
        window.batches_count < LEAST_BATCHES and window.wait_share < FIX_FIRST and window.slots_count > 0
    )


def _has_failures(window: Window) -> bool:
    # More of them than batches: what is computed is computed in vain.
    return window.wait_share >= NOT_THE_LIMIT and window.failures_count > window.batches_count


def _explains(seconds: float, window: Window) -> bool:
    return seconds >= _EXPLAINED * window.wait_seconds


def _is_held(window: Window) -> bool:
    return window.probes_count >= _LEAST_PROBES and window.held_share >= _EXPLAINED


def _is_waiting(window: Window) -> bool:
    """Whether workers wait for something while they compute an item."""
    return window.computing_share is not None and window.computing_share < _COMPUTING


def _waits_for_storage(window: Window) -> bool:
    return _is_waiting(window) and window.read_bytes >= _READS * max(1, window.batches_count)


# ---------------------------------------------------------------- the words


def _costs(window: Window) -> str:
    share = f"{window.wait_share:.0%}"
    return (
        f"the training waits for data {share} of its time" if window.wait_share >= FIX_FIRST else f"data costs {share}"
    )


def _more_slots(window: Window) -> int:
    return max(1, (window.desired_slots or window.slots_count + 1) - window.slots_count)


def _describe_nothing(window: Window) -> tuple[str, str]:
    spare = window.slots_count - (window.desired_slots or window.slots_count)
    could_go = f"; {_count(spare, 'slot')} of {window.slots_count} could go" if spare > 0 else ""
    return f"data is not the limit: the trainer waits {window.wait_share:.0%} of its time{could_go}", ""


def _describe_workers(window: Window) -> tuple[str, str]:
    slots = f"{_count(window.slots_count, 'slot')} compute {window.busy_share:.0%} of the time"
    waiting = f", {1 - (window.computing_share or 0.0):.0%} of it waiting" if _is_waiting(window) else ""
    beyond = ""
    if window.is_demand_unseen:
        beyond = f"; the trainer works {1 - window.wait_share:.1%} of its time, so its own limit does not show yet"
    step = "as a step, and judge again: " if window.is_demand_unseen else ""
    where = "even more than processors" if waiting else "or `enqueuer worker` on another machine"
    return (
        f"{_costs(window)}: {slots}, {1000 * window.work_seconds:.3g} ms a batch{waiting}{beyond}",
        f"{step}add {_more_slots(window)} (start(workers=…), {where})",
    )


def _describe_order(window: Window) -> tuple[str, str]:
    late = window.late_batch
    which = f"batch {late.index} of epoch {late.epoch} on {late.host}" if late is not None else "one late batch"
    return (
        f"{_costs(window)}: workers idle while half of the queue waits behind {which}",
        "hedge=… computes a late batch a second time; a larger max_queue_size or ordered=False lets others pass",
    )


def _describe_network(window: Window) -> tuple[str, str]:
    rate = window.received_bytes / window.seconds
    waiting = window.sending_seconds / max(window.available_seconds, 1e-9)
    packed = f", compressed {window.compression_ratio:.1f} : 1" if window.compression_ratio != 1.0 else ""
    cure = (
        "smaller batches (dtype), or more local workers" if packed else "compression='lz4', or smaller batches (dtype)"
    )
    return (
        f"{_costs(window)}: the network brings {rate / 1e6:.3g} MB/s{packed}, and slots wait for it "
        f"{waiting:.0%} of the time",
        cure,
    )


def _describe_coordinator(window: Window) -> tuple[str, str]:
    return (
        f"{_costs(window)}: the coordinator's thread uses {window.io_thread_share:.0%} of a core",
        "larger batches, or one enqueuer a rank (rank=…, world_size=…)",
    )


def _describe_storage(window: Window) -> tuple[str, str]:
    rate = window.read_bytes / window.seconds
    return (
        f"{_costs(window)}: workers compute {window.computing_share:.0%} of their items' time, read "
        f"{rate / 1e6:.3g} MB/s and wait for storage in the rest",
        f"more processes than processors: add {_more_slots(window)}",
    )


def _describe_interpreter(window: Window) -> tuple[str, str]:
    sign = f"batches are ready and taken late, {window.ready_wait_seconds:.1f} s in all"
    if _is_held(window):
        sign = f"in {window.held_share:.0%} of looks, another thread of the trainer held the interpreter"
    return f"{_costs(window)}: {sign}", "move the Python code beside the training loop into a process of its own"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


_Row = tuple[Cause, Callable[[Window], bool], Callable[[Window], tuple[str, str]]]
_CAUSES: tuple[_Row, ...] = (
    (Cause.TOO_EARLY, _is_too_early, lambda window: ("too early to tell", "")),
    (
        Cause.NO_WORKERS,
        lambda window: window.slots_count == 0,
        lambda window: ("no worker is there", "start(workers=…), or `enqueuer worker --connect …` on another machine"),
    ),
    (
        Cause.ERRORS,
        _has_failures,
        lambda window: (
            f"{_costs(window)}: {_count(window.failures_count, 'failure')} for {window.batches_count} batches",
            "the log says what fails",
        ),
    ),
    (Cause.NOTHING, lambda window: window.wait_share < NOT_THE_LIMIT, _describe_nothing),
    (
        Cause.STORAGE,
        lambda window: window.busy_share >= _BUSY and _waits_for_storage(window),
        _describe_storage,
    ),
    (Cause.WORKERS, lambda window: window.busy_share >= _BUSY, _describe_workers),
    (Cause.ORDER, lambda window: _explains(window.blocked_seconds, window), _describe_order),
    (
        Cause.NETWORK,
        lambda window: window.received_bytes > 0 and window.sending_share >= _EXPLAINED,
        _describe_network,
    ),
    (
        Cause.COORDINATOR,
        lambda window: window.io_thread_share >= _THREAD_IS_FULL,
        _describe_coordinator,
    ),
    (Cause.STORAGE, _waits_for_storage, _describe_storage),
    (
        Cause.INTERPRETER,
        lambda window: _is_held(window) or _explains(window.ready_wait_seconds, window),
        _describe_interpreter,
    ),
    (
        Cause.UNKNOWN,
        lambda window: True,
        lambda window: (f"{_costs(window)}, and no counter says why", "`enqueuer doctor` checks the surroundings"),
    ),
)


def _mean_without_outliers(values: Sequence[float]) -> float:
    if not values:
        return 0.0
    mean, median = statistics.fmean(values), statistics.median(values)
    # Of two values, both are one deviation off; rounding must not make them outliers.
    furthest = (1 + 1e-9) * statistics.pstdev(values)
    return statistics.fmean(median if abs(value - mean) > furthest else value for value in values)
