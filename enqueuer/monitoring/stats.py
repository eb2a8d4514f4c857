"""The statistics returned by `SequenceEnqueuer.stats()`: each field, its unit and how to read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from enqueuer.core.fleet_history import FleetEvent
from enqueuer.core.verdict import Cause, Verdict
from enqueuer.monitoring.short_texts import counted


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
        item_seconds_p50: The time that half of its latest batches took less than, a tenth off at most. Batches that
            arrived in one message count with their mean.
        item_seconds_p95: The time that 95 % of its latest batches took less than.
        received_bytes: Bytes of the batches received from the worker, counted without compression.
        memory_bytes: The memory that the worker's process has, as of its last heartbeat; 0 for threads.
    """

    worker_id: str
    host: str
    pid: int
    local: bool
    slots: int
    leases_count: int
    batches_count: int
    item_seconds: float
    item_seconds_p50: float = 0.0
    item_seconds_p95: float = 0.0
    received_bytes: int = 0
    memory_bytes: int = 0


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
    """A snapshot of a running enqueuer or, after ``stop()`` or an error, of its last session; `print` it for a table.

    ``ready_count`` near ``queue_limit`` means that the trainer is the slow side. ``ready_count`` near 0 while all slots
    are leased means that more workers would help. With ``workers=0`` and no ``bind``, everything about workers is 0.

    Attributes:
        running: Whether the enqueuer is started and not stopped yet.
        epoch: The epoch of the batch taken last, from 0.
        length: Batches in this epoch; after a resume, those that were left in it; 0 while it is not known.
        taken_count: Batches of this epoch that the trainer has taken.
        ready_count: Batches that the trainer can take without waiting, also those of the next epoch.
        received_count: Batches that have arrived and wait for an earlier one in order. A high number means that one
            batch is late.
        leased_count: Batches leased to workers and not received yet.
        queue_limit: How many batches may be ready, received or leased now, by ``max_queue_size`` and ``max_bytes``;
            0: any number.
        workers_count: Connected workers that take leases.
        slots_count: Batches that these workers can compute at a time.
        batches_total: Batches taken since ``start()``.
        bytes_total: Bytes of batches received from worker processes since ``start()``, counted without compression.
        shared_bytes_total: The part of ``bytes_total`` that came through shared memory; the rest came through sockets.
        network_bytes_total: Bytes of batches that came over the network, as they travelled: compressed, if at all.
        memory_bytes: The memory that the trainer's process has now, shared memory included; 0 where that is unknown.
        elapsed_seconds: Seconds since ``start()``, until the snapshot or the end.
        startup_seconds: Seconds from ``start()`` until the first batch was taken, in which the workers start; 0.0
            before that. `batches_per_second` and `wait_share` leave them out.
        wait_seconds: Seconds that ``next()`` waited for batches since ``start()``, summed over all consumers.
        startup_wait_seconds: The part of ``wait_seconds`` before the first batch.
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
        events: When workers joined, drained, left, died or were lost, as (number, seconds since ``start()``, what,
            worker); the latest 256.
        verdict: What holds the training back, as `SequenceEnqueuer.verdict` says; None before the first ``start()``.
        desired_slots: The verdict's number for engines that start and end workers: it rises at once, and falls after
            five minutes in which it was too high. None while it is not known.
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
    shared_bytes_total: int = 0
    network_bytes_total: int = 0
    memory_bytes: int = 0
    elapsed_seconds: float = 0.0
    startup_seconds: float = 0.0
    wait_seconds: float = 0.0
    startup_wait_seconds: float = 0.0
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
    events: tuple[FleetEvent, ...] = ()
    verdict: Verdict | None = None
    desired_slots: int | None = None

    @property
    def batches_per_second(self) -> float:
        """Batches taken in a second, since the first one was; 0.0 before the second one."""
        seconds = self._seconds_since_first
        return (self.batches_total - 1) / seconds if self.batches_total > 1 and seconds > 0 else 0.0

    @property
    def wait_share(self) -> float:
        """The part of the time that the trainer waited for batches, since it took the first one: 0.0 to 1.0.

        This is what the training lost to its data. Several consumers can wait at once: then it is 1.0 at most.
        """
        seconds = self._seconds_since_first
        return min(1.0, (self.wait_seconds - self.startup_wait_seconds) / seconds) if seconds > 0 else 0.0

    @property
    def _seconds_since_first(self) -> float:
        return self.elapsed_seconds - self.startup_seconds if self.batches_total else 0.0

    def __str__(self) -> str:
        """A table for people; counts of faults are in it only if they are not 0."""
        return "\n".join(f"{name:<12}{text}" for name, text in _describe(self))


def _describe(stats: Stats) -> Iterator[tuple[str, str]]:
    """The lines of the table: each with its name and its text."""
    left = f" of {stats.length}" if stats.length else ""
    yield "epoch", f"{stats.epoch}, {stats.taken_count}{left} batches taken{'' if stats.running else ' (stopped)'}"
    yield "rate", f"{stats.batches_per_second:.1f} batches/s ({stats.batches_total} batches in all)"
    first = f", the first batch after {stats.startup_seconds:.1f} s" if stats.batches_total else ", no batch yet"
    yield "elapsed", f"{stats.elapsed_seconds:.1f} s{first}"
    yield "waiting", f"{stats.wait_share:.1%} of the time since the first batch"
    limit = f" of at most {stats.queue_limit}" if stats.queue_limit else ""
    yield (
        "queue",
        f"{stats.ready_count} ready, {stats.received_count} ahead of turn, {stats.leased_count} leased{limit}",
    )
    if stats.bytes_total:
        ratio = f", compressed {stats.compression_ratio:.1f} : 1" if stats.compression_ratio != 1.0 else ""
        shared = f", {stats.shared_bytes_total / stats.bytes_total:.0%} of it through shared memory"
        way = shared if stats.shared_bytes_total else ""
        yield "received", f"{stats.bytes_total / 1e6:.1f} MB from worker processes{way}{ratio}"
    faults = {
        "skipped": len(stats.skipped),
        "retries": stats.retries_count,
        "hedges": stats.hedges_count,
        "time-outs": stats.timeouts_count,
        "lost workers": stats.lost_workers_count,
        "malformed messages": stats.malformed_count,
        "offences": stats.offences_count,
    }
    if any(faults.values()):
        yield "faults", ", ".join(counted(count, name) for name, count in faults.items() if count)
    if stats.verdict is not None and stats.verdict.cause is not Cause.TOO_EARLY:
        yield "verdict", str(stats.verdict)
    yield "workers", f"{stats.workers_count} ({stats.slots_count} slot{'' if stats.slots_count == 1 else 's'})"
    for worker in stats.workers:
        place = f"{worker.worker_id} on {worker.host}"
        yield "", f"{place:<24} {worker.batches_count} batches, {1000 * worker.item_seconds:.1f} ms each"
