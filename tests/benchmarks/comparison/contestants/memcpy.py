"""One copy of each batch into memory that is warm: what moving it at all costs at least."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import numpy as np

from tests.benchmarks.sequences import make

_BLOCKS = 24


@contextmanager
def memcpy(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    batch = make(kind)[0]
    # Copies, not empty arrays: their pages are there before the first round.
    ring = [tuple(array.copy() for array in batch) for _ in range(_BLOCKS)]
    yield _copies(batch, ring)


def _copies(batch: tuple[np.ndarray, ...], ring: list[tuple[np.ndarray, ...]]) -> Iterator[Any]:
    for block in cycle(ring):
        for into, array in zip(block, batch, strict=True):
            into[:] = array
        yield block
