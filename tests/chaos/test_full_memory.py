"""The trainer keeps batches until its control group is full: batches then come by socket, and no process dies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer
from tests.support.chaos_cgroup import MemoryGroup

_LIMIT_BYTES = 400 << 20
_BATCH_VALUES = 250_000
_LENGTH = 300


class Numbered:
    """Batches of 2 MB, each new."""

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full(_BATCH_VALUES, index)


@pytest.mark.proves("the trainer keeps more batches than shared memory has room for")
def test_when_the_trainer_keeps_more_than_there_is_memory_batches_come_through_the_socket_and_no_worker_is_killed(
    memory_group: Callable[[int], MemoryGroup],
) -> None:
    with SequenceEnqueuer(Numbered(), use_multiprocessing=True) as enqueuer:
        group = memory_group(_LIMIT_BYTES)
        enqueuer.start(workers=6)
        enqueuer.wait_for_workers(6, 90.0)
        for worker in enqueuer.stats().workers:
            group.add(worker.pid)
        kept = list(enqueuer.epoch())
        assert all((batch == index).all() for index, batch in enumerate(kept)) and len(kept) == _LENGTH
        assert sum(batch.nbytes for batch in kept) > 1.4 * _LIMIT_BYTES
        assert enqueuer.stats().lost_workers_count == 0
        assert group.kills_count() == 0
