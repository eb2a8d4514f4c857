"""How often each silent case is right: `python -m tests.reproducibility.silent_cases [--runs 100] [--cases NAME …]`.

A run has a seed of its own. One case in it is three streams of two epochs: of one local process, which is the measure;
of three local processes; of one local and one remote worker process. It is right if all three are equal bit for bit, no
two epochs' draws are alike, and each sample comes once an epoch.

Prints a line a case, ``n of 100``. The exit code is 1 if one was wrong. `--first` is the first run's number, to go on.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from enqueuer import SequenceEnqueuer, SequenceSpec
from tests.reproducibility.silent_shapes import CASES, LENGTH, Augments, Deals, Shape
from tests.support.remote import RemoteWorker, free_address

_TIMEOUT = 60.0
Stream = list[list[object]]


def spec(case: type[Shape]) -> SequenceSpec:
    return SequenceSpec(f"{case.__module__}:{case.__name__}")


def local_stream(case: type[Shape], seed: int, workers: int) -> Stream:
    with SequenceEnqueuer(spec(case), True, seed=seed, min_workers=workers) as enqueuer:
        enqueuer.start(workers, 2)
        return list(islice(enqueuer.get(), 2 * LENGTH))


def remote_stream(case: type[Shape], seed: int, address: str) -> Stream:
    """A remote worker must listen at the address."""
    with SequenceEnqueuer(spec(case), True, seed=seed, bind=address) as enqueuer:
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                enqueuer.start(1, 2)
                break
            except OSError:  # libzmq still closes the last session's socket at this address
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        enqueuer.wait_for_workers(2, _TIMEOUT)
        return list(islice(enqueuer.get(), 2 * LENGTH))


def fault_of(case: type[Shape], expected: Stream, stream: Stream) -> str:
    """What is wrong with the stream; empty if it is right."""
    if stream != expected:
        first = next(place for place, (one, other) in enumerate(zip(stream, expected, strict=True)) if one != other)
        return f"batch {first} is another than on one worker"
    epochs = [[sample for batch in part for sample in batch] for part in (stream[:LENGTH], stream[LENGTH:])]
    if issubclass(case, Deals) and not all(len(set(epoch)) == 2 * LENGTH for epoch in epochs):
        return "a sample comes twice"
    if issubclass(case, Augments) and set(epochs[0]) & set(epochs[1]):
        return "two epochs draw alike"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", nargs="*", default=[case.__name__ for case in CASES])
    parser.add_argument("--without-remote", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    address = free_address()
    is_right = True
    with tempfile.TemporaryDirectory() as folder, RemoteWorker(address, Path(folder, "log"), processes=1):
        for case in [case for case in CASES if case.__name__ in given.cases]:
            right = 0
            for seed in range(given.first, given.first + given.runs):
                expected = local_stream(case, seed, 1)
                streams = {"local": local_stream(case, seed, 3)}
                if not given.without_remote:
                    streams["remote"] = remote_stream(case, seed, address)
                faults = {place: fault_of(case, expected, stream) for place, stream in streams.items()}
                right += not any(faults.values())
                for place, fault in faults.items():
                    if fault:
                        print(f"{case.__name__}, seed {seed}, {place}: {fault}", flush=True)
            is_right &= right == given.runs
            print(f"{case.__name__}: {right} of {given.runs}", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
