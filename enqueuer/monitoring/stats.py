"""What `SequenceEnqueuer.stats()` returns: a snapshot, and how to read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """One connected worker."""

    worker_id: str
    host: str
    pid: int
    local: bool
    slots: int
    leases_count: int
    batches_count: int
    # Compute time of one batch lately, in seconds; 0.0 before the first one.
    item_seconds: float


@dataclass(frozen=True, slots=True)
class OffenderStats:
    """A peer that did what no honest one does: "worker w-0 on host". ``cut_off``: nothing from it is read any more."""

    name: str
    offences_count: int
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of a running (or stopped) enqueuer.

    How to read it: a ``ready_count`` near ``queue_limit`` means the trainer is the slow side; near 0 with all slots
    leased means that more workers would help. ``wait_seconds`` is what the training loop lost to waiting for data.
    """

    running: bool
    epoch: int
    # Batches of this epoch (of one that was resumed: what was left of it), and how many the trainer has taken.
    length: int
    taken_count: int
    # Undelivered batches: ready to take, received out of order, leased to workers.
    ready_count: int
    received_count: int
    leased_count: int
    # How many of these there may be, with max_queue_size="auto" as of now; 0: any number.
    queue_limit: int
    workers_count: int
    slots_count: int
    # Since start(): batches taken, bytes received from workers, seconds that consumers waited.
    batches_total: int
    bytes_total: int
    wait_seconds: float
    # How many bytes of batches came in one byte that was sent, thanks to ``compression``; 1.0 without it. What came
    # through shared memory, or from local processes, does not count.
    compression_ratio: float
    # (epoch, index) of every skipped batch, in the order in which they failed.
    skipped: tuple[tuple[int, int], ...]
    retries_count: int
    # Second leases for a late batch; batches that were given up after ``batch_timeout``, tries counted singly.
    hedges_count: int
    timeouts_count: int
    # Answers that came too late or twice, and messages that broke the wire contract.
    stale_count: int
    malformed_count: int
    # What peers did that no honest one does, and by whom; messages of those that were cut off, dropped unread.
    offences_count: int
    offenders: tuple[OffenderStats, ...]
    ignored_count: int
    lost_workers_count: int
    workers: tuple[WorkerStats, ...]
