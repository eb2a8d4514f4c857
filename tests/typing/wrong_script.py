"""A user's script with one mistake on each line that ends in "wrong"."""

from __future__ import annotations

from enqueuer import OrderedEnqueuer, SequenceEnqueuer, Timing
from enqueuer.adapters.datasets import from_dataset as from_rows
from enqueuer.adapters.jax import device_iterator
from enqueuer.adapters.torch import as_iterable, from_dataset

SequenceEnqueuer([1, 2], retry=3)  # wrong
SequenceEnqueuer([1, 2], retries="3")  # wrong
SequenceEnqueuer([1, 2], on_error="ignore")  # wrong
SequenceEnqueuer([1, 2], hedge="always")  # wrong
SequenceEnqueuer([1, 2], shard=(0, 1, 2))  # wrong
SequenceEnqueuer([1, 2], True, True)  # wrong
SequenceEnqueuer([1, 2], timing=5.0)  # wrong
SequenceEnqueuer([1, 2], timing=Timing(worker_time_out=5.0))  # wrong
OrderedEnqueuer([1, 2], False, True, bind_to="tcp://127.0.0.1:*")  # wrong
OrderedEnqueuer([1, 2], shuffle="yes")  # wrong

enq = SequenceEnqueuer([1, 2])
enq.start(workers="4")  # wrong
enq.start(max_queue_size="deep")  # wrong
enq.start(queue_size=3)  # wrong
print(enq.stats().batch_total)  # wrong

from_dataset([1, 2], batchsize=4)  # wrong
from_rows([1, 2], batch_size="4")  # wrong
as_iterable(enq, worker=2)  # wrong
as_iterable(enq, workers="2")  # wrong
device_iterator(enq, max_queue=3)  # wrong
device_iterator(enq, workers=2, max_queue_size="deep")  # wrong
