"""The worker and the item of the calling thread, for user code: `item_rng()` and `worker_info()`.

Both are thread-local, because local worker threads compute several items at once in one process.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from enqueuer.compute.seeding import item_generator


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """The worker that runs the calling code, as returned by `worker_info()`.

    Attributes:
        worker_id: The worker's name, as in logs and errors.
        number: The worker's number, counted from 0 among those started together on one host.
        host: The name of the worker's host.
        pid: The id of the worker's process.
        epoch: The epoch of the running item or, while a Sequence is built, the epoch it is built for.
        seed: The seed of the run.
    """

    worker_id: str
    number: int
    host: str
    pid: int
    epoch: int
    seed: int


class _Item:
    """One item's coordinates. Its generator is made on first use, since making one takes 9 µs."""

    __slots__ = ("epoch", "index", "rng", "rng_seeds", "seed")

    def __init__(self, seed: int, epoch: int, index: int, rng_seeds: tuple[int, int, int] | None) -> None:
        self.seed = seed
        self.epoch = epoch
        self.index = index
        # The seeds of the item's generator; None: the three above.
        self.rng_seeds = rng_seeds
        self.rng: np.random.Generator | None = None


class _Current(threading.local):
    """The calling thread's worker and item; the class attributes are a new thread's values."""

    worker: tuple[str, int, str] | None = None
    worker_count: int = 1
    epoch: int = 0
    seed: int = 0
    item: _Item | None = None
    # Generators that `item_rng` has made in this thread.
    rngs_count: int = 0


_current = _Current()


def item_rng() -> np.random.Generator:
    """The NumPy generator of the item that this thread computes; it gives the same numbers on every worker.

    Repeated calls for one item return the same object. Raises RuntimeError outside of ``sequence[index]``, and in a
    thread started by ``__getitem__``: pass the generator to such a thread.
    """
    item = _current.item
    if item is None:
        raise RuntimeError(
            "item_rng() belongs to an item: call it inside the Sequence's __getitem__, in the thread that runs it"
        )
    if item.rng is None:
        item.rng = item_generator(*(item.rng_seeds or (item.seed, item.epoch, item.index)))
        _current.rngs_count += 1
    return item.rng


def item_rngs_count() -> int:
    """How many generators `item_rng` has made in this thread."""
    return _current.rngs_count


def item_epoch() -> int:
    """The epoch of the item that this thread computes; 0 outside of an enqueuer."""
    item = _current.item
    return 0 if item is None else item.epoch


def item_seed() -> int:
    """The seed of the run whose item this thread computes; 0 outside of an enqueuer."""
    item = _current.item
    return 0 if item is None else item.seed


def worker_count() -> int:
    """How many workers were started together with this one on its host; 1 outside of worker processes."""
    return _current.worker_count


def worker_info() -> WorkerInfo | None:
    """The worker that the calling thread belongs to; None outside of workers, as in the training loop's thread."""
    worker = _current.worker
    if worker is None:
        return None
    item = _current.item
    seed, epoch = (_current.seed, _current.epoch) if item is None else (item.seed, item.epoch)
    return WorkerInfo(*worker, pid=os.getpid(), epoch=epoch, seed=seed)


def enter_worker(worker_id: str, number: int, host: str, count: int = 1) -> None:
    """Make the calling thread a worker, one of ``count``, for `worker_info()`, until the thread ends."""
    _current.worker = (worker_id, number, host)
    _current.worker_count = count


def enter_epoch(seed: int, epoch: int) -> None:
    """Set the seed and epoch of `worker_info()` before the calling thread builds a Sequence for them."""
    _current.seed = seed
    _current.epoch = epoch


def begin_item(seed: int, epoch: int, index: int, rng_seeds: tuple[int, int, int] | None = None) -> object:
    """Make this the calling thread's item. Returns the outer item, for `end_item` in a ``finally``.

    ``rng_seeds``, if given, seeds `item_rng` in place of the three.

    Not a context manager: one of those costs a microsecond, of the ten of a small item.
    """
    outer = _current.item
    _current.item = _Item(seed, epoch, index, rng_seeds)
    return outer


def end_item(outer: Any) -> None:
    """Restore the outer item that `begin_item` returned. Items nest: a Sequence may read another one in its thread."""
    _current.item = outer
