"""Computes one item, ``sequence[index]``, under its own seeds: in local threads, worker processes and ``workers=0``."""

from __future__ import annotations

import operator
from typing import Any

from enqueuer.compute import seeding
from enqueuer.compute.context import begin_item, end_item


def compute_item(sequence: Any, index: int, *, seed: int, epoch: int, seed_globals: bool, out: Any = None) -> Any:
    """Return ``sequence[index]``, with the index as a plain int; with ``out``, ``sequence.getitem_into(index, out)``.

    ``seed_globals`` is for worker processes; threads share the trainer's global generators and must not change them.
    Exceptions of ``__getitem__`` are passed on, but StopIteration becomes RuntimeError as in PEP 479: in the generator
    that delivers batches it would look like a normal end.
    """
    index = operator.index(index)
    outer = begin_item(seed, epoch, index)
    try:
        if seed_globals:
            seeding.seed_globals(seed, epoch, index)
        return sequence[index] if out is None else sequence.getitem_into(index, out)
    except StopIteration as error:
        raise RuntimeError(f"sequence[{index}] raised StopIteration") from error
    finally:
        end_item(outer)
