"""The Sequence that is computed during attacks."""

from __future__ import annotations

import time

import numpy as np

SECONDS = 0.02


class Sleep20:
    """Batches of 20 ms; the content of each follows from its index."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(SECONDS)
        return np.full(256, index, np.int64)
