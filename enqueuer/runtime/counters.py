"""Reads the verdict's counters from the core, the ready queue and the receiver."""

from __future__ import annotations

import math
import time
from textwrap import shorten

from enqueuer.core import refusals
from enqueuer.core.state import State
from enqueuer.core.window import LateBatch
from enqueuer.monitoring.interpreter import InterpreterProbe
from enqueuer.monitoring.verdict_watch import Counters
from enqueuer.runtime.ready_queue import ReadyQueue
from enqueuer.runtime.receiver import Receiver

# Characters of the reasons why workers were refused, in the verdict's sentence: observers get it.
_MOST_TEXT = 200


def read_counters(state: State, ready: ReadyQueue, receiver: Receiver, interpreter: InterpreterProbe) -> Counters:
    """The present counters. Called in the I/O thread, because its own processor time is among them."""
    times = ready.times
    return Counters(
        batches_count=ready.taken_total,
        wait_seconds=times.wait_seconds - times.startup_wait_seconds if ready.taken_total else times.wait_seconds,
        busy_seconds=state.busy_seconds,
        computed_count=state.fleet.item_times.total,
        failures_count=state.retries_count + state.timeouts_count + len(state.skipped) + state.fleet.lost_count,
        ready_wait_seconds=times.late_seconds,
        received_bytes=receiver.network_bytes,
        io_thread_seconds=time.thread_time(),
        probes_count=interpreter.probes_count,
        held_count=interpreter.held_count,
        sending_seconds=state.usage.sending_seconds,
        read_bytes=state.usage.read_bytes,
        worker_cpu_seconds=state.usage.cpu_seconds,
        worker_busy_seconds=state.usage.busy_seconds,
        slots_count=state.scheduler.slots_count,
        compression_ratio=receiver.compression_ratio,
        refused=_describe_refused(state),
        late_batch=_find_late_batch(state),
    )


def _describe_refused(state: State) -> str:
    """Why no worker serves, as far as workers came and were refused."""
    return "" if state.scheduler.slots_count else shorten(refusals.describe(state), _MOST_TEXT, placeholder=" …")


def _find_late_batch(state: State) -> LateBatch | None:
    """The head of the order, if a slot is idle while at least half of the bound waits behind it.

    A slot with a hedge of the head counts as idle: it would be idle without the hedge.
    """
    runs, bound = state.ledger.runs, state.scheduler.bound
    if not runs or bound == math.inf:
        return None
    run = runs[min(runs)]
    position = run.head_in_waiting
    if position is None or run.buffered_count < max(1.0, bound / 2):
        return None
    leases = run.leases_of(position)
    if len(leases) < 2 and not state.scheduler.has_idle:
        return None
    entry = state.ledger.find(leases[0]) if leases else None
    return LateBatch(run.epoch, run.order[position], entry[2].host if entry is not None else "no worker yet")
