"""What the benchmarks distribute: production almost free, or nothing but sleep."""

from __future__ import annotations

import time

import numpy as np


class Small:
    """(32, 10) float32 and 32 labels: 1.5 KB, made once."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.batch = (np.random.default_rng(0).random((32, 10), np.float32), np.arange(32))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batch


class Sleeping:
    """A batch whose preprocessing takes ``seconds``; every ``slow_every``-th takes ``slow_seconds`` instead."""

    def __init__(self, length: int, seconds: float, slow_every: int = 0, slow_seconds: float = 0.0) -> None:
        self.length, self.seconds = length, seconds
        self.slow_every, self.slow_seconds = slow_every, slow_seconds

    def __len__(self) -> int:
        return self.length

    def is_slow(self, index: int) -> bool:
        """A fixed pseudo-random choice: slow batches come in bunches, as they do in life."""
        return bool(self.slow_every) and (index * 2654435761 >> 7) % self.slow_every == 0

    def __getitem__(self, index: int) -> int:
        time.sleep(self.slow_seconds if self.is_slow(index) else self.seconds)
        return index


# What a batch of each kind holds, beside its labels.
KINDS: dict[str, tuple[tuple[int, ...], str]] = {
    "img8": ((64, 224, 224, 3), "uint8"),
    "imgf": ((64, 224, 224, 3), "float32"),
    "mid": ((256, 784), "float32"),
}


class Large:
    """The same array each time: what it costs to make one is not what is measured."""

    def __init__(self, kind: str) -> None:
        shape, dtype = KINDS[kind]
        self.array = np.ones(shape, dtype)
        self.labels = np.zeros(shape[0], np.int64)

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.array, self.labels
