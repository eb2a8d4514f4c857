"""Makes a `Snapshot` of a session for an observer, from the core, the ready queue, the receiver and the verdict."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice

import enqueuer
from enqueuer.core.actions import Show
from enqueuer.core.state import State
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.monitoring.stats import Stats
from enqueuer.monitoring.verdict_watch import VerdictWatch
from enqueuer.protocol.messages import MOST_EVENTS
from enqueuer.protocol.observation import Snapshot, WorkerRow

# A worker chooses its name and its host's; the allowances count short ones.
_MOST_NAME = 64
_STATS_FIELDS = {field.name for field in fields(Stats)} - {"events"}
_SHARED_FIELDS = [name for name in Snapshot._fields if name in _STATS_FIELDS]


def make_snapshot(state: State, stats: Stats, verdicts: VerdictWatch, show: Show) -> Snapshot:
    """The Snapshot for this observer. Called in the I/O thread; ``stats`` are the present ones, their workers aside."""
    verdict, window = verdicts.verdict, verdicts.window
    states = Counter(worker.state for worker in state.fleet)
    events = [event for event in state.history.events if event.number > show.after_event]
    return Snapshot(
        **{name: getattr(stats, name) for name in _SHARED_FIELDS},
        library_version=enqueuer.__version__,
        host=socket.gethostname()[:_MOST_NAME],
        pid=os.getpid(),
        joining_count=states[WorkerState.JOINING],
        draining_count=states[WorkerState.DRAINING],
        busy_seconds=state.busy_seconds,
        io_thread_seconds=time.thread_time(),
        skipped_count=len(state.skipped),
        cause=verdict.cause.value,
        recent_wait_share=verdict.wait_share,
        sentence=verdict.sentence,
        cure=verdict.cure,
        window_seconds=window.seconds,
        window_batches=window.batches_count,
        item_counts=tuple(state.fleet.item_times.octaves()),
        events=tuple(
            (event.number, event.seconds, event.what, event.worker[:_MOST_NAME]) for event in events[-MOST_EVENTS:]
        ),
        rows_total=len(state.fleet),
        first_row=show.first_row,
        rows=_rows(state, show),
        seconds_to_ask=show.seconds,
        workers_memory_bytes=sum(worker.memory_bytes for worker in state.fleet),
        worker_cpu_seconds=state.usage.cpu_seconds,
        worker_read_bytes=state.usage.read_bytes,
        sending_seconds=state.usage.sending_seconds,
        demand=window.demand,
        work_seconds=window.work_seconds,
        busy_share=window.busy_share,
        computing_share=window.computing_share,
        sending_share=window.sending_share,
        blocked_share=window.blocked_share,
        late_share=window.late_share,
        io_thread_share=window.io_thread_share,
        held_share=window.held_share,
        bind=state.facts.address,
        data_bind=state.facts.data_address,
    )


def _rows(state: State, show: Show) -> tuple[WorkerRow, ...]:
    workers: Sequence[Worker] = list(islice(state.fleet, show.first_row, show.first_row + show.rows_count))
    return tuple(_row(state, worker) for worker in workers)


def _row(state: State, worker: Worker) -> WorkerRow:
    p50, p95 = worker.item_times.quantiles((0.5, 0.95))
    return WorkerRow(
        worker_id=worker.worker_id[:_MOST_NAME],
        host=worker.host[:_MOST_NAME],
        pid=worker.pid,
        state=worker.state.name.lower(),
        slots=worker.slots,
        leases_count=worker.load,
        batches_count=worker.batches_count,
        received_bytes=worker.received_bytes,
        item_seconds=worker.item_seconds,
        item_seconds_p50=p50,
        item_seconds_p95=p95,
        computing=_computing(state, worker),
        memory_bytes=worker.memory_bytes,
    )


def _computing(state: State, worker: Worker) -> tuple[int, int, float] | None:
    """The epoch and index of the worker's oldest lease, and the seconds since it can have begun; None without one."""
    lease = next(iter(worker.leases), None)
    entry = state.ledger.find(lease) if lease is not None else None
    if lease is None or entry is None or entry[1] < 0:  # it is a sample
        return None
    run, position, _ = entry
    return run.epoch, int(run.order[position]), max(0.0, time.monotonic() - worker.busy_since(lease))
