"""One contestant's program: `python -m tests.benchmarks.comparison.measure CELL SECONDS FILE`.

Warm-up, a timed steady state, and then a while in which memory is looked at: reading it walks through page tables and
holds locks that page faults wait for, so it has no place in what is timed. CELL is the JSON of a `Cell`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.comparison.contestants import CONTESTANTS
from tests.benchmarks.comparison.process_tree import (
    become_subreaper,
    cpu_seconds,
    machine_cpu_seconds,
    memory_bytes,
    voluntary_switches,
)
from tests.benchmarks.comparison.results import Cell, Measurement
from tests.benchmarks.sequences import make

_LEAST_WARM_UP_SECONDS, _LONGEST_WARM_UP_SECONDS = 1.0, 4.0
_WARM_UP_BATCHES = 30
_MEMORY_SECONDS, _SAMPLE_EVERY_SECONDS = 1.0, 0.2

Described = tuple[tuple[tuple[int, ...], str], ...]


def describe(batch: Any) -> Described:
    """Shapes and dtypes of a pair of arrays or tensors."""
    # A tensor's dtype reads "torch.uint8" or "<dtype: 'uint8'>".
    return tuple((tuple(part.shape), getattr(part.dtype, "name", str(part.dtype)).split(".")[-1]) for part in batch)


@dataclass(frozen=True)
class Usage:
    """CPU seconds until ``time``: of this process and all below it, and of the whole machine.

    ``switches`` are voluntary context switches of this process and all below it.
    """

    time: float
    own_seconds: float
    machine_seconds: float
    switches: int

    @classmethod
    def now(cls) -> Usage:
        # Looking at all processes takes a while on a busy machine: what is compared is read at once.
        own = cpu_seconds(os.getpid())
        return cls(time.perf_counter(), own, machine_cpu_seconds(), voluntary_switches(os.getpid()))

    def others_share(self, before: Usage) -> float:
        """The part of the machine's CPU time since ``before`` that neither idled nor was ours, in [0, 1]."""
        others = (self.machine_seconds - before.machine_seconds) - (self.own_seconds - before.own_seconds)
        return min(1.0, max(0.0, others) / (self.time - before.time) / (os.cpu_count() or 1))


class Memory:
    """The most that was seen, looked at five times a second. The trainer stands meanwhile: its queues fill up."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._next = 0.0

    def look(self, now: float) -> None:
        if now >= self._next:
            self.peak_bytes = max(self.peak_bytes, memory_bytes(os.getpid()))
            self._next = time.perf_counter() + _SAMPLE_EVERY_SECONDS


def warm_up(batches: Iterator[Any], depth: int, expected: Described, memory: Memory) -> None:
    """Until all memory that is used again and again was used once, and each of the first batches was looked at."""
    started = time.perf_counter()
    least = max(_WARM_UP_BATCHES, depth + 20)
    for number, batch in enumerate(batches):
        if batch is not None and number < _WARM_UP_BATCHES and describe(batch) != expected:
            raise ValueError(f"a batch is {describe(batch)}, not {expected}")
        elapsed = (now := time.perf_counter()) - started
        if elapsed >= _LONGEST_WARM_UP_SECONDS or (number >= least and elapsed >= _LEAST_WARM_UP_SECONDS):
            return
        memory.look(now)


def steady_rate(batches: Iterator[Any], seconds: float, step_seconds: float) -> tuple[int, float]:
    """How many batches came, and how long it took, from one batch's arrival to another's.

    A step of training follows each batch: it needs a core for ``step_seconds``.
    """
    next(batches)
    started = time.perf_counter()
    for number, _ in enumerate(batches, 1):
        spin(step_seconds)
        if (elapsed := time.perf_counter() - started) >= seconds:
            return number, elapsed
    raise EOFError("the stream of batches ended")


def spin(seconds: float) -> None:
    """Keep a core busy for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def measure(cell: Cell, seconds: float) -> Iterator[Measurement]:
    """Yields once; then the contestant is stopped."""
    example = make(cell.kind)[0]
    expected, batch_bytes = describe(example), sum(array.nbytes for array in example)
    del example
    memory = Memory()
    with CONTESTANTS[cell.contestant].load()(cell.kind, cell.depth, cell.workers) as batches:
        warm_up(batches, cell.depth or 0, expected, memory)
        before = Usage.now()
        count, elapsed = steady_rate(batches, seconds, cell.step_ms / 1000)
        used = Usage.now()
        until = time.perf_counter() + _MEMORY_SECONDS
        while (now := time.perf_counter()) < until:
            memory.look(now)
            next(batches)
        rate = count / elapsed
        moved = count * batch_bytes
        cpu = used.own_seconds - before.own_seconds
        yield Measurement(
            rate,
            moved / elapsed,
            memory.peak_bytes,
            cpu / moved * 1e9,
            used.others_share(before),
            cpu / count * 1e3,
            (used.switches - before.switches) / count,
        )


def main() -> None:
    cell, seconds, file = sys.argv[1:]
    become_subreaper()
    for measurement in measure(Cell(**json.loads(cell)), float(seconds)):
        # Before the contestant is stopped: some peers hang or fail there.
        Path(file).write_text(json.dumps(asdict(measurement)))
    with suppress(OSError):
        sys.stdout.flush()


if __name__ == "__main__":
    main()
