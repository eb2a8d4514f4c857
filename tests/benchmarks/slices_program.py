"""One contestant of `tests.benchmarks.slices`: `slices_program.py CELL`, with the JSON of a comparison's `Cell`.

It prints a line when its workers compute, and for each line with seconds on its input one with a `Slice`. In between,
its workers stand still: their queue is full, or they are stopped.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.comparison.contestants import CONTESTANTS
from tests.benchmarks.comparison.measure import steady_rate
from tests.benchmarks.comparison.process_tree import cpu_seconds, tree, voluntary_switches
from tests.benchmarks.comparison.results import Cell

# Until imports, caches and mean times have settled.
_WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Slice:
    """What one contestant did in one slice: processor time and voluntary switches of all its processes."""

    batches: int
    seconds: float
    cpu_seconds: float
    switches: int


def take_slice(batches: Iterator[Any], cell: Cell, seconds: float) -> Slice:
    """Measure one slice, after all batches that were ready before it."""
    for _ in range(2 * (cell.depth or 0) + cell.workers):
        next(batches)
    switches, cpu = voluntary_switches(os.getpid()), cpu_seconds(os.getpid())
    count, elapsed = steady_rate(batches, seconds, cell.step_ms / 1000)
    return Slice(count, elapsed, cpu_seconds(os.getpid()) - cpu, voluntary_switches(os.getpid()) - switches)


def signal_below(number: int) -> None:
    """Send the signal to every process below this one."""
    for stat in tree(os.getpid()):
        if stat.pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(stat.pid, number)


def main() -> None:
    cell = Cell(**json.loads(sys.argv[1]))
    contestant = CONTESTANTS[cell.contestant]
    with contestant.load()(cell.kind, cell.depth, cell.workers) as batches:
        take_slice(batches, cell, _WARM_UP_SECONDS)
        if not contestant.bounded:
            signal_below(signal.SIGSTOP)
        print("ready", flush=True)
        for line in sys.stdin:
            if not contestant.bounded:
                signal_below(signal.SIGCONT)
            # The processors are this contestant's alone for a moment before it is measured.
            time.sleep(0.02)
            print(json.dumps(asdict(take_slice(batches, cell, float(line)))), flush=True)
            if not contestant.bounded:
                signal_below(signal.SIGSTOP)


if __name__ == "__main__":
    main()
