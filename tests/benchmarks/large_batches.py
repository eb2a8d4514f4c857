"""Large batches from two workers on this host: `python -m tests.benchmarks.large_batches`.

Local processes through shared memory and through their socket, and remote workers over TCP on loopback, beside a bare
memcpy into 24 warm blocks, which is what a copy at least costs. Each worker returns the same array every time, so the
figures are of the transport alone. Rounds are interleaved, so that all see the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from enqueuer import SequenceEnqueuer, SequenceSpec
from tests.benchmarks.sequences import KINDS, Large
from tests.support.remote import RemoteWorker

_SECONDS = 2.0
_BLOCKS = 24


def memcpy_rate(kind: str) -> float:
    """Bytes a second of one thread that copies one batch after the other into a ring of blocks."""
    source = Large(kind).array
    ring = [np.empty_like(source) for _ in range(_BLOCKS)]
    for block in ring:
        block[:] = source
    copied, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _SECONDS / 2:
        ring[copied % _BLOCKS][:] = source
        copied += 1
    return copied * source.nbytes / elapsed


def local_rate(kind: str, *, shared_memory: bool) -> float:
    with SequenceEnqueuer(Large(kind), True, min_workers=2, shared_memory=shared_memory) as enqueuer:
        enqueuer.start(2)
        return _rate(enqueuer)


def tcp_rate(kind: str) -> float:
    spec = SequenceSpec("tests.benchmarks.sequences:Large", kind=kind)
    with SequenceEnqueuer(spec, bind="tcp://127.0.0.1:*", min_workers=2, shared_memory=False) as enqueuer:
        enqueuer.start(0)
        assert enqueuer.endpoint is not None
        with tempfile.TemporaryDirectory() as directory, RemoteWorker(enqueuer.endpoint, Path(directory) / "log"):
            return _rate(enqueuer)


def _rate(enqueuer: SequenceEnqueuer) -> float:
    """Bytes a second that the trainer takes, once the memory is warm."""
    batches = enqueuer.get()
    for _ in range(30):
        array, _ = next(batches)
    received, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _SECONDS:
        array, _ = next(batches)
        received += array.nbytes
    return received / elapsed


WAYS = {
    "memcpy": memcpy_rate,
    "shared memory": lambda kind: local_rate(kind, shared_memory=True),
    "local socket": lambda kind: local_rate(kind, shared_memory=False),
    "tcp loopback": tcp_rate,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(f"2 workers, ordered, max_queue_size=10, GB/s, median of {arguments.runs} interleaved runs (x memcpy)")
    print(f"{'batch':24}" + "".join(f"{way:>22}" for way in WAYS))
    for kind in KINDS:
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(arguments.runs):
            for way, measure in WAYS.items():
                rates[way].append(measure(kind))
        medians = {way: statistics.median(found) for way, found in rates.items()}
        cells = (f"{rate / 1e9:.2f} ({rate / medians['memcpy']:.2f})" for rate in medians.values())
        print(f"{kind:24}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
