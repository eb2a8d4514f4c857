"""From `start()` to a NumPy Sequence's first batch from 2 local processes: `python -m tests.benchmarks.first_batch`."""

from __future__ import annotations

import argparse
import statistics
import time

from enqueuer import SequenceEnqueuer
from tests.benchmarks.sequences import Small


def seconds_to_first_batch() -> float:
    with SequenceEnqueuer(Small(100), True) as enqueuer:
        started = time.perf_counter()
        enqueuer.start(2)
        next(enqueuer.get())
        return time.perf_counter() - started


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    times = [seconds_to_first_batch() for _ in range(7)]
    print(f"first batch after {statistics.median(times):.2f} s (median of 7; {min(times):.2f} to {max(times):.2f} s)")
    print("bar: <= 1 s")


if __name__ == "__main__":
    main()
