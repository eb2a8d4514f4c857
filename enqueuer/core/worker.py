"""What the coordinator knows of one worker."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto

from enqueuer.core.events import Route
from enqueuer.core.standing import Standing
from enqueuer.protocol.messages import Bye, Hello, Reject

# Weight of the newest result message in the running mean of compute times.
_NEWEST_WEIGHT = 0.2
# Weight of a round trip that is longer than they were; a shorter one is believed at once.
_LONGER_WEIGHT = 0.1
# A worker's queue covers the round trip and this much work, so that it does not run dry between two messages.
_QUEUED_SECONDS = 0.004
_MOST_QUEUED = 4096

_LONGEST_ROUND_TRIP = 2.0
# What a worker may have on the way beyond a gap; more is a peer that makes numbers up.
_FURTHEST_AHEAD = 65_536


class WorkerState(Enum):
    JOINING = auto()  # known, its Sequence not verified yet
    SERVING = auto()
    DRAINING = auto()  # answers what it holds, takes no more
    LOST = auto()  # silent or dead; may come back
    GONE = auto()  # said goodbye, rejected or seen dead


# Legal transitions. A missing entry is a mistake of ours and leaves the state as it was.
TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.JOINING: frozenset({WorkerState.SERVING, WorkerState.DRAINING, WorkerState.LOST, WorkerState.GONE}),
    WorkerState.SERVING: frozenset({WorkerState.JOINING, WorkerState.DRAINING, WorkerState.LOST, WorkerState.GONE}),
    WorkerState.DRAINING: frozenset({WorkerState.JOINING, WorkerState.LOST, WorkerState.GONE}),
    WorkerState.LOST: frozenset({WorkerState.JOINING, WorkerState.GONE}),
    WorkerState.GONE: frozenset(),
}


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
    standing: Standing = field(default_factory=lambda: Standing(""))
    # The name of the key that its connections proved; '' without keys.
    key: str = ""
    known_since: float = 0.0
    # Since when it has no connection; infinite while it has one.
    cut_off_at: float = math.inf
    in_process: bool = False
    state: WorkerState = WorkerState.JOINING
    # Leases that occupy it, and when each was granted, oldest first: the first `slots` of them are running.
    leases: dict[int, float] = field(default_factory=dict)
    # Leases that its last heartbeat should have listed and did not.
    unlisted: set[int] = field(default_factory=set)
    # While it computes a suspect, or is kept free for one, it gets nothing else.
    reserved: bool = False
    received_seq: int = 0
    received_ahead: set[int] = field(default_factory=set)
    goodbye_seq: int | None = None
    # What it was told last, for good; said again if it did not hear it.
    farewell: Bye | Reject | None = None
    asked_for_frames: bool = False
    batches_count: int = 0
    item_seconds: float = 0.0
    round_trip: float = 0.0
    last_answer: float = 0.0
    # When it was last told of the epochs; never yet.
    epochs_sent_at: float = -math.inf

    @classmethod
    def from_hello(cls, hello: Hello, route: Route, key: str, standing: Standing, now: float) -> Worker:
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
            standing=standing,
            key=key,
            known_since=now,
        )

    def is_described_by(self, hello: Hello, route: Route, key: str) -> bool:
        """Whether this Hello can be of the same process."""
        told = (hello.worker_id, hello.host, hello.pid, hello.supervisor, hello.child_number, route.channel, key)
        known = (self.worker_id, self.host, self.pid, self.supervisor, self.child_number, self.channel, self.key)
        return told == known

    @property
    def name(self) -> str:
        return f"{self.worker_id} on {self.host}"

    @property
    def load(self) -> int:
        return len(self.leases)

    @property
    def takes_leases(self) -> bool:
        return self.state is WorkerState.SERVING and self.route is not None

    def busy_since(self, lease: int) -> float:
        """When it began, as far as can be told from here, what it computes instead of answering this lease."""
        return max(self.leases.get(lease, math.inf), self.last_answer)

    @property
    def target_load(self) -> int:
        """How many leases it should hold: one a slot, and enough to cover the round trip and some work."""
        if self.in_process or self.item_seconds <= 0.0:
            return self.slots
        # Both times are what the worker says of itself, so the quotient can be anything.
        return self.slots + 1 + int(min(_MOST_QUEUED, (self.round_trip + _QUEUED_SECONDS) / self.item_seconds))

    @property
    def wants_more(self) -> bool:
        """Refilled in pieces of a quarter, so that small batches travel many to a message."""
        target = self.target_load
        return len(self.leases) <= target - max(1, target // 4)

    def move_to(self, state: WorkerState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"worker {self.name} cannot go from {self.state} to {state}")
        self.state = state

    def take_result_number(self, seq: int) -> bool:
        """Note that this result message arrived; False if it had arrived before, or its number makes no sense."""
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
        return max(self.received_ahead, default=self.received_seq)

    def note_round_trip(self, seconds: float) -> None:
        """What the network takes; a worker that is stopped or starved of its processor says more than that."""
        if 0 < seconds < math.inf:
            # Whoever is believed to be far away is waited for: not for longer than any network takes.
            seconds = min(seconds, _LONGEST_ROUND_TRIP)
            known = self.round_trip
            self.round_trip = seconds if not 0.0 < known < seconds else known + _LONGER_WEIGHT * (seconds - known)

    def note_batches(self, count: int, busy: float, now: float) -> None:
        """A result message brought ``count`` batches that took ``busy`` seconds together."""
        self.batches_count += count
        self.last_answer = now
        newest = busy / count
        old = self.item_seconds
        self.item_seconds = newest if old == 0.0 else old + _NEWEST_WEIGHT * (newest - old)
