"""A Sequence for workers on a cluster: its batches are equal bit by bit wherever they are computed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tests.support.journal import Journal


class Noise:
    """Batch ``index`` is noise from a generator with that seed; each takes ``seconds``, and is noted in a journal."""

    def __init__(self, length: int, seconds: float = 0.0, journal: str = "") -> None:
        self.length, self.seconds, self.journal = length, seconds, journal

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        time.sleep(self.seconds)
        if self.journal:
            Journal(self.journal).note("item", index)
        return np.random.default_rng(index).standard_normal((8, 16))
