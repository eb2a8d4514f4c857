"""Result messages survive encoding and decoding, and hostile ones are protocol errors."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings

from enqueuer.errors import ProtocolError
from enqueuer.memory.arena import Arena
from enqueuer.memory.mapped_blocks import MappedBlocks
from enqueuer.protocol.batch import CHUNK_BYTES, EncodedBatch, Trust, encode_batch
from enqueuer.protocol.messages import Kind
from enqueuer.protocol.results_codec import MAX_BATCHES_PER_MESSAGE, BlockUnavailableError, Results, encode_results
from tests.support.batches import BATCHES, assert_same
from tests.support.results import decode_results

SESSION, INCARNATION = b"s" * 16, b"i" * 16
LARGE = np.arange(10_000.0)


def message(*batches: object, leases: Any = None, trust: Trust = Trust.REMOTE) -> list[Any]:
    encoded = [encode_batch(batch, trust) for batch in batches]
    leases = range(1, len(batches) + 1) if leases is None else leases
    return encode_results(SESSION, Results(INCARNATION, 3, 2, 7, 0.25, leases, encoded))


def changed(frames: list[Any], field: int, value: Any) -> list[Any]:
    fields = msgpack.unpackb(frames[0])
    fields[field] = value
    return [msgpack.packb(fields), *frames[1:]]


@settings(deadline=None, max_examples=100)
@given(st.lists(BATCHES, min_size=1, max_size=5), st.sampled_from(Trust))
def test_all_batches_of_a_message_survive(batches: list[object], trust: Trust) -> None:
    _, _, payloads = decode_results(message(*batches, trust=trust), trust)
    assert_same([payload.build() for payload in payloads], batches)


def test_the_header_survives_and_payloads_have_the_sizes_of_their_batches() -> None:
    batches = [(np.arange(3), "x"), None, (LARGE, LARGE.astype("f4"), np.eye(2))]
    frames = message(*batches, leases=[4, 5, 9])
    assert len(frames) == 4
    session, header, payloads = decode_results(frames, Trust.REMOTE)
    assert session == SESSION
    assert (header.incarnation, header.epoch, header.generation, header.seq) == (INCARNATION, 3, 2, 7)
    assert (header.busy, header.leases) == (0.25, (4, 5, 9))
    assert header.frame_counts == (0, 0, 2)
    assert [payload.nbytes for payload in payloads] == [encode_batch(batch, Trust.REMOTE).nbytes for batch in batches]
    assert sum(payload.nbytes for payload in payloads) == sum(map(len, frames[1:])) + sum(map(len, header.headers))


def test_batches_of_one_structure_share_one_header_and_may_repeat_it() -> None:
    batches = [(np.arange(3.0) + number, np.arange(2)) for number in range(100)]
    frames = message(*batches)
    assert len(frames[0]) < len(message(batches[0])[0]) + 10
    fields = msgpack.unpackb(frames[0])
    for field in (8, 9, 10):
        assert len(fields[field]) == 1
        fields[field] *= 100
    for sent in (frames, [msgpack.packb(fields), *frames[1:]]):
        assert_same([payload.build() for payload in decode_results(sent, Trust.REMOTE)[2]], batches)


def test_a_header_stands_for_no_more_batches_than_there_are_bytes_for() -> None:
    """Otherwise ten bytes a batch would make the trainer build thousands of lists of a thousand numbers."""
    batches = [(list(range(1000)), np.arange(number, number + 3)) for number in range(20)]
    frames = message(*batches)
    fields = msgpack.unpackb(frames[0])
    assert len(fields[8]) == 20
    with pytest.raises(ProtocolError, match="fewer inline bytes"):
        decode_results(changed(frames, 8, fields[8][:1]), Trust.REMOTE)


def test_a_message_without_small_arrays_has_no_inline_frame() -> None:
    frames = message(None, (LARGE,))
    assert len(frames) == 2
    assert_same([payload.build() for payload in decode_results(frames, Trust.REMOTE)[2]], [None, (LARGE,)])


def test_frames_may_be_bytes_memoryviews_or_zmq_frames() -> None:
    batches = [(np.arange(3), "x"), (LARGE, np.eye(2))]
    frames = message(*batches)
    for convert in (bytes, memoryview, zmq.Frame):
        payloads = decode_results([convert(frame) for frame in frames], Trust.REMOTE)[2]
        assert_same([payload.build() for payload in payloads], batches)


def test_batches_cross_a_real_socket_pair() -> None:
    batches = [(np.arange(3), "x"), (LARGE, np.eye(2))]
    with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        pull.linger = push.linger = 0
        push.connect(f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
        push.send_multipart(message(*batches), copy=False)
        assert pull.poll(10_000)
        payloads = decode_results(pull.recv_multipart(copy=False), Trust.REMOTE)[2]
    assert_same([payload.build() for payload in payloads], batches)


@pytest.mark.parametrize("count", [0, MAX_BATCHES_PER_MESSAGE + 1])
def test_a_message_has_a_bounded_number_of_batches_and_at_least_one(count: int) -> None:
    batch = EncodedBatch(b"\xc0", b"", (), 1)
    with pytest.raises(ValueError, match="batches"):
        encode_results(SESSION, Results(INCARNATION, 1, 1, 1, 0.0, range(count), [batch] * count))
    full = [batch] * MAX_BATCHES_PER_MESSAGE
    frames = encode_results(SESSION, Results(INCARNATION, 1, 1, 1, 0.0, range(0, 2 * len(full), 2), full))
    assert len(decode_results(frames, Trust.REMOTE)[2]) == len(full)


def test_no_user_code_runs_before_a_payload_is_built() -> None:
    class Loud:
        def __reduce__(self) -> Any:
            return eval, ("1 / 0",)

    frames = message((Loud(),), trust=Trust.LOCAL)
    _, _, (payload,) = decode_results(frames, Trust.LOCAL)
    with pytest.raises(ZeroDivisionError):
        payload.build()
    with pytest.raises(ProtocolError, match="pickle"):
        decode_results(frames, Trust.REMOTE)


# ---------------------------------------------------------------- hostile messages


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, int(Kind.HELLO)),
        (1, b"short"),
        (1, "s" * 16),
        (2, None),
        (3, -1),
        (4, True),
        (5, 2**63),
        (6, float("nan")),
        (6, -1.0),
        (6, 1),
        (7, [1]),
        (7, [1, 2**62]),
        (7, [1, 3]),
        (7, None),
        (8, [b"\xc0"]),
        (8, ["\xc0", "\xc0"]),
        (8, [b"\xc1", b"\xc0"]),
        (8, [b"\xc0", b"\xc0"]),
        (9, [0, 0]),
        (9, [24, 2**62]),
        (9, [25, -1]),
        (9, [24.0, 0]),
        (9, [0, 24]),
        (10, [0, 2]),
        (10, [1, 0]),
        (10, [0, 2**62]),
        (10, [0, -1]),
        (10, 5),
    ],
)
def test_a_header_that_does_not_fit_its_frames_is_refused(field: int, value: Any) -> None:
    frames = message((np.arange(3),), (LARGE,))
    assert decode_results(frames, Trust.REMOTE)
    with pytest.raises(ProtocolError):
        decode_results(changed(frames, field, value), Trust.REMOTE)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"\xc1"],
        [msgpack.packb([int(Kind.RESULTS), SESSION])],
        [b"\xdd\xff\xff\xff\xff"],
        [b"\xdc\x20\x00" * 5000],
        [b"\x91" * 100_000],
        message((np.arange(3),), (LARGE,))[:1],
        message((np.arange(3),), (LARGE,))[:2],
        [*message((np.arange(3),), (LARGE,)), b"more"],
        [message((np.arange(3),))[0], bytes(25)],
        [message((np.arange(3),))[0], bytes(23)],
        [message((LARGE,))[0], bytes(79_999)],
        message(None)[:1] * 2,
        changed(message(()), 7, []),
    ],
    ids=lambda frames: repr(frames)[:40],
)
def test_a_message_of_the_wrong_frames_is_refused(frames: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        decode_results(frames, Trust.REMOTE)


def test_a_remote_peer_cannot_have_an_object_array_unpickled() -> None:
    token = {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": pickle.dumps({1})}
    frames = changed(message(None), 8, [msgpack.packb(token)])
    with pytest.raises(ProtocolError, match="malformed"):
        decode_results(frames, Trust.REMOTE)


# ---------------------------------------------------------------- buffers longer than a chunk

HUGE = np.arange(400_000.0)


def test_a_huge_buffer_travels_in_chunks_and_arrives_aligned_and_whole() -> None:
    text = b"y" * (CHUNK_BYTES + 1)
    wanted = (HUGE, LARGE, np.asfortranarray(HUGE.reshape(1000, 400)), text, HUGE[: CHUNK_BYTES // 8])
    frames = message(wanted)
    huge = [CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES, 54_272]
    assert [len(frame) for frame in frames[1:]] == [*huge, 80_000, *huge, CHUNK_BYTES, 1, CHUNK_BYTES]
    _, _, (payload,) = decode_results([bytes(frame) for frame in frames], Trust.REMOTE)
    batch = payload.build()
    assert_same(batch, wanted)
    for array in (batch[0], batch[2], batch[4]):
        assert array.flags.writeable
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(
    "lengths", [[], [0], [1], [CHUNK_BYTES], [CHUNK_BYTES, 0], [CHUNK_BYTES - 1, 2], [CHUNK_BYTES, 1, 0]], ids=repr
)
def test_chunks_of_any_other_lengths_are_refused(lengths: list[int]) -> None:
    frames = message((b"y" * (CHUNK_BYTES + 1),))
    assert decode_results(frames, Trust.REMOTE)
    with pytest.raises(ProtocolError):
        decode_results([frames[0], *map(bytes, lengths)], Trust.REMOTE)


# ---------------------------------------------------------------- blocks of shared memory


def message_with_blocks(mapped: MappedBlocks, *batches: object) -> list[Any]:
    """A message that names blocks; `_kept` keeps the arena alive by the batches encoded into it."""
    arena = Arena(partial(mapped.add, INCARNATION))
    encoded = [encode_batch(batch, Trust.LOCAL, arena) for batch in batches]
    _kept.append(encoded)
    results = Results(INCARNATION, 3, 2, 7, 0.25, range(1, 1 + len(batches)), encoded)
    return encode_results(SESSION, results, blocks=True)


_kept: list[list[EncodedBatch]] = []


@pytest.fixture
def mapped() -> Iterator[MappedBlocks]:
    made = MappedBlocks()
    yield made
    made.close()
    _kept.clear()


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.tuples(BATCHES, st.booleans()), min_size=1, max_size=4))
def test_batches_in_named_blocks_are_read_from_shared_memory(
    mapped: MappedBlocks, batches: list[tuple[object, bool]]
) -> None:
    wanted = [(batch, LARGE, np.asfortranarray(LARGE.reshape(100, 100)), b"x" * 50_000) if large else batch
              for batch, large in batches]  # fmt: skip
    frames = message_with_blocks(mapped, *wanted)
    assert len(frames) <= 2, "no large frame travels"
    _, _, payloads = decode_results(frames, Trust.LOCAL, mapped.open)
    assert_same([payload.build() for payload in payloads], wanted)


def test_strided_and_structured_arrays_survive_in_shared_memory(mapped: MappedBlocks) -> None:
    records = np.zeros(5000, [("a", "i4"), ("b", "M8[s]"), ("c", "S3")])
    records["a"] = np.arange(5000)
    wanted = {"strided": LARGE.reshape(100, 100)[::-2, ::3].repeat(4, 0), "records": records, "part": LARGE[::2]}
    ((_, _, (payload,))) = decode_results(message_with_blocks(mapped, wanted), Trust.LOCAL, mapped.open)
    assert_same(payload.build(), wanted)


def test_a_batch_can_be_sent_in_frames_after_its_block_was_named(mapped: MappedBlocks) -> None:
    message_with_blocks(mapped, (LARGE, "x"))
    frames = encode_results(SESSION, Results(INCARNATION, 3, 2, 7, 0.25, [1], _kept[-1]), blocks=False)
    _, _, (payload,) = decode_results([bytes(frame) for frame in frames], Trust.LOCAL)
    assert_same(payload.build(), (LARGE, "x"))


def test_a_peer_that_shares_no_memory_cannot_name_any(mapped: MappedBlocks) -> None:
    with pytest.raises(ProtocolError, match="shares none"):
        decode_results(message_with_blocks(mapped, (LARGE,)), Trust.REMOTE)


def test_a_block_that_cannot_be_read_raises_an_error_with_the_workers_incarnation(mapped: MappedBlocks) -> None:
    def refuse(*_: object) -> Sequence[memoryview]:
        raise OSError(24, "Too many open files")

    with pytest.raises(BlockUnavailableError, match="Too many open files") as caught:
        decode_results(message_with_blocks(mapped, (LARGE,)), Trust.LOCAL, refuse)
    assert caught.value.incarnation == INCARNATION


REF = [b"i" * 16, 4096, 1]


@pytest.mark.parametrize(
    "refs",
    [
        5,
        [],
        [None, None],
        [None],
        [[]],
        [REF[:2]],
        [[*REF, 1]],
        [["i" * 16, 4096, 1]],
        [[b"i" * 15, 4096, 1]],
        [[b"i" * 16, -1, 1]],
        [[b"i" * 16, 1.0, 1]],
        [[b"i" * 16, 4096, 1 << 63]],
        [[b"i" * 16, 4096, True]],
    ],
    ids=repr,
)
def test_a_malformed_block_reference_is_refused(mapped: MappedBlocks, refs: Any) -> None:
    frames = message_with_blocks(mapped, (LARGE,))
    with pytest.raises(ProtocolError):
        decode_results(changed(frames, 11, refs), Trust.LOCAL, mapped.open)


@settings(deadline=None, max_examples=300)
@given(st.lists(BATCHES, min_size=1, max_size=3), st.data())
def test_a_mutated_message_decodes_and_builds_or_is_a_protocol_error(
    batches: list[object], data: st.DataObject
) -> None:
    frames = [bytearray(frame) for frame in message(*batches, (LARGE[:5000],))]
    for _ in range(data.draw(st.integers(1, 3))):
        frame = data.draw(st.sampled_from(frames[:2]))
        at = data.draw(st.integers(0, len(frame)))
        frame[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    if data.draw(st.booleans()):
        frames.pop(data.draw(st.integers(0, len(frames) - 1)))
    try:
        _, header, payloads = decode_results([bytes(frame) for frame in frames], Trust.REMOTE)
    except ProtocolError:
        return
    assert len(payloads) == len(header.leases)
    for payload in payloads:
        payload.build()
