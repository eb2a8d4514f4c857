"""The statistics returned by `SequenceEnqueuer.stats()`: each field, its unit and how to read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """One connected worker. The local threads of a trainer are one worker with several slots.

    Attributes:
        worker_id: The worker's name, as in logs and errors.
        host: The name of the worker's host.
        pid: The id of the worker's process.
        local: Whether the trainer started the worker itself, as a thread or process.
        slots: How many batches the worker computes at a time.
        leases_count: Batches leased to the worker now, running or queued. 0 for long means that the worker is idle.
        batches_count: Batches received from the worker in this session. Compare workers by it to find a slow one.
        item_seconds: Compute time of one batch in seconds, averaged over the latest ones; 0.0 before the first one.
            Divide ``slots`` by it for the batches that the worker can compute in a second.
    """

    worker_id: str
    host: str
    pid: int
    local: bool
    slots: int
    leases_count: int
    batches_count: int
    item_seconds: float


@dataclass(frozen=True, slots=True)
class OffenderStats:
    """A peer that broke the protocol in a way that no fault of the network explains.

    Attributes:
        name: The peer, such as "worker w-0 on host".
        offences_count: The peer's offences in this session. A single one may be a defect; many are an attack.
        cut_off: Whether the peer is banned: its leases went to other workers, and its messages are dropped unread.
    """

    name: str
    offences_count: int
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of a running enqueuer or, after ``stop()`` or an error, of its last session.

    ``ready_count`` near ``queue_limit`` means that the trainer is the slow side. ``ready_count`` near 0 while all slots
    are leased means that more workers would help. With ``workers=0`` and no ``bind``, only ``running``, ``epoch``,
    ``length``, ``taken_count``, ``batches_total``, ``skipped`` and ``retries_count`` are set.

    Attributes:
        running: Whether the enqueuer is started and not stopped yet.
        epoch: The epoch of the batch taken last, from 0.
        length: Batches in this epoch; after a resume, those that were left in it; 0 while it is not known.
        taken_count: Batches of this epoch that the trainer has taken.
        ready_count: Batches that the trainer can take without waiting.
        received_count: Batches that have arrived and wait for an earlier one in order. A high number means that one
            batch is late.
        leased_count: Batches leased to workers and not received yet.
        queue_limit: How many batches may be ready, received or leased now, by ``max_queue_size`` and ``max_bytes``;
            0: any number.
        workers_count: Connected workers that take leases.
        slots_count: Batches that these workers can compute at a time.
        batches_total: Batches taken since ``start()``.
        bytes_total: Bytes of batches received from worker processes since ``start()``, counted without compression.
        wait_seconds: Seconds that ``next()`` waited for batches since ``start()``, summed over all consumers. This is
            the time that the training lost to its data.
        compression_ratio: Bytes of batches for each byte that was sent, over workers with ``compression``; 1.0 without
            it. Batches from local processes or through shared memory do not count.
        skipped: (epoch, index) of every batch skipped by ``on_error="skip"``, in the order of the stream.
        retries_count: How often a batch was tried again after its ``__getitem__`` raised.
        hedges_count: How often a late batch was leased to a second worker (``hedge``).
        timeouts_count: How often a worker was replaced because a batch exceeded ``batch_timeout``.
        stale_count: Answers that were dropped because they came too late or twice. Some are normal after a hedge, a
            lost worker or a faulty network.
        malformed_count: Messages that broke the wire contract and were dropped. Above 0, a peer is defective or
            hostile, or another program connects to the port.
        offences_count: Offences of all peers.
        offenders: Peers with at least one offence, the first offender first.
        ignored_count: Messages of banned peers that were dropped unread.
        lost_workers_count: How often a worker died or fell silent. A growing number points to hosts without memory,
            or to an unreliable network.
        workers: Each connected worker that takes leases.
    """

    running: bool = False
    epoch: int = 0
    length: int = 0
    taken_count: int = 0
    ready_count: int = 0
    received_count: int = 0
    leased_count: int = 0
    queue_limit: int = 0
    workers_count: int = 0
    slots_count: int = 0
    batches_total: int = 0
    bytes_total: int = 0
    wait_seconds: float = 0.0
    compression_ratio: float = 1.0
    skipped: tuple[tuple[int, int], ...] = ()
    retries_count: int = 0
    hedges_count: int = 0
    timeouts_count: int = 0
    stale_count: int = 0
    malformed_count: int = 0
    offences_count: int = 0
    offenders: tuple[OffenderStats, ...] = ()
    ignored_count: int = 0
    lost_workers_count: int = 0
    workers: tuple[WorkerStats, ...] = ()
