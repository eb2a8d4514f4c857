"""What the running item is, for user code that asks: `item_rng()` and `worker_info()`.

Thread-local, because local worker threads compute several items at once in one process.
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
    """Where this code runs. ``number`` counts a host's workers from 0; ``epoch`` and ``seed`` are the present ones."""

    worker_id: str
    number: int
    host: str
    pid: int
    epoch: int
    seed: int


class _Item:
    """One item's coordinates, and its generator once somebody has asked for it (making one takes 9 µs)."""

    __slots__ = ("epoch", "index", "rng", "seed")

    def __init__(self, seed: int, epoch: int, index: int) -> None:
        self.seed = seed
        self.epoch = epoch
        self.index = index
        self.rng: np.random.Generator | None = None


class _Current(threading.local):
    """What this thread is and does; the class attributes are what a thread starts with."""

    worker: tuple[str, int, str] | None = None
    epoch: int = 0
    seed: int = 0
    item: _Item | None = None


_current = _Current()


def item_rng() -> np.random.Generator:
    """The NumPy generator of the item that this thread computes: the same numbers wherever it is computed.

    Repeated calls for one item give the same object. Raises RuntimeError outside of ``sequence[index]``, and in
    threads that ``__getitem__`` has started itself: hand the generator over to those.
    """
    item = _current.item
    if item is None:
        raise RuntimeError(
            "item_rng() belongs to an item: call it inside the Sequence's __getitem__, in the thread that runs it"
        )
    if item.rng is None:
        item.rng = item_generator(item.seed, item.epoch, item.index)
    return item.rng


def item_epoch() -> int:
    """The epoch of the item that this thread computes; 0 where an enqueuer has no part in it."""
    item = _current.item
    return 0 if item is None else item.epoch


def worker_info() -> WorkerInfo | None:
    """Which worker this thread is, or None in a thread that is none, such as the training loop's own."""
    worker = _current.worker
    if worker is None:
        return None
    item = _current.item
    seed, epoch = (_current.seed, _current.epoch) if item is None else (item.seed, item.epoch)
    return WorkerInfo(*worker, pid=os.getpid(), epoch=epoch, seed=seed)


def enter_worker(worker_id: str, number: int, host: str) -> None:
    """Make the calling thread a worker, for `worker_info()`. It stays one until it ends."""
    _current.worker = (worker_id, number, host)


def enter_epoch(seed: int, epoch: int) -> None:
    """Say what the calling thread works on, before a Sequence is built for it."""
    _current.seed = seed
    _current.epoch = epoch


def begin_item(seed: int, epoch: int, index: int) -> object:
    """Make this the calling thread's item. What it returns is for `end_item`, in a ``finally``.

    Not a context manager: one of those costs a microsecond, of the ten that a small item takes.
    """
    outer = _current.item
    _current.item = _Item(seed, epoch, index)
    return outer


def end_item(outer: Any) -> None:
    """Go back to what was there before, since items nest: a Sequence may read from one computed in the same thread."""
    _current.item = outer
