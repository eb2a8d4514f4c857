"""`multiprocessing.Pool`, as a loop written by hand uses it: results asked for ahead and taken in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.benchmarks.sequences import make

_DEFAULT_DEPTH = 10
_sequence: Any = None


@contextmanager
def pool(kind: str, depth: int | None, workers: int) -> Iterator[Iterator[Any]]:
    with multiprocessing.get_context("fork").Pool(workers, _load, (kind,)) as processes:
        yield _in_order(processes, (depth or _DEFAULT_DEPTH) + workers)


def _in_order(processes: Any, ahead: int) -> Iterator[Any]:
    waiting: deque[Any] = deque()
    for index in count():
        waiting.append(processes.apply_async(_item, (index,)))
        if len(waiting) == ahead:
            yield waiting.popleft().get()


def _load(kind: str) -> None:
    global _sequence
    _sequence = make(kind)


def _item(index: int) -> Any:
    return _sequence[index]
