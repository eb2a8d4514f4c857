"""Actions: everything the core has the shell do, in order; and the outcomes of positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from enqueuer.core.events import Route
from enqueuer.protocol.messages import ErrorRecord, Message, describe_exits

# A position's outcome: a payload, which is opaque to the core, `BatchFailed` or `BatchSkipped`.
Outcome = Any

# As in `logging`, which the core does without.
INFO, WARNING, ERROR, CRITICAL = 20, 30, 40, 50


class Send(NamedTuple):
    """Send the message to the peer."""

    route: Route
    message: Message


class Deliver(NamedTuple):
    """Hand outcomes to the trainer, in this order."""

    epoch: int
    positions: Sequence[int]
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class EpochExhausted:
    """Every position of this epoch has been leased: the next epoch can be computed ahead."""

    epoch: int


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """Report an epoch's early end, asked for by the trainer: no thread of the trainer computes its items any more."""

    epoch: int


@dataclass(frozen=True, slots=True)
class FleetFailed:
    """Fail the session: no worker can serve. ``error`` is the worker's, if it said one."""

    reason: str
    error: ErrorRecord | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Log a line in the trainer; ``level`` as in `logging`."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class RemoteLine:
    """Log a line of user code on a worker."""

    level: int
    logger: str
    worker_id: str
    host: str
    text: str


class Show(NamedTuple):
    """Send the observer a snapshot with ``rows_count`` workers from ``first_row`` on, and events after this one.

    It may ask for as much again in ``seconds``.
    """

    route: Route
    first_row: int
    rows_count: int
    after_event: int
    seconds: float


Action = Send | Deliver | EpochExhausted | EpochEnded | FleetFailed | Report | RemoteLine | Show


# ---------------------------------------------------------------- outcomes without a batch


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """A batch failed, and its error comes in its place.

    One of three: ``__getitem__`` raised (``error``); computing it killed too many workers (``deaths``: their exit
    codes, negative for a signal); it took too long too often (``timeouts``; ``stack`` is the last worker's).
    """

    index: int
    epoch: int
    worker_id: str
    host: str
    error: ErrorRecord | None
    deaths: tuple[int, ...] = ()
    timeouts: int = 0
    stack: str = ""

    def describe_skip(self) -> str:
        """The log line for this batch if it is skipped."""
        count = len(self.deaths)
        reason = f"it killed {count} worker{'' if count == 1 else 's'}: {describe_exits(self.deaths)}"
        if self.error is not None:
            reason = self.error.summary
        elif self.timeouts:
            reason = f"it took too long on {self.timeouts} workers"
        return f"skipped batch {self.index} of epoch {self.epoch}: {reason}"


@dataclass(frozen=True, slots=True)
class BatchSkipped:
    """A batch failed under ``on_error="skip"``. Its place counts as taken; the trainer does not see it."""

    index: int
    epoch: int
