"""Ray Data: actors make each index's batch, and the driver iterates over batches in order.

Ray bounds its object store, not a number of batches: at an equal depth that many batches are prefetched in place of
one, and what is on its way besides is up to Ray. Blocks keep their 128 MB: with one batch a block it was many times
slower with small batches, and no faster with large ones.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.data

from tests.benchmarks.sequences import make

_LENGTH = 100_000


class Maker:
    """Lives in an actor. A call has one index and returns that batch's rows."""

    def __init__(self, kind: str) -> None:
        self.sequence = make(kind)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        x, y = self.sequence[int(rows["id"][0])]
        return {"x": x, "y": y}


@contextmanager
def ray_data(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    _, labels = make(kind)[0]
    # A CPU for each actor and one for what reads the indices: two alone would be a deadlock.
    ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        options = {} if depth is None else {"prefetch_batches": depth}
        dataset = ray.data.range(_LENGTH).map_batches(
            Maker, fn_constructor_args=(kind,), batch_size=1, concurrency=workers, num_cpus=1
        )
        pairs = _pairs(dataset, len(labels), options)
        yield pairs
        # Before Ray: its executor would start another Ray to end itself in.
        pairs.close()
    finally:
        ray.shutdown()


def _pairs(dataset: ray.data.Dataset, rows_count: int, options: dict[str, Any]) -> Generator[Any, None, None]:
    while True:
        for batch in dataset.iter_batches(batch_size=rows_count, batch_format="numpy", **options):
            yield batch["x"], batch["y"]
