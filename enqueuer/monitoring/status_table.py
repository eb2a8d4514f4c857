"""A snapshot as a table of 80 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from enqueuer.monitoring.session_texts import faults, memory, progress, slots
from enqueuer.monitoring.short_texts import counted, cut, duration, known_seconds, short_seconds
from enqueuer.protocol.observation import Snapshot, WorkerRow

_WIDTH = 80
_NAME_WIDTH = 10
_HEAD = f"{'worker':<16} {'host':<12} {'state':<8} {'batches':>8} {'p50':>7} {'p95':>7} computes"


def describe(snapshot: Snapshot, *, most_workers: int | None) -> Iterator[str]:
    """The lines of the table; ``most_workers`` (None: any number) keeps the workers with the longest computations."""
    place = cut(f"trainer {snapshot.pid} on {snapshot.host}", 44)
    head = f"{place}, Enqueuer {snapshot.library_version}, for {duration(snapshot.elapsed_seconds)}"
    yield cut(head, _WIDTH)
    for name, text in _facts(snapshot):
        lines = textwrap.wrap(text, _WIDTH - _NAME_WIDTH, break_long_words=True)
        yield f"{name:<{_NAME_WIDTH}}{lines[0]}"
        for line in lines[1:]:
            yield " " * _NAME_WIDTH + line
    if snapshot.rows:
        yield _HEAD
    rows = sorted(snapshot.rows, key=_interest) if most_workers is not None else list(snapshot.rows)
    for row in rows[:most_workers]:
        yield _row(row)
    if len(rows) > len(rows[:most_workers]):
        yield f"… and {len(rows) - len(rows[:most_workers])} more workers (--all)"


def _facts(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    yield "epoch", f"{progress(snapshot)} batches taken"
    seconds = snapshot.window_seconds
    rate = f"{snapshot.window_batches / seconds:.1f} batches/s in the last {seconds:.0f} s" if seconds > 0 else "–"
    yield "rate", f"{rate} ({snapshot.batches_total} batches in all)"
    yield "waiting", f"{snapshot.recent_wait_share:.1%} of that time"
    limit = f" of at most {snapshot.queue_limit}" if snapshot.queue_limit else ""
    yield (
        "queue",
        f"{snapshot.ready_count} ready, {snapshot.received_count} ahead of turn, {snapshot.leased_count} leased{limit}",
    )
    if snapshot.bytes_total:
        shared = snapshot.shared_bytes_total / snapshot.bytes_total
        yield "received", f"{snapshot.bytes_total / 1e6:.1f} MB, {shared:.0%} of it through shared memory"
    if snapshot.memory_bytes:
        yield "memory", memory(snapshot)
    counts = faults(snapshot)
    if any(counts.values()):
        yield "faults", ", ".join(counted(count, name) for name, count in counts.items() if count)
    yield "verdict", f"{snapshot.sentence}: {snapshot.cure}" if snapshot.cure else snapshot.sentence
    yield "slots", slots(snapshot)
    states = Counter(row.state for row in snapshot.rows)
    yield "workers", ", ".join(f"{count} {state}" for state, count in states.items()) or "none"


def _interest(row: WorkerRow) -> tuple[bool, float]:
    """Workers in another state than serving come first, then the longest computations."""
    return row.state == "serving", -(row.computing[2] if row.computing is not None else 0.0)


def _row(row: WorkerRow) -> str:
    computes = "–"
    if row.computing is not None:
        epoch, index, seconds = row.computing
        computes = f"{epoch}/{index} {short_seconds(seconds)}"
    return (
        f"{cut(row.worker_id, 16):<16} {cut(row.host, 12):<12} {row.state:<8} {row.batches_count:>8} "
        f"{known_seconds(row.item_seconds_p50):>7} {known_seconds(row.item_seconds_p95):>7} {computes}"
    )[:_WIDTH]
