"""Result messages on the data channel: many batches in one multipart message. Layout: `README.md` beside this file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from enqueuer.errors import ProtocolError
from enqueuer.protocol.batch_codec import BatchPlan, Buffer, EncodedBatch, Received, Trust, parse_batch
from enqueuer.protocol.control_codec import leases_from_runs, leases_to_runs
from enqueuer.protocol.messages import ID_BYTES, Kind, ResultsHeader

# Also what keeps nested arrays in a hostile frame 0 from asking for much memory.
MAX_BATCHES_PER_MESSAGE = 4096
_FIELDS = 11
_COUNTER_LIMIT = 1 << 63


@dataclass(slots=True)  # not frozen: that alone would double the time to make one
class Payload:
    """One batch as received and checked; nothing of it is built yet. ``nbytes`` is its weight, header included."""

    plan: BatchPlan
    inline: Buffer
    offset: int
    frames: Sequence[Received]
    nbytes: int

    def build(self) -> Any:
        """The batch, its arrays writable and its own. For the consumer's thread: a local pickle runs the user's code,
        and what that raises is all that this can raise."""
        return self.plan.build(self.inline, self.frames, self.offset)


def encode_results(
    session: bytes,
    incarnation: bytes,
    epoch: int,
    generation: int,
    seq: int,
    busy: float,
    leases: Sequence[int],
    batches: Sequence[EncodedBatch],
) -> list[Buffer]:
    """The frames of one result message: ``batches[i]`` answers ``leases[i]``; ``busy`` is the compute time in seconds.

    Raises ValueError for no batch, or more than `MAX_BATCHES_PER_MESSAGE`.
    """
    if not 0 < len(batches) <= MAX_BATCHES_PER_MESSAGE or len(leases) != len(batches):
        raise ValueError(f"a message of {len(batches)} batches for {len(leases)} leases")
    header = [
        int(Kind.RESULTS),
        session,
        incarnation,
        epoch,
        generation,
        seq,
        float(busy),
        leases_to_runs(leases),
        [batch.header for batch in batches],
        [len(batch.inline) for batch in batches],
        [len(batch.frames) for batch in batches],
    ]
    frames: list[Buffer] = [msgpack.packb(header)]
    if any(batch.inline for batch in batches):
        frames.append(b"".join([batch.inline for batch in batches]))
    for batch in batches:
        frames.extend(batch.frames)
    return frames


def decode_results(frames: Sequence[Received], trust: Trust) -> tuple[bytes, ResultsHeader, list[Payload]]:
    """The session, the header, and a payload for each lease. Runs no user code.

    Raises `ProtocolError`, and nothing else; a payload that was made always builds (except for what a user's own class
    raises when it is unpickled, under `Trust.LOCAL`).
    """
    session, header = _decode_header(frames)
    inline: Buffer = b""
    following = 1
    if any(header.inline_sizes):
        inline = _inline_frame(frames)
        following = 2
    offset = 0
    payloads = []
    for batch_header, inline_size, frame_count in zip(
        header.headers, header.inline_sizes, header.frame_counts, strict=True
    ):
        plan = parse_batch(batch_header, trust)
        own: Sequence[Received] = ()
        if frame_count or plan.frame_bytes:
            own = frames[following : following + len(plan.frame_bytes)]
            following += len(own)
            if frame_count != len(own) or plan.frame_bytes != tuple(map(_size, own)):
                raise ProtocolError("a batch's frames are not those that its header describes")
        if inline_size != plan.inline_bytes:
            raise ProtocolError("a batch's part of the inline frame is not what its header describes")
        payloads.append(Payload(plan, inline, offset, own, plan.nbytes))
        offset += plan.inline_bytes
    if following != len(frames) or offset != len(inline):
        raise ProtocolError("a result message has more in it than its header describes")
    return session, header, payloads


def _decode_header(frames: Sequence[Received]) -> tuple[bytes, ResultsHeader]:
    if not frames:
        raise ProtocolError("a result message has no frames")
    try:
        fields = msgpack.unpackb(
            _view(frames[0]), max_array_len=2 * MAX_BATCHES_PER_MESSAGE, max_map_len=0, max_ext_len=0
        )
    except Exception as error:
        raise ProtocolError(f"frame 0 of a result message is not msgpack: {type(error).__name__}") from None
    # A newer version adds its fields at the end.
    if type(fields) is not list or len(fields) < _FIELDS or fields[0] != Kind.RESULTS:
        raise ProtocolError("frame 0 is not the header of a result message")
    session, incarnation, epoch, generation, seq, busy, runs, headers, sizes, counts = fields[1:_FIELDS]
    if not all(type(number) is int and 0 <= number < _COUNTER_LIMIT for number in (epoch, generation, seq)):
        raise ProtocolError("epoch, state generation and number of a result message are counters")
    if not all(type(value) is bytes and len(value) == ID_BYTES for value in (session, incarnation)):
        raise ProtocolError(f"session and incarnation of a result message have {ID_BYTES} bytes")
    if type(busy) is not float or not 0 <= busy < float("inf"):
        raise ProtocolError("the compute time of a result message is a number of seconds")
    leases = leases_from_runs(runs)
    if not all(type(value) is list and len(value) == len(leases) for value in (headers, sizes, counts)) or not leases:
        raise ProtocolError("a result message has an entry for each lease in each of its lists")
    if not all(type(value) is bytes for value in headers):
        raise ProtocolError("a batch header is bytes")
    if not all(type(value) is int and value >= 0 for value in (*sizes, *counts)):
        raise ProtocolError("sizes and counts of a result message are not negative")
    return session, ResultsHeader(
        incarnation, epoch, generation, seq, busy, leases, tuple(headers), tuple(sizes), tuple(counts)
    )


def _inline_frame(frames: Sequence[Received]) -> memoryview:
    if len(frames) < 2:
        raise ProtocolError("a result message lacks its inline frame")
    return _view(frames[1])


def _view(frame: Received) -> memoryview:
    view = frame if isinstance(frame, bytes | memoryview) else frame.buffer
    return memoryview(view).cast("B")


def _size(frame: Received) -> int:
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)
