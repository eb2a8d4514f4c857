"""Refusals: a worker is turned away for a reason. The warning about missing workers lists the reasons."""

from __future__ import annotations

from enqueuer.core.actions import ERROR, FleetFailed
from enqueuer.core.state import State
from enqueuer.core.worker import Worker
from enqueuer.protocol.messages import Reject

# The bounds of what is kept: different reasons, and workers for each.
_REASONS_KEPT = 5
_NAMES_KEPT = 1_000


def reject(state: State, worker: Worker, reason: str) -> None:
    """Turn the worker away, in both logs. A local worker's reason ends the session."""
    is_new = note(state, worker.name, reason)
    if state.is_local(worker.channel):
        # This trainer made it for itself: no other worker will do better.
        state.actions.append(FleetFailed(f"local worker {worker.name} cannot serve: {reason}"))
    elif is_new:
        state.report(ERROR, f"rejected worker {worker.name}: {reason}")
    state.dismiss(worker, Reject(reason))


def describe(state: State) -> str:
    """Workers that came and were refused, by reason; '' if there was none. Callable from any thread."""
    parts = []
    for reason, names in [(reason, list(names)) for reason, names in list(state.refusals.items())]:
        if not names:
            continue  # the worker has begun to serve in this moment
        known = f"worker {names[0]} was" if len(names) == 1 else f"{len(names)} workers were"
        parts.append(f"{known} refused: {reason}")
    return "; ".join(parts)


def note(state: State, name: str, reason: str) -> bool:
    """Keep the reason; returns whether it is new for this worker: a refused worker tries again every few seconds."""
    if reason not in state.refusals and len(state.refusals) >= _REASONS_KEPT:
        del state.refusals[next(iter(state.refusals))]
    names = state.refusals.setdefault(reason, set())
    if name in names or len(names) >= _NAMES_KEPT:
        return False
    names.add(name)
    return True


def forget(state: State, name: str) -> None:
    """Drop the reasons for the worker of this name: it serves now."""
    for reason in [reason for reason, names in state.refusals.items() if name in names]:
        state.refusals[reason].discard(name)
        if not state.refusals[reason]:
            del state.refusals[reason]
