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

    running: bool = False
    epoch: int = 0
    # Batches of this epoch (of one that was resumed: what was left of it), and how many the trainer has taken.
    length: int = 0
    taken_count: int = 0
    # Undelivered batches: ready to take, received out of order, leased to workers.
    ready_count: int = 0
    received_count: int = 0
    leased_count: int = 0
    # How many of these there may be as of now, by number and by bytes; 0: any number.
    queue_limit: int = 0
    workers_count: int = 0
    slots_count: int = 0
    # Since start(): batches taken, bytes received from workers, seconds that consumers waited.
    batches_total: int = 0
    bytes_total: int = 0
    wait_seconds: float = 0.0
    # How many bytes of batches came in one byte that was sent, thanks to ``compression``; 1.0 without it. What came
    # through shared memory, or from local processes, does not count.
    compression_ratio: float = 1.0
    # (epoch, index) of every skipped batch, in the order in which they failed.
    skipped: tuple[tuple[int, int], ...] = ()
    retries_count: int = 0
    # Second leases for a late batch; batches that were given up after ``batch_timeout``, tries counted singly.
    hedges_count: int = 0
    timeouts_count: int = 0
    # Answers that came too late or twice, and messages that broke the wire contract.
    stale_count: int = 0
    malformed_count: int = 0
    # What peers did that no honest one does, and by whom; messages of those that were cut off, dropped unread.
    offences_count: int = 0
    offenders: tuple[OffenderStats, ...] = ()
    ignored_count: int = 0
    lost_workers_count: int = 0
    workers: tuple[WorkerStats, ...] = ()
