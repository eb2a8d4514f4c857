"""Sequences with a state that changes from epoch to epoch, one for each way in which a resume restores it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from enqueuer import item_rng
from tests.support.sequences import Bare, Journaled


def drawn() -> float:
    """A draw that depends on seed, epoch and index alone."""
    return float(item_rng().random())


@dataclass
class Still(Bare):
    """Never changes."""

    def __getitem__(self, index: int) -> Any:
        return (index, drawn())


# What the trainer is interrupted at, once each, when it unpickles the batch of that index.
interruptions: set[int] = set()


def _rebuilt(index: int) -> Any:
    if index in interruptions:
        interruptions.discard(index)
        raise KeyboardInterrupt
    return index


@dataclass
class Interrupting:
    """A batch that a local worker pickles; unpickled, it becomes its index."""

    index: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.index,)


@dataclass
class Pickled(Bare):
    def __getitem__(self, index: int) -> Any:
        return Interrupting(index)


@dataclass
class Shuffling(Journaled):
    """Shuffles its last order with NumPy's globals and with `random` at the end of each epoch."""

    def __post_init__(self) -> None:
        self.order = np.arange(self.length)
        self.extra = 0.0

    def batch(self, index: int) -> Any:
        return (int(self.order[index]), self.extra, drawn())

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        np.random.shuffle(self.order)
        self.extra = random.random()


@dataclass
class Lengthening(Shuffling):
    """One batch more every epoch."""

    def on_epoch_end(self) -> None:
        self.length += 1
        self.order = np.arange(self.length)
        super().on_epoch_end()


@dataclass
class Keeping(Journaled):
    """Shuffles with a generator of its own, so a replay cannot restore it; it has ``state_dict`` instead."""

    seed: int = 0
    hook: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.order = list(range(self.length))
        self.generator = random.Random(self.seed)

    def batch(self, index: int) -> Any:
        return (self.order[index], drawn())

    def on_epoch_end(self) -> None:
        self.generator.shuffle(self.order)
        if self.hook is not None:
            self.hook()
        super().on_epoch_end()

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order, "generator": self.generator.getstate(), "version": self.version}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.version = list(state["order"]), state["version"]
        version, numbers, gauss = state["generator"]
        self.generator.setstate((version, tuple(numbers), gauss))


@dataclass
class Numbered(Journaled):
    """Derives its state from the number of the epoch. ``set_epochs`` lists the calls of ``set_epoch``."""

    set_epochs: list[int] = field(default_factory=list)

    def batch(self, index: int) -> Any:
        return (self.version, index, drawn())

    def set_epoch(self, epoch: int) -> None:
        self.version = epoch
        self.set_epochs.append(epoch)


@dataclass
class Failing(Still):
    """Always fails at the indices in ``bad``."""

    bad: tuple[int, ...] = ()

    def __getitem__(self, index: int) -> Any:
        if index in self.bad:
            raise LookupError("bad", index)
        return super().__getitem__(index)


@dataclass
class Sparse(Still):
    """None at every third index."""

    def __getitem__(self, index: int) -> Any:
        return None if index % 3 == 1 else super().__getitem__(index)
