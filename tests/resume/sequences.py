"""Sequences whose state changes from epoch to epoch, in all the ways in which a resume can bring it back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from enqueuer import item_rng
from tests.support.sequences import Bare, Journaled


def drawn() -> float:
    """Differs with seed, epoch and index, and with nothing else."""
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
    """A batch that a local worker pickles; unpickled, it is its index."""

    index: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.index,)


@dataclass
class Pickled(Bare):
    def __getitem__(self, index: int) -> Any:
        return Interrupting(index)


@dataclass
class Shuffling(Journaled):
    """Shuffled with NumPy's globals and with `random` at the end of each epoch, on top of what it was."""

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
    """Shuffled with a generator of its own, that no replay under other seeds would bring back: it keeps its state."""

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
    """Knows what it is from the number of the epoch. ``set_epochs`` says how it was told."""

    set_epochs: list[int] = field(default_factory=list)

    def batch(self, index: int) -> Any:
        return (self.version, index, drawn())

    def set_epoch(self, epoch: int) -> None:
        self.version = epoch
        self.set_epochs.append(epoch)


@dataclass
class Failing(Still):
    """Fails at indices that are in ``bad``, always."""

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
