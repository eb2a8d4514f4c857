"""Sequences with a mistake each, and one without."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from enqueuer import SequenceEnqueuer


class Batches:
    """A Sequence without a mistake."""

    def __init__(self, count: int = 4) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return np.array([index])


class Unsized:
    def __getitem__(self, index: int) -> Any:
        return index


class Locked(Batches):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Deadly(Batches):
    def __getitem__(self, index: int) -> Any:
        if index == 2:
            os._exit(7)
        return index


class Returnless(Batches):
    def __getitem__(self, index: int) -> Any:
        np.array([index])


class Partial(Batches):
    def __getitem__(self, index: int) -> Any:
        return np.array([index]) if index == 1 else None


class Raising(Batches):
    def __getitem__(self, index: int) -> Any:
        return {}["label_column"]


class Halved(Batches):
    def __len__(self) -> int:
        return self.count / 2  # type: ignore[return-value]


def train(sequence: Any, use_multiprocessing: bool = False, **options: Any) -> list[Any]:
    with SequenceEnqueuer(sequence, use_multiprocessing, **options) as enqueuer:
        enqueuer.start(workers=1)
        return list(enqueuer.epoch())
