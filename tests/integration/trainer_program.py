"""A trainer for tests to run as a program: one or more epochs with remote workers; prints what it received as JSON.

`python -m tests.integration.trainer_program ADDRESS --length N --epochs E --workers W`
"""

from __future__ import annotations

import argparse
import json
import time

from enqueuer import SequenceEnqueuer, SequenceSpec, Timing


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.02)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-queue-size", type=int, default=10)
    parser.add_argument("--worker-timeout", type=float, default=10.0)
    arguments = parser.parse_args()
    sequence = SequenceSpec("tests.integration.sequences:Stamped", length=arguments.length, seconds=arguments.seconds)
    timing = Timing(worker_timeout=arguments.worker_timeout)
    with SequenceEnqueuer(
        sequence, bind=arguments.address, insecure=True, min_workers=arguments.workers, timing=timing
    ) as enqueuer:
        enqueuer.start(0, arguments.max_queue_size)
        received, gaps = [], []
        for _ in range(arguments.epochs):
            last = None
            for index, pid, array in enqueuer.epoch():
                now = time.monotonic()
                if last is not None:
                    gaps.append(now - last)
                last = now
                received.append((int(index), int(pid), int(array.sum())))
                print("taken", len(received), flush=True)
        stats = enqueuer.stats()
    report = {
        "indices": [index for index, _, _ in received],
        "sums": [total for _, _, total in received],
        "pids": len({pid for _, pid, _ in received}),
        "longest_gap": max(gaps),
        "seconds": sum(gaps),
        "lost_workers": stats.lost_workers_count,
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
