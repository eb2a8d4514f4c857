"""A user's script, as type checkers see it: no line of it is an error."""

from __future__ import annotations

import numpy as np

from enqueuer import OrderedEnqueuer, Sequence, SequenceEnqueuer, SequenceSpec, Stats, Timing, WorkerStats
from enqueuer.adapters.jax import device_iterator
from enqueuer.adapters.torch import as_iterable, from_dataset


class Batches(Sequence):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full(4, index)


with SequenceEnqueuer(
    Batches(),
    True,
    shuffle=True,
    seed=3,
    shard=(0, 1),
    shard_remainder="repeat",
    on_error="skip",
    hedge=2.5,
    batch_timeout=30,
    bind="tcp://127.0.0.1:*",
    compression="zstd",
    worker_init=print,
    timing=Timing(worker_timeout=5.0),
) as enq:
    enq.start(workers=None, max_queue_size="auto", epoch=2)
    for batch in enq.epoch():
        print(batch)
    stats: Stats = enq.stats()
    workers: tuple[WorkerStats, ...] = stats.workers
    rate: float = stats.batches_total / 2
    enq.load_state_dict(enq.state_dict())

ordered = OrderedEnqueuer(SequenceSpec("mydata:Batches", count=3), False, True, hedge="off", worker_init="m:f")
ordered.start(4, 20)
ordered.stop(timeout=1.5)

source = from_dataset(list(range(40)), batch_size=4, shuffle=True, drop_last=True, collate_fn=len, seed=3)
loader = as_iterable(SequenceEnqueuer(source), pin_memory=True, workers=None, max_queue_size="auto", epoch=2)
while loader.epoch < 3:
    for batch in loader:
        print(len(loader), batch)
arrays = device_iterator(ordered, 3, workers=2, max_queue_size=8)
arrays.load_state_dict(arrays.state_dict())
