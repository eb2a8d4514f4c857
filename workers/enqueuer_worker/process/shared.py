"""The objects shared by the two threads of a worker process.

    I/O loop ──── Prepare, Compute, Cancel ────► tasks ────► compute thread (user code)
    I/O loop ◄─── Computed, Failed, Loaded, … ── outbox ◄─── compute thread
    I/O loop ──── leave, refuse ───────────────► memory ◄─── compute thread puts batches into it

The compute thread is the main thread. The I/O loop runs in either thread, never in both at once: see `TurnTaking`.
"""

from __future__ import annotations

from dataclasses import dataclass

from enqueuer_worker.process.batch_memory import BatchMemory
from enqueuer_worker.process.outbox import Outbox
from enqueuer_worker.process.tasks import TaskQueue


@dataclass(frozen=True, slots=True)
class Shared:
    """The task queue, outbox and batch memory of a worker process, one of each for its life."""

    tasks: TaskQueue
    outbox: Outbox
    memory: BatchMemory
