"""The Sequence of a project as a user would have it, mounted into containers by deploy/compose.project.yml."""

from __future__ import annotations

import time

import numpy as np

from enqueuer import item_rng


class Batches:
    """``count`` batches of random numbers, each of which takes ``seconds`` to make."""

    def __init__(self, count: int, seconds: float, size: int) -> None:
        self.count, self.seconds, self.size = count, seconds, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        time.sleep(self.seconds)
        return item_rng().random((self.size, 128), dtype=np.float32), index
