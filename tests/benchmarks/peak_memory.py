"""The most memory of trainer and workers together, against ``max_bytes``: `python -m tests.benchmarks.peak_memory`.

``max_bytes`` bounds what is undelivered: leased, received or ready. Its most is sampled in the I/O thread; what of that
was beyond the bound is the overshoot, in batches (the contract: at most one a slot). The memory is the proportional set
size of the process tree, sampled, beyond what the same processes have with batches of one number. What is in it and not
in the bound: the batch that the trainer holds, and what blocks and pools keep for the next one.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from enqueuer import SequenceEnqueuer
from enqueuer.runtime.session import Session
from tests.benchmarks.sequences import KINDS
from tests.support.process_memory import Sampler, tree_pss

_WORKERS = 2
_LENGTH = 1_000_000
_WARM_UP_BATCHES = 4
# A look at the tree takes the kernel some ms, one at the books a turn of the I/O thread.
_MEMORY_INTERVAL = 0.05
_BOOKS_INTERVAL = 0.002
_UNBOUNDED = 100_000
# What an automatic depth is deep for.
_LATE_EVERY, _LATE_SECONDS = 50, 1.0
# In a mixed order, so many batches of a tenth of the size come before as many of the whole size.
_RUN = 20
_MIXED = 10


class Sized:
    """The same array each time, or where the order is ``mixed``, a part of it; some come ``late``."""

    def __init__(self, kind: str, *, late: bool = False, mixed: bool = False, tiny: bool = False) -> None:
        shape, dtype = KINDS[kind]
        self.array = np.ones(shape, dtype).reshape(-1)
        self.late, self.mixed, self.tiny = late, mixed, tiny

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> np.ndarray:
        if self.late and index % _LATE_EVERY == _LATE_EVERY - 1:
            time.sleep(_LATE_SECONDS)
        return self.array[: self.size_of(index)]

    def size_of(self, index: int) -> int:
        """In elements."""
        if self.tiny:
            return 1
        return self.array.size // _MIXED if self.mixed and index // _RUN % 2 == 0 else self.array.size


class Case(NamedTuple):
    """``step`` is what the trainer takes for a batch, in seconds."""

    name: str
    max_queue_size: int | str
    step: float
    late: bool = False
    mixed: bool = False


CASES = (
    Case("slow trainer", _UNBOUNDED, 0.05),
    Case("slow trainer, auto", "auto", 0.05),
    Case("late batches, auto", "auto", 0.005, late=True),
    Case("slow trainer, mixed sizes", _UNBOUNDED, 0.05, mixed=True),
)


class Peak(NamedTuple):
    """In bytes."""

    memory: float
    undelivered: float


def measure(
    sequence: Sized, max_queue_size: int | str, max_bytes: int, step: float, seconds: float, *, shared_memory: bool
) -> Peak:
    """One run. Its first batches are no part of it."""
    with SequenceEnqueuer(
        sequence, True, min_workers=_WORKERS, max_bytes=max_bytes, shared_memory=shared_memory, seed=0
    ) as enqueuer:
        enqueuer.start(_WORKERS, max_queue_size)
        session = enqueuer._session
        assert isinstance(session, Session)
        batches = enqueuer.get()
        for _ in range(_WARM_UP_BATCHES):
            next(batches)
        books = Sampler(_undelivered_bytes(session, sequence), _BOOKS_INTERVAL)
        with Sampler(lambda: tree_pss(os.getpid()), _MEMORY_INTERVAL) as memory, books:
            _train(batches, step, seconds)
    return Peak(memory.peak, books.peak)


def _train(batches: Any, step: float, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batch = next(batches)
        time.sleep(step)
        del batch


def _undelivered_bytes(session: Session, sequence: Sized) -> Callable[[], float]:
    """In order, and with no worker lost, the undelivered batches are those that follow the ones that were taken."""
    ledger = session.coordinator.state.ledger

    def read() -> float:
        first = ledger.taken_total
        elements = sum(map(sequence.size_of, range(first, first + ledger.undelivered_count)))
        return float(elements * sequence.array.itemsize)

    return lambda: session.io.call(read).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["img8", "imgf"])
    parser.add_argument("--max-bytes", type=int, default=400_000_000, help="default: 400 million")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each case; default: 8")
    arguments = parser.parse_args()
    limit = arguments.max_bytes
    print(f"{_WORKERS} local processes, ordered, max_bytes {limit / 1e6:.0f} MB; sizes in MB")
    print(f"{'':41}{'batch':>7}{'undelivered':>12}{'overshoot':>15}{'memory':>8}{'x max_bytes':>12}")
    for kind in arguments.kinds:
        for shared_memory in (True, False):
            floor = measure(
                Sized(kind, tiny=True), 10, limit, 0.0, arguments.seconds / 4, shared_memory=shared_memory
            ).memory
            print(
                f"{kind}, {'shared memory' if shared_memory else 'local socket'}: {floor / 1e6:.0f} MB without batches"
            )
            for case in CASES:
                sequence = Sized(kind, late=case.late, mixed=case.mixed)
                peak = measure(
                    sequence, case.max_queue_size, limit, case.step, arguments.seconds, shared_memory=shared_memory
                )
                over = max(0.0, peak.undelivered - limit) / sequence.array.nbytes
                memory = peak.memory - floor
                print(
                    f"    {case.name:37}{sequence.array.nbytes / 1e6:>7.1f}{peak.undelivered / 1e6:>12.0f}"
                    f"{over:>7.2f} batches{memory / 1e6:>8.0f}{memory / limit:>12.2f}",
                    flush=True,
                )
    print(f"bar: an overshoot of at most {_WORKERS} batches, one a slot")


if __name__ == "__main__":
    main()
