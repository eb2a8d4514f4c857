"""A worker's books of one session: the epochs announced to it, the leases it holds, the results on their way.

    Grant ──► queued ──┬── computed ────► unacknowledged ── acknowledged ──┐
                       └── failed, revoked ────────────────────────────────┴──► forgotten

The worker *holds* a lease while it is queued or unacknowledged, and lists it in each Heartbeat and Hello. Results are
kept until they are acknowledged, so a broken link loses none of them. Failures are not kept: if one is lost, the worker
no longer lists its lease, and the coordinator grants it again.

Methods return the actions to perform. They know neither phases nor links: `WorkerCore` does, and sends nothing without
a link. The books survive a new link and are dropped with the session.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from enqueuer.protocol.control_codec import MAX_LEASES
from enqueuer.protocol.messages import Epoch, Failure, Grant, Heartbeat, LoadFailure, Ready, Welcome
from enqueuer_worker.core.events import (
    Action,
    Cancel,
    Compute,
    Computed,
    Failed,
    LeaveSharedMemory,
    Prepare,
    Send,
    SendResults,
)
from enqueuer_worker.core.unacknowledged import Unacknowledged

# The current epoch, the one prefetched after it, and the one just left.
_EPOCHS_KEPT = 3


@dataclass(slots=True)
class Session:
    """The books of one session. Only `WorkerCore` calls it."""

    id: bytes
    # The latest Welcome of this session; each new link brings one.
    welcome: Welcome
    unacknowledged: Unacknowledged
    # The last epochs announced, by number and state generation.
    epochs: dict[tuple[int, int], Epoch] = field(default_factory=dict)
    # The answer to each of them, repeated when its Epoch comes again: the first may have been lost with a link.
    prepared: dict[tuple[int, int], Ready | LoadFailure] = field(default_factory=dict)
    # The highest state generation announced.
    generation: int = -1
    # Leases granted and not answered yet, in the order of their grants.
    queued: dict[int, None] = field(default_factory=dict)
    highest_grant: int = 0
    # Items answered with a batch or a failure: a worker's share is counted in these.
    answered_count: int = 0
    # Whether the trainer can read this worker's shared memory.
    blocks: bool = True

    @classmethod
    def joined(cls, session_id: bytes, welcome: Welcome) -> Session:
        """Open new books. Results are numbered on from the Welcome's number: the worker may return to this session."""
        return cls(session_id, welcome, Unacknowledged(welcome.heartbeat_interval, welcome.received_seq))

    @property
    def has_computed_its_share(self) -> bool:
        """Whether the trainer wants a fresh process in place of this one (``max_batches``)."""
        limit = self.welcome.options.get("max_batches")
        return isinstance(limit, int) and self.answered_count >= limit

    def held(self) -> tuple[int, ...]:
        """The leases held, for Heartbeat and Hello."""
        # The oldest of very many are left out: at worst they are granted again.
        return tuple(sorted(self.unacknowledged.leases().union(self.queued))[-MAX_LEASES:])

    def heartbeat(self, running: int, now: float, round_trip: float) -> Heartbeat:
        """The state of these books; ``running`` is the lease being computed, ``now`` comes back in the reply."""
        sent_seq = self.unacknowledged.sent_seq
        return Heartbeat(self.held(), self.highest_grant, self.generation, sent_seq, running, now, round_trip)

    # ------------------------------------------------------------ messages of the coordinator

    def announce(self, epoch: Epoch) -> list[Action]:
        """Take note of an epoch and have it prepared; a repeated one gets its answer again."""
        key = (epoch.epoch, epoch.generation)
        if key in self.epochs:
            return [Send(self.id, self.prepared[key])] if key in self.prepared else []
        self.epochs[key] = epoch
        self.generation = max(epoch.generation, self.generation)
        while len(self.epochs) > _EPOCHS_KEPT:
            oldest = next(iter(self.epochs))
            del self.epochs[oldest]
            self.prepared.pop(oldest, None)
        return [Prepare(self.id, self.welcome, epoch)]

    def grant(self, grant: Grant) -> list[Action]:
        """Queue new leases; a repeated grant, or one of an unknown epoch, is ignored."""
        epoch = self.epochs.get((grant.epoch, grant.generation))
        # Lease numbers only grow, so a grant at or below the highest is a repetition.
        if epoch is None or grant.first_lease <= self.highest_grant:
            return []
        self.highest_grant = grant.first_lease + len(grant.indices) - 1
        self.queued.update(dict.fromkeys(range(grant.first_lease, self.highest_grant + 1)))
        return [Compute(self.id, epoch, grant.first_lease, grant.indices)]

    def revoke(self, leases: Iterable[int], running: int) -> list[Action]:
        """Forget these leases where they are queued, except the ``running`` one: its item goes on."""
        dropped = frozenset(lease for lease in leases if lease in self.queued and lease != running)
        for lease in dropped:
            del self.queued[lease]
        return [Cancel(dropped)] if dropped else []

    def leave_shared_memory(self) -> list[Action]:
        """Name blocks no more, and send all kept results as frames.

        The coordinator asks once for each message with blocks on its way, so a second time does nothing.
        """
        if not self.blocks:
            return []
        self.blocks = False
        return [LeaveSharedMemory(), *self.results(self.unacknowledged)]

    # ------------------------------------------------------------ answers of the compute thread

    def add_results(self, computed: Computed, now: float) -> list[Action]:
        """Number and keep these batches."""
        for lease in computed.leases:
            self.queued.pop(lease, None)
        self.answered_count += len(computed.leases)
        return self.results([(self.unacknowledged.add(computed, now), computed)])

    def add_failure(self, failed: Failed) -> list[Action]:
        """Take note of a failed item."""
        self.queued.pop(failed.lease, None)
        self.answered_count += 1
        return [Send(self.id, Failure(failed.epoch, failed.generation, failed.lease, failed.error))]

    def add_prepared(self, answer: Ready | LoadFailure) -> list[Action]:
        """Keep the answer to an Epoch, for when it comes again."""
        key = (answer.epoch, answer.generation)
        if key in self.epochs:
            self.prepared[key] = answer
        return [Send(self.id, answer)]

    def results(self, numbered: Iterable[tuple[int, Computed]]) -> list[Action]:
        """The actions to send these results, each under its number."""
        return [SendResults(self.id, seq, computed, self.blocks) for seq, computed in numbered]
