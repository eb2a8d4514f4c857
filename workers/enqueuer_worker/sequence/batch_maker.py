"""The batch maker: computes an item and encodes its batch.

``__getitem__`` returns a batch, which is copied into shared memory or sent from where it lies. A Sequence with
``getitem_into(index, out)`` writes its batch directly into shared memory: the first batch is computed the usual way and
is the template for the next one's buffer. If the next batch has another form, it is computed the usual way as well.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from enqueuer.compute.item import compute_item
from enqueuer.memory.arena import Arena
from enqueuer.protocol.batch import BatchTemplate, EncodedBatch, Trust, encode_batch
from enqueuer.protocol.messages import Epoch


class BatchMaker:
    """Makes the batches of one Sequence in one epoch."""

    def __init__(self, sequence: Any, epoch: Epoch, trust: Trust) -> None:
        self._trust = trust
        self._compute = partial(compute_item, sequence, seed=epoch.seed, epoch=epoch.epoch, seed_globals=True)
        self._fills = hasattr(sequence, "getitem_into")
        self._template: BatchTemplate | None = None

    def make(self, index: int, arena: Arena | None) -> EncodedBatch:
        """Compute and encode one item. Raises user code's errors, and SequenceError for a batch that cannot travel."""
        if arena is None or not self._fills:
            # Exactly one variable refers to the batch: by its count of references the encoder tells a new batch, which
            # is sent from where it lies, from one that the Sequence keeps and may change.
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
