"""What a worker that hardly runs costs: `python -m tests.benchmarks.hedging`.

8 processes with batches of 20 ms, ordered, `max_queue_size=64`; one of them is stopped for 95 of every 100 ms (SIGSTOP,
SIGCONT). Ideal: what the seven good ones can do. Beside it the healthy fleet, and how much of its work was hedges.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import threading
import time

from enqueuer import SequenceEnqueuer
from enqueuer.monitoring.stats import Stats
from tests.benchmarks.sequences import Sleeping

WORKERS = 8
SECONDS = 0.020
BATCHES = 3000
_PERIOD, _RUNNING = 0.100, 0.005


class Throttle:
    """Lets a process run for 5 ms of every 100."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Throttle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            os.kill(self._pid, signal.SIGSTOP)
            self._ended.wait(_PERIOD - _RUNNING)
            os.kill(self._pid, signal.SIGCONT)
            self._ended.wait(_RUNNING)


def run(hedge: str, *, throttled: bool) -> tuple[float, Stats]:
    """Batches a second from the 200th batch on, and the statistics at the end."""
    with SequenceEnqueuer(Sleeping(BATCHES, SECONDS), True, min_workers=WORKERS, hedge=hedge) as enqueuer:
        enqueuer.start(WORKERS, 64)
        batches = enqueuer.epoch()
        for index in range(200):
            assert next(batches) == index
        pid = enqueuer.stats().workers[0].pid
        with Throttle(pid) if throttled else contextlib.nullcontext():
            started = time.perf_counter()
            received = list(batches)
            elapsed = time.perf_counter() - started
        assert received == list(range(200, BATCHES))
        return len(received) / elapsed, enqueuer.stats()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{WORKERS} processes x {SECONDS * 1000:.0f} ms, ordered, max_queue_size=64, median of {arguments.runs} runs")
    print(f"{'case':40} {'hedge':>6} {'batches/s':>10} {'of ideal':>9} {'hedges':>8} {'bar':>24}")
    cases = [
        ("one runs 5 ms of every 100", "auto", True, WORKERS - 1, ">= 80 % of the other 7"),
        ("one runs 5 ms of every 100", "off", True, WORKERS - 1, "-"),
        ("all healthy", "auto", False, WORKERS, "hedges <= 5 %"),
    ]
    for name, hedge, throttled, good, bar in cases:
        results = [run(hedge, throttled=throttled) for _ in range(arguments.runs)]
        rate = statistics.median(rate for rate, _ in results)
        hedges = statistics.median(stats.hedges_count / BATCHES for _, stats in results)
        print(f"{name:40} {hedge:>6} {rate:>10.0f} {rate * SECONDS / good:>9.1%} {hedges:>8.1%} {bar:>24}", flush=True)


if __name__ == "__main__":
    main()
