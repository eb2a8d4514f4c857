"""The probe: the training loop runs on one batch from memory, which shows its own rate without any wait for data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator
from copy import deepcopy
from typing import Any

# The first step of a training compiles, or fills caches.
_WARM_UP_STEPS = 1


def repeat(batch: Any, steps: int, end: Callable[[float | None], None]) -> Generator[Any, None, None]:
    """Yield a copy of ``batch`` for each of the ``steps``; then call ``end`` with the caller's batches a second.

    The rate is the median step's, without the first step. If the loop is left earlier, the steps so far count; the rate
    is None if there was only the first.
    """
    seconds: list[float] = []
    try:
        for _ in range(steps):
            # A step may change its batch in place. The copy is made before the clock starts.
            copied = deepcopy(batch)
            started = time.perf_counter()
            yield copied
            seconds.append(time.perf_counter() - started)
    finally:
        measured = seconds[_WARM_UP_STEPS:]
        end(1.0 / max(statistics.median(measured), 1e-9) if measured else None)
