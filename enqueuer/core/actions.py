"""What comes out of the core, to be performed in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from enqueuer.core.events import Route
from enqueuer.protocol.messages import ErrorRecord, Message

# A position's outcome: a payload, which is opaque to the core, `BatchFailed` or `BatchSkipped`.
Outcome = Any

# As in `logging`, which the core does without.
INFO, WARNING, ERROR, CRITICAL = 20, 30, 40, 50


class Send(NamedTuple):
    route: Route
    message: Message


class Deliver(NamedTuple):
    """Outcomes for the trainer, in the order of delivery: payloads, `BatchFailed` or `BatchSkipped`."""

    epoch: int
    positions: Sequence[int]
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class EpochExhausted:
    """Every position of this epoch has been leased once: the next epoch could be computed ahead."""

    epoch: int


@dataclass(frozen=True, slots=True)
class FleetFailed:
    """The fleet cannot do its work; the trainer gets a `NoWorkersError` with this text."""

    reason: str
    error: ErrorRecord | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A line for the trainer's log; ``level`` as in `logging`."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class RemoteLine:
    """A line that user code wrote on a worker."""

    level: int
    logger: str
    worker_id: str
    host: str
    text: str


Action = Send | Deliver | EpochExhausted | FleetFailed | Report | RemoteLine


# ---------------------------------------------------------------- outcomes that are not a batch


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """Takes its batch's place: ``__getitem__`` raised (``error``), or computing it killed too many workers
    (``deaths``) or took too long too often (``timeouts``; ``stack`` is where the last worker was).
    """

    index: int
    epoch: int
    worker_id: str
    host: str
    error: ErrorRecord | None
    deaths: int = 0
    timeouts: int = 0
    stack: str = ""


@dataclass(frozen=True, slots=True)
class BatchSkipped:
    """Takes its batch's place under ``on_error="skip"``; counts as taken and is not shown."""

    index: int
    epoch: int
