"""A batch to a header and buffers, and back. The format is in ``format.py``.

encoded = encode_batch(batch, Trust.REMOTE)            # on the worker, in the thread that computed it
plan = parse_batch(encoded.header, Trust.REMOTE)       # at the trainer, in the I/O thread: every check
batch = plan.build(encoded.inline, encoded.frames)     # in the consumer's thread: memory, and pickles if local
"""

from __future__ import annotations

from enqueuer.protocol.batch.encoder import EncodedBatch, encode_batch
from enqueuer.protocol.batch.format import Buffer, Received, Trust
from enqueuer.protocol.batch.parser import BatchPlan, parse_batch

__all__ = ["BatchPlan", "Buffer", "EncodedBatch", "Received", "Trust", "encode_batch", "parse_batch"]
