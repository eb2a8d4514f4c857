"""Result messages on the data channel: many batches in one multipart message (`docs/pages/explanation/wire.md`).

    frame 0       the header: sender, epoch, number, leases, and of each batch its header and sizes
    frame 1       the inline frame: the small arrays of all batches, end to end (absent if there are none)
    then          the large buffers of each batch, in chunks of `CHUNK_BYTES`, unless they lie in shared memory

`decode_header` checks frame 0 alone, so that the receiver can drop a message by its sender first. `decode_payloads`
checks the batches, and makes of each a `Payload` for the consumer to build; small batches alike are built at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import msgpack

from enqueuer.errors import ProtocolError
from enqueuer.memory.arena import SLAB_ID_BYTES, BlockRef
from enqueuer.protocol.batch import (
    CHUNK_BYTES,
    Batch,
    BatchPlan,
    Buffer,
    EncodedBatch,
    Frame,
    Received,
    Trust,
    frame_nbytes,
    join_chunks,
    parse_batch,
)
from enqueuer.protocol.compression import Codec, check_packed_sizes
from enqueuer.protocol.control_codec import leases_from_ranges, leases_to_ranges
from enqueuer.protocol.messages import ID_BYTES, Kind, ResultsHeader
from enqueuer.protocol.unpacking import unpack

# Finds buffers in shared memory: (incarnation, [(block, sizes of its buffers), …]) -> the buffers of each block.
OpenBlocks: TypeAlias = Callable[[bytes, Sequence[tuple[BlockRef, Sequence[int]]]], Sequence[Sequence[Received]]]

MAX_BATCHES_PER_MESSAGE = 4096
# The fields of every header, from the kind on. Those of the blocks and of the packed sizes may follow.
_FIELDS = 11
_COUNTER_LIMIT = 1 << 63


class FalseHeaderError(ProtocolError):
    """A false header that still names its sender: ``session`` and ``incarnation``."""

    def __init__(self, session: bytes, incarnation: bytes, text: str) -> None:
        super().__init__(text)
        self.session = session
        self.incarnation = incarnation


class BlockUnavailableError(ProtocolError):
    """The shared memory of ``incarnation`` cannot be read here; the worker has to send its batches."""

    def __init__(self, incarnation: bytes, text: str) -> None:
        super().__init__(text)
        self.incarnation = incarnation


@dataclass(slots=True)  # not frozen: that alone would double the time to make one
class Payload:
    """A batch as received and checked, not built yet.

    ``nbytes`` is its size, header included; compression saved ``saved_bytes`` of that on the wire.
    """

    plan: BatchPlan
    inline: Buffer
    offset: int
    frames: Sequence[Received]
    nbytes: int
    saved_bytes: int = 0

    def build(self) -> Batch:
        """Build the batch; its arrays are writable and its own. Called in the consumer's thread.

        Only a pickle (`Trust.LOCAL`, `Trust.KEYED`) can raise: the exceptions of the user's code in it.
        """
        return self.plan.build(self.inline, self.frames, self.offset)


@dataclass(slots=True)
class BuiltPayload:
    """A batch that is built already: one of many small ones, or one from the trainer's own threads."""

    batch: Batch
    nbytes: int
    saved_bytes: ClassVar[int] = 0

    def build(self) -> Batch:
        """The batch, as it is."""
        return self.batch


# The answer to a lease: a batch for the consumer to build, with its size.
BatchPayload: TypeAlias = Payload | BuiltPayload


class Results(NamedTuple):
    """Batches of one epoch and state generation on their way out: ``batches[i]`` answers ``leases[i]``.

    ``seq`` is the number of the message, ``busy`` the compute time of all its batches in seconds.
    """

    incarnation: bytes
    epoch: int
    generation: int
    seq: int
    busy: float
    leases: Sequence[int]
    batches: Sequence[EncodedBatch]


def encode_results(session: bytes, results: Results, *, blocks: bool = False) -> list[Buffer]:
    """The frames of one result message. With ``blocks``, buffers in shared memory are named, not sent.

    Raises ValueError for no batch, or more than `MAX_BATCHES_PER_MESSAGE`.
    """
    incarnation, epoch, generation, seq, busy, leases, batches = results
    if not 0 < len(batches) <= MAX_BATCHES_PER_MESSAGE or len(leases) != len(batches):
        raise ValueError(f"a message of {len(batches)} batches for {len(leases)} leases")
    inline_sizes = [len(batch.inline) for batch in batches]
    frame_counts = [len(batch.frames) for batch in batches]
    batch_headers = [batch.header for batch in batches]
    if min(inline_sizes) >= len(batch_headers[0]):
        batch_headers = _once_if_alike(batch_headers)
    header = [
        int(Kind.RESULTS),
        session,
        incarnation,
        epoch,
        generation,
        seq,
        float(busy),
        leases_to_ranges(leases),
        batch_headers,
        _once_if_alike(inline_sizes),
        _once_if_alike(frame_counts),
    ]
    frames: list[Buffer] = []
    if any(inline_sizes):
        frames.append(b"".join([batch.inline for batch in batches]))
    if any(frame_counts):
        named = [batch.block if blocks else None for batch in batches]
        is_packed = any(batch.packed_sizes for batch in batches)
        if any(named) or is_packed:
            header.append([None if block is None else list(block.ref) for block in named])
        if is_packed:
            header.append([batch.packed_sizes for batch in batches])
        for batch, block in zip(batches, named, strict=True):
            if block is None:
                for frame in batch.frames:
                    frames.extend(_chunks(frame))
    return [msgpack.packb(header), *frames]


def _once_if_alike(values: list[Any]) -> list[Any]:
    """One value in place of equal ones: small batches mostly differ only in the contents of their arrays."""
    return values[:1] if values.count(values[0]) == len(values) else values


def _chunks(frame: Buffer) -> list[Buffer]:
    if len(frame) <= CHUNK_BYTES:
        return [frame]
    view = memoryview(frame)
    return [view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES)]


def decode_payloads(
    frames: Sequence[Frame],
    header: ResultsHeader,
    trust: Trust,
    open_blocks: OpenBlocks | None = None,
    codec: Codec | None = None,
) -> Sequence[BatchPayload]:
    """A payload for each lease of the header from `decode_header`. Runs no user code.

    ``open_blocks`` finds the buffers of a worker on this host in shared memory, and ``codec`` unpacks compressed ones;
    each is None for a receiver that has not asked for such buffers. Raises `BlockUnavailableError` for a block that
    cannot be read (an OSError), `ProtocolError` for any other defect, and nothing else. A payload always builds, unless
    a pickle's own code raises (under any trust but `Trust.REMOTE`).
    """
    inline: Buffer = b""
    following = 1
    if any(header.inline_sizes):
        inline = _inline_frame(frames)
        following = 2
        # Check this before parsing anything: the announced bytes have arrived.
        if sum(header.inline_sizes) != len(inline):
            raise ProtocolError("the inline frame of a result message is not what its header describes")
        if len(set(header.headers)) == 1 and not any((*header.frame_counts, *header.blocks, *header.packed_sizes)):
            # Small batches of one structure, the usual case: they differ only in their offsets in the inline frame.
            if len(frames) != following:
                raise ProtocolError("a result message has more in it than its header describes")
            return _decode_alike(parse_batch(header.headers[0], trust), inline, header)
    plans = [parse_batch(batch_header, trust) for batch_header in header.headers]
    if [len(plan.frame_bytes) for plan in plans] != list(header.frame_counts):
        raise ProtocolError("a batch's frames are not those that its header describes")
    opened = _open(open_blocks, header, plans)
    offset = 0
    payloads: list[Payload] = []
    for plan, inline_size, frame_count, ref, packed_sizes in zip(
        plans, header.inline_sizes, header.frame_counts, header.blocks, header.packed_sizes, strict=True
    ):
        buffers: Sequence[Received] = ()
        saved_bytes = 0
        if ref is not None:
            buffers = next(opened)
        elif packed_sizes is not None:
            check_packed_sizes(packed_sizes, plan.frame_bytes)
            sizes = [packed or size for packed, size in zip(packed_sizes, plan.frame_bytes, strict=True)]
            packed, following = _gather(frames, following, sizes)
            buffers = _unpack(codec, packed, packed_sizes, plan.frame_bytes)
            saved_bytes = sum(plan.frame_bytes) - sum(sizes)
        elif frame_count:
            buffers, following = _gather(frames, following, plan.frame_bytes)
        if inline_size != plan.inline_bytes:
            raise ProtocolError("a batch's part of the inline frame is not what its header describes")
        payloads.append(Payload(plan, inline, offset, buffers, plan.nbytes, saved_bytes))
        offset += plan.inline_bytes
    if following != len(frames):
        raise ProtocolError("a result message has more in it than its header describes")
    return payloads


def _decode_alike(plan: BatchPlan, inline: Buffer, header: ResultsHeader) -> Sequence[BatchPayload]:
    count, size = len(header.headers), plan.inline_bytes
    if plan.frame_bytes:
        raise ProtocolError("a batch's frames are not those that its header describes")
    if header.inline_sizes.count(size) != count:
        raise ProtocolError("a batch's part of the inline frame is not what its header describes")
    if plan.is_data:
        return [BuiltPayload(batch, plan.nbytes) for batch in plan.build_many(inline, count)]
    return [Payload(plan, inline, offset, (), plan.nbytes) for offset in range(0, count * size, size)]


def _chunk_count(size: int) -> int:
    return max(1, -(-size // CHUNK_BYTES))


def _gather(frames: Sequence[Frame], start: int, sizes: Sequence[int]) -> tuple[list[Received], int]:
    """The buffers of these sizes, each a frame or its chunks, and the number of the next frame."""
    buffers: list[Received] = []
    for size in sizes:
        end = start + _chunk_count(size)
        chunks = frames[start:end]
        lengths = [frame_nbytes(chunk) for chunk in chunks]
        if sum(lengths) != size or any(length != CHUNK_BYTES for length in lengths[:-1]) or not chunks:
            raise ProtocolError("a batch's frames are not those that its header describes")
        buffers.append(chunks[0] if len(chunks) == 1 else tuple(chunks))
        start = end
    return buffers, start


def _unpack(
    codec: Codec | None, buffers: Sequence[Received], packed_sizes: Sequence[int], sizes: Sequence[int]
) -> list[Received]:
    if codec is None:
        raise ProtocolError("a peer compresses without being asked to")
    return [
        codec.unpack(join_chunks(buffer), size) if packed else buffer
        for buffer, packed, size in zip(buffers, packed_sizes, sizes, strict=True)
    ]


def _open(
    open_blocks: OpenBlocks | None, header: ResultsHeader, plans: Sequence[BatchPlan]
) -> Iterator[Sequence[Received]]:
    """The large buffers of each batch in a block, in the order of the batches."""
    blocks = [
        (BlockRef(*ref), plan.frame_bytes) for ref, plan in zip(header.blocks, plans, strict=True) if ref is not None
    ]
    if not blocks:
        return iter(())
    if open_blocks is None:
        raise ProtocolError("a peer names shared memory, but shares none")
    try:
        return iter(open_blocks(header.incarnation, blocks))
    except OSError as error:
        reason = f"a worker's shared memory cannot be read here: {error}"
        raise BlockUnavailableError(header.incarnation, reason) from error


def decode_header(frames: Sequence[Frame]) -> tuple[bytes, ResultsHeader]:
    """The session and the header; the batches are not looked at yet.

    Raises `ProtocolError`, as a `FalseHeaderError` if the header names its sender.
    """
    if not frames:
        raise ProtocolError("a result message has no frames")
    fields = unpack(_view(frames[0]))
    # A newer version adds its fields at the end.
    if type(fields) is not list or len(fields) < _FIELDS or fields[0] != Kind.RESULTS:
        raise ProtocolError("frame 0 is not the header of a result message")
    session, incarnation = fields[1:3]
    if not all(type(value) is bytes and len(value) == ID_BYTES for value in (session, incarnation)):
        raise ProtocolError(f"session and incarnation of a result message have {ID_BYTES} bytes")
    try:
        return session, _check_header(fields)
    except ProtocolError as error:
        raise FalseHeaderError(session, incarnation, str(error)) from None


def _check_header(fields: list[Any]) -> ResultsHeader:
    _, _, incarnation, epoch, generation, seq, busy, ranges, headers, sizes, counts = fields[:_FIELDS]
    if not (_is_counter(epoch) and _is_counter(generation) and _is_counter(seq)):
        raise ProtocolError("epoch, state generation and number of a result message are counters")
    if type(busy) is not float or not 0 <= busy < float("inf"):
        raise ProtocolError("the compute time of a result message is a number of seconds")
    leases = leases_from_ranges(ranges, MAX_BATCHES_PER_MESSAGE)
    if not leases:
        raise ProtocolError("a result message answers a lease")
    sizes, counts = _for_each(sizes, len(leases)), _for_each(counts, len(leases))
    _check_length(headers, len(leases))
    if set(map(type, headers)) != {bytes}:
        raise ProtocolError("a batch header is bytes")
    if set(map(type, (*sizes, *counts))) != {int} or min(*sizes, *counts) < 0:
        raise ProtocolError("sizes and counts of a result message are not negative")
    if len(headers) < len(leases):
        # Building a batch takes time by the length of its header: allow no more of that than there are bytes.
        if min(sizes) < len(headers[0]):
            raise ProtocolError("a batch header stands for batches that have fewer inline bytes than it has")
        headers *= len(leases)
    none = (None,) * len(leases)
    blocks = _check_blocks(fields[_FIELDS], len(leases)) if len(fields) > _FIELDS else none
    packed = _check_packed(fields[_FIELDS + 1], len(leases)) if len(fields) > _FIELDS + 1 else none
    return ResultsHeader(
        incarnation, epoch, generation, seq, busy, leases, tuple(headers), tuple(sizes), tuple(counts), blocks, packed
    )


def _is_counter(value: object) -> bool:
    return type(value) is int and 0 <= value < _COUNTER_LIMIT


def _for_each(values: Any, count: int) -> list[Any]:
    """One value a lease, of a list in which one value may stand for all."""
    _check_length(values, count)
    return list(values) if len(values) == count else values * count


def _check_length(values: object, count: int) -> None:
    if type(values) is not list or len(values) not in (1, count):
        raise ProtocolError("a result message has an entry for each lease, or one for all, in each of its lists")


def _check_packed(packed_sizes: object, count: int) -> tuple[list[int] | None, ...]:
    """The packed sizes; `check_packed_sizes` checks the numbers, together with the sizes of the buffers."""
    if type(packed_sizes) is not list or len(packed_sizes) != count:
        raise ProtocolError("a result message has packed sizes, or none, for each lease")
    if not all(sizes is None or type(sizes) is list for sizes in packed_sizes):
        raise ProtocolError("packed sizes of a batch are a list")
    return tuple(packed_sizes)


def _check_blocks(refs: object, count: int) -> tuple[list[Any] | None, ...]:
    if type(refs) is not list or len(refs) != count:
        raise ProtocolError("a result message has a block reference, or none, for each lease")
    for ref in refs:
        if ref is None:
            continue
        if type(ref) is not list or len(ref) != len(BlockRef._fields):
            raise ProtocolError("a block reference is a slab, an offset and a use")
        slab_id, *numbers = ref
        if type(slab_id) is not bytes or len(slab_id) != SLAB_ID_BYTES:
            raise ProtocolError("a slab has an id")
        if not all(map(_is_counter, numbers)):
            raise ProtocolError("offset and use of a block are counters")
    return tuple(refs)


def _inline_frame(frames: Sequence[Frame]) -> memoryview:
    if len(frames) < 2:
        raise ProtocolError("a result message lacks its inline frame")
    return _view(frames[1])


def _view(frame: Frame) -> memoryview:
    view = frame if isinstance(frame, bytes | memoryview) else frame.buffer
    return memoryview(view).cast("B")
