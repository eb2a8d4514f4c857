"""Makes a `Stats` of the counters of the core, the ready queue and the receiver."""

from __future__ import annotations

import math
from collections.abc import Sequence

from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.state import State
from enqueuer.host import resident_bytes
from enqueuer.monitoring.stats import OffenderStats, Stats, WorkerStats
from enqueuer.monitoring.verdict_watch import VerdictWatch
from enqueuer.runtime.ready_queue import ReadyQueue
from enqueuer.runtime.receiver import Receiver


def take_snapshot(
    state: State,
    ready: ReadyQueue,
    receiver: Receiver,
    *,
    running: bool,
    shared_bytes: int,
    verdicts: VerdictWatch,
    with_workers: bool = True,
) -> Stats:
    """The present statistics. Called in the I/O thread, or after its end.

    Without ``with_workers`` the list of workers is empty: a large fleet takes a millisecond.
    """
    epoch, taken, length, ready_count = ready.progress
    runs = [run for _, run in sorted(state.ledger.runs.items())]
    held_back = _count_held_back(runs)
    bound = state.scheduler.bound
    workers = _worker_stats(state) if with_workers and running else ()
    return Stats(
        running=running,
        epoch=epoch,
        length=length,
        taken_count=taken,
        ready_count=ready_count + held_back,
        received_count=sum(run.buffered_count for run in runs) - held_back,
        leased_count=sum(run.leased_count for run in runs),
        # Batches above the bound on bytes are computed one at a time.
        queue_limit=0 if bound == math.inf else max(1, int(bound)),
        workers_count=len(workers) if with_workers else sum(worker.takes_leases for worker in state.fleet),
        slots_count=state.scheduler.slots_count if running else 0,
        batches_total=ready.taken_total,
        bytes_total=receiver.bytes_total,
        shared_bytes_total=shared_bytes,
        network_bytes_total=receiver.network_bytes,
        memory_bytes=resident_bytes(),
        elapsed_seconds=ready.times.elapsed_seconds,
        startup_seconds=ready.times.startup_seconds,
        wait_seconds=ready.times.wait_seconds,
        startup_wait_seconds=ready.times.startup_wait_seconds,
        compression_ratio=receiver.compression_ratio,
        skipped=tuple(state.skipped),
        retries_count=state.retries_count,
        hedges_count=state.hedges_count,
        timeouts_count=state.timeouts_count,
        stale_count=state.ledger.stale_count,
        malformed_count=state.peers.malformed_count,
        offences_count=state.peers.offences_count,
        offenders=tuple(
            OffenderStats(record.name, record.offences_count, record.banned) for record in state.peers.offenders
        ),
        ignored_count=receiver.ignored_count + state.peers.ignored_count,
        lost_workers_count=state.fleet.lost_count,
        workers=workers,
        events=tuple(state.history.events),
        verdict=verdicts.verdict,
        desired_slots=verdicts.desired_slots,
    )


def _worker_stats(state: State) -> tuple[WorkerStats, ...]:
    return tuple(
        WorkerStats(
            worker_id=worker.worker_id,
            host=worker.host,
            pid=worker.pid,
            local=worker.in_process or state.is_local(worker.channel),
            slots=worker.slots,
            leases_count=worker.load,
            batches_count=worker.batches_count,
            item_seconds=worker.item_seconds,
            item_seconds_p50=p50,
            item_seconds_p95=p95,
            received_bytes=worker.received_bytes,
            memory_bytes=worker.memory_bytes,
        )
        for worker in state.fleet
        if worker.takes_leases
        for p50, p95 in (worker.item_times.quantiles((0.5, 0.95)),)
    )


def _count_held_back(runs: Sequence[EpochRun]) -> int:
    """Batches of epochs computed ahead that are next in order: held back until their epoch's first one is asked for."""
    total = 0
    for run in runs:
        count = run.deliverable_count
        total += count
        if count < run.length:
            break
    return total
