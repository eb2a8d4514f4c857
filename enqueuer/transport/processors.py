"""How many processors there are for this process."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Those that it may run on, where that can be told (Linux: a control group or `taskset` may leave it fewer)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
