"""How often each silent case is right: `python -m tests.reproducibility.silent_cases [--runs 100] [--cases NAME …]
[--together]`.

A run has a seed of its own. One case in it is three streams of two epochs: of one local process, which is the measure;
of three local processes; of one local and one remote worker process. It is right if all three are equal bit for bit, no
two epochs' draws are alike, and each sample comes once an epoch.

A hundred runs of each case take more than an hour, since each stream starts its workers. With ``--together`` one
Sequence has all cases, and they take some minutes.

Prints a line a case, ``n of 100``. The exit code is 1 if one was wrong. `--first` is the first run's number, to go on.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

from enqueuer import SequenceEnqueuer, SequenceSpec
from tests.reproducibility.silent_shapes import CASES, LENGTH, Augments, Deals, Shape, Together
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


def faults_in_run(case: type[Shape], seed: int, address: str | None) -> dict[str, list[str]]:
    """Run the case once, or all cases in one Sequence (`Together`); the faults of each by its name."""
    expected = local_stream(case, seed, 1)
    streams = {"local": local_stream(case, seed, 3)}
    if address is not None:
        streams["remote"] = remote_stream(case, seed, address)
    faults: dict[str, list[str]] = {}
    for number, part in enumerate(CASES if case is Together else (case,)):
        found = faults[part.__name__] = []
        for place, stream in streams.items():
            if case is Together:
                fault = fault_of(part, _part(expected, number), _part(stream, number))
            else:
                fault = fault_of(part, expected, stream)
            if fault:
                found.append(f"{part.__name__}, seed {seed}, {place}: {fault}")
    return faults


def _part(stream: Stream, number: int) -> Stream:
    """One case's batches in a stream of all of them."""
    return [batch[number] for batch in stream]  # type: ignore[misc]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", nargs="*", default=[case.__name__ for case in CASES])
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--without-remote", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    address = free_address()
    cases = [Together] if given.together else [case for case in CASES if case.__name__ in given.cases]
    is_right = True
    with tempfile.TemporaryDirectory() as folder, RemoteWorker(address, Path(folder, "log"), processes=1):
        for case in cases:
            right = Counter[str]()
            for seed in range(given.first, given.first + given.runs):
                for name, faults in faults_in_run(case, seed, None if given.without_remote else address).items():
                    right[name] += not faults
                    print("".join(f"{fault}\n" for fault in faults), end="", flush=True)
            for name, count in right.items():
                print(f"{name}: {count} of {given.runs}", flush=True)
            is_right &= all(count == given.runs for count in right.values())
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
