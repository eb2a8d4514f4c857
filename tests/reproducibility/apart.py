"""Sequences whose instances draw something for themselves, or remember something. Each is right in one process."""

from __future__ import annotations

import os
import random
import time
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np

_dealt: dict[int, np.ndarray] = {}


class Shuffled:
    """Base: batches of four samples out of an order; a pause has every worker take part."""

    def __init__(self, samples: int) -> None:
        self.order = list(range(samples))

    def __len__(self) -> int:
        return len(self.order) // 4

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(0.01)
        return np.array(self.order[4 * index : 4 * index + 4])


class InTheConstructor(Shuffled):
    """Shuffles with a generator made on the spot, in the constructor and after each epoch."""

    def __init__(self, samples: int) -> None:
        super().__init__(samples)
        random.Random().shuffle(self.order)

    def on_epoch_end(self) -> None:
        random.Random().shuffle(self.order)


class WithItsOwnGenerator(Shuffled):
    """Shuffles after each epoch with a generator that each item draws from as well."""

    def __init__(self, samples: int) -> None:
        super().__init__(samples)
        self.rng = np.random.default_rng()

    def __getitem__(self, index: int) -> np.ndarray:
        self.rng.random(index + 1)
        return super().__getitem__(index)

    def on_epoch_end(self) -> None:
        self.rng.shuffle(self.order)


class AtTheFirstItem(Shuffled):
    """Deals its samples when an epoch's first item is asked for, with NumPy's global generator."""

    dealt: np.ndarray | None = None

    def __getitem__(self, index: int) -> np.ndarray:
        if self.dealt is None:
            self.dealt = np.random.permutation(len(self.order))
        time.sleep(0.01)
        return self.dealt[4 * index : 4 * index + 4].copy()

    def on_epoch_end(self) -> None:
        self.dealt = None


class OverTheEpochs(AtTheFirstItem):
    """Deals at its first item for good; its hook shuffles what was dealt, with a helper's generator."""

    def __init__(self, samples: int) -> None:
        super().__init__(samples)
        self.lazy: list[random.Random] = []
        self.helpers = [Grain(1)]

    def __getitem__(self, index: int) -> np.ndarray:
        if not self.lazy:
            self.lazy.append(random.Random())
        return super().__getitem__(index)

    def on_epoch_end(self) -> None:
        if self.dealt is not None:  # as in the trainer, which computes no item
            self.helpers[0].grain.shuffle(self.dealt)


class InItsModule(Shuffled):
    """Deals once a process, into a global of its module."""

    def __getitem__(self, index: int) -> np.ndarray:
        samples = len(self.order)
        if samples not in _dealt:
            _dealt[samples] = np.random.permutation(samples)
        time.sleep(0.01)
        return _dealt[samples][4 * index : 4 * index + 4].copy()


@cache
def _deal(samples: int) -> list[int]:
    order = list(range(samples))
    random.shuffle(order)
    return order


class InACache(Shuffled):
    """Deals in a function that remembers its result."""

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(0.01)
        return np.array(_deal(len(self.order))[4 * index : 4 * index + 4])


class OfASet(Shuffled):
    """Its order is that of a set of texts."""

    def __init__(self, samples: int) -> None:
        super().__init__(samples)
        self.order = [int(name[1:]) for name in {f"n{number}" for number in range(samples)}]


class Grain:
    """An augmenter with generators of its own, one of them made at the first item."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.grain = np.random.RandomState()
        self.late: random.Random | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[float, float]:
        self.late = self.late or random.Random()
        time.sleep(0.01)
        return float(self.grain.rand()), self.late.random()


class Remembers:
    """Says for each item whether this instance has computed it before, and in which process."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.known: set[int] = set()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, bool]:
        known = index in self.known
        self.known.add(index)
        return os.getpid(), known


class Scratch:
    """Reads a file that ``close`` removes."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> str:
        return self.path.read_text() + str(index)

    def close(self) -> None:
        self.path.unlink()


class Cached:
    """Writes each item's cache file in two steps, as slow writers do, and reads it from then on."""

    def __init__(self, folder: str, length: int) -> None:
        self.folder, self.length = Path(folder), length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        path = self.folder / f"{index}.raw"
        if not path.exists():
            with path.open("wb") as file:
                file.write(bytes(1000))
                file.flush()
                time.sleep(0.2 if index == self.length - 1 else 0.01)
                file.write(bytes(3000))
        return path.stat().st_size


class Listed:
    """One name a batch, in the order in which this host lists its files (``LISTING``), after a pause."""

    def __init__(self, count: int) -> None:
        self.names = [f"{number:03d}.png" for number in range(count)]
        if os.environ.get("LISTING") == "reversed":
            self.names.reverse()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> object:
        time.sleep(0.02)
        return self.names[index]


class Decoded(Listed):
    """Large images, of which this host may round each value otherwise (``ROUNDING``), and their numbers."""

    def __getitem__(self, index: int) -> object:
        time.sleep(0.02)
        image = np.full((256, 1024), index + float(os.environ.get("ROUNDING", "0")), np.float32)
        return image, np.arange(index, index + 4)


class FromItsProcess(Listed):
    """Which process computed it is part of the batch."""

    def __getitem__(self, index: int) -> object:
        time.sleep(0.02)
        return index, os.getpid()


GAIN = 1


class Amplified(Listed):
    """Depends on a setting of its module."""

    def __getitem__(self, index: int) -> object:
        return GAIN * index


class Divides(Listed):
    """Depends on a setting of the standard library."""

    def __getitem__(self, index: int) -> object:
        return str(Decimal(index) / 7)


def set_gain() -> None:
    """For ``worker_init=``."""
    global GAIN
    GAIN = 10
