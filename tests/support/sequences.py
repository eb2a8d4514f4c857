"""Sequences for tests: importable, so that a remote worker builds its own from a `SequenceSpec`.

All are dataclasses of plain values, so that `as_spec` can describe an equal one. They record their calls in a
`Journal` on disk, so that a test can read those of every process.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from enqueuer import SequenceSpec, item_rng
from tests.support.journal import Gate, Journal

# What `Hooked` calls at the end of an epoch, by name. Filled by a test in the trainer's process; empty in workers.
HOOKS: dict[str, Callable[[Any], None]] = {}
# Held by a test while it starts workers: a forked worker would inherit it locked for ever.
HELD_LOCK = threading.Lock()


def as_spec(sequence: Any) -> SequenceSpec:
    """The `SequenceSpec` of an equal Sequence."""
    kind = type(sequence)
    arguments = {option.name: getattr(sequence, option.name) for option in dataclasses.fields(sequence)}
    return SequenceSpec(f"{kind.__module__}:{kind.__qualname__}", **arguments)


@dataclass
class Bare:
    """The minimal Sequence: no base class, no ``on_epoch_end``. Batches are ``(factor, index)``."""

    length: int = 8
    factor: int = 1
    journal: str = ""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if self.journal:
            Journal(self.journal).note("item", index)
        return (self.factor, index)


@dataclass
class Journaled:
    """Batches are ``(version, index)``; the version is how often ``on_epoch_end`` ran on this object."""

    length: int = 8
    journal: str = ""
    version: int = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        self.note("item", index)
        batch = self.batch(index)
        self.note("done", index)
        return batch

    def batch(self, index: int) -> Any:
        return (self.version, index)

    def on_epoch_end(self) -> None:
        self.version += 1
        self.note("epoch_end")

    def note(self, event: str, index: int = -1) -> None:
        if self.journal:
            Journal(self.journal).note(event, index, self.version)


@dataclass
class Indexed(Journaled):
    """Batches are the index as received, and the name of its exact type."""

    def batch(self, index: int) -> Any:
        return (index, type(index).__name__)


@dataclass
class Delayed(Journaled):
    """Each batch takes up to ``longest`` seconds, by its index alone, so that late ones overtake early ones."""

    longest: float = 0.03

    def batch(self, index: int) -> Any:
        time.sleep(random.Random(index).uniform(0, self.longest))
        return (self.version, index)


@dataclass
class Gated(Journaled):
    """Indices from ``first_held`` to ``last_held`` wait at the gate."""

    gate: str = ""
    first_held: int = 0
    last_held: int = 1_000_000

    def batch(self, index: int) -> Any:
        if self.first_held <= index <= self.last_held:
            Gate(self.gate).wait()
        return (self.version, index)


@dataclass
class Hooked(Journaled):
    """``on_epoch_end`` also calls the test's function named ``hook``, in the trainer's process only."""

    hook: str = ""

    def on_epoch_end(self) -> None:
        HOOKS.get(self.hook, _nothing)(self)
        super().on_epoch_end()


def _nothing(sequence: Any) -> None:
    pass


@dataclass
class Growing(Journaled):
    """Its length changes by ``step`` at the end of every epoch."""

    step: int = 1

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        self.length += self.step


@dataclass
class Mutating(Journaled):
    """``__getitem__`` counts its own calls on its own object: ``(version, index, count)``."""

    count: int = 0

    def batch(self, index: int) -> Any:
        self.count += 1
        return (self.version, index, self.count)


@dataclass
class Adjustable(Journaled):
    """``(version, index, factor)``; the caller changes the factor while it runs."""

    factor: int = 1

    def batch(self, index: int) -> Any:
        return (self.version, index, self.factor)


@dataclass
class Reshuffling(Journaled):
    """The common recipe: shuffles the samples with NumPy's globals at the end of each epoch."""

    def __post_init__(self) -> None:
        self.order = np.arange(2 * self.length)

    def batch(self, index: int) -> Any:
        return self.order[2 * index : 2 * index + 2].copy()

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        np.random.shuffle(self.order)


@dataclass
class Nones(Journaled):
    """None for every index that is not a multiple of ``every``."""

    every: int = 2

    def batch(self, index: int) -> Any:
        return (self.version, index) if index % self.every == 0 else None


@dataclass
class OnlyNones(Journaled):
    """Every batch is None."""

    def batch(self, index: int) -> Any:
        return None


@dataclass
class Drawing(Journaled):
    """One draw from each source of randomness: ``(random, numpy.random, item_rng)``."""

    def batch(self, index: int) -> Any:
        return (random.random(), float(np.random.random()), float(item_rng().random()))


@dataclass
class Arrays(Journaled):
    """Arrays of ``size`` float32 that all hold the index, and a small one beside them."""

    size: int = 1000

    def batch(self, index: int) -> Any:
        return np.full(self.size, index, np.float32), np.array([index])


@dataclass
class Reshaped(Journaled):
    """No two batches have the same shape."""

    def batch(self, index: int) -> Any:
        return np.full((index + 1, 3, 2 * index), index, np.int16), np.full((1,) * index, index)


@dataclass
class Flaky(Journaled):
    """Each index in ``bad`` fails ``failures`` times before it succeeds; attempts are counted in the journal."""

    bad: tuple[int, ...] = ()
    failures: int = 1

    def batch(self, index: int) -> Any:
        if index in self.bad and Journal(self.journal).requested(self.version).count(index) <= self.failures:
            raise ValueError("not yet", index)
        return (self.version, index)


@dataclass
class Killer(Journaled):
    """Computing ``fatal`` kills its process, as the kernel does when memory runs out, ``deaths`` times."""

    fatal: int = 3
    deaths: int = 1

    def batch(self, index: int) -> Any:
        if index == self.fatal and Journal(self.journal).requested().count(index) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return (self.version, index)


@dataclass
class Locking(Journaled):
    """Needs a lock that another thread of the trainer holds while workers start."""

    def batch(self, index: int) -> Any:
        with HELD_LOCK:
            return (self.version, index)
