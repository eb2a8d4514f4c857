"""One small frozen type per control message: what coordinator and worker say to each other.

``docs/pages/explanation/wire.md`` is the wire contract; ``control_codec.py`` turns these into bytes and back.
Ids (session, incarnation, supervisor) are 16 random bytes. Lease numbers count up from 1 within a session
and are never used twice. Times are in seconds.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

PROTOCOL_VERSION = 1
# A rolling upgrade needs the previous version as well; there is none before 1.
ACCEPTED_VERSIONS = frozenset({PROTOCOL_VERSION})

ID_BYTES = 16
NO_ID = b""


class Kind(IntEnum):
    """First element of every message on either channel. Never renumbered."""

    HELLO = 1
    READY = 2
    HEARTBEAT = 3
    FAILURE = 4
    DRAIN = 5
    GOODBYE = 6
    WORKER_EXITED = 7
    LOAD_FAILURE = 8
    CHILDREN = 9
    LOG = 10
    WELCOME = 32
    REJECT = 33
    EPOCH = 34
    HEARTBEAT_REPLY = 35
    GRANT = 36
    REVOKE = 37
    BYE = 38
    WHO_ARE_YOU = 39
    STOP = 40
    NO_BLOCKS = 41
    RESULTS = 64


class Role(IntEnum):
    """Who says Hello: one that computes, or the parent that watches those."""

    WORKER = 1
    SUPERVISOR = 2


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An exception as data: never a pickle, bounded in size, rebuilt without calling a constructor.

    ``args`` and ``attributes`` hold plain values only; ``traceback`` is text for a human.
    ``cause`` is the exception's own ``__cause__`` (or unsuppressed ``__context__``), if any.
    ``pickled_type`` is set only by the trainer's own local processes, for a class that cannot be found by name.
    """

    module: str
    qualname: str
    text: str
    traceback: str
    args: tuple[Any, ...] | None = None
    attributes: dict[str, Any] | None = None
    cause: ErrorRecord | None = None
    pickled_type: bytes | None = None


# ---------------------------------------------------------------- from a worker or a supervisor


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on a control connection, and the answer to WhoAreYou."""

    protocol: int
    role: Role
    worker_id: str
    incarnation: bytes
    supervisor: bytes
    child_number: int
    host: str
    pid: int
    numpy_version: str
    library_version: str
    secret: bytes = field(repr=False)
    held: tuple[int, ...]
    sent_seq: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The Sequence of this state generation is built; what it is."""

    epoch: int
    generation: int
    length: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I live. ``held``: leases queued, running, or sent and not yet acknowledged.

    ``sent_at`` is the worker's own clock, echoed in the reply; ``round_trip`` what it measured last (0: nothing yet).
    """

    held: tuple[int, ...]
    highest_grant: int
    generation: int
    sent_seq: int
    running: int
    sent_at: float
    round_trip: float


@dataclass(frozen=True, slots=True)
class Failure:
    """``__getitem__`` raised for this lease; this is its answer."""

    epoch: int
    generation: int
    lease: int
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """The Sequence could not be built or the worker could not be prepared for it."""

    epoch: int
    generation: int
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Drain:
    """I finish what I hold and take no more."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """I hold nothing any more; my last result message had this number."""

    sent_seq: int


class ExitCode(IntEnum):
    """With what a worker process ends by itself; its supervisor and the coordinator decide by it what comes next."""

    DONE = 0
    REFUSED = 3
    RECYCLE = 4


def describe_exit(exit_code: int) -> str:
    """How a worker process ended, for a human: "was killed by SIGKILL". Negative for a signal, as in ``subprocess``."""
    if exit_code == ExitCode.RECYCLE:
        return "has computed its share"
    if exit_code == ExitCode.REFUSED:
        return "was refused, or could not build the Sequence"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """From a supervisor: a child has ended. ``running`` is the lease it was computing, 0 for none.

    ``exit_code`` is negative for a signal, as in ``subprocess``. ``timed_out``: the supervisor ended it because that
    lease took longer than the batch time-out; ``stack`` is then where it was, as text ('' if it could not say).
    """

    incarnation: bytes
    child_number: int
    exit_code: int
    running: int
    timed_out: bool = False
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Children:
    """A supervisor's heartbeat: these incarnations are alive and not stopped (they may hold their GIL)."""

    alive: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """A line that user code on a remote worker printed, logged or warned."""

    level: int
    logger: str
    text: str


# ---------------------------------------------------------------- from the coordinator


@dataclass(frozen=True, slots=True)
class Welcome:
    """You are known. ``data_endpoint`` may lack a host ('tcp://*:5556'): then it is the host you connected to.

    ``sequence``: the spec as ``[target, kwargs]``, or None for a live object (its state comes with Epoch).
    ``options``: what the worker must know of the user's options (see the README).
    """

    data_endpoint: str
    heartbeat_interval: float
    coordinator_timeout: float
    received_seq: int
    sequence: list[Any] | None
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reject:
    """You cannot serve here, and why. The worker must not try again with the same Sequence at once."""

    reason: str


@dataclass(frozen=True, slots=True)
class Epoch:
    """What leases of this epoch and generation are computed with. ``state`` is for the loader alone."""

    epoch: int
    generation: int
    seed: int
    state: Any


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """``received_seq``: all result messages up to this number have arrived; ``highest_seq``: one beyond a gap.
    ``sent_at`` is the heartbeat's own, on the worker's clock; infinite where the coordinator asks by itself.
    """

    received_seq: int
    highest_seq: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Grant:
    """Compute these indices; the leases are ``first_lease``, ``first_lease + 1``, … in that order."""

    epoch: int
    generation: int
    received_seq: int
    first_lease: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Revoke:
    """Drop these leases if they are not running yet. An answer would still be taken."""

    leases: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """All your results have arrived; you may leave."""


@dataclass(frozen=True, slots=True)
class WhoAreYou:
    """Your connection is not known here: say Hello."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The session has ended. Drop everything; a remote worker then looks for the next session."""


@dataclass(frozen=True, slots=True)
class NoBlocks:
    """The worker's shared memory cannot be read here: it sends its batches, beginning with those that it keeps."""


FromWorker = Hello | Ready | Heartbeat | Failure | LoadFailure | Drain | Goodbye | WorkerExited | Children | Log
FromCoordinator = Welcome | Reject | Epoch | HeartbeatReply | Grant | Revoke | Bye | WhoAreYou | Stop | NoBlocks
Message = FromWorker | FromCoordinator


class ResultsHeader(NamedTuple):
    """Frame 0 of a message on the data channel: the answers it carries, in the order of its frames.

    ``headers[i]`` is the batch header of ``leases[i]`` (see the batch codec); ``frame_counts[i]`` how many of the
    following frames are its large buffers; ``inline_sizes[i]`` how many bytes of the shared inline frame are its.
    ``blocks[i]`` is where in shared memory those buffers are instead: slab, offset, use. ``packed_sizes[i]`` has the
    size of each of those buffers that is compressed, and 0 for one that is not.
    ``busy`` is the compute time of all of them together, in seconds.
    """

    incarnation: bytes
    epoch: int
    generation: int
    seq: int
    busy: float
    leases: tuple[int, ...]
    headers: tuple[bytes, ...]
    inline_sizes: tuple[int, ...]
    frame_counts: tuple[int, ...]
    blocks: tuple[list[Any] | None, ...]
    packed_sizes: tuple[list[int] | None, ...]
