"""PyTorch datasets, importable so that remote workers build their own."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Dataset, RandomSampler, Sampler, SequentialSampler

from enqueuer.adapters.torch import DatasetSequence, from_dataset

Point = namedtuple("Point", ["x", "y"])


class Numbers(Dataset):
    """Sample ``i`` is ``(tensor of shape (5,) made from i, i)``; with ``noise`` the tensor is augmented at random."""

    def __init__(self, length: int = 20, noise: bool = False) -> None:
        self.length = length
        self.noise = noise

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        x = torch.arange(5, dtype=torch.float32) + 10 * index
        return (x + torch.randn(5) + float(np.random.rand()) if self.noise else x), index


class Kinds(Dataset):
    """Samples with a value of each kind known to ``default_collate``."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "tensor": torch.full((2, 3), index, dtype=torch.int16),
            "scalar tensor": torch.tensor(index * 0.5),
            "bfloat16": torch.tensor([index, 1.5], dtype=torch.bfloat16),
            "array": np.full((3,), index, np.float64),
            "numpy scalar": np.float32(index),
            "float": index + 0.25,
            "int": index,
            "bool": index % 2 == 0,
            "text": str(index),
            "pair": (index, torch.zeros(2)),
            "list": [index, np.ones(2, np.uint8)],
            "point": Point(index, torch.ones(1) * index),
        }


class Fetched(Numbers):
    """Has ``__getitems__``, which ``DataLoader`` prefers."""

    def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, int]]:
        return [(torch.full((5,), -1.0), index) for index in indices]


class Rotating(Sampler):
    """A sampler with a state of its own: each iteration begins one sample further on."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.first = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Any:
        first, self.first = self.first, self.first + 1
        return iter([(first + step) % self.length for step in range(self.length)])


def augmented(length: int = 20, batch_size: int = 4) -> DatasetSequence:
    return from_dataset(Numbers(length, noise=True), batch_size, shuffle=True, seed=3)


def with_generator() -> BatchSampler:
    return BatchSampler(RandomSampler(range(20), generator=torch.Generator().manual_seed(5)), 3, drop_last=False)


def sampled() -> DatasetSequence:
    return from_dataset(Numbers(), batch_sampler=with_generator())


def sequential() -> BatchSampler:
    return BatchSampler(SequentialSampler(range(20)), 3, drop_last=True)
