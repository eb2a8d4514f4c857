"""One item to an encoded batch: what ``__getitem__`` returns, copied; or filled in where the trainer reads it."""

from __future__ import annotations

from functools import partial
from typing import Any

from enqueuer.compute.item import compute_item
from enqueuer.memory.arena import Arena
from enqueuer.protocol.batch import EncodedBatch, Trust, encode_batch
from enqueuer.protocol.batch.template import BatchTemplate
from enqueuer.protocol.messages import Epoch


class BatchMaker:
    """For one Sequence in one epoch. Raises what that raises, and SequenceError for what cannot be carried."""

    def __init__(self, sequence: Any, epoch: Epoch, trust: Trust) -> None:
        self._trust = trust
        self._compute = partial(compute_item, sequence, seed=epoch.seed, epoch=epoch.epoch, seed_globals=True)
        self._fills = hasattr(sequence, "getitem_into")
        self._template: BatchTemplate | None = None

    def make(self, index: int, arena: Arena | None) -> EncodedBatch:
        if arena is None or not self._fills:
            # One variable of ours, no more and no less: by its count of references the encoder tells a batch that is
            # new, and is sent as it lies, from one that the Sequence keeps and may change.
            batch = self._compute(index)
            return encode_batch(batch, self._trust, arena)
        room = self._template.room(arena) if self._template is not None else None
        if room is None:
            return self._encode(self._compute(index), arena)
        try:
            batch = self._compute(index, out=room.batch)
            if batch is None or batch is room.batch:
                if room.is_unchanged:
                    return room.encode()
                batch = room.batch
            # With the room still taken, since the batch may have parts of it.
            encoded = self._encode(batch, arena)
        except BaseException:
            room.release()
            raise
        room.release()
        return encoded

    def _encode(self, batch: Any, arena: Arena) -> EncodedBatch:
        encoded = encode_batch(batch, self._trust, arena)
        self._template = BatchTemplate.of(batch)
        return encoded
