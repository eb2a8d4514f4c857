"""Computes one item, ``sequence[index]``: in local threads, in worker processes and with ``workers=0``."""

from __future__ import annotations

import operator
from typing import Any

from enqueuer.compute.context import begin_item, end_item


def compute_item(
    sequence: Any,
    index: int,
    *,
    seed: int,
    epoch: int,
    out: Any = None,
    rng_seeds: tuple[int, int, int] | None = None,
) -> Any:
    """Return ``sequence[index]``, with the index as a plain int; with ``out``, ``sequence.getitem_into(index, out)``.

    ``item_rng()`` is seeded from (seed, epoch, index), or from ``rng_seeds``. Global generators are left alone: threads
    share the trainer's, and `worker_items` seeds a worker process's.

    Exceptions of ``__getitem__`` are passed on, but StopIteration becomes RuntimeError as in PEP 479: in the generator
    that delivers batches it would look like a normal end.
    """
    index = operator.index(index)
    outer = begin_item(seed, epoch, index, rng_seeds)
    try:
        return sequence[index] if out is None else sequence.getitem_into(index, out)
    except StopIteration as error:
        raise RuntimeError(f"sequence[{index}] raised StopIteration") from error
    finally:
        end_item(outer)
