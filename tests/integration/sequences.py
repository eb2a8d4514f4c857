"""Sequences that tests build by name, in trainers and workers of their own."""

from __future__ import annotations

import logging
import os
import time
import warnings

import numpy as np


class Stamped:
    """Batch i is (i, the worker's pid, an array full of i)."""

    sign = 1

    def __init__(self, length: int, seconds: float = 0.0, size: int = 5000) -> None:
        self.length, self.seconds, self.size = length, seconds, size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, int, np.ndarray]:
        time.sleep(self.seconds)
        return index, os.getpid(), np.full(self.size, self.sign * index, np.int64)


class Negated(Stamped):
    """As `Stamped`, but with arrays full of -i."""

    sign = -1


class Drawn(Stamped):
    """Batch i is (i, the worker's pid, an array full of a number that NumPy draws)."""

    def __getitem__(self, index: int) -> tuple[int, int, np.ndarray]:
        time.sleep(self.seconds)
        return index, os.getpid(), np.full(self.size, np.random.randint(2**31), np.int64)


class Chatty(Stamped):
    """Logs and warns about each item, and prints."""

    def __getitem__(self, index: int) -> tuple[int, int, np.ndarray]:
        logging.getLogger("reading").warning("opened shelf %d", index)
        warnings.warn(f"shelf {index} is dusty", UserWarning, stacklevel=1)
        print(f"read shelf {index}", flush=True)
        return super().__getitem__(index)


class Surroundings(Stamped):
    """Batch i is (i, the worker's pid, the environment of user code there)."""

    def __getitem__(self, index: int) -> tuple[int, int, dict[str, str]]:  # type: ignore[override]
        return index, os.getpid(), dict(os.environ)


class Hungry(Stamped):
    """Batch 1 takes ``size`` bytes of memory."""

    def __getitem__(self, index: int) -> tuple[int, int, np.ndarray]:
        if index == 1:
            return index, os.getpid(), np.ones(self.size, np.uint8)
        return index, os.getpid(), np.zeros(1, np.uint8)


class Odd(Stamped):
    """Batches with an object that must be pickled."""

    def __getitem__(self, index: int) -> tuple[int, int, set[int]]:  # type: ignore[override]
        return index, os.getpid(), {index, -1}


class Recognizable(Stamped):
    """Batches with a text that can be found in a capture of the network."""

    TEXT = "PLAINTEXT-OF-A-BATCH-"

    def __getitem__(self, index: int) -> tuple[int, int, np.ndarray]:
        return index, os.getpid(), np.frombuffer(self.TEXT.encode() * self.size, np.uint8)
