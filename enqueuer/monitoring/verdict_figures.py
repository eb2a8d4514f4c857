"""The figures behind a verdict, in words."""

from __future__ import annotations

from collections.abc import Iterator

from enqueuer.protocol.observation import Snapshot


def describe_figures(seen: Snapshot) -> Iterator[tuple[str, str]]:
    """The name and the text of each figure in the verdict's window."""
    if seen.window_seconds <= 0:
        return
    rate = seen.window_batches / seen.window_seconds
    wanted = "" if seen.desired_slots is None else f"; {seen.desired_slots} would keep up"
    yield "window", f"{seen.window_batches} batches in {seen.window_seconds:.0f} s, {rate:.3g} a second"
    yield "training", f"waits {seen.recent_wait_share:.0%}; without waiting it would take {seen.demand:.3g} a second"
    work = f"{1000 * seen.work_seconds:.3g} ms a batch"
    yield "slots", f"{seen.slots_count}, computing {seen.busy_share:.0%} of the time, {work}{wanted}"
    if seen.computing_share is not None:
        yield "items", f"{seen.computing_share:.0%} of their time with a processor, or in wait for one"
    yield (
        "waiting",
        f"behind one late batch {seen.blocked_share:.0%}, for the network {seen.sending_share:.0%} of the slots' idle "
        f"time, with a batch ready {seen.late_share:.0%}",
    )
    yield "coordinator", f"{seen.io_thread_share:.0%} of a core; interpreter held in {seen.held_share:.0%} of looks"
