"""The batch codec: a batch to a header and buffers, and back. Other packages import from here alone.

encoded = encode_batch(batch, Trust.REMOTE)            # on the worker, in the thread that computed the batch
plan = parse_batch(encoded.header, Trust.REMOTE)       # at the trainer, in the I/O thread: every check
batch = plan.build(encoded.inline, encoded.frames)     # in the consumer's thread: memory, and pickles if trusted

    encode_batch   encoder ── layouts ── buffers       format: the nodes of a header
                   └─ pickled_values: many plain values at once
    parse_batch    parser ─── readers                  dtypes: NumPy dtypes as plain values
    BatchTemplate  template: empty batches in shared memory, for `getitem_into`
    code_left_out  codeless_pickles: a batch is built without the code of its pickles, to be compared
"""

from __future__ import annotations

from enqueuer.protocol.batch.codeless_pickles import Opaque, StandIn, code_left_out
from enqueuer.protocol.batch.dtypes import describe_dtype, is_scalar_dtype, parse_dtype, parse_scalar_dtype
from enqueuer.protocol.batch.encoder import EncodedBatch, encode_batch
from enqueuer.protocol.batch.format import CHUNK_BYTES, Batch, Buffer, Frame, Received, Trust, frame_nbytes
from enqueuer.protocol.batch.parser import BatchPlan, parse_batch
from enqueuer.protocol.batch.readers import join_chunks
from enqueuer.protocol.batch.template import BatchBuffer, BatchTemplate

__all__ = [
    "CHUNK_BYTES",
    "Batch",
    "BatchBuffer",
    "BatchPlan",
    "BatchTemplate",
    "Buffer",
    "EncodedBatch",
    "Frame",
    "Opaque",
    "Received",
    "StandIn",
    "Trust",
    "code_left_out",
    "describe_dtype",
    "encode_batch",
    "frame_nbytes",
    "is_scalar_dtype",
    "join_chunks",
    "parse_batch",
    "parse_dtype",
    "parse_scalar_dtype",
]
