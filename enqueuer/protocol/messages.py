"""The control messages between coordinator, workers and supervisors: one small frozen type each.

Most are named tuples, as are the events of the worker's core (`enqueuer_worker.core.events` gives the reasons).

``docs/pages/explanation/wire.md`` is the wire contract; ``control_codec.py`` turns messages into bytes and back.

Fields with one meaning in all messages:
    session, incarnation, supervisor   ids of 16 random bytes
    epoch, generation                  the epoch's number, and that of the version of the Sequence's state
    lease, leases, held                lease numbers: they count up from 1 within a session, and are never reused
    sent_seq, received_seq             numbers of result messages: the highest sent; the highest before any gap
Times are in seconds.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

from enqueuer.protocol.observation import Snapshot

PROTOCOL_VERSION = 1
# A rolling upgrade needs the previous version as well; version 1 has none.
ACCEPTED_VERSIONS = frozenset({PROTOCOL_VERSION})

# A Snapshot has at most this many workers, and this many events.
MOST_ROWS, MOST_EVENTS = 64, 16

ID_BYTES = 16
NO_ID = b""

# A SequenceSpec as msgpack carries it: [target, keyword arguments].
SpecOnWire: TypeAlias = list[Any]


class Kind(IntEnum):
    """The first element of every message on either channel. Kinds are never renumbered."""

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
    OBSERVE = 11
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
    SNAPSHOT = 42
    RESULTS = 64


class Role(IntEnum):
    """The role of a process that says Hello: a worker computes, a supervisor watches the workers of its host."""

    WORKER = 1
    SUPERVISOR = 2


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An exception as data: never a pickle, bounded in size, rebuilt without calling a constructor.

    ``args`` and ``attributes`` hold plain values only; ``traceback`` is text for a human.
    ``cause`` is the exception's own ``__cause__`` (or unsuppressed ``__context__``), if any.
    ``pickled_type`` is the class itself if no name leads to it; only the trainer's own local processes set it.
    """

    module: str
    qualname: str
    text: str
    traceback: str
    args: tuple[Any, ...] | None = None
    attributes: dict[str, Any] | None = None
    cause: ErrorRecord | None = None
    pickled_type: bytes | None = None

    @property
    def summary(self) -> str:
        """Type and text, as the last line of a traceback."""
        name = self.qualname if self.module == "builtins" else f"{self.module}.{self.qualname}"
        return f"{name}: {self.text}" if self.text else name


# ---------------------------------------------------------------- from a worker or a supervisor


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker or supervisor introduces itself: first on each control connection, and in answer to WhoAreYou.

    A supervisor names its own id as ``supervisor``; its worker names the supervisor and its ``child_number`` there.
    """

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
    python_version: str = ""


class Ready(NamedTuple):
    """The worker has built the Sequence of this state generation; ``digest`` is that of the Sequence's code.

    ``allows_skew``: the worker's owner accepts that its Sequence differs, so its batches are not compared.
    ``settings``: the plain values here that are not the trainer's, as (name, value as text).
    """

    epoch: int
    generation: int
    length: int
    digest: bytes
    allows_skew: bool = False
    settings: tuple[tuple[str, str], ...] = ()


class Heartbeat(NamedTuple):
    """The worker is alive, and tells its state every heartbeat interval.

    ``held`` are the leases queued, running, or sent and not yet acknowledged; ``running`` is the lease being computed,
    0 for none. ``sent_at`` is the worker's own clock, echoed in the reply; ``round_trip`` is the last measured time
    between the two, 0 before the first.

    The rest is counted since the process began, but for ``memory_bytes``, which it has now. ``cpu_seconds``: it used a
    processor, or waited for a free one; programs that it has started and waited for are included. ``read_bytes``: from
    files and pipes. ``sending_seconds``: it had nothing to compute while its batches were on their way.
    """

    held: tuple[int, ...]
    highest_grant: int
    generation: int
    sent_seq: int
    running: int
    sent_at: float
    round_trip: float
    cpu_seconds: float = 0.0
    read_bytes: int = 0
    sending_seconds: float = 0.0
    memory_bytes: int = 0


class Failure(NamedTuple):
    """The worker answers a lease with the exception that ``__getitem__`` raised."""

    epoch: int
    generation: int
    lease: int
    error: ErrorRecord


class LoadFailure(NamedTuple):
    """The worker could not build the Sequence, or could not prepare itself for it."""

    epoch: int
    generation: int
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Drain:
    """The worker finishes the leases that it holds, and takes no more."""


class Goodbye(NamedTuple):
    """The worker holds no leases any more, and leaves; its last result message had the number ``sent_seq``."""

    sent_seq: int


class ExitCode(IntEnum):
    """The exit codes of a worker process that ends by itself; supervisor and coordinator act on them."""

    DONE = 0
    REFUSED = 3
    RECYCLE = 4


def describe_exit(exit_code: int, *, at_work: bool = False) -> str:
    """How a worker process ended, in words: "was killed by SIGKILL". The code of a signal is negative.

    ``at_work``: the worker was computing a batch, so user code has chosen the exit code.
    """
    if exit_code == ExitCode.RECYCLE and not at_work:
        return "has computed its share"
    if exit_code == ExitCode.REFUSED and not at_work:
        return "was refused, or could not build the Sequence"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"was killed by {name}{_HINTS.get(name, '')}"


_NO_HANDLER = " (a handler that the script sets by signal.signal() is set in workers by worker_init=)"
_HINTS = {"SIGKILL": " (out of memory?)", **dict.fromkeys(("SIGALRM", "SIGVTALRM", "SIGPROF"), _NO_HANDLER)}


def describe_exits(exit_codes: Sequence[int]) -> str:
    """How several workers ended while they computed a batch: "was killed by SIGSEGV (3 times)"."""
    counts = Counter(describe_exit(code, at_work=True) for code in exit_codes)
    return ", ".join(f"{words} ({count} times)" if count > 1 else words for words, count in counts.items())


class WorkerExited(NamedTuple):
    """A supervisor reports that a worker process has ended. ``running`` is the lease it was computing, 0 for none.

    ``exit_code`` is negative for a signal, as in ``subprocess``. ``timed_out``: the supervisor killed the worker
    because that lease took longer than the batch time-out; ``stack`` is then its stack as text, '' if unknown.
    """

    incarnation: bytes
    child_number: int
    exit_code: int
    running: int
    timed_out: bool = False
    stack: str = ""


class Children(NamedTuple):
    """A supervisor's heartbeat: the workers that are alive and not stopped, even if one cannot answer by itself."""

    alive: tuple[bytes, ...]


class Log(NamedTuple):
    """A remote worker forwards a line that user code printed, logged or warned."""

    level: int
    logger: str
    text: str


# ---------------------------------------------------------------- from an observer


class Observe(NamedTuple):
    """An observer asks for a Snapshot with up to ``rows_count`` workers, from number ``first_row`` on (0 is the first).

    Of the fleet's events, it wants those with a number above ``after_event``.
    """

    first_row: int
    rows_count: int
    after_event: int


# ---------------------------------------------------------------- from the coordinator


class Welcome(NamedTuple):
    """The coordinator accepts a Hello, and tells the settings of its session.

    ``data_endpoint`` may lack a host ('tcp://*:5556'); it is then the host of the control connection.
    ``sequence`` is None for a live object; Epoch then carries its state.
    ``options`` are the user's options for workers; the wire contract lists them.
    """

    data_endpoint: str
    heartbeat_interval: float
    coordinator_timeout: float
    received_seq: int
    sequence: SpecOnWire | None
    options: dict[str, Any]


class Reject(NamedTuple):
    """The coordinator refuses the peer, for ``reason``; a worker must not retry at once with the same Sequence."""

    reason: str


class Epoch(NamedTuple):
    """Leases of this epoch and generation are computed with this seed and state; only the loader reads ``state``."""

    epoch: int
    generation: int
    seed: int
    state: Any


class HeartbeatReply(NamedTuple):
    """The coordinator acknowledges results: all up to ``received_seq`` have arrived, the newest is ``highest_seq``.

    ``sent_at`` is the heartbeat's, on the worker's clock; infinity in a message that answers no heartbeat.
    """

    received_seq: int
    highest_seq: int
    sent_at: float


class Grant(NamedTuple):
    """The coordinator grants leases ``first_lease``, ``first_lease + 1``, …, one for each index in this order."""

    epoch: int
    generation: int
    received_seq: int
    first_lease: int
    indices: tuple[int, ...]


class Revoke(NamedTuple):
    """The coordinator takes leases back: the worker drops those not running yet. Late answers are still accepted."""

    leases: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """The coordinator has all results of the worker, which may leave."""


@dataclass(frozen=True, slots=True)
class WhoAreYou:
    """The coordinator does not know the connection, and asks for a Hello."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The coordinator has ended the session: a worker drops everything, and a remote one seeks the next session."""


@dataclass(frozen=True, slots=True)
class NoBlocks:
    """The coordinator cannot read the worker's shared memory: unacknowledged and later batches must come as frames."""


FromWorker: TypeAlias = (
    Hello | Ready | Heartbeat | Failure | LoadFailure | Drain | Goodbye | WorkerExited | Children | Log | Observe
)
FromCoordinator: TypeAlias = (
    Welcome | Reject | Epoch | HeartbeatReply | Grant | Revoke | Bye | WhoAreYou | Stop | NoBlocks | Snapshot
)
Message: TypeAlias = FromWorker | FromCoordinator


class ResultsHeader(NamedTuple):
    """Frame 0 of a message on the data channel: a worker's answers to ``leases``, in the order of its frames.

    ``seq`` is the number of the message, ``busy`` the compute time of all its batches in seconds. For ``leases[i]``,
        ``headers[i]`` is the batch header (see `enqueuer.protocol.batch`),
        ``inline_sizes[i]`` the size of its part of the inline frame, in bytes,
        ``frame_counts[i]`` the number of its large buffers,
        ``blocks[i]`` the place of those buffers in shared memory (slab, offset, use), or None if they are frames,
        ``packed_sizes[i]`` their compressed sizes, with 0 for a buffer as it was, or None if none is compressed.
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
