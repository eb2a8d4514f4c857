"""The message `Snapshot`, which shows a session to an observer, and the rows in it. Times are in seconds."""

from __future__ import annotations

from typing import NamedTuple


class WorkerRow(NamedTuple):
    """One worker in a Snapshot. Quantiles are those of its latest items, a tenth off at most.

    ``computing`` is the epoch and the index of its oldest lease, and for how many seconds it may have been computing
    it; None without a lease. ``received_bytes`` are those of its batches, counted without compression;
    ``memory_bytes`` is the memory that its process has, 0 before its first heartbeat.
    """

    worker_id: str
    host: str
    pid: int
    state: str
    slots: int
    leases_count: int
    batches_count: int
    received_bytes: int
    item_seconds: float
    item_seconds_p50: float
    item_seconds_p95: float
    computing: tuple[int, int, float] | None
    memory_bytes: int = 0


class Snapshot(NamedTuple):
    """A session as an observer sees it. Fields with the names of ``Stats`` have its meanings.

    The verdict is that of the latest ``window_seconds``, in which ``window_batches`` were taken; ``desired_slots`` is
    None while it is not known. ``item_counts`` are the items by the octave of their time: up to 2**-19 s, up to
    2**-18 s, and so on. ``events`` are (number, seconds since the start, what, worker), the earliest first.
    ``rows_total`` workers are known; ``rows`` are those from ``first_row`` on, in the order in which they came.
    In ``seconds_to_ask``, a request of this size is answered again. The trainer listens for remote workers at ``bind``
    and ``data_bind``, '' if it does not.

    ``memory_bytes`` is the trainer's memory, ``workers_memory_bytes`` that of its workers' processes. What workers tell
    of themselves counts from their first heartbeats on: ``worker_cpu_seconds``, ``worker_read_bytes`` and
    ``sending_seconds`` are the fields of ``Heartbeat``.

    The figures behind the verdict, of its window, are those of ``Window``: ``demand`` to ``held_share``.
    """

    library_version: str
    host: str
    pid: int
    elapsed_seconds: float
    startup_seconds: float
    epoch: int
    taken_count: int
    length: int
    ready_count: int
    received_count: int
    leased_count: int
    queue_limit: int
    workers_count: int
    slots_count: int
    joining_count: int
    draining_count: int
    batches_total: int
    bytes_total: int
    shared_bytes_total: int
    compression_ratio: float
    wait_seconds: float
    startup_wait_seconds: float
    busy_seconds: float
    io_thread_seconds: float
    skipped_count: int
    retries_count: int
    hedges_count: int
    timeouts_count: int
    stale_count: int
    malformed_count: int
    offences_count: int
    lost_workers_count: int
    cause: str
    recent_wait_share: float
    desired_slots: int | None
    sentence: str
    cure: str
    window_seconds: float
    window_batches: int
    item_counts: tuple[int, ...]
    events: tuple[tuple[int, float, str, str], ...]
    rows_total: int
    first_row: int
    rows: tuple[WorkerRow, ...]
    seconds_to_ask: float
    memory_bytes: int = 0
    workers_memory_bytes: int = 0
    network_bytes_total: int = 0
    worker_cpu_seconds: float = 0.0
    worker_read_bytes: int = 0
    sending_seconds: float = 0.0
    demand: float = 0.0
    work_seconds: float = 0.0
    busy_share: float = 0.0
    computing_share: float | None = None
    sending_share: float = 0.0
    blocked_share: float = 0.0
    late_share: float = 0.0
    io_thread_share: float = 0.0
    held_share: float = 0.0
    bind: str = ""
    data_bind: str = ""
