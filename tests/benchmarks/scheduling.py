"""How much of the ideal rate a fleet reaches: `python -m tests.benchmarks.scheduling [threads|processes]`.

Ordered delivery, a consumer that only takes. Ideal: workers divided by the mean time of a batch. The rate is taken
between the first batch and the last: starting 32 interpreters on two cores is not what is measured here.
"""

from __future__ import annotations

import argparse
import statistics
import time

from enqueuer import SequenceEnqueuer
from tests.benchmarks.sequences import Sleeping


def rate(sequence: Sleeping, workers: int, max_queue_size: int | str, *, processes: bool) -> float:
    """Batches a second of one epoch, from the first batch on."""
    with SequenceEnqueuer(sequence, processes, min_workers=workers) as enqueuer:
        enqueuer.start(workers, max_queue_size)
        batches = enqueuer.epoch()
        assert next(batches) == 0
        started = time.perf_counter()
        received = list(batches)
        elapsed = time.perf_counter() - started
        assert received == list(range(1, len(sequence)))
    return len(received) / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("placement", nargs="?", choices=("threads", "processes"), default="processes")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    processes = arguments.placement == "processes"
    mean = 0.9 * 0.010 + 0.1 * 0.110
    cases = [
        ("32 workers x 20 ms", 64, 32, Sleeping(3200, 0.020), 32 / 0.020, 0.97),
        ("32 workers x 20 ms", 10, 32, Sleeping(3200, 0.020), 32 / 0.020, 0.85),
        ("8 workers, 10 ms, 10 % of 110 ms", 64, 8, Sleeping(2000, 0.010, 10, 0.110), 8 / mean, 0.97),
        ("8 workers, 10 ms, 10 % of 110 ms", 10, 8, Sleeping(2000, 0.010, 10, 0.110), 8 / mean, 0.0),
        ("32 workers x 20 ms", "auto", 32, Sleeping(3200, 0.020), 32 / 0.020, 0.97),
        ("8 workers, 10 ms, 10 % of 110 ms", "auto", 8, Sleeping(2000, 0.010, 10, 0.110), 8 / mean, 0.97),
    ]
    print(f"{arguments.placement}, median of {arguments.runs} runs, ordered")
    print(f"{'case':34} {'max_queue_size':>14} {'batches/s':>10} {'of ideal':>9} {'bar':>7}")
    for name, size, workers, sequence, ideal, bar in cases:
        slow = sum(map(sequence.is_slow, range(len(sequence))))
        if sequence.slow_every:
            total = slow * sequence.slow_seconds + (len(sequence) - slow) * sequence.seconds
            ideal = workers * len(sequence) / total
        reached = statistics.median(rate(sequence, workers, size, processes=processes) for _ in range(arguments.runs))
        shown = f">= {bar:.0%}" if bar else "-"
        print(f"{name:34} {size:>14} {reached:>10.0f} {reached / ideal:>9.1%} {shown:>7}", flush=True)


if __name__ == "__main__":
    main()
