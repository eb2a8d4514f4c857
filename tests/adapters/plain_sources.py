"""Sequences of NumPy batches for the loaders' tests, importable by worker processes without a framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from enqueuer import item_rng

# Elements of an array too large for the inside of a message: it has memory of its own.
LARGE = 16_384


@dataclass
class Regression:
    """Batches ``(x float32 (16, 8), y float32 (16,))`` of a noisy linear function, augmented at random."""

    length: int = 12

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        rng = item_rng()
        x = rng.standard_normal((16, 8), dtype=np.float32)
        return x, (x @ np.arange(8, dtype=np.float32) + 0.1 * rng.standard_normal(16)).astype(np.float32)


@dataclass
class Large:
    """Batches of 64 KiB filled with their index: ``{"x": float32 (16384,), "parts": [int64 ()]}``."""

    length: int = 1000

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return {"x": np.full(LARGE, index, np.float32), "parts": [np.array(index)]}


@dataclass
class Nested:
    """One batch of all kinds of leaves."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return {
            "pair": (np.ones((2, 3), np.float32), [np.arange(4), np.array(["a", "b"])]),
            "none": None,
            "text": "hello",
            "number": 3.5,
            "scalar": np.float32(index),
            "flags": np.array([True, False]),
            "when": np.array(["2020-01-01"], "M8[D]"),
            "big endian": np.arange(3, dtype=">i4"),
            "backwards": np.arange(4, dtype=np.int16)[::-1],
            "empty": np.zeros((0, 3), np.float64),
        }


@dataclass
class FailsAt:
    """Batch ``bad`` raises; any other holds its index."""

    length: int = 8
    bad: int = 4

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if index == self.bad:
            raise ValueError(f"no batch {index}")
        return np.array([index])


@dataclass
class OneBuffer:
    """Returns one array each time, changed in place. The trainer sees the change only from local threads."""

    length: int = 6

    def __post_init__(self) -> None:
        room = np.zeros(LARGE + 16, np.float32)
        start = -room.ctypes.data % 64 // 4
        self.x = room[start : start + LARGE]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        self.x[:] = index
        return self.x
