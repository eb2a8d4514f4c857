"""What an unchanged live object costs at an epoch's end: `python -m tests.benchmarks.epoch_boundary [--rows 2000000]`.

Two local processes, a live Sequence with so many Python rows in a list, and short epochs. For each kind of row: the
seconds of the first ``start()``, the milliseconds from an epoch's last batch to the first of the next one (the median
and the slowest), and the proportional set size of trainer and workers after the third and the last epoch.

Rows of plain values in tuples (or bare) are compared by their references. Rows that are lists or dicts may change
themselves, so they are pickled and compared as a whole.

The bars, for the rows that are compared by reference: 20 ms at the median, and memory within 2 % over the epochs. The
exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from enqueuer import SequenceEnqueuer
from tests.support.leaks import descendants
from tests.support.process_memory import pss_bytes

_LENGTH = 30
_BAR_SECONDS = 0.020
_MOST_GROWTH = 0.02

KINDS: dict[str, Callable[[int], Any]] = {
    "integers": lambda number: number,
    "texts": lambda number: f"row {number}",
    "tuples": lambda number: (number, f"row {number}", number / 3),
    "lists": lambda number: [number, f"row {number}"],
    "dicts": lambda number: {"number": number, "text": f"row {number}"},
}
_BY_REFERENCE = ("integers", "texts", "tuples")


class Rows:
    def __init__(self, kind: str, count: int) -> None:
        self.rows = [KINDS[kind](number) for number in range(count)]

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> int:
        return index + len(self.rows)


def workers_bytes() -> int:
    return sum(pss_bytes(pid) for pid in descendants(os.getpid()))


def measure(kind: str, rows_count: int, epochs_count: int) -> bool:
    """Run and print one kind of rows; whether it meets the bars that are for it."""
    sequence = Rows(kind, rows_count)
    with SequenceEnqueuer(sequence, use_multiprocessing=True) as enqueuer:
        started = time.perf_counter()
        enqueuer.start(2)
        start_seconds = time.perf_counter() - started
        stream = enqueuer.get()
        gaps, sizes = [], []
        for epoch in range(epochs_count):
            last = time.perf_counter()
            next(stream)
            gaps.append(time.perf_counter() - last)
            for _ in range(_LENGTH - 1):
                next(stream)
            if epoch in (2, epochs_count - 1):
                sizes.append((pss_bytes(os.getpid()), workers_bytes()))
    gaps = gaps[1:]
    growth = [last / first - 1 for first, last in zip(*sizes, strict=True)]
    median = statistics.median(gaps)
    print(
        f"{kind}: start {start_seconds:.1f} s, next epoch {median * 1e3:.1f} ms (slowest {max(gaps) * 1e3:.0f}), "
        f"trainer {sizes[0][0] / 1e6:.0f} MB {growth[0]:+.1%}, workers {sizes[0][1] / 1e6:.0f} MB {growth[1]:+.1%}",
        flush=True,
    )
    return kind not in _BY_REFERENCE or (median <= _BAR_SECONDS and max(growth) <= _MOST_GROWTH)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    given = parser.parse_args()
    met = [measure(kind, given.rows, given.epochs) for kind in given.kinds]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
