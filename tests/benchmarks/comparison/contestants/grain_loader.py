"""Grain's MapDataset with worker processes. Its buffer is counted in batches of each worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grain
from absl import flags

from tests.benchmarks.sequences import make


class Source:
    """The Sequence as a random-access data source whose items are batches already."""

    def __init__(self, kind: str) -> None:
        self.sequence = make(kind)

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: int) -> Any:
        return self.sequence[index]


@contextmanager
def grain_loader(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    flags.FLAGS.mark_as_parsed()  # its workers copy the parent's flags, also where there are none
    options = {} if depth is None else {"per_worker_buffer_size": -(-(depth + workers) // workers)}
    dataset = grain.MapDataset.source(Source(kind)).repeat()
    # One thread that reads: the Sequence computes, it does not wait for a disk.
    read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    processes = grain.MultiprocessingOptions(num_workers=workers, **options)
    yield iter(dataset.to_iter_dataset(read).mp_prefetch(processes))
