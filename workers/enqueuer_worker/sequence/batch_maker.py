"""The batch maker: computes an item and encodes its batch.

The batch of ``__getitem__`` is copied into shared memory; where there is none, it is sent. A Sequence with
``getitem_into(index, out)`` writes its batch directly into shared memory: the first batch is computed the usual way and
is the template for the next one's buffer. If the next batch has another form, it is computed the usual way as well.
"""

from __future__ import annotations

from typing import Any

from enqueuer.compute.sequence_checks import fills_buffers
from enqueuer.compute.worker_items import WorkerItems
from enqueuer.memory.arena import Arena
from enqueuer.protocol.batch import BatchTemplate, EncodedBatch, Trust, encode_batch


class BatchMaker:
    """Makes the batches of one Sequence in one epoch."""

    def __init__(self, items: WorkerItems, trust: Trust) -> None:
        self._trust = trust
        self._compute = items.compute
        self._fills = fills_buffers(items.sequence)
        self._template: BatchTemplate | None = None

    def make(self, index: int, arena: Arena | None) -> EncodedBatch:
        """Compute and encode one item. Raises user code's errors, and SequenceError for a batch that cannot travel."""
        if arena is None or not self._fills:
            # Exactly one variable refers to the batch. By its count of references the encoder tells a new batch, sent
            # without a copy, from one that the Sequence keeps and may change.
            batch = self._compute(index)
            return encode_batch(batch, self._trust, arena)
        buffer = self._template.take_buffer(arena) if self._template is not None else None
        if buffer is None:
            return self._encode(self._compute(index), arena)
        try:
            batch = self._compute(index, out=buffer.batch)
            if batch is None or batch is buffer.batch:
                if buffer.is_unchanged:
                    return buffer.encode()
                batch = buffer.batch
            # While the buffer is still taken, since the batch may contain parts of it.
            encoded = self._encode(batch, arena)
        except BaseException:
            buffer.release()
            raise
        buffer.release()
        return encoded

    def _encode(self, batch: Any, arena: Arena) -> EncodedBatch:
        encoded = encode_batch(batch, self._trust, arena)
        self._template = BatchTemplate.of(batch)
        return encoded
