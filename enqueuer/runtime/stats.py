"""Makes a `Stats` out of what the core, the ready queue and the I/O loop know."""

from __future__ import annotations

import math

from enqueuer.core.coordinator import Coordinator
from enqueuer.monitoring.stats import OffenderStats, Stats, WorkerStats
from enqueuer.runtime.ready_queue import ReadyQueue
from enqueuer.runtime.receiver import Intake


def take_snapshot(coordinator: Coordinator, ready: ReadyQueue, intake: Intake, *, running: bool) -> Stats:
    """Call it in the I/O thread, or after that has ended."""
    epoch, taken, length, ready_count = ready.progress
    runs = list(coordinator.ledger.runs.values())
    bound = coordinator.scheduler.bound
    local = {channel.name for channel in coordinator.settings.channels if channel.local}
    workers = tuple(
        WorkerStats(
            worker_id=worker.worker_id,
            host=worker.host,
            pid=worker.pid,
            local=worker.in_process or worker.channel in local,
            slots=worker.slots,
            leases_count=worker.load,
            batches_count=worker.batches_count,
            item_seconds=worker.item_seconds,
        )
        for worker in coordinator.fleet
        if running and worker.takes_leases
    )
    return Stats(
        running=running,
        epoch=epoch,
        length=length,
        taken_count=taken,
        ready_count=ready_count,
        received_count=sum(run.buffered_count for run in runs),
        leased_count=sum(run.leased_count for run in runs),
        # Batches that weigh more than is allowed come one at a time.
        queue_limit=0 if bound == math.inf else max(1, int(bound)),
        workers_count=len(workers),
        slots_count=coordinator.scheduler.slots_count if running else 0,
        batches_total=ready.taken_total,
        bytes_total=intake.bytes_total,
        wait_seconds=ready.wait_seconds,
        compression_ratio=intake.compression_ratio,
        skipped=tuple(coordinator.failures.skipped),
        retries_count=coordinator.failures.retries_count,
        hedges_count=coordinator.granting.hedges_count,
        timeouts_count=coordinator.failures.timeouts_count,
        stale_count=coordinator.ledger.stale_count,
        malformed_count=coordinator.malformed_count,
        offences_count=coordinator.conduct.offences_count,
        offenders=tuple(
            OffenderStats(standing.name, standing.offences_count, standing.cut_off)
            for standing in coordinator.conduct.offenders
        ),
        ignored_count=coordinator.conduct.ignored_count,
        lost_workers_count=coordinator.fleet.lost_count,
        workers=workers,
    )
