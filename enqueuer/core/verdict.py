"""The verdict: what holds the training back, by how much, and its cure. A pure function of one window's counters.

The signs are, over the window,

    w  share of the time that the trainer waited        c  batches a second that it would take if it never waited
    p  seconds of work a batch                          S  slots of all workers
    u  share of the slots' time in which they computed

The bands of ``w`` are those of XProf's input-pipeline analyzer: below 5 % input is not the limit, from 20 % on it is
the first thing to mend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from enqueuer.core.window import Window

# A window says nothing below these.
LEAST_SECONDS = 30.0
LEAST_BATCHES = 20
# The bands of the wait share.
NOT_THE_LIMIT = 0.05
FIX_FIRST = 0.20
# Slots that compute for this share of the time can do no more.
_BUSY = 0.9
# Where nothing else explains the wait, this share is enough: on a full machine, slots stand still between two items.
_MOSTLY_BUSY = 0.7
# A sign explains the wait if it covers this share of it.
_EXPLAINED = 0.5
_THREAD_IS_FULL = 0.85
# The least number of looks at the interpreter: fewer say nothing.
_LEAST_PROBES = 3
# Below this ratio of processor time to item time, workers mostly wait for something else.
_COMPUTING = 0.5
# Bytes read a batch, without sockets. Below it, storage is not the reason for waiting.
_READS = 1024


class Cause(Enum):
    """Reasons for a training to be held back."""

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
class Verdict:
    """A judgement on one window: the cause that holds the training back, with its figures and its cure.

    Attributes:
        cause: The first cause that explains the wait.
        wait_share: The part of the trainer's time spent waiting, 0.0 to 1.0: the most that a cure can win.
        desired_slots: The number of slots to keep up with the trainer; None while unknown.
        sentence: The cause with its figures, in words.
        cure: The option or command to mend it; '' if there is nothing to mend.
    """

    cause: Cause
    wait_share: float
    desired_slots: int | None
    sentence: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.sentence}: {self.cure}" if self.cure else self.sentence


def judge(window: Window) -> Verdict:
    """The verdict on a window: the first cause in the table with a sign in the counters."""
    for cause, is_shown, describe in _CAUSES:
        if is_shown(window):
            sentence, cure = describe(window)
            is_early = cause in (Cause.TOO_EARLY, Cause.NO_WORKERS)
            return Verdict(cause, window.wait_share, None if is_early else window.desired_slots, sentence, cure)
    raise AssertionError("the last cause is always shown")


# ---------------------------------------------------------------- the signs


def _is_too_early(window: Window) -> bool:
    # Without any batch, a trainer never reaches the least number of batches.
    return window.seconds < LEAST_SECONDS or (
        window.batches_count < LEAST_BATCHES and window.wait_share < FIX_FIRST and window.slots_count > 0
    )


def _has_failures(window: Window) -> bool:
    # More failures than batches: the work is in vain.
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
    verb = "computes" if window.slots_count == 1 else "compute"
    slots = f"{_count(window.slots_count, 'slot')} {verb} {window.busy_share:.0%} of the time"
    waiting = f", {1 - (window.computing_share or 0.0):.0%} of it waiting" if _is_waiting(window) else ""
    beyond = ""
    if window.is_demand_unseen:
        beyond = f"; the trainer works {1 - window.wait_share:.1%} of its time, so its own limit does not show yet"
    step = ", then judge again" if window.is_demand_unseen else ""
    where = "even more than processors" if waiting else "or `enqueuer worker` on another machine"
    return (
        f"{_costs(window)}: {slots}, {1000 * window.work_seconds:.3g} ms a batch{waiting}{beyond}",
        f"add {_more_slots(window)}{step} (start(workers=…), {where})",
    )


def _describe_order(window: Window) -> tuple[str, str]:
    late = window.late_batch
    which = f"batch {late.index} of epoch {late.epoch} on {late.host}" if late is not None else "one late batch"
    return (
        f"{_costs(window)}: workers idle while half of the queue waits behind {which}",
        "a larger max_queue_size or ordered=False lets others pass; hedge=… computes it a second time, where the host "
        "is slow and not the batch",
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
        lambda window: (
            "no worker is there" + (f"; {window.refused}" if window.refused else ""),
            "start(workers=…), or `enqueuer worker --connect …` on another machine" if not window.refused else "",
        ),
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
    # Before the busy slots: some of them compute the late batch a second time.
    (Cause.ORDER, lambda window: _explains(window.blocked_seconds, window), _describe_order),
    (
        Cause.STORAGE,
        lambda window: window.busy_share >= _BUSY and _waits_for_storage(window),
        _describe_storage,
    ),
    (Cause.WORKERS, lambda window: window.busy_share >= _BUSY, _describe_workers),
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
    (Cause.WORKERS, lambda window: window.busy_share >= _MOSTLY_BUSY, _describe_workers),
    (
        Cause.UNKNOWN,
        lambda window: True,
        lambda window: (f"{_costs(window)}, and no counter says why", "`enqueuer doctor` checks the surroundings"),
    ),
)
