"""One worker as the coordinator knows it: its identity, its state, its leases, and how fast it is.

    JOINING ──Ready──► SERVING ──Drain──► DRAINING ──► GONE
       ▲                  │                  │
       └── comes back ── LOST ◄──────────────┘

A change of state, route, leases or speed is told to the scheduler by ``changed``, which the fleet sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from enqueuer.core.events import Route
from enqueuer.core.item_times import ItemTimes
from enqueuer.core.peer import PeerRecord
from enqueuer.core.samples import Sample
from enqueuer.core.usage import Told
from enqueuer.protocol.messages import Bye, Hello, Reject

# Weight of the newest result message in the running mean of compute times.
_NEWEST_WEIGHT = 0.2
# Weight of a round trip that is longer than earlier ones; a shorter one is believed at once.
_LONGER_WEIGHT = 0.1
# A worker's queue covers the round trip and this much work, so that it does not run dry between two messages.
_QUEUED_SECONDS = 0.004
# Batches that take a few milliseconds each travel several in a message: the queue has as many as take this long, by
# the longest lately. Where two of them take longer, none waits for another.
_SHARED_SECONDS = 0.03
_MOST_SHARED = 4
# The longest time counts for this much after the next message.
_FADING = 0.97
_MOST_QUEUED = 4096
# No network takes longer; a larger claim would make every lease look early.
_LONGEST_ROUND_TRIP = 2.0
# Result messages that may be on the way beyond a gap; a number beyond that is made up.
_FURTHEST_AHEAD = 65_536


class WorkerState(Enum):
    """Where a worker is in its life."""

    JOINING = auto()  # its Sequence is not verified yet
    SERVING = auto()  # it takes leases
    DRAINING = auto()  # it answers the leases it holds and takes no more
    LOST = auto()  # it is silent or its connection broke; it may come back
    GONE = auto()  # it said goodbye, was rejected, or was seen dead


# Legal transitions. A missing entry is an error that leaves the state as it was.
TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.JOINING: frozenset({WorkerState.SERVING, WorkerState.DRAINING, WorkerState.LOST, WorkerState.GONE}),
    WorkerState.SERVING: frozenset({WorkerState.JOINING, WorkerState.DRAINING, WorkerState.LOST, WorkerState.GONE}),
    WorkerState.DRAINING: frozenset({WorkerState.JOINING, WorkerState.LOST, WorkerState.GONE}),
    WorkerState.LOST: frozenset({WorkerState.JOINING, WorkerState.GONE}),
    WorkerState.GONE: frozenset(),
}


def _ignore(_worker: Worker) -> None:
    """The hook of a worker before a fleet takes it in."""


@dataclass(slots=True, eq=False)
class Worker:
    """One incarnation of one worker, or the trainer's own threads (``slots`` > 1, never lost)."""

    worker_id: str
    incarnation: bytes
    host: str
    pid: int
    channel: str
    slots: int
    route: Route | None
    supervisor: bytes
    child_number: int
    last_seen: float
    # The bounds on its messages, and its offences.
    peer: PeerRecord = field(default_factory=lambda: PeerRecord(""))
    # The fleet sets it: called after each change of state, route, leases or speed.
    changed: Callable[[Worker], None] = _ignore
    # The name of the key that the worker's connections proved; '' without keys.
    key: str = ""
    known_since: float = 0.0
    # When the worker's connection broke; infinite while there is one. A new one may come.
    unlinked_at: float = math.inf
    in_process: bool = False
    state: WorkerState = WorkerState.JOINING
    # Leases that occupy the worker, and when each was granted, oldest first; the first `slots` of them run. The ledger
    # writes them.
    leases: dict[int, float] = field(default_factory=dict)
    # Leases missing from the last heartbeat's list.
    unlisted: set[int] = field(default_factory=set)
    # Whether the worker computes a suspect, or is kept free for one, and gets nothing else. The scheduler writes it.
    reserved: bool = False
    # All result messages up to this number have come, and these beyond it.
    received_seq: int = 0
    received_ahead: set[int] = field(default_factory=set)
    # The number of the last result message, once the worker has said goodbye.
    goodbye_seq: int | None = None
    # Sent to the worker at the end, and again to one that comes back without having heard it.
    last_word: Bye | Reject | None = None
    asked_for_frames: bool = False
    batches_count: int = 0
    received_bytes: int = 0
    busy_seconds: float = 0.0
    # The figures of the last heartbeat after the first batch; `liveness` writes this and `memory_bytes`.
    told: Told | None = None
    memory_bytes: int = 0
    # Running means, and the longest time lately, in seconds; 0.0 before the first measurement.
    item_seconds: float = 0.0
    longest_seconds: float = 0.0
    round_trip: float = 0.0
    item_times: ItemTimes = field(default_factory=ItemTimes)
    # When the worker answered last, or got its first lease after being idle.
    last_answer: float = 0.0
    # Indices that the worker computes to be compared, by lease, until each is answered; `sampling` writes both.
    samples: dict[int, Sample] = field(default_factory=dict)
    allows_skew: bool = False
    # When the worker was told of the epochs last.
    epochs_sent_at: float = -math.inf

    @classmethod
    def from_hello(cls, hello: Hello, route: Route, key: str, peer: PeerRecord, now: float) -> Worker:
        return cls(
            worker_id=hello.worker_id,
            incarnation=hello.incarnation,
            host=hello.host,
            pid=hello.pid,
            channel=route.channel,
            slots=1,
            route=route,
            supervisor=hello.supervisor,
            child_number=hello.child_number,
            last_seen=now,
            peer=peer,
            key=key,
            known_since=now,
        )

    def is_described_by(self, hello: Hello, route: Route, key: str) -> bool:
        """Whether this Hello can come from the same process."""
        told = (hello.worker_id, hello.host, hello.pid, hello.supervisor, hello.child_number, route.channel, key)
        known = (self.worker_id, self.host, self.pid, self.supervisor, self.child_number, self.channel, self.key)
        return told == known

    @property
    def name(self) -> str:
        """The worker's id and host, for logs and errors."""
        return f"{self.worker_id} on {self.host}"

    @property
    def load(self) -> int:
        """The number of leases that occupy the worker."""
        return len(self.leases)

    @property
    def takes_leases(self) -> bool:
        """Whether the worker serves, and has a connection for grants."""
        return self.state is WorkerState.SERVING and self.route is not None

    def busy_since(self, lease: int) -> float:
        """The earliest time at which the worker can have started the item that delays this lease.

        That is the later one of the grant and the worker's last answer.
        """
        return max(self.leases.get(lease, math.inf), self.last_answer)

    @property
    def target_load(self) -> int:
        """How many leases the worker should hold: one a slot, and enough to cover the round trip and share messages.

        The worker is refilled at half, so that several leases travel in each message.
        """
        if self.in_process or self.item_seconds <= 0.0:
            return self.slots
        # The worker itself reports both times, so the quotient can be anything.
        to_cover = min(_MOST_QUEUED, (self.round_trip + _QUEUED_SECONDS) / self.item_seconds)
        longest = self.longest_seconds
        to_share = min(_MOST_SHARED, _SHARED_SECONDS / longest) if 0.0 < longest < _SHARED_SECONDS / 2 else 0
        return self.slots + 1 + int(max(to_cover, to_share))

    @property
    def runs_dry(self) -> bool:
        """Whether the worker's queue may end before a grant sent now arrives."""
        return (len(self.leases) - self.slots) * self.item_seconds < self.round_trip + _QUEUED_SECONDS / 2

    def move_to(self, state: WorkerState) -> None:
        """Change the worker's state. Raises ValueError, and changes nothing, for an illegal transition."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"worker {self.name} cannot go from {self.state} to {state}")
        self.state = state
        self.changed(self)

    def take_result_number(self, seq: int) -> bool:
        """Note that this result message has come; False if it had come before, or its number makes no sense."""
        if seq == self.received_seq + 1 and not self.received_ahead:  # as in most cases
            self.received_seq = seq
            return True
        if seq <= self.received_seq or seq in self.received_ahead or self.is_beyond(seq):
            return False
        self.received_ahead.add(seq)
        while self.received_seq + 1 in self.received_ahead:
            self.received_seq += 1
            self.received_ahead.remove(self.received_seq)
        return True

    def is_beyond(self, seq: int) -> bool:
        """Whether a result message cannot have this number yet."""
        return seq > self.received_seq + _FURTHEST_AHEAD

    @property
    def highest_seq(self) -> int:
        """The highest number of a result message that has come."""
        return max(self.received_ahead, default=self.received_seq)

    def note_round_trip(self, seconds: float) -> None:
        """Note a round trip as the worker measured it: the network's, plus any pause of a stopped or starved worker."""
        if 0 < seconds < math.inf:
            # Leases of a far worker are late later, so its distance is bounded.
            seconds = min(seconds, _LONGEST_ROUND_TRIP)
            known = self.round_trip
            self.round_trip = seconds if not 0.0 < known < seconds else known + _LONGER_WEIGHT * (seconds - known)
            self.changed(self)

    def note_batches(self, count: int, busy: float, now: float, nbytes: int = 0) -> None:
        """Note a result message: ``count`` batches that took ``busy`` seconds and ``nbytes`` bytes together.

        The caller calls `changed`: in most cases by answering the batches' leases next.
        """
        self.batches_count += count
        self.received_bytes += nbytes
        self.busy_seconds += busy
        self.last_answer = now
        newest = busy / count
        self.item_times.note(newest, count)
        old = self.item_seconds
        self.item_seconds = newest if old == 0.0 else old + _NEWEST_WEIGHT * (newest - old)
        self.longest_seconds = max(newest, _FADING * self.longest_seconds)
