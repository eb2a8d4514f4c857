"""PyTorch's DataLoader over whole batches: tensors through shared memory (its default), and NumPy through its pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.sequences import make


class Batches(Dataset[Any]):
    """The Sequence as a map-style dataset whose items are batches already."""

    def __init__(self, kind: str) -> None:
        self.sequence = make(kind)

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: int) -> Any:
        return self.sequence[index]


def _unchanged(batch: Any) -> Any:
    return batch


@contextmanager
def _loader(
    collate: Callable[[Any], Any] | None, kind: str, depth: int | None, workers: int
) -> Iterator[Iterator[Any]]:
    # Idle threads of its pool would spin where the workers should run.
    torch.set_num_threads(1)
    options = {} if depth is None else {"prefetch_factor": prefetch_factor(depth, workers)}
    # Without a batch size, the default collation turns arrays into tensors and leaves them as they are.
    loader: DataLoader[Any] = DataLoader(
        Batches(kind), batch_size=None, num_workers=workers, collate_fn=collate, persistent_workers=True, **options
    )
    yield _endless(loader)


def prefetch_factor(depth: int, workers: int) -> int:
    """Batches in flight of one worker, so that all hold what ours may: ``depth`` and one a worker."""
    return -(-(depth + workers) // workers)


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


tensors = partial(_loader, None)
arrays = partial(_loader, _unchanged)
