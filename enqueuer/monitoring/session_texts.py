"""Short texts about a session from its snapshot, shared by `enqueuer status` and `enqueuer top`."""

from __future__ import annotations

from enqueuer.monitoring.short_texts import short_bytes
from enqueuer.protocol.observation import Snapshot


def progress(snapshot: Snapshot) -> str:
    """The epoch and how far it is."""
    left = f" of {snapshot.length}" if snapshot.length else ""
    return f"{snapshot.epoch}, {snapshot.taken_count}{left}"


def slots(snapshot: Snapshot) -> str:
    """The number of slots, and the number needed to keep up with the training."""
    wanted = "" if snapshot.desired_slots is None else f", {snapshot.desired_slots} would keep up"
    return f"{snapshot.slots_count}{wanted}"


def received(snapshot: Snapshot) -> str:
    """The bytes of received batches, and the share of shared memory in them."""
    shared = f", {snapshot.shared_bytes_total / snapshot.bytes_total:.0%} shared" if snapshot.bytes_total else ""
    return f"{short_bytes(snapshot.bytes_total)}{shared}"


def memory(snapshot: Snapshot) -> str:
    """The memory of the trainer and of its workers."""
    if not snapshot.memory_bytes:
        return "not known"
    return f"{short_bytes(snapshot.memory_bytes)}, and {short_bytes(snapshot.workers_memory_bytes)} of workers"


def workers(snapshot: Snapshot) -> str:
    """The number of workers in each state."""
    counts = {
        "serving": snapshot.workers_count,
        "joining": snapshot.joining_count,
        "draining": snapshot.draining_count,
    }
    counts["lost"] = snapshot.rows_total - sum(counts.values())
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count > 0) or "none"


def faults(snapshot: Snapshot) -> dict[str, int]:
    """The count of each kind of fault, by name."""
    return {
        "skipped": snapshot.skipped_count,
        "retries": snapshot.retries_count,
        "hedges": snapshot.hedges_count,
        "time-outs": snapshot.timeouts_count,
        "lost workers": snapshot.lost_workers_count,
        "malformed messages": snapshot.malformed_count,
        "offences": snapshot.offences_count,
    }
