"""Batch samplers in the shapes that libraries ship: each draws its batches by a rule of its own, told the epoch.

Their ``len()`` is an estimate, and an epoch has as many batches as the rule happens to make.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import torch
from torch.utils.data import BatchSampler

LABELS = [number * number % 11 for number in range(40)]


class Drawn(BatchSampler):
    """Told the epoch, as a trainer tells it, and seeds its generator from that. Torch's own one if it has none."""

    def __init__(self, size: int, generator: torch.Generator | None = None) -> None:
        super().__init__(range(len(LABELS)), size, drop_last=False)
        self.generator, self.epoch = generator, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def permutation(self, count: int) -> list[int]:
        if self.generator is not None:
            self.generator.manual_seed(11 + self.epoch)
        numbers: list[int] = torch.randperm(count, generator=self.generator).tolist()
        return numbers


class OnlyTold(BatchSampler):
    """Told the epoch, and without a use for it: the generator of the sampler below goes on."""

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class Distinct(Drawn):
    """No label twice in a batch: a sample with a label that the batch has waits for a later one."""

    def __iter__(self) -> Iterator[list[int]]:
        waiting = self.permutation(len(LABELS))
        while waiting:
            batch: dict[int, int] = {}
            for number in waiting:
                if len(batch) < self.batch_size:
                    batch.setdefault(LABELS[number], number)
            taken = list(batch.values())
            waiting = [number for number in waiting if number not in taken]
            yield taken


class ByLabel(Drawn):
    """The samples of one label after those of another, in an order of labels that is drawn. An odd one is left out."""

    def __iter__(self) -> Iterator[list[int]]:
        groups = defaultdict(list)
        for number, label in enumerate(LABELS):
            groups[label].append(number)
        labels = list(groups)
        rows: list[int] = []
        for place in self.permutation(len(labels)):
            group = groups[labels[place]]
            rows += group[: len(group) // 2 * 2]
        for first in range(0, len(rows), self.batch_size):
            yield rows[first : first + self.batch_size]


class RoundRobin(Drawn):
    """A batch of each sampler in turn, until one has no more. They share its generator."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(4, generator)
        self.batch_samplers = [Distinct(4, generator), ByLabel(6, generator)]

    def __iter__(self) -> Iterator[list[int]]:
        self.permutation(1)
        turns = [iter(sampler) for sampler in self.batch_samplers]
        for turn in cycle(turns):
            batch = next(turn, None)
            if batch is None:
                return
            yield batch


class Grouped(BatchSampler):
    """Batches of one group each, as close to the order of the sampler below as that allows.

    Groups that are left with too few are filled up with what they had before, up to the number of ``len()``.
    """

    def __init__(self, sampler: Any, size: int) -> None:
        self.sampler, self.batch_size = sampler, size

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        open_batches, seen, count = defaultdict(list), defaultdict(list), 0
        for number in self.sampler:
            group = LABELS[number] % 2
            open_batches[group].append(number)
            seen[group].append(number)
            if len(open_batches[group]) == self.batch_size:
                count += 1
                yield open_batches.pop(group)
        fullest = sorted(open_batches, key=lambda group: len(open_batches[group]), reverse=True)
        for group in fullest[: len(self) - count]:
            batch = open_batches[group]
            yield batch + seen[group][: self.batch_size - len(batch)]
