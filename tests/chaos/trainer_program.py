"""A trainer as a program, for the chaos tests to stop, to kill, or to cut off from its workers.

`python -m tests.chaos.trainer_program --bind ADDRESS --local N --length L --epochs E …` prints ``started``, then
``taken N`` after each batch, and at last a JSON object: the tally's summary and figures of ``stats()``. An error that
comes out of the enqueuer is printed as ``error TYPE: TEXT``, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time

from enqueuer import SequenceEnqueuer, Timing
from tests.support.chaos_sequences import Steady, Stored
from tests.support.chaos_tally import Tally
from tests.support.leaks import sockets_left
from tests.support.sequences import as_spec


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bind", default=None)
    parser.add_argument("--local", type=int, default=0)
    parser.add_argument("--min-workers", type=int, default=1)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.02)
    parser.add_argument("--tag", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-queue-size", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--unordered", action="store_true")
    parser.add_argument("--heartbeat-interval", type=float, default=1.0)
    parser.add_argument("--worker-timeout", type=float, default=10.0)
    parser.add_argument("--coordinator-timeout", type=float, default=30.0)
    parser.add_argument("--live-bytes", type=int, default=0, help="a live object with so much data, instead of a spec")
    parser.add_argument("--tempdir", default=None, help="for temporary files, as if chosen when there was still room")
    return parser.parse_args()


def train(arguments: argparse.Namespace) -> dict[str, object]:
    """Run all epochs; returns the report."""
    what = arguments.length, arguments.seconds, arguments.tag
    live = Stored(*what, nbytes=arguments.live_bytes) if arguments.live_bytes else None
    timing = Timing(
        heartbeat_interval=arguments.heartbeat_interval,
        worker_timeout=arguments.worker_timeout,
        coordinator_timeout=arguments.coordinator_timeout,
    )
    tally = Tally(arguments.length, seed=arguments.seed, tag=arguments.tag, ordered=not arguments.unordered)
    with SequenceEnqueuer(
        live or as_spec(Steady(*what)),
        True,
        shuffle=True,
        seed=arguments.seed,
        ordered=not arguments.unordered,
        bind=arguments.bind,
        insecure=True,
        min_workers=arguments.min_workers,
        timing=timing,
    ) as enqueuer:
        enqueuer.start(arguments.local, arguments.max_queue_size)
        print("started", flush=True)
        for _ in range(arguments.epochs):
            for batch in enqueuer.epoch():
                tally.take(batch, time.monotonic())
                print("taken", tally.taken_count, flush=True)
            tally.end_epoch()
        stats = enqueuer.stats()
    return {
        **tally.summary(),
        "lost_workers": stats.lost_workers_count,
        "stale": stats.stale_count,
        "malformed": stats.malformed_count,
        "left": [str(path) for path in sockets_left()],
    }


def main() -> None:
    arguments = parse()
    tempfile.tempdir = arguments.tempdir
    try:
        report = train(arguments)
    except Exception as error:
        print(f"error {type(error).__name__}: {error}", flush=True)
        sys.exit(1)
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
