"""The message `Snapshot`, which shows a session to an observer, and the rows in it. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker in a Snapshot. Quantiles are those of its latest items, a tenth off at most.

    ``computing`` is the epoch and the index of its oldest lease, and for how many seconds it may have been computing
    it; None without a lease. Bytes are those of its batches, counted without compression.
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session as an observer sees it. Fields with the names of ``Stats`` have its meanings.

    The verdict is that of the latest ``window_seconds``, in which ``window_batches`` were taken; ``desired_slots`` is
    None while it is not known. ``item_counts`` are the items by the octave of their time: up to 2**-19 s, up to
    2**-18 s, and so on. ``events`` are (number, seconds since the start, what, worker), the earliest first.
    ``rows_total`` workers are known; ``rows`` are those from ``first_row`` on, in the order in which they came.
    In ``seconds_to_ask``, a request of this size is answered again. The trainer listens for remote workers at ``bind``
    and ``data_bind``, '' if it does not.
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
    bind: str = ""
    data_bind: str = ""
