"""Datasets and samplers that ask more of a loader than their batches, importable by workers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, get_worker_info

from enqueuer.adapters.torch import DatasetSequence, from_dataset


class Counted(Dataset):
    """Sample ``i`` is ``i``; some take longer."""

    def __init__(self, count: int, slow: Sequence[int] = ()) -> None:
        self.count, self.slow = count, frozenset(slow)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        time.sleep(0.5 if index in self.slow else 0.005)
        return index


class Selected(Sampler):
    """The samples that the training has chosen, in random order."""

    def __init__(self, chosen: Sequence[int]) -> None:
        self.chosen = list(chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[int]:
        return iter(random.sample(self.chosen, len(self.chosen)))


# Of each sample; the training changes it.
LOSSES = [0.0] * 40


class Hardest(Sampler):
    """The samples with the largest losses, which are no part of the sampler."""

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(range(len(LOSSES)), key=LOSSES.__getitem__, reverse=True)[:8])


class Named(Dataset):
    """Samples by name, without a length."""

    def __getitem__(self, name: str) -> list[int]:
        return [ord(letter) for letter in name]


class Told(Dataset):
    """Told the epoch, as many trainings tell their datasets."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return 4

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> int:
        return 100 * self.epoch + index


def told() -> DatasetSequence:
    return from_dataset(Told(), 2)


class Asking(Dataset):
    """Asks which worker it is in, and augments with a generator that it seeds from torch, as libraries do."""

    def __init__(self) -> None:
        self.rng, self.synced = random.Random(7), 0
        self.handle: list[int] | None = None

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[int, int, int, float]:
        info = get_worker_info()
        assert info is not None and info.dataset is self
        if self.synced != torch.initial_seed():
            self.synced = torch.initial_seed()
            self.rng = random.Random(7 + self.synced)
        return index, info.id, info.num_workers, self.rng.random()


class Composed:
    """A pipeline with generators of its own and a seed for them, as augmentation libraries ship it.

    In a loader's worker it adds torch's seed to its own, once for each new seed: workers and epochs draw other numbers.
    """

    def __init__(self, seed: int | None) -> None:
        self.told: int | None = None
        self.set_random_seed(seed)

    def set_random_seed(self, seed: int | None) -> None:
        self.seed = seed
        self._seed_generators(seed)

    def _seed_generators(self, seed: int | None) -> None:
        self.random, self.numpy = random.Random(seed), np.random.default_rng(seed)

    def __call__(self) -> tuple[float, float]:
        if get_worker_info() is not None and self.told != torch.initial_seed():
            self.told = torch.initial_seed()
            self._seed_generators(((self.seed or 0) + self.told) % 2**32)
        return self.random.random(), float(self.numpy.random())


class Augmented(Counted):
    """Sample ``i`` is what two pipelines draw for it, one of them without a seed."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.pipelines = [Composed(137), Composed(None)]

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([pipeline() for pipeline in self.pipelines])


class Seeds(Counted):
    """Sample ``i`` is the two seeds that code in a worker makes generators from."""

    def __getitem__(self, index: int) -> Any:
        info: Any = get_worker_info()
        return torch.initial_seed(), info.seed


def open_handle(number: int) -> None:
    info: Any = get_worker_info()
    assert info.id == number and info.seed == torch.initial_seed()
    info.dataset.handle = [10 * index for index in range(8)]


class Opened(Asking):
    def __getitem__(self, index: int) -> Any:
        assert self.handle is not None
        return self.handle[index]


class Threads(Counted):
    """Says how many threads torch has."""

    def __getitem__(self, index: int) -> int:
        return torch.get_num_threads()


def take_three_threads() -> None:
    torch.set_num_threads(3)


class Box(torch.Tensor):
    """A tensor that remembers where it was taken."""


def boxed(index: int) -> Box:
    made = torch.full((2,), float(index)).as_subclass(Box)
    made.place = ("room", index)  # type: ignore[attr-defined]
    return made


class Kept(Dataset):
    """Reads and writes memory that it shares with the trainer."""

    def __init__(self, memory: Any) -> None:
        self.memory, self.is_filled = memory, False

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, index: int) -> float:
        if not self.is_filled:
            self.memory[index] = float(index + 1)
        return float(self.memory[index])
