"""A Sequence of random numbers, from every generator seeded by the library."""

from __future__ import annotations

import random
import time

import numpy as np

from enqueuer import item_rng


class Draws:
    """Batch i is (i, draws of the item's own generator, draws of the global ones)."""

    def __init__(self, length: int, seconds: float = 0.0, global_generators: bool = True) -> None:
        self.length, self.seconds, self.global_generators = length, seconds, global_generators

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, np.ndarray]:
        time.sleep(self.seconds)
        own = item_rng().normal(size=50)
        if not self.global_generators:
            return index, own, np.zeros(0)
        # Different counts of draws an item: a generator that went on from item to item would be out of step.
        count = 1 + index % 5
        drawn = [random.gauss(0, 1) for _ in range(count)]
        return index, own, np.array([*drawn, *np.random.standard_normal(count)])
