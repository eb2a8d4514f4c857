"""The probe: the training loop runs on one batch from memory, and so tells its own rate, without data in the way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator
from copy import deepcopy
from typing import Any

# The first step of a training compiles, or fills caches.
_WARM_UP_STEPS = 1


def repeat(batch: Any, steps: int, note_rate: Callable[[float], None]) -> Generator[Any, None, None]:
    """Yield a copy of ``batch`` for each of the ``steps``; then note the batches a second that the caller takes.

    The rate is that of the median step without the first one. A loop that is left earlier notes what it has shown.
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
        if measured:
            note_rate(1.0 / max(statistics.median(measured), 1e-9))
