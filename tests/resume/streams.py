"""Streams taken piece by piece, each piece by another enqueuer that gets only the state of the last one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from enqueuer import SequenceEnqueuer

Make = Callable[[], SequenceEnqueuer]


def through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


@contextmanager
def running(made: SequenceEnqueuer, workers: int = 0, max_queue_size: int = 3) -> Iterator[SequenceEnqueuer]:
    """Started with a drawn seed that is always the same."""
    random.seed(5)
    made.start(workers, max_queue_size)
    try:
        yield made
    finally:
        made.close()


def uninterrupted(make: Make, count: int, workers: int = 0) -> list[Any]:
    with running(make(), workers) as enqueuer:
        return list(islice(enqueuer.get(), count))


def pieces(make: Make, cuts: Sequence[int], workers: Sequence[int], after_stop: bool = False) -> list[list[Any]]:
    """``cuts`` batches from an enqueuer each, the i-th with ``workers[i % len(workers)]`` workers."""
    taken: list[list[Any]] = []
    state: Any = None
    for number, count in enumerate(cuts):
        made = make()
        if state is not None:
            made.load_state_dict(through_json(state))
            assert made.state_dict() == state or state["epoch_end"] is False
        with running(made, workers[number % len(workers)]) as enqueuer:
            if number:
                random.seed(number)  # no other seed is drawn
            taken.append(list(islice(enqueuer.get(), count)))
            state = enqueuer.state_dict()
        if after_stop:
            state = enqueuer.state_dict()
    return taken
