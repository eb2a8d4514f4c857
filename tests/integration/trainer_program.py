"""A trainer as a program for tests: one or more epochs with remote workers, reported on stdout.

`python -m tests.integration.trainer_program ADDRESS --length N --epochs E --workers W`. One JSON object a line: one
when its address is bound, one a batch, and the statistics at the end. Without ``--epochs`` it goes on until the end of
the epoch in which its stdin ends.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
import time
from typing import Any

import numpy as np

from enqueuer import SequenceEnqueuer, SequenceSpec, Timing


def main() -> None:
    arguments = parse()
    spec = SequenceSpec(
        f"tests.integration.sequences:{arguments.sequence}",
        length=arguments.length,
        seconds=arguments.seconds,
        size=arguments.size,
    )
    timing = Timing(
        heartbeat_interval=arguments.heartbeat_interval,
        worker_timeout=arguments.worker_timeout,
        coordinator_timeout=arguments.coordinator_timeout,
    )
    with SequenceEnqueuer(
        spec,
        bind=arguments.address,
        data_bind=arguments.data_bind,
        advertise=arguments.advertise,
        **({"insecure": True} if arguments.key_file is None else {"key_file": arguments.key_file}),
        shared_memory=False,  # network namespaces share it, and it is the network that is tried here
        min_workers=arguments.workers,
        seed=arguments.seed,
        **({} if arguments.hedge is None else {"hedge": arguments.hedge}),
        timing=timing,
    ) as enqueuer:
        enqueuer.start(0, arguments.max_queue_size)
        say(bound_at=time.monotonic())
        last_epoch = threading.Event()
        if arguments.epochs is None:
            threading.Thread(target=wait_for_end_of_stdin, args=(last_epoch,), daemon=True).start()
        for epoch in itertools.count() if arguments.epochs is None else range(arguments.epochs):
            if last_epoch.is_set():
                break
            for index, pid, array in enqueuer.epoch():
                say(epoch=epoch, index=int(index), pid=int(pid), value=the_value(array, arguments.size))
        stats = enqueuer.stats()
    say(lost_workers=stats.lost_workers_count, stale=stats.stale_count, malformed=stats.malformed_count)


def wait_for_end_of_stdin(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--sequence", default="Stamped")
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.02)
    parser.add_argument("--size", type=int, default=5000)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-queue-size", type=int, default=10)
    parser.add_argument("--hedge")
    parser.add_argument("--data-bind")
    parser.add_argument("--key-file")
    parser.add_argument("--advertise")
    parser.add_argument("--heartbeat-interval", type=float, default=1.0)
    parser.add_argument("--worker-timeout", type=float, default=10.0)
    parser.add_argument("--coordinator-timeout", type=float, default=30.0)
    return parser.parse_args()


def say(**what: Any) -> None:
    # A pipe to a process that reads it in time: a line is out when the batch is counted, even if we are killed then.
    print(json.dumps({**what, "at": time.monotonic()}), flush=True)


def the_value(array: np.ndarray[Any, Any], size: int) -> int | None:
    """The value of all elements; None if they differ or their number is wrong."""
    return int(array[0]) if array.shape == (size,) and (array == array[0]).all() else None


if __name__ == "__main__":
    main()
