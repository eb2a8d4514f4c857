"""Whether memory stays as it is: `python -m tests.benchmarks.steady_memory [--small 1000000] [--img8 20000]`.

So many batches of each kind from two local processes to a trainer that takes everything; the proportional set sizes of
the trainer and of the workers (and their supervisor), each by themselves, forty times on the way. The first tenth is
warm-up. The bar is for the rest: the mean of its last quarter is within 2 % of that of its first.

PSS and not RSS: workers and trainer map the same blocks, and one that only one of them has let go of is not lost. What
is not of files is printed as well: the part of a library's pages changes when others on the machine start and end. The
exit code is 1 if it is not flat.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from enqueuer import SequenceEnqueuer
from tests.benchmarks.sequences import Large, Small
from tests.support.leaks import descendants
from tests.support.process_memory import own_pss_bytes, pss_bytes

_WORKERS = 2
_SAMPLES_COUNT = 40
_WARM_UP_SAMPLES = 4
_MOST_GROWTH = 0.02
_EPOCH_LENGTH = 50_000
_MAX_QUEUE_SIZE = {"small": 256, "img8": 10}


class Sample(NamedTuple):
    """After so many batches; in bytes."""

    taken_count: int
    trainer: int
    workers: int
    own_of_trainer: int
    own_of_workers: int


class Trend(NamedTuple):
    """Of one side, in bytes. ``slope``: the growth in a thousand batches, by least squares."""

    first: float
    last: float
    slope: float

    @property
    def growth(self) -> float:
        return self.last / self.first - 1.0


def soak(kind: str, batches_count: int, note: Callable[[Sample], object]) -> tuple[list[Sample], float]:
    """One run; samples at equal distances, each told to ``note`` at once, and the seconds that it took."""
    sequence = Small(_EPOCH_LENGTH) if kind == "small" else Large(kind)
    samples: list[Sample] = []
    started = time.monotonic()
    with SequenceEnqueuer(sequence, True, min_workers=_WORKERS, seed=0) as enqueuer:
        enqueuer.start(_WORKERS, _MAX_QUEUE_SIZE[kind])
        due = step = max(1, batches_count // _SAMPLES_COUNT)
        for taken_count, _ in enumerate(enqueuer.get(), 1):
            if taken_count == due:
                samples.append(_sample(taken_count))
                note(samples[-1])
                due += step
            if taken_count == batches_count:
                break
    return samples, time.monotonic() - started


def _sample(taken_count: int) -> Sample:
    trainer, workers = os.getpid(), descendants(os.getpid())
    return Sample(
        taken_count,
        pss_bytes(trainer),
        sum(map(pss_bytes, workers)),
        own_pss_bytes(trainer),
        sum(map(own_pss_bytes, workers)),
    )


def trend(counts: list[int], sizes: list[int]) -> Trend:
    """Of what follows the warm-up."""
    quarter = max(1, len(sizes) // 4)
    slope = statistics.linear_regression(counts, sizes).slope if len(sizes) > 1 else 0.0
    return Trend(statistics.fmean(sizes[:quarter]), statistics.fmean(sizes[-quarter:]), 1000 * slope)


def report(kind: str, samples: list[Sample], seconds: float) -> bool:
    """Print it; whether both sides are flat."""
    print(f"{kind}: {samples[-1].taken_count:,} batches in {seconds:.0f} s", flush=True)
    steady = samples[_WARM_UP_SAMPLES:]
    flat = True
    counts = [sample.taken_count for sample in steady]
    for side in ("trainer", "workers", "own_of_trainer", "own_of_workers"):
        found = trend(counts, [getattr(sample, side) for sample in steady])
        if not side.startswith("own"):
            flat = flat and found.growth <= _MOST_GROWTH
        print(
            f"    {side.replace('_', ' '):14} {found.first / 1e6:8.2f} MB first, {found.last / 1e6:8.2f} MB last "
            f"({found.growth:+.2%}), slope {found.slope / 1e3:+.3f} kB a thousand batches",
            flush=True,
        )
    return flat


def _print(sample: Sample) -> None:
    print(f"    {sample.taken_count:>9,}" + "".join(f"{size / 1e6:10.2f}" for size in sample[1:]), flush=True)


def _do_nothing(_: Sample) -> None:
    """Unless all samples are asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=1_000_000, help="batches; 0: none")
    parser.add_argument("--img8", type=int, default=20_000)
    parser.add_argument("--verbose", action="store_true", help="each sample: trainer, workers, own of both, in MB")
    arguments = parser.parse_args()
    flat = True
    for kind, batches_count in (("small", arguments.small), ("img8", arguments.img8)):
        if not batches_count:
            continue
        samples, seconds = soak(kind, batches_count, _print if arguments.verbose else _do_nothing)
        flat = report(kind, samples, seconds) and flat
    print(f"bar: growth of at most {_MOST_GROWTH:.0%} after warm-up")
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
