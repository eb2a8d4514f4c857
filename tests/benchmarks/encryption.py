"""What keys cost: one worker over loopback TCP, with and without them: `python -m tests.benchmarks.encryption`."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.security.key_directory import KeyDirectory
from tests.support.remote import RemoteWorker, free_address

# int64 elements in a batch, and how many batches are timed.
_SIZES = ((1_200_000, 60), (50, 20_000))
_RUNS = 5


def batches_per_second(directory: KeyDirectory | None, size: int, count: int, log: Path) -> float:
    address = free_address()
    options: dict[str, Any] = {} if directory is None else {"key_file": directory.key_file}
    arguments = () if directory is None else ("--token-file", str(directory.token_file("worker")))
    spec = SequenceSpec("tests.integration.sequences:Stamped", length=count, size=size)
    with (
        RemoteWorker(address, log, 1, arguments),
        SequenceEnqueuer(spec, shared_memory=False, bind=address, **options) as enqueuer,
    ):
        enqueuer.start(0)
        batches = enqueuer.get()
        for _ in range(5):
            next(batches)
        started = time.perf_counter()
        for _ in range(count):
            next(batches)
        return count / (time.perf_counter() - started)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = KeyDirectory(folder)
        directory.create()
        for size, count in _SIZES:
            rates: list[tuple[float, float]] = []
            for _ in range(_RUNS):  # in turn, so that both have the same weather
                plain, keyed = (
                    batches_per_second(keys, size, count, Path(folder, "log")) for keys in (None, directory)
                )
                rates.append((plain, keyed))
            plain, keyed = (statistics.median(column) for column in zip(*rates, strict=True))
            share = statistics.median(keyed / plain for plain, keyed in rates)
            print(f"{size * 8:>10,} bytes a batch: {plain:.0f}/s, with keys {keyed:.0f}/s ({share:.0%})", flush=True)


if __name__ == "__main__":
    main()
