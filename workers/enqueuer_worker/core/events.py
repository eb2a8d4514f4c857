"""What goes into the worker's core and what comes out of it: one small frozen type each, one sentence each.

Those that come with every batch are named tuples: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from enqueuer.protocol.messages import Epoch, ErrorRecord, ExitCode, Message, Welcome


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is; goes into every Hello."""

    worker_id: str
    incarnation: bytes
    supervisor: bytes
    child_number: int
    host: str
    pid: int
    numpy_version: str
    enqueuer_version: str
    secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """What its owner decided for this worker. Times in seconds."""

    # A remote worker serves one session after the other; a local one waits for its trainer to name the next.
    reconnects: bool = True
    once: bool = False
    drain_timeout: float = 30.0
    first_reconnect_interval: float = 0.1
    max_reconnect_interval: float = 5.0
    hello_interval: float = 1.0


# ---------------------------------------------------------------- events


class Tick(NamedTuple):
    """The deadline has come (or nothing else happened). ``running`` is the lease being computed, 0 for none."""

    running: int = 0


class Received(NamedTuple):
    session: bytes
    message: Message


class Computed(NamedTuple):
    """Batches of one epoch and generation are done; ``batches`` is opaque here. ``busy`` in seconds."""

    session: bytes
    epoch: int
    generation: int
    leases: tuple[int, ...]
    batches: tuple[Any, ...]
    busy: float


@dataclass(frozen=True, slots=True)
class Failed:
    session: bytes
    epoch: int
    generation: int
    lease: int
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Loaded:
    session: bytes
    epoch: int
    generation: int
    length: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class LoadFailed:
    session: bytes
    epoch: int
    generation: int
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Logged:
    """User code printed, warned or logged a line that the trainer is to see."""

    level: int
    logger: str
    text: str


@dataclass(frozen=True, slots=True)
class LinkBroken:
    """A connection of the link broke, or cannot be written to.

    ``refused``: the other side let nobody in; ``for_good``: it said so itself, and what the key is, is what it minds.
    """

    refused: bool = False
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """The owner wants this worker to leave after the leases it holds."""


@dataclass(frozen=True, slots=True)
class EndpointGiven:
    """Where the next session of a local worker is: new address, new secret."""

    secret: bytes = field(repr=False)


Event = Tick | Received | Computed | Failed | Loaded | LoadFailed | Logged | LinkBroken | DrainRequested | EndpointGiven


# ---------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class OpenControl:
    """Connect a fresh control socket to the coordinator's address."""


@dataclass(frozen=True, slots=True)
class OpenData:
    """Connect a fresh data socket."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close both sockets at once, with what is still in them; ``flush`` lets the last messages out first."""

    flush: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    session: bytes
    message: Message


class SendResults(NamedTuple):
    session: bytes
    seq: int
    computed: Computed
    # Whether to name what lies in shared memory, in place of sending it.
    blocks: bool = True


@dataclass(frozen=True, slots=True)
class LeaveSharedMemory:
    """The trainer cannot read it: what is computed from now on goes elsewhere."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Build the Sequence for this epoch (in the compute thread) and report Loaded or LoadFailed."""

    session: bytes
    welcome: Welcome
    epoch: Epoch


class Compute(NamedTuple):
    """Compute these, one after the other: item k has lease ``first_lease + k``."""

    session: bytes
    epoch: Epoch
    first_lease: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Skip these leases if they are not running yet; None: everything queued, of whatever session."""

    leases: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class Exit:
    code: ExitCode


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the worker's own log; ``level`` as in `logging`."""

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
