"""The input of the worker's core (events) and its output (actions): one small frozen type each.

Most are named tuples: a frozen dataclass takes four times as long to make, and its class costs half a millisecond more
at the start of each process. Those with a secret or without any field are dataclasses: a dataclass can hide a field in
its `repr`, and without fields it equals its own kind only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from enqueuer.protocol.messages import Epoch, ErrorRecord, ExitCode, Message, Welcome


@dataclass(frozen=True, slots=True)
class Identity:
    """This worker as it introduces itself in every Hello."""

    worker_id: str
    incarnation: bytes
    supervisor: bytes
    child_number: int
    host: str
    pid: int
    numpy_version: str
    enqueuer_version: str
    secret: bytes = field(default=b"", repr=False)
    python_version: str = ""


# ---------------------------------------------------------------- events


class Tick(NamedTuple):
    """Time has passed. ``running`` is the lease being computed, 0 for none."""

    running: int = 0


class Received(NamedTuple):
    """A control message has arrived; ``session`` is the one it names."""

    session: bytes
    message: Message


class Computed(NamedTuple):
    """Batches of one epoch and generation are done: one a lease, opaque to the core. ``busy`` in seconds."""

    session: bytes
    epoch: int
    generation: int
    leases: tuple[int, ...]
    batches: tuple[Any, ...]
    busy: float


class Failed(NamedTuple):
    """An item raised, or its batch cannot be carried."""

    session: bytes
    epoch: int
    generation: int
    lease: int
    error: ErrorRecord


class Loaded(NamedTuple):
    """The Sequence is built for this epoch."""

    session: bytes
    epoch: int
    generation: int
    length: int
    digest: bytes
    allows_skew: bool = False
    settings: tuple[tuple[str, str], ...] = ()


class LoadFailed(NamedTuple):
    """The Sequence could not be built for this epoch."""

    session: bytes
    epoch: int
    generation: int
    error: ErrorRecord


class Logged(NamedTuple):
    """User code printed, warned or logged a line for the trainer."""

    level: int
    logger: str
    text: str


class LinkBroken(NamedTuple):
    """A connection of the link broke, or cannot be written to.

    ``refused``: the handshake failed. ``for_good``: the coordinator rejected this worker's key, so retrying with it
    cannot help.
    """

    refused: bool = False
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """The owner wants this worker to leave after the leases it holds."""


@dataclass(frozen=True, slots=True)
class EndpointGiven:
    """The next session of a local worker has this secret, and another address, which the link already knows."""

    secret: bytes = field(repr=False)


Event = Tick | Received | Computed | Failed | Loaded | LoadFailed | Logged | LinkBroken | DrainRequested | EndpointGiven


# ---------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class OpenControl:
    """Connect a fresh control socket to the coordinator's address."""


class OpenData(NamedTuple):
    """Connect a fresh data socket to this endpoint."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close both sockets at once and drop all unsent messages."""


class Send(NamedTuple):
    """Send a control message."""

    session: bytes
    message: Message


class SendResults(NamedTuple):
    """Send batches under this number. ``blocks``: those in shared memory by name, otherwise all as frames."""

    session: bytes
    seq: int
    computed: Computed
    blocks: bool = True


@dataclass(frozen=True, slots=True)
class LeaveSharedMemory:
    """Put no more batches into shared memory: the trainer cannot read it."""


class Prepare(NamedTuple):
    """Build the Sequence for this epoch (in the compute thread) and report Loaded or LoadFailed."""

    session: bytes
    welcome: Welcome
    epoch: Epoch


class Compute(NamedTuple):
    """Compute these items in their order; ``indices[k]`` is for lease ``first_lease + k``."""

    session: bytes
    epoch: Epoch
    first_lease: int
    indices: tuple[int, ...]


class Cancel(NamedTuple):
    """Drop these leases from the compute thread's queue; None drops all tasks, of any session."""

    leases: frozenset[int] | None


class Exit(NamedTuple):
    """End this process. ``rejection`` is the trainer's reason for it, to be told by the supervisor; '' for none."""

    code: ExitCode
    rejection: str = ""


class Note(NamedTuple):
    """Write a line to the worker's own log; ``level`` as in `logging`."""

    level: int
    text: str


Action = (
    OpenControl
    | OpenData
    | CloseLink
    | Send
    | SendResults
    | LeaveSharedMemory
    | Prepare
    | Compute
    | Cancel
    | Exit
    | Note
)
