"""Sequences for the trainings in the frameworks; without a framework, so that any worker builds them quickly."""

from __future__ import annotations

from typing import Any

import numpy as np

from enqueuer import item_rng

# Batches of `Powers`.
COUNT = 10


class Linear:
    """A linear problem, a batch of ``size`` samples at a time: the same batch for the same index, always.

    ``x[:, 0]`` is constant within a batch and grows with its index, so that a swap of two batches changes the training.
    """

    def __init__(self, length: int = 20, size: int = 8) -> None:
        self.length, self.size = length, size
        self.ends_count = 0
        self.scale = 1.0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        x = np.random.default_rng(index).random((self.size, 4), np.float32)
        x[:, 0] = index / self.length
        return np.float32(self.scale) * x, x.sum(axis=1, keepdims=True)

    def on_epoch_end(self) -> None:
        self.ends_count += 1


class Augmented(Linear):
    """Batches of `Linear` with noise from each item's own generator."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = super().__getitem__(index)
        return x + item_rng().standard_normal(x.shape, np.float32), y


class Failing(Linear):
    """Batches of `Linear`; batch 13 raises ZeroDivisionError."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == 13:
            raise ZeroDivisionError("batch 13")
        return super().__getitem__(index)


class Images:
    """Square images; a callback may change ``image_size``."""

    image_size = 8

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((2, self.image_size, self.image_size, 1), index, np.float32), np.zeros((2, 1), np.float32)


class Sizes:
    """Arrays of many sizes, filled with their index, so that their contents can be checked."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((1 + index % 7 * 500, 16), index, np.float32), np.full(3, index, np.int64)


class Given:
    """A Sequence of the given batches."""

    def __init__(self, *batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


class Powers:
    """Batch ``i`` is 3 ** order[i], so a sum tells which batches it is of; each hook moves ``step`` to the end."""

    def __init__(self, step: int = 0) -> None:
        self.order, self.step, self.ends_count = list(range(COUNT)), step, 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        batch = np.full((1, 1), 3.0 ** self.order[index], np.float32)
        return batch, batch


class Rotating(Powers):
    def on_epoch_end(self) -> None:
        self.ends_count += 1
        self.order = self.order[self.step :] + self.order[: self.step]


class WithNothing:
    """Batches of which a part is None: for Keras that means "there is none"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        x, y = np.full((2, 3), index, np.float32), np.full((2, 1), index, np.float32)
        return {"no targets": (x, None), "no weights": (x, y, None), "only inputs": (x,)}[self.kind]
